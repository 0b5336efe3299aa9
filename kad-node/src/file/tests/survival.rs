//! How likely files survive the loss of records: the figures of `docs/architecture.md`.
#![allow(clippy::print_stderr, reason = "figures are told with --nocapture")]

use super::super::Code;
use super::super::tree::{Format, Room, Shape};
use super::*;

/// Stored for a file: data chunks, parity chunks, index nodes.
struct Stored {
    chunks: u64,
    parity: u64,
    indexes: u64,
}

impl Stored {
    fn of(chunks: u64, shape: Shape) -> Self {
        let stripes = chunks.div_ceil(shape.data());
        let mut indexes = 0;
        let mut level = stripes.div_ceil(shape.stripes());
        loop {
            indexes += level;
            if level == 1 {
                break;
            }
            level = level.div_ceil(shape.most_children(2));
        }
        Self {
            chunks,
            parity: stripes * shape.parity(),
            indexes,
        }
    }
}

/// The chance that at most `most` of `count` are lost, each with chance `q`.
fn at_most(most: u64, count: u64, q: f64) -> f64 {
    let mut chance = (1.0 - q).powi(count as i32);
    let mut sum = chance;
    for lost in 0..most.min(count) {
        chance *= (count - lost) as f64 / (lost + 1) as f64 * q / (1.0 - q);
        sum += chance;
    }
    sum.min(1.0)
}

/// The chance that a file is whole if each record is lost with chance `q`, all its copies at once.
fn survives(stored: &Stored, shape: Shape, q: f64) -> f64 {
    let full = stored.chunks / shape.data();
    let rest = stored.chunks % shape.data();
    let stripe = |data: u64| at_most(shape.parity(), data + shape.parity(), q);
    let last = if rest > 0 { stripe(rest) } else { 1.0 };
    (1.0 - q).powi(stored.indexes as i32) * stripe(shape.data()).powi(full as i32) * last
}

fn shape(code: Option<&str>) -> Shape {
    let code = code.map(|code| code.parse().unwrap());
    Room::of_network(64 * 1024)
        .shape(Format { code, seal: None })
        .unwrap()
}

#[test]
fn parity_buys_survival_for_storage_as_the_documentation_says() {
    /// A file of 100 MB.
    const CHUNKS: u64 = 1628;
    let losses = [0.0001, 0.001, 0.01, 0.05];
    let mut table = Vec::new();
    for code in [None, Some("20+4"), Some("10+6"), Some("10+20")] {
        let shape = shape(code);
        let stored = Stored::of(CHUNKS, shape);
        let records = stored.chunks + stored.parity + stored.indexes;
        let bytes = (stored.chunks + stored.parity) as f64 / CHUNKS as f64;
        let chances = losses.map(|q| format!("{:.2} %", 100.0 * survives(&stored, shape, q)));
        let row = [
            vec![
                code.unwrap_or("none").to_owned(),
                records.to_string(),
                stored.indexes.to_string(),
                format!("{bytes:.2}"),
            ],
            chances.to_vec(),
        ]
        .concat();
        table.push(format!("| {} |", row.join(" | ")));
    }
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/architecture.md"));
    let document = document.unwrap();
    for row in &table {
        eprintln!("{row}");
    }
    for row in &table {
        assert!(document.contains(row), "docs/architecture.md lacks {row}");
    }
}

#[tokio::test]
async fn a_file_is_whole_exactly_where_its_indexes_and_enough_of_each_stripe_are() {
    let plan = Plan {
        room: super::super::tree::shape::tests::room(CHUNK, 33),
        ..plan(8)
    };
    let options = FileOptions::default().code(Code::new(10, 6).unwrap());
    let (mut whole, mut runs) = (0, 0);
    for seed in 0_u64..60 {
        let map = Map::default();
        let mut bytes = vec![0; 45 * CHUNK as usize];
        blake3::Hasher::new()
            .update(b"survival")
            .finalize_xof()
            .fill(&mut bytes);
        let stored = put::store(&map, plan, options, None, &bytes[..], |_| ())
            .await
            .unwrap();
        let in_order = map.books.lock().unwrap().put_in_order.clone();
        // Each record but the root is lost with a chance of a quarter.
        let chance = |key: &Key| {
            let hash = blake3::hash(&[&seed.to_be_bytes()[..], &key.to_bytes()].concat());
            *key != stored.key && hash.as_bytes()[0] < 64
        };
        let lost: Vec<Key> = in_order.into_iter().filter(chance).collect();
        let content = |key: &Key| map.values.lock().unwrap()[key].0;
        let lost_indexes = lost
            .iter()
            .filter(|key| content(key) == Content::FileIndex)
            .count();
        let lost_of = |stripe: &[u8]| {
            let chunks: Vec<_> = stripe
                .chunks(CHUNK as usize)
                .map(|chunk| Vec::from(chunk).into())
                .collect();
            let parity = Code::new(10, 6).unwrap().encode(&chunks);
            let keys = chunks
                .iter()
                .chain(&parity)
                .map(|chunk| immutable_key(Content::Plain, chunk));
            keys.filter(|key| lost.contains(key)).count()
        };
        let enough = bytes
            .chunks(10 * CHUNK as usize)
            .all(|stripe| lost_of(stripe) <= 6);
        for key in &lost {
            map.values.lock().unwrap().remove(key);
        }
        let mut sink = Vec::new();
        let file = stored.reference();
        let fetched = get::fetch(&map, plan, FetchOptions::default(), &file, &mut sink, |_| ()).await;
        assert_eq!(
            fetched.is_ok(),
            lost_indexes == 0 && enough,
            "seed {seed}: {fetched:?}"
        );
        assert!(fetched.is_err() || sink == bytes);
        whole += usize::from(fetched.is_ok());
        runs += 1;
    }
    assert!(whole > 5 && whole < runs - 5, "both happen: {whole} of {runs}");
}
