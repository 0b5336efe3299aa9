//! Applications that connect through their nodes, by id alone.

use std::time::Duration;

use kad_net::quic;
use kad_node::{ConnectError, Connection, Node, Peer, Protocol};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// No step takes so long, even on a busy machine: a card is out some ten seconds after its node has joined.
const DEADLINE: Duration = Duration::from_secs(60);

async fn within<T>(step: impl Future<Output = T>) -> T {
    timeout(DEADLINE, step).await.expect("it takes too long")
}

async fn first() -> (Node, Peer) {
    let node = Node::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .spawn()
        .await
        .unwrap();
    let peer = node.local().address.to_string().parse().unwrap();
    (node, peer)
}

async fn joined(peer: &Peer, read_only: bool) -> Node {
    let node = Node::builder()
        .listen("127.0.0.1:0".parse().unwrap())
        .bootstrap(peer.clone())
        .read_only(read_only)
        .spawn()
        .await
        .unwrap();
    node.joined().await.unwrap();
    node
}

fn protocol(name: &str) -> Protocol {
    Protocol::new(name).unwrap()
}

/// Until the peer has told others where it is.
async fn connect(node: &Node, peer: &Node, name: &str) -> Connection {
    within(async {
        loop {
            match node.connect(peer.id(), protocol(name)).await {
                Ok(connection) => return connection,
                Err(ConnectError::NotFound { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_asks_is_connected_to_by_its_id_and_says_when_it_stops() {
    let (first, peer) = first().await;
    let (near, far) = (joined(&peer, true).await, joined(&peer, true).await);
    let listener = far.listen(protocol("echo/1")).unwrap();
    let serving = tokio::spawn(async move {
        let connection = listener.accept().await.unwrap();
        let mut stream = connection.accept().await.unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        stream.write_all(&said).await.unwrap();
        stream.shutdown().await.unwrap();
        let datagram = connection.read_datagram().await.unwrap();
        connection.send_datagram(&datagram).unwrap();
        // The other end closes it.
        connection.closed().await;
        connection.peer()
    });
    let connection = connect(&near, &far, "echo/1").await;
    assert_eq!((connection.peer(), connection.is_dialled()), (far.id(), true));
    let mut stream = connection.open().await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut echo = String::new();
    within(stream.read_to_string(&mut echo)).await.unwrap();
    assert_eq!(echo, "hello");
    connection.send_datagram(b"ping").unwrap();
    assert_eq!(within(connection.read_datagram()).await.unwrap(), "ping");
    assert!(connection.path().borrow().kind.is_some());
    connection.close().await;
    assert_eq!(within(serving).await.unwrap(), near.id());

    // The listener is gone, the node is not.
    let deaf = near.connect(far.id(), protocol("echo/1")).await.unwrap_err();
    assert!(
        matches!(
            deaf,
            ConnectError::Transport(quic::ConnectError::NotListening { .. })
        ),
        "{deaf}"
    );
    far.shutdown().await.unwrap();
    let other = joined(&peer, true).await;
    let stopped = other.connect(far.id(), protocol("echo/1")).await.unwrap_err();
    assert!(matches!(stopped, ConnectError::Stopped { .. }), "{stopped}");
    for node in [near, other, first] {
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_came_back_elsewhere_is_found_by_its_new_card() {
    let (first, peer) = first().await;
    let near = joined(&peer, true).await;
    let key = kad_node::identity::generate(0).unwrap();
    let elsewhere = || async {
        let node = Node::builder()
            .keypair(key.clone())
            .listen("127.0.0.1:0".parse().unwrap())
            .bootstrap(peer.clone())
            .read_only(true)
            .spawn()
            .await
            .unwrap();
        node.joined().await.unwrap();
        let listener = node.listen(protocol("door/1")).unwrap();
        (node, listener)
    };
    let (far, _listener) = elsewhere().await;
    drop(connect(&near, &far, "door/1").await);
    let place = far.local().address.clone();
    // Its power goes, so its card stays as it is; `near` has read that a moment ago.
    assert!(far.silence());
    let (far, _listener) = elsewhere().await;
    assert_ne!(far.local().address, place);
    let again = within(async {
        loop {
            match near.connect(far.id(), protocol("door/1")).await {
                Ok(connection) => return connection,
                // Until the new card is out, the old one leads nowhere.
                Err(ConnectError::Transport(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    assert_eq!(again.peer(), far.id());
    for node in [near, far, first] {
        node.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_is_told_in_a_sentence() {
    let (first, peer) = first().await;
    let node = joined(&peer, true).await;
    let name = protocol("echo/1");
    let nobody = kad_node::identity::generate(0).unwrap().node_id();
    let error = node.connect(nobody, name.clone()).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("check the id"));
    let error = node.connect(node.id(), name.clone()).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Transport(quic::ConnectError::Ourselves)),
        "{error}"
    );
    let listener = node.listen(name.clone()).unwrap();
    assert!(matches!(node.listen(name.clone()), Err(ConnectError::Listen(_))));
    drop(listener);
    node.listen(name).unwrap();
    node.shutdown().await.unwrap();
    first.shutdown().await.unwrap();
}
