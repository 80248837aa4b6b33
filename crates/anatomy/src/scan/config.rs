//! Configurations that name code: JSON and YAML beside the weights, or within archives.
//!
//! None of these files runs anything by itself. They name classes, modules or repositories, and a loader imports,
//! fetches or calls what they name.

use super::code::{Danger, danger, shorten};
use super::json::{Json, parse_some};
use super::policy::Policy;
use super::python::{self, Known};
use super::walk::{Opened, Piece, Scanner};
use super::yaml::scalars;
use crate::container::text::decode;
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};

static REMOTE_CODE: Rule = Rule {
    name: "config-remote-code",
    severity: Severity::Error,
    why: "`auto_map` names Python code in another repository. With `trust_remote_code` it is fetched and run, and its \
          owner can change it at any time; some loaders have fetched it without being told to (CVE-2025-66448).",
    help: "do not load the model with `trust_remote_code`; read the code at a fixed revision first",
};
static LOCAL_CODE: Rule = Rule {
    name: "config-local-code",
    severity: Severity::Warning,
    why: "The configuration names Python code in the repository itself, which `trust_remote_code` runs with all your \
          rights.",
    help: "read the Python files, and load the model without `trust_remote_code` where the library knows its family",
};
static TRUST: Rule = Rule {
    name: "config-trusts-remote-code",
    severity: Severity::Warning,
    why: "The configuration itself sets `trust_remote_code`, so that a loader which passes it on runs the repository's \
          code without having been told to.",
    help: "remove the key; whoever loads a model decides on trust",
};
static KERNEL: Rule = Rule {
    name: "config-names-kernel-repository",
    severity: Severity::Error,
    why: "The attention implementation is given as a repository, from which the loader fetches native code and runs it; \
          transformers before 5.3 did so without being told to (CVE-2026-4372).",
    help: "remove the key, or load with `attn_implementation` set by yourself",
};
static TARGET: Rule = Rule {
    name: "config-target-unknown",
    severity: Severity::Warning,
    why: "The configuration names a class or function that a loader (Hydra, NeMo, PEFT, Sentence Transformers, \
          diffusers) imports and calls, and nobody vouches for it.",
    help: "look at what the name stands for before you load the model",
};
static TARGET_DANGEROUS: Rule = Rule {
    name: "config-target-dangerous",
    severity: Severity::Error,
    why: "The configuration names a function that runs code or commands, reads or writes files, or leads to one that \
          does; a loader calls it with the arguments that stand beside it.",
    help: "do not load the model",
};
static OBJECT: Rule = Rule {
    name: "config-builds-objects",
    severity: Severity::Error,
    why: "The text holds instructions to build Python objects (YAML's `!!python/…` tags, jsonpickle's `py/…` keys): a \
          loader that follows them runs what they name.",
    help: "load it with a safe loader only (`yaml.safe_load`), or not at all",
};
static OBJECT_PLAIN: Rule = Rule {
    name: "config-builds-plain-values",
    severity: Severity::Note,
    why: "The text has Python tags for plain values (tuples, texts, numbers), which safe loaders refuse.",
    help: "write them as YAML's own lists and texts",
};
static EXPRESSION: Rule = Rule {
    name: "config-expression",
    severity: Severity::Error,
    why: "A value is a Python expression that the format's loader evaluates (MONAI's `$…`), and it calls what runs code.",
    help: "do not load the model",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] =
    &[&REMOTE_CODE, &LOCAL_CODE, &TRUST, &KERNEL, &TARGET, &TARGET_DANGEROUS, &OBJECT, &OBJECT_PLAIN, &EXPRESSION];
/// Rules whose findings are attacks.
pub(super) static MALICIOUS: &[&Rule] = &[&REMOTE_CODE, &KERNEL, &TARGET_DANGEROUS, &OBJECT, &EXPRESSION];
/// Rules whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[&LOCAL_CODE, &TRUST, &TARGET];

/// Bytes of a configuration that are read; the longest tokenizers have a tenth.
const MAX: u64 = 256 << 20;

/// Looks at a piece that is JSON or YAML.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    let json = matches!(opened.format.id, "config-json" | "json" | "tokenizer-json" | "notebook" | "tekken");
    let yaml = opened.format.id == "text" && is_yaml(piece.name());
    if !json && !yaml || piece.hidden {
        return Ok(());
    }
    // Other JSON of that size is data, and nothing that a loader reads whole.
    let bytes = match opened.format.id {
        "json" | "notebook" => piece.source.read_up_to(0, MAX)?,
        _ => scanner.read(piece, MAX)?,
    };
    let Some(text) = decode(&bytes).map(|text| text.text.into_owned()) else { return Ok(()) };
    let mut findings = Vec::new();
    let policy = scanner.options.policy;
    if let Some(parsed) = parse_some(&text) {
        look_json(&parsed.json, piece.name(), policy, &mut findings);
        if parsed.too_much {
            scanner.limit(piece, "the JSON has more parts than are looked at");
        }
    }
    if yaml {
        look_yaml(&text, policy, &mut findings);
    }
    for finding in findings {
        scanner.report(piece, finding);
    }
    Ok(())
}

/// Whether a text of that name may be YAML.
pub(super) fn is_yaml(name: &str) -> bool {
    let base = name.rsplit(['/', '\\']).next().unwrap_or(name).to_ascii_lowercase();
    match base.rsplit_once('.') {
        Some((_, extension)) => matches!(extension, "yaml" | "yml" | "conf" | "cfg" | "config" | "json" | "params"),
        None => true,
    }
}

fn look_json(json: &Json, name: &str, policy: &Policy, findings: &mut Vec<Finding>) {
    let base = name.rsplit(['/', '\\']).next().unwrap_or(name);
    // Sentence Transformers' list of modules, each of a class that is imported.
    if let Json::List(modules) = json {
        for class in modules.iter().filter(|module| module.all("path").count() > 0).filter_map(|it| it.get_text("type"))
        {
            if !["sentence_transformers.", "pylate."].iter().any(|known| class.starts_with(known)) {
                findings.push(target("type", class, policy));
            }
        }
    }
    if base == "model_index.json" {
        pipeline(json, policy, findings);
    }
    let mut known = Known::new();
    json.walk(&mut |_, value| import(value.text().unwrap_or_default(), &mut known));
    json.walk(&mut |path, value| {
        let Some(key) = path.last() else { return };
        let at = || path.join(".");
        match (*key, value) {
            ("auto_map", Json::Object(classes)) => {
                for (_, class) in classes {
                    class.walk(&mut |_, class| {
                        let Some(class) = class.text() else { return };
                        let rule = if class.contains("--") { &REMOTE_CODE } else { &LOCAL_CODE };
                        findings.push(Finding::new(rule, format!("{} names {:?}", at(), shorten(class))));
                    });
                }
            }
            ("auto_map", Json::Text(class)) => {
                let rule = if class.contains("--") { &REMOTE_CODE } else { &LOCAL_CODE };
                findings.push(Finding::new(rule, format!("{} names {:?}", at(), shorten(class))));
            }
            ("custom_pipelines", Json::Object(tasks)) => {
                for class in tasks.iter().filter_map(|(_, task)| task.get_text("impl")) {
                    let rule = if class.contains("--") { &REMOTE_CODE } else { &LOCAL_CODE };
                    findings.push(Finding::new(rule, format!("{} names {:?}", at(), shorten(class))));
                }
            }
            ("custom_pipeline", Json::Text(name)) => {
                findings.push(Finding::new(&LOCAL_CODE, format!("{} names {:?}", at(), shorten(name))));
            }
            ("trust_remote_code", Json::Bool(true)) => {
                findings.push(Finding::new(&TRUST, format!("{} is true", at())));
            }
            (key, Json::Text(name))
                if key.trim_start_matches('_').starts_with("attn_implementation") && name.contains('/') =>
            {
                findings.push(Finding::new(&KERNEL, format!("{} names {:?}", at(), shorten(name))));
            }
            (key, Json::Object(parts)) if key.trim_start_matches('_').starts_with("attn_implementation") => {
                for name in parts.iter().filter_map(|(_, part)| part.text()).filter(|name| name.contains('/')) {
                    findings.push(Finding::new(&KERNEL, format!("{} names {:?}", at(), shorten(name))));
                }
            }
            ("_target_", Json::Text(name)) => findings.extend(hydra(&at(), name, policy)),
            ("parent_library" | "megatron_core", Json::Text(module)) => {
                let known = ["transformers", "diffusers", "megatron", "timm", "torch", "sentence_transformers"];
                let package = module.split('.').next().unwrap_or_default();
                if !known.contains(&package) {
                    findings.push(target(&at(), &format!("{module}.import"), policy));
                }
            }
            (
                key @ ("py/object" | "py/reduce" | "py/function" | "py/type" | "py/repr" | "py/newargs"
                | "py/newargsex"),
                value,
            ) => {
                let name = value.text().map(shorten).unwrap_or_default();
                findings.push(Finding::new(&OBJECT, format!("{} has the key {key:?} with {name:?}", at())));
            }
            ("class_path", Json::Text(name)) => findings.extend(class_path(&at(), name, policy)),
            (_, Json::Text(text)) if text.starts_with('$') && calls(text, &mut known, policy) => {
                findings.push(Finding::new(&EXPRESSION, format!("{} is {:?}", at(), shorten(text))));
            }
            _ => {}
        }
    });
}

/// The parts of a diffusers pipeline: each names a library, which is imported, and a class in it.
fn pipeline(json: &Json, policy: &Policy, findings: &mut Vec<Finding>) {
    // Libraries, and those of diffusers' own pipelines whose folders hold classes of parts.
    #[rustfmt::skip]
    const KNOWN: &[&str] = &[
        "diffusers", "transformers", "onnxruntime", "optimum", "peft", "flax", "torch", "k_diffusion", "open_clip", "timm",
        "alt_diffusion", "amused", "audioldm2", "blip_diffusion", "bria", "bria_fibo", "cosmos", "deepfloyd_if", "flux",
        "i2vgen_xl", "kandinsky", "kandinsky2_2", "kandinsky5", "latent_diffusion", "ledits_pp", "marigold", "musicldm",
        "paint_by_example", "semantic_stable_diffusion", "shap_e", "spectrogram_diffusion", "stable_audio",
        "stable_cascade", "stable_diffusion", "stable_diffusion_3", "stable_diffusion_safe", "stable_diffusion_xl",
        "stable_unclip", "stable_video_diffusion", "unclip", "unidiffuser", "versatile_diffusion", "visualcloze",
        "wuerstchen",
    ];
    let Json::Object(parts) = json else { return };
    for (part, value) in parts {
        let Json::List(pair) = value else { continue };
        if part == "_class_name" {
            findings.push(Finding::new(&LOCAL_CODE, "the pipeline's class is in a file of the repository"));
        } else if let [Json::Text(library), Json::Text(class)] = pair.as_slice()
            && !KNOWN.contains(&library.as_ref())
        {
            findings.push(target(part, &format!("{library}.{class}"), policy));
        }
    }
}

/// A name that Hydra or one of its like calls.
fn hydra(at: &str, name: &str, policy: &Policy) -> Option<Finding> {
    // Frameworks that build their own classes so.
    const KNOWN: &[&str] = &[
        "nemo",
        "nemo_rl",
        "torch",
        "torchvision",
        "torchaudio",
        "torchtune",
        "transformers",
        "diffusers",
        "omegaconf",
        "hydra",
        "lightning",
        "pytorch_lightning",
        "monai",
        "timm",
        "megatron",
        "speechbrain",
        "fairseq",
        "fairseq2",
        "composer",
        "llmfoundry",
        "peft",
        "datasets",
        "tokenizers",
        "lhotse",
        "fish_speech",
        "ldm",
        "sgm",
        "detectron2",
    ];
    let package = name.split('.').next().unwrap_or_default();
    match danger(policy, name) {
        Danger::None => None,
        Danger::Unknown if KNOWN.contains(&package) => None,
        _ => Some(target(at, name, policy)),
    }
}

fn target(at: &str, name: &str, policy: &Policy) -> Finding {
    let rule = if danger(policy, name) == Danger::High { &TARGET_DANGEROUS } else { &TARGET };
    Finding::new(rule, format!("{at} names {:?}", shorten(name)))
}

/// A name that jsonargparse, and LightningCLI with it, imports and calls. Every project has classes of its own there,
/// which are built only by the project's own program: only what is dangerous by itself counts.
fn class_path(at: &str, name: &str, policy: &Policy) -> Option<Finding> {
    (danger(policy, name) == Danger::High).then(|| target(at, name, policy))
}

/// Bytes of an expression that imports, and names that are bound so; nothing real is near.
const MAX_IMPORT: usize = 1024;
const MAX_KNOWN: usize = 4096;

/// Notes what an expression imports (MONAI's `"imports": ["$import os"]`): the names hold in all other expressions.
fn import(text: &str, known: &mut Known) {
    if let Some(code) = text.strip_prefix('$')
        && text.len() <= MAX_IMPORT
        && known.len() < MAX_KNOWN
        && code.contains("import")
    {
        python::calls(code, known);
    }
}

/// Whether an expression calls something dangerous.
fn calls(text: &str, known: &mut Known, policy: &Policy) -> bool {
    let code = text.strip_prefix('$').unwrap_or(text);
    let dangerous = |call: &python::Call| danger(policy, &call.name) == Danger::High;
    // With imports, what models' sources do as well is no more dangerous here.
    python::calls(code, &mut Known::new()).iter().any(dangerous)
        || python::calls(code, known).iter().any(|call| dangerous(call) && !python::is_usual(&call.name))
}

fn look_yaml(text: &str, policy: &Policy, findings: &mut Vec<Finding>) {
    // What begins a tag, and what it stands for after YAML's own prefix.
    let mut handles = vec![("!!".to_string(), String::new()), ("!<tag:yaml.org,2002:".to_string(), String::new())];
    let mut at = 0u64;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len() as u64;
        let trimmed = line.trim_start();
        if let Some(rest) = trimmed.strip_prefix("%TAG") {
            let mut words = rest.split_whitespace();
            if let (Some(handle), Some(prefix)) = (words.next(), words.next())
                && let Some(begin) = percent(prefix).strip_prefix("tag:yaml.org,2002:")
            {
                handles.push((handle.to_string(), begin.to_string()));
            }
            continue;
        }
        if trimmed.starts_with('#') {
            continue;
        }
        for (place, tag) in tags(without_comment(line)) {
            let tag = percent(tag);
            let whole = handles
                .iter()
                .filter_map(|(handle, begin)| Some(format!("{begin}{}", tag.strip_prefix(handle.as_str())?)));
            let python =
                whole.filter_map(|whole| whole.trim_end_matches('>').strip_prefix("python/").map(String::from));
            let Some(kind) = { python }.next() else { continue };
            findings.push(python_tag(&kind, policy).at(start + place as u64));
        }
    }
    let mut known = Known::new();
    // An expression is read where it stands, not once more for each alias of it.
    scalars(text, &mut |scalar| {
        if !scalar.alias {
            import(&scalar.text, &mut known);
        }
    });
    scalars(text, &mut |scalar| {
        let found = match &*scalar.key {
            "_target_" if !scalar.text.is_empty() => hydra("_target_", &scalar.text, policy),
            "class_path" => class_path("class_path", &scalar.text, policy),
            _ if !scalar.alias && scalar.text.starts_with('$') && calls(&scalar.text, &mut known, policy) => {
                Some(Finding::new(&EXPRESSION, format!("a value is {:?}", shorten(&scalar.text))))
            }
            _ => None,
        };
        findings.extend(found.map(|finding| finding.at(scalar.at)));
    });
}

/// A line without the comment at its end. Where quotes stand before the `#` it may be text, and is kept.
fn without_comment(line: &str) -> &str {
    let comment = line.match_indices('#').map(|(at, _)| at).find(|at| {
        line.get(..*at).is_some_and(|before| before.ends_with(char::is_whitespace) && !before.contains(['"', '\'']))
    });
    comment.and_then(|at| line.get(..at)).unwrap_or(line)
}

/// The tags of a line: words that begin with `!` where a value can begin.
fn tags(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.match_indices('!').filter_map(|(at, _)| {
        let before = line.get(..at)?.chars().next_back();
        let free = before.is_none_or(|sign| sign.is_whitespace() || "[{,-:?(".contains(sign));
        let rest = line.get(at..)?;
        let end = rest
            .find(|sign: char| sign.is_whitespace() || ",]}".contains(sign) && !rest.starts_with("!<"))
            .unwrap_or(rest.len());
        free.then(|| (at, rest.get(..end).unwrap_or_default()))
    })
}

fn python_tag(kind: &str, policy: &Policy) -> Finding {
    let (kind, name) = kind.split_once(':').unwrap_or((kind, ""));
    let plain = ["none", "bool", "bytes", "str", "unicode", "int", "long", "float", "complex", "list", "tuple", "dict"];
    if plain.contains(&kind) {
        return Finding::new(&OBJECT_PLAIN, format!("the tag !!python/{kind}"));
    }
    let what = if name.is_empty() { String::new() } else { format!(" of {:?}", shorten(name)) };
    let harmless = kind != "module" && !name.is_empty() && danger(policy, name) == Danger::None;
    let rule = if harmless { &OBJECT_PLAIN } else { &OBJECT };
    Finding::new(rule, format!("the tag !!python/{}{what}", shorten(kind)))
}

/// A tag with its `%2F` and the like written out.
fn percent(tag: &str) -> String {
    let mut out = Vec::new();
    let mut rest = tag.as_bytes();
    while let [first, behind @ ..] = rest {
        let hex = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                out.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
