//! Two transports on loopback, and paths between them that come and go.

mod silence;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kad_core::{Contact, Keypair, NetworkId, NodeId, Parameters};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::quic::path::PathKind;
use crate::quic::{Listener, QuicAddress, QuicConfig, QuicLimits, QuicTransport, Stream, connect};
use crate::{Transport, WireAddress};

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < end, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn protocol() -> Protocol {
    Protocol::new("test").unwrap()
}

fn node(n: u8, path_patience: Duration) -> QuicTransport {
    let network = NetworkId::new("test", &Parameters::default());
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let limits = QuicLimits {
        path_patience,
        path_linger: Duration::from_millis(500),
        ..QuicLimits::default()
    };
    QuicTransport::bind(QuicConfig {
        limits,
        ..QuicConfig::new(Keypair::from_secret(&[n; 32]), network, listen)
    })
    .unwrap()
}

/// Two nodes, the second of which listens.
struct Pair {
    a: QuicTransport,
    b: QuicTransport,
    listener: Listener,
    hold: Hold,
}

impl Pair {
    fn new() -> Self {
        Self::with_patience(PATIENCE)
    }

    fn with_patience(patience: Duration) -> Self {
        let (a, b) = (node(1, patience), node(2, patience));
        let listener = b.listen(protocol()).unwrap();
        let hold = a.shared.peerings.with(b.local().id).unwrap();
        Self { a, b, listener, hold }
    }

    /// A path from the one to the other, of which the one who dials says that it is of this kind.
    async fn path(&self, kind: PathKind) -> Arc<LivePath> {
        add_path(&self.a, self.hold.peering(), &self.b.local(), kind).await
    }

    /// The same, by way of somebody else.
    async fn path_at(&self, kind: PathKind, address: SocketAddr) -> Arc<LivePath> {
        let contact = Contact::new(self.b.local().id, address.into());
        add_path(&self.a, self.hold.peering(), &contact, kind).await
    }

    /// The same, dialled by the other one.
    async fn path_back(&self, kind: PathKind) -> Arc<LivePath> {
        let hold = self.b.shared.peerings.with(self.a.local().id).unwrap();
        add_path(&self.b, hold.peering(), &self.a.local(), kind).await
    }

    async fn connect(&self) -> (Connection, Connection) {
        let (ours, theirs) =
            soon(async { tokio::join!(self.hold.peering().connect(protocol()), self.listener.accept()) })
                .await;
        (ours.unwrap(), theirs.unwrap())
    }
}

async fn add_path(
    from: &QuicTransport,
    peering: &Arc<Peering>,
    contact: &Contact<QuicAddress>,
    kind: PathKind,
) -> Arc<LivePath> {
    let connection = connect::dial_application(&from.shared, &contact.address, contact.id)
        .await
        .unwrap();
    let remote = contact.address.sockets()[0];
    assert!(peering.add_path(
        connection,
        Path {
            kind,
            relay: None,
            remote,
            dialled: true,
            why: format!("a test wants it {kind}").into(),
            keep: None,
        },
    ));
    peering.lock().paths.last().unwrap().clone()
}

/// The byte at each place of a stream, different for each direction.
fn byte_at(place: u64, salt: u8) -> u8 {
    (place % 251) as u8 ^ (place >> 13) as u8 ^ salt
}

async fn write_all(mut half: impl AsyncWriteExt + Unpin, size: u64, salt: u8) {
    let mut place = 0;
    while place < size {
        let end = (place + 40_000).min(size);
        let bytes: Vec<u8> = (place..end).map(|place| byte_at(place, salt)).collect();
        half.write_all(&bytes).await.unwrap();
        place = end;
    }
    half.shutdown().await.unwrap();
}

/// Reads to the end, and counts along; each byte must be the one of its place.
async fn read_all(mut half: impl AsyncReadExt + Unpin, salt: u8, read: &AtomicU64) -> u64 {
    let mut place = 0;
    let mut buffer = vec![0; 50_000];
    loop {
        let count = half.read(&mut buffer).await.unwrap();
        if count == 0 {
            return place;
        }
        for byte in &buffer[..count] {
            assert_eq!(*byte, byte_at(place, salt), "at {place}");
            place += 1;
        }
        read.store(place, Ordering::Relaxed);
    }
}

async fn opened(ours: &Connection, theirs: &Connection) -> (Stream, Stream) {
    let (one, other) = soon(async { tokio::join!(ours.open(), theirs.accept()) }).await;
    (one.unwrap(), other.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_arrives_once_and_in_order_while_path_after_path_dies() {
    const SIZE: u64 = 10 * 1024 * 1024;
    let pair = Pair::new();
    let mut path = pair.path(PathKind::Punched).await;
    let (ours, theirs) = pair.connect().await;
    let (one, other) = opened(&ours, &theirs).await;
    let read: Arc<[AtomicU64; 2]> = Arc::default();
    let mut tasks = Vec::new();
    for (side, stream) in [one, other].into_iter().enumerate() {
        let (reading, writing) = tokio::io::split(stream);
        tasks.push(tokio::spawn(async move {
            write_all(writing, SIZE, side as u8).await;
            SIZE
        }));
        let read = read.clone();
        tasks.push(tokio::spawn(async move {
            read_all(reading, 1 - side as u8, &read[side]).await
        }));
    }
    // Each tenth of the way, the path in use dies: after the next one has come, or before; told to the peer, or cut off
    // by us alone; and it is now one that the one dialled, now the other.
    for round in 1..10 {
        let enough = || {
            read.iter()
                .all(|read| read.load(Ordering::Relaxed) >= SIZE * round / 10)
        };
        eventually("a tenth more has arrived", enough).await;
        let old = path.clone();
        if round % 3 == 0 {
            old.connection.close(code::UNUSED, b"");
        }
        path = match round % 2 {
            0 => pair.path(PathKind::Punched).await,
            _ => pair.path_back(PathKind::Punched).await,
        };
        old.connection.close(code::UNUSED, b"");
    }
    for task in tasks {
        assert_eq!(soon(task).await.unwrap(), SIZE);
    }
    assert!(ours.path().borrow().changes >= 5, "{:?}", ours.path().borrow());
    soon(ours.close()).await;
    assert_eq!(soon(theirs.closed()).await, ConnectionError::ClosedByPeer);
}

#[tokio::test]
async fn a_stream_moves_to_the_better_path_and_the_other_one_is_closed() {
    let pair = Pair::new();
    let relayed = pair.path(PathKind::Relayed).await;
    let (ours, theirs) = pair.connect().await;
    let (mut one, mut other) = opened(&ours, &theirs).await;
    one.write_all(b"slow").await.unwrap();
    let mut buffer = [0; 4];
    soon(other.read_exact(&mut buffer)).await.unwrap();
    assert_eq!(ours.path().borrow().kind, Some(PathKind::Relayed));

    let direct = pair.path(PathKind::DirectV4).await;
    one.write_all(b"fast").await.unwrap();
    soon(other.read_exact(&mut buffer)).await.unwrap();
    assert_eq!(&buffer, b"fast");
    other.write_all(b"back").await.unwrap();
    soon(one.read_exact(&mut buffer)).await.unwrap();
    assert_eq!(&buffer, b"back");
    let report = ours.path().borrow().clone();
    assert_eq!((report.kind, report.changes), (Some(PathKind::DirectV4), 2));
    assert!(report.why.contains("a test wants it"), "{report:?}");
    // Both ends of this test have loopback addresses, so the one who was dialled knows the kind only by being told.
    eventually("the other end agrees", || {
        theirs.path().borrow().kind == Some(PathKind::DirectV4)
    })
    .await;
    soon(relayed.connection.closed()).await;
    assert!(direct.connection.close_reason().is_none());
}

#[tokio::test]
async fn a_worse_path_changes_nothing_until_it_is_the_last() {
    let pair = Pair::new();
    let direct = pair.path(PathKind::DirectV6).await;
    let (ours, _theirs) = pair.connect().await;
    let _relayed = pair.path(PathKind::Relayed).await;
    assert_eq!(
        (ours.path().borrow().kind, ours.path().borrow().changes),
        (Some(PathKind::DirectV6), 1)
    );
    direct.connection.close(code::UNUSED, b"");
    eventually("the relayed one is taken", || {
        ours.path().borrow().kind == Some(PathKind::Relayed)
    })
    .await;
}

#[tokio::test]
async fn connections_without_a_path_fail_in_time_and_the_finder_is_told_at_once() {
    let patience = Duration::from_millis(300);
    let pair = Pair::with_patience(patience);
    let path = pair.path(PathKind::Punched).await;
    let (ours, theirs) = pair.connect().await;
    let (mut one, mut other) = opened(&ours, &theirs).await;
    one.write_all(b"what has come can still be read").await.unwrap();
    let mut first = [0; 4];
    soon(other.read_exact(&mut first)).await.unwrap();

    let mut best = pair.hold.peering().best();
    let wanted = pair.hold.peering().wanted();
    path.connection.close(code::UNUSED, b"");
    soon(best.wait_for(Option::is_none)).await.unwrap();
    assert!(*wanted.borrow(), "and it has a reason to look for another");
    assert_eq!(ours.path().borrow().kind, None);

    let error = ConnectionError::NoPath { waited: patience };
    assert_eq!(soon(ours.closed()).await, error);
    assert_eq!(soon(theirs.closed()).await, error);
    let refused = soon(one.read(&mut first)).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(
        one.write(b"x").await.unwrap_err().kind(),
        std::io::ErrorKind::TimedOut
    );
    let mut rest = Vec::new();
    let refused = soon(other.read_to_end(&mut rest)).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(rest, b" has come can still be read");
    assert_eq!(ours.open().await.unwrap_err(), error);
    eventually("nothing wants a path any more", || !*wanted.borrow()).await;
}

#[tokio::test]
async fn a_connection_that_waits_for_its_first_path_gets_it() {
    let pair = Pair::new();
    let peering = pair.hold.peering().clone();
    let connecting = tokio::spawn(async move { peering.connect(protocol()).await });
    let mut wanted = pair.hold.peering().wanted();
    soon(wanted.wait_for(|wanted| *wanted)).await.unwrap();
    let _path = pair.path(PathKind::Relayed).await;
    assert!(soon(connecting).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_reader_that_takes_nothing_bounds_what_the_writer_writes() {
    let pair = Pair::new();
    let _path = pair.path(PathKind::Punched).await;
    let (ours, theirs) = pair.connect().await;
    let (one, mut other) = opened(&ours, &theirs).await;
    let written = Arc::new(AtomicU64::new(0));
    let counted = written.clone();
    let writing = tokio::spawn(async move {
        let mut one = one;
        let piece = [7; 10_000];
        for _ in 0..400 {
            one.write_all(&piece).await.unwrap();
            counted.fetch_add(10_000, Ordering::Relaxed);
        }
        one.shutdown().await.unwrap();
        one
    });
    // All of a window has arrived, and is held for the application that does not read.
    let buffered = &pair.b.shared.peerings.buffered;
    eventually("the window is full", || buffered.in_all() == 1024 * 1024).await;
    assert!(written.load(Ordering::Relaxed) <= 1024 * 1024);
    let mut all = Vec::new();
    soon(other.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all.len(), 4_000_000);
    assert_eq!(buffered.in_all(), 0);
    soon(writing).await.unwrap();
}

#[tokio::test]
async fn a_peer_with_whom_there_is_no_connection_is_forgotten() {
    let pair = Pair::new();
    let path = pair.path(PathKind::Punched).await;
    let (ours, theirs) = pair.connect().await;
    drop(ours);
    assert_eq!(soon(theirs.closed()).await, ConnectionError::ClosedByPeer);
    drop(theirs);
    let (ours, peering) = (pair.a.shared.peerings.clone(), pair.hold);
    drop(peering);
    soon(path.connection.closed()).await;
    eventually("nothing is left of it", || {
        ours.known(&pair.b.local().id).is_none()
    })
    .await;
}

#[tokio::test]
async fn peers_make_room_for_others_when_nothing_is_with_them() {
    let a = node(1, PATIENCE);
    let all = &a.shared.peerings;
    let id = |n: usize| {
        let mut id = [9; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        NodeId::from_bytes(id)
    };
    let mut holds: Vec<_> = (0..all::MAX_PEERS).map(|n| all.with(id(n)).unwrap()).collect();
    assert!(matches!(all.with(id(1000)), Err(ConnectError::TooMany)));
    holds.pop();
    assert!(all.with(id(1000)).is_ok());
    assert!(matches!(all.with(a.local().id), Err(ConnectError::Ourselves)));
}

#[tokio::test]
async fn what_is_expected_of_a_path_is_told_when_it_comes() {
    let pair = Pair::new();
    let remote = pair.a.local().address.sockets()[0];
    let relay = NodeId::from_bytes([5; 32]);
    let path = |kind| Path {
        kind,
        relay: Some(relay),
        remote,
        dialled: false,
        why: "we were told".into(),
        keep: None,
    };
    let forgotten = pair
        .b
        .shared
        .peerings
        .expect("192.0.2.1:9".parse().unwrap(), path(PathKind::Punched));
    drop(forgotten);
    assert!(
        pair.b
            .shared
            .peerings
            .expected("192.0.2.1:9".parse().unwrap())
            .is_none()
    );
    // A guard forgets only its own.
    let older = pair
        .b
        .shared
        .peerings
        .expect(remote, path(PathKind::Punched))
        .unwrap();
    let _expected = pair
        .b
        .shared
        .peerings
        .expect(remote, path(PathKind::Relayed))
        .unwrap();
    drop(older);
    // The one who dials says that it is punched; that there is a relay the other one knows better.
    let _path = pair.path(PathKind::Punched).await;
    let (_ours, theirs) = pair.connect().await;
    let report = theirs.path().borrow().clone();
    assert_eq!(
        (report.kind, report.relay),
        (Some(PathKind::Relayed), Some(relay))
    );
    assert_eq!(&*report.why, "we were told");
}
