//! Work for a network: operations begun one after another at a rate, and what came of each.

use std::collections::BTreeMap;

use kad_core::{Command, Duration, Effort, Instant, Outcome, QueryId, Record, Slot, UnixTime};

use crate::{Happening, Place, World};

/// One operation that has ended.
#[derive(Debug)]
pub struct Done<T> {
    /// Where it was begun.
    pub node: usize,
    /// What the experiment noted when it began.
    pub note: T,
    /// What came of it; `None` if its node went down meanwhile.
    pub outcome: Option<Outcome<Place>>,
    /// What it took.
    pub effort: Effort,
}

/// A node looks up a random point.
pub(crate) fn look_up_anywhere(world: &mut World) -> (usize, Command<Place>, ()) {
    let (node, target) = (world.anyone(), world.dice().key());
    (node, Command::FindNode { target }, ())
}

/// A node puts a random value, until so many of the nearest hold it; also where it then lies.
pub(crate) fn put_anywhere(
    world: &mut World,
    expiry: UnixTime,
    enough: usize,
) -> (usize, Command<Place>, Slot) {
    let value = world.dice().key().to_bytes();
    let record = Record::immutable(&value, expiry, world.rules(), world.now().unix).expect("a small value");
    let slot = record.slot();
    let command = Command::Store {
        record,
        expected: None,
        keep: false,
        enough,
    };
    (world.anyone(), command, slot)
}

/// Puts so many random values that live for six days, `per_second` a second, each at the node that `by` names and until
/// all of its holders were asked; tells after each how many there are. Says where they lie.
pub(crate) fn publish(
    world: &mut World,
    count: usize,
    per_second: f64,
    keep: bool,
    mut by: impl FnMut(&mut World) -> usize,
    mut done: impl FnMut(u64),
) -> Vec<Slot> {
    let expiry = world.now().unix + Duration::from_secs(6 * 86_400);
    let (mut slots, mut put) = (Vec::with_capacity(count), 0);
    drive(
        world,
        count,
        per_second,
        |world| {
            let value = world.dice().key().to_bytes();
            let record =
                Record::immutable(&value, expiry, world.rules(), world.now().unix).expect("a small value");
            slots.push(record.slot());
            let (expected, enough) = (None, usize::MAX);
            let command = Command::Store {
                record,
                expected,
                keep,
                enough,
            };
            (by(world), command, ())
        },
        |_, _| {
            put += 1;
            done(put);
        },
    );
    slots
}

/// Begins `count` operations, `per_second` a second, and runs the world until all of them have ended; tells of each in
/// the order of their ends. `begin` says where the next one is begun and with which command.
///
/// Nothing is done about other happenings: nodes may come and go meanwhile.
pub fn drive<T>(
    world: &mut World,
    count: usize,
    per_second: f64,
    mut begin: impl FnMut(&mut World) -> (usize, Command<Place>, T),
    mut end: impl FnMut(&World, Done<T>),
) {
    let pause = Duration::from_secs_f64(1.0 / per_second);
    let mut under_way: BTreeMap<QueryId, (usize, T)> = BTreeMap::new();
    let mut begun = 0;
    while begun < count || !under_way.is_empty() {
        let until = if begun < count {
            let (node, command, note) = begin(world);
            begun += 1;
            let query = world.command(node, command);
            under_way.insert(query, (node, note));
            world.now().monotonic + pause
        } else {
            Instant::MAX
        };
        while let Some(happening) = world.next(until) {
            match happening {
                Happening::Finished {
                    query,
                    outcome,
                    effort,
                    ..
                } => {
                    if let Some((node, note)) = under_way.remove(&query) {
                        let outcome = Some(outcome);
                        end(
                            world,
                            Done {
                                node,
                                note,
                                outcome,
                                effort,
                            },
                        );
                    }
                }
                Happening::Down { node: down } => {
                    let lost: Vec<_> = under_way
                        .iter()
                        .filter(|(_, (node, _))| *node == down)
                        .map(|(&id, _)| id)
                        .collect();
                    for query in lost {
                        if let Some((node, note)) = under_way.remove(&query) {
                            let effort = Effort::default();
                            end(
                                world,
                                Done {
                                    node,
                                    note,
                                    outcome: None,
                                    effort,
                                },
                            );
                        }
                    }
                }
                Happening::Up { .. } | Happening::Woke { .. } => {}
            }
            if begun == count && under_way.is_empty() {
                break;
            }
        }
    }
}
