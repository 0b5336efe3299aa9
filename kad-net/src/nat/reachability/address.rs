//! What is known about one address: proofs, silences, and the check that is under way.

use std::net::{IpAddr, SocketAddr};

use kad_core::{Duration, Instant, NodeId};

use super::Prospect;
use super::places::Places;
use crate::nat::draws::Draws;

/// Different proofs that are kept; the oldest makes room. Four sites and two helpers each.
const MAX_PROOFS: usize = 8;

/// Places from which a proof must have come, and silences in a row that count as one.
pub(super) const ENOUGH: usize = 3;

/// Places of helpers that must have been asked.
const HELPERS: usize = 2;

/// After a proof, while others are missing: whoever joins waits for them.
const AT_ONCE: Duration = Duration::from_millis(250);

/// After so many probes in a row that said nothing the next check is a minute away, as whom a node was in touch with
/// changes in minutes.
const LONGEST_VOID: Duration = Duration::from_secs(60);

/// Between two checks while nothing is decided, and the longest pause after which one still counts as under way.
const SOON: Duration = Duration::from_secs(2);

/// Between two checks of a proven address when a helper had no time, or the address was silent: a router may be
/// starting anew.
const LATER: Duration = Duration::from_secs(10);

/// Between two checks of an address that was proven a short while ago, and the first pause of others.
const OFTEN: Duration = Duration::from_secs(5 * 60);

/// Between two checks of an address that has been reachable for so long, and the longest pause of others.
const SELDOM: Duration = Duration::from_secs(60 * 60);

/// Checks without a decision before there is a pause.
const TRIES: u32 = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unproven,
    Reachable { since: Instant },
    Unreachable,
}

/// What a check has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Up,
    Down,
}

#[derive(Debug)]
struct Check {
    nonce: [u8; 16],
    helper: NodeId,
    at: IpAddr,
    passed_on: bool,
}

/// An address on its way to be proven.
#[derive(Debug)]
pub(super) struct Proving {
    pub(super) address: SocketAddr,
    state: State,
    /// Hosts of helper and prober, oldest first.
    proofs: Vec<(IpAddr, IpAddr)>,
    /// Hosts of helpers that passed the question on, and nothing came; since the last proof.
    silences: Vec<IpAddr>,
    check: Option<Check>,
    /// Of the check that is under way, else of the next one.
    due: Instant,
    /// There was nobody to ask, or nobody who could say something new.
    waits: bool,
    tries: u32,
    pause: Duration,
    /// After the next probe that says nothing.
    void_pause: Duration,
    /// A helper whose target said nothing: others are asked first.
    avoid: Option<NodeId>,
}

impl Proving {
    pub(super) const fn new(address: SocketAddr, now: Instant) -> Self {
        Self {
            address,
            state: State::Unproven,
            proofs: Vec::new(),
            silences: Vec::new(),
            check: None,
            due: now,
            waits: false,
            tries: 0,
            pause: OFTEN,
            void_pause: AT_ONCE,
            avoid: None,
        }
    }

    pub(super) const fn is_reachable(&self) -> bool {
        matches!(self.state, State::Reachable { .. })
    }

    pub(super) const fn is_unreachable(&self) -> bool {
        matches!(self.state, State::Unreachable)
    }

    pub(super) const fn reachable_since(&self) -> Option<Instant> {
        match self.state {
            State::Reachable { since } => Some(since),
            State::Unproven | State::Unreachable => None,
        }
    }

    pub(super) const fn is_checking(&self) -> bool {
        self.check.is_some()
    }

    pub(super) const fn due(&self) -> Instant {
        self.due
    }

    /// How often helpers of the same place as this one have decided about what is known.
    pub(super) fn heard_of(&self, helper: IpAddr, places: Places) -> usize {
        let helpers = self.proofs.iter().map(|(helper, _)| helper);
        let same = |known: &&IpAddr| places.of(**known) == places.of(helper);
        helpers.chain(&self.silences).filter(same).count()
    }

    /// A helper that is asked only if there is nobody else.
    pub(super) const fn avoids(&self) -> Option<NodeId> {
        self.avoid
    }

    pub(super) fn check(&mut self, nonce: [u8; 16], helper: NodeId, at: IpAddr, until: Instant) {
        self.waits = false;
        self.check = Some(Check {
            nonce,
            helper,
            at,
            passed_on: false,
        });
        self.due = until;
    }

    pub(super) fn awaits(&self, nonce: [u8; 16]) -> bool {
        self.check.as_ref().is_some_and(|check| check.nonce == nonce)
    }

    /// Where the helper of the check that is under way is.
    pub(super) fn helper_at(&self) -> Option<IpAddr> {
        self.check.as_ref().map(|check| check.at)
    }

    pub(super) fn await_probe(&mut self, until: Instant) {
        if let Some(check) = &mut self.check {
            check.passed_on = true;
            self.due = until;
        }
    }

    /// There is nobody to ask.
    pub(super) const fn wait(&mut self, until: Instant) {
        (self.due, self.waits) = (until, true);
    }

    /// Somebody can be asked now.
    pub(super) const fn wait_no_longer(&mut self, now: Instant) {
        if self.waits {
            (self.due, self.waits) = (now, false);
        }
    }

    /// The check has said nothing. Returns whom it was asked of, who rests now: while nothing is proven another one is
    /// asked at once, since whoever joins waits, and this is known without waiting for anybody.
    pub(super) fn give_up(&mut self, now: Instant, draws: &mut Draws) -> Option<NodeId> {
        let check = self.check.take()?;
        self.arm(now, if self.is_reachable() { LATER } else { AT_ONCE }, draws);
        Some(check.helper)
    }

    /// What there is to wait for.
    pub(super) fn prospect(&self, now: Instant) -> Prospect {
        let goes_on = self.is_checking() || !self.waits && self.due <= now + SOON;
        match self.state {
            State::Reachable { .. } => Prospect::Heard,
            State::Unproven if goes_on && !self.proofs.is_empty() => Prospect::Heard,
            State::Unproven if goes_on && self.silences.is_empty() => Prospect::Asked,
            State::Unproven if self.silences.is_empty() => Prospect::Unclear,
            State::Unproven | State::Unreachable => Prospect::Silent,
        }
    }

    /// The probe has said nothing: no try was made, and another helper may know another target. An address that is
    /// proven and not in doubt waits for its next turn.
    pub(super) fn void(&mut self, now: Instant, draws: &mut Draws) {
        let Some(check) = self.check.take() else {
            return;
        };
        self.avoid = Some(check.helper);
        if self.is_reachable() && self.silences.is_empty() {
            return self.arm(now, LATER, draws);
        }
        self.waits = false;
        self.due = now + draws.lengthened(self.void_pause);
        self.void_pause = (self.void_pause * 2).min(LONGEST_VOID);
    }

    /// A probe came from a stranger.
    pub(super) fn proven(
        &mut self,
        now: Instant,
        from: IpAddr,
        places: Places,
        draws: &mut Draws,
    ) -> Option<Change> {
        let check = self.check.take()?;
        self.add(now, (check.at, from), places, draws)
    }

    /// A stranger called. A check that is under way goes on.
    pub(super) fn called(
        &mut self,
        now: Instant,
        from: IpAddr,
        places: Places,
        draws: &mut Draws,
    ) -> Option<Change> {
        let (check, due) = (self.check.take(), self.due);
        let change = self.add(now, (from, from), places, draws);
        if check.is_some() {
            (self.check, self.due) = (check, due);
        }
        change
    }

    fn add(
        &mut self,
        now: Instant,
        proof: (IpAddr, IpAddr),
        places: Places,
        draws: &mut Draws,
    ) -> Option<Change> {
        self.silences.clear();
        (self.void_pause, self.avoid) = (AT_ONCE, None);
        let alike = |known: &(IpAddr, IpAddr)| {
            places.of(known.0) == places.of(proof.0) && places.of(known.1) == places.of(proof.1)
        };
        self.proofs.retain(|known| !alike(known));
        if self.proofs.len() >= MAX_PROOFS {
            self.proofs.remove(0);
        }
        self.proofs.push(proof);
        let helpers = self.proofs.iter().map(|(helper, _)| places.of(*helper));
        let probers = self.proofs.iter().map(|(_, prober)| places.of(*prober));
        let change = !self.is_reachable() && different(probers) >= ENOUGH && different(helpers) >= HELPERS;
        if change {
            self.state = State::Reachable { since: now };
            self.pause = OFTEN;
        }
        if self.is_reachable() {
            self.tries = 0;
        }
        self.arm(now, AT_ONCE, draws);
        change.then_some(Change::Up)
    }

    /// The time of the check is over. Returns what that changes, and a helper that did not answer.
    pub(super) fn silence(
        &mut self,
        now: Instant,
        places: Places,
        draws: &mut Draws,
    ) -> (Option<Change>, Option<NodeId>) {
        let Some(check) = self.check.take() else {
            return (None, None);
        };
        self.avoid = None;
        if !check.passed_on {
            self.arm(now, if self.is_reachable() { LATER } else { AT_ONCE }, draws);
            return (None, Some(check.helper));
        }
        // Of many silences through one helper, no more than decide are kept.
        if self.silences.len() >= ENOUGH {
            self.silences.remove(0);
        }
        self.silences.push(check.at);
        let helpers = self.silences.iter().map(|helper| places.of(*helper));
        let lost = self.silences.len() >= ENOUGH && different(helpers) >= HELPERS;
        let change = (lost && self.is_reachable()).then_some(Change::Down);
        if lost {
            self.state = State::Unreachable;
            self.proofs.clear();
            self.silences.clear();
            self.tries = 0;
        }
        let soon = match self.state {
            State::Reachable { .. } => LATER,
            // One helper may lie, or know a target that does not probe.
            State::Unproven if self.silences.len() == 1 => AT_ONCE,
            State::Unproven | State::Unreachable => SOON,
        };
        self.arm(now, soon, draws);
        (change, None)
    }

    /// When to check next; after `soon` while that is undecided, though not for ever.
    fn arm(&mut self, now: Instant, soon: Duration, draws: &mut Draws) {
        let undecided = match self.state {
            State::Unproven => true,
            State::Reachable { .. } => !self.silences.is_empty(),
            State::Unreachable => !(self.proofs.is_empty() && self.silences.is_empty()),
        };
        let goes_on = undecided && self.tries < TRIES;
        let after = if goes_on {
            self.tries += 1;
            soon
        } else {
            self.tries = 0;
            match self.state {
                State::Reachable { since } if now.since(since) < SELDOM => OFTEN,
                State::Reachable { .. } => SELDOM,
                State::Unproven | State::Unreachable => {
                    let pause = self.pause;
                    self.pause = (pause * 2).min(SELDOM);
                    pause
                }
            }
        };
        // All that those who are known could say was not enough; a further helper may say more.
        self.waits = undecided && !goes_on && self.state == State::Unproven;
        self.due = now + draws.lengthened(after);
    }
}

fn different(sites: impl Iterator<Item = IpAddr>) -> usize {
    let mut sites: Vec<_> = sites.collect();
    sites.sort_unstable();
    sites.dedup();
    sites.len()
}
