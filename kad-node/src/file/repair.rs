//! Storing again what too few nodes hold, and keeping what is to be kept, while a file is fetched.
//!
//! What this module refuses to do: fail. A file that was fetched is there whatever becomes of its repair, which is
//! counted.

use bytes::Bytes;
use futures::future::join_all;
use kad_core::record::{Content, immutable_key};
use kad_core::{Key, UnixTime};

use super::Repaired;
use super::chunks::{Chunks, put_patiently};
use super::stripe::{Books, Care, Fetcher};
use super::tree::Stripe;
use crate::NodeError;

/// What was done with a record.
enum Mended {
    /// Nothing: there was no need.
    Left,
    /// It was stored again.
    Stored,
    /// It was kept, and not stored again.
    Kept,
}

impl<C: Chunks> Fetcher<'_, C> {
    /// Whether this node keeps all of a stripe already.
    pub(super) async fn is_kept(&self, stripe: &Stripe) -> bool {
        let data = stripe.data.iter().map(|place| place.key);
        for key in data.chain(stripe.parity.iter().copied()) {
            if !self.chunks.is_kept(key).await {
                return false;
            }
        }
        true
    }

    /// Looks after the chunks of a stripe and its parity.
    pub(super) async fn mend_stripe(&self, books: &mut Books, stripe: &Stripe, data: &[Bytes]) {
        let (repaired, expires) = (&mut books.repair, books.expires);
        let mut all = data.to_vec();
        if let Some(code) = self.shape.format().code {
            let data = all.clone();
            let parity = tokio::task::spawn_blocking(move || code.encode(&data)).await;
            // Whoever made the file may have named something else as its parity, which nobody can make again.
            let named = |(key, bytes): &(&Key, Bytes)| immutable_key(Content::Plain, bytes) == **key;
            let parity = stripe.parity.iter().zip(parity.unwrap_or_default());
            all.extend(parity.filter(named).map(|(_, bytes)| bytes));
            repaired.failed += (stripe.data.len() + stripe.parity.len() - all.len()) as u64;
        }
        let mending = all.iter().map(|bytes| async {
            let mut repaired = Repaired::default();
            self.mend(&mut repaired, Content::Plain, bytes, expires).await;
            repaired
        });
        for mended in join_all(mending).await {
            repaired.checked += mended.checked;
            repaired.stored += mended.stored;
            repaired.kept += mended.kept;
            repaired.failed += mended.failed;
            repaired.no_room += mended.no_room;
        }
    }

    /// Looks after a value, if that was asked for; it was told that copies end at this time.
    pub(super) async fn mend(
        &self,
        repaired: &mut Repaired,
        content: Content,
        value: &Bytes,
        expires: UnixTime,
    ) {
        let Some(care) = self.care else {
            return;
        };
        let _permit = self.gate.acquire().await;
        repaired.checked += 1;
        match self.mend_one(care, content, value, expires).await {
            Ok(Mended::Left) => {}
            Ok(Mended::Kept) => repaired.kept += 1,
            Ok(Mended::Stored) => {
                repaired.stored += 1;
                repaired.kept += u64::from(matches!(care, Care::Keep(_)));
            }
            Err(error) => {
                tracing::debug!(%error, "a chunk could not be looked after");
                repaired.failed += 1;
                repaired.no_room += u64::from(matches!(error, NodeError::NoRoom));
            }
        }
    }

    async fn mend_one(
        &self,
        care: Care,
        content: Content,
        value: &Bytes,
        expires: UnixTime,
    ) -> Result<Mended, NodeError> {
        let (repair, put) = match care {
            Care::Repair(repair) => (repair, repair.put),
            Care::Keep(repair) => (repair, repair.put.keep(true)),
        };
        if matches!(care, Care::Keep(_)) && self.chunks.is_kept(immutable_key(content, value)).await {
            return Ok(Mended::Left);
        }
        if self.chunks.is_rare(content, value, repair.copies).await? {
            put_patiently(self.chunks, content, value, put, self.plan.first_pause).await?;
            return Ok(Mended::Stored);
        }
        if let Care::Repair(_) = care {
            return Ok(Mended::Left);
        }
        self.chunks.keep(content, value, put.ttl, expires).await?;
        Ok(Mended::Kept)
    }
}
