//! From a scenario file to a scenario.

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use kad_core::table::GroupLimits;
use kad_core::{Config, Duration, Parameters};
use toml::Spanned;

use super::file::*;
use super::values::{Between, Count, Span, Spot};
use super::{Group, Kind, Life, Load, Members, Near, Partition, Scenario, ScenarioError};
use crate::{Delay, Growth, Links, Returns, SessionTrace, Sessions, Site};

/// A session trace of more bytes has more sessions than [`MAX_TRACE`](crate::MAX_TRACE).
const MAX_TRACE_BYTES: u64 = 1 << 30;

/// What cannot be seen in one field alone: where, and what is wrong.
type Mistake = (usize, String);

/// Reads the text of a scenario.
pub(super) fn parse(path: &Path, text: &str) -> Result<Scenario, ScenarioError> {
    let file: File = toml::from_str(text).map_err(|error| ScenarioError::parsing(path, text, &error))?;
    let at = |(offset, what): Mistake| ScenarioError::at(path, text, offset, what);
    let life = match &file.sessions {
        None => Life::Still,
        Some(table) => life(path, table).map_err(at)?,
    };
    let traced = match &life {
        Life::Trace(trace) => Some(trace.nodes()),
        Life::Still | Life::Sessions(_) => None,
    };
    let nodes = match (file.network.nodes, traced) {
        (Some(nodes), _) => nodes.get(),
        (None, Some(nodes)) if nodes >= Scenario::MIN_NODES => nodes,
        (None, _) => {
            let what = "network.nodes is missing: how many nodes are there?";
            return Err(ScenarioError::new(path, what));
        }
    };
    let config = config(&file.config);
    let load = load(&file.load).map_err(at)?;
    let adversaries: Result<Vec<_>, _> = file
        .adversaries
        .iter()
        .map(|table| group(table, &config, &load))
        .collect();
    let adversaries = adversaries.map_err(at)?;
    let turned = |group: &Group| match group.members {
        Members::Share(share) => share,
        Members::Sybils { .. } => 0.0,
    };
    if adversaries.iter().map(turned).sum::<f64>() + file.network.dead.0 > 0.95 {
        let offset = file.adversaries.first().map_or(0, |first| first.span().start);
        return Err(at((
            offset,
            "the shares of all adversaries and of the dead are 0.95 at most in sum".to_owned(),
        )));
    }
    let name = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let network = &file.network;
    Ok(Scenario {
        title: if file.title.is_empty() {
            name.clone()
        } else {
            file.title
        },
        name,
        nodes,
        site: match network.site {
            SiteName::Private => Site::Private,
            SiteName::Scattered => Site::Scattered,
        },
        growth: network
            .joins_per_second
            .map_or_else(Growth::default, |most| Growth {
                most: most.get() as f64,
                ..Growth::default()
            }),
        settle: network.settle.map_or(Duration::from_secs(600), |span| span.0),
        dead: network.dead.0,
        config: Arc::new(config),
        links: links(&file.links),
        partition: file.partition.map(|table| Partition {
            at: table.at.0,
            lasts: table.lasts.0,
            share: table.share.0,
        }),
        life,
        adversaries,
        load,
    })
}

fn config(table: &ConfigTable) -> Config {
    fn set<T>(field: &mut T, given: Option<T>) {
        if let Some(given) = given {
            *field = given;
        }
    }
    let span = |given: Option<Span>| given.map(|span| span.0);
    let count = |given: Option<Count>| given.map(Count::get);
    let mut parameters = Parameters::default();
    set(&mut parameters.k, table.k.map(|k| k.get() as u16));
    let mut config = Config::for_network(&parameters);
    set(&mut config.alpha, count(table.alpha));
    set(&mut config.paths, table.paths.map(Between::get));
    set(&mut config.max_paths, table.max_paths.map(Between::get));
    set(&mut config.widen, table.widen);
    set(&mut config.refresh, span(table.refresh));
    set(&mut config.first_refresh, span(table.first_refresh));
    set(&mut config.look_after, span(table.look_after));
    set(&mut config.repair, span(table.repair));
    set(&mut config.first_repair, span(table.first_repair));
    set(&mut config.repair_peers, count(table.repair_peers));
    set(&mut config.republish, span(table.republish));
    set(&mut config.lifetime, span(table.lifetime));
    set(&mut config.expire, span(table.expire));
    set(&mut config.cache_bytes, table.cache_bytes.map(Between::get));
    set(&mut config.max_queries, count(table.max_queries));
    set(&mut config.query_timeout, span(table.query_timeout));
    set(
        &mut config.max_pending_requests,
        count(table.max_pending_requests),
    );
    set(&mut config.rewrite_burst, count(table.rewrite_burst));
    set(&mut config.rewrite_every, span(table.rewrite_every));
    set(&mut config.max_probes, count(table.max_probes));
    set(&mut config.shun, span(table.shun));
    set(&mut config.max_replications, count(table.max_replications));
    set(&mut config.write_quorum, count(table.write_quorum));
    set(&mut config.read_quorum, count(table.read_quorum));
    set(
        &mut config.table.bucket_size,
        table.table.bucket_size.map(Between::get),
    );
    config.table.wide = table.table.wide.iter().map(|size| size.get() as u16).collect();
    set(
        &mut config.table.neighbourhood,
        table.table.neighbourhood.map(Between::get),
    );
    set(
        &mut config.table.proximity_share,
        table.table.proximity_share.map(|share| share.get() as u8),
    );
    set(&mut config.table.spread, table.table.spread);
    set(
        &mut config.table.replacements,
        table.table.replacements.map(Between::get),
    );
    set(
        &mut config.table.failures,
        table.table.failures.map(|most| most.get() as u8),
    );
    if let Groups::Unlimited = table.table.groups {
        config.table.groups = GroupLimits::NONE;
    }
    set(&mut config.patience.floor, span(table.patience.floor));
    set(&mut config.patience.cap, span(table.patience.cap));
    set(&mut config.patience.initial, span(table.patience.initial));
    set(&mut config.patience.store_floor, span(table.patience.store_floor));
    set(&mut config.patience.hedge_floor, span(table.patience.hedge_floor));
    config
}

fn links(table: &LinksTable) -> Links {
    let default = Links::default();
    Links {
        delay: match table.delay {
            None => default.delay,
            Some(DelayTable::Internet { scale }) => Delay::Internet { scale: scale.0 },
            // In either order: both are the ends of one span.
            Some(DelayTable::Even { shortest, longest }) => Delay::Even {
                shortest: shortest.0.min(longest.0),
                longest: shortest.0.max(longest.0),
            },
        },
        jitter: table.jitter.map_or(default.jitter, |share| share.0),
        loss: table.loss.map_or(default.loss, |share| share.0),
        connections: table.connections.map(Count::get),
        idle: table.idle.map_or(default.idle, |span| span.0),
        disk: table.disk.map_or(default.disk, |span| span.0),
    }
}

fn life(path: &Path, table: &Spanned<SessionsTable>) -> Result<Life, Mistake> {
    let start = table.span().start;
    let table = table.get_ref();
    match table {
        SessionsTable {
            like: Some(Like::Ipfs),
            up: None,
            down: None,
            returns: None,
            trace: None,
        } => Ok(Life::Sessions(Sessions::ipfs())),
        SessionsTable {
            like: None,
            up: Some(up),
            down: Some(down),
            returns,
            trace: None,
        } => Ok(Life::Sessions(Sessions {
            up: span(*up),
            down: span(*down),
            returns: match returns.unwrap_or(ReturnsName::Itself) {
                ReturnsName::Itself => Returns::Itself,
                ReturnsName::Stranger => Returns::Stranger,
            },
        })),
        SessionsTable {
            like: None,
            up: None,
            down: None,
            returns: None,
            trace: Some(trace),
        } => {
            let beside = path.with_file_name(trace.get_ref());
            let read = read_trace(&beside).map_err(|what| {
                (
                    trace.span().start,
                    format!("the session trace {} cannot be used: {what}", beside.display()),
                )
            })?;
            Ok(Life::Trace(Arc::new(read)))
        }
        _ => Err((
            start,
            "sessions are told in one of three ways: like = \"ipfs\", or up and down (and returns), or trace"
                .to_owned(),
        )),
    }
}

fn read_trace(path: &Path) -> Result<SessionTrace, String> {
    let told = |error: io::Error| error.to_string();
    let size = fs::metadata(path).map_err(told)?.len();
    if size > MAX_TRACE_BYTES {
        return Err(format!("it has {size} bytes, more than {MAX_TRACE_BYTES}"));
    }
    let text = fs::read_to_string(path).map_err(told)?;
    let trace: SessionTrace = text
        .parse()
        .map_err(|error: crate::TraceError| error.to_string())?;
    match trace.is_empty() {
        true => Err("it has no session".to_owned()),
        false => Ok(trace),
    }
}

const fn span(table: SpanTable) -> crate::Span {
    match table {
        SpanTable::Exponential { mean } => crate::Span::Exponential { mean: mean.0 },
        SpanTable::Weibull { shape, scale } => crate::Span::Weibull {
            shape: shape.0,
            scale: scale.0,
        },
        SpanTable::Fixed { span } => crate::Span::Fixed(span.0),
    }
}

fn load(table: &Spanned<LoadTable>) -> Result<Load, Mistake> {
    let start = table.span().start;
    let table = table.get_ref();
    let load = Load {
        values: table.values.map_or(0, Between::get),
        value_bytes: table.value_bytes.map_or(100, Between::get),
        lookups: table.lookups.0,
        puts: table.puts.0,
        gets: table.gets.0,
        warm_up: table.warm_up.map_or(Duration::ZERO, |span| span.0),
        duration: table.duration.0,
    };
    if load.duration < Duration::from_secs(1) {
        return Err((start, "the load lasts a second at least".to_owned()));
    }
    if load.gets > 0.0 && load.puts == 0.0 && load.values == 0 {
        return Err((
            start,
            "gets need something to read: give values or puts as well".to_owned(),
        ));
    }
    Ok(load)
}

fn group(table: &Spanned<GroupTable>, config: &Config, load: &Load) -> Result<Group, Mistake> {
    let wrong = |what: &str| Err((table.span().start, what.to_owned()));
    let table = table.get_ref();
    let members = match (table.share, table.count) {
        (Some(share), None) if table.near.is_none() && table.sites.is_none() => Members::Share(share.0),
        (Some(_), None) => {
            return wrong("near and sites are for adversaries with a count, which join for it");
        }
        (None, Some(count)) => Members::Sybils {
            count: count.get(),
            near: match table.near {
                None => Near::Anywhere,
                Some(Spot::Key(key)) => Near::Key(key),
                Some(Spot::FirstValue) => Near::FirstValue,
            },
            sites: table.sites.map_or(0, |sites| sites.get() as u8),
        },
        _ => {
            return wrong(
                "adversaries have either a share (of the nodes) or a count (of nodes that join for it)",
            );
        }
    };
    if matches!(table.near, Some(Spot::FirstValue)) && load.values == 0 {
        return wrong("near = \"first-value\" needs load.values to be 1 at least");
    }
    let kind = match table.kind {
        KindName::Silent => Kind::Silent,
        KindName::Lying => Kind::Lying,
        KindName::Flooding => Kind::Flooding,
    };
    if kind != Kind::Flooding && (table.victims.is_some() || table.rate.is_some()) {
        return wrong("victims and rate are for flooding adversaries");
    }
    if kind == Kind::Silent && table.told.is_some() {
        return wrong("silent adversaries tell nothing: told is for the others");
    }
    Ok(Group {
        kind,
        members,
        told: table.told.map_or(config.k, Between::get),
        victims: table.victims.map_or(1, Count::get),
        rate: table.rate.map_or(10, Count::get),
    })
}
