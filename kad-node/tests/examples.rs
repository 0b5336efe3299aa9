//! The examples do what they say.

#![allow(clippy::print_stdout)] // They print.

#[path = "../examples/chat.rs"]
mod chat;
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
