//! What a candidate sends as the interpreter writes it: a value of plain types, or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ra3_sandbox::marshal;

fuzz_target!(|bytes: &[u8]| {
    let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    if let Some(value) = marshal::read(&hex) {
        assert!(value.is_well_formed(), "{value:?}");
        let _ = value.equals(&value);
        let _ = value.display(100);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = marshal::read(text);
    }
});
