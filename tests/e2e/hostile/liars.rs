//! Peers that answer with lies: a node never hands one on, counts it, and lives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kad_core::{
    Contact, Found, MutableVersion, NetworkId, NodeId, Parameters, Record, Request, Response, Rules,
    StoreEntry, UnixTime, Verdict,
};
use kad_net::quic::{QuicAddress, QuicTransport};
use kad_net::{Reply as _, Transport as _, WireAddress as _};
use kad_node::{Node, NodeError};

use super::attackers::{LOOPBACK, answer_to, codec, fair_answer, frame, key, member, now, rules};
use super::nodes::soon;

const DAY: Duration = Duration::from_secs(24 * 3600);
const SALT: &[u8] = b"salt";
const TRUTH: &[u8] = b"the truth";
const LIE: &[u8] = b"a lie";

/// A version that lives for a day.
fn version(owner: u64, value: &[u8], issued: UnixTime, rules: &Rules) -> Record {
    let version = MutableVersion {
        salt: SALT,
        seq: 7,
        issued,
        expiry: issued + DAY,
        value: Some(value),
    };
    Record::mutable(&key(owner), &version, rules, issued).unwrap()
}

fn value(bytes: &[u8]) -> Record {
    Record::immutable(bytes, now() + DAY, &rules(), now()).unwrap()
}

/// Whose record is looked for.
const OWNER: u64 = 31;

fn values(found: Vec<Found>, closer: Vec<Contact<QuicAddress>>) -> Bytes {
    encoded(&Response::Values {
        found,
        next: None,
        closer,
    })
}

fn encoded(response: &Response<QuicAddress>) -> Bytes {
    codec().encode_response(now(), response).unwrap()
}

/// An answer with one record, of which one byte is changed, counted from its end.
fn damaged(record: &Record, from_the_end: usize) -> Bytes {
    let mut bytes = values(vec![Found::Record(record.clone())], Vec::new()).to_vec();
    let inside = record.as_bytes();
    let at = bytes
        .windows(inside.len())
        .position(|window| window == &inside[..])
        .unwrap();
    bytes[at + inside.len() - from_the_end] ^= 1;
    bytes.into()
}

/// What a liar answers to every FIND_VALUE, by name.
fn lies() -> Vec<(&'static str, Bytes)> {
    let record = |record| values(vec![Found::Record(record)], Vec::new());
    let elsewhere = Rules::new(
        NetworkId::new("elsewhere", &Parameters::default()),
        &Parameters::default(),
    );
    let ago = UnixTime::from_secs(now().as_secs() - 2 * DAY.as_secs());
    vec![
        ("nothing", Bytes::new()),
        ("garbage", Bytes::from_static(&[0x5a; 500])),
        ("half an answer", record(value(TRUTH)).slice(..20)),
        (
            "an answer to another question",
            fair_answer(&frame(&Request::Ping)),
        ),
        (
            "an answer to a STORE",
            encoded(&Response::Stored {
                verdicts: vec![Verdict::Stored],
                closer: Vec::new(),
            }),
        ),
        ("a question", frame(&Request::Ping)),
        ("another value", record(value(LIE))),
        ("the value with a byte changed", damaged(&value(TRUTH), 1)),
        (
            "a digest",
            values(
                vec![Found::Digest {
                    seq: 9,
                    digest: [1; 32],
                }],
                Vec::new(),
            ),
        ),
        (
            "the record of another owner",
            record(version(32, LIE, now(), &rules())),
        ),
        (
            "a bad signature",
            damaged(&version(OWNER, LIE, now(), &rules()), 1),
        ),
        (
            "a changed version",
            damaged(&version(OWNER, TRUTH, now(), &rules()), 65),
        ),
        (
            "a record of another network",
            record(version(OWNER, LIE, now(), &elsewhere)),
        ),
        (
            "a record whose life is over",
            once_right(version(OWNER, LIE, ago, &rules()), ago),
        ),
        (
            "the same record many times",
            values(
                vec![Found::Record(version(OWNER, TRUTH, now(), &rules())); 64],
                Vec::new(),
            ),
        ),
    ]
}

/// An answer that was right once.
fn once_right(record: Record, then: UnixTime) -> Bytes {
    let found = vec![Found::Record(record)];
    let answer: Response<QuicAddress> = Response::Values {
        found,
        next: None,
        closer: Vec::new(),
    };
    codec().encode_response(then, &answer).unwrap()
}

/// A member that answers fairly, except to FIND_VALUE.
fn liar(number: u64, lie: Bytes) -> Arc<QuicTransport> {
    let liar = Arc::new(member(number));
    let serving = liar.clone();
    tokio::spawn(async move {
        while let Some(inbound) = serving.accept().await {
            let asked = codec().decode_request(now(), inbound.frame.clone());
            let answer = match asked.map(|asked| asked.request) {
                Ok(Request::FindValue(_)) => lie.clone(),
                _ => fair_answer(&inbound.frame),
            };
            inbound.reply.send(answer).await;
        }
    });
    liar
}

fn door(at: &Contact<QuicAddress>) -> SocketAddr {
    at.address.sockets()[0]
}

/// A node that knows these.
async fn node(doors: &[SocketAddr]) -> Node {
    let builder = doors
        .iter()
        .fold(Node::builder().listen(LOOPBACK), |builder, door| {
            builder.bootstrap(*door)
        });
    let node = builder.spawn().await.unwrap();
    if !doors.is_empty() {
        soon(node.joined()).await.unwrap();
        // Joining ends with the first who answers; wait for all.
        soon(async {
            while node.contacts().await.unwrap().len() < doors.len() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    node
}

/// A node that holds both truths.
async fn holder() -> Node {
    let (holder, from) = (node(&[]).await, member(40));
    let records = [value(TRUTH), version(OWNER, TRUTH, now(), &rules())];
    let entries = records
        .map(|record| StoreEntry {
            record: Ok(record),
            expected: None,
        })
        .to_vec();
    let asked = Request::Store { entries };
    match answer_to(&from, holder.local(), frame(&asked), &asked).await {
        Response::Stored { verdicts, .. } => assert_eq!(verdicts, [Verdict::Stored; 2]),
        other => panic!("{other:?}"),
    }
    from.close().await;
    holder
}

#[tokio::test]
async fn a_lie_is_never_handed_on_and_is_counted() {
    for (number, (name, lie)) in (0..).zip(lies()) {
        let liar = liar(100 + number, lie);
        let node = node(&[door(&liar.local())]).await;
        let before = node.stats().await.unwrap().core;
        match soon(node.get(value(TRUTH).key())).await {
            Ok(None) | Err(NodeError::Query(_)) => {}
            other => panic!("{name}: {other:?}"),
        }
        let after = node.stats().await.unwrap().core;
        assert_eq!(after.misfits, before.misfits + 1, "{name}");
        soon(node.shutdown()).await.unwrap();
    }
}

#[tokio::test]
async fn a_lie_about_a_mutable_record_is_never_handed_on() {
    for (number, (name, lie)) in (0..).zip(lies()) {
        let liar = liar(200 + number, lie);
        let node = node(&[door(&liar.local())]).await;
        let before = node.stats().await.unwrap().core;
        match soon(node.get_mutable(&key(OWNER).public(), SALT)).await {
            Ok(None) | Err(NodeError::Query(_)) => {}
            other => panic!("{name}: {other:?}"),
        }
        let after = node.stats().await.unwrap().core;
        assert_eq!(after.misfits, before.misfits + 1, "{name}");
        soon(node.shutdown()).await.unwrap();
    }
}

#[tokio::test]
async fn the_truth_is_found_in_spite_of_liars() {
    let holder = holder().await;
    for (number, (name, lie)) in (0..).step_by(3).zip(lies()) {
        let liars = [0, 1, 2].map(|more| liar(300 + number + more, lie.clone()));
        let mut doors = liars.each_ref().map(|liar| door(&liar.local())).to_vec();
        doors.push(door(holder.local()));
        let node = node(&doors).await;
        let found = soon(node.get(value(TRUTH).key())).await.unwrap();
        assert_eq!(found.expect(name).bytes, TRUTH, "{name}");
        let found = soon(node.get_mutable(&key(OWNER).public(), SALT)).await.unwrap();
        assert_eq!(found.expect(name).value, TRUTH, "{name}");
        soon(node.shutdown()).await.unwrap();
    }
}

#[tokio::test]
async fn contacts_that_are_not_who_they_should_be_are_counted_and_forgotten() {
    let address = Arc::new(member(400)).local().address;
    let nobody = |n| Contact::new(NodeId::from_limbs([n, n, n, n]), address.clone());
    let liar = liar(401, values(Vec::new(), (1..=20).map(nobody).collect()));
    let node = node(&[door(&liar.local())]).await;
    assert!(soon(node.get(value(TRUTH).key())).await.unwrap().is_none());
    let core = node.stats().await.unwrap().core;
    assert!(core.failures >= 1, "{core:?}");
    assert_eq!((core.contacts, core.in_flight), (1, 0), "{core:?}");
    soon(node.ping(liar.local())).await.unwrap();
}
