//! Two nodes: one stores a value, the other finds it.
//!
//! `cargo run -p kad-node --example two_nodes`

#![allow(clippy::print_stdout)] // Printing is what examples are for.

use kad_net::WireAddress;
use kad_node::{Node, PutOptions};

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = "127.0.0.1:0".parse()?;
    let ada = Node::builder().listen(here).spawn().await?;
    let there = ada.local().address.sockets()[0];
    let ben = Node::builder().listen(here).bootstrap(there).spawn().await?;
    ben.joined().await?;

    let stored = ada.put("Hello, Ben!", PutOptions::default()).await?;
    let value = ben.get(stored.key).await?.ok_or("nobody has it")?;
    println!("{}: {}", stored.key, String::from_utf8_lossy(&value.bytes));

    ben.shutdown().await?;
    ada.shutdown().await?;
    Ok(())
}
