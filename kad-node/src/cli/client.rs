//! One-shot commands: a node that only asks, joins, does one thing and leaves in order.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use kad_node::{Builder, Mdns, Node, Peer, RoleChoice, SpawnError, identity};

use super::arguments::{ClientArgs, NetworkArgs, PathArgs, read_key};
use super::config::ConfigFile;
use super::progress::Progress;
use super::reply::{Answer, Failure};

/// Does something with a node that has joined.
pub(crate) async fn with_node<Work>(
    network: &NetworkArgs,
    key: Option<&Path>,
    json: bool,
    work: Work,
) -> Result<Answer, Failure>
where
    Work: AsyncFnOnce(&Node) -> Result<Answer, Failure>,
{
    with_node_that(network, key, json, None, work).await
}

/// The same with one that connects to peers, and so finds out where it is seen.
pub(crate) async fn with_calling_node<Work>(
    client: &ClientArgs,
    paths: PathArgs,
    json: bool,
    work: Work,
) -> Result<Answer, Failure>
where
    Work: AsyncFnOnce(&Node) -> Result<Answer, Failure>,
{
    with_node_that(&client.network, client.key.as_deref(), json, Some(paths), work).await
}

async fn with_node_that<Work>(
    network: &NetworkArgs,
    key: Option<&Path>,
    json: bool,
    paths: Option<PathArgs>,
    work: Work,
) -> Result<Answer, Failure>
where
    Work: AsyncFnOnce(&Node) -> Result<Answer, Failure>,
{
    let file = network.config()?;
    let peers = network.bootstrap(&file)?;
    // Whoever names a way in wants that one, and does not wait for others; but a peer may be in the own network.
    let mdns = match paths.is_some() || peers.is_empty() {
        true => network.mdns(&file, Mdns::Hear),
        false => Mdns::Off,
    };
    let builder = builder(network, &file, key, &peers)?
        .port_mapping(false)
        .mdns(mdns);
    let node = match paths {
        Some(paths) => {
            let client = builder
                .reach(true)
                .birthday_punching(paths.birthday_punching(&file));
            spawn_in(&client, (true, true)).await?
        }
        None => spawn_near(&builder.reach(false), &peers).await?,
    };
    work_with(node, json, work).await
}

async fn work_with<Work>(node: Node, json: bool, work: Work) -> Result<Answer, Failure>
where
    Work: AsyncFnOnce(&Node) -> Result<Answer, Failure>,
{
    let joining = Progress::waiting("joining the network", json);
    let joined = node.joined().await;
    drop(joining);
    // Where nobody was met, nobody waits for a goodbye.
    joined?;
    let answer = work(&node).await;
    leave(&node).await;
    answer
}

/// Does something with a node that has joined, and that peers connect to as long as it takes.
pub(crate) async fn with_reachable_node<Work>(
    client: &ClientArgs,
    paths: PathArgs,
    listen: &[SocketAddr],
    json: bool,
    work: Work,
) -> Result<Answer, Failure>
where
    Work: AsyncFnOnce(&Node) -> Result<Answer, Failure>,
{
    let (network, file) = (&client.network, client.network.config()?);
    let peers = network.bootstrap(&file)?;
    let mut builder = builder(network, &file, client.key.as_deref(), &peers)?
        .reach(true)
        .birthday_punching(paths.birthday_punching(&file))
        .card(true)
        .port_mapping(file.port_mapping())
        .mdns(network.mdns(&file, Mdns::Auto));
    for address in listen {
        builder = builder.listen(*address);
    }
    let node = match listen.is_empty() {
        // Peers may be in either family, whatever the way in.
        true => spawn_in(&builder, (true, true)).await?,
        false => builder.spawn().await?,
    };
    work_with(node, json, work).await
}

/// Does something with a node that has not joined, and will only talk to one peer.
pub(crate) async fn with_lone_node<Work>(
    network: &NetworkArgs,
    peer: &Peer,
    work: Work,
) -> Result<Answer, Failure>
where
    Work: AsyncFnOnce(&Node) -> Result<Answer, Failure>,
{
    let builder = builder(network, &network.config()?, None, &[])?;
    let lone = builder.port_mapping(false).mdns(Mdns::Off);
    let node = spawn_near(&lone, std::slice::from_ref(peer)).await?;
    let answer = work(&node).await;
    leave(&node).await;
    answer
}

/// Peers are told at once that the connections end; what takes longer is waiting for dials that nobody answers.
const FAREWELL: Duration = Duration::from_millis(250);

/// Leaves in order, as far as that is quick: there is nothing to save.
async fn leave(node: &Node) {
    // A node that has stopped by itself has left already.
    let _ = tokio::time::timeout(FAREWELL, node.shutdown()).await;
}

/// A node that only asks and begins with `peers`.
fn builder(
    network: &NetworkArgs,
    file: &ConfigFile,
    key: Option<&Path>,
    peers: &[Peer],
) -> Result<Builder, Failure> {
    // Only servers must have solved the puzzle of the network.
    let keypair = match key {
        Some(path) => read_key(path)?,
        None => identity::generate(0).map_err(|e| Failure::usage(e.to_string()))?,
    };
    let builder = Node::builder()
        .keypair(keypair)
        .network(network.name(file))
        .parameters(file.parameters())
        .config(file.core())
        .quic_limits(file.quic())
        .limits(file.limits())
        .role(RoleChoice::Client)
        .card(false)
        .reach(false);
    Ok(peers
        .iter()
        .fold(builder, |builder, peer| builder.bootstrap(peer.clone())))
}

/// Listens in the families in which `reached` can be reached.
async fn spawn_near(builder: &Builder, reached: &[Peer]) -> Result<Node, Failure> {
    spawn_in(builder, families(reached).await).await
}

/// Listens in these families, IPv4 first.
async fn spawn_in(builder: &Builder, families: (bool, bool)) -> Result<Node, Failure> {
    match (families, listening(builder, families).spawn().await) {
        (_, Ok(node)) => Ok(node),
        // Both are wanted, and this machine has only one of them.
        ((true, true), Err(SpawnError::Bind(_))) => Ok(listening(builder, (true, false)).spawn().await?),
        (_, Err(error)) => Err(error.into()),
    }
}

fn listening(builder: &Builder, (v4, v6): (bool, bool)) -> Builder {
    let mut builder = builder.clone();
    if v4 {
        builder = builder.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    }
    if v6 {
        builder = builder.listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    }
    builder
}

/// Whether any of the peers has an IPv4 address, and whether any has an IPv6 address. What cannot be resolved is told
/// by the attempt to join, with its reason.
async fn families(peers: &[Peer]) -> (bool, bool) {
    let found = futures::future::join_all(peers.iter().map(Peer::resolve)).await;
    let addresses: Vec<SocketAddr> = found.into_iter().flatten().flatten().collect();
    let v6 = addresses.iter().any(SocketAddr::is_ipv6);
    (addresses.iter().any(SocketAddr::is_ipv4) || !v6, v6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_listens_where_its_peers_can_be_reached() {
        let peers =
            |texts: &[&str]| -> Vec<Peer> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        assert_eq!(families(&peers(&["127.0.0.1:1"])).await, (true, false));
        assert_eq!(families(&peers(&["[::1]:1"])).await, (false, true));
        assert_eq!(families(&peers(&["[::1]:1", "127.0.0.1:1"])).await, (true, true));
        assert_eq!(families(&[]).await, (true, false));
    }
}
