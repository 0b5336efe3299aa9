//! The far end: connects what peers ask for, as far as it is allowed.

use std::io;
use std::sync::Arc;

use kad_core::NodeId;
use kad_net::quic::{Connection, Listener, Stream};
use kad_node::Node;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::places::{Place, Places};
use super::request::{self, CONNECT_WITHIN, REQUEST_WITHIN};
use super::spec::Target;
use crate::cli::pipe::{Local, splice};
use crate::cli::reply::Failure;

/// TCP connections that are forwarded to this machine at once, of all peers. Further ones are refused.
const MAX_SERVED: usize = 256;

/// Streams of all peers that have not said yet what they want, or are being connected. Each is a task and 255 bytes at
/// most.
const MAX_ASKING: usize = 1024;

/// Of either, those of one peer, over whatever connections: as many as a connection may have open, and a quarter of
/// all.
const MAX_OF_PEER: usize = 64;

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

/// Who asks, and who is forwarded.
struct Room {
    asking: Arc<Places>,
    served: Arc<Places>,
}

async fn serve(listener: Listener, allowed: Arc<ForwardArgs>) {
    let room = Arc::new(Room {
        asking: Places::new(MAX_ASKING, MAX_OF_PEER),
        served: Places::new(MAX_SERVED, MAX_OF_PEER),
    });
    while let Some(connection) = listener.accept().await {
        let peer = connection.peer();
        if !allowed.admits(peer) {
            tracing::info!(%peer, "a peer that may not forward was turned away");
            // It is closed when it is dropped.
            continue;
        }
        tracing::info!(%peer, "a peer forwards to this node");
        tokio::spawn(serve_connection(connection, allowed.clone(), room.clone()));
    }
}

async fn serve_connection(connection: Connection, allowed: Arc<ForwardArgs>, room: Arc<Room>) {
    let peer = connection.peer();
    while let Ok(stream) = connection.accept().await {
        let Some(asking) = room.asking.take(peer) else {
            tracing::debug!(%peer, "a stream was let go: too much is asked for at once");
            continue;
        };
        let (allowed, room) = (allowed.clone(), room.clone());
        tokio::spawn(async move {
            if let Err(error) = serve_stream(stream, peer, &allowed, &room, asking).await {
                tracing::debug!(%peer, %error, "a forwarded connection broke off");
            }
        });
    }
}

async fn serve_stream(
    mut stream: Stream,
    peer: NodeId,
    allowed: &ForwardArgs,
    room: &Room,
    asking: Place,
) -> io::Result<()> {
    let asked = timeout(REQUEST_WITHIN, request::read(&mut stream)).await??;
    let connected = match asked {
        Ok(target) => connect(&target, peer, allowed, room).await,
        Err(why) => Err(why),
    };
    match connected {
        Ok((socket, _served)) => {
            timeout(REQUEST_WITHIN, request::answer(&mut stream, Ok(()))).await??;
            drop(asking);
            splice(stream, socket, |_| (), |_| ()).await
        }
        Err(why) => {
            let refusing = async {
                request::answer(&mut stream, Err(&why)).await?;
                tokio::io::AsyncWriteExt::shutdown(&mut stream).await
            };
            timeout(REQUEST_WITHIN, refusing).await?
        }
    }
}

/// A connection to the target, and the place that it has; or a sentence for the peer.
async fn connect(
    target: &Target,
    peer: NodeId,
    allowed: &ForwardArgs,
    room: &Room,
) -> Result<(Local, Place), String> {
    if !allowed.allow_forward.iter().any(|may| may.is(target)) {
        return Err(format!("forwarding to {target} is not allowed there"));
    }
    // What is not allowed takes nobody's place.
    let Some(place) = room.served.take(peer) else {
        return Err("too much is forwarded there already: try again later".to_owned());
    };
    let dial = TcpStream::connect((target.host(), target.port));
    match timeout(CONNECT_WITHIN, dial).await {
        Ok(Ok(socket)) => Ok((Local::new(socket), place)),
        Ok(Err(error)) => Err(format!("nothing answers at {target} there: {error}")),
        Err(_) => Err(format!("nothing answers at {target} there in time")),
    }
}
