#![allow(clippy::print_stdout, missing_docs)]
use kad_sim::experiments::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let e = find(&a[1]).unwrap();
    let nodes = a.get(2).map_or(e.nodes, |n| n.parse().unwrap());
    let seed = a.get(3).map_or(1, |n| n.parse().unwrap());
    let t = std::time::Instant::now();
    let r = (e.run)(&Setup {
        nodes,
        seed,
        progress: &Unwatched,
    });
    for row in &r.rows {
        println!(
            "{:60} {:>10} {:>12} {:>12.4} {}",
            row.metric,
            row.reference.map_or(String::new(), |x| x.to_string()),
            row.target.map_or(String::new(), |x| x.to_string()),
            row.result,
            row.met().map_or("", |m| if m { "yes" } else { "NO" })
        );
    }
    for n in &r.notes {
        println!("- {n}");
    }
    println!("{:?} events {} trace {:x}", t.elapsed(), r.events, r.trace);
}
