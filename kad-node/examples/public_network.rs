//! Many public nodes in one process, each at an address of its own: the network for tests of nodes behind NATs.
//!
//! `cargo run -p kad-node --example public_network -- 127.0.0.1:4001 127.0.0.1:4002 127.0.0.1:4003 127.0.0.1:4004`
//!
//! Prints one line of JSON once all have joined, with a few nodes to begin with, and goes on until standard input ends
//! or Ctrl-C. `tests/e2e/natlab` runs it in a namespace that has hundreds of public addresses.

#![allow(clippy::print_stdout)] // Printing is what examples are for.

use std::error::Error;
use std::net::{AddrParseError, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use kad_core::AddressGroups;
use kad_net::WireAddress as _;
use kad_net::wire::Scope;
use kad_node::{Builder, JoinError, Mdns, Node, Peer, RoleChoice};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

/// Nodes that join at a time, as many as `kad-node testnet` lets.
const JOIN_AT_ONCE: usize = 8;

/// How often, and how many times, to look whether a node that failed to join has joined since: half a minute.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
const MAX_LOOKS: u32 = 120;

/// So many nodes are told to those who want to begin somewhere; bootstrap lists of real networks are not longer.
const MAX_TOLD: usize = 4;

/// Many public nodes in one process.
#[derive(Debug, Parser)]
struct Args {
    /// The name of the network.
    #[arg(long, default_value = "public")]
    network: String,
    /// Relay for nobody, and ask nobody how the nodes are reached.
    #[arg(long)]
    no_relay: bool,
    /// Where the nodes listen: one node for each. One of both families of IP has two, with a comma between.
    #[arg(required = true, value_name = "ADDRESS:PORT[,ADDRESS:PORT]")]
    addresses: Vec<Place>,
}

/// Where one node listens: an address of each family, or one. Port 0 is any free port.
#[derive(Debug, Clone)]
pub(crate) struct Place(Vec<SocketAddr>);

impl FromStr for Place {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let nodes = start(&args.network, &args.addresses, !args.no_relay).await?;
    // Not neighbours: the addresses of one site come in a row.
    let apart = nodes.len().div_ceil(MAX_TOLD);
    let told = nodes.iter().step_by(apart).flat_map(peers);
    let told: Vec<String> = told.map(|peer| peer.to_string()).collect();
    println!("{}", json!({ "nodes": nodes.len(), "bootstrap": told }));
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 256];
    let ended = async { while stdin.read(&mut ignored).await.is_ok_and(|bytes| bytes > 0) {} };
    tokio::select! {
        () = ended => {}
        pressed = tokio::signal::ctrl_c() => pressed?,
    }
    stop(nodes).await;
    Ok(())
}

/// Starts a node at each address; all have joined when this returns.
pub(crate) async fn start(
    network: &str,
    addresses: &[Place],
    relay: bool,
) -> Result<Vec<Node>, Box<dyn Error>> {
    let (first, rest) = addresses
        .split_first()
        .ok_or("there is no address to listen at")?;
    let public = addresses
        .iter()
        .flat_map(|place| &place.0)
        .all(|socket| AddressGroups::of_ip(socket.ip()).is_some());
    let scope = if public { Scope::Global } else { Scope::Any };
    let builder = |address| builder(network, scope, address).reach(relay);
    let mut nodes = vec![builder(first).spawn().await?];
    for some in rest.chunks(JOIN_AT_ONCE) {
        let joining = some.iter().enumerate().map(|(place, address)| {
            // Each through others, so that nobody has to take them all.
            let half = (nodes.len() + place) / 2;
            let known = [half, half / 2].map(|index| peer(&nodes[index.min(nodes.len() - 1)]));
            let builder = known.into_iter().fold(builder(address), Builder::bootstrap);
            async move {
                let node = builder.spawn().await?;
                join(&node).await?;
                Ok::<_, Box<dyn Error>>(node)
            }
        });
        let joined = futures::future::try_join_all(joining).await?;
        nodes.extend(joined);
    }
    if nodes.len() > 1 {
        // Those that came first have seen few others, and the first one maybe nobody.
        let next = nodes.iter().skip(1).chain(&nodes[..1]);
        let again = stream::iter(nodes.iter().zip(next)).map(|(node, next)| async move {
            let next = [peer(next)];
            node.bootstrap(&next).await
        });
        again
            .buffer_unordered(JOIN_AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
    }
    Ok(nodes)
}

/// Waits until a node has joined. The first attempt may fail where many start at a time on a busy machine; the node
/// goes on by itself.
async fn join(node: &Node) -> Result<(), JoinError> {
    let mut joined = node.joined().await;
    for _ in 0..MAX_LOOKS {
        if !matches!(joined, Err(JoinError::Unreachable(_))) {
            break;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
        joined = node.joined().await;
    }
    joined
}

/// Ends all nodes in order.
pub(crate) async fn stop(nodes: Vec<Node>) {
    futures::future::join_all(nodes.iter().map(Node::shutdown)).await;
}

fn builder(network: &str, scope: Scope, place: &Place) -> Builder {
    // Nobody is there yet who could prove that these are reached. They are neighbours of nobody but each other: all
    // would hear the announcements of all others, at every address of the machine, and 150 nodes did nothing else.
    let builder = Node::builder()
        .network(network)
        .scope(scope)
        .role(RoleChoice::Server)
        .mdns(Mdns::Off)
        .port_mapping(false);
    place.0.iter().fold(builder, |builder, at| builder.listen(*at))
}

/// A node to begin with, over IPv4 if it has that.
fn peer(node: &Node) -> Peer {
    peers(node).remove(0)
}

/// The same, once for each of its addresses, IPv4 first.
fn peers(node: &Node) -> Vec<Peer> {
    let contact = node.local();
    let at = |socket: &SocketAddr| Peer {
        id: Some(contact.id),
        ..Peer::from(*socket)
    };
    contact.address.sockets().iter().map(at).collect()
}
