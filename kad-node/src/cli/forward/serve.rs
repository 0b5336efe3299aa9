//! The far end: connects what peers ask for, as far as it is allowed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kad_core::NodeId;
use kad_net::quic::{Connection, Listener, Stream};
use kad_node::Node;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::request;
use super::spec::Target;
use crate::cli::pipe::splice;
use crate::cli::reply::Failure;

/// TCP connections that are forwarded to this machine at once, of all peers. Further ones are refused.
const MAX_SERVED: usize = 256;

/// A peer says what it wants at once; whoever does not is let go.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// A service of this machine, or of its network, answers sooner.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// What may be forwarded to, and by whom.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ForwardArgs {
    /// Let peers forward TCP connections to this port of this machine, or to a port of another host; several may be
    /// given [default: nothing]
    #[arg(long, value_name = "[HOST:]PORT")]
    allow_forward: Vec<Target>,
    /// Who may connect and forward; several may be given [default: anybody who knows the id]
    #[arg(long, value_name = "ID", value_parser = crate::cli::arguments::parse_node_id)]
    from: Vec<NodeId>,
}

impl ForwardArgs {
    /// Whether this peer may connect.
    pub(crate) fn admits(&self, peer: NodeId) -> bool {
        self.from.is_empty() || self.from.contains(&peer)
    }

    /// Whether `--from` says something to a command that only forwards.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.allow_forward.is_empty() && !self.from.is_empty() {
            true => Err(Failure::usage(
                "--from says who may forward, and nothing is allowed; say what with --allow-forward [HOST:]PORT",
            )),
            false => Ok(()),
        }
    }

    /// Begins to serve, if anything is allowed; ends with the node.
    pub(crate) fn serve(self, node: &Node) -> Result<(), Failure> {
        if self.allow_forward.is_empty() {
            return Ok(());
        }
        for target in &self.allow_forward {
            let peers = self.from.len();
            if peers == 0 {
                tracing::warn!(%target, "anybody who knows the id of this node may connect to it there; --from says who");
            } else {
                tracing::info!(%target, peers, "peers may connect to it there");
            }
        }
        let listener = node.listen(request::protocol())?;
        tokio::spawn(serve(listener, Arc::new(self)));
        Ok(())
    }
}

async fn serve(listener: Listener, allowed: Arc<ForwardArgs>) {
    let places = Arc::new(Semaphore::new(MAX_SERVED));
    while let Some(connection) = listener.accept().await {
        let peer = connection.peer();
        if !allowed.admits(peer) {
            tracing::info!(%peer, "a peer that may not forward was turned away");
            // It is closed when it is dropped.
            continue;
        }
        tracing::info!(%peer, "a peer forwards to this node");
        tokio::spawn(serve_connection(connection, allowed.clone(), places.clone()));
    }
}

async fn serve_connection(connection: Connection, allowed: Arc<ForwardArgs>, places: Arc<Semaphore>) {
    let peer = connection.peer();
    while let Ok(stream) = connection.accept().await {
        let place = places.clone().try_acquire_owned().ok();
        let allowed = allowed.clone();
        tokio::spawn(async move {
            if let Err(error) = serve_stream(stream, &allowed, place).await {
                tracing::debug!(%peer, %error, "a forwarded connection broke off");
            }
        });
    }
}

async fn serve_stream(
    mut stream: Stream,
    allowed: &ForwardArgs,
    place: Option<OwnedSemaphorePermit>,
) -> io::Result<()> {
    let asked = timeout(REQUEST_WITHIN, request::read(&mut stream)).await??;
    let connected = match asked {
        Ok(target) => connect(&target, allowed, place.is_some()).await,
        Err(why) => Err(why),
    };
    match connected {
        Ok(socket) => {
            request::answer(&mut stream, Ok(())).await?;
            splice(stream, socket, |_| (), |_| ()).await
        }
        Err(why) => {
            request::answer(&mut stream, Err(&why)).await?;
            tokio::io::AsyncWriteExt::shutdown(&mut stream).await
        }
    }
}

async fn connect(target: &Target, allowed: &ForwardArgs, has_room: bool) -> Result<TcpStream, String> {
    if !allowed.allow_forward.iter().any(|may| may.is(target)) {
        return Err(format!("forwarding to {target} is not allowed there"));
    }
    if !has_room {
        return Err("too much is forwarded there already: try again later".to_owned());
    }
    let dial = TcpStream::connect((target.host(), target.port));
    let socket = match timeout(CONNECT_WITHIN, dial).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return Err(format!("nothing answers at {target} there: {error}")),
        Err(_) => return Err(format!("nothing answers at {target} there in time")),
    };
    // What somebody types must not wait for more.
    let _ = socket.set_nodelay(true);
    Ok(socket)
}
