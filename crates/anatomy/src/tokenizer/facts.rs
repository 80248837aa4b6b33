//! What follows from a vocabulary: how much it covers, and what in it is odd.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use rayon::prelude::*;
use serde::Serialize;

use super::run::{Trie, character};
use super::{Entry, EntryKind, Index, Joined, Merges, Notation, Tokenizer, scripts};

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
    /// Takes in what a later part found.
    fn join(&mut self, later: Examples) {
        self.count += later.count;
        self.first.extend(later.first);
        self.first.truncate(SHOWN);
    }

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

/// What one part of a vocabulary adds to the facts.
#[derive(Default)]
struct Part {
    facts: Facts,
    by_script: HashMap<&'static str, usize>,
    /// Lengths of the longest pieces, with their entries' places.
    longest: Vec<(Reverse<usize>, usize)>,
    /// Hashes of the pieces' bytes, with their entries' places.
    hashes: Vec<(u64, usize)>,
}

impl Part {
    fn add(&mut self, tokenizer: &Tokenizer, place: usize, entry: &Entry, hasher: &RandomState) {
        let facts = &mut self.facts;
        *facts.kinds.entry(entry.kind).or_default() += 1;
        if entry.kind != EntryKind::Normal {
            return;
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
        *self.by_script.entry(script).or_default() += 1;
        self.long(Reverse(bytes.len()), place);
        self.hashes.push((hasher.hash_one(meant(tokenizer, entry, &bytes)), place));
    }

    fn long(&mut self, length: Reverse<usize>, place: usize) {
        if self.longest.len() < SHOWN || self.longest.last().is_some_and(|(least, _)| length < *least) {
            self.longest.push((length, place));
            self.longest.sort_unstable();
            self.longest.truncate(SHOWN);
        }
    }

    /// Takes in what a later part found.
    fn join(mut self, later: Part) -> Part {
        let Part { facts, by_script, longest, hashes } = later;
        for (kind, count) in facts.kinds {
            *self.facts.kinds.entry(kind).or_default() += count;
        }
        for (script, count) in by_script {
            *self.by_script.entry(script).or_default() += count;
        }
        longest.into_iter().for_each(|(length, place)| self.long(length, place));
        self.hashes.extend(hashes);
        self.facts.partial += facts.partial;
        self.facts.blanks += facts.blanks;
        self.facts.control.join(facts.control);
        self.facts.sentences.join(facts.sentences);
        self
    }
}

/// What makes an entry the same as another: a continuation stands for the same letters as a beginning, but is no
/// duplicate.
fn meant<'a>(tokenizer: &Tokenizer, entry: &'a Entry, bytes: &'a [u8]) -> &'a [u8] {
    match tokenizer.notation {
        Notation::Continuation | Notation::WordBegin => &entry.stored,
        _ => bytes,
    }
}

/// Works out the facts of a vocabulary.
pub fn facts(index: &Index) -> Facts {
    let tokenizer = index.tokenizer;
    let hasher = RandomState::default();
    const PART: usize = 1 << 13;
    let part = |(part, entries): (usize, &[Entry])| {
        let mut found = Part::default();
        entries.iter().enumerate().for_each(|(at, entry)| found.add(tokenizer, part * PART + at, entry, &hasher));
        found
    };
    let parts = || tokenizer.entries.par_chunks(PART).enumerate().map(part).collect::<Vec<Part>>();
    let (parts, unreachable) = rayon::join(parts, || unreachable(index));
    let whole = parts.into_iter().fold(Part::default(), Part::join);
    let Part { mut facts, by_script, longest, mut hashes } = whole;
    facts.size = tokenizer.size();
    holes(tokenizer, &mut facts);
    facts.longest = longest
        .into_iter()
        .filter_map(|(_, place)| tokenizer.entries.get(place))
        .map(|entry| shown(entry.id, &tokenizer.bytes(entry)))
        .collect();
    let mut shares: Vec<Share> = by_script.into_iter().map(|(script, entries)| Share { script, entries }).collect();
    shares.sort_by_key(|share| (Reverse(share.entries), share.script));
    facts.scripts = shares;
    hashes.par_sort_unstable();
    facts.duplicates = duplicates(tokenizer, &hashes);
    facts.unreachable = unreachable;
    facts
}

/// Entries that mean the same as one before, from their hashes in order.
fn duplicates(tokenizer: &Tokenizer, hashes: &[(u64, usize)]) -> Examples {
    let entry = |place: &usize| tokenizer.entries.get(*place);
    let mut again: Vec<&Entry> = Vec::new();
    for equal in hashes.chunk_by(|(one, _), (other, _)| one == other).filter(|equal| equal.len() > 1) {
        let mut ids: HashMap<Vec<u8>, u32> = HashMap::new();
        for entry in equal.iter().filter_map(|(_, place)| entry(place)) {
            let bytes = tokenizer.bytes(entry);
            let first = *ids.entry(meant(tokenizer, entry, &bytes).to_vec()).or_insert(entry.id);
            if first != entry.id {
                again.push(entry);
            }
        }
    }
    again.sort_by_key(|entry| entry.id);
    let mut examples = Examples::default();
    again.iter().for_each(|entry| examples.add(entry.id, &tokenizer.bytes(entry)));
    examples
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

fn unreachable(index: &Index) -> Option<Unreachable> {
    let tokenizer = index.tokenizer;
    match (tokenizer.model.as_str(), &tokenizer.merges) {
        ("bpe", Some(_)) if tokenizer.words_whole => None,
        ("bpe", Some(merges)) => Some(without_merge(index, merges)),
        ("bpe", None) if tokenizer.kind == "sentencepiece" => without_halves(tokenizer),
        ("sentencepiece", _) => without_halves(tokenizer),
        ("unigram", _) if tokenizer.entries.len() <= MAX_SPLIT => split_better(tokenizer),
        _ => None,
    }
}

/// Entries of several letters that no merge of reachable ones makes.
fn without_merge(index: &Index, merges: &Merges) -> Unreachable {
    let entries = &index.tokenizer.entries;
    let single = |text: &[u8]| text.is_empty() || character(text) == text.len();
    let mut reached: Vec<bool> = entries.iter().map(|entry| single(&entry.stored)).collect();
    // Pieces that the vocabulary lacks get numbers behind its own: some programs merge on all the same.
    let mut beyond: HashMap<&str, usize> = HashMap::new();
    let mut number = |place: Option<u32>, text| match place.and_then(|place| usize::try_from(place).ok()) {
        Some(place) => place,
        None => *beyond.entry(text).or_insert_with(|| {
            reached.push(single(text.as_bytes()));
            reached.len() - 1
        }),
    };
    let steps: Vec<[usize; 3]> = merges
        .iter()
        .zip(&index.merges)
        .map(|(merge, Joined { left, right, whole })| {
            [number(*left, merge.left), number(*right, merge.right), number(*whole, merge.whole)]
        })
        .collect();
    // Merges stand in the order in which they were learnt, so that once is enough; damaged lists get a few rounds.
    for _ in 0..4 {
        let mut grown = false;
        for [left, right, whole] in &steps {
            let is = |place: &usize| reached.get(*place).copied().unwrap_or_default();
            if is(left)
                && is(right)
                && !is(whole)
                && let Some(whole) = reached.get_mut(*whole)
            {
                *whole = true;
                grown = true;
            }
        }
        if !grown {
            break;
        }
    }
    // Of a text that stands twice, the first entry was reached.
    let again: HashSet<u32> = index.again.iter().map(|(place, _)| *place).collect();
    let mut missed = Examples::default();
    for ((place, entry), reached) in (0u32..).zip(entries).zip(&reached) {
        let missed_text = !reached && entry.kind == EntryKind::Normal && std::str::from_utf8(&entry.stored).is_ok();
        if missed_text && !again.contains(&place) {
            missed.add(entry.id, &index.tokenizer.bytes(entry));
        }
    }
    Unreachable { criterion: "no merges lead there", entries: missed }
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

/// Pieces of a vocabulary with scores whose best paths are looked for; of 250,000 it would take over a second.
const MAX_SPLIT: usize = 1 << 17;

/// Pieces whose text other pieces give a better score: the best path never holds them.
fn split_better(tokenizer: &Tokenizer) -> Option<Unreachable> {
    let normal = || tokenizer.entries.iter().filter(|entry| entry.kind == EntryKind::Normal);
    if normal().any(|entry| entry.stored.len() > MAX_HALVED) {
        return None;
    }
    let scores: HashMap<u32, f64> = normal().map(|entry| (entry.id, entry.score.unwrap_or(0.0).into())).collect();
    let trie = Trie::new(normal().map(|entry| (&*entry.stored, entry.id))).ok()?;
    // The best score of each place of a text, reached without the entry itself.
    let is_split = |entry: &&Entry| {
        let text: &[u8] = &entry.stored;
        let mut best = vec![f64::NEG_INFINITY; text.len() + 1];
        if let Some(first) = best.first_mut() {
            *first = 0.0;
        }
        for at in 0..text.len() {
            let here = best.get(at).copied().unwrap_or(f64::NEG_INFINITY);
            if here == f64::NEG_INFINITY {
                continue;
            }
            for (length, id) in trie.prefixes(text.get(at..).unwrap_or_default()) {
                let whole = length == text.len();
                if let Some(slot) = best.get_mut(at + length).filter(|_| !whole) {
                    *slot = slot.max(here + scores.get(&id).copied().unwrap_or(0.0));
                }
            }
        }
        best.last().is_some_and(|best| *best > entry.score.unwrap_or(0.0).into())
    };
    let normal: Vec<&Entry> = normal().collect();
    let split: Vec<&Entry> = normal.into_par_iter().filter(is_split).collect();
    let mut entries = Examples::default();
    split.iter().for_each(|entry| entries.add(entry.id, &tokenizer.bytes(entry)));
    Some(Unreachable { criterion: "other pieces always score better", entries })
}
