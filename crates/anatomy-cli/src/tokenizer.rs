//! `anatomy tokenizer`: what is the tokenizer; what does it make of a text.

use std::borrow::Cow;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anatomy::analysis::Analysis;
use anatomy::check::tokenizer::verify_with;
use anatomy::finding::{Finding, Severity};
use anatomy::model::{Model, ModelFile};
use anatomy::report::units::count;
use anatomy::report::{Chat, ChatTemplates, Comparison, Decoded, Encoded, EncodedLines, Tokenizer as Report};
use anatomy::source::Source;
use anatomy::tokenizer::{self, Encoder, Index, Options, Tokenizer};
use anatomy::{Error, ErrorKind};
use rayon::prelude::*;

use crate::chat;
use crate::model::local;
use crate::output::{Failure, Output};

const AFTER: &str = "\
\x1b[1mExamples:\x1b[0m
  anatomy tokenizer model.gguf                         kind, size, special tokens, coverage, oddities
  anatomy tokenizer DIR --encode 'Hello, world!'       ids, and the text with its tokens in colour
  anatomy tokenizer DIR --encode TEXT --offsets        a line for each token, with its bytes in the text
  anatomy tokenizer DIR --encode-file texts.txt        the ids of each line
  anatomy tokenizer DIR --decode 9707 11 1879          back to text
  anatomy tokenizer DIR --chat messages.json           a conversation as the model's template writes it
  anatomy tokenizer DIR --compare model.gguf           two tokenizers side by side

\x1b[1mExit status:\x1b[0m
  0  done
  2  not found, unreadable, no tokenizer there, or one that cannot be run";

/// What is the tokenizer; encode and decode text, render a chat
///
/// Reads tokenizer.json, SentencePiece models, tiktoken ranks, tekken.json, vocab.json with merges.txt,
/// vocab.txt and the tokenizers within GGUF files. A GGUF's is run as llama.cpp runs it, the others as
/// the libraries that they are made for.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    /// A file, a directory that holds a model, an index, or one shard of several
    #[arg(value_name = "MODEL", value_hint = clap::ValueHint::AnyPath)]
    model: PathBuf,
    /// Turn a text into ids
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, group = "what")]
    encode: Option<String>,
    /// Turn each line of a file into ids; of a .jsonl file each line is a JSON string; - is standard input
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, group = "what")]
    encode_file: Option<PathBuf>,
    /// Turn ids into text
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',', group = "what")]
    decode: Option<Vec<String>>,
    /// Render a conversation: a list of messages, or an object of messages, tools and the like
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, group = "what")]
    chat: Option<PathBuf>,
    /// Do not write what lets the model answer
    #[arg(long, requires = "chat")]
    no_generation_prompt: bool,
    /// Say where in the text each token lies, in bytes
    #[arg(long, requires = "encode")]
    offsets: bool,
    /// Leave out the tokens that belong round a text (begin, end); when decoding, all special tokens
    #[arg(long)]
    no_special: bool,
    /// Take special tokens that are written in the text for plain text
    #[arg(long)]
    no_parse_special: bool,
    /// Show another tokenizer beside this one
    #[arg(long, value_name = "OTHER", value_hint = clap::ValueHint::AnyPath, conflicts_with_all = ["decode", "encode_file"])]
    compare: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let (model, tokenizers) = open(&args.model)?;
    if let Some(conversation) = &args.chat {
        return chat(args, &model, &tokenizers, conversation, output);
    }
    let tokenizer = first(&tokenizers, &model, &args.model)?;
    let options = Options { special: !args.no_special, parse_special: !args.no_parse_special };
    if let Some(other) = &args.compare {
        compare(args, (&model.source, tokenizer), other, options, output)?;
    } else if let Some(text) = &args.encode {
        let pieces = Encoder::new(tokenizer)?.encode(text, options)?;
        let report = Encoded::new(tokenizer, text, &pieces, args.offsets);
        if output.json { output.document(&report)? } else { output.text(&report.text(output.width()))? }
    } else if let Some(path) = &args.encode_file {
        let report = encode_lines(&Encoder::new(tokenizer)?, path, options, output)?;
        if output.json {
            output.document(&report)?;
        } else {
            output.plain(&report.lines())?;
            output.note(&report.figures());
        }
    } else if let Some(ids) = &args.decode {
        let bytes = Encoder::new(tokenizer)?.decode(&numbers(ids)?, !args.no_special)?;
        if std::str::from_utf8(&bytes).is_err() {
            output.note("the bytes of these ids are no whole text; what is invalid in them was replaced");
        }
        let report = Decoded::new(&bytes);
        if output.json { output.document(&report)? } else { output.plain(&report.text)? }
    } else {
        for finding in model.findings.iter().filter(|finding| finding.rule.name == "several-models") {
            output.note(&finding.message);
        }
        let analysis = Analysis::new(&model);
        let indices: Vec<Index> = tokenizers.iter().map(Index::new).collect();
        let verdict = verify_with(&analysis, &indices);
        let report = Report::new(&model.source, &indices, &analysis, verdict, ChatTemplates::new(&model));
        let report = report.ok_or_else(|| none(&model, &args.model))?;
        if output.json { output.document(&report)? } else { output.text(&report.text(output.width()))? }
    }
    Ok(ExitCode::SUCCESS)
}

/// A conversation as the model's template writes it. The template writes special tokens itself, so none are added.
fn chat(
    args: &Args,
    model: &Model,
    tokenizers: &[Tokenizer],
    path: &Path,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let rendered = chat::render(model, path, args.no_generation_prompt)?;
    let options = Options { special: false, parse_special: !args.no_parse_special };
    let encoded = first(tokenizers, model, &args.model)
        .and_then(Encoder::new)
        .and_then(|encoder| encoder.encode(&rendered.text, options));
    let ids = match encoded {
        Ok(pieces) => Some(pieces.iter().map(|piece| piece.id).collect()),
        Err(error) => {
            output.note(&format!("the text is not turned into ids: {}", error.message()));
            None
        }
    };
    let report = Chat::new(rendered, ids);
    if output.json {
        output.document(&report)?
    } else {
        // To the byte: it is what the model is given.
        output.plain(&report.text)?
    }
    Ok(ExitCode::SUCCESS)
}

/// The ids of `--decode`, also where several stand in one argument.
fn numbers(words: &[String]) -> Result<Vec<u32>, Error> {
    let words = words.iter().flat_map(|word| word.split_whitespace());
    let number = |word: &str| {
        let fault = |_| Error::new(ErrorKind::Unsupported, format!("{word:?} is no id of a token"));
        word.parse().map_err(fault).map_err(|error| error.help("name the model first, then the ids as numbers"))
    };
    words.map(number).collect()
}

/// A model with its tokenizers.
fn open(path: &Path) -> Result<(Model, Vec<Tokenizer>), Error> {
    let model = Model::open(local(path)?)?;
    let mut found = tokenizer::of(&model);
    // A file of a tokenizer that is named alone still goes with what lies beside it.
    if let [file] = model.files.as_slice()
        && file.container.tensors.is_empty()
        && file.container.format.id != "gguf"
        && path.is_file()
    {
        let beside: Vec<Source> = COMPANIONS
            .iter()
            .map(|name| path.with_file_name(name))
            .filter(|other| other != path && other.is_file())
            .filter_map(|other| Source::open(&other).ok())
            .collect();
        let sources = std::iter::once(&file.source).chain(&beside);
        let mut all = tokenizer::read(sources.map(|source| (source.name(), source)));
        // Of merges, the vocabulary beside them is what is meant.
        let merges = ["merges.txt", "vocab.bpe"].iter().any(|name| path.ends_with(name));
        all.retain(|tokenizer| tokenizer.source == file.path || (merges && tokenizer.kind == "vocab-json"));
        if !all.is_empty() {
            found = all;
        }
    }
    Ok((model, found))
}

/// Files that say something about a tokenizer beside them, or complete it.
const COMPANIONS: [&str; 10] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "config.json",
    "params.json",
    "vocab.json",
    "merges.txt",
    "encoder.json",
    "vocab.bpe",
];

fn first<'t>(tokenizers: &'t [Tokenizer], model: &Model, path: &Path) -> Result<&'t Tokenizer, Error> {
    tokenizers.first().ok_or_else(|| none(model, path))
}

/// Why there is no tokenizer.
fn none(model: &Model, path: &Path) -> Error {
    let pointer = |file: &&ModelFile| {
        let words = ["tokenizer", "tekken", "vocab", "spiece", "tiktoken"];
        file.container.format.id == "git-lfs-pointer" && words.iter().any(|word| file.path.contains(word))
    };
    if let Some(file) = model.files.iter().find(pointer) {
        let error = Error::new(ErrorKind::NotFound, "the tokenizer is a Git-LFS pointer: it was not downloaded");
        return error.in_file(&*file.path).help("run `git lfs pull`, or download the file from the hub");
    }
    let broken = |finding: &&Finding| finding.severity() == Severity::Error;
    if let Some(finding) = model.files.iter().flat_map(|file| &file.container.findings).find(broken) {
        let error = Error::malformed(format!("no tokenizer can be read: {}", finding.message));
        return error.in_file(path.display().to_string()).help(finding.rule.help);
    }
    let error = Error::new(ErrorKind::NotFound, "there is no tokenizer").in_file(path.display().to_string());
    error.help("name a tokenizer's file, a folder that holds one, or a GGUF")
}

fn compare(
    args: &Args,
    (source, tokenizer): (&str, &Tokenizer),
    other: &Path,
    options: Options,
    output: &Output,
) -> Result<(), Failure> {
    let (model, others) = open(other)?;
    let other = first(&others, &model, other)?;
    let tokens = |tokenizer: &Tokenizer, text: &str| -> Result<usize, Error> {
        Ok(Encoder::new(tokenizer)?.encode(text, options)?.len())
    };
    let figures = match &args.encode {
        Some(text) => Some((tokens(tokenizer, text)?, tokens(other, text)?, text.len())),
        None => None,
    };
    let report = Comparison::new((source, tokenizer), (&model.source, other), figures);
    if output.json { output.document(&report) } else { output.text(&report.text(output.width())) }
}

/// Longest file of texts, in bytes.
const MAX_TEXTS: u64 = 1 << 30;

fn encode_lines(encoder: &Encoder, path: &Path, options: Options, output: &Output) -> Result<EncodedLines, Error> {
    let shown = path.display().to_string();
    let fail = |error: &std::io::Error| Error::io(&*shown, error);
    let mut bytes = Vec::new();
    match path.as_os_str() == "-" {
        true => std::io::stdin().lock().take(MAX_TEXTS).read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|file| file.take(MAX_TEXTS).read_to_end(&mut bytes)),
    }
    .map_err(|error| fail(&error))?;
    let json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"));
    let whole = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let lines: Vec<&[u8]> = whole.split(|byte| *byte == b'\n').filter(|_| !bytes.is_empty()).collect();
    // Ids, bytes of the text, and whether some of it had to be replaced.
    let encode = |(number, line): (usize, &&[u8])| {
        let place = |error: Error| error.in_file(format!("{shown}, line {}", number + 1));
        let line = if json { line } else { line.strip_suffix(b"\r").unwrap_or(line) };
        let text = if json { json_text(line).map_err(place)? } else { String::from_utf8_lossy(line) };
        let replaced = matches!(&text, Cow::Owned(_)) && !json;
        let ids: Vec<u32> = encoder.encode(&text, options).map_err(place)?.iter().map(|piece| piece.id).collect();
        Ok((ids, text.len(), replaced))
    };
    let encoded: Vec<(Vec<u32>, usize, bool)> =
        lines.par_iter().enumerate().map(encode).collect::<Result<_, Error>>()?;
    let total = encoded.iter().map(|(_, length, _)| length).sum();
    let replaced = encoded.iter().filter(|(.., replaced)| *replaced).count();
    if replaced > 0 {
        let lines = count(replaced as u64, "line is", "lines are");
        output.note(&format!("{shown}: {lines} not UTF-8; what is invalid there was replaced"));
    }
    Ok(EncodedLines::new(encoded.into_iter().map(|(ids, ..)| ids).collect(), total))
}

/// A JSON string; half a pair of surrogates, which JSON can write and text cannot hold, is replaced.
fn json_text(line: &[u8]) -> Result<Cow<'static, str>, Error> {
    let read = |line: &[u8]| serde_json::from_slice::<String>(line);
    match read(line) {
        Ok(text) => Ok(Cow::Owned(text)),
        Err(error) => {
            let whole = replace_halves(line);
            let other = whole.as_deref().and_then(|line| read(line).ok());
            other.map(Cow::Owned).ok_or_else(|| Error::malformed(format!("not a JSON string: {error}")))
        }
    }
}

/// A line of JSON in which each half of a pair of surrogates is U+FFFD; `None` where there is none.
fn replace_halves(line: &[u8]) -> Option<Vec<u8>> {
    let unit = |at: usize| -> Option<u16> {
        let digits = line.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut out = Vec::with_capacity(line.len());
    let mut at = 0;
    let mut found = false;
    while let Some(byte) = line.get(at) {
        let length = match (byte, unit(at), unit(at + 6)) {
            (b'\\', Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (b'\\', Some(0xd800..=0xdfff), _) => {
                out.extend_from_slice(b"\\ufffd");
                found = true;
                at += 6;
                continue;
            }
            (b'\\', ..) => 2,
            _ => 1,
        };
        out.extend_from_slice(line.get(at..(at + length).min(line.len()))?);
        at += length;
    }
    found.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_surrogates_are_replaced() {
        assert_eq!(json_text(br#""a\ud83d\ude00b""#).unwrap(), "a😀b");
        assert_eq!(json_text(br#""a\ud83db\\ud83d""#).unwrap(), "a\u{fffd}b\\ud83d");
        assert_eq!(json_text(br#""\ude00\ud83d""#).unwrap(), "\u{fffd}\u{fffd}");
        assert!(json_text(b"[]").is_err());
    }
}
