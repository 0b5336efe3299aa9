//! Peers that do not keep to the rules of connections of applications: each costs what is bounded, and only itself.

#[path = "trespassers/hogs.rs"]
mod hogs;

use std::sync::Arc;
use std::time::Duration;

use kad_net::Transport;
use kad_net::quic::{Connection, Listener, Protocol, QuicConfig, QuicLimits, QuicTransport};
use quinn::{ReadError, ReadExactError, RecvStream, SendStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::nodes::*;

const UNKNOWN_STREAM: u64 = 3;
const TOO_SLOW: u64 = 4;
const BUSY: u64 = 1;
const VIOLATION: u64 = 16;
const UNKNOWN_CONNECTION: u64 = 17;
const OVER: u64 = 19;
const MOVED: u64 = 20;

const DATA: u8 = 0;
const ACK: u8 = 1;
const FIN: u8 = 2;

/// The bytes of a connection that is asked for.
fn connect(id: u8, protocol: &[u8]) -> Vec<u8> {
    let mut bytes = vec![3, 1];
    bytes.extend([id; 16]);
    bytes.push(protocol.len() as u8);
    bytes.extend(protocol);
    bytes
}

/// The beginning of a stream.
fn header(id: u8, number: u64, epoch: u32, place: u64) -> Vec<u8> {
    let mut bytes = vec![3, 2];
    bytes.extend([id; 16]);
    bytes.extend(number.to_be_bytes());
    bytes.extend(epoch.to_be_bytes());
    bytes.extend(place.to_be_bytes());
    bytes
}

fn data(bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![DATA];
    frame.extend((bytes.len() as u16).to_be_bytes());
    frame.extend(bytes);
    frame
}

fn ack(place: u64) -> Vec<u8> {
    let mut frame = vec![ACK];
    frame.extend(place.to_be_bytes());
    frame
}

fn member(n: u8) -> Plain {
    Plain::new(Some(&key(n)), &format!("nkad-app/1/{}", network()))
}

async fn say(connection: &quinn::Connection, bytes: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, recv) = soon(connection.open_bi()).await.unwrap();
    soon(send.write_all(bytes)).await.unwrap();
    (send, recv)
}

/// The code with which a stream is reset, after so many bytes.
async fn refusal(recv: &mut RecvStream) -> u64 {
    let mut byte = [0];
    loop {
        match soon(recv.read_exact(&mut byte)).await {
            Ok(()) => {}
            Err(ReadExactError::ReadError(ReadError::Reset(code))) => return code.into_inner(),
            Err(other) => panic!("not reset: {other}"),
        }
    }
}

async fn place(recv: &mut RecvStream) -> u64 {
    let mut place = [0; 8];
    soon(recv.read_exact(&mut place)).await.unwrap();
    u64::from_be_bytes(place)
}

struct Victim {
    node: Arc<QuicTransport>,
    listener: Listener,
}

impl Victim {
    fn new() -> Self {
        let node = node(1);
        let listener = node.listen(Protocol::new("test").unwrap()).unwrap();
        Self { node, listener }
    }

    /// A connection that a plain peer has opened.
    async fn connected(&self, peer: &quinn::Connection, id: u8) -> Connection {
        let (mut send, mut recv) = say(peer, &connect(id, b"test")).await;
        let _ = send.finish();
        assert_eq!(soon(recv.read_to_end(10)).await.unwrap(), [0]);
        soon(self.listener.accept()).await.unwrap()
    }
}

#[tokio::test]
async fn streams_that_are_none_of_ours_are_reset_with_a_reason() {
    let victim = Victim::new();
    let peer = member(2).connect(&victim.node).await;
    let mut long = connect(7, &[b'x'; 64]);
    long[18] = 65;
    long.push(b'x');
    for (bytes, code) in [
        (vec![1, 7], UNKNOWN_STREAM),
        (vec![9], UNKNOWN_STREAM),
        (vec![3, 0], UNKNOWN_STREAM),
        (vec![3, 5], UNKNOWN_STREAM),
        (vec![3, 4, 6], VIOLATION),
        (connect(7, b""), VIOLATION),
        (connect(7, &[0xff, 0xfe]), VIOLATION),
        (long, VIOLATION),
        (header(7, 0, 0, 0), UNKNOWN_CONNECTION),
    ] {
        let (_send, mut recv) = say(&peer, &bytes).await;
        assert_eq!(refusal(&mut recv).await, code, "{bytes:?}");
    }
    // One that ends in the middle of its beginning.
    let (mut send, mut recv) = say(&peer, &connect(7, b"test")[..9]).await;
    send.finish().unwrap();
    assert_eq!(refusal(&mut recv).await, VIOLATION);
    let _connection = victim.connected(&peer, 7).await;
}

#[tokio::test]
async fn a_stream_whose_beginning_does_not_come_is_given_up() {
    let limits = QuicLimits {
        stream_deadline: Duration::from_millis(100),
        ..QuicLimits::default()
    };
    let node = bind(QuicConfig { limits, ..config(1) });
    let peer = member(2).connect(&node).await;
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(say(&peer, &[3, 2, 0, 0]).await);
    }
    for (_, recv) in &mut open {
        assert_eq!(refusal(recv).await, TOO_SLOW);
    }
}

#[tokio::test]
async fn only_the_key_that_opened_a_connection_may_use_it() {
    let victim = Victim::new();
    let peer = member(2).connect(&victim.node).await;
    let connection = victim.connected(&peer, 7).await;
    let (mut send, mut recv) = say(&peer, &[header(7, 0, 0, 0), data(b"mine")].concat()).await;
    assert_eq!(place(&mut recv).await, 0);
    let mut stream = soon(connection.accept()).await.unwrap();
    let mut buffer = [0; 4];
    soon(stream.read_exact(&mut buffer)).await.unwrap();

    let thief = member(3).connect(&victim.node).await;
    for bytes in [header(7, 0, 1, 0), header(7, 1, 0, 0)] {
        let (_send, mut recv) = say(&thief, &bytes).await;
        assert_eq!(refusal(&mut recv).await, UNKNOWN_CONNECTION);
    }
    // To close it and to send it datagrams is as vain.
    let (mut closing, mut closed) = say(&thief, &[&[3, 3][..], &[7; 16]].concat()).await;
    closing.finish().unwrap();
    assert_eq!(soon(closed.read_to_end(10)).await.unwrap(), b"");
    thief.send_datagram(vec![7; 20].into()).unwrap();
    // The same id is another connection when another key opens it.
    let other = victim.connected(&thief, 7).await;
    assert_ne!(other.peer(), connection.peer());

    soon(send.write_all(&data(b"more"))).await.unwrap();
    soon(stream.read_exact(&mut buffer)).await.unwrap();
    assert_eq!(&buffer, b"more");
    assert!(
        tokio::time::timeout(Duration::from_millis(1), connection.read_datagram())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn frames_that_no_peer_may_send_end_their_stream_and_no_other() {
    let victim = Victim::new();
    let peer = member(2).connect(&victim.node).await;
    let connection = victim.connected(&peer, 7).await;
    let (mut good, mut heard) = say(&peer, &header(7, 1000, 0, 0)).await;
    assert_eq!(place(&mut heard).await, 0);
    let mut untouched = soon(connection.accept()).await.unwrap();
    let frames: [Vec<u8>; 8] = [
        vec![5],
        vec![DATA, 0, 0],
        vec![DATA, 0x40, 1],
        [data(b"x"), vec![FIN, FIN]].concat(),
        [vec![FIN], data(b"x")].concat(),
        vec![FIN, 3],
        ack(1),
        ack(u64::MAX),
    ];
    for (number, frame) in frames.iter().enumerate() {
        let (_send, mut recv) = say(&peer, &[header(7, number as u64, 0, 0), frame.clone()].concat()).await;
        assert_eq!(refusal(&mut recv).await, VIOLATION, "{frame:?}");
        let mut stream = soon(connection.accept()).await.unwrap();
        let mut all = Vec::new();
        let read = soon(stream.read_to_end(&mut all)).await;
        // What came before the end is whole, where there was an end.
        assert!(read.is_err() || frame.contains(&FIN), "{frame:?}");
    }
    // More than a window, of an application that reads nothing.
    let (mut send, mut recv) = say(&peer, &header(7, 100, 0, 0)).await;
    let flooding = tokio::spawn(async move {
        let frame = data(&[0; 16_384]);
        while send.write_all(&frame).await.is_ok() {}
    });
    assert_eq!(refusal(&mut recv).await, VIOLATION);
    soon(flooding).await.unwrap();

    soon(good.write_all(&data(b"fine"))).await.unwrap();
    let mut buffer = [0; 4];
    soon(untouched.read_exact(&mut buffer)).await.unwrap();
    assert_eq!(&buffer, b"fine");
}

#[tokio::test]
async fn resumptions_that_do_not_fit_are_refused() {
    let victim = Victim::new();
    let peer = member(2).connect(&victim.node).await;
    let connection = victim.connected(&peer, 7).await;
    let resume = async |number: u64, epoch: u32, lacks: u64| {
        let (send, mut recv) = say(&peer, &header(7, number, epoch, lacks)).await;
        (send, refusal(&mut recv).await)
    };
    // Of something that was never sent.
    assert_eq!(resume(0, 0, 1).await.1, VIOLATION);
    assert_eq!(resume(1, 5, u64::MAX).await.1, VIOLATION);
    assert_eq!(resume(u64::MAX, 0, 0).await.1, VIOLATION);
    // A second time, by the same epoch.
    let (mut first, mut heard) = say(&peer, &[header(7, 2, 3, 0), data(b"one ")].concat()).await;
    assert_eq!(place(&mut heard).await, 0);
    assert_eq!(resume(2, 3, 0).await.1, MOVED);
    assert_eq!(resume(2, 0, 0).await.1, MOVED);
    // The newest of both lives, and what is said on the older one counts no more.
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(soon(connection.accept()).await.unwrap());
    }
    let mut buffer = [0; 4];
    let mut stream = loop {
        let mut stream = streams.pop().unwrap();
        if soon(stream.read_exact(&mut buffer)).await.is_ok() {
            break stream;
        }
    };
    let (mut second, mut recv) = say(&peer, &header(7, 2, 4, 0)).await;
    assert_eq!(place(&mut recv).await, 4);
    assert_eq!(refusal(&mut heard).await, MOVED);
    let _ = first.write_all(&data(b"lost")).await;
    soon(second.write_all(&[data(b"two "), vec![FIN]].concat()))
        .await
        .unwrap();
    soon(stream.read_exact(&mut buffer)).await.unwrap();
    assert_eq!(&buffer, b"two ");
    stream.shutdown().await.unwrap();
    assert_eq!(soon(stream.read(&mut buffer)).await.unwrap(), 0);
    soon(second.write_all(&ack(1))).await.unwrap();
    second.finish().unwrap();
    let rest = soon(recv.read_to_end(100)).await.unwrap();
    let either = [[vec![FIN], ack(9)].concat(), [ack(9), vec![FIN]].concat()];
    assert!(either.contains(&rest), "{rest:?}");
    // It is over, and does not begin once more.
    assert_eq!(resume(2, 9, 0).await.1, OVER);
}

#[tokio::test]
async fn a_peer_that_does_not_answer_when_it_is_asked_for_a_connection_is_given_up_and_told_so() {
    let limits = QuicLimits {
        stream_deadline: Duration::from_millis(200),
        ..QuicLimits::default()
    };
    let node = bind(QuicConfig { limits, ..config(1) });
    let listener = node.listen(Protocol::new("test").unwrap()).unwrap();
    let victim = Victim { node, listener };
    let peer = member(2).connect(&victim.node).await;
    // So the path is known to be in use.
    let _connection = victim.connected(&peer, 7).await;
    let protocol = Protocol::new("test").unwrap();
    let card = kad_net::card::Card::default();
    let id = key(2).node_id();
    let refused = soon(victim.node.connect(id, &card, protocol)).await.unwrap_err();
    assert!(refused.to_string().contains("did not answer"), "{refused}");
    assert!(peer.close_reason().is_none(), "the path is as good as before");
    // What was asked for, and that it is over, with the same id. What kind of path it is may have been said before.
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let (_send, mut recv) = soon(peer.accept_bi()).await.unwrap();
        let mut beginning = [0; 18];
        soon(recv.read_exact(&mut beginning)).await.unwrap();
        heard.push(beginning);
    }
    assert_eq!([heard[0][..2].to_vec(), heard[1][..2].to_vec()], [[3, 1], [3, 3]]);
    assert_eq!(heard[0][2..], heard[1][2..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumption_that_meets_the_end_of_its_stream_is_answered() {
    let victim = Victim::new();
    let peer = member(2).connect(&victim.node).await;
    let connection = victim.connected(&peer, 7).await;
    // Whichever comes first: what ends the stream, which is no frame, or the next path.
    const END: [u8; 1] = [5];
    for number in 0..2000 {
        let (mut first, _heard) = say(&peer, &header(7, number, 0, 0)).await;
        let _stream = soon(connection.accept()).await.unwrap();
        let next = header(7, number, 1, 0);
        let (_, (mut second, mut recv)) = tokio::join!(first.write_all(&END), say(&peer, &next));
        let mut place = [0; 8];
        match soon(recv.read_exact(&mut place)).await {
            Ok(()) => drop(second.write_all(&END).await),
            Err(ReadExactError::ReadError(ReadError::Reset(_))) => {}
            Err(other) => panic!("neither a place nor a reason: {other}"),
        }
    }
}
