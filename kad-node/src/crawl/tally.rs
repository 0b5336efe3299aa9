//! What the tables of the network hold, bucket by bucket, and how much of it is dead.
//!
//! Whether a contact is alive is often found out after it was told of. What was told until then waits with the contact,
//! as a number for each bucket, and is counted when its state is known.

/// Buckets of a table: as many as an id has bits.
const BUCKETS: usize = kad_core::ID_BITS as usize;

/// How often a contact was told before its state was known, by the bucket of whoever told.
pub(super) type Tellings = Vec<(u8, u32)>;

/// One more that told of a contact whose state is not known. There is one number for each bucket, so at most 256 of
/// them.
pub(super) fn note(tellings: &mut Tellings, bucket: u8) {
    match tellings.iter_mut().find(|(at, _)| *at == bucket) {
        Some((_, count)) => *count = count.saturating_add(1),
        None => tellings.push((bucket, 1)),
    }
}

/// What was counted in one bucket of all tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Contacts told.
    pub(super) told: u64,
    /// Of these, those that were found alive.
    pub(super) alive: u64,
    /// And those that were found dead.
    pub(super) dead: u64,
}

/// All tables together.
#[derive(Debug)]
pub(super) struct Tally(Box<[Counted; BUCKETS]>);

impl Tally {
    pub(super) fn new() -> Self {
        Self(Box::new([Counted::default(); BUCKETS]))
    }

    /// Somebody told of a contact.
    pub(super) fn told(&mut self, bucket: u8) {
        self.0[usize::from(bucket)].told += 1;
    }

    /// So many told of a contact whose state is known.
    pub(super) fn count(&mut self, bucket: u8, alive: bool, many: u32) {
        let counted = &mut self.0[usize::from(bucket)];
        match alive {
            true => counted.alive += u64::from(many),
            false => counted.dead += u64::from(many),
        }
    }

    /// The state of a contact was found out.
    pub(super) fn settle(&mut self, tellings: Tellings, alive: bool) {
        for (bucket, many) in tellings {
            self.count(bucket, alive, many);
        }
    }

    /// The buckets that hold anybody, from the far half inwards.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (u32, Counted)> {
        let all = (0..).zip(self.0.iter().copied());
        all.filter(|(_, counted)| counted.told > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_before_is_counted_once_the_state_is_known() {
        let (mut tally, mut tellings) = (Tally::new(), Tellings::new());
        for bucket in [3, 0, 3, 3] {
            tally.told(bucket);
            note(&mut tellings, bucket);
        }
        assert!(
            tally
                .buckets()
                .all(|(_, counted)| counted.alive + counted.dead == 0)
        );
        tally.settle(tellings, false);
        tally.told(3);
        tally.count(3, true, 1);
        let counted = |told, alive, dead| Counted { told, alive, dead };
        let buckets: Vec<_> = tally.buckets().collect();
        assert_eq!(buckets, [(0, counted(1, 0, 1)), (3, counted(4, 1, 3))]);
    }
}
