//! Storing again what too few nodes hold, while a file is fetched.
//!
//! What this module refuses to do: fail. A file that was fetched is there whatever becomes of its repair, which is counted.

use bytes::Bytes;
use futures::future::join_all;
use kad_core::Key;
use kad_core::record::{Content, immutable_key};

use super::Repaired;
use super::chunks::{Chunks, put_patiently};
use super::options::Repair;
use super::stripe::Fetcher;
use super::tree::Stripe;
use crate::NodeError;

impl<C: Chunks> Fetcher<'_, C> {
    /// Stores the chunks of a stripe again of which there are too few copies, and its parity.
    pub(super) async fn mend_stripe(&self, repaired: &mut Repaired, stripe: &Stripe, data: &[Bytes]) {
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
            self.mend(&mut repaired, Content::Plain, bytes).await;
            repaired
        });
        for mended in join_all(mending).await {
            repaired.checked += mended.checked;
            repaired.stored += mended.stored;
            repaired.failed += mended.failed;
        }
    }

    /// Stores a value again if a repair was asked for and there are too few copies.
    pub(super) async fn mend(&self, repaired: &mut Repaired, content: Content, value: &Bytes) {
        let Some(repair) = self.repair else {
            return;
        };
        let _permit = self.gate.acquire().await;
        repaired.checked += 1;
        match self.mend_one(repair, content, value).await {
            Ok(false) => {}
            Ok(true) => repaired.stored += 1,
            Err(error) => {
                tracing::debug!(%error, "a chunk could not be repaired");
                repaired.failed += 1;
            }
        }
    }

    async fn mend_one(&self, repair: Repair, content: Content, value: &Bytes) -> Result<bool, NodeError> {
        if !self.chunks.is_rare(content, value, repair.copies).await? {
            return Ok(false);
        }
        put_patiently(self.chunks, content, value, repair.put, self.plan.first_pause).await?;
        Ok(true)
    }
}
