//! What is the tokenizer, on one screen; and what it makes of a text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

use serde::Serialize;

use super::page::Page;
use super::style::{self, BOLD, CYAN, DIM, GREEN, RED, RESET, YELLOW, paint};
use super::template::ChatTemplates;
use super::units::{count, elide, percent, safe, thousands};
use crate::analysis::Analysis;
use crate::check::tokenizer::Verdict;
use crate::finding::Finding;
use crate::names;
use crate::tokenizer::{self, AddedToken, EntryKind, Facts, Index, Merges, Piece, Role, Special, Stated};

/// The document of `anatomy tokenizer`.
#[derive(Debug, Serialize)]
pub struct Tokenizer {
    schema: &'static str,
    source: String,
    kind: &'static str,
    model: String,
    /// Name of the file that holds it.
    file: String,
    vocab_size: usize,
    max_id: Option<u32>,
    merges: Option<usize>,
    special_tokens: BTreeMap<&'static str, Special>,
    /// Every statement of a special token, with its place.
    roles: Vec<Role>,
    added_tokens: Vec<AddedToken>,
    chat_template: bool,
    #[serde(flatten)]
    chat: ChatTemplates,
    add_bos: Option<Stated<bool>>,
    add_eos: Option<Stated<bool>>,
    byte_fallback: bool,
    normalizer: Vec<String>,
    pre_tokenizer: Vec<String>,
    post_processor: Vec<String>,
    decoder: Vec<String>,
    model_max_length: Option<Stated<u64>>,
    /// Where the file has texts cut, and to what length it has them filled up, in tokens.
    truncation: Option<u64>,
    padding: Option<u64>,
    tokenizer_class: Option<String>,
    facts: Facts,
    /// Other tokenizers of the same model.
    others: Vec<Other>,
    /// Rows of the embedding and of the output.
    rows: Rows,
    /// Whether it matches the weights, as far as all files say; nothing where that cannot be said.
    matches: Option<bool>,
    /// Why, in a sentence.
    why: String,
    /// What is odd or wrong.
    pub findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Other {
    kind: &'static str,
    file: String,
    vocab_size: usize,
}

#[derive(Debug, Default, Serialize)]
struct Rows {
    embedding: Option<u64>,
    output: Option<u64>,
}

impl Tokenizer {
    /// Describes the first of a model's tokenizers, with its chat templates; `None` where there is none.
    pub fn new(
        source: &str,
        tokenizers: &[Index],
        analysis: &Analysis,
        verdict: Verdict,
        chat: ChatTemplates,
    ) -> Option<Self> {
        let (index, others) = tokenizers.split_first()?;
        let (tokenizer, facts) = (index.tokenizer, tokenizer::facts(index));
        let mut special_tokens = BTreeMap::new();
        for role in &tokenizer.roles {
            special_tokens.entry(role.role).or_insert(Special { token: role.token.clone(), id: role.id });
        }
        let configuration = &tokenizer.configuration;
        let user_defined = |entry: &&tokenizer::Entry| entry.kind == EntryKind::UserDefined;
        let mut added_tokens = tokenizer.added.clone();
        if added_tokens.is_empty() {
            added_tokens.extend(tokenizer.entries.iter().filter(user_defined).map(|entry| AddedToken {
                id: Some(entry.id),
                content: String::from_utf8_lossy(&entry.stored).into_owned(),
                source: tokenizer.source.clone(),
                ..AddedToken::default()
            }));
        }
        Some(Tokenizer {
            schema: SCHEMA,
            source: source.to_string(),
            kind: tokenizer.kind,
            model: tokenizer.model.clone(),
            file: tokenizer.source.clone(),
            vocab_size: facts.size,
            max_id: facts.max_id,
            merges: tokenizer.merges.as_ref().map(Merges::len),
            special_tokens,
            roles: tokenizer.roles.clone(),
            added_tokens,
            chat_template: !chat.templates.is_empty(),
            chat,
            add_bos: configuration.add_bos.clone(),
            add_eos: configuration.add_eos.clone(),
            byte_fallback: tokenizer.byte_fallback,
            normalizer: tokenizer.normalizer.clone(),
            pre_tokenizer: tokenizer.pre_tokenizer.clone(),
            post_processor: tokenizer.post_processor.clone(),
            decoder: tokenizer.decoder.clone(),
            model_max_length: configuration.max_length.clone(),
            truncation: tokenizer.truncation,
            padding: tokenizer.padding,
            tokenizer_class: configuration.class.clone(),
            facts,
            others: others
                .iter()
                .map(|other| other.tokenizer)
                .map(|other| Other { kind: other.kind, file: other.source.clone(), vocab_size: other.size() })
                .collect(),
            rows: Rows::of(analysis),
            matches: verdict.matches,
            why: verdict.why,
            findings: verdict.findings,
        })
    }

    /// The page.
    pub fn text(&self, width: usize) -> String {
        let mut page = Page { out: String::new(), width: width.clamp(40, 100) };
        let name = base(&self.source);
        let model = match self.model.as_str() {
            "bpe" => "BPE".to_string(),
            "wordpiece" => "WordPiece".to_string(),
            "sentencepiece" => "SentencePiece".to_string(),
            "rwkv" => "RWKV".to_string(),
            other => safe(other),
        };
        let mut words = vec![format!("{model} tokenizer"), count(self.vocab_size as u64, "token", "tokens")];
        words.extend(self.merges.map(|merges| count(merges as u64, "merge", "merges")));
        page.line(&format!("{}  {}", paint(BOLD, safe(name)), words.join(", ")));
        let mut held = format!("{} in {}", self.kind, safe(base(&self.file)));
        for other in &self.others {
            let _ = write!(
                held,
                "; also {} ({})",
                safe(base(&other.file)),
                count(other.vocab_size as u64, "token", "tokens")
            );
        }
        page.section("file", &held);
        self.special(&mut page);
        self.steps(&mut page);
        self.coverage(&mut page);
        self.oddities(&mut page);
        self.verdict(&mut page);
        self.chat.draw(&mut page);
        if !self.findings.is_empty() {
            page.line("");
            page.out.push_str(&style::findings(&self.findings, page.width));
        }
        page.out
    }

    fn special(&self, page: &mut Page) {
        let token = |(role, special): (&&str, &Special)| {
            let text = special.token.as_deref().map(|token| elide(&safe(token), 28)).unwrap_or_default();
            let id = special.id.map(|id| format!(" ({id})")).unwrap_or_default();
            format!("{role} {text}{id}")
        };
        let tokens: Vec<String> = self.special_tokens.iter().map(token).collect();
        page.section("special", if tokens.is_empty() { "none stated".to_string() } else { tokens.join(", ") }.as_str());
        let mut words = Vec::new();
        for (what, place, stated) in [("bos", "before", &self.add_bos), ("eos", "behind", &self.add_eos)] {
            words.extend(stated.as_ref().map(|stated| match stated.value {
                true => format!("{what} is put {place} every text"),
                false => format!("no {what} {place} a text"),
            }));
        }
        let added = count(self.added_tokens.len() as u64, "added token", "added tokens");
        if matches!(self.kind, "gguf" | "sentencepiece") {
            // These files say what each token is for, and have no list of those that were added.
            let of = |kind| self.facts.kinds.get(&kind).copied().unwrap_or_default() as u64;
            let control = of(EntryKind::Control);
            words.extend((control > 0).then(|| count(control, "control token", "control tokens")));
            words.extend((!self.added_tokens.is_empty()).then_some(added));
        } else if !self.added_tokens.is_empty() {
            let special = self.added_tokens.iter().filter(|token| token.special).count();
            words.push(format!("{added}, {} of them special", thousands(special as u64)));
        }
        if !words.is_empty() {
            page.more("{}", &words.join("; "));
        }
        if let Some(length) = &self.model_max_length {
            page.more("{}", &format!("texts of up to {} tokens", thousands(length.value)));
        }
        let cut = self.truncation.map(|tokens| format!("cuts texts at {} tokens", thousands(tokens)));
        let fill = self.padding.map(|tokens| format!("fills them up to {}", thousands(tokens)));
        let words: Vec<String> = cut.into_iter().chain(fill).collect();
        if !words.is_empty() {
            page.more("{}", &format!("the library {} (not applied here)", words.join(" and ")));
        }
    }

    fn steps(&self, page: &mut Page) {
        let parts = [
            ("normalises", &self.normalizer),
            ("cuts", &self.pre_tokenizer),
            ("surrounds", &self.post_processor),
            ("decodes", &self.decoder),
        ];
        for (name, steps) in parts.into_iter().filter(|(_, steps)| !steps.is_empty()) {
            let text = steps.iter().map(|step| elide(&safe(step), 180)).collect::<Vec<_>>().join("; then ");
            page.section(name, &text);
        }
    }

    fn coverage(&self, page: &mut Page) {
        let pieces: usize = self.facts.scripts.iter().map(|share| share.entries).sum();
        let share = |share: &tokenizer::Share| {
            let name = share.script.replace('_', " ");
            format!("{name} {}", percent(share.entries as u64, pieces as u64))
        };
        let shown: Vec<String> = self.facts.scripts.iter().take(8).map(share).collect();
        let more = self.facts.scripts.len().saturating_sub(shown.len());
        let mut text = shown.join(", ");
        if more > 0 {
            let _ = write!(text, ", {more} more");
        }
        if !text.is_empty() {
            page.section("scripts", &text);
        }
        if self.byte_fallback {
            page.more("{}", "any bytes can be written");
        } else if self.matches != Some(false) {
            page.more("{}", "what no entry covers becomes unknown");
        }
        let longest = |shown: &tokenizer::Shown| format!("{:?} ({})", elide(&shown.text, 24), shown.id);
        let longest: Vec<String> = self.facts.longest.iter().take(3).map(longest).map(|text| safe(&text)).collect();
        if !longest.is_empty() {
            page.section("longest", &longest.join(", "));
        }
    }

    fn oddities(&self, page: &mut Page) {
        let facts = &self.facts;
        let mut odd = Vec::new();
        if facts.holes > 0 {
            let first = facts.first_holes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            odd.push(format!("{} below the highest without an entry (first {first})", count(facts.holes, "id", "ids")));
        }
        if facts.partial > 0 {
            odd.push(format!("{} that are part of a character", count(facts.partial as u64, "entry", "entries")));
        }
        let example = |examples: &tokenizer::Examples| {
            examples
                .first
                .first()
                .map(|shown| format!(" ({})", safe(&format!("{:?}", elide(&shown.text, 24)))))
                .unwrap_or_default()
        };
        for (examples, what) in [
            (&facts.control, "with control characters"),
            (&facts.sentences, "of four words or more"),
            (&facts.duplicates, "that repeat another's text"),
        ] {
            if examples.count > 0 {
                odd.push(format!("{} {what}{}", count(examples.count as u64, "entry", "entries"), example(examples)));
            }
        }
        if facts.blanks > 0 {
            odd.push(format!("{} of three blanks or more", count(facts.blanks as u64, "entry", "entries")));
        }
        if let Some(unreachable) = facts.unreachable.as_ref().filter(|unreachable| unreachable.entries.count > 0) {
            let entries = &unreachable.entries;
            let number = count(entries.count as u64, "entry", "entries");
            odd.push(format!("{number} that no text becomes: {}{}", unreachable.criterion, example(entries)));
        }
        for (index, text) in odd.iter().enumerate() {
            if index == 0 { page.section("odd", text) } else { page.more("{}", text) }
        }
    }

    fn verdict(&self, page: &mut Page) {
        let why = safe(&self.why);
        let (color, mark) = match self.matches {
            Some(true) => (GREEN, "✓ "),
            Some(false) => (RED, "✗ "),
            None => (DIM, "not compared with weights: "),
        };
        let lines = style::wrap(&format!("{mark}{why}"), page.width.saturating_sub(VERDICT));
        for (number, line) in lines.iter().enumerate() {
            if number == 0 {
                page.section("verdict", "");
                page.trim_line();
                page.line(&paint(color, line));
            } else {
                page.row(&paint(color, line));
            }
        }
    }
}

/// Columns before the verdict.
const VERDICT: usize = 11;

const SCHEMA: &str = "anatomy.tokenizer/1";

impl Rows {
    fn of(analysis: &Analysis) -> Self {
        let rows = |role: names::Role| {
            let tables =
                analysis.rows.iter().filter(move |row| row.part.role == role && row.logical_shape().len() == 2);
            // Positions have a table of their own.
            let tables =
                tables.filter(|row| !["pos", "wpe", "token_type"].iter().any(|part| row.tensor.name.contains(part)));
            tables.filter_map(|row| row.logical_shape().first().copied()).max()
        };
        Rows { embedding: rows(names::Role::Embedding), output: rows(names::Role::Head) }
    }
}

/// A path's last two parts.
fn ending(name: &str) -> &str {
    let name = name.trim_end_matches(['/', '\\']);
    let mut cuts = name.rmatch_indices(['/', '\\']).map(|(at, _)| at + 1);
    cuts.nth(1).and_then(|at| name.get(at..)).unwrap_or(name)
}

fn base(name: &str) -> &str {
    let name = name.trim_end_matches(['/', '\\']);
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// What a tokenizer makes of a text.
#[derive(Debug, Serialize)]
pub struct Encoded {
    schema: &'static str,
    ids: Vec<u32>,
    tokens: Vec<String>,
    /// Begin and end of each token in the text, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    offsets: Option<Vec<[usize; 2]>>,
    bytes: usize,
    bytes_per_token: Option<f64>,
    #[serde(skip)]
    text: String,
    #[serde(skip)]
    spans: Vec<Range<usize>>,
}

impl Encoded {
    /// The tokens of a text, each with its name in the vocabulary.
    pub fn new(tokenizer: &tokenizer::Tokenizer, text: &str, pieces: &[Piece], offsets: bool) -> Self {
        let name = |piece: &Piece| {
            let entry = tokenizer.with_id(piece.id).next();
            entry.map(|entry| String::from_utf8_lossy(&entry.stored).into_owned()).unwrap_or_default()
        };
        let offset = |piece: &Piece| [piece.span.start, piece.span.end];
        Encoded {
            schema: SCHEMA,
            ids: pieces.iter().map(|piece| piece.id).collect(),
            tokens: pieces.iter().map(name).collect(),
            offsets: offsets.then(|| pieces.iter().map(offset).collect()),
            bytes: text.len(),
            bytes_per_token: per_token(text.len(), pieces.len()),
            text: text.to_string(),
            spans: pieces.iter().map(|piece| piece.span.clone()).collect(),
        }
    }

    /// The text with its tokens told apart by colour, their ids, and how many there are.
    pub fn text(&self, width: usize) -> String {
        let mut out = String::new();
        if self.offsets.is_some() {
            for ((id, token), span) in self.ids.iter().zip(&self.tokens).zip(&self.spans) {
                let place = format!("{}..{}", span.start, span.end);
                let _ = writeln!(out, "{id:>8}  {place:<15}{}", elide(&safe(token), width.saturating_sub(27).max(10)));
            }
        } else {
            out.push_str(&self.coloured());
            out.push('\n');
            let ids = self.ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
            for line in style::wrap(&ids, width) {
                let _ = writeln!(out, "{}", paint(DIM, line));
            }
        }
        let _ = writeln!(out, "{}", paint(BOLD, self.figures()));
        out
    }

    fn figures(&self) -> String {
        figures(self.ids.len(), self.bytes)
    }

    /// Tokens in two alternating styles; what lies between them is left plain.
    fn coloured(&self) -> String {
        const STYLES: [&str; 2] = ["\x1b[36;4m", "\x1b[33;4m"];
        let mut out = String::new();
        let mut last = 0;
        for (index, span) in self.spans.iter().enumerate() {
            let style = STYLES.get(index % 2).copied().unwrap_or_default();
            if span.is_empty() {
                let name = self.tokens.get(index).map(String::as_str).unwrap_or_default();
                out.push_str(&paint(DIM, safe(name)));
                continue;
            }
            let (start, end) = (self.boundary(span.start.max(last)), self.boundary(span.end));
            out.push_str(&visible(self.text.get(last..start).unwrap_or_default()));
            let _ = write!(out, "{style}{}{RESET}", visible(self.text.get(start..end).unwrap_or_default()));
            last = end.max(last);
        }
        out.push_str(&visible(self.text.get(last..).unwrap_or_default()));
        out
    }

    /// The end of the character within which a token ends.
    fn boundary(&self, at: usize) -> usize {
        (at..=self.text.len()).find(|at| self.text.is_char_boundary(*at)).unwrap_or(self.text.len())
    }
}

/// Text with its lines kept and all else that steers a terminal shown.
fn visible(text: &str) -> String {
    text.split('\n').map(safe).collect::<Vec<_>>().join("⏎\n")
}

/// Bytes of text for each token.
fn per_token(bytes: usize, tokens: usize) -> Option<f64> {
    (tokens > 0).then(|| bytes as f64 / tokens as f64)
}

fn figures(tokens: usize, bytes: usize) -> String {
    let ratio = per_token(bytes, tokens).map(|ratio| format!(", {ratio:.2} bytes per token")).unwrap_or_default();
    format!("{} for {}{ratio}", count(tokens as u64, "token", "tokens"), count(bytes as u64, "byte", "bytes"))
}

/// What a tokenizer makes of many texts.
#[derive(Debug, Serialize)]
pub struct EncodedLines {
    schema: &'static str,
    results: Vec<Ids>,
    tokens: usize,
    bytes: usize,
    bytes_per_token: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Ids {
    ids: Vec<u32>,
}

impl EncodedLines {
    /// The ids of each text, which together have so many bytes.
    pub fn new(results: Vec<Vec<u32>>, bytes: usize) -> Self {
        let tokens = results.iter().map(Vec::len).sum();
        EncodedLines {
            schema: SCHEMA,
            results: results.into_iter().map(|ids| Ids { ids }).collect(),
            tokens,
            bytes,
            bytes_per_token: per_token(bytes, tokens),
        }
    }

    /// The ids, a line for each text.
    pub fn lines(&self) -> String {
        let mut out = String::new();
        for Ids { ids } in &self.results {
            let line: Vec<String> = ids.iter().map(u32::to_string).collect();
            let _ = writeln!(out, "{}", line.join(" "));
        }
        out
    }

    /// How many tokens for how many bytes.
    pub fn figures(&self) -> String {
        figures(self.tokens, self.bytes)
    }
}

/// The text of ids.
#[derive(Debug, Serialize)]
pub struct Decoded {
    schema: &'static str,
    /// The text; what is no text is replaced.
    pub text: String,
}

impl Decoded {
    /// The text that bytes are.
    pub fn new(bytes: &[u8]) -> Self {
        Decoded { schema: SCHEMA, text: String::from_utf8_lossy(bytes).into_owned() }
    }
}

/// Two tokenizers side by side.
#[derive(Debug, Serialize)]
pub struct Comparison {
    schema: &'static str,
    a: Side,
    b: Side,
    /// Texts that both vocabularies have.
    shared: usize,
    /// Of these, those that have the same id in both.
    same_id: usize,
    only_a: usize,
    only_b: usize,
    /// Roles whose token differs: role, token in the first, token in the second.
    special: Vec<(String, Option<String>, Option<String>)>,
}

#[derive(Debug, Serialize)]
struct Side {
    source: String,
    kind: &'static str,
    model: String,
    vocab_size: usize,
    merges: Option<usize>,
    /// Tokens of the text, where one was given.
    tokens: Option<usize>,
    bytes_per_token: Option<f64>,
}

impl Comparison {
    /// Compares two tokenizers; of a text, the numbers of tokens are given, and its bytes.
    pub fn new(
        (a_source, a): (&str, &tokenizer::Tokenizer),
        (b_source, b): (&str, &tokenizer::Tokenizer),
        text: Option<(usize, usize, usize)>,
    ) -> Self {
        let side = |source: &str, tokenizer: &tokenizer::Tokenizer, tokens: Option<usize>| Side {
            source: source.to_string(),
            kind: tokenizer.kind,
            model: tokenizer.model.clone(),
            vocab_size: tokenizer.size(),
            merges: tokenizer.merges.as_ref().map(Merges::len),
            tokens,
            bytes_per_token: text.zip(tokens).and_then(|((.., bytes), tokens)| per_token(bytes, tokens)),
        };
        let texts = |tokenizer: &tokenizer::Tokenizer| -> BTreeMap<Vec<u8>, u32> {
            tokenizer.entries.iter().map(|entry| (tokenizer.bytes(entry), entry.id)).collect()
        };
        let (left, right) = (texts(a), texts(b));
        let shared = left.iter().filter_map(|(text, id)| Some((id, right.get(text)?)));
        let (mut both, mut same) = (0, 0);
        for (one, other) in shared {
            both += 1;
            same += usize::from(one == other);
        }
        let token =
            |tokenizer: &tokenizer::Tokenizer, role: &str| tokenizer.role(role).find_map(|role| role.token.clone());
        let mut roles: Vec<&str> = a.roles.iter().chain(&b.roles).map(|role| role.role).collect();
        roles.sort_unstable();
        roles.dedup();
        let special = roles.into_iter().map(|role| (role.to_string(), token(a, role), token(b, role)));
        Comparison {
            schema: SCHEMA,
            a: side(a_source, a, text.map(|(tokens, ..)| tokens)),
            b: side(b_source, b, text.map(|(_, tokens, _)| tokens)),
            shared: both,
            same_id: same,
            only_a: left.len() - both,
            only_b: right.len() - both,
            special: special.filter(|(_, one, other)| one != other).collect(),
        }
    }

    /// A row for each property, a column for each tokenizer.
    pub fn text(&self, width: usize) -> String {
        let column = (width.saturating_sub(18) / 2).clamp(12, 34);
        let mut out = String::new();
        let mut row = |name: &str, a: String, b: String| {
            let style = if a == b { DIM } else { CYAN };
            let (a, b) = (format!("{:<column$}", elide(&safe(&a), column - 1)), elide(&safe(&b), column - 1));
            let _ = writeln!(out, "{}{}{}", paint(BOLD, format!("{name:<18}")), paint(style, a), paint(style, b));
        };
        let number = |number: Option<usize>| number.map_or_else(|| "–".to_string(), |number| thousands(number as u64));
        let (a, b) = (base(&self.a.source), base(&self.b.source));
        // Two of the same name are told apart by their folders.
        let (a, b) = if a == b { (ending(&self.a.source), ending(&self.b.source)) } else { (a, b) };
        row("", a.to_string(), b.to_string());
        row("kind", self.a.kind.to_string(), self.b.kind.to_string());
        row("model", self.a.model.clone(), self.b.model.clone());
        row("tokens", number(Some(self.a.vocab_size)), number(Some(self.b.vocab_size)));
        row("merges", number(self.a.merges), number(self.b.merges));
        row("texts", number(Some(self.shared + self.only_a)), number(Some(self.shared + self.only_b)));
        row("only here", number(Some(self.only_a)), number(Some(self.only_b)));
        for (role, a, b) in &self.special {
            let text = |token: &Option<String>| token.clone().unwrap_or_else(|| "–".to_string());
            row(role, text(a), text(b));
        }
        if self.a.tokens.is_some() {
            row("for the text", number(self.a.tokens), number(self.b.tokens));
            let ratio = |side: &Side| side.bytes_per_token.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            row("bytes per token", ratio(&self.a), ratio(&self.b));
        }
        let shared = count(self.shared as u64, "text", "texts");
        let same = if self.same_id == self.shared { GREEN } else { YELLOW };
        let verdict = format!("{shared} in both, {} of them with the same id", thousands(self.same_id as u64));
        let _ = writeln!(out, "{}", paint(same, verdict));
        out
    }
}
