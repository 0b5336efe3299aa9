//! `connect` and `listen`: standard input and output with a peer, by its id alone.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use kad_core::NodeId;
use kad_net::quic::{Connection, Protocol, Stream};
use kad_node::{ConnectError, Node};
use serde_json::{Map, Value, json};
use tokio::io::Stdin;
use tokio::time::timeout;

use super::arguments::{ClientArgs, PathArgs, parse_node_id};
use super::client::{with_calling_node, with_reachable_node};
use super::forward::{ForwardArgs, Target, request};
use super::paths::Journal;
use super::pipe::pipe;
use super::progress::Progress;
use super::reply::{Answer, Failure, aside};
use super::run::Stop;

/// What is spoken unless somebody says otherwise: nothing but the bytes.
const PIPE: &str = "nautilus-kad/pipe/1";

/// How long a peer is looked for that nobody knows: whoever starts both ends at once should not have to start one
/// again. A card is out some seconds after its node has joined.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a peer that has connected may take to open a stream: it does so at once. Peers are served one after the
/// other, so whoever opens nothing would keep all others away.
const STREAM_WITHIN: Duration = Duration::from_secs(10);

/// Between two looks.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kad-node connect ID --bootstrap 192.0.2.7:4000\n  \
                  tar c photos | kad-node connect ID\n  \
                  ssh -o ProxyCommand='kad-node connect ID --to 22' somebody@anywhere\n\n\
                  Standard output is what the peer sends. Which path is in use is told on standard error, and so is, with \
                  --json, the object at the end. At the peer: kad-node listen, or for --to kad-node run --allow-forward."
)]
pub(crate) struct ConnectArgs {
    /// Whom to connect to: 64 hexadecimal digits
    #[arg(value_parser = parse_node_id)]
    id: NodeId,
    /// What the peer listens for: any name of at most 64 bytes
    #[arg(default_value = PIPE)]
    protocol: Protocol,
    /// Pipe to a TCP port of the peer's machine, or to one that it reaches, if the peer allows that
    #[arg(long, value_name = "[HOST:]PORT", conflicts_with = "protocol")]
    to: Option<Target>,
    #[command(flatten)]
    paths: PathArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// Connects to a peer, and tells a person that it takes a moment. Says after what time it was known where the peer is.
pub(super) async fn reach(
    node: &Node,
    id: NodeId,
    protocol: Protocol,
    quiet: bool,
) -> Result<(Connection, Duration), Failure> {
    if !quiet {
        aside(&format!("looking for {id}"));
    }
    let _progress = Progress::waiting("connecting", quiet);
    let began = Instant::now();
    let mut unknown_since = None;
    loop {
        let attempt = async {
            node.card(id).await?;
            let found = began.elapsed();
            // A card of a moment ago may not help, and the next one say that the peer has stopped.
            Ok::<_, ConnectError>((node.connect(id, protocol.clone()).await?, found))
        };
        match attempt.await {
            // Who was started a moment ago has not told others yet where it is.
            Err(ConnectError::NotFound { .. } | ConnectError::Stopped { .. })
                if unknown_since.get_or_insert_with(Instant::now).elapsed() + AGAIN_AFTER < PATIENCE =>
            {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            reached => return Ok(reached?),
        }
    }
}

pub(crate) async fn connect(args: ConnectArgs, json: bool) -> Result<Answer, Failure> {
    let ConnectArgs {
        id,
        protocol,
        to,
        paths,
        client,
    } = args;
    let protocol = if to.is_some() {
        request::protocol()
    } else {
        protocol
    };
    // From here on a signal is not lost, whatever is under way.
    let mut stop = Stop::new()?;
    with_calling_node(&client, paths, json, async move |node| {
        let mut stdin = tokio::io::stdin();
        let began = Instant::now();
        let connecting = async {
            let (connection, found) = reach(node, id, protocol, json).await?;
            let journal = Journal::follow(&connection, began, Some(found), json);
            let stream = connection.open().await;
            let mut stream = stream.map_err(|error| Failure::negative(error.to_string()))?;
            if let Some(target) = &to {
                let asked = request::ask(&mut stream, target).await;
                let asked = asked.map_err(|error| Failure::negative(error.to_string()))?;
                asked.map_err(Failure::negative)?;
            }
            pipe(&connection, stream, &mut stdin, &journal).await?;
            connection.close().await;
            Ok::<_, Failure>(journal.json())
        };
        // The node leaves in order then, and the peer learns of it at once.
        let fields = tokio::select! {
            done = connecting => done?,
            () = stop.wait() => return Err(Failure::interrupted()),
        };
        Ok(with_peer(fields, id))
    })
    .await
}

fn with_peer(mut fields: Map<String, Value>, peer: NodeId) -> Answer {
    fields.insert("peer".to_owned(), peer.to_string().into());
    Answer::new(Value::Object(fields), String::new())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  kad-node listen --bootstrap 192.0.2.7:4000\n  \
                  kad-node listen --key me.key --from ID > photos.tar\n  \
                  kad-node listen --key me.key --keep --allow-forward 22 --from ID\n\n\
                  The id that peers need is told on standard error; it stays the same with --key. Standard output is what the \
                  peer sends. With --json the first line of standard error is an object with id and protocol, and then there \
                  is one for each peer. At the peer: kad-node connect ID, or kad-node forward ID.")]
pub(crate) struct ListenArgs {
    /// What to listen for: any name of at most 64 bytes
    #[arg(default_value = PIPE)]
    protocol: Protocol,
    /// Go on with the next one when a peer has gone
    #[arg(long)]
    keep: bool,
    /// Where to listen, at most one address for each family; port 0 is any free port [default: any free port]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
    #[command(flatten)]
    forward: ForwardArgs,
    #[command(flatten)]
    paths: PathArgs,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn listen(args: ListenArgs, json: bool) -> Result<Answer, Failure> {
    let ListenArgs {
        protocol,
        keep,
        listen,
        forward,
        paths,
        client,
    } = args;
    // From here on a signal is not lost, whatever is under way.
    let mut stop = Stop::new()?;
    with_reachable_node(&client, paths, &listen, json, async move |node| {
        let listener = node.listen(protocol.clone())?;
        forward.clone().serve(node)?;
        if json {
            let fields = json!({ "id": node.id().to_string(), "protocol": protocol.as_str() });
            aside(&fields.to_string());
        } else {
            aside(&format!("listening as {}", node.id()));
        }
        let mut stdin = tokio::io::stdin();
        loop {
            let connection = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.wait() => return Err(Failure::interrupted()),
            };
            let connection = connection.ok_or(kad_node::NodeError::Stopped)?;
            let peer = connection.peer();
            if !forward.admits(peer) {
                aside(&format!("{peer} may not connect, and was turned away"));
                continue;
            }
            if !json {
                aside(&format!("{peer} has connected"));
            }
            let serving = async {
                let journal = Journal::follow(&connection, Instant::now(), None, json);
                // It is not the one that is waited for, with or without --keep.
                let stream = first_stream(&connection).await.map_err(NotServed::Nothing)?;
                let served = serve(connection, stream, &mut stdin, &journal).await;
                served.map_err(NotServed::BrokenOff)
            };
            let served = tokio::select! {
                served = serving => served,
                () = stop.wait() => return Err(Failure::interrupted()),
            };
            match served {
                Ok(answer) if !keep => return Ok(answer),
                Err(NotServed::BrokenOff(failure)) if !keep => return Err(failure),
                Ok(answer) if json => answer.print_aside(),
                Ok(_) => {}
                Err(NotServed::BrokenOff(failure)) => aside(&format!("{peer}: {}", failure.sentence())),
                Err(NotServed::Nothing(why)) => aside(&format!("{peer} opened no stream: {why}")),
            }
        }
    })
    .await
}

/// Why a peer that had connected was not served.
enum NotServed {
    /// It opened nothing, and why.
    Nothing(String),
    BrokenOff(Failure),
}

async fn first_stream(connection: &Connection) -> Result<Stream, String> {
    match timeout(STREAM_WITHIN, connection.accept()).await {
        Ok(accepted) => accepted.map_err(|error| error.to_string()),
        Err(_) => Err(format!("{} s have passed", STREAM_WITHIN.as_secs())),
    }
}

async fn serve(
    connection: Connection,
    stream: Stream,
    stdin: &mut Stdin,
    journal: &Journal,
) -> Result<Answer, Failure> {
    pipe(&connection, stream, stdin, journal).await?;
    let peer = connection.peer();
    connection.close().await;
    Ok(with_peer(journal.json(), peer))
}
