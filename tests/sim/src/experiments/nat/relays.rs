//! What relays bear, and how evenly.

use crate::World;
use crate::nat::Role;
use crate::report::{Report, Row, Samples, Target};

/// Places that a server gives at most: half of its connections.
const PLACES: f64 = (super::CONNECTIONS / 2) as f64;

pub(super) fn tell(report: &mut Report, world: &World) {
    let servers: Vec<_> = (0..world.len())
        .filter(|&node| world.role(node) == Role::Server)
        .collect();
    let clients = (0..world.len()).filter(|&node| {
        world.role(node) == Role::Client && world.front(node).kind != kad_net::nat::model::Kind::Block
    });
    let mut placed = Samples::default();
    for client in clients {
        placed.push(world.relays_of(client).len() as f64);
    }
    let row = |what: &str, unit, result| Row::new(format!("relays: {what}"), unit, result);
    let all = 100.0 * placed.share_from(3.0);
    report.push(row("clients with a place at three", "%", all).target(Target::AtLeast(99.0)));
    let of = |what: &dyn Fn(usize) -> f64| servers.iter().map(|&node| what(node)).collect::<Vec<_>>();
    let places = of(&|node| world.served(node).most_places as f64);
    let at_a_time = of(&|node| world.served(node).most_sessions as f64);
    let sessions = of(&|node| f64::from(world.served(node).sessions));
    let bytes = of(&|node| world.relayed(node).bytes as f64 / 1024.0);
    let largest = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
    for (what, unit, loads) in [
        ("places", "", &places),
        ("sessions", "", &sessions),
        ("bytes", "KiB", &bytes),
    ] {
        let mut samples = Samples::default();
        loads.iter().for_each(|&load| samples.push(load));
        report.push(row(&format!("{what} of a server, mean"), unit, samples.mean()));
        report.push(row(&format!("{what}, p99"), unit, samples.quantile(0.99)));
        let busiest = row(&format!("{what} of the busiest server"), unit, largest(loads));
        let uneven = row(&format!("{what}, Gini coefficient"), "", gini(loads));
        if what == "places" {
            report.push(busiest.target(Target::AtMost(PLACES)));
            report.push(uneven);
            let top = row(
                "places at the busiest hundredth of servers",
                "%",
                at_the_top(loads),
            );
            report.push(top.target(Target::AtMost(10.0)));
        } else {
            report.push(busiest);
            report.push(uneven);
        }
    }
    let most = row(
        "sessions at a time, of the busiest server",
        "",
        largest(&at_a_time),
    );
    report.push(most.target(Target::AtMost(16.0)));
    let dropped: u64 = servers.iter().map(|&node| world.relayed(node).dropped).sum();
    let forwarded: u64 = servers.iter().map(|&node| world.relayed(node).forwarded).sum();
    let share = 100.0 * dropped as f64 / (dropped + forwarded).max(1) as f64;
    report.push(row("datagrams that were dropped", "%", share));
}

/// What the busiest hundredth bears of a load, in percent; at least one bears it.
fn at_the_top(loads: &[f64]) -> f64 {
    let mut sorted = loads.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let top = sorted.iter().take(sorted.len().div_ceil(100));
    100.0 * top.sum::<f64>() / sorted.iter().sum::<f64>()
}

/// How uneven a load is: 0 where all bear the same, towards 1 where one bears all.
fn gini(loads: &[f64]) -> f64 {
    let mut sorted = loads.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (count, sum) = (sorted.len() as f64, sorted.iter().sum::<f64>());
    let weighted: f64 = sorted
        .iter()
        .enumerate()
        .map(|(place, load)| (place + 1) as f64 * load)
        .sum();
    (2.0 * weighted / sum - count - 1.0) / count
}

#[cfg(test)]
mod tests {
    use super::{at_the_top, gini};

    #[test]
    fn the_gini_coefficient_is_that_of_all_differences() {
        let mut dice = crate::Dice::new(8);
        for count in [1, 2, 7, 40] {
            let loads: Vec<f64> = (0..count).map(|_| dice.share()).collect();
            let sum: f64 = loads.iter().sum();
            let differences: f64 = loads
                .iter()
                .flat_map(|a| loads.iter().map(move |b| (a - b).abs()))
                .sum();
            let expected = differences / (2.0 * count as f64 * sum);
            assert!((gini(&loads) - expected).abs() < 1e-9);
        }
        assert!((gini(&[0.0, 0.0, 0.0, 8.0]) - 0.75).abs() < 1e-9);
        let loads: Vec<f64> = (1..=200).map(f64::from).collect();
        assert!((at_the_top(&loads) - 100.0 * 399.0 / 20_100.0).abs() < 1e-9);
    }
}
