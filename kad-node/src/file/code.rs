//! Parity chunks: Reed-Solomon over the chunks of a stripe.
//!
//! A stripe is up to [`Code::data`] chunks of the file and [`Code::parity`] chunks made of them, and any [`Code::data`]
//! of them all restore the rest. `docs/protocol.md` has the code in one formula, and a test here compares the library
//! with it.
//!
//! The library makes tables of 8 MiB when it is first used, and keeps them.
//!
//! What this module refuses to do: tell right chunks from wrong ones. Their keys do that.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use reed_solomon_simd::engine::DefaultEngine;
use reed_solomon_simd::rate::{HighRateDecoder, HighRateEncoder, RateDecoder as _, RateEncoder as _};

/// The most data chunks of a stripe. A stripe is held in memory where chunks are missing: 256 chunks are 15 MiB. And a
/// node of the index holds whole stripes: seven of the largest.
pub const MAX_DATA: u8 = 128;

/// The most parity chunks of a stripe, for the same reasons.
pub const MAX_PARITY: u8 = 128;

/// How many chunks are added to how many: `10+6` are 6 parity chunks for each 10 chunks of the file.
///
/// ```
/// use kad_node::file::Code;
///
/// let code: Code = "10+6".parse()?;
/// assert_eq!((code.data(), code.parity(), code.to_string().as_str()), (10, 6, "10+6"));
/// assert_eq!(code, Code::new(10, 6)?);
/// assert!("10".parse::<Code>().is_err());
/// # Ok::<(), kad_node::file::CodeError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code {
    data: u8,
    parity: u8,
}

/// Why something is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// Not two numbers with a plus sign between them.
    #[error("a code is written as DATA+PARITY, such as 10+6")]
    Syntax,
    /// No stripe has so many data chunks.
    #[error("a stripe has 1 to {MAX_DATA} data chunks, not {0}")]
    Data(u8),
    /// No stripe has so many parity chunks.
    #[error("a stripe has 1 to {MAX_PARITY} parity chunks, not {0}")]
    Parity(u8),
}

impl Code {
    /// A code with so many data chunks, 1 to [`MAX_DATA`], and parity chunks, 1 to [`MAX_PARITY`].
    ///
    /// # Errors
    /// [`CodeError::Data`] or [`CodeError::Parity`].
    pub const fn new(data: u8, parity: u8) -> Result<Self, CodeError> {
        if data == 0 || data > MAX_DATA {
            return Err(CodeError::Data(data));
        }
        if parity == 0 || parity > MAX_PARITY {
            return Err(CodeError::Parity(parity));
        }
        Ok(Self { data, parity })
    }

    /// Chunks of the file in each stripe but the last, which may have fewer.
    #[must_use]
    pub const fn data(self) -> u8 {
        self.data
    }

    /// Chunks that are added to each stripe: so many of it may be lost.
    #[must_use]
    pub const fn parity(self) -> u8 {
        self.parity
    }

    /// The parity chunks that the code has room for. A single one would be the sum of the data chunks, and so the same
    /// as the only chunk of a stripe: both would be the same record.
    fn columns(self) -> usize {
        usize::from(self.parity).max(2)
    }

    /// The parity chunks of a stripe, given its data chunks in order.
    pub(super) fn encode(self, data: &[Bytes]) -> Vec<Bytes> {
        let length = shard(data.iter().map(Bytes::len).max().unwrap_or_default());
        let engine = DefaultEngine::new();
        let encode = || {
            let mut encoder = HighRateEncoder::new(data.len(), self.columns(), length, engine, None)?;
            for chunk in data {
                encoder.add_original_shard(padded(chunk, length))?;
            }
            let encoded = encoder.encode()?;
            let parity = encoded.recovery_iter().take(self.parity.into());
            Ok::<_, reed_solomon_simd::Error>(parity.map(Bytes::copy_from_slice).collect())
        };
        encode().expect("all shards are there, of the same even length, and no more than a Code allows")
    }

    /// The data chunks of a stripe that are missing, each with its place and zeros up to `length`, which is that of all
    /// parity chunks. `None` if there are fewer than as many chunks as the stripe has data chunks.
    pub(super) fn restore(
        self,
        data: &[Option<Bytes>],
        parity: &[Option<Bytes>],
        length: usize,
    ) -> Option<Vec<(usize, Bytes)>> {
        let engine = DefaultEngine::new();
        let mut decoder = HighRateDecoder::new(data.len(), self.columns(), length, engine, None).ok()?;
        for (i, chunk) in (0..).zip(data) {
            if let Some(chunk) = chunk {
                decoder.add_original_shard(i, padded(chunk, length)).ok()?;
            }
        }
        for (i, chunk) in (0..).zip(parity) {
            if let Some(chunk) = chunk {
                decoder.add_recovery_shard(i, chunk).ok()?;
            }
        }
        let restored = decoder.decode().ok()?;
        let restored = restored.restored_original_iter();
        Some(
            restored
                .map(|(i, chunk)| (i, Bytes::copy_from_slice(chunk)))
                .collect(),
        )
    }
}

/// The length of parity chunks, given that of the longest data chunk: the code works on pairs of bytes.
pub(super) const fn shard(longest: usize) -> usize {
    longest.next_multiple_of(2)
}

/// Only the last chunk of a file is shorter than its stripe's parity.
fn padded(chunk: &Bytes, length: usize) -> Bytes {
    match chunk.len() < length {
        true => {
            let mut whole = chunk.to_vec();
            whole.resize(length, 0);
            whole.into()
        }
        false => chunk.clone(),
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.data, self.parity)
    }
}

impl FromStr for Code {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let number = |digits: &str| digits.parse().map_err(|_| CodeError::Syntax);
        let (data, parity) = text.split_once('+').ok_or(CodeError::Syntax)?;
        Self::new(number(data)?, number(parity)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    use super::*;

    /// GF(2^16) the slow way: polynomials over GF(2) modulo x^16 + x^5 + x^3 + x^2 + 1, and the numbers that stand for
    /// them.
    struct Field {
        /// The element that a number stands for.
        element: Vec<u16>,
        /// The number that stands for an element.
        number: Vec<u16>,
    }

    /// Bit i of a number stands for the i-th of these.
    const BASIS: [u16; 16] = [
        0x0001, 0xacca, 0x3c0e, 0x163e, 0xc582, 0xed2e, 0x914c, 0x4012, 0x6c98, 0x10d8, 0x6a72, 0xb900,
        0xfdb8, 0xfb34, 0xff38, 0x991e,
    ];

    impl Field {
        fn new() -> Self {
            let mut field = Self {
                element: vec![0; 1 << 16],
                number: vec![0; 1 << 16],
            };
            for number in 0..=u16::MAX {
                let bits = (0..16).filter(|bit| number >> bit & 1 == 1);
                let element = bits.fold(0, |sum, bit| sum ^ BASIS[bit]);
                field.element[usize::from(number)] = element;
                field.number[usize::from(element)] = number;
            }
            field
        }

        fn multiply(a: u16, b: u16) -> u16 {
            let mut product = 0;
            let mut a = u32::from(a);
            for bit in 0..16 {
                if b >> bit & 1 == 1 {
                    product ^= a as u16;
                }
                a <<= 1;
                if a >> 16 == 1 {
                    a ^= 0x1_002d;
                }
            }
            product
        }

        fn invert(a: u16) -> u16 {
            // To the power of 2^16 - 2.
            let (mut result, mut square) = (1, a);
            for _ in 1..16 {
                square = Self::multiply(square, square);
                result = Self::multiply(result, square);
            }
            result
        }

        /// What data chunk `data` counts in parity chunk `parity`, of as many: the formula of the documentation.
        fn coefficient(&self, data: u16, parity: u16, count: u16) -> u16 {
            let m = count.max(2).next_power_of_two();
            let at = |number: u16| self.element[usize::from(number)];
            let others = (0..m).filter(|other| *other != parity);
            others.fold(1, |product, other| {
                let above = at(m + data) ^ at(other);
                let below = at(parity) ^ at(other);
                Self::multiply(product, Self::multiply(above, Self::invert(below)))
            })
        }

        /// The symbols of a chunk, as the documentation lays them out.
        fn symbols(&self, chunk: &[u8]) -> Vec<u16> {
            let blocks = chunk.chunks(64).flat_map(|block| {
                let (low, high) = block.split_at(block.len() / 2);
                low.iter()
                    .zip(high)
                    .map(|(low, high)| u16::from_le_bytes([*low, *high]))
            });
            blocks.map(|number| self.element[usize::from(number)]).collect()
        }
    }

    fn noise(seed: usize, length: usize) -> Bytes {
        let mut bytes = vec![0; length];
        blake3::Hasher::new()
            .update(&seed.to_le_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        bytes.into()
    }

    #[test]
    fn parity_is_what_the_formula_of_the_documentation_says() {
        let field = Field::new();
        for (data, parity, length) in [
            (1, 1, 2),
            (10, 6, 130),
            (3, 9, 64),
            (5, 2, 1),
            (128, 3, 66),
            (2, 128, 6),
        ] {
            let chunks: Vec<Bytes> = (0..data).map(|i| noise(i, length)).collect();
            let made = Code::new(data as u8, parity as u8).unwrap().encode(&chunks);
            assert_eq!(made.len(), usize::from(parity));
            let symbols: Vec<_> = chunks
                .iter()
                .map(|chunk| field.symbols(&padded(chunk, shard(length))))
                .collect();
            for (j, made) in (0..).zip(made) {
                let mut sum = vec![0; shard(length) / 2];
                for (i, symbols) in (0..).zip(&symbols) {
                    let coefficient = field.coefficient(i, j, parity);
                    for (sum, symbol) in sum.iter_mut().zip(symbols) {
                        *sum ^= Field::multiply(coefficient, *symbol);
                    }
                }
                assert_eq!(field.symbols(&made), sum, "{data}+{parity}, chunk {j}");
            }
        }
    }

    #[test]
    fn the_only_chunk_of_a_stripe_differs_from_all_its_parity_so_that_each_has_a_key_of_its_own() {
        let field = Field::new();
        for count in [1, 2, 6, 16, 100, 128] {
            for data in [0, 1, 9, 127] {
                let mut coefficients: Vec<_> =
                    (0..count).map(|j| field.coefficient(data, j, count)).collect();
                coefficients.push(1);
                coefficients.sort_unstable();
                coefficients.dedup();
                assert_eq!(coefficients.len(), usize::from(count) + 1, "{data} of {count}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_six_of_sixteen_may_be_lost_and_no_seven(
            lost in subsequence((0..16).collect::<Vec<usize>>(), 0..=7),
            length in 1_usize..200,
            last in 1_usize..200,
        ) {
            let code = Code::new(10, 6).unwrap();
            let mut data: Vec<_> = (0..10).map(|i| noise(i, length)).collect();
            data[9].truncate(last);
            let mut found: Vec<_> = data.iter().cloned().chain(code.encode(&data)).map(Some).collect();
            for i in &lost {
                found[*i] = None;
            }
            let (found_data, found_parity) = found.split_at(10);
            match code.restore(found_data, found_parity, shard(length)) {
                None => prop_assert_eq!(lost.len(), 7),
                Some(restored) => {
                    prop_assert!(lost.len() < 7);
                    let wanted: Vec<_> = lost.iter().copied().filter(|i| *i < 10).collect();
                    prop_assert_eq!(restored.iter().map(|(i, _)| *i).collect::<Vec<_>>(), wanted);
                    for (i, chunk) in restored {
                        prop_assert_eq!(chunk, padded(&data[i], shard(length)));
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_code_is_refused_by_name() {
        for text in [
            "", "10", "+", "10+", "+6", "10-6", "10+6+1", "300+1", "-1+2", "a+b",
        ] {
            assert_eq!(text.parse::<Code>(), Err(CodeError::Syntax), "{text}");
        }
        assert_eq!("0+6".parse::<Code>(), Err(CodeError::Data(0)));
        assert_eq!("129+6".parse::<Code>(), Err(CodeError::Data(129)));
        assert_eq!("10+0".parse::<Code>(), Err(CodeError::Parity(0)));
        assert_eq!("10+129".parse::<Code>(), Err(CodeError::Parity(129)));
        assert!("128+128".parse::<Code>().is_ok());
    }
}
