//! Genuine packets of ours, seen on the way and sent again: by whoever can send from the same address, and from another
//! one.

use std::net::{SocketAddr, UdpSocket};

use super::*;
use crate::nat::reachability::Role;
use crate::nat::relay::SessionId;
use crate::quic::SocketStats;
use crate::quic::mux::{Packet, PunchKey, Side};
use crate::quic::reach::tests::{host, server};

/// How often each packet is sent again.
const AGAIN: u64 = 50;

const PUNCH: u8 = 1;
const RELAY: u8 = 2;
const PROBE: u8 = 3;

/// What a node has sent to an address, and whoever is on the way has seen.
fn seen(node: &QuicTransport, to: SocketAddr, kind: u8) -> Vec<Vec<u8>> {
    let all = node.shared.mux.between.tapped.lock().unwrap();
    let fits = |(at, packet): &&(SocketAddr, Vec<u8>)| *at == to && packet[0] == kind;
    all.iter()
        .filter(fits)
        .map(|(_, packet)| packet.clone())
        .collect()
}

/// Ends a connection, and with it the session at the relay.
async fn end(world: &World, connection: Connection) {
    drop(connection);
    let hold = world.one.shared.peerings.with(world.other.local().id).unwrap();
    if let Some(best) = hold.peering().best().borrow().clone() {
        best.connection.close(0u32.into(), b"");
    }
    drop(hold);
    eventually("the session is over", || {
        world.relay.quic_stats().relay.sessions == 0
    })
    .await;
}

/// Somebody on the way, who sends from an address of his own.
struct Thief(UdpSocket);

impl Thief {
    fn new(n: u8) -> Self {
        let socket = UdpSocket::bind(host(n)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    fn sends(&self, packet: &[u8], to: &QuicTransport) {
        for _ in 0..AGAIN {
            self.0.send_to(packet, socket_of(to)).unwrap();
        }
    }

    fn has_heard_nothing(&self) {
        let heard = self.0.recv_from(&mut [0; 2000]);
        assert_eq!(heard.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

/// The same from the address of a node: that of somebody who forges it.
fn from(node: &QuicTransport, packet: &[u8], to: &QuicTransport) {
    let again = match packet[0] {
        RELAY => Packet::Relay {
            session: session_of(packet),
            datagram: &packet[9..],
        },
        _ => Packet::Probe {
            nonce: packet[1..].try_into().unwrap(),
        },
    };
    for _ in 0..AGAIN {
        node.shared.mux.send(socket_of(to), again);
    }
}

fn session_of(packet: &[u8]) -> SessionId {
    SessionId(u64::from_be_bytes(packet[1..9].try_into().unwrap()))
}

#[tokio::test]
async fn punches_that_are_sent_again_from_elsewhere_aim_nothing_there_and_are_strays_after_the_session() {
    let world = World::new(240, wide()).await;
    world.bar();
    let thief = Thief::new(243);
    let connection = world.connect_by(&world.card_behind_nat()).await;
    world
        .one
        .shared
        .mux
        .between
        .walled
        .store(false, std::sync::atomic::Ordering::Relaxed);
    path(&connection, "is explained", |report| {
        report.why.contains("no packet came through")
    })
    .await;
    let stats = || world.one.quic_stats().socket;
    let punch = seen(&world.other, socket_of(&world.one), PUNCH)[0].clone();
    let before = stats();
    thief.sends(&punch, &world.one);
    eventually("they are all looked at", || {
        let now = stats();
        now.punches + now.overflowed >= before.punches + before.overflowed + AGAIN
    })
    .await;
    // The attempt has heard them, as it is its turn when a stream is.
    echo(&connection, 10_000).await;
    let at_thief = thief.0.local_addr().unwrap();
    let told = |node: &QuicTransport| node.shared.mux.between.has_sent_to(at_thief);
    assert!(!told(&world.one) && !told(&world.other) && !told(&world.relay));
    thief.has_heard_nothing();
    assert_eq!(connection.path().borrow().kind, Some(PathKind::Relayed));

    end(&world, connection).await;
    eventually("nobody waits for its punches", || {
        let session = session_of(&punch);
        let key = PunchKey([0; 32]);
        world
            .one
            .shared
            .mux
            .await_punches(session, key, Side::Opener)
            .is_some()
    })
    .await;
    let before = stats();
    thief.sends(&punch, &world.one);
    eventually("they are strays", || stats().strays >= before.strays + AGAIN).await;
    assert_eq!(stats().punches, before.punches);
    assert!(!told(&world.one));
    thief.has_heard_nothing();
}

#[tokio::test]
async fn relayed_packets_that_are_sent_again_leave_once_each_from_a_leg_never_from_elsewhere_and_not_after_the_session()
 {
    let world = World::new(244, wide()).await;
    world.bar();
    let thief = Thief::new(247);
    let connection = world.connect_by(&world.card_behind_nat()).await;
    echo(&connection, 100_000).await;
    let relay = || world.relay.quic_stats();
    let packets = seen(&world.other, socket_of(&world.relay), RELAY);
    let packet = packets.iter().find(|packet| packet.len() > 60).unwrap().clone();
    let before = relay();
    thief.sends(&packet, &world.relay);
    eventually("they are strays", || {
        relay().socket.strays >= before.socket.strays + AGAIN
    })
    .await;
    thief.has_heard_nothing();

    // From the address of a leg each is forwarded once, out of the bytes of the session; QUIC drops what it has had
    // already.
    let before = relay();
    from(&world.other, &packet, &world.relay);
    eventually("they are forwarded", || {
        relay().relay.forwarded >= before.relay.forwarded + AGAIN
    })
    .await;
    let spent = relay().relay.bytes - before.relay.bytes;
    assert!(spent >= AGAIN * (packet.len() as u64 - 9), "{spent}");
    assert_eq!(relay().relay.forwarded, relay().socket.forwarded);
    echo(&connection, 100_000).await;
    assert_eq!(connection.path().borrow().kind, Some(PathKind::Relayed));

    end(&world, connection).await;
    let before = relay();
    from(&world.other, &packet, &world.relay);
    thief.sends(&packet, &world.relay);
    eventually("they are strays", || {
        relay().socket.strays >= before.socket.strays + 2 * AGAIN
    })
    .await;
    assert_eq!(relay().relay.forwarded, before.relay.forwarded);
    thief.has_heard_nothing();
}

#[tokio::test]
async fn probes_that_are_sent_again_say_nothing_more() {
    // Helpers whose targets are known to them, as in a network in which everybody has met some others.
    let servers: Vec<_> = (248..=253).map(server).collect();
    for (place, server) in servers.iter().enumerate() {
        for other in servers.iter().cycle().skip(place + 1).take(3) {
            dial(server, other).await;
        }
    }
    eventually("they say hello to each other", || {
        servers
            .iter()
            .all(|server| server.quic_stats().reach_requests >= 3)
    })
    .await;
    let subject = node(254, config(RoleChoice::Auto));
    // One helper alone makes no proof, so whatever is counted as another one shows.
    dial(&subject, &servers[0]).await;
    let probes = || -> Vec<_> {
        let all = servers
            .iter()
            .map(|server| seen(server, socket_of(&subject), PROBE));
        all.flatten().collect()
    };
    eventually("it is probed", || !probes().is_empty()).await;
    let probe = probes()[0].clone();
    let thief = Thief::new(255);
    let looked_at = async |before: SocketStats, sent| {
        eventually("they are looked at", || {
            let now = subject.quic_stats().socket;
            now.probes + now.overflowed >= before.probes + before.overflowed + sent
        })
        .await;
    };
    let before = subject.quic_stats().socket;
    thief.sends(&probe, &subject);
    for server in &servers {
        from(server, &probe, &subject);
    }
    looked_at(before, AGAIN * (1 + servers.len() as u64)).await;
    // What it does next, it does after it has looked at them.
    dial(&subject, &servers[1]).await;
    let standing = subject.reach().standing().borrow().clone();
    assert_eq!((standing.role, standing.reachable), (Role::Client, Vec::new()));
    let at_thief = thief.0.local_addr().unwrap();
    let told = |node: &QuicTransport| node.shared.mux.between.has_sent_to(at_thief);
    assert!(!told(&subject) && !servers.iter().any(|server| told(server)));
    thief.has_heard_nothing();
}
