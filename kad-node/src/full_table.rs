//! A node that knows everybody, so that its lookups are over in one hop.
//!
//! The table of such a node has room for the whole network ([`TableConfig::full`](kad_core::table::TableConfig::full)),
//! and a walk over the network fills it: the same that a crawl makes, slowly, again and again. Nothing else differs. A
//! contact enters the table when it has answered, as ever, and leaves it when it was silent twice. A lookup begins at
//! the nearest contacts of the table; if these are the nearest there are, it is over when they have answered, and if
//! somebody is missing, they tell of it, and the lookup goes on as any other.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use kad_core::table::{DEFAULT_FULL_CONTACTS, MAX_FULL_CONTACTS};
use kad_core::{Command, NodeId};
use kad_net::WireAddress;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::crawl::{Walk, follow};
use crate::join::{Company, JoinState};
use crate::node::WeakAsker;
use crate::{SpawnError, Told};

/// How often a full table is walked through unless told otherwise: as often as buckets are refreshed.
const DEFAULT_WALK: Duration = Duration::from_secs(3600);

/// Questions of a walk under way at once unless told otherwise: few, because it is never in a hurry.
const DEFAULT_PARALLEL: usize = 4;

/// The most questions of a walk under way at once: with more it would compete with what the application asks.
const MAX_PARALLEL: usize = 32;

/// The shortest time from the beginning of one walk to that of the next.
const SHORTEST_WALK: Duration = Duration::from_secs(1);

/// The shortest pause between two questions of a walk, at the first one, of which nobody knows how long it will be. 200
/// a second are some 2 Mbit/s of answers, and know a network of 10,000 within ten minutes.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

/// Nodes that a walk follows for each contact that the table has room for: as many may be dead.
const HEARD_PER_CONTACT: usize = 2;

/// Whom a node wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TableMode {
    /// Many nearby and few far away, as Kademlia has it: lookups take about log(members) hops, and upkeep costs next to
    /// nothing.
    #[default]
    Kademlia,
    /// Everybody, as far as there is room: lookups take one hop, and upkeep is a walk over the network now and then.
    Full(FullTable),
}

impl TableMode {
    /// A full table with the defaults.
    #[must_use]
    pub fn full() -> Self {
        Self::Full(FullTable::default())
    }
}

/// Reads `kademlia` or `full`.
impl FromStr for TableMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kademlia" => Ok(Self::Kademlia),
            "full" => Ok(Self::full()),
            _ => Err(format!("a table is \"kademlia\" or \"full\", not {text:?}")),
        }
    }
}

impl fmt::Display for TableMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kademlia => "kademlia",
            Self::Full(_) => "full",
        })
    }
}

/// How a full table is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FullTable {
    /// Contacts that it has room for, 1 to [`MAX_FULL_CONTACTS`]. Of a larger network it holds as many, spread over the
    /// space, and all neighbours; lookups then take a hop or two more. Default [`DEFAULT_FULL_CONTACTS`].
    pub contacts: usize,
    /// From the beginning of one walk over the network to that of the next, at least a second. A walk asks each node
    /// about log2(members / k) + 2 questions, spread over nine tenths of this time; only the first is quicker, 200
    /// questions a second. It fights with the traffic that a node may cost: of 10,000 members an hour makes 30
    /// questions a second. Default 1 h.
    pub walk: Duration,
    /// Questions of a walk under way at once, 1 to 32; numbers beyond that are taken for the nearest. Default 4.
    pub parallel: usize,
}

impl Default for FullTable {
    fn default() -> Self {
        Self {
            contacts: DEFAULT_FULL_CONTACTS,
            walk: DEFAULT_WALK,
            parallel: DEFAULT_PARALLEL,
        }
    }
}

impl FullTable {
    /// The same with room for another number of contacts.
    #[must_use]
    pub fn contacts(self, contacts: usize) -> Self {
        Self { contacts, ..self }
    }

    /// The same with another time for a walk.
    #[must_use]
    pub fn walk(self, walk: Duration) -> Self {
        Self { walk, ..self }
    }

    /// The same with another number of questions at once.
    #[must_use]
    pub fn parallel(self, parallel: usize) -> Self {
        Self { parallel, ..self }
    }

    pub(crate) fn check(&self) -> Result<(), SpawnError> {
        if !(1..=MAX_FULL_CONTACTS).contains(&self.contacts) {
            return Err(SpawnError::Table(format!(
                "it can have room for 1 to {MAX_FULL_CONTACTS} contacts, not for {}",
                self.contacts
            )));
        }
        if self.walk < SHORTEST_WALK {
            return Err(SpawnError::Table(format!(
                "a walk over the network can begin every second at most, not every {:?}",
                self.walk
            )));
        }
        Ok(())
    }
}

/// Walks over the network for as long as the node lives.
pub(crate) struct Walker<A> {
    pub(crate) own: NodeId,
    pub(crate) full: FullTable,
    pub(crate) asker: WeakAsker<A>,
    pub(crate) company: watch::Receiver<Company>,
    pub(crate) join: watch::Receiver<JoinState>,
}

impl<A: WireAddress> Walker<A> {
    /// Ends when the driver has, whatever it is doing.
    pub(crate) async fn run(self) {
        let mut company = self.company.clone();
        tokio::select! {
            biased;
            // Nothing is like that, so this is over when the driver, who would say so, is gone.
            _ = company.wait_for(|_| false) => {}
            () = self.walks() => {}
        }
    }

    async fn walks(mut self) {
        let mut questions = 0;
        loop {
            // Joining comes first; nothing may compete with that. The first node of a network waits for others.
            let somebody = |company: &Company| *company > Company::Nobody;
            let is_joined = |state: &JoinState| *state == JoinState::Joined;
            if self.company.wait_for(somebody).await.is_err() || self.join.wait_for(is_joined).await.is_err()
            {
                return;
            }
            let Some(contacts) = self.asker.contacts().await else {
                return;
            };
            if contacts.is_empty() {
                continue; // Everybody was lost meanwhile.
            }
            let started = Instant::now();
            let pause = pause(self.full.walk, questions);
            let (asker, mut next) = (&self.asker, started);
            let ask = |contact, target| {
                // The turn of this question; the next one's comes a pause later.
                let turn = next.max(Instant::now());
                next = turn + pause;
                async move {
                    sleep_until(turn).await;
                    Told::of(asker.ask(Command::Ask { contact, target }).await?)
                }
            };
            let bound = self.full.contacts.saturating_mul(HEARD_PER_CONTACT);
            let mut walk = Walk::new(self.own, bound, contacts);
            let parallel = self.full.parallel.clamp(1, MAX_PARALLEL);
            if follow(&mut walk, parallel, ask, |_| {}).await.is_err() {
                return;
            }
            let found = walk.report(true, false, started.elapsed());
            tracing::debug!(
                reachable = found.reachable,
                dead = found.dead,
                questions = found.requests,
                left_out = found.left_out,
                took = ?found.took,
                "walked over the network"
            );
            questions = found.requests;
            sleep_until(started + self.full.walk).await;
        }
    }
}

/// The pause between two questions of a walk, so that it takes nine tenths of its time if it is as long as the last
/// one.
fn pause(walk: Duration, last: u64) -> Duration {
    let spread = match u32::try_from(last) {
        Ok(0) | Err(_) => Duration::ZERO,
        Ok(questions) => walk * 9 / 10 / questions,
    };
    spread.max(SHORTEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_spread_over_its_time_and_never_hurried() {
        let hour = Duration::from_secs(3600);
        assert_eq!(pause(hour, 0), SHORTEST_PAUSE);
        assert_eq!(pause(hour, 3240), Duration::from_secs(1));
        assert_eq!(pause(hour, 100_000_000), SHORTEST_PAUSE);
        assert_eq!(pause(hour, u64::MAX), SHORTEST_PAUSE);
        assert_eq!(pause(SHORTEST_WALK, 1), Duration::from_millis(900));
    }

    #[test]
    fn the_modes_are_read_as_they_are_written() {
        for mode in [TableMode::Kademlia, TableMode::full()] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        let error = "one-hop".parse::<TableMode>().unwrap_err();
        assert!(error.contains("kademlia") && error.contains("full"), "{error}");
    }

    #[test]
    fn tables_that_cannot_be_are_refused() {
        let full = FullTable::default();
        assert!(full.check().is_ok());
        for wrong in [
            full.contacts(0),
            full.contacts(MAX_FULL_CONTACTS + 1),
            full.walk(Duration::from_millis(999)),
        ] {
            assert!(matches!(wrong.check(), Err(SpawnError::Table(_))), "{wrong:?}");
        }
        assert!(
            full.contacts(MAX_FULL_CONTACTS)
                .walk(SHORTEST_WALK)
                .check()
                .is_ok()
        );
    }
}
