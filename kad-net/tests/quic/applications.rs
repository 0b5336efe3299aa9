//! Connections of applications as these see them.

use std::io::ErrorKind;

use kad_core::Contact;
use kad_net::Transport;
use kad_net::quic::{
    ConnectError, Connection, ConnectionError, DatagramError, ListenError, PathKind, Protocol, QuicConfig,
    QuicTransport, StreamError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::nodes::*;

fn protocol(name: &str) -> Protocol {
    Protocol::new(name).unwrap()
}

async fn connected(a: &QuicTransport, b: &QuicTransport) -> (Connection, Connection) {
    let listener = b.listen(protocol("test/1")).unwrap();
    let to = b.local();
    let (ours, theirs) =
        soon(async { tokio::join!(a.connect_at(&to, protocol("test/1")), listener.accept()) }).await;
    (ours.unwrap(), theirs.unwrap())
}

fn reason(error: std::io::Error) -> StreamError {
    let inner = error.into_inner().expect("a reason");
    *inner.downcast::<StreamError>().expect("one of streams")
}

#[tokio::test]
async fn what_one_writes_the_other_reads_whoever_opened_the_stream() {
    let (a, b) = (node(1), node(2));
    let (ours, theirs) = connected(&a, &b).await;
    assert_eq!((ours.peer(), theirs.peer()), (b.local().id, a.local().id));
    assert_eq!(ours.protocol(), theirs.protocol());
    assert!(ours.is_dialled() && !theirs.is_dialled());
    for (one, other) in [(&ours, &theirs), (&theirs, &ours)] {
        let mut writing = one.open().await.unwrap();
        writing.write_all(b"question").await.unwrap();
        writing.shutdown().await.unwrap();
        let mut reading = soon(other.accept()).await.unwrap();
        let mut all = Vec::new();
        soon(reading.read_to_end(&mut all)).await.unwrap();
        assert_eq!(all, b"question");
        reading.write_all(b"answer").await.unwrap();
        reading.shutdown().await.unwrap();
        all.clear();
        soon(writing.read_to_end(&mut all)).await.unwrap();
        assert_eq!(all, b"answer");
    }
    let report = ours.path().borrow().clone();
    assert_eq!((report.kind, report.changes), (Some(PathKind::Lan), 1));
    assert_eq!(
        a.stats().connections,
        0,
        "nothing of it is in the pool of requests"
    );
}

#[tokio::test]
async fn what_was_shut_down_arrives_although_stream_and_connection_are_dropped() {
    let (a, b) = (node(1), node(2));
    let (ours, theirs) = connected(&a, &b).await;
    let mut writing = ours.open().await.unwrap();
    writing.write_all(&vec![7; 900_000]).await.unwrap();
    writing.shutdown().await.unwrap();
    // Nobody of ours reads, so the peer is told so; what was written is whole all the same.
    drop((writing, ours));
    let mut reading = soon(theirs.accept()).await.unwrap();
    let mut all = Vec::new();
    soon(reading.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all.len(), 900_000);
    assert_eq!(soon(theirs.closed()).await, ConnectionError::ClosedByPeer);
}

#[tokio::test]
async fn closing_waits_until_the_peer_has_taken_everything() {
    let (a, b) = (node(1), node(2));
    let (ours, theirs) = connected(&a, &b).await;
    let mut writing = ours.open().await.unwrap();
    writing.write_all(&vec![7; 300_000]).await.unwrap();
    writing.shutdown().await.unwrap();
    let reading = tokio::spawn(async move {
        let mut stream = theirs.accept().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        (all.len(), theirs.closed().await)
    });
    soon(ours.close()).await;
    assert_eq!(
        soon(reading).await.unwrap(),
        (300_000, ConnectionError::ClosedByPeer)
    );
    assert_eq!(
        writing.write(b"x").await.unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
}

#[tokio::test]
async fn a_stream_that_is_dropped_before_its_end_never_looks_whole() {
    let (a, b) = (node(1), node(2));
    let (ours, theirs) = connected(&a, &b).await;
    let mut writing = ours.open().await.unwrap();
    writing.write_all(b"half of it").await.unwrap();
    let mut reading = soon(theirs.accept()).await.unwrap();
    drop(writing);
    let mut all = Vec::new();
    let error = soon(reading.read_to_end(&mut all)).await.unwrap_err();
    assert_eq!(reason(error), StreamError::Reset);
    let error = soon(async {
        loop {
            if let Err(error) = reading.write_all(&[0; 1000]).await {
                break error;
            }
        }
    })
    .await;
    assert_eq!(reason(error), StreamError::Stopped);
    reading.shutdown().await.unwrap();
}

#[tokio::test]
async fn nobody_is_connected_to_who_does_not_listen() {
    let (a, b) = (node(1), node(2));
    let error = soon(a.connect_at(&b.local(), protocol("test/1")))
        .await
        .unwrap_err();
    let expected = ConnectError::NotListening {
        protocol: protocol("test/1"),
    };
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "the peer was reached, but nothing there listens for test/1"
    );
    let listener = b.listen(protocol("test/1")).unwrap();
    assert_eq!(
        b.listen(protocol("test/1")).unwrap_err(),
        ListenError::Taken {
            protocol: protocol("test/1")
        }
    );
    let ours = soon(a.connect_at(&b.local(), protocol("test/1"))).await.unwrap();
    drop(listener);
    assert_eq!(
        soon(ours.closed()).await,
        ConnectionError::ClosedByPeer,
        "nobody will accept it"
    );
    assert_eq!(
        soon(a.connect_at(&b.local(), protocol("test/1")))
            .await
            .unwrap_err(),
        expected
    );
    assert!(b.listen(protocol("test/1")).is_ok(), "and the name is free again");
    assert_eq!(
        soon(a.connect_at(&a.local(), protocol("test/1")))
            .await
            .unwrap_err(),
        ConnectError::Ourselves
    );
    let stranger = Contact::new(key(9).node_id(), b.local().address);
    let error = soon(a.connect_at(&stranger, protocol("test/1")))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn connections_that_nobody_accepts_are_refused_beyond_their_bound() {
    let (a, b) = (node(1), node(2));
    let _listener = b.listen(protocol("test/1")).unwrap();
    let mut held = Vec::new();
    let error = loop {
        match soon(a.connect_at(&b.local(), protocol("test/1"))).await {
            Ok(connection) => held.push(connection),
            Err(error) => break error,
        }
        assert!(held.len() < 1000, "there is no bound");
    };
    assert!(
        matches!(error, ConnectError::Busy | ConnectError::TooMany),
        "{error}"
    );
    assert_eq!(held.len(), 32);
}

#[tokio::test]
async fn datagrams_go_both_ways_and_their_size_is_bounded() {
    let (a, b) = (node(1), node(2));
    let (ours, theirs) = connected(&a, &b).await;
    let most = ours.max_datagram_size().unwrap();
    assert!(most > 1100, "{most}");
    ours.send_datagram(&vec![1; most]).unwrap();
    theirs.send_datagram(b"").unwrap();
    assert_eq!(soon(theirs.read_datagram()).await.unwrap(), vec![1; most]);
    assert_eq!(soon(ours.read_datagram()).await.unwrap(), b""[..]);
    let size = 70_000;
    let error = ours.send_datagram(&vec![0; size]).unwrap_err();
    assert!(
        matches!(error, DatagramError::TooLarge { size: 70_000, .. }),
        "{error}"
    );
    ours.close().await;
    soon(theirs.closed()).await;
    assert!(soon(theirs.read_datagram()).await.is_err());
    assert!(theirs.send_datagram(b"late").is_err());
}

#[tokio::test]
async fn several_connections_share_a_path_and_do_not_meet() {
    let (a, b) = (node(1), node(2));
    let mut pairs = Vec::new();
    for n in 0..5 {
        let name = protocol(&format!("test/{n}"));
        let listener = b.listen(name.clone()).unwrap();
        let to = b.local();
        let (ours, theirs) = soon(async { tokio::join!(a.connect_at(&to, name), listener.accept()) }).await;
        pairs.push((ours.unwrap(), theirs.unwrap(), listener));
    }
    for (n, (ours, _, _)) in pairs.iter().enumerate() {
        let mut stream = ours.open().await.unwrap();
        stream.write_all(&[n as u8; 10]).await.unwrap();
        stream.shutdown().await.unwrap();
        ours.send_datagram(&[n as u8]).unwrap();
        std::mem::forget(stream);
    }
    for (n, (_, theirs, _)) in pairs.iter().enumerate() {
        let mut all = Vec::new();
        soon(soon(theirs.accept()).await.unwrap().read_to_end(&mut all))
            .await
            .unwrap();
        assert_eq!(all, [n as u8; 10]);
        assert_eq!(soon(theirs.read_datagram()).await.unwrap(), [n as u8][..]);
    }
    assert_eq!((a.stats().dialled, b.stats().accepted), (1, 1));
}

#[tokio::test]
async fn more_streams_than_may_be_open_wait_for_one_to_end() {
    let (a, b) = (node(1), node(2));
    let (ours, theirs) = connected(&a, &b).await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(ours.open().await.unwrap());
    }
    let waiting = tokio::spawn({
        let ours = ours.clone();
        async move { ours.open().await.map(|_| ()) }
    });
    let echo = tokio::spawn(async move {
        while let Ok(mut stream) = theirs.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                if stream.read_to_end(&mut all).await.is_ok() {
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    assert!(!waiting.is_finished());
    let mut first = open.remove(0);
    first.shutdown().await.unwrap();
    let mut all = Vec::new();
    soon(first.read_to_end(&mut all)).await.unwrap();
    soon(waiting).await.unwrap().unwrap();
    drop((open, first, ours));
    soon(echo).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_was_restarted_does_not_know_the_connection() {
    let (a, b) = (node(1), node(2));
    let (ours, _theirs) = connected(&a, &b).await;
    let mut stream = ours.open().await.unwrap();
    let address = kad_net::WireAddress::sockets(&b.local().address)[0];
    b.close().await;
    let b = bind(QuicConfig::new(key(2), network(), vec![address]));
    let _listener = b.listen(protocol("test/1")).unwrap();
    // Whoever looks for paths finds the new one.
    let _again = soon(a.connect_at(&b.local(), protocol("test/1"))).await.unwrap();
    // The stream has told it already, or this does.
    let _ = stream.write_all(b"are you there?").await;
    assert_eq!(soon(ours.closed()).await, ConnectionError::Forgotten);
    assert!(stream.write(b"x").await.is_err());
}

#[tokio::test]
async fn a_transport_that_closes_ends_its_connections_and_waits_for_nobody() {
    let (a, b) = (node(1), node(2));
    let (ours, theirs) = connected(&a, &b).await;
    let mut one = ours.open().await.unwrap();
    one.write_all(b"x").await.unwrap();
    let mut other = soon(theirs.accept()).await.unwrap();
    let before = tokio::time::Instant::now();
    soon(a.close()).await;
    assert!(
        before.elapsed() < std::time::Duration::from_millis(1900),
        "tasks were left"
    );
    assert_eq!(ours.closed().await, ConnectionError::TransportClosed);
    assert_eq!(
        one.write(b"x").await.unwrap_err().kind(),
        ErrorKind::ConnectionAborted
    );
    assert_eq!(ours.open().await.unwrap_err(), ConnectionError::TransportClosed);
    let error = soon(a.connect_at(&b.local(), protocol("test/1")))
        .await
        .unwrap_err();
    assert_eq!(error, ConnectError::Closed);
    assert!(matches!(a.listen(protocol("test/2")), Err(ListenError::Closed)));
    let mut all = Vec::new();
    let reading = other.read_to_end(&mut all);
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(1), reading)
            .await
            .is_err(),
        "the other end waits for another path"
    );
}

#[test]
fn names_of_protocols_have_their_bounds() {
    for good in ["a", "example.org/chat/1", &"é".repeat(32)] {
        assert_eq!(good.parse::<Protocol>().unwrap().as_str(), good);
    }
    for (bad, bytes) in [(String::new(), 0), ("é".repeat(33), 66)] {
        let error = Protocol::new(&bad).unwrap_err();
        assert_eq!(error.bytes, bytes);
        assert!(error.to_string().contains("1 to 64 bytes"), "{error}");
    }
}
