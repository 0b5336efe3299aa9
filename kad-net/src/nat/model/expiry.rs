//! How long a flow is remembered.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use kad_core::{Duration, Instant};

use super::PORT;

/// How long a flow is kept that saw no answer: Linux (`nf_conntrack_udp_timeout`).
pub(super) const UNANSWERED: Duration = Duration::from_secs(30);

/// How long one is kept that did: Linux (`nf_conntrack_udp_timeout_stream`), and the least of RFC 4787 (REQ-5). Either
/// direction renews it.
pub(super) const ANSWERED: Duration = Duration::from_secs(120);

/// Flows of one host; the one that would end first makes room. Ten times what a node with a full pool has.
const MAX_FLOWS: usize = 4_096;

#[derive(Debug, Clone, Copy)]
struct Flow {
    port: u16,
    answered: bool,
    until: Instant,
}

/// The flows of one host, by where they go.
#[derive(Debug)]
pub(super) struct Flows {
    flows: BTreeMap<SocketAddr, Flow>,
    /// Some flow with the host's own port lives until then.
    open_until: Instant,
    /// With so many, those that have ended are looked for.
    sweep_at: usize,
}

impl Flows {
    pub(super) const fn new() -> Self {
        Self {
            flows: BTreeMap::new(),
            open_until: Instant::ZERO,
            sweep_at: 64,
        }
    }

    /// The external port of the flow to an address.
    pub(super) fn port(&self, now: Instant, remote: SocketAddr) -> Option<u16> {
        let flow = self.flows.get(&remote).filter(|flow| now < flow.until)?;
        Some(flow.port)
    }

    /// Whether there is a flow from the host's own port to anywhere.
    pub(super) fn has_open(&self, now: Instant) -> bool {
        now < self.open_until
    }

    /// Whether there is a flow from this port to any port of a host.
    pub(super) fn to_host(&self, now: Instant, ip: IpAddr, port: u16) -> bool {
        let of_host = SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX);
        let mut flows = self.flows.range(of_host).map(|(_, flow)| flow);
        flows.any(|flow| now < flow.until && flow.port == port)
    }

    /// A packet went out.
    pub(super) fn sent(&mut self, now: Instant, remote: SocketAddr, port: u16) {
        if self.flows.len() >= self.sweep_at && !self.flows.contains_key(&remote) {
            self.sweep(now);
        }
        let flow = self.flows.entry(remote).or_insert(Flow {
            port,
            answered: false,
            until: Instant::ZERO,
        });
        if flow.until <= now {
            (flow.port, flow.answered) = (port, false);
        }
        self.renew(now, remote);
    }

    /// A packet got in from somewhere.
    pub(super) fn answered(&mut self, now: Instant, from: SocketAddr, port: u16) {
        if let Some(flow) = self.flows.get_mut(&from)
            && now < flow.until
            && flow.port == port
        {
            flow.answered = true;
            self.renew(now, from);
        }
    }

    fn renew(&mut self, now: Instant, remote: SocketAddr) {
        if let Some(flow) = self.flows.get_mut(&remote) {
            flow.until = now + if flow.answered { ANSWERED } else { UNANSWERED };
            if flow.port == PORT {
                self.open_until = self.open_until.max(flow.until);
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.flows.retain(|_, flow| now < flow.until);
        if self.flows.len() >= MAX_FLOWS
            && let Some((&first, _)) = self.flows.iter().min_by_key(|(_, flow)| flow.until)
        {
            self.flows.remove(&first);
        }
        self.sweep_at = (2 * self.flows.len()).clamp(64, MAX_FLOWS);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }
}
