//! Bytes as the frame of an answer to each kind of request, as they are and behind a right header.
#![no_main]

#[path = "../../../kad-net/tests/wire/network.rs"]
mod network;
#[allow(dead_code, reason = "requests are another target")]
#[path = "../../../kad-net/tests/wire/reading.rs"]
mod reading;

use bytes::Bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let as_it_is = Bytes::copy_from_slice(bytes);
    for asked in reading::questions() {
        reading::try_answer(&as_it_is, &asked);
        for kind in [0x81, 0x82, 0x83, 0x84, 0xff] {
            reading::try_answer(&[&[1, kind, 0], bytes].concat().into(), &asked);
        }
    }
});
