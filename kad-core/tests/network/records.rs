//! Storing and reading records of every kind, and what becomes of them over time.

use std::slice::from_ref;

use kad_core::{
    Announcement, Command, Config, Duration, Keypair, Kind, MutableVersion, NetworkId, Outcome, Parameters,
    Read, Record, Rules, UnixTime, Verdict,
};

use crate::simulation::Simulation;

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn rules() -> Rules {
    let parameters = Parameters::default();
    Rules::new(NetworkId::new("simulation", &parameters), &parameters)
}

fn owner(number: u8) -> Keypair {
    Keypair::from_secret(&[number; 32])
}

pub(crate) fn immutable(value: &[u8], now: UnixTime, life: Duration) -> Record {
    Record::immutable(value, now + life, &rules(), now).expect("a fair record")
}

pub(crate) fn version(number: u8, seq: u64, value: &[u8], now: UnixTime) -> Record {
    let version = MutableVersion {
        salt: b"salt",
        seq,
        issued: now,
        expiry: now + DAY,
        value: Some(value),
    };
    Record::mutable(&owner(number), &version, &rules(), now).expect("a fair record")
}

fn announcement(number: u8, of: &Record, now: UnixTime) -> Record {
    let announcement = Announcement {
        key: of.key(),
        issued: now,
        expiry: now + DAY,
        payload: Some(b"here"),
    };
    Record::provider(&owner(number), &announcement, &rules(), now).expect("a fair record")
}

pub(crate) fn put(world: &mut Simulation, node: u32, record: &Record, keep: bool) -> (Vec<u32>, bool) {
    let command = Command::Store {
        record: record.clone(),
        expected: None,
        keep,
        enough: usize::MAX,
    };
    match world.ask(node, command).0 {
        Outcome::Stored {
            holders,
            local,
            kept,
            refused,
        } => {
            assert_eq!(refused, [], "somebody refused {record:?}");
            assert_eq!(kept.map(|said| said.is_acknowledgement()), keep.then_some(true));
            (holders.iter().map(|contact| contact.address).collect(), local)
        }
        other => panic!("{other:?}"),
    }
}

fn find(world: &mut Simulation, node: u32, record: &Record, read: Read) -> Vec<Record> {
    let command = Command::FindValue {
        key: record.key(),
        kind: record.kind(),
        read,
    };
    match world.ask(node, command).0 {
        Outcome::Found { records, .. } => records,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn holds(world: &Simulation, node: u32, record: &Record) -> bool {
    let held = world.nodes[node as usize].shelf.get(&record.slot());
    held.is_some_and(|held| held.record.seq() >= record.seq())
}

#[test]
fn all_of_the_k_nearest_hold_what_was_put() {
    let mut world = Simulation::joined(201, 100, &Config::default());
    let now = world.unix();
    let file = immutable(b"a value", now, DAY);
    for (node, record) in [
        (3, file.clone()),
        (50, version(1, 1, b"first", now)),
        (99, announcement(2, &file, now)),
    ] {
        let (mut holders, local) = put(&mut world, node, &record, false);
        let truth: Vec<u32> = world.nearest(record.key()).into_iter().take(20).collect();
        assert!(
            truth.iter().all(|&near| holds(&world, near, &record)),
            "{record:?}"
        );
        assert_eq!(local, truth.contains(&node));
        // The putter asks k others, so one more when it is itself among the nearest.
        holders.retain(|holder| truth.contains(holder));
        assert_eq!(holders.len(), 20 - usize::from(local));
    }
}

#[test]
fn everybody_can_read_what_was_put() {
    let mut world = Simulation::joined(202, 80, &Config::default());
    let now = world.unix();
    let file = immutable(b"a value", now, DAY);
    let second = version(1, 2, b"second", now);
    put(&mut world, 5, &file, false);
    put(&mut world, 6, &version(1, 1, b"first", now), false);
    put(&mut world, 7, &second, false);
    let providers: Vec<Record> = (10..15).map(|number| announcement(number, &file, now)).collect();
    for provider in &providers {
        put(&mut world, 8, provider, false);
    }
    for node in (0..80).step_by(9) {
        assert_eq!(find(&mut world, node, &file, Read::First), from_ref(&file));
        assert_eq!(
            find(&mut world, node, &second, Read::Quorum(6)),
            from_ref(&second)
        );
        let mut found = find(&mut world, node, &providers[0], Read::Gather(100));
        found.sort_by_key(|record| record.slot());
        let mut expected = providers.clone();
        expected.sort_by_key(|record| record.slot());
        assert_eq!(found, expected);
    }
}

#[test]
fn more_providers_than_fit_in_an_answer_are_read_page_by_page() {
    let mut world = Simulation::joined(203, 30, &Config::default());
    let now = world.unix();
    let file = immutable(b"popular", now, DAY);
    for number in 0..100 {
        put(
            &mut world,
            u32::from(number) % 30,
            &announcement(number, &file, now),
            false,
        );
    }
    let any = announcement(0, &file, now);
    assert_eq!(find(&mut world, 4, &any, Read::Gather(1000)).len(), 100);
}

#[test]
fn of_many_providers_each_is_found_about_as_often() {
    let mut world = Simulation::joined(209, 30, &Config::default());
    let now = world.unix();
    let file = immutable(b"popular", now, DAY);
    for number in 0..200 {
        put(
            &mut world,
            u32::from(number) % 30,
            &announcement(number, &file, now),
            false,
        );
    }
    let any = announcement(0, &file, now);
    let mut found = std::collections::BTreeMap::new();
    for reading in 0..200 {
        let records = find(&mut world, reading % 30, &any, Read::Gather(10));
        assert!(records.len() < 200, "a page or two are enough");
        for record in records {
            *found.entry(record.slot().provider).or_insert(0) += 1;
        }
    }
    assert_eq!(found.len(), 200);
    let (least, most) = (found.values().min().unwrap(), found.values().max().unwrap());
    assert!(most <= &(3 * least), "from {least} to {most} times of 200");
}

#[test]
fn a_census_counts_the_copies_and_brings_none() {
    let mut world = Simulation::joined(204, 60, &Config::default());
    let now = world.unix();
    let record = version(1, 7, b"counted", now);
    put(&mut world, 5, &record, false);
    let command = Command::FindValue {
        key: record.key(),
        kind: Kind::Mutable,
        read: Read::Census,
    };
    let Outcome::Found { records, holders } = world.ask(33, command).0 else {
        panic!("nothing found");
    };
    assert_eq!(records, []);
    assert!(holders.len() >= 20, "{} copies", holders.len());
    assert!(
        holders
            .iter()
            .all(|holder| holder.seq == 7 && holder.digest == record.digest())
    );
}

#[test]
fn a_read_repairs_holders_of_an_older_version() {
    let mut world = Simulation::joined(205, 60, &Config::default());
    let now = world.unix();
    let (first, second) = (version(1, 1, b"old", now), version(1, 2, b"new", now));
    put(&mut world, 5, &first, false);
    let key = first.key();
    let near: Vec<u32> = world.nearest(key).into_iter().take(20).collect();
    // Only the nearest has heard of the second version.
    let entry = kad_core::StoreEntry {
        record: Ok(second.clone()),
        expected: None,
    };
    let op = kad_core::StoreOp::Put {
        entries: vec![entry],
        due: now + DAY,
        own: false,
        source: kad_core::Source::UNKNOWN,
        sender: None,
    };
    world.nodes[near[0] as usize].shelf.carry_out(op, now);
    let reader = *world.nearest(key).last().expect("sixty nodes");
    assert_eq!(
        // More than there can be, so all holders are asked.
        find(&mut world, reader, &first, Read::Quorum(60)),
        from_ref(&second)
    );
    world.run_for(Duration::from_secs(10));
    let repaired = near.iter().filter(|&&node| holds(&world, node, &second)).count();
    assert_eq!(repaired, 20);
}

#[test]
fn a_write_that_expects_another_version_is_a_conflict() {
    let mut world = Simulation::joined(206, 40, &Config::default());
    let now = world.unix();
    put(&mut world, 5, &version(1, 1, b"old", now), false);
    let command = Command::Store {
        record: version(1, 3, b"new", now),
        expected: Some(2),
        keep: false,
        enough: usize::MAX,
    };
    let Outcome::Stored { holders, refused, .. } = world.ask(9, command).0 else {
        panic!("nobody answered");
    };
    let verdicts: Vec<Verdict> = refused.iter().map(|&(_, verdict)| verdict).collect();
    assert!(verdicts.len() >= 19 && verdicts.iter().all(|v| *v == Verdict::Conflict { current: 1 }));
    assert!(holders.len() <= 1, "{holders:?}");
}

#[test]
fn reads_survive_the_sudden_death_of_a_quarter_of_the_holders() {
    let mut world = Simulation::joined(207, 100, &Config::default());
    let now = world.unix();
    let (file, card) = (immutable(b"a value", now, DAY), version(1, 1, b"card", now));
    put(&mut world, 5, &file, false);
    put(&mut world, 5, &card, false);
    for record in [&file, &card] {
        let near = world.nearest(record.key());
        near.iter().take(20).step_by(4).for_each(|&node| world.kill(node));
    }
    for node in world.living().step_by(10).collect::<Vec<_>>() {
        assert_eq!(find(&mut world, node, &file, Read::First), from_ref(&file));
        assert_eq!(find(&mut world, node, &card, Read::Quorum(6)), from_ref(&card));
    }
}

#[test]
fn an_hour_later_the_nearest_hold_it_again() {
    let mut world = Simulation::joined(208, 80, &Config::default());
    let record = immutable(b"lasting", world.unix(), 2 * DAY);
    put(&mut world, 5, &record, false);
    let near = world.nearest(record.key());
    near.iter().take(15).for_each(|&node| world.kill(node));
    world.run_for(Duration::from_secs(3 * 3600));
    let nearest: Vec<u32> = world.nearest(record.key()).into_iter().take(20).collect();
    let holders = nearest
        .iter()
        .filter(|&&node| holds(&world, node, &record))
        .count();
    assert_eq!(holders, 20, "of {nearest:?}");
}

#[test]
fn what_has_expired_is_gone_everywhere() {
    let mut world = Simulation::joined(210, 40, &Config::default());
    let record = immutable(b"fleeting", world.unix(), Duration::from_secs(2 * 3600));
    put(&mut world, 5, &record, false);
    world.run_for(Duration::from_secs(2 * 3600 - 300));
    assert_eq!(find(&mut world, 39, &record, Read::First).len(), 1);
    world.run_for(Duration::from_secs(420));
    assert_eq!(find(&mut world, 39, &record, Read::First), []);
    assert!(world.nodes.iter().all(|node| node.shelf.len() == 0));
}

#[test]
fn what_a_node_keeps_outlives_its_first_life() {
    let mut world = Simulation::joined(211, 30, &Config::default());
    let kept = immutable(b"kept", world.unix(), DAY);
    let left = immutable(b"left", world.unix(), DAY);
    put(&mut world, 5, &kept, true);
    put(&mut world, 5, &left, false);
    world.run_for(Duration::from_secs(30 * 3600));
    assert_eq!(find(&mut world, 29, &kept, Read::First).len(), 1);
    assert_eq!(find(&mut world, 29, &left, Read::First), []);
}

#[test]
fn the_owner_of_a_signed_record_is_told_when_it_nears_its_end() {
    let mut world = Simulation::joined(212, 20, &Config::default());
    let now = world.unix();
    let record = version(1, 1, b"mine", now);
    put(&mut world, 5, &record, true);
    let told = |world: &Simulation| {
        let events = world.nodes[5].events.iter();
        events
            .filter(|event| matches!(event, kad_core::Event::RepublishDue(due) if *due == record))
            .count()
    };
    // After half of its life, or somewhat sooner.
    world.run_for(Duration::from_secs(10 * 3600));
    assert_eq!(told(&world), 0);
    world.run_for(Duration::from_secs(3 * 3600));
    assert!(told(&world) >= 1);
}

#[test]
fn a_signed_record_that_nobody_renews_is_not_swept_ever_more_often_and_takes_no_others_with_it() {
    let mut world = Simulation::joined(222, 30, &Config::default());
    let now = world.unix();
    put(&mut world, 5, &version(1, 1, b"ends in a day", now), true);
    let life = Duration::from_secs(6 * 24 * 3600);
    for number in 0..20 {
        put(&mut world, 5, &immutable(&[number], now, life), true);
    }
    // Until the signed one has ended.
    world.run_for(DAY);
    let stats = world.nodes[5].machine.machine().stats();
    // It is stored again after 12, 18, 21 and nearly 24 hours, the others once each at the end of the day.
    assert!((3..=6 + 20).contains(&stats.records_swept), "{stats:?}");
    let swept = stats.records_swept;
    world.run_for(DAY);
    let stats = world.nodes[5].machine.machine().stats();
    assert!(stats.records_swept - swept <= 2 * 20, "{stats:?}");
}

#[test]
fn who_keeps_an_older_version_catches_up_with_the_newer_one() {
    let mut world = Simulation::joined(221, 60, &Config::default());
    let (old, new) = (
        version(1, 1, b"old", world.unix()),
        version(1, 2, b"new", world.unix()),
    );
    let far = *world.nearest(old.key()).last().expect("there are nodes");
    put(&mut world, far, &old, true);
    put(&mut world, 7, &new, false);
    let seq = |world: &Simulation| {
        let held = world.nodes[far as usize].shelf.get(&old.slot());
        held.map(|held| (held.record.seq(), held.own))
    };
    assert_eq!(seq(&world), Some((1, true)), "it is no holder, so nobody told it");
    world.run_for(Duration::from_secs(13 * 3600));
    assert_eq!(seq(&world), Some((2, true)));
}

#[test]
fn who_keeps_a_version_that_the_application_does_not_give_up_asks_it_before_catching_up() {
    let mut world = Simulation::joined(221, 60, &Config::default());
    let (old, new) = (
        version(1, 1, b"old", world.unix()),
        version(1, 2, b"new", world.unix()),
    );
    let far = *world.nearest(old.key()).last().expect("there are nodes");
    put(&mut world, far, &old, true);
    put(&mut world, 7, &new, false);
    world.nodes[far as usize].shelf.settled.insert(old.slot());
    world.run_for(Duration::from_secs(13 * 3600));
    let held = world.nodes[far as usize].shelf.get(&old.slot());
    assert_eq!(held.map(|held| (held.record.seq(), held.own)), Some((1, true)));
    let stats = world.nodes[far as usize].machine.machine().stats();
    // Too few take it, so it is tried again every ten minutes or so.
    assert!((1..=16).contains(&stats.sweeps), "{stats:?}");
}

#[test]
fn wall_clocks_may_jump() {
    let mut world = Simulation::joined(213, 30, &Config::default());
    let record = immutable(b"steady", world.unix(), DAY);
    put(&mut world, 5, &record, false);
    world.clock_offset = -1_000_000;
    world.run_for(Duration::from_secs(7200));
    assert_eq!(find(&mut world, 29, &record, Read::First).len(), 1);
    world.clock_offset = 2 * 24 * 3600;
    world.run_for(Duration::from_secs(300));
    assert_eq!(find(&mut world, 29, &record, Read::First), []);
}

#[test]
fn a_node_whose_disk_is_broken_does_not_flood_the_regions_of_its_records() {
    let mut world = Simulation::joined(214, 20, &Config::default());
    for number in 0..8 {
        let record = immutable(&[number], world.unix(), DAY);
        put(&mut world, 5, &record, true);
    }
    world.nodes[5].shelf.broken = true;
    // It cannot note that it has stored them again.
    (0..20)
        .filter(|&node| node % 2 == 0)
        .for_each(|node| world.kill(node));
    world.nodes.iter_mut().for_each(|node| node.shelf.broken = true);
    world.run_for(Duration::from_secs(14 * 3600));
    let stats = world.nodes[5].machine.machine().stats();
    // Once due, after half of their life, they are tried again with every scan, once a minute.
    assert!((1..=4 * 60).contains(&stats.sweeps), "{stats:?}");
}

#[test]
fn what_is_kept_with_a_short_life_is_renewed_before_it_ends() {
    let mut world = Simulation::joined(220, 30, &Config::default());
    let record = immutable(b"short and kept", world.unix(), Duration::from_secs(1800));
    put(&mut world, 3, &record, true);
    world.run_for(Duration::from_secs(4 * 3600));
    for node in [3, 7, 21] {
        assert_eq!(
            find(&mut world, node, &record, Read::First).len(),
            1,
            "read by {node}"
        );
    }
}

#[test]
fn who_withdrew_is_no_provider_and_ends_no_search() {
    let mut world = Simulation::joined(221, 60, &Config::default());
    let now = world.unix();
    let file = immutable(b"wanted", now, DAY);
    let live = announcement(1, &file, now);
    put(&mut world, 5, &live, false);
    let withdrawal = Announcement {
        key: file.key(),
        issued: now,
        expiry: now + rules().max_lifetime,
        payload: None,
    };
    let withdrawn = Record::provider(&owner(2), &withdrawal, &rules(), now).expect("a fair record");
    for node in 0..60 {
        // Everybody holds the withdrawal, and only the nearest twenty the announcement.
        put(&mut world, node, &withdrawn, true);
    }
    for node in 0..60 {
        assert_eq!(
            find(&mut world, node, &live, Read::Gather(1)),
            std::slice::from_ref(&live),
            "asked by {node}"
        );
    }
}
