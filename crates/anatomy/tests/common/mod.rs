//! Builders of small files, valid and hostile, and what every test asks of what comes out.

// Each test program uses its own part of this. A helper that fails is a failed test, but clippy's allowances for tests
// do not reach helpers.
#![allow(dead_code, clippy::expect_used, clippy::cast_possible_truncation)]

pub mod invariants;

use std::io::Read;
use std::path::PathBuf;

use anatomy::container::{Container, Format};
use anatomy::probe;
use anatomy::source::Source;
use flate2::read::GzDecoder;

/// The format with this id.
pub fn format(id: &str) -> &'static Format {
    probe::FORMATS.iter().copied().find(|format| format.id == id).expect("a format of the table")
}

/// Reads `bytes` as the format with this id, which must yield a container that keeps the library's promises.
pub fn open(id: &str, bytes: &[u8]) -> Container {
    let mut container = (format(id).open)(&Source::memory("test", bytes.to_vec())).expect("a container");
    invariants::promises(&container, bytes.len() as u64);
    // The small files of tests hold what a test is about, and no architecture.
    container.findings.retain(|finding| finding.rule.name != "gguf-architecture-missing");
    container
}

/// Each finding's rule and place.
pub fn findings(container: &Container) -> Vec<(&'static str, Option<u64>)> {
    container.findings.iter().map(|finding| (finding.rule.name, finding.offset)).collect()
}

/// A safetensors file: `header` padded with blanks so that data begins at a multiple of 8, and `data` zeros.
pub fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let padded = header.to_string() + &" ".repeat(header.len().next_multiple_of(8) - header.len());
    safetensors_raw(padded.len() as u64, padded.as_bytes(), data)
}

/// A safetensors file whose header may be of another length than declared, and no text.
pub fn safetensors_raw(declared: u64, header: &[u8], data: usize) -> Vec<u8> {
    let mut bytes = declared.to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// One entry of a safetensors header.
pub fn entry(name: &str, dtype: &str, shape: &str, from: u64, to: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

/// A value of GGUF metadata: type id and payload, in the file's own byte order.
pub type GgufValue = (u32, Vec<u8>);

/// Writes GGUF files, valid or as broken as a test wants them.
#[derive(Clone)]
pub struct Gguf {
    pub version: u32,
    pub big_endian: bool,
    /// What the header declares instead of the true counts.
    pub declared_tensors: Option<u64>,
    pub declared_entries: Option<u64>,
    pub alignment: usize,
    entries: Vec<(Vec<u8>, GgufValue)>,
    tensors: Vec<(Vec<u8>, Vec<u64>, u32, u64)>,
}

impl Gguf {
    /// An empty file of version 3, little-endian.
    pub fn new() -> Self {
        Gguf {
            version: 3,
            big_endian: false,
            declared_tensors: None,
            declared_entries: None,
            alignment: 32,
            entries: Vec::new(),
            tensors: Vec::new(),
        }
    }

    pub fn u32(&self, number: u32) -> Vec<u8> {
        if self.big_endian { number.to_be_bytes().to_vec() } else { number.to_le_bytes().to_vec() }
    }

    pub fn u64(&self, number: u64) -> Vec<u8> {
        if self.big_endian { number.to_be_bytes().to_vec() } else { number.to_le_bytes().to_vec() }
    }

    /// A count or length: 32 bits in version 1.
    pub fn length(&self, number: u64) -> Vec<u8> {
        if self.version == 1 { self.u32(number as u32) } else { self.u64(number) }
    }

    pub fn string(&self, text: &[u8]) -> Vec<u8> {
        [self.length(text.len() as u64), text.to_vec()].concat()
    }

    /// The payload of an array.
    pub fn array(&self, element: u32, declared: u64, items: &[u8]) -> Vec<u8> {
        [self.u32(element), self.length(declared), items.to_vec()].concat()
    }

    pub fn entry(mut self, key: impl AsRef<[u8]>, value: GgufValue) -> Self {
        self.entries.push((key.as_ref().to_vec(), value));
        self
    }

    pub fn text(self, key: &str, text: &[u8]) -> Self {
        let value = (8, self.string(text));
        self.entry(key, value)
    }

    pub fn number(self, key: &str, number: u32) -> Self {
        let value = (4, self.u32(number));
        self.entry(key, value)
    }

    /// A tensor; `ne` has the innermost dimension first, `offset` counts from the begin of the data.
    pub fn tensor(mut self, name: impl AsRef<[u8]>, ne: &[u64], type_id: u32, offset: u64) -> Self {
        self.tensors.push((name.as_ref().to_vec(), ne.to_vec(), type_id, offset));
        self
    }

    /// The header without the padding behind it.
    pub fn header(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.u32(self.version));
        out.extend(self.length(self.declared_tensors.unwrap_or(self.tensors.len() as u64)));
        out.extend(self.length(self.declared_entries.unwrap_or(self.entries.len() as u64)));
        for (key, (kind, payload)) in &self.entries {
            out.extend(self.string(key));
            out.extend(self.u32(*kind));
            out.extend(payload);
        }
        for (name, ne, type_id, offset) in &self.tensors {
            out.extend(self.string(name));
            out.extend(self.u32(ne.len() as u32));
            ne.iter().for_each(|dimension| out.extend(self.length(*dimension)));
            out.extend(self.u32(*type_id));
            out.extend(self.u64(*offset));
        }
        out
    }

    /// The file with `data` zeros for the tensors.
    pub fn file(&self, data: usize) -> Vec<u8> {
        let mut out = self.header();
        out.resize(out.len().next_multiple_of(self.alignment) + data, 0);
        out
    }

    /// Where the tensor with this index is described.
    pub fn tensor_at(&self, index: usize) -> u64 {
        let mut before = self.clone();
        before.tensors.truncate(index);
        before.header().len() as u64
    }

    /// Where the metadata entry with this index stands.
    pub fn entry_at(&self, index: usize) -> u64 {
        let mut before = self.clone();
        before.tensors.clear();
        before.entries.truncate(index);
        before.header().len() as u64
    }
}

/// A valid safetensors file with metadata, a scalar and an empty tensor.
pub fn small_safetensors() -> Vec<u8> {
    let entries = [
        r#""__metadata__":{"format":"pt","note":"für \u00e4lle"}"#.to_string(),
        entry("model.embed_tokens.weight", "F16", "[4,6]", 0, 48),
        entry("model.layers.0.self_attn.q_proj.weight", "F8_E4M3", "[6,6]", 48, 84),
        entry("empty", "F32", "[0,3]", 84, 84),
        entry("scalar", "F32", "[]", 84, 88),
    ];
    safetensors(&format!("{{{}}}", entries.join(",")), 88)
}

/// A valid GGUF file with a value of every type and tensors of several.
pub fn small_gguf() -> Gguf {
    let file = Gguf::new();
    let words = [file.string(b"a"), file.string("ä".as_bytes()), file.string(b"")].concat();
    let tokens = file.array(8, 3, &words);
    let scores = file.array(6, 3, &[0; 12]);
    file.text("general.architecture", b"llama")
        .number("general.alignment", 32)
        .entry("x.u8", (0, vec![7]))
        .entry("x.i8", (1, vec![0xff]))
        .entry("x.u16", (2, vec![1, 2]))
        .entry("x.i16", (3, vec![1, 0x80]))
        .entry("x.i32", (5, vec![0xff; 4]))
        .entry("x.f32", (6, 1.5f32.to_le_bytes().to_vec()))
        .entry("x.bool", (7, vec![1]))
        .entry("x.u64", (10, vec![1; 8]))
        .entry("x.i64", (11, vec![0xff; 8]))
        .entry("x.f64", (12, 0.25f64.to_le_bytes().to_vec()))
        .entry("tokenizer.ggml.tokens", (9, tokens))
        .entry("tokenizer.ggml.scores", (9, scores))
        .tensor("token_embd.weight", &[32, 3], 8, 0) // Q8_0: 3 × 34 bytes, padded to 128
        .tensor("blk.0.attn_q.weight", &[4, 4], 1, 128) // F16: 32 bytes
        .tensor("output_norm.weight", &[5], 0, 160) // F32: 20 bytes
}

/// Valid files that the builders make, and all of `tests/data` (unpacked) that are not too long to mutate often.
pub fn corpus() -> Vec<Vec<u8>> {
    let mut short = small_gguf();
    short.version = 2;
    let mut first = Gguf::new();
    first.version = 1;
    let first = first.text("general.architecture", b"llama").tensor("a", &[8, 2], 0, 0);
    let mut big = Gguf::new();
    big.big_endian = true;
    let big = big.text("general.architecture", b"llama").number("x", 7).tensor("a", &[8, 2], 0, 0);
    let mut corpus = vec![small_safetensors(), small_gguf_file(), short.file(192), first.file(64), big.file(64)];
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"))];
    while let Some(folder) = folders.pop() {
        // There may be no fixtures.
        let Ok(files) = std::fs::read_dir(folder) else { continue };
        let mut files: Vec<_> = files.map(|file| file.expect("a folder that can be listed").path()).collect();
        files.sort();
        for path in files {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = std::fs::read(&path).expect("a file that can be read");
            if path.extension().is_some_and(|extension| extension == "gz") {
                let packed = std::mem::take(&mut bytes);
                GzDecoder::new(&*packed).read_to_end(&mut bytes).expect("gzip");
            }
            if bytes.len() <= 64 * 1024 {
                corpus.push(bytes);
            }
        }
    }
    corpus
}

/// [`small_gguf`] with its data.
pub fn small_gguf_file() -> Vec<u8> {
    small_gguf().file(192)
}
