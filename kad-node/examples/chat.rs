//! A chat without a server: what each participant said last is a mutable record, signed with their key.
//!
//! `cargo run -p kad-node --example chat`
//!
//! Everybody knows the public keys of the others; in real life they would have exchanged them before. To say something
//! is to write the next version of one's own record under the salt "chat". To listen is to read the records of the
//! others now and then, and to print versions that were not seen before. Nobody can speak for somebody else: the nodes
//! that hold a record check its signature, and so does whoever reads it.

#![allow(clippy::print_stdout)] // Printing is what examples are for.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use kad_core::PublicKey;
use kad_net::WireAddress;
use kad_node::{MutableOptions, Node, Peer};

/// The name under which each participant keeps what they said last.
const SALT: &[u8] = b"chat";

/// How often one looks for news, and for how long before one gives up.
const POLL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody who takes part: a name, a node, and what they have read of the others.
struct Participant {
    name: &'static str,
    node: Node,
    friends: HashMap<PublicKey, &'static str>,
    /// The newest version of each friend's record that has been printed.
    seen: HashMap<PublicKey, u64>,
}

impl Participant {
    async fn join(name: &'static str, first: Option<Peer>) -> Result<Self, Box<dyn Error>> {
        let mut builder = Node::builder()
            .network("chat example")
            .listen("127.0.0.1:0".parse()?);
        if let Some(first) = &first {
            builder = builder.bootstrap(first.clone());
        }
        let node = builder.spawn().await?;
        if first.is_some() {
            node.joined().await?;
        }
        Ok(Self {
            name,
            node,
            friends: HashMap::new(),
            seen: HashMap::new(),
        })
    }

    async fn say(&self, line: &str) -> Result<(), Box<dyn Error>> {
        self.node
            .put_mutable(self.node.keypair(), SALT, line, MutableOptions::default())
            .await?;
        Ok(())
    }

    /// Prints what the friends have said since last time, and returns how many lines that were.
    async fn listen(&mut self) -> Result<usize, Box<dyn Error>> {
        let mut lines = 0;
        for (key, friend) in &self.friends {
            let Some(newest) = self.node.get_mutable(key, SALT).await? else {
                continue;
            };
            if self.seen.insert(*key, newest.seq) == Some(newest.seq) {
                continue;
            }
            let line = String::from_utf8_lossy(&newest.value);
            println!("[{}'s screen] {friend}: {line}", self.name);
            lines += 1;
        }
        Ok(lines)
    }

    /// Polls until somebody has said something.
    async fn wait_for_news(&mut self) -> Result<(), Box<dyn Error>> {
        let polling = async {
            while self.listen().await? == 0 {
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, polling).await?
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let ada = Participant::join("Ada", None).await?;
    let first = Peer::from(ada.node.local().address.sockets()[0]);
    let ben = Participant::join("Ben", Some(first.clone())).await?;
    let eve = Participant::join("Eve", Some(first)).await?;

    let mut all = [ada, ben, eve];
    let names: Vec<_> = all
        .iter()
        .map(|one| (one.node.keypair().public(), one.name))
        .collect();
    for one in &mut all {
        let others = names.iter().filter(|(_, name)| *name != one.name);
        one.friends = others.copied().collect();
    }

    let conversation = [
        (0, "Is this thing on?"),
        (1, "Loud and clear."),
        (2, "No server anywhere!"),
        (0, "And nobody can put words into my mouth."),
    ];
    for (speaker, line) in conversation {
        all[speaker].say(line).await?;
        for (listener, participant) in all.iter_mut().enumerate() {
            if listener != speaker {
                participant.wait_for_news().await?;
            }
        }
    }

    for one in &all {
        one.node.shutdown().await?;
    }
    Ok(())
}
