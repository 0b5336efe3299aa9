//! One frame there, one frame back, whole or not at all.

use std::time::Duration;

use bytes::Bytes;
use kad_core::Failure;
use kad_net::quic::{QuicConfig, QuicError, QuicLimits};
use kad_net::{MAX_FRAME, Reply, Transport, TransportError};

use crate::nodes::*;

#[tokio::test]
async fn frames_of_every_size_come_back_whole() {
    let (a, b) = (node(1), echo(2));
    for size in [0, 1, 1199, 1200, 5000, 60_000, MAX_FRAME] {
        let frame: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        assert_eq!(ask(&a, &b.local(), &frame).await.unwrap().frame, frame, "{size}");
    }
    let stats = a.stats();
    assert_eq!(stats.bytes_sent, stats.bytes_received);
    assert_eq!((stats.dialled, b.stats().accepted), (1, 1));
}

#[tokio::test]
async fn frame_too_large_is_not_sent() {
    let (a, b) = (node(1), echo(2));
    let size = MAX_FRAME + 1;
    let error = ask(&a, &b.local(), &vec![0; size]).await.unwrap_err();
    assert_eq!(error, QuicError::FrameTooLarge { size });
    assert_eq!(a.stats().dialled, 0);
}

#[tokio::test]
async fn request_too_large_is_refused_by_who_gets_it() {
    let a = echo(1);
    let connection = Plain::member(2).connect(&a).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let _ = send.write_all(&[1]).await;
    // Either the writer is stopped on the way, or the reset comes when all is written.
    let _ = send.write_all(&vec![0; MAX_FRAME + 1]).await;
    let _ = send.finish();
    let error = soon(recv.read_to_end(10)).await.unwrap_err();
    assert!(
        matches!(&error, quinn::ReadToEndError::Read(quinn::ReadError::Reset(code)) if code.into_inner() == 2)
    );
    assert_eq!(a.stats().requests_refused, 1);
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&[1, 7]).await.unwrap();
    send.finish().unwrap();
    assert_eq!(
        soon(recv.read_to_end(10)).await.unwrap(),
        [7],
        "the connection lives on"
    );
}

#[tokio::test]
async fn answer_too_large_is_refused_by_who_gets_it() {
    let a = node(1);
    let connection = Plain::member(2).connect(&a).await;
    eventually("the connection is in the pool", || a.stats().connections == 1).await;
    let answering = tokio::spawn(async move {
        let (mut send, _recv) = connection.accept_bi().await.unwrap();
        // More than fits into the window of the connection, so that it cannot all have arrived when it is refused.
        soon(send.write_all(&vec![0; 8 * MAX_FRAME])).await
    });
    let to = kad_core::Contact::new(key(2).node_id(), a.local().address);
    let error = ask(&a, &to, b"x").await.unwrap_err();
    assert_eq!(
        (error.failure(), error),
        (Failure::Malformed, QuicError::AnswerTooLarge)
    );
    let stopped = answering.await.unwrap().unwrap_err();
    assert!(
        matches!(&stopped, quinn::WriteError::Stopped(code) if code.into_inner() == 2),
        "{stopped}"
    );
}

#[tokio::test]
async fn reply_dropped_means_busy() {
    let (a, b) = (node(1), node(2));
    let to = b.local();
    let asking = tokio::spawn(async move { (ask(&a, &to, b"x").await, ask(&a, &to, b"y").await) });
    drop(soon(b.accept()).await.unwrap());
    soon(b.accept()).await.unwrap().reply.send(Bytes::new()).await;
    let (refused, answered) = asking.await.unwrap();
    let refused = refused.unwrap_err();
    assert_eq!((refused.failure(), refused), (Failure::Busy, QuicError::Busy));
    let answered = answered.unwrap();
    assert_eq!((answered.frame, answered.warm), (Bytes::new(), true));
}

#[tokio::test]
async fn more_requests_than_may_wait_are_busy() {
    let limits = QuicLimits {
        // One connection may fill half.
        inbound_requests: 4,
        ..QuicLimits::default()
    };
    let (a, b) = (node(1), bind(QuicConfig { limits, ..config(2) }));
    let to = b.local();
    let asking: Vec<_> = (0..5u8)
        .map(|i| {
            let (a, to) = (a.clone(), to.clone());
            tokio::spawn(async move { ask(&a, &to, &[i]).await })
        })
        .collect();
    eventually("three are refused", || b.stats().requests_refused == 3).await;
    for _ in 0..2 {
        let inbound = soon(b.accept()).await.unwrap();
        inbound.reply.send(inbound.frame).await;
    }
    let mut busy = 0;
    for asked in asking {
        match asked.await.unwrap() {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, QuicError::Busy);
                busy += 1;
            }
        }
    }
    assert_eq!(busy, 3);
    assert_eq!(ask_and_answer(&a, &b).await, "z", "there is room again");
}

async fn ask_and_answer(a: &kad_net::quic::QuicTransport, b: &kad_net::quic::QuicTransport) -> Bytes {
    let to = b.local();
    let answering = async {
        let inbound = soon(b.accept()).await.unwrap();
        inbound.reply.send(inbound.frame).await;
    };
    tokio::join!(ask(a, &to, b"z"), answering).0.unwrap().frame
}

#[tokio::test]
async fn request_given_up_is_never_delivered_in_part() {
    // Big frames, given up at every stage of their sending.
    let (a, b) = (node(1), node(2));
    let frame: Vec<u8> = (0..MAX_FRAME).map(|i| (i % 251) as u8).collect();
    let to = b.local();
    soon(a.identify(&to.address)).await.unwrap();
    let serving = {
        let (b, frame) = (b.clone(), frame.clone());
        tokio::spawn(async move {
            let mut whole = 0;
            while let Some(inbound) = b.accept().await {
                if inbound.frame == "end" {
                    return whole;
                }
                assert!(inbound.frame == frame, "{} bytes", inbound.frame.len());
                whole += 1;
            }
            panic!("closed");
        })
    };
    for i in 0..200u64 {
        let asking = a.request(&to, Bytes::from(frame.clone()));
        let _ = tokio::time::timeout(Duration::from_micros(i * 20), asking).await;
    }
    let _ = ask(&a, &to, b"end").await;
    let whole: usize = soon(serving).await.unwrap();
    assert!(whole <= 200);
    assert_eq!((a.stats().dialled, b.stats().requests_refused), (1, 0));
}

#[tokio::test]
async fn peer_that_gives_up_stops_the_answer() {
    let (a, b) = (node(1), node(2));
    let to = b.local();
    let asking = {
        let a = a.clone();
        tokio::spawn(async move { a.request(&to, Bytes::from_static(b"x")).await })
    };
    let inbound = soon(b.accept()).await.unwrap();
    asking.abort();
    let _ = asking.await;
    // More than the window holds in no case: it must end although nobody reads it.
    soon(inbound.reply.send(Bytes::from(vec![0; MAX_FRAME]))).await;
    assert_eq!(a.stats().bytes_received, 0);
}

#[tokio::test]
async fn stream_of_an_unknown_kind_is_reset() {
    let a = echo(1);
    let connection = Plain::member(2).connect(&a).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&[9, 1, 2]).await.unwrap();
    send.finish().unwrap();
    let error = soon(recv.read_to_end(10)).await.unwrap_err();
    assert!(
        matches!(&error, quinn::ReadToEndError::Read(quinn::ReadError::Reset(code)) if code.into_inner() == 3)
    );
    assert_eq!(a.quic_stats().unknown_streams, 1);
}

#[tokio::test]
async fn silent_streams_are_reaped() {
    let limits = QuicLimits {
        stream_deadline: Duration::from_millis(100),
        ..QuicLimits::default()
    };
    let a = bind(QuicConfig { limits, ..config(1) });
    let connection = Plain::member(2).connect(&a).await;
    let mut open = Vec::new();
    for _ in 0..64 {
        let (mut send, recv) = soon(connection.open_bi()).await.unwrap();
        send.write_all(&[1]).await.unwrap();
        open.push((send, recv));
    }
    for (_send, recv) in &mut open {
        let error = soon(recv.read_to_end(1)).await.unwrap_err();
        assert!(
            matches!(&error, quinn::ReadToEndError::Read(quinn::ReadError::Reset(code)) if code.into_inner() == 4)
        );
    }
    assert_eq!(a.quic_stats().slow_streams, 64);
    drop(open);
    soon(connection.open_bi()).await.unwrap();
}

#[tokio::test]
async fn datagrams_among_requests_are_thrown_away_and_streams_in_one_direction_are_not_allowed() {
    let a = echo(1);
    let connection = Plain::member(2).connect(&a).await;
    for _ in 0..100 {
        // They are for connections of applications, but a server says so to all.
        soon(connection.send_datagram_wait(Bytes::from_static(&[0; 1000])))
            .await
            .unwrap();
    }
    // Some may be lost on the way; what counts is that they are counted.
    eventually("they were counted", || a.quic_stats().unknown_streams >= 10).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&[1, 7]).await.unwrap();
    send.finish().unwrap();
    assert_eq!(
        soon(recv.read_to_end(10)).await.unwrap(),
        [7],
        "the connection lives on"
    );
    assert!(
        tokio::time::timeout(Duration::from_millis(20), connection.open_uni())
            .await
            .is_err()
    );
}
