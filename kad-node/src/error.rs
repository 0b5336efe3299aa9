//! What can go wrong with a node, one enum for each operation, in sentences for the person who runs it.

use std::path::PathBuf;

use kad_core::{QueryError, RecordError};
use kad_net::quic::BindError;
use kad_store::StoreError;

use crate::Refusal;

/// Why a node could not be started. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// No socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data directory cannot be used.
    #[error("the data directory {path} cannot be used: {source}", path = .path.display())]
    Data {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Another process runs with the same data directory.
    #[error("the data directory {path} is in use by another node; give this one its own with --data", path = .path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The key file cannot be used.
    #[error(transparent)]
    Key(#[from] crate::identity::KeyFileError),
    /// Parameters that no network can have.
    #[error("the parameters of the network make no sense: {0}")]
    Parameters(&'static str),
    /// A routing table that cannot be.
    #[error("the routing table cannot be like that: {0}")]
    Table(String),
    /// The operating system gave no random bytes or no thread.
    #[error("the operating system refused: {0}")]
    System(std::io::Error),
}

/// Why an operation of a [`Node`](crate::Node) failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The query came to nothing.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// What was to be stored is no valid record: too large, badly dated.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Too few holders acknowledged. Those that did keep the record until it expires.
    #[error("only {acknowledged} of the {wanted} nodes that were needed acknowledged")]
    QuorumNotMet {
        /// How many did.
        acknowledged: usize,
        /// How many were wanted.
        wanted: usize,
    },
    /// This node's own store did not take what was to be kept. Others may have it.
    #[error("this node's own store did not take it: its disk failed, or it has too much to do; try again")]
    NotKept,
    /// There is no room for what was to be kept: the node's own records have reached their limits
    /// (`Limits::max_own_records` and `max_own_bytes`). Others may have it.
    #[error(
        "this node's own store has no room for it; forget something that it keeps, or raise own_records and own_bytes"
    )]
    NoRoom,
    /// Somebody else wrote meanwhile: holders have another version than the expected one.
    #[error("the record was changed by somebody else: version {current} is there")]
    Conflict {
        /// The newest version that a holder reported.
        current: u64,
    },
    /// More holders refused the version because the record is written anew too fast than took it. It is there, at those
    /// who took it.
    #[error(
        "{refused} nodes refused it and {acknowledged} took it, because the record is written anew too fast; wait some \
         seconds and write it again"
    )]
    TooOften {
        /// How many took it.
        acknowledged: usize,
        /// How many did not.
        refused: usize,
    },
    /// This node does not want the record, or anything under that key: by its deny-list, or by what its application
    /// says. Nobody was asked.
    #[error("this node does not want it: {0}")]
    Denied(#[from] Refusal),
    /// The store could not be read or written.
    #[error("this node's own store failed: {0}")]
    Store(String),
    /// The node is shutting down or gone.
    #[error("the node has stopped")]
    Stopped,
    /// The peer could not be asked.
    #[error("{0}")]
    Peer(String),
}

/// Why a node has not joined. A running node goes on trying.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// There is nobody to ask.
    #[error(
        "no bootstrap node is known, and none was heard in this network: give one with --bootstrap HOST:PORT"
    )]
    NobodyKnown,
    /// Nobody of those known could be used; one sentence for each.
    #[error("{}", together(.0))]
    Unreachable(Vec<String>),
    /// The node is shutting down or gone.
    #[error("the node has stopped")]
    Stopped,
}

/// Places that are named of each reason; further ones are counted.
const MAX_NAMED: usize = 4;

/// Each reason once, after all places of which it is true: a person reads that nobody answered, and not the same four
/// times.
fn together(sentences: &[String]) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for sentence in sentences {
        let (place, reason) = sentence.split_once(": ").unwrap_or(("", sentence));
        let group = groups.iter().position(|(known, _)| *known == reason);
        let group = group.unwrap_or_else(|| {
            groups.push((reason, Vec::new()));
            groups.len() - 1
        });
        let places = &mut groups[group].1;
        if !place.is_empty() && !places.contains(&place) {
            places.push(place);
        }
    }
    let told = groups.into_iter().map(|(reason, places)| {
        let named = places[..places.len().min(MAX_NAMED)].join(", ");
        match places.len().checked_sub(MAX_NAMED) {
            _ if named.is_empty() => reason.to_owned(),
            None | Some(0) => format!("{named}: {reason}"),
            Some(more) => format!("{named} and {more} more: {reason}"),
        }
    });
    told.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_true_of_many_places_is_told_once() {
        let told = |sentences: &[&str]| {
            JoinError::Unreachable(sentences.iter().map(ToString::to_string).collect()).to_string()
        };
        assert_eq!(
            told(&[
                "192.0.2.7:4000: nobody answered",
                "[2001:db8::7]:4000: nobody answered",
                "192.0.2.8:4000: another network",
            ]),
            "192.0.2.7:4000, [2001:db8::7]:4000: nobody answered; 192.0.2.8:4000: another network"
        );
        assert_eq!(
            told(&["a: no", "b: no", "c: no", "d: no", "e: no"]),
            "a, b, c, d and 1 more: no"
        );
        assert_eq!(told(&["a: no", "a: no"]), "a: no", "a place that was given twice");
        assert_eq!(
            told(&["nothing came of it", "nothing came of it"]),
            "nothing came of it"
        );
        assert_eq!(told(&["nothing came of it"]), "nothing came of it");
    }
}
