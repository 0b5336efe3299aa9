//! `forward`: ports of a peer's machine as ports of this one.

mod link;
mod places;
pub(super) mod request;
mod serve;
mod spec;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use futures::FutureExt as _;
use futures::future::join_all;
use kad_core::NodeId;
use kad_net::quic::{Connection, Stream};
use kad_node::Node;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::link::Link;
pub(crate) use self::serve::ForwardArgs;
use self::spec::Spec;
pub(crate) use self::spec::Target;
use super::arguments::{ClientArgs, PathArgs, parse_node_id};
use super::client::with_calling_node;
use super::connect::reach;
use super::paths::Journal;
use super::pipe::{Local, splice};
use super::reply::{self, Answer, Failure, aside};
use super::run::Stop;

/// TCP connections that are forwarded at once: as many streams as a connection may have open. The next one waits.
const MAX_FORWARDED: usize = 64;

/// How often a peer is asked for one of them: it may have started anew meanwhile, and only the second connection is
/// with the one that runs now.
const ASKED: u32 = 2;

/// How long a place for one more stream is waited for. There is one for each TCP connection that is forwarded, and the
/// peer frees it when it has heard of the end of the one before: some round trips, unless it is lost.
const OPENED_WITHIN: Duration = Duration::from_secs(10);

/// Accepting fails when the system has no more file descriptors; some are free before long.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kad-node forward ID 2222:22 --bootstrap 192.0.2.7:4000\n  ssh -p 2222 localhost\n\n  \
                  kad-node forward ID 8080:80 127.0.0.1:5432:db.internal:5432\n\n\
                  At the peer: kad-node run --allow-forward 22, or kad-node listen --allow-forward 22. It decides what may be \
                  forwarded to, and by whom. SIGINT ends it. With --json the first line of standard output says where it \
                  listens (port 0 is any free port), and the last one what was forwarded and over which paths."
)]
pub(crate) struct ForwardingArgs {
    /// Whose ports: 64 hexadecimal digits
    #[arg(value_parser = parse_node_id)]
    id: NodeId,
    /// Which port of this machine goes to which port of the peer's, or to a port that it reaches
    #[arg(value_name = "[ADDRESS:]PORT:[HOST:]PORT", required = true)]
    forwards: Vec<Spec>,
    #[command(flatten)]
    paths: PathArgs,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn forward(args: ForwardingArgs, json: bool) -> Result<Answer, Failure> {
    let ForwardingArgs {
        id,
        forwards,
        paths,
        client,
    } = args;
    // From here on a signal is not lost, whatever is under way.
    let mut stop = Stop::new()?;
    // A port in use is told before anybody is asked anything.
    let mut listening = Vec::new();
    for spec in forwards {
        let told = |error: io::Error| {
            Failure::usage(format!(
                "{} cannot be listened at: {error}; give another local port (0 is any free one)",
                spec.local
            ))
        };
        let listener = TcpListener::bind(spec.local).await.map_err(told)?;
        let local = listener.local_addr().map_err(told)?;
        listening.push((listener, local, spec.target));
    }
    with_calling_node(&client, paths, json, async move |node| {
        let began = Instant::now();
        let (connection, found) = tokio::select! {
            reached = reach(node, id, request::protocol(), json) => reached?,
            () = stop.wait() => return Err(Failure::interrupted()),
        };
        let places: Vec<_> = (listening.iter())
            .map(|(_, local, target)| (*local, target.clone()))
            .collect();
        tell(id, &places, json);
        let forwarder = Arc::new(Forwarder {
            node: node.clone(),
            id,
            json,
            journal: Journal::follow(&connection, began, Some(found), json),
            link: Link::new(connection),
            room: Arc::new(Semaphore::new(MAX_FORWARDED)),
            done: AtomicU64::default(),
            failed: AtomicU64::default(),
        });
        let mut forwarded: Vec<_> = listening.iter().map(|_| JoinSet::new()).collect();
        let accepting = (listening.into_iter().zip(&mut forwarded))
            .map(|((listener, _, target), forwarded)| forwarder.clone().accept(listener, target, forwarded));
        tokio::select! {
            _ = join_all(accepting) => {}
            () = stop.wait() => {}
        }
        // Whoever is told of the end of a connection may end this at once: what is whole by now is counted before that.
        for forwarded in &mut forwarded {
            forwarded.shutdown().await;
        }
        let mut fields = forwarder.journal.json();
        let done = forwarder.done.load(Ordering::Relaxed);
        let failed = forwarder.failed.load(Ordering::Relaxed);
        fields.insert("peer".to_owned(), id.to_string().into());
        fields.insert("connections".to_owned(), done.into());
        fields.insert("failed".to_owned(), failed.into());
        let text = format!("{done} connections were forwarded, {failed} were not");
        Ok(Answer::new(Value::Object(fields), text))
    })
    .await
}

fn tell(id: NodeId, places: &[(SocketAddr, Target)], json: bool) {
    if json {
        let places: Vec<_> = (places.iter())
            .map(|(local, target)| json!({ "listen": local.to_string(), "target": target.to_string() }))
            .collect();
        reply::line(&json!({ "peer": id.to_string(), "forwards": places }).to_string());
        return;
    }
    for (local, target) in places {
        reply::line(&format!("{local} goes to {target} at {id}"));
    }
}

struct Forwarder {
    node: Node,
    id: NodeId,
    json: bool,
    journal: Journal,
    link: Link<Connection>,
    room: Arc<Semaphore>,
    done: AtomicU64,
    failed: AtomicU64,
}

impl Forwarder {
    async fn accept(self: Arc<Self>, listener: TcpListener, target: Target, forwarded: &mut JoinSet<()>) {
        loop {
            let Ok(place) = self.room.clone().acquire_owned().await else {
                return;
            };
            let (socket, from) = tokio::select! {
                Some(_) = forwarded.join_next() => continue,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        aside(&format!("a connection could not be accepted: {error}"));
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            let (forwarder, target) = (self.clone(), target.clone());
            forwarded.spawn(async move {
                let outcome = forwarder.forward(socket, &target).await;
                drop(place);
                match outcome {
                    Ok(()) => {
                        forwarder.done.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(why) => {
                        aside(&format!("{from} was not forwarded to {target}: {why}"));
                        forwarder.failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    }

    async fn forward(&self, socket: TcpStream, target: &Target) -> Result<(), String> {
        // Also what was never forwarded is reset and not ended: nothing is not the answer.
        let local = Local::new(socket);
        let stream = self.stream(target).await?;
        let (sent, received) = (
            |length| self.journal.sent(length),
            |length| self.journal.received(length),
        );
        let spliced = splice(stream, local, sent, received).await;
        spliced.map_err(|error| format!("it broke off: {error}"))
    }

    /// A stream that the peer has connected to the target. That a peer was lost, or has started anew and knows nothing
    /// of the connection, may only show when it is asked; as nothing was forwarded yet, it is looked for and asked once
    /// more.
    async fn stream(&self, target: &Target) -> Result<Stream, String> {
        let mut lost = None;
        for _ in 0..ASKED {
            let (connection, number) = self.connection(lost.take()).await?;
            match ask(&connection, target).await {
                Ok(asked) => return asked,
                Err(error) => lost = Some((number, error.to_string())),
            }
        }
        Err(lost.map(|(_, why)| why).unwrap_or_default())
    }

    /// The connection to the peer, or a new one if that has ended, or is the one of this number that is no use for this
    /// reason.
    async fn connection(&self, lost: Option<(u64, String)>) -> Result<(Connection, u64), String> {
        let ended = |connection: &Connection, number| {
            let error = connection.closed().now_or_never().map(|error| error.to_string());
            error.or_else(|| lost.filter(|(lost, _)| *lost == number).map(|(_, why)| why))
        };
        let again = async |why: String| {
            aside(&format!("{why}; connecting again"));
            let reached = reach(&self.node, self.id, request::protocol(), self.json).await;
            let (again, _) = reached.map_err(|failure| failure.sentence().to_owned())?;
            self.journal.turn_to(&again);
            Ok(again)
        };
        self.link.get(ended, again).await
    }
}

/// Asks for a stream to the target. The inner error is the peer's sentence.
async fn ask(connection: &Connection, target: &Target) -> io::Result<Result<Stream, String>> {
    let opening = timeout(OPENED_WITHIN, connection.open()).await.map_err(|_| {
        let why = format!("no stream became free within {} s", OPENED_WITHIN.as_secs());
        io::Error::new(io::ErrorKind::TimedOut, why)
    })?;
    let mut stream = opening.map_err(io::Error::other)?;
    let asked = request::ask(&mut stream, target).await?;
    Ok(asked.map(|()| stream))
}
