//! Python source: what it calls, by the names under which its imports make it known.
//!
//! Source beside weights runs with `trust_remote_code`; within an archive that carries its own code (torch.package,
//! TorchServe) it runs when the archive is loaded. Texts and comments are no calls.

use std::collections::HashMap;

use super::code::{Danger, danger, shorten};
use super::walk::{Opened, Piece, Scanner};
use crate::container::text::decode;
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};

static SOURCE: Rule = Rule {
    name: "python-source",
    severity: Severity::Note,
    why: "A Python file is a program. Beside a model it is run by `trust_remote_code`, with all your rights.",
    help: "read it before you run it",
};
static DANGEROUS: Rule = Rule {
    name: "python-dangerous-call",
    severity: Severity::Warning,
    why: "The program runs commands, builds code at run time, opens connections or loads native code, as the definition \
          of a model has no need to.",
    help: "read the file, and do not load the model with `trust_remote_code` unless you know why it does so",
};
static IN_ARCHIVE: Rule = Rule {
    name: "python-dangerous-call-in-archive",
    severity: Severity::Error,
    why: "An archive brings along Python code that its loader runs (torch.package, TorchServe, Keras), and that code \
          runs commands, builds code at run time, opens connections or loads native code.",
    help: "do not load the archive",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[&SOURCE, &DANGEROUS, &IN_ARCHIVE];
/// Rules whose findings are attacks.
pub(super) static MALICIOUS: &[&Rule] = &[&IN_ARCHIVE];
/// Rules whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[&DANGEROUS];

/// Bytes of a source that are read.
const MAX: u64 = 16 << 20;

/// Functions that the policy for pickles does not have to allow, but that sources of models use without harm.
const USUAL: &[&str] = &[
    "importlib.import_module",
    "importlib.util",
    "importlib.metadata",
    "importlib.resources",
    "open",
    "io.open",
    "getattr",
    "setattr",
    "delattr",
    "hasattr",
    "vars",
    "globals",
    "locals",
    "super",
    "property",
    "staticmethod",
    "classmethod",
    "print",
    "input",
    "functools",
    "operator",
    "itertools",
    "inspect",
    "warnings",
    "logging",
    "copy",
    "contextlib",
    "threading",
    "queue",
    "tempfile",
    "shutil.copy",
    "shutil.copyfile",
    "shutil.copytree",
    "shutil.move",
    "os.path",
    "os.makedirs",
    "os.mkdir",
    "os.listdir",
    "os.getcwd",
    "os.getenv",
    "os.environ",
    "os.cpu_count",
    "os.walk",
    "os.scandir",
    "os.stat",
    "os.getpid",
    "os.remove",
    "os.rename",
    "os.replace",
    "os.unlink",
    "os.rmdir",
    "os.chdir",
    "os.fspath",
    "os.urandom",
    "os.sched_getaffinity",
    "glob",
    "sys",
    "site",
    "platform",
    "pathlib",
    "zipfile",
    "tarfile",
    "json",
    "csv",
    "gzip",
    "bz2",
    "lzma",
    "zlib",
    "base64",
    "binascii",
    "struct",
    "hashlib",
    "types",
    "typing",
    "dataclasses",
    "weakref",
    "atexit",
    "signal",
    "time",
    "multiprocessing",
    "concurrent",
    "asyncio",
    "gc",
    "torch.load",
    "torch.jit",
    "torch.hub",
    "torch.ops",
    "torch.classes",
    "torch.library",
    "torch.compile",
    "torch.distributed",
    "torch.package",
    "torch.utils",
    "torch._dynamo",
    "torch._inductor",
    "torch.fx",
    "torch.multiprocessing",
    "numpy.load",
    "numpy.fromfile",
    "numpy.memmap",
    "numpy.save",
    "numpy.loadtxt",
    "re.compile",
    "type",
    "isinstance",
    "tensorflow",
    "keras",
    "transformers",
    "huggingface_hub",
    "safetensors",
    "pandas",
    "PIL",
    "cv2",
    "sentencepiece",
    "unittest",
    "argparse",
    "yaml.safe_load",
    "joblib",
    "pickle.dump",
    "pickle.dumps",
    "sqlite3",
    "ast",
    "codecs",
    "jinja2",
    "pprint",
    "traceback",
    "linecache",
    "tokenize",
    "difflib",
];

/// Modules of which no attribute should be taken by a name that is put together.
const MODULES: &[&str] =
    &["os", "subprocess", "builtins", "posix", "nt", "pty", "ctypes", "importlib", "socket", "marshal"];

/// Looks at a piece that is Python source.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, opened: &Opened) -> Result<()> {
    let named = piece.name().rsplit_once('.').is_some_and(|(_, extension)| matches!(extension, "py" | "pyw" | "pyi"));
    if !(opened.format.id == "python" || named && matches!(opened.format.id, "text" | "html" | "unknown"))
        || piece.hidden
    {
        return Ok(());
    }
    let bytes = piece.source.read_up_to(0, MAX)?;
    let text =
        decode(&bytes).map_or_else(|| String::from_utf8_lossy(&bytes).into_owned(), |text| text.text.into_owned());
    scanner.report(piece, Finding::new(&SOURCE, "a program in Python"));
    // TorchScript's own sources are no Python: they can call what the interpreter knows, and nothing else.
    let script = piece.member.as_deref().is_some_and(|member| member.contains("/code/__torch__"));
    if script {
        return Ok(());
    }
    let rule = if piece.member.is_some() { &IN_ARCHIVE } else { &DANGEROUS };
    for call in dangerous(&text, scanner) {
        let message = format!("it calls {:?}", shorten(&call.name));
        scanner.report(piece, Finding::new(rule, message).at(call.at));
    }
    Ok(())
}

fn dangerous(text: &str, scanner: &Scanner) -> Vec<Call> {
    let usual = |name: &str| {
        USUAL.iter().any(|usual| name.strip_prefix(usual).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    };
    let mut found = calls(text);
    found.retain(|call| !usual(&call.name) && danger(scanner.options.policy, &call.name) == Danger::High);
    found
}

/// A call in a source text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// The name as it is known outside of the file.
    pub name: String,
    /// Where it stands.
    pub at: u64,
}

/// All calls of names that imports or Python itself make known.
pub(super) fn calls(text: &str) -> Vec<Call> {
    let tokens = tokens(text);
    let mut known: HashMap<String, String> = HashMap::new();
    let mut calls = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text {
            "import" => at = import(&tokens, at, &mut known),
            "from" => at = import_from(&tokens, at, &mut known),
            // A method's or function's own definition is no call.
            "def" | "class" => at += 1,
            word if is_name(word) => {
                let start = token.at;
                let mut name = known.get(word).cloned().unwrap_or_else(|| word.to_string());
                let bound = known.contains_key(word);
                // An attribute of something else: `model.eval(`.
                let attribute = at >= 2 && tokens.get(at - 2).is_some_and(|before| before.text == ".");
                let mut dotted = false;
                while let (Some("."), Some(next)) =
                    (tokens.get(at).map(|it| it.text), tokens.get(at + 1).map(|it| it.text))
                {
                    if !is_name(next) {
                        break;
                    }
                    name.push('.');
                    name.push_str(next);
                    dotted = true;
                    at += 2;
                }
                let call = tokens.get(at).is_some_and(|next| next.text == "(");
                let assigned = !call && tokens.get(at).is_some_and(|next| matches!(next.text, ")" | "," | "\n" | "]"));
                // Another name for the same function: `run = os.system`.
                if assigned && (bound || !dotted) && !attribute {
                    rebind(&tokens, start, &name, bound, &mut known);
                }
                if call && !attribute && (bound || !dotted) {
                    // `getattr(os, …)` is whatever the text says that is put together there.
                    let of = tokens.get(at + 1).and_then(|token| known.get(token.text)).filter(|_| name == "getattr");
                    let name = of
                        .filter(|of| MODULES.contains(&of.as_str()))
                        .map_or(name, |of| format!("{of}.__getattribute__"));
                    calls.push(Call { name, at: start });
                }
            }
            _ => {}
        }
    }
    calls
}

/// Notes `alias = name` where `name` begins at `start`.
fn rebind(tokens: &[Token], start: u64, name: &str, bound: bool, known: &mut HashMap<String, String>) {
    let index = tokens.partition_point(|token| token.at < start);
    let before = |back: usize| index.checked_sub(back).and_then(|at| tokens.get(at)).map(|token| token.text);
    let builtin = bound || matches!(name, "eval" | "exec" | "compile" | "__import__");
    if let (Some("="), Some(alias), true) = (before(1), before(2), builtin)
        && is_name(alias)
        && before(3).is_none_or(|sign| sign != ".")
    {
        known.insert(alias.to_string(), name.to_string());
    }
}

fn import(tokens: &[Token], mut at: usize, known: &mut HashMap<String, String>) -> usize {
    loop {
        let (module, next) = dotted(tokens, at);
        at = next;
        if module.is_empty() {
            return at;
        }
        if tokens.get(at).is_some_and(|token| token.text == "as") {
            if let Some(alias) = tokens.get(at + 1) {
                known.insert(alias.text.to_string(), module.clone());
            }
            at += 2;
        } else {
            let first = module.split('.').next().unwrap_or_default().to_string();
            known.insert(first.clone(), first);
        }
        if tokens.get(at).is_none_or(|token| token.text != ",") {
            return at;
        }
        at += 1;
    }
}

fn import_from(tokens: &[Token], at: usize, known: &mut HashMap<String, String>) -> usize {
    let (module, mut at) = dotted(tokens, at);
    if tokens.get(at).is_none_or(|token| token.text != "import") {
        return at;
    }
    at += 1;
    let bracket = tokens.get(at).is_some_and(|token| token.text == "(");
    at += usize::from(bracket);
    while let Some(token) = tokens.get(at).filter(|token| is_name(token.text) || matches!(token.text, "," | "\n")) {
        if token.text == "\n" && !bracket {
            break;
        }
        at += 1;
        if !is_name(token.text) {
            continue;
        }
        let mut alias = token.text;
        if tokens.get(at).is_some_and(|next| next.text == "as") {
            alias = tokens.get(at + 1).map_or(alias, |token| token.text);
            at += 2;
        }
        known.insert(alias.to_string(), format!("{module}.{}", token.text));
    }
    at
}

/// A dotted name, and where it ends.
fn dotted(tokens: &[Token], mut at: usize) -> (String, usize) {
    let mut name = String::new();
    while let Some(token) = tokens.get(at).filter(|token| token.text == "." || is_name(token.text)) {
        if matches!(token.text, "import" | "as") || is_name(token.text) && name.ends_with(|c: char| c != '.') {
            break;
        }
        name.push_str(token.text);
        at += 1;
    }
    (name, at)
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c == '_' || c.is_alphabetic())
}

struct Token<'a> {
    text: &'a str,
    at: u64,
}

/// Names, signs and the ends of lines; texts and comments are left out.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(sign) = rest.chars().next() {
        let at = (text.len() - rest.len()) as u64;
        let len = match sign {
            '#' => {
                let end = rest.find('\n').unwrap_or(rest.len());
                rest = rest.get(end..).unwrap_or_default();
                continue;
            }
            '"' | '\'' => {
                rest = behind_text(rest, sign);
                continue;
            }
            // A line that goes on.
            '\\' if rest.starts_with("\\\n") => {
                rest = rest.get(2..).unwrap_or_default();
                continue;
            }
            sign if sign == '_' || sign.is_alphanumeric() => {
                rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len())
            }
            sign => sign.len_utf8(),
        };
        let (word, behind) = rest.split_at_checked(len).unwrap_or((rest, ""));
        if sign == '\n' || !sign.is_whitespace() {
            tokens.push(Token { text: word, at });
        }
        rest = behind;
    }
    tokens
}

/// What follows the text that begins here with `quote`.
fn behind_text(text: &str, quote: char) -> &str {
    let triple = [quote; 3].iter().collect::<String>();
    let (open, close) = match text.starts_with(&triple) {
        true => (3, triple),
        false => (1, quote.to_string()),
    };
    let mut rest = text.get(open..).unwrap_or_default();
    loop {
        if rest.is_empty() || open == 1 && rest.starts_with('\n') {
            return rest;
        }
        if let Some(behind) = rest.strip_prefix(close.as_str()) {
            return behind;
        }
        let mut signs = rest.chars();
        if signs.next() == Some('\\') {
            signs.next();
        }
        rest = signs.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        calls(text).into_iter().map(|call| call.name).collect()
    }

    #[test]
    fn calls_are_known_by_what_imports_name() {
        assert_eq!(names("import os\nos.system('true')"), ["os.system"]);
        assert_eq!(names("import os as o, sys\no.popen('x')"), ["os.popen"]);
        assert_eq!(names("from os import (path,\n system as go)\ngo('x')"), ["os.system"]);
        assert_eq!(names("import subprocess\nf = subprocess.run\nf(['x'])"), ["subprocess.run"]);
        assert_eq!(names("run = eval\nrun('1')"), ["eval"]);
        assert_eq!(names("import \\\n os\nos . system ('x')"), ["os.system"]);
    }

    #[test]
    fn methods_texts_comments_and_definitions_are_no_calls() {
        assert_eq!(names("import os\n# os.system('x')\n'''os.system(1)'''\nmodel.eval()\ndef exec(): pass"), [""; 0]);
        assert_eq!(names("x = \"os.system('a')\"\nself.net.compile()"), [""; 0]);
    }
}
