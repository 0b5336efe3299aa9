//! What a crawl found.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use kad_core::AddressGroups;
use kad_net::WireAddress;

use super::tally::Counted;
use super::walk::{State, Walk};

/// The largest address groups that are named; of the others only their number is told.
pub const MAX_GROUPS: usize = 20;

/// The network as one walk over it saw it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Crawl {
    /// Members of the network: those that were reached, and this node unless it is read-only.
    pub size: usize,
    /// Nodes that were heard of, this one not counted.
    pub heard: usize,
    /// Of these, those that are there: they answered or refused.
    pub reachable: usize,
    /// Of the reachable, those that refused to tell their contacts, or made no sense.
    pub refused: usize,
    /// Nodes that answered at none of the addresses that were told of them.
    pub dead: usize,
    /// Nodes of which it was not found out: the rations of their host or site were used up, or the crawl was stopped.
    pub unknown: usize,
    /// How often nodes were told of that found no place any more; above 0, the crawl was full and does not cover the
    /// whole network.
    pub left_out: u64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
    /// Questions that were sent.
    pub requests: u64,
    /// Of these, those that nobody answered.
    pub unanswered: u64,
    /// How long it took.
    pub took: Duration,
    /// Round trips of those that answered.
    pub latency: Latency,
    /// Where the reachable nodes are.
    pub groups: Groups,
    /// Tables by bucket, from the far half of the space inwards; those in which nobody was told are left out.
    pub buckets: Vec<BucketCensus>,
}

impl Crawl {
    /// Whether everything was seen that could be heard of.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        !self.stopped && self.left_out == 0 && self.unknown == 0
    }
}

/// One bucket of all tables.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct BucketCensus {
    /// Bits that each contact shares with whoever told of it.
    pub bucket: u32,
    /// Contacts in it, the mean over all nodes that answered; the one who asks is never told of itself.
    pub contacts: f64,
    /// Contacts whose state was found out.
    pub known: u64,
    /// Of these, those that were dead.
    pub dead: u64,
}

impl BucketCensus {
    /// The dead among the contacts whose state was found out, from 0 to 1.
    #[must_use]
    pub fn dead_share(&self) -> f64 {
        self.dead as f64 / self.known.max(1) as f64
    }
}

/// Round trips, without the time to dial: of each node the fastest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Latency {
    /// In microseconds, the shortest first.
    sorted: Vec<u32>,
}

impl Latency {
    fn new(times: impl Iterator<Item = Duration>) -> Self {
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let mut sorted: Vec<u32> = times.map(micros).collect();
        sorted.sort_unstable();
        Self { sorted }
    }

    /// How many nodes were measured.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.sorted.len()
    }

    /// The round trip that a share of the nodes does not exceed, by nearest rank; `None` of no nodes.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = (share * self.sorted.len() as f64).ceil() as usize;
        let place = rank.clamp(1, self.sorted.len().max(1)) - 1;
        let micros = self.sorted.get(place)?;
        Some(Duration::from_micros(u64::from(*micros)))
    }

    /// How many nodes lie below each bound and not below the one before it. The bounds double, from the power of two of
    /// microseconds above the fastest to the one above the slowest, so there are 33 at most.
    #[must_use]
    pub fn histogram(&self) -> Vec<(Duration, usize)> {
        let class = |micros: u32| u32::BITS - micros.leading_zeros();
        let (Some(&first), Some(&last)) = (self.sorted.first(), self.sorted.last()) else {
            return Vec::new();
        };
        let classes = class(first)..=class(last);
        let bar = |this: u32| {
            let nodes = self.sorted.iter().filter(|&&micros| class(micros) == this);
            (Duration::from_micros(1 << this), nodes.count())
        };
        classes.map(bar).collect()
    }
}

/// Where nodes are, by the first of their socket addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Groups {
    /// Nodes on loopback and in private and link-local networks, which have no groups.
    pub private: usize,
    /// IPv4 /16 and IPv6 /32: what one organisation may own.
    pub wide: GroupSizes,
    /// IPv4 /24 and IPv6 /48: what one site may own.
    pub narrow: GroupSizes,
}

/// How nodes are distributed over address groups of one width.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GroupSizes {
    /// How many groups there are.
    pub distinct: usize,
    /// The largest groups and how many nodes each has, largest first, at most [`MAX_GROUPS`].
    pub largest: Vec<(String, usize)>,
}

impl Groups {
    fn new(ips: impl Iterator<Item = IpAddr>) -> Self {
        let (mut wide, mut narrow, mut private) = (HashMap::new(), HashMap::new(), 0);
        for ip in ips {
            let Some(groups) = AddressGroups::of_ip(ip) else {
                private += 1;
                continue;
            };
            wide.entry(groups.wide).or_insert((ip, 0)).1 += 1;
            narrow.entry(groups.narrow).or_insert((ip, 0)).1 += 1;
        }
        Self {
            private,
            wide: GroupSizes::new(wide.into_values(), 16, 32),
            narrow: GroupSizes::new(narrow.into_values(), 24, 48),
        }
    }
}

impl GroupSizes {
    fn new(groups: impl ExactSizeIterator<Item = (IpAddr, usize)>, v4: u32, v6: u32) -> Self {
        let distinct = groups.len();
        let named = groups.map(|(ip, nodes)| (prefix(ip, v4, v6), nodes));
        let mut largest: Vec<(String, usize)> = named.collect();
        largest.sort_unstable_by(|(a, many), (b, more)| more.cmp(many).then_with(|| a.cmp(b)));
        largest.truncate(MAX_GROUPS);
        Self { distinct, largest }
    }
}

/// The network of an address, as people write it.
fn prefix(ip: IpAddr, v4: u32, v6: u32) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let network = ip.to_bits() & (u32::MAX << (u32::BITS - v4));
            format!("{}/{v4}", std::net::Ipv4Addr::from_bits(network))
        }
        IpAddr::V6(ip) => {
            let network = ip.to_bits() & (u128::MAX << (u128::BITS - v6));
            format!("{}/{v6}", std::net::Ipv6Addr::from_bits(network))
        }
    }
}

impl<A: WireAddress> Walk<A> {
    /// What was found by a node that is a member itself or not.
    pub(crate) fn report(&self, member: bool, stopped: bool, took: Duration) -> Crawl {
        let count = |state| self.nodes.values().filter(|node| node.state == state).count();
        let (answered, refused) = (count(State::Answered), count(State::Refused));
        let reachable = answered + refused;
        let there = |state| matches!(state, State::Answered | State::Refused);
        let places = self.nodes.values().filter(|node| there(node.state));
        let ips = places.filter_map(|node| node.address.sockets().first().map(std::net::SocketAddr::ip));
        let census = |(bucket, Counted { told, alive, dead })| BucketCensus {
            bucket,
            contacts: told as f64 / answered.max(1) as f64,
            known: alive + dead,
            dead,
        };
        Crawl {
            size: reachable + usize::from(member),
            heard: self.nodes.len(),
            reachable,
            refused,
            dead: count(State::Dead),
            unknown: count(State::Unknown),
            left_out: self.left_out,
            stopped,
            requests: self.requests,
            unanswered: self.unanswered,
            took,
            latency: Latency::new(self.nodes.values().filter_map(super::walk::Heard::fastest)),
            groups: Groups::new(ips),
            buckets: self.tally.buckets().map(census).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_told_by_nearest_rank_and_in_doubling_classes() {
        let ms = Duration::from_millis;
        let none = Latency::default();
        assert_eq!((none.quantile(0.5), none.histogram()), (None, Vec::new()));
        let latency = Latency::new((1..=100).rev().map(ms));
        for (share, expected) in [(0.0, 1), (0.1, 10), (0.5, 50), (0.99, 99), (1.0, 100)] {
            assert_eq!(latency.quantile(share), Some(ms(expected)));
        }
        let histogram = latency.histogram();
        assert_eq!(histogram.first(), Some(&(Duration::from_micros(1024), 1)));
        assert_eq!(histogram.last(), Some(&(Duration::from_micros(131_072), 35)));
        assert_eq!(histogram.iter().map(|(_, nodes)| nodes).sum::<usize>(), 100);
        let one = Latency::new([Duration::ZERO, Duration::MAX].into_iter());
        assert_eq!(one.histogram().len(), 33);
    }

    #[test]
    fn places_are_grouped_as_people_write_networks() {
        let at = |ip: &str| -> IpAddr { ip.parse().unwrap() };
        let ips = [
            "127.0.0.1",
            "10.1.2.3",
            "203.0.113.9",
            "203.0.113.77",
            "203.0.114.1",
            "::ffff:203.0.113.1",
            "2001:db8:1::7",
        ];
        let groups = Groups::new(ips.into_iter().map(at));
        assert_eq!(groups.private, 2);
        let named = |name: &str, nodes| (name.to_owned(), nodes);
        assert_eq!(
            groups.wide.largest,
            [named("203.0.0.0/16", 4), named("2001:db8::/32", 1)]
        );
        assert_eq!(groups.narrow.distinct, 3);
        assert_eq!(groups.narrow.largest[0], named("203.0.113.0/24", 3));
        assert_eq!(groups.narrow.largest[1], named("2001:db8:1::/48", 1));
    }

    #[test]
    fn of_many_groups_only_the_largest_are_named() {
        let ip = |n: u32| IpAddr::from([44, (n % 100) as u8, (n / 100) as u8, 1]);
        let groups = Groups::new((0..250).map(ip));
        assert_eq!((groups.wide.distinct, groups.narrow.distinct), (100, 250));
        assert_eq!(groups.wide.largest.len(), MAX_GROUPS);
        assert_eq!(groups.wide.largest[0], ("44.0.0.0/16".to_owned(), 3));
    }
}
