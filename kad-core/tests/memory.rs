//! What a machine costs in memory and in allocations, counted by the allocator itself.
#![allow(unsafe_code)] // An allocator can be written in no other way; this test is the only place that has one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use kad_core::table::ClosestScratch;
use kad_core::{
    Command, Config, Contact, Input, Instant, Kademlia, Key, NodeId, Now, Outbox, Output, QueryId, ReplyId,
    Request, RequestId, Response, UnixTime,
};

/// Counts what this thread holds and how often it asks for more.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get().wrapping_add(layout.size()));
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promised us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        // SAFETY: as the caller promised us.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that a machine without contacts may take, in bytes.
const EMPTY: usize = 2 * 1024;

/// The most that a machine in a network of 100,000 nodes may take, in bytes.
const FULL: usize = 22 * 1024;

fn now(micros: u64) -> Now {
    Now {
        monotonic: Instant::from_micros(micros),
        unix: UnixTime::from_secs(1_800_000_000),
    }
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// A machine whom 100,000 nodes have asked, each of which answered the PING that it got for that.
fn full(outbox: &mut Outbox<u32>, config: &Arc<Config>) -> Kademlia<u32> {
    let mut state = 1;
    let mut id = || NodeId::from_limbs([0; 4].map(|_: u64| random(&mut state)));
    let mut machine = Kademlia::new(id(), Arc::clone(config), 1, now(0));
    for n in 0..100_000 {
        let from = Contact::new(id(), n);
        let request = Input::Request {
            from,
            read_only: false,
            reply_to: ReplyId(n.into()),
            request: Request::Ping,
        };
        machine.handle(now(n.into()), request, outbox);
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
                    outbox,
                );
            }
        }
    }
    machine
}

#[test]
fn a_machine_without_contacts_takes_two_kibibytes() {
    let config = Arc::new(Config::default());
    let before = HELD.get();
    let machine = Kademlia::<u32>::new(NodeId::default(), Arc::clone(&config), 1, now(0));
    let heap = HELD.get().wrapping_sub(before);
    let whole = heap + size_of_val(&machine);
    eprintln!("without contacts: {whole} bytes, {heap} of them on the heap");
    assert!(whole <= EMPTY, "{whole} bytes");
}

#[test]
fn a_machine_among_100_000_takes_22_kibibytes() {
    let config = Arc::new(Config::default());
    let mut outbox = Outbox::new();
    drop(full(&mut outbox, &config)); // The outbox has grown; it is the driver's, for any number of machines.
    let before = HELD.get();
    let mut machine = full(&mut outbox, &config);
    // A lookup has come and gone, so that all scratch memory is there.
    let command = Command::FindNode {
        target: Key::default(),
    };
    machine.handle(
        now(1_000_000),
        Input::Command {
            query: QueryId(1),
            command,
        },
        &mut outbox,
    );
    machine.handle(now(1_000_000), Input::Cancel { query: QueryId(1) }, &mut outbox);
    while outbox.pop().is_some() {}
    let heap = HELD.get().wrapping_sub(before);
    let whole = heap + size_of_val(&machine);
    eprintln!(
        "{} contacts: {whole} bytes, {heap} of them on the heap",
        machine.table().len()
    );
    assert!(
        (250..290).contains(&machine.table().len()),
        "{} contacts",
        machine.table().len()
    );
    assert!(whole <= FULL, "{whole} bytes");
}

#[test]
fn wider_buckets_cost_their_contacts_and_little_more() {
    let mut outbox = Outbox::new();
    let mut held = |wide: &[u16]| {
        let mut config = Config::default();
        config.table = config.table.with_wide(wide);
        let config = Arc::new(config);
        drop(full(&mut outbox, &config));
        let before = HELD.get();
        let machine = full(&mut outbox, &config);
        (machine.table().len(), HELD.get().wrapping_sub(before))
    };
    let (contacts, heap) = held(&[]);
    let (more_contacts, more_heap) = held(&[160, 80, 40]);
    assert_eq!(more_contacts, contacts + 140 + 60 + 20);
    let each = (more_heap - heap) / (more_contacts - contacts);
    eprintln!("{each} bytes for each contact");
    assert!(each <= 64, "{each} bytes");
}

#[test]
fn closest_allocates_nothing_and_an_answer_one_list() {
    let mut outbox = Outbox::new();
    let mut machine = full(&mut outbox, &Arc::new(Config::default()));
    let mut state = 2;
    let mut scratch = ClosestScratch::default();
    let mut key = || Key::from_limbs([0; 4].map(|_: u64| random(&mut state)));
    let mut sum = 0;
    for _ in 0..1000 {
        sum += machine.table().closest(key(), 20, &mut scratch).count();
    }
    let before = ALLOCATIONS.get();
    for _ in 0..1000 {
        sum += machine.table().closest(key(), 20, &mut scratch).count();
    }
    assert_eq!((ALLOCATIONS.get() - before, sum), (0, 40_000));
    let from = machine
        .table()
        .contacts()
        .next()
        .map(|entry| *entry.contact)
        .expect("a full table");
    let mut ask = |n| {
        let request = Request::FindNode {
            target: key(),
            card: false,
        };
        let (read_only, reply_to) = (false, ReplyId(n));
        machine.handle(
            now(2_000_000),
            Input::Request {
                from,
                read_only,
                reply_to,
                request,
            },
            &mut outbox,
        );
        while outbox.pop().is_some() {}
    };
    (0..1000).for_each(&mut ask);
    let before = ALLOCATIONS.get();
    (1000..2000).for_each(&mut ask);
    let allocations = ALLOCATIONS.get() - before;
    eprintln!("closest: 0 allocations; 1000 FIND_NODE served: {allocations}");
    assert_eq!(allocations, 1000);
}

#[test]
fn answers_for_nothing_allocate_nothing() {
    let mut outbox = Outbox::new();
    let mut machine = full(&mut outbox, &Arc::new(Config::default()));
    let before = HELD.get();
    for id in 0..10_000 {
        let response = Response::Nodes {
            closer: Vec::new(),
            card: None,
        };
        let id = RequestId(id << 20);
        machine.handle(
            now(3_000_000),
            Input::Response {
                id,
                response,
                rtt: None,
            },
            &mut outbox,
        );
    }
    assert!(outbox.is_empty());
    assert_eq!(HELD.get(), before);
}
