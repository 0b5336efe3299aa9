//! Dialling a peer where its card says that it is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kad_core::NodeId;

use super::Witnessed;
use super::finder::Vain;
use crate::nat::candidates::{Candidate, CandidateKind, Meeting, is_local};
use crate::quic::address::{QuicAddress, canonical};
use crate::quic::connect;
use crate::quic::error::{QuicError, code};
use crate::quic::families::leads_nowhere;
use crate::quic::path::{Path, PathKind};
use crate::quic::peering::Peering;
use crate::quic::relayed::is_fake;
use crate::quic::shared::Shared;
use crate::wire::Scope;
use crate::wire::card::Card;

/// How long one address has before the next one is tried too. Shorter than where requests are dialled (RFC 8305,
/// section 5, allows 100 ms and more): somebody waits, and the addresses are few.
const STAGGER: Duration = Duration::from_millis(100);

/// Addresses at which a peer was heard in the own network: a cable and wireless, of both families. Further ones are not
/// tried.
const MAX_HEARD: usize = 4;

/// One address that is worth a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) kind: PathKind,
    why: &'static str,
}

/// Dials what can be dialled, one after another with a short stagger; the first that proves to be the peer becomes a
/// path.
pub(super) async fn dial(
    shared: &Arc<Shared>,
    peering: &Arc<Peering>,
    card: &Card<QuicAddress>,
    witnessed: &Witnessed,
) -> Result<(), Vain> {
    let mut waiting = targets(shared, peering.peer, card, witnessed).into_iter();
    if waiting.len() == 0 {
        return Err(Vain::NoAddress);
    }
    let mut running = FuturesUnordered::new();
    let (mut tried, mut other) = (0, None);
    loop {
        if let Some(target) = waiting.next() {
            tried += 1;
            running.push(async move { (target, attempt(shared, target.address, peering.peer).await) });
        } else if running.is_empty() {
            return Err(other.unwrap_or(Vain::NobodyAnswered { tried }));
        }
        let ended = match waiting.len() {
            0 => running.next().await,
            _ => tokio::time::timeout(STAGGER, running.next())
                .await
                .unwrap_or(None),
        };
        let Some((target, dialled)) = ended else { continue };
        match dialled {
            Ok(connection) => {
                let path = Path {
                    kind: target.kind,
                    relay: None,
                    remote: target.address,
                    dialled: true,
                    why: target.why.into(),
                    keep: None,
                };
                if peering.add_path(connection, path) {
                    return Ok(());
                }
                return Err(Vain::TooMany);
            }
            Err(QuicError::Closed) => return Err(Vain::Closed),
            Err(QuicError::WrongIdentity { .. } | QuicError::OtherNetwork) => {
                other = Some(Vain::SomebodyElse { at: target.address });
            }
            Err(QuicError::Ourselves | QuicError::NoSocket) => tried -= 1,
            Err(_) => {}
        }
    }
}

pub(super) async fn attempt(
    shared: &Shared,
    address: SocketAddr,
    peer: NodeId,
) -> Result<quinn::Connection, QuicError> {
    let granted = {
        let now = shared.mux.now();
        shared.meetings.may_dial(now, address.ip())
    };
    if !granted {
        return Err(QuicError::Unreachable {
            reason: "the host was dialled too often".to_owned(),
        });
    }
    let endpoint = shared.endpoint_for(address.ip());
    shake_hands(shared, endpoint, address, peer).await
}

/// A connection of applications with this peer over this endpoint, within the time of a handshake.
pub(super) async fn shake_hands(
    shared: &Shared,
    endpoint: Option<quinn::Endpoint>,
    address: SocketAddr,
    peer: NodeId,
) -> Result<quinn::Connection, QuicError> {
    let limit = shared.limits.handshake_timeout;
    let handshake = async {
        let _permit = shared.dials.acquire().await.map_err(|_| QuicError::Closed)?;
        connect::attempt_over(shared, endpoint, &shared.setup.application, address, Some(peer)).await
    };
    match tokio::time::timeout(limit, handshake).await {
        Ok(shaken) => shaken.map(|(connection, _)| connection),
        Err(_) => Err(QuicError::Unreachable {
            reason: format!("no handshake within {limit:?}"),
        }),
    }
}

/// Gives up a connection that is not needed after all.
pub(super) fn discard(connection: &quinn::Connection) {
    connection.close(code::UNUSED, b"");
}

/// Where to dial, the best first. Of those of a kind an address at which a connection of requests stands comes first:
/// whatever lies between lets us through, even to one that nobody else could dial.
fn targets(shared: &Shared, peer: NodeId, card: &Card<QuicAddress>, witnessed: &Witnessed) -> Vec<Target> {
    let mut targets = Vec::new();
    if let Some(link) = shared.pool.open(&peer) {
        let address = link.link().whereabouts().at;
        targets.push(Target {
            address,
            kind: PathKind::of_address(address),
            why: "dialled where the two are connected already",
        });
    }
    let standing = shared.reach.standing();
    let own = standing.borrow().candidates();
    let scope = shared.meetings.scope();
    for target in of_card(card, witnessed, scope, &own) {
        let ip = target.address.ip();
        let known = targets.iter().any(|known| known.address == target.address);
        if !(known || is_fake(ip) || leads_nowhere(ip)) {
            targets.push(target);
        }
    }
    // A connection of requests may have been made in either family.
    targets.sort_by_key(|target| target.kind);
    targets
}

/// The addresses that are worth a dial: those of the own network at which the peer was heard, then of its card those
/// that strangers reach, those that a router forwards, and, of a node that serves, those where it is seen. Addresses of
/// the own network that only its card names are tried where others than the peer itself have seen it behind the same
/// NAT.
fn of_card(card: &Card<QuicAddress>, witnessed: &Witnessed, scope: Scope, own: &[Candidate]) -> Vec<Target> {
    let meeting = meeting(witnessed, scope, own);
    let ranked = meeting.rank(&card.candidates);
    // An interface may have an address of the internet, as with IPv6: whether strangers come in there is told apart.
    let means_something = |candidate: &Candidate| {
        scope == Scope::Any || candidate.kind != CandidateKind::Lan || meeting.is_together()
    };
    let ranked = ranked.into_iter().filter(means_something);
    let target = |candidate: Candidate| {
        let address = candidate.address;
        let direct = if address.is_ipv4() {
            PathKind::DirectV4
        } else {
            PathKind::DirectV6
        };
        let (kind, why) = match candidate.kind {
            CandidateKind::Lan => (PathKind::Lan, "dialled in the network that both are in"),
            CandidateKind::Verified => (direct, "dialled at an address that strangers reach"),
            CandidateKind::Mapped => (
                PathKind::Mapped,
                "dialled at a port that the peer's router forwards",
            ),
            CandidateKind::Observed if card.serves => (direct, "dialled where the peer is seen"),
            CandidateKind::Observed | CandidateKind::Relayed => return None,
        };
        Some(Target { address, kind, why })
    };
    let heard = witnessed.heard.iter().take(MAX_HEARD);
    let heard = heard
        .map(|address| canonical(*address))
        .filter(|address| is_local(address.ip()) && address.port() >= 1024)
        .map(|address| Target {
            address,
            kind: PathKind::Lan,
            why: "dialled where it was heard in the own network",
        });
    heard.chain(ranked.filter_map(target)).collect()
}

/// Where both are seen, if that is in one network as far as others than the peer itself say.
fn meeting(witnessed: &Witnessed, scope: Scope, own: &[Candidate]) -> Meeting {
    let seen_at = own
        .iter()
        .filter(|candidate| matches!(candidate.kind, CandidateKind::Observed | CandidateKind::Verified))
        .map(|candidate| candidate.address.ip());
    let meetings = seen_at.flat_map(|own_host| {
        let hosts = witnessed.hosts.iter();
        hosts.map(move |peer_host| Meeting {
            scope,
            own_host,
            peer_host: *peer_host,
        })
    });
    let mut together = meetings.filter(Meeting::is_together);
    // Where one of the two is not known, they are not in one network.
    let [own_host, peer_host] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
    together.next().unwrap_or(Meeting {
        scope,
        own_host,
        peer_host,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(kind: CandidateKind, address: &str) -> Candidate {
        Candidate {
            address: address.parse().unwrap(),
            kind,
        }
    }

    fn told(card: &Card<QuicAddress>, witnessed: &Witnessed, own: &[Candidate]) -> Vec<(PathKind, String)> {
        of_card(card, witnessed, Scope::Global, own)
            .iter()
            .map(|target| (target.kind, target.address.to_string()))
            .collect()
    }

    #[test]
    fn what_is_dialled_is_what_can_be_reached() {
        let candidates = vec![
            candidate(CandidateKind::Observed, "8.8.8.8:4001"),
            candidate(CandidateKind::Mapped, "8.8.8.8:4002"),
            candidate(CandidateKind::Verified, "8.8.8.8:4003"),
            candidate(CandidateKind::Verified, "[2001:db8::1]:4003"),
            candidate(CandidateKind::Lan, "192.168.0.7:4001"),
        ];
        let mut card = Card {
            candidates,
            ..Card::default()
        };
        let elsewhere = [candidate(CandidateKind::Observed, "9.9.9.9:1")];
        let beside = [candidate(CandidateKind::Observed, "8.8.8.8:5001")];
        let met_there = Witnessed {
            hosts: vec!["8.8.8.8".parse().unwrap()],
            ..Witnessed::default()
        };
        let expected = [
            (PathKind::DirectV6, "[2001:db8::1]:4003".to_owned()),
            (PathKind::DirectV4, "8.8.8.8:4003".to_owned()),
            (PathKind::Mapped, "8.8.8.8:4002".to_owned()),
        ];
        assert_eq!(told(&card, &met_there, &elsewhere), expected);
        assert_eq!(
            told(&card, &met_there, &[]),
            expected,
            "who does not know where it is, is not beside anybody"
        );
        let lan = (PathKind::Lan, "192.168.0.7:4001".to_owned());
        assert_eq!(told(&card, &met_there, &beside)[0], lan);
        // Two in one /64 of IPv6, of which one has no IPv4.
        let mut neighbour = Card {
            candidates: vec![
                candidate(CandidateKind::Observed, "[2001:db8::7]:4001"),
                candidate(CandidateKind::Lan, "[fd00::7]:4001"),
                candidate(CandidateKind::Lan, "[2001:db8::8]:4001"),
            ],
            ..Card::default()
        };
        let dual = [
            beside[0],
            candidate(CandidateKind::Observed, "[2001:db8::1]:5001"),
        ];
        let met_in_v6 = Witnessed {
            hosts: vec!["2001:db8::7".parse().unwrap()],
            ..Witnessed::default()
        };
        assert_eq!(told(&neighbour, &met_in_v6, &dual).len(), 2);
        assert_eq!(
            told(&neighbour, &met_in_v6, &elsewhere),
            [],
            "an address of an interface means nothing elsewhere"
        );
        neighbour.serves = true;
        assert_eq!(told(&neighbour, &met_in_v6, &elsewhere)[0].0, PathKind::DirectV6);
        card.serves = true;
        assert_eq!(
            told(&card, &met_there, &elsewhere).last().unwrap().1,
            "8.8.8.8:4001"
        );
    }

    /// The host of the victim is no secret: whoever writes a card can say to be behind the same router.
    #[test]
    fn a_card_alone_has_nobody_in_the_own_network_dialled() {
        let lan = |n: u8| candidate(CandidateKind::Lan, &format!("192.168.0.{n}:4001"));
        let mut card = Card {
            candidates: (1..8).map(lan).collect(),
            ..Card::default()
        };
        let own = [candidate(CandidateKind::Observed, "8.8.8.8:5001")];
        for kind in [CandidateKind::Observed, CandidateKind::Verified] {
            card.candidates.push(candidate(kind, "8.8.8.8:4001"));
        }
        let dialled = told(&card, &Witnessed::default(), &own);
        assert_eq!(dialled, [(PathKind::DirectV4, "8.8.8.8:4001".to_owned())]);
    }

    #[test]
    fn a_peer_that_was_heard_in_the_own_network_is_dialled_there_and_nowhere_else() {
        let heard = [
            "192.168.0.9:4001",
            "8.8.8.8:4001",
            "192.168.0.1:53",
            "10.0.0.9:4001",
            "10.0.0.8:4001",
        ];
        let witnessed = Witnessed {
            heard: heard.map(|address| address.parse().unwrap()).to_vec(),
            ..Witnessed::default()
        };
        let dialled = told(&Card::default(), &witnessed, &[]);
        let lan = |address: &str| (PathKind::Lan, address.to_owned());
        assert_eq!(dialled, [lan("192.168.0.9:4001"), lan("10.0.0.9:4001")]);
    }
}
