//! Everything has a bound, and an answer for "full".

use kad_net::quic::{QuicConfig, QuicError, QuicLimits};
use kad_net::{Reply, Transport};

use crate::nodes::*;

fn limited(n: u8, limits: QuicLimits) -> std::sync::Arc<kad_net::quic::QuicTransport> {
    bind(QuicConfig { limits, ..config(n) })
}

#[tokio::test]
async fn full_pool_closes_the_connection_that_was_idle_longest() {
    let a = limited(
        1,
        QuicLimits {
            connections: 2,
            ..QuicLimits::default()
        },
    );
    let peers = [echo(2), echo(3), echo(4)];
    for peer in &peers[..2] {
        ask(&a, &peer.local(), b"x").await.unwrap();
    }
    assert!(ask(&a, &peers[0].local(), b"x").await.unwrap().warm);
    ask(&a, &peers[2].local(), b"x").await.unwrap();
    eventually("the second one is closed", || peers[1].stats().connections == 0).await;
    eventually("two are left", || a.stats().connections == 2).await;
    assert!(ask(&a, &peers[0].local(), b"x").await.unwrap().warm);
    assert!(ask(&a, &peers[2].local(), b"x").await.unwrap().warm);
}

#[tokio::test]
async fn full_pool_of_busy_connections_refuses_both_ways() {
    let a = limited(
        1,
        QuicLimits {
            connections: 1,
            ..QuicLimits::default()
        },
    );
    let (b, c) = (node(2), echo(3));
    let asking = {
        let (a, to) = (a.clone(), b.local());
        tokio::spawn(async move { ask(&a, &to, b"x").await })
    };
    let inbound = soon(b.accept()).await.unwrap();
    assert_eq!(ask(&a, &c.local(), b"y").await.unwrap_err(), QuicError::PoolFull);
    assert_eq!(ask(&c, &a.local(), b"z").await.unwrap_err(), QuicError::Busy);
    assert_eq!(a.stats().refused, 1);
    inbound.reply.send("answer".into()).await;
    assert_eq!(asking.await.unwrap().unwrap().frame, "answer");
    ask(&a, &c.local(), b"y").await.unwrap();
}

#[tokio::test]
async fn one_address_gets_so_many_connections_and_no_more() {
    let limits = QuicLimits {
        connections_per_ip: 3,
        limit_loopback: true,
        ..QuicLimits::default()
    };
    let a = limited(1, limits);
    serve_echo(&a);
    let peers: Vec<_> = (2..6).map(node).collect();
    for peer in &peers[..3] {
        ask(peer, &a.local(), b"x").await.unwrap();
    }
    assert_eq!(
        ask(&peers[3], &a.local(), b"x").await.unwrap_err(),
        QuicError::Busy
    );
    peers[0].close().await;
    eventually("its place is free", || a.stats().connections == 2).await;
    ask(&peers[3], &a.local(), b"x").await.unwrap();
}

#[tokio::test]
async fn under_load_addresses_must_be_proven_first() {
    let a = limited(
        1,
        QuicLimits {
            retry_above: 0,
            ..QuicLimits::default()
        },
    );
    serve_echo(&a);
    assert_eq!(ask(&node(2), &a.local(), b"x").await.unwrap().frame, "x");
    assert_eq!(a.quic_stats().retries, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_connections_is_bounded() {
    let limits = QuicLimits {
        connections: 20,
        pending_handshakes: 16,
        retry_above: 4,
        ..QuicLimits::default()
    };
    let a = limited(1, limits);
    serve_echo(&a);
    let flood = Plain::member(2);
    let address = kad_net::WireAddress::sockets(&a.local().address)[0];
    let attempts: Vec<_> = (0..500)
        .map(|_| {
            let connecting = flood.0.connect(address, "nkad").unwrap();
            tokio::spawn(tokio::time::timeout(PATIENCE, connecting))
        })
        .collect();
    let mut most = 0;
    let (mut open, mut failed) = (Vec::new(), 0);
    for attempt in attempts {
        match attempt.await.unwrap() {
            Ok(Ok(connection)) => open.push(connection),
            _ => failed += 1,
        }
        most = most.max(a.stats().connections);
    }
    assert!(most <= 40, "{most} connections at once");
    assert!(failed > 0 && a.stats().refused > 0);
    // All in one id: one of them is in the pool, the rest was closed.
    eventually("one connection is left", || a.stats().connections == 1).await;
    assert_eq!(
        ask(&node(3), &a.local(), b"still there").await.unwrap().frame,
        "still there"
    );
}
