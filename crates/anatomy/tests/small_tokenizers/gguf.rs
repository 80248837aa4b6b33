//! Small healthy tokenizers within GGUF files, one for each kind that llama.cpp knows.

use super::{Folder, MERGES, SPECIAL, letters, llama_pieces, t5_pieces};
use crate::common::Gguf;

/// What a GGUF says of its tokenizer, to be written or changed first.
#[derive(Clone)]
pub struct Vocab {
    pub architecture: &'static str,
    pub model: &'static str,
    pub pre: Option<String>,
    pub tokens: Vec<String>,
    pub scores: Option<Vec<f32>>,
    pub types: Option<Vec<i32>>,
    pub merges: Option<Vec<String>>,
    pub ids: Vec<(&'static str, u32)>,
    pub add_bos: Option<bool>,
    pub template: Option<String>,
    /// Rows of the embedding.
    pub rows: u64,
}

impl Vocab {
    /// The file, in a folder of its own.
    pub fn folder(&self) -> Folder {
        let file = Gguf::new();
        let texts = |texts: &[String]| {
            let items: Vec<u8> = texts.iter().flat_map(|text| file.string(text.as_bytes())).collect();
            (9, file.array(8, texts.len() as u64, &items))
        };
        let mut out = Gguf::new().text("general.architecture", self.architecture.as_bytes());
        out = out.text("tokenizer.ggml.model", self.model.as_bytes());
        if let Some(pre) = &self.pre {
            out = out.text("tokenizer.ggml.pre", pre.as_bytes());
        }
        out = out.entry("tokenizer.ggml.tokens", texts(&self.tokens));
        if let Some(scores) = &self.scores {
            let items: Vec<u8> = scores.iter().flat_map(|score| score.to_le_bytes()).collect();
            out = out.entry("tokenizer.ggml.scores", (9, file.array(6, scores.len() as u64, &items)));
        }
        if let Some(types) = &self.types {
            let items: Vec<u8> = types.iter().flat_map(|kind| kind.to_le_bytes()).collect();
            out = out.entry("tokenizer.ggml.token_type", (9, file.array(5, types.len() as u64, &items)));
        }
        if let Some(merges) = &self.merges {
            out = out.entry("tokenizer.ggml.merges", texts(merges));
        }
        for (key, id) in &self.ids {
            out = out.number(&format!("tokenizer.ggml.{key}"), *id);
        }
        if let Some(add) = self.add_bos {
            out = out.entry("tokenizer.ggml.add_bos_token", (7, vec![add.into()]));
        }
        if let Some(template) = &self.template {
            out = out.text("tokenizer.chat_template", template.as_bytes());
        }
        let out = out.tensor("token_embd.weight", &[4, self.rows], 1, 0);
        Folder::default().with("model.gguf", out.file(self.rows as usize * 8))
    }
}

/// Byte-level byte-pair encoding.
pub fn gpt2() -> Vocab {
    let mut tokens = letters();
    let mut types = vec![1; tokens.len()];
    tokens.extend(SPECIAL.map(str::to_string));
    types.extend([3; 3]);
    Vocab {
        architecture: "qwen2",
        model: "gpt2",
        pre: Some("qwen2".to_string()),
        rows: tokens.len() as u64,
        tokens,
        scores: None,
        types: Some(types),
        merges: Some(MERGES.iter().map(|(left, right)| format!("{left} {right}")).collect()),
        ids: vec![("bos_token_id", 268), ("eos_token_id", 270), ("padding_token_id", 268)],
        add_bos: Some(false),
        template: Some(super::CHATML.to_string()),
    }
}

fn scored(architecture: &'static str, model: &'static str, pieces: Vec<super::Piece>) -> Vocab {
    Vocab {
        architecture,
        model,
        pre: Some("default".to_string()),
        rows: pieces.len() as u64,
        tokens: pieces.iter().map(|(text, ..)| text.clone()).collect(),
        scores: Some(pieces.iter().map(|(_, score, _)| *score).collect()),
        types: Some(pieces.iter().map(|(.., kind)| i32::from(*kind)).collect()),
        merges: None,
        ids: Vec::new(),
        add_bos: None,
        template: None,
    }
}

/// SentencePiece's byte-pair encoding.
pub fn llama() -> Vocab {
    let ids = vec![("bos_token_id", 1), ("eos_token_id", 2), ("unknown_token_id", 0)];
    Vocab { ids, ..scored("llama", "llama", llama_pieces()) }
}

/// SentencePiece's unigram model.
pub fn t5() -> Vocab {
    let ids = vec![("eos_token_id", 1), ("unknown_token_id", 2), ("padding_token_id", 0)];
    Vocab { ids, ..scored("t5", "t5", t5_pieces()) }
}

/// PLaMo 2's pieces: SentencePiece's, by another algorithm.
pub fn plamo2() -> Vocab {
    let ids = vec![("bos_token_id", 1), ("eos_token_id", 2), ("unknown_token_id", 0)];
    Vocab { ids, ..scored("plamo2", "plamo2", llama_pieces()) }
}

/// BERT's words, as llama.cpp writes them.
pub fn bert() -> Vocab {
    let tokens: Vec<String> = super::WORDS
        .iter()
        .map(|word| match (word.strip_prefix("##"), word.starts_with('[')) {
            (Some(rest), _) => rest.to_string(),
            (None, true) => word.to_string(),
            (None, false) => format!("▁{word}"),
        })
        .collect();
    let types = tokens.iter().map(|token| if token.starts_with('[') { 3 } else { 1 }).collect();
    Vocab {
        architecture: "bert",
        model: "bert",
        pre: Some("bert-bge".to_string()),
        rows: tokens.len() as u64,
        tokens,
        scores: None,
        types: Some(types),
        merges: None,
        ids: vec![
            ("bos_token_id", 2),
            ("eos_token_id", 3),
            ("cls_token_id", 2),
            ("seperator_token_id", 3),
            ("padding_token_id", 0),
            ("unknown_token_id", 1),
            ("mask_token_id", 4),
        ],
        add_bos: None,
        template: None,
    }
}

/// RWKV's pieces: bytes in escapes.
pub fn rwkv() -> Vocab {
    let mut tokens = vec!["<s>".to_string()];
    tokens.extend((0..=255u8).map(|byte| format!("\\x{byte:02x}")));
    tokens.extend(["hello", " world", "he"].map(str::to_string));
    let mut types = vec![1; tokens.len()];
    types[0] = 3;
    Vocab {
        architecture: "rwkv6",
        model: "rwkv",
        pre: None,
        rows: tokens.len() as u64,
        tokens,
        scores: None,
        types: Some(types),
        merges: None,
        ids: vec![("bos_token_id", 0), ("eos_token_id", 0)],
        add_bos: None,
        template: None,
    }
}

/// Gemma 4's: merges over SentencePiece's pieces.
pub fn gemma4() -> Vocab {
    let merges =
        ["h e", "l l", "he ll", "hell o", "▁ w", "o r", "▁w or", "▁wor ld", "l d"].map(str::to_string).to_vec();
    let mut pieces = vec![
        ("<pad>".to_string(), 0.0, 3),
        ("<eos>".to_string(), 0.0, 3),
        ("<bos>".to_string(), 0.0, 3),
        ("<unk>".to_string(), 0.0, 2),
    ];
    pieces.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
    let texts =
        ["he", "ll", "hell", "hello", "▁w", "or", "▁wor", "ld", "▁world", "▁", "e", "h", "l", "o", "r", "w", "d"];
    pieces.extend((0u8..).zip(texts).map(|(at, text)| (text.to_string(), -f32::from(at), 1)));
    Vocab {
        merges: Some(merges),
        pre: None,
        ids: vec![("bos_token_id", 2), ("eos_token_id", 1), ("padding_token_id", 0), ("unknown_token_id", 3)],
        add_bos: Some(true),
        ..scored("gemma4", "gemma4", pieces)
    }
}
