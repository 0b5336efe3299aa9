//! Bytes as the frame of a request, as they are and behind a right header.
#![no_main]

#[path = "../../../kad-net/tests/wire/network.rs"]
mod network;
#[allow(dead_code, reason = "answers are another target")]
#[path = "../../../kad-net/tests/wire/reading.rs"]
mod reading;

use bytes::Bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    reading::try_request(&Bytes::copy_from_slice(bytes));
    for kind in 1..=4 {
        reading::try_request(&[&[1, kind, 0], bytes].concat().into());
    }
});
