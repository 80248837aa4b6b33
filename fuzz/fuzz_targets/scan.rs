//! A whole scan of any bytes: no panic, no hang, nothing that grows without bounds.

#![no_main]

use std::sync::LazyLock;

use anatomy::scan::{Options, Policy, scan};
use anatomy::source::Source;
use libfuzzer_sys::fuzz_target;

static POLICY: LazyLock<Policy> = LazyLock::new(Policy::new);

fuzz_target!(|bytes: &[u8]| {
    let options = Options { policy: &POLICY, explain: true };
    let scan = scan(&Source::memory("file.pkl", bytes.to_vec()), options).expect("memory can be read");
    assert!(scan.programs.iter().all(|program| program.text.len() < 1 << 20));
});
