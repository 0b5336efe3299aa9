//! Copies of popular values on the way to them.
//!
//! Walks to a key come together the nearer they get, so the holders of a popular value answer everybody. The paper
//! (section 2.3) has whoever read a value store it at the last node that did not have it, for a time that falls with
//! the distance. Here nobody is sent anything: a node that is asked for the same immutable value again and again, by
//! different nodes, and does not have it, reads it once itself and answers from its cache from then on. So values that
//! nobody asks for cost nothing, nobody can push anything into a cache, and the busier a node is the sooner it caches.
//!
//! A cached copy is no holder's copy: it is in no store, in no comparison and in no census.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use super::Kademlia;
use crate::query::{FindValueTask, Task};
use crate::{
    Address, Contact, Duration, FindValue, Found, Instant, Key, Kind, Now, Outbox, Read, Record, Response,
    Source, Want,
};

/// Different nodes, of different sites where addresses tell, that must have asked for a value within [`WINDOW`] before
/// it is cached: fewer would be chance.
const ASKERS: usize = 3;

/// See [`ASKERS`].
const WINDOW: Duration = Duration::from_secs(60);

/// Keys of which a node counts who asks for them. Full: the one that the fewest asked for is forgotten, the oldest of
/// these.
const MAX_COUNTED: usize = 64;

/// Values that a node reads at once to cache them; others have to be asked for once more. Nobody can make it read
/// faster.
const MAX_FETCHES: usize = 4;

/// How long one of the k nearest to a key would keep a copy. A node that has n nodes between itself and the key keeps
/// it for k / n of that.
const LONGEST: Duration = Duration::from_secs(3600);

/// Copies are kept at least so long, or reading them would be worth nothing.
const SHORTEST: Duration = Duration::from_secs(10);

/// The copies, and who asks for what is not there.
#[derive(Debug, Default)]
pub(super) struct Cache {
    copies: BTreeMap<Key, (Record, Instant)>,
    by_end: BTreeSet<(Instant, Key)>,
    bytes: usize,
    counted: Vec<Counted>,
    /// Values that are being read.
    fetching: usize,
}

/// Who asked for a key.
#[derive(Debug)]
struct Counted {
    key: Key,
    since: Instant,
    /// Who asked, by sites, as ids cost nothing.
    askers: Vec<Source>,
    /// It was read in vain, and is not read again before the window is over.
    is_vain: bool,
}

impl Cache {
    pub(super) fn len(&self) -> usize {
        self.copies.len()
    }

    fn get(&self, key: Key, now: Now) -> Option<&Record> {
        let (record, until) = self.copies.get(&key)?;
        (now.monotonic < *until && now.unix < record.expiry()).then_some(record)
    }

    /// Keeps a copy; the copies that end first make room.
    fn keep(&mut self, record: Record, until: Instant, room: usize) {
        let (key, length) = (record.key(), record.as_bytes().len());
        if length > room {
            return;
        }
        self.drop_copy(key);
        while self.bytes + length > room {
            let Some(&(_, first)) = self.by_end.first() else {
                return;
            };
            self.drop_copy(first);
        }
        self.bytes += length;
        self.by_end.insert((until, key));
        self.copies.insert(key, (record, until));
    }

    fn drop_copy(&mut self, key: Key) {
        if let Some((record, until)) = self.copies.remove(&key) {
            self.by_end.remove(&(until, key));
            self.bytes -= record.as_bytes().len();
        }
    }

    /// Notes that somebody asked for what is not here. Says whether enough have by now; then counting begins anew.
    fn is_popular(&mut self, key: Key, asker: Source, now: Instant) -> bool {
        let place = self.count(key, now);
        let counted = &mut self.counted[place];
        if !counted.is_vain && !counted.askers.contains(&asker) {
            counted.askers.push(asker);
        }
        let enough = counted.askers.len() >= ASKERS;
        if enough {
            self.counted.remove(place);
        }
        enough
    }

    /// Notes that nobody had it.
    fn is_nowhere(&mut self, key: Key, now: Instant) {
        let place = self.count(key, now);
        self.counted[place].is_vain = true;
    }

    /// Where a key is counted from now on.
    fn count(&mut self, key: Key, now: Instant) -> usize {
        self.counted.retain(|counted| now < counted.since + WINDOW);
        if let Some(place) = self.counted.iter().position(|counted| counted.key == key) {
            return place;
        }
        if self.counted.len() >= MAX_COUNTED {
            // Or a mix of keys that are asked for once would keep those that are not from ever being popular.
            let askers = |(_, counted): &(usize, &Counted)| (counted.askers.len(), counted.since);
            let least = self.counted.iter().enumerate().min_by_key(askers);
            let least = least.map_or(0, |(place, _)| place);
            self.counted.remove(least);
        }
        self.counted.push(Counted {
            key,
            since: now,
            askers: Vec::new(),
            is_vain: false,
        });
        self.counted.len() - 1
    }
}

impl<A: Address> Kademlia<A> {
    /// The answer to a question for a value that is cached.
    pub(super) fn cached(&mut self, now: Now, ask: &FindValue) -> Option<Record> {
        let fits = is_for_a_value(ask);
        let copy = self.cache.get(ask.key, now).filter(|_| fits).cloned();
        self.stats.cache_hits += u64::from(copy.is_some());
        copy
    }

    /// The same for a peer.
    pub(super) fn cached_answer(&mut self, now: Now, ask: &FindValue) -> Option<Response<A>> {
        let copy = self.cached(now, ask)?;
        self.stats.records_told += 1;
        Some(Response::Values {
            found: vec![Found::Record(copy)],
            next: None,
            closer: Vec::new(),
        })
    }

    /// Somebody asked for what is not here: if it is popular, it is read to be cached.
    pub(super) fn missed(&mut self, now: Now, from: &Contact<A>, ask: &FindValue, out: &mut Outbox<A>) {
        let caches = self.config.cache_bytes > 0 && !self.read_only;
        if !caches || !is_for_a_value(ask) || self.cache.fetching >= MAX_FETCHES {
            return;
        }
        if self.cache.is_popular(ask.key, Source::of(from), now.monotonic) {
            self.cache.fetching += 1;
            let ask = FindValue { after: None, ..*ask };
            let task = FindValueTask::new(ask, Read::First, self.region(ask.key));
            let lookup = self.upkeep_lookup(now, ask.key, self.config.k);
            self.start(now, None, Task::FindValue(task), Some(lookup), out);
        }
    }

    /// What was read to be cached is kept for a while, which is the shorter the farther the key.
    pub(super) fn keep_copy(&mut self, now: Now, found: &FindValueTask<A>) {
        self.cache.fetching = self.cache.fetching.saturating_sub(1);
        let Some(record) = found.newest() else {
            return self.cache.is_nowhere(found.key(), now.monotonic);
        };
        let distance = self.local_id().distance(record.key());
        let k = self.config.k.max(1) as u64;
        let between = self
            .population()
            .map_or(k, |population| population.rank(distance))
            .max(k);
        let life = Duration::from_secs(LONGEST.as_secs().saturating_mul(k) / between).max(SHORTEST);
        let record = record.clone();
        self.cache
            .keep(record, now.monotonic + life, self.config.cache_bytes);
    }
}

/// Whether an immutable value is what is asked for, and any will do.
fn is_for_a_value(ask: &FindValue) -> bool {
    ask.kind == Kind::Immutable && ask.want == Want::Record && ask.min_seq == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NetworkId, Parameters, Rules, UnixTime};

    fn at(secs: u64) -> Now {
        Now {
            monotonic: Instant::ZERO + Duration::from_secs(secs),
            unix: UnixTime::from_secs(1000 + secs),
        }
    }

    fn record(number: u64, life: u64) -> Record {
        let parameters = Parameters::default();
        let rules = Rules::new(NetworkId::new("test", &parameters), &parameters);
        let (now, end) = (at(0).unix, at(life).unix);
        Record::immutable(&number.to_be_bytes(), end, &rules, now).unwrap()
    }

    fn id(number: u64) -> Source {
        Source::new(number)
    }

    #[test]
    fn copies_end_in_their_time_and_those_that_end_first_make_room() {
        let (mut cache, length) = (Cache::default(), record(0, 100).as_bytes().len());
        let room = 3 * length;
        for number in 0..5 {
            // The later ones end sooner, but for the last.
            let until = at(if number == 4 { 50 } else { 40 - number }).monotonic;
            cache.keep(record(number, 100), until, room);
            assert!(cache.bytes <= room && cache.copies.len() == cache.by_end.len());
        }
        let held = |cache: &Cache, secs| -> Vec<u64> {
            (0..5)
                .filter(|&number| cache.get(record(number, 100).key(), at(secs)).is_some())
                .collect()
        };
        assert_eq!(held(&cache, 10), [0, 1, 4]);
        assert_eq!(held(&cache, 39), [0, 4]);
        assert_eq!(held(&cache, 45), [4]);
        cache.keep(record(9, 100), at(99).monotonic, length - 1);
        assert!(
            cache.get(record(9, 100).key(), at(1)).is_none(),
            "it does not fit"
        );
        cache.keep(record(8, 5), at(99).monotonic, room);
        assert!(
            cache.get(record(8, 5).key(), at(4)).is_some() && cache.get(record(8, 5).key(), at(5)).is_none()
        );
    }

    #[test]
    fn three_different_askers_within_a_minute_make_a_value_popular() {
        let (mut cache, key) = (Cache::default(), Key::from_limbs([1; 4]));
        assert!(
            (0..9).all(|secs| !cache.is_popular(key, id(1), at(secs).monotonic)),
            "one asks often"
        );
        assert!(!cache.is_popular(key, id(2), at(10).monotonic));
        assert!(cache.is_popular(key, id(3), at(59).monotonic));
        assert!(
            !cache.is_popular(key, id(4), at(59).monotonic),
            "counting begins anew"
        );
        assert!(!cache.is_popular(key, id(5), at(60).monotonic));
        assert!(
            !cache.is_popular(key, id(6), at(59 + 60).monotonic),
            "the first is forgotten"
        );
    }

    #[test]
    fn only_so_many_keys_are_counted() {
        let mut cache = Cache::default();
        let key = |number: usize| Key::from_limbs([number as u64, 0, 0, 0]);
        // One that two asked for stays among any number that one asked for.
        assert!(!cache.is_popular(key(0), id(1), at(0).monotonic));
        assert!(!cache.is_popular(key(0), id(2), at(0).monotonic));
        for number in 1..=3 * MAX_COUNTED {
            assert!(!cache.is_popular(key(number), id(1), at(0).monotonic));
            assert!(cache.counted.len() <= MAX_COUNTED);
        }
        assert!(cache.is_popular(key(0), id(3), at(0).monotonic));
        let mut asked_twice_more = |number: usize| {
            let key = key(number);
            cache.is_popular(key, id(2), at(0).monotonic) || cache.is_popular(key, id(3), at(0).monotonic)
        };
        assert!(asked_twice_more(3 * MAX_COUNTED));
        assert!(!asked_twice_more(1), "it was forgotten");
    }

    #[test]
    fn what_was_read_in_vain_is_not_read_again_within_the_window() {
        let (mut cache, key) = (Cache::default(), Key::from_limbs([1; 4]));
        let asked = |cache: &mut Cache, secs| {
            (0..3).any(|asker| cache.is_popular(key, id(asker), at(secs).monotonic))
        };
        assert!(asked(&mut cache, 0));
        cache.is_nowhere(key, at(1).monotonic);
        assert!(!asked(&mut cache, 2) && !asked(&mut cache, 60));
        assert!(asked(&mut cache, 61));
    }
}
