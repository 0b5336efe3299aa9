//! What all tasks of one transport share: the pool, the counters, the bounds, the queue of requests.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use kad_core::NodeId;
use quinn::Endpoint;
use tokio::sync::{Semaphore, mpsc};

use super::QuicAddress;
use super::config::QuicLimits;
use super::endpoint::Setup;
use super::error::code;
use super::exchange::QuicReply;
use super::families::Reached;
use super::meet::Meetings;
use super::mux::Mux;
use super::peering::Peerings;
use super::pool::{Link, Pool};
use super::reach::Reach;
use super::relayed::is_fake;
use super::socket::Line;
use super::tasks::Tasks;
use crate::transport::{Inbound, WireAddress as _};

pub(super) type Request = Inbound<QuicAddress, QuicReply>;

/// See the module.
pub(super) struct Shared {
    pub(super) local: NodeId,
    pub(super) limits: QuicLimits,
    pub(super) setup: Setup,
    pub(super) pool: Pool,
    pub(super) line: Arc<Line>,
    pub(super) mux: Arc<Mux>,
    pub(super) reach: Reach,
    /// Where peers were reached in each family.
    pub(super) reached: Reached,
    pub(super) counters: Counters,
    pub(super) tasks: Tasks,
    /// Bounds our own dials.
    pub(super) dials: Semaphore,
    /// The peers of applications.
    pub(super) peerings: Arc<Peerings>,
    /// How paths to them are found.
    pub(super) meetings: Meetings,
    /// Empty once the transport is closed.
    pub(super) endpoints: Mutex<Vec<Endpoint>>,
    /// The endpoint of the peers behind relays; `None` once the transport is closed.
    pub(super) relayed: Mutex<Option<Endpoint>>,
    /// Requests that wait to be accepted; `None` once the transport is closed.
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    /// Requests that wait for their answer.
    admitted: AtomicUsize,
    /// Handshakes of peers under way.
    pub(super) handshakes: AtomicUsize,
    /// Accepted connections and handshakes by where they come from; an entry lives as long as one of them.
    sources: Mutex<HashMap<IpAddr, usize>>,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) dialled: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) wrong_identity: AtomicU64,
    pub(super) requests_refused: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) bytes_received: AtomicU64,
    pub(super) unknown_streams: AtomicU64,
    pub(super) slow_streams: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) reach_requests: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        local: NodeId,
        limits: QuicLimits,
        setup: Setup,
        mux: Arc<Mux>,
        reach: Reach,
        meetings: Meetings,
        requests: mpsc::Sender<Request>,
    ) -> Self {
        let tasks = Tasks::new();
        Self {
            local,
            peerings: Peerings::new(local, &limits, tasks.token()),
            meetings,
            pool: Pool::new(local, limits.connections),
            dials: Semaphore::new(limits.dials.clamp(1, Semaphore::MAX_PERMITS)),
            limits,
            setup,
            line: mux.line().clone(),
            mux,
            reach,
            reached: Reached::default(),
            counters: Counters::default(),
            tasks,
            endpoints: Mutex::default(),
            relayed: Mutex::default(),
            requests: Mutex::new(Some(requests)),
            admitted: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            sources: Mutex::default(),
        }
    }

    /// Queues a request. The queue is as long as requests are admitted, so it is never full; once the transport is
    /// closed, the request is dropped.
    pub(super) fn deliver(&self, request: Request) {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = requests.as_ref() {
            let refused = queue.try_send(request);
            drop(requests);
            drop(refused);
        }
    }

    /// The most connections that may be open, those included that are finishing.
    pub(super) const fn open_limit(&self) -> u64 {
        2 * self.limits.connections as u64
    }

    /// The address of a peer that is met here: this one, and where it was reached in the other family.
    pub(super) fn with_other_family(&self, peer: &NodeId, met: QuicAddress) -> QuicAddress {
        match met.sockets() {
            [at] => self.reached.address(self.mux.now(), peer, *at).unwrap_or(met),
            _ => met,
        }
    }

    /// The endpoint whose socket can reach an address.
    pub(super) fn endpoint_for(&self, ip: IpAddr) -> Option<Endpoint> {
        let endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |e: &&Endpoint| e.local_addr().is_ok_and(|local| local.is_ipv6() == ip.is_ipv6());
        endpoints.iter().find(same).cloned()
    }

    /// The endpoint of the peers behind relays, which dials fake addresses.
    pub(super) fn relayed_endpoint(&self) -> Option<Endpoint> {
        self.relayed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The network of this machine is another than before: paths that worked may be dead without a word, and others may
    /// be there.
    pub(super) fn network_changed(&self) {
        self.peerings.doubt_paths();
        self.meetings.network_changed();
    }

    /// Stops everything: from here on all tasks end by themselves, and every future resolves.
    pub(super) fn shut(&self) -> Vec<Endpoint> {
        self.tasks.end();
        self.peerings.close();
        self.pool.close();
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.reach.end();
        self.dials.close();
        let mut endpoints =
            std::mem::take(&mut *self.endpoints.lock().unwrap_or_else(PoisonError::into_inner));
        endpoints.extend(self.relayed.lock().unwrap_or_else(PoisonError::into_inner).take());
        for endpoint in &endpoints {
            endpoint.close(code::SHUTDOWN, b"");
        }
        endpoints
    }

    /// Counts a newcomer from this address, unless there are too many.
    pub(super) fn source(self: &Arc<Self>, ip: IpAddr) -> Option<Source> {
        let ip = match ip.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            // One site has at least a /64 (RFC 6177).
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        };
        // Those behind relays share one network that does not exist; how many there are the routes bound.
        let limited = (self.limits.limit_loopback || !ip_is_loopback(ip)) && !is_fake(ip);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(ip).or_insert(0);
        if limited && *count >= self.limits.connections_per_ip {
            if *count == 0 {
                sources.remove(&ip);
            }
            return None;
        }
        *count += 1;
        Some(Source {
            shared: self.clone(),
            ip,
        })
    }
}

/// The loopback networks; of IPv6 only the /64 is left, which holds nothing else.
const fn ip_is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.to_bits() == 0,
    }
}

/// One accepted connection, or handshake, of an address; counted until it is dropped.
pub(super) struct Source {
    shared: Arc<Shared>,
    ip: IpAddr,
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut sources = self.shared.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.ip);
            }
        }
    }
}

/// One open connection, in the pool or retired; counted until it is dropped.
pub(super) struct Open(Arc<Shared>);

impl Open {
    /// One that we opened: the pool bounds those.
    pub(super) fn dialled(shared: &Arc<Shared>) -> Self {
        shared.counters.connections.fetch_add(1, Relaxed);
        Self(shared.clone())
    }

    /// One that a peer opened; `None` if as many again as the pool holds are finishing their last exchanges.
    pub(super) fn accepted(shared: &Arc<Shared>) -> Option<Self> {
        let limit = shared.open_limit();
        let one_more = |count: u64| (count < limit).then_some(count + 1);
        shared
            .counters
            .connections
            .fetch_update(Relaxed, Relaxed, one_more)
            .ok()?;
        Some(Self(shared.clone()))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.connections.fetch_sub(1, Relaxed);
    }
}

/// A connection takes at most one of so many free places beyond its share: with the default of 1024 in all, one alone
/// may have its 64 streams, 20 greedy ones 19 requests each, 100 of them four.
const PART_OF_FREE: usize = 7;

/// One request of a peer that waits for its answer; counted, in all and for its connection, until it is dropped.
pub(super) struct Admitted {
    shared: Arc<Shared>,
    link: Arc<Link>,
}

impl Admitted {
    /// `None` if too many wait already. Half of the places are kept in even shares, one for each connection, so that
    /// those who never read their answers leave room for the rest. Of the other half a connection may take a part of
    /// what is free now: many who want much get little each, and who wants little gets it (dynamic thresholds,
    /// Choudhury and Hahne 1998).
    pub(super) fn new(shared: &Arc<Shared>, link: &Arc<Link>) -> Option<Self> {
        let limit = shared.limits.inbound_requests;
        let open = usize::try_from(shared.open_limit()).unwrap_or(usize::MAX);
        let share = (limit / 2 / open.max(1)).max(1);
        let before = link.waiting.fetch_add(1, Relaxed);
        let one_more = |count: usize| {
            let free = limit.div_ceil(2).saturating_sub(count);
            let may = before < share + free.div_ceil(PART_OF_FREE);
            (may && count < limit).then_some(count + 1)
        };
        if shared.admitted.fetch_update(Relaxed, Relaxed, one_more).is_err() {
            link.waiting.fetch_sub(1, Relaxed);
            return None;
        }
        let (shared, link) = (shared.clone(), link.clone());
        Some(Self { shared, link })
    }

    pub(super) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.link.waiting.fetch_sub(1, Relaxed);
        self.shared.admitted.fetch_sub(1, Relaxed);
    }
}
