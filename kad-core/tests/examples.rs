//! The examples do what they say.

#[path = "../examples/udp.rs"]
mod udp;

#[test]
fn nodes_over_plain_udp_find_each_other() {
    udp::main().expect("every node is found");
}
