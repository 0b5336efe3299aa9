//! Too slow: streams without an end, answers that nobody reads.

use std::time::{Duration, Instant};

use futures::StreamExt as _;

use super::Trial;
use super::attackers::{Crowd, ping, reset_code, target};
use super::nodes::soon;

/// As many streams as one connection may have.
const STREAMS: usize = 64;

/// The code that says so.
const TOO_SLOW: u64 = 4;

#[tokio::test]
async fn streams_that_say_nothing_or_a_byte_a_second_are_reaped() {
    let mut trial = Trial::begin().await;
    let (crowd, to) = (
        Crowd::new(quinn::TransportConfig::default()),
        target(&trial.daemon),
    );
    trial.measure().await;

    let started = Instant::now();
    let mut peers = Vec::new();
    for number in 0..20 {
        let connection = soon(crowd.connect(40_000 + number, &to)).await.unwrap();
        let mut streams = Vec::new();
        for stream in 0..STREAMS {
            let (mut send, mut recv) = soon(connection.open_bi()).await.unwrap();
            send.write_all(&[1]).await.unwrap();
            let drips = stream % 2 == 0;
            streams.push(tokio::spawn(async move {
                let drip = async {
                    let mut second = tokio::time::interval(Duration::from_secs(1));
                    while drips && send.write_all(&[0]).await.is_ok() {
                        second.tick().await;
                    }
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    code = reset_code(&mut recv) => code,
                    () = drip => unreachable!("it drips until it is refused"),
                }
            }));
        }
        peers.push((connection, streams));
    }
    for (connection, streams) in peers {
        for stream in streams {
            assert_eq!(stream.await.unwrap(), Ok(TOO_SLOW));
        }
        let (mut send, mut recv) = soon(connection.open_bi()).await.unwrap();
        send.write_all(&[&[1], &ping()[..]].concat()).await.unwrap();
        send.finish().unwrap();
        assert!(
            reset_code(&mut recv).await.is_err(),
            "the connection is still good for requests"
        );
    }
    println!(
        "{} slow streams reaped within {:?}",
        20 * STREAMS,
        started.elapsed()
    );
    trial.judge("slow streams").await;
}

#[tokio::test]
async fn peers_that_do_not_read_their_answers_hold_up_nobody() {
    let mut trial = Trial::begin().await;
    // Not a byte of an answer may be sent to them.
    let mut deaf = quinn::TransportConfig::default();
    deaf.stream_receive_window(0_u32.into());
    let (crowd, to) = (Crowd::new(deaf), target(&trial.daemon));
    trial.measure().await;

    let questions = [&[1], &ping()[..]].concat();
    let nonsense = [1, 0, 0, 0];
    let mut waiting = Vec::new();
    for number in 0..40 {
        let connection = soon(crowd.connect(50_000 + number, &to)).await.unwrap();
        for stream in 0..STREAMS {
            let (mut send, mut recv) = soon(connection.open_bi()).await.unwrap();
            let sent = if stream % 2 == 0 {
                &questions[..]
            } else {
                &nonsense
            };
            // It may be refused before it is read.
            let _ = send.write_all(sent).await;
            let _ = send.finish();
            waiting.push(async move { reset_code(&mut recv).await });
        }
    }
    let held = waiting.len();
    let ends: Vec<_> = futures::stream::iter(waiting)
        .buffer_unordered(held)
        .collect()
        .await;
    assert!(ends.iter().all(Result::is_ok), "an answer of no bytes");
    println!("{held} answers that nobody reads were given up");
    // While all of these wait, now and then an honest one comes when the last place has just been taken.
    trial.judge_with("unread answers", 1).await;
}
