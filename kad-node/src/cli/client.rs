//! One-shot commands: a node that only asks, joins, does one thing and leaves in order.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use kad_node::{Builder, Node, Peer, RoleChoice, SpawnError, identity};

use super::arguments::{NetworkArgs, read_key};
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
    let file = network.config()?;
    let peers = network.bootstrap(&file)?;
    if peers.is_empty() {
        return Err(kad_node::JoinError::NobodyKnown.into());
    }
    let node = spawn(network, key, &peers, &peers).await?;
    let joining = Progress::waiting("joining the network", json);
    let joined = node.joined().await;
    drop(joining);
    // Where nobody was met, nobody waits for a goodbye.
    joined?;
    let answer = work(&node).await;
    leave(&node).await;
    answer
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
    let node = spawn(network, None, std::slice::from_ref(peer), &[]).await?;
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

/// Listens in the families in which `reached` can be reached, and begins with `peers`.
async fn spawn(
    network: &NetworkArgs,
    key: Option<&Path>,
    reached: &[Peer],
    peers: &[Peer],
) -> Result<Node, Failure> {
    let file = network.config()?;
    // Only servers must have solved the puzzle of the network.
    let keypair = match key {
        Some(path) => read_key(path)?,
        None => identity::generate(0).map_err(|e| Failure::usage(e.to_string()))?,
    };
    let mut builder = Node::builder()
        .keypair(keypair)
        .network(network.name(&file))
        .parameters(file.parameters())
        .config(file.core())
        .quic_limits(file.quic())
        .limits(file.limits())
        .role(RoleChoice::Client)
        .card(false)
        .reach(false);
    for peer in peers {
        builder = builder.bootstrap(peer.clone());
    }
    let families = families(reached).await;
    match (families, listening(&builder, families).spawn().await) {
        (_, Ok(node)) => Ok(node),
        // The name has addresses of both families, and this machine only one of them.
        ((true, true), Err(SpawnError::Bind(_))) => Ok(listening(&builder, (true, false)).spawn().await?),
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

/// Whether any of the peers has an IPv4 address, and whether any has an IPv6 address. What cannot be resolved is told by the
/// attempt to join, with its reason.
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
