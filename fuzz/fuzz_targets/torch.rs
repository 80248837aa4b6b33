//! The three containers of PyTorch.
#![no_main]

#[path = "../../crates/anatomy/tests/common/invariants.rs"]
mod invariants;

use invariants::check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    check(Some("pytorch-zip"), data);
    check(Some("pytorch-legacy"), data);
    check(Some("pytorch-tar"), data);
});
