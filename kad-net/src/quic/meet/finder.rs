//! Looks for paths to one peer, as long as somebody here wants to be connected to it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use kad_core::{Contact, NodeId};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::{Witnessed, direct, relays, session};
use crate::quic::address::QuicAddress;
use crate::quic::connection::ConnectError;
use crate::quic::families::leads_nowhere;
use crate::quic::peering::{Hold, Peering};
use crate::quic::reach::NotOpened;
use crate::quic::shared::Shared;
use crate::quic::tasks::Alive;
use crate::wire::card::Card;
use crate::wire::reach::ReachRefusal;

/// Relays of a peer that are tried: the second is for when the first is gone.
const RELAYS_TRIED: usize = 2;

/// How long the first relay has before the second one is tried too.
const SECOND_RELAY: Duration = Duration::from_millis(500);

/// How long a relay that is busy has until it is asked again, in the same search; twice as long each time.
const BUSY_REST: Duration = Duration::from_millis(500);

/// How often it is asked again: half of the time that a search may take is over then.
const BUSY_ASKED: u32 = 3;

/// From the beginning of one search to that of the next, while connections wait for a path.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Who looks for one peer.
pub(super) struct Finder {
    inner: Mutex<Inner>,
    vain: watch::Sender<InVain>,
    /// Somebody came or went.
    news: Notify,
}

struct Inner {
    /// The newest that somebody knows, and what others say.
    card: Card<QuicAddress>,
    witnessed: Witnessed,
    /// Those who wait for a connection.
    seekers: usize,
    /// How often somebody came, and so perhaps the card is another.
    asked: u64,
}

/// The last search in vain.
#[derive(Default)]
struct InVain {
    /// How often somebody had come when it began.
    asked: u64,
    why: String,
}

/// One who waits for a connection.
pub(super) struct Seeking {
    finder: Arc<Finder>,
    asked: u64,
    vain: watch::Receiver<InVain>,
}

impl Seeking {
    /// Resolves when a search that began with this one's card has found no path, with why.
    pub(super) async fn in_vain(&mut self) -> String {
        loop {
            if self.vain.changed().await.is_err() {
                // Held by the finder, which this holds.
                return std::future::pending().await;
            }
            let vain = self.vain.borrow_and_update();
            if vain.asked >= self.asked {
                return vain.why.clone();
            }
        }
    }
}

impl Drop for Seeking {
    fn drop(&mut self) {
        self.finder.lock().seekers -= 1;
        self.finder.news.notify_one();
    }
}

impl Finder {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a peer looked for, from now on by this card and what others say.
pub(super) fn seek(
    shared: &Arc<Shared>,
    peer: NodeId,
    card: &Card<QuicAddress>,
    witnessed: &Witnessed,
) -> Result<Seeking, ConnectError> {
    let hold = shared.peerings.with(peer)?;
    let alive = shared.tasks.token().ok_or(ConnectError::Closed)?;
    let mut finders = shared.meetings.finders();
    let finder = match finders.get(&peer) {
        Some(finder) => {
            let mut inner = finder.lock();
            inner.card = card.clone();
            inner.witnessed = witnessed.clone();
            inner.seekers += 1;
            inner.asked += 1;
            drop(inner);
            finder.clone()
        }
        None => {
            let finder = Arc::new(Finder {
                inner: Mutex::new(Inner {
                    card: card.clone(),
                    witnessed: witnessed.clone(),
                    seekers: 1,
                    asked: 1,
                }),
                vain: watch::Sender::default(),
                news: Notify::new(),
            });
            // As many as there are peerings, each of which is held.
            finders.insert(peer, finder.clone());
            tokio::spawn(run(shared.clone(), finder.clone(), hold, alive));
            finder
        }
    };
    drop(finders);
    finder.news.notify_one();
    let vain = finder.vain.subscribe();
    let asked = finder.lock().asked;
    Ok(Seeking { finder, asked, vain })
}

async fn run(shared: Arc<Shared>, finder: Arc<Finder>, hold: Hold, _alive: Alive) {
    let peering = hold.peering();
    let (mut trusted, mut wanted) = (peering.trusted(), peering.wanted());
    let mut changes = shared.meetings.changes.subscribe();
    let mut changed = false;
    // A peer that lets us in and out again is not dialled without a pause.
    let mut not_before = Instant::now();
    loop {
        if forget(&shared, &finder, &wanted, peering.peer) {
            return;
        }
        let lacks = !*trusted.borrow_and_update();
        wanted.borrow_and_update();
        if lacks || changed {
            changed = false;
            let searching = async {
                tokio::time::sleep_until(not_before).await;
                not_before = Instant::now() + AGAIN_AFTER;
                search(&shared, &finder, peering).await
            };
            tokio::select! {
                found = searching => {
                    if let Err(vain) = found {
                        finder.vain.send_replace(vain);
                    }
                }
                () = nobody_wants(&finder, &mut wanted) => {}
                _ = changes.changed() => changed = true,
            }
        } else {
            tokio::select! {
                _ = trusted.changed() => {}
                _ = wanted.changed() => {}
                _ = changes.changed() => changed = true,
                () = finder.news.notified() => {}
            }
        }
    }
}

/// Ends it if nobody wants it any more.
fn forget(shared: &Shared, finder: &Arc<Finder>, wanted: &watch::Receiver<bool>, peer: NodeId) -> bool {
    let mut finders = shared.meetings.finders();
    let closed = shared.tasks.token().is_none();
    let idle = finder.lock().seekers == 0 && !*wanted.borrow();
    if !(closed || idle) {
        return false;
    }
    if finders.get(&peer).is_some_and(|known| Arc::ptr_eq(known, finder)) {
        finders.remove(&peer);
    }
    true
}

/// Resolves once nobody wants the peer.
async fn nobody_wants(finder: &Finder, wanted: &mut watch::Receiver<bool>) {
    loop {
        if finder.lock().seekers == 0 && !*wanted.borrow_and_update() {
            return;
        }
        tokio::select! {
            () = finder.news.notified() => {}
            told = wanted.changed() => {
                if told.is_err() {
                    return;
                }
            }
        }
    }
}

/// Tries all ways beside each other, and goes on until one that is not relayed was found, or all have ended.
///
/// # Errors
/// A sentence on what was tried, if there is no path.
async fn search(shared: &Arc<Shared>, finder: &Finder, peering: &Arc<Peering>) -> Result<(), InVain> {
    let (card, witnessed, asked) = {
        let inner = finder.lock();
        (inner.card.clone(), inner.witnessed.clone(), inner.asked)
    };
    let relays = relays::ways(&card, |ip| !leads_nowhere(ip));
    let relays_are_elsewhere = relays.is_empty() && !card.relays.is_empty();
    let mut ways: FuturesUnordered<BoxFuture<'_, Result<Found, Vain>>> = FuturesUnordered::new();
    ways.push(
        direct::dial(shared, peering, &card, &witnessed)
            .map(|dialled| dialled.map(|()| Found::Direct))
            .boxed(),
    );
    let relays = relays.iter().filter(|relay| relay.id != shared.local);
    for (place, relay) in relays.take(RELAYS_TRIED).enumerate() {
        let through = async move {
            if place > 0 {
                tokio::time::sleep(SECOND_RELAY).await;
                if peering.is_trusted() {
                    return Ok(Found::Relayed);
                }
            }
            through(shared, peering, relay).await
        };
        ways.push(through.boxed());
    }
    let mut vain = Vec::new();
    if relays_are_elsewhere {
        vain.push(Vain::OtherFamily);
    }
    while let Some(way) = ways.next().await {
        match way {
            Ok(Found::Direct) => return Ok(()),
            Ok(Found::Relayed) => {}
            Err(why) => vain.push(why),
        }
    }
    // Perhaps the peer came to us meanwhile. One that is doubted may recover yet: nobody is told to give up.
    if peering.best().borrow().is_some() {
        return Ok(());
    }
    let why = sentence(&card, &vain);
    Err(InVain { asked, why })
}

/// Opens a path through a relay. One that is busy is asked again meanwhile: somebody waits, and it may be for a moment
/// only.
async fn through(
    shared: &Arc<Shared>,
    peering: &Arc<Peering>,
    relay: &Contact<QuicAddress>,
) -> Result<Found, Vain> {
    let mut rest = BUSY_REST;
    for _ in 0..BUSY_ASKED {
        match session::open(shared, peering, relay).await {
            Err(why) if why.is_busy() => tokio::time::sleep(rest).await,
            outcome => return outcome.map(|()| Found::Relayed),
        }
        if peering.is_trusted() {
            return Ok(Found::Relayed);
        }
        rest *= 2;
    }
    session::open(shared, peering, relay)
        .await
        .map(|()| Found::Relayed)
}

enum Found {
    Direct,
    Relayed,
}

/// Why one way led nowhere.
#[derive(Debug)]
pub(super) enum Vain {
    /// There is nothing to dial.
    NoAddress,
    NobodyAnswered {
        tried: usize,
    },
    SomebodyElse {
        at: SocketAddr,
    },
    /// Through this relay.
    Relay {
        relay: Contact<QuicAddress>,
        why: NotThrough,
    },
    /// All relays are where this machine cannot go.
    OtherFamily,
    TooMany,
    Closed,
}

impl Vain {
    const fn is_busy(&self) -> bool {
        matches!(
            self,
            Self::Relay {
                why: NotThrough::NotOpened(NotOpened::Refused(ReachRefusal::Busy)),
                ..
            }
        )
    }
}

/// Why there is no path through a relay.
#[derive(Debug)]
pub(super) enum NotThrough {
    NotOpened(NotOpened),
    /// The relay has opened it, and the peer did not answer.
    Silent,
    /// The peer at the other end is not the one that was meant.
    SomebodyElse,
}

impl fmt::Display for Vain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("its card names no address that could be dialled"),
            Self::NobodyAnswered { tried: 0 | 1 } => f.write_str("nobody answered at its address"),
            Self::NobodyAnswered { tried } => write!(f, "nobody answered at {tried} addresses"),
            Self::SomebodyElse { at } => write!(f, "somebody else answered at {at}"),
            Self::Relay { relay, why } => {
                write!(f, "through the relay {:?} at {}: ", relay.id, relay.address)?;
                match why {
                    NotThrough::NotOpened(why) => why.fmt(f),
                    NotThrough::Silent => f.write_str("the peer did not answer"),
                    NotThrough::SomebodyElse => f.write_str("somebody else answered"),
                }
            }
            Self::OtherFamily => {
                f.write_str("its relays have only IPv4 and this machine only IPv6, or the other way round")
            }
            Self::TooMany => f.write_str("there are too many paths to it"),
            Self::Closed => f.write_str("the transport is closed"),
        }
    }
}

/// What was tried and what came of it.
fn sentence(card: &Card<QuicAddress>, vain: &[Vain]) -> String {
    if card.is_nowhere() && vain.iter().all(|why| matches!(why, Vain::NoAddress)) {
        return "the peer's card names neither an address nor a relay: most likely it is not running"
            .to_owned();
    }
    let reasons: Vec<_> = vain.iter().map(ToString::to_string).collect();
    format!("the peer cannot be reached: {}", reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_a_sentence() {
        let mut card = Card::default();
        assert!(sentence(&card, &[Vain::NoAddress]).contains("neither an address nor a relay"));
        let relay = Contact::new(NodeId::from_limbs([1, 0, 0, 0]), "1.2.3.4:5".parse().unwrap());
        card.relays.push(relay.clone());
        let vain = [
            Vain::NobodyAnswered { tried: 2 },
            Vain::Relay {
                relay,
                why: NotThrough::NotOpened(NotOpened::Silent),
            },
        ];
        let told = sentence(&card, &vain);
        assert_eq!(
            told,
            "the peer cannot be reached: nobody answered at 2 addresses; through the relay 00000000 at 1.2.3.4:5: the relay did not answer"
        );
    }
}
