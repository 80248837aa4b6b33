//! The reader of ggml, whatever the first bytes say.
#![no_main]

#[path = "../../crates/anatomy/tests/common/invariants.rs"]
mod invariants;

use invariants::check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    check(Some("ggml"), data);
});
