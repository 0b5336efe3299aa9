//! Peers that move, and somebody on the way who makes it look as if they did: with packets of theirs, sent on from
//! elsewhere.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;

use super::*;
use crate::Reply;
use crate::quic::reach::{meet, open};
use crate::wire::reach::ReachRefusal;

/// What somebody on the way makes of the packets of a client that are QUIC's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Theft {
    /// Nothing.
    None,
    /// Every one is sent on from the address of a victim, and does not come from the client.
    All,
    /// Every other one.
    EveryOther,
    /// Every one comes twice, first from the victim's address.
    Twice,
}

/// A router with one address inside, which forwards to one server, from one address outside at a time. It can be told
/// to send packets on from the address of a victim, who sees what comes of that.
struct Router {
    inside: UdpSocket,
    server: SocketAddr,
    outside: Mutex<Arc<UdpSocket>>,
    client: Mutex<Option<SocketAddr>>,
    victim: UdpSocket,
    theft: Mutex<Theft>,
    /// Packets that were stolen, and their bytes.
    stolen: [AtomicUsize; 2],
}

impl Router {
    /// Inside on host `first`, outside on the next one, and the victim on the one after.
    async fn new(first: u8, server: SocketAddr) -> Arc<Self> {
        let socket = async |n| UdpSocket::bind(host(n)).await.unwrap();
        let router = Arc::new(Self {
            inside: socket(first).await,
            server,
            outside: Mutex::new(Arc::new(socket(first + 1).await)),
            client: Mutex::new(None),
            victim: socket(first + 2).await,
            theft: Mutex::new(Theft::None),
            stolen: Default::default(),
        });
        router.clone().let_back_in();
        tokio::spawn(router.clone().let_out());
        router
    }

    fn contact(&self, server: &QuicTransport) -> Contact<QuicAddress> {
        Contact::new(server.id, QuicAddress::from(self.inside.local_addr().unwrap()))
    }

    fn outside(&self) -> Arc<UdpSocket> {
        self.outside.lock().unwrap().clone()
    }

    /// Where the client is for others.
    fn address(&self) -> SocketAddr {
        self.outside().local_addr().unwrap()
    }

    /// It has another address from now on, and what comes to the old one is lost.
    async fn rebind(self: &Arc<Self>, n: u8) {
        *self.outside.lock().unwrap() = Arc::new(UdpSocket::bind(host(n)).await.unwrap());
        self.clone().let_back_in();
    }

    fn steal(&self, theft: Theft) {
        *self.theft.lock().unwrap() = theft;
    }

    async fn let_out(self: Arc<Self>) {
        let (mut buffer, mut seen) = (vec![0; 70_000], 0_u64);
        while let Ok((size, from)) = self.inside.recv_from(&mut buffer).await {
            *self.client.lock().unwrap() = Some(from);
            let packet = &buffer[..size];
            // Of a connection that stands: short headers (RFC 9000, section 17.3).
            let is_quic = packet[0] & 0xc0 == 0x40;
            seen += u64::from(is_quic);
            let theft = *self.theft.lock().unwrap();
            let stolen = match theft {
                Theft::None => false,
                Theft::All | Theft::Twice => is_quic,
                Theft::EveryOther => is_quic && seen.is_multiple_of(2),
            };
            if stolen {
                self.stolen[0].fetch_add(1, Ordering::Relaxed);
                self.stolen[1].fetch_add(size, Ordering::Relaxed);
                let _ = self.victim.send_to(packet, self.server).await;
            }
            if !stolen || theft == Theft::Twice {
                let _ = self.outside().send_to(packet, self.server).await;
            }
        }
    }

    fn let_back_in(self: Arc<Self>) {
        let outside = self.outside();
        tokio::spawn(async move {
            let mut buffer = vec![0; 70_000];
            while let Ok((size, from)) = outside.recv_from(&mut buffer).await {
                let client = *self.client.lock().unwrap();
                if let (Some(client), true) = (
                    client,
                    from == self.server && Arc::ptr_eq(&outside, &self.outside()),
                ) {
                    let _ = self.inside.send_to(&buffer[..size], client).await;
                }
            }
        });
    }

    /// What has come to the victim since this was asked last.
    fn at_victim(&self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 70_000];
        let mut all = Vec::new();
        while let Ok((size, from)) = self.victim.try_recv_from(&mut buffer) {
            assert_eq!(from, self.server, "somebody else was told of the victim");
            all.push(buffer[..size].to_vec());
        }
        all
    }
}

/// A relay, a client that has its place there through a router, and another one; and the client's connection.
struct World {
    relay: Arc<QuicTransport>,
    client: Arc<QuicTransport>,
    other: Arc<QuicTransport>,
    router: Arc<Router>,
    link: InUse,
}

impl World {
    /// Takes six hosts.
    async fn new(first: u8) -> Self {
        Self::with(first, config(RoleChoice::Client)).await
    }

    async fn with(first: u8, clients: ReachConfig) -> Self {
        let relay = node(first, config(RoleChoice::Server));
        let [client, other] = [first + 1, first + 2].map(|n| node(n, clients.clone()));
        let router = Router::new(first + 3, socket_of(&relay)).await;
        let link = link(&client, &router.contact(&relay)).await;
        dial(&other, &relay).await;
        for one in [&client, &other] {
            stands(one, "has a place", |standing| standing.relays.len() == 1).await;
        }
        Self {
            relay,
            client,
            other,
            router,
            link,
        }
    }

    async fn open(&self) -> Opened {
        let relay = self.relay.local();
        soon(open(&self.other.shared, &relay, self.client.id))
            .await
            .unwrap()
    }

    /// The client's connection, as the relay has it.
    fn leg(&self) -> InUse {
        self.relay.shared.pool.open(&self.client.id).unwrap()
    }

    async fn ask(&self, request: &ReachRequest) -> Result<ReachAnswer, NotHeard> {
        soon(ask(&self.client.shared, &self.link, request, PATIENCE)).await
    }
}

/// Has packets of a client come from a victim's address, while everybody does what could have the victim hit.
async fn led_astray(first: u8, theft: Theft) {
    let world = World::new(first).await;
    let World {
        relay,
        client,
        other,
        router,
        ..
    } = &world;
    let mut arrivals = client.reach().sessions.intercept();
    let opened = world.open().await;
    let arrived = arrival(&mut arrivals).await;
    let (genuine, victim) = (router.address(), router.victim.local_addr().unwrap());
    let leg = world.leg();
    assert_eq!(leg.link().whereabouts().at, genuine);
    // Somebody has said that the client is in both families, and the relay is about to tell others.
    relay.shared.meetings.went_public();
    let said = QuicAddress::new(&[genuine, "[2001:db8::9]:4001".parse().unwrap()]).unwrap();
    let said = Contact::new(client.id, said);

    router.steal(theft);
    let mut came = Vec::new();
    let mut led = 0;
    // A client that wants a session, one that only asks, and another one that wants both to meet, all the time.
    let asking = {
        let (client, link, other) = (client.clone(), world.link.clone(), other.local().id);
        let to_contact = router.contact(relay);
        tokio::spawn(async move {
            let request = ReachRequest::Open { to: other };
            let asked = ask(&client.shared, &link, &request, PATIENCE);
            let rpc = client.request(&to_contact, Bytes::from_static(b"who is there"));
            tokio::join!(asked, rpc)
        })
    };
    let inbound = soon(relay.accept()).await.unwrap();
    assert_eq!(
        inbound.from.address.sockets(),
        [genuine],
        "it would be told to others"
    );
    let _met = soon(meet(&other.shared, &opened)).await;
    eventually("a victim has got what was the client's", || {
        let whereabouts = leg.link().whereabouts();
        assert_eq!(whereabouts.at, genuine, "nothing was proven");
        assert_eq!(relay.proven(&said), Some(genuine.into()));
        if leg.link().connection.remote_address() == victim {
            led += 1;
        }
        came.extend(router.at_victim());
        led >= 20 && came.len() >= 2
    })
    .await;
    // What is forwarded goes to where the client was proven to be.
    let before = client.quic_stats().socket.relayed;
    for _ in 0..5 {
        other
            .shared
            .mux
            .send_relayed(opened.route.fake(), b"\x40 a datagram");
    }
    eventually("it comes through", || {
        client.quic_stats().socket.relayed == before + 5
    })
    .await;
    // One who opens a session meanwhile is told of no other host.
    let second = world.open().await;
    assert_eq!(second.peer_host, genuine.ip());

    router.steal(Theft::None);
    // The honest connection goes on.
    inbound.reply.send(Bytes::from_static(b"it is us")).await;
    let (asked, answered) = soon(asking).await.unwrap();
    assert_eq!(answered.unwrap().frame, "it is us");
    match asked {
        Ok(ReachAnswer::Opened { seen, .. }) => assert_eq!(seen, genuine),
        other => assert_eq!(other, Err(NotHeard::Refused(ReachRefusal::Busy))),
    }
    let hello = world.ask(&ReachRequest::Hello).await;
    assert!(matches!(hello, Ok(ReachAnswer::Hello { .. })), "{hello:?}");
    eventually("it is where it was", || leg.link().whereabouts().settled).await;
    assert_eq!(leg.link().whereabouts().at, genuine);
    assert!(
        Arc::ptr_eq(leg.link(), world.leg().link()),
        "there is another connection"
    );
    assert!(leg.link().connection.close_reason().is_none());

    // All that the victim was sent are packets of the connection itself, and not more than QUIC allows for each move.
    came.extend(router.at_victim());
    let ours: Vec<_> = came.iter().filter(|packet| packet[0] & 0x40 == 0).collect();
    assert!(ours.is_empty(), "the victim was sent {ours:?}");
    let [packets, bytes] = [0, 1].map(|n| router.stolen[n].load(Ordering::Relaxed));
    let sent: usize = came.iter().map(Vec::len).sum();
    assert!(
        sent <= 3 * bytes + packets * 1500,
        "{sent} bytes for {bytes} in {packets} packets"
    );
    assert!(!relay.shared.mux.between.has_sent_to(victim));
    drop((opened, second, arrived));
}

#[tokio::test]
async fn who_has_all_packets_of_a_peer_come_from_elsewhere_aims_nothing_there_but_its_own_connection() {
    led_astray(190, Theft::All).await;
}

#[tokio::test]
async fn who_has_every_other_packet_of_a_peer_come_from_elsewhere_proves_nothing() {
    led_astray(200, Theft::EveryOther).await;
}

#[tokio::test]
async fn who_is_faster_than_the_packets_of_a_peer_and_sends_them_from_elsewhere_proves_nothing() {
    led_astray(210, Theft::Twice).await;
}

#[tokio::test]
async fn a_peer_that_moves_is_followed_and_asks_once() {
    let world = World::new(220).await;
    let World {
        relay,
        client,
        other,
        router,
        ..
    } = &world;
    let mut arrivals = client.reach().sessions.intercept();
    let opened = world.open().await;
    let _arrived = arrival(&mut arrivals).await;
    let (leg, before) = (world.leg(), router.address());
    for n in [226, 227, 228] {
        router.rebind(n).await;
        let now = router.address();
        // The first thing that it says from there; nobody is told to ask again.
        let answer = world.ask(&ReachRequest::Open { to: other.local().id }).await;
        let Ok(ReachAnswer::Opened { seen, session, .. }) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(seen, now);
        assert_eq!(leg.link().whereabouts().at, now);
        // And the session that was there before goes on.
        let heard = client.quic_stats().socket.relayed;
        other
            .shared
            .mux
            .send_relayed(opened.route.fake(), b"\x40 a datagram");
        eventually("it comes through", || {
            client.quic_stats().socket.relayed == heard + 1
        })
        .await;
        let closed = world.ask(&ReachRequest::Close { session }).await;
        assert_eq!(closed, Ok(ReachAnswer::Done));
    }
    assert_ne!(before, router.address());
    assert!(
        Arc::ptr_eq(leg.link(), world.leg().link()),
        "there is another connection"
    );
    assert_eq!(relay.quic_stats().relay.sessions, 1);
}

#[tokio::test]
async fn a_leg_moves_with_its_peer_although_nobody_asks() {
    let world = World::new(230).await;
    let mut arrivals = world.client.reach().sessions.intercept();
    let opened = world.open().await;
    let _arrived = arrival(&mut arrivals).await;
    world.router.rebind(236).await;
    let heard = world.client.quic_stats().socket.relayed;
    // It says that it is still there, as every node that has a place.
    eventually("what is forwarded comes to the new address", || {
        let fake = opened.route.fake();
        world.other.shared.mux.send_relayed(fake, b"\x40 a datagram");
        world.client.quic_stats().socket.relayed > heard
    })
    .await;
    assert_eq!(world.leg().link().whereabouts().at, world.router.address());
}

#[tokio::test]
async fn who_hears_nothing_on_a_path_tells_its_relays_at_once_that_it_is_there() {
    let patient = ReachConfig {
        keep: 10 * PATIENCE,
        ..config(RoleChoice::Client)
    };
    let world = World::with(30, patient).await;
    let doubts = &world.client.shared.peerings;
    let asked = || world.relay.quic_stats().reach_requests;
    for n in [37, 38] {
        world.router.rebind(n).await;
        let before = asked();
        doubts.tell_of_doubt();
        eventually("the relay is told", || asked() > before).await;
        eventually("it has heard of it", || {
            world.leg().link().whereabouts().at == world.router.address()
        })
        .await;
    }
    // However often, it is a word each in two seconds.
    let before = asked();
    for _ in 0..1000 {
        doubts.tell_of_doubt();
        tokio::task::yield_now().await;
    }
    assert!(asked() <= before + 3);
}
