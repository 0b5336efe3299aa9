//! Asking the router to let others in.
//!
//! A node behind a NAT that strangers cannot reach asks its router for a port: by PCP, then NAT-PMP, and by UPnP if it
//! knows neither. What the router says is only one more address to be proven: nobody is told that it works before
//! strangers were seen to come in. It is renewed at half of its life, and when the machine has slept or its network has
//! changed and the router is the same; it is given back at the end.
//!
//! What it refuses to do: ask for more than the node's one IPv4 port; believe an address that is not of the internet,
//! as a router behind another router has; ask more often than every few seconds, whatever the router answers.

mod pcp;
mod router;
mod schedule;
#[cfg(test)]
mod tests;
mod upnp;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use kad_core::{AddressGroups, Instant};
use kad_net::wire::Scope;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use self::router::{Granted, HomeRouter, Router, is_behind_nat};
use self::schedule::{LIFETIME, Schedule};

/// How long the end of a node may take to give the port back.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a node wants of its router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    port: NonZeroU16,
    /// The address that the node listens at, if it is a single one.
    listens: Option<Ipv4Addr>,
}

impl Wanted {
    /// What a node wants that was told to listen at `asked` and got `bound`: nothing unless it listens for IPv4 where
    /// NATs may be, and hears of addresses of the internet. In a private network nobody would come through the router.
    pub(crate) fn of(asked: &[SocketAddr], bound: &[SocketAddr], scope: Scope) -> Option<Self> {
        if scope != Scope::Global {
            return None;
        }
        let ip = asked.iter().find_map(|address| match address.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })?;
        let port = bound.iter().find(|address| address.is_ipv4())?.port();
        let listens = (!ip.is_unspecified()).then_some(ip);
        if listens.is_some_and(|ip| !is_behind_nat(ip)) {
            return None;
        }
        Some(Self {
            port: NonZeroU16::new(port)?,
            listens,
        })
    }
}

/// The task that has a port mapped.
#[derive(Debug)]
pub(crate) struct PortMapping {
    task: JoinHandle<()>,
    end: oneshot::Sender<()>,
    mapped: watch::Receiver<Option<SocketAddr>>,
}

impl PortMapping {
    /// Asks the router of the default route, and again whenever `network` tells of a change.
    pub(crate) fn start(wanted: Wanted, network: watch::Receiver<u64>) -> Self {
        Self::with(HomeRouter::new(wanted.listens), wanted.port, network)
    }

    fn with(router: impl Router, port: NonZeroU16, network: watch::Receiver<u64>) -> Self {
        let (end, ended) = oneshot::channel();
        let (tell, mapped) = watch::channel(None);
        let mapper = Mapper { router, port, tell };
        Self {
            task: tokio::spawn(mapper.run(network, ended)),
            end,
            mapped,
        }
    }

    /// Where the router says that others reach this node.
    pub(crate) fn mapped(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.mapped.clone()
    }

    /// Gives the port back; takes two seconds at most.
    pub(crate) async fn close(self) {
        let Self { mut task, end, .. } = self;
        // A task that has ended has nothing to give back.
        let _ = end.send(());
        if tokio::time::timeout(FAREWELL, &mut task).await.is_err() {
            task.abort();
        }
    }
}

struct Mapper<R> {
    router: R,
    port: NonZeroU16,
    tell: watch::Sender<Option<SocketAddr>>,
}

impl<R: Router> Mapper<R> {
    async fn run(mut self, mut network: watch::Receiver<u64>, mut end: oneshot::Receiver<()>) {
        let began = tokio::time::Instant::now();
        let clock = || Instant::ZERO + began.elapsed();
        let mut schedule = Schedule::new(clock());
        let mut told = None;
        loop {
            let wait = schedule.due().since(clock());
            tokio::select! {
                biased;
                _ = &mut end => break,
                Ok(()) = network.changed() => {
                    if self.router.moved().await {
                        schedule.renew_now(clock());
                    } else {
                        self.lose();
                        schedule.start_over(clock());
                    }
                    continue;
                }
                () = tokio::time::sleep(wait) => {}
            }
            // Not given up when the end comes: what is granted meanwhile has to be given back.
            let answer = self.router.map(self.port, LIFETIME).await;
            match self.judge(answer).await {
                Ok(granted) => {
                    schedule.granted(clock(), granted.lifetime);
                    if self.tell.send_replace(Some(granted.external)) != Some(granted.external) {
                        tracing::info!(external = %granted.external, by = granted.by, "the router forwards a port");
                    }
                    told = None;
                }
                Err(why) => {
                    if !schedule.refused(clock()) {
                        self.lose();
                    }
                    // Most networks have no such router: once is enough.
                    if told.as_ref() != Some(&why) {
                        tracing::info!(%why, "the router forwards no port");
                        told = Some(why);
                    }
                }
            }
        }
        self.tell.send_replace(None);
        self.router.unmap().await;
    }

    /// An address that is not of the internet is given back at once.
    async fn judge(&mut self, answer: Result<Granted, String>) -> Result<Granted, String> {
        let granted = answer?;
        if is_public(granted.external.ip()) {
            return Ok(granted);
        }
        self.router.unmap().await;
        Err(format!(
            "{}: the router has the address {} itself, so another NAT stands before it",
            granted.by,
            granted.external.ip()
        ))
    }

    fn lose(&mut self) {
        self.router.forget();
        if self.tell.send_replace(None).is_some() {
            tracing::info!("the router forwards the port no more");
        }
    }
}

/// Whether it can be an address of the internet.
fn is_public(ip: IpAddr) -> bool {
    let shared = matches!(ip.to_canonical(), IpAddr::V4(ip) if is_behind_nat(ip));
    AddressGroups::of_ip(ip).is_some() && !shared && !ip.is_multicast()
}
