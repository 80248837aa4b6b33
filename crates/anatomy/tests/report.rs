//! What people read, as snapshots over the example models; a change of wording or layout shows here.
//! The counts and the cache of the example follow by hand from its configuration: 12,288 + 7,680 + 27,648 + 224 numbers,
//! and 3 layers × 2 heads × 4 × 2 × 2 bytes a token.
#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::path::Path;

use anatomy::analysis::Analysis;
use anatomy::atlas::Atlas;
use anatomy::model::Model;
use anatomy::report::{Bytes, Inspect, Order, Selection, Tensors};

/// Text without its ANSI styles.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((front, back)) = rest.split_once('\u{1b}') {
        out.push_str(front);
        rest = back.split_once('m').map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    out
}

fn open(name: &str) -> Model {
    Model::open(&Path::new("../../examples").join(name)).unwrap()
}

#[test]
fn inspect_of_a_folder_fits_on_a_screen_of_80_columns() {
    let model = open("tiny-llama");
    let text = plain(&Inspect::new(&Analysis::new(&model), &Atlas::new()).text(80));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.lines().count() <= 40, "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn inspect_of_a_gguf() {
    let model = open("tiny-llama.gguf");
    insta::assert_snapshot!(plain(&Inspect::new(&Analysis::new(&model), &Atlas::new()).text(100)));
}

#[test]
fn tensors_as_a_tree() {
    let model = open("tiny-llama");
    let analysis = Analysis::new(&model);
    let tensors = Tensors::new(&analysis, &Selection::default(), Order::File);
    insta::assert_snapshot!(plain(&tensors.tree(80)));
}

#[test]
fn bytes_of_a_gguf() {
    let model = open("tiny-llama.gguf");
    insta::assert_snapshot!(plain(&Bytes::new(&model).text(100, false)));
}
