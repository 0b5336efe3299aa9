//! The card of this node: the signed record under its own id that says where it is.
//!
//! Who is in nobody's table is found by nothing else, and who serves is found a little sooner. It is written when the
//! node has joined, again whenever it says something else, seldomer than it changes if it changes often, and before its
//! life ends. It lives for a short time, as a card that is wrong costs whoever reads it a wait.
//!
//! - It is no record that the node *keeps*: that would be published again by a later run, which is elsewhere.
//! - A server that nobody has proven to be reachable has no card: where everybody takes itself for reachable, as in
//!   private networks, all that it could say is in the tables of others. A card that it had before expires.
//! - Nothing but an ordered end writes a card that says nothing of where the node is, so that nobody waits for it.

mod schedule;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kad_core::{Command, Keypair, MutableVersion, Outcome, Record, Rules, Verdict};
use kad_net::WireAddress;
use kad_net::card::Card;
use kad_net::nat::candidates::CandidateKind;
use kad_net::wire::EncodeError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use self::schedule::Schedule;
use crate::driver::unix_now;
use crate::join::JoinState;
use crate::node::WeakAsker;
use crate::role::Presence;

/// The life of a card. It is written again after half of it, so a node whose clock is ten minutes off is found all the
/// same, and what says where a dead node was is gone after this.
const LIFE: Duration = Duration::from_secs(2 * 3600);

/// Between two writings. A node that moves between networks changes several times within seconds, and each writing
/// costs every node of its neighbourhood a STORE.
pub(crate) const PAUSE: Duration = Duration::from_secs(10);

/// How long an end waits for its last card to be taken: some round trips.
const FAREWELL: Duration = Duration::from_secs(1);

/// What keeps the card up to date.
pub(crate) struct CardKeeper<A> {
    pub(crate) keypair: Keypair,
    pub(crate) rules: Rules,
    pub(crate) presence: watch::Receiver<Presence<A>>,
    pub(crate) join: watch::Receiver<JoinState>,
    pub(crate) asker: WeakAsker<A>,
    /// Acknowledgements that are enough.
    pub(crate) enough: usize,
    /// Between two writings; a change waits for a fifth of it. [`PAUSE`] but in tests.
    pub(crate) pause: Duration,
}

/// Has the last card written; see [`Farewell::say`].
#[derive(Debug, Clone)]
pub(crate) struct Farewell(mpsc::Sender<oneshot::Sender<()>>);

impl Farewell {
    /// Writes a card that says nothing of where the node is, if one that does was written; waits for a second at most.
    pub(crate) async fn say(&self) {
        let (done, said) = oneshot::channel();
        if self.0.try_send(done).is_ok() {
            // The keeper may have ended, and whoever ends the node does not wait for longer.
            let _ = tokio::time::timeout(FAREWELL, said).await;
        }
    }
}

/// The version that was written last.
#[derive(Debug)]
struct Written<A> {
    card: Card<A>,
    seq: u64,
}

impl<A: WireAddress> CardKeeper<A> {
    /// Starts the task, which ends with the node.
    pub(crate) fn start(self) -> Farewell {
        let (ask, asked) = mpsc::channel(1);
        tokio::spawn(self.run(asked));
        Farewell(ask)
    }

    async fn run(mut self, mut farewells: mpsc::Receiver<oneshot::Sender<()>>) {
        let mut written: Option<Written<A>> = None;
        let mut schedule = Schedule::new(self.pause);
        loop {
            let now = Instant::now();
            let wanted = said_by(&self.presence.borrow_and_update());
            let known = written.as_ref().map(|written| &written.card);
            // With nothing to say the last card is neither changed nor renewed: what it says may be of use until it
            // expires, and one that says nothing would tell its readers that the node has stopped.
            schedule.wants(wanted.as_ref().is_some_and(|wanted| known != Some(wanted)), now);
            let has_joined = *self.join.borrow_and_update() == JoinState::Joined;
            let due = schedule.due().filter(|_| has_joined);
            let writing = wanted.and_then(|wanted| Some((wanted, due?)));
            let ended = tokio::select! {
                biased;
                farewell = farewells.recv() => {
                    if let Some(done) = farewell {
                        if known.is_some_and(|known| !known.is_nowhere()) {
                            let _ = self.write(Card::default(), &mut written).await;
                        }
                        // Whoever waited may have gone.
                        let _ = done.send(());
                    }
                    true
                }
                changed = self.presence.changed() => changed.is_err(),
                changed = self.join.changed() => {
                    schedule.hope();
                    changed.is_err()
                }
                card = when_due(writing) => {
                    match self.write(card, &mut written).await {
                        Ok(()) => schedule.written(Instant::now()),
                        Err(NotWritten::Stopped) => return,
                        Err(why) => {
                            tracing::debug!(?why, "the card of this node could not be written");
                            schedule.failed(Instant::now());
                        }
                    }
                    false
                }
            };
            if ended {
                return;
            }
        }
    }

    /// Signs a version that is newer than all known ones, and stores it.
    async fn write(&self, card: Card<A>, written: &mut Option<Written<A>>) -> Result<(), NotWritten> {
        let mut seq = written
            .as_ref()
            .map_or(0, |written| written.seq)
            .saturating_add(1);
        seq = seq.max(unix_millis());
        match self.store(&card, seq).await? {
            Taken::Yes => {}
            // This clock has gone back, or another node has this key. Who says so may lie: only a card itself is proof.
            Taken::Stale => {
                let newest = self.newest_seq().await?;
                seq = seq.max(newest.saturating_add(1));
                if !matches!(self.store(&card, seq).await?, Taken::Yes) {
                    return Err(NotWritten::Refused);
                }
            }
        }
        tracing::debug!(
            seq,
            candidates = card.candidates.len(),
            relays = card.relays.len(),
            "the card of this node is written"
        );
        *written = Some(Written { card, seq });
        Ok(())
    }

    async fn store(&self, card: &Card<A>, seq: u64) -> Result<Taken, NotWritten> {
        let value = card.encode().map_err(NotWritten::Card)?;
        let issued = unix_now();
        let version = MutableVersion {
            salt: b"",
            seq,
            issued,
            expiry: issued + LIFE.min(self.rules.max_lifetime),
            value: Some(&value),
        };
        let record =
            Record::mutable(&self.keypair, &version, &self.rules, issued).map_err(|_| NotWritten::Refused)?;
        let command = Command::Store {
            record,
            expected: None,
            keep: false,
            enough: self.enough,
        };
        match self.asker.ask(command).await.map_err(|_| NotWritten::Stopped)? {
            Outcome::Stored { holders, refused, .. } => {
                let is_stale = |(_, verdict): &(_, Verdict)| {
                    matches!(verdict, Verdict::Stale { .. } | Verdict::Conflict { .. })
                };
                let stale = refused.iter().filter(|refused| is_stale(refused)).count();
                match (holders.len(), stale) {
                    (taken, stale) if stale > taken => Ok(Taken::Stale),
                    (0, _) => Err(NotWritten::Refused),
                    _ => Ok(Taken::Yes),
                }
            }
            _ => Err(NotWritten::Refused),
        }
    }

    /// The version of the card that the network has.
    async fn newest_seq(&self) -> Result<u64, NotWritten> {
        let id = self.keypair.node_id();
        match self
            .asker
            .ask(Command::Locate { id })
            .await
            .map_err(|_| NotWritten::Stopped)?
        {
            Outcome::Located { card: Some(card), .. } => Ok(card.seq()),
            _ => Ok(0),
        }
    }
}

/// Whether the holders took a version.
enum Taken {
    Yes,
    /// Most of them have a newer one.
    Stale,
}

#[derive(Debug)]
enum NotWritten {
    Stopped,
    Refused,
    #[expect(dead_code, reason = "the log tells it")]
    Card(EncodeError),
}

/// What the card says, if there should be one.
fn said_by<A: WireAddress>(presence: &Presence<A>) -> Option<Card<A>> {
    let card = &presence.card;
    let is_proven = |kind| matches!(kind, CandidateKind::Verified | CandidateKind::Mapped);
    let is_found_anyway = card.serves && !card.candidates.iter().any(|candidate| is_proven(candidate.kind));
    (!card.is_nowhere() && !is_found_anyway).then(|| card.clone())
}

/// Milliseconds since 1970 by this machine's clock.
fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The card when its time has come; never if there is none to write.
async fn when_due<A>(writing: Option<(Card<A>, Instant)>) -> Card<A> {
    match writing {
        Some((card, due)) => {
            tokio::time::sleep_until(due).await;
            card
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
