//! Somebody who writes or reads one record through a node, one thing at a time, and tells the history.

use std::sync::Arc;

use kad_core::record::mutable_key;
use kad_core::{Key, Keypair};
use kad_net::WireAddress;
use kad_node::{MutableOptions, Node, NodeError, PutOptions, Stored};

use crate::check::{Did, History, Told, Version};

const SALT: &[u8] = b"history";

/// Acknowledgements of a write, of eight holders: whoever writes alone must be read by six.
const QUORUM: usize = 6;

/// The key of the record that a history is about.
pub(crate) fn key_of(owner: &Keypair) -> Key {
    mutable_key(&owner.public(), SALT)
}

pub(crate) struct Client<A> {
    number: usize,
    node: Node<A>,
    owner: Keypair,
    history: Arc<History>,
}

impl<A: WireAddress> Client<A> {
    /// The history tells clients apart by their numbers.
    pub(crate) fn new(number: usize, node: &Node<A>, owner: &Keypair, history: &Arc<History>) -> Self {
        Self {
            number,
            node: node.clone(),
            owner: owner.clone(),
            history: history.clone(),
        }
    }

    /// Reads, and gives back what was found. A read that fails is no part of the history.
    pub(crate) async fn read(&self) -> Result<Option<Version>, NodeError> {
        let began = self.history.now();
        let found = self.node.get_mutable(&self.owner.public(), SALT).await?;
        let found = found.map(|found| Version::new(found.seq, found.value.to_vec()));
        let did = Did::Read { found: found.clone() };
        self.history.ended(self.number, began, did);
        Ok(found)
    }

    /// Writes a version, if there is none of this number or a later one.
    pub(crate) async fn write(&self, seq: u64, value: &str) -> Told {
        self.put(seq, value, None).await
    }

    /// Writes a version if the one before it is there.
    pub(crate) async fn swap(&self, seq: u64, value: &str) -> Told {
        self.put(seq, value, Some(seq - 1)).await
    }

    /// Deletes the record, if there is no later version.
    pub(crate) async fn delete(&self, seq: u64) -> Told {
        let began = self.history.now();
        let options = options(seq, None);
        let outcome = self.node.delete_mutable(&self.owner, SALT, options).await;
        self.ended(began, Version::deletion(seq), None, &outcome)
    }

    async fn put(&self, seq: u64, value: &str, expected: Option<u64>) -> Told {
        let began = self.history.now();
        let options = options(seq, expected);
        let outcome = self.node.put_mutable(&self.owner, SALT, value, options).await;
        self.ended(began, Version::new(seq, value), expected, &outcome)
    }

    fn ended(
        &self,
        began: u64,
        version: Version,
        expected: Option<u64>,
        outcome: &Result<Stored<A>, NodeError>,
    ) -> Told {
        let told = match outcome {
            Ok(_) => Told::Acknowledged,
            Err(NodeError::Conflict { .. }) => Told::Conflict,
            Err(_) => Told::Unknown,
        };
        let did = Did::Write {
            version,
            expected,
            told,
        };
        self.history.ended(self.number, began, did);
        told
    }
}

fn options(seq: u64, expected: Option<u64>) -> MutableOptions {
    let mut options = MutableOptions::default();
    options.put = PutOptions::default().quorum(QUORUM);
    (options.seq, options.expected) = (Some(seq), expected);
    options
}
