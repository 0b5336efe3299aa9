//! A node that was killed is silent: no farewell, no acknowledgement, nothing, whatever becomes of its handle. Tests of
//! large networks kill nodes in this way, so it must look from outside as if the machine had been unplugged.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kad_core::Contact;
use kad_net::WireAddress as _;
use kad_node::{Node, PutOptions};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::process::DEADLINE;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What becomes of a node.
#[derive(Clone, Copy)]
enum End {
    Shutdown,
    Dropped,
}

/// Everything between two nodes goes through its socket, and it counts what one of them sends.
struct Proxy {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
    marks: mpsc::Receiver<()>,
}

impl Proxy {
    async fn between(watched: SocketAddr, other: SocketAddr) -> Self {
        let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
        let address = socket.local_addr().unwrap();
        let (sent, (marked, marks)) = (Arc::new(AtomicU64::new(0)), mpsc::channel(1));
        let counting = sent.clone();
        tokio::spawn(async move {
            let mut datagram = vec![0; 65_536];
            loop {
                let (size, from) = socket.recv_from(&mut datagram).await.unwrap();
                let to = match from {
                    _ if from == watched => other,
                    _ if from == other => watched,
                    _ => {
                        marked.send(()).await.unwrap();
                        continue;
                    }
                };
                if from == watched {
                    counting.fetch_add(1, Ordering::SeqCst);
                }
                socket.send_to(&datagram[..size], to).await.unwrap();
            }
        });
        Self { address, sent, marks }
    }

    /// How many datagrams the node that is watched has sent until now: they came before a mark that is sent now.
    async fn sent_by_now(&mut self) -> u64 {
        let marker = UdpSocket::bind(LOOPBACK).await.unwrap();
        marker.send_to(&[0], self.address).await.unwrap();
        soon(self.marks.recv()).await.unwrap();
        self.sent.load(Ordering::SeqCst)
    }
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("it hangs")
}

async fn node(listen: SocketAddr) -> Node {
    Node::builder().listen(listen).spawn().await.unwrap()
}

/// How many datagrams a node sends after it was silenced or not, until its port is free.
async fn datagrams_after(silenced: bool, end: End) -> u64 {
    let (killed, other) = (node(LOOPBACK).await, node(LOOPBACK).await);
    let port = killed.local().address.sockets()[0];
    let mut proxy = Proxy::between(port, other.local().address.sockets()[0]).await;
    let door = Contact::new(other.id(), proxy.address.into());
    let there = Contact::new(killed.id(), proxy.address.into());
    soon(killed.bootstrap(&[proxy.address.into()])).await.unwrap();
    soon(killed.put("something", PutOptions::default()))
        .await
        .unwrap();
    soon(other.ping(there.clone())).await.unwrap();
    assert!(proxy.sent_by_now().await > 0, "nothing goes through the proxy");

    // All tasks run on this thread, so none of them is in the middle of sending.
    assert!(!silenced || killed.silence());
    let before = proxy.sent_by_now().await;
    if silenced {
        // It still tries, and so does the other one.
        let (asked, answered) =
            soon(async { tokio::join!(killed.ping(door), other.ping(there.clone())) }).await;
        assert!(asked.is_err() && answered.is_err());
    }
    match end {
        End::Shutdown => {
            soon(killed.shutdown()).await.unwrap();
        }
        End::Dropped => drop(killed),
    }
    soon(async {
        while UdpSocket::bind(port).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    proxy.sent_by_now().await - before
}

#[tokio::test]
async fn a_silenced_node_sends_nothing_until_it_is_gone() {
    assert_eq!(datagrams_after(true, End::Shutdown).await, 0, "shut down");
    assert_eq!(datagrams_after(true, End::Dropped).await, 0, "dropped");
}

#[tokio::test]
async fn a_node_that_is_not_silenced_says_farewell() {
    assert_ne!(datagrams_after(false, End::Shutdown).await, 0, "shut down");
    assert_ne!(datagrams_after(false, End::Dropped).await, 0, "dropped");
}
