//! Nodes over QUIC that only ask, and are found by the cards that they leave.

use std::net::SocketAddr;
use std::time::Duration;

use kad_net::WireAddress as _;
use kad_net::nat::candidates::CandidateKind;
use kad_net::quic::QuicAddress;
use kad_node::{Node, Role, RoleChoice, Whereabouts};

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

async fn node(choice: RoleChoice, first: Option<&Node>) -> Node {
    let mut builder = Node::builder()
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .role(choice);
    if let Some(first) = first {
        builder = builder.bootstrap(first.local().address.sockets()[0]);
    }
    let node = builder.spawn().await.unwrap();
    if first.is_some() {
        node.joined().await.unwrap();
    }
    node
}

/// Asks until what is found is as it should be.
async fn finds(
    node: &Node,
    other: &Node,
    wanted: impl Fn(&Whereabouts<QuicAddress>) -> bool,
) -> Whereabouts<QuicAddress> {
    let looking = async {
        loop {
            let found = node.find_node(other.id()).await.unwrap();
            if let Some(found) = found.filter(&wanted) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .expect("it is not found as it should be")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_only_asks_is_found_with_its_relays_and_one_that_serves_by_itself() {
    let first = node(RoleChoice::Auto, None).await;
    let second = node(RoleChoice::Auto, Some(&first)).await;
    let third = node(RoleChoice::Server, Some(&first)).await;
    // In a private network everybody takes itself for reachable.
    assert_eq!(*second.role().borrow(), Role::Server);
    let served = finds(&third, &second, |found| found.contact.is_some()).await;
    assert_eq!(served.card, None);

    let client = node(RoleChoice::Client, Some(&first)).await;
    assert!(client.is_read_only());
    let found = finds(&third, &client, |found| {
        found.card.as_ref().is_some_and(|card| !card.relays.is_empty())
    })
    .await;
    let card = found.card.unwrap();
    assert!(found.contact.is_none() && !card.serves);
    let own = client.local().address.to_string();
    let lan = card
        .candidates
        .iter()
        .find(|candidate| candidate.kind == CandidateKind::Lan);
    assert!(
        card.candidates
            .iter()
            .any(|candidate| candidate.address.to_string() == own),
        "{lan:?}"
    );
    let servers = [first.id(), second.id(), third.id()];
    assert!(card.relays.iter().all(|relay| servers.contains(&relay.id)));

    let other = client.clone();
    client.shutdown().await.unwrap();
    finds(&first, &other, |found| {
        found.card.as_ref().is_some_and(kad_net::card::Card::is_nowhere)
    })
    .await;
}
