//! Looking up a node: a walk to its id, and the card that it left with those nearest to it.

use core::cmp::Ordering;

use super::{Misfit, Todo};
use crate::record::{Record, precedence};
use crate::{Found, Key, Kind, StoreReply, Want};

/// What a lookup of contacts brings besides these.
#[derive(Debug)]
pub(crate) struct FindNode {
    /// Whether the card of the target is wanted.
    wants_card: bool,
    own: OwnStore,
    card: Option<Record>,
}

/// The own store may hold the card too, and is asked like everybody else.
#[derive(Debug, PartialEq, Eq)]
enum OwnStore {
    Unasked,
    Asked,
    Told,
}

impl FindNode {
    /// Contacts alone.
    pub(crate) const fn contacts() -> Self {
        Self {
            wants_card: false,
            own: OwnStore::Told,
            card: None,
        }
    }

    /// The card of the target as well.
    pub(crate) const fn with_card() -> Self {
        Self {
            wants_card: true,
            own: OwnStore::Unasked,
            card: None,
        }
    }

    pub(super) const fn wants_card(&self) -> bool {
        self.wants_card
    }

    /// The question for the own store, once; nobody waits for the answer before others are asked.
    pub(super) fn ask_own_store<A>(&mut self, target: Key) -> Option<Todo<A>> {
        if self.own != OwnStore::Unasked {
            return None;
        }
        self.own = OwnStore::Asked;
        Some(Todo::Get(card_of(target)))
    }

    pub(super) fn waits_for_own_store(&self) -> bool {
        self.own == OwnStore::Asked
    }

    /// Somebody has the card. Of several versions the newest stays.
    pub(super) fn on_card(&mut self, target: Key, card: Record) -> Result<(), Misfit> {
        if !self.wants_card || card.key() != target || card.kind() != Kind::Mutable {
            return Err(Misfit);
        }
        let known = self.card.as_ref();
        if known.is_none_or(|known| precedence(card.as_raw(), known.as_raw()) == Ordering::Greater) {
            self.card = Some(card);
        }
        Ok(())
    }

    pub(super) fn on_store(&mut self, target: Key, reply: StoreReply) {
        self.own = OwnStore::Told;
        if let StoreReply::Found { found, .. } = reply {
            for found in found {
                if let Found::Record(card) = found {
                    // A misfit of the own store would be a bug of the driver, and is a miss.
                    let _ = self.on_card(target, card);
                }
            }
        }
    }

    pub(super) const fn card(&self) -> Option<&Record> {
        self.card.as_ref()
    }
}

/// The question to a store for the card of a node.
pub(crate) const fn card_of(target: Key) -> crate::FindValue {
    crate::FindValue {
        key: target,
        kind: Kind::Mutable,
        min_seq: 0,
        after: None,
        want: Want::Record,
    }
}
