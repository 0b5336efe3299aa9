//! What a message costs to write and to read.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use kad_core::{
    Contact, Duration, Key, Keypair, MutableVersion, NetworkId, NodeId, Parameters, Record, Request,
    Response, Rules, StoreEntry, UnixTime,
};
use kad_net::wire::{Codec, Scope};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn rules() -> Rules {
    let parameters = Parameters::default();
    Rules::new(NetworkId::new("nautilus", &parameters), &parameters)
}

fn nodes(criterion: &mut Criterion) {
    let codec = Codec::new(rules(), Scope::Global);
    let contact = |n: u8| {
        let address = SocketAddr::from(([8, 8, 8, n], 4000 + u16::from(n)));
        Contact::new(NodeId::from_bytes([n; 32]), address)
    };
    let response = Response::Nodes {
        closer: (0..20).map(contact).collect(),
        card: None,
    };
    let asked = Request::FindNode {
        target: Key::default(),
        card: false,
    };
    let frame = codec.encode_response(NOW, &response).expect("20 contacts");
    criterion.bench_function("encode nodes, 20", |bench| {
        bench.iter(|| codec.encode_response(NOW, black_box(&response)));
    });
    criterion.bench_function("decode nodes, 20", |bench| {
        bench.iter(|| codec.decode_response::<SocketAddr>(NOW, black_box(&frame).clone(), &asked));
    });
}

fn store(criterion: &mut Criterion) {
    let codec = Codec::new(rules(), Scope::Global);
    let lifetime = Duration::from_secs(3600);
    let value = [7; 1024];
    let version = MutableVersion {
        salt: b"salt",
        seq: 1,
        issued: NOW,
        expiry: NOW + lifetime,
        value: Some(&value),
    };
    let immutable = Record::immutable(&value, NOW + lifetime, &rules(), NOW);
    let mutable = Record::mutable(&Keypair::from_secret(&[1; 32]), &version, &rules(), NOW);
    for (name, record) in [("immutable", immutable), ("mutable", mutable)] {
        let entries = vec![StoreEntry {
            record,
            expected: None,
        }];
        let request = Request::Store { entries };
        let frame = codec.encode_request(NOW, false, &request).expect("one record");
        criterion.bench_function(&format!("encode store, {name} of 1 KiB"), |bench| {
            bench.iter(|| codec.encode_request(NOW, false, black_box(&request)));
        });
        criterion.bench_function(&format!("decode and verify store, {name} of 1 KiB"), |bench| {
            bench.iter(|| codec.decode_request(NOW, black_box(&frame).clone()));
        });
    }
}

criterion_group!(benches, nodes, store);
criterion_main!(benches);
