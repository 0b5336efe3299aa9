//! One machine under arbitrary inputs. [`life`] has the inputs, and [`contract`] judges what comes of them.

#[path = "../network/contract.rs"]
mod contract;
mod life;

use std::sync::Arc;

use kad_core::{
    Command, Config, Contact, Duration, Found, Input, Instant, Kind, NodeId, Now, Output, QueryId, Read,
    ReplyId, Request, Response, StoreReply, UnixTime,
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

#[test]
fn no_contact_is_silent_for_long_however_wide_the_buckets_are() {
    let config = Config::default();
    let refresh = config.refresh;
    let mut wide = config.clone();
    wide.table = config.table.with_wide(&[200, 200]);
    let mut now = Now {
        monotonic: Instant::ZERO,
        unix: UnixTime::from_secs(1_000_000),
    };
    let machine = Checked::new(NodeId::default(), Arc::new(wide), 7, now);
    let mut driven = Driven { machine, now, ids: 0 };
    let mut todo = Vec::new();
    for n in 0..400 {
        let from = Contact::new(NodeId::from_limbs([1 << (62 + n % 2), n, 0, 0]), n as u32);
        let reply_to = ReplyId(driven.next_id());
        let request = Request::Ping;
        todo.extend(driven.feed(Input::Request {
            from,
            read_only: false,
            reply_to,
            request,
        }));
        answer_all(&mut driven, &mut todo);
    }
    // Four times an hour 32 of 400 are asked: each every 12.5 quarters of an hour.
    let mut longest = Duration::ZERO;
    while now.monotonic < Instant::ZERO + 24 * refresh {
        now.monotonic = driven
            .machine
            .machine()
            .poll_timeout()
            .expect("there is always upkeep");
        driven.now = now;
        todo.extend(driven.feed(Input::Timeout));
        answer_all(&mut driven, &mut todo);
        let table = driven.machine.machine().table();
        assert_eq!(table.len(), 400);
        let silences = table.contacts().map(|entry| now.monotonic.since(entry.last_seen));
        longest = longest.max(silences.max().expect("nobody left"));
    }
    eprintln!("silent for {longest:?} at most");
    assert!(longest < 5 * refresh, "{longest:?}");
}

/// Answers what the machine asks, with no news.
fn answer_all(driven: &mut Driven, todo: &mut Vec<Output<u32>>) {
    while let Some(output) = todo.pop() {
        let input = match output {
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
