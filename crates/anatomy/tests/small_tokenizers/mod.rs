//! Small healthy tokenizers of each kind, with weights and configuration that belong to them, to be broken one by one.

// A builder that fails is a failed test, but clippy's allowances for tests do not reach it.
#![allow(dead_code, clippy::expect_used, clippy::cast_possible_truncation, clippy::indexing_slicing)]

pub mod gguf;

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

/// The files of a folder.
#[derive(Clone, Default)]
pub struct Folder(pub BTreeMap<&'static str, Vec<u8>>);

impl Folder {
    pub fn with(mut self, name: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.insert(name, bytes.into());
        self
    }

    pub fn with_json(self, name: &'static str, json: &Json) -> Self {
        self.with(name, json.to_string())
    }

    /// Changes a JSON file.
    pub fn edit(mut self, name: &'static str, edit: impl FnOnce(&mut Json)) -> Self {
        let bytes = self.0.get_mut(name).expect("a file of the folder");
        let mut json = serde_json::from_slice(bytes).expect("a JSON file");
        edit(&mut json);
        *bytes = json.to_string().into_bytes();
        self
    }

    pub fn without(mut self, name: &'static str) -> Self {
        self.0.remove(name).expect("a file of the folder");
        self
    }
}

/// A safetensors file with an embedding and a head of so many rows.
pub fn weights(rows: u64, head: u64) -> Vec<u8> {
    let bytes = |rows: u64| rows * 4 * 2;
    let (one, both) = (bytes(rows), bytes(rows) + bytes(head));
    let header = format!(
        "{{{},{}}}",
        crate::common::entry("model.embed_tokens.weight", "F16", &format!("[{rows},4]"), 0, one),
        crate::common::entry("lm_head.weight", "F16", &format!("[{head},4]"), one, both),
    );
    crate::common::safetensors(&header, both as usize)
}

/// The letter that GPT-2 writes for a byte.
pub fn letter(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !printable(*byte)).count();
    char::from_u32(256 + before as u32).expect("a letter")
}

/// Merges of a few words.
pub const MERGES: [(&str, &str); 12] = [
    ("h", "e"),
    ("l", "l"),
    ("he", "ll"),
    ("hell", "o"),
    ("Ġ", "w"),
    ("o", "r"),
    ("Ġw", "or"),
    ("Ġwor", "l"),
    ("Ġworl", "d"),
    ("i", "n"),
    ("in", "g"),
    ("Ġ", "a"),
];

/// Special tokens of a chat.
pub const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// Pieces of byte-level byte-pair encoding.
pub fn letters() -> Vec<String> {
    let mut pieces: Vec<String> = (0..=255).map(|byte| letter(byte).to_string()).collect();
    pieces.extend(MERGES.iter().map(|(left, right)| format!("{left}{right}")));
    pieces
}

/// A template that writes turns as ChatML does.
pub const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
                          {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn added(id: usize, content: &str) -> Json {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true})
}

/// Byte-level byte-pair encoding as `tokenizer.json`, with all that may lie beside it.
pub fn byte_level() -> Folder {
    let pieces = letters();
    let vocab: serde_json::Map<String, Json> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), json!(id))).collect();
    let specials: Vec<Json> = SPECIAL.iter().enumerate().map(|(at, text)| added(pieces.len() + at, text)).collect();
    let merges: Vec<String> = MERGES.iter().map(|(left, right)| format!("{left} {right}")).collect();
    let decoder: serde_json::Map<String, Json> = specials
        .iter()
        .map(|token| {
            let mut token = token.clone();
            let id = token.as_object_mut().expect("an object").remove("id").expect("an id");
            (id.to_string(), token)
        })
        .collect();
    let ids: serde_json::Map<String, Json> =
        SPECIAL.iter().enumerate().map(|(at, text)| (text.to_string(), json!(pieces.len() + at))).collect();
    Folder::default()
        .with("model.safetensors", weights(272, 272))
        .with_json("config.json", &json!({"model_type": "qwen2", "vocab_size": 272, "bos_token_id": 268, "eos_token_id": 270}))
        .with_json("generation_config.json", &json!({"bos_token_id": 268, "eos_token_id": [270, 268], "pad_token_id": 268}))
        .with_json(
            "tokenizer.json",
            &json!({"version": "1.0", "added_tokens": specials, "normalizer": {"type": "NFC"},
                "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
                "post_processor": null, "decoder": {"type": "ByteLevel"},
                "model": {"type": "BPE", "vocab": vocab, "merges": merges}}),
        )
        .with_json(
            "tokenizer_config.json",
            &json!({"added_tokens_decoder": decoder, "bos_token": null, "eos_token": "<|im_end|>",
                "pad_token": "<|endoftext|>", "unk_token": null, "model_max_length": 32768, "tokenizer_class": "Qwen2Tokenizer",
                "name_or_path": "Qwen/Qwen2.5-7B", "chat_template": CHATML}),
        )
        .with_json("special_tokens_map.json", &json!({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}))
        .with_json("added_tokens.json", &Json::Object(ids))
}

/// The same as `vocab.json` and `merges.txt`.
pub fn byte_level_slow() -> Folder {
    let mut folder = byte_level().without("tokenizer.json");
    let vocab: serde_json::Map<String, Json> =
        letters().into_iter().enumerate().map(|(id, piece)| (piece, json!(id))).collect();
    let merges: String = MERGES.iter().map(|(left, right)| format!("{left} {right}\n")).collect();
    folder = folder.with_json("vocab.json", &Json::Object(vocab));
    folder.with("merges.txt", format!("#version: 0.2\n{merges}"))
}

/// Both, as many folders hold them.
pub fn byte_level_both() -> Folder {
    let Folder(mut files) = byte_level();
    files.extend(byte_level_slow().0);
    Folder(files)
}

/// A piece of SentencePiece: text, score, type.
pub type Piece = (String, f32, u8);

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn field(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Writes a SentencePiece model: `kind` is 1 for unigram, 2 for byte-pair encoding.
pub fn sentencepiece(pieces: &[Piece], kind: u64, byte_fallback: bool) -> Vec<u8> {
    // Where the roles have other ids than Llama's, the file says so: unknown, begin, end, padding.
    let ids: &[i64] = if kind == 1 { &[2, -1, 1, 0] } else { &[0, 1, 2, -1] };
    let mut out = Vec::new();
    for (text, score, kind) in pieces {
        let mut piece = Vec::new();
        field(1, text.as_bytes(), &mut piece);
        piece.push(2 << 3 | 5);
        piece.extend(score.to_le_bytes());
        piece.extend([3 << 3, *kind]);
        field(1, &piece, &mut out);
    }
    let mut trainer = vec![3 << 3];
    varint(kind, &mut trainer);
    varint(35 << 3, &mut trainer);
    varint(byte_fallback.into(), &mut trainer);
    for (number, id) in (40..).zip(ids) {
        varint(number << 3, &mut trainer);
        varint(id.cast_unsigned(), &mut trainer);
    }
    field(2, &trainer, &mut out);
    field(3, &[3 << 3, 1, 4 << 3, 0], &mut out);
    out
}

/// Pieces of Llama's kind: three marks, all bytes, pieces by score.
pub fn llama_pieces() -> Vec<Piece> {
    let mut pieces = vec![("<unk>".to_string(), 0.0, 2), ("<s>".to_string(), 0.0, 3), ("</s>".to_string(), 0.0, 3)];
    pieces.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
    let texts = ["he", "ll", "hell", "hello", "▁w", "or", "▁wor", "▁world", "▁", "e", "h", "l", "o", "r", "w", "d"];
    pieces.extend((0u8..).zip(texts).map(|(at, text)| (text.to_string(), -f32::from(at), 1)));
    pieces
}

/// SentencePiece's byte-pair encoding, as Llama 2 has it.
pub fn llama() -> Folder {
    Folder::default()
        .with("model.safetensors", weights(275, 275))
        .with_json(
            "config.json",
            &json!({"model_type": "llama", "vocab_size": 275, "bos_token_id": 1, "eos_token_id": 2}),
        )
        .with_json("generation_config.json", &json!({"bos_token_id": 1, "eos_token_id": 2}))
        .with("tokenizer.model", sentencepiece(&llama_pieces(), 2, true))
        .with_json(
            "tokenizer_config.json",
            &json!({"add_bos_token": true, "add_eos_token": false, "bos_token": {"content": "<s>"}, "eos_token": "</s>",
                "unk_token": "<unk>", "model_max_length": 1e30, "tokenizer_class": "LlamaTokenizer"}),
        )
        .with_json("special_tokens_map.json", &json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}))
}

/// Pieces of T5's kind.
pub fn t5_pieces() -> Vec<Piece> {
    let mut pieces = vec![("<pad>".to_string(), 0.0, 3), ("</s>".to_string(), 0.0, 3), ("<unk>".to_string(), 0.0, 2)];
    let texts =
        ["▁", "▁the", "s", "ing", "e", "t", "▁world", "hello", "a", "n", "i", "g", "h", "l", "o", "w", "r", "d"];
    pieces.extend((0u8..).zip(texts).map(|(at, text)| (text.to_string(), -2.0 - f32::from(at) / 4.0, 1)));
    pieces
}

/// SentencePiece's unigram model, as T5 has it.
pub fn t5() -> Folder {
    Folder::default()
        .with("model.safetensors", weights(24, 24))
        .with_json(
            "config.json",
            &json!({"model_type": "t5", "vocab_size": 24, "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}),
        )
        .with("spiece.model", sentencepiece(&t5_pieces(), 1, false))
        .with_json(
            "tokenizer_config.json",
            &json!({"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "model_max_length": 512,
                "tokenizer_class": "T5Tokenizer"}),
        )
}

/// WordPiece's pieces, as BERT has them.
pub const WORDS: [&str; 16] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "hello", "world", "##s", "##ing", "##a", "##b", "run",
    "the", ".",
];

/// WordPiece as `vocab.txt` and `tokenizer.json`.
pub fn bert() -> Folder {
    let vocab: serde_json::Map<String, Json> =
        WORDS.iter().enumerate().map(|(id, piece)| (piece.to_string(), json!(id))).collect();
    let specials: Vec<Json> = (0..5).map(|id| added(id, WORDS[id])).collect();
    Folder::default()
        .with("model.safetensors", bert_weights(16, 8))
        .with_json("config.json", &json!({"model_type": "bert", "vocab_size": 16, "pad_token_id": 0, "max_position_embeddings": 8}))
        .with("vocab.txt", WORDS.join("\n") + "\n")
        .with_json(
            "tokenizer.json",
            &json!({"version": "1.0", "added_tokens": specials,
                "normalizer": {"type": "BertNormalizer", "clean_text": true, "lowercase": true},
                "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
                "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                    "max_input_chars_per_word": 100, "vocab": vocab}}),
        )
        .with_json(
            "tokenizer_config.json",
            &json!({"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]",
                "unk_token": "[UNK]", "do_lower_case": true, "model_max_length": 8, "tokenizer_class": "BertTokenizer"}),
        )
}

/// An embedding with positions.
pub fn bert_weights(rows: u64, positions: u64) -> Vec<u8> {
    let (one, both) = (rows * 8, (rows + positions) * 8);
    let header = format!(
        "{{{},{}}}",
        crate::common::entry("embeddings.word_embeddings.weight", "F16", &format!("[{rows},4]"), 0, one),
        crate::common::entry("embeddings.position_embeddings.weight", "F16", &format!("[{positions},4]"), one, both),
    );
    crate::common::safetensors(&header, both as usize)
}

/// Plain base64.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| char::from(LETTERS[(bits & 63) as usize]);
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        out.extend([letter(bits >> 18), letter(bits >> 12)]);
        out.push(if three.len() > 1 { letter(bits >> 6) } else { '=' });
        out.push(if three.len() > 2 { letter(bits) } else { '=' });
    }
    out
}

/// The ranks of a few words.
pub fn ranks() -> Vec<Vec<u8>> {
    let mut ranks: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    ranks.extend(
        ["he", "ll", "hell", "hello", " w", "or", " wor", " worl", " world"].map(|text| text.as_bytes().to_vec()),
    );
    ranks
}

/// tiktoken's ranks, as Qwen's first models have them.
pub fn tiktoken(ranks: &[Vec<u8>]) -> Folder {
    let lines: String = ranks.iter().enumerate().map(|(rank, piece)| format!("{} {rank}\n", base64(piece))).collect();
    Folder::default()
        .with("model.safetensors", weights(272, 272))
        .with_json("config.json", &json!({"model_type": "qwen", "vocab_size": 272}))
        .with("qwen.tiktoken", lines)
        .with_json("tokenizer_config.json", &json!({"tokenizer_class": "QWenTokenizer", "model_max_length": 8192}))
}

/// Mistral's `tekken.json`.
pub fn tekken(ranks: &[Vec<u8>]) -> Folder {
    let vocab: Vec<Json> = ranks
        .iter()
        .enumerate()
        .map(|(rank, piece)| json!({"rank": rank, "token_bytes": base64(piece), "token_str": null}))
        .collect();
    let special: Vec<Json> = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>"]
        .iter()
        .enumerate()
        .map(|(rank, text)| json!({"rank": rank, "token_str": text, "is_control": true}))
        .collect();
    let size = ranks.len() + 10;
    Folder::default()
        .with("model.safetensors", weights(size as u64, size as u64))
        .with_json("config.json", &json!({"model_type": "mistral", "vocab_size": size, "bos_token_id": 1, "eos_token_id": 2}))
        .with_json(
            "tekken.json",
            &json!({"config": {"pattern": "\\p{L}+|\\p{N}|.", "num_vocab_tokens": ranks.len(), "default_vocab_size": size,
                "default_num_special_tokens": 10, "version": "v3"}, "vocab": vocab, "special_tokens": special}),
        )
}
