//! Tokenizers made to harm: each ends in one clear error or finding, in bounded time, never in a panic.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests, outside of a test function")]

use std::io::Read;

use anatomy::ErrorKind;
use anatomy::source::Source;
use anatomy::tokenizer::{self, Encoder, Options, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(name: &str, bytes: Vec<u8>) -> Vec<Tokenizer> {
    let source = Source::memory(name, bytes);
    tokenizer::read([(source.name(), &source)])
}

fn one(name: &str, bytes: Vec<u8>) -> Tokenizer {
    let mut found = read(name, bytes);
    assert_eq!(found.len(), 1);
    found.remove(0)
}

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/tokenizers/{name}.gz", env!("CARGO_MANIFEST_DIR"));
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// A tokenizer of single bytes that cuts by a pattern.
fn with_pattern(pattern: &str) -> Vec<u8> {
    let letters = "abcdefghijklmnopqrstuvwxyz !Ġ".chars().zip(0..);
    let vocab: Value =
        letters.map(|(c, id)| (c.to_string(), Value::from(id))).collect::<serde_json::Map<_, _>>().into();
    json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
        "model": {"type": "BPE", "vocab": vocab, "merges": []}
    })
    .to_string()
    .into_bytes()
}

#[test]
fn a_pattern_that_backtracks_is_an_error() {
    let tokenizer = one("tokenizer.json", with_pattern(r"(?:(?=a)a+)+(?!a)b"));
    let encoder = Encoder::new(&tokenizer).unwrap();
    assert_eq!(encoder.encode("aab", Options::default()).unwrap().len(), 3);
    let error = encoder.encode(&"a".repeat(64), Options::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.message().contains("too many steps"), "{error}");
    // The same in a file of ranks.
    let ranks = json!({"pat_str": r"(?:(?=a)a+)+(?!a)b", "special_tokens": {}, "bpe_ranks": "! 0 YQ== Yg=="});
    let encoder = Encoder::new(&one("ranks.json", ranks.to_string().into_bytes())).unwrap();
    assert_eq!(encoder.encode(&"a".repeat(64), Options::default()).unwrap_err().kind(), ErrorKind::Limit);
}

#[test]
fn a_pattern_that_is_none_is_an_error() {
    let tokenizer = one("tokenizer.json", with_pattern(r"(?<"));
    assert_eq!(Encoder::new(&tokenizer).err().unwrap().kind(), ErrorKind::Unsupported);
}

#[test]
fn many_added_tokens_are_read_in_their_order() {
    let mut file: Value = serde_json::from_slice(&with_pattern(" ")).unwrap();
    let token = |id: u32| json!({"id": id, "content": format!("<{id}>"), "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
    // Behind the model, where they stand in no file: the beginning still says what it is.
    file.as_object_mut().unwrap().shift_remove("added_tokens");
    file["added_tokens"] = (29..100_029).map(token).collect();
    let tokenizer = one("tokenizer.json", file.to_string().into_bytes());
    assert_eq!((tokenizer.added.len(), tokenizer.size()), (100_000, 100_029));
    let encoder = Encoder::new(&tokenizer).unwrap();
    let ids: Vec<u32> =
        encoder.encode("a<100028>b", Options::default()).unwrap().iter().map(|piece| piece.id).collect();
    assert_eq!(ids, [0, 100_028, 1]);
}

#[test]
fn ids_and_ranks_beyond_all_bounds_are_left_out() {
    let text = r#"{"model": {"type": "BPE", "vocab": {"a": 18446744073709551615, "b": 1, "c": 1}, "merges": ["ab", "b c"]}, "added_tokens": []}"#;
    let tokenizer = one("tokenizer.json", text.into());
    assert_eq!((tokenizer.entries.len(), tokenizer.merges.as_ref().unwrap().len()), (2, 1));
    let rules: Vec<_> = tokenizer.findings.iter().map(|finding| finding.rule.name).collect();
    assert_eq!(rules, ["tokenizer-entry-invalid"]);
    assert_eq!(tokenizer::facts(&tokenizer::Index::new(&tokenizer)).holes, 1);
    let ranks =
        json!({"special_tokens": {"x": 1u64 << 32}, "bpe_ranks": "! 0 IQ== Ig==\n! 4294967295 Iw== JA==\n! 7 *** \n!"});
    let tokenizer = one("ranks.json", ranks.to_string().into_bytes());
    assert_eq!(tokenizer.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [0, 1, u32::MAX]);
    assert!(tokenizer.findings[0].message.starts_with("5 entries"), "{:?}", tokenizer.findings);
    assert_eq!(Encoder::new(&tokenizer).err().unwrap().kind(), ErrorKind::Unsupported);
}

/// A message of protocol buffers: a field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(bytes);
    out
}

fn piece(text: &[u8], score: f32, kind: u8) -> Vec<u8> {
    let score = [vec![0x15], score.to_le_bytes().to_vec()].concat();
    field(1, &[field(1, text), score, vec![0x18, kind]].concat())
}

#[test]
fn enormous_pieces_do_not_make_a_text_square() {
    // Every run of `a` is the begin of one piece of half a megabyte.
    let mut file =
        [piece(b"<unk>", 0.0, 2), piece(b"<s>", 0.0, 3), piece(b"</s>", 0.0, 3), piece(b"a", -1.0, 1)].concat();
    for index in 0..64u32 {
        file.extend(piece(format!("x{index}").as_bytes(), -2.0, 1));
    }
    file.extend(piece(&b"a".repeat(1 << 19), -3.0, 1));
    file.extend(field(2, &[0x18, 1]));
    let tokenizer = one("tokenizer.model", file);
    let encoder = Encoder::new(&tokenizer).unwrap();
    assert_eq!(encoder.encode("aaa", Options::default()).unwrap().len(), 4);
    let error = encoder.encode(&"a".repeat(1 << 14), Options::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    tokenizer::facts(&tokenizer::Index::new(&tokenizer));
}

#[test]
fn a_piece_too_long_and_a_table_that_is_none() {
    let mut file = [piece(b"<unk>", 0.0, 2), piece(b"<s>", 0.0, 3), piece(b"</s>", 0.0, 3)].concat();
    for index in 0..80u32 {
        file.extend(piece(format!("x{index}").as_bytes(), -2.0, 1));
    }
    file.extend(piece(&b"b".repeat((1 << 20) + 1), -1.0, 1));
    let tokenizer = one("tokenizer.model", file.clone());
    assert_eq!(tokenizer.findings[0].rule.name, "tokenizer-entry-invalid");
    file.extend(field(3, &field(2, &[0xff, 0xff, 0xff, 0x7f, 1, 2, 3, 4])));
    let error = Encoder::new(&one("tokenizer.model", file)).err().unwrap();
    assert!(error.message().contains("table of replacements"), "{error}");
}

#[test]
fn a_cut_file_is_a_finding_and_does_not_run() {
    for name in ["pieces-bpe.model", "bytes.json", "tekken.json"] {
        let bytes = fixture(name);
        let tokenizer = one(name, bytes[..bytes.len() * 2 / 3].to_vec());
        assert_eq!(tokenizer.findings[0].rule.name, "tokenizer-unreadable", "{name}");
        assert!(!tokenizer.entries.is_empty());
        assert_eq!(Encoder::new(&tokenizer).err().unwrap().kind(), ErrorKind::Malformed, "{name}");
    }
}

#[test]
fn one_word_of_a_megabyte_takes_no_square_of_it() {
    let encoder = Encoder::new(&one("ranks.json", fixture("ranks.json"))).unwrap();
    let word = "abcdefghij".repeat(100_000);
    let pieces = encoder.encode(&word, Options::default()).unwrap();
    assert_eq!(pieces.last().unwrap().span.end, word.len());
    let encoder = Encoder::new(&one("m.model", fixture("pieces-bpe.model"))).unwrap();
    assert!(encoder.encode(&word, Options::default()).unwrap().len() > 100_000);
}

#[test]
fn ids_that_are_not_there_are_named() {
    let encoder = Encoder::new(&one("ranks.json", fixture("ranks.json"))).unwrap();
    let error = encoder.decode(&[0, 4_000_000_000], true).unwrap_err();
    assert_eq!(error.message(), "the vocabulary has no id 4000000000");
}

/// Reads and runs whatever comes out.
fn run(tokenizer: &Tokenizer) {
    tokenizer::facts(&tokenizer::Index::new(tokenizer));
    let Ok(encoder) = Encoder::new(tokenizer) else { return };
    for text in ["", " a  b\n1234 größer 你好 🙂\u{301}<s></s><mask>\0", "\u{feff}▁▁x"] {
        let Ok(pieces) = encoder.encode(text, Options::default()) else { continue };
        let ids: Vec<u32> = pieces.iter().map(|piece| piece.id).collect();
        assert!(pieces.iter().all(|piece| piece.span.end <= text.len()));
        let _ = encoder.decode(&ids, true);
        let _ = encoder.decode(&ids, false);
    }
}

fn damaged(name: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let bytes = fixture(name);
    let change = (any::<proptest::sample::Index>(), any::<u8>());
    let changes = proptest::collection::vec(change, 0..40);
    (changes, any::<proptest::sample::Index>(), any::<bool>()).prop_map(move |(changes, end, cut)| {
        let mut bytes = bytes.clone();
        for (place, value) in changes {
            // The begin and the end hold what steers.
            let place = place.index(2000.min(bytes.len()));
            let place = if value % 2 == 0 { place } else { bytes.len() - 1 - place };
            bytes[place] = value;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damaged_pieces_run_or_are_refused(bytes in damaged("pieces-unigram.model"), others in damaged("pieces-bpe.model")) {
        for bytes in [bytes, others] {
            read("tokenizer.model", bytes).iter().for_each(run);
        }
    }

    #[test]
    fn damaged_ranks_run_or_are_refused(bytes in damaged("ranks.json"), others in damaged("tekken.json")) {
        read("ranks.json", bytes).iter().for_each(run);
        read("tekken.json", others).iter().for_each(run);
    }

    #[test]
    fn damaged_ggufs_run_or_are_refused(scores in damaged("llama-scores.gguf"), unigram in damaged("llama-unigram.gguf"), gpt2 in damaged("llama-gpt2.gguf")) {
        for bytes in [scores, unigram, gpt2] {
            let source = Source::memory("model.gguf", bytes);
            let Ok((identity, container)) = anatomy::probe::open(&source) else { continue };
            if identity.format.id == "gguf" {
                tokenizer::of_gguf("model.gguf", &source, &container).iter().for_each(run);
            }
        }
    }
}
