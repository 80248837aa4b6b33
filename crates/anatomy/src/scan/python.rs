//! Python source: what it calls, by the names under which its imports make it known.
//!
//! Source beside weights runs with `trust_remote_code`; within an archive that carries its own code (torch.package,
//! TorchServe) it runs when the archive is loaded. Texts and comments are no calls.

use std::borrow::Cow;
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
const MAX: u64 = 4 << 20;

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
    let bytes = scanner.read(piece, MAX)?;
    let text =
        decode(&bytes).map_or_else(|| String::from_utf8_lossy(&bytes).into_owned(), |text| text.text.into_owned());
    scanner.report(piece, Finding::new(&SOURCE, "a program in Python"));
    // TorchScript's own sources are no Python: they can call what the interpreter knows, and nothing else.
    let script = piece.member.as_deref().is_some_and(|member| member.contains("/code/__torch__"));
    if script {
        return Ok(());
    }
    let rule = if piece.member.is_some() { &IN_ARCHIVE } else { &DANGEROUS };
    if let Some(encoding) = encoding(&text) {
        let message = format!("its text is encoded as {encoding:?}, which hides the program");
        scanner.report(piece, Finding::new(rule, message).at(0));
    }
    for call in dangerous(&text, scanner) {
        let message = format!("it calls {:?}", shorten(&call.name));
        scanner.report(piece, Finding::new(rule, message).at(call.at));
    }
    Ok(())
}

/// Functions of `os` that run programs; the rest of it reads names, sizes and settings.
const PROGRAMS: &[&str] = &["system", "popen", "exec", "spawn", "posix_spawn", "fork", "startfile", "__"];

/// Encodings of a source that turn other text into the program.
const ENCODINGS: &[&str] = &[
    "rot13",
    "rot_13",
    "utf7",
    "utf_7",
    "hex",
    "base64",
    "uu",
    "zlib",
    "bz2",
    "unicode_escape",
    "raw_unicode_escape",
    "punycode",
    "idna",
];

/// An encoding that a source states in its first two lines, where nobody can read the program in it.
fn encoding(text: &str) -> Option<&str> {
    let line = text.lines().take(2).find(|line| line.trim_start().starts_with('#') && line.contains("coding"))?;
    let (_, rest) = line.split_once("coding:").or_else(|| line.split_once("coding="))?;
    let name = rest.trim_start().split(|sign: char| !sign.is_alphanumeric() && !"-_.".contains(sign)).next()?;
    let plain = name.to_ascii_lowercase().replace('-', "_");
    ENCODINGS
        .iter()
        .any(|known| plain == *known || plain == known.replace('_', "") || plain.trim_end_matches("_codec") == *known)
        .then_some(name)
}

fn dangerous(text: &str, scanner: &Scanner) -> Vec<Call> {
    let mut found = calls(text, &mut HashMap::new());
    found.retain(|call| !is_usual(&call.name) && danger(scanner.options.policy, &call.name) == Danger::High);
    found
}

/// Whether sources of models call that without harm.
pub(super) fn is_usual(name: &str) -> bool {
    if let Some(own) = name.strip_prefix("os.") {
        return !PROGRAMS.iter().any(|program| own.starts_with(program));
    }
    USUAL.iter().any(|usual| name.strip_prefix(usual).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// A call in a source text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// The name as it is known outside of the file.
    pub name: String,
    /// Where it stands.
    pub at: u64,
}

/// Names that imports bind, with what each stands for.
pub(super) type Known = HashMap<String, String>;

/// All calls of names that imports or Python itself make known; adds to `known` what the text's imports bind.
pub(super) fn calls(text: &str, known: &mut Known) -> Vec<Call> {
    let tokens = tokens(text);
    let mut calls = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text {
            "import" => at = import(&tokens, at, known),
            "from" => {
                let start = token.at;
                at = import_from(&tokens, at, known, &mut |name| calls.push(Call { name, at: start }));
            }
            // A method's or function's own definition is no call.
            "def" | "class" => at += 1,
            word if is_name(word) => {
                let start = token.at;
                let word = &*plain(word);
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
                    name.push_str(&plain(next));
                    dotted = true;
                    at += 2;
                }
                let call = tokens.get(at).is_some_and(|next| next.text == "(");
                let assigned = !call && tokens.get(at).is_some_and(|next| matches!(next.text, ")" | "," | "\n" | "]"));
                // Another name for the same function: `run = os.system`.
                if assigned && (bound || !dotted) && !attribute {
                    rebind(&tokens, start, &name, bound, known);
                }
                // A function that an import made known counts where it is named, since it may be called elsewhere; one
                // of Python's own only where it is called or handed on.
                let handed = !dotted && matches!(word, "exec" | "__import__") && assigned;
                let reachable = !attribute && (bound || !dotted);
                let used = call || handed || (bound && dotted);
                if reachable && used {
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

fn import_from(
    tokens: &[Token],
    at: usize,
    known: &mut HashMap<String, String>,
    each: &mut dyn FnMut(String),
) -> usize {
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
        let name = format!("{module}.{}", plain(token.text));
        each(name.clone());
        known.insert(alias.to_string(), name);
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

/// A name with the wide and the mathematical letters that Python takes for plain ones.
fn plain(word: &str) -> Cow<'_, str> {
    if word.is_ascii() {
        return Cow::Borrowed(word);
    }
    let letter = |sign: char| {
        let code = u32::from(sign);
        let ascii = match code {
            0xff01..=0xff5e => code - 0xfee0,
            // Alphabets of 26 capitals and 26 small letters, in bold, italic and so on.
            0x1d400..=0x1d6a3 => match (code - 0x1d400) % 52 {
                capital @ 0..26 => u32::from(b'A') + capital,
                small => u32::from(b'a') + small - 26,
            },
            _ => code,
        };
        char::from_u32(ascii).unwrap_or(sign)
    };
    word.chars().map(letter).collect()
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c == '_' || c.is_alphabetic())
}

/// A name or a sign, with its place.
pub(super) struct Token<'a> {
    pub text: &'a str,
    pub at: u64,
}

/// Names, signs and the ends of lines; texts and comments are left out.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
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
        calls(text, &mut HashMap::new()).into_iter().map(|call| call.name).collect()
    }

    #[test]
    fn calls_are_known_by_what_imports_name() {
        assert_eq!(names("import os\nos.system('true')"), ["os.system"]);
        assert_eq!(names("import os as o, sys\no.popen('x')"), ["os.popen"]);
        let imported = "from os import (path,\n system as go)\ngo('x')";
        assert_eq!(names(imported), ["os.path", "os.system", "os.system"]);
        assert_eq!(names("import subprocess\nf = subprocess.run\nf(['x'])"), ["subprocess.run", "subprocess.run"]);
        assert_eq!(names("import os\nf = [os.system]\nf[0]('x')"), ["os.system"]);
        assert_eq!(names("import os\nos.\u{1d42c}\u{1d432}\u{1d42c}\u{1d42d}\u{1d41e}\u{1d426}('x')"), ["os.system"]);
        assert_eq!(names("run = eval\nrun('1')"), ["eval"]);
        assert_eq!(names("import \\\n os\nos . system ('x')"), ["os.system"]);
    }

    #[test]
    fn encodings_that_hide_a_program_are_known() {
        assert_eq!(encoding("#!/usr/bin/python\n# -*- coding: rot13 -*-\n"), Some("rot13"));
        assert_eq!(encoding("# vim: set fileencoding=utf-7 :\n"), Some("utf-7"));
        assert_eq!(encoding("# -*- coding: utf-8 -*-\n"), None);
    }

    #[test]
    fn methods_texts_comments_and_definitions_are_no_calls() {
        assert_eq!(names("import os\n# os.system('x')\n'''os.system(1)'''\nmodel.eval()\ndef exec(): pass"), [""; 0]);
        assert_eq!(names("x = \"os.system('a')\"\nself.net.compile()"), [""; 0]);
    }
}
