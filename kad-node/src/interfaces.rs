//! The addresses of this machine, and when it has moved to another network.
//!
//! They are looked up every two seconds, which costs less than a millisecond and works everywhere. That is also how a
//! machine that was asleep is noticed: its wall clock goes on, and the other one does not.
//!
//! A machine has *moved* when the address has changed by which it reaches the internet. One that gets the same private
//! address in another network without sleeping in between is not noticed: routers are not compared. A bridge that some
//! container brings along is no such thing, and neither is one more temporary address of a network (RFC 8981); both are
//! told as addresses all the same.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Who closes a laptop at home and opens it elsewhere should be connected again a few seconds later.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Addresses of this machine that are looked at; hosts of many containers have more, and none that others could use.
const MAX_ADDRESSES: usize = 64;

/// The wall clock has jumped by so much: the machine was asleep, and every connection of it is likely dead.
const ASLEEP: Duration = Duration::from_secs(20);

/// What a machine has at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Look {
    addresses: BTreeSet<IpAddr>,
    /// By which addresses it would send to the internet.
    way_out: (Option<Ipv4Addr>, Option<Ipv6Addr>),
}

impl Look {
    fn now() -> std::io::Result<Self> {
        let found = if_addrs::get_if_addrs()?.into_iter();
        let usable = found
            .filter(|interface| !interface.is_loopback() && !interface.is_link_local())
            .map(|interface| interface.ip());
        Ok(Self {
            addresses: usable.take(MAX_ADDRESSES).collect(),
            way_out: way_out(),
        })
    }

    /// Whether what works from here need not work from there.
    fn is_elsewhere(&self, before: &Self) -> bool {
        let site = |ip: Option<Ipv6Addr>| ip.map(|ip| ip.to_bits() >> 64);
        let ((v4, v6), (v4_before, v6_before)) = (self.way_out, before.way_out);
        let nowhere = v4.is_none() && v6.is_none();
        // Where there is no way out, all that there is are the addresses.
        v4 != v4_before || site(v6) != site(v6_before) || nowhere && self.addresses != before.addresses
    }
}

/// The source addresses of the default routes. Nothing is sent: connecting a UDP socket only looks up the route. The
/// targets are of documentation (RFC 5737, RFC 3849), and lie behind the default route if anything does.
fn way_out() -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let source = |bind: SocketAddr, target: SocketAddr| {
        let socket = UdpSocket::bind(bind).ok()?;
        socket.connect(target).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let v4 = source(
        (Ipv4Addr::UNSPECIFIED, 0).into(),
        (Ipv4Addr::new(198, 51, 100, 1), 9).into(),
    );
    let v6 = source(
        (Ipv6Addr::UNSPECIFIED, 0).into(),
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into(),
    );
    let v4 = v4.and_then(|ip| match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    });
    let v6 = v6.and_then(|ip| match ip {
        IpAddr::V6(ip) => Some(ip),
        IpAddr::V4(_) => None,
    });
    (v4, v6)
}

/// What has been seen of the machine so far.
#[derive(Debug, Default)]
struct Seen {
    last: Option<Look>,
    clocks: Option<(Instant, SystemTime)>,
    /// Addresses that the node listens at by name and that the machine does not have now.
    missing: BTreeSet<IpAddr>,
}

/// What one more look has shown.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    addresses: Option<Vec<IpAddr>>,
    has_moved: bool,
    /// Of those that the node listens at.
    gone: Vec<IpAddr>,
    back: Vec<IpAddr>,
}

impl Seen {
    fn note(&mut self, look: Look, listens: &[IpAddr], (monotonic, wall): (Instant, SystemTime)) -> Change {
        let slept = self
            .clocks
            .replace((monotonic, wall))
            .is_some_and(|(then, wall_then)| {
                let passed = wall.duration_since(wall_then).unwrap_or_default();
                passed.saturating_sub(monotonic.saturating_duration_since(then)) > ASLEEP
            });
        let missing: BTreeSet<IpAddr> = listens
            .iter()
            .filter(|ip| !look.addresses.contains(ip))
            .copied()
            .collect();
        let gone: Vec<_> = missing.difference(&self.missing).copied().collect();
        let back: Vec<_> = self.missing.difference(&missing).copied().collect();
        self.missing = missing;
        let before = self.last.replace(look.clone());
        let changed = before
            .as_ref()
            .is_none_or(|before| before.addresses != look.addresses);
        let elsewhere = before.is_some_and(|before| look.is_elsewhere(&before));
        Change {
            addresses: changed.then(|| look.addresses.into_iter().collect()),
            has_moved: elsewhere || slept || !back.is_empty(),
            gone,
            back,
        }
    }
}

/// Looks at the machine's addresses as long as it is not dropped.
#[derive(Debug)]
pub(crate) struct Interfaces {
    task: JoinHandle<()>,
    addresses: watch::Receiver<Vec<IpAddr>>,
    moves: watch::Receiver<u64>,
}

impl Interfaces {
    /// `listens` are addresses that the node was told to listen at: those that are not of this machine any more are
    /// told in the log. Sockets stay bound to them, and work again as soon as they are back.
    pub(crate) fn watch(listens: &[SocketAddr]) -> Self {
        let listens: Vec<IpAddr> = (listens.iter())
            .map(SocketAddr::ip)
            .filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
            .collect();
        let (tell_addresses, addresses) = watch::channel(Vec::new());
        let (tell_moves, moves) = watch::channel(0_u64);
        let task = tokio::spawn(async move {
            let mut seen = Seen::default();
            let mut looks = tokio::time::interval(LOOK_EVERY);
            looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                // The system may take its time to answer while its network changes.
                let Ok(look) = tokio::task::spawn_blocking(Look::now).await else {
                    return; // The runtime ends.
                };
                let look = match look {
                    Ok(look) => look,
                    Err(error) => {
                        tracing::debug!(%error, "the addresses of this machine could not be read");
                        continue;
                    }
                };
                let change = seen.note(look, &listens, (Instant::now(), SystemTime::now()));
                for ip in change.gone {
                    tracing::warn!(%ip, "the machine has no more this address to listen at; it is used again when it is back");
                }
                for ip in change.back {
                    tracing::info!(%ip, "the address to listen at is back");
                }
                if let Some(addresses) = change.addresses {
                    tell_addresses.send_replace(addresses);
                }
                if change.has_moved {
                    tracing::info!("the network has changed");
                    tell_moves.send_modify(|moves| *moves += 1);
                }
            }
        });
        Self {
            task,
            addresses,
            moves,
        }
    }

    /// All addresses of the machine but loopback and link-local ones; empty until they have been looked up.
    pub(crate) fn addresses(&self) -> watch::Receiver<Vec<IpAddr>> {
        self.addresses.clone()
    }

    /// Counts how often the machine has moved.
    pub(crate) fn moves(&self) -> watch::Receiver<u64> {
        self.moves.clone()
    }
}

impl Drop for Interfaces {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(addresses: &[&str], v4: Option<&str>, v6: Option<&str>) -> Look {
        Look {
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            way_out: (v4.map(|ip| ip.parse().unwrap()), v6.map(|ip| ip.parse().unwrap())),
        }
    }

    struct Clocks(Instant, SystemTime);

    impl Clocks {
        fn pass(&mut self, awake: u64, asleep: u64) -> (Instant, SystemTime) {
            self.0 += Duration::from_secs(awake);
            self.1 += Duration::from_secs(awake + asleep);
            (self.0, self.1)
        }
    }

    fn clocks() -> Clocks {
        Clocks(Instant::now(), SystemTime::now())
    }

    fn moves(looks: &[Look]) -> Vec<bool> {
        let (mut seen, mut clocks) = (Seen::default(), clocks());
        looks
            .iter()
            .map(|look| seen.note(look.clone(), &[], clocks.pass(2, 0)).has_moved)
            .collect()
    }

    #[test]
    fn a_machine_has_moved_when_its_way_out_has_changed() {
        let home = look(&["192.168.1.7"], Some("192.168.1.7"), None);
        let offline = look(&[], None, None);
        let office = look(&["10.2.3.4"], Some("10.2.3.4"), None);
        assert_eq!(
            moves(&[
                home.clone(),
                home.clone(),
                offline,
                home.clone(),
                office.clone(),
                office
            ]),
            [false, false, true, true, true, false]
        );
        let with_v6 = |ip: &str| look(&["192.168.1.7", ip], Some("192.168.1.7"), Some(ip));
        assert_eq!(
            moves(&[
                home.clone(),
                with_v6("2001:db8:1::1"),
                with_v6("2001:db8:2::1"),
                home
            ]),
            [false, true, true, true]
        );
    }

    #[test]
    fn bridges_and_temporary_addresses_are_told_and_are_no_move() {
        let (mut seen, mut clocks) = (Seen::default(), clocks());
        let home = look(&["192.168.1.7"], Some("192.168.1.7"), Some("2001:db8:1::7"));
        let bridge = look(
            &["192.168.1.7", "172.17.0.1"],
            Some("192.168.1.7"),
            Some("2001:db8:1::f00"),
        );
        seen.note(home, &[], clocks.pass(2, 0));
        let change = seen.note(bridge.clone(), &[], clocks.pass(2, 0));
        assert!(!change.has_moved);
        assert_eq!(change.addresses.unwrap().len(), 2);
        assert_eq!(seen.note(bridge, &[], clocks.pass(2, 0)).addresses, None);
    }

    #[test]
    fn without_a_way_out_another_address_is_a_move() {
        let cable = |ip: &str| look(&[ip], None, None);
        assert_eq!(
            moves(&[cable("192.168.1.7"), cable("192.168.1.7"), cable("192.168.5.7")]),
            [false, false, true]
        );
    }

    #[test]
    fn a_machine_that_was_asleep_has_moved_and_a_busy_one_has_not() {
        let (mut seen, mut clocks) = (Seen::default(), clocks());
        let home = look(&["192.168.1.7"], Some("192.168.1.7"), None);
        let mut has_moved =
            |awake, asleep| (seen.note(home.clone(), &[], clocks.pass(awake, asleep))).has_moved;
        assert!(!has_moved(2, 0));
        assert!(!has_moved(90, 0), "a thread that had to wait");
        assert!(!has_moved(2, 5), "a clock that was set");
        assert!(has_moved(2, 3600));
        assert!(!has_moved(2, 0));
    }

    #[test]
    fn an_address_to_listen_at_is_missed_once_and_greeted_once() {
        let (mut seen, mut clocks) = (Seen::default(), clocks());
        let listens: [IpAddr; 1] = ["192.168.1.7".parse().unwrap()];
        let here = look(&["192.168.1.7", "10.0.0.1"], Some("10.0.0.1"), None);
        let away = look(&["10.0.0.1"], Some("10.0.0.1"), None);
        let mut note = |look: &Look| {
            let change = seen.note(look.clone(), &listens, clocks.pass(2, 0));
            (change.gone.len(), change.back.len(), change.has_moved)
        };
        let told: Vec<_> = [&here, &away, &away, &here, &here]
            .into_iter()
            .map(&mut note)
            .collect();
        assert_eq!(
            told,
            [
                (0, 0, false),
                (1, 0, false),
                (0, 0, false),
                (0, 1, true),
                (0, 0, false)
            ]
        );
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let look = Look::now().unwrap();
        assert!(!look.addresses.iter().any(IpAddr::is_loopback));
    }
}
