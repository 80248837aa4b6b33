//! Where tokenizer and weights say that they come from, and how long a text may be.

use super::statements::Statements;
use super::vocabulary::Vocabulary;
use super::{Subject, shown};
use crate::analysis::Analysis;
use crate::finding::{Finding, Rule, Severity};
use crate::names::{Role, Stack};
use crate::report::units::thousands;
use crate::tokenizer::Notation;

static CLASS_WRONG: Rule = Rule {
    name: "tokenizer-class-wrong",
    severity: Severity::Warning,
    why: "The class that transformers is told to use works in another way than the tokenizer that is there: slow loaders \
          stop, fast ones put other tokens round a text than the model was trained with.",
    help: "name the class that belongs to this tokenizer, or fetch the tokenizer that belongs to this class",
};
static FAMILY_DIFFERS: Rule = Rule {
    name: "tokenizer-of-another-family",
    severity: Severity::Warning,
    why: "Models of this family come with another kind of tokenizer, so this one is most likely another model's, and every \
          text would look up the wrong rows.",
    help: "use the tokenizer that belongs to these weights",
};
static ORIGINS_DIFFER: Rule = Rule {
    name: "origins-differ",
    severity: Severity::Warning,
    why: "Tokenizer and model name the models that they were made from, and those are of different families. Vocabularies \
          of the same size can be told apart by nothing else.",
    help: "compare with the original model; if tokenizer and weights were trained together, nothing to do",
};
static TOO_LONG: Rule = Rule {
    name: "model-max-length-too-long",
    severity: Severity::Warning,
    why: "The tokenizer lets texts be longer than the model's table of positions. Texts are not cut to what the model can \
          take, and the program stops at the first position without a row.",
    help: "set `model_max_length` in tokenizer_config.json to the number of positions",
};

/// The rules of this module.
pub(crate) const RULES: &[&Rule] = &[&CLASS_WRONG, &FAMILY_DIFFERS, &ORIGINS_DIFFER, &TOO_LONG];

/// Compares origins and lengths.
pub(super) fn check(subject: &Subject, analysis: &Analysis, findings: &mut Vec<Finding>) {
    let statements = subject.statements;
    if let Some(vocabulary) = subject.main().filter(|vocabulary| vocabulary.is_whole()) {
        class(statements, vocabulary, findings);
        family(subject, vocabulary, findings);
    }
    names(subject, findings);
    length(statements, analysis, findings);
}

/// How the tokenizers of a class work, where all of them work alike.
fn way_of_class(class: &str) -> Option<&'static str> {
    let name = class.strip_suffix("Fast").unwrap_or(class).strip_suffix("Tokenizer")?;
    match name {
        "Bert" | "DistilBert" | "Electra" | "MobileBert" | "Splinter" | "Funnel" | "LayoutLM" | "MPNet" | "Lxmert"
        | "ConvBert" | "SqueezeBert" | "RetriBert" => Some("wordpiece"),
        "GPT2" | "GPTNeoX" | "CodeGen" | "Qwen2" | "Roberta" | "Bart" | "Bloom" | "Whisper" | "Cohere"
        | "Longformer" | "LED" | "Gemma" | "CLIP" => Some("bpe"),
        "T5" | "Albert" | "XLNet" | "XLMRoberta" | "Camembert" | "MBart" | "Pegasus" | "BigBird" | "RemBert" => {
            Some("unigram")
        }
        _ => None,
    }
}

fn class(statements: &Statements, vocabulary: &Vocabulary, findings: &mut Vec<Finding>) {
    let Some(class) = &statements.class else { return };
    let tokenizer = vocabulary.tokenizer;
    let known = matches!(tokenizer.model.as_str(), "bpe" | "unigram" | "wordpiece") && tokenizer.kind != "gguf";
    if let Some(way) = way_of_class(class).filter(|way| known && *way != tokenizer.model) {
        let message = format!(
            "tokenizer_class is {}, of the kind {way}; {} is {}",
            shown(class.as_bytes()),
            vocabulary.file(),
            tokenizer.model
        );
        findings.push(Finding::new(&CLASS_WRONG, message).file("tokenizer_config.json"));
    }
}

/// What models of a family have, where all of them have the same: byte letters, or SentencePiece's blanks.
fn notation_of_family(family: &str) -> Option<Notation> {
    let begins = |names: &[&str]| names.iter().any(|name| family.starts_with(name));
    if begins(&["gemma", "paligemma", "recurrent_gemma", "t5", "mt5", "umt5"]) {
        return Some(Notation::Blanks);
    }
    if begins(&[
        "qwen2",
        "qwen3",
        "bloom",
        "whisper",
        "cohere",
        "command-r",
        "falcon",
        "gptneox",
        "gpt_neox",
        "starcoder",
    ]) {
        return Some(Notation::ByteLetters);
    }
    None
}

fn family(subject: &Subject, vocabulary: &Vocabulary, findings: &mut Vec<Finding>) {
    let tokenizer = vocabulary.tokenizer;
    let gguf = super::gguf::settings(tokenizer).map(|settings| settings.architecture.as_str());
    let Some(family) = gguf.or(subject.statements.model_type.as_deref()) else { return };
    let name = |notation| match notation {
        Notation::ByteLetters => "bytes as letters",
        Notation::Blanks => "blanks as ▁",
        Notation::Continuation | Notation::WordBegin => "WordPiece",
        Notation::Plain => "plain bytes",
        Notation::Escapes => "escapes",
    };
    // Plain bytes are ranks, which the same models have as well.
    let Some(expected) = notation_of_family(family).filter(|_| tokenizer.notation != Notation::Plain) else { return };
    if tokenizer.notation != expected {
        let (is, was) = (name(tokenizer.notation), name(expected));
        let message = format!("models of {family} write {was}; {} writes {is}", vocabulary.file());
        findings.push(Finding::new(&FAMILY_DIFFERS, message).file(tokenizer.source.as_str()));
    }
}

/// The family that a model's name tells: none, where it tells several.
fn family_of_name(name: &str) -> Option<&'static str> {
    const FAMILIES: [(&str, &str); 16] = [
        ("llama", "Llama"),
        ("vicuna", "Llama"),
        ("alpaca", "Llama"),
        ("qwen", "Qwen"),
        ("gemma", "Gemma"),
        ("mistral", "Mistral"),
        ("mixtral", "Mistral"),
        ("phi-", "Phi"),
        ("falcon", "Falcon"),
        ("bloom", "Bloom"),
        ("deepseek", "DeepSeek"),
        ("gpt2", "GPT-2"),
        ("pythia", "GPT-NeoX"),
        ("internlm", "InternLM"),
        ("baichuan", "Baichuan"),
        ("chatglm", "ChatGLM"),
    ];
    let name = name.trim_end_matches(['/', '\\']).to_ascii_lowercase();
    // Llama's name is part of many, TinyLlama and OpenLLaMA among them, whose vocabularies are not its own.
    let mut found = FAMILIES.iter().filter(|(word, _)| name.contains(word)).map(|(_, family)| *family);
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

fn names(subject: &Subject, findings: &mut Vec<Finding>) {
    let (Some(tokenizer), Some(model)) = (&subject.statements.tokenizer_from, &subject.statements.model_from) else {
        return;
    };
    if let (Some(one), Some(other)) = (family_of_name(tokenizer), family_of_name(model))
        && one != other
    {
        let message = format!(
            "the tokenizer is of {} ({one}), the model of {} ({other})",
            shown(tokenizer.as_bytes()),
            shown(model.as_bytes())
        );
        findings.push(Finding::new(&ORIGINS_DIFFER, message).file("tokenizer_config.json"));
    }
}

fn length(statements: &Statements, analysis: &Analysis, findings: &mut Vec<Finding>) {
    let Some(length) = statements.max_length else { return };
    let positions = analysis.rows.iter().find(|row| {
        let table = row.part.role == Role::Embedding && row.part.component == "positions" && !row.part.buffer;
        table && row.part.stack == Stack::Main && row.part.layer.is_none() && row.logical_shape().len() == 2
    });
    let Some((row, rows)) = positions.and_then(|row| Some((row, *row.logical_shape().first()?))) else { return };
    if length > rows {
        let (length, rows) = (thousands(length), thousands(rows));
        let message = format!("model_max_length is {length}, {} has {rows} positions", row.tensor.name);
        findings.push(Finding::new(&TOO_LONG, message).file("tokenizer_config.json"));
    }
}
