//! The life of one state machine, decided by the fuzzer: commands, requests, answers to anything, jumps of both clocks.
//! Panics if the machine breaks its contract: an answer for each request, a timer while something waits, a bound for
//! every list.
#![no_main]

#[allow(dead_code, reason = "the tests of kad-core use more of it")]
#[path = "../../../kad-core/tests/network/contract.rs"]
mod contract;
#[path = "../../../kad-core/tests/machine/life.rs"]
mod life;

libfuzzer_sys::fuzz_target!(|choices: &[u8]| {
    life::live(choices);
});
