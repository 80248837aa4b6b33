//! Tokenizer files.
#![no_main]

#[path = "../../crates/anatomy/tests/common/invariants.rs"]
mod invariants;

use invariants::check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    check(Some("sentencepiece"), data);
    check(Some("tokenizer-json"), data);
    check(Some("tekken"), data);
    check(Some("tiktoken"), data);
});
