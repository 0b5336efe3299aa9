//! Reads and writes the bodies of frames, value by value. Apart from derives, bincode is used in this file alone.
//!
//! bincode decides how an integer, an option or a list length looks; everything that protects the decoder is added
//! here. A list is read by a loop of ours with a cap and a check that its elements can be there at all, so bincode
//! never allocates; every read counts against a limit; what is left over at the end is an error.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::de::read::{BorrowReader, Reader};
use bincode::de::{BorrowDecode, Decode, Decoder as _, DecoderImpl};
use bincode::enc::write::Writer;
use bincode::enc::{Encode, EncoderImpl};
use bytes::Bytes;

use super::{DecodeError, EncodeError, HEADER_BYTES, MAX_EXTENSION_BYTES, MAX_EXTENSIONS, VERSION};
use crate::MAX_FRAME;

/// The limit counts the width of integers, not what they take on the wire; a message within its caps stays below it.
type Config = Configuration<LittleEndian, Varint, Limit<MAX_FRAME>>;
const CONFIG: Config = bincode::config::standard().with_limit::<MAX_FRAME>();

/// Reads a body from its first byte to its last.
pub(super) struct BodyReader<'a>(DecoderImpl<Rest<'a>, Config, ()>);

impl<'a> BodyReader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self(DecoderImpl::new(Rest(body), CONFIG, ()))
    }

    /// A byte, an integer, a fixed array, an option of these, or a struct of the codec's own that derives `Decode`.
    pub(super) fn value<T: Decode<()>>(&mut self) -> Result<T, DecodeError> {
        T::decode(&mut self.0).map_err(refusal)
    }

    /// A list of bytes, as a part of the frame.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        BorrowDecode::borrow_decode(&mut self.0).map_err(refusal)
    }

    /// The number of elements of a list whose elements take at least `smallest` bytes each.
    pub(super) fn count(
        &mut self,
        name: &'static str,
        most: usize,
        smallest: usize,
    ) -> Result<usize, DecodeError> {
        let count = self.value::<u64>()?;
        let count = usize::try_from(count).ok().filter(|&count| count <= most);
        let count = count.ok_or(DecodeError::TooManyElements(name))?;
        match count * smallest > self.remaining() {
            true => Err(DecodeError::Truncated),
            false => Ok(count),
        }
    }

    /// Passes over the extensions, of which none is known, and sees that nothing follows.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        self.finish_with(None).map(drop)
    }

    /// The same where one number is known. Its bytes, if it is there.
    pub(super) fn finish_with(mut self, known: Option<u16>) -> Result<Option<&'a [u8]>, DecodeError> {
        let (mut bytes, mut found) = (0, None);
        for _ in 0..self.count("extensions", MAX_EXTENSIONS, 2)? {
            let number = self.value::<u16>()?;
            let payload = self.bytes()?;
            bytes += payload.len();
            if Some(number) == known && found.replace(payload).is_some() {
                return Err(DecodeError::TooManyElements("extensions of one number"));
            }
        }
        if bytes > MAX_EXTENSION_BYTES {
            return Err(DecodeError::TooManyExtensionBytes);
        }
        match self.remaining() {
            0 => Ok(found),
            _ => Err(DecodeError::TrailingBytes),
        }
    }

    /// What was not read yet.
    pub(super) fn rest(mut self) -> &'a [u8] {
        self.0.reader().0
    }

    fn remaining(&mut self) -> usize {
        self.0.reader().0.len()
    }
}

/// Writes a frame: header, body, and the list of extensions, which is empty in nearly all.
pub(super) struct BodyWriter(EncoderImpl<Frame, Config>);

impl BodyWriter {
    /// Starts a frame with room for a body of `size_hint` bytes.
    pub(super) fn new(kind: u8, flags: u8, size_hint: usize) -> Self {
        let mut frame = Vec::with_capacity((HEADER_BYTES + size_hint + 1).min(MAX_FRAME));
        frame.extend([VERSION, kind, flags]);
        Self(EncoderImpl::new(Frame(frame), CONFIG))
    }

    /// Starts a part of something else: no header, no extensions.
    pub(super) const fn part() -> Self {
        Self(EncoderImpl::new(Frame(Vec::new()), CONFIG))
    }

    /// The bytes of a part.
    pub(super) fn into_part(self) -> Vec<u8> {
        self.0.into_writer().0
    }

    /// The counterpart of [`BodyReader::value`].
    pub(super) fn value<T: Encode>(&mut self, value: &T) -> Result<(), EncodeError> {
        // The only error that our writer and our types can give is that of a full frame.
        value.encode(&mut self.0).map_err(|_| EncodeError::TooLarge)
    }

    /// The counterpart of [`BodyReader::bytes`].
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        bytes.encode(&mut self.0).map_err(|_| EncodeError::TooLarge)
    }

    /// The counterpart of [`BodyReader::count`].
    pub(super) fn count(&mut self, count: usize) -> Result<(), EncodeError> {
        self.value(&(count as u64))
    }

    pub(super) fn finish(self) -> Result<Bytes, EncodeError> {
        self.finish_with(None)
    }

    /// Ends with this extension.
    pub(super) fn finish_with(mut self, extension: Option<(u16, &[u8])>) -> Result<Bytes, EncodeError> {
        self.count(usize::from(extension.is_some()))?;
        if let Some((number, payload)) = extension {
            self.value(&number)?;
            self.bytes(payload)?;
        }
        Ok(self.0.into_writer().0.into())
    }
}

/// What is left of a body.
struct Rest<'a>(&'a [u8]);

impl Reader for Rest<'_> {
    #[inline]
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), bincode::error::DecodeError> {
        bytes.copy_from_slice(self.take_bytes(bytes.len())?);
        Ok(())
    }

    #[inline]
    fn peek_read(&mut self, n: usize) -> Option<&[u8]> {
        self.0.get(..n)
    }

    #[inline]
    fn consume(&mut self, n: usize) {
        self.0 = self.0.get(n..).unwrap_or_default();
    }
}

impl<'a> BorrowReader<'a> for Rest<'a> {
    #[inline]
    fn take_bytes(&mut self, length: usize) -> Result<&'a [u8], bincode::error::DecodeError> {
        let Some((taken, rest)) = self.0.split_at_checked(length) else {
            let additional = length - self.0.len();
            return Err(bincode::error::DecodeError::UnexpectedEnd { additional });
        };
        self.0 = rest;
        Ok(taken)
    }
}

/// A frame that refuses to grow beyond the largest.
struct Frame(Vec<u8>);

impl Writer for Frame {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        if bytes.len() > MAX_FRAME - self.0.len() {
            return Err(bincode::error::EncodeError::UnexpectedEnd);
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// A claim beyond the limit is one that the frame cannot keep, so it is the same as an early end.
#[cold]
fn refusal(error: bincode::error::DecodeError) -> DecodeError {
    use bincode::error::DecodeError as Inner;
    match error {
        Inner::UnexpectedEnd { .. } | Inner::LimitExceeded => DecodeError::Truncated,
        _ => DecodeError::Body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_cannot_be_there_is_refused_before_it_is_read() {
        // 252 announces a u32: a list of 2^30 elements in six bytes.
        let claim = [252, 0, 0, 0, 64, 0];
        assert_eq!(
            BodyReader::new(&claim).count("things", 32, 1),
            Err(DecodeError::TooManyElements("things"))
        );
        assert_eq!(
            BodyReader::new(&[32, 0, 0]).count("things", 32, 1),
            Err(DecodeError::Truncated)
        );
        assert_eq!(BodyReader::new(&claim).bytes(), Err(DecodeError::Truncated));
    }

    #[test]
    fn extensions_are_passed_over_within_their_bounds() {
        let finish = |body: &[u8]| BodyReader::new(body).finish();
        assert_eq!(finish(&[0]), Ok(()));
        assert_eq!(finish(&[2, 7, 0, 251, 0, 1, 3, 1, 2, 3]), Ok(()));
        assert_eq!(finish(&[]), Err(DecodeError::Truncated));
        assert_eq!(finish(&[1, 7]), Err(DecodeError::Truncated));
        assert_eq!(finish(&[1, 7, 2, 0]), Err(DecodeError::Truncated));
        assert_eq!(finish(&[0, 0]), Err(DecodeError::TrailingBytes));
        assert_eq!(finish(&[17; 64]), Err(DecodeError::TooManyElements("extensions")));
        let largest = |size: u16| {
            let [low, high] = size.to_le_bytes();
            let mut body = vec![1, 7, 251, low, high];
            body.resize(body.len() + usize::from(size), 0);
            finish(&body)
        };
        assert_eq!(largest(MAX_EXTENSION_BYTES as u16), Ok(()));
        assert_eq!(
            largest(MAX_EXTENSION_BYTES as u16 + 1),
            Err(DecodeError::TooManyExtensionBytes)
        );
    }

    #[test]
    fn a_frame_never_grows_beyond_the_largest() {
        let mut body = BodyWriter::new(1, 0, 0);
        assert_eq!(body.bytes(&vec![0; MAX_FRAME]), Err(EncodeError::TooLarge));
        let mut body = BodyWriter::new(1, 0, usize::MAX / 2);
        // Three of the header, five of the length, one of the extensions.
        assert_eq!(body.bytes(&vec![0; MAX_FRAME - 9]), Ok(()));
        assert_eq!(body.finish().map(|frame| frame.len()), Ok(MAX_FRAME));
    }
}
