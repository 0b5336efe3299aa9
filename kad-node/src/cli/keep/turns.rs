//! When which of the kept files is looked through next.
//!
//! Each file waits by itself: one that cannot be fetched does not have the others looked through again and again, nor
//! do they have it tried anew.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kad_core::Key;
use kad_node::kept::KeptFile;

/// How often a node looks whether it still has all of a file. Its own disk tells, so it costs nobody anything; what can
/// be lost meanwhile is the life of a record while the node was away. A file that there is no room for is tried as
/// seldom.
const CHECK: Duration = Duration::from_secs(6 * 3600);

/// The first pause after something of a file could not be kept; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// A file that nobody had may be there a few minutes later.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What came of looking through a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// All of it is here.
    Whole,
    /// Something could not be kept, and may be a moment later.
    Failed,
    /// The own store has no room for it, which does not pass by itself.
    NoRoom,
}

/// Of each file that was looked through, when it is next: as many as the list of kept files has.
#[derive(Debug, Default)]
pub(super) struct Turns {
    files: BTreeMap<Key, Turn>,
}

#[derive(Debug)]
struct Turn {
    at: Instant,
    /// The pause after the next failure.
    pause: Duration,
    last: Looked,
}

impl Turns {
    /// Those of these files whose turn it is: all that were not looked through yet, too. What is no longer among them
    /// is forgotten.
    pub(super) fn due(&mut self, files: &[KeptFile], now: Instant) -> Vec<KeptFile> {
        let mut known = std::mem::take(&mut self.files);
        let mut due = Vec::new();
        for file in files {
            match known.remove(&file.key) {
                Some(turn) if turn.at > now => drop(self.files.insert(file.key, turn)),
                Some(turn) => {
                    self.files.insert(file.key, turn);
                    due.push(*file);
                }
                None => due.push(*file),
            }
        }
        due
    }

    /// Notes what came of a file. Says whether that is news, and not the same as the last time.
    pub(super) fn note(&mut self, key: Key, looked: Looked, now: Instant) -> bool {
        let before = self.files.remove(&key);
        let is_news = before.as_ref().is_none_or(|before| before.last != looked);
        let pause = match (looked, before) {
            (Looked::Failed, Some(before)) => before.pause,
            _ => FIRST_PAUSE,
        };
        let (wait, pause) = match looked {
            Looked::Failed => (pause, (pause * 2).min(LONGEST_PAUSE)),
            Looked::Whole | Looked::NoRoom => (CHECK, FIRST_PAUSE),
        };
        let turn = Turn {
            at: now + wait,
            pause,
            last: looked,
        };
        self.files.insert(key, turn);
        is_news
    }

    /// How long until the next turn.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let next = self.files.values().map(|turn| turn.at).min();
        next.map_or(CHECK, |next| next.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use kad_core::{NetworkId, Parameters, UnixTime};
    use kad_node::kept::KeptFiles;

    use super::*;

    fn key(number: u64) -> Key {
        Key::from_limbs([number, 0, 0, 0])
    }

    fn files(count: u64) -> Vec<KeptFile> {
        let dir = tempfile::tempdir().unwrap();
        let network = NetworkId::new("test", &Parameters::default());
        let mut list = KeptFiles::open(dir.path(), network).unwrap();
        list.add((0..count).map(key), UnixTime::from_secs(1)).unwrap();
        list.files().to_vec()
    }

    fn keys(due: &[KeptFile]) -> Vec<Key> {
        due.iter().map(|file| file.key).collect()
    }

    #[test]
    fn a_file_that_fails_waits_longer_each_time_and_holds_up_no_other() {
        let (mut turns, files, start) = (Turns::default(), files(2), Instant::now());
        assert_eq!(keys(&turns.due(&files, start)), [key(0), key(1)]);
        assert!(turns.note(key(0), Looked::Whole, start));
        assert!(turns.note(key(1), Looked::Failed, start));
        let (mut now, mut tries) = (start, 1);
        while now < start + CHECK - LONGEST_PAUSE {
            now += turns.wait(now);
            assert_eq!(keys(&turns.due(&files, now)), [key(1)]);
            assert!(
                !turns.note(key(1), Looked::Failed, now),
                "it was told that it fails"
            );
            tries += 1;
        }
        // Eight with pauses of 5, 10, 20 … 600 seconds, then one in ten minutes.
        assert!((40..44).contains(&tries), "{tries} times in six hours");
        assert!(turns.note(key(1), Looked::Whole, now));
        assert!(turns.note(key(1), Looked::Failed, now));
        assert_eq!(
            turns.wait(now).min(FIRST_PAUSE),
            turns.wait(now),
            "from the start again"
        );
    }

    #[test]
    fn what_there_is_no_room_for_is_told_once_and_seldom_tried() {
        let (mut turns, files, start) = (Turns::default(), files(1), Instant::now());
        assert!(turns.note(key(0), Looked::NoRoom, start));
        assert!(turns.due(&files, start + CHECK / 2).is_empty());
        assert_eq!(turns.wait(start), CHECK);
        assert_eq!(turns.due(&files, start + CHECK).len(), 1);
        assert!(!turns.note(key(0), Looked::NoRoom, start + CHECK));
    }

    #[test]
    fn what_is_new_is_due_at_once_and_what_is_kept_no_longer_is_forgotten() {
        let (mut turns, all, start) = (Turns::default(), files(3), Instant::now());
        for file in &all[..2] {
            turns.note(file.key, Looked::Failed, start);
        }
        assert_eq!(keys(&turns.due(&all[1..], start)), [key(2)]);
        assert_eq!(turns.files.len(), 1);
        assert_eq!(keys(&turns.due(&all[..2], start)), [key(0)]);
    }
}
