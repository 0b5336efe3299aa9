//! A transport of one's own: Kademlia over plain UDP sockets, without an async runtime.
//!
//! Eight nodes in one process join through the first, then each looks another one up. Two messages are enough for that,
//! PING and FIND_NODE; all others are refused.
//!
//! The core takes `from.id` of a request and the sender of an answer for granted, so *the transport must prove them*.
//! Here each datagram carries the sender's public key, whose hash is the id, and a signature that names the recipient
//! and a nonce. An answer repeats the nonce of its question, so nobody else can give it and nobody can give it twice. A
//! question can be sent again by whoever overheard it, from a false address: that costs one answer, and the core lets
//! nobody into its table who has not answered at his address. What this example leaves out: encryption, congestion,
//! large messages.
//!
//! ```text
//! type:1 nonce:16 public-key:32 signature:64 body…    signature over  recipient:32 type:1 nonce:16 body
//! ```
// An example may say what it found, and being a driver it has clocks and threads.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::error::Error;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use kad_core::{
    Command, Config, Contact, Event, Input, Instant, Kademlia, Key, Keypair, NodeId, Now, Outbox, Outcome,
    Output, PublicKey, QueryId, Rejection, ReplyId, Request, RequestId, Response, StoreReply, UnixTime,
};

const HEAD: usize = 1 + 16 + 32 + 64;
const CONTACT: usize = 32 + 4 + 2;
const PING: u8 = 0;
const FIND_NODE: u8 = 1;
const PONG: u8 = 2;
const NODES: u8 = 3;
const REJECTED: u8 = 4;
/// Commands, and outcomes that nobody has read yet, of one node; more wait.
const QUEUE: usize = 16;

type Nonce = [u8; 16];

/// A machine, its socket and its key.
struct Node {
    machine: Kademlia<SocketAddr>,
    socket: UdpSocket,
    keypair: Keypair,
    began: std::time::Instant,
    /// Drawn at random when the node starts, so that answers to an earlier life mean nothing to this one.
    life: u64,
    replies: BTreeMap<ReplyId, (Contact<SocketAddr>, Nonce)>,
    next_reply: u64,
    asked: BTreeMap<RequestId, (NodeId, std::time::Instant)>,
    outcomes: mpsc::SyncSender<Outcome<SocketAddr>>,
}

impl Node {
    fn new(secret: [u8; 32], outcomes: mpsc::SyncSender<Outcome<SocketAddr>>) -> std::io::Result<Self> {
        let keypair = Keypair::from_secret(&secret);
        let life = RandomState::new().hash_one(0);
        let now = Now {
            monotonic: Instant::ZERO,
            unix: unix(),
        };
        Ok(Self {
            machine: Kademlia::new(keypair.node_id(), Arc::new(Config::default()), life, now),
            socket: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
            keypair,
            began: std::time::Instant::now(),
            life,
            replies: BTreeMap::new(),
            next_reply: 0,
            asked: BTreeMap::new(),
            outcomes,
        })
    }

    fn contact(&self) -> std::io::Result<Contact<SocketAddr>> {
        Ok(Contact::new(self.machine.local_id(), self.socket.local_addr()?))
    }

    /// Feed, drain, arm, repeat.
    fn run(
        mut self,
        commands: &mpsc::Receiver<(QueryId, Command<SocketAddr>)>,
        stop: &AtomicBool,
    ) -> std::io::Result<()> {
        let mut datagram = [0; 2048];
        while !stop.load(Ordering::Relaxed) {
            while let Ok((query, command)) = commands.try_recv() {
                self.feed(Input::Command { query, command })?;
            }
            let now = self.now().monotonic;
            let pause = self
                .machine
                .poll_timeout()
                .map_or(Duration::MAX, |at| at.since(now));
            // Commands come on a channel, so look there now and then.
            let pause = pause.clamp(Duration::from_millis(1), Duration::from_millis(10));
            self.socket.set_read_timeout(Some(pause))?;
            if let Ok((length, from)) = self.socket.recv_from(&mut datagram)
                && let Some(input) = self.read(&datagram[..length], from)
            {
                self.feed(input)?;
            }
            if self
                .machine
                .poll_timeout()
                .is_some_and(|at| at <= self.now().monotonic)
            {
                self.feed(Input::Timeout)?;
            }
        }
        Ok(())
    }

    fn now(&self) -> Now {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Now {
            monotonic: Instant::from_micros(micros),
            unix: unix(),
        }
    }

    fn feed(&mut self, input: Input<SocketAddr>) -> std::io::Result<()> {
        let mut outbox = Outbox::new();
        self.machine.handle(self.now(), input, &mut outbox);
        while let Some(output) = outbox.pop() {
            match output {
                Output::Request { id, to, request } => {
                    let (kind, body) = match request {
                        Request::Ping => (PING, Vec::new()),
                        Request::FindNode { target, .. } => (FIND_NODE, target.to_bytes().to_vec()),
                        // These run out of time.
                        Request::FindValue(_)
                        | Request::Store { .. }
                        | Request::Compare { .. }
                        | Request::Fetch { .. } => continue,
                    };
                    self.asked.insert(id, (to.id, std::time::Instant::now()));
                    let nonce = u128::from(self.life) << 64 | u128::from(id.0);
                    self.send(&to, kind, nonce.to_be_bytes(), &body)?;
                }
                Output::Cancel { id } => drop(self.asked.remove(&id)),
                Output::Response { reply_to, response } => {
                    let Some((to, nonce)) = self.replies.remove(&reply_to) else {
                        continue;
                    };
                    let (kind, body) = match response {
                        Response::Pong { observed, .. } => (PONG, write_address(observed)),
                        Response::Nodes { closer, .. } => {
                            (NODES, closer.iter().flat_map(write_contact).collect())
                        }
                        _ => (REJECTED, Vec::new()),
                    };
                    self.send(&to, kind, nonce, &body)?;
                }
                // This node keeps nothing.
                Output::Store { id, .. } => self.feed(Input::Store {
                    id,
                    reply: StoreReply::Failed,
                })?,
                Output::Event(Event::QueryFinished { outcome, .. }) => drop(self.outcomes.send(outcome)),
                Output::Event(_) => {}
            }
        }
        Ok(())
    }

    fn send(&self, to: &Contact<SocketAddr>, kind: u8, nonce: Nonce, body: &[u8]) -> std::io::Result<()> {
        let signature = self.keypair.sign(&signed(to.id, kind, &nonce, body));
        let public = self.keypair.public();
        let datagram = [&[kind], &nonce[..], public.as_bytes(), &signature, body].concat();
        self.socket.send_to(&datagram, to.address).map(drop)
    }

    /// What a datagram means, if it is whole and proves its sender.
    fn read(&mut self, datagram: &[u8], address: SocketAddr) -> Option<Input<SocketAddr>> {
        let (head, body) = datagram.split_at_checked(HEAD)?;
        let (kind, nonce): (u8, Nonce) = (head[0], head[1..17].try_into().ok()?);
        let public = PublicKey::from_bytes(head[17..49].try_into().ok()?);
        let signature = head[49..].try_into().ok()?;
        if !public.verifies(&signed(self.machine.local_id(), kind, &nonce, body), &signature) {
            return None;
        }
        let from = Contact::new(NodeId::from_public_key(&public), address);
        if kind == PING || kind == FIND_NODE {
            let request = match kind {
                PING => Request::Ping,
                _ => Request::FindNode {
                    target: Key::from_bytes(body.try_into().ok()?),
                    card: false,
                },
            };
            let reply_to = ReplyId(self.next_reply);
            self.next_reply += 1;
            self.replies.insert(reply_to, (from, nonce));
            return Some(Input::Request {
                from,
                read_only: false,
                reply_to,
                request,
            });
        }
        let nonce = u128::from_be_bytes(nonce);
        let id = RequestId(nonce as u64);
        let (expected, sent) = *self.asked.get(&id)?;
        if (nonce >> 64) as u64 != self.life || expected != from.id {
            return None;
        }
        let response = match kind {
            PONG => Response::Pong {
                unix: unix(),
                observed: read_address(body)?,
            },
            NODES => Response::Nodes {
                closer: body.chunks_exact(CONTACT).map_while(read_contact).collect(),
                card: None,
            },
            _ => Response::Rejected(Rejection::Unsupported),
        };
        self.asked.remove(&id);
        Some(Input::Response {
            id,
            response,
            rtt: Some(sent.elapsed()),
        })
    }
}

fn unix() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::from_secs(since.map_or(0, |since| since.as_secs()))
}

fn signed(recipient: NodeId, kind: u8, nonce: &Nonce, body: &[u8]) -> Vec<u8> {
    [&recipient.to_bytes()[..], &[kind], nonce, body].concat()
}

fn write_address(address: SocketAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = address.ip() else {
        return Vec::new();
    };
    [&ip.octets()[..], &address.port().to_be_bytes()].concat()
}

fn read_address(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_first_chunk::<4>()?;
    Some(SocketAddr::new(
        Ipv4Addr::from(*ip).into(),
        u16::from_be_bytes(port.try_into().ok()?),
    ))
}

fn write_contact(contact: &Contact<SocketAddr>) -> Vec<u8> {
    [&contact.id.to_bytes()[..], &write_address(contact.address)].concat()
}

fn read_contact(bytes: &[u8]) -> Option<Contact<SocketAddr>> {
    let (id, address) = bytes.split_first_chunk()?;
    Some(Contact::new(NodeId::from_bytes(*id), read_address(address)?))
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (mut contacts, mut nodes) = (Vec::new(), Vec::new());
    for number in 0..8 {
        // A real node draws its secret from the system and keeps it.
        let (outcomes, told) = mpsc::sync_channel(QUEUE);
        let node = Node::new([number; 32], outcomes)?;
        contacts.push(node.contact()?);
        let (commands, taken) = mpsc::sync_channel(QUEUE);
        let stop = Arc::clone(&stop);
        nodes.push((
            commands,
            told,
            std::thread::spawn(move || node.run(&taken, &stop)),
        ));
    }
    let patience = Duration::from_secs(30);
    for (commands, told, _) in &nodes[1..] {
        let contacts = vec![contacts[0]];
        commands.send((QueryId(0), Command::Bootstrap { contacts }))?;
        println!("{:?}", told.recv_timeout(patience)?);
    }
    for (number, (commands, told, _)) in nodes.iter().enumerate() {
        let wanted = contacts[(number + 3) % contacts.len()];
        commands.send((
            QueryId(1),
            Command::FindNode {
                target: wanted.id.to_key(),
            },
        ))?;
        match told.recv_timeout(patience)? {
            Outcome::Closest(closest) if closest.first() == Some(&wanted) => {
                println!("node {number} found {:?} at {}", wanted.id, wanted.address);
            }
            other => return Err(format!("node {number} looked for {wanted:?} and got {other:?}").into()),
        }
    }
    stop.store(true, Ordering::Relaxed);
    for (_, _, thread) in nodes {
        thread.join().map_err(|_| "a node panicked")??;
    }
    Ok(())
}
