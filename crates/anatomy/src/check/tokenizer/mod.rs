//! Whether tokenizer, configuration and weights belong together: one group of rules a file.
//!
//! A model with a wrong tokenizer, a lost merge or a shifted special token runs without an error and talks nonsense, so
//! everything that its files say of each other is compared. What is known to be harmless (rows beyond the last token,
//! ids that nobody uses, "no limit" as a length) is silent or a note; an error is what surely stops a loader or yields
//! nonsense.

pub(crate) mod added;
pub(crate) mod gguf;
pub(crate) mod merges;
pub(crate) mod origin;
pub(crate) mod roles;
pub(crate) mod rows;
mod statements;
pub(crate) mod template;
pub(crate) mod twins;
pub(crate) mod vocabulary;

use crate::analysis::Analysis;
use crate::finding::{Finding, Severity};
use crate::model::Model;
use crate::tokenizer::{self, Index};

use rows::Rows;
use statements::Statements;
use vocabulary::Vocabulary;

/// What comes of verifying a model's tokenizers.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Whether the tokenizer that loaders prefer matches the weights, as far as all its files say; `None` where
    /// nothing can be said.
    pub matches: Option<bool>,
    /// Why, in a sentence.
    pub why: String,
    /// What is odd or wrong, that of reading included.
    pub findings: Vec<Finding>,
}

/// What the rules look at.
struct Subject<'a> {
    model: &'a Model,
    statements: &'a Statements,
    rows: &'a Rows,
    /// The tokenizers, the one that loaders prefer first.
    vocabularies: &'a [Vocabulary<'a>],
}

impl<'a> Subject<'a> {
    /// The tokenizer that loaders prefer.
    fn main(&self) -> Option<&'a Vocabulary<'a>> {
        self.vocabularies.first()
    }

    /// Whether ids of SentencePiece's file are not those of the model: the classes of fairseq's models put their own
    /// four tokens first, Pegasus' a hundred, and Marian's and M2M100's go by another file.
    fn is_renumbered(&self) -> bool {
        const CLASSES: [&str; 14] = [
            "XLMRoberta",
            "Camembert",
            "MBart",
            "Barthez",
            "Nllb",
            "XGLM",
            "PLBart",
            "M2M100",
            "Speech2Text",
            "Marian",
            "Pegasus",
            "ErnieM",
            "FSMT",
            "Reformer",
        ];
        let class = self.statements.class.as_deref().unwrap_or_default();
        let config = self.statements.model_type.as_deref().unwrap_or_default();
        const TYPES: [&str; 12] = [
            "xlm-roberta",
            "camembert",
            "mbart",
            "nllb-moe",
            "xglm",
            "plbart",
            "m2m_100",
            "speech_to_text",
            "marian",
            "pegasus",
            "xlm-roberta-xl",
            "xmod",
        ];
        CLASSES.iter().any(|known| class.starts_with(known)) || TYPES.contains(&config)
    }
}

/// Verifies the tokenizers of a model against each other, the configuration and the weights.
pub fn verify(analysis: &Analysis) -> Verdict {
    let tokenizers = tokenizer::of(analysis.model);
    let indices: Vec<Index> = tokenizers.iter().map(Index::new).collect();
    verify_with(analysis, &indices)
}

/// Verifies tokenizers that were read already, the one that loaders prefer first.
pub fn verify_with(analysis: &Analysis, tokenizers: &[Index]) -> Verdict {
    let statements = Statements::of(analysis.model);
    let rows = Rows::of(analysis, &statements);
    let vocabularies: Vec<Vocabulary> = tokenizers.iter().map(Vocabulary::new).collect();
    let subject = Subject { model: analysis.model, statements: &statements, rows: &rows, vocabularies: &vocabularies };
    let mut findings: Vec<Finding> = Vec::new();
    // What the files beside say is read once for each tokenizer.
    for finding in tokenizers.iter().flat_map(|index| &index.tokenizer.findings) {
        let same = |known: &Finding| {
            known.rule == finding.rule && known.file == finding.file && known.message == finding.message
        };
        if !findings.iter().any(same) {
            findings.push(finding.clone());
        }
    }
    let why = rows::check(&subject, &mut findings);
    roles::check(&subject, &mut findings);
    for vocabulary in &vocabularies {
        vocabulary.check(&mut findings);
        merges::check(vocabulary, &mut findings);
    }
    added::check(&subject, &mut findings);
    twins::check(&subject, &mut findings);
    gguf::check(&subject, &mut findings);
    origin::check(&subject, analysis, &mut findings);
    template::check(&subject, &mut findings);
    let (matches, why) = judged(&subject, why, &findings);
    Verdict { matches, why, findings }
}

/// Whether the tokenizer matches: no, where anything is surely wrong; yes, where its rows are known and nothing is.
fn judged(subject: &Subject, rows: rows::Judged, findings: &[Finding]) -> (Option<bool>, String) {
    if subject.main().is_none() {
        return (None, "there is no tokenizer".to_string());
    }
    if let Some(finding) = findings.iter().find(|finding| finding.severity() == Severity::Error) {
        // Of several files, which one it is about.
        let file =
            finding.file.as_deref().map(base).filter(|file| subject.main().is_some_and(|main| main.file() != *file));
        let message = &finding.message;
        return (Some(false), file.map_or_else(|| message.clone(), |file| format!("{file}: {message}")));
    }
    match rows {
        rows::Judged::Fits(why) => (Some(true), why),
        rows::Judged::Fails(why) => (Some(false), why),
        rows::Judged::Unknown(why) => (None, why),
    }
}

/// A path without its folder; the statement of a file likewise.
fn base(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// A token as findings show it.
fn shown(token: &[u8]) -> String {
    const MOST: usize = 40;
    let text = String::from_utf8_lossy(token);
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{:?}…", text.get(..at).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}
