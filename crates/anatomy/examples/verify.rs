//! Verifies the tokenizer of each model: `cargo run --example verify -- PATH...`, one JSON document a line.

use std::path::Path;

use anatomy::analysis::Analysis;
use anatomy::model::Model;

#[allow(clippy::print_stdout)]
fn main() {
    for path in std::env::args().skip(1) {
        let model = match Model::open(Path::new(&path)) {
            Ok(model) => model,
            Err(error) => {
                println!("{}", serde_json::json!({"path": path, "error": error.to_string()}));
                continue;
            }
        };
        let analysis = Analysis::new(&model);
        let begin = std::time::Instant::now();
        let tokenizers = anatomy::tokenizer::of(&model);
        let read = begin.elapsed().as_micros();
        let begin = std::time::Instant::now();
        let indices: Vec<_> = tokenizers.iter().map(anatomy::tokenizer::Index::new).collect();
        let verdict = anatomy::check::tokenizer::verify_with(&analysis, &indices);
        let verified = begin.elapsed().as_micros();
        let findings = &verdict.findings;
        println!(
            "{}",
            serde_json::json!({"path": path, "tokenizers": tokenizers.len(), "read_us": read, "verify_us": verified,
                "matches": verdict.matches, "why": verdict.why, "findings": findings})
        );
    }
}
