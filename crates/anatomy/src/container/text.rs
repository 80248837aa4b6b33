//! What is left when no structure is found: plain text of some known kinds, nothing at all, and the unknown.
//!
//! People do have these under a model's name: a pointer where git-lfs did not fetch the file, the page that a server
//! sent instead of it, an empty file. Each says so in plain words.

use std::borrow::Cow;

use super::{Container, Facts, Format};
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};
use crate::ledger::{Draft, Kind};
use crate::probe::{Head, Match, extension, score};
use crate::source::Source;

/// A Git-LFS pointer.
pub static GIT_LFS: Format = Format {
    id: "git-lfs-pointer",
    name: "Git-LFS pointer",
    extensions: &[],
    use_and_risk: "A note of three lines that stands for a file which was not downloaded.",
    probe: |head| {
        let text = decode(head.first.get(..1024.min(head.first.len()))?)?;
        let known = ["version https://git-lfs.github.com/spec/", "version https://hawser.github.com/spec/"];
        known.iter().any(|line| text.text.starts_with(line)).then_some(())?;
        let cut = if pointer(&text.text).1.is_none() { "; the file is cut: it states no size" } else { "" };
        Match::new(score::CERTAIN, format!("the text begins with `version https://git-lfs…/spec/`{cut}"))
    },
    open: open_pointer,
};

/// A page of the web.
pub static HTML: Format = Format {
    id: "html",
    name: "HTML page",
    extensions: &["html", "htm"],
    use_and_risk: "A page of the web, often an error or log-in page saved in place of a model.",
    probe: |head| {
        let text = decode(head.first.get(..4096.min(head.first.len()))?)?;
        let tag = html_tag(&text.text)?;
        Match::new(score::LIKELY, format!("the text begins with `{tag}`"))
    },
    open: open_html,
};

/// OpenVINO's description of a network.
pub static OPENVINO: Format = Format {
    id: "openvino",
    name: "OpenVINO model (XML)",
    // Too much else is XML.
    extensions: &[],
    use_and_risk: "For Intel's processors: the graph as XML; its weights lie in the .bin beside it, which has no header at \
                   all. Loading runs no code.",
    probe: |head| {
        let text = decode(head.first.get(..4096.min(head.first.len()))?)?;
        let net = net_tag(&text.text)?;
        let cut = if ends_with_net(head.source) { "" } else { "; the file is cut: `</net>` is missing" };
        Match::new(score::LIKELY + 5, format!("XML whose root is `<net>`, version {}{cut}", attribute(net, "version")?))
    },
    open: |source| {
        let head = Head::read(source)?;
        let mut facts = Facts::new();
        if let Some(text) = decode(&head.first)
            && let Some(net) = net_tag(&text.text)
        {
            facts.extend(attribute(net, "version").map(|version| ("IR version", version.to_string())));
            facts.extend(attribute(net, "name").map(|name| ("name", name.to_string())));
        }
        let mut container = whole(&OPENVINO, source, Kind::Code, "graph (XML)", facts);
        if !ends_with_net(source) {
            container.findings.push(super::json::cut(source, "the XML is not complete"));
        }
        Ok(container)
    },
};

/// OpenAI's ranks.
pub static TIKTOKEN: Format = Format {
    id: "tiktoken",
    name: "tiktoken ranks",
    extensions: &["tiktoken"],
    use_and_risk: "A tokenizer: byte pieces in base64 with their ranks. Loading runs no code.",
    probe: |head| {
        let lines = rank_lines(&head.first, head.len() > head.first.len() as u64)?;
        Match::new(score::LIKELY, format!("each of the first {lines} lines is base64, a blank and a rising number"))
    },
    open: |source| {
        let mut container = whole(&TIKTOKEN, source, Kind::Tokenizer, "pieces and ranks", Facts::new());
        let end = source.read_up_to(source.len().saturating_sub(1), 1)?;
        if end.first().is_some_and(|byte| !byte.is_ascii_digit() && *byte != b'\n') {
            container.findings.push(super::json::cut(source, "the last line is not complete"));
        }
        Ok(container)
    },
};

/// Python source.
pub static PYTHON: Format = Format {
    id: "python",
    name: "Python source",
    extensions: &["py"],
    use_and_risk: "A program: `trust_remote_code` runs it with all your rights.",
    probe: |head| {
        let text = decode(&head.first)?;
        let line = python_line(&text.text)?;
        Match::new(score::PLAUSIBLE, format!("text with the Python line `{line}`"))
    },
    open: |source| {
        let mut container = whole(&PYTHON, source, Kind::Code, "Python source", Facts::new());
        note_posing(&mut container, source, "Python source");
        Ok(container)
    },
};

/// Any other text.
pub static TEXT: Format = Format {
    id: "text",
    name: "plain text",
    extensions: &["txt", "md", "jinja", "yaml", "yml", "toml", "csv"],
    use_and_risk: "Plain text.",
    probe: |head| {
        (!head.is_empty()).then_some(())?;
        let Some(text) = decode(&head.first) else { return old_text(&head.first) };
        let first: String = text.text.lines().next().unwrap_or_default().trim().chars().take(40).collect();
        Match::new(score::FALLBACK + 15, format!("{} text that begins with {first:?}", text.encoding))
    },
    open: |source| {
        let mut container = whole(&TEXT, source, Kind::Metadata, "text", Facts::new());
        note_posing(&mut container, source, "plain text");
        Ok(container)
    },
};

/// Nothing.
pub static EMPTY: Format = Format {
    id: "empty",
    name: "empty file",
    extensions: &[],
    use_and_risk: "There is nothing in it.",
    probe: |head| if head.is_empty() { Match::new(score::CERTAIN, "the file has no bytes") } else { None },
    open: |source| {
        let mut container = whole(&EMPTY, source, Kind::Unexplained, "", Facts::new());
        note_posing(&mut container, source, "nothing: the file has no bytes");
        Ok(container)
    },
};

/// What no probe knows.
pub static UNKNOWN: Format = Format {
    id: "unknown",
    name: "unknown",
    extensions: &[],
    use_and_risk: "It is not known what this is, so do not load it with anything that may run code.",
    probe: |head| Match::new(score::FALLBACK, unknown_words(head)),
    open: |source| {
        let words = unknown_words(&Head::read(source)?);
        let mut container = whole(&UNKNOWN, source, Kind::Unexplained, "no known format", Facts::new());
        note_posing(&mut container, source, &words);
        Ok(container)
    },
};

static NOT_DOWNLOADED: Rule = Rule {
    name: "git-lfs-pointer",
    severity: Severity::Error,
    why: "The file is a Git-LFS pointer: the repository was cloned, but its large files were not downloaded.",
    help: "run `git lfs pull` in the repository, or download the file from the hub",
};
static WEB_PAGE: Rule = Rule {
    name: "web-page-as-model",
    severity: Severity::Error,
    why: "The file is a page of the web and no model: a server sent an error or log-in page, which was saved under the \
          model's name.",
    help: "open the address in a browser, log in or accept the licence there, and download the file itself",
};
static NOT_A_MODEL: Rule = Rule {
    name: "no-model-inside",
    severity: Severity::Error,
    why: "The file's name promises a model, but its bytes are none.",
    help: "download the file again, and compare its size with the one that the hub states",
};
static NOT_KNOWN: Rule = Rule {
    name: "format-unknown",
    severity: Severity::Note,
    why: "The bytes have the form of no format that this version knows.",
    help: "ask where the file comes from which program reads it",
};

/// The rules of these readers.
pub static RULES: &[&Rule] = &[&NOT_DOWNLOADED, &WEB_PAGE, &NOT_A_MODEL, &NOT_KNOWN];

/// Extensions of model files, whatever the format.
const MODEL_EXTENSIONS: &[&str] = &[
    "safetensors",
    "gguf",
    "ggml",
    "bin",
    "pt",
    "pth",
    "ckpt",
    "onnx",
    "h5",
    "keras",
    "msgpack",
    "tflite",
    "npz",
    "npy",
    "mlmodel",
    "pb",
    "nemo",
    "pkl",
    "pickle",
    "joblib",
    "pte",
    "llamafile",
];

/// Whether a file's name promises a model.
pub(crate) fn promises_model(name: &str) -> bool {
    extension(name).is_some_and(|extension| MODEL_EXTENSIONS.contains(&extension.as_str()))
}

/// The finding that a file's name promises a model, where it does; but it holds `what`.
pub(crate) fn posing(name: &str, what: &str) -> Option<Finding> {
    let extension = extension(name).filter(|extension| MODEL_EXTENSIONS.contains(&extension.as_str()))?;
    let message = format!("the name ends in .{extension}, but the file holds no model; it holds {what}");
    Some(Finding::new(&NOT_A_MODEL, message).at(0))
}

/// Reports a file whose name promises a model, but which holds `what`.
pub(super) fn note_posing(container: &mut Container, source: &Source, what: &str) {
    match posing(source.name(), what) {
        Some(finding) => container.findings.push(finding),
        None if container.format.id == UNKNOWN.id && !source.name().is_empty() => {
            container.findings.push(Finding::new(&NOT_KNOWN, what).at(0));
        }
        None => {}
    }
}

fn whole(format: &'static Format, source: &Source, kind: Kind, label: &'static str, facts: Facts) -> Container {
    let mut draft = Draft::new();
    draft.add(0, source.len(), kind, label);
    let mut container = Container::new(format, draft.finish(source.len()));
    container.facts = facts;
    container
}

/// Text, with the encoding in which it was stored.
pub(crate) struct Text<'a> {
    pub text: Cow<'a, str>,
    pub encoding: &'static str,
}

/// The bytes as text: UTF-8, or UTF-16 with a byte-order mark or plainly ASCII within. A cut last character is left
/// out. `None` for anything with control characters that no text has.
pub(crate) fn decode(bytes: &[u8]) -> Option<Text<'_>> {
    let wide = |bytes: &[u8], number: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).filter_map(|pair| Some(number(pair.try_into().ok()?)));
        Cow::Owned(char::decode_utf16(units).map_while(|unit| unit.ok()).collect::<String>())
    };
    let (text, encoding) = match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => (valid(rest)?, "UTF-8 with a byte-order mark"),
        [0xff, 0xfe, rest @ ..] => (wide(rest, u16::from_le_bytes), "UTF-16, little endian"),
        [0xfe, 0xff, rest @ ..] => (wide(rest, u16::from_be_bytes), "UTF-16, big endian"),
        [1..=127, 0, 1..=127, 0, ..] => (wide(bytes, u16::from_le_bytes), "UTF-16, little endian, without a mark"),
        [0, 1..=127, 0, 1..=127, ..] => (wide(bytes, u16::from_be_bytes), "UTF-16, big endian, without a mark"),
        _ => (valid(bytes)?, "UTF-8"),
    };
    let control = |byte: u8| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b | 0x08);
    (!text.bytes().any(control)).then_some(Text { text, encoding })
}

fn valid(bytes: &[u8]) -> Option<Cow<'_, str>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(Cow::Borrowed(text)),
        // The last character may be cut, where the text or what was read of it ends.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok().map(Cow::Borrowed)
        }
        Err(_) => None,
    }
}

/// Text in an encoding of before Unicode: no control characters, and few bytes beyond ASCII.
fn old_text(bytes: &[u8]) -> Option<Match> {
    let control = |byte: &u8| (*byte < 0x20 && !matches!(*byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b)) || *byte == 0x7f;
    let high = bytes.iter().filter(|byte| **byte >= 0x80).count();
    (!bytes.iter().any(control) && high * 3 < bytes.len()).then_some(())?;
    Match::new(score::FALLBACK + 2, "bytes without control characters: text in an old 8-bit encoding")
}

/// The oid and size of a pointer.
fn pointer(text: &str) -> (Option<&str>, Option<u64>) {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    (field("oid "), field("size ").and_then(|size| size.parse().ok()))
}

fn open_pointer(source: &Source) -> Result<Container> {
    let bytes = source.read_up_to(0, 1024)?;
    let text = decode(&bytes).map(|text| text.text.into_owned()).unwrap_or_default();
    let (oid, size) = pointer(&text);
    let mut facts = Facts::new();
    facts.extend(oid.map(|oid| ("oid", oid.to_string())));
    facts.extend(size.map(|size| ("size", format!("{size} bytes"))));
    let mut container = whole(&GIT_LFS, source, Kind::Metadata, "Git-LFS pointer", facts);
    let size = match size {
        Some(size) => format!("its real size is {}", decimal(size)),
        None => "the pointer is cut and does not say its real size".to_string(),
    };
    let message = format!("a Git-LFS pointer: the model was not downloaded; {size}; run `git lfs pull`");
    container.findings.push(Finding::new(&NOT_DOWNLOADED, message).at(0));
    Ok(container)
}

/// Bytes in the decimal units in which hubs state sizes.
fn decimal(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "bytes";
    for next in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") }
}

/// The tag with which a page begins, after blanks and comments.
fn html_tag(text: &str) -> Option<&'static str> {
    let mut rest = text.trim_start();
    while let Some(comment) = rest.strip_prefix("<!--").or_else(|| rest.strip_prefix("<?xml")) {
        rest = comment.split_once('>')?.1.trim_start();
    }
    let tags = ["<!doctype html", "<html", "<head", "<body", "<title"];
    tags.into_iter().find(|tag| rest.get(..tag.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(tag)))
}

fn open_html(source: &Source) -> Result<Container> {
    let head = Head::read(source)?;
    let mut facts = Facts::new();
    let mut message = "a page of the web and no model".to_string();
    if let Some(text) = decode(&head.first) {
        let lower = text.text.to_ascii_lowercase();
        let title = lower.find("<title").and_then(|at| Some(at + lower.get(at..)?.find('>')? + 1));
        let end = title.and_then(|at| Some(at + lower.get(at..)?.find("</title")?));
        if let Some(title) = title.zip(end).and_then(|(from, to)| text.text.get(from..to)) {
            let title: String = title.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect();
            message.push_str(&format!("; its title is {title:?}"));
            facts.push(("title", title));
        }
    }
    let mut container = whole(&HTML, source, Kind::Metadata, "HTML", facts);
    // A page under a page's own name is what it should be.
    if !extension(source.name()).is_some_and(|extension| HTML.extensions.contains(&extension.as_str())) {
        container.findings.push(Finding::new(&WEB_PAGE, message).at(0));
    }
    Ok(container)
}

/// The attributes of `<net …>`, where that is the root of the XML.
fn net_tag(text: &str) -> Option<&str> {
    let mut rest = text.trim_start();
    while rest.starts_with("<?") || rest.starts_with("<!") {
        rest = rest.split_once('>')?.1.trim_start();
    }
    let rest = rest.strip_prefix("<net")?;
    rest.starts_with(char::is_whitespace).then(|| rest.split('>').next().unwrap_or_default())
}

fn ends_with_net(source: &Source) -> bool {
    let end = source.read_up_to(source.len().saturating_sub(64), 64);
    end.is_ok_and(|end| end.windows(6).any(|window| window == b"</net>"))
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = tag.split_once(&format!(" {name}="))?;
    let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    rest.get(1..)?.split(quote).next()
}

/// How many lines are ranks, where all of the first ones are.
fn rank_lines(bytes: &[u8], more: bool) -> Option<usize> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').take(64).collect();
    // The last line read may be cut, at the end of the file too.
    if lines.len() < 64 || more {
        let last = lines.pop()?;
        if lines.is_empty() && rank_line(last).is_none() {
            return None;
        }
    }
    let mut before = None;
    let mut count = 0;
    for line in lines {
        let rank = rank_line(line.strip_suffix(b"\r").unwrap_or(line))?;
        if before.is_some_and(|before| rank <= before) {
            return None;
        }
        before = Some(rank);
        count += 1;
    }
    (count >= 2).then_some(count)
}

/// The rank of a line such as `IQ== 0`.
pub(crate) fn rank_line(line: &[u8]) -> Option<u32> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (piece, rank) = line.split_at(space);
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    if piece.is_empty() || !piece.len().is_multiple_of(4) || !piece.iter().all(base64) {
        return None;
    }
    std::str::from_utf8(rank.get(1..)?).ok()?.parse().ok()
}

/// A line that only Python has, among the first.
fn python_line(text: &str) -> Option<&str> {
    if text.starts_with("#!") && text.lines().next()?.contains("python") {
        return text.lines().next();
    }
    let identifier = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    let dotted = |name: &str| {
        !name.is_empty() && name.trim_start_matches('.').split('.').all(|part| part.is_empty() || identifier(part))
    };
    text.lines().take(2000).map(str::trim_end).find(|line| {
        if line.starts_with("__") && line.contains("__ = ") {
            return true;
        }
        let code = line.split(" #").next().unwrap_or_default().trim_end();
        if let Some(modules) = code.strip_prefix("import ") {
            return !modules.ends_with(';')
                && modules.split(',').all(|module| {
                    let mut words = module.split_whitespace();
                    words.next().is_some_and(dotted)
                        && match (words.next(), words.next(), words.next()) {
                            (None, ..) => true,
                            (Some("as"), Some(name), None) => identifier(name),
                            _ => false,
                        }
                });
        }
        if let Some((module, names)) = code.strip_prefix("from ").and_then(|rest| rest.split_once(" import ")) {
            let name = |name: &str| match name.trim().split_once(" as ") {
                Some((name, alias)) => identifier(name) && identifier(alias),
                None => identifier(name.trim()),
            };
            // A list in brackets may go on in the next lines.
            return dotted(module)
                && (names == "*"
                    || names.starts_with('(')
                    || names.trim_end_matches('\\').trim_end_matches(", ").split(',').all(name));
        }
        for word in ["def ", "class ", "async def "] {
            if let Some(rest) = code.strip_prefix(word) {
                let name = rest.split(['(', ':']).next().unwrap_or_default();
                return identifier(name) && (rest.contains('(') || code.ends_with(':'));
            }
        }
        false
    })
}

/// What can be said of bytes of no known format.
fn unknown_words(head: &Head) -> String {
    if !head.is_empty() && head.first.iter().all(|byte| *byte == 0) {
        let count = head.first.len();
        return format!(
            "nothing but zeros in the first {count} bytes, as of a download that was prepared but not filled"
        );
    }
    let machos: [&[u8]; 4] = [b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe"];
    // Java's classes have the magic number of universal binaries, but a version where those count their few parts.
    let universal = head.starts_with(b"\xca\xfe\xba\xbe") && head.array(4).map(u32::from_be_bytes) < Some(30);
    if universal || machos.iter().any(|magic| head.starts_with(magic)) {
        return "an executable for macOS (Mach-O), by its first 4 bytes".to_string();
    }
    let first: Vec<String> = head.first.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("bytes of no known format, which begin with {}", first.join(" "))
}
