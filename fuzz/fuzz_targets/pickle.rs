//! Wrapped tests of LiveCodeBench: nothing but a text comes out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ra3_evals::livecodebench::payload;

fuzz_target!(|bytes: &[u8]| {
    let _ = payload::text_of_pickle(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = payload::text(text);
    }
});
