//! Nodes that hear each other over real multicast, on loopback and on a port of their own.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use kad_core::{Keypair, NetworkId, NodeId, Parameters};
use tokio::sync::{mpsc, watch};

use super::{Announcement, Discovery, Meet, Neighbour};
use crate::join::Company;
use crate::role::Role;

/// Long enough for names to be probed and announced on a busy machine; nobody waits for so long when it works.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Tell(mpsc::UnboundedSender<Neighbour>);

impl Meet for Tell {
    async fn meet(&self, neighbour: Neighbour) -> bool {
        self.0.send(neighbour).is_ok()
    }
}

struct Heard {
    id: NodeId,
    discovery: Discovery,
    met: mpsc::UnboundedReceiver<Neighbour>,
    role: watch::Sender<Role>,
    _company: watch::Sender<Company>,
}

fn node(n: u8, network: &str, port: u16, listens: u16) -> Heard {
    let id = Keypair::from_secret(&[n; 32]).node_id();
    let listens = vec![SocketAddr::from(([127, 0, 0, 1], listens))];
    let announcement = Announcement {
        id,
        network: NetworkId::new(network, &Parameters::default()),
        asked: listens.clone(),
        bound: listens,
        serves: true,
        announces: true,
    };
    let (met, meeting) = mpsc::unbounded_channel();
    let (role, has_role) = watch::channel(Role::Server);
    let (company, has_company) = watch::channel(Company::Nobody);
    Heard {
        id,
        discovery: Discovery::with(port, announcement, has_role, has_company, Tell(met)),
        met: meeting,
        role,
        _company: company,
    }
}

/// A port that nobody else uses, so that tests which run at the same time do not hear each other.
fn free_port() -> u16 {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.local_addr().unwrap().port()
}

async fn met(node: &mut Heard) -> Neighbour {
    let met = tokio::time::timeout(PATIENCE, node.met.recv()).await;
    met.expect("a neighbour should have been heard").unwrap()
}

#[tokio::test]
async fn nodes_of_one_network_meet_and_others_are_left_alone() {
    let port = free_port();
    let mut stranger = node(1, "another network", port, 5001);
    let mut one = node(2, "this network", port, 5002);
    let mut two = node(3, "this network", port, 5003);
    let found = met(&mut one).await;
    assert_eq!(found.id, two.id);
    assert_eq!(found.addresses, [SocketAddr::from(([127, 0, 0, 1], 5003))]);
    assert_eq!(met(&mut two).await.id, one.id);
    let neighbourhood = one.discovery.neighbourhood();
    assert_eq!(neighbourhood.lock().unwrap().addresses(&two.id).len(), 1);
    assert!(neighbourhood.lock().unwrap().addresses(&stranger.id).is_empty());
    // The network of a third one is heard by all, and met by nobody.
    assert!(stranger.met.try_recv().is_err());
    // Whoever leaves in order is forgotten.
    two.discovery.close().await;
    let gone = async {
        while !(neighbourhood.lock().unwrap().addresses(&two.id)).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone)
        .await
        .expect("it said goodbye");
    one.discovery.close().await;
    stranger.discovery.close().await;
}

#[tokio::test]
async fn a_node_that_begins_to_serve_is_met_then() {
    let port = free_port();
    let one = node(4, "this network", port, 5004);
    one.role.send_replace(Role::Client);
    let mut two = node(5, "this network", port, 5005);
    let mut one = one;
    assert_eq!(met(&mut one).await.id, two.id);
    one.role.send_replace(Role::Server);
    assert_eq!(met(&mut two).await.id, one.id);
}
