//! Paths on which nothing arrives any more, although nobody has said so.

use std::sync::atomic::AtomicBool;

use super::*;

/// Passes on what comes until it is told not to: a NAT that forgets, or a cable that is pulled.
struct Middle {
    address: SocketAddr,
    mute: Arc<AtomicBool>,
}

impl Middle {
    async fn before(to: SocketAddr) -> Self {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let mute = Arc::new(AtomicBool::new(false));
        let muted = mute.clone();
        tokio::spawn(async move {
            let (mut buffer, mut client) = (vec![0; 70_000], None);
            while let Ok((size, from)) = socket.recv_from(&mut buffer).await {
                let next = match from == to {
                    true => client,
                    false => {
                        client = Some(from);
                        Some(to)
                    }
                };
                if let (Some(next), false) = (next, muted.load(Ordering::Relaxed)) {
                    let _ = socket.send_to(&buffer[..size], next).await;
                }
            }
        });
        Self { address, mute }
    }
}

/// A silent path, on which `lost on the way` was written, stays in use until there is another one, carries nothing from
/// then on, and is taken again when something comes over it.
async fn goes_on_until_it_is_heard_of(
    pair: &Pair,
    middle: &Middle,
    ours: &Connection,
    other: &mut (impl tokio::io::AsyncRead + Unpin),
) {
    assert_eq!(
        ours.path().borrow().kind,
        Some(PathKind::Lan),
        "it is better than none"
    );
    let _relayed = pair.path(PathKind::Relayed).await;
    assert_eq!(ours.path().borrow().kind, Some(PathKind::Relayed));
    let mut buffer = [0; 15];
    soon(other.read_exact(&mut buffer)).await.unwrap();
    assert_eq!(&buffer, b"lost on the way");
    middle.mute.store(false, Ordering::Relaxed);
    eventually("it is heard of, and taken again", || {
        ours.path().borrow().kind == Some(PathKind::Lan)
    })
    .await;
}

#[tokio::test]
async fn a_path_that_is_doubted_gives_way_to_any_newer_one_until_it_is_heard_of() {
    let pair = Pair::new();
    let middle = Middle::before(pair.b.local().address.sockets()[0]).await;
    let direct = pair.path_at(PathKind::Lan, middle.address).await;
    let (ours, theirs) = pair.connect().await;
    let (mut one, mut other) = opened(&ours, &theirs).await;
    middle.mute.store(true, Ordering::Relaxed);
    pair.a.network_changed();
    one.write_all(b"lost on the way").await.unwrap();
    goes_on_until_it_is_heard_of(&pair, &middle, &ours, &mut other).await;
    assert!(direct.connection.close_reason().is_none());
}

#[tokio::test]
async fn who_only_listens_doubts_a_path_that_falls_silent_as_soon_as_who_speaks() {
    let pair = Pair::new();
    let middle = Middle::before(pair.b.local().address.sockets()[0]).await;
    let _direct = pair.path_at(PathKind::Lan, middle.address).await;
    let (ours, theirs) = pair.connect().await;
    let (mut one, mut other) = opened(&ours, &theirs).await;
    one.write_all(b"the last word").await.unwrap();
    let mut buffer = [0; 13];
    soon(other.read_exact(&mut buffer)).await.unwrap();
    let hold = pair.b.shared.peerings.known(&pair.a.local().id).unwrap();
    let mut trusted = hold.peering().trusted();
    soon(trusted.wait_for(|trusted| *trusted)).await.unwrap();
    let mut doubts = pair.b.shared.peerings.doubts();
    doubts.borrow_and_update();
    middle.mute.store(true, Ordering::Relaxed);
    let muted = tokio::time::Instant::now();
    soon(trusted.wait_for(|trusted| !*trusted)).await.unwrap();
    assert!(doubts.has_changed().unwrap(), "the relays are not told");
    // The keep-alives of the one who dialled stay out after 5 s, and would be missed a second later.
    assert!(muted.elapsed() < Duration::from_secs(6), "{:?}", muted.elapsed());
    // It is believed again as soon as something comes.
    middle.mute.store(false, Ordering::Relaxed);
    soon(trusted.wait_for(|trusted| *trusted)).await.unwrap();
}

#[tokio::test]
async fn a_path_that_falls_silent_is_doubted_long_before_it_dies_and_taken_again_when_it_recovers() {
    let pair = Pair::new();
    let middle = Middle::before(pair.b.local().address.sockets()[0]).await;
    let direct = pair.path_at(PathKind::Lan, middle.address).await;
    let (ours, theirs) = pair.connect().await;
    let (mut one, mut other) = opened(&ours, &theirs).await;
    let mut trusted = pair.hold.peering().trusted();
    soon(trusted.wait_for(|trusted| *trusted)).await.unwrap();
    middle.mute.store(true, Ordering::Relaxed);
    one.write_all(b"lost on the way").await.unwrap();
    soon(trusted.wait_for(|trusted| !trusted)).await.unwrap();
    assert!(
        direct.connection.close_reason().is_none(),
        "it is doubted before QUIC gives it up"
    );
    goes_on_until_it_is_heard_of(&pair, &middle, &ours, &mut other).await;
}

#[tokio::test]
async fn the_last_word_of_a_stream_is_said_again_where_it_was_lost_with_its_path() {
    let pair = Pair::new();
    let middle = Middle::before(pair.b.local().address.sockets()[0]).await;
    let lost = pair.path_at(PathKind::Punched, middle.address).await;
    let (ours, theirs) = pair.connect().await;
    let (mut one, mut other) = opened(&ours, &theirs).await;
    one.write_all(b"ask").await.unwrap();
    one.shutdown().await.unwrap();
    let mut asked = Vec::new();
    soon(other.read_to_end(&mut asked)).await.unwrap();
    other.write_all(b"answer").await.unwrap();
    other.shutdown().await.unwrap();
    // Each end has all that the other one has written, and one of them has not yet said so.
    let state = |of: &Pair| of.hold.peering().lock().connections.values().next().cloned();
    soon(state(&pair).unwrap().until_delivered()).await;
    eventually("the answer is there", || one.has_all()).await;
    middle.mute.store(true, Ordering::Relaxed);
    let mut answer = Vec::new();
    soon(one.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"answer");
    assert!(lost.connection.close_reason().is_none());

    let _next = pair.path(PathKind::Punched).await;
    let back = pair.b.shared.peerings.with(pair.a.local().id).unwrap();
    let state = back.peering().lock().connections.values().next().cloned();
    soon(state.unwrap().until_delivered()).await;
    // It is over, and not given up: what follows on the connection is as if nothing had been.
    drop((one, other));
    let (mut one, mut other) = opened(&ours, &theirs).await;
    one.write_all(b"more").await.unwrap();
    let mut more = [0; 4];
    soon(other.read_exact(&mut more)).await.unwrap();
    assert_eq!(&more, b"more");
}
