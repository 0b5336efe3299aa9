//! Whole transports on hosts of the loopback network, of which some let in only those that they have sent to.

mod birthday;
mod rations;
mod replays;

use kad_core::Contact;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::nat::candidates::{Candidate, CandidateKind};
use crate::nat::prefix::Family;
use crate::nat::reachability::RoleChoice;
use crate::nat::relay::RelayConfig;
use crate::quic::reach::ReachConfig;
use crate::quic::reach::tests::{config, dial, eventually, key, node, socket_of, soon, stands, wall};
use crate::quic::{Listener, PathKind, PathReport};
use crate::transport::Transport;

fn attended(role: RoleChoice, relay: RelayConfig) -> ReachConfig {
    ReachConfig {
        relay: Some(relay),
        unattended: false,
        ..config(role)
    }
}

/// A relay that lets through what a test needs.
fn wide() -> RelayConfig {
    RelayConfig {
        session_bytes: 64 << 20,
        session_rate: 64 << 20,
        rate: 64 << 20,
        ..RelayConfig::default()
    }
}

fn protocol() -> Protocol {
    Protocol::new("test/echo").unwrap()
}

/// A relay, and two clients that have a place there and let in only whom they have sent to.
struct World {
    relay: Arc<QuicTransport>,
    one: Arc<QuicTransport>,
    other: Arc<QuicTransport>,
    listener: Arc<Listener>,
}

impl World {
    async fn new(first: u8, relay: RelayConfig) -> Self {
        Self::of(first, relay, [false; 2]).await
    }

    /// The same, with those of the two that want it trying many ports.
    async fn of(first: u8, relay: RelayConfig, birthday_punching: [bool; 2]) -> Self {
        let client = |n: u8| ReachConfig {
            birthday_punching: birthday_punching[usize::from(n) - 1],
            ..attended(RoleChoice::Client, relay.clone())
        };
        let server = attended(RoleChoice::Server, relay.clone());
        let [relay, one, other] =
            [(0, server), (1, client(1)), (2, client(2))].map(|(n, config)| node(first + n, config));
        for client in [&one, &other] {
            wall(client);
            dial(client, &relay).await;
            stands(client, "has a place", |standing| standing.relays.len() == 1).await;
        }
        let listener = Arc::new(other.listen(protocol()).unwrap());
        let echoing = listener.clone();
        tokio::spawn(async move {
            while let Some(connection) = echoing.accept().await {
                tokio::spawn(async move {
                    while let Ok(stream) = connection.accept().await {
                        tokio::spawn(async move {
                            let (mut read, mut write) = tokio::io::split(stream);
                            tokio::io::copy(&mut read, &mut write).await?;
                            write.shutdown().await
                        });
                    }
                });
            }
        });
        Self {
            relay,
            one,
            other,
            listener,
        }
    }

    /// No packet passes between the two but through the relay.
    fn bar(&self) {
        for (from, to) in [(&self.one, &self.other), (&self.other, &self.one)] {
            from.shared
                .mux
                .between
                .barred
                .lock()
                .unwrap()
                .push(socket_of(to).ip());
        }
    }

    fn card(&self) -> Card<QuicAddress> {
        self.other.reach().standing().borrow().card()
    }

    /// As of a node that nobody can dial: only its relays.
    fn card_behind_nat(&self) -> Card<QuicAddress> {
        Card {
            candidates: Vec::new(),
            ..self.card()
        }
    }

    async fn connect(&self) -> Connection {
        self.connect_by(&self.card()).await
    }

    /// A connection of two behind NATs that have punched through.
    async fn punched(&self) -> Connection {
        let connection = self.connect_by(&self.card_behind_nat()).await;
        path(&connection, "is direct", |report| {
            report.kind == Some(PathKind::Punched)
        })
        .await;
        connection
    }

    async fn connect_by(&self, card: &Card<QuicAddress>) -> Connection {
        let connecting = self.one.connect(self.other.local().id, card, protocol());
        soon(connecting).await.unwrap()
    }
}

/// Sends so many bytes and gets them back.
async fn echo(connection: &Connection, size: u32) {
    let data: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
    let (mut read, mut write) = tokio::io::split(connection.open().await.unwrap());
    let writing = async {
        write.write_all(&data).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut answer = Vec::new();
    let (_, read) = soon(async { tokio::join!(writing, read.read_to_end(&mut answer)) }).await;
    read.unwrap();
    assert!(answer == data, "other bytes came back");
}

async fn path(connection: &Connection, what: &str, is_so: impl FnMut(&PathReport) -> bool) -> PathReport {
    let mut path = connection.path();
    let report = tokio::time::timeout(std::time::Duration::from_secs(60), path.wait_for(is_so)).await;
    match report {
        Ok(Ok(report)) => report.clone(),
        _ => panic!("the path never {what}: {:?}", connection.path().borrow()),
    }
}

#[tokio::test]
async fn two_behind_nats_talk_through_a_relay_at_once_and_directly_soon_after() {
    let world = World::new(121, wide()).await;
    let connection = world.connect_by(&world.card_behind_nat()).await;
    let first = connection.path().borrow().clone();
    assert_eq!(
        (first.kind, first.relay),
        (Some(PathKind::Relayed), Some(world.relay.local().id)),
        "{first:?}"
    );
    let (echoed, report) = tokio::join!(
        echo(&connection, 1 << 20),
        path(&connection, "is direct", |report| report.kind
            == Some(PathKind::Punched))
    );
    let () = echoed;
    assert!(report.why.contains("punched"), "{report:?}");
    assert_eq!(report.remote, Some(socket_of(&world.other)));
    echo(&connection, 100_000).await;
    // The session is of no use any more, and its place is free.
    eventually("the session is over", || {
        world.relay.quic_stats().relay.sessions == 0
    })
    .await;
    assert_eq!(connection.path().borrow().kind, Some(PathKind::Punched));
    let socket = world.other.quic_stats().socket;
    assert!(socket.punches > 0, "{socket:?}");
}

#[tokio::test]
async fn where_nothing_passes_directly_the_relay_stays_and_a_new_session_follows_one_that_is_used_up() {
    let mut narrow = wide();
    narrow.session_bytes = 300_000;
    let world = World::new(124, narrow).await;
    world.bar();
    let connection = world.connect().await;
    echo(&connection, 1 << 20).await;
    assert_eq!(connection.path().borrow().kind, Some(PathKind::Relayed));
    assert!(
        connection.path().borrow().changes > 3,
        "{:?}",
        connection.path().borrow()
    );
    let relayed = world.relay.quic_stats().relay;
    assert!(relayed.bytes > 2 << 20, "{relayed:?}");
}

#[tokio::test]
async fn why_a_path_stays_relayed_is_told() {
    let world = World::new(127, wide()).await;
    world.bar();
    let connection = world.connect().await;
    let report = path(&connection, "is explained", |report| {
        report.why.contains("no packet came through")
    })
    .await;
    assert_eq!(report.kind, Some(PathKind::Relayed));
    echo(&connection, 1000).await;
}

#[tokio::test]
async fn after_a_round_in_vain_there_is_silence_also_when_another_session_follows() {
    let world = World::new(152, wide()).await;
    world.bar();
    let connection = world.connect_by(&world.card_behind_nat()).await;
    path(&connection, "is explained", |report| {
        report.why.contains("no packet came through")
    })
    .await;
    // The session ends; the next one has a punch of its own, which has to wait.
    let hold = world.one.shared.peerings.with(world.other.local().id).unwrap();
    let best = hold.peering().best().borrow().clone();
    best.unwrap().connection.close(0u32.into(), b"");
    hold.peering().choose();
    let (mux, peer) = (&world.one.shared.mux, (world.other.local().id, Family::V4));
    eventually("there is silence", || {
        world
            .one
            .shared
            .meetings
            .silences()
            .until(mux.now(), &peer)
            .is_some()
    })
    .await;
    path(&connection, "is back", |report| report.kind.is_some()).await;
    echo(&connection, 1000).await;
    assert_eq!(world.relay.quic_stats().relay.sessions, 1);
}

#[tokio::test]
async fn a_peer_that_can_be_dialled_is_dialled() {
    let world = World::new(130, wide()).await;
    world
        .other
        .shared
        .mux
        .between
        .walled
        .store(false, std::sync::atomic::Ordering::Relaxed);
    let connection = world.connect().await;
    let report = path(&connection, "is direct", |report| {
        report.kind == Some(PathKind::Lan)
    })
    .await;
    assert_eq!(report.remote, Some(socket_of(&world.other)));
    echo(&connection, 100_000).await;
    // The next connection uses the path that there is.
    let dialled = world.relay.quic_stats().relay.sessions;
    let second = world.connect().await;
    echo(&second, 1000).await;
    assert!(world.relay.quic_stats().relay.sessions <= dialled);
}

#[tokio::test]
async fn a_relay_reaches_those_who_have_a_place_there_without_a_relay() {
    let world = World::new(133, wide()).await;
    let card = world.card();
    assert_eq!(card.relays[0].id, world.relay.local().id);
    let connecting = world.relay.connect(world.other.local().id, &card, protocol());
    let connection = soon(connecting).await.unwrap();
    assert_ne!(connection.path().borrow().kind, Some(PathKind::Relayed));
    echo(&connection, 10_000).await;
    assert_eq!(world.relay.quic_stats().relay.sessions, 0);
}

#[tokio::test]
async fn a_path_that_is_lost_is_found_again_and_streams_go_on() {
    let world = World::new(136, wide()).await;
    let connection = world.punched().await;
    let (mut read, mut write) = tokio::io::split(soon(connection.open()).await.unwrap());
    soon(write.write_all(b"before")).await.unwrap();
    let mut word = [0; 6];
    soon(read.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"before");
    let before = connection.path().borrow().changes;
    let hold = world.one.shared.peerings.with(world.other.local().id).unwrap();
    for _ in 0..2 {
        // Whatever the path is, it is cut.
        let best = hold.peering().best().borrow().clone();
        if let Some(best) = best {
            best.connection.close(0u32.into(), b"");
        }
    }
    drop(hold);
    soon(write.write_all(b"behind")).await.unwrap();
    soon(read.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"behind");
    assert!(connection.path().borrow().changes > before);
}

#[tokio::test]
async fn a_stream_goes_on_through_the_relay_while_a_path_that_fell_silent_is_not_yet_dead() {
    let world = World::new(156, wide()).await;
    let connection = world.punched().await;
    let (mut read, mut write) = tokio::io::split(soon(connection.open()).await.unwrap());
    soon(write.write_all(b"before")).await.unwrap();
    let mut word = [0; 6];
    soon(read.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"before");
    let hold = world.one.shared.peerings.with(world.other.local().id).unwrap();
    let direct = hold.peering().best().borrow().clone().unwrap();
    drop(hold);
    world.bar();
    soon(write.write_all(b"behind")).await.unwrap();
    soon(read.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"behind");
    assert_eq!(connection.path().borrow().kind, Some(PathKind::Relayed));
    assert!(
        direct.connection.close_reason().is_none(),
        "it was given up before QUIC did"
    );
}

#[tokio::test]
async fn both_may_connect_to_each_other_at_once() {
    let world = World::new(139, wide()).await;
    let back = world.one.listen(protocol()).unwrap();
    let card = world.one.reach().standing().borrow().card();
    let card_of_other = world.card();
    let there = world
        .one
        .connect(world.other.local().id, &card_of_other, protocol());
    let here = world.other.connect(world.one.local().id, &card, protocol());
    // The one must be looked at, or its connection waits in the queue.
    let (there, here, accepted) = soon(async { tokio::join!(there, here, back.accept()) }).await;
    let (there, here) = (there.unwrap(), here.unwrap());
    echo(&there, 200_000).await;
    let accepted = accepted.unwrap();
    let stream = soon(here.open()).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    soon(write.write_all(b"hello")).await.unwrap();
    let mut heard = [0; 5];
    let mut stream = soon(accepted.accept()).await.unwrap();
    soon(stream.read_exact(&mut heard)).await.unwrap();
    soon(stream.write_all(&heard)).await.unwrap();
    soon(read.read_exact(&mut heard)).await.unwrap();
    for connection in [&there, &here] {
        path(connection, "is direct", |report| {
            report.kind.is_some_and(|kind| kind != PathKind::Relayed)
        })
        .await;
    }
}

async fn failure(node: &QuicTransport, to: NodeId, card: &Card<QuicAddress>) -> String {
    match soon(node.connect(to, card, protocol())).await {
        Err(error @ ConnectError::Unreachable { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_cannot_be_reached_is_said_not_to_be_and_why() {
    let one = node(142, attended(RoleChoice::Server, wide()));
    let other = node(143, attended(RoleChoice::Server, wide()));
    let nobody = key(144).node_id();
    let nowhere = failure(&one, nobody, &Card::default()).await;
    assert!(nowhere.contains("neither an address nor a relay"), "{nowhere}");

    let at_other = Card {
        candidates: vec![Candidate {
            address: socket_of(&other),
            kind: CandidateKind::Verified,
        }],
        ..Card::default()
    };
    let somebody_else = failure(&one, nobody, &at_other).await;
    assert!(
        somebody_else.contains("somebody else answered"),
        "{somebody_else}"
    );

    let through_other = Card {
        relays: vec![other.local()],
        ..Card::default()
    };
    let no_place = failure(&one, nobody, &through_other).await;
    assert!(no_place.contains("no place at this relay"), "{no_place}");

    let gone = node(145, attended(RoleChoice::Server, wide()));
    let contact = gone.local();
    soon(gone.close()).await;
    let card = Card {
        relays: vec![Contact::new(nobody, contact.address.clone())],
        candidates: vec![Candidate {
            address: socket_of(&gone),
            kind: CandidateKind::Mapped,
        }],
        ..Card::default()
    };
    let silence = failure(&one, contact.id, &card).await;
    assert!(silence.contains("nobody answered at its address"), "{silence}");
    assert!(silence.contains("the relay cannot be reached"), "{silence}");

    let ourselves = soon(one.connect(one.local().id, &card, protocol())).await;
    assert_eq!(ourselves.unwrap_err(), ConnectError::Ourselves);
    let unheard = Protocol::new("test/unheard").unwrap();
    let refused = soon(one.connect(other.local().id, &at_other, unheard.clone())).await;
    assert_eq!(
        refused.unwrap_err(),
        ConnectError::NotListening { protocol: unheard }
    );
    // Whoever looked for them does so no more.
    eventually("nobody looks", || one.shared.meetings.finders().is_empty()).await;
}

#[tokio::test]
async fn a_peer_that_is_gone_for_good_fails_its_connections_in_time() {
    let world = World::new(146, wide()).await;
    let connection = world.connect().await;
    echo(&connection, 1000).await;
    world.other.silence();
    let hold = world.one.shared.peerings.with(world.other.local().id).unwrap();
    let begun = tokio::time::Instant::now();
    loop {
        let best = hold.peering().best().borrow().clone();
        let Some(best) = best else { break };
        best.connection.close(0u32.into(), b"");
        hold.peering().choose();
    }
    drop(hold);
    let error = soon(connection.closed()).await;
    assert!(error.to_string().contains("not found again"), "{error}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(40));
    drop(world.listener);
}

#[tokio::test]
async fn a_transport_that_closes_ends_whoever_looks() {
    let world = World::new(149, wide()).await;
    world.other.silence();
    let card = world.card();
    let peer = world.other.local().id;
    let connecting = world.one.connect(peer, &card, protocol());
    let closing = async {
        eventually("it looks", || !world.one.shared.meetings.finders().is_empty()).await;
        world.one.close().await;
    };
    let begun = tokio::time::Instant::now();
    let (connected, ()) = soon(async { tokio::join!(connecting, closing) }).await;
    assert!(connected.is_err());
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    eventually("nobody looks", || world.one.shared.meetings.finders().is_empty()).await;
}
