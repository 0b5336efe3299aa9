//! Serves one connection of applications: QUIC with an application protocol name of its own, never in the pool of
//! requests.
//!
//! ```text
//!   first byte 0x02 ─► whoever handles requests of reaching (CANDIDATES)
//!   first byte 0x03 ─► CONNECT ─► a listener      STREAM ─► the stream of a connection
//!                      CLOSE, PATH
//!   datagrams ───────► the connection whose number stands in front
//!   all else ────────► reset, and counted
//! ```

pub(super) mod header;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use quinn::{Connection, RecvStream, SendStream, VarInt};

use self::header::{Answer, Header, NoHeader, STREAM_APPLICATION};
use super::connection::ConnectionError;
use super::error::code;
use super::path::{Path, PathKind};
use super::peering::{LivePath, Peering};
use super::relayed::is_fake;
use super::shared::{Shared, Source};
use super::stream::Attachment;
use super::tasks::Alive;

/// The first byte of a stream that carries a request of reaching.
pub(super) const STREAM_REACH: u8 = 0x02;

/// A request of reaching that came over a connection of applications; its first byte is read.
pub(super) struct ReachStream {
    pub(super) peering: Arc<Peering>,
    pub(super) path: Arc<LivePath>,
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
}

/// What handles these. Called on the task that serves the path, so it must not wait.
pub(super) type OnReach = Box<dyn Fn(ReachStream) + Send + Sync>;

/// Bytes that a peer may have under way on a connection of applications: two windows of a stream, so that one whose
/// application does not read leaves room for the others. At a round trip of 100 ms, 20 MiB/s.
const RECEIVE_WINDOW: u32 = 2 * 1024 * 1024;

/// Bytes that we hold for a peer until its QUIC acknowledges them.
const SEND_WINDOW: u64 = 2 * 1024 * 1024;

/// Streams that a peer may have open on one path, of all its connections together. Full: the peer waits.
const STREAMS_PER_PATH: u32 = 256;

/// Gives a connection that has turned out to be one of applications what these need.
pub(super) fn widen(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(RECEIVE_WINDOW));
    connection.set_send_window(SEND_WINDOW);
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(STREAMS_PER_PATH));
}

/// Takes in a path that a peer opened. Its key was proven, and it is not our own.
pub(super) fn accepted(shared: &Arc<Shared>, connection: Connection, peer: kad_core::NodeId, source: Source) {
    let peerings = &shared.peerings;
    let Ok(hold) = peerings.with_caller(peer) else {
        shared.counters.refused.fetch_add(1, Relaxed);
        connection.close(code::BUSY, b"");
        return;
    };
    let seen = connection.remote_address();
    let mut path = peerings.expected(seen).unwrap_or_else(|| {
        let behind = is_fake(seen.ip())
            .then(|| shared.mux.relayed().behind(seen))
            .flatten();
        let remote = super::address::canonical(behind.map_or(seen, |(relay, _)| relay));
        let kind = match is_fake(seen.ip()) {
            true => PathKind::Relayed,
            // Until the peer says more: never taken for better than it is, so that no stream moves there and back.
            false => PathKind::Punched,
        };
        Path {
            kind,
            relay: None,
            remote,
            dialled: false,
            why: "the peer came on it".into(),
            keep: None,
        }
    });
    path.dialled = false;
    path.keep = Some(Box::new((source, path.keep.take())));
    shared.counters.accepted.fetch_add(1, Relaxed);
    if !hold.peering().add_path(connection, path) {
        shared.counters.refused.fetch_add(1, Relaxed);
    }
}

/// Serves a path until it ends.
pub(super) async fn serve(peering: Arc<Peering>, path: Arc<LivePath>, alive: Alive) {
    let connection = path.connection.clone();
    loop {
        tokio::select! {
            accepted = connection.accept_bi() => {
                let Ok((send, recv)) = accepted else { break };
                tokio::spawn(take_stream(peering.clone(), path.clone(), send, recv, alive.clone()));
            }
            datagram = connection.read_datagram() => {
                let Ok(datagram) = datagram else { break };
                peering.datagram(datagram);
            }
        }
    }
    peering.look_again();
}

/// Reads what a stream is for, but not for ever. There are at most as many of these as streams that a peer may open.
async fn take_stream(
    peering: Arc<Peering>,
    path: Arc<LivePath>,
    mut send: SendStream,
    mut recv: RecvStream,
    alive: Alive,
) {
    let beginning = async {
        let mut kind = [0];
        recv.read_exact(&mut kind).await?;
        match kind[0] {
            STREAM_APPLICATION => Header::read(&mut recv).await.map(Some),
            STREAM_REACH => Ok(None),
            _ => Err(NoHeader::Refused(code::UNKNOWN_STREAM)),
        }
    };
    let header = match tokio::time::timeout(peering.all.stream_deadline, beginning).await {
        Ok(Ok(Some(header))) => header,
        Ok(Ok(None)) => {
            match peering.all.on_reach.get() {
                Some(on_reach) => on_reach(ReachStream {
                    peering: peering.clone(),
                    path,
                    send,
                    recv,
                }),
                None => refuse(&peering, &mut send, &mut recv, code::UNKNOWN_STREAM),
            }
            return;
        }
        Ok(Err(NoHeader::Refused(code))) => return refuse(&peering, &mut send, &mut recv, code),
        Ok(Err(NoHeader::Gone)) => return refuse(&peering, &mut send, &mut recv, code::CANCELLED),
        Err(_) => return refuse(&peering, &mut send, &mut recv, code::TOO_SLOW),
    };
    match header {
        Header::Connect { id, protocol } => {
            let answer = peering.connected(id, protocol);
            // A peer that is gone by now asks again, over another path.
            let _ = send.write_all(&[answer.number()]).await;
            let _ = send.finish();
        }
        Header::Close { id } => {
            if let Some(state) = peering.connection(&id) {
                peering.forget(&state, ConnectionError::ClosedByPeer, false);
            }
            let _ = send.finish();
        }
        Header::Path { kind } => {
            path.is_of_kind(kind);
            peering.choose();
            let _ = send.finish();
        }
        Header::Stream {
            id,
            number,
            epoch,
            place,
        } => {
            let Some(state) = peering.connection(&id) else {
                return refuse(&peering, &mut send, &mut recv, code::UNKNOWN_CONNECTION);
            };
            let attachment = Attachment {
                send,
                recv,
                place,
                over: path.attach(&peering),
            };
            if let Err((mut attachment, code)) = state.take_stream(number, epoch, attachment, alive) {
                refuse(&peering, &mut attachment.send, &mut attachment.recv, code);
            }
        }
    }
}

/// Says the peer of which kind the path is that we dialled. A peer that does not hear it goes by the address.
pub(super) async fn say_kind(path: Arc<LivePath>, _alive: Alive) {
    let kind = path.kind();
    let _ = tell(&path, &Header::Path { kind }).await;
}

/// Opens a stream that consists of a header, and waits until the peer has it.
pub(super) async fn tell(path: &LivePath, header: &Header) -> Result<(), quinn::ConnectionError> {
    let (mut send, _recv) = path.connection.open_bi().await?;
    // What becomes of the stream is the peer's business; of the connection we learn when it is used next.
    if send.write_chunk(header.bytes()).await.is_ok() {
        let _ = send.finish();
        let _ = send.stopped().await;
    }
    Ok(())
}

/// Sends a header, and reads the one byte that answers it. `None` if the peer answers anything else.
pub(super) async fn ask(path: &LivePath, header: &Header) -> Result<Option<Answer>, quinn::ConnectionError> {
    let (mut send, mut recv) = path.connection.open_bi().await?;
    if send.write_chunk(header.bytes()).await.is_ok() {
        let _ = send.finish();
    }
    let mut answer = [0];
    match recv.read_exact(&mut answer).await {
        Ok(()) => Ok(Answer::from_number(answer[0])),
        Err(quinn::ReadExactError::ReadError(quinn::ReadError::ConnectionLost(error))) => Err(error),
        Err(_) => Ok(None),
    }
}

fn refuse(peering: &Peering, send: &mut SendStream, recv: &mut RecvStream, code: VarInt) {
    peering.all.refused_streams.fetch_add(1, Relaxed);
    // Ended already is what we want.
    let _ = send.reset(code);
    let _ = recv.stop(code);
}
