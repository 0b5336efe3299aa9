//! How many events of a simulated network one core works off in a second, with everything that an event costs: the
//! queue, the links, the state machine that it reaches, the hash of the run.
#![allow(missing_docs)] // The macros of criterion make public items.

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kad_core::{Config, Duration};
use kad_sim::{Growth, Links, Sessions, Site, World};

const NODES: usize = 300;

fn joined() -> World {
    let mut world = World::new(1, Links::default());
    let config = Arc::new(Config::default());
    world.grow(NODES, Site::Private, &config, Growth::default());
    world
}

fn churned(mut world: World) -> World {
    world.churn(Sessions::ipfs());
    world.run_for(Duration::from_secs(3_600));
    world
}

fn joining(c: &mut Criterion) {
    let mut group = c.benchmark_group("world");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(joined().events()));
    group.bench_function("300 nodes join", |b| b.iter(joined));
    let before = joined().events();
    group.throughput(Throughput::Elements(churned(joined()).events() - before));
    group.bench_function("an hour of churn of 300 nodes", |b| {
        b.iter_batched(joined, churned, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, joining);
criterion_main!(benches);
