//! What announcements say, one or many of them.

use std::time::Duration;

use bytes::Bytes;
use kad_core::record::MAX_PROVIDER_PAYLOAD;
use kad_core::{Announcement, Key, Keypair, Record, RecordError, Rules};
use kad_net::WireAddress;
use kad_net::wire::announcement::{announce, without_address};

use super::super::Node;
use crate::driver::unix_now;

/// Signs announcements that differ only in what they are for, or takes them back.
pub(in super::super) struct Announcer {
    provider: Keypair,
    rules: Rules,
    lifetime: Duration,
    /// What is signed; `None` takes back.
    payload: Option<Bytes>,
}

impl Announcer {
    /// One that adds this payload, and where the node can be reached if it speaks for itself and others may come: its
    /// contacts are asked for that here, once for all announcements.
    pub(in super::super) async fn new<A: WireAddress>(
        node: &Node<A>,
        provider: &Keypair,
        payload: &[u8],
        lifetime: Duration,
    ) -> Self {
        let is_self = provider.public() == node.inner.keypair.public() && !node.is_read_only();
        let address = if is_self { node.reachable_at().await } else { None };
        let with_address = address.and_then(|address| announce(&address, payload).ok());
        let announced = match with_address {
            Some(announced) if announced.len() <= MAX_PROVIDER_PAYLOAD => announced,
            _ => without_address(payload),
        };
        Self {
            provider: provider.clone(),
            rules: node.inner.rules,
            lifetime,
            payload: Some(announced.into()),
        }
    }

    /// One that takes back, for as long as anything of it may be left.
    pub(in super::super) fn withdrawing<A: WireAddress>(node: &Node<A>, provider: &Keypair) -> Self {
        Self {
            provider: provider.clone(),
            rules: node.inner.rules,
            lifetime: node.inner.rules.max_lifetime,
            payload: None,
        }
    }

    /// Of what a key names.
    pub(in super::super) fn record(&self, key: Key) -> Result<Record, RecordError> {
        let issued = unix_now();
        let announcement = Announcement {
            key,
            issued,
            expiry: issued + self.lifetime,
            payload: self.payload.as_deref(),
        };
        Record::provider(&self.provider, &announcement, &self.rules, issued)
    }
}
