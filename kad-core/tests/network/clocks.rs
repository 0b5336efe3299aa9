//! Wall clocks that are wrong, and peers that lie about theirs.

use std::sync::Arc;

use kad_core::{Command, Config, Duration, Event, Kind, Outcome, Read, Record, RecordError};

use crate::records::{DAY, holds, immutable, put, rules, version};
use crate::simulation::Simulation;

const QUARTER: i64 = 15 * 60;

fn offset(world: &Simulation, node: u32) -> Option<i64> {
    world.nodes[node as usize].machine.machine().stats().clock_offset
}

/// What a node has told of its clock since it was asked last.
fn told(world: &mut Simulation, node: u32) -> Vec<Event<u32>> {
    let events = std::mem::take(&mut world.nodes[node as usize].events);
    let is_of_clock = |event: &Event<u32>| matches!(event, Event::ClockOff { .. } | Event::ClockRight);
    events.into_iter().filter(is_of_clock).collect()
}

/// A network in which the clock of node 5 is a quarter of an hour off.
fn with_wrong_clock(seed: u64, ahead: i64) -> Simulation {
    let mut world = Simulation::joined(seed, 40, &Config::default());
    world.nodes[5].clock_offset = ahead;
    world.run_for(Duration::from_secs(2 * 3600));
    world
}

#[test]
fn a_clock_that_is_a_quarter_of_an_hour_off_is_told_by_how_much_and_nobody_elses_is() {
    for (seed, ahead) in [(701, QUARTER), (702, -QUARTER)] {
        let mut world = with_wrong_clock(seed, ahead);
        let told_of = told(&mut world, 5);
        assert!(
            matches!(told_of[..], [Event::ClockOff { offset }] if (offset + ahead).abs() <= 1),
            "{told_of:?}"
        );
        for node in 0..40 {
            let expected = if node == 5 { -ahead } else { 0 };
            let offset = offset(&world, node).expect("it knows enough others");
            assert!((offset - expected).abs() <= 1, "{offset} s of node {node}");
            assert_eq!(told(&mut world, node), []);
        }
        // Somebody sets it.
        world.nodes[5].clock_offset = 0;
        world.run_for(Duration::from_secs(600));
        assert_eq!(told(&mut world, 5), [Event::ClockRight]);
        // Clocks are told in whole seconds, so the median is right to one, as above.
        let offset = offset(&world, 5).expect("it knows enough others");
        assert!(offset.abs() <= 1, "{offset} s");
    }
}

#[test]
fn a_node_whose_clock_is_a_quarter_of_an_hour_off_stores_and_reads_values() {
    for (seed, ahead) in [(703, QUARTER), (704, -QUARTER)] {
        let mut world = with_wrong_clock(seed, ahead);
        let its_now = world.clocks_of(5).unix;
        // An immutable record carries no dates: it travels with the seconds that it has left.
        let own = immutable(b"by the wrong clock", its_now, DAY);
        let (holders, _) = put(&mut world, 5, &own, false);
        assert!(holders.len() >= 19, "{} holders", holders.len());
        let others = immutable(b"by a right clock", world.unix(), DAY);
        put(&mut world, 7, &others, false);
        for (node, record) in [(5, &others), (9, &own)] {
            let (key, kind, read) = (record.key(), Kind::Immutable, Read::First);
            let (outcome, _) = world.ask(node, Command::FindValue { key, kind, read });
            assert!(
                matches!(outcome, Outcome::Found { records, .. } if records.len() == 1),
                "{node}"
            );
        }
        // A signed one is refused by the right clocks if it was issued by one that is too far ahead, and lives until
        // its date if by one that is behind.
        let signed = version(3, 1, b"signed", its_now);
        let judged = Record::verify(signed.as_raw().clone(), &rules(), world.unix());
        match ahead > 0 {
            true => assert_eq!(judged, Err(RecordError::FromTheFuture)),
            false => assert_eq!(judged, Ok(signed)),
        }
    }
}

#[test]
fn a_node_whose_clock_is_wrong_forgets_at_its_own_time_what_others_still_hold() {
    let mut world = with_wrong_clock(705, QUARTER);
    let record = immutable(b"of one hour", world.unix(), Duration::from_secs(3600));
    put(&mut world, 7, &record, false);
    assert!(holds(&world, 5, &record));
    world.run_for(Duration::from_secs(3000));
    assert!(!holds(&world, 5, &record), "its clock says that the hour is over");
    assert!(holds(&world, 6, &record));
    world.run_for(Duration::from_secs(900));
    assert!(!holds(&world, 6, &record));
}

#[test]
fn a_quarter_of_a_network_that_lies_about_its_clocks_makes_nobody_report() {
    for (seed, lie) in [(706, 1_000_000), (707, -1_000_000), (708, i64::MAX)] {
        let mut world = Simulation::new(seed);
        let config = Arc::new(Config::default());
        for node in 0..40 {
            let id = world.dice.key().to_node_id();
            world.add(id, &config);
            world.nodes[node].clock_offset = if node % 4 == 1 { lie } else { 0 };
        }
        world.join_all();
        world.run_for(Duration::from_secs(6 * 3600));
        for node in (0..40).filter(|node| node % 4 != 1) {
            let offset = offset(&world, node).expect("it knows enough others");
            assert!(offset.abs() <= 1, "{offset} s of node {node}");
            assert_eq!(told(&mut world, node), []);
        }
    }
}

#[test]
fn a_clock_that_jumps_back_is_noticed_within_a_minute_or_so_and_one_that_jumps_ahead_when_others_were_asked()
{
    let mut world = Simulation::joined(709, 30, &Config::default());
    world.run_for(Duration::from_secs(3600));
    told(&mut world, 3);
    let mut before = 0;
    for (ahead, off) in [(86_400, true), (20, false), (-3_000, true), (0, false)] {
        world.nodes[3].clock_offset = ahead;
        world.run_for(Duration::from_secs(if ahead < before { 90 } else { 300 }));
        before = ahead;
        let told = told(&mut world, 3);
        match off {
            true => assert!(matches!(told[..], [Event::ClockOff { .. }]), "{ahead}: {told:?}"),
            false => assert_eq!(told, [Event::ClockRight], "{ahead}"),
        }
    }
}

#[test]
fn a_node_that_slept_while_its_monotonic_clock_stood_still_does_not_take_its_clock_for_wrong() {
    let mut world = Simulation::joined(710, 30, &Config::default());
    world.run_for(Duration::from_secs(2 * 3600));
    // To everybody it looks as if the others' clocks had gone on and the own monotonic one had not.
    world.clock_offset = 8 * 3600;
    for _ in 0..10 {
        world.run_for(Duration::from_secs(30));
        assert!((0..30).all(|node| offset(&world, node).is_none_or(|offset| offset.abs() <= 1)));
    }
    for node in 0..30 {
        assert_eq!(told(&mut world, node), []);
        assert!(
            offset(&world, node).is_some(),
            "node {node} has heard enough others"
        );
    }
}
