//! What a candidate sends as the interpreter writes it: a value of plain types, or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ra3_sandbox::marshal::{self, Arguments, Plain};

fuzz_target!(|bytes: &[u8]| {
    if let Some(value) = marshal::read(bytes) {
        assert!(value.is_well_formed(), "{value:?}");
        let _ = value.equals(&value);
        let _ = value.display(100);
        let _ = Plain::of(&value);
        let _ = Arguments::of(&[value]);
    }
});
