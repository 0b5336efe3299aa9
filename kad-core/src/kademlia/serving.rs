//! Serving peers, and what the store answers.

use alloc::vec::Vec;

use super::Kademlia;
use crate::query::card_of;
use crate::slab::Handle;
use crate::summary::MAX_COMPARED;
use crate::table::Entry;
use crate::{
    Address, Contact, Duration, FindValue, Fingerprint, Found, Key, Kind, MAX_CARD_BYTES, MAX_CLOSER,
    MAX_RECORDS, NodeId, Now, Outbox, Output, Prefix, Record, Rejection, ReplyId, Request, Response, Slot,
    Source, StoreEntry, StoreId, StoreOp, StoreReply, Verdict,
};

/// Contacts looked at beyond those that are told, in the place of the asker and of those that are flagged.
const SPARE: usize = 5;

/// What waits for the store.
#[derive(Debug)]
pub(super) enum Pending<A> {
    /// A query of ours.
    Query(Handle),
    /// A peer that asked FIND_VALUE.
    Get {
        from: Contact<A>,
        reply_to: ReplyId,
        ask: FindValue,
    },
    /// A peer that asked FIND_NODE, and wants the card of the target.
    Card {
        from: Contact<A>,
        reply_to: ReplyId,
        target: Key,
    },
    /// A peer that asked STORE; the verdicts that are already known.
    Put {
        from: Contact<A>,
        reply_to: ReplyId,
        verdicts: Vec<Option<Verdict>>,
        /// Of those that the store judges.
        slots: Vec<Slot>,
        target: Key,
    },
    /// A peer that asked COMPARE or FETCH.
    Compare { reply_to: ReplyId },
    /// Our own question for due records.
    Due,
    /// Our own note of when records are due next.
    Note,
    /// Our own removal of expired records.
    Expire,
}

impl<A: Address> Kademlia<A> {
    pub(super) fn on_request(
        &mut self,
        now: Now,
        from: &Contact<A>,
        read_only: bool,
        reply_to: ReplyId,
        request: Request,
        out: &mut Outbox<A>,
    ) {
        self.stats.requests_received += 1;
        self.shunned.forgive(from.id);
        self.suspects.forgive(from.id);
        self.note_role_of(from.id, read_only);
        if read_only {
            self.drop_contact(now, from.id, out);
        } else if self.table.wants(from) {
            self.probe(now, from.clone(), out);
        }
        let response = match request {
            // A PONG would be taken for a sign that it serves. Whoever reads this forgets the node at once.
            _ if self.read_only => self.reject(Rejection::ReadOnly),
            Request::Ping => Response::Pong {
                unix: now.unix,
                observed: from.address.clone(),
            },
            // Where too much waits for the store, contacts are better than nothing.
            Request::FindNode { target, card: true }
                if self.pending.len() < self.config.max_pending_requests =>
            {
                let id = self.pending.insert(Pending::Card {
                    from: from.clone(),
                    reply_to,
                    target,
                });
                let query = card_of(target);
                out.push(Output::Store {
                    id: StoreId(id.to_u64()),
                    op: StoreOp::Get { query },
                });
                return;
            }
            Request::FindNode { target, .. } => Response::Nodes {
                closer: self.closer(target, from.id),
                card: None,
            },
            Request::FindValue(ask) if let Some(cached) = self.cached_answer(now, &ask) => cached,
            Request::FindValue(_)
            | Request::Store { .. }
            | Request::Compare { .. }
            | Request::Fetch { .. }
                if self.pending.len() >= self.config.max_pending_requests =>
            {
                self.reject(Rejection::Busy)
            }
            Request::FindValue(ask) => {
                let id = self.pending.insert(Pending::Get {
                    from: from.clone(),
                    reply_to,
                    ask,
                });
                out.push(Output::Store {
                    id: StoreId(id.to_u64()),
                    op: StoreOp::Get { query: ask },
                });
                return;
            }
            Request::Compare { .. } | Request::Fetch { .. } if !self.config.stores => {
                self.reject(Rejection::StoresNothing)
            }
            Request::Store { entries } if entries.is_empty() || entries.len() > MAX_RECORDS => {
                self.reject(Rejection::Malformed)
            }
            Request::Store { entries } => return self.on_store_request(now, from, reply_to, entries, out),
            Request::Compare { parts } if !is_in_order(&parts) => self.reject(Rejection::Malformed),
            Request::Compare { parts } => return self.ask_for(reply_to, StoreOp::Compare { parts }, out),
            Request::Fetch { marks, .. } if marks.is_empty() || marks.len() > MAX_RECORDS => {
                self.reject(Rejection::Malformed)
            }
            Request::Fetch { prefix, mut marks } => {
                marks.sort_unstable();
                let listed = true;
                return self.ask_for(
                    reply_to,
                    StoreOp::Fetch {
                        prefix,
                        marks,
                        listed,
                    },
                    out,
                );
            }
        };
        out.push(Output::Response { reply_to, response });
    }

    /// The store answers a peer.
    fn ask_for(&mut self, reply_to: ReplyId, op: StoreOp, out: &mut Outbox<A>) {
        let id = self.pending.insert(Pending::Compare { reply_to });
        out.push(Output::Store {
            id: StoreId(id.to_u64()),
            op,
        });
    }

    fn on_store_request(
        &mut self,
        now: Now,
        from: &Contact<A>,
        reply_to: ReplyId,
        mut entries: Vec<StoreEntry>,
        out: &mut Outbox<A>,
    ) {
        let target = entries
            .iter()
            .find_map(|entry| entry.record.as_ref().ok())
            .map(crate::Record::key);
        let (verdicts, slots) = self.turn_away(now, &entries);
        let target = match target {
            Some(target) if !slots.is_empty() => target,
            _ => {
                let verdicts: Vec<_> = verdicts.into_iter().flatten().collect();
                self.tally(&verdicts);
                // Whoever sent it to the wrong one is told of better ones.
                let closer = target.map_or_else(Vec::new, |target| self.closer(target, from.id));
                let response = Response::Stored { verdicts, closer };
                return out.push(Output::Response { reply_to, response });
            }
        };
        let mut admitted = verdicts.iter().map(Option::is_none);
        entries.retain(|_| admitted.next().unwrap_or_default());
        let (source, sender) = (Source::of(from), Some(from.id));
        let due = self.due_of_others(now.unix);
        let id = self.pending.insert(Pending::Put {
            from: from.clone(),
            reply_to,
            verdicts,
            slots,
            target,
        });
        out.push(Output::Store {
            id: StoreId(id.to_u64()),
            op: StoreOp::Put {
                entries,
                due,
                own: false,
                source,
                sender,
            },
        });
    }

    pub(super) fn on_store(&mut self, now: Now, handle: Handle, reply: StoreReply, out: &mut Outbox<A>) {
        let Some(pending) = self.pending.remove(handle) else {
            return;
        };
        match pending {
            Pending::Query(query) => {
                if let Some(asking) = self.queries.get_mut(query) {
                    asking.on_store(reply);
                    self.pump(now, query, out);
                }
            }
            Pending::Get { from, reply_to, ask } => {
                if matches!(&reply, StoreReply::Found { found, .. } if found.is_empty()) {
                    self.missed(now, &from, &ask, out);
                }
                let response = self.values(&from, &ask, reply);
                out.push(Output::Response { reply_to, response });
            }
            Pending::Card {
                from,
                reply_to,
                target,
            } => {
                let response = Response::Nodes {
                    closer: self.closer(target, from.id),
                    card: told_card(target, reply),
                };
                out.push(Output::Response { reply_to, response });
            }
            Pending::Put {
                from,
                reply_to,
                verdicts,
                slots,
                target,
            } => {
                if let StoreReply::Put(judged) = &reply {
                    self.note_versions(now, &slots, judged);
                }
                let response = self.stored(&from, verdicts, target, reply);
                out.push(Output::Response { reply_to, response });
            }
            Pending::Compare { reply_to } => {
                let response = match reply {
                    StoreReply::Compared(differences) => Response::Compared { differences },
                    StoreReply::Fetched { records, .. } => Response::Fetched { records },
                    _ => self.reject(Rejection::Busy),
                };
                out.push(Output::Response { reply_to, response });
            }
            Pending::Note => {
                if matches!(reply, StoreReply::Put(_)) {
                    self.scan_due(now, out);
                }
            }
            Pending::Due => self.on_due(now, reply, out),
            Pending::Expire => self.on_expired(now, &reply, out),
        }
    }

    fn values(&mut self, from: &Contact<A>, ask: &FindValue, reply: StoreReply) -> Response<A> {
        let StoreReply::Found { mut found, next } = reply else {
            return self.reject(Rejection::Busy);
        };
        found.truncate(MAX_RECORDS);
        self.stats.records_told += found
            .iter()
            .filter(|found| matches!(found, Found::Record(_)))
            .count() as u64;
        // An immutable value proves itself: who has it needs nobody nearer. Everything else is asked of several
        // holders.
        let proven = ask.kind == Kind::Immutable && matches!(found.first(), Some(Found::Record(_)));
        let closer = if proven {
            Vec::new()
        } else {
            self.closer(ask.key, from.id)
        };
        Response::Values { found, next, closer }
    }

    fn stored(
        &mut self,
        from: &Contact<A>,
        verdicts: Vec<Option<Verdict>>,
        target: Key,
        reply: StoreReply,
    ) -> Response<A> {
        let judged = match reply {
            StoreReply::Put(judged) => judged,
            _ => Vec::new(),
        };
        let mut judged = judged.into_iter();
        let fill = |known: Option<Verdict>| known.unwrap_or_else(|| judged.next().unwrap_or(Verdict::Failed));
        let verdicts: Vec<_> = verdicts.into_iter().map(fill).collect();
        self.tally(&verdicts);
        Response::Stored {
            verdicts,
            closer: self.closer(target, from.id),
        }
    }

    /// The nearest contacts, without the one who asks: k and a quarter more, because everybody tells of the same dead
    /// in the place of those at the edge of the region, until somebody has noticed. Those come first that are reached
    /// fastest from here, which is a hint for whoever is not far away.
    fn closer(&mut self, target: Key, asker: NodeId) -> Vec<Contact<A>> {
        let told = (self.config.k + self.config.k / 4).min(MAX_CLOSER);
        let mut closer = Vec::with_capacity(told);
        let alive = |entry: &Entry<'_, A>| entry.contact.id != asker && entry.failures == 0;
        let near = self.table.closest(target, told + SPARE, &mut self.scratch);
        let mut near = near.filter(alive).take(told);
        let mut near: [Option<Entry<'_, A>>; MAX_CLOSER] = core::array::from_fn(|_| near.next());
        // Stable: those whose round trip is not known stay nearest first.
        near.sort_by_key(|entry| {
            entry
                .as_ref()
                .and_then(|entry| entry.rtt)
                .unwrap_or(Duration::MAX)
        });
        closer.extend(near.iter().flatten().map(|entry| entry.contact.clone()));
        closer
    }

    fn reject(&mut self, reason: Rejection) -> Response<A> {
        self.stats.rejected += 1;
        Response::Rejected(reason)
    }
}

/// The card of a node, as the store had it. What is too large is no card of ours, and whoever wants it asks FIND_VALUE.
fn told_card(target: Key, reply: StoreReply) -> Option<Record> {
    let StoreReply::Found { found, .. } = reply else {
        return None;
    };
    let found = found.into_iter().find_map(|found| match found {
        Found::Record(record) => Some(record),
        Found::Digest { .. } => None,
    });
    found.filter(|card| card.key() == target && card.as_bytes().len() <= MAX_CARD_BYTES)
}

/// Whether these are few enough parts of the key space, in ascending order, and none is a part of another.
fn is_in_order(parts: &[(Prefix, Fingerprint)]) -> bool {
    let follows = |pair: &[(Prefix, Fingerprint)]| match pair {
        [(before, _), (after, _)] => before.last() < after.first(),
        _ => true,
    };
    (1..=MAX_COMPARED).contains(&parts.len()) && parts.windows(2).all(follows)
}
