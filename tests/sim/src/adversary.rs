//! Nodes that do not play by the rules.

use kad_core::{Contact, Difference, Duration, FindValue, MAX_CLOSER, Request, Response, UnixTime, Verdict};

use crate::{Census, Dice, Place};

/// A mind behind any number of nodes, which know everything of each other.
///
/// One object controls them all, because adversaries collude. It sees each request that reaches one of them, and may
/// ask on its own.
pub trait Adversary: Send {
    /// What the node at `me` answers; `None` is silence.
    fn answer(
        &mut self,
        view: &mut View<'_>,
        me: &Contact<Place>,
        from: &Contact<Place>,
        request: &Request,
    ) -> Option<Response<Place>>;

    /// Called first when the adversary's nodes are let loose and then again each time the span that it gave is over. It
    /// may put requests of its nodes into `out`; their answers are not told. `None` ends it.
    fn act(&mut self, view: &mut View<'_>, out: &mut Vec<Act>) -> Option<Duration> {
        let _ = (view, out);
        None
    }
}

/// A request that an adversary's node sends.
#[derive(Debug, Clone)]
pub struct Act {
    /// Which of its nodes.
    pub from: Contact<Place>,
    /// Whom.
    pub to: Contact<Place>,
    /// What.
    pub request: Request,
}

/// What an adversary sees of the world.
#[derive(Debug)]
pub struct View<'a> {
    /// The wall clock.
    pub unix: UnixTime,
    /// All nodes of all adversaries.
    pub colluders: &'a Census,
    /// Chance.
    pub dice: &'a mut Dice,
}

/// Takes requests and never answers: dead for those who ask, though not for the network's own count.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Adversary for Silent {
    fn answer(
        &mut self,
        _: &mut View<'_>,
        _: &Contact<Place>,
        _: &Contact<Place>,
        _: &Request,
    ) -> Option<Response<Place>> {
        None
    }
}

/// Answers at once, and only with colluders: the nearest of them to whatever was asked for. Takes every record and
/// keeps none (S/Kademlia, section 5; the sybils of the IPFS censorship attack, NDSS 2024).
#[derive(Debug, Clone, Copy)]
pub struct Lying {
    /// Colluders told in an answer; k is usual.
    pub told: usize,
}

impl Adversary for Lying {
    fn answer(
        &mut self,
        view: &mut View<'_>,
        me: &Contact<Place>,
        from: &Contact<Place>,
        request: &Request,
    ) -> Option<Response<Place>> {
        let mut lie = |target| {
            let mut closer = view.colluders.closest(target, self.told.min(MAX_CLOSER) + 1);
            closer.retain(|contact| contact.id != me.id);
            closer.truncate(self.told.min(MAX_CLOSER));
            closer
        };
        Some(match request {
            Request::Ping => Response::Pong {
                unix: view.unix,
                observed: from.address,
            },
            Request::FindNode { target, .. } => Response::Nodes {
                closer: lie(*target),
                card: None,
            },
            Request::FindValue(FindValue { key, .. }) => Response::Values {
                found: Vec::new(),
                next: None,
                closer: lie(*key),
            },
            Request::Store { entries } => {
                let target = entries
                    .iter()
                    .find_map(|entry| entry.record.as_ref().ok())
                    .map(kad_core::Record::key);
                let closer = target.map(&mut lie).unwrap_or_default();
                Response::Stored {
                    verdicts: vec![Verdict::Stored; entries.len()],
                    closer,
                }
            }
            // Nothing is missing, whatever the other one lacks.
            Request::Compare { parts } => Response::Compared {
                differences: vec![Difference::Same; parts.len()],
            },
            Request::Fetch { .. } => Response::Fetched { records: Vec::new() },
        })
    }
}

/// Lies, and knocks at victims from all of its nodes in turn, to fill their tables.
#[derive(Debug, Clone)]
pub struct Flooding {
    /// Whose tables to fill.
    pub victims: Vec<Contact<Place>>,
    /// The nodes that knock.
    pub crowd: Vec<Contact<Place>>,
    /// Knocks at each victim in a second.
    pub rate: usize,
    next: usize,
}

impl Flooding {
    /// A flood of so many requests a second at each victim.
    #[must_use]
    pub const fn new(victims: Vec<Contact<Place>>, crowd: Vec<Contact<Place>>, rate: usize) -> Self {
        Self {
            victims,
            crowd,
            rate,
            next: 0,
        }
    }
}

impl Adversary for Flooding {
    fn answer(
        &mut self,
        view: &mut View<'_>,
        me: &Contact<Place>,
        from: &Contact<Place>,
        request: &Request,
    ) -> Option<Response<Place>> {
        Lying { told: MAX_CLOSER }.answer(view, me, from, request)
    }

    fn act(&mut self, _: &mut View<'_>, out: &mut Vec<Act>) -> Option<Duration> {
        for victim in &self.victims {
            for _ in 0..self.rate {
                let from = *self.crowd.get(self.next % self.crowd.len().max(1))?;
                self.next += 1;
                out.push(Act {
                    from,
                    to: *victim,
                    request: Request::Ping,
                });
            }
        }
        Some(Duration::from_secs(1))
    }
}
