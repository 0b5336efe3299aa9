//! `provide --stay`: announcements that are made again before they end, and taken back at the end.

use std::collections::BTreeSet;
use std::time::Duration;

use kad_core::Key;
use kad_node::Node;
use serde_json::json;
use tokio::time::Instant;

use super::client::with_node;
use super::lists::Ledger;
use super::provide::{Announced, ProvideArgs, announce, tell, withdraw_all};
use super::reply::{Answer, Failure};
use super::run::Stop;

/// What could not be announced is tried again after so long: a node that lost everybody is back by then.
const RETRY: Duration = Duration::from_secs(60);

pub(crate) async fn stay(args: ProvideArgs, json: bool) -> Result<Answer, Failure> {
    // From here on a signal is not lost, whatever is under way.
    let mut stop = Stop::new()?;
    let (announced, network) = args.read().await?;
    with_node(&network, None, json, async move |node| {
        tokio::select! {
            failed = keep_announced(node, &announced, json) => return Err(failed),
            () = stop.wait() => {}
        }
        let mut ledger = Ledger::hushed("withdrawing", announced.keys.len(), json);
        tokio::select! {
            withdrawn = withdraw_all(node, &announced, |one| tell(&mut ledger, one)) => withdrawn?,
            () = stop.wait() => return Err(Failure::interrupted()),
        }
        ledger.end(json!({ "withdrawn": true }), "keys", "withdrawn")
    })
    .await
}

/// Announces everything, again and again; ends only if the node does.
async fn keep_announced(node: &Node, announced: &Announced, json: bool) -> Failure {
    // Half of a life is left for what fails.
    let every = announced.options.ttl / 2;
    let mut again = Instant::now();
    let mut missing = BTreeSet::new();
    let mut first = true;
    loop {
        let now = Instant::now();
        let keys: Vec<Key> = match now >= again {
            true => {
                again = now + every;
                announced.keys.clone()
            }
            false => missing.iter().copied().collect(),
        };
        let mut ledger = match first {
            true => Ledger::new("announcing", keys.len(), json),
            false => Ledger::hushed("announcing", keys.len(), json),
        };
        missing.clear();
        let done = announce(node, announced, keys, |one| {
            if one.outcome.is_err() {
                missing.insert(one.key);
            }
            tell(&mut ledger, one);
        });
        if let Err(failed) = done.await {
            return failed;
        }
        drop(ledger);
        tracing::info!(keys = announced.keys.len(), missing = missing.len(), "announced");
        first = false;
        let next = match missing.is_empty() {
            true => again,
            false => again.min(Instant::now() + RETRY),
        };
        tokio::time::sleep_until(next).await;
    }
}
