//! Every format that `tools/make-format-fixtures.py` writes: identified, read as the reference says, whole, cut and damaged.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::cast_possible_truncation)] // it is a test

use std::path::{Path, PathBuf};

use anatomy::container::Container;
use anatomy::dtype::DType;
use anatomy::ledger::Kind;
use anatomy::source::Source;
use anatomy::{Severity, probe};
use proptest::prelude::*;
use serde_json::Value;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats")
}

/// All fixtures: format, path, bytes.
fn fixtures() -> Vec<(String, PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for folder in std::fs::read_dir(data()).unwrap() {
        let folder = folder.unwrap().path();
        for file in std::fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().path();
            if !file.to_string_lossy().ends_with(".expected.json") {
                let format = folder.file_name().unwrap().to_string_lossy().into_owned();
                all.push((format, file.clone(), std::fs::read(&file).unwrap()));
            }
        }
    }
    all.sort();
    assert!(all.len() > 60);
    all
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(data().join(name)).unwrap()
}

/// Opens bytes and checks what holds for any file: the ledger covers it exactly.
fn open(name: &str, bytes: &[u8]) -> (String, String, Container) {
    let source = Source::memory(name, bytes.to_vec());
    let (identity, container) = probe::open(&source).unwrap_or_else(|error| panic!("{error}"));
    let mut at = 0;
    for range in container.ledger.ranges() {
        assert_eq!(range.start, at, "{name}: a hole or overlap at {at}");
        assert!(range.end > range.start);
        at = range.end;
    }
    assert_eq!(at, bytes.len() as u64, "{name}: the ledger ends too early");
    (identity.format.id.to_string(), identity.evidence, container)
}

fn rules(container: &Container) -> Vec<&'static str> {
    container.findings.iter().map(|finding| finding.rule.name).collect()
}

fn fact<'a>(container: &'a Container, key: &str) -> Option<&'a str> {
    container.facts.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str())
}

#[test]
fn every_format_is_identified_by_its_bytes_alone() {
    for (format, path, bytes) in fixtures() {
        let (found, evidence, _) = open("no-extension", &bytes);
        assert_eq!(found, format, "{}: {evidence}", path.display());
    }
}

#[test]
fn tensors_are_as_the_reference_says() {
    let mut compared = 0;
    for (_, path, bytes) in fixtures() {
        let expected = PathBuf::from(format!("{}.expected.json", path.display()));
        let Ok(expected) = std::fs::read(expected) else { continue };
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let Some(tensors) = expected["tensors"].as_array() else { continue };
        let name = path.display().to_string();
        let (_, _, container) = open(&name, &bytes);
        assert!(
            container.findings.iter().all(|finding| finding.severity() == Severity::Note),
            "{name}: {:?}",
            container.findings
        );
        assert_eq!(container.ledger.total(Kind::Unexplained), 0, "{name}");
        assert_eq!(fact(&container, "family"), expected["family"].as_str(), "{name}");
        assert_eq!(container.tensors.len(), tensors.len(), "{name}");
        for want in tensors {
            let same = |tensor: &&anatomy::tensor::Tensor| {
                tensor.name == want["name"].as_str().unwrap()
                    && tensor.dtype.name() == want["dtype"].as_str().unwrap()
                    && serde_json::json!(tensor.shape) == want["shape"]
                    && tensor.bytes == want["bytes"].as_u64().unwrap()
                    && want["start"].as_u64().is_none_or(|start| tensor.span.unwrap().start == start)
            };
            assert!(
                container.tensors.iter().any(|tensor| same(&tensor)),
                "{name}: {want} not in {:?}",
                container.tensors
            );
            compared += 1;
        }
    }
    assert!(compared > 80, "{compared}");
}

#[test]
fn a_file_cut_at_any_byte_is_still_read() {
    for (format, path, bytes) in fixtures() {
        let name = path.display().to_string();
        let step = 1 + bytes.len() / 4000;
        for end in (0..bytes.len()).step_by(step) {
            let (found, evidence, container) = open("cut", &bytes[..end]);
            // With half of the file there, formats with a structure are still known.
            let lasting = ["ggml", "onnx", "hdf5", "tflite", "executorch", "sentencepiece", "tokenizer-json", "tekken"];
            if lasting.contains(&format.as_str()) && end > bytes.len() / 2 {
                assert_eq!(found, format, "{name} cut at {end}: {evidence}");
                let silent = ["tflite", "executorch", "onnx", "ggml"].contains(&format.as_str())
                    || found.contains("sentencepiece");
                assert!(silent || evidence.contains("cut"), "{name} cut at {end}: {evidence}");
            }
            if ["ggml", "onnx"].contains(&format.as_str()) && end > bytes.len() / 2 {
                let whole = open("whole", &bytes).2.tensors;
                let cut_between_tensors = container.tensors.len() < whole.len();
                let told = container.findings.iter().any(|finding| finding.severity() == Severity::Error);
                assert!(
                    told || cut_between_tensors || format == "onnx",
                    "{name} cut at {end}: {:?}",
                    container.findings
                );
            }
        }
    }
}

#[test]
fn a_cut_onnx_keeps_the_tensors_before_the_cut() {
    let bytes = fixture("onnx/model.onnx");
    let (_, _, whole) = open("whole", &bytes);
    let count = 1 + whole.tensors.iter().position(|tensor| tensor.name == "half").unwrap();
    let half = &whole.tensors[count - 1];
    let (_, evidence, container) = open("cut", &bytes[..half.span.unwrap().end() as usize]);
    assert!(evidence.contains("cut"), "{evidence}");
    assert!(rules(&container).contains(&"onnx-truncated"));
    assert_eq!(container.tensors, whole.tensors[..count]);
}

#[test]
fn onnx_external_data_is_placed_and_escapes_are_errors() {
    let bytes = fixture("onnx/model.onnx");
    let (_, _, container) = open("model.onnx", &bytes);
    let external = &container.external[0];
    assert_eq!((external.path.as_str(), external.span.start, external.span.len), ("weights.data", 4096, 64));
    assert_eq!(container.tensors[external.tensor].name, "external");
    assert_eq!(container.tensors[external.tensor].span, None);

    let at = bytes.windows(12).position(|window| window == b"weights.data").unwrap();
    for path in [b"../../passwd", b"/etc//passwd", b"C:\\x\\\\passwd", b"a/../../pass"] {
        let mut bytes = bytes.clone();
        bytes[at..at + 12].copy_from_slice(path);
        assert!(rules(&open("model.onnx", &bytes).2).contains(&"onnx-external-path"));
    }
}

fn field(number: u64, value: &[u8]) -> Vec<u8> {
    let mut out = varint(number << 3 | 2);
    out.extend(varint(value.len() as u64));
    out.extend(value);
    out
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number > 127 {
        out.push((number & 127) as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

#[test]
fn onnx_graphs_nested_without_end_stop_at_the_limit() {
    // A node with an attribute with a graph with a node, and so on.
    let mut graph = field(2, b"innermost");
    for _ in 0..5000 {
        graph = field(1, &field(5, &field(6, &graph)));
    }
    let bytes = [varint(8), varint(8), field(7, &graph)].concat();
    let (format, _, container) = open("deep.onnx", &bytes);
    assert_eq!(format, "onnx");
    assert!(rules(&container).contains(&"onnx-nested-too-deep"));
}

#[test]
fn onnx_tensors_that_lie_about_their_size_are_found() {
    let tensor = |dims: &[u64], length: usize| {
        let mut out: Vec<u8> = dims.iter().flat_map(|dimension| [varint(8), varint(*dimension)].concat()).collect();
        out.extend([varint(16), varint(1), field(8, b"w"), field(9, &vec![0; length])].concat());
        let model = [varint(8), varint(8), field(7, &field(5, &out))].concat();
        open("model.onnx", &model).2
    };
    assert!(rules(&tensor(&[2, 3], 24)).is_empty());
    assert_eq!(rules(&tensor(&[2, 3], 23)), ["onnx-size-mismatch"]);
    assert_eq!(rules(&tensor(&[1 << 40, 1 << 40], 24)), ["onnx-size-mismatch"]);
    assert_eq!(rules(&tensor(&[1; 100], 4)), ["onnx-broken"]);
}

#[test]
fn ggml_counts_beyond_sense_are_refused_without_allocation() {
    let mut bytes = fixture("ggml/llama-ggjt3.bin");
    bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(rules(&open("model.bin", &bytes).2).contains(&"ggml-family-unknown"));
    let mut bytes = fixture("ggml/llama-unversioned.bin");
    // The first word of the vocabulary stands after seven numbers.
    bytes[32..36].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    assert!(rules(&open("model.bin", &bytes).2).contains(&"ggml-family-unknown"));
}

#[test]
fn ggml_tensor_shapes_that_overflow_end_the_walk() {
    let bytes = fixture("ggml/llama-unversioned.bin");
    let name = b"norm.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    let mut bytes = bytes.clone();
    bytes[at - 4..at].copy_from_slice(&u32::MAX.to_le_bytes());
    let (_, _, container) = open("model.bin", &bytes);
    assert!(rules(&container).contains(&"ggml-truncated"), "{:?}", container.findings);
}

#[test]
fn old_blocks_of_q4_0_take_twenty_bytes() {
    let (_, _, container) = open("model.bin", &fixture("ggml/llama-ggjt1.bin"));
    let tensor = container.tensors.iter().find(|tensor| tensor.dtype == DType::Q4_0).unwrap();
    assert_eq!(tensor.bytes, tensor.elements() / 32 * 20);
}

#[test]
fn what_people_have_instead_of_a_model_is_said_in_words() {
    let words = |name: &str| {
        let path = data().join(name);
        let source = Source::open(&path).unwrap();
        let (_, container) = probe::open(&source).unwrap();
        assert_eq!(container.findings.len(), 1, "{name}");
        (container.findings[0].severity(), container.findings[0].message.clone())
    };
    let (severity, pointer) = words("git-lfs-pointer/model.safetensors");
    assert_eq!(severity, Severity::Error);
    assert!(
        pointer.contains("not downloaded") && pointer.contains("4.6 GB") && pointer.contains("git lfs pull"),
        "{pointer}"
    );
    assert!(words("html/model.bin").1.contains("403 Forbidden"));
    assert!(words("empty/model.safetensors").1.contains("no bytes"));
    assert!(words("unknown/zeros.safetensors").1.contains("zeros"));
    assert!(words("text/posing.gguf").1.contains("plain text"));
    assert_eq!(words("unknown/noise.bin").0, Severity::Error);
}

#[test]
fn json_is_read_in_any_dress_and_its_faults_are_placed() {
    for (bytes, format, rule) in [
        (&b"{\"model_type\": \"x\", \"a\": [1,}"[..], "config-json", "json-broken"),
        (b"{\"model_type\": \"x\", \"a\": [1,", "config-json", "file-truncated"),
        (b"{\"model_type\": \"x\", \"a\": NaN}", "config-json", ""),
        (b"{\"weight_map\": {\"a.b\": \"x.safetensors\"}, \"model_type\": 1}", "safetensors-index", ""),
        (b"{\"weight_map\": {\"a.b\": \"x.bin\"}}", "pytorch-index", ""),
        (b"{'a': 1}", "text", ""),
        (b"[not json", "text", ""),
        (b"{}", "json", ""),
    ] {
        let (found, evidence, container) = open("file", bytes);
        assert_eq!(found, format, "{evidence}");
        assert_eq!(rules(&container).first().copied().unwrap_or_default(), rule);
    }
}

#[test]
fn json_nested_without_end_costs_no_stack() {
    let bytes = [b"{\"model_type\": ".as_slice(), &b"[".repeat(1 << 20)].concat();
    assert_eq!(open("file", &bytes).0, "config-json");
    let bytes = [b"{\"weight_map\": {\"a\": \"x.safetensors\"}, \"b\": ".as_slice(), &b"[".repeat(1 << 20)].concat();
    assert_eq!(open("file", &bytes).0, "safetensors-index");
}

#[test]
fn a_cut_index_yields_what_came_before() {
    let bytes = fixture("safetensors-index/model.safetensors.index.json");
    let (_, _, container) = open("index", &bytes);
    assert_eq!((fact(&container, "tensors"), fact(&container, "shards")), (Some("2"), Some("2")));
    assert_eq!(fact(&container, "declared size"), Some("12 bytes"));
    let (_, _, container) = open("index", &bytes[..bytes.len() - 4]);
    assert_eq!(fact(&container, "tensors"), Some("1"));
    assert!(rules(&container).contains(&"file-truncated"));
}

#[test]
fn tokenizers_are_summed_up() {
    let files = |names: &[&str]| {
        let sources: Vec<Source> = names.iter().map(|name| Source::memory(*name, fixture(name))).collect();
        anatomy::tokenizer::summarise(sources.iter().map(|source| (source.name(), source)))
    };
    let expected: Value = serde_json::from_slice(&fixture("tokenizer-json/tokenizer.json.expected.json")).unwrap();
    let found =
        files(&["tokenizer-json/tokenizer.json", "config-json/tokenizer_config.json", "onnx/model.onnx"]).unwrap();
    assert_eq!(found.kind, "tokenizer-json");
    assert_eq!(found.vocab_size, expected["vocab_size"].as_u64().unwrap());
    assert_eq!(found.merges, expected["merges"].as_u64());
    assert_eq!((found.added_tokens, found.model.as_str(), found.chat_template), (4, "bpe", true));
    let special = |role: &str| found.special_tokens[role].clone();
    assert_eq!((special("bos").token.as_deref(), special("bos").id), (Some("<s>"), Some(1)));
    assert_eq!((special("eos").token.as_deref(), special("eos").id), (Some("</s>"), Some(2)));

    let found = files(&["sentencepiece/tokenizer.model"]).unwrap();
    assert_eq!((found.kind, found.vocab_size, found.model.as_str()), ("sentencepiece", 32, "unigram"));
    assert_eq!(found.special_tokens["pad"].id, Some(3));
    assert_eq!(files(&["tiktoken/ranks.tiktoken"]).unwrap().vocab_size, 256);
    assert_eq!(files(&["tekken/tekken.json"]).unwrap().vocab_size, 300);
    assert_eq!(files(&["json/vocab.json"]).unwrap().vocab_size, 120);
    assert_eq!(files(&["config-json/config.json", "onnx/model.onnx"]), None);
}

#[test]
fn a_hostile_tokenizer_costs_no_memory() {
    let text = br#"{"model": {"type": "BPE", "vocab": {"a": 18446744073709551615, "b": 1, "c": 1}, "merges": ["a b"]}, "added_tokens": [], "decoder": {"#;
    let source = Source::memory("tokenizer.json", text.to_vec());
    let found = anatomy::tokenizer::summarise([("tokenizer.json", &source)]).unwrap();
    assert_eq!((found.vocab_size, found.max_id, found.merges), (2, Some(u64::MAX), Some(1)));
    assert!(found.problem.is_some());
}

/// Random bytes after beginnings that lead deep into the readers.
fn led() -> impl Strategy<Value = Vec<u8>> {
    let begins: Vec<&[u8]> = vec![
        b"",
        b"lmgg",
        b"fmgg\x01\0\0\0",
        b"tjgg\x03\0\0\0",
        b"algg\x01\0\0\0",
        b"\x08\x08\x3a\x40\x0a\x10",
        b"\x08\x01\x12\x20\x0a\x08",
        b"\x89HDF\r\n\x1a\n",
        b"\x10\0\0\0TFL3",
        b"\x10\0\0\0ET12eh00",
        b"\x82\xa1a",
        b"{\"model\": {",
        b"\x0a\x05\x0a\x01a\x15",
        b"{\"weight_map\": {",
        b"<net name='",
        b"MZ",
        b"\x7fELF",
        b"\x1f\x8b\x08",
    ];
    (proptest::sample::select(begins), proptest::collection::vec(any::<u8>(), 0..400))
        .prop_map(|(begin, rest)| [begin, &rest].concat())
}

/// A fixture with some bytes changed and perhaps its end cut.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let small: Vec<Vec<u8>> =
        fixtures().into_iter().map(|(.., bytes)| bytes).filter(|bytes| !bytes.is_empty()).collect();
    let change = (any::<proptest::sample::Index>(), any::<u8>());
    (
        proptest::sample::select(small),
        proptest::collection::vec(change, 0..12),
        any::<proptest::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(mut bytes, changes, end, cut)| {
            for (place, value) in changes {
                // Headers are where the damage tells, so most of it goes there.
                let place = place.index(bytes.len().min(600));
                bytes[place] = value;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_opened(bytes in led()) {
        open("any", &bytes);
        let source = Source::memory("tokenizer.json", bytes);
        anatomy::tokenizer::summarise([("tokenizer.json", &source)]);
    }

    #[test]
    fn damaged_files_are_opened(bytes in damaged()) {
        open("damaged.bin", &bytes);
        let source = Source::memory("tokenizer.json", bytes);
        anatomy::tokenizer::summarise([("tokenizer.json", &source)]);
    }
}
