//! tiktoken ranks and Tekken, read and run.
#![no_main]

#[path = "../run.rs"]
mod run;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| run::tokenizers("ranks.tiktoken", data));
