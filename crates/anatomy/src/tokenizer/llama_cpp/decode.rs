//! From ids to text (`llama_detokenize`).

use super::vocabulary::{BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED};
use super::{Algorithm, LlamaCpp};
use crate::tokenizer::{byte_of_letter, byte_of_tag, replace, unescape};

impl LlamaCpp {
    /// The text of ids, with special tokens written out or left out.
    pub fn decode(&self, ids: &[u32], special: bool) -> Vec<u8> {
        let vocabulary = &self.vocabulary;
        let mut ids = ids;
        let mut strip = vocabulary.add_space_prefix;
        if !special {
            if vocabulary.add_bos && vocabulary.bos.is_some() && ids.first().copied() == vocabulary.bos {
                strip = false;
                ids = ids.get(1..).unwrap_or_default();
            }
            if vocabulary.add_eos && vocabulary.eos.is_some() && ids.last().copied() == vocabulary.eos {
                ids = ids.get(..ids.len() - 1).unwrap_or_default();
            }
        }
        let mut out = Vec::new();
        for id in ids {
            let piece = self.decode_one(*id, special).unwrap_or_default();
            let piece = if strip { piece.strip_prefix(b" ").unwrap_or(&piece) } else { &piece };
            out.extend_from_slice(piece);
            strip = false;
        }
        if vocabulary.clean_spaces { clean(&out) } else { out }
    }

    /// The text of one id; `None` where there is no such id.
    pub(super) fn decode_one(&self, id: u32, special: bool) -> Option<Vec<u8>> {
        let vocabulary = &self.vocabulary;
        if usize::try_from(id).ok()? >= vocabulary.len() {
            return None;
        }
        let attributes = vocabulary.attributes(id);
        if !special && attributes & (CONTROL | UNKNOWN) != 0 {
            return Some(Vec::new());
        }
        let text = vocabulary.text(id);
        // What tells DNA's sixes from words is no part of them.
        let text = if self.settings.model == "hybriddna" {
            text.strip_suffix("\u{e000}".as_bytes()).unwrap_or(text)
        } else {
            text
        };
        Some(match &self.algorithm {
            Algorithm::Rwkv(_) => unescape(text),
            Algorithm::Plamo2(_) => match byte_of_tag(text).filter(|_| attributes & BYTE != 0) {
                Some(byte) => vec![byte],
                None => text.to_vec(),
            },
            _ if attributes & (CONTROL | UNKNOWN | USER_DEFINED) != 0 => text.to_vec(),
            Algorithm::Bpe(_) if attributes & NORMAL != 0 && !vocabulary.escape => letters(text),
            _ if attributes & NORMAL != 0 => replace(text, "▁".as_bytes(), b" "),
            _ if attributes & BYTE != 0 => byte_of_tag(text).into_iter().collect(),
            _ => Vec::new(),
        })
    }
}

/// Bytes of letters; what is no such letter is named (`llama_decode_text`).
fn letters(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let shown = String::from_utf8_lossy(text);
    for c in shown.chars() {
        match byte_of_letter(c) {
            Some(byte) => out.push(byte),
            None => {
                out.extend_from_slice(b"[UNK_BYTE_0x");
                let mut buffer = [0; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    out.extend_from_slice(format!("{byte:02x}").as_bytes());
                }
                out.extend_from_slice(shown.as_bytes());
                out.push(b']');
            }
        }
    }
    out
}

/// Takes out blanks before punctuation and English contractions, in llama.cpp's three passes.
fn clean(text: &[u8]) -> Vec<u8> {
    let mut first: Vec<u8> = Vec::with_capacity(text.len());
    for (index, byte) in text.iter().enumerate() {
        if index > 0 && text.get(index - 1) == Some(&b' ') && b"?!.,".contains(byte) {
            first.pop();
        }
        first.push(*byte);
    }
    // A lone apostrophe loses the blanks around it.
    let mut second: Vec<u8> = Vec::with_capacity(first.len());
    let mut index = 0;
    // A blank that was taken out is none before the next apostrophe.
    let mut before = None;
    while let Some(byte) = first.get(index).copied() {
        let alone = byte == b'\'' && before == Some(b' ') && first.get(index + 1) == Some(&b' ');
        if alone {
            second.pop();
            index += 1;
        }
        before = (!alone).then_some(byte);
        second.push(byte);
        index += 1;
    }
    let mut third: Vec<u8> = Vec::with_capacity(second.len());
    for (index, byte) in second.iter().enumerate() {
        if *byte == b'\'' && index > 0 && second.get(index - 1) == Some(&b' ') {
            let short = matches!(second.get(index + 1), Some(b's' | b'm'));
            let long = matches!(second.get(index + 1..index + 3), Some(b"re" | b"ve"));
            if short || long {
                third.pop();
            }
        }
        third.push(*byte);
    }
    third
}
