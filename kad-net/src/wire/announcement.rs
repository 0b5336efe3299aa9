//! Where a provider can be reached, in front of what it adds to its announcement.
//!
//! ```text
//!   "kad-addr"  address  payload of the application…
//! ```
//!
//! The announcement is signed with all of it, so nobody else can say where a provider is. Announcements without this
//! layout come from others than this library, or from nodes that do not know where they can be reached; all of their
//! payload is the application's.

use bytes::Bytes;

use super::body::{BodyReader, BodyWriter};
use super::contacts::{read_address, write_address};
use super::{EncodeError, Scope};
use crate::WireAddress;

/// What an announcement with an address begins with: long enough that no other payload does by chance.
const MARKER: &[u8; 8] = b"kad-addr";

/// An empty list of sockets.
const NO_SOCKETS: u8 = 0;

/// What a provider signs: its address, and the payload of the application.
///
/// # Errors
/// [`EncodeError::TooManySockets`].
pub fn announce<A: WireAddress>(address: &A, payload: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let mut part = BodyWriter::part();
    write_address(&mut part, address)?;
    Ok([MARKER, &part.into_part()[..], payload].concat())
}

/// What a provider signs that does not say where it is: the payload as it is, or behind an empty address if it would be
/// read as one that has an address.
#[must_use]
pub fn without_address(payload: &[u8]) -> Vec<u8> {
    match payload.starts_with(MARKER) {
        true => [MARKER, &[NO_SOCKETS][..], payload].concat(),
        false => payload.to_vec(),
    }
}

/// What a provider signed, taken apart: where it can be reached, of which sockets outside of the scope are left out,
/// and the payload of the application.
#[must_use]
pub fn announced<A: WireAddress>(signed: &Bytes, scope: Scope) -> (Option<A>, Bytes) {
    let Some(rest) = signed.strip_prefix(MARKER) else {
        return (None, signed.clone());
    };
    let mut body = BodyReader::new(rest);
    match read_address(&mut body, scope) {
        Ok(address) => (address, signed.slice_ref(body.rest())),
        Err(_) => (None, signed.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;

    fn back(signed: Vec<u8>, scope: Scope) -> (Option<SocketAddr>, Bytes) {
        announced(&Bytes::from(signed), scope)
    }

    #[test]
    fn the_bytes_are_those_of_the_document() {
        let address: SocketAddr = "192.0.2.7:4000".parse().unwrap();
        let signed = announce(&address, b"here").unwrap();
        assert_eq!(signed, b"kad-addr\x01\x00\xc0\x00\x02\x07\xfb\xa0\x0fhere");
        assert_eq!(
            back(signed, Scope::Any),
            (Some(address), Bytes::from_static(b"here"))
        );
    }

    #[test]
    fn what_has_not_the_layout_is_all_payload() {
        for payload in [
            &b""[..],
            b"https://example.org/it",
            b"kad-add",
            b"kad-addr",
            b"kad-addr\x05",
            b"kad-addr\x01\x00\x01",
            b"kad-addr\x01\x02\x01\x01\x01\x01\x01",
        ] {
            assert_eq!(
                back(payload.to_vec(), Scope::Any),
                (None, Bytes::copy_from_slice(payload))
            );
        }
    }

    #[test]
    fn an_address_outside_of_the_scope_is_left_out_and_the_payload_is_not() {
        let address: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        let signed = announce(&address, b"here").unwrap();
        assert_eq!(back(signed, Scope::Global), (None, Bytes::from_static(b"here")));
    }

    proptest! {
        #[test]
        fn what_is_announced_comes_back_whatever_the_payload(
            address in proptest::option::of(any::<SocketAddr>()),
            with_marker: bool,
            payload in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let payload = if with_marker { [&MARKER[..], &payload].concat() } else { payload };
            let canonical = address.map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()));
            let signed = match &address {
                Some(address) => announce(address, &payload).unwrap(),
                None => without_address(&payload),
            };
            prop_assert_eq!(back(signed, Scope::Any), (canonical, Bytes::from(payload)));
        }

        #[test]
        fn no_bytes_are_lost_or_made_up(signed in prop::collection::vec(any::<u8>(), 0..40), with_marker: bool) {
            let signed = if with_marker { [&MARKER[..], &signed].concat() } else { signed };
            let (_, payload) = back(signed.clone(), Scope::Any);
            prop_assert!(signed.ends_with(&payload));
        }
    }
}
