//! What follows from a vocabulary: how much it covers, and what in it is odd.

use std::collections::BTreeMap;

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use serde::Serialize;

use super::run::{Trie, character};
use super::{Entry, EntryKind, Notation, Tokenizer, scripts};

/// Facts of a vocabulary.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Facts {
    /// Distinct ids.
    pub size: usize,
    /// The highest id.
    pub max_id: Option<u32>,
    /// Ids below the highest that no entry has.
    pub holes: u64,
    /// The first of them.
    pub first_holes: Vec<u32>,
    /// Entries by what they are there for.
    pub kinds: BTreeMap<EntryKind, usize>,
    /// Pieces of text by the script of their first letter, most first.
    pub scripts: Vec<Share>,
    /// The longest pieces of text.
    pub longest: Vec<Shown>,
    /// Pieces that are part of a character only.
    pub partial: usize,
    /// Pieces with control characters.
    pub control: Examples,
    /// Pieces of three blanks or more and nothing else.
    pub blanks: usize,
    /// Pieces of four words or more.
    pub sentences: Examples,
    /// Entries that no text can become, where there is a cheap and exact way to know.
    pub unreachable: Option<Unreachable>,
    /// Texts that several entries have.
    pub duplicates: Examples,
}

/// Entries of one script.
#[derive(Debug, Clone, Serialize)]
pub struct Share {
    /// Its name in Unicode.
    pub script: &'static str,
    /// How many there are.
    pub entries: usize,
}

/// An entry to look at.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// Its id.
    pub id: u32,
    /// Its text; what is no text is replaced.
    pub text: String,
    /// Length in bytes.
    pub bytes: usize,
}

/// How many there are, with the first few.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Examples {
    /// How many.
    pub count: usize,
    /// The first few.
    pub first: Vec<Shown>,
}

/// Entries that no text becomes.
#[derive(Debug, Clone, Serialize)]
pub struct Unreachable {
    /// Why, in words.
    pub criterion: &'static str,
    /// Which.
    #[serde(flatten)]
    pub entries: Examples,
}

/// Entries that are shown of each sort.
const SHOWN: usize = 5;
/// Bytes of a text that are shown.
const MAX_SHOWN: usize = 200;

impl Examples {
    fn add(&mut self, id: u32, bytes: &[u8]) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(shown(id, bytes));
        }
    }
}

fn shown(id: u32, bytes: &[u8]) -> Shown {
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(MAX_SHOWN)).unwrap_or_default()).into_owned();
    Shown { id, text, bytes: bytes.len() }
}

/// Works out the facts of a vocabulary.
pub fn facts(tokenizer: &Tokenizer) -> Facts {
    let mut facts = Facts { size: tokenizer.size(), ..Facts::default() };
    holes(tokenizer, &mut facts);
    let mut by_script: HashMap<&'static str, usize> = HashMap::new();
    let mut texts: HashMap<Vec<u8>, u32> = HashMap::new();
    let mut longest: Vec<(usize, &Entry)> = Vec::new();
    for entry in &tokenizer.entries {
        *facts.kinds.entry(entry.kind).or_default() += 1;
        if entry.kind != EntryKind::Normal {
            continue;
        }
        let bytes = tokenizer.bytes(entry);
        let script = match std::str::from_utf8(&bytes) {
            Err(_) => {
                facts.partial += 1;
                "part of a character"
            }
            Ok(text) => {
                if text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
                    facts.control.add(entry.id, &bytes);
                }
                facts.blanks += usize::from(text.chars().count() >= 3 && text.chars().all(char::is_whitespace));
                if text.split_whitespace().take(4).count() >= 4 {
                    facts.sentences.add(entry.id, &bytes);
                }
                scripts::of(text)
            }
        };
        *by_script.entry(script).or_default() += 1;
        if longest.len() < SHOWN || longest.last().is_some_and(|(length, _)| bytes.len() > *length) {
            longest.push((bytes.len(), entry));
            longest.sort_by_key(|(length, entry)| (std::cmp::Reverse(*length), entry.id));
            longest.truncate(SHOWN);
        }
        // A continuation stands for the same letters as a beginning, but is no duplicate.
        let stored = match tokenizer.notation {
            Notation::Continuation | Notation::WordBegin => entry.stored.to_vec(),
            _ => bytes,
        };
        if let Some(first) = texts.insert(stored, entry.id)
            && first != entry.id
        {
            facts.duplicates.add(entry.id, &tokenizer.bytes(entry));
        }
    }
    facts.longest = longest.into_iter().map(|(_, entry)| shown(entry.id, &tokenizer.bytes(entry))).collect();
    let mut shares: Vec<Share> = by_script.into_iter().map(|(script, entries)| Share { script, entries }).collect();
    shares.sort_by_key(|share| (std::cmp::Reverse(share.entries), share.script));
    facts.scripts = shares;
    facts.unreachable = unreachable(tokenizer);
    facts
}

fn holes(tokenizer: &Tokenizer, facts: &mut Facts) {
    let mut next = 0u32;
    for entry in &tokenizer.entries {
        if entry.id > next {
            facts.holes += u64::from(entry.id - next);
            let room = SHOWN - facts.first_holes.len();
            facts.first_holes.extend((next..entry.id).take(room));
        }
        next = next.max(entry.id.saturating_add(1));
        facts.max_id = facts.max_id.max(Some(entry.id));
    }
}

fn unreachable(tokenizer: &Tokenizer) -> Option<Unreachable> {
    match (tokenizer.model.as_str(), &tokenizer.merges) {
        ("bpe", Some(_)) if tokenizer.words_whole => None,
        ("bpe", Some(_)) => Some(without_merge(tokenizer)),
        ("bpe", None) if tokenizer.kind == "sentencepiece" => without_halves(tokenizer),
        ("sentencepiece", _) => without_halves(tokenizer),
        ("unigram", _) => split_better(tokenizer),
        _ => None,
    }
}

/// Entries of several letters that no merge of reachable ones makes.
fn without_merge(tokenizer: &Tokenizer) -> Unreachable {
    let single = |text: &str| text.chars().nth(1).is_none();
    let mut reached: HashSet<String> = HashSet::new();
    let merges = tokenizer.merges.as_deref().unwrap_or_default();
    let mut text = String::new();
    // Merges stand in the order in which they were learnt, so that once is enough; damaged lists get a few rounds.
    for _ in 0..4 {
        let before = reached.len();
        for merge in merges {
            let is = |side: &str| single(side) || reached.contains(side);
            if is(&merge.left) && is(&merge.right) {
                text.clear();
                text.push_str(&merge.left);
                text.push_str(&merge.right);
                if !reached.contains(&text) {
                    reached.insert(text.clone());
                }
            }
        }
        if reached.len() == before {
            break;
        }
    }
    let mut entries = Examples::default();
    for entry in tokenizer.entries.iter().filter(|entry| entry.kind == EntryKind::Normal) {
        let Ok(text) = std::str::from_utf8(&entry.stored) else { continue };
        if !single(text) && !reached.contains(text) {
            entries.add(entry.id, &tokenizer.bytes(entry));
        }
    }
    Unreachable { criterion: "no merges lead there", entries }
}

/// Longest piece of a SentencePiece vocabulary that is looked into, in bytes: each place in it is tried.
const MAX_HALVED: usize = 1024;

/// Pieces that no two reachable ones make up.
fn without_halves(tokenizer: &Tokenizer) -> Option<Unreachable> {
    let normal = || tokenizer.entries.iter().filter(|entry| entry.kind == EntryKind::Normal);
    if normal().any(|entry| entry.stored.len() > MAX_HALVED) {
        return None;
    }
    let mut sorted: Vec<&Entry> = normal().collect();
    sorted.sort_by_key(|entry| entry.stored.len());
    let mut reached: HashSet<&[u8]> = HashSet::new();
    let mut entries = Examples::default();
    let mut missed: Vec<&Entry> = Vec::new();
    for entry in sorted {
        let text: &[u8] = &entry.stored;
        let is = |part: &[u8]| character(part) == part.len() || reached.contains(part);
        let mut halves = (1..text.len()).filter_map(|at| Some((text.get(..at)?, text.get(at..)?)));
        if character(text) == text.len() || halves.any(|(left, right)| is(left) && is(right)) {
            reached.insert(text);
        } else {
            missed.push(entry);
        }
    }
    missed.sort_by_key(|entry| entry.id);
    missed.iter().for_each(|entry| entries.add(entry.id, &tokenizer.bytes(entry)));
    Some(Unreachable { criterion: "no two pieces make it up", entries })
}

/// Pieces whose text other pieces give a better score: the best path never holds them.
fn split_better(tokenizer: &Tokenizer) -> Option<Unreachable> {
    let normal = || tokenizer.entries.iter().filter(|entry| entry.kind == EntryKind::Normal);
    if normal().any(|entry| entry.stored.len() > MAX_HALVED) {
        return None;
    }
    let scores: HashMap<u32, f64> = normal().map(|entry| (entry.id, entry.score.unwrap_or(0.0).into())).collect();
    let trie = Trie::new(normal().map(|entry| (&*entry.stored, entry.id))).ok()?;
    let mut entries = Examples::default();
    for entry in normal() {
        let text: &[u8] = &entry.stored;
        let mut best = vec![f64::NEG_INFINITY; text.len() + 1];
        if let Some(first) = best.first_mut() {
            *first = 0.0;
        }
        for at in 0..text.len() {
            let here = best.get(at).copied().unwrap_or(f64::NEG_INFINITY);
            for (length, id) in trie.prefixes(text.get(at..).unwrap_or_default()) {
                let whole = length == text.len();
                if let Some(slot) = best.get_mut(at + length).filter(|_| !whole) {
                    *slot = slot.max(here + scores.get(&id).copied().unwrap_or(0.0));
                }
            }
        }
        if best.last().is_some_and(|best| *best > entry.score.unwrap_or(0.0).into()) {
            entries.add(entry.id, &tokenizer.bytes(entry));
        }
    }
    Some(Unreachable { criterion: "other pieces always score better", entries })
}
