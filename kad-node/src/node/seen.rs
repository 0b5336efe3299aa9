//! What this node has met of mutable records, so that nobody who reads through it goes back in time.
//!
//! Holders come and go, so the quorum that a read meets may know an older version than the one before did. The node
//! remembers the newest version of the records that it read or wrote lately. An older one that it is told of later is
//! known to be old, for as long as such a one can be around: until the longest life has passed since the newest was
//! signed.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::Instant;

use kad_core::record::precedence;
use kad_core::{Duration, Key, Record, UnixTime};

/// The most mutable records of which a node remembers the newest version; beyond that it forgets those that were read
/// longest ago. A thousand are more than one application follows.
pub(crate) const MAX_SEEN: usize = 1024;

/// The most bytes of such versions, 4 MiB: sixty of the largest. Beyond that the same are forgotten.
pub(crate) const MAX_SEEN_BYTES: usize = 4 << 20;

/// A version that holders lack is stored again so often at most.
const REPAIR_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

/// The newest versions.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    records: HashMap<Key, Met>,
    bytes: usize,
    /// Counts uses, to tell which was the last.
    uses: u64,
}

#[derive(Debug)]
struct Met {
    record: Record,
    used: u64,
    /// When it was last stored again because others had an older one.
    repaired: Option<Instant>,
}

impl Seen {
    /// The greater of what was found and what is remembered, which is remembered from now on. It may have expired.
    pub(crate) fn newest(
        &mut self,
        key: Key,
        found: Option<Record>,
        max_lifetime: Duration,
        now: UnixTime,
    ) -> Option<Record> {
        // Nothing older can be around any more.
        let over = |record: &Record| record.issued().is_none_or(|issued| issued + max_lifetime <= now);
        let known = self.take(key).filter(|met| !over(&met.record));
        let repaired = known.as_ref().and_then(|met| met.repaired);
        let known = known.map(|met| met.record);
        let newest = match (found, known) {
            (Some(found), Some(known)) => match precedence(found.as_raw(), known.as_raw()) {
                Ordering::Less => known,
                Ordering::Equal | Ordering::Greater => found,
            },
            (found, known) => found.or(known)?,
        };
        self.keep(key, newest.clone(), repaired);
        Some(newest)
    }

    /// Whether a version that others lack may be stored again: where holders want an older one, each read would be a
    /// write.
    pub(crate) fn wants_repair(&mut self, key: Key, now: Instant) -> bool {
        let Some(met) = self.records.get_mut(&key) else {
            return false;
        };
        let wants = met.repaired.is_none_or(|repaired| now >= repaired + REPAIR_EVERY);
        if wants {
            met.repaired = Some(now);
        }
        wants
    }

    fn keep(&mut self, key: Key, record: Record, repaired: Option<Instant>) {
        self.uses += 1;
        self.bytes += record.as_bytes().len();
        let used = self.uses;
        let met = Met {
            record,
            used,
            repaired,
        };
        self.records.insert(key, met);
        while self.records.len() > MAX_SEEN || self.bytes > MAX_SEEN_BYTES {
            let oldest = self.records.iter().min_by_key(|(_, met)| met.used);
            let Some(oldest) = oldest.map(|(&key, _)| key) else {
                return;
            };
            self.take(oldest);
        }
    }

    fn take(&mut self, key: Key) -> Option<Met> {
        let met = self.records.remove(&key)?;
        self.bytes -= met.record.as_bytes().len();
        Some(met)
    }
}

#[cfg(test)]
mod tests {
    use kad_core::{Keypair, MutableVersion, NetworkId, Parameters, Rules};

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn version(salt: &[u8], seq: u64, bytes: usize) -> Record {
        let parameters = Parameters::default();
        let rules = Rules::new(NetworkId::new("test", &parameters), &parameters);
        let version = MutableVersion {
            salt,
            seq,
            issued: NOW,
            expiry: NOW + HOUR,
            value: Some(&vec![0; bytes]),
        };
        Record::mutable(&Keypair::from_secret(&[1; 32]), &version, &rules, NOW).unwrap()
    }

    fn week() -> Duration {
        Parameters::default().max_lifetime
    }

    fn seq(record: Option<Record>) -> Option<u64> {
        record.map(|record| record.seq())
    }

    #[test]
    fn an_older_version_never_comes_after_a_newer_one_until_none_can_be_left() {
        let (mut seen, old, new) = (Seen::default(), version(b"a", 1, 10), version(b"a", 2, 10));
        let key = old.key();
        assert_eq!(seq(seen.newest(key, None, week(), NOW)), None);
        assert_eq!(seq(seen.newest(key, Some(old.clone()), week(), NOW)), Some(1));
        assert_eq!(seq(seen.newest(key, Some(new), week(), NOW)), Some(2));
        let last = NOW + week() - Duration::from_secs(1);
        for now in [NOW, NOW + 2 * HOUR, last] {
            assert_eq!(seq(seen.newest(key, Some(old.clone()), week(), now)), Some(2));
            assert_eq!(seq(seen.newest(key, None, week(), now)), Some(2));
        }
        assert_eq!(seq(seen.newest(key, Some(old), week(), NOW + week())), Some(1));
    }

    #[test]
    fn a_version_is_stored_again_once_a_minute_at_most() {
        let (mut seen, record) = (Seen::default(), version(b"a", 2, 10));
        let (key, begin) = (record.key(), Instant::now());
        assert!(!seen.wants_repair(key, begin), "it was never met");
        seen.newest(key, Some(record), week(), NOW);
        assert!(seen.wants_repair(key, begin));
        seen.newest(key, Some(version(b"a", 1, 10)), week(), NOW);
        let after = |secs| begin + std::time::Duration::from_secs(secs);
        assert!(!seen.wants_repair(key, after(59)) && seen.wants_repair(key, after(60)));
        assert!(!seen.wants_repair(key, after(61)));
    }

    #[test]
    fn what_was_used_longest_ago_is_forgotten_first() {
        let mut seen = Seen::default();
        let first = version(b"first", 1, 10).key();
        for number in 0..=MAX_SEEN {
            let salt = if number == 0 {
                "first".to_owned()
            } else {
                number.to_string()
            };
            let record = version(salt.as_bytes(), 1, 10);
            seen.newest(record.key(), Some(record.clone()), week(), NOW);
            seen.newest(first, None, week(), NOW);
        }
        assert_eq!(seen.records.len(), MAX_SEEN);
        assert_eq!(seq(seen.newest(first, None, week(), NOW)), Some(1));
        let second = version(b"1", 1, 10).key();
        assert_eq!(seq(seen.newest(second, None, week(), NOW)), None);
    }

    #[test]
    fn large_versions_take_no_more_room_than_there_is() {
        let mut seen = Seen::default();
        for number in 0..200_u32 {
            let record = version(&number.to_be_bytes(), 1, 60_000);
            seen.newest(record.key(), Some(record), week(), NOW);
            assert!(seen.bytes <= MAX_SEEN_BYTES);
        }
        let held: usize = seen.records.values().map(|met| met.record.as_bytes().len()).sum();
        assert_eq!(seen.bytes, held);
        assert_eq!(
            seen.records.len(),
            MAX_SEEN_BYTES / version(b"0000", 1, 60_000).as_bytes().len()
        );
    }
}
