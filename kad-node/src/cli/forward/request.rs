//! The first bytes of a stream that is forwarded: where it wants to go, and what became of that.
//!
//! ```text
//!   ─►  length:1  target        [HOST:]PORT as text
//!   ◄─  0                       connected; bytes follow in both directions
//!   ◄─  1  length:1  sentence   not connected, and why
//! ```

use std::io;
use std::time::Duration;

use kad_net::quic::Protocol;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::spec::{MAX_TARGET, Target};

/// A peer says what it wants at once; whoever does not is let go.
pub(super) const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// A service of the peer's machine, or of its network, answers sooner.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long an answer is waited for: as long as a peer takes at most, and five seconds for the way.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);
const _: () = assert!(ANSWER_WITHIN.as_secs() > REQUEST_WITHIN.as_secs() + CONNECT_WITHIN.as_secs());

const CONNECTED: u8 = 0;
const REFUSED: u8 = 1;

/// What forwarding is called between nodes.
pub(crate) fn protocol() -> Protocol {
    Protocol::new("nautilus-kad/forward/1").expect("the name is short enough")
}

/// Asks for a target. The inner error is the peer's sentence.
///
/// # Errors
/// When the stream breaks off, or the peer says nothing, or something else, within `ANSWER_WITHIN`.
pub(crate) async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    target: &Target,
) -> io::Result<Result<(), String>> {
    match timeout(ANSWER_WITHIN, exchange(stream, &target.to_string())).await {
        Ok(answered) => answered,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the peer did not answer within {} s", ANSWER_WITHIN.as_secs()),
        )),
    }
}

async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    target: &str,
) -> io::Result<Result<(), String>> {
    let mut request = vec![u8::try_from(target.len()).map_err(io::Error::other)?];
    request.extend(target.as_bytes());
    stream.write_all(&request).await?;
    stream.flush().await?;
    match stream.read_u8().await? {
        CONNECTED => Ok(Ok(())),
        REFUSED => Ok(Err(read_text(stream).await?)),
        other => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the peer answered {other}, which means nothing"),
        )),
    }
}

/// Reads what a peer asks for.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Result<Target, String>> {
    Ok(read_text(stream).await?.parse())
}

/// Answers, with the sentence that says why not.
pub(super) async fn answer(
    stream: &mut (impl AsyncWrite + Unpin),
    connected: Result<(), &str>,
) -> io::Result<()> {
    let mut answer = vec![CONNECTED];
    if let Err(why) = connected {
        // A sentence about a long host name is cut where a character ends.
        let mut end = why.len().min(MAX_TARGET);
        while !why.is_char_boundary(end) {
            end -= 1;
        }
        answer = vec![REFUSED, u8::try_from(end).unwrap_or_default()];
        answer.extend(&why.as_bytes()[..end]);
    }
    stream.write_all(&answer).await?;
    stream.flush().await
}

/// At most 255 bytes, as its length is one.
async fn read_text(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let length = stream.read_u8().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    // It ends up on somebody's terminal.
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.chars().filter(|character| !character.is_control()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn targets_and_answers_arrive_as_they_were_sent() {
        for outcome in [Ok(()), Err("it is not allowed here")] {
            let (mut near, mut far) = tokio::io::duplex(1024);
            let target: Target = "db.internal:5432".parse().unwrap();
            let serving = async {
                let asked = read(&mut far).await.unwrap().unwrap();
                answer(&mut far, outcome).await.unwrap();
                asked
            };
            let (asked, answered) = tokio::join!(serving, ask(&mut near, &target));
            assert_eq!(asked, target);
            assert_eq!(answered.unwrap(), outcome.map_err(ToOwned::to_owned));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_answers_is_not_waited_for() {
        let (mut near, _far) = tokio::io::duplex(1024);
        let target = "22".parse().unwrap();
        let asked = timeout(2 * ANSWER_WITHIN, ask(&mut near, &target)).await.unwrap();
        assert_eq!(asked.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn what_a_peer_sends_is_cut_and_cleaned() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let long = "ü".repeat(300);
        answer(&mut far, Err(&long)).await.unwrap();
        near.read_u8().await.unwrap();
        assert_eq!(read_text(&mut near).await.unwrap(), "ü".repeat(127));
        far.write_all(b"\x06\x1b[2Jhi").await.unwrap();
        assert_eq!(read_text(&mut near).await.unwrap(), "[2Jhi");
        far.write_all(b"\x03a b").await.unwrap();
        assert!(read(&mut near).await.unwrap().is_err());
    }
}
