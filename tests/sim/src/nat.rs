//! What stands between nodes and the internet: which NATs there are, and what of two that meet.
//!
//! A NAT here is `kad_net::nat::model`, the one with which the machines of `kad_net::nat` are tested: mapping,
//! filtering, expiry and poisoning, packet by packet. What a node does about it is decided by these machines
//! themselves, the ones that the daemon drives; the world is their driver (`world/homes.rs` and its neighbours), and no
//! rule of theirs stands here a second time.

use std::net::Ipv4Addr;

use kad_core::{Duration, Instant};
use kad_net::nat::model::Kind;
pub use kad_net::nat::reachability::{Role, RoleChoice};

use crate::Dice;

/// What is in front of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Front {
    /// The type of NAT or firewall.
    pub kind: Kind,
    /// Whether its port is forwarded: by hand, or by PCP, NAT-PMP or UPnP.
    pub forwarded: bool,
}

impl Front {
    /// Neither NAT nor firewall.
    pub const OPEN: Self = Self {
        kind: Kind::Open,
        forwarded: false,
    };

    /// Whether strangers reach the node.
    #[must_use]
    pub const fn admits_strangers(self) -> bool {
        matches!(self.kind, Kind::Open | Kind::Full) || self.forwarded && !matches!(self.kind, Kind::Block)
    }
}

/// Which NATs the nodes of a network are behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// The share of nodes that are behind one.
    pub behind: f64,
    /// Of these, the shares of types; together 1.
    pub kinds: [(Kind, f64); 7],
    /// Of those whose routers could, the share whose port is forwarded.
    pub forwarded: f64,
}

impl Default for Mix {
    /// Six in ten nodes are behind something. Nobody publishes all of these shares for one population, so they are set
    /// such that what has been published comes out:
    ///
    /// - 82 % of NATs map endpoint-independently and can be punched (Ford, Srisuresh and Kegel 2005); here all but
    ///   `Sym` and `Block`;
    /// - more than 80 % of punches between peers that should succeed do, and 64 % of all peers are behind NATs *or
    ///   firewalls* that allow it (Halkes and Pouwelse 2011); here some of those behind something are firewalled hosts;
    /// - 70 % ± 7 % of punches succeed in IPFS (Trautwein et al. 2025, arXiv 2510.27500), of nodes that could not map a
    ///   port; here the pairs in which neither is reachable, by the matrix of the laboratory: 69 %;
    /// - a few networks let no UDP out at all.
    fn default() -> Self {
        Self {
            behind: 0.6,
            kinds: [
                (Kind::Cone, 0.46),
                (Kind::Leaky, 0.10),
                (Kind::Addr, 0.08),
                (Kind::Full, 0.06),
                (Kind::Fw, 0.12),
                (Kind::Sym, 0.16),
                (Kind::Block, 0.02),
            ],
            forwarded: 0.1,
        }
    }
}

impl Mix {
    /// NATs with another port for each destination are mostly those of carriers, which forward nothing for anybody.
    const fn may_forward(kind: Kind) -> bool {
        !matches!(kind, Kind::Block | Kind::Sym)
    }

    /// Draws what one node is behind.
    pub fn draw(&self, dice: &mut Dice) -> Front {
        if !dice.chance(self.behind) {
            return Front::OPEN;
        }
        let mut roll = dice.share();
        let mut drawn = self.kinds[0].0;
        for (kind, share) in self.kinds {
            drawn = kind;
            if roll < share {
                break;
            }
            roll -= share;
        }
        Front {
            kind: drawn,
            forwarded: Self::may_forward(drawn) && dice.chance(self.forwarded),
        }
    }
}

/// Whether two get a direct path, as the laboratory's real routers had it: with all pairs, but for a new port for each
/// destination on one side and a filter by ports on the other. Those that strangers reach count as open.
#[must_use]
pub fn meets_directly(one: Front, other: Front) -> bool {
    let open = |front: Front| front.admits_strangers();
    let strict =
        |front: Front| !open(front) && matches!(front.kind, Kind::Sym | Kind::Cone | Kind::Leaky | Kind::Fw);
    let hidden = |front: Front| !open(front) && front.kind == Kind::Sym;
    let blocked = [one, other].iter().any(|front| front.kind == Kind::Block);
    !(blocked || hidden(one) && strict(other) || hidden(other) && strict(one))
}

/// Two nodes that were told to connect, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Meeting {
    /// Who asked.
    pub from: usize,
    /// For whom.
    pub to: usize,
    /// When: what the other's card says was known by then.
    pub began: Instant,
    /// When the first byte of an answer came, over whatever path.
    pub first_byte: Option<Instant>,
    /// Whether that was over a relay.
    pub relayed: bool,
    /// When a direct path stood.
    pub direct: Option<Instant>,
    /// Relays that refused, or did not answer.
    pub refused: u32,
    /// Rounds of punches in vain.
    pub missed: u32,
    /// From the first packet that went to the relay's end, one way there and back end to end; zero where none was used.
    pub round_trip: Duration,
}

/// The first octet of the addresses of simulated hosts.
const FIRST_OCTET: u32 = 20;

/// Hosts that have an address: those of the octets up to 99, all of them in the internet.
pub(crate) const MAX_HOSTS: u32 = (100 - FIRST_OCTET) << 16;

/// The host of the node of this number: each in a /24 of its own.
pub(crate) const fn host(number: u32) -> Ipv4Addr {
    let [_, high, middle, low] = number.to_be_bytes();
    Ipv4Addr::new(FIRST_OCTET as u8 + high, middle, low, 7)
}

/// The node at a host.
pub(crate) const fn number(host: Ipv4Addr) -> Option<u32> {
    let [high, middle, low, last] = host.octets();
    if last != 7 || (high as u32) < FIRST_OCTET {
        return None;
    }
    Some((high as u32 - FIRST_OCTET) << 16 | (middle as u32) << 8 | low as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_a_host_in_the_internet_and_each_another() {
        let scope = kad_net::wire::Scope::Global;
        for number_ in (0..MAX_HOSTS)
            .step_by(9_973)
            .chain([0, 1, 255, 256, 65_536, MAX_HOSTS - 1])
        {
            let host = host(number_);
            assert_eq!(number(host), Some(number_));
            assert!(scope.admits((host, 4001).into()), "{host}");
        }
        assert_eq!(number([127, 0, 0, 1].into()), None);
    }

    #[test]
    fn the_mix_has_the_shares_that_it_says() {
        let (mix, mut dice) = (Mix::default(), Dice::new(3));
        let fronts: Vec<_> = (0..100_000).map(|_| mix.draw(&mut dice)).collect();
        let share = |of: &dyn Fn(&Front) -> bool| {
            fronts.iter().filter(|front| of(front)).count() as f64 / fronts.len() as f64
        };
        assert!((share(&|front| front.kind != Kind::Open) - mix.behind).abs() < 0.005);
        for (kind, expected) in mix.kinds {
            assert!(
                (share(&|front| front.kind == kind) - mix.behind * expected).abs() < 0.005,
                "{kind:?}"
            );
        }
        assert!((mix.kinds.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-9);
        assert_eq!(
            share(&|front| front.forwarded && !Mix::may_forward(front.kind)),
            0.0
        );
    }

    #[test]
    fn the_mix_lets_as_many_punches_succeed_as_were_measured() {
        let (mix, mut dice) = (Mix::default(), Dice::new(5));
        let hidden = |front: &Front| !front.admits_strangers() && front.kind != Kind::Block;
        let fronts: Vec<_> = (0..40_000).map(|_| mix.draw(&mut dice)).filter(hidden).collect();
        let pairs = fronts.chunks_exact(2);
        let (all, met) = (
            pairs.len(),
            pairs.filter(|pair| meets_directly(pair[0], pair[1])).count(),
        );
        let share = met as f64 / all as f64;
        assert!((0.67..0.71).contains(&share), "{share}");
    }
}
