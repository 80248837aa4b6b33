//! The steps of a `tokenizer.json` in words.

use serde_json::Value;

/// Whether a step of this type is among those of a setting, at whatever depth.
pub(super) fn mentions(setting: &Value, kind: &str) -> bool {
    let inner = ["normalizers", "pretokenizers", "processors", "decoders"];
    setting.get("type").and_then(Value::as_str) == Some(kind)
        || inner.iter().filter_map(|key| setting.get(*key)?.as_array()).flatten().any(|step| mentions(step, kind))
}

/// Where in the pipeline a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// On the way from text to pieces.
    Before,
    /// What is put round the ids.
    PostProcessor,
    /// On the way back to text.
    Decoder,
}

/// Each step of a setting in words, in order.
pub(super) fn steps(setting: &Value, stage: Stage) -> Vec<String> {
    let mut out = Vec::new();
    walk(setting, stage, &mut out);
    out
}

fn walk(setting: &Value, stage: Stage, out: &mut Vec<String>) {
    let Some(kind) = setting.get("type").and_then(Value::as_str) else { return };
    if kind == "Sequence" {
        let inner = ["normalizers", "pretokenizers", "processors", "decoders"];
        for step in inner.iter().filter_map(|key| setting.get(*key)?.as_array()).flatten() {
            walk(step, stage, out);
        }
        return;
    }
    match (kind, stage) {
        // There it moves offsets alone.
        ("ByteLevel", Stage::PostProcessor) => {}
        ("ByteLevel", Stage::Decoder) => out.push("letters back to bytes".to_string()),
        ("Metaspace", Stage::Decoder) => out.push("▁ back to blanks".to_string()),
        _ => out.push(step(kind, setting)),
    }
}

fn step(kind: &str, step: &Value) -> String {
    let flag = |key: &str| step.get(key).and_then(Value::as_bool);
    let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
    let pattern = || {
        let pattern = step.get("pattern");
        let regex = pattern.and_then(|pattern| pattern.get("Regex")?.as_str()).map(str::to_string);
        let literal = pattern.and_then(|pattern| pattern.get("String")?.as_str()).map(|text| format!("{text:?}"));
        regex.or(literal).unwrap_or_default()
    };
    match kind {
        "NFC" | "NFD" | "NFKC" | "NFKD" => format!("Unicode normal form {kind}"),
        "Lowercase" => "lower case".to_string(),
        "StripAccents" => "accents taken off".to_string(),
        "Nmt" => "control characters and odd blanks tidied (NMT)".to_string(),
        "Precompiled" => "SentencePiece's table of replacements".to_string(),
        "BertNormalizer" => {
            let mut parts = Vec::new();
            parts.extend(flag("clean_text").unwrap_or(false).then_some("control characters taken out"));
            parts.extend(flag("handle_chinese_chars").unwrap_or(false).then_some("blanks round Chinese characters"));
            let lower = flag("lowercase").unwrap_or(false);
            parts.extend(flag("strip_accents").unwrap_or(lower).then_some("accents taken off"));
            parts.extend(lower.then_some("lower case"));
            format!("BERT's clean-up ({})", if parts.is_empty() { "nothing".to_string() } else { parts.join(", ") })
        }
        "Prepend" => format!("{:?} put before the text", text("prepend")),
        "Replace" => format!("{} replaced by {:?}", pattern(), text("content")),
        "Strip" if step.get("strip_left").is_some() => match (flag("strip_left"), flag("strip_right")) {
            (Some(true), Some(true)) => "blanks at both ends taken off".to_string(),
            (Some(true), _) => "blanks at the begin taken off".to_string(),
            _ => "blanks at the end taken off".to_string(),
        },
        "Strip" => format!("{:?} taken off the ends of each piece", text("content")),
        "ByteLevel" if step.get("use_regex").is_some() || step.get("add_prefix_space").is_some() => {
            let mut out = String::from("bytes as letters");
            if flag("use_regex").unwrap_or(true) {
                out.push_str(", cut by GPT-2's pattern");
            }
            if flag("add_prefix_space").unwrap_or(false) {
                out.push_str(", a blank put before the text");
            }
            out
        }
        "ByteLevel" => "bytes as letters".to_string(),
        "Metaspace" => {
            let scheme = match text("prepend_scheme") {
                "never" => false,
                "" => flag("add_prefix_space").unwrap_or(true),
                _ => true,
            };
            let mut out = String::from("blanks as ▁");
            if scheme {
                out.push_str(", one put before the text");
            }
            if flag("split").unwrap_or(true) {
                out.push_str(", cut before each");
            }
            out
        }
        "Split" => {
            let behaviour = match text("behavior") {
                "Removed" => "matches taken out",
                "Isolated" => "each match a word",
                "MergedWithPrevious" => "matches joined to what is before",
                "MergedWithNext" => "matches joined to what follows",
                "Contiguous" => "runs of matches a word",
                other => other,
            };
            let inverted = if flag("invert").unwrap_or(false) { "everything but " } else { "" };
            format!("cut by {inverted}the pattern {} ({behaviour})", pattern())
        }
        "Whitespace" => "cut at blanks and punctuation".to_string(),
        "WhitespaceSplit" => "cut at blanks".to_string(),
        "BertPreTokenizer" => "cut at blanks, each punctuation mark a word".to_string(),
        "Punctuation" => "punctuation cut off".to_string(),
        "Digits" if flag("individual_digits").unwrap_or(false) => "each digit a word".to_string(),
        "Digits" => "numbers cut off".to_string(),
        "UnicodeScripts" => "cut where the script changes".to_string(),
        "CharDelimiterSplit" => format!("cut at {:?}", text("delimiter")),
        "TemplateProcessing" => template(step.get("single")),
        "BertProcessing" | "RobertaProcessing" => {
            let token =
                |key: &str| step.get(key).and_then(|pair| pair.get(0)?.as_str()).unwrap_or_default().to_string();
            format!("{} … {}", token("cls"), token("sep"))
        }
        "BPEDecoder" => format!("{:?} becomes a blank", text("suffix")),
        "WordPiece" => format!("{:?} joins pieces", text("prefix")),
        "ByteFallback" => "<0x0A> and the like become bytes".to_string(),
        "Fuse" => "pieces joined".to_string(),
        other => other.to_string(),
    }
}

/// `<s> … </s>`.
fn template(single: Option<&Value>) -> String {
    let parts = single.and_then(Value::as_array).into_iter().flatten().map(|part| {
        let special = part.get("SpecialToken").and_then(|token| token.get("id")?.as_str());
        special.map_or_else(|| "…".to_string(), str::to_string)
    });
    parts.collect::<Vec<_>>().join(" ")
}
