//! Vocabularies as plain files: `vocab.json` with `merges.txt` (GPT-2 and its heirs), `vocab.txt` (BERT).

use serde::de::DeserializeSeed;

use super::lists::Vocabulary;
use super::{ENTRY_BROKEN, Entry, EntryKind, File, MAX_ENTRIES, Merges, Notation, Tokenizer};

/// `vocab.json` (or `encoder.json`), with its merges where there are some.
pub(super) fn read_json(file: &File, merges: Option<&File>) -> Tokenizer {
    let mut tokenizer = file.tokenizer("vocab-json");
    tokenizer.model = if merges.is_some() { "bpe" } else { "wordlevel" }.to_string();
    let mut refused = 0;
    let entries = Vocabulary(|id, piece: &str, score| match u32::try_from(id) {
        Ok(id) if tokenizer.entries.len() < MAX_ENTRIES => {
            tokenizer.entries.push(Entry { id, stored: piece.as_bytes().into(), score, kind: EntryKind::Normal });
        }
        _ => refused += 1,
    });
    let read = file.bytes().and_then(|bytes| {
        let read = entries.deserialize(&mut serde_json::Deserializer::from_slice(&bytes));
        read.map_err(|error| super::summary::json_error(file.source, &bytes, &error))
    });
    if let Err(error) = read {
        tokenizer.unread(&error);
    }
    if let Some(file) = merges {
        tokenizer.files.push(file.source.clone());
        tokenizer.notation = Notation::ByteLetters;
        tokenizer.byte_fallback = true;
        tokenizer.pre_tokenizer = vec!["bytes as letters, cut by GPT-2's pattern".to_string()];
        match file.bytes() {
            Ok(bytes) => {
                let (merges, bad) = read_merges(&bytes);
                refused += bad;
                tokenizer.merges = Some(merges);
            }
            Err(error) => tokenizer.unread(&error),
        }
    }
    if refused > 0 {
        tokenizer.problem(&ENTRY_BROKEN, format!("{refused} entries or merges cannot be, or are too many"));
    }
    tokenizer
}

/// Merges, a line each; a first line may name the version.
fn read_merges(bytes: &[u8]) -> (Merges, u64) {
    let mut merges = Merges::default();
    let mut refused = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#version") {
            continue;
        }
        let merge = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' '));
        refused += u64::from(!merge.is_some_and(|(left, right)| merges.push(left, right)));
    }
    (merges, refused)
}

/// `vocab.txt`: a piece a line, the line's number its id.
pub(super) fn read_text(file: &File) -> Tokenizer {
    let mut tokenizer = file.tokenizer("vocab-txt");
    tokenizer.model = "wordpiece".to_string();
    tokenizer.notation = Notation::Continuation;
    tokenizer.normalizer = vec!["BERT's clean-up".to_string()];
    tokenizer.pre_tokenizer = vec!["cut at blanks, each punctuation mark a word".to_string()];
    match file.bytes() {
        Ok(bytes) => {
            let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            for (id, line) in (0..).zip(text.split(|byte| *byte == b'\n').take(MAX_ENTRIES)) {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                tokenizer.entries.push(Entry { id, stored: line.into(), score: None, kind: EntryKind::Normal });
            }
        }
        Err(error) => tokenizer.unread(&error),
    }
    // BERT's names; a configuration may say otherwise.
    for (role, token) in [("unk", "[UNK]"), ("cls", "[CLS]"), ("sep", "[SEP]"), ("pad", "[PAD]"), ("mask", "[MASK]")] {
        let entry = tokenizer.entries.iter_mut().find(|entry| *entry.stored == *token.as_bytes());
        if let Some(entry) = entry {
            entry.kind = if role == "unk" { EntryKind::Unknown } else { EntryKind::Control };
            let id = Some(entry.id.into());
            let stated = format!("{}: BERT's names", tokenizer.source);
            let token = Some(token.to_string());
            tokenizer.roles.push(super::Role { role, token, id, by_id: true, stated });
        }
    }
    tokenizer
}
