//! What is this, on one screen.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::build::{ByRole, Meaning, Parameters, build};
use super::page::Page;
use super::style::{self, BOLD, CYAN, DIM, GREEN, RED, YELLOW, bar, paint, wrap};
use super::tensors::by_dtype;
use super::units::{bytes, count, elide, parameters, percent, safe, thousands};
use crate::analysis::{Analysis, norms_missing};
use crate::architecture::{self, Architecture, Evidence};
use crate::atlas::Atlas;
use crate::cache::KvCache;
use crate::finding::{Finding, Severity};
use crate::ledger::Kind;
use crate::model::{FileRole, Model};
use crate::names::Role;
use crate::probe::misnamed_finding;
use crate::tokenizer::{self, TokenizerSummary};

/// The document of `anatomy inspect`.
#[derive(Debug, Serialize)]
pub struct Inspect {
    schema: &'static str,
    source: String,
    format: &'static str,
    format_name: &'static str,
    evidence: String,
    misnamed: bool,
    use_and_risk: &'static str,
    facts: BTreeMap<&'static str, String>,
    files: Vec<FileEntry>,
    bytes: Budget,
    architecture: Architecture,
    parameters: Parameters,
    norms: Norms,
    /// Bytes of optimizer states and moving averages, which are no part of the model.
    training_bytes: u64,
    dtypes: Vec<DtypeEntry>,
    bits_per_weight: Option<f64>,
    packing: Vec<String>,
    kv_cache: KvCache,
    #[serde(flatten)]
    meaning: Meaning,
    tokenizer: Option<TokenizerSummary>,
    metadata: BTreeMap<String, String>,
    /// What is odd or wrong, in the order in which it was met.
    pub findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct FileEntry {
    path: String,
    bytes: u64,
    format: &'static str,
    role: FileRole,
}

/// Where the bytes of all files go; the parts add up to the total.
#[derive(Debug, Default, Serialize)]
struct Budget {
    total: u64,
    weights: u64,
    tokenizer: u64,
    metadata: u64,
    padding: u64,
    unexplained: u64,
}

#[derive(Debug, Serialize)]
struct Norms {
    count: u64,
    parameters: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct DtypeEntry {
    dtype: &'static str,
    tensors: u64,
    parameters: u64,
    bytes: u64,
}

impl Inspect {
    /// Looks at a model as a whole.
    pub fn new(analysis: &Analysis, atlas: &Atlas) -> Self {
        let model = analysis.model;
        let witnesses: Vec<_> =
            analysis.rows.iter().map(|row| (row.tensor.name.as_str(), row.logical_shape(), row.part)).collect();
        let gguf = model.gguf().map(|file| &file.container.metadata);
        // Where a shard is missing, shapes tell of a part only; a configuration tells of the whole.
        let partly = model.is_incomplete() && model.config.is_some();
        let tensors = if partly { &[] } else { witnesses.as_slice() };
        let evidence = Evidence { config: model.config.as_ref(), gguf, tensors };
        let (mut architecture, (missing, budget)) =
            rayon::join(|| architecture::read(&evidence), || (norms_missing(analysis), Budget::of(model)));
        if architecture.family.is_none() && model.config.is_none() && !model.is_incomplete() {
            architecture.settle_tied(&witnesses);
            architecture.candidates = atlas.candidates(&witnesses);
            if let [only] = architecture.candidates.as_slice() {
                architecture.family = Some(only.clone());
                architecture.evidence.insert("family", "names and shapes of all tensors".to_string());
            }
        }

        let total = analysis.total();
        let by_role = analysis.by_role();
        let experts = architecture.experts.as_ref();
        let routed = architecture::routed_experts(&witnesses, experts.and_then(|experts| experts.count));
        let active = match experts.and_then(|experts| experts.active) {
            Some(active) => architecture::active_parameters(total, &routed, active),
            // Without experts every number is at work; with experts whose use is unknown, nothing can be said.
            None => routed.is_empty().then_some(total),
        };
        let norms = analysis.rows.iter().filter(|row| row.part.role == Role::Norm && row.logical.parameters > 0);
        let norms = norms.fold(Norms { count: 0, parameters: 0, bytes: 0 }, |sum, row| Norms {
            count: sum.count + 1,
            parameters: sum.parameters.saturating_add(row.logical.parameters),
            bytes: sum.bytes.saturating_add(row.tensor.bytes),
        });
        let buffers = analysis.rows.iter().filter(|row| row.part.buffer).map(|row| row.logical.parameters);
        let dtypes: Vec<DtypeEntry> = by_dtype(analysis)
            .into_iter()
            .map(|(dtype, tensors, parameters, bytes)| DtypeEntry { dtype, tensors, parameters, bytes })
            .collect();
        let stored: u64 = analysis.stored_bytes();
        let bits = (total > 0).then(|| (stored as f64 * 8.0 / total as f64 * 1000.0).round() / 1000.0);
        let first = model.files.first();
        let mut findings = model.all_findings();
        findings.extend(architecture.findings.iter().cloned());
        findings.extend(missing);
        findings.extend(misnamed(model));
        let kv_cache = architecture.cache.summary(architecture.context_length);
        let meaning = Meaning::new(&mut architecture, model.config.as_ref(), gguf, &witnesses);
        Inspect {
            schema: "anatomy.inspect/1",
            source: model.source.clone(),
            format: first.map(|file| file.container.format.id).unwrap_or_default(),
            format_name: first.map(|file| file.container.format.name).unwrap_or_default(),
            evidence: first.map(|file| file.identity.evidence.clone()).unwrap_or_default(),
            misnamed: first.is_some_and(|file| file.identity.misnamed(&file.path)),
            use_and_risk: first.map(|file| file.container.format.use_and_risk).unwrap_or_default(),
            facts: first.map(|file| file.container.facts.iter().cloned().collect()).unwrap_or_default(),
            files: model
                .files
                .iter()
                .map(|file| FileEntry {
                    path: file.path.clone(),
                    bytes: file.source.len(),
                    format: file.container.format.id,
                    role: file.role,
                })
                .collect(),
            bytes: budget,
            architecture,
            parameters: Parameters::new(total, active, buffers.fold(0, u64::saturating_add), ByRole(by_role)),
            norms,
            training_bytes: analysis.training_bytes(),
            dtypes,
            bits_per_weight: bits,
            packing: analysis.schemes.iter().map(|scheme| scheme.to_string()).collect(),
            kv_cache,
            meaning,
            tokenizer: tokenizer::of_model(model),
            metadata: first.map(|file| short_metadata(&file.container.metadata)).unwrap_or_default(),
            findings,
        }
    }

    /// One screen of text, the most important first.
    pub fn text(&self, width: usize) -> String {
        let width = width.clamp(40, 120);
        let mut page = Page { out: String::new(), width };
        self.title(&mut page);
        self.what(&mut page);
        self.budget(&mut page);
        if self.parameters.total > 0 || self.architecture.layers.is_some() {
            build(&self.architecture, &self.kv_cache, &mut page);
            self.meaning.text(&mut page);
            self.candidates(&mut page);
        }
        if self.parameters.total > 0 {
            self.parameters.text(&mut page);
            self.numbers(&mut page);
        }
        self.tokens(&mut page);
        self.verdict(&mut page);
        page.out
    }

    fn title(&self, page: &mut Page) {
        let name = self.source.trim_end_matches(['/', '\\']);
        let name = safe(name.rsplit(['/', '\\']).next().unwrap_or(name));
        let mut words = Vec::new();
        if let Some(family) = &self.architecture.family {
            words.push(safe(family));
        }
        if self.parameters.total > 0 {
            words.push(format!("{} parameters", parameters(self.parameters.total)));
        }
        if let Some(quantisation) = self.facts.get("quantisation") {
            words.push(safe(quantisation));
        } else if let Some(packing) = self.packing.first() {
            words.push(safe(packing));
        } else if let Some(dtype) = self.dtypes.first() {
            words.push(dtype.dtype.to_string());
        }
        words.push(bytes(self.bytes.total));
        let words = words.join(" · ");
        let room = page.width.saturating_sub(words.chars().count() + 2).max(16);
        let _ = writeln!(page.out, "{}  {words}", paint(BOLD, elide(&name, room)));
        let errors = self.findings.iter().filter(|finding| finding.severity() == Severity::Error).count() as u64;
        // What is wrong comes first: everything below may be built on it.
        let mut wrong = self.findings.iter().filter(|finding| finding.severity() == Severity::Error);
        let cut = wrong.clone().find(|finding| finding.rule.means_cut());
        if let Some(worst) = cut.or_else(|| wrong.next()) {
            for (index, line) in wrap(&safe(&worst.message), page.width - 4).iter().enumerate() {
                let _ = writeln!(page.out, "{} {}", paint(RED, if index == 0 { "✗" } else { " " }), paint(RED, line));
            }
            if errors > 1 {
                let _ = writeln!(
                    page.out,
                    "  {}",
                    paint(RED, format!("and {} below", count(errors - 1, "more error", "more errors")))
                );
            }
        }
        let _ = writeln!(page.out);
    }

    /// The families that may have written these names, where they are all that there is to go by.
    fn candidates(&self, page: &mut Page) {
        const SHOWN: usize = 8;
        let candidates = &self.architecture.candidates;
        if candidates.len() < 2 {
            return;
        }
        let mut line =
            format!("family one of {}", safe(&candidates.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ")));
        if candidates.len() > SHOWN {
            let _ = write!(line, " and {} more", candidates.len() - SHOWN);
        }
        page.more("{}", &format!("{line}: names and shapes do not tell them apart"));
    }

    fn what(&self, page: &mut Page) {
        let mut name = self.format_name.to_string();
        if let Some(kind) = self.facts.get("kind").filter(|kind| *kind != "model" && !name.contains(*kind)) {
            name = format!("{name}, {}", safe(kind));
        }
        let weights: Vec<_> = self.files.iter().filter(|file| file.role == FileRole::Weights).collect();
        if weights.len() > 1 {
            name = format!("{name}, in {} files", weights.len());
        }
        page.section("format", &format!("{name}: {}", safe(&self.evidence)));
        page.more(&paint(DIM, "{}"), self.use_and_risk);
        let skip = ["kind", "quantisation", "version", "alignment", "name"];
        let facts = self.facts.iter().filter(|(key, value)| !skip.contains(key) && value.as_str() != "little-endian");
        let facts: Vec<String> = facts.map(|(key, value)| format!("{key} {}", safe(&elide(value, 60)))).collect();
        if !facts.is_empty() {
            page.more(&paint(DIM, "{}"), &facts.join(" · "));
        }
    }

    fn budget(&self, page: &mut Page) {
        let Budget { total, weights, tokenizer, metadata, padding, unexplained } = self.bytes;
        if weights == 0 {
            let text = format!("{}, no learned numbers", bytes(total));
            page.section("bytes", &text);
            return;
        }
        let share = percent(weights, total);
        let cells = 24;
        page.section("bytes", "");
        page.trim_line();
        let bar = paint(CYAN, bar(weights as f64 / total.max(1) as f64, cells));
        let _ = writeln!(page.out, "{bar} {} learned numbers", paint(BOLD, share));
        let mut parts = vec![format!("weights {}", bytes(weights))];
        for (name, size) in [("tokenizer", tokenizer), ("metadata", metadata), ("padding", padding)] {
            if size > 0 {
                parts.push(format!("{name} {} ({})", bytes(size), percent(size, total)));
            }
        }
        match unexplained {
            0 => parts.push("nothing unexplained".to_string()),
            size => parts.push(format!("unexplained {} ({})", bytes(size), percent(size, total))),
        }
        page.more("{}", &parts.join(" · "));
    }

    fn numbers(&self, page: &mut Page) {
        let Norms { count: norms, parameters: learned, bytes: size } = self.norms;
        if norms > 0 {
            let share = percent(learned, self.parameters.total);
            let text = format!(
                "{}, {} numbers, {} ({share}): small, and nothing works without them",
                count(norms, "tensor", "tensors"),
                thousands(learned),
                bytes(size)
            );
            page.section("norms", &text);
        }
        let total: u64 = self.dtypes.iter().map(|entry| entry.bytes).sum();
        let list = self.dtypes.iter().take(6);
        let mut parts: Vec<String> = list
            .map(|entry| {
                format!(
                    "{} {} in {}",
                    entry.dtype,
                    percent(entry.bytes, total),
                    count(entry.tensors, "tensor", "tensors")
                )
            })
            .collect();
        if self.dtypes.len() > 6 {
            parts.push(format!("{} more", self.dtypes.len() - 6));
        }
        let mut text = parts.join(" · ");
        if let Some(bits) = self.bits_per_weight {
            text = format!("{bits:.2} bits per weight · {text}");
        }
        page.section("types", &text);
        if self.training_bytes > 0 {
            let text = format!(
                "{} of it from training (optimizer states, averages), not needed to run",
                bytes(self.training_bytes)
            );
            page.more("{}", &text);
        }
    }

    fn tokens(&self, page: &mut Page) {
        let Some(tokenizer) = &self.tokenizer else { return };
        let mut words = vec![safe(&tokenizer.model).to_uppercase().replace("SENTENCEPIECE", "SentencePiece")];
        words.push(count(tokenizer.vocab_size, "token", "tokens"));
        if let Some(merges) = tokenizer.merges {
            words.push(count(merges, "merge", "merges"));
        }
        for (role, special) in tokenizer.special_tokens.iter().filter(|(role, _)| matches!(**role, "bos" | "eos")) {
            if let Some(token) = &special.token {
                words.push(format!("{role} {}", elide(&safe(token), 24)));
            }
        }
        words.push(if tokenizer.chat_template { "chat template" } else { "no chat template" }.to_string());
        if tokenizer.kind != "gguf" {
            words.push(format!("from {}", safe(tokenizer.source.rsplit(['/', '\\']).next().unwrap_or_default())));
        }
        page.section("tokenizer", &words.join(", "));
    }

    fn verdict(&self, page: &mut Page) {
        let shown: Vec<Finding> = self.findings.clone();
        if shown.is_empty() {
            page.section("findings", "");
            page.trim_line();
            let _ = writeln!(page.out, "{}", paint(GREEN, "none: the headers are whole and consistent"));
        } else {
            let worst = shown.iter().map(Finding::severity).max().unwrap_or(Severity::Note);
            let style = match worst {
                Severity::Error => RED,
                Severity::Warning => YELLOW,
                Severity::Note => DIM,
            };
            let _ = writeln!(page.out, "{}", paint(style, "findings"));
            page.out.push_str(&style::findings(&shown, page.width));
        }
    }
}

impl Budget {
    fn of(model: &Model) -> Self {
        let mut budget = Budget::default();
        for file in &model.files {
            budget.total += file.source.len();
            for range in file.container.ledger.ranges() {
                let size = range.end - range.start;
                match range.kind {
                    Kind::Tensor => budget.weights += size,
                    Kind::Tokenizer => budget.tokenizer += size,
                    Kind::Padding => budget.padding += size,
                    Kind::Unexplained => budget.unexplained += size,
                    _ if file.role == FileRole::Tokenizer => budget.tokenizer += size,
                    Kind::Magic | Kind::Header | Kind::Metadata | Kind::Container | Kind::Code => {
                        budget.metadata += size
                    }
                }
            }
        }
        budget
    }
}

fn misnamed(model: &Model) -> Vec<Finding> {
    let of =
        |file: &crate::model::ModelFile| Some(misnamed_finding(file.container.format, &file.path)?.file(&*file.path));
    model.files.iter().filter_map(of).collect()
}

/// Metadata that fit on a line, as text.
fn short_metadata(metadata: &crate::metadata::Metadata) -> BTreeMap<String, String> {
    use crate::metadata::Value;
    let short = |value: &Value| match value {
        Value::Null => Some("null".to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Unsigned(value) => Some(value.to_string()),
        Value::Signed(value) => Some(value.to_string()),
        Value::Float(value) => Some(value.to_string()),
        Value::Text(text) if text.len() <= 4096 => Some(text.clone()),
        Value::Text(text) => Some(format!("{} bytes of text", text.len())),
        Value::LongText(span) => Some(format!("{} bytes of text", span.len)),
        Value::Array(array) => Some(format!("{} × {}", array.len, array.element)),
    };
    metadata.entries().iter().filter_map(|entry| Some((entry.key.clone(), short(&entry.value)?))).collect()
}
