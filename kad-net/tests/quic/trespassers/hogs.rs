//! Peers that take as much as they get: of streams, of connections, of paths.

use super::*;

#[tokio::test]
async fn thousands_of_streams_cost_no_more_than_may_be_open() {
    let victim = Victim::new();
    let peer = member(2).connect(&victim.node).await;
    let connection = victim.connected(&peer, 7).await;
    let (mut open, mut asked) = (Vec::new(), Vec::new());
    // Their numbers need not be near to each other.
    const APART: u64 = 37;
    let (mut busy, mut number) = (0u32, 0);
    while number < 20_000 * APART {
        // All that the victim's QUIC allows at once; nobody accepts them.
        let (send, recv) = match tokio::time::timeout(Duration::from_millis(5), peer.open_bi()).await {
            Ok(opened) => opened.unwrap(),
            Err(_) => {
                for (send, mut recv) in asked.drain(..) {
                    match refused(&mut recv).await {
                        true => busy += 1,
                        false => open.push((send, recv)),
                    }
                }
                assert!(open.len() <= 128, "{}", open.len());
                continue;
            }
        };
        let mut send: SendStream = send;
        let mut bytes = header(7, number, 0, 0);
        // What an application may write before it is accepted is bounded as well.
        bytes.extend(data(&[7; 100]));
        soon(send.write_all(&bytes)).await.unwrap();
        asked.push((send, recv));
        number += APART;
    }
    assert!(busy > 19_000, "{busy}");
    assert!(victim.node.quic_stats().refused_streams >= u64::from(busy));
    let mut accepted = Vec::new();
    while accepted.len() < 128 {
        accepted.push(soon(connection.accept()).await.unwrap());
    }
    assert!(
        tokio::time::timeout(Duration::from_millis(20), connection.accept())
            .await
            .is_err()
    );
}

/// Whether a stream was refused as too many; else it is open.
async fn refused(recv: &mut RecvStream) -> bool {
    let mut place = [0; 8];
    match soon(recv.read_exact(&mut place)).await {
        Ok(()) => false,
        Err(ReadExactError::ReadError(ReadError::Reset(code))) => {
            assert_eq!(code.into_inner(), BUSY);
            true
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_flood_of_connections_and_peers_is_bounded() {
    let victim = Victim::new();
    let peer = member(2).connect(&victim.node).await;
    let mut answers = [0; 3];
    for id in 0..200 {
        let (mut send, mut recv) = say(&peer, &connect(id, b"test")).await;
        let _ = send.finish();
        let answer = soon(recv.read_to_end(1)).await.unwrap();
        answers[usize::from(answer[0])] += 1;
    }
    assert_eq!(answers, [32, 0, 168]);
    // Asked once more for one that is there: it is the same.
    let (mut send, mut recv) = say(&peer, &connect(0, b"test")).await;
    let _ = send.finish();
    assert_eq!(soon(recv.read_to_end(1)).await.unwrap(), [0]);

    // Where an application accepts them all, one peer has no more either.
    let greedy = member(200).connect(&victim.node).await;
    let accepted = Arc::new(std::sync::Mutex::new(Vec::new()));
    let accepting = tokio::spawn({
        let accepted = accepted.clone();
        async move {
            while let Some(connection) = victim.listener.accept().await {
                accepted.lock().unwrap().push(connection);
            }
        }
    });
    let mut answers = [0; 3];
    for id in 0..100 {
        let (mut send, mut recv) = say(&greedy, &connect(id, b"test")).await;
        let _ = send.finish();
        answers[usize::from(soon(recv.read_to_end(1)).await.unwrap()[0])] += 1;
    }
    assert_eq!(answers, [32, 0, 68]);
    let id = key(200).node_id();
    eventually("those that were promised were accepted", || {
        let accepted = accepted.lock().unwrap();
        accepted
            .iter()
            .filter(|connection| connection.peer() == id)
            .count()
            == 32
    })
    .await;
    accepting.abort();

    // Those who open a path and want nothing make room for others.
    let idle: Vec<_> = {
        let mut all = Vec::new();
        for n in 3..140 {
            let plain = member(n);
            all.push((plain.connect(&victim.node).await, plain));
        }
        all
    };
    eventually("some were closed to make room", || {
        idle.iter()
            .any(|(connection, _)| connection.close_reason().is_some())
    })
    .await;
    let open = idle
        .iter()
        .filter(|(connection, _)| connection.close_reason().is_none());
    assert!(open.count() <= 128);
    assert!(peer.close_reason().is_none(), "who has connections stays");
    assert!(victim.node.stats().refused <= 137);
}

#[tokio::test]
async fn one_peer_has_an_eighth_of_all_streams_over_whatever_connections_and_paths_and_others_have_theirs() {
    let victim = Victim::new();
    let plain = member(2);
    let (mut paths, mut open, mut busy) = (Vec::new(), Vec::new(), 0);
    for path in 0..4_u8 {
        let peer = plain.connect(&victim.node).await;
        // Two connections of each path, below what either may have.
        for id in [2 * path, 2 * path + 1] {
            let connection = victim.connected(&peer, id).await;
            let mut asked = Vec::new();
            for number in 0..100 {
                asked.push(say(&peer, &header(id, number, 0, 0)).await);
            }
            for (send, mut recv) in asked {
                match refused(&mut recv).await {
                    true => busy += 1,
                    false => open.push((send, recv)),
                }
            }
            paths.push((peer.clone(), connection));
        }
    }
    assert_eq!((open.len(), busy), (512, 288));
    let other = member(3).connect(&victim.node).await;
    let _connection = victim.connected(&other, 7).await;
    let (_send, mut recv) = say(&other, &header(7, 0, 0, 0)).await;
    assert!(!refused(&mut recv).await, "another peer has room");
    // When one is over there is room for one.
    let (mut send, mut recv) = open.pop().unwrap();
    send.write_all(&[DATA, 0, 0]).await.unwrap();
    assert_eq!(refusal(&mut recv).await, VIOLATION);
    let (peer, _) = &paths[5];
    // The refusal may be heard a moment before the place is free.
    for number in 1000.. {
        let (_send, mut recv) = say(peer, &header(5, number, 0, 0)).await;
        if !refused(&mut recv).await {
            break;
        }
        assert!(number < 3000, "there is no room again");
    }
}
