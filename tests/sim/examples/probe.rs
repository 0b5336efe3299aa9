#![allow(clippy::print_stdout, missing_docs)]
use kad_core::*;
use kad_sim::load::drive;
use kad_sim::*;
use std::sync::Arc;
fn main() {
    let n: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let loss: f64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let config = Arc::new(Config::default());
    let mut world = World::new(
        1,
        Links {
            loss,
            ..Links::default()
        },
    );
    world.grow_watched(n, Site::Private, &config, Growth::default(), |_| {});
    world.run_for(Duration::from_secs(900));
    let sum = |w: &World| {
        (0..n)
            .filter_map(|i| w.machine(i).map(|m| m.stats()))
            .fold((0u64, 0u64, 0u64, 0u64, 0u64), |a, s| {
                (
                    a.0 + s.failures,
                    a.1 + s.timeouts,
                    a.2 + s.hedges,
                    a.3 + s.contacts_removed,
                    a.4 + s.requests_sent,
                )
            })
    };
    println!("failures timeouts hedges removed sent {:?}", sum(&world));
    let (mut exact, mut fails, mut missing) = (0, 0, 0);
    drive(
        &mut world,
        500,
        50.0,
        |world| {
            let (node, target) = (world.anyone(), world.dice().key());
            let me = world.contact(node).id;
            let mut closest = world.serving().closest(target, 21);
            closest.retain(|contact| contact.id != me);
            closest.truncate(20);
            (node, Command::FindNode { target }, closest)
        },
        |_, done| {
            let Some(Outcome::Closest(c)) = done.outcome else {
                return;
            };
            exact += usize::from(c == done.note);
            missing += done.note.iter().filter(|x| !c.contains(x)).count();
            fails += done.effort.failures;
        },
    );
    println!("exact {exact} fails {fails} missing {missing}");
    println!("failures timeouts hedges removed sent {:?}", sum(&world));
}
