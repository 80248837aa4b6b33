//! Tiny tokenizers of every kind, trained for this by `tools/make-tokenizer-fixtures.py`, give the ids and texts that
//! the reference programs give: tokenizers, sentencepiece, tiktoken, mistral-common, llama.cpp.
//!
//! The same over whole vocabularies and 10,000 lines: `tools/check-tokenizers.py`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests, outside of a test function")]

use std::io::Read;

use anatomy::source::Source;
use anatomy::tokenizer::{self, Details, Encoder, EntryKind, Notation, Options, Tokenizer};
use serde_json::Value;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tokenizers/");
const PLAIN: Options = Options { special: false, parse_special: false };

fn unpack(name: &str) -> Vec<u8> {
    let file = std::fs::File::open(format!("{FOLDER}{name}.gz")).unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&unpack(&format!("{name}.json"))).unwrap()
}

fn lines() -> Vec<String> {
    serde_json::from_value(json("lines")).unwrap()
}

fn source(name: &str) -> Source {
    Source::memory(name, unpack(name))
}

fn read(names: &[&str]) -> Tokenizer {
    let sources: Vec<Source> = names.iter().map(|name| source(name)).collect();
    let mut found = tokenizer::read(sources.iter().map(|source| (source.name(), source)));
    assert_eq!(found.len(), 1, "{names:?}");
    found.remove(0)
}

fn gguf(name: &str) -> Tokenizer {
    let source = source(&format!("{name}.gguf"));
    let (_, container) = anatomy::probe::open(&source).unwrap();
    tokenizer::of_gguf(name, &source, &container).unwrap()
}

fn ids(encoder: &Encoder, text: &str, options: Options) -> Vec<u64> {
    let pieces = encoder.encode(text, options).unwrap();
    for piece in &pieces {
        assert!(piece.span.start <= piece.span.end && piece.span.end <= text.len(), "{piece:?} of {text:?}");
    }
    pieces.iter().map(|piece| piece.id.into()).collect()
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

/// Compares ids with and without special tokens, and the text of the former.
#[track_caller]
fn agrees(name: &str, tokenizer: &Tokenizer, with: Options, lines: &[String]) {
    assert!(tokenizer.findings.is_empty(), "{:?}", tokenizer.findings);
    let encoder = Encoder::new(tokenizer).unwrap();
    let expected = json(&format!("{name}.expected"));
    for (index, line) in lines.iter().enumerate() {
        let wanted = numbers(&expected["ids"][index]);
        assert_eq!(ids(&encoder, line, with), wanted, "{name}: {line:?}");
        assert_eq!(ids(&encoder, line, PLAIN), numbers(&expected["plain"][index]), "{name}, plain: {line:?}");
        if let Some(texts) = expected["text"].as_array() {
            let text = texts[index].as_str().unwrap_or(line);
            let wanted: Vec<u32> = wanted.iter().map(|id| u32::try_from(*id).unwrap()).collect();
            let found = encoder.decode(&wanted, true).unwrap();
            assert_eq!(String::from_utf8_lossy(&found), text, "{name}, decoded: {line:?}");
        }
    }
}

#[test]
fn tokenizer_json_as_the_library_does() {
    for name in ["bytes", "bert", "unigram"] {
        let file = format!("{name}.json");
        agrees(name, &read(&[&file]), Options::default(), &lines());
    }
}

#[test]
fn vocabulary_and_merges_as_the_library_does() {
    let lines: Vec<String> = lines().into_iter().filter(|line| !line.contains("<|endoftext|>")).collect();
    agrees("plain", &read(&["plain/vocab.json", "plain/merges.txt"]), Options::default(), &lines);
}

#[test]
fn sentencepiece_as_sentencepiece_does() {
    let with = Options { special: true, parse_special: false };
    for name in ["pieces-bpe", "pieces-unigram", "pieces-suffix"] {
        let tokenizer = read(&[&format!("{name}.model")]);
        agrees(name, &tokenizer, with, &lines());
        let encoder = Encoder::new(&tokenizer).unwrap();
        let decoded = json(&format!("{name}.decoded.expected"));
        for (index, line) in lines().iter().enumerate() {
            let ids: Vec<u32> = encoder.encode(line, PLAIN).unwrap().iter().map(|piece| piece.id).collect();
            let text = String::from_utf8(encoder.decode(&ids, true).unwrap()).unwrap();
            assert_eq!(text, decoded[index].as_str().unwrap(), "{name}: {line:?}");
        }
    }
}

#[test]
fn ranks_as_tiktoken_does() {
    agrees("ranks", &read(&["ranks.json"]), Options::default(), &lines());
    agrees("tekken", &read(&["tekken.json"]), Options { special: true, parse_special: false }, &lines());
}

#[test]
fn gguf_as_llama_cpp_does() {
    for name in ["gpt2", "scores", "phi", "unigram", "bert", "rwkv", "plamo2", "gemma4"] {
        let name = format!("llama-{name}");
        agrees(&name, &gguf(&name), Options::default(), &lines());
    }
}

#[test]
fn every_pre_tokenizer_as_llama_cpp_does() {
    let expected = json("pre.expected");
    let mut tokenizer = gguf("llama-gpt2");
    let lines: Vec<String> = serde_json::from_value(expected["lines"].clone()).unwrap();
    let found = expected["ids"].as_object().unwrap();
    assert!(found.len() > 70);
    let options = Options { special: false, parse_special: true };
    for (name, wanted) in found {
        let Details::Gguf(settings) = &mut tokenizer.details else { panic!("no GGUF") };
        settings.pre = Some(name.clone());
        let encoder = Encoder::new(&tokenizer).unwrap();
        for (line, wanted) in lines.iter().zip(wanted.as_array().unwrap()) {
            assert_eq!(ids(&encoder, line, options), numbers(wanted), "{name}: {line:?}");
        }
    }
}

#[test]
fn an_unknown_pre_tokenizer_is_refused() {
    let mut tokenizer = gguf("llama-gpt2");
    let Details::Gguf(settings) = &mut tokenizer.details else { panic!("no GGUF") };
    settings.pre = Some("of-tomorrow".to_string());
    let error = Encoder::new(&tokenizer).err().unwrap();
    assert!(error.message().contains("\"of-tomorrow\" is not known"), "{error}");
}

#[test]
fn what_is_read_is_what_is_there() {
    let bytes = read(&["bytes.json"]);
    assert_eq!((bytes.kind, bytes.model.as_str(), bytes.notation), ("tokenizer-json", "bpe", Notation::ByteLetters));
    let mark = bytes.added.iter().find(|token| token.content == "<|im_start|>").unwrap();
    assert!(mark.special && mark.rstrip && !mark.lstrip && !mark.normalized);
    let word = bytes.added.iter().find(|token| token.content == "word").unwrap();
    assert!(word.single_word && word.normalized && !word.special);
    assert_eq!(bytes.normalizer, ["Unicode normal form NFC"]);
    assert_eq!(bytes.post_processor, ["<s> …"]);
    assert_eq!(bytes.pre_tokenizer.len(), 2);
    let merges = bytes.merges.as_ref().unwrap();
    let first = merges.get(0).unwrap().whole.to_string();
    assert!(bytes.entries.iter().any(|entry| *entry.stored == *first.as_bytes()));

    let pieces = read(&["pieces-bpe.model"]);
    assert_eq!((pieces.entries[0].kind, pieces.entries[1].kind), (EntryKind::Unknown, EntryKind::Control));
    assert_eq!(pieces.entries.iter().filter(|entry| entry.kind == EntryKind::Byte).count(), 256);
    assert!(pieces.entries.iter().any(|entry| entry.kind == EntryKind::UserDefined && *entry.stored == *b"<mask>"));
    assert!(pieces.byte_fallback);
    let role = pieces.role("bos").next().unwrap();
    assert_eq!(
        (role.token.as_deref(), role.id, role.stated.as_str()),
        (Some("<s>"), Some(1), "pieces-bpe.model: bos_id")
    );

    let scores = gguf("llama-scores");
    assert_eq!(
        (scores.kind, scores.model.as_str(), scores.entries.len()),
        ("gguf", "sentencepiece", pieces.entries.len())
    );
    assert_eq!(scores.entries[300].score, pieces.entries[300].score);
}

#[test]
fn a_configuration_beside_is_taken_in() {
    let config = br#"{"tokenizer_class": "Qwen2Tokenizer", "model_max_length": 512, "add_bos_token": true,
        "bos_token": "<|endoftext|>", "added_tokens_decoder": {"900": {"content": "<x>", "special": true, "rstrip": true}}}"#;
    let sources = [
        source("plain/vocab.json"),
        source("plain/merges.txt"),
        Source::memory("plain/tokenizer_config.json", config.to_vec()),
        Source::memory("plain/generation_config.json", br#"{"eos_token_id": [0, 900]}"#.to_vec()),
    ];
    let found = tokenizer::read(sources.iter().map(|source| (source.name(), source)));
    let tokenizer = &found[0];
    assert_eq!(tokenizer.configuration.class.as_deref(), Some("Qwen2Tokenizer"));
    assert_eq!(tokenizer.configuration.max_length.as_ref().unwrap().value, 512);
    let stated: Vec<_> = tokenizer.roles.iter().map(|role| (role.role, role.token.as_deref(), role.id)).collect();
    let wanted = [
        ("bos", Some("<|endoftext|>"), Some(0)),
        ("eos", Some("<|endoftext|>"), Some(0)),
        ("eos", Some("<x>"), Some(900)),
    ];
    assert_eq!(stated, wanted);
    let encoder = Encoder::new(tokenizer).unwrap();
    assert_eq!(ids(&encoder, "<x> ", Options::default()), [0, 900]);
}

#[test]
fn facts_follow_from_the_vocabulary() {
    let mut tokenizer = read(&["bytes.json"]);
    let facts = tokenizer::facts(&tokenizer::Index::new(&tokenizer));
    assert_eq!((facts.holes, facts.duplicates.count), (0, 0));
    assert_eq!(facts.unreachable.unwrap().entries.count, 0);
    assert_eq!(facts.scripts.iter().map(|share| share.entries).sum::<usize>(), facts.kinds[&EntryKind::Normal]);
    // Without its merge, an entry and all that is made of it are out of reach.
    let merges = tokenizer.merges.take().unwrap();
    let gone = merges.get(40).unwrap().whole.to_string();
    let others = merges.iter().enumerate().filter(|(place, _)| *place != 40);
    tokenizer.merges = Some(others.map(|(_, merge)| (merge.left, merge.right)).collect());
    let unreachable = tokenizer::facts(&tokenizer::Index::new(&tokenizer)).unreachable.unwrap();
    let bytes = Notation::ByteLetters.bytes(gone.as_bytes());
    assert_eq!(unreachable.entries.first[0].text, String::from_utf8_lossy(&bytes));
    // An id that nobody has, and a text that two have.
    tokenizer.entries.remove(300);
    let stored = tokenizer.entries[310].stored.clone();
    tokenizer.entries[320].stored = stored;
    let facts = tokenizer::facts(&tokenizer::Index::new(&tokenizer));
    assert_eq!((facts.holes, facts.first_holes, facts.duplicates.count), (1, vec![300], 1));
}
