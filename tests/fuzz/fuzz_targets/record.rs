//! Bytes as a record: parsed and verified or refused, and what is verified verifies again.
#![no_main]

use bytes::Bytes;
use kad_core::{Duration, MAX_VALUE, NetworkId, Parameters, RawRecord, Record, Rules, UnixTime};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// The life that a peer says an immutable record has left, in seconds from the first two bytes.
fn left(bytes: &mut Bytes) -> Duration {
    let mut seconds = [0; 2];
    let taken = bytes.split_to(bytes.len().min(2));
    seconds[..taken.len()].copy_from_slice(&taken);
    Duration::from_secs(32 * u64::from(u16::from_be_bytes(seconds)))
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let parameters = Parameters::default();
    let rules = Rules::new(NetworkId::new("fuzz", &parameters), &parameters);
    let mut bytes = Bytes::copy_from_slice(bytes);
    let expiry = NOW + left(&mut bytes);
    let Ok(raw) = RawRecord::parse(bytes.clone(), expiry) else {
        return;
    };
    assert_eq!(raw.as_bytes(), &bytes);
    assert!(raw.value().len() <= MAX_VALUE);
    let Ok(record) = Record::verify(raw, &rules, NOW) else {
        return;
    };
    let again = RawRecord::parse(record.as_bytes().clone(), record.expiry()).unwrap();
    assert_eq!(Record::verify(again, &rules, NOW), Ok(record));
});
