//! Which records are stored together.

use kad_core::{MAX_BULK, Prefix, Record};

use super::Numbered;

/// Bytes of records in one bulk: copied to 20 holders they are on their way for half a minute over an uplink of 6
/// Mbit/s, and a query may take a minute.
const MAX_BULK_BYTES: usize = 1 << 20;

/// Sorts records by key and cuts them where a region ends, or where they are too many for one query.
pub(super) fn bulks(mut records: Vec<Numbered>, bits: u8) -> Vec<Vec<Numbered>> {
    records.sort_by_key(|(_, record)| record.key());
    let region = |record: &Record| Prefix::new(record.key().to_limbs()[0], bits);
    let mut bulks: Vec<Vec<Numbered>> = Vec::new();
    let (mut of, mut bytes) = (None, 0);
    for (position, record) in records {
        bytes += record.as_bytes().len();
        match bulks.last_mut() {
            Some(bulk) if of == Some(region(&record)) && bulk.len() < MAX_BULK && bytes <= MAX_BULK_BYTES => {
                bulk.push((position, record));
            }
            _ => {
                (of, bytes) = (Some(region(&record)), record.as_bytes().len());
                bulks.push(vec![(position, record)]);
            }
        }
    }
    bulks
}

#[cfg(test)]
mod tests {
    use kad_core::{NetworkId, Parameters, Rules};
    use proptest::prelude::*;

    use super::*;
    use crate::driver::unix_now;

    fn record(number: u64, bytes: usize) -> Numbered {
        let parameters = Parameters::default();
        let rules = Rules::new(NetworkId::new("test", &parameters), &parameters);
        let now = unix_now();
        let end = now + std::time::Duration::from_secs(100);
        let value = [&number.to_be_bytes()[..], &vec![0; bytes]].concat();
        (number, Record::immutable(&value, end, &rules, now).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_record_is_in_one_bulk_of_its_region_and_neighbours_are_together(
            sizes in prop::collection::vec(prop_oneof![0_usize..50, 30_000_usize..65_000], 0..600),
            bits in 0_u8..7,
        ) {
            let records: Vec<_> = sizes.iter().zip(0..).map(|(size, number)| record(number, *size)).collect();
            let cut = bulks(records, bits);
            let mut seen: Vec<u64> = cut.iter().flatten().map(|(position, _)| *position).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..sizes.len() as u64).collect::<Vec<_>>());
            let region = |record: &Record| Prefix::new(record.key().to_limbs()[0], bits);
            let bytes = |bulk: &[Numbered]| -> usize { bulk.iter().map(|(_, record)| record.as_bytes().len()).sum() };
            for bulk in &cut {
                prop_assert!(!bulk.is_empty() && bulk.len() <= MAX_BULK);
                prop_assert!(bytes(bulk) <= MAX_BULK_BYTES);
                prop_assert!(bulk.iter().all(|(_, record)| region(record) == region(&bulk[0].1)));
            }
            for pair in cut.windows(2) {
                let next = &pair[1][0].1;
                let is_full = pair[0].len() == MAX_BULK || bytes(&pair[0]) + next.as_bytes().len() > MAX_BULK_BYTES;
                prop_assert!(is_full || region(&pair[0][0].1) != region(next), "cut for nothing");
            }
        }
    }
}
