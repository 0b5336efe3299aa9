//! The examples do what they say.

#![allow(clippy::print_stdout)] // They print.

#[path = "../examples/chat.rs"]
mod chat;
#[allow(dead_code)] // Its command line is for people and for the tests as root.
#[path = "../examples/public_network.rs"]
mod public_network;
#[path = "../examples/two_nodes.rs"]
mod two_nodes;

#[test]
fn two_nodes_exchange_a_value() {
    two_nodes::main().unwrap();
}

#[test]
fn three_nodes_chat() {
    chat::main().unwrap();
}

#[tokio::test]
async fn nodes_of_one_process_know_each_other() {
    let here = ["127.0.0.1:0"; 5].map(|place| place.parse().unwrap());
    let nodes = public_network::start("public", &here, true).await.unwrap();
    for node in &nodes {
        assert_eq!(node.contacts().await.unwrap().len(), nodes.len() - 1);
    }
    public_network::stop(nodes).await;
}
