//! What a node does not take: what is not near it, and what is written anew too fast.

use std::slice::from_ref;
use std::sync::Arc;

use kad_core::{
    Command, Config, Duration, NodeId, Outcome, Parameters, Record, Request, Response, StoreEntry, StoreOp,
    Verdict,
};

use crate::records::{DAY, holds, immutable, put, version};
use crate::simulation::Simulation;

/// A small k, so that a few hundred nodes are many.
pub(crate) const K: usize = 5;

pub(crate) fn few_holders() -> Config {
    Config::for_network(&Parameters {
        k: K as u16,
        ..Parameters::default()
    })
}

/// What a node says to records that somebody sends it out of the blue.
fn sent(world: &mut Simulation, node: u32, records: &[Record]) -> Vec<Verdict> {
    let entries = records.iter().cloned().map(StoreEntry::from).collect();
    match world.serve(node, Request::Store { entries }) {
        Response::Stored { verdicts, .. } => verdicts,
        other => panic!("{other:?}"),
    }
}

/// A record with some key.
pub(crate) fn any_record(world: &mut Simulation) -> Record {
    let value = world.dice.roll().to_be_bytes();
    immutable(&value, world.unix(), DAY)
}

fn not_near(world: &Simulation) -> u64 {
    let machines = world.nodes.iter().map(|node| node.machine.machine());
    machines.map(|machine| machine.stats().refused.not_near).sum()
}

#[test]
fn what_a_lookup_places_is_never_taken_for_nowhere_near() {
    let mut world = Simulation::joined(601, 300, &few_holders());
    let mut given = 0;
    for round in 0..3 {
        for _ in 0..100 {
            let node = world.dice.below(260) as u32;
            let record = any_record(&mut world);
            let (holders, local) = put(&mut world, node, &record, false);
            let copies = holders.len() + usize::from(local);
            assert!(copies >= K, "round {round}: {copies} copies");
        }
        // Those who leave give what they have, and the others repair, look after what is astray and store again.
        for leaving in 290 - 10 * round..300 - 10 * round {
            let outcome = world.ask(leaving, Command::HandOver).0;
            given += u64::from(matches!(outcome, Outcome::HandedOver { records } if records > 0));
            world.kill(leaving);
        }
        world.run_for(Duration::from_secs(6 * 3600));
    }
    assert!(given > 5, "{given} of 30 had something to give");
    assert_eq!(not_near(&world), 0);
}

#[test]
fn a_node_takes_what_is_near_and_names_nearer_nodes_for_what_is_not() {
    let mut world = Simulation::joined(602, 400, &few_holders());
    world.run_for(Duration::from_secs(3600));
    let (mut taken, mut refused, mut too_far) = (0, 0, 0);
    for _ in 0..40 {
        let record = any_record(&mut world);
        let key = record.key();
        for (rank, node) in world.nearest(key).into_iter().enumerate() {
            let entries = vec![record.clone().into()];
            let Response::Stored { verdicts, closer } = world.serve(node, Request::Store { entries }) else {
                panic!("no answer to a STORE")
            };
            match verdicts[..] {
                [Verdict::Stored] => {
                    taken += 1;
                    too_far += u64::from(rank >= 300);
                }
                [Verdict::NotNear] => {
                    refused += 1;
                    let own = world.id(node).distance(key);
                    let nearer = closer
                        .iter()
                        .filter(|contact| contact.id.distance(key) < own)
                        .count();
                    assert!(
                        nearer >= K,
                        "{nearer} nearer nodes named by the one of rank {rank}"
                    );
                    assert!(rank > 4 * K, "refused by the one of rank {rank}");
                }
                ref other => panic!("{other:?}"),
            }
        }
    }
    eprintln!("{taken} taken, {refused} refused; {too_far} of 4,000 taken beyond rank 300");
    // Eight times k are 64 at least here, and the least likely size after few samples of five nodes is half of the true
    // one.
    assert!(
        taken > 40 * 50 && refused > 40 * 150 && too_far < 1_000,
        "{taken}, {refused}, {too_far}"
    );
    assert_eq!(not_near(&world), refused);
}

#[test]
fn in_a_small_network_everybody_is_near() {
    let mut world = Simulation::joined(603, 120, &Config::default());
    world.run_for(Duration::from_secs(3600));
    for _ in 0..10 {
        let record = any_record(&mut world);
        for node in 0..120 {
            assert_eq!(sent(&mut world, node, from_ref(&record)), [Verdict::Stored]);
        }
    }
}

#[test]
fn a_network_that_has_just_lost_most_of_its_nodes_still_has_holders() {
    let mut world = Simulation::joined(604, 400, &few_holders());
    world.run_for(Duration::from_secs(3600));
    (0..400)
        .filter(|node| node % 10 >= 3)
        .for_each(|node| world.kill(node));
    for _ in 0..100 {
        let record = any_record(&mut world);
        for node in world.nearest(record.key()).into_iter().take(K) {
            let verdicts = sent(&mut world, node, from_ref(&record));
            assert_eq!(verdicts, [Verdict::Stored]);
        }
    }
}

#[test]
fn who_has_seen_the_others_die_takes_their_place_whatever_the_network_once_was() {
    let mut world = Simulation::joined(611, 250, &few_holders());
    world.run_for(Duration::from_secs(6 * 3600));
    (8..250).for_each(|node| world.kill(node));
    // By then the dead are noticed, and most samples are older.
    world.run_for(Duration::from_secs(5400));
    let (mut far, records) = (0, 60);
    for _ in 0..records {
        let record = any_record(&mut world);
        for node in world.nearest(record.key()).into_iter().take(K) {
            let machine = world.nodes[node as usize].machine.machine();
            let believed = machine.population().expect("it has looked around");
            far += u64::from(believed.rank(machine.local_id().distance(record.key())) > 64);
            let verdicts = sent(&mut world, node, from_ref(&record));
            assert_eq!(verdicts, [Verdict::Stored]);
        }
    }
    assert!(
        far > 30,
        "only {far} of {} believe that many are nearer",
        records * K
    );
}

#[test]
fn a_crowd_around_a_node_that_has_measured_nothing_does_not_make_it_refuse() {
    let mut world = Simulation::new(612);
    let config = Arc::new(few_holders());
    let own = world.dice.key();
    world.add(own.to_node_id(), &config);
    for n in 0..40 {
        let [top, ..] = own.to_limbs();
        let id = NodeId::from_limbs([top, world.dice.roll(), n, 0]);
        let node = world.add(id, &config);
        let contact = world.contact(node);
        world.ask(0, Command::Ping { contact });
    }
    let machine = world.nodes[0].machine.machine();
    let guess = machine.population().expect("it guesses");
    assert!(guess.samples == 0 && guess.nodes > 1 << 40, "{guess:?}");
    for _ in 0..50 {
        let record = any_record(&mut world);
        assert_eq!(sent(&mut world, 0, &[record]), [Verdict::Stored]);
    }
}

#[test]
fn where_a_crowd_hides_a_key_those_who_take_the_record_in_its_place_are_near_enough() {
    let mut world = Simulation::joined(605, 400, &Config::default());
    world.run_for(Duration::from_secs(3600));
    let (config, first) = (Arc::clone(&world.nodes[0].config), world.contact(0));
    for _ in 0..4 {
        let record = any_record(&mut world);
        let [top, ..] = record.key().to_limbs();
        for n in 0..24 {
            let id = NodeId::from_limbs([top, world.dice.roll(), n, 0]);
            let node = world.add(id, &config);
            let contacts = vec![first];
            world.ask(node, Command::Bootstrap { contacts });
        }
        // It fails if anybody refuses.
        let (holders, _) = put(&mut world, 7, &record, false);
        assert!(holders.len() > 30, "{} holders", holders.len());
    }
    assert!(world.nodes[7].machine.machine().stats().widened >= 4);
    assert_eq!(not_near(&world), 0);
}

#[test]
fn a_record_takes_a_burst_of_versions_and_then_one_a_second() {
    let mut world = Simulation::joined(606, 1, &Config::default());
    let start = world.unix();
    let versions = |from: u64, to: u64| {
        (from..=to)
            .map(|seq| version(9, seq, b"value", start))
            .collect::<Vec<_>>()
    };
    let verdicts = sent(&mut world, 0, &versions(1, 20));
    assert_eq!(verdicts[..16], [Verdict::Stored; 16]);
    assert_eq!(verdicts[16..], [Verdict::TooOften; 4]);
    // Who repeats what is held, or what was, takes nothing from the owner. Nor does a full bucket keep others waiting.
    world.run_for(Duration::from_secs(1));
    for _ in 0..50 {
        let verdicts = sent(&mut world, 0, &[version(8, 1, b"value", start)]);
        assert!(verdicts[0].is_acknowledgement(), "{verdicts:?}");
    }
    assert_eq!(
        sent(&mut world, 0, &versions(17, 18)),
        [Verdict::Stored, Verdict::TooOften]
    );
    world.run_for(Duration::from_secs(1));
    for _ in 0..50 {
        assert_eq!(
            sent(&mut world, 0, &versions(16, 16)),
            [Verdict::Stale { current: 17 }]
        );
        assert_eq!(sent(&mut world, 0, &versions(17, 17)), [Verdict::Unchanged]);
    }
    assert_eq!(sent(&mut world, 0, &versions(18, 18)), [Verdict::Stored]);
    // An immutable value is not anybody's to write anew.
    for life in 1..50 {
        let record = immutable(b"a value", start, DAY + Duration::from_secs(life));
        assert_eq!(sent(&mut world, 0, &[record]), [Verdict::Stored]);
    }
    assert_eq!(world.nodes[0].machine.machine().stats().refused.too_often, 5);
}

#[test]
fn what_repair_brings_is_not_too_fast_for_anybody() {
    let mut config = Config::default();
    (config.rewrite_burst, config.rewrite_every) = (1, DAY);
    let mut world = Simulation::joined(613, 2, &config);
    let now = world.unix();
    let [old, new] = [1, 2].map(|seq| version(9, seq, b"value", now));
    for node in 0..2 {
        assert_eq!(sent(&mut world, node, from_ref(&old)), [Verdict::Stored]);
        assert_eq!(sent(&mut world, node, from_ref(&new)), [Verdict::TooOften]);
    }
    // The newer one came to one of them in another way.
    let put = StoreOp::Put {
        entries: vec![new.clone().into()],
        due: now + DAY,
        own: false,
        source: kad_core::Source::UNKNOWN,
        sender: None,
    };
    world.nodes[0].shelf.carry_out(put, now);
    world.run_for(Duration::from_secs(1800));
    assert!(holds(&world, 1, &new));
}

#[test]
fn a_writer_who_is_too_fast_is_told_by_whom() {
    let mut world = Simulation::joined(607, 30, &Config::default());
    let now = world.unix();
    let mut refused = Vec::new();
    for seq in 1..=18 {
        let command = Command::Store {
            record: version(9, seq, b"value", now),
            expected: None,
            keep: false,
            enough: usize::MAX,
        };
        match world.ask(3, command).0 {
            Outcome::Stored { refused: who, .. } => refused.push(who),
            other => panic!("{other:?}"),
        }
    }
    assert!(refused[..16].iter().all(Vec::is_empty), "{refused:?}");
    // Answers take a tenth of a second, so one more may have been let in meanwhile.
    let last = refused.last().map_or(0, Vec::len);
    let too_often = refused
        .iter()
        .flatten()
        .all(|(_, verdict)| *verdict == Verdict::TooOften);
    assert!(last >= 10 && too_often, "{refused:?}");
}
