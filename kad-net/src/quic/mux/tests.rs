use std::net::UdpSocket;
use std::time::Duration as Wait;

use kad_core::{Duration, Keypair, NetworkId, Parameters};

use quinn::AsyncUdpSocket;
use quinn::udp::Transmit;

use super::*;
use crate::nat::relay::{Action, Event, RelayConfig};
use crate::quic::relayed::MAX_ROUTES;
use crate::quic::socket::OwnSocket;
use crate::quic::{QuicConfig, QuicTransport, SocketStats, tls};
use crate::transport::{Transport, WireAddress};
use crate::wire::Scope;

/// Long enough for a machine that is busy with other things.
const PATIENCE: Wait = Wait::from_secs(30);

fn node(n: u8, host: [u8; 4]) -> QuicTransport {
    let network = NetworkId::new("test", &Parameters::default());
    let config = QuicConfig::new(Keypair::from_secret(&[n; 32]), network, vec![(host, 0).into()]);
    QuicTransport::bind(config).unwrap()
}

fn address(node: &QuicTransport) -> SocketAddr {
    node.local().address.sockets()[0]
}

fn stats(node: &QuicTransport) -> SocketStats {
    node.quic_stats().socket
}

fn stranger(host: [u8; 4]) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from((host, 0))).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !is_true() {
        assert!(tokio::time::Instant::now() < end, "never came true: {what}");
        tokio::time::sleep(Wait::from_millis(2)).await;
    }
}

/// A relay with a session between two others.
struct Meeting {
    relay: QuicTransport,
    ends: [QuicTransport; 2],
    session: SessionId,
}

impl Meeting {
    fn new() -> Self {
        let relay = node(1, [127, 0, 0, 1]);
        let ends = [node(2, [127, 0, 0, 2]), node(3, [127, 0, 0, 3])];
        let mut config = RelayConfig::default();
        config.session_bytes = 64 << 20;
        config.session_rate = 64 << 20;
        config.rate = 64 << 20;
        let mux = &relay.shared.mux;
        mux.serve_relay(Relay::new(config, Scope::Any, &[7; 32], mux.now()));
        let [opener, other] = &ends;
        let mut out = Vec::new();
        let mut machine = mux.relay().unwrap().lock().unwrap();
        let reserve = Event::Reserve {
            peer: other.id,
            leg: address(other),
            relayed: false,
        };
        let open = Event::Open {
            peer: opener.id,
            leg: address(opener),
            relayed: false,
            to: other.id,
        };
        machine.handle(mux.now(), reserve, &mut out);
        machine.handle(mux.now(), open, &mut out);
        drop(machine);
        let [Action::Reserved { .. }, Action::Opened { session, .. }] = out[..] else {
            panic!("{out:?}")
        };
        Self { relay, ends, session }
    }

    fn routes(&self) -> [Route; 2] {
        let relay = address(&self.relay);
        [0, 1].map(|end| self.ends[end].shared.mux.route(relay, self.session).unwrap())
    }
}

#[tokio::test]
async fn a_connection_through_a_relay_is_end_to_end_and_carries_a_mebibyte_each_way() {
    let meeting = Meeting::new();
    let [to, _from] = meeting.routes();
    let [one, other] = &meeting.ends;
    let endpoint = one.shared.relayed_endpoint().unwrap();
    let client = one.shared.setup.client.clone();
    let connecting = endpoint
        .connect_with(client, to.fake(), tls::SERVER_NAME)
        .unwrap();
    let connection = soon(connecting).await.unwrap();
    assert_eq!(tls::peer_id(&connection), Some(other.id));
    assert!(is_fake(connection.remote_address().ip()));

    // Beside the requests of its own, nothing is known there of streams yet: the answer to one is that of any peer.
    let frame = bytes::Bytes::from(vec![1; 60_000]);
    let mut answered = 0;
    for _ in 0..18 {
        let (mut send, mut recv) = soon(connection.open_bi()).await.unwrap();
        soon(send.write_all(&[1])).await.unwrap();
        soon(send.write_all(&frame)).await.unwrap();
        send.finish().unwrap();
        let inbound = soon(other.accept()).await.unwrap();
        assert_eq!(inbound.from.id, one.id);
        soon(crate::Reply::send(inbound.reply, inbound.frame)).await;
        answered += soon(recv.read_to_end(1 << 20)).await.unwrap().len();
    }
    assert!(answered >= 1 << 20);
    let (forwarded, heard) = (stats(&meeting.relay).forwarded, stats(one).relayed);
    assert!(forwarded > 1500, "{forwarded}");
    // What the relay forwarded it had been sent, and each once.
    assert!(
        heard + stats(other).relayed <= forwarded,
        "{heard} of {forwarded}"
    );
    let relayed = meeting.relay.shared.mux.relay().unwrap().lock().unwrap().stats();
    assert_eq!(relayed.forwarded, stats(&meeting.relay).forwarded);
}

#[tokio::test]
async fn nobody_but_the_two_ends_has_anything_forwarded() {
    let meeting = Meeting::new();
    let relay = address(&meeting.relay);
    let mut relayed = [0; 40];
    relayed[0] = 2;
    relayed[1..9].copy_from_slice(&meeting.session.0.to_be_bytes());
    // A third party knows the session, and sends from another host, and from the host of an end.
    for host in [[127, 0, 0, 9], [127, 0, 0, 2]] {
        stranger(host).send_to(&relayed, relay).unwrap();
    }
    // An end names a session that is not there.
    let one = &meeting.ends[0];
    let session = SessionId(meeting.session.0 ^ 1);
    one.shared.mux.send(
        relay,
        Packet::Relay {
            session,
            datagram: &[0xc0; 30],
        },
    );
    eventually("three strays", || stats(&meeting.relay).strays == 3).await;
    assert_eq!(stats(&meeting.relay).forwarded, 0);
    // And a node that relays for nobody.
    stranger([127, 0, 0, 9]).send_to(&relayed, address(one)).unwrap();
    eventually("a stray", || stats(one).strays == 1).await;
    // The same from an end comes through, to an end that has no route: a stray there as well.
    let session = meeting.session;
    one.shared.mux.send(
        relay,
        Packet::Relay {
            session,
            datagram: &[0xc0; 30],
        },
    );
    eventually("a forwarded one", || stats(&meeting.relay).forwarded == 1).await;
    eventually("a stray", || stats(&meeting.ends[1]).strays == 1).await;
}

#[tokio::test]
async fn an_end_hears_only_the_relay_and_only_while_there_is_a_route() {
    let meeting = Meeting::new();
    let one = &meeting.ends[0];
    let [route, other] = meeting.routes();
    let mut packet = [0; 40];
    packet[0] = 2;
    packet[1..9].copy_from_slice(&meeting.session.0.to_be_bytes());
    stranger([127, 0, 0, 1]).send_to(&packet, address(one)).unwrap();
    eventually("a stray", || stats(one).strays == 1).await;
    assert_eq!(stats(one).relayed, 0);
    let send = |session| {
        let datagram = &[0xc0; 30];
        let to = address(&meeting.relay);
        meeting.ends[1]
            .shared
            .mux
            .send(to, Packet::Relay { session, datagram });
    };
    send(meeting.session);
    eventually("it arrives", || stats(one).relayed == 1).await;
    drop((route, other));
    send(meeting.session);
    eventually("another stray", || stats(one).strays == 2).await;
}

#[tokio::test]
async fn a_punch_counts_with_the_mac_of_the_other_end_and_while_somebody_waits_for_it() {
    let [one, other] = [node(2, [127, 0, 0, 2]), node(3, [127, 0, 0, 3])];
    let (session, key) = (SessionId(0xabcd), PunchKey([5; 32]));
    let mut punches = one
        .shared
        .mux
        .await_punches(session, key.clone(), Side::Opener)
        .unwrap();
    assert!(
        one.shared
            .mux
            .await_punches(session, key.clone(), Side::Opener)
            .is_none()
    );
    let good = Packet::Punch {
        session,
        mac: key.mac(session, Side::Answerer),
    };
    let thrown_back = Packet::Punch {
        session,
        mac: key.mac(session, Side::Opener),
    };
    let forged = Packet::Punch { session, mac: [1; 8] };
    let elsewhere = Packet::Punch {
        session: SessionId(1),
        mac: key.mac(SessionId(1), Side::Answerer),
    };
    for packet in [thrown_back, forged, elsewhere] {
        other.shared.mux.send(address(&one), packet);
    }
    eventually("three strays", || stats(&one).strays == 3).await;
    other.shared.mux.send(address(&one), good);
    assert_eq!(soon(punches.next()).await, Some(address(&other)));
    assert_eq!(stats(&one).punches, 1);
    // Many more than anybody waits for cost a counter.
    for _ in 0..40 {
        other.shared.mux.send(address(&one), good);
    }
    eventually("all arrive", || {
        stats(&one).punches + stats(&one).overflowed == 41
    })
    .await;
    assert!(stats(&one).punches <= 17);
    drop(punches);
    let before = stats(&one).strays;
    other.shared.mux.send(address(&one), good);
    eventually("a replay is a stray", || stats(&one).strays == before + 1).await;
}

#[tokio::test]
async fn a_probe_says_whether_its_sender_was_a_stranger() {
    let node = node(2, [127, 0, 0, 2]);
    let mut probes = node.shared.mux.probes().unwrap();
    assert!(node.shared.mux.probes().is_none());
    let (unknown, known) = (stranger([127, 0, 0, 8]), stranger([127, 0, 0, 9]));
    let probe = |nonce: u8| {
        let mut bytes = [nonce; 17];
        bytes[0] = 3;
        bytes
    };
    node.shared
        .mux
        .send(known.local_addr().unwrap(), Packet::Probe { nonce: [0; 16] });
    // Another port of a host that was sent to is no stranger: some NATs let it in.
    let other_port = stranger([127, 0, 0, 9]);
    for (socket, nonce) in [(&unknown, 1), (&known, 2), (&other_port, 3)] {
        socket.send_to(&probe(nonce), address(&node)).unwrap();
        let probed = soon(probes.recv()).await.unwrap();
        let expected = Probed {
            from: socket.local_addr().unwrap(),
            nonce: [nonce; 16],
            stranger: nonce == 1,
        };
        assert_eq!(probed, expected);
    }
}

#[tokio::test]
async fn a_peer_that_calls_is_a_stranger_once() {
    let [one, other] = [node(2, [127, 0, 0, 2]), node(3, [127, 0, 0, 3])];
    let mut calls = one.shared.mux.calls().unwrap();
    soon(other.identify(&one.local().address)).await.unwrap();
    let called = soon(calls.recv()).await.unwrap();
    assert_eq!((called.from, called.stranger), (address(&other), true));
    // Meanwhile it was answered, so it may come through a NAT by that.
    let third = node(4, [127, 0, 0, 3]);
    soon(third.identify(&one.local().address)).await.unwrap();
    assert!(!soon(calls.recv()).await.unwrap().stranger);
    // Whom we call is none either.
    soon(one.identify(&node(5, [127, 0, 0, 5]).local().address))
        .await
        .ok();
    let fifth = node(6, [127, 0, 0, 5]);
    soon(fifth.identify(&one.local().address)).await.unwrap();
    assert!(!soon(calls.recv()).await.unwrap().stranger);
}

#[tokio::test]
async fn packets_of_no_kind_are_counted_and_get_no_answer() {
    let [one, other] = [node(2, [127, 0, 0, 2]), node(3, [127, 0, 0, 3])];
    let socket = stranger([127, 0, 0, 9]);
    let mut sent = 0;
    for first in (0..=u8::MAX).filter(|first| first & 0x40 == 0) {
        for size in [1, 8, 9, 16, 17, 18, 64, 1200] {
            // A probe is what it is, whoever sends it.
            if (first, size) != (3, 17) {
                let mut garbage = vec![0x55; size];
                garbage[0] = first;
                socket.send_to(&garbage, address(&one)).unwrap();
                sent += 1;
                eventually("it was looked at", || stats(&one).strays == sent).await;
            }
        }
    }
    assert_eq!(stats(&one).sent, 0);
    soon(other.identify(&one.local().address)).await.unwrap();
}

#[tokio::test]
async fn nobody_speaks_as_a_peer_behind_a_relay_and_nothing_is_sent_to_one_directly() {
    let node = node(2, [127, 0, 0, 2]);
    let mux = &node.shared.mux;
    let route = mux.route(([127, 0, 0, 1], 4000).into(), SessionId(1)).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let alive = node.shared.tasks.token().unwrap();
    let own = OwnSocket::wrap(socket, mux.clone(), alive).unwrap();
    for (from, left) in [(route.fake(), 0), (([127, 0, 0, 1], 9).into(), 20)] {
        let mut meta = quinn::udp::RecvMeta {
            addr: from,
            len: 20,
            stride: 20,
            ecn: None,
            dst_ip: None,
        };
        own.sift(&mut [0x40; 20], &mut meta);
        assert_eq!(meta.len, left);
    }
    let before = stats(&node);
    mux.send(route.fake(), Packet::Probe { nonce: [0; 16] });
    let transmit = Transmit {
        destination: route.fake(),
        ecn: None,
        contents: &[0x40; 20],
        segment_size: None,
        src_ip: None,
    };
    own.try_send(&transmit).unwrap();
    let after = stats(&node);
    assert_eq!((after.lost - before.lost, after.sent - before.sent), (2, 0));
}

#[tokio::test]
async fn routes_are_few_and_cannot_be_guessed() {
    let [one, other] = [node(2, [127, 0, 0, 2]), node(3, [127, 0, 0, 3])];
    let relay = SocketAddr::from(([127, 0, 0, 1], 4000));
    let [mux, mux_of_other] = [&one.shared.mux, &other.shared.mux];
    let mut routes: Vec<_> = (0..MAX_ROUTES as u64)
        .map(|n| mux.route(relay, SessionId(n)).unwrap())
        .collect();
    assert!(mux.route(relay, SessionId(1000)).is_none(), "full");
    routes.pop();
    assert!(
        mux.route(relay, SessionId(3)).is_none(),
        "one route for each session"
    );
    assert!(mux.route(relay, SessionId(1000)).is_some(), "there is room again");
    let same = mux_of_other.route(relay, SessionId(0)).unwrap();
    assert_ne!(same.fake(), routes[0].fake());
    assert!(routes.iter().all(|route| is_fake(route.fake().ip())));
}

#[tokio::test]
async fn what_waits_for_a_relayed_connection_is_bounded() {
    let node = node(2, [127, 0, 0, 2]);
    let relay = SocketAddr::from(([127, 0, 0, 1], 4000));
    let _route = node.shared.mux.route(relay, SessionId(1)).unwrap();
    let packet = [&[2][..], &1u64.to_be_bytes(), &[0x40; 30]].concat();
    // No other task runs in between, so nothing takes them out of the queue.
    for _ in 0..1000 {
        node.shared.mux.take(relay, &packet);
    }
    let stats = stats(&node);
    assert_eq!((stats.relayed, stats.overflowed), (128, 872));
}

#[test]
fn times_of_the_machines_and_of_timers_are_the_same() {
    let mux = Mux::new(Arc::new(Line::default()));
    let now = mux.now();
    assert!(mux.at(now) <= tokio::time::Instant::now());
    assert_eq!(
        mux.at(now + Duration::from_secs(1)) - mux.at(now),
        Wait::from_secs(1)
    );
}
