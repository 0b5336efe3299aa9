//! The tables and fields of a scenario file; those that nobody knows are refused.

use std::path::PathBuf;

use kad_core::MAX_CLOSER;
use serde::Deserialize;
use toml::Spanned;

use super::Scenario;
use super::values::{Between, Count, Positive, Rate, Share, Span, Spot};
use crate::Place;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) title: String,
    #[serde(default)]
    pub(super) network: NetworkTable,
    #[serde(default)]
    pub(super) config: ConfigTable,
    #[serde(default)]
    pub(super) links: LinksTable,
    pub(super) partition: Option<PartitionTable>,
    pub(super) sessions: Option<Spanned<SessionsTable>>,
    #[serde(default)]
    pub(super) adversaries: Vec<Spanned<GroupTable>>,
    pub(super) load: Spanned<LoadTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NetworkTable {
    pub(super) nodes: Option<Between<{ Scenario::MIN_NODES as i64 }, { Place::MAX_NUMBER as i64 }>>,
    pub(super) site: SiteName,
    pub(super) joins_per_second: Option<Count>,
    pub(super) settle: Option<Span>,
    pub(super) dead: Share,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SiteName {
    #[default]
    Private,
    Scattered,
}

/// The knobs of [`Config`], by their names; `read_only` and `stores` are left out, because a network of such nodes is
/// none, or holds nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConfigTable {
    pub(super) k: Option<Between<1, { MAX_CLOSER as i64 }>>,
    pub(super) alpha: Option<Count>,
    pub(super) paths: Option<Between<1, { kad_core::lookup::MAX_PATHS as i64 }>>,
    pub(super) max_paths: Option<Between<1, { kad_core::lookup::MAX_PATHS as i64 }>>,
    pub(super) widen: Option<bool>,
    pub(super) refresh: Option<Span>,
    pub(super) first_refresh: Option<Span>,
    pub(super) look_after: Option<Span>,
    pub(super) repair: Option<Span>,
    pub(super) first_repair: Option<Span>,
    pub(super) repair_peers: Option<Count>,
    pub(super) republish: Option<Span>,
    pub(super) lifetime: Option<Span>,
    pub(super) expire: Option<Span>,
    pub(super) cache_bytes: Option<Between<0, { 1 << 30 }>>,
    pub(super) max_queries: Option<Count>,
    pub(super) query_timeout: Option<Span>,
    pub(super) max_pending_requests: Option<Count>,
    pub(super) rewrite_burst: Option<Count>,
    pub(super) rewrite_every: Option<Span>,
    pub(super) max_probes: Option<Count>,
    pub(super) shun: Option<Span>,
    pub(super) max_replications: Option<Count>,
    pub(super) write_quorum: Option<Count>,
    pub(super) read_quorum: Option<Count>,
    pub(super) table: TableTable,
    pub(super) patience: PatienceTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TableTable {
    pub(super) bucket_size: Option<Between<1, 1024>>,
    pub(super) wide: Vec<Between<1, 1024>>,
    pub(super) neighbourhood: Option<Between<0, 1024>>,
    pub(super) proximity_share: Option<Between<0, 100>>,
    pub(super) spread: Option<bool>,
    pub(super) replacements: Option<Between<0, 1024>>,
    pub(super) failures: Option<Between<1, 100>>,
    pub(super) groups: Groups,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Groups {
    #[default]
    Limited,
    Unlimited,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PatienceTable {
    pub(super) floor: Option<Span>,
    pub(super) cap: Option<Span>,
    pub(super) initial: Option<Span>,
    pub(super) store_floor: Option<Span>,
    pub(super) hedge_floor: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LinksTable {
    pub(super) delay: Option<DelayTable>,
    pub(super) jitter: Option<Share>,
    pub(super) loss: Option<Share>,
    pub(super) connections: Option<Count>,
    pub(super) idle: Option<Span>,
    pub(super) disk: Option<Span>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum DelayTable {
    Internet { scale: Positive },
    Even { shortest: Span, longest: Span },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PartitionTable {
    pub(super) at: Span,
    pub(super) lasts: Span,
    pub(super) share: Share,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionsTable {
    pub(super) like: Option<Like>,
    pub(super) up: Option<SpanTable>,
    pub(super) down: Option<SpanTable>,
    pub(super) returns: Option<ReturnsName>,
    pub(super) trace: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Like {
    Ipfs,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) enum SpanTable {
    Exponential { mean: Span },
    Weibull { shape: Positive, scale: Span },
    Fixed { span: Span },
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ReturnsName {
    Itself,
    Stranger,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupTable {
    pub(super) kind: KindName,
    pub(super) share: Option<Share>,
    pub(super) count: Option<Count>,
    pub(super) near: Option<Spot>,
    pub(super) sites: Option<Between<1, 200>>,
    pub(super) told: Option<Between<0, { MAX_CLOSER as i64 }>>,
    pub(super) victims: Option<Count>,
    pub(super) rate: Option<Count>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KindName {
    Silent,
    Lying,
    Flooding,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoadTable {
    pub(super) values: Option<Between<0, 1_000_000>>,
    pub(super) value_bytes: Option<Between<8, { kad_core::MAX_VALUE as i64 }>>,
    #[serde(default)]
    pub(super) lookups: Rate,
    #[serde(default)]
    pub(super) puts: Rate,
    #[serde(default)]
    pub(super) gets: Rate,
    pub(super) warm_up: Option<Span>,
    pub(super) duration: Span,
}
