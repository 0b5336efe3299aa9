//! The end of a node, and the contacts that outlive it.

use std::sync::Arc;
use std::time::Duration;

use kad_core::{Contact, Kademlia, NetworkId};
use kad_net::{Transport, WireAddress};

use super::DataDirectory;
use crate::node::{Asker, Running, ShutdownReport};
use crate::snapshot;
use crate::storage::Storage;
use crate::surroundings::Surroundings;

/// How often the contacts are saved.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(300);

/// What is needed to end a node.
pub(super) struct Ending<'a, T: Transport> {
    pub(super) driver: tokio::task::JoinHandle<Kademlia<T::Address>>,
    pub(super) transport: Arc<T>,
    pub(super) storage: Arc<Storage>,
    pub(super) network: NetworkId,
    pub(super) files: Option<DataDirectory>,
    pub(super) surroundings: Option<Surroundings>,
    pub(super) asker: &'a Asker<T::Address>,
}

/// The order of the end: the driver first, so that nothing new begins; then flush, snapshot, close, report. It also
/// runs when the last handle was dropped, and keeps a snapshot of the contacts while the node lives.
pub(super) fn ending<T: Transport>(ending: Ending<'_, T>) -> Running {
    let Ending {
        driver,
        transport,
        storage,
        network,
        files,
        surroundings,
        asker,
    } = ending;
    let (reported, report) = tokio::sync::oneshot::channel();
    let saving = asker.downgrade();
    tokio::spawn(async move {
        let mut driver = driver;
        let mut snapshots = tokio::time::interval(SNAPSHOT_EVERY);
        snapshots.tick().await; // The first one is due at once, and there is nothing to save yet.
        let machine = loop {
            tokio::select! {
                ended = &mut driver => break ended,
                _ = snapshots.tick(), if files.is_some() => {
                    if let (Some(files), Some(contacts)) = (&files, saving.contacts().await) {
                        save(files, &network, &contacts);
                    }
                }
            }
        };
        let contacts: Vec<_> = match &machine {
            Ok(machine) => machine
                .table()
                .contacts()
                .map(|entry| entry.contact.clone())
                .collect(),
            Err(error) => {
                tracing::error!(%error, "the driver has panicked");
                Vec::new()
            }
        };
        drop(machine);
        let closing = storage.clone();
        // The thread may be in a flush; it is waited for where waiting is allowed.
        let flush = tokio::task::spawn_blocking(move || closing.close());
        let farewell = async {
            if let Some(surroundings) = surroundings {
                surroundings.close().await;
            }
        };
        let _ = tokio::join!(flush, farewell);
        if let Some(files) = &files
            && !contacts.is_empty()
        {
            save(files, &network, &contacts);
        }
        transport.close().await;
        drop(files);
        let report = ShutdownReport {
            contacts: contacts.len(),
            records: storage.stats().records,
        };
        // Nobody has to wait for it.
        let _ = reported.send(report);
    });
    Box::new(move || {
        Box::pin(async move {
            report.await.unwrap_or(ShutdownReport {
                contacts: 0,
                records: 0,
            })
        })
    })
}

fn save<A: WireAddress>(files: &DataDirectory, network: &NetworkId, contacts: &[Contact<A>]) {
    let path = files.path("contacts.json");
    if let Err(error) = snapshot::write(&path, network, contacts) {
        tracing::warn!(path = %path.display(), %error, "the contacts could not be saved");
    }
}
