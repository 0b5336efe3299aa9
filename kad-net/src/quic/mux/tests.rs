use std::net::UdpSocket;
use std::time::Duration as Wait;

use kad_core::{Duration, Keypair, NetworkId, Parameters};

use quinn::AsyncUdpSocket;
use quinn::udp::Transmit;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::nat::relay::{Action, Event, RelayConfig};
use crate::quic::path::Path;
use crate::quic::relayed::MAX_ROUTES;
use crate::quic::socket::OwnSocket;
use crate::quic::{PathKind, Protocol, QuicConfig, QuicTransport, SocketStats, tls};
use crate::transport::{Transport, WireAddress};

/// Long enough for a machine that is busy with other things.
const PATIENCE: Wait = Wait::from_secs(30);

fn node(n: u8, host: [u8; 4]) -> QuicTransport {
    let network = NetworkId::new("test", &Parameters::default());
    let mut config = QuicConfig::new(Keypair::from_secret(&[n; 32]), network, vec![(host, 0).into()]);
    let relay = RelayConfig {
        session_bytes: 64 << 20,
        session_rate: 64 << 20,
        rate: 64 << 20,
        ..RelayConfig::default()
    };
    config.reach.relay = Some(relay);
    QuicTransport::bind(config).unwrap()
}

/// A mux without a node around it, whose socket is only there to send.
fn bare() -> (Mux, Arc<UdpSocket>) {
    let mux = Mux::new(Arc::new(Line::default()));
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
    mux.carry_over(&socket);
    (mux, socket)
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
        let mux = &relay.shared.mux;
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
    let protocol = Protocol::new("test/echo").unwrap();
    let listener = other.listen(protocol.clone()).unwrap();
    let endpoint = one.shared.relayed_endpoint().unwrap();
    let application = one.shared.setup.application.clone();
    let connecting = endpoint.connect_with(application, to.fake(), tls::SERVER_NAME);
    let connection = soon(connecting.unwrap()).await.unwrap();
    assert_eq!(tls::peer_id(&connection), Some(other.id));
    assert!(is_fake(connection.remote_address().ip()));
    let path = Path {
        kind: PathKind::Relayed,
        relay: Some(meeting.relay.id),
        remote: address(&meeting.relay),
        dialled: true,
        why: "for a test".into(),
        keep: None,
    };
    let hold = one.shared.peerings.with(other.id).unwrap();
    assert!(hold.peering().add_path(connection, path));

    let data = bytes::Bytes::from((0..1 << 20).map(|n: u32| (n % 251) as u8).collect::<Vec<_>>());
    let sent = data.clone();
    let asking = async {
        let connection = hold.peering().connect(protocol).await.unwrap();
        let (mut read, mut write) = tokio::io::split(connection.open().await.unwrap());
        let writing = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut answer = Vec::new();
        tokio::join!(writing, read.read_to_end(&mut answer)).1.unwrap();
        assert!(answer == data);
        assert_eq!(connection.path().borrow().kind, Some(PathKind::Relayed));
    };
    let answering = async {
        let connection = listener.accept().await.unwrap();
        assert_eq!(connection.peer(), one.id);
        let (mut read, mut write) = tokio::io::split(connection.accept().await.unwrap());
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
        connection
    };
    let _connection = soon(async { tokio::join!(asking, answering) }).await;
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
    assert_eq!(soon(punches.next()).await, Some(Heard::Punch(address(&other))));
    assert_eq!(stats(&one).punches, 1);
    // A handshake from there is told as well, one from elsewhere is not.
    soon(node(4, [127, 0, 0, 4]).identify(&one.local().address))
        .await
        .unwrap();
    soon(other.identify(&one.local().address)).await.unwrap();
    assert_eq!(soon(punches.next()).await, Some(Heard::Arriving));
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

#[test]
fn a_probe_says_whether_its_sender_was_a_stranger() {
    let (mux, _socket) = bare();
    let mut probes = mux.probes().unwrap();
    assert!(mux.probes().is_none());
    let known = stranger([127, 0, 0, 9]);
    mux.send(known.local_addr().unwrap(), Packet::Probe { nonce: [0; 16] });
    let mut probed = |from: SocketAddr, nonce: u8| {
        let mut bytes = [nonce; 17];
        bytes[0] = 3;
        mux.take(from, &bytes);
        probes.try_recv().unwrap()
    };
    // Another port of a host that was sent to is no stranger: some NATs let it in.
    let froms = [
        (([127, 0, 0, 8], 5).into(), true),
        (known.local_addr().unwrap(), false),
        (([127, 0, 0, 9], 5).into(), false),
    ];
    for (n, (from, stranger)) in froms.into_iter().enumerate() {
        let nonce = [n as u8; 16];
        let expected = Probed {
            from,
            nonce,
            stranger,
        };
        assert_eq!(probed(from, n as u8), expected);
    }
    // Nobody looks at them for a while.
    for _ in 0..300 {
        mux.take(([127, 0, 0, 8], 5).into(), &[3; 17]);
    }
    let stats = mux.line().stats();
    assert_eq!((stats.probes, stats.overflowed), (3 + 256, 44));
}

#[tokio::test]
async fn hosts_that_were_dialled_or_answered_are_no_strangers() {
    let [one, other] = [node(2, [127, 0, 0, 2]), node(3, [127, 0, 0, 3])];
    let host = |node: &QuicTransport| address(node).ip();
    assert!(!one.shared.mux.has_contacted(host(&other)));
    soon(other.identify(&one.local().address)).await.unwrap();
    assert!(one.shared.mux.has_contacted(host(&other)), "it was answered");
    assert!(other.shared.mux.has_contacted(host(&one)), "it was dialled");
    // Nor is one of whom nothing was heard.
    let silent = stranger([127, 0, 0, 9]).local_addr().unwrap();
    one.shared.mux.send(silent, Packet::Probe { nonce: [0; 16] });
    assert!(one.shared.mux.has_contacted(silent.ip()));
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
    assert_eq!((stats(&node).relayed, stats(&node).overflowed), (128, 872));
    // Another session has room of its own, and so has one that follows it.
    let of_another = |session: u64| [&[2][..], &session.to_be_bytes(), &[0x40; 30]].concat();
    let quiet = node.shared.mux.route(relay, SessionId(2)).unwrap();
    node.shared.mux.take(relay, &of_another(2));
    assert_eq!((stats(&node).relayed, stats(&node).overflowed), (129, 872));
    drop(quiet);
    let _third = node.shared.mux.route(relay, SessionId(3)).unwrap();
    for _ in 0..128 {
        node.shared.mux.take(relay, &of_another(3));
    }
    assert_eq!((stats(&node).relayed, stats(&node).overflowed), (257, 872));
}

#[tokio::test]
async fn peers_behind_relays_are_not_taken_for_one_host_that_has_too_many_connections() {
    let node = node(2, [127, 0, 0, 2]);
    let relay = SocketAddr::from(([127, 0, 0, 1], 4000));
    let route = node.shared.mux.route(relay, SessionId(1)).unwrap();
    // All fake addresses lie in one /64, for which real peers share a few connections.
    let sources = |ip| std::iter::from_fn(move || Some(ip)).map_while(|ip| node.shared.source(ip));
    let behind_relays: Vec<_> = sources(route.fake().ip()).take(MAX_ROUTES).collect();
    assert_eq!(behind_relays.len(), MAX_ROUTES);
    let real: Vec<_> = sources("2001:db8::1".parse().unwrap()).take(MAX_ROUTES).collect();
    assert_eq!(real.len(), node.shared.limits.connections_per_ip);
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
