//! Many records of a region are stored together: for less, as well as one by one, and with a word on each.

use std::collections::BTreeMap;
use std::sync::Arc;

use kad_core::{
    Command, Config, Duration, Effort, Key, MAX_BULK, Outcome, Placement, Prefix, Record, Source, StoreOp,
    Verdict,
};

use crate::records::{DAY, holds, immutable, put, version};
use crate::simulation::Simulation;

fn values(world: &Simulation, count: usize) -> Vec<Record> {
    let value = |n: usize| immutable(format!("one of many: {n}").as_bytes(), world.unix(), DAY);
    (0..count).map(value).collect()
}

fn region_of(world: &Simulation, node: u32, key: Key) -> Prefix {
    world.nodes[node as usize].machine.machine().region_of(key)
}

/// Stores records region by region; what became of each, in the order in which they were given, and what it took.
fn put_many(
    world: &mut Simulation,
    node: u32,
    records: &[Record],
    keep: bool,
) -> (Vec<Placement<u32>>, Vec<Effort>) {
    let mut regions: BTreeMap<Prefix, Vec<usize>> = BTreeMap::new();
    for (place, record) in records.iter().enumerate() {
        regions
            .entry(region_of(world, node, record.key()))
            .or_default()
            .push(place);
    }
    let (mut all, mut efforts) = (BTreeMap::new(), Vec::new());
    for places in regions.into_values() {
        for places in places.chunks(MAX_BULK) {
            let records = places.iter().map(|&place| records[place].clone()).collect();
            let command = Command::StoreMany { records, keep };
            let (Outcome::StoredMany { placements }, effort) = world.ask(node, command) else {
                panic!("nothing was stored");
            };
            assert_eq!(placements.len(), places.len());
            all.extend(places.iter().copied().zip(placements));
            efforts.push(effort);
        }
    }
    (all.into_values().collect(), efforts)
}

/// How many of the 20 nearest that live hold a record.
fn well_placed(world: &Simulation, record: &Record) -> usize {
    let nearest = world.nearest(record.key()).into_iter().take(20);
    nearest.filter(|&node| holds(world, node, record)).count()
}

#[test]
fn many_records_take_a_tenth_of_the_requests_and_lie_as_well_as_those_stored_one_by_one() {
    let mut world = Simulation::joined(601, 150, &Config::default());
    world.run_for(Duration::from_secs(60));
    let records = values(&world, 1200);
    let (placements, efforts) = put_many(&mut world, 7, &records, false);
    let together: u32 = efforts.iter().map(|effort| effort.requests).sum();

    let mut alone = Simulation::joined(601, 150, &Config::default());
    alone.run_for(Duration::from_secs(60));
    let before = alone.nodes[7].machine.machine().stats().requests_sent;
    for record in &records[..100] {
        put(&mut alone, 7, record, false);
    }
    let one_by_one = alone.nodes[7].machine.machine().stats().requests_sent - before;
    // Twenty holders each and the way there, against two batches to each of forty nodes and one way for all.
    let (each_alone, each_together) = (one_by_one as f64 / 100.0, f64::from(together) / 1200.0);
    assert!(each_alone > 20.0, "{each_alone} requests for each");
    assert!(
        each_together * 10.0 < each_alone,
        "{each_together} requests for each, alone {each_alone}"
    );

    let copies = |world: &Simulation, records: &[Record]| -> usize {
        records.iter().map(|record| well_placed(world, record)).sum()
    };
    let (here, there) = (copies(&world, &records[..100]), copies(&alone, &records[..100]));
    assert!(there == 2000 && here >= 1980, "{here} of {there} copies");
    // By chance the nearest to a few keys look like a crowd.
    let alone = placements.iter().filter(|placement| placement.alone).count();
    assert!(alone <= 6, "{alone} want lookups of their own");
    let sent = |(_, placement): &(&Record, &Placement<u32>)| !placement.alone;
    for (record, placement) in records.iter().zip(&placements).filter(sent) {
        let told = placement.holders.len() + usize::from(placement.local);
        assert_eq!((told, placement.refused.len()), (20, 0));
        assert!(
            placement
                .holders
                .iter()
                .all(|holder| holds(&world, holder.address, record))
        );
        assert_eq!(placement.local, holds(&world, 7, record));
    }
}

#[test]
fn the_dead_among_the_holders_are_made_up_for_and_the_living_are_told_by_name() {
    let mut world = Simulation::joined(602, 100, &Config::default());
    world.run_for(Duration::from_secs(60));
    (0..100)
        .filter(|node| node % 5 == 1)
        .for_each(|node| world.kill(node));
    let records = values(&world, 200);
    let (placements, _) = put_many(&mut world, 7, &records, false);
    for (record, placement) in records.iter().zip(&placements) {
        let told = placement.holders.len() + usize::from(placement.local);
        assert!(told >= 19, "{told} copies");
        assert!(
            placement
                .holders
                .iter()
                .all(|holder| holds(&world, holder.address, record))
        );
        assert!(well_placed(&world, record) >= 18);
    }
}

#[test]
fn holders_that_die_while_they_are_sent_records_are_made_up_for_without_waiting_for_their_deaths() {
    let mut world = Simulation::joined(610, 80, &Config::default());
    world.run_for(Duration::from_secs(60));
    let records = values(&world, 100);
    let command = Command::StoreMany {
        records: records.clone(),
        keep: false,
    };
    let query = world.command(7, command);
    let copies = |world: &Simulation| -> usize { world.nodes.iter().map(|node| node.shelf.len()).sum() };
    while copies(&world) == 0 {
        world.run_for(Duration::from_millis(1));
    }
    let dying: Vec<u32> = world.living().filter(|node| node % 8 == 3).collect();
    dying.into_iter().for_each(|node| world.kill(node));
    let (Outcome::StoredMany { placements }, effort) = world.wait(query) else {
        panic!("nothing was stored");
    };
    assert!(effort.took < Duration::from_secs(2), "{effort:?}");
    let sent = |(_, placement): &(&Record, &Placement<u32>)| !placement.alone;
    for (record, placement) in records.iter().zip(&placements).filter(sent) {
        let told = placement.holders.len() + usize::from(placement.local);
        assert_eq!(told, 20, "copies of {record:?}");
    }
}

#[test]
fn a_node_that_cannot_keep_what_it_stores_says_so_of_one_and_of_many() {
    let mut world = Simulation::joined(607, 40, &Config::default());
    world.run_for(Duration::from_secs(60));
    world.nodes[7].shelf.broken = true;
    let records = values(&world, 100);
    let (placements, _) = put_many(&mut world, 7, &records, true);
    assert!(
        placements
            .iter()
            .all(|placement| placement.kept == Some(Verdict::Failed))
    );
    assert!(placements.iter().any(|placement| !placement.holders.is_empty()));
    for keep in [true, false] {
        let command = Command::Store {
            record: records[0].clone(),
            expected: None,
            keep,
            enough: 5,
        };
        let Outcome::Stored { holders, kept, .. } = world.ask(7, command).0 else {
            panic!("nothing was stored");
        };
        assert!(holders.len() >= 5);
        assert_eq!(kept, keep.then_some(Verdict::Failed));
    }
    world.nodes[7].shelf.broken = false;
    let (placements, _) = put_many(&mut world, 7, &records, true);
    let is_kept = |placement: &Placement<u32>| placement.kept.is_some_and(|said| said.is_acknowledgement());
    assert!(placements.iter().all(is_kept));
}

#[test]
fn a_node_whose_disk_is_broken_refuses_all_and_costs_no_record_its_other_holders() {
    let mut world = Simulation::joined(603, 60, &Config::default());
    world.run_for(Duration::from_secs(60));
    let broken: Vec<u32> = (10..20).collect();
    for &node in &broken {
        world.nodes[node as usize].shelf.broken = true;
    }
    let records = values(&world, 100);
    let (placements, _) = put_many(&mut world, 7, &records, false);
    let mut refusals = 0;
    for placement in &placements {
        refusals += placement.refused.len();
        let is_broken = |place: u32| broken.contains(&place);
        assert!(placement.holders.iter().all(|holder| !is_broken(holder.address)));
        assert!(
            placement
                .refused
                .iter()
                .all(|(node, verdict)| { is_broken(node.address) && *verdict == Verdict::Failed })
        );
        assert_eq!(
            placement.holders.len() + placement.refused.len() + usize::from(placement.local),
            20
        );
    }
    assert!(refusals > 100, "{refusals} refusals");
}

/// How many of these records of a node's own are due within the hour.
fn soon_due(world: &Simulation, node: u32, records: &[Record]) -> usize {
    let at = world.unix() + Duration::from_secs(3600);
    let shelf = &world.nodes[node as usize].shelf;
    let due = |record: &&Record| {
        shelf
            .get(&record.slot())
            .is_some_and(|held| held.own && held.due < at)
    };
    records.iter().filter(due).count()
}

#[test]
fn what_is_kept_in_bulk_is_swept_and_what_too_few_took_is_soon_stored_again() {
    let mut world = Simulation::joined(604, 40, &Config::default());
    world.run_for(Duration::from_secs(60));
    let records = values(&world, 150);
    let (placements, _) = put_many(&mut world, 7, &records, true);
    assert!(placements.iter().all(|placement| placement.holders.len() >= 19));
    let kept = |world: &Simulation| {
        let shelf = &world.nodes[7].shelf;
        records
            .iter()
            .filter(|record| shelf.get(&record.slot()).is_some_and(|held| held.own))
            .count()
    };
    assert_eq!(kept(&world), 150);
    let soon = |world: &Simulation| soon_due(world, 7, &records);
    assert_eq!(soon(&world), 0);

    for node in (0..40).filter(|&node| node != 7) {
        world.nodes[node as usize].shelf.broken = true;
    }
    let (refused, _) = put_many(&mut world, 7, &records, true);
    assert!(refused.iter().all(|placement| placement.holders.is_empty()));
    assert_eq!(soon(&world), 150);
    for node in 0..40 {
        world.nodes[node as usize].shelf.broken = false;
    }
    let before = world.nodes[7].machine.machine().stats().records_swept;
    world.run_for(Duration::from_secs(1200));
    let swept = world.nodes[7].machine.machine().stats().records_swept - before;
    assert!(swept >= 150, "{swept} were stored again");
    assert_eq!(soon(&world), 0);
}

#[test]
fn records_of_all_regions_in_one_command_are_stored_region_by_region() {
    let mut world = Simulation::joined(605, 150, &Config::default());
    world.run_for(Duration::from_secs(60));
    let records = values(&world, 100);
    let command = Command::StoreMany {
        records: records.clone(),
        keep: false,
    };
    let (Outcome::StoredMany { placements }, effort) = world.ask(7, command) else {
        panic!("nothing was stored");
    };
    let sent = |(_, placement): &(&Record, &Placement<u32>)| !placement.alone;
    let placed: Vec<_> = records.iter().zip(&placements).filter(sent).collect();
    assert!(placed.len() >= 99 && effort.requests < 800, "{effort:?}");
    for (record, _) in placed {
        let copies = well_placed(&world, record);
        assert!(copies >= 19, "{copies} copies");
    }
}

#[test]
fn in_a_network_that_has_grown_since_all_holders_are_found_nevertheless() {
    let mut world = Simulation::joined(608, 600, &Config::default());
    // The first nodes joined when there were few, and believe that there still are.
    let told = world.nodes[3]
        .machine
        .machine()
        .population()
        .map(|found| found.nodes);
    assert!(told < Some(300), "{told:?}");
    let records = values(&world, 300);
    let (placements, efforts) = put_many(&mut world, 3, &records, false);
    let requests: u32 = efforts.iter().map(|effort| effort.requests).sum();
    let sent = |(_, placement): &(&Record, &Placement<u32>)| !placement.alone;
    let placed: Vec<_> = records.iter().zip(&placements).filter(sent).collect();
    let copies: usize = placed.iter().map(|(record, _)| well_placed(&world, record)).sum();
    // Some look like a crowd, as far as the node can tell.
    assert!(
        placed.len() >= 280 && copies * 100 >= placed.len() * 1950,
        "{copies} copies of {}",
        placed.len()
    );
    assert!(
        requests < 300 * 10,
        "{requests} requests in {} parts",
        efforts.len()
    );
}

#[test]
fn a_sweep_in_a_network_that_has_grown_since_reaches_all_holders() {
    let mut world = Simulation::joined(609, 500, &Config::default());
    let told = world.nodes[3]
        .machine
        .machine()
        .population()
        .map(|found| found.nodes);
    assert!(told < Some(250), "{told:?}");
    let records = values(&world, 60);
    let now = world.unix();
    let op = StoreOp::Put {
        entries: records.iter().cloned().map(Into::into).collect(),
        due: now,
        own: true,
        source: Source::UNKNOWN,
        sender: None,
    };
    world.nodes[3].shelf.carry_out(op, now);
    // What is due is looked for once a minute, and what crowds are taken for takes some lookups after that.
    world.run_for(Duration::from_secs(240));
    let copies: usize = records.iter().map(|record| well_placed(&world, record)).sum();
    let stats = world.nodes[3].machine.machine().stats();
    assert!(copies >= 60 * 19, "{copies} copies, {stats:?}");
    assert!(stats.sweeps < 60, "each was looked up by itself: {stats:?}");
}

#[test]
fn a_node_without_contacts_keeps_what_it_is_given_and_nothing_is_stored_at_once() {
    let mut world = Simulation::joined(606, 1, &Config::default());
    let records = values(&world, 70);
    let (placements, efforts) = put_many(&mut world, 0, &records, false);
    assert!(placements.iter().all(|placement| placement.local));
    assert_eq!(efforts[0].requests, 0);
    let command = Command::StoreMany {
        records: Vec::new(),
        keep: true,
    };
    let (outcome, _) = world.ask(0, command);
    let placements = Vec::new();
    assert_eq!(outcome, Outcome::StoredMany { placements });
}

#[test]
fn a_bulk_that_is_cancelled_stores_no_more() {
    let mut world = Simulation::joined(607, 60, &Config::default());
    let records = values(&world, 200);
    let command = Command::StoreMany { records, keep: false };
    let query = world.command(7, command);
    let copies = |world: &Simulation| -> usize { world.nodes.iter().map(|node| node.shelf.len()).sum() };
    while copies(&world) == 0 {
        world.run_for(Duration::from_millis(1));
    }
    world.feed(7, kad_core::Input::Cancel { query });
    assert!(world.nodes[7].machine.running().is_empty());
    world.run_for(Duration::from_secs(10));
    assert!(copies(&world) < 200 * 20, "all were stored all the same");
}

/// How often a node of ten stores each of its records in a day after the first time, if some others are of this kind.
fn repetitions(seed: u64, odd: &[u32], config: &Config, full: bool) -> u64 {
    let mut world = Simulation::new(seed);
    let (usual, config) = (Arc::new(Config::default()), Arc::new(config.clone()));
    for node in 0..10 {
        let id = world.dice.key().to_node_id();
        let is_odd = odd.contains(&node);
        world.add(id, if is_odd { &config } else { &usual });
        world.nodes[node as usize].shelf.full = is_odd && full;
    }
    world.join_all();
    world.run_for(Duration::from_secs(60));
    let records = values(&world, 20);
    put_many(&mut world, 7, &records, true);
    world.run_for(DAY);
    let swept = world.nodes[7].machine.machine().stats().records_swept;
    assert!(swept >= 20, "{swept} were stored again");
    swept / 20
}

#[test]
fn a_record_that_some_refuse_for_good_is_stored_again_no_more_often_than_others() {
    let usual = Config::default();
    let mut idle = Config::default();
    idle.stores = false;
    assert!(repetitions(611, &[], &usual, false) <= 2);
    let idle = repetitions(611, &[3], &idle, false);
    assert!(idle <= 2, "{idle} times with one that stores nothing");
    let full = repetitions(611, &[3, 5], &usual, true);
    assert!(full <= 2, "{full} times with two that are full");
}

#[test]
fn a_record_that_nobody_takes_is_offered_again_every_few_hours() {
    let all: Vec<u32> = (0..10).filter(|&node| node != 7).collect();
    let times = repetitions(612, &all, &Config::default(), true);
    assert!((7..=10).contains(&times), "{times} times a day");
}

#[test]
fn what_is_kept_in_bulk_and_nobody_took_is_soon_stored_however_the_bulk_ended() {
    let records_of = |world: &Simulation| values(world, 200);
    let keep = |world: &mut Simulation, records: &[Record]| {
        let records = records.to_vec();
        world.command(7, Command::StoreMany { records, keep: true })
    };
    // Nobody is there any more.
    let mut world = Simulation::joined(613, 40, &Config::default());
    (0..40)
        .filter(|&node| node != 7)
        .for_each(|node| world.kill(node));
    let records = records_of(&world);
    let query = keep(&mut world, &records);
    world.wait(query);
    assert_eq!(soon_due(&world, 7, &records), 200);

    // Somebody gives up waiting for it.
    let mut world = Simulation::joined(614, 40, &Config::default());
    let records = records_of(&world);
    let query = keep(&mut world, &records);
    while soon_due(&world, 7, &records) < 200 {
        world.run_for(Duration::from_millis(1));
        assert!(!world.nodes[7].machine.running().is_empty());
    }
    world.feed(7, kad_core::Input::Cancel { query });
    assert_eq!(soon_due(&world, 7, &records), 200);
    world.run_for(Duration::from_secs(1200));
    assert_eq!(soon_due(&world, 7, &records), 0);
    assert!(records.iter().all(|record| well_placed(&world, record) >= 19));
}

#[test]
fn who_keeps_many_older_versions_catches_up_with_a_few_at_a_time() {
    let mut world = Simulation::joined(615, 40, &Config::default());
    world.run_for(Duration::from_secs(60));
    let now = world.unix();
    let versions = |seq| (1..=40).map(move |owner| version(owner, seq, b"value", now));
    for node in 0..40 {
        let own = node == 7;
        let records = versions(if own { 1 } else { 2 });
        let op = StoreOp::Put {
            entries: records.map(Into::into).collect(),
            due: if own { now } else { now + DAY },
            own,
            source: Source::UNKNOWN,
            sender: None,
        };
        world.nodes[node].shelf.carry_out(op, now);
    }
    let newest = |world: &Simulation| {
        let shelf = &world.nodes[7].shelf;
        let held = versions(2).filter(|record| {
            shelf
                .get(&record.slot())
                .is_some_and(|held| held.record == *record)
        });
        held.count()
    };
    let (mut most, mut first) = (0, 0);
    for step in 0..12_000 {
        world.run_for(Duration::from_millis(10));
        most = most.max(world.nodes[7].machine.machine().stats().queries);
        first = if step == 11_999 { newest(&world) } else { first };
    }
    // Besides, a bucket may be refreshed and what others own compared.
    let limit = Config::default().max_replications;
    assert!(most <= limit + 2, "{most} queries at once");
    assert!((limit..40).contains(&first), "{first} by the first sweeps");
    world.run_for(Duration::from_secs(3 * 3600));
    assert_eq!(newest(&world), 40);
}
