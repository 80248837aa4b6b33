//! tiktoken's ranks: byte pieces in base64, the earlier of two merges first. Either a line each, or all in one JSON
//! file with pattern and special tokens.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{AddedToken, Details, ENTRY_BROKEN, Entry, EntryKind, File, MAX_ENTRIES, Notation, Tokenizer, base64};
use crate::source::Source;

/// Ranks, a line each: `IQ== 0`.
pub(super) fn read(file: &File) -> Tokenizer {
    let mut tokenizer = ranks(file);
    let bytes = match file.bytes() {
        Ok(bytes) => bytes,
        Err(error) => {
            tokenizer.unread(&error);
            return tokenizer;
        }
    };
    let mut refused = 0u64;
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        let mut parts = line.split(|byte| *byte == b' ');
        let rank = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
        let entry = match (parts.next(), parts.next(), parts.next()) {
            (Some(piece), Some(number), None) => base64(piece).zip(rank(number)),
            _ if line.is_empty() => continue,
            _ => None,
        };
        match entry {
            Some((piece, id)) => refused += push(&mut tokenizer, piece, id),
            None => refused += 1,
        }
    }
    finish(&mut tokenizer, refused);
    tokenizer
}

/// Whether a JSON file is one of ranks: `bpe_ranks` is all that its first bytes need to name.
pub(super) fn is_json(source: &Source) -> bool {
    let head = source.read_up_to(0, 64 * 1024).unwrap_or_default();
    head.windows(11).any(|window| window == b"\"bpe_ranks\"")
}

/// The JSON form of <https://github.com/dqbd/tiktoken>: `bpe_ranks` is lines of a mark, the first rank and pieces.
pub(super) fn read_json(file: &File) -> Tokenizer {
    #[derive(Deserialize)]
    struct Whole<'a> {
        pat_str: Option<String>,
        #[serde(borrow)]
        special_tokens: Option<&'a RawValue>,
        bpe_ranks: String,
    }
    let mut tokenizer = ranks(file);
    let bytes = match file.bytes() {
        Ok(bytes) => bytes,
        Err(error) => {
            tokenizer.unread(&error);
            return tokenizer;
        }
    };
    let whole: Whole = match serde_json::from_slice(&bytes) {
        Ok(whole) => whole,
        Err(error) => {
            tokenizer.unread(&super::summary::json_error(file.source, &bytes, &error));
            return tokenizer;
        }
    };
    let mut refused = 0;
    for line in whole.bpe_ranks.lines() {
        let mut words = line.split(' ').skip(1);
        let Some(first) = words.next().and_then(|word| word.parse::<u32>().ok()) else {
            refused += 1;
            continue;
        };
        for (step, word) in (0u32..).zip(words) {
            match base64(word.as_bytes()).filter(|piece| !piece.is_empty()).zip(first.checked_add(step)) {
                Some((piece, id)) => refused += push(&mut tokenizer, piece, id),
                None => refused += 1,
            }
        }
    }
    let special: serde_json::Map<String, serde_json::Value> =
        whole.special_tokens.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    for (content, id) in special.into_iter().take(MAX_ENTRIES) {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        refused += u64::from(id.is_none());
        let source = tokenizer.source.clone();
        tokenizer.added.push(AddedToken { id, content, special: true, source, ..AddedToken::default() });
    }
    tokenizer.details = Details::Ranks { pattern: whole.pat_str };
    finish(&mut tokenizer, refused);
    tokenizer
}

fn ranks(file: &File) -> Tokenizer {
    let mut tokenizer = file.tokenizer("tiktoken");
    tokenizer.model = "bpe".to_string();
    tokenizer.notation = Notation::Plain;
    tokenizer.byte_fallback = true;
    tokenizer.details = Details::Ranks { pattern: None };
    tokenizer
}

/// Adds a piece; 1 where there are too many.
fn push(tokenizer: &mut Tokenizer, piece: Vec<u8>, id: u32) -> u64 {
    if tokenizer.entries.len() >= MAX_ENTRIES {
        return 1;
    }
    tokenizer.entries.push(Entry { id, stored: piece.into(), score: None, kind: EntryKind::Normal });
    0
}

fn finish(tokenizer: &mut Tokenizer, refused: u64) {
    if refused > 0 {
        tokenizer
            .problem(&ENTRY_BROKEN, format!("{refused} entries are no piece in base64 with its rank, or are too many"));
    }
    match &tokenizer.details {
        Details::Ranks { pattern: Some(pattern) } => {
            tokenizer.pre_tokenizer = vec![format!("cut by the pattern {pattern}")]
        }
        _ => {
            let words = match known(tokenizer) {
                Some(known) => format!("cut by the pattern of {}, known by its number of ranks", known.name),
                None => "cut by a pattern that the file does not hold".to_string(),
            };
            tokenizer.pre_tokenizer = vec![words];
        }
    }
}

/// What is known of a file of ranks by their number.
pub(super) struct Known {
    /// The encoding's name.
    pub name: &'static str,
    ranks: usize,
    /// The pattern that cuts words.
    pub pattern: &'static str,
    /// Its special tokens.
    pub special: &'static [(u32, &'static str)],
}

const GPT2: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s";
const CL100K: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Encodings whose files hold ranks alone: OpenAI's (`tiktoken_ext/openai_public.py` of tiktoken), Llama 3's
/// (`llama3/tokenizer.py` of Meta), Qwen's (`tokenization_qwen.py`).
const KNOWN: [Known; 6] = [
    Known { name: "r50k_base", ranks: 50_256, pattern: GPT2, special: &[(50_256, "<|endoftext|>")] },
    Known { name: "p50k_base", ranks: 50_280, pattern: GPT2, special: &[(50_256, "<|endoftext|>")] },
    Known {
        name: "cl100k_base",
        ranks: 100_256,
        pattern: CL100K,
        special: &[
            (100_257, "<|endoftext|>"),
            (100_258, "<|fim_prefix|>"),
            (100_259, "<|fim_middle|>"),
            (100_260, "<|fim_suffix|>"),
            (100_276, "<|endofprompt|>"),
        ],
    },
    Known {
        name: "o200k_base",
        ranks: 199_998,
        pattern: O200K,
        special: &[(199_999, "<|endoftext|>"), (200_018, "<|endofprompt|>")],
    },
    Known {
        name: "Llama 3",
        ranks: 128_000,
        pattern: LLAMA3,
        special: &[
            (128_000, "<|begin_of_text|>"),
            (128_001, "<|end_of_text|>"),
            (128_006, "<|start_header_id|>"),
            (128_007, "<|end_header_id|>"),
            (128_009, "<|eot_id|>"),
        ],
    },
    Known {
        name: "Qwen",
        ranks: 151_643,
        pattern: QWEN,
        special: &[(151_643, "<|endoftext|>"), (151_644, "<|im_start|>"), (151_645, "<|im_end|>")],
    },
];

/// The encoding of a file that holds ranks alone, by their number.
pub(super) fn known(tokenizer: &Tokenizer) -> Option<&'static Known> {
    let Details::Ranks { pattern: None } = &tokenizer.details else { return None };
    let special: std::collections::HashSet<u32> = tokenizer.added.iter().filter_map(|token| token.id).collect();
    let ranks = tokenizer.entries.iter().filter(|entry| !special.contains(&entry.id)).count();
    KNOWN.iter().find(|known| known.ranks == ranks)
}
