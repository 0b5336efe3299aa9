//! The life of one machine under arbitrary inputs: commands, requests, answers to live and stale ids, wrong kinds of
//! answers, jumps of both clocks. [`Checked`] judges what comes of each; here is only the malice. The fuzzer includes
//! this file.

use std::sync::{Arc, LazyLock};

use kad_core::{
    Announcement, Command, Config, Contact, Difference, DueRecord, Duration, Failure, FindValue, Fingerprint,
    Found, Input, Instant, Key, Keypair, Kind, MutableVersion, NetworkId, NodeId, Now, Output, Parameters,
    Prefix, QueryId, Read, Record, RecordError, Rejection, ReplyId, Request, RequestId, Response, Rules,
    StoreEntry, StoreId, StoreReply, UnixTime, Verdict, Want,
};

use super::contract::Checked;

const STEPS: usize = 120;

/// Inputs after which a machine that gets no more commands must have ended all of its queries: each ends by its
/// timeout, a minute away at most, and nothing but silence keeps the clock from getting there.
const MAX_STEPS_TO_REST: usize = 2_000;

pub(crate) static RECORDS: LazyLock<Vec<Record>> = LazyLock::new(|| {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("arbitrary", &parameters), &parameters);
    let (now, owner) = (UnixTime::from_secs(1_000_000), Keypair::from_secret(&[7; 32]));
    let expiry = now + Duration::from_secs(86_400);
    let mut records = vec![Record::immutable(b"value", expiry, &rules, now).unwrap()];
    for seq in 1..3 {
        let version = MutableVersion {
            salt: b"s",
            seq,
            issued: now,
            expiry,
            value: Some(b"v"),
        };
        records.push(Record::mutable(&owner, &version, &rules, now).unwrap());
    }
    let key = records[0].key();
    let announcement = Announcement {
        key,
        issued: now,
        expiry,
        payload: Some(b"here"),
    };
    records.push(Record::provider(&owner, &announcement, &rules, now).unwrap());
    records
});

/// Choices read from bytes; zeros when there are no more.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn below(&mut self, bound: usize) -> usize {
        let [first, rest @ ..] = self.0 else { return 0 };
        self.0 = rest;
        usize::from(*first) % bound
    }

    fn id(&mut self) -> NodeId {
        let low = self.below(16) as u64;
        match self.below(2) {
            0 => NodeId::from_limbs([0, 0, 0, low]),
            _ => NodeId::from_limbs([low << 60, 0, 0, 1]),
        }
    }

    fn contact(&mut self) -> Contact<u32> {
        Contact::new(self.id(), self.below(3) as u32)
    }

    fn contacts(&mut self) -> Vec<Contact<u32>> {
        let many = [0, 1, 3, 8, 80][self.below(5)];
        (0..many).map(|_| self.contact()).collect()
    }

    fn record(&mut self) -> Record {
        RECORDS[self.below(RECORDS.len())].clone()
    }

    fn key(&mut self) -> Key {
        match self.below(2) {
            0 => self.record().key(),
            _ => self.id().to_key(),
        }
    }

    fn kind(&mut self) -> Kind {
        [Kind::Immutable, Kind::Mutable, Kind::Provider][self.below(3)]
    }

    fn ask(&mut self) -> FindValue {
        FindValue {
            key: self.key(),
            kind: self.kind(),
            min_seq: self.below(3) as u64,
            after: [None, Some(NodeId::default())][self.below(2)],
            want: [Want::Record, Want::Digest][self.below(2)],
        }
    }

    fn entries(&mut self) -> Vec<StoreEntry> {
        let many = [0, 1, 1, 2, 65][self.below(5)];
        let entry = |choices: &mut Self| StoreEntry {
            record: match choices.below(4) {
                0 => Err(RecordError::BadSignature),
                _ => Ok(choices.record()),
            },
            expected: [None, Some(1)][choices.below(2)],
        };
        (0..many).map(|_| entry(self)).collect()
    }

    fn command(&mut self) -> Command<u32> {
        match self.below(10) {
            0 => Command::FindNode { target: self.key() },
            8 => Command::Locate { id: self.id() },
            1 | 2 => Command::FindValue {
                key: self.key(),
                kind: self.kind(),
                read: [
                    Read::First,
                    Read::Quorum(2),
                    Read::Gather(3),
                    Read::Census,
                    Read::Quorum(0),
                ][self.below(5)],
            },
            3 => Command::Store {
                record: self.record(),
                expected: [None, Some(0)][self.below(2)],
                keep: self.below(2) == 0,
                enough: [1, 15, usize::MAX][self.below(3)],
            },
            4 => Command::Bootstrap {
                contacts: self.contacts(),
            },
            5 => Command::Ask {
                contact: self.contact(),
                target: self.key(),
            },
            6 => Command::HandOver,
            7 => Command::StoreMany {
                records: (0..[0, 1, 3, 300][self.below(4)])
                    .map(|_| self.record())
                    .collect(),
                keep: self.below(2) == 0,
            },
            _ => Command::Ping {
                contact: self.contact(),
            },
        }
    }

    fn request(&mut self) -> Request {
        match self.below(6) {
            0 => Request::Ping,
            1 => Request::FindNode {
                target: self.key(),
                card: self.below(2) == 0,
            },
            2 => Request::FindValue(self.ask()),
            3 => Request::Compare { parts: self.parts() },
            4 => Request::Fetch {
                prefix: self.prefix(),
                marks: (0..[0, 1, 64, 65][self.below(4)]).collect(),
            },
            _ => Request::Store {
                entries: self.entries(),
            },
        }
    }

    fn prefix(&mut self) -> Prefix {
        let [bits, ..] = self.key().to_limbs();
        Prefix::new(bits, [0, 1, 4, 60, 64][self.below(5)])
    }

    fn fingerprint(&mut self) -> Fingerprint {
        let [count, sum] = [self.below(3), self.below(3)];
        Fingerprint {
            count: count as u32,
            sum: sum as u128,
        }
    }

    fn parts(&mut self) -> Vec<(Prefix, Fingerprint)> {
        let many = [0, 1, 1, 2, 64, 65][self.below(6)];
        (0..many)
            .map(|part| {
                let prefix = match self.below(8) {
                    0 => self.prefix(),
                    _ => Prefix::new((part as u64) << 56, 8),
                };
                (prefix, self.fingerprint())
            })
            .collect()
    }

    fn differences(&mut self) -> Vec<Difference> {
        let many = [0, 1, 2, 17, 64][self.below(5)];
        (0..many)
            .map(|_| match self.below(3) {
                0 => Difference::Same,
                1 => Difference::Parts(Box::new([(); 16].map(|()| self.fingerprint()))),
                _ => Difference::Listed((0..self.below(100) as u64).collect()),
            })
            .collect()
    }

    fn records(&mut self) -> Vec<Record> {
        (0..self.below(3)).map(|_| self.record()).collect()
    }

    fn found(&mut self) -> Vec<Found> {
        let many = [0, 1, 1, 2, 70][self.below(5)];
        let found = |choices: &mut Self| match choices.below(2) {
            0 => Found::Record(choices.record()),
            _ => Found::Digest {
                seq: choices.below(3) as u64,
                digest: [choices.below(2) as u8; 32],
            },
        };
        (0..many).map(|_| found(self)).collect()
    }

    fn verdicts(&mut self) -> Vec<Verdict> {
        let all = [
            Verdict::Stored,
            Verdict::Unchanged,
            Verdict::Stale { current: 9 },
            Verdict::Full,
            Verdict::Failed,
            Verdict::Refused(RecordError::Expired),
            Verdict::NotNear,
            Verdict::TooOften,
            Verdict::StoresNothing,
        ];
        let many = [1, 1, 1, 0, 2, 100][self.below(6)];
        (0..many).map(|_| all[self.below(all.len())]).collect()
    }

    fn response(&mut self) -> Response<u32> {
        match self.below(9) {
            0 => Response::Pong {
                unix: UnixTime::from_secs(5),
                observed: 3,
            },
            1 | 2 => Response::Nodes {
                closer: self.contacts(),
                card: self.records().pop(),
            },
            3 => Response::Values {
                found: self.found(),
                next: [None, Some(self.id())][self.below(2)],
                closer: self.contacts(),
            },
            4 => Response::Stored {
                verdicts: self.verdicts(),
                closer: self.contacts(),
            },
            5 | 6 => Response::Compared {
                differences: self.differences(),
            },
            7 => Response::Fetched {
                records: self.records(),
            },
            _ => Response::Rejected(
                [
                    Rejection::Busy,
                    Rejection::ReadOnly,
                    Rejection::Malformed,
                    Rejection::Unsupported,
                ][self.below(4)],
            ),
        }
    }

    fn store_reply(&mut self) -> StoreReply {
        match self.below(9) {
            0 => StoreReply::Found {
                found: self.found(),
                next: [None, Some(self.id())][self.below(2)],
            },
            1 => StoreReply::Put(self.verdicts()),
            2 => {
                let many = self.below(6);
                let due = |choices: &mut Self| DueRecord {
                    record: choices.record(),
                    due: UnixTime::from_secs(choices.below(9) as u64),
                    own: choices.below(2) == 0,
                };
                StoreReply::Due((0..many).map(|_| due(self)).collect())
            }
            3 => StoreReply::Expired {
                more: self.below(2) == 0,
            },
            4 => StoreReply::Summaries((0..self.below(70)).map(|_| self.fingerprint()).collect()),
            5 => StoreReply::Compared(self.differences()),
            6 => StoreReply::Missing((0..self.below(100) as u64).collect()),
            7 => StoreReply::Fetched {
                records: self.records(),
                more: self.below(2) == 0,
            },
            _ => StoreReply::Failed,
        }
    }

    fn failure(&mut self) -> Failure {
        let all = [
            Failure::Unreachable,
            Failure::WrongIdentity,
            Failure::Busy,
            Failure::Malformed,
            Failure::Local,
        ];
        all[self.below(all.len())]
    }

    fn config(&mut self) -> Config {
        let k = [1, 2, 3, 20][self.below(4)];
        let mut config = Config::for_network(&Parameters {
            k,
            ..Parameters::default()
        });
        config.paths = 1 + self.below(3);
        config.read_only = self.below(4) == 0;
        config.max_queries = [1, 4, 256][self.below(3)];
        config.max_pending_requests = [0, 2, 1024][self.below(3)];
        config.max_probes = [0, 1, 32][self.below(3)];
        let spans = [
            Duration::from_secs(10),
            Duration::from_secs(3600),
            Duration::MAX,
            Duration::ZERO,
        ];
        config.refresh = spans[self.below(4)];
        config.first_refresh = spans[self.below(4)];
        config.look_after = spans[self.below(4)];
        config.repair = spans[self.below(4)];
        config.first_repair = spans[self.below(4)];
        config.republish = spans[self.below(4)];
        config.lifetime = spans[self.below(4)];
        config.expire = spans[self.below(3)];
        config.query_timeout = [
            Duration::from_secs(60),
            Duration::from_millis(300),
            Duration::ZERO,
        ][self.below(3)];
        config
    }
}

/// A machine, its clocks, and the ids that its driver has handed out.
pub(crate) struct Driven {
    pub(crate) machine: Checked,
    pub(crate) now: Now,
    pub(crate) ids: u64,
}

impl Driven {
    pub(crate) fn feed(&mut self, input: Input<u32>) -> Vec<Output<u32>> {
        self.machine.handle(self.now, input)
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let input = match choices.below(13) {
            0 | 1 => {
                let query = QueryId(self.next_id());
                Input::Command {
                    query,
                    command: choices.command(),
                }
            }
            2 => {
                let running: Vec<_> = self.machine.running().iter().copied().collect();
                let query = running.get(choices.below(running.len() + 1)).copied();
                Input::Cancel {
                    query: query.unwrap_or(QueryId(0)),
                }
            }
            3 | 4 => Input::Request {
                from: choices.contact(),
                read_only: choices.below(5) == 0,
                reply_to: ReplyId(self.next_id()),
                request: choices.request(),
            },
            5..8 => {
                let asked: Vec<_> = self.machine.asked().keys().copied().collect();
                let stale = RequestId((choices.below(3) as u64) << 32 | choices.below(5) as u64);
                let id = asked
                    .get(choices.below(asked.len() + 1))
                    .copied()
                    .unwrap_or(stale);
                let rtt = [
                    None,
                    Some(Duration::ZERO),
                    Some(Duration::from_millis(30)),
                    Some(Duration::MAX),
                ];
                match choices.below(5) {
                    0 => Input::Failure {
                        id,
                        failure: choices.failure(),
                    },
                    1 => Input::Proven {
                        id,
                        address: choices.contact().address,
                    },
                    _ => Input::Response {
                        id,
                        response: choices.response(),
                        rtt: rtt[choices.below(4)],
                    },
                }
            }
            8 | 9 => {
                let storing: Vec<_> = self.machine.storing().iter().copied().collect();
                let stale = StoreId((choices.below(3) as u64) << 32 | choices.below(3) as u64);
                let id = storing
                    .get(choices.below(storing.len() + 1))
                    .copied()
                    .unwrap_or(stale);
                Input::Store {
                    id,
                    reply: choices.store_reply(),
                }
            }
            10 => {
                let far = [0, 2_000_000_000, u64::MAX][choices.below(3)];
                self.now.unix = UnixTime::from_secs(far);
                return;
            }
            11 => Input::Role {
                read_only: choices.below(2) == 0,
            },
            _ => {
                let pause = [0, 1_000, 500_000, 5_000_000, 4_000_000_000][choices.below(5)];
                self.now.monotonic = self.now.monotonic + Duration::from_micros(pause);
                Input::Timeout
            }
        };
        self.feed(input);
    }

    /// Nobody answers any more: everything must end by itself.
    fn rest(&mut self) {
        for _ in 0..MAX_STEPS_TO_REST {
            let storing = self.machine.storing().first().copied();
            if let Some(id) = storing {
                self.feed(Input::Store {
                    id,
                    reply: StoreReply::Failed,
                });
                continue;
            }
            if self.machine.running().is_empty() {
                return;
            }
            let at = self
                .machine
                .machine()
                .poll_timeout()
                .expect("a query that runs has a timer");
            // Some of the configurations want something done every microsecond; a real clock does not stand still for
            // them.
            self.now.monotonic = at.max(self.now.monotonic + Duration::from_millis(200));
            self.feed(Input::Timeout);
        }
        panic!(
            "{:?} did not end: {:?}",
            self.machine.running(),
            self.machine.machine().stats()
        );
    }
}

/// A whole life of a machine: its trace, and the most effects that one input had.
pub(crate) fn live(bytes: &[u8]) -> (u64, usize) {
    let mut choices = Choices(bytes);
    let now = Now {
        monotonic: Instant::from_micros(1_000_000),
        unix: UnixTime::from_secs(1_000_000),
    };
    let (config, local) = (Arc::new(choices.config()), choices.id());
    let mut driven = Driven {
        machine: Checked::new(local, config, 7, now),
        now,
        ids: 0,
    };
    for _ in 0..STEPS {
        driven.step(&mut choices);
    }
    driven.rest();
    (driven.machine.trace(), driven.machine.most_outputs())
}
