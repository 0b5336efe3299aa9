//! Being proven before everybody is met.
//!
//! Only nodes that this one has never sent anything to can show that strangers reach it (`kad_net::nat::reachability`),
//! and a node that joins talks to its whole neighbourhood: to everybody, where a network has some dozen servers. Then
//! nobody is left to prove anything, and a node that everybody could reach only asks. So a node that has yet to prove
//! itself first meets a few, who say where they see it and have it probed by others, and joins when that is done:
//!
//! - **Two bootstrap nodes and two near to its own id.** To the bootstrap nodes all come that join, and the others are
//!   different ones for each of them.
//! - **One more** where those who were met cannot say anything: as many as a proof leaves of strangers.
//! - **As long as it goes forward.** When a first stranger was heard, or a helper is still being asked, the node waits
//!   for up to 20 seconds, as machines may be busy; behind a NAT, where probes were sent and none arrived, for five.
//!
//! What is proven later, by whoever calls, counts as ever.

use std::net::IpAddr;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use kad_core::{Contact, MAX_SEEDS, NodeId, Request, Response};
use kad_net::nat::candidates::CandidateKind;
use kad_net::nat::reachability::Prospect;
use kad_net::wire::Codec;
use kad_net::{Transport, WireAddress};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::identify_at;
use crate::driver::unix_now;
use crate::role::{Presence, Role};

/// Bootstrap nodes that are met before a proof: helpers at two places, of those that everybody asks.
pub(super) const BEGIN_WITH: usize = 2;

/// Nodes that are met before a proof: an address is believed when three say so, and one may be silent.
const MET_BEFORE: usize = 4;

/// Nodes that are met at most before a proof, where the first ones cannot help: as many again.
const MAX_MET_BEFORE: usize = 8;

/// How long nobody says anything before one more is met: three round trips of a bad path.
const ONE_MORE_AFTER: Duration = Duration::from_secs(1);

/// Nodes that have to be met for a proof: helpers at two places.
const HELPERS: usize = 2;

/// Nodes that have to be left for a proof: those that probe.
const STRANGERS: usize = 3;

/// How long a node waits for a proof before it joins without: three checks, one after the other, are some ten round
/// trips, and a probe that does not come is waited for four seconds. A node behind a NAT waits that long in vain, once.
pub(crate) const PROOF_WITHIN: Duration = Duration::from_secs(5);

/// So many times longer a node waits while a helper is asked, or strangers were heard already: for busy machines, and
/// for helpers that answer late.
const LONGER: u32 = 4;

/// What a node waits for that has yet to prove that strangers reach it.
pub(crate) struct Proof<A> {
    pub(crate) presence: watch::Receiver<Presence<A>>,
    pub(crate) codec: Codec,
    /// How long without any prospect.
    pub(crate) within: Duration,
}

impl<A: WireAddress> Proof<A> {
    /// Meets a few more than these, and waits until strangers have reached this node. Those of the last run were not
    /// met yet.
    pub(super) async fn find<T: Transport<Address = A>>(
        self,
        transport: &T,
        met: &[Contact<A>],
        remembered: &[Contact<A>],
    ) {
        let within = self.within;
        let found = self.find_at_leisure(transport, met, remembered);
        let outcome = match timeout(within * LONGER, found).await {
            Ok(Found::Proven) => "strangers have reached this node",
            Ok(Found::TooFew) => "too few nodes are known to prove anything",
            Ok(Found::Nothing) | Err(_) => "nothing was proven in time",
        };
        tracing::debug!(?within, "{outcome}; now this node joins");
    }

    async fn find_at_leisure<T: Transport<Address = A>>(
        self,
        transport: &T,
        met: &[Contact<A>],
        remembered: &[Contact<A>],
    ) -> Found {
        let own = transport.local().id;
        let mut met = met.to_vec();
        let mut known = Vec::new();
        // The first one that answers is enough. Whoever is asked is met, whether it was a bootstrap node or not.
        let askable: Vec<_> = met.iter().chain(remembered).take(MET_BEFORE).cloned().collect();
        for contact in askable {
            let told = self.ask(transport, &contact).await;
            if met.iter().all(|one| one.id != contact.id) {
                met.push(contact);
            }
            if let Some(told) = told {
                known = told;
                break;
            }
        }
        known.extend(remembered.iter().take(MAX_SEEDS).cloned());
        let others = others(own, &met, known);
        let Some(more) = to_meet(met.len(), others.len()) else {
            return Found::TooFew;
        };
        let spare = others.len().saturating_sub(STRANGERS);
        let candidates = apart(&met, others).into_iter().take(spare);
        self.wait(transport, candidates, met.len(), more).await
    }

    /// Meets so many of these, and others in place of those that are not there or cannot help, until something is
    /// proven or there is nothing to wait for.
    async fn wait<T: Transport<Address = A>>(
        mut self,
        transport: &T,
        mut candidates: impl Iterator<Item = Contact<A>>,
        mut met: usize,
        more: usize,
    ) -> Found {
        let first = candidates.by_ref().take(more);
        let mut meeting: FuturesUnordered<_> = first.map(|contact| meet(transport, contact)).collect();
        met += meeting.len();
        let mut since = Instant::now();
        let (mut quiet_since, mut last, mut meets_first) = (since, Prospect::Unclear, true);
        loop {
            let (proven, prospect) = {
                let presence = self.presence.borrow_and_update();
                (is_proven(&presence), presence.prospect)
            };
            let now = Instant::now();
            if proven {
                return Found::Proven;
            }
            let waits = matches!(prospect, Prospect::Asked | Prospect::Heard);
            if !waits && now >= since + self.within {
                return Found::Nothing;
            }
            if prospect != last {
                (last, quiet_since) = (prospect, now);
            }
            let one_more = prospect == Prospect::Unclear && meeting.is_empty() && met < MAX_MET_BEFORE;
            tokio::select! {
                changed = self.presence.changed() => {
                    // The end of the transport, after which there is nothing to wait for.
                    if changed.is_err() {
                        return Found::Nothing;
                    }
                }
                Some(is_there) = meeting.next(), if !meeting.is_empty() => {
                    quiet_since = Instant::now();
                    if !is_there && let Some(next) = candidates.next() {
                        meeting.push(meet(transport, next));
                    } else if meets_first && meeting.is_empty() {
                        // Until then there were too few to prove anything.
                        (since, meets_first) = (quiet_since, false);
                    }
                }
                () = sleep_until(quiet_since + ONE_MORE_AFTER), if one_more => {
                    quiet_since = Instant::now();
                    met += 1;
                    meeting.extend(candidates.next().map(|contact| meet(transport, contact)));
                }
                () = sleep_until(since + self.within), if !waits => {}
            }
        }
    }

    /// Whom a node knows near to this one; `None` if it does not say.
    async fn ask<T: Transport<Address = A>>(
        &self,
        transport: &T,
        contact: &Contact<A>,
    ) -> Option<Vec<Contact<A>>> {
        let request = Request::FindNode {
            target: transport.local().id.to_key(),
            card: false,
        };
        let frame = self.codec.encode_request(unix_now(), true, &request).ok()?;
        let answer = transport.request(contact, frame).await.ok()?;
        match self.codec.decode_response(unix_now(), answer.frame, &request) {
            Ok(Response::Nodes { closer, .. }) => Some(closer),
            _ => None,
        }
    }
}

/// What came of it.
enum Found {
    /// Strangers have reached this node.
    Proven,
    /// There are too few others for a proof.
    TooFew,
    /// There is nothing to wait for any more.
    Nothing,
}

/// Whether somebody is there.
async fn meet<T: Transport>(transport: &T, contact: Contact<T::Address>) -> bool {
    identify_at(transport, &contact.address).await.is_ok()
}

/// Whether there is nothing left to wait for.
fn is_proven<A>(presence: &Presence<A>) -> bool {
    let mut candidates = presence.card.candidates.iter();
    presence.role == Role::Server || candidates.any(|candidate| candidate.kind == CandidateKind::Verified)
}

/// Of those that are known, the ones that were not met, each once.
fn others<A>(own: NodeId, met: &[Contact<A>], known: Vec<Contact<A>>) -> Vec<Contact<A>> {
    let mut others: Vec<Contact<A>> = Vec::new();
    for contact in known {
        let is_new = |list: &[Contact<A>]| list.iter().all(|one| one.id != contact.id);
        if contact.id != own && is_new(met) && is_new(&others) {
            others.push(contact);
        }
    }
    others
}

/// How many more to meet, so that enough are left who were not; `None` where nothing can be proven.
fn to_meet(met: usize, others: usize) -> Option<usize> {
    let spare = others.checked_sub(STRANGERS)?;
    let more = MET_BEFORE.saturating_sub(met).min(spare);
    (met + more >= HELPERS).then_some(more)
}

/// Those first that are at another site than all before them, then those on another host; nobody beside another on its
/// host.
fn apart<A: WireAddress>(met: &[Contact<A>], others: Vec<Contact<A>>) -> Vec<Contact<A>> {
    let mut sites: Vec<u64> = met.iter().filter_map(site).collect();
    let mut hosts: Vec<IpAddr> = met.iter().filter_map(host).collect();
    let (mut apart, mut beside) = (Vec::new(), Vec::new());
    for contact in others {
        match site(&contact) {
            Some(site) if !sites.contains(&site) => {
                sites.push(site);
                hosts.extend(host(&contact));
                apart.push(contact);
            }
            _ => beside.push(contact),
        }
    }
    for contact in beside {
        match host(&contact) {
            Some(host) if !hosts.contains(&host) => {
                hosts.push(host);
                apart.push(contact);
            }
            _ => {}
        }
    }
    apart
}

/// The site of a contact; none where addresses have none.
fn site<A: WireAddress>(contact: &Contact<A>) -> Option<u64> {
    contact.address.groups().map(|groups| groups.narrow)
}

fn host<A: WireAddress>(contact: &Contact<A>) -> Option<IpAddr> {
    let sockets = contact.address.sockets();
    sockets.first().map(|socket| socket.ip().to_canonical())
}

#[cfg(test)]
mod tests;
