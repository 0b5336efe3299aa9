//! Too much at once.

use std::sync::Arc;
use std::time::Instant;

use futures::{FutureExt as _, StreamExt as _};
use kad_core::{Contact, NodeId, Request, Response};
use kad_net::Transport as _;
use kad_net::quic::{QuicAddress, QuicError, QuicTransport};

use super::Trial;
use super::attackers::{Crowd, answer_fairly, answer_to, find_node, frame, member, ping, target};
use super::nodes::{eventually, soon};

/// Asks so many questions at once; returns how many were answered, and how many were refused as too many.
async fn flood(attacker: &QuicTransport, to: &Contact<QuicAddress>, questions: u64) -> (usize, usize) {
    let asked = (0..questions).map(|number| attacker.request(to, find_node(number)));
    let all = soon(futures::future::join_all(asked)).await;
    let answered = all.iter().filter(|answer| answer.is_ok()).count();
    let refused = all
        .iter()
        .filter(|answer| matches!(answer, Err(QuicError::Busy)))
        .count();
    assert_eq!(
        answered + refused,
        all.len(),
        "{:?}",
        all.iter().find(|a| a.is_err())
    );
    (answered, refused)
}

/// A handshake into a crowd of two thousand others takes no longer.
const NEWCOMER_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

#[tokio::test]
async fn ten_thousand_requests_at_once_from_one_peer() {
    let mut trial = Trial::begin().await;
    let (attacker, to) = (member(1), target(&trial.daemon));
    flood(&attacker, &to, 1_000).await;
    trial.measure().await;

    while !trial.has_seen_enough() {
        let started = Instant::now();
        let (answered, refused) = flood(&attacker, &to, 10_000).await;
        println!(
            "10,000 requests at once: {answered} answered, {refused} refused, in {:?}",
            started.elapsed()
        );
        assert!(answered > 0);
    }
    trial.judge("requests").await;
}

#[tokio::test]
async fn a_hundred_peers_with_all_the_requests_they_may_have() {
    let mut trial = Trial::begin().await;
    let (crowd, to) = (
        Crowd::new(quinn::TransportConfig::default()),
        target(&trial.daemon),
    );
    trial.measure().await;

    let ask = |connection: quinn::Connection, number| async move {
        let (mut send, mut recv) = connection.open_bi().await?;
        // The stream may be refused before all of it is written.
        let _ = send.write_all(&[&[1], &find_node(number)[..]].concat()).await;
        let _ = send.finish();
        Ok::<_, quinn::ConnectionError>(recv.read_to_end(kad_net::MAX_FRAME).await.is_ok())
    };
    let peer = |number: u64| {
        let (crowd, to) = (&crowd, &to);
        async move {
            let connection = crowd.connect(1_000 + number, to).await.unwrap();
            let all = (0..400).map(|n| ask(connection.clone(), 400 * number + n));
            let all = futures::future::join_all(all).await;
            all.into_iter()
                .filter(|answer| matches!(answer, Ok(true)))
                .count()
        }
    };
    while !trial.has_seen_enough() {
        let answered: Vec<usize> = soon(
            futures::stream::iter((0..100).map(peer))
                .buffer_unordered(20)
                .collect(),
        )
        .await;
        let answered: usize = answered.iter().sum();
        println!("100 peers with 400 requests each: {answered} answered");
        assert!(answered > 0);
    }
    // The honest peer has its share; where the machine held it up, it may come with more than that at once.
    trial.judge_with("requests of many", 5).await;
}

#[tokio::test]
async fn two_thousand_connections_of_as_many_identities() {
    const IDENTITIES: u64 = 2_000;
    /// What the pool holds, and as many again that are finishing.
    const MOST_OPEN: usize = 2 * 128;
    const LOOKS_BETWEEN_WORDS: usize = 50;
    let mut trial = Trial::begin().await;
    let (crowd, to) = (
        Crowd::new(quinn::TransportConfig::default()),
        target(&trial.daemon),
    );
    let warm: Vec<_> = (0..200).map(|n| crowd.connect(10_000 + n, &to)).collect();
    soon(
        futures::stream::iter(warm)
            .buffer_unordered(16)
            .collect::<Vec<_>>(),
    )
    .await;
    trial.measure().await;

    let started = Instant::now();
    let all = (0..IDENTITIES).map(|n| crowd.connect(20_000 + n, &to));
    let all: Vec<_> = soon(
        futures::stream::iter(all.map(|c| async {
            tokio::time::timeout(NEWCOMER_PATIENCE, c)
                .await
                .unwrap_or(Err(quinn::ConnectionError::TimedOut))
        }))
        .buffer_unordered(256)
        .collect(),
    )
    .await;
    let mut open: Vec<_> = all.into_iter().filter_map(Result::ok).collect();
    let opened = open.len();
    println!("{opened} of {IDENTITIES} handshakes in {:?}", started.elapsed());
    assert!(opened >= 500, "{opened} connections are no attack");
    let asked = [&[1], &ping()[..]].concat();
    let mut looks = 0;
    eventually("the rest is closed", || {
        open.retain(|connection| connection.close_reason().is_none());
        // A farewell may be lost; who then speaks is told again. Not at every look, which would be another flood.
        looks += 1;
        let silent = if looks % LOOKS_BETWEEN_WORDS == 0 {
            MOST_OPEN
        } else {
            open.len()
        };
        for connection in open.iter().skip(silent) {
            if let Some(Ok((mut send, _))) = connection.open_bi().now_or_never() {
                let _ = send.write_all(&asked).now_or_never();
            }
        }
        open.len() <= MOST_OPEN
    })
    .await;
    // Who comes now is let in; the first handshake may still run into the crowd.
    let mut answers = Vec::new();
    for newcomer in 2..5 {
        let asking = member(newcomer);
        let started = Instant::now();
        let answer = tokio::time::timeout(NEWCOMER_PATIENCE, asking.request(&to, ping())).await;
        answers.push((answer.map(|a| a.map(|a| a.frame.len())), started.elapsed()));
        if matches!(answers.last(), Some((Ok(Ok(_)), _))) {
            break;
        }
    }
    println!("newcomers: {answers:?}, {} still open", open.len());
    assert!(
        matches!(answers.last(), Some((Ok(Ok(_)), _))),
        "none of three newcomers was let in: {answers:?}"
    );
    trial.judge("connections").await;
}

/// Who the daemon knows near an id, as a stranger hears it.
async fn knows(stranger: &QuicTransport, daemon: &Contact<QuicAddress>, id: NodeId) -> bool {
    let asked = Request::FindNode {
        target: id.to_key(),
        card: false,
    };
    match answer_to(stranger, daemon, frame(&asked), &asked).await {
        Response::Nodes { closer, .. } => closer.iter().any(|contact| contact.id == id),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_thousand_identities_do_not_drive_out_who_answers() {
    let mut trial = Trial::begin().await;
    let (to, friend, stranger) = (target(&trial.daemon), Arc::new(member(3)), member(4));
    let id = friend.local().id;
    answer_fairly(&friend);
    soon(friend.request(&to, ping())).await.unwrap();
    soon(async { while !knows(&stranger, &to, id).await {} }).await;
    trial.measure().await;

    let crowd = Crowd::new(quinn::TransportConfig::default());
    let ask = |number: u64| {
        let (crowd, to) = (&crowd, &to);
        async move {
            let connection = crowd.connect(30_000 + number, to).await.ok()?;
            let (mut send, mut recv) = connection.open_bi().await.ok()?;
            send.write_all(&[&[1], &ping()[..]].concat()).await.ok()?;
            send.finish().ok()?;
            recv.read_to_end(kad_net::MAX_FRAME).await.ok()
        }
    };
    let answers = futures::stream::iter((0..1_000_u64).map(ask)).buffer_unordered(64);
    let answers: Vec<_> = soon(answers.collect()).await;
    println!(
        "{} of 1,000 identities were answered",
        answers.iter().flatten().count()
    );
    assert!(knows(&stranger, &to, id).await);
    trial.judge("identities").await;
}
