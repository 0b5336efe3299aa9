use std::pin::pin;

use futures::future::join_all;
use futures::poll;
use tokio::time::Instant;

use super::*;

fn id(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 4000))
}

fn pair(network: &Network) -> (MemoryTransport, MemoryTransport) {
    (network.join(id(1), address(1)), network.join(id(2), address(2)))
}

async fn echo(transport: &MemoryTransport) {
    while let Some(inbound) = transport.accept().await {
        inbound.reply.send(inbound.frame).await;
    }
}

/// One request of `asker`, with everything that `answerer` needs to answer it.
async fn ask(asker: &MemoryTransport, answerer: &MemoryTransport) -> Result<Answer, MemoryError> {
    let to = answerer.local();
    tokio::select! {
        biased;
        answer = asker.request(&to, Bytes::from_static(b"frame")) => answer,
        () = echo(answerer) => panic!("nobody closed the transport"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_round_trip_takes_two_delays() {
    let delay = Duration::from_millis(30)..=Duration::from_millis(50);
    let network = Network::new(1, Conditions { delay, loss: 0.0 });
    let (alice, bob) = pair(&network);
    alice.identify(&address(2)).await.unwrap();
    for _ in 0..20 {
        let started = Instant::now();
        let answer = ask(&alice, &bob).await.unwrap();
        let taken = started.elapsed();
        assert!((60..=101).contains(&taken.as_millis()), "{taken:?}");
        assert_eq!(answer.took, taken);
    }
}

#[tokio::test(start_paused = true)]
async fn strangers_shake_hands_first_and_that_is_no_part_of_the_round_trip() {
    let delay = Duration::from_millis(30)..=Duration::from_millis(30);
    let network = Network::new(1, Conditions { delay, loss: 0.0 });
    let (alice, bob) = pair(&network);
    for (warm, all) in [(false, 120), (true, 60)] {
        let started = Instant::now();
        let answer = ask(&alice, &bob).await.unwrap();
        // Timers are a millisecond late at most.
        assert!(
            started.elapsed().as_millis().abs_diff(all) <= 3,
            "{:?}",
            started.elapsed()
        );
        assert!(answer.took.as_millis().abs_diff(60) <= 2, "{answer:?}");
        assert_eq!(answer.warm, warm);
    }
    // Whoever was asked knows the other as well.
    let started = Instant::now();
    ask(&bob, &alice).await.unwrap();
    assert!(started.elapsed().as_millis() < 90);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_loses_the_same_requests() {
    async fn fates(seed: u64) -> Vec<bool> {
        let conditions = Conditions {
            loss: 0.2,
            ..Conditions::default()
        };
        let network = Network::new(seed, conditions);
        let (alice, bob) = pair(&network);
        let mut fates = Vec::new();
        for _ in 0..200 {
            fates.push(ask(&alice, &bob).await.is_ok());
        }
        fates
    }
    let first = fates(1).await;
    assert_eq!(first, fates(1).await);
    assert_ne!(first, fates(2).await);
    // Both ways must succeed: 64 of 100, give or take.
    let arrived = first.iter().filter(|&&arrived| arrived).count();
    assert!((100..156).contains(&arrived), "{arrived}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_hangs_until_it_counts_as_unreachable() {
    let network = Network::new(
        1,
        Conditions {
            loss: 1.0,
            ..Conditions::default()
        },
    );
    let (alice, bob) = pair(&network);
    let started = Instant::now();
    assert_eq!(ask(&alice, &bob).await, Err(MemoryError::Unreachable));
    assert_eq!(started.elapsed().as_secs(), UNREACHABLE_AFTER.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_is_busy() {
    let network = Network::new(1, Conditions::default());
    let (alice, bob) = pair(&network);
    let to = bob.local();
    let mut waiting: Vec<_> = (0..INBOX)
        .map(|_| Box::pin(alice.request(&to, Bytes::new())))
        .collect();
    for request in &mut waiting {
        assert!(poll!(request.as_mut()).is_pending());
    }
    assert_eq!(alice.request(&to, Bytes::new()).await, Err(MemoryError::Busy));
    assert_eq!(bob.stats().requests_refused, 1);
    let answers = tokio::select! {
        biased;
        answers = join_all(waiting) => answers,
        () = echo(&bob) => panic!("nobody closed the transport"),
    };
    assert!(answers.iter().all(Result::is_ok), "those who wait are served");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_cut_off_neither_hears_nor_speaks_until_it_is_back() {
    let network = Network::new(1, Conditions::default());
    let (alice, bob) = pair(&network);
    assert!(ask(&alice, &bob).await.is_ok());
    assert!(network.disconnect(address(2)));
    assert!(!network.disconnect(address(2)), "it is cut off already");
    assert_eq!(ask(&alice, &bob).await, Err(MemoryError::Unreachable));
    assert_eq!(ask(&bob, &alice).await, Err(MemoryError::Unreachable));
    assert!(network.reconnect(address(2)));
    assert!(ask(&alice, &bob).await.is_ok());
    assert!(!network.disconnect(address(9)), "nobody is there");
}

#[tokio::test(start_paused = true)]
async fn parts_of_a_network_hear_nothing_of_each_other_until_it_heals() {
    let network = Network::new(1, Conditions::default());
    let (alice, bob) = pair(&network);
    let carol = network.join(id(3), address(3));
    network.part([address(2), address(3)]);
    assert_eq!(ask(&alice, &bob).await, Err(MemoryError::Unreachable));
    assert_eq!(ask(&bob, &alice).await, Err(MemoryError::Unreachable));
    assert!(ask(&carol, &bob).await.is_ok(), "they are in the same part");
    network.part([address(3)]);
    assert!(ask(&alice, &bob).await.is_ok(), "only the last parting counts");

    let to = bob.local();
    let mut request = pin!(alice.request(&to, Bytes::new()));
    assert!(poll!(request.as_mut()).is_pending());
    let inbound = bob.accept().await.unwrap();
    network.part([address(1)]);
    inbound.reply.send(Bytes::new()).await;
    assert_eq!(request.await, Err(MemoryError::Unreachable), "the answer is lost");
    network.heal();
    assert!(ask(&alice, &bob).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_cut_in_the_middle_of_an_exchange_ends_in_silence() {
    let network = Network::new(1, Conditions::default());
    let (alice, bob) = pair(&network);
    let to = bob.local();
    let mut request = pin!(alice.request(&to, Bytes::new()));
    assert!(poll!(request.as_mut()).is_pending());
    let inbound = bob.accept().await.unwrap();
    network.disconnect(address(2));
    inbound.reply.send(Bytes::new()).await;
    let started = Instant::now();
    assert_eq!(request.await, Err(MemoryError::Unreachable));
    assert_eq!(started.elapsed().as_secs(), UNREACHABLE_AFTER.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_in_the_middle_is_gone_at_once() {
    let network = Network::new(1, Conditions::default());
    let (alice, bob) = pair(&network);
    let to = bob.local();
    let started = Instant::now();
    let (answer, ()) = tokio::join!(alice.request(&to, Bytes::new()), async {
        let held = bob.accept().await;
        bob.close().await;
        drop(held);
    });
    assert_eq!(answer, Err(MemoryError::Unreachable));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_member_is_met_anew() {
    let network = Network::new(1, Conditions::default());
    let (alice, bob) = pair(&network);
    assert!(!ask(&alice, &bob).await.unwrap().warm);
    assert!(ask(&alice, &bob).await.unwrap().warm);
    let again = network.join(id(2), address(2));
    assert!(!ask(&alice, &again).await.unwrap().warm);
    drop(bob);
    assert!(
        ask(&alice, &again).await.is_ok(),
        "the old one takes nothing with it"
    );
    let other = network.join(id(3), address(2));
    assert_eq!(
        alice.request(&again.local(), Bytes::new()).await,
        Err(MemoryError::WrongIdentity)
    );
    assert_eq!(alice.identify(&address(2)).await, Ok(other.local()));
    assert_eq!(alice.stats().wrong_identity, 1);
}

#[tokio::test(start_paused = true)]
async fn bytes_and_connections_are_counted() {
    let network = Network::new(1, Conditions::default());
    let (alice, bob) = pair(&network);
    for _ in 0..3 {
        ask(&alice, &bob).await.unwrap();
    }
    let (asker, answerer) = (alice.stats(), bob.stats());
    assert_eq!((asker.dialled, asker.accepted, asker.connections), (1, 0, 1));
    assert_eq!(
        (answerer.dialled, answerer.accepted, answerer.connections),
        (0, 1, 1)
    );
    for stats in [asker, answerer] {
        assert_eq!((stats.bytes_sent, stats.bytes_received), (15, 15));
    }
}
