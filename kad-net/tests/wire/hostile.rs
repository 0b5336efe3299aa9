//! Arbitrary bytes and damaged messages: never a panic, never more memory than the frame justifies, and what is
//! accepted says the same again when it is written anew.

use bytes::Bytes;
use kad_net::MAX_FRAME;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::messages::{Family, NOW, codec, exchange, request};
use super::reading::{questions, try_answer, try_request};

#[test]
fn arbitrary_bytes_are_read_or_refused() {
    bolero::check!()
        .with_iterations(20_000)
        .with_max_len(512)
        .for_each(|bytes: &[u8]| {
            // As they are, and behind a header that is right.
            let kind = bytes.first().copied().unwrap_or_default();
            let mut framed = vec![
                1,
                if kind & 1 == 0 {
                    kind >> 1 & 7
                } else {
                    0x80 | kind >> 1 & 7
                },
                0,
            ];
            framed.extend(bytes);
            for frame in [Bytes::copy_from_slice(bytes), framed.into()] {
                try_request(&frame);
                questions().iter().for_each(|asked| try_answer(&frame, asked));
            }
        });
}

/// How a message is damaged.
#[derive(Debug, Clone, bolero::TypeGenerator)]
enum Damage {
    Set { at: u16, to: u8 },
    Flip { at: u16, bit: u8 },
    Cut { at: u16 },
    Insert { at: u16, byte: u8 },
    Remove { at: u16 },
    Repeat { at: u16, length: u8 },
}

impl Damage {
    fn apply(&self, frame: &mut Vec<u8>) {
        // The first bytes decide the most, so half of the blows fall there.
        let place = |at: u16, length: usize| match (at & 1, length) {
            (_, 0) => 0,
            (0, length) => usize::from(at >> 1) % length,
            (_, length) => usize::from(at >> 1) % length.min(64),
        };
        let length = frame.len();
        match *self {
            Self::Insert { at, byte } => frame.insert(place(at, length), byte),
            _ if frame.is_empty() => {}
            Self::Set { at, to } => frame[place(at, length)] = to,
            Self::Flip { at, bit } => frame[place(at, length)] ^= 1 << (bit & 7),
            Self::Cut { at } => frame.truncate(place(at, length)),
            Self::Remove { at } => drop(frame.remove(place(at, length))),
            Self::Repeat { at, length: more } => {
                let start = place(at, length);
                let end = (start + usize::from(more)).min(length);
                frame.extend_from_within(start..end);
            }
        }
    }
}

fn sample<S: Strategy>(strategy: &S, seed: u64) -> S::Value {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    strategy.new_tree(&mut runner).expect("a message").current()
}

#[test]
fn damaged_messages_are_read_or_refused() {
    bolero::check!()
        .with_iterations(3_000)
        .with_max_len(512)
        .with_type::<(u64, Vec<Damage>)>()
        .for_each(|(seed, damage)| {
            let hurt = |frame: Bytes| {
                let mut frame = frame.to_vec();
                damage.iter().for_each(|damage| damage.apply(&mut frame));
                frame.truncate(MAX_FRAME + 1);
                Bytes::from(frame)
            };
            let request = sample(&request(), *seed);
            try_request(&hurt(codec().encode_request(NOW, false, &request).unwrap()));
            let (asked, response) = sample(&exchange(Family::Both), *seed);
            try_answer(&hurt(codec().encode_response(NOW, &response).unwrap()), &asked);
        });
}
