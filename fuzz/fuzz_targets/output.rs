//! What a contest program printed, compared with what was expected.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ra3_evals::contest::compare::Comparison;

fuzz_target!(|texts: (&str, &str)| {
    let exact = Comparison::default();
    assert!(exact.accepts(texts.0, texts.0), "a text equals itself");
    let eased = Comparison {
        tolerance: Some(1e-6),
        ignores_case: true,
    };
    if exact.accepts(texts.0, texts.1) {
        assert!(eased.accepts(texts.0, texts.1), "what is equal is nearly equal");
    }
});
