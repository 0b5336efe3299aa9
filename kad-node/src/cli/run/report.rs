//! What a daemon has counted, told again and again.

use std::time::Duration;

use kad_node::{Node, NodeStats};
use serde_json::{Value, json};

use super::role_name;
use crate::cli::reply;

/// Tells so often until the node has stopped.
pub(super) async fn report(node: Node, every: Duration, json: bool) {
    let mut ticks = tokio::time::interval(every);
    // Each tells what is new since the start, so one that is late need not be made up for.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(stats) = node.stats().await else { return };
        let role = role_name(*node.role().borrow());
        reply::line(&match json {
            true => json!({ "report": in_json(&stats, role) }).to_string(),
            false => in_words(&stats, role),
        });
    }
}

fn in_json(stats: &NodeStats, role: &str) -> Value {
    let NodeStats {
        core,
        transport,
        storage,
        ..
    } = stats;
    json!({
        "role": role,
        "contacts": core.contacts,
        "network_size": core.population.map(|population| population.nodes),
        "connections": transport.connections,
        "queries": core.queries,
        "requests_sent": core.requests_sent,
        "requests_received": core.requests_received,
        "failures": core.failures,
        "bytes_sent": transport.bytes_sent,
        "bytes_received": transport.bytes_received,
        "records": storage.records,
        "record_bytes": storage.bytes,
        "cached": core.cached,
        "repairs": core.repairs,
        "repair_bytes": stats.repair_bytes,
        "records_drawn": core.records_drawn,
        "records_handed": core.records_handed,
        "sweeps": core.sweeps,
        "records_swept": core.records_swept,
        "late_by_s": core.late_by.as_secs(),
    })
}

fn in_words(stats: &NodeStats, role: &str) -> String {
    let (core, storage) = (&stats.core, &stats.storage);
    let size = core
        .population
        .map_or_else(|| "?".to_owned(), |population| population.nodes.to_string());
    format!(
        "{role}, contacts {} of some {size}, records {} ({} bytes), requests {} sent {} received, repair {} drawn {} handed ({} bytes)",
        core.contacts,
        storage.records,
        storage.bytes,
        core.requests_sent,
        core.requests_received,
        core.records_drawn,
        core.records_handed,
        stats.repair_bytes,
    )
}
