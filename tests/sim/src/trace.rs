//! A running hash of everything that happens.

use kad_core::{Difference, Found, Outcome, Request, Response};

use crate::Place;

/// What two runs of one seed must agree on: each event is folded in as it happens, with its time, its place and what it
/// carried. No cryptography: it has to notice a difference, not an enemy.
#[derive(Debug, Clone, Copy)]
pub struct Trace(u64);

impl Trace {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed ^ 0x6b61_6420_7369_6d21)
    }

    pub(crate) const fn fold(&mut self, word: u64) {
        // A multiplication mixes upwards, the rotation brings what it mixed down again (as in FxHash).
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// The hash so far.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }

    pub(crate) fn request(&mut self, request: &Request) {
        match request {
            Request::Ping => self.fold(1),
            Request::FindNode { target, card } => {
                self.fold(2 ^ u64::from(*card) << 32 ^ target.to_limbs()[0]);
            }
            Request::FindValue(ask) => self.fold(3 ^ ask.key.to_limbs()[0] ^ ask.min_seq),
            Request::Store { entries } => {
                for entry in entries {
                    self.fold(
                        4 ^ entry
                            .record
                            .as_ref()
                            .map_or(0, |record| record.key().to_limbs()[0]),
                    );
                }
            }
            Request::Compare { parts } => {
                self.fold(11);
                for (prefix, fingerprint) in parts {
                    self.fold(prefix.bits() ^ u64::from(prefix.len()) ^ fingerprint.sum as u64);
                }
            }
            Request::Fetch { prefix, marks } => {
                self.fold(12 ^ prefix.bits());
                marks.iter().for_each(|&mark| self.fold(mark));
            }
        }
    }

    pub(crate) fn response(&mut self, response: &Response<Place>) {
        let (code, closer) = match response {
            Response::Pong { unix, .. } => return self.fold(5 ^ unix.as_secs()),
            Response::Rejected(_) => return self.fold(6),
            Response::Compared { differences } => {
                self.fold(13);
                for difference in differences {
                    self.fold(match difference {
                        Difference::Same => 0,
                        Difference::Parts(parts) => parts.iter().map(|part| u64::from(part.count)).sum(),
                        Difference::Listed(marks) => marks.len() as u64,
                    });
                }
                return;
            }
            Response::Fetched { records } => {
                self.fold(14);
                return records
                    .iter()
                    .for_each(|record| self.fold(record.key().to_limbs()[0] ^ record.seq()));
            }
            Response::Nodes { closer, card } => {
                if let Some(card) = card {
                    self.fold(16 ^ card.seq());
                }
                (7, closer)
            }
            Response::Values { found, closer, .. } => {
                for found in found {
                    self.fold(match found {
                        Found::Record(record) => record.key().to_limbs()[0] ^ record.seq(),
                        Found::Digest { seq, .. } => *seq,
                    });
                }
                (8, closer)
            }
            Response::Stored { verdicts, closer } => {
                let stored = verdicts.iter().filter(|verdict| verdict.is_acknowledgement());
                self.fold(stored.count() as u64);
                (9, closer)
            }
        };
        self.fold(code);
        for contact in closer {
            self.fold(contact.id.to_key().to_limbs()[0]);
        }
    }

    pub(crate) fn outcome(&mut self, outcome: &Outcome<Place>) {
        match outcome {
            Outcome::Closest(closest) => {
                for contact in closest {
                    self.fold(contact.id.to_key().to_limbs()[0]);
                }
            }
            Outcome::Located { closest, card } => {
                self.fold(17 ^ card.as_ref().map_or(0, kad_core::Record::seq));
                for contact in closest {
                    self.fold(contact.id.to_key().to_limbs()[0]);
                }
            }
            Outcome::Found { records, holders } => self.fold((records.len() << 16 | holders.len()) as u64),
            Outcome::Stored { holders, refused, .. } => {
                self.fold((refused.len() << 16 | holders.len()) as u64);
            }
            Outcome::StoredMany { placements } => {
                let copies: usize = placements.iter().map(|placement| placement.holders.len()).sum();
                self.fold((copies << 16 | placements.len()) as u64);
            }
            Outcome::Bootstrapped { contacts } => self.fold(*contacts as u64),
            Outcome::Pong { .. } => self.fold(10),
            Outcome::Failed(_) => self.fold(11),
            Outcome::HandedOver { records } => self.fold(15 ^ records << 8),
            Outcome::Told { closer, .. } => self.fold(12 ^ closer.len() as u64),
        }
    }
}
