//! How often others may be dialled because a card says so, or punched because a relay does, and peers that are to be
//! left alone after a round of punching in vain.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use kad_core::{Duration, Instant, NodeId};

use crate::nat::candidates::is_local;
use crate::nat::prefix::{Family, host, site};
use crate::nat::ration::Ration;
use crate::wire::Scope;

/// Dials to one host in a minute, because of cards: a peer has three addresses there, and is looked for three times
/// until its connections fail.
const MAX_DIALS_PER_HOST: usize = 12;

/// The same for one site: two hosts' worth.
const MAX_DIALS_PER_SITE: usize = 24;

/// Dials in a minute, because of cards: a connection a second, each by four addresses.
const MAX_DIALS: usize = 240;

/// Attempts to punch that begin in a minute and are aimed at one host: a quarter of all, since many peers may be behind
/// one NAT of a provider. Each has three rounds at most, 35 s apart, of some hundred packets of 17 bytes.
const MAX_ATTEMPTS_PER_HOST: usize = 30;

/// The same for one site: two hosts' worth.
const MAX_ATTEMPTS_PER_SITE: usize = 60;

/// Attempts to punch that begin in a minute: twice as many as there are routes through relays.
const MAX_ATTEMPTS_IN_ALL: usize = 120;

const MINUTE: Duration = Duration::from_secs(60);

/// Peers that are left alone after a round in vain: as many as there are peers of applications. Full: the one that
/// would be forgotten first.
const MAX_SILENCES: usize = 128;

/// A card is the word of its owner, and could name anybody's addresses; a relay could say of anybody that it sees a
/// peer there. Who has many nodes look for it can aim at a host what each of them grants, and no more.
pub(super) struct Rations {
    of_host: Ration<IpAddr>,
    of_site: Ration<IpAddr>,
    per_host: usize,
    per_site: usize,
}

impl Rations {
    /// Dials because of cards.
    pub(super) const fn of_dials() -> Self {
        Self::new(MAX_DIALS_PER_HOST, MAX_DIALS_PER_SITE, MAX_DIALS)
    }

    /// Attempts to punch.
    pub(super) const fn of_attempts() -> Self {
        Self::new(MAX_ATTEMPTS_PER_HOST, MAX_ATTEMPTS_PER_SITE, MAX_ATTEMPTS_IN_ALL)
    }

    const fn new(per_host: usize, per_site: usize, in_all: usize) -> Self {
        Self {
            of_host: Ration::new(MINUTE, in_all),
            of_site: Ration::new(MINUTE, in_all),
            per_host,
            per_site,
        }
    }

    /// Whether something may be sent to this host now; then it counts. Where addresses are not global there is nobody
    /// to protect. Elsewhere all private addresses are one site: the network that this node is in.
    pub(super) fn take(&mut self, now: Instant, to: IpAddr, scope: Scope) -> bool {
        if scope == Scope::Any {
            return true;
        }
        let site = match is_local(to) {
            true => Ipv4Addr::UNSPECIFIED.into(),
            false => site(to, scope),
        };
        let host = host(to);
        let granted =
            self.of_host.has(now, &host, self.per_host) && self.of_site.has(now, &site, self.per_site);
        if granted {
            self.of_host.take(now, host);
            self.of_site.take(now, site);
        }
        granted
    }
}

/// Until when peers are not punched again in a family, whatever session they come through: routers keep for half a
/// minute what came too early. What was tried over IPv6 says nothing about IPv4.
#[derive(Default)]
pub(super) struct Silences(BTreeMap<(NodeId, Family), Instant>);

impl Silences {
    pub(super) fn note(&mut self, now: Instant, peer: (NodeId, Family), until: Instant) {
        self.0.retain(|_, until| *until > now);
        if self.0.len() >= MAX_SILENCES
            && let Some(first) = self
                .0
                .iter()
                .min_by_key(|(_, until)| **until)
                .map(|(peer, _)| *peer)
        {
            self.0.remove(&first);
        }
        self.0.insert(peer, until);
    }

    /// When this one may be punched; `None`: now.
    pub(super) fn until(&self, now: Instant, peer: &(NodeId, Family)) -> Option<Instant> {
        self.0.get(peer).copied().filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    #[test]
    fn cards_have_no_host_and_no_site_dialled_more_often_than_its_ration() {
        let mut dials = Rations::of_dials();
        let mut granted = |secs, last: u8| {
            (0..100)
                .filter(|_| dials.take(at(secs), [8, 8, 8, last].into(), Scope::Global))
                .count()
        };
        assert_eq!(granted(0, 1), MAX_DIALS_PER_HOST);
        assert_eq!(granted(1, 2), MAX_DIALS_PER_HOST);
        assert_eq!(granted(2, 3), 0, "the site is used up");
        assert_eq!(granted(59, 1), 0);
        assert_eq!(granted(60, 1), MAX_DIALS_PER_HOST);
        let elsewhere = (0..1000u32).filter(|n| {
            let ip = std::net::Ipv4Addr::from_bits(0x0900_0000 + (n << 8));
            dials.take(at(60), ip.into(), Scope::Global)
        });
        assert!(elsewhere.count() <= MAX_DIALS);
        assert!(
            dials.take(at(60), [10, 0, 0, 1].into(), Scope::Any),
            "nobody to protect"
        );
    }

    #[test]
    fn the_own_network_has_the_ration_of_one_site_whatever_addresses_cards_name() {
        let mut dials = Rations::of_dials();
        let addresses = (0..1000u32).map(|n| match n % 3 {
            0 => IpAddr::from([192, 168, (n / 256) as u8, n as u8]),
            1 => IpAddr::from([10, (n / 256) as u8, n as u8, 1]),
            _ => format!("fd00::{n:x}:0:0:0:1").parse().unwrap(),
        });
        let granted = addresses.filter(|ip| dials.take(at(0), *ip, Scope::Global));
        assert_eq!(granted.count(), MAX_DIALS_PER_SITE);
    }

    #[test]
    fn relays_have_no_host_and_no_site_punched_more_often_than_its_ration() {
        let mut attempts = Rations::of_attempts();
        let mut granted = |secs, last: u8| {
            (0..1000)
                .filter(|_| attempts.take(at(secs), [8, 8, 8, last].into(), Scope::Global))
                .count()
        };
        assert_eq!(granted(0, 1), MAX_ATTEMPTS_PER_HOST);
        assert_eq!(granted(1, 2), MAX_ATTEMPTS_PER_HOST);
        assert_eq!(granted(2, 3), 0, "the site is used up");
        assert_eq!(granted(60, 1), MAX_ATTEMPTS_PER_HOST);
        let all = (0..1000u32).filter(|n| {
            let ip = Ipv4Addr::from_bits(0x0900_0000 + (n << 8));
            attempts.take(at(200), ip.into(), Scope::Global)
        });
        assert_eq!(all.count(), MAX_ATTEMPTS_IN_ALL);
    }

    #[test]
    fn a_silence_ends_and_silences_are_few() {
        let mut silences = Silences::default();
        let peer = |n: u64| (NodeId::from_limbs([n, 0, 0, 0]), Family::V4);
        silences.note(at(0), peer(1), at(35));
        assert_eq!(silences.until(at(34), &(peer(1).0, Family::V6)), None);
        assert_eq!(silences.until(at(34), &peer(1)), Some(at(35)));
        assert_eq!(silences.until(at(35), &peer(1)), None);
        assert_eq!(silences.until(at(0), &peer(2)), None);
        for n in 0..1000 {
            silences.note(at(1), peer(n), at(36 + n));
        }
        assert_eq!(silences.0.len(), MAX_SILENCES);
        assert!(silences.until(at(2), &peer(999)).is_some());
    }
}
