//! Routers that are made up, and some that answer on loopback.

mod gateway;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kad_net::wire::Scope;
use tokio::sync::{mpsc, watch};

use self::gateway::{Gateway, Speaks};
use super::router::{Granted, HomeRouter, Place, Router};
use super::{PortMapping, Wanted};

const PORT: NonZeroU16 = NonZeroU16::new(4001).unwrap();

/// What was done to a router, and when, in seconds since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Mapped(u64),
    Unmapped,
    Forgotten,
}

/// A router that answers what the test says.
struct Scripted {
    began: tokio::time::Instant,
    answer: Arc<Mutex<Result<Granted, String>>>,
    /// Whether it is the router of the network that the machine has moved to.
    stays: Arc<AtomicBool>,
    done: mpsc::Sender<Done>,
}

impl Router for Scripted {
    async fn map(&mut self, _: NonZeroU16, _: Duration) -> Result<Granted, String> {
        let _ = self.done.try_send(Done::Mapped(self.began.elapsed().as_secs()));
        self.answer.lock().unwrap().clone()
    }

    async fn unmap(&mut self) {
        let _ = self.done.try_send(Done::Unmapped);
    }

    async fn moved(&mut self) -> bool {
        self.stays.load(Ordering::Relaxed)
    }

    fn forget(&mut self) {
        let _ = self.done.try_send(Done::Forgotten);
    }
}

struct Bench {
    mapping: PortMapping,
    answer: Arc<Mutex<Result<Granted, String>>>,
    stays: Arc<AtomicBool>,
    done: mpsc::Receiver<Done>,
    network: watch::Sender<u64>,
}

impl Bench {
    fn new(answer: Result<Granted, String>) -> Self {
        let answer = Arc::new(Mutex::new(answer));
        let (done, doing) = mpsc::channel(64);
        let (network, changes) = watch::channel(0);
        let stays = Arc::new(AtomicBool::new(false));
        let router = Scripted {
            began: tokio::time::Instant::now(),
            answer: answer.clone(),
            stays: stays.clone(),
            done,
        };
        Self {
            mapping: PortMapping::with(router, PORT, changes),
            answer,
            stays,
            done: doing,
            network,
        }
    }

    async fn next(&mut self) -> Done {
        self.done.recv().await.unwrap()
    }

    fn mapped(&self) -> Option<SocketAddr> {
        *self.mapping.mapped().borrow()
    }
}

fn granted(external: &str, secs: u64) -> Result<Granted, String> {
    Ok(Granted {
        external: external.parse().unwrap(),
        lifetime: Duration::from_secs(secs),
        by: "a script",
    })
}

#[tokio::test(start_paused = true)]
async fn a_port_is_renewed_while_the_node_lives_and_given_back_at_its_end() {
    let mut bench = Bench::new(granted("8.8.8.8:4001", 7200));
    for secs in [0, 3600, 7200] {
        assert_eq!(bench.next().await, Done::Mapped(secs));
    }
    let mut mapped = bench.mapping.mapped();
    assert_eq!(*mapped.borrow_and_update(), Some("8.8.8.8:4001".parse().unwrap()));
    // Another port than before is told.
    *bench.answer.lock().unwrap() = granted("8.8.8.8:4002", 7200);
    mapped.changed().await.unwrap();
    assert_eq!(*mapped.borrow(), Some("8.8.8.8:4002".parse().unwrap()));
    assert_eq!(bench.next().await, Done::Mapped(10_800));
    bench.mapping.close().await;
    assert_eq!(bench.done.recv().await, Some(Done::Unmapped));
    assert_eq!(*mapped.borrow_and_update(), None);
}

#[tokio::test(start_paused = true)]
async fn a_router_behind_another_nat_is_not_believed_and_keeps_no_port() {
    for external in [
        "192.168.1.2:4001",
        "100.64.3.4:4001",
        "[fd00::1]:4001",
        "0.0.0.0:4001",
    ] {
        let mut bench = Bench::new(granted(external, 7200));
        assert_eq!(bench.next().await, Done::Mapped(0), "{external}");
        assert_eq!(bench.next().await, Done::Unmapped, "{external}");
        assert_eq!(bench.next().await, Done::Forgotten, "{external}");
        assert_eq!(bench.mapped(), None, "{external}");
        // As rarely as one that refuses.
        assert_eq!(bench.next().await, Done::Mapped(60), "{external}");
    }
}

#[tokio::test(start_paused = true)]
async fn in_another_network_what_was_mapped_counts_no_more() {
    let mut bench = Bench::new(granted("8.8.8.8:4001", 7200));
    assert_eq!(bench.next().await, Done::Mapped(0));
    let mut mapped = bench.mapping.mapped();
    mapped.wait_for(Option::is_some).await.unwrap();
    *bench.answer.lock().unwrap() = Err("there is no router".to_owned());
    bench.network.send_replace(1);
    assert_eq!(bench.next().await, Done::Forgotten);
    assert_eq!(bench.next().await, Done::Mapped(0));
    mapped.wait_for(Option::is_none).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_wakes_up_behind_the_same_router_renews_what_it_has() {
    let mut bench = Bench::new(granted("8.8.8.8:4001", 7200));
    assert_eq!(bench.next().await, Done::Mapped(0));
    let mut mapped = bench.mapping.mapped();
    mapped.wait_for(Option::is_some).await.unwrap();
    bench.stays.store(true, Ordering::Relaxed);
    bench.network.send_replace(1);
    // Not forgotten in between, and the clock of the renewed mapping begins anew.
    assert_eq!(bench.next().await, Done::Mapped(0));
    assert_eq!(bench.next().await, Done::Mapped(3600));
    assert!(bench.mapped().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_mapping_that_cannot_be_renewed_is_told_until_it_expires() {
    let mut bench = Bench::new(granted("8.8.8.8:4001", 600));
    assert_eq!(bench.next().await, Done::Mapped(0));
    *bench.answer.lock().unwrap() = Err("it is off".to_owned());
    assert_eq!(bench.next().await, Done::Mapped(300));
    assert_eq!(bench.next().await, Done::Mapped(450));
    assert!(bench.mapped().is_some());
    let mut last = 450;
    loop {
        match bench.next().await {
            Done::Mapped(secs) => last = secs,
            done => break assert_eq!(done, Done::Forgotten),
        }
    }
    assert!((590..=600).contains(&last), "{last}");
    assert_eq!(bench.mapped(), None);
}

async fn asked(speaks: Speaks) -> (Gateway, HomeRouter, Result<Granted, String>) {
    let gateway = Gateway::start(speaks).await;
    let mut router = HomeRouter::at(gateway.place());
    let answer = router.map(PORT, Duration::from_secs(7200)).await;
    (gateway, router, answer)
}

#[tokio::test]
async fn a_router_that_speaks_pcp_is_asked_by_it_and_gets_its_port_back() {
    let (gateway, mut router, answer) = asked(Speaks::Pcp).await;
    assert_eq!(answer, gateway.granted("PCP", 3600));
    assert_eq!(gateway.mapped(), [4001]);
    assert_eq!(
        router.map(PORT, Duration::from_secs(7200)).await,
        gateway.granted("PCP", 3600)
    );
    assert_eq!(gateway.mapped(), [4001]);
    router.unmap().await;
    assert!(gateway.mapped().is_empty());
}

#[tokio::test]
async fn after_a_move_a_lease_is_renewed_under_its_nonce_or_given_back() {
    let (gateway, mut router, answer) = asked(Speaks::Pcp).await;
    assert_eq!(answer, gateway.granted("PCP", 3600));
    // Awake again behind the same router, which refuses whoever has another nonce.
    assert!(router.moved().await);
    let again = router.map(PORT, Duration::from_secs(7200)).await;
    assert_eq!(again, gateway.granted("PCP", 3600));
    // Another network, from which the first router still answers.
    let other = Gateway::start(Speaks::Pcp).await;
    router.move_to(other.place());
    assert!(!router.moved().await);
    assert!(gateway.mapped().is_empty());
    let elsewhere = router.map(PORT, Duration::from_secs(7200)).await;
    assert_eq!(elsewhere, other.granted("PCP", 3600));
    assert_eq!(other.mapped(), [4001]);
}

#[tokio::test]
async fn a_router_that_speaks_nat_pmp_only_is_asked_by_that() {
    let (gateway, mut router, answer) = asked(Speaks::NatPmp).await;
    assert_eq!(answer, gateway.granted("NAT-PMP", 3600));
    assert_eq!(
        router.map(PORT, Duration::from_secs(7200)).await,
        gateway.granted("NAT-PMP", 3600)
    );
    assert_eq!(gateway.mapped(), [4001]);
    router.unmap().await;
    assert!(gateway.mapped().is_empty());
}

#[tokio::test]
async fn a_router_that_speaks_upnp_only_is_asked_by_that() {
    let (gateway, mut router, answer) = asked(Speaks::Upnp).await;
    assert_eq!(answer, gateway.granted("UPnP", 7200));
    assert_eq!(
        router.map(PORT, Duration::from_secs(7200)).await,
        gateway.granted("UPnP", 7200)
    );
    assert_eq!(gateway.mapped(), [4001]);
    router.unmap().await;
    assert!(gateway.mapped().is_empty());
}

#[tokio::test]
async fn where_nobody_answers_the_reason_names_all_that_was_tried() {
    let place = Place {
        gateway: Ipv4Addr::new(127, 93, 1, 1),
        own: Ipv4Addr::LOCALHOST,
        ssdp: "127.93.1.1:1900".parse().unwrap(),
        trusted: Vec::new(),
    };
    let why = HomeRouter::at(place)
        .map(PORT, Duration::from_secs(7200))
        .await
        .unwrap_err();
    assert!(
        why.contains("PCP and NAT-PMP: ") && why.contains("UPnP: "),
        "{why}"
    );
}

#[test]
fn a_port_is_wanted_only_where_a_nat_may_be() {
    let of = |asked: &[&str], scope| {
        let asked: Vec<SocketAddr> = asked.iter().map(|text| text.parse().unwrap()).collect();
        let bound: Vec<SocketAddr> = (asked.iter())
            .map(|asked| SocketAddr::new(asked.ip(), 4001))
            .collect();
        Wanted::of(&asked, &bound, scope).map(|wanted| (wanted.port.get(), wanted.listens))
    };
    let home = Ipv4Addr::new(192, 168, 1, 7);
    assert_eq!(of(&["0.0.0.0:0"], Scope::Global), Some((4001, None)));
    assert_eq!(of(&["[::]:0", "0.0.0.0:0"], Scope::Global), Some((4001, None)));
    assert_eq!(of(&["192.168.1.7:0"], Scope::Global), Some((4001, Some(home))));
    assert_eq!(of(&["0.0.0.0:0"], Scope::Any), None);
    assert_eq!(of(&["[::]:0"], Scope::Global), None);
    assert_eq!(of(&["8.8.8.8:0"], Scope::Global), None);
    assert_eq!(of(&["127.0.0.1:0"], Scope::Global), None);
}
