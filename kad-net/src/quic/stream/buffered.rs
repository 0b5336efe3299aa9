//! How much waits in streams to be read by applications: of one peer, and of all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that peers have sent and applications have not read, of all streams. Full: a stream that already holds the
/// largest frame is not read on until its application has read.
const MAX_BUFFERED: usize = 64 * 1024 * 1024;

/// The same of one peer: an eighth, so that eight of them are needed to slow down the others. Full: the same, for the
/// streams with this peer.
const MAX_BUFFERED_OF_ONE: usize = MAX_BUFFERED / 8;

/// The account of one peer, which counts into that of all.
#[derive(Debug, Clone, Default)]
pub(in crate::quic) struct Buffered {
    of_one: Arc<AtomicUsize>,
    of_all: Arc<AtomicUsize>,
}

impl Buffered {
    /// An account of one more peer.
    pub(in crate::quic) fn of_another(&self) -> Self {
        Self {
            of_one: Arc::default(),
            of_all: self.of_all.clone(),
        }
    }

    /// Whether more than a frame of each stream may wait.
    pub(super) fn has_room(&self) -> bool {
        self.of_one.load(Ordering::Relaxed) < MAX_BUFFERED_OF_ONE
            && self.of_all.load(Ordering::Relaxed) < MAX_BUFFERED
    }

    /// What waits in the streams of all peers.
    #[cfg(test)]
    pub(in crate::quic) fn in_all(&self) -> usize {
        self.of_all.load(Ordering::Relaxed)
    }

    /// A stream that counted for so many bytes counts for so many now.
    pub(super) fn change(&self, from: usize, to: usize) {
        for count in [&self.of_one, &self.of_all] {
            match to.checked_sub(from) {
                Some(more) => count.fetch_add(more, Ordering::Relaxed),
                None => count.fetch_sub(from - to, Ordering::Relaxed),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_fills_its_share_and_no_other_and_eight_fill_all() {
        let all = Buffered::default();
        let peers: Vec<_> = (0..9).map(|_| all.of_another()).collect();
        for (full, peer) in peers.iter().take(8).enumerate() {
            peer.change(0, MAX_BUFFERED_OF_ONE - 1);
            assert!(peer.has_room());
            assert!(
                peers[full + 1..].iter().all(Buffered::has_room),
                "the others have theirs"
            );
            peer.change(MAX_BUFFERED_OF_ONE - 1, MAX_BUFFERED_OF_ONE);
            assert!(!peer.has_room());
        }
        assert!(!peers[8].has_room(), "all together");
        peers[0].change(MAX_BUFFERED_OF_ONE, 1);
        assert!(peers[0].has_room() && peers[8].has_room());
        assert!(!peers[1].has_room());
        drop(all);
    }
}
