//! Whether a record fits, and what has to go for it.
//!
//! Own records have limits of their own and compete with nobody. What others send is limited in all, for each sender,
//! and for the providers of each key. In a store that is full in all, what is farthest from the node goes for what is
//! nearer: it is the more likely to lie somewhere else as well. But a sender that holds more than an even share of the
//! store already takes the place of nothing but its own, however near it has its records made.

use std::ops::ControlFlow;

use kad_core::{Kind, NodeId, Slot, Source};

use super::fair::{Place, leaver};
use super::farthest::{Looks, MAX_LOOKED, MAX_LOOKED_FOR_OWN_PLACE};
use super::{Batch, Committed, Held, Listing, Order, length};
use crate::scan::LAST_SLOT;
use crate::{Put, StoreError, Usage};

/// The most records that leave for one: enough for a value of the largest size among records of a kilobyte.
pub const MAX_EVICTED: usize = 64;

/// Why a record does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Own records have reached their limits.
    Own,
    /// Its sender has.
    Sender,
    /// Its key has all the providers that it may have, and none of them leaves.
    Key,
    /// The store is full, and nothing in it may be given up for it.
    Store,
}

/// Records that leave.
pub(super) type Victims = Vec<(Slot, Listing)>;

impl Batch {
    /// The records that leave for this one, or why it does not fit. `own` is whether it will be the node's own.
    pub(super) fn room(
        &self,
        base: &impl Committed,
        put: &Put<'_>,
        held: Option<&Held>,
        own: bool,
    ) -> Result<Result<Victims, Shortage>, StoreError> {
        let (slot, bytes) = (put.record.slot(), length(put.record.as_raw()));
        let limits = self.limits;
        // What takes the place of a record of the same account needs room only where it is larger.
        let more = match held.map(|held| held.listing).filter(|held| held.own == own) {
            Some(held) => Usage {
                records: 0,
                bytes: bytes.saturating_sub(held.bytes),
            },
            None => Usage { records: 1, bytes },
        };
        if own {
            let fits = fits(
                self.ledger.own(),
                more,
                limits.max_own_records,
                limits.max_own_bytes,
            );
            return Ok(if fits { Ok(Vec::new()) } else { Err(Shortage::Own) });
        }
        let mut victims = Vec::new();
        if held.is_none() && slot.kind == Kind::Provider {
            match self.place_of_provider(base, put)? {
                Ok(leaver) => victims.extend(leaver),
                Err(shortage) => return Ok(Err(shortage)),
            }
        }
        let source = self.sender(put, held);
        let is_moved = held.is_some_and(|held| held.listing.source != source);
        if !is_moved && !self.sender_has_room(source, more, &victims) {
            return Ok(Err(Shortage::Sender));
        }
        self.evict(base, &slot, source, more, victims)
    }

    /// For whom a record of others will count: for its author if that has sent it, else for whoever sent these bytes
    /// first; if neither's limits allow it, for whom it counted before.
    pub(super) fn sender(&self, put: &Put<'_>, held: Option<&Held>) -> Source {
        let Some(held) = held.filter(|held| !held.listing.own) else {
            return put.source;
        };
        let bytes = held.raw.as_ref().map(kad_core::RawRecord::as_bytes);
        let is_same = bytes.is_some_and(|bytes| bytes == put.record.as_bytes());
        let more = Usage {
            records: 1,
            bytes: length(put.record.as_raw()),
        };
        let author = put.record.author().map(|author| NodeId::from_public_key(&author));
        let is_by_author = author.is_some() && author == put.sender;
        match (is_same && !is_by_author)
            || put.source.is_unknown()
            || !self.sender_has_room(put.source, more, &[])
        {
            true => held.listing.source,
            false => put.source,
        }
    }

    /// Whether a sender may have more, once these are gone.
    fn sender_has_room(&self, source: Source, more: Usage, leaving: &[(Slot, Listing)]) -> bool {
        let leaving = leaving.iter().map(|(_, listing)| listing);
        let leaving = leaving.filter(|listing| listing.source == source);
        let usage = without(self.ledger.of(source), leaving);
        let limits = &self.limits;
        source.is_unknown()
            || fits(
                usage,
                more,
                limits.max_records_per_source,
                limits.max_bytes_per_source,
            )
    }

    /// Adds to `victims` until `more` fits.
    fn evict(
        &self,
        base: &impl Committed,
        slot: &Slot,
        source: Source,
        more: Usage,
        mut victims: Victims,
    ) -> Result<Result<Victims, Shortage>, StoreError> {
        let limits = &self.limits;
        let held = self.ledger.others();
        // Where lowered limits are exceeded a put must not add to that, but need not mend it either.
        let max_records = limits.max_records.max(held.records);
        let max_bytes = limits.max_bytes.max(held.bytes);
        let mut left = without(held, victims.iter().map(|(_, listing)| listing));
        let fits = |left: Usage| fits(left, more, max_records, max_bytes);
        if fits(left) {
            return Ok(Ok(victims));
        }
        let Some(around) = limits.around else {
            return Ok(Err(Shortage::Store));
        };
        let own_only = self
            .ledger
            .is_beyond_its_share(source, limits.max_records, limits.max_bytes);
        let distance = around.distance(slot.key);
        let most = victims.len() + MAX_EVICTED;
        let mut looks = Looks::new(if own_only {
            MAX_LOOKED_FOR_OWN_PLACE
        } else {
            MAX_LOOKED
        });
        self.farthest_first(base, around, &mut looks, &mut |slot, listing| {
            if around.distance(slot.key) <= distance || victims.len() == most {
                return ControlFlow::Break(());
            }
            // Or small ones at the edge would use up the places, and keep out all that is large.
            let missing = (left.bytes + more.bytes).saturating_sub(max_bytes);
            let places = (most - victims.len()) as u64;
            let is_short_of_records = left.records + more.records > max_records;
            let helps = is_short_of_records || listing.bytes.saturating_mul(places) >= missing;
            let is_free = !listing.own && (!own_only || listing.source == source);
            if helps && is_free && victims.iter().all(|(victim, _)| *victim != slot) {
                left = without(left, [&listing]);
                victims.push((slot, listing));
            }
            match fits(left) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        match fits(left) {
            true => Ok(Ok(victims)),
            // What this batch gave up before was in the way, not what is held.
            false if looks.are_lost() => Err(StoreError::BatchFull),
            false => Ok(Err(Shortage::Store)),
        }
    }

    /// Who leaves a key for one more provider, if somebody has to.
    fn place_of_provider(
        &self,
        base: &impl Committed,
        put: &Put<'_>,
    ) -> Result<Result<Option<(Slot, Listing)>, Shortage>, StoreError> {
        let slot = &put.record.slot();
        let full = self.limits.max_providers_per_key as usize;
        if self.providers(base, slot, full)?.len() < full {
            return Ok(Ok(None));
        }
        // Lowered limits leave more than fit.
        let held = self.providers(base, slot, usize::MAX)?;
        let place = |(slot, listing): &(Slot, Listing)| Place {
            provider: slot.provider,
            source: listing.source,
            has_withdrawn: listing.is_tombstone,
        };
        let newcomer = Place {
            provider: slot.provider,
            source: put.source,
            has_withdrawn: put.record.is_tombstone(),
        };
        let leaver = leaver(slot.key, newcomer, held.iter().map(place));
        let leaver = leaver.and_then(|leaver| held.get(leaver));
        Ok(leaver.map(|leaver| Some(*leaver)).ok_or(Shortage::Key))
    }

    /// The providers of the slot's key that others sent, at most `enough`.
    fn providers(&self, base: &impl Committed, slot: &Slot, enough: usize) -> Result<Victims, StoreError> {
        let first = Slot {
            provider: NodeId::default(),
            ..*slot
        };
        let last = Slot {
            provider: LAST_SLOT.provider,
            ..*slot
        };
        let changed = self.changes.range(first..=last);
        let changed = changed.filter_map(|(slot, changed)| Some((*slot, changed.change.record()?.into())));
        let mut providers: Victims = changed
            .filter(|(_, listing): &(Slot, Listing)| !listing.own)
            .take(enough)
            .collect();
        base.records(&first, &last, Order::Up, &mut |slot, listing| {
            if providers.len() >= enough {
                return ControlFlow::Break(());
            }
            if !listing.own && !self.changes.contains_key(&slot) {
                providers.push((slot, listing));
            }
            ControlFlow::Continue(())
        })?;
        Ok(providers)
    }
}

/// Whether an account may grow. What does not grow always fits, even where lowered limits are exceeded.
const fn fits(usage: Usage, more: Usage, max_records: u64, max_bytes: u64) -> bool {
    (more.records == 0 || usage.records + more.records <= max_records)
        && (more.bytes == 0 || usage.bytes + more.bytes <= max_bytes)
}

fn without<'a>(usage: Usage, leaving: impl IntoIterator<Item = &'a Listing>) -> Usage {
    leaving.into_iter().fold(usage, |left, listing| Usage {
        records: left.records.saturating_sub(1),
        bytes: left.bytes.saturating_sub(listing.bytes),
    })
}
