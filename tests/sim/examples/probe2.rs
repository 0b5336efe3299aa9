#![allow(clippy::print_stdout, missing_docs)]
use kad_core::*;
use kad_sim::*;
use std::sync::Arc;
fn main() {
    let n: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let config = Arc::new(Config::default());
    let mut world = World::new(
        1,
        Links {
            loss: 0.01,
            ..Links::default()
        },
    );
    world.grow_watched(n, Site::Private, &config, Growth::default(), |_| {});
    world.run_for(Duration::from_secs(900));
    for _ in 0..n * 15 / 100 {
        let v = world.anyone();
        world.kill(v);
    }
    let mut worst = Vec::new();
    for _ in 0..200 {
        let (node, target) = (world.anyone(), world.dice().key());
        let t0 = world.now().monotonic;
        world.log = Some((node as u32, Vec::new()));
        let (outcome, effort) = world.ask(node, Command::FindNode { target });
        let log = world.log.take().unwrap().1;
        let me = world.contact(node).id;
        let mut closest = world.serving().closest(target, 21);
        closest.retain(|contact| contact.id != me);
        closest.truncate(20);
        let missing = if let Outcome::Closest(c) = outcome {
            closest.iter().filter(|x| !c.contains(x)).count()
        } else {
            99
        };
        worst.push((
            effort.took,
            effort.requests,
            effort.failures,
            missing,
            t0,
            log,
            target,
        ));
    }
    worst.sort_by_key(|w| w.0);
    println!(
        "requests {} p50 {:?} p90 {:?} missing avg {}",
        worst.iter().map(|w| f64::from(w.1)).sum::<f64>() / 200.0,
        worst[100].0,
        worst[180].0,
        worst.iter().map(|w| w.3).sum::<usize>() as f64 / 200.0
    );
    for w in [&worst[198], &worst[150], &worst[100]] {
        println!("== {:?} requests {} failures {} missing {}", w.0, w.1, w.2, w.3);
        for (at, what) in &w.5 {
            println!("{:>8.1} {}", at.since(w.4).as_secs_f64() * 1000.0, what);
        }
    }
}
