//! The life of connections: shared, simultaneous, dead, silenced, closed.

use std::time::Duration;

use bytes::Bytes;
use kad_core::Failure;
use kad_net::quic::{QuicConfig, QuicError, QuicLimits};
use kad_net::{Reply, Transport, TransportError, WireAddress};

use crate::nodes::*;

#[tokio::test]
async fn both_sides_ask_over_one_connection() {
    let (a, b) = (echo(1), echo(2));
    assert!(!ask(&a, &b.local(), b"x").await.unwrap().warm);
    assert!(ask(&b, &a.local(), b"y").await.unwrap().warm);
    assert_eq!((a.stats().connections, b.stats().connections), (1, 1));
    assert_eq!((b.stats().dialled, a.stats().accepted), (0, 0));
}

#[tokio::test]
async fn concurrent_requests_share_one_dial() {
    let (a, b) = (node(1), echo(2));
    let to = b.local();
    let asked = futures::future::join_all((0..50u8).map(|i| {
        let (a, to) = (a.clone(), to.clone());
        async move { ask(&a, &to, &[i]).await.unwrap().frame == [i][..] }
    }));
    assert!(asked.await.into_iter().all(|same| same));
    assert_eq!((a.stats().dialled, b.stats().accepted), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_opens_converge_to_one_connection() {
    for round in 0..10u8 {
        let (a, b) = (echo(2 * round + 1), echo(2 * round + 2));
        let (to_a, to_b) = (a.local(), b.local());
        let (one, other) = tokio::join!(ask(&a, &to_b, b"x"), ask(&b, &to_a, b"y"));
        assert_eq!(
            (one.unwrap().frame, other.unwrap().frame),
            ("x".into(), "y".into())
        );
        eventually("one is left", || {
            a.stats().connections == 1 && b.stats().connections == 1
        })
        .await;
        assert!(ask(&a, &to_b, b"x").await.unwrap().warm);
        assert!(ask(&b, &to_a, b"y").await.unwrap().warm);
        assert!(a.stats().dialled + b.stats().dialled <= 2);
        tokio::join!(a.close(), b.close());
    }
}

#[tokio::test]
async fn restarted_peer_is_dialled_again() {
    let (a, b) = (node(1), echo(2));
    let to = b.local();
    ask(&a, &to, b"x").await.unwrap();
    // Killed: it says no farewell. Another process takes its place, with the same key on the same port.
    b.silence();
    b.close().await;
    let listen = to.address.sockets().to_vec();
    let again = bind(QuicConfig { listen, ..config(2) });
    serve_echo(&again);
    let answer = ask(&a, &to, b"y").await.unwrap();
    assert_eq!((answer.frame, answer.warm), ("y".into(), false));
    assert_eq!((a.stats().dialled, again.stats().accepted), (2, 1));
}

#[tokio::test]
async fn peer_that_left_is_unreachable() {
    let limits = QuicLimits {
        handshake_timeout: Duration::from_millis(200),
        ..QuicLimits::default()
    };
    let (a, b) = (bind(QuicConfig { limits, ..config(1) }), echo(2));
    let to = b.local();
    ask(&a, &to, b"x").await.unwrap();
    b.close().await;
    assert_eq!(
        ask(&a, &to, b"y").await.unwrap_err().failure(),
        Failure::Unreachable
    );
    eventually("the dead connection is gone", || a.stats().connections == 0).await;
}

#[tokio::test]
async fn addresses_are_raced() {
    let (a, b) = (node(1), echo(2));
    let dead = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sockets = b.local().address.sockets().to_vec();
    sockets.push(dead.local_addr().unwrap());
    sockets.push("[::1]:9".parse().unwrap());
    let address = kad_net::quic::QuicAddress::new(&sockets).unwrap();
    let start = std::time::Instant::now();
    assert_eq!(soon(a.identify(&address)).await.unwrap(), b.local());
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "it did not wait for the dead one"
    );
}

#[tokio::test]
async fn silenced_node_sends_no_datagram_any_more() {
    let (a, b) = (node(1), echo(2));
    // A proxy in between, which sees every datagram of the silenced node.
    let proxy = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = kad_core::Contact::new(b.local().id, proxy.local_addr().unwrap().into());
    let (a_socket, b_socket) = (a.local().address.sockets()[0], b.local().address.sockets()[0]);
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counting = seen.clone();
    let relay = tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        loop {
            let (size, from) = proxy.recv_from(&mut buffer).await.unwrap();
            let to = if from == a_socket { b_socket } else { a_socket };
            if from == a_socket {
                counting.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
            proxy.send_to(&buffer[..size], to).await.unwrap();
        }
    });
    ask(&a, &to, b"x").await.unwrap();
    eventually("the last acknowledgement is out", || {
        seen.load(std::sync::atomic::Ordering::SeqCst) == a.quic_stats().socket.sent
    })
    .await;
    a.silence();
    let before = a.quic_stats().socket;
    let hanging = tokio::time::timeout(
        Duration::from_millis(100),
        a.request(&to, Bytes::from_static(b"y")),
    )
    .await;
    assert!(hanging.is_err());
    a.close().await;
    let after = a.quic_stats().socket;
    assert_eq!((after.sent, after.received), (before.sent, before.received));
    assert!(after.swallowed > before.swallowed);
    // Whatever had left before this one came through the proxy before it.
    assert_eq!(seen.load(std::sync::atomic::Ordering::SeqCst), before.sent);
    assert_eq!(b.stats().connections, 1, "nobody told it");
    relay.abort();
}

#[tokio::test]
async fn close_ends_everything() {
    let (a, b) = (node(1), node(2));
    let to = b.local();
    let asking = {
        let (a, to) = (a.clone(), to.clone());
        tokio::spawn(async move { a.request(&to, Bytes::from_static(b"x")).await })
    };
    let inbound = soon(b.accept()).await.unwrap();
    let accepting = {
        let a = a.clone();
        tokio::spawn(async move { a.accept().await.is_none() })
    };
    let dead = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let dialling = {
        let (a, dead) = (a.clone(), dead.local_addr().unwrap().into());
        tokio::spawn(async move { a.identify(&dead).await })
    };
    soon(async { tokio::join!(a.close(), a.close()) }).await;
    assert_eq!(soon(asking).await.unwrap().unwrap_err(), QuicError::Closed);
    assert_eq!(soon(dialling).await.unwrap().unwrap_err(), QuicError::Closed);
    assert!(soon(accepting).await.unwrap());
    assert!(soon(a.accept()).await.is_none());
    assert_eq!(ask(&a, &to, b"x").await.unwrap_err(), QuicError::Closed);
    assert_eq!(
        soon(a.identify(&to.address)).await.unwrap_err(),
        QuicError::Closed
    );
    assert_eq!(a.stats().connections, 0);
    soon(a.close()).await;
    // The port is free, and the peer was told.
    drop(bind(QuicConfig {
        listen: a.local().address.sockets().to_vec(),
        ..config(1)
    }));
    eventually("the peer knows", || b.stats().connections == 0).await;
    soon(inbound.reply.send("too late".into())).await;
}

#[tokio::test]
async fn idle_connections_close() {
    let limits = QuicLimits {
        idle_timeout: Duration::from_millis(100),
        ..QuicLimits::default()
    };
    let (a, b) = (bind(QuicConfig { limits, ..config(1) }), echo(2));
    ask(&a, &b.local(), b"x").await.unwrap();
    eventually("both have closed it", || {
        a.stats().connections + b.stats().connections == 0
    })
    .await;
    assert!(!ask(&a, &b.local(), b"y").await.unwrap().warm);
}
