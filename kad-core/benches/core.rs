//! What the core costs without any IO, in a table of a network of 100,000 nodes.
#![allow(missing_docs)] // The macros of criterion make public items.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use kad_core::table::{ClosestScratch, DEFAULT_FULL_CONTACTS, RoutingTable, TableConfig};
use kad_core::{
    Command, Config, Contact, Input, Instant, Kademlia, Key, NodeId, Now, Outbox, Output, QueryId, ReplyId,
    Request, Response, UnixTime,
};

/// SplitMix64: the same ids in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn key(&mut self) -> Key {
        Key::from_limbs([self.roll(), self.roll(), self.roll(), self.roll()])
    }
}

fn now(micros: u64) -> Now {
    Now {
        monotonic: Instant::from_micros(micros),
        unix: UnixTime::from_secs(1_800_000_000),
    }
}

/// A machine whom 100,000 nodes have asked, each of which answered the PING that it got for that.
fn full(dice: &mut Dice) -> Kademlia<u32> {
    let mut machine = Kademlia::new(dice.key().to_node_id(), Arc::new(Config::default()), 1, now(0));
    let mut outbox = Outbox::new();
    for n in 0..100_000 {
        let from = Contact::new(dice.key().to_node_id(), n);
        let (reply_to, request) = (ReplyId(n.into()), Request::Ping);
        let asked = Input::Request {
            from,
            read_only: false,
            reply_to,
            request,
        };
        machine.handle(now(n.into()), asked, &mut outbox);
        while let Some(output) = outbox.pop() {
            if let Output::Request { id, .. } = output {
                let response = Response::Pong {
                    unix: UnixTime::from_secs(0),
                    observed: 0,
                };
                machine.handle(
                    now(n.into()),
                    Input::Response {
                        id,
                        response,
                        rtt: None,
                    },
                    &mut outbox,
                );
            }
        }
    }
    machine
}

fn closest(c: &mut Criterion) {
    let mut dice = Dice(1);
    let mut table = RoutingTable::new(NodeId::default(), TableConfig::new(20, 0));
    while table.len() < 266 {
        let _ = table.answered(Instant::ZERO, &Contact::new(dice.key().to_node_id(), 0u32), None);
    }
    let targets: Vec<Key> = (0..1024).map(|_| dice.key()).collect();
    let (mut scratch, mut turn) = (ClosestScratch::default(), 0);
    c.bench_function("closest 20 of 266", |b| {
        b.iter(|| {
            turn = (turn + 1) % targets.len();
            table.closest(targets[turn], 20, &mut scratch).for_each(|entry| {
                black_box(entry);
            });
        });
    });
}

/// What a table that knows everybody pays for its size: each answer and each question looks through one bucket.
fn full_table(c: &mut Criterion) {
    let mut dice = Dice(4);
    let config = TableConfig::new(20, 0).full(DEFAULT_FULL_CONTACTS);
    let mut table = RoutingTable::new(NodeId::default(), config);
    let contacts: Vec<_> = (0..DEFAULT_FULL_CONTACTS as u32)
        .map(|n| Contact::new(dice.key().to_node_id(), n))
        .collect();
    for contact in &contacts {
        let _ = table.answered(Instant::ZERO, contact, None);
    }
    let mut scratch = ClosestScratch::default();
    c.bench_function("closest 20 of a full table", |b| {
        b.iter(|| {
            table.closest(dice.key(), 20, &mut scratch).for_each(|entry| {
                black_box(entry);
            });
        });
    });
    let mut turn = 0;
    c.bench_function("answer of a contact of a full table", |b| {
        b.iter(|| {
            turn = (turn + 1) % contacts.len();
            let now = Instant::from_micros(turn as u64);
            let _ = black_box(table.answered(now, &contacts[turn], None));
        });
    });
}

fn lookup(c: &mut Criterion) {
    let mut dice = Dice(2);
    let mut machine = full(&mut dice);
    let (mut outbox, mut query) = (Outbox::new(), 0);
    // Each lookup is cancelled again, which costs its part of the time.
    c.bench_function("lookup started and drained", |b| {
        b.iter(|| {
            query += 1;
            let (query, command) = (QueryId(query), Command::FindNode { target: dice.key() });
            machine.handle(now(1_000_000), Input::Command { query, command }, &mut outbox);
            while let Some(output) = outbox.pop() {
                black_box(output);
            }
            machine.handle(now(1_000_000), Input::Cancel { query }, &mut outbox);
            while outbox.pop().is_some() {}
        });
    });
}

fn serve(c: &mut Criterion) {
    let mut dice = Dice(3);
    let mut machine = full(&mut dice);
    let mut outbox = Outbox::new();
    let from = machine
        .table()
        .contacts()
        .next()
        .map(|entry| *entry.contact)
        .expect("a full table");
    let mut reply = 0;
    c.bench_function("FIND_NODE served", |b| {
        b.iter(|| {
            reply += 1;
            let (reply_to, request) = (
                ReplyId(reply),
                Request::FindNode {
                    target: dice.key(),
                    card: false,
                },
            );
            let asked = Input::Request {
                from,
                read_only: false,
                reply_to,
                request,
            };
            machine.handle(now(1_000_000), asked, &mut outbox);
            black_box(outbox.pop());
        });
    });
}

criterion_group!(core, closest, full_table, lookup, serve);
criterion_main!(core);
