//! One machine under arbitrary inputs. [`life`] has the inputs, and [`contract`] judges what comes of them.

#[path = "../network/contract.rs"]
mod contract;
mod life;

use std::sync::Arc;

use kad_core::{
    Command, Config, Contact, Duration, Failure, Found, Input, Instant, Key, Kind, NodeId, Now, Output,
    QueryId, Read, ReplyId, Request, Response, StoreReply, UnixTime,
};

use self::contract::Checked;
use self::life::{Driven, RECORDS, live};

const CASES: u64 = 10_000;

fn bytes(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut word = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb).to_be_bytes()
    };
    (0..300).flat_map(|_| word()).collect()
}

#[test]
fn no_sequence_of_inputs_breaks_the_contract() {
    let most = (0..CASES).map(|seed| live(&bytes(seed)).1).max();
    eprintln!("{most:?} effects of one input at most");
    assert!(most > Some(20), "these lives are too quiet to prove anything");
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    for seed in 0..500 {
        assert_eq!(live(&bytes(seed)), live(&bytes(seed)), "seed {seed}");
    }
}

#[test]
fn arbitrary_bytes_as_a_driver() {
    bolero::check!().with_iterations(2_000).for_each(|bytes: &[u8]| {
        live(bytes);
    });
}

#[test]
fn the_clock_may_stand_at_the_end_of_time() {
    let now = Now {
        monotonic: Instant::MAX,
        unix: UnixTime::from_secs(u64::MAX),
    };
    let machine = Checked::new(NodeId::default(), Arc::new(Config::default()), 7, now);
    let mut driven = Driven { machine, now, ids: 0 };
    let contacts = (1..90)
        .map(|n| Contact::new(NodeId::from_limbs([0, 0, 0, n]), 1))
        .collect();
    driven.feed(Input::Command {
        query: QueryId(1),
        command: Command::Bootstrap { contacts },
    });
    driven.feed(Input::Timeout);
    assert_eq!(driven.machine.machine().poll_timeout(), None);
    driven.feed(Input::Cancel { query: QueryId(1) });
    assert!(driven.machine.asked().is_empty());
}

/// A machine that knows the contacts at the addresses 0 to `contacts`, half of them in each of two wide buckets.
fn who_knows(contacts: u32) -> Driven {
    let mut config = Config::default();
    config.table = config.table.with_wide(&[200, 200]);
    let now = Now {
        monotonic: Instant::from_micros(1),
        unix: UnixTime::from_secs(1_000_000),
    };
    let machine = Checked::new(NodeId::default(), Arc::new(config), 7, now);
    let mut driven = Driven { machine, now, ids: 0 };
    for n in 0..contacts {
        driven.now.monotonic = driven.now.monotonic + Duration::from_micros(1);
        let mut todo = knock(&mut driven, member(n));
        answer_all(&mut driven, &mut todo, |_| true);
    }
    assert_eq!(driven.machine.machine().table().len(), contacts as usize);
    driven
}

/// The nth contact, in the far half and the quarter after it in turns.
fn member(n: u32) -> Contact<u32> {
    Contact::new(NodeId::from_limbs([1 << (62 + n % 2), n.into(), 0, 0]), n)
}

/// Somebody asks something, so the machine learns of it.
fn knock(driven: &mut Driven, from: Contact<u32>) -> Vec<Output<u32>> {
    let (reply_to, request) = (ReplyId(driven.next_id()), Request::Ping);
    driven.feed(Input::Request {
        from,
        read_only: false,
        reply_to,
        request,
    })
}

/// How long each contact has been silent.
fn silences(driven: &Driven) -> impl Iterator<Item = (u32, Duration)> {
    let (now, table) = (driven.now.monotonic, driven.machine.machine().table());
    table
        .contacts()
        .map(move |entry| (entry.contact.address, now.since(entry.last_seen)))
}

/// Lets the time come for which the machine waits.
fn tick(driven: &mut Driven) -> Vec<Output<u32>> {
    let next = driven.machine.machine().poll_timeout();
    driven.now.monotonic = next.expect("there is always upkeep");
    driven.feed(Input::Timeout)
}

fn pings(outputs: &[Output<u32>]) -> usize {
    let is_ping = |output: &&Output<u32>| {
        matches!(
            output,
            Output::Request {
                request: Request::Ping,
                ..
            }
        )
    };
    outputs.iter().filter(is_ping).count()
}

#[test]
fn no_contact_is_silent_for_a_refresh_however_wide_the_buckets_are() {
    let refresh = Config::default().refresh;
    // All were heard of within a moment, and nobody has anything else to ask them.
    let mut driven = who_knows(400);
    let (mut longest, mut most) = (Duration::ZERO, 0);
    while driven.now.monotonic < Instant::ZERO + 24 * refresh {
        let mut todo = tick(&mut driven);
        most = most.max(pings(&todo));
        answer_all(&mut driven, &mut todo, |_| true);
        assert_eq!(driven.machine.machine().table().len(), 400);
        let silences = silences(&driven).map(|(_, silent)| silent);
        longest = longest.max(silences.max().expect("nobody left"));
    }
    eprintln!("silent for {longest:?} at most; {most} PINGs at once");
    assert!(longest < refresh, "{longest:?}");
    assert!(most <= 8, "a burst of {most} PINGs");
}

#[test]
fn those_that_cannot_be_asked_hold_up_nobody_and_are_asked_again() {
    let refresh = Config::default().refresh;
    let mut driven = who_knows(200);
    let is_mute = |n: u32| n.is_multiple_of(5);
    let mut asked = 0;
    while driven.now.monotonic < Instant::ZERO + 8 * refresh {
        let mut todo = tick(&mut driven);
        for output in &todo {
            if let Output::Request { to, request, .. } = output {
                asked += usize::from(*request == Request::Ping && is_mute(to.address));
            }
        }
        answer_all(&mut driven, &mut todo, |n| !is_mute(n));
        let heard = silences(&driven).filter(|(n, _)| !is_mute(*n));
        let longest = heard.map(|(_, silent)| silent).max().expect("nobody left");
        assert!(longest < refresh, "{longest:?}");
    }
    // A question that does not leave this node says nothing of whom it was for. All are asked once, and of those that
    // are left some four times in an interval.
    assert_eq!(driven.machine.machine().table().len(), 200);
    assert!((40 + 6 * 4 * 8..1000).contains(&asked), "{asked} questions");
}

#[test]
fn whoever_says_nothing_is_asked_twice_and_is_gone_after_a_refresh() {
    let refresh = Config::default().refresh;
    let mut driven = who_knows(30);
    let dead = member(7);
    let mut questions = 0;
    while driven.now.monotonic < Instant::ZERO + refresh {
        let mut todo = tick(&mut driven);
        let is_of_dead = |output: &Output<u32>| matches!(output, Output::Request { to, .. } if *to == dead);
        questions += todo.iter().filter(|output| is_of_dead(output)).count();
        todo.retain(|output| !is_of_dead(output));
        answer_all(&mut driven, &mut todo, |_| true);
    }
    let table = driven.machine.machine().table();
    assert_eq!((table.len(), table.get(dead.id)), (29, None));
    assert_eq!(questions, 2);
}

#[test]
fn whoever_knocks_from_another_address_is_asked_at_its_own_all_the_same() {
    let refresh = Config::default().refresh;
    let mut driven = who_knows(30);
    let silent = member(7);
    let elsewhere = Contact::new(silent.id, 9007);
    while driven.now.monotonic < Instant::ZERO + refresh {
        // It answers at neither, and asks again whenever we have given up to ask it.
        let mut todo = tick(&mut driven);
        todo.extend(knock(&mut driven, elsewhere));
        todo.retain(|output| !matches!(output, Output::Request { to, .. } if to.id == silent.id));
        answer_all(&mut driven, &mut todo, |_| true);
    }
    let table = driven.machine.machine().table();
    assert_eq!((table.len(), table.get(silent.id)), (29, None));
}

#[test]
fn strangers_who_let_pings_wait_do_not_keep_the_dead_in_the_table() {
    let mut driven = who_knows(30);
    let strangers = Config::default().max_probes as u32;
    for n in 0..strangers {
        assert_eq!(pings(&knock(&mut driven, member(1000 + n))), 1);
    }
    assert_eq!(
        pings(&knock(&mut driven, member(1000 + strangers))),
        0,
        "no limit"
    );
    let query = QueryId(driven.next_id());
    let target = Key::default();
    let outputs = driven.feed(Input::Command {
        query,
        command: Command::FindNode { target },
    });
    let asked = outputs.iter().find_map(|output| match output {
        Output::Request { id, to, .. } => Some((*id, *to)),
        _ => None,
    });
    let (id, dead) = asked.expect("a lookup asks");
    let failure = Failure::Unreachable;
    let outputs = driven.feed(Input::Failure { id, failure });
    let second = outputs.iter().find_map(|output| match output {
        Output::Request {
            id,
            to,
            request: Request::Ping,
        } if *to == dead => Some(*id),
        _ => None,
    });
    let id = second.expect("a second attempt is made at once");
    let _ = driven.feed(Input::Failure { id, failure });
    assert!(driven.machine.machine().table().get(dead.id).is_none());
}

/// Answers what the machine asks, with no news; what it asks those at other addresses than these never leaves it.
fn answer_all(driven: &mut Driven, todo: &mut Vec<Output<u32>>, is_heard: impl Fn(u32) -> bool) {
    while let Some(output) = todo.pop() {
        let input = match output {
            Output::Request { id, to, .. } if !is_heard(to.address) => Input::Failure {
                id,
                failure: Failure::Local,
            },
            Output::Request { id, request, .. } => {
                let response = match request {
                    Request::Ping => Response::Pong {
                        unix: driven.now.unix,
                        observed: 0,
                    },
                    _ => Response::Nodes {
                        closer: Vec::new(),
                        card: None,
                    },
                };
                Input::Response {
                    id,
                    response,
                    rtt: None,
                }
            }
            Output::Store { id, .. } => Input::Store {
                id,
                reply: StoreReply::Failed,
            },
            _ => continue,
        };
        todo.extend(driven.feed(input));
    }
}

#[test]
fn reads_that_end_quickly_do_not_pile_up_repairs() {
    let now = Now {
        monotonic: Instant::ZERO,
        unix: UnixTime::from_secs(1_000_000),
    };
    let mut config = Config::default();
    config.max_queries = 2;
    let machine = Checked::new(NodeId::default(), Arc::new(config), 7, now);
    let mut driven = Driven { machine, now, ids: 0 };
    let (old, new) = (RECORDS[1].clone(), RECORDS[2].clone());
    let mut repairs = 0;
    for round in 0..20 {
        // Two holders, one of which has the older version and never answers when it is told of the newer one.
        let from = Contact::new(NodeId::from_limbs([0, 0, 0, 1 + round % 2]), 1 + round as u32 % 2);
        let request = Request::Ping;
        let reply_to = ReplyId(driven.next_id());
        let mut todo = driven.feed(Input::Request {
            from,
            read_only: false,
            reply_to,
            request,
        });
        let query = QueryId(driven.next_id());
        let (key, kind, read) = (old.key(), Kind::Mutable, Read::Quorum(2));
        todo.extend(driven.feed(Input::Command {
            query,
            command: Command::FindValue { key, kind, read },
        }));
        while let Some(output) = todo.pop() {
            let input = match output {
                Output::Request { id, to, request } => {
                    let record = if to.address == 1 { &old } else { &new };
                    let response = match request {
                        Request::Ping => Response::Pong {
                            unix: now.unix,
                            observed: 0,
                        },
                        Request::Store { .. } => {
                            repairs += 1;
                            continue;
                        }
                        _ => Response::Values {
                            found: vec![Found::Record(record.clone())],
                            next: None,
                            closer: Vec::new(),
                        },
                    };
                    Input::Response {
                        id,
                        response,
                        rtt: None,
                    }
                }
                Output::Store { id, .. } => Input::Store {
                    id,
                    reply: StoreReply::Failed,
                },
                _ => continue,
            };
            todo.extend(driven.feed(input));
        }
    }
    assert!((2..=4).contains(&repairs), "{repairs} repairs in flight");
}
