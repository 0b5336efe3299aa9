//! Bytes between a stream of a peer and something of this machine, each direction to its own end.

use std::io;

use kad_net::quic::{Connection, Stream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Stdin};
use tokio::net::TcpStream;

use super::paths::Journal;
use super::reply::Failure;

/// What is read at once: some milliseconds of a fast line.
const BUFFER: usize = 64 * 1024;

/// Which end of a copy failed.
#[derive(Debug)]
pub(crate) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

impl CopyError {
    fn into_inner(self) -> io::Error {
        match self {
            Self::Read(error) | Self::Write(error) => error,
        }
    }
}

/// Copies until there is no more, and tells of every piece that has gone on.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    count: impl Fn(usize),
) -> Result<(), CopyError> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await.map_err(CopyError::Read)?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await.map_err(CopyError::Write)?;
        // What somebody types must not wait for more.
        to.flush().await.map_err(CopyError::Write)?;
        count(length);
    }
}

/// Standard input goes to the peer, what it sends to standard output: until both have ended, or the peer has and is
/// gone.
///
/// # Errors
/// When the peer breaks off, or standard output takes no more.
pub(crate) async fn pipe(
    connection: &Connection,
    stream: Stream,
    stdin: &mut Stdin,
    journal: &Journal,
) -> Result<(), Failure> {
    let (mut from_peer, mut to_peer) = tokio::io::split(stream);
    let mut stdout = tokio::io::stdout();
    let inward = copy(&mut from_peer, &mut stdout, |length| journal.received(length));
    let outward = async {
        copy(stdin, &mut to_peer, |length| journal.sent(length)).await?;
        to_peer.shutdown().await.map_err(CopyError::Write)
    };
    tokio::pin!(inward, outward);
    let (mut inward_ended, mut outward_ended) = (false, false);
    while !(inward_ended && outward_ended) {
        tokio::select! {
            ended = &mut inward, if !inward_ended => match ended {
                Ok(()) => inward_ended = true,
                // Whoever read standard output has gone away.
                Err(CopyError::Write(_)) => return Err(Failure::unwanted()),
                Err(CopyError::Read(error)) => {
                    return Err(Failure::negative(format!("the connection ended early: {error}")));
                }
            },
            ended = &mut outward, if !outward_ended => match ended {
                Err(CopyError::Read(error)) => {
                    return Err(Failure::usage(format!("standard input cannot be read: {error}")));
                }
                // A peer that reads no more may still send; if it is gone, reading says so.
                Ok(()) | Err(CopyError::Write(_)) => outward_ended = true,
            },
            // It has said everything and is gone: nobody would read what is still to come.
            _ = connection.closed(), if inward_ended => break,
        }
    }
    Ok(())
}

/// The end of a forwarded connection at this machine. Until both directions have ended, it is reset when it is dropped:
/// an ordinary end would pass for the end of what was sent, and a program would keep half a file for a whole one.
#[derive(Debug)]
pub(crate) struct Local {
    socket: TcpStream,
    is_whole: bool,
}

impl Local {
    pub(crate) fn new(socket: TcpStream) -> Self {
        // What somebody types must not wait for more.
        let _ = socket.set_nodelay(true);
        Self {
            socket,
            is_whole: false,
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if !self.is_whole {
            // A socket that refuses has been reset already.
            let _ = self.socket.set_zero_linger();
        }
    }
}

/// Copies between a stream and a TCP connection in both directions, until both have ended.
///
/// # Errors
/// When one of the two breaks off: then the other is broken off as well, so that nobody takes it for whole.
pub(crate) async fn splice(
    stream: Stream,
    mut local: Local,
    sent: impl Fn(usize),
    received: impl Fn(usize),
) -> io::Result<()> {
    let (mut from_peer, mut to_peer) = tokio::io::split(stream);
    let (mut from_local, mut to_local) = local.socket.split();
    let inward = async {
        copy(&mut from_peer, &mut to_local, received).await?;
        to_local.shutdown().await.map_err(CopyError::Write)
    };
    let outward = async {
        copy(&mut from_local, &mut to_peer, sent).await?;
        to_peer.shutdown().await.map_err(CopyError::Write)
    };
    tokio::try_join!(inward, outward).map_err(CopyError::into_inner)?;
    local.is_whole = true;
    Ok(())
}
