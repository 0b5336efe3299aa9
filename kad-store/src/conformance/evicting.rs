//! What goes when a store or a key is full.

use kad_core::{Kind, Source, Verdict};

use super::quotas::{ALICE, BOB, around_zero, from, lying_at, numbers, of_our_own};
use super::samples::{Samples, key};
use super::{Limits, Open, RecordStore, Scan, Tested, rule, same, unlimited};

pub(super) fn farthest<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(Limits {
        max_records: 4,
        ..around_zero()
    }));
    let far = 1 << 63;
    for number in [far, 5, 9] {
        store.keep(&lying_at(samples, key(number)));
    }
    store.flush();
    store.keep(&lying_at(samples, key(7)));
    same(
        &store.put(&lying_at(samples, key(far + 1))),
        &Verdict::Full,
        "what is farther than everything is refused by a full store",
    );
    for (newcomer, left) in [
        (6, [5, 6, 7, 9]),
        (8, [5, 6, 7, 8]),
        (1, [1, 5, 6, 7]),
        (2, [1, 2, 5, 6]),
    ] {
        store.keep(&lying_at(samples, key(newcomer)));
        if newcomer != 6 {
            store.flush();
            same(
                &numbers(&store),
                &left.to_vec(),
                "a full store gives up what is farthest",
            );
        }
    }
    same(
        &store.usage().records,
        &4,
        "a full store holds as many as it may after giving up others",
    );
}

pub(super) fn ends_first<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let ends = |number, issued| samples.provider(number, key(100), issued, Some(b"here"));
    let mut store = Tested(open(Limits {
        max_records: 3,
        ..around_zero()
    }));
    for (number, issued) in [(2, 8), (3, 6), (4, 7)] {
        store.keep(&ends(number, issued));
    }
    store.keep(&lying_at(samples, key(1)));
    store.flush();
    rule(
        store.get(&ends(3, 6).slot()).is_none(),
        "of one key what ends first is given up",
    );
    rule(
        store.get(&ends(4, 7).slot()).is_some() && store.get(&ends(2, 8).slot()).is_some(),
        "no more is given up than has to be",
    );
}

pub(super) fn bytes<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let small = |number| lying_at(samples, key(number));
    let large = |number, size: usize| samples.provider(2, key(number), 0, Some(&vec![0; size]));
    let size = small(10).as_bytes().len();
    let payload = b"here".len();
    let mut store = Tested(open(Limits {
        max_bytes: 10 * size as u64,
        ..around_zero()
    }));
    for number in 10..20 {
        store.keep(&small(number));
    }
    store.flush();
    same(
        &store.put(&large(15, 5 * size)),
        &Verdict::Full,
        "what would need the room of nearer records is refused",
    );
    store.flush();
    same(
        &numbers(&store),
        &(10..20).collect(),
        "where nothing is stored nothing is given up",
    );
    same(
        &store.put(&large(1, 2 * size + payload)),
        &Verdict::Stored,
        "for a large record several are given up",
    );
    store.flush();
    let left: Vec<u64> = std::iter::once(1).chain(10..17).collect();
    same(&numbers(&store), &left, "as many as it needs, the farthest");
    let grown = samples.provider(2, key(1), 1, Some(&vec![0; 3 * size + payload]));
    same(
        &store.put(&grown),
        &Verdict::Stored,
        "a new version that is larger takes the place of what is farther",
    );
    store.flush();
    same(
        &numbers(&store),
        &left[..7].to_vec(),
        "one more is given up for it",
    );
}

pub(super) fn own_stay<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(Limits {
        max_records: 2,
        ..around_zero()
    }));
    let far = |number: u64| lying_at(samples, key(1000 + number));
    for number in 0..20 {
        store.put_with(of_our_own(&far(number)));
    }
    store.keep(&lying_at(samples, key(900)));
    store.flush();
    store.keep(&lying_at(samples, key(800)));
    same(
        &store.put(&lying_at(samples, key(950))),
        &Verdict::Full,
        "own records are not given up",
    );
    store.keep(&lying_at(samples, key(700)));
    store.flush();
    let left: Vec<u64> = [700, 800].into_iter().chain(1000..1020).collect();
    same(
        &numbers(&store),
        &left,
        "what is farthest of others is found behind own records",
    );
}

pub(super) fn shares<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(Limits {
        max_records: 6,
        ..around_zero()
    }));
    let mut put = |number, source| store.put_with(from(&lying_at(samples, key(number)), source));
    // An even share is 3 of 6.
    for (number, source) in [
        (100, ALICE),
        (101, ALICE),
        (70, ALICE),
        (71, ALICE),
        (90, BOB),
        (91, BOB),
    ] {
        put(number, source);
    }
    same(
        &put(50, ALICE),
        &Verdict::Stored,
        "a sender beyond its share takes the place of its own",
    );
    put(51, ALICE);
    same(
        &put(60, ALICE),
        &Verdict::Stored,
        "even where records of others are farther",
    );
    put(61, ALICE);
    same(
        &put(80, ALICE),
        &Verdict::Full,
        "but not the place of others, however far these are",
    );
    same(
        &put(55, BOB),
        &Verdict::Stored,
        "a sender within its share takes the farthest place",
    );
    store.flush();
    same(
        &numbers(&store),
        &vec![50, 51, 55, 60, 61, 90],
        "what is left are the nearest of each",
    );
}

pub(super) fn fair_places<S: RecordStore>(samples: &Samples, open: Open<'_, S>) {
    let mut store = Tested(open(Limits {
        max_providers_per_key: 4,
        ..unlimited()
    }));
    let place = key(3);
    let mut providers: Vec<u8> = (1..=8).collect();
    let says = |number| samples.provider(number, place, 0, Some(b"here"));
    providers.sort_by_key(|&number| says(number).slot().provider.distance(place));
    let [a, b, c, d, e, f, g, h] = providers[..] else {
        unreachable!("eight were made");
    };
    let mut put = |number, source| store.put_with(from(&says(number), source));
    // From the farthest to the nearest.
    for number in [h, g, f, e] {
        put(number, ALICE);
    }
    same(
        &put(d, ALICE),
        &Verdict::Stored,
        "at a full key a nearer provider takes a place of its own sender",
    );
    same(
        &put(h, ALICE),
        &Verdict::Full,
        "at a full key a farther provider of the same sender is refused",
    );
    for number in [a, b, c] {
        put(number, BOB);
    }
    store.flush();
    let mut right = [d, e, a, b].map(|number| says(number).slot().provider);
    right.sort_unstable();
    let left = store.scan(Scan::slots_of(place, Kind::Provider, None, 10));
    let left: Vec<_> = left.into_iter().map(|record| record.slot.provider).collect();
    same(
        &left,
        &right.to_vec(),
        "two senders have half of the places of a full key each, the nearest of each stay",
    );
    store.put_with(of_our_own(&says(h)));
    store.flush();
    rule(
        store.get(&says(h).slot()).is_some() && store.get(&says(e).slot()).is_some(),
        "an own provider takes no place of others",
    );
    store.put_with(from(&samples.provider(a, place, 1, None), BOB));
    store.flush();
    same(
        &store.put_with(from(&says(c), BOB)),
        &Verdict::Stored,
        "at a full key another provider takes the place of a withdrawal",
    );
    store.flush();
    rule(
        store.get(&says(a).slot()).is_none() && store.get(&says(b).slot()).is_some(),
        "a withdrawal leaves before any provider",
    );
    same(
        &store.put_with(from(&samples.provider(f, place, 1, None), Source::new(3))),
        &Verdict::Full,
        "a withdrawal of what is not held finds no place at a full key",
    );
}
