//! What QUIC, UDP and IP cost beyond the frames, on real sockets.
#![allow(clippy::print_stdout, reason = "figures are told with --nocapture")]

use bytes::Bytes;
use kad_net::quic::QuicTransport;
use kad_net::{Reply as _, Transport as _};

use super::nodes::{ask, node, soon};

/// Headers of a datagram over IPv4.
const UDP_AND_IP: u64 = 28;
const REQUESTS: u64 = 40;
/// Between two requests: longer than an acknowledgement waits for something to travel with (RFC 9000, section 18.2).
const PAUSE: std::time::Duration = std::time::Duration::from_millis(30);
const FRAME: [u8; 40] = [7; 40];

/// All that one side of a conversation has sent and taken in.
fn on_the_wire(transport: &QuicTransport) -> u64 {
    let socket = transport.quic_stats().socket;
    socket.sent_bytes + socket.received_bytes + UDP_AND_IP * (socket.sent + socket.received)
}

async fn ask_and_answer(a: &QuicTransport, b: &QuicTransport) {
    let to = b.local();
    let answering = async {
        let inbound = soon(b.accept()).await.unwrap();
        inbound.reply.send(inbound.frame).await;
    };
    let (answer, ()) = tokio::join!(ask(a, &to, &FRAME), answering);
    assert_eq!(answer.unwrap().frame, Bytes::from_static(&FRAME));
    tokio::time::sleep(PAUSE).await;
}

#[tokio::test]
async fn a_request_costs_some_two_hundred_bytes_and_a_handshake_some_four_thousand() {
    let (a, b) = (node(1), node(2));
    ask_and_answer(&a, &b).await;
    // What follows the handshake (its confirmation, new connection ids) comes with the first few exchanges.
    for _ in 0..10 {
        ask_and_answer(&a, &b).await;
    }
    let first = on_the_wire(&a);
    for _ in 0..REQUESTS {
        ask_and_answer(&a, &b).await;
    }
    let both_frames = 2 * FRAME.len() as u64;
    let request = (on_the_wire(&a) - first) / REQUESTS - both_frames;
    let handshake = first - 11 * (request + both_frames);
    println!("a request and its answer: {request} bytes beyond the frames; a handshake: {handshake} bytes");
    assert!((140..=260).contains(&request), "{request} bytes");
    assert!((3_200..=6_000).contains(&handshake), "{handshake} bytes");
}
