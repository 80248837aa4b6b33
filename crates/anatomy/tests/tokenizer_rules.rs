//! Each rule about tokenizers fires on its fault and on nothing else; healthy tokenizers of every kind are silent.
// Helpers that fail are failed tests, but clippy's allowances for tests do not reach them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
mod small_tokenizers;

use anatomy::Severity;
use anatomy::analysis::Analysis;
use anatomy::check::tokenizer::{Verdict, verify};
use anatomy::model::Model;
use serde_json::{Value as Json, json};

use small_tokenizers::gguf::{self, Vocab};
use small_tokenizers::{CHATML, Folder};

/// What comes of verifying a folder.
fn verdict(folder: &Folder) -> Verdict {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in &folder.0 {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    let model = Model::open(directory.path()).unwrap();
    verify(&Analysis::new(&model))
}

/// Names of the rules that fire above a note, each once, in order.
fn faults(verdict: &Verdict) -> Vec<&'static str> {
    let loud = verdict.findings.iter().filter(|finding| finding.severity() != Severity::Note);
    let mut names: Vec<&str> = loud.map(|finding| finding.rule.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Asserts that exactly these rules fire.
#[track_caller]
fn fires(what: &str, folder: &Folder, rules: &[&str]) {
    let verdict = verdict(folder);
    assert_eq!(faults(&verdict), rules, "{what}: {:#?}", verdict.findings);
}

/// Asserts that a note is there and nothing above it.
#[track_caller]
fn notes(what: &str, folder: &Folder, rule: &str) {
    let verdict = verdict(folder);
    assert!(faults(&verdict).is_empty(), "{what}: {:#?}", verdict.findings);
    assert!(verdict.findings.iter().any(|finding| finding.rule.name == rule), "{what}: {:#?}", verdict.findings);
}

fn healthy() -> Vec<(&'static str, Folder)> {
    let ranks = small_tokenizers::ranks();
    vec![
        ("byte-level tokenizer.json", small_tokenizers::byte_level()),
        ("vocab.json and merges.txt", small_tokenizers::byte_level_slow()),
        ("both", small_tokenizers::byte_level_both()),
        ("SentencePiece of Llama", small_tokenizers::llama()),
        ("SentencePiece of T5", small_tokenizers::t5()),
        ("WordPiece", small_tokenizers::bert()),
        ("tiktoken", small_tokenizers::tiktoken(&ranks)),
        ("tekken", small_tokenizers::tekken(&ranks)),
        ("GGUF gpt2", gguf::gpt2().folder()),
        ("GGUF llama", gguf::llama().folder()),
        ("GGUF bert", gguf::bert().folder()),
        ("GGUF t5", gguf::t5().folder()),
        ("GGUF rwkv", gguf::rwkv().folder()),
        ("GGUF plamo2", gguf::plamo2().folder()),
        ("GGUF gemma4", gguf::gemma4().folder()),
    ]
}

#[test]
fn healthy_tokenizers_are_silent_and_match() {
    for (what, folder) in healthy() {
        let verdict = verdict(&folder);
        assert_eq!(faults(&verdict), [""; 0], "{what}: {:#?}", verdict.findings);
        let known = !what.contains("tiktoken");
        assert_eq!(verdict.matches, known.then_some(true), "{what}: {}", verdict.why);
    }
}

#[test]
fn rows_too_few_are_an_error_and_padding_is_none() {
    let one_short = small_tokenizers::byte_level().with("model.safetensors", small_tokenizers::weights(270, 270));
    fires("a row too few", &one_short, &["embedding-rows-too-few"]);
    assert_eq!(verdict(&one_short).matches, Some(false));
    let padded = small_tokenizers::byte_level().with("model.safetensors", small_tokenizers::weights(384, 384));
    notes("padding", &padded, "embedding-rows-spare");
    let other = small_tokenizers::byte_level().with("model.safetensors", small_tokenizers::weights(32000, 32000));
    fires("another model's weights", &other, &["tokenizer-much-smaller"]);
    assert_eq!(verdict(&other).matches, Some(false));
    let head = small_tokenizers::byte_level().with("model.safetensors", small_tokenizers::weights(272, 260));
    fires("a short head", &head, &["head-rows-too-few"]);
    let llama = small_tokenizers::llama().with("model.safetensors", small_tokenizers::weights(274, 274));
    fires("SentencePiece, a row too few", &llama, &["embedding-rows-too-few"]);
    let tekken = small_tokenizers::tekken(&small_tokenizers::ranks())
        .with("model.safetensors", small_tokenizers::weights(274, 274));
    fires("tekken, a row too few", &tekken, &["embedding-rows-too-few"]);
    let vocab = Vocab { rows: 270, ..gguf::gpt2() };
    fires("a GGUF, a row too few", &vocab.folder(), &["gguf-rows-differ"]);
    let vocab = Vocab { rows: 288, ..gguf::llama() };
    fires("a GGUF with padding that it has no tokens for", &vocab.folder(), &["gguf-rows-differ"]);
}

#[test]
fn images_need_no_row() {
    let folder = small_tokenizers::byte_level().with("model.safetensors", small_tokenizers::weights(271, 271));
    let folder = folder.edit("tokenizer.json", |json| {
        let tokens = json["added_tokens"].as_array_mut().unwrap();
        let mut image = tokens[0].clone();
        image["id"] = json!(271);
        image["content"] = json!("<image_soft_token>");
        tokens.push(image);
    });
    notes("a place for images beyond the rows", &folder, "placeholder-without-row");
}

#[test]
fn ids_of_special_tokens_agree() {
    let base = small_tokenizers::byte_level;
    let config = |key: &'static str, id: Json| base().edit("config.json", move |json| json[key] = id);
    let generation = |key: &'static str, id: Json| base().edit("generation_config.json", move |json| json[key] = id);
    fires("EOS of generation", &generation("eos_token_id", json!([268])), &["eos-differs"]);
    fires("EOS of generation, one id", &generation("eos_token_id", json!(269)), &["eos-differs"]);
    fires("EOS beyond all", &generation("eos_token_id", json!([270, 5000])), &["special-id-outside"]);
    fires("PAD beyond all", &config("pad_token_id", json!(5000)), &["special-id-outside"]);
    fires("BOS without a token", &config("bos_token_id", json!(271)), &["special-id-without-token"]);
    fires("BOS that is text", &config("bos_token_id", json!(11)), &["special-id-is-text"]);
    let nested = base().edit("config.json", |json| {
        json.as_object_mut().unwrap().remove("bos_token_id");
        json["text_config"] = json!({"bos_token_id": 11});
    });
    fires("BOS that is text, within", &nested, &["special-id-is-text"]);
    notes("PAD of another file", &generation("pad_token_id", json!(269)), "special-ids-differ");
    let text = |key: &'static str, text: &'static str| {
        base().edit("tokenizer_config.json", move |json| json[key] = json!(text)).without("special_tokens_map.json")
    };
    fires("EOS that is no token", &text("eos_token", "<|eot_id|>"), &["special-token-unknown"]);
    fires("PAD that is no token", &text("pad_token", "[PAD]"), &["special-token-unknown"]);
    let map = base().edit("special_tokens_map.json", |json| json["pad_token"] = json!("<|im_start|>"));
    notes("PAD of the map", &map, "special-ids-differ");
    let tiny = small_tokenizers::llama().edit("config.json", |json| json["eos_token_id"] = json!(7));
    fires("a shifted EOS", &tiny.without("generation_config.json"), &["eos-differs", "special-id-is-text"]);
    let mut vocab = gguf::gpt2();
    vocab.ids = vec![("bos_token_id", 268), ("eos_token_id", 9999), ("padding_token_id", 268)];
    fires("EOS of a GGUF beyond all", &vocab.folder(), &["special-id-outside"]);
    vocab.ids = vec![("bos_token_id", 268), ("eos_token_id", 40), ("padding_token_id", 268)];
    fires("EOS of a GGUF that is text", &vocab.folder(), &["special-id-is-text"]);
    vocab.ids = vec![("bos_token_id", 268), ("eos_token_id", 268), ("padding_token_id", 268)];
    let Folder(mut files) = base().without("model.safetensors").without("tokenizer.json");
    files.extend(vocab.folder().0);
    fires("EOS of a GGUF and of the files beside it", &Folder(files.clone()), &["eos-differs"]);
    files.extend(gguf::gpt2().folder().0);
    fires("a GGUF and files that agree", &Folder(files), &[]);
}

fn vocab_of(json: &mut Json) -> &mut serde_json::Map<String, Json> {
    json["model"]["vocab"].as_object_mut().unwrap()
}

#[test]
fn vocabularies_are_whole() {
    let edit = |edit: fn(&mut Json)| small_tokenizers::byte_level().edit("tokenizer.json", edit);
    let twice = edit(|json| *vocab_of(json).get_mut("hello").unwrap() = json!(258));
    fires("an id twice", &twice, &["token-id-twice"]);
    let hole = edit(|json| *vocab_of(json).get_mut("Ġa").unwrap() = json!(271));
    notes("a hole", &hole, "vocabulary-holes");
    let byte = edit(|json| {
        vocab_of(json).remove("Ã");
        vocab_of(json).insert("zzz".to_string(), json!(0xc3));
    });
    fires("a byte lost", &byte, &["byte-tokens-missing", "token-never-merged"]);
    let empty = edit(|json| {
        json["model"] = json!({"type": "BPE", "vocab": {}, "merges": []});
        json["added_tokens"] = json!([]);
    });
    assert!(faults(&verdict(&empty)).contains(&"vocabulary-empty"));
    let mut pieces = small_tokenizers::llama_pieces();
    pieces[270].0 = "hello".to_string();
    let folder = small_tokenizers::llama().with("tokenizer.model", small_tokenizers::sentencepiece(&pieces, 2, true));
    fires("a piece twice", &folder, &["token-text-refused"]);
    let mut pieces = small_tokenizers::llama_pieces();
    pieces[13].0 = "zz".to_string();
    let folder = small_tokenizers::llama().with("tokenizer.model", small_tokenizers::sentencepiece(&pieces, 2, true));
    fires("a byte of SentencePiece lost", &folder, &["byte-tokens-missing"]);
    let mut pieces = small_tokenizers::llama_pieces();
    pieces[270].1 = f32::NAN;
    let folder = small_tokenizers::llama().with("tokenizer.model", small_tokenizers::sentencepiece(&pieces, 2, true));
    fires("a score that is no number", &folder, &["token-scores-broken"]);
    let ranks: Vec<Vec<u8>> = small_tokenizers::ranks().into_iter().filter(|piece| piece != &[7]).collect();
    fires("tekken, a byte lost", &small_tokenizers::tekken(&ranks), &["byte-tokens-missing"]);
    let mut vocab = gguf::gpt2();
    vocab.tokens[262] = "hello".to_string();
    fires("a token of a GGUF twice", &vocab.folder(), &["merge-token-missing", "token-text-refused"]);
    let mut vocab = gguf::t5();
    vocab.scores = Some(vec![0.0; vocab.tokens.len()]);
    fires("all scores the same", &vocab.folder(), &["token-scores-broken"]);
    let mut words = small_tokenizers::WORDS;
    words[6] = "a";
    let folder = small_tokenizers::bert().without("tokenizer.json").with("vocab.txt", words.join("\n"));
    fires("a word twice", &folder, &["token-text-twice"]);
}

#[test]
fn merges_lead_to_every_token() {
    let merges = |edit: fn(&mut Vec<Json>)| {
        small_tokenizers::byte_level()
            .edit("tokenizer.json", move |json| edit(json["model"]["merges"].as_array_mut().unwrap()))
    };
    fires("a merge lost", &merges(|list| drop(list.pop())), &["token-never-merged"]);
    fires("the list cut off", &merges(|list| list.truncate(4)), &["token-never-merged"]);
    fires("all lost", &merges(Vec::clear), &["merges-missing"]);
    fires("a merge of nothing", &merges(|list| list.push(json!("h zzz"))), &["merge-token-missing"]);
    let token = small_tokenizers::byte_level().edit("tokenizer.json", |json| {
        let id = vocab_of(json).remove("hell").unwrap();
        vocab_of(json).insert("zzzz".to_string(), id);
    });
    fires("a token of a merge lost", &token, &["merge-token-missing", "token-never-merged"]);
    let slow = small_tokenizers::byte_level_slow();
    let text = String::from_utf8(slow.0["merges.txt"].clone()).unwrap();
    fires("merges.txt cut off", &slow.with("merges.txt", text.replace("Ġ a\n", "")), &["token-never-merged"]);
    let mut vocab = gguf::gpt2();
    vocab.merges = None;
    fires("a GGUF without merges", &vocab.folder(), &["merges-missing"]);
    vocab.merges = Some(gguf::gpt2().merges.unwrap()[..10].to_vec());
    fires("a GGUF with merges lost", &vocab.folder(), &["token-never-merged"]);
    let mut vocab = gguf::gemma4();
    vocab.merges.as_mut().unwrap().remove(3);
    fires("a GGUF of Gemma 4 with a merge lost", &vocab.folder(), &["token-never-merged"]);
}

#[test]
fn lists_of_added_tokens_agree() {
    let base = small_tokenizers::byte_level;
    let moved = base().edit("tokenizer.json", |json| {
        vocab_of(json).remove("Ġa");
        json["model"]["merges"].as_array_mut().unwrap().pop();
    });
    fires("a piece lost before added tokens", &moved, &["added-token-moves"]);
    let order = base().edit("tokenizer.json", |json| json["added_tokens"].as_array_mut().unwrap().swap(0, 2));
    fires("added tokens in another order", &order, &["added-token-moves"]);
    let list = base().edit("added_tokens.json", |json| json["<|im_end|>"] = json!(269));
    fires("added_tokens.json with another id", &list, &["added-tokens-disagree"]);
    let decoder =
        base().edit("tokenizer_config.json", |json| json["added_tokens_decoder"]["269"]["content"] = json!("<|end|>"));
    fires("the decoder with another text", &decoder, &["added-tokens-disagree"]);
    let lost = base().edit("tokenizer.json", |json| drop(json["added_tokens"].as_array_mut().unwrap().pop()));
    fires("a token that only lists have", &lost, &["added-token-only-listed"]);
    let flags = base().edit("tokenizer.json", |json| json["added_tokens"][1]["special"] = json!(false));
    notes("a flag", &flags, "added-token-flags-differ");
}

#[test]
fn two_tokenizers_of_a_folder_are_one() {
    let both = small_tokenizers::byte_level_both;
    let swapped = both().edit("vocab.json", |json| {
        json["hello"] = json!(263);
        json["Ġworl"] = json!(259);
    });
    fires("two ids swapped", &swapped, &["tokenizer-files-differ"]);
    let shifted = both().edit("vocab.json", |json| {
        for id in json.as_object_mut().unwrap().values_mut() {
            *id = json!((id.as_u64().unwrap() + 1) % 268);
        }
    });
    fires("all ids shifted", &shifted, &["tokenizer-files-unrelated"]);
    assert_eq!(verdict(&shifted).matches, Some(false));
    let longer = both().edit("vocab.json", |json| json["Ġand"] = json!(271));
    fires("a piece more", &longer, &["token-never-merged", "tokenizer-files-differ"]);
    let text = String::from_utf8(both().0["merges.txt"].clone()).unwrap();
    let merges = text.replace("h e\nl l\n", "l l\nh e\n");
    fires("merges in another order", &both().with("merges.txt", merges), &["merges-differ"]);
    let words = small_tokenizers::WORDS.join("\n").replace("run\nthe", "the\nrun");
    fires("words swapped", &small_tokenizers::bert().with("vocab.txt", words), &["tokenizer-files-differ"]);
    let other = small_tokenizers::llama().with("tokenizer.json", small_tokenizers::bert().0["tokenizer.json"].clone());
    let faults = faults(&verdict(&other));
    assert!(faults.contains(&"tokenizer-files-unrelated"), "{faults:?}");
}

#[test]
fn conversions_to_gguf_lose_nothing() {
    let gpt2 = gguf::gpt2;
    fires("no pre-tokenizer", &Vocab { pre: None, ..gpt2() }.folder(), &["gguf-pre-tokenizer-missing"]);
    let default = Vocab { pre: Some("default".to_string()), ..gpt2() };
    fires("the default pre-tokenizer", &default.folder(), &["gguf-pre-tokenizer-missing"]);
    let unknown = Vocab { pre: Some("qwen99".to_string()), ..gpt2() };
    fires("an unknown pre-tokenizer", &unknown.folder(), &["gguf-pre-tokenizer-unknown"]);
    fires("an unknown kind", &Vocab { model: "llamb", ..gguf::llama() }.folder(), &["gguf-tokenizer-unknown"]);
    fires("no types", &Vocab { types: None, ..gpt2() }.folder(), &["gguf-token-types-missing"]);
    fires("no scores", &Vocab { scores: None, ..gguf::llama() }.folder(), &["gguf-scores-missing"]);
    fires("no scores of T5", &Vocab { scores: None, ..gguf::t5() }.folder(), &["gguf-scores-missing"]);
    let mut vocab = gguf::llama();
    vocab.scores.as_mut().unwrap().push(0.0);
    fires("a score more", &vocab.folder(), &["gguf-token-lists-too-long"]);
    let mut vocab = gguf::llama();
    vocab.types.as_mut().unwrap().pop();
    let faults = faults(&verdict(&vocab.folder()));
    assert!(faults.contains(&"gguf-token-lists-too-short"), "{faults:?}");
    let mut vocab = gpt2();
    vocab.types.as_mut().unwrap()[269] = 1;
    fires("a chat's mark is text", &vocab.folder(), &["gguf-marker-is-text"]);
    let mut vocab = gpt2();
    vocab.types.as_mut().unwrap()[268..].fill(1);
    fires("all marks are text", &vocab.folder(), &["gguf-marker-is-text"]);
    let mut vocab = gpt2();
    vocab.ids.remove(1);
    fires("no end stated", &vocab.folder(), &["gguf-special-default"]);
    // Tokens lost with their rows: the template still writes them.
    let mut vocab = gpt2();
    vocab.tokens.truncate(269);
    vocab.types.as_mut().unwrap().truncate(269);
    vocab.rows = 269;
    vocab.ids = vec![("bos_token_id", 268), ("eos_token_id", 268)];
    fires("added tokens lost", &vocab.folder(), &["chat-marker-unknown"]);
}

#[test]
fn classes_and_origins_belong_together() {
    let class = |name: &'static str| {
        small_tokenizers::byte_level().edit("tokenizer_config.json", move |json| json["tokenizer_class"] = json!(name))
    };
    fires("BERT's class", &class("BertTokenizer"), &["tokenizer-class-wrong"]);
    fires("T5's class", &class("T5TokenizerFast"), &["tokenizer-class-wrong"]);
    fires("a class that fits", &class("GPT2TokenizerFast"), &[]);
    let family = small_tokenizers::byte_level().edit("config.json", |json| json["model_type"] = json!("gemma2"));
    fires("Gemma's weights", &family, &["tokenizer-of-another-family"]);
    let origin = small_tokenizers::byte_level()
        .edit("config.json", |json| json["_name_or_path"] = json!("mistralai/Mistral-7B-v0.1"));
    fires("another origin", &origin, &["origins-differ"]);
    let same =
        small_tokenizers::byte_level().edit("config.json", |json| json["_name_or_path"] = json!("/models/qwen2.5-ft"));
    fires("the same origin", &same, &[]);
    let long = small_tokenizers::bert().edit("tokenizer_config.json", |json| json["model_max_length"] = json!(512));
    fires("longer than the table of positions", &long, &["model-max-length-too-long"]);
}

#[test]
fn chat_templates_belong_to_the_vocabulary() {
    let template = |text: String| {
        small_tokenizers::byte_level().edit("tokenizer_config.json", move |json| json["chat_template"] = json!(text))
    };
    let llama = CHATML.replace("<|im_start|>", "<|start_header_id|>").replace("<|im_end|>", "<|eot_id|>");
    fires("Llama 3's marks", &template(llama), &["chat-marker-unknown"]);
    let plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}".to_string();
    fires("plain text", &template(plain), &[]);
    let zephyr = CHATML.replace("<|im_start|>", "<|user|>");
    fires("marks that are text", &template(zephyr), &[]);
    fires("half a template", &template("{% for m in messages %}".to_string()), &["chat-template-broken"]);
    fires("what is not there", &template("{{ messages[0].nothing.more }}".to_string()), &["chat-template-fails"]);
    let end = small_tokenizers::byte_level()
        .edit("generation_config.json", |json| json["eos_token_id"] = json!(268))
        .edit("tokenizer_config.json", |json| json["eos_token"] = json!("<|endoftext|>"))
        .edit("special_tokens_map.json", |json| json["eos_token"] = json!("<|endoftext|>"));
    fires("turns that do not end", &end, &["chat-end-not-eos"]);
    let file = small_tokenizers::byte_level().with("chat_template.jinja", CHATML.replace("<|im_end|>", "<|im_end|> "));
    notes("two templates", &file, "chat-templates-differ");
    let twice = small_tokenizers::llama()
        .with("chat_template.jinja", "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}");
    notes("the begin twice", &twice, "bos-twice");
    let mut vocab = gguf::gpt2();
    vocab.tokens[270] = "<|turn_end|>".to_string();
    vocab.template = Some(CHATML.replace("<|im_end|>", "<|turn_end|>"));
    vocab.ids = vec![("bos_token_id", 268), ("eos_token_id", 268)];
    fires("a GGUF's turns that do not end", &vocab.folder(), &["chat-end-not-eos"]);
}

/// The README's mismatched pair: one piece lost from the vocabulary of the example moves every special token by one.
#[test]
fn the_pair_of_the_readme_is_caught() {
    let example = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/tiny-llama"));
    let directory = tempfile::tempdir().unwrap();
    let mixed = directory.path().join("mixed");
    std::fs::create_dir(&mixed).unwrap();
    for file in std::fs::read_dir(example).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), mixed.join(file.file_name())).unwrap();
    }
    let check = |path: &std::path::Path| {
        let model = Model::open(path).unwrap();
        let analysis = Analysis::new(&model);
        let found = anatomy::check::check(&analysis, &anatomy::atlas::Atlas::new());
        anatomy::report::Check::new(&analysis, found).text(80)
    };
    let plain = |text: String| {
        let mut parts = text.split('\u{1b}');
        let first = parts.next().unwrap_or_default().to_string();
        parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
    };
    let whole = plain(check(&mixed));
    assert!(whole.contains("whole and consistent"), "{whole}");
    let path = mixed.join("tokenizer.json");
    let mut json: Json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(vocab_of(&mut json).remove("Hel").is_some());
    assert_eq!(json["model"]["merges"].as_array_mut().unwrap().pop(), Some(json!("H el")));
    std::fs::write(&path, json.to_string()).unwrap();
    let text = plain(check(&mixed));
    let text = text.replace(&format!("{}", directory.path().display()), "");
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    assert!(readme.contains(text.trim_end()), "the README shows something else than\n{text}");
}
