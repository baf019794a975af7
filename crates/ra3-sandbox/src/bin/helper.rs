//! The helper as a program of its own, for tests; the `ra3` binary is its own helper.

fn main() {
    ra3_sandbox::helper_main_if_requested();
}
