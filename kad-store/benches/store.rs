//! What a put, a flush, a get and a page cost, in both backends.
//!
//! The file of redb lies where temporary files do: set `TMPDIR` to measure another disk.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kad_core::{Duration, NetworkId, Parameters, Record, Rules, Source, UnixTime};
use kad_store::{Limits, MemoryStore, Put, RecordReader as _, RecordStore, Scan};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const HELD: u64 = 10_000;
const VALUE: usize = 1024;

fn record(number: u64) -> Record {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("bench", &parameters), &parameters);
    let mut value = [0; VALUE];
    value[..8].copy_from_slice(&number.to_be_bytes());
    Record::immutable(&value, NOW + Duration::from_secs(3600), &rules, NOW).unwrap()
}

/// Holds `HELD` records of which one in a hundred is due.
fn filled<S: RecordStore>(mut store: S) -> S {
    for number in 0..HELD {
        let due = NOW + Duration::from_secs(if number % 100 == 0 { 0 } else { 100 });
        store
            .put(Put {
                record: &record(number),
                expected: None,
                due,
                own: false,
                source: Source::UNKNOWN,
                sender: None,
            })
            .unwrap();
        if number % 1000 == 999 {
            store.flush().unwrap();
        }
    }
    store
}

fn measure<S: RecordStore>(criterion: &mut Criterion, name: &str, mut store: S) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    let mut number = HELD;
    for batch in [1u64, 100, 1000] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::new("put and flush 1 KiB", batch), |bencher| {
            let make = || -> Vec<Record> {
                number += batch;
                (number..number + batch).map(record).collect()
            };
            let put = |records: Vec<Record>| {
                for record in &records {
                    store
                        .put(Put {
                            record,
                            expected: None,
                            due: NOW + Duration::from_secs(100),
                            own: false,
                            source: Source::UNKNOWN,
                            sender: None,
                        })
                        .unwrap();
                }
                store.flush().unwrap();
                records
            };
            bencher.iter_batched(make, put, BatchSize::PerIteration);
        });
    }
    group.throughput(Throughput::Elements(1));
    let reader = store.reader();
    let slots: Vec<_> = (0..1000).map(|number| record(number * 9).slot()).collect();
    let mut turn = 0;
    group.bench_function("get 1 KiB", |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % slots.len();
            black_box(reader.get(&slots[turn]).unwrap())
        });
    });
    group.bench_function("scan, 100 due of over 10,000", |bencher| {
        let scan = Scan::all(1000).due_by(NOW + Duration::from_secs(50));
        bencher.iter(|| {
            let page = reader.scan(black_box(&scan)).unwrap();
            assert_eq!(page.records.len(), 100);
            page
        });
    });
    group.bench_function("scan, nothing due", |bencher| {
        let scan = Scan::all(1000).due_by(NOW - Duration::from_secs(1));
        bencher.iter(|| reader.scan(black_box(&scan)).unwrap());
    });
    group.finish();
}

fn stores(criterion: &mut Criterion) {
    let limits = Limits {
        max_bytes: 16 << 30,
        max_records: 16_000_000,
        ..Limits::default()
    };
    measure(criterion, "memory", filled(MemoryStore::new(limits)));
    #[cfg(feature = "redb")]
    {
        let folder = tempfile::tempdir().unwrap();
        let config = kad_store::RedbConfig {
            limits,
            ..Default::default()
        };
        let store = kad_store::RedbStore::open(folder.path().join("records.redb"), &config).unwrap();
        measure(criterion, "redb", filled(store));
    }
}

criterion_group!(benches, stores);
criterion_main!(benches);
