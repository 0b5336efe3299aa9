//! What the messages of a simulation would weigh on a wire.

use std::ops::{AddAssign, Sub};

use kad_core::{Contact, Difference, Fingerprint, Found, ID_BYTES, Prefix, Request, Response};

use crate::Place;

/// Requests, answers and their bytes, as the codec of `kad-net` would write them. The tests compare the sizes with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests sent.
    pub requests: u64,
    /// Answers sent.
    pub responses: u64,
    /// Of the requests, PINGs.
    pub pings: u64,
    /// Answers to these.
    pub pongs: u64,
    /// Of the requests, those of joins that have ended.
    pub joining: u64,
    /// Of the requests, STOREs.
    pub stores: u64,
    /// Records that STOREs carried.
    pub records: u64,
    /// Bytes of requests and answers.
    pub frame_bytes: u64,
    /// Of these, bytes of STOREs and their answers.
    pub store_bytes: u64,
    /// Of the requests, those that compare what two nodes hold, or fetch what one of them lacks.
    pub repairs: u64,
    /// Records that were fetched.
    pub fetched: u64,
    /// Bytes of these requests and their answers.
    pub repair_bytes: u64,
    /// Connections that had to be made first.
    pub dials: u64,
    /// In the cost model of Li et al. 2005: 20 bytes for each message and 4 for each node or key that it names.
    pub li_bytes: u64,
}

/// Bytes that QUIC, UDP and IP add to a request and its answer over an open connection that rests in between, over
/// IPv4: three datagrams (request, answer, acknowledgement), each with 28 bytes of UDP and IP and some 38 of QUIC's
/// header, frames and tag. Measured on real sockets: `cargo test -p kad-net --test quic bytes -- --nocapture`.
pub const QUIC_BYTES_PER_RPC: u64 = 200;

/// Bytes of a QUIC handshake in which both sides show a certificate, over IPv4, and of what follows it: padded first
/// flights of 1,228 bytes each way, certificates and signatures, confirmations, connection ids. Measured in the same
/// test.
pub const QUIC_BYTES_PER_DIAL: u64 = 4_300;

impl Traffic {
    /// All bytes with what QUIC, UDP and IP add.
    #[must_use]
    pub const fn quic_bytes(&self) -> u64 {
        self.frame_bytes + self.responses * QUIC_BYTES_PER_RPC + self.dials * QUIC_BYTES_PER_DIAL
    }

    pub(crate) fn request(&mut self, request: &Request) {
        let bytes = request_bytes(request);
        self.requests += 1;
        self.frame_bytes += bytes;
        self.li_bytes += 20;
        match request {
            Request::Ping => self.pings += 1,
            Request::FindNode { .. } | Request::FindValue(_) => self.li_bytes += 4,
            Request::Store { entries } => {
                self.stores += 1;
                self.records += entries.len() as u64;
                self.store_bytes += bytes;
                self.li_bytes += 4 * entries.len() as u64;
            }
            Request::Compare { .. } | Request::Fetch { .. } => {
                self.repairs += 1;
                self.repair_bytes += bytes;
            }
        }
    }

    pub(crate) fn response(&mut self, response: &Response<Place>) {
        let bytes = response_bytes(response);
        self.responses += 1;
        self.frame_bytes += bytes;
        self.li_bytes += 20;
        match response {
            Response::Nodes { closer, .. } | Response::Values { closer, .. } => {
                self.li_bytes += 4 * closer.len() as u64;
            }
            Response::Stored { closer, .. } => {
                self.store_bytes += bytes;
                self.li_bytes += 4 * closer.len() as u64;
            }
            Response::Compared { .. } => self.repair_bytes += bytes,
            Response::Fetched { records } => {
                self.fetched += records.len() as u64;
                self.repair_bytes += bytes;
            }
            Response::Pong { .. } => self.pongs += 1,
            Response::Rejected(_) => {}
        }
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.responses += other.responses;
        self.pings += other.pings;
        self.pongs += other.pongs;
        self.joining += other.joining;
        self.stores += other.stores;
        self.records += other.records;
        self.frame_bytes += other.frame_bytes;
        self.store_bytes += other.store_bytes;
        self.repairs += other.repairs;
        self.fetched += other.fetched;
        self.repair_bytes += other.repair_bytes;
        self.dials += other.dials;
        self.li_bytes += other.li_bytes;
    }
}

/// What came since an earlier count.
impl Sub for Traffic {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            responses: self.responses - before.responses,
            pings: self.pings - before.pings,
            pongs: self.pongs - before.pongs,
            joining: self.joining - before.joining,
            stores: self.stores - before.stores,
            records: self.records - before.records,
            frame_bytes: self.frame_bytes - before.frame_bytes,
            store_bytes: self.store_bytes - before.store_bytes,
            repairs: self.repairs - before.repairs,
            fetched: self.fetched - before.fetched,
            repair_bytes: self.repair_bytes - before.repair_bytes,
            dials: self.dials - before.dials,
            li_bytes: self.li_bytes - before.li_bytes,
        }
    }
}

/// Version, kind, flags, and an empty list of extensions.
const FRAME: u64 = 4;

/// A list of one IPv4 socket with a port above 250.
const ADDRESS: u64 = 1 + 1 + 4 + 3;

/// Bytes of a number as the codec writes it (`docs/protocol.md`, section 5).
const fn number(n: u64) -> u64 {
    match n {
        0..=250 => 1,
        251..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

fn record(record: &kad_core::Record) -> u64 {
    // An immutable record travels with the seconds that it has left; a day and more take five bytes, as here.
    let remaining = if record.kind() == kad_core::Kind::Immutable {
        5
    } else {
        1
    };
    let bytes = record.as_bytes().len() as u64;
    remaining + number(bytes) + bytes
}

/// Bytes of a request's frame.
#[must_use]
pub fn request_bytes(request: &Request) -> u64 {
    FRAME
        + match request {
            Request::Ping => 0,
            // The card is asked for and given as an extension: its number, and a list of bytes.
            Request::FindNode { card, .. } => ID_BYTES as u64 + 2 * u64::from(*card),
            Request::FindValue(ask) => {
                let after = 1 + ask.after.map_or(0, |_| ID_BYTES as u64);
                ID_BYTES as u64 + 2 + number(ask.min_seq) + after
            }
            Request::Store { entries } => {
                let entry = |entry: &kad_core::StoreEntry| {
                    entry.record.as_ref().map_or(0, record) + 1 + entry.expected.map_or(0, number)
                };
                number(entries.len() as u64) + entries.iter().map(entry).sum::<u64>()
            }
            Request::Compare { parts } => {
                let part = |&(at, sum): &(Prefix, Fingerprint)| prefix(at) + fingerprint(sum);
                number(parts.len() as u64) + parts.iter().map(part).sum::<u64>()
            }
            Request::Fetch { prefix: at, marks } => prefix(*at) + list(marks),
        }
}

/// Bytes of an answer's frame.
#[must_use]
pub fn response_bytes(response: &Response<Place>) -> u64 {
    let contacts = |closer: &[Contact<Place>]| {
        number(closer.len() as u64) + closer.len() as u64 * (ID_BYTES as u64 + ADDRESS)
    };
    FRAME
        + match response {
            Response::Pong { unix, .. } => number(unix.as_secs()) + ADDRESS,
            Response::Nodes { closer, card } => {
                let card = card.as_ref().map_or(0, |card| {
                    let bytes = card.as_bytes().len() as u64;
                    1 + number(bytes) + bytes
                });
                contacts(closer) + card
            }
            Response::Values { found, next, closer } => {
                let one = |found: &Found| {
                    1 + match found {
                        Found::Record(found) => record(found),
                        Found::Digest { seq, .. } => number(*seq) + 32,
                    }
                };
                number(found.len() as u64)
                    + found.iter().map(one).sum::<u64>()
                    + 1
                    + next.map_or(0, |_| ID_BYTES as u64)
                    + contacts(closer)
            }
            Response::Stored { verdicts, closer } => {
                number(verdicts.len() as u64) + 2 * verdicts.len() as u64 + contacts(closer)
            }
            Response::Compared { differences } => {
                let one = |difference: &Difference| match difference {
                    Difference::Same => 1,
                    Difference::Parts(parts) => 1 + parts.iter().map(|&part| fingerprint(part)).sum::<u64>(),
                    Difference::Listed(marks) => 1 + list(marks),
                };
                number(differences.len() as u64) + differences.iter().map(one).sum::<u64>()
            }
            Response::Fetched { records } => {
                number(records.len() as u64) + records.iter().map(record).sum::<u64>()
            }
            Response::Rejected(_) => 1,
        }
}

const fn prefix(prefix: Prefix) -> u64 {
    number(prefix.bits()) + 1
}

const fn fingerprint(fingerprint: Fingerprint) -> u64 {
    number(fingerprint.count as u64) + 16
}

const fn list(marks: &[u64]) -> u64 {
    number(marks.len() as u64) + 8 * marks.len() as u64
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use kad_core::{
        Duration, FindValue, Kind, NetworkId, NodeId, Parameters, Record, Rejection, Rules, StoreEntry,
        UnixTime, Verdict, Want,
    };
    use kad_net::wire::{Codec, Scope};

    use super::*;
    use crate::{Dice, Site};

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn codec() -> Codec {
        let parameters = Parameters::default();
        Codec::new(
            Rules::new(NetworkId::new("sim", &parameters), &parameters),
            Scope::Any,
        )
    }

    fn value(bytes: usize) -> Record {
        let expiry = NOW + Duration::from_secs(2 * 86_400);
        Record::immutable(&vec![7; bytes], expiry, codec().rules(), NOW)
            .expect("a value that the network allows")
    }

    fn card() -> Record {
        let keypair = kad_core::Keypair::from_secret(&[3; 32]);
        let version = kad_core::MutableVersion {
            salt: b"",
            seq: 1,
            issued: NOW,
            expiry: NOW + Duration::from_secs(86_400),
            value: Some(&[7; 300]),
        };
        Record::mutable(&keypair, &version, codec().rules(), NOW).expect("a card that the network allows")
    }

    /// The same with the addresses that the codec knows.
    fn on_the_internet(response: Response<Place>) -> Response<SocketAddr> {
        let socket = |place: Place| SocketAddr::from((Ipv4Addr::from_bits(place.number() as u32), 4001));
        let all = |closer: Vec<Contact<Place>>| {
            closer
                .into_iter()
                .map(|contact| Contact::new(contact.id, socket(contact.address)))
                .collect()
        };
        match response {
            Response::Pong { unix, observed } => Response::Pong {
                unix,
                observed: socket(observed),
            },
            Response::Nodes { closer, card } => Response::Nodes {
                closer: all(closer),
                card,
            },
            Response::Values { found, next, closer } => Response::Values {
                found,
                next,
                closer: all(closer),
            },
            Response::Stored { verdicts, closer } => Response::Stored {
                verdicts,
                closer: all(closer),
            },
            Response::Compared { differences } => Response::Compared { differences },
            Response::Fetched { records } => Response::Fetched { records },
            Response::Rejected(reason) => Response::Rejected(reason),
        }
    }

    #[test]
    fn requests_weigh_what_the_codec_writes() {
        let ask = FindValue {
            key: Dice::new(1).key(),
            kind: Kind::Mutable,
            min_seq: 0,
            after: None,
            want: Want::Record,
        };
        let entry = |bytes, expected| StoreEntry {
            record: Ok(value(bytes)),
            expected,
        };
        let sum = |count| Fingerprint { count, sum: 5 };
        let page = FindValue {
            kind: Kind::Provider,
            after: Some(NodeId::default()),
            ..ask
        };
        for request in [
            Request::Ping,
            Request::FindNode {
                target: ask.key,
                card: false,
            },
            Request::FindNode {
                target: ask.key,
                card: true,
            },
            Request::FindValue(ask),
            Request::FindValue(FindValue {
                min_seq: 70_000,
                ..ask
            }),
            Request::FindValue(page),
            Request::Store {
                entries: vec![entry(10, None)],
            },
            Request::Store {
                entries: vec![entry(300, Some(0)), entry(65_536 - 300, Some(300))],
            },
            Request::Compare {
                parts: vec![
                    (Prefix::new(0, 3), sum(0)),
                    (Prefix::new(u64::MAX, 3), sum(300)),
                    (Prefix::new(u64::MAX, 64), sum(70_000)),
                ],
            },
            Request::Fetch {
                prefix: Prefix::ALL,
                marks: vec![1; 7],
            },
        ] {
            let frame = codec().encode_request(NOW, false, &request).expect("encodes");
            assert_eq!(request_bytes(&request), frame.len() as u64, "{request:?}");
        }
    }

    #[test]
    fn answers_weigh_what_the_codec_writes() {
        let mut dice = Dice::new(2);
        let mut contacts = |n| -> Vec<_> {
            (0..n)
                .map(|n| Contact::new(dice.key().to_node_id(), Place::new(n, Site::Private)))
                .collect()
        };
        let digest = Found::Digest {
            seq: 3,
            digest: [1; 32],
        };
        for response in [
            Response::Pong {
                unix: NOW,
                observed: Place::new(5, Site::Private),
            },
            Response::Nodes {
                closer: Vec::new(),
                card: None,
            },
            Response::Nodes {
                closer: contacts(20),
                card: Some(card()),
            },
            Response::Values {
                found: vec![digest],
                next: None,
                closer: contacts(3),
            },
            Response::Values {
                found: vec![Found::Record(value(1000))],
                next: Some(NodeId::default()),
                closer: Vec::new(),
            },
            Response::Stored {
                verdicts: vec![Verdict::Stored, Verdict::Full],
                closer: contacts(20),
            },
            Response::Compared {
                differences: vec![
                    Difference::Same,
                    Difference::Parts(Box::default()),
                    Difference::Listed(vec![9; 300]),
                ],
            },
            Response::Fetched {
                records: vec![value(10), value(1000)],
            },
            Response::Rejected(Rejection::Busy),
        ] {
            let counted = response_bytes(&response);
            let frame = codec()
                .encode_response(NOW, &on_the_internet(response))
                .expect("encodes");
            assert_eq!(counted, frame.len() as u64);
        }
    }
}
