//! What the scan reads of texts: JSON, YAML, Python, expressions, each by the name that leads there.
#![no_main]

use anatomy::scan::{Options, Policy, scan};
use anatomy::source::Source;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let names = ["config.json", "a.yaml", "modeling.py", "tokenizer.json", "a.jinja", "saved_model.pb", "a.h5", "a.onnx"];
    let name = names[usize::from(*first) % names.len()];
    let policy = Policy::new();
    scan(&Source::memory(name, rest.to_vec()), Options { policy: &policy, explain: false }).unwrap();
});
