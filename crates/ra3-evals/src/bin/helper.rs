//! The sandbox's helper for this crate's tests: cargo builds it with them, for their profile and in
//! their folder.

fn main() {
    ra3_sandbox::helper_main_if_requested();
}
