//! The bytes of one stream of an application on one path.
//!
//! ```text
//! DATA  00 [length 2] [1 to 16384 bytes]     the next bytes, whose place follows from what came before
//! ACK   01 [place 8]                         the application has taken everything before this place
//! FIN   02                                   nothing follows; takes one place, like a byte
//! RESET 03                                   nothing follows, and what came is not whole
//! STOP  04                                   nothing more is read
//! ```
//!
//! Numbers are big-endian. A side that answers an opening or a resumption first says where it is: eight bytes, the
//! place of the next byte that it lacks.

use bytes::{BufMut, Bytes, BytesMut};

/// The most bytes of one DATA frame: its head is lost in them, and a stream holds no other back for long.
pub(super) const MAX_DATA: usize = 16 * 1024;

/// One frame to be sent, but for the bytes of DATA, which are written right behind its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// At most [`MAX_DATA`] bytes, in two parts as they lie in the buffer.
    Data(&'a [u8], &'a [u8]),
    Ack(u64),
    Fin,
    Reset,
    Stop,
}

impl Frame<'_> {
    /// Appends its bytes.
    pub(super) fn put(&self, out: &mut BytesMut) {
        match *self {
            Self::Data(one, other) => {
                let length = one.len() + other.len();
                debug_assert!((1..=MAX_DATA).contains(&length), "a frame has its bounds");
                out.reserve(3 + length);
                out.put_u8(DATA);
                out.put_u16(length as u16);
                out.put_slice(one);
                out.put_slice(other);
            }
            Self::Ack(place) => {
                out.put_u8(ACK);
                out.put_u64(place);
            }
            Self::Fin => out.put_u8(FIN),
            Self::Reset => out.put_u8(RESET),
            Self::Stop => out.put_u8(STOP),
        }
    }
}

/// One thing that was read. A DATA frame may come in several parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// Where the other side is; only at the beginning.
    Place(u64),
    Data(Bytes),
    Ack(u64),
    Fin,
    Reset,
    Stop,
}

/// The bytes were no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoFrame;

/// Cuts what arrives into frames, however it is cut itself. Holds nine bytes at most.
pub(super) struct FrameCutter {
    head: [u8; HEAD],
    filled: usize,
    /// Bytes of a DATA frame that are still to come.
    data: usize,
    /// Whether a place comes first.
    place: bool,
}

impl FrameCutter {
    /// `place` says whether the other side first says where it is.
    pub(super) const fn new(place: bool) -> Self {
        Self {
            head: [0; HEAD],
            filled: 0,
            data: 0,
            place,
        }
    }

    /// The next thing of what arrived; `None` when more must arrive first.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Option<Item>, NoFrame> {
        loop {
            if input.is_empty() {
                return Ok(None);
            }
            if self.data > 0 {
                let part = input.split_to(self.data.min(input.len()));
                self.data -= part.len();
                return Ok(Some(Item::Data(part)));
            }
            let size = self.head_size()?;
            let part = input.split_to((size - self.filled).min(input.len()));
            self.head[self.filled..self.filled + part.len()].copy_from_slice(&part);
            self.filled += part.len();
            // The first byte says how many there are.
            if self.filled == 0 || self.filled < self.head_size()? {
                continue;
            }
            self.filled = 0;
            if std::mem::take(&mut self.place) {
                return Ok(Some(Item::Place(self.number(0))));
            }
            return Ok(Some(match self.head[0] {
                DATA => {
                    self.data = usize::from(u16::from_be_bytes([self.head[1], self.head[2]]));
                    if !(1..=MAX_DATA).contains(&self.data) {
                        return Err(NoFrame);
                    }
                    continue;
                }
                ACK => Item::Ack(self.number(1)),
                FIN => Item::Fin,
                RESET => Item::Reset,
                STOP => Item::Stop,
                _ => return Err(NoFrame),
            }));
        }
    }

    /// How long the head is that is being read, as far as can be said now.
    const fn head_size(&self) -> Result<usize, NoFrame> {
        if self.place {
            return Ok(PLACE);
        }
        if self.filled == 0 {
            return Ok(1);
        }
        match self.head[0] {
            DATA => Ok(3),
            ACK => Ok(HEAD),
            FIN | RESET | STOP => Ok(1),
            _ => Err(NoFrame),
        }
    }

    fn number(&self, from: usize) -> u64 {
        let mut number = [0; PLACE];
        number.copy_from_slice(&self.head[from..from + PLACE]);
        u64::from_be_bytes(number)
    }
}

const DATA: u8 = 0;
const ACK: u8 = 1;
const FIN: u8 = 2;
const RESET: u8 = 3;
const STOP: u8 = 4;

/// Bytes of a place.
const PLACE: usize = 8;

/// Bytes of the longest head, that of an ACK.
const HEAD: usize = 9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = (Item, Vec<u8>)> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..300)
                .prop_map(|data| (Item::Data(data.clone().into()), data)),
            any::<u64>().prop_map(|place| (Item::Ack(place), Vec::new())),
            Just((Item::Fin, Vec::new())),
            Just((Item::Reset, Vec::new())),
            Just((Item::Stop, Vec::new())),
        ]
    }

    fn put(item: &Item, out: &mut BytesMut) {
        match item {
            Item::Data(data) => {
                let (one, other) = data.split_at(data.len() / 3);
                Frame::Data(one, other).put(out);
            }
            Item::Ack(place) => Frame::Ack(*place).put(out),
            Item::Fin => Frame::Fin.put(out),
            Item::Reset => Frame::Reset.put(out),
            Item::Stop => Frame::Stop.put(out),
            Item::Place(place) => out.put_u64(*place),
        }
    }

    /// Parts of one DATA frame as one.
    fn joined(items: Vec<Item>) -> Vec<Item> {
        let mut all: Vec<Item> = Vec::new();
        for item in items {
            match (all.last_mut(), item) {
                (Some(Item::Data(before)), Item::Data(more)) => {
                    *before = [&before[..], &more[..]].concat().into();
                }
                (_, item) => all.push(item),
            }
        }
        all
    }

    proptest! {
        #[test]
        fn frames_come_back_however_they_are_cut(
            frames in proptest::collection::vec(any_frame(), 0..20),
            place in proptest::option::of(any::<u64>()),
            cuts in proptest::collection::vec(1usize..40, 1..50),
        ) {
            let mut items: Vec<Item> = place.map(Item::Place).into_iter().collect();
            items.extend(frames.into_iter().map(|(item, _)| item));
            let mut bytes = BytesMut::new();
            items.iter().for_each(|item| put(item, &mut bytes));
            let mut bytes = bytes.freeze();
            let mut cutter = FrameCutter::new(place.is_some());
            let mut read = Vec::new();
            for cut in cuts.iter().cycle() {
                if bytes.is_empty() {
                    break;
                }
                let mut part = bytes.split_to((*cut).min(bytes.len()));
                while let Some(item) = cutter.next(&mut part).unwrap() {
                    read.push(item);
                }
                prop_assert!(part.is_empty());
            }
            prop_assert_eq!(joined(read), joined(items));
        }

        #[test]
        fn any_bytes_end_in_items_or_a_refusal(bytes in proptest::collection::vec(any::<u8>(), 0..200), place: bool) {
            let mut input = Bytes::from(bytes);
            let mut cutter = FrameCutter::new(place);
            let mut before = input.len();
            while let Ok(Some(_)) = cutter.next(&mut input) {
                prop_assert!(input.len() < before);
                before = input.len();
            }
        }
    }

    #[test]
    fn data_of_no_bytes_or_too_many_is_refused() {
        for length in [0u16, MAX_DATA as u16 + 1, u16::MAX] {
            let [high, low] = length.to_be_bytes();
            let mut input = Bytes::copy_from_slice(&[DATA, high, low, 7]);
            assert_eq!(FrameCutter::new(false).next(&mut input), Err(NoFrame), "{length}");
        }
        assert_eq!(
            FrameCutter::new(false).next(&mut Bytes::from_static(&[5, 0])),
            Err(NoFrame)
        );
    }
}
