//! Data files: what is read is written and read again as the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ra3_evals::json;

fuzz_target!(|text: &str| {
    if let Ok(value) = json::parse(text) {
        let again = json::parse(&json::write(&value)).expect("what was written is JSON");
        assert_eq!(json::write(&again), json::write(&value));
    }
});
