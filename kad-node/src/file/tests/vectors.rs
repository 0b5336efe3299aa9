//! The test vectors of files in `docs/protocol.md`: what is printed there is what is stored.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;

use super::super::Code;
use super::super::seal::tests::secret;
use super::super::tree::Room;
use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

/// The lines `name = hex` of the block marked `file-vectors`; a line that is indented continues the one before.
fn printed() -> BTreeMap<String, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
    let text = std::fs::read_to_string(path).expect("docs/protocol.md");
    let block = text.split_once("```file-vectors\n").expect("it has the block").1;
    let block = block.split_once("```").expect("it ends").0;
    let mut vectors: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        match (line.split_once(" = "), vectors.last_mut()) {
            (Some((name, value)), _) => vectors.push((name.into(), value.into())),
            (None, Some((_, value))) => value.push_str(line.trim()),
            (None, None) => panic!("a line that continues nothing: {line}"),
        }
    }
    vectors.into_iter().collect()
}

fn usual() -> Plan {
    Plan {
        room: Room::of_network(64 * 1024),
        ..plan(1)
    }
}

/// What is stored of a file, in order.
async fn stored(options: FileOptions, bytes: &[u8]) -> (StoredFile<u32>, Vec<(Key, Bytes)>) {
    let map = Map::default();
    let given = options.encrypt.then(|| secret(5));
    let stored = put::store(&map, usual(), options, given, bytes, |_| ())
        .await
        .unwrap();
    let values = map.values.lock().unwrap();
    let in_order = map.books.lock().unwrap().put_in_order.clone();
    let records = in_order
        .into_iter()
        .map(|key| (key, values[&key].1.clone()))
        .collect();
    drop(values);
    (stored, records)
}

#[tokio::test]
async fn the_documentation_prints_what_is_stored() {
    let mut vectors = BTreeMap::new();
    let mut vector = |name: &str, value: String| vectors.insert(name.to_owned(), value);

    let words = ["hello ", "world,", "again."].map(|word| Bytes::from(word.as_bytes()));
    for (i, parity) in (0..).zip(Code::new(3, 3).unwrap().encode(&words)) {
        vector(&format!("parity {i} of hello world again"), hex(&parity));
    }

    let pattern: Vec<u8> = (0_u32..61_441).map(|i| (i % 251) as u8).collect();
    let coded = FileOptions::default().code(Code::new(2, 2).unwrap());
    let (file, records) = stored(coded, &pattern).await;
    vector("key of the coded file", file.key.to_string());
    vector("root of the coded file", hex(&records[4].1));
    vector("beginning of its first parity chunk", hex(&records[2].1[..32]));

    let (file, records) = stored(FileOptions::default().encrypt(true), b"hello").await;
    let sealed = &records[0].1;
    vector(
        "reference of the sealed file",
        file.reference().reveal().replace('#', ""),
    );
    vector("root of the sealed file", hex(&records[1].1));
    vector("beginning of its chunk", hex(&sealed[..32]));
    vector("end of its chunk", hex(&sealed[sealed.len() - 32..]));

    let (file, records) = stored(coded.encrypt(true), &pattern).await;
    vector("key of the sealed and coded file", file.key.to_string());
    vector("root of the sealed and coded file", hex(&records[4].1));

    let all = vectors.iter().fold(String::new(), |mut all, (name, value)| {
        writeln!(all, "{name} = {value}").expect("a string takes everything");
        all
    });
    assert!(printed() == vectors, "docs/protocol.md should have:\n{all}");
}
