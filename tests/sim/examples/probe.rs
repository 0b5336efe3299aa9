#![allow(clippy::print_stdout, missing_docs)]
use kad_core::*;
use kad_sim::*;
use std::sync::Arc;
use std::time::Instant as Wall;
fn main() {
    let n: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let k: u16 = std::env::args().nth(2).unwrap().parse().unwrap();
    let parameters = Parameters {
        k,
        ..Parameters::default()
    };
    let config = Arc::new(Config::for_network(&parameters));
    let t = Wall::now();
    let mut world = World::new(1, Links::quick());
    world.grow_watched(n, Site::Private, &config, Growth::default(), |_| {});
    println!(
        "grown {:?} events {} rpcs {}",
        t.elapsed(),
        world.events(),
        world.traffic().requests
    );
    world.run_for(Duration::from_secs(600));
    let rss = std::fs::read_to_string("/proc/self/status").unwrap();
    let rss = rss.lines().find(|l| l.starts_with("VmHWM")).unwrap().to_owned();
    println!(
        "settled {:?} events {} rpcs {} pings {} {rss} at {:?}",
        t.elapsed(),
        world.events(),
        world.traffic().requests,
        world.traffic().pings,
        world.now().monotonic
    );
    let mut exact = 0;
    let mut rpcs = 0;
    let total = 1000;
    for _ in 0..total {
        let asker = world.anyone();
        let target = world.dice().key();
        let me = world.contact(asker).id;
        let mut truth: Vec<_> = world.serving().closest(target, k as usize + 1);
        truth.retain(|c| c.id != me);
        truth.truncate(k as usize);
        let (outcome, effort) = world.ask(asker, Command::FindNode { target });
        rpcs += effort.requests;
        if let Outcome::Closest(found) = outcome
            && found == truth
        {
            exact += 1;
        }
    }
    println!(
        "exact {exact} of {total}, rpcs {} {:?} {:x}",
        rpcs as f64 / total as f64,
        t.elapsed(),
        world.trace().hash()
    );
    let mut whole = 0;
    let mut eighteen = 0;
    let mut fill = (0, 0);
    for node in 0..n.min(5000) {
        let me = world.contact(node).id;
        let truth = world.serving().closest(me.to_key(), k as usize + 1);
        let table = world.machine(node).unwrap().table();
        let known = truth
            .iter()
            .filter(|c| c.id != me && table.get(c.id).is_some())
            .count();
        whole += usize::from(known >= k as usize);
        eighteen += usize::from(known + 2 >= k as usize);
        for b in 0..(n as f64).log2() as u32 - 5 {
            fill.0 += table.bucket_len(b);
            fill.1 += table.bucket_capacity(b);
        }
    }
    println!(
        "whole {} eighteen {} fill {}",
        whole as f64 / n.min(5000) as f64,
        eighteen as f64 / n.min(5000) as f64,
        fill.0 as f64 / fill.1 as f64
    );
}
