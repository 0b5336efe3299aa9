//! Every knob of the core, with its unit, its default and where that comes from.

use crate::table::TableConfig;
use crate::{Duration, Parameters};

/// How a node behaves. One `Arc<Config>` can serve any number of nodes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Holders of a record and results of a lookup. Default 20 (paper, section 2.2); at most
    /// [`MAX_CLOSER`](crate::MAX_CLOSER). It is a parameter of the network: see [`Parameters::k`].
    pub k: usize,
    /// Questions that a lookup has in flight while it makes progress. Default 3 (paper, section 2.3).
    pub alpha: usize,
    /// Disjoint paths of a lookup from its start (S/Kademlia, section 4.2). Default 1: more cost as many times the
    /// requests.
    pub paths: usize,
    /// The most paths of a lookup whose end is not to be believed because its results lie too far apart. Default 8, as
    /// many as S/Kademlia measured: honest networks need none of them, and each costs some five requests.
    pub max_paths: usize,
    /// Whether writes and reads go beyond the k nearest where these lie closer together than chance explains, as ids do
    /// that were made to hide a key. Default true: among honest nodes that is one lookup in a thousand.
    pub widen: bool,
    /// Whether this node begins as one that only asks: it says so with every request, nobody routes through it, and it
    /// stores nothing for others. Default false. [`Input::Role`](crate::Input::Role) changes it.
    pub read_only: bool,
    /// Whether this node stores records for others. Default true. One that does not still routes, and keeps its own
    /// records; it answers [`Verdict::StoresNothing`](crate::Verdict), and writers go to the next nearest. What it
    /// costs the network is in `docs/guarantees.md`.
    pub stores: bool,
    /// The routing table.
    pub table: TableConfig,
    /// How long to wait for answers.
    pub patience: Patience,
    /// A bucket in which nothing was looked up for so long gets a lookup. Default 1 h (paper, section 2.3). The nearest
    /// buckets, which together have fewer than k contacts, get one lookup of the own id instead of one each. A random
    /// point of the far half is looked up as often in any case, to tell how many nodes there are.
    ///
    /// A contact that has answered nothing for so long was asked by then. If it is dead it was asked twice, and is in
    /// the table no more.
    pub refresh: Duration,
    /// The neighbourhood is looked up once more so long after the start, because nodes that joined at the same moment
    /// may have missed each other; from then on the buckets with room, in pauses that quadruple up to a quarter of
    /// [`refresh`](Self::refresh), because a young network grows while its first members have nothing to look up.
    /// Default 5 s.
    pub first_refresh: Duration,
    /// A record of somebody else is looked after so often: if this node is not responsible for it any more, whether
    /// somebody who is has it. Default 4 h: it is the last resort where all holders changed while a node was away.
    pub look_after: Duration,
    /// What this node holds of the records for which it is responsible is compared with others so often, and what is
    /// missing is fetched. Default 1 h: half of the nodes of IPFS stay for less than two, and with 20 holders that is
    /// no hurry.
    pub repair: Duration,
    /// The same for the first time after the start; whoever leaves before that need not carry records. Default 10 min.
    pub first_repair: Duration,
    /// Of those who should hold the same so many are compared with each time. Default 3: one of them may have nothing,
    /// one may lie.
    pub repair_peers: usize,
    /// The node's own records are stored at their k nearest again so often, or after half of their life if that is
    /// sooner. Default 24 h (paper, section 2.5).
    pub republish: Duration,
    /// The life that the node gives its own immutable records when it stores them again. Default 24 h (paper, section
    /// 2.5).
    pub lifetime: Duration,
    /// How often expired records are removed. Default 60 s.
    pub expire: Duration,
    /// Bytes of copies of popular immutable values of others that this node keeps in memory to answer for their
    /// holders, for up to an hour and the shorter the farther it is from them (paper, section 2.3). Default 0: none.
    pub cache_bytes: usize,
    /// Queries of the application at once; more are answered [`QueryError::TooMany`](crate::QueryError). Default 256.
    pub max_queries: usize,
    /// A query that has not ended by then ends with what it has. Default 60 s.
    pub query_timeout: Duration,
    /// Requests of peers that wait for the store at once; more are answered [`Rejection::Busy`](crate::Rejection).
    /// Default 1024.
    pub max_pending_requests: usize,
    /// Versions of a mutable record, or of an announcement, that peers may store here at once; one more comes every
    /// [`rewrite_every`](Self::rewrite_every). More are refused: [`Verdict::TooOften`](crate::Verdict). Default 16: a
    /// few writers who race and try again a few times. At least 1.
    pub rewrite_burst: usize,
    /// How long a record that has used up its burst waits for the next version. Default 1 s, many times what a human
    /// writes; [`Duration::ZERO`] is no limit.
    pub rewrite_every: Duration,
    /// PINGs at once to peers that might enter the table. Default 32; a stranger beyond is not probed, and may be the
    /// next time. Contacts of the table are probed in any case.
    pub max_probes: usize,
    /// A contact that could not be reached is not asked again on hearsay for so long. Default 120 s.
    pub shun: Duration,
    /// Regions of the key space in which the node's own records are stored again at once. Default 4.
    pub max_replications: usize,
    /// Holders that have acknowledged a write, of the k nearest, when it is told to be done; the others are told in the
    /// background. Who is late with an answer is not counted among the nearest, but for mutable records. Default three
    /// quarters of k, as IPFS' Optimistic Provide has it: with [`read_quorum`](Self::read_quorum) more than k, so a
    /// read meets the newest write.
    pub write_quorum: usize,
    /// Newest version wins after so many holders of a mutable record have answered. Default 6.
    pub read_quorum: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self::for_network(&Parameters::default())
    }
}

impl Config {
    /// The defaults for a network with these parameters.
    #[must_use]
    pub fn for_network(parameters: &Parameters) -> Self {
        let k = usize::from(parameters.k).clamp(1, crate::MAX_CLOSER);
        let hour = Duration::from_secs(3600);
        Self {
            k,
            alpha: 3,
            paths: 1,
            max_paths: crate::lookup::MAX_PATHS,
            widen: true,
            read_only: false,
            stores: true,
            table: TableConfig::new(k, u32::from(parameters.puzzle_bits)),
            patience: Patience::default(),
            refresh: hour,
            first_refresh: Duration::from_secs(5),
            look_after: 4 * hour,
            repair: hour,
            first_repair: Duration::from_secs(600),
            repair_peers: 3,
            republish: 24 * hour,
            lifetime: 24 * hour,
            expire: Duration::from_secs(60),
            cache_bytes: 0,
            max_queries: 256,
            query_timeout: Duration::from_secs(60),
            max_pending_requests: 1024,
            rewrite_burst: 16,
            rewrite_every: Duration::from_secs(1),
            max_probes: 32,
            shun: Duration::from_secs(120),
            max_replications: 4,
            write_quorum: (3 * k).div_ceil(4),
            read_quorum: 6,
        }
    }
}

/// How long to wait for an answer.
///
/// A contact whose round trip is known gets the larger of that time plus four deviations (RFC 6298) and four times it,
/// which leaves room for one lost packet, and on top four times what answers lately took longer than expected: so a
/// busy machine becomes patient with everybody. Section 5 of `docs/architecture.md` has the whole of it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Patience {
    /// Added to every round trip that is known. Default 100 ms: a dead neighbour costs little more than this.
    pub floor: Duration,
    /// Never more. Default 5 s.
    pub cap: Duration,
    /// For contacts that may have to be dialled first: three times the 95th percentile of what such took, and at most
    /// this, which is also the time while few were seen yet. Whoever is silent for so long is dead, whatever was
    /// expected. Default 2 s.
    pub initial: Duration,
    /// Never less for STORE, which waits for a disk, and for the PING that decides about a contact. Default 4 s and an
    /// eighth of it.
    pub store_floor: Duration,
    /// A question that takes longer than 95 of 100 did, and by more than this longer than expected, is hedged: somebody
    /// else is asked as well. A late STORE is followed by a PING that finds out whether the contact is alive; if that
    /// is late by half of this, somebody else takes its place. Default 50 ms: with 30 ms a busy machine asked many more
    /// than were needed.
    pub hedge_floor: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            floor: Duration::from_millis(100),
            cap: Duration::from_secs(5),
            initial: Duration::from_secs(2),
            store_floor: Duration::from_secs(4),
            hedge_floor: Duration::from_millis(50),
        }
    }
}
