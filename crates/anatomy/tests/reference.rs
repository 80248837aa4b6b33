//! The readers against the formats' reference libraries: gguf-py and safetensors read the same headers, and
//! `tools/make-truth.py` wrote down what they saw.

// A helper that fails is a failed test, but clippy's allowances for tests do not reach helpers.
#![allow(clippy::expect_used)]

mod common;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anatomy::container::Container;
use anatomy::ledger::Kind;
use anatomy::metadata::Value;
use anatomy::probe;
use anatomy::source::{ReadAt, Source};
use anatomy::tensor::Tensor;
use flate2::read::GzDecoder;
use serde_json::{Value as Json, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reference")
}

fn unpack(name: &str) -> Vec<u8> {
    let file = std::fs::File::open(folder().join(name)).expect("a fixture");
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).expect("gzip");
    bytes
}

/// A header with zeros behind it, up to the length of the file that it comes from.
struct Sparse {
    head: Vec<u8>,
    len: u64,
}

impl ReadAt for Sparse {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        buffer.fill(0);
        let rest = usize::try_from(offset).ok().and_then(|offset| self.head.get(offset..)).unwrap_or_default();
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}

/// Opens each fixture with this extension and hands it over with what the reference library saw.
fn each(extension: &str, test: impl Fn(&str, &Container, &Json)) {
    let expected: Json = serde_json::from_slice(&unpack("expected.json.gz")).expect("JSON");
    let mut tested = 0;
    for (name, truth) in expected.as_object().expect("an object") {
        if !name.ends_with(extension) {
            continue;
        }
        let len = truth["file_bytes"].as_u64().expect("a length");
        let source = Source::new(&**name, Arc::new(Sparse { head: unpack(&format!("{name}.head.gz")), len }));
        let (identity, container) = probe::open(&source).expect("a container");
        assert_eq!(identity.format.id, extension, "{name}");
        common::invariants::promises(&container, len);
        assert_eq!(container.ledger.total(Kind::Unexplained), 0, "{name}");
        test(name, &container, truth);
        tested += 1;
    }
    assert!(tested >= 12, "only {tested} fixtures");
}

/// A tensor in the words of the fixtures.
fn row(tensor: &Tensor, reverse: bool) -> Json {
    let mut shape = tensor.shape.clone();
    if reverse {
        shape.reverse();
    }
    let span = tensor.span.expect("a place");
    assert_eq!(span.len, tensor.bytes);
    json!([tensor.name, shape, tensor.dtype.name(), span.start, tensor.bytes])
}

#[test]
fn gguf_tensors_and_metadata_are_those_of_gguf_py() {
    each("gguf", |name, container, truth| {
        assert!(container.findings.is_empty(), "{name}: {:#?}", container.findings);
        let tensors: Vec<Json> = container.tensors.iter().map(|tensor| row(tensor, true)).collect();
        assert_eq!(json!(tensors), truth["tensors"], "{name}");

        let wanted = truth["metadata"].as_object().expect("an object");
        let keys: Vec<&str> = container.metadata.entries().iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, wanted.keys().collect::<Vec<_>>(), "{name}");
        for (entry, wanted) in container.metadata.entries().iter().zip(wanted.values()) {
            let place = format!("{name}: {}", entry.key);
            assert_eq!(json!(entry.kind), wanted[0], "{place}");
            let Value::Array(array) = &entry.value else {
                assert_eq!(plain(&entry.value), wanted[1], "{place}");
                continue;
            };
            // gguf-py cannot say of what an empty array is.
            if array.len > 0 {
                assert_eq!(json!(array.element), wanted[1], "{place}");
            }
            assert_eq!(json!(array.len), wanted[2], "{place}");
            if let Some(items) = wanted[3].as_array() {
                assert_eq!(array.items.iter().map(plain).collect::<Vec<_>>(), *items, "{place}");
            }
        }
    });
}

/// A value in the words of the fixtures: floats as the bits of a double.
fn plain(value: &Value) -> Json {
    match value {
        Value::Bool(value) => json!(value),
        Value::Unsigned(number) => json!(number),
        Value::Signed(number) => json!(number),
        Value::Float(number) => json!({ "float": format!("{:016x}", number.to_bits()) }),
        Value::Text(text) => json!(text),
        other => json!(format!("{other:?}")),
    }
}

#[test]
fn safetensors_tensors_and_metadata_are_those_of_the_reference_library() {
    each("safetensors", |name, container, truth| {
        let errors = container.findings.iter().any(|finding| finding.severity() != anatomy::Severity::Note);
        assert!(!errors, "{name}: {:#?}", container.findings);
        let mut tensors: Vec<&Tensor> = container.tensors.iter().collect();
        tensors.sort_by_key(|tensor| tensor.span.expect("a place").start);
        let tensors: Vec<Json> = tensors.into_iter().map(|tensor| row(tensor, false)).collect();
        assert_eq!(json!(tensors), truth["tensors"], "{name}");
        for (key, value) in truth["metadata"].as_object().expect("an object") {
            assert_eq!(container.metadata.text(key), value.as_str(), "{name}: {key}");
        }
    });
}

#[test]
fn the_example_is_without_fault() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let shard = |number| format!("tiny-llama/model-0000{number}-of-00002.safetensors");
    let open = |name: &str| probe::open(&Source::open(&examples.join(name)).expect("a file")).expect("a container").1;
    let files = [open("tiny-llama.gguf"), open(&shard(1)), open(&shard(2))];
    for file in &files {
        assert!(file.findings.is_empty(), "{:#?}", file.findings);
        assert_eq!(file.ledger.total(Kind::Unexplained), 0);
    }
    let elements = |file: &Container| file.tensors.iter().map(Tensor::elements).sum::<u64>();
    // The GGUF has the two factors of the rotary embedding besides.
    assert_eq!((elements(&files[0]) - 2, elements(&files[1]) + elements(&files[2])), (47_840, 47_840));
}
