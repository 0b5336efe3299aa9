//! Who else is in the own network, as far as it says so by itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kad_core::{Instant, NodeId};

/// Neighbours that are remembered; a home has a few, and an office needs no more of them to get into its network.
const MAX_NEIGHBOURS: usize = 64;

/// Addresses of one neighbour: a cable and wireless, of both families.
const MAX_ADDRESSES: usize = 4;

/// Dials at once. Whoever fills the network with made-up neighbours has us make so many, and no more.
const MAX_DIALS: usize = 4;

/// Between two dials.
const DIAL_EVERY: Duration = Duration::from_millis(250);

/// Before the same neighbour is dialled anew that was not there.
const REST: Duration = Duration::from_secs(60);

/// A node that announces itself in the own network. All of it is its own word, its id included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) id: NodeId,
    pub(crate) addresses: Vec<SocketAddr>,
    /// Whether it says that others may begin with it.
    pub(crate) serves: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Not dialled yet, or not there then: it may be dialled from this moment on.
    Due(Instant),
    Dialled,
    Answered,
}

/// The neighbours, and whom of them to dial when.
#[derive(Debug)]
pub(crate) struct Neighbours {
    own: NodeId,
    /// Whether loopback addresses count: for networks that live on one machine.
    loopback: bool,
    known: BTreeMap<NodeId, (Neighbour, Standing)>,
    next_dial: Instant,
}

impl Neighbours {
    pub(super) fn new(own: NodeId, loopback: bool) -> Self {
        Self {
            own,
            loopback,
            known: BTreeMap::new(),
            next_dial: Instant::ZERO,
        }
    }

    /// Somebody says where it is. Only addresses count that nobody outside of this network has, or an announcement
    /// could have others dialled in the internet.
    pub(super) fn found(&mut self, now: Instant, mut neighbour: Neighbour) {
        let loopback = self.loopback;
        neighbour
            .addresses
            .retain(|address| is_near(address.ip(), loopback) && address.port() >= 1024);
        neighbour.addresses.sort_unstable();
        neighbour.addresses.dedup();
        neighbour.addresses.truncate(MAX_ADDRESSES);
        if neighbour.id == self.own || neighbour.addresses.is_empty() {
            return;
        }
        if let Some((known, standing)) = self.known.get_mut(&neighbour.id) {
            // Another place deserves a dial, as often as any.
            if known.addresses != neighbour.addresses && *standing == Standing::Answered {
                *standing = Standing::Due(now + REST);
            }
            *known = neighbour;
            return;
        }
        if self.known.len() >= MAX_NEIGHBOURS {
            let Some(gone) = self.expendable(now, neighbour.serves) else {
                return;
            };
            self.known.remove(&gone);
        }
        self.known.insert(neighbour.id, (neighbour, Standing::Due(now)));
    }

    /// It has said goodbye, or was not heard for long.
    pub(super) fn gone(&mut self, id: NodeId) {
        self.known.remove(&id);
    }

    /// When there may be somebody to dial.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.dialled() >= MAX_DIALS {
            return None;
        }
        let due = self
            .known
            .values()
            .filter_map(|(neighbour, standing)| match standing {
                Standing::Due(at) if neighbour.serves => Some(*at),
                _ => None,
            });
        Some(due.min()?.max(self.next_dial))
    }

    /// Whom to dial now.
    pub(super) fn dial(&mut self, now: Instant) -> Option<Neighbour> {
        if self.due()? > now {
            return None;
        }
        let due = |(neighbour, standing): &(Neighbour, Standing)| {
            neighbour.serves && matches!(standing, Standing::Due(at) if *at <= now)
        };
        let (neighbour, standing) = self.known.values_mut().find(|known| due(known))?;
        *standing = Standing::Dialled;
        self.next_dial = now + DIAL_EVERY;
        Some(neighbour.clone())
    }

    /// How a dial ended.
    pub(super) fn dialled_out(&mut self, now: Instant, id: NodeId, has_answered: bool) {
        if let Some((_, standing)) = self.known.get_mut(&id) {
            *standing = match has_answered {
                true => Standing::Answered,
                false => Standing::Due(now + REST),
            };
        }
    }

    /// The node has lost everybody: neighbours that answered before may do so again.
    pub(super) fn start_over(&mut self, now: Instant) {
        for (_, standing) in self.known.values_mut() {
            if *standing == Standing::Answered {
                *standing = Standing::Due(now);
            }
        }
    }

    /// Where a neighbour is, if it is one.
    pub(crate) fn addresses(&self, id: &NodeId) -> Vec<SocketAddr> {
        let known = self.known.get(id);
        known.map_or_else(Vec::new, |(neighbour, _)| neighbour.addresses.clone())
    }

    /// Who makes room when it is full: for whoever serves, somebody who does not, as nobody can begin with it; else
    /// somebody who was not there when it was dialled. Those who were there stay.
    fn expendable(&self, now: Instant, serves: bool) -> Option<NodeId> {
        let find = |is_it: &dyn Fn(&(Neighbour, Standing)) -> bool| {
            let found = self.known.iter().find(|(_, known)| is_it(known));
            found.map(|(id, _)| *id)
        };
        let only_asks =
            |(known, standing): &(Neighbour, Standing)| !known.serves && *standing != Standing::Dialled;
        let was_away =
            |(_, standing): &(Neighbour, Standing)| matches!(standing, Standing::Due(at) if *at > now);
        let asking = serves.then(|| find(&only_asks)).flatten();
        asking.or_else(|| find(&was_away))
    }

    fn dialled(&self) -> usize {
        let dialled = |(_, standing): &&(Neighbour, Standing)| *standing == Standing::Dialled;
        self.known.values().filter(dialled).count()
    }
}

/// Private (RFC 1918, RFC 4193), or of this link. IPv6 addresses of the link need the name of an interface, and
/// everybody who has one has another address as well where a node is of use.
fn is_near(ip: IpAddr, loopback: bool) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || loopback && ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || loopback && ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn id(n: u8) -> NodeId {
        kad_core::Keypair::from_secret(&[n; 32]).node_id()
    }

    fn neighbour(n: u8, addresses: &[&str]) -> Neighbour {
        Neighbour {
            id: id(n),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            serves: true,
        }
    }

    fn none() -> Neighbours {
        Neighbours::new(id(0), false)
    }

    #[test]
    fn only_addresses_of_the_own_network_are_believed() {
        let mut neighbours = none();
        let all = [
            "8.8.8.8:4001",
            "[2001:db8::1]:4001",
            "127.0.0.1:4001",
            "[fe80::1]:4001",
            "192.168.1.7:53",
            "192.168.1.7:4001",
            "[fd00::7]:4001",
        ];
        neighbours.found(at(0), neighbour(1, &all));
        let near: Vec<SocketAddr> = ["192.168.1.7:4001", "[fd00::7]:4001"]
            .map(|text| text.parse().unwrap())
            .into();
        assert_eq!(neighbours.addresses(&id(1)), near);
        neighbours.found(at(0), neighbour(2, &["8.8.8.8:4001"]));
        neighbours.found(at(0), neighbour(0, &["192.168.1.8:4001"]));
        assert!(neighbours.addresses(&id(2)).is_empty());
        assert!(neighbours.addresses(&id(0)).is_empty(), "that is this node");
        let mut here = Neighbours::new(id(0), true);
        here.found(at(0), neighbour(1, &["127.0.0.1:4001"]));
        assert_eq!(here.addresses(&id(1)).len(), 1);
    }

    #[test]
    fn whoever_answered_is_not_dialled_again_and_who_was_not_there_a_minute_later() {
        let mut neighbours = none();
        neighbours.found(at(0), neighbour(1, &["192.168.1.7:4001"]));
        assert_eq!(neighbours.dial(at(0)).unwrap().id, id(1));
        assert_eq!(neighbours.due(), None);
        neighbours.dialled_out(at(10), id(1), false);
        assert_eq!(neighbours.due(), Some(at(60_010)));
        assert!(neighbours.dial(at(60_009)).is_none());
        assert_eq!(neighbours.dial(at(60_010)).unwrap().id, id(1));
        neighbours.dialled_out(at(60_020), id(1), true);
        neighbours.found(at(70_000), neighbour(1, &["192.168.1.7:4001"]));
        assert_eq!(neighbours.due(), None);
        // All contacts were lost.
        neighbours.start_over(at(80_000));
        assert_eq!(neighbours.dial(at(80_000)).unwrap().id, id(1));
    }

    #[test]
    fn whoever_does_not_serve_is_remembered_and_not_dialled() {
        let mut neighbours = none();
        let client = Neighbour {
            serves: false,
            ..neighbour(1, &["192.168.1.7:4001"])
        };
        neighbours.found(at(0), client);
        assert_eq!(neighbours.due(), None);
        assert_eq!(neighbours.addresses(&id(1)).len(), 1);
    }

    #[test]
    fn whoever_serves_takes_the_place_of_somebody_who_only_asks() {
        let only_asks = |n| Neighbour {
            serves: false,
            ..neighbour(n, &["192.168.1.7:4001"])
        };
        let mut neighbours = none();
        for n in 1..=100 {
            neighbours.found(at(0), only_asks(n));
        }
        assert_eq!(neighbours.known.len(), MAX_NEIGHBOURS);
        neighbours.found(at(1), neighbour(200, &["192.168.1.8:4001"]));
        assert_eq!(neighbours.known.len(), MAX_NEIGHBOURS);
        assert_eq!(neighbours.dial(at(1)).unwrap().id, id(200));
        // One more that only asks takes nobody's place.
        let before: Vec<_> = neighbours.known.keys().copied().collect();
        neighbours.found(at(2), only_asks(201));
        assert!(neighbours.known.keys().eq(&before));
        // Full of those that serve and were not yet dialled: they stay.
        for n in 101..=163 {
            neighbours.found(at(2), neighbour(n, &["192.168.1.9:4001"]));
        }
        assert!(neighbours.known.values().all(|(known, _)| known.serves));
        neighbours.found(at(2), neighbour(202, &["192.168.1.9:4001"]));
        assert!(neighbours.addresses(&id(202)).is_empty());
    }

    #[test]
    fn a_flood_of_neighbours_is_neither_remembered_nor_dialled_at_once() {
        let mut neighbours = none();
        for n in 1..=255 {
            neighbours.found(at(0), neighbour(n, &["192.168.1.7:4001"]));
        }
        assert_eq!(neighbours.known.len(), MAX_NEIGHBOURS);
        let mut dialled = 0;
        for millis in 0..10_000 {
            dialled += usize::from(neighbours.dial(at(millis)).is_some());
        }
        assert_eq!(dialled, MAX_DIALS);
        let answered: Vec<_> = (neighbours.known.iter())
            .filter(|(_, (_, standing))| *standing == Standing::Dialled)
            .map(|(id, _)| *id)
            .collect();
        neighbours.dialled_out(at(10_000), answered[0], true);
        for id in &answered[1..] {
            neighbours.dialled_out(at(10_000), *id, false);
        }
        // One more takes the place of somebody who was not there, and not of somebody who was.
        neighbours.found(
            at(10_000),
            Neighbour {
                id: kad_core::Keypair::from_secret(&[255; 32]).node_id(),
                ..neighbour(1, &["192.168.1.9:4001"])
            },
        );
        assert!(!neighbours.addresses(&answered[0]).is_empty());
        assert_eq!(neighbours.known.len(), MAX_NEIGHBOURS);
    }

    proptest! {
        #[test]
        fn whatever_is_announced_dials_stay_apart(
            steps in proptest::collection::vec((0_u8..40, 0_u64..500, any::<bool>()), 1..400),
        ) {
            let (mut neighbours, mut now) = (none(), at(0));
            let mut dials: Vec<(NodeId, Instant)> = Vec::new();
            let mut last = std::collections::BTreeMap::new();
            for (n, pause, answers) in steps {
                now = now + Duration::from_millis(pause);
                neighbours.found(now, neighbour(n, &["192.168.1.7:4001"]));
                if let Some(neighbour) = neighbours.dial(now) {
                    if let Some(before) = dials.last() {
                        prop_assert!(now.since(before.1) >= DIAL_EVERY);
                    }
                    if let Some(before) = last.insert(neighbour.id, now) {
                        prop_assert!(now.since(before) >= REST);
                    }
                    dials.push((neighbour.id, now));
                    neighbours.dialled_out(now, neighbour.id, answers);
                }
            }
        }
    }
}
