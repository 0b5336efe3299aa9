//! Which paths a connection took, told while it lasts and at its end.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kad_core::NodeId;
use kad_net::quic::{Connection, PathKind, PathReport};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::reply::aside;

/// Changes of path that are listed at the end; a connection that has more has other worries.
const MAX_LISTED: usize = 256;

/// A path, or that there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    kind: Option<PathKind>,
    remote: Option<SocketAddr>,
    relay: Option<NodeId>,
    rtt: Option<Duration>,
    why: Arc<str>,
}

impl From<&PathReport> for Way {
    fn from(report: &PathReport) -> Self {
        Self {
            kind: report.kind,
            remote: report.remote,
            relay: report.relay,
            rtt: report.rtt,
            why: report.why.clone(),
        }
    }
}

impl Way {
    fn is_direct(&self) -> bool {
        self.kind.is_some_and(|kind| kind != PathKind::Relayed)
    }

    /// A line for a person; `connected` is for the first path, with the time that it took.
    fn line(&self, connected: Option<Duration>) -> String {
        let Some(kind) = self.kind else {
            return "the path is lost; looking for another one".to_owned();
        };
        let whom = match (self.relay, self.remote) {
            (Some(relay), _) => format!("relay {relay}"),
            (None, Some(remote)) => format!("relay {remote}"),
            (None, None) => "a relay".to_owned(),
        };
        let at = self
            .remote
            .map_or_else(String::new, |remote| format!("{remote}, "));
        match (kind, connected) {
            (PathKind::Relayed, Some(after)) => {
                format!("connected through {whom} after {} ms", after.as_millis())
            }
            (PathKind::Relayed, None) => format!("through {whom} now"),
            (kind, Some(after)) => format!("connected: {at}{kind}, after {} ms", after.as_millis()),
            (kind, None) => {
                let rtt = self
                    .rtt
                    .map_or_else(String::new, |rtt| format!(", {} ms", rtt.as_millis()));
                format!("direct now: {at}{kind}{rtt}")
            }
        }
    }

    fn json(&self, at: Duration) -> Value {
        json!({
            "at_ms": millis(at),
            "kind": self.kind.map(name),
            "remote": self.remote.map(|remote| remote.to_string()),
            "relay": self.relay.map(|relay| relay.to_string()),
            "rtt_ms": self.rtt.map(millis),
            "why": &*self.why,
        })
    }
}

fn name(kind: PathKind) -> &'static str {
    match kind {
        PathKind::Lan => "lan",
        PathKind::DirectV6 => "direct_v6",
        PathKind::DirectV4 => "direct_v4",
        PathKind::Mapped => "mapped",
        PathKind::Punched => "punched",
        PathKind::Relayed => "relayed",
        _ => "other",
    }
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

/// What is known of a connection, from when it was asked for.
#[derive(Debug)]
struct Record {
    /// When it was known where the peer is, of whoever asked for the connection.
    found: Option<Duration>,
    ways: Vec<(Duration, Way)>,
    /// The one in use, listed or not.
    last: Option<Way>,
    unlisted: usize,
    connected: Option<Duration>,
    direct: Option<Duration>,
    first_byte: Option<Duration>,
    sent: u64,
    received: u64,
}

/// Follows a connection, and those that take its place; ends with the handle, not with the connection.
#[derive(Debug)]
pub(crate) struct Journal {
    began: Instant,
    /// Whether nobody is to be told of a path when it comes.
    quiet: bool,
    record: Arc<Mutex<Record>>,
    follower: Mutex<JoinHandle<()>>,
}

impl Journal {
    /// Tells of every path on standard error, unless nobody wants to read it. `began` is when the connection was asked
    /// for, `found` after what time it was known where the peer is.
    pub(crate) fn follow(
        connection: &Connection,
        began: Instant,
        found: Option<Duration>,
        quiet: bool,
    ) -> Self {
        let record = Arc::new(Mutex::new(Record {
            found,
            ways: Vec::new(),
            last: None,
            unlisted: 0,
            connected: None,
            direct: None,
            first_byte: None,
            sent: 0,
            received: 0,
        }));
        let follower = tokio::spawn(follow(connection.path(), record.clone(), began, quiet));
        Self {
            began,
            quiet,
            record,
            follower: Mutex::new(follower),
        }
    }

    /// Goes on with another connection to the same peer, after the one that was followed has ended.
    pub(crate) fn turn_to(&self, connection: &Connection) {
        let mut follower = lock(&self.follower);
        follower.abort();
        // What comes is a path of its own, even if it leads where the last one did.
        self.lock().last = None;
        let (record, path) = (self.record.clone(), connection.path());
        *follower = tokio::spawn(follow(path, record, self.began, self.quiet));
    }

    pub(crate) fn sent(&self, length: usize) {
        self.lock().sent += length as u64;
    }

    pub(crate) fn received(&self, length: usize) {
        let mut record = self.lock();
        record.received += length as u64;
        record.first_byte.get_or_insert_with(|| self.began.elapsed());
    }

    /// All of it, for the object at the end.
    pub(crate) fn json(&self) -> Map<String, Value> {
        let record = self.lock();
        let paths: Vec<_> = record.ways.iter().map(|(at, way)| way.json(*at)).collect();
        let fields = json!({
            "sent": record.sent,
            "received": record.received,
            "paths": paths,
            "paths_unlisted": record.unlisted,
            "found_ms": record.found.map(millis),
            "connected_ms": record.connected.map(millis),
            "first_byte_ms": record.first_byte.map(millis),
            "direct_ms": record.direct.map(millis),
            "took_ms": millis(self.began.elapsed()),
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        lock(&self.follower).abort();
    }
}

async fn follow(
    mut path: watch::Receiver<PathReport>,
    record: Arc<Mutex<Record>>,
    began: Instant,
    quiet: bool,
) {
    loop {
        let way = Way::from(&*path.borrow_and_update());
        if let Some(line) = note(&mut lock(&record), way, began.elapsed())
            && !quiet
        {
            aside(&line);
        }
        if path.changed().await.is_err() {
            return;
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is locked.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes down a path, and says what is to be told of it, if it is another one than before.
fn note(record: &mut Record, way: Way, at: Duration) -> Option<String> {
    let same = |last: &&mut Way| (last.kind, last.remote, last.relay) == (way.kind, way.remote, way.relay);
    if let Some(last) = record.last.as_mut().filter(same) {
        // A relay that stays needs a reason.
        let news = way.kind == Some(PathKind::Relayed) && last.why != way.why;
        last.why = way.why.clone();
        return news.then(|| way.why.to_string());
    }
    if way.kind.is_none() && record.connected.is_none() {
        return None; // Nothing is lost yet.
    }
    let first = record.connected.is_none().then_some(at);
    record.connected.get_or_insert(at);
    if way.is_direct() {
        record.direct.get_or_insert(at);
    }
    let line = way.line(first);
    record.last = Some(way.clone());
    match record.ways.len() < MAX_LISTED {
        true => record.ways.push((at, way)),
        false => record.unlisted += 1,
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use kad_core::{Contact, Keypair, NetworkId, Parameters};
    use kad_net::card::Card;
    use kad_net::nat::candidates::{Candidate, CandidateKind};
    use kad_net::quic::{Listener, Protocol, QuicConfig, QuicLimits, QuicTransport};
    use kad_net::{Transport as _, WireAddress as _};

    use super::*;

    fn way(kind: Option<PathKind>, remote: &str, relay: Option<u8>) -> Way {
        Way {
            kind,
            remote: Some(remote.parse().unwrap()),
            relay: relay.map(|n| kad_core::Keypair::from_secret(&[n; 32]).node_id()),
            rtt: Some(Duration::from_millis(41)),
            why: "a test".into(),
        }
    }

    fn empty() -> Record {
        Record {
            found: None,
            ways: Vec::new(),
            last: None,
            unlisted: 0,
            connected: None,
            direct: None,
            first_byte: None,
            sent: 0,
            received: 0,
        }
    }

    #[test]
    fn each_change_of_path_is_told_once() {
        let mut record = empty();
        let relayed = way(Some(PathKind::Relayed), "203.0.113.1:4001", Some(1));
        let relay = relayed.relay.unwrap();
        let punched = way(Some(PathKind::Punched), "203.0.113.11:4001", None);
        let lost = Way {
            kind: None,
            ..punched.clone()
        };
        let mut told = |way: &Way, millis| note(&mut record, way.clone(), Duration::from_millis(millis));
        assert_eq!(told(&lost, 1), None);
        assert_eq!(
            told(&relayed, 92).unwrap(),
            format!("connected through relay {relay} after 92 ms")
        );
        assert_eq!(told(&relayed, 100), None);
        let stays = Way {
            why: "relayed: the NATs do not let it".into(),
            ..relayed.clone()
        };
        assert_eq!(told(&stays, 200).unwrap(), "relayed: the NATs do not let it");
        assert_eq!(told(&stays, 300), None);
        assert_eq!(
            told(&punched, 400).unwrap(),
            "direct now: 203.0.113.11:4001, punched, 41 ms"
        );
        assert!(told(&lost, 500).unwrap().contains("looking for another one"));
        assert_eq!(told(&relayed, 600).unwrap(), format!("through relay {relay} now"));
        assert_eq!(record.connected, Some(Duration::from_millis(92)));
        assert_eq!(record.direct, Some(Duration::from_millis(400)));
        assert_eq!(record.ways.len(), 4);
    }

    #[test]
    fn a_connection_that_begins_directly_says_how() {
        let mut record = empty();
        let direct = way(Some(PathKind::Lan), "192.168.1.7:4001", None);
        assert_eq!(
            note(&mut record, direct, Duration::from_millis(7)).unwrap(),
            "connected: 192.168.1.7:4001, in the same network, after 7 ms"
        );
        assert_eq!(record.direct, record.connected);
    }

    fn node(n: u8) -> QuicTransport {
        let network = NetworkId::new("test", &Parameters::default());
        let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        let limits = QuicLimits {
            path_linger: Duration::from_millis(20),
            ..QuicLimits::default()
        };
        let keypair = Keypair::from_secret(&[n; 32]);
        QuicTransport::bind(QuicConfig {
            limits,
            ..QuicConfig::new(keypair, network, listen)
        })
        .unwrap()
    }

    /// A connection of both, as each of them has it.
    async fn connected(one: &QuicTransport, listener: &Listener, to: &QuicTransport) -> [Connection; 2] {
        let Contact { id, address } = to.local();
        let card = Card {
            candidates: vec![Candidate {
                address: address.sockets()[0],
                kind: CandidateKind::Verified,
            }],
            ..Card::default()
        };
        let connecting = one.connect(id, &card, listener.protocol().clone());
        let (ours, theirs) = tokio::join!(connecting, listener.accept());
        [ours.unwrap(), theirs.unwrap()]
    }

    /// The kinds of the paths that are listed, once there are so many.
    async fn kinds(journal: &Journal, count: usize) -> Vec<Option<PathKind>> {
        let listed = async {
            loop {
                let kinds: Vec<_> = journal.lock().ways.iter().map(|(_, way)| way.kind).collect();
                if kinds.len() >= count {
                    return kinds;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let listed = tokio::time::timeout(Duration::from_secs(60), listed).await;
        listed.unwrap_or_else(|_| panic!("{:?}", journal.lock().ways))
    }

    #[tokio::test]
    async fn a_journal_goes_on_with_the_connection_that_takes_the_place_of_one_that_has_ended() {
        let (one, other) = (node(1), node(2));
        let listener = other.listen(Protocol::new("test").unwrap()).unwrap();
        let [first, theirs] = connected(&one, &listener, &other).await;
        let journal = Journal::follow(&first, Instant::now(), None, true);
        assert_eq!(kinds(&journal, 1).await, [Some(PathKind::DirectV4)]);
        // Nothing tells of paths any more once the peer is forgotten.
        let mut path = first.path();
        drop((first, theirs));
        while path.changed().await.is_ok() {}

        let [second, _theirs] = connected(&one, &listener, &other).await;
        journal.turn_to(&second);
        // The same place, and yet another path.
        assert_eq!(kinds(&journal, 2).await[1], Some(PathKind::DirectV4));
        other.close().await;
        assert_eq!(
            kinds(&journal, 3).await[2],
            None,
            "it is the second one that is followed"
        );
    }

    #[test]
    fn endless_changes_are_counted_and_not_kept() {
        let mut record = empty();
        for n in 0..1000_u32 {
            let remote = format!("203.0.113.{}:4001", n % 2);
            note(
                &mut record,
                way(Some(PathKind::Punched), &remote, None),
                Duration::ZERO,
            );
        }
        assert_eq!(
            (record.ways.len(), record.unlisted),
            (MAX_LISTED, 1000 - MAX_LISTED)
        );
    }
}
