//! The table against a naive one, and `closest` against a full sort.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::{LOCAL, Street, at};
use crate::table::*;

/// The table as one would write it without a thought for memory: a list for each bucket.
#[derive(Default)]
struct Model {
    live: BTreeMap<u32, Vec<Held>>,
    waiting: BTreeMap<u32, Vec<Held>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Held {
    contact: Contact<Street>,
    seen: Instant,
    failures: u8,
    rtt: Option<u32>,
    tenured: bool,
}

/// RFC 6298 with whole numbers.
fn smoothed(old: Option<u32>, sample: Option<u32>) -> Option<u32> {
    match (old, sample) {
        (Some(old), Some(sample)) => Some((old - old / 8 + sample / 8).max(1)),
        (old, sample) => sample.or(old),
    }
}

impl Model {
    fn refusal(&self, config: &TableConfig, index: u32, contact: &Contact<Street>) -> bool {
        let Some(groups) = contact.address.groups() else {
            return false;
        };
        let count = |bucket: Option<u32>, same: &dyn Fn(AddressGroups) -> bool| {
            let held = self
                .live
                .iter()
                .filter(|(at, _)| bucket.is_none_or(|bucket| bucket == **at));
            let others = held
                .flat_map(|(_, held)| held)
                .filter(|held| held.contact.id != contact.id);
            others
                .filter(|held| held.contact.address.groups().is_some_and(same))
                .count()
        };
        let narrow = |other: AddressGroups| other.narrow == groups.narrow;
        let wide = |other: AddressGroups| other.wide == groups.wide;
        count(Some(index), &narrow) >= config.groups.narrow_per_bucket
            || count(None, &narrow) >= config.groups.narrow_per_table
            || count(Some(index), &wide) >= config.groups.wide_per_bucket
            || count(None, &wide) >= config.groups.wide_per_table
    }

    /// The neighbours, if this contact were in the table as well.
    fn neighbours(&self, config: &TableConfig, with: NodeId) -> Vec<NodeId> {
        let live = self.live.values().flatten().map(|held| held.contact.id);
        let mut all: Vec<NodeId> = live.chain([with]).collect();
        all.sort_by_key(|id| LOCAL.distance(id.to_key()));
        all.truncate(config.neighbourhood);
        all
    }

    /// Who makes room in a full bucket for a contact that will be a neighbour.
    fn victim(&self, index: u32, neighbours: &[NodeId]) -> Option<usize> {
        let bucket = self.live.get(&index)?;
        let others = (0..bucket.len()).filter(|&place| !neighbours.contains(&bucket[place].contact.id));
        // A failure counts more than any distance.
        others.max_by_key(|&place| {
            let held = &bucket[place];
            (held.failures > 0, LOCAL.distance(held.contact.id.to_key()))
        })
    }

    fn wait(&mut self, config: &TableConfig, index: u32, held: Held) {
        let waiting = self.waiting.entry(index).or_default();
        waiting.push(Held {
            tenured: false,
            ..held
        });
        waiting.sort_by_key(|held| held.seen);
        if waiting.len() > config.replacements {
            waiting.remove(0);
        }
    }

    fn tenured(&self, index: u32) -> usize {
        self.live[&index].iter().filter(|held| held.tenured).count()
    }

    /// Contacts that must keep their place when somebody faster comes.
    fn floor(config: &TableConfig, index: u32) -> usize {
        let size = config.bucket_size(index);
        size - size * usize::from(config.proximity_share) / 100
    }

    /// The contacts of a full bucket that may have to make room for one that is faster or comes from elsewhere.
    fn open(&self, config: &TableConfig, index: u32) -> Vec<usize> {
        let nearer: usize = self.live.range(index + 1..).map(|(_, held)| held.len()).sum();
        if config.proximity_share == 0 || nearer < 2 * config.bucket_size.max(config.neighbourhood) {
            return Vec::new();
        }
        let tenured = self.tenured(index);
        let spare = tenured == 0 || tenured > Self::floor(config, index);
        let bucket = &self.live[&index];
        let spare = spare && (tenured > 0 || bucket.len() > Self::floor(config, index));
        let open = |&place: &usize| spare || !bucket[place].tenured && tenured > 0;
        (0..bucket.len()).filter(open).collect()
    }

    /// Where in its bucket a contact stands: the id is the distance here, as the local one is zero.
    fn region(config: &TableConfig, index: u32, id: NodeId) -> u64 {
        let bits = match config.bucket_size(index) {
            0 | 1 => return 0,
            2 | 3 => 1,
            4..8 => 2,
            _ => panic!("the buckets of this test are small"),
        };
        id.to_limbs()[0].checked_shl(index + 1).unwrap_or(0) >> (64 - bits)
    }

    fn in_region(&self, config: &TableConfig, index: u32, region: u64) -> usize {
        let same = |held: &&Held| Self::region(config, index, held.contact.id) == region;
        self.live[&index].iter().filter(same).count()
    }

    /// The contact of a full bucket that may have to make room for one from a region that has nobody.
    fn crowded(&self, config: &TableConfig, index: u32, id: NodeId) -> Option<usize> {
        if !config.spread || self.in_region(config, index, Self::region(config, index, id)) > 0 {
            return None;
        }
        let bucket = &self.live[&index];
        let crowd = |place: usize| {
            let region = Self::region(config, index, bucket[place].contact.id);
            self.in_region(config, index, region)
        };
        let open = self.open(config, index).into_iter();
        open.filter(|&place| crowd(place) > 1)
            .max_by_key(|&place| (bucket[place].failures > 0, bucket[place].rtt, crowd(place), place))
    }

    /// The slowest contact of a full bucket that may have to make room for a faster one.
    fn slowest(&self, config: &TableConfig, index: u32, new: &Held) -> Option<usize> {
        let (rtt, bucket) = (new.rtt?, &self.live[&index]);
        let region = |held: &Held| Self::region(config, index, held.contact.id);
        let alone = |held: &Held| {
            config.spread && region(held) != region(new) && self.in_region(config, index, region(held)) == 1
        };
        let open = self.open(config, index).into_iter();
        let slower = open.filter(|&place| {
            let held = &bucket[place];
            held.rtt.is_some_and(|other| 4 * rtt <= 3 * other) && !alone(held)
        });
        slower.max_by_key(|&place| (bucket[place].rtt, place))
    }

    /// Puts a contact into a bucket, in the place of another one if need be; `open` if that is because the place was
    /// open to it.
    fn enter(&mut self, config: &TableConfig, index: u32, new: Held, out: Option<usize>, open: bool) {
        if open && self.tenured(index) == 0 {
            self.live
                .entry(index)
                .or_default()
                .iter_mut()
                .for_each(|held| held.tenured = true);
        }
        let live = self.live.entry(index).or_default();
        let out = out.map(|place| live.remove(place));
        let tenured = self.tenured(index);
        let tenured = !open && tenured > 0 && tenured < Self::floor(config, index);
        self.live.entry(index).or_default().push(Held { tenured, ..new });
        if let Some(out) = out {
            self.wait(config, index, out);
        }
    }

    fn answered(&mut self, config: &TableConfig, now: Instant, contact: &Contact<Street>, rtt: Option<u32>) {
        let index = LOCAL.distance(contact.id.to_key()).leading_zeros();
        if index == ID_BITS {
            return;
        }
        let refused = self.refusal(config, index, contact);
        let live = self.live.entry(index).or_default();
        let waiting = self.waiting.entry(index).or_default();
        let of = |list: &[Held]| list.iter().position(|held| held.contact.id == contact.id);
        let old = of(live)
            .map(|place| live[place])
            .or_else(|| of(waiting).map(|place| waiting[place]));
        let same = old.filter(|old| old.contact.address == contact.address);
        let new = Held {
            contact: *contact,
            seen: now,
            failures: 0,
            rtt: smoothed(same.and_then(|old| old.rtt), rtt),
            tenured: old.is_some_and(|old| old.tenured),
        };
        if let Some(place) = of(live) {
            if same.is_some() || !refused {
                live.remove(place);
                live.push(new);
            }
            return;
        }
        if refused {
            return;
        }
        waiting.retain(|held| held.contact.id != contact.id);
        if live.len() < config.bucket_size(index) {
            return self.enter(config, index, new, None, false);
        }
        let neighbours = self.neighbours(config, contact.id);
        if neighbours.contains(&contact.id) {
            let victim = self.victim(index, &neighbours);
            return self.enter(config, index, new, victim, false);
        }
        let room = self.crowded(config, index, contact.id);
        match room.or_else(|| self.slowest(config, index, &new)) {
            Some(out) => self.enter(config, index, new, Some(out), true),
            None => self.wait(config, index, new),
        }
    }

    fn failed(&mut self, config: &TableConfig, contact: &Contact<Street>) {
        for held in self.waiting.values_mut() {
            held.retain(|held| held.contact != *contact);
        }
        let held = self
            .live
            .values_mut()
            .flatten()
            .find(|held| held.contact == *contact);
        let Some(held) = held else { return };
        held.failures += 1;
        if held.failures >= config.failures {
            self.remove(config, contact.id);
        }
    }

    fn remove(&mut self, config: &TableConfig, id: NodeId) {
        let index = LOCAL.distance(id.to_key()).leading_zeros();
        self.waiting
            .entry(index)
            .or_default()
            .retain(|held| held.contact.id != id);
        let live = self.live.entry(index).or_default();
        let before = live.len();
        live.retain(|held| held.contact.id != id);
        if live.len() == before {
            return;
        }
        let room = live.len() < config.bucket_size(index);
        let waiting = self.waiting[&index].clone();
        let heirs: Vec<usize> = (0..waiting.len())
            .filter(|&place| !self.refusal(config, index, &waiting[place].contact))
            .collect();
        let distance = |place: &usize| LOCAL.distance(waiting[*place].contact.id.to_key());
        let nearest = heirs.iter().copied().min_by_key(distance).filter(|&place| {
            let id = waiting[place].contact.id;
            self.neighbours(config, id).contains(&id)
        });
        if let Some(place) = nearest.or_else(|| heirs.last().copied().filter(|_| room)) {
            let promoted = self.waiting.entry(index).or_default().remove(place);
            self.enter(config, index, promoted, None, false);
            let live = self.live.entry(index).or_default();
            live.sort_by_key(|held| held.seen);
        }
    }
}

/// Everything that must hold between two operations.
fn check(table: &RoutingTable<Street>, model: &Model) -> Result<(), TestCaseError> {
    let held = |known: &Known<Street>| Held {
        contact: known.contact,
        seen: known.last_seen,
        failures: known.failures(),
        rtt: known.rtt(),
        tenured: known.is_tenured(),
    };
    for (real, naive) in [(&table.live, &model.live), (&table.waiting, &model.waiting)] {
        let expected: Vec<Held> = naive.values().flatten().copied().collect();
        prop_assert_eq!(real.iter().map(held).collect::<Vec<_>>(), expected);
        for index in 0..ID_BITS {
            let bucket = real.bucket(index);
            prop_assert_eq!(real.exists(index), !bucket.is_empty());
            prop_assert!(bucket.is_sorted_by_key(|known| known.last_seen));
            let fits =
                |known: &Known<Street>| LOCAL.distance(known.contact.id.to_key()).leading_zeros() == index;
            prop_assert!(bucket.iter().all(fits));
        }
    }
    for index in 0..ID_BITS {
        let most = table.bucket_capacity(index).max(table.config.neighbourhood);
        prop_assert!(
            table.bucket_len(index) <= most,
            "bucket {} outgrew its bound",
            index
        );
    }
    for known in table.waiting.iter() {
        prop_assert!(table.get(known.contact.id).is_none(), "waits and is in the table");
    }
    Ok(())
}

#[derive(Debug, Clone)]
pub(super) enum Action {
    Answered(Contact<Street>, Option<u32>),
    Failed(Contact<Street>),
    Remove(NodeId),
}

fn contacts() -> impl Strategy<Value = Contact<Street>> {
    // Few ids and few addresses, so that they meet again and again; some outside of all groups.
    let id = (0..5u32, 0..8u64, 0..2u64).prop_map(|(bucket, high, low)| {
        let top = match bucket {
            4 => 0,
            // Four regions, each of which may be halved once more.
            _ => 1 << (63 - bucket) | high >> 1 << (61 - bucket),
        };
        NodeId::from_limbs([top, 0, 0, (high & 1) << 1 | low])
    });
    let street = prop_oneof![
        Just(Street(1)),
        (1..3u32, 0..3u32).prop_map(|(w, n)| Street(w << 24 | n << 16))
    ];
    (id, street).prop_map(|(id, street)| Contact::new(id, street))
}

fn rtts() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![Just(None), (1..100u32).prop_map(Some)]
}

pub(super) fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        6 => (contacts(), rtts()).prop_map(|(contact, rtt)| Action::Answered(contact, rtt)),
        3 => contacts().prop_map(Action::Failed),
        1 => contacts().prop_map(|contact| Action::Remove(contact.id)),
    ];
    prop::collection::vec(action, 1..60)
}

pub(super) fn configs() -> impl Strategy<Value = TableConfig> {
    let wide = prop::collection::vec(1..6u16, 0..3);
    let sizes = (1..4usize, wide, 0..4usize, 0..8usize, 0..=100u8, any::<bool>());
    sizes.prop_map(|(k, wide, replacements, neighbourhood, share, spread)| {
        let mut config = TableConfig::new(k, 0);
        (config.wide, config.replacements, config.neighbourhood) = (wide, replacements, neighbourhood);
        (config.proximity_share, config.spread) = (share, spread);
        config.groups = GroupLimits {
            narrow_per_bucket: 1,
            narrow_per_table: 3,
            wide_per_bucket: 2,
            wide_per_table: 4,
        };
        config
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn whatever_happens_the_table_is_the_naive_one(actions in actions(), config in configs()) {
        let (mut table, mut model) = (RoutingTable::new(LOCAL, config.clone()), Model::default());
        for (step, action) in actions.into_iter().enumerate() {
            match action {
                Action::Answered(contact, rtt) => {
                    let now = at(step as u64 / 2);
                    let (known, wanted) = (table.get(contact.id).is_some(), table.wants(&contact));
                    let micros = rtt.map(|rtt| Duration::from_micros(rtt.into()));
                    let admission = table.answered(now, &contact, micros);
                    if let Admission::Replaced { out, .. } = admission {
                        prop_assert!(table.get(out).is_none());
                    }
                    let enters = matches!(admission, Admission::Added | Admission::Replaced { .. });
                    prop_assert_eq!(enters, !known && table.get(contact.id).is_some());
                    // Whether it is fast shows only when it has answered.
                    let fast = matches!(admission, Admission::Replaced { merit: Merit::Fast, .. });
                    prop_assert!(wanted || fast || !enters, "a stranger that may enter is worth a PING");
                    model.answered(&config, now, &contact, rtt);
                }
                Action::Failed(contact) => {
                    let _ = table.failed(Instant::ZERO, &contact);
                    model.failed(&config, &contact);
                }
                Action::Remove(id) => {
                    let _ = table.remove(Instant::ZERO, id);
                    model.remove(&config, id);
                }
            }
            check(&table, &model)?;
        }
    }

    #[test]
    fn closest_is_a_full_sort(
        local in any::<[u8; 32]>(),
        ids in prop::collection::vec(any::<[u8; 32]>(), 0..80),
        narrow in prop::collection::vec(any::<u8>(), 0..40),
        target in any::<[u8; 32]>(),
        n in 0..30usize,
    ) {
        let local = NodeId::from_bytes(local);
        // Random ids, and ids that differ from the local one and each other in the last byte only.
        let near = narrow.iter().map(|&low| {
            let [a, b, c, d] = local.to_limbs();
            NodeId::from_limbs([a, b, c, d ^ u64::from(low)])
        });
        let all: Vec<NodeId> = ids.into_iter().map(NodeId::from_bytes).chain(near).collect();
        let mut table = RoutingTable::new(local, TableConfig::new(4, 0));
        for &id in &all {
            let _ = table.answered(at(1), &Contact::new(id, Street(1)), None);
        }
        let mut targets = alloc::vec![Key::from_bytes(target), local.to_key()];
        targets.extend(all.iter().take(3).map(|id| id.to_key()));
        let mut scratch = ClosestScratch::default();
        for target in targets {
            let mut sorted: Vec<NodeId> = table.contacts().map(|entry| entry.contact.id).collect();
            sorted.sort_by_key(|id| id.distance(target));
            sorted.truncate(n);
            let closest: Vec<NodeId> = table.closest(target, n, &mut scratch).map(|entry| entry.contact.id).collect();
            prop_assert_eq!(closest, sorted);
        }
    }
}
