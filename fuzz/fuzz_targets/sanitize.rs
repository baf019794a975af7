//! What a model wrote: the program that is taken out of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ra3_evals::sanitize::sanitize;

fuzz_target!(|text: &str| {
    if text.len() < 2000 {
        let _ = sanitize(text, Some("f"));
    }
});
