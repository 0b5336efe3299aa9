//! What stores hold, on the wire: prefixes, fingerprints, marks.
//!
//! ```text
//! prefix       bits  length:1
//! fingerprint  count  sum:16
//! difference   0 | 1 fingerprint×16 | 2 count mark:8 …
//! ```
//!
//! Sums and marks are big-endian.

use bincode::{Decode, Encode};
use kad_core::summary::{MAX_COMPARED, MAX_LISTED, MAX_MARKS, MAX_PREFIX_BITS, PARTS};
use kad_core::{Difference, Fingerprint, MAX_RECORDS, Prefix};

use super::body::{BodyReader, BodyWriter};
use super::{DecodeError, EncodeError};

const SAME: u8 = 0;
const IN_PARTS: u8 = 1;
const LISTED: u8 = 2;

/// Bytes of the smallest part on the wire: two bytes of prefix, and a fingerprint.
const SMALLEST_PART: usize = 2 + SMALLEST_FINGERPRINT;

/// Bytes of the smallest fingerprint on the wire.
const SMALLEST_FINGERPRINT: usize = 1 + 16;

/// Bytes of a mark on the wire.
const MARK: usize = 8;

#[derive(Encode, Decode)]
struct PrefixBody {
    bits: u64,
    length: u8,
}

#[derive(Encode, Decode)]
struct FingerprintBody {
    count: u32,
    sum: [u8; 16],
}

pub(super) const fn parts_size_hint(parts: usize) -> usize {
    1 + parts * (9 + 1 + 5 + 16)
}

pub(super) fn marks_size_hint(marks: usize) -> usize {
    5 + marks * MARK
}

pub(super) fn differences_size_hint(differences: &[Difference]) -> usize {
    let one = |difference: &Difference| match difference {
        Difference::Same => 1,
        Difference::Parts(_) => 1 + PARTS * (5 + 16),
        Difference::Listed(marks) => 1 + marks_size_hint(marks.len()),
    };
    1 + differences.iter().map(one).sum::<usize>()
}

pub(super) fn write_prefix(body: &mut BodyWriter, prefix: Prefix) -> Result<(), EncodeError> {
    body.value(&PrefixBody {
        bits: prefix.bits(),
        length: prefix.len(),
    })
}

/// A prefix is written in one way only: no bits beyond its length.
pub(super) fn read_prefix(body: &mut BodyReader<'_>) -> Result<Prefix, DecodeError> {
    let PrefixBody { bits, length } = body.value()?;
    let prefix = Prefix::new(bits, length);
    match length <= MAX_PREFIX_BITS && prefix.bits() == bits {
        true => Ok(prefix),
        false => Err(DecodeError::BadPrefix),
    }
}

fn write_fingerprint(body: &mut BodyWriter, fingerprint: Fingerprint) -> Result<(), EncodeError> {
    body.value(&FingerprintBody {
        count: fingerprint.count,
        sum: fingerprint.sum.to_be_bytes(),
    })
}

fn read_fingerprint(body: &mut BodyReader<'_>) -> Result<Fingerprint, DecodeError> {
    let FingerprintBody { count, sum } = body.value()?;
    let sum = u128::from_be_bytes(sum);
    Ok(Fingerprint { count, sum })
}

pub(super) fn write_parts(body: &mut BodyWriter, parts: &[(Prefix, Fingerprint)]) -> Result<(), EncodeError> {
    if parts.len() > MAX_COMPARED {
        return Err(EncodeError::TooManyParts);
    }
    body.count(parts.len())?;
    for &(prefix, fingerprint) in parts {
        write_prefix(body, prefix)?;
        write_fingerprint(body, fingerprint)?;
    }
    Ok(())
}

pub(super) fn read_parts(body: &mut BodyReader<'_>) -> Result<Vec<(Prefix, Fingerprint)>, DecodeError> {
    let count = body.count("parts", MAX_COMPARED, SMALLEST_PART)?;
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        parts.push((read_prefix(body)?, read_fingerprint(body)?));
    }
    Ok(parts)
}

/// Marks that are asked for.
pub(super) fn write_marks(body: &mut BodyWriter, marks: &[u64]) -> Result<(), EncodeError> {
    if marks.len() > MAX_RECORDS {
        return Err(EncodeError::TooManyRecords);
    }
    write_list(body, marks)
}

/// Marks that are asked for.
pub(super) fn read_marks(body: &mut BodyReader<'_>) -> Result<Vec<u64>, DecodeError> {
    read_list(body, MAX_RECORDS)
}

fn write_list(body: &mut BodyWriter, marks: &[u64]) -> Result<(), EncodeError> {
    body.count(marks.len())?;
    marks.iter().try_for_each(|mark| body.value(&mark.to_be_bytes()))
}

fn read_list(body: &mut BodyReader<'_>, most: usize) -> Result<Vec<u64>, DecodeError> {
    let count = body.count("marks", most, MARK)?;
    let mut marks = Vec::with_capacity(count);
    for _ in 0..count {
        marks.push(u64::from_be_bytes(body.value()?));
    }
    Ok(marks)
}

pub(super) fn write_differences(
    body: &mut BodyWriter,
    differences: &[Difference],
) -> Result<(), EncodeError> {
    if differences.len() > MAX_COMPARED {
        return Err(EncodeError::TooManyParts);
    }
    body.count(differences.len())?;
    let mut told = 0;
    for difference in differences {
        match difference {
            Difference::Same => body.value(&SAME)?,
            Difference::Parts(fingerprints) => {
                body.value(&IN_PARTS)?;
                for &fingerprint in fingerprints.iter() {
                    write_fingerprint(body, fingerprint)?;
                }
            }
            Difference::Listed(marks) => {
                told += marks.len();
                if marks.len() > MAX_LISTED || told > MAX_MARKS {
                    return Err(EncodeError::TooManyMarks);
                }
                body.value(&LISTED)?;
                write_list(body, marks)?;
            }
        }
    }
    Ok(())
}

/// As many differences as parts were asked about.
pub(super) fn read_differences(
    body: &mut BodyReader<'_>,
    asked: usize,
) -> Result<Vec<Difference>, DecodeError> {
    let count = body.count("differences", MAX_COMPARED, 1)?;
    if count != asked {
        return Err(DecodeError::WrongDifferences);
    }
    let mut room = MAX_MARKS;
    let mut differences = Vec::with_capacity(count);
    for _ in 0..count {
        differences.push(match body.value::<u8>()? {
            SAME => Difference::Same,
            IN_PARTS => {
                let mut fingerprints = [Fingerprint::default(); PARTS];
                for fingerprint in &mut fingerprints {
                    *fingerprint = read_fingerprint(body)?;
                }
                Difference::Parts(Box::new(fingerprints))
            }
            LISTED => {
                let marks = read_list(body, MAX_LISTED.min(room))?;
                room -= marks.len();
                Difference::Listed(marks)
            }
            _ => return Err(DecodeError::UnknownValue("form of difference")),
        });
    }
    Ok(differences)
}
