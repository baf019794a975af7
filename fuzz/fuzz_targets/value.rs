//! What a candidate sends: a value, which is compared, shown, and written anew for a checker.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ra3_sandbox::Arguments;
use ra3_sandbox::value::Value;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    if value.is_well_formed() {
        let _ = value.equals(&value);
        let _ = value.display(100);
        let _ = value.has_opaque();
        let _ = value.as_f64();
        let is_literal = !value.has_opaque();
        assert!(!is_literal || !value.to_python().contains('\n'), "a literal is one line");
        if is_literal {
            let _ = Arguments::of(&[value]);
        }
    }
});
