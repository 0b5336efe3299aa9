//! Copies of popular values on the way to them.

use kad_core::{Command, Config, Duration, Kind, Outcome, Read, Record};

use crate::records::{DAY, immutable, put};
use crate::simulation::Simulation;

fn caching() -> Config {
    let mut config = Config::default();
    config.cache_bytes = 1 << 20;
    config
}

fn read(world: &mut Simulation, node: u32, record: &Record, read: Read) -> (usize, usize) {
    let (key, kind) = (record.key(), Kind::Immutable);
    match world.ask(node, Command::FindValue { key, kind, read }).0 {
        Outcome::Found { records, holders } => (records.len(), holders.len()),
        other => panic!("{other:?}"),
    }
}

/// Every node reads the value once, within some seconds.
fn make_popular(world: &mut Simulation, record: &Record) {
    for node in 0..world.nodes.len() as u32 {
        assert_eq!(read(world, node, record, Read::First).0, 1);
    }
    world.run_for(Duration::from_secs(2));
}

fn copies(world: &Simulation) -> usize {
    let stats = world.nodes.iter().map(|node| node.machine.machine().stats());
    stats.map(|stats| stats.cached).sum()
}

#[test]
fn a_popular_value_is_cached_on_the_way_and_outlives_its_holders_for_a_while() {
    let mut world = Simulation::joined(401, 300, &caching());
    let record = immutable(b"popular", world.unix(), DAY);
    let (holders, _) = put(&mut world, 5, &record, false);
    make_popular(&mut world, &record);
    let cached = copies(&world);
    assert!(cached >= 5, "{cached} copies");
    // Copies are no holders' copies.
    let (none, counted) = read(&mut world, 7, &record, Read::Census);
    assert_eq!((none, counted), (0, 20));

    for holder in holders.into_iter().chain([5]) {
        world.kill(holder);
    }
    let anyone: Vec<u32> = world.living().collect();
    let found = anyone
        .iter()
        .filter(|&&node| read(&mut world, node, &record, Read::First).0 == 1);
    let found = found.count();
    assert!(found > anyone.len() / 2, "{found} of {}", anyone.len());
    world.run_for(Duration::from_secs(2 * 3600));
    let found = anyone
        .iter()
        .filter(|&&node| read(&mut world, node, &record, Read::First).0 == 1);
    assert_eq!(found.count(), 0, "no copy lives for longer than an hour");
}

#[test]
fn what_few_ask_for_is_cached_nowhere_and_nothing_is_unless_asked_for() {
    let mut world = Simulation::joined(402, 200, &caching());
    let record = immutable(b"not popular", world.unix(), DAY);
    put(&mut world, 5, &record, false);
    for node in 0..60 {
        assert_eq!(read(&mut world, node, &record, Read::First).0, 1);
        // Nobody is asked by three within a minute.
        world.run_for(Duration::from_secs(61));
    }
    assert_eq!(copies(&world), 0);

    let mut world = Simulation::joined(402, 200, &Config::default());
    put(&mut world, 5, &record, false);
    make_popular(&mut world, &record);
    assert_eq!(copies(&world), 0);
}

#[test]
fn popular_values_beyond_the_room_of_a_cache_push_each_other_out() {
    let mut config = caching();
    let records: Vec<Record> = (0..6_u8)
        .map(|number| {
            immutable(
                &[number; 1000],
                kad_core::UnixTime::from_secs(crate::simulation::BEGINNING),
                DAY,
            )
        })
        .collect();
    config.cache_bytes = 2 * records[0].as_bytes().len();
    let mut world = Simulation::joined(403, 100, &config);
    for record in &records {
        put(&mut world, 5, record, false);
        make_popular(&mut world, record);
    }
    let most = world
        .nodes
        .iter()
        .map(|node| node.machine.machine().stats().cached)
        .max();
    assert_eq!(most, Some(2));
}
