//! Keras: what a model's configuration makes Keras import, build and call.
//!
//! Source: keras/src/saving/serialization_lib.py. An object is `{module, class_name, config, registered_name}`: Keras
//! imports the module and calls the class or function of it. In HDF5 and SavedModel files the same JSON is an
//! attribute, found by its words.

use super::code::{Danger, danger, shorten};
use super::json::{Json, parse, parse_some};
use super::policy::Policy;
use super::tensorflow;
use super::walk::{Opened, Piece, Scanner};
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};

static LAMBDA: Rule = Rule {
    name: "keras-lambda",
    severity: Severity::Error,
    why: "A Lambda layer or function is Python code stored in the model, which Keras runs when the model is loaded or \
          called (CVE-2024-3660; with `safe_mode` off, or by older versions without asking).",
    help: "do not load the model; rebuild it with a layer of its own class",
};
static MODULE: Rule = Rule {
    name: "keras-module",
    severity: Severity::Error,
    why: "The configuration names a function or class outside of Keras that runs code, or a part of Keras that loads \
          files, fetches them or switches its protection off; Keras imports and calls it (CVE-2025-1550, CVE-2025-8747, \
          CVE-2025-9906).",
    help: "do not load the model",
};
static CUSTOM: Rule = Rule {
    name: "keras-custom-module",
    severity: Severity::Warning,
    why: "The configuration names a class in a module that is none of Keras': loading imports that module, and nobody \
          vouches for it.",
    help: "look at what the module is before you load the model",
};
static REGISTERED: Rule = Rule {
    name: "keras-custom-object",
    severity: Severity::Note,
    why: "The model needs a class that its author registered; Keras loads it only where the caller provides that class.",
    help: "get the class from the model's author, and read it",
};
static FILE: Rule = Rule {
    name: "keras-reads-file",
    severity: Severity::Error,
    why: "A layer takes its content from a path or address in the configuration, so that loading the model reads a file \
          of the machine or asks a server (CVE-2025-12058; tokenizers of KerasHub do the same).",
    help: "do not load the model; ask its author for one that brings its vocabulary along",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[&LAMBDA, &MODULE, &CUSTOM, &REGISTERED, &FILE];
/// Rules whose findings are attacks.
pub(super) static MALICIOUS: &[&Rule] = &[&LAMBDA, &MODULE];
/// Rules whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[&CUSTOM, &FILE];

/// Bytes of a configuration.
const MAX: u64 = 256 << 20;
/// Bytes of another file that are searched at once, and by how much more, so that what begins in one is seen whole.
const WINDOW: u64 = 16 << 20;
const OVERLAP: u64 = 4 << 20;

/// Keras' own packages and those of its makers.
const OWN: &[&str] = &[
    "keras",
    "tf_keras",
    "tensorflow",
    "keras_core",
    "keras_nlp",
    "keras_cv",
    "keras_hub",
    "keras_tuner",
    "keras_rs",
    "tensorflow_addons",
    "tensorflow_hub",
    "tensorflow_probability",
    "tensorflow_recommenders",
];
/// Functions of Keras that load, fetch or unprotect.
const GADGETS: &[&str] = &[
    "get_file",
    "load_model",
    "load_weights",
    "enable_unsafe_deserialization",
    "deserialize_keras_object",
    "model_from_json",
    "model_from_config",
    "from_config",
    "load_img",
    "image_dataset_from_directory",
    "save_model",
    "export_archive",
    "run_eagerly",
    "py_function",
    "numpy_function",
    "pyfunc",
    "read_file",
    "write_file",
    "load_op_library",
    "load_library",
    "save_img",
    "pad_model",
    "disable_safe_mode",
    "set_global_attribute",
    "py_func",
    "eager_py_func",
    "matching_files",
    "load_file_system_library",
];

/// Looks at a piece that may hold a Keras configuration.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    let mut findings = Vec::new();
    let policy = scanner.options.policy;
    match opened.format.id {
        "json" | "config-json" => {
            let text = piece.source.read_up_to(0, MAX)?;
            if let Some(json) = parse(&String::from_utf8_lossy(&text)).filter(is_keras) {
                check(&json, policy, &mut findings);
            }
        }
        "hdf5" | "tf-savedmodel" | "unknown" if opened.format.id != "unknown" || is_keras_name(piece.name()) => {
            // Attributes can stand anywhere, so all of it is searched, window by window.
            let mut at = 0;
            while at < piece.source.len() {
                for json in embedded(&piece.source.read_up_to(at, WINDOW + OVERLAP)?) {
                    check(&json, policy, &mut findings);
                }
                at += WINDOW;
            }
        }
        _ => {}
    }
    for finding in findings {
        scanner.report(piece, finding);
    }
    Ok(())
}

/// Names under which Keras keeps a configuration in a form that is not read here.
fn is_keras_name(name: &str) -> bool {
    [".pb", ".h5", ".hdf5", ".keras"].iter().any(|ending| name.ends_with(ending))
}

/// Whether JSON has an object of Keras' form somewhere.
fn is_keras(json: &Json) -> bool {
    let mut found = false;
    json.walk(&mut |_, value| {
        let has = |key| value.all(key).next().is_some();
        found |= has("class_name") && (has("config") || has("module"));
    });
    found
}

/// JSON objects within other bytes that begin as a Keras configuration does.
fn embedded(bytes: &[u8]) -> Vec<Json> {
    const KEYS: [&str; 3] = ["\"class_name\"", "\"module\"", "\"name\""];
    let mut found = Vec::new();
    // Texts end where bytes stand that JSON cannot have.
    for run in bytes.split(|byte| *byte < 9).filter(|run| run.len() >= 16 && run.contains(&b'{')) {
        let text = String::from_utf8_lossy(run);
        let mut rest = &*text;
        while let Some(start) = rest.find('{') {
            rest = rest.get(start..).unwrap_or_default();
            let inside = rest.get(1..).unwrap_or_default().trim_start();
            let parsed = if KEYS.iter().any(|key| inside.starts_with(key)) { parse_some(rest) } else { None };
            let used = parsed.as_ref().map_or(1, |parsed| parsed.used.max(1));
            rest = rest.get(used..).unwrap_or_default();
            found.extend(parsed.map(|parsed| parsed.json));
        }
    }
    found
}

fn check(json: &Json, policy: &Policy, findings: &mut Vec<Finding>) {
    json.walk(&mut |_, value| {
        // Each of several values counts: readers disagree about which one is taken.
        for class in value.all("class_name").filter_map(Json::text) {
            check_object(class, value, policy, findings);
        }
        for name in value.all("registered_name").filter_map(Json::text).filter(|name| name.starts_with("Custom>")) {
            findings.push(Finding::new(&REGISTERED, format!("the class {:?}", shorten(name))));
        }
    });
}

fn check_object(class: &str, object: &Json, policy: &Policy, findings: &mut Vec<Finding>) {
    let last = class.rsplit(['>', '.']).next().unwrap_or(class);
    if matches!(last, "Lambda" | "__lambda__" | "LambdaCallback") {
        findings.push(Finding::new(&LAMBDA, format!("an object of class {:?}", shorten(class))));
    }
    if matches!(last, "TorchModuleWrapper" | "FlaxLayer" | "JaxLayer") {
        findings.push(Finding::new(&MODULE, format!("a layer of class {last:?}, which unpickles what stands in it")));
    }
    if last == "TFSMLayer" {
        findings.push(Finding::new(&FILE, "a layer of class \"TFSMLayer\", which loads another model from a path"));
    }
    for config in object.all("config") {
        // A function of TensorFlow by its exported name, called when the layer is.
        if matches!(last, "TFOpLambda" | "SlicingOpLambda" | "ClassMethod" | "InstanceMethod" | "InstanceProperty") {
            let functions = ["function", "symbol", "cls_symbol"].into_iter().flat_map(|key| config.all(key));
            findings.extend(functions.filter_map(Json::text).filter_map(tensorflow_function));
        }
        // A tokenizer's content in the configuration is base64 of more than 2048 signs (keras_hub,
        // sentence_piece_tokenizer.py); all else is a path.
        if last.contains("Tokenizer") {
            let content = |text: &str| {
                text.len() > 2048 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=\n".contains(&byte))
            };
            let stated = ["proto", "merges"].into_iter().flat_map(|key| config.all(key)).filter_map(Json::text);
            for path in stated.filter(|text| !text.is_empty() && !content(text)) {
                let message = format!("a tokenizer of class {:?} reads {:?}", shorten(last), shorten(path));
                findings.push(Finding::new(&FILE, message));
            }
        }
        let vocabulary = config.all("vocabulary").chain(config.all("vocabulary_file")).filter_map(Json::text);
        for path in vocabulary.filter(|path| !path.is_empty()) {
            findings
                .push(Finding::new(&FILE, format!("a layer of class {:?} reads {:?}", shorten(last), shorten(path))));
        }
    }
    for module in object.all("module").filter_map(Json::text) {
        let package = module.split('.').next().unwrap_or_default();
        // Of a function, `config` is the name.
        let function = object.get_text("config").unwrap_or(class);
        let name = if matches!(class, "function" | "builtin_function_or_method" | "type" | "method") {
            function
        } else {
            class
        };
        let shown = format!("{module}.{name}");
        if OWN.contains(&package) {
            // The name may lead through modules itself: `common.global_state.set_global_attribute`.
            let own = name.rsplit('.').next().unwrap_or(name);
            if GADGETS.contains(&own) || name.contains("unsafe") {
                findings.push(Finding::new(&MODULE, format!("it names {:?}", shorten(&shown))));
            }
        } else if !module.is_empty() {
            let standard = matches!(danger(policy, &shown), Danger::High) || package == "builtins" && class != "str";
            let harmless = danger(policy, &shown) == Danger::None;
            if standard && !harmless {
                findings.push(Finding::new(&MODULE, format!("it names {:?}", shorten(&shown))));
            } else if !harmless {
                findings.push(Finding::new(&CUSTOM, format!("it names {:?}", shorten(&shown))));
            }
        }
    }
}

/// A function of TensorFlow that a layer calls by name: nothing where it only computes.
fn tensorflow_function(name: &str) -> Option<Finding> {
    let last = name.rsplit('.').next().unwrap_or(name);
    let rule = match name.split_once("raw_ops.") {
        Some((_, operator)) => tensorflow::rule(operator)?,
        None if GADGETS.contains(&last) => &MODULE,
        None => return None,
    };
    Some(Finding::new(rule, format!("a layer calls TensorFlow's {:?}", shorten(name))))
}
