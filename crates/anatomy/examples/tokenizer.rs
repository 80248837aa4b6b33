//! Sums up the tokenizer in each directory or file: `cargo run --example tokenizer -- PATH...`

use std::path::{Path, PathBuf};

use anatomy::source::Source;

#[allow(clippy::print_stdout)]
fn main() {
    for path in std::env::args().skip(1) {
        let mut paths: Vec<PathBuf> = match std::fs::read_dir(&path) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect(),
            Err(_) => vec![PathBuf::from(&path)],
        };
        paths.sort();
        let sources: Vec<Source> = paths.iter().filter_map(|path| Source::open(Path::new(path)).ok()).collect();
        let begin = std::time::Instant::now();
        let summary = anatomy::tokenizer::summarise(sources.iter().map(|source| (source.name(), source)));
        let milliseconds = begin.elapsed().as_millis();
        println!("{}", serde_json::json!({"path": path, "milliseconds": milliseconds, "tokenizer": summary}));
    }
}
