//! The command line: what can be asked, and how a wrong question is answered.

use std::ffi::OsString;
use std::path::Path;

use anatomy::{Error, ErrorKind};
use anstyle::{AnsiColor, Style};
use clap::builder::{Resettable, Styles, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind as ClapKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::{blueprint, bytes, check, completions, identify, inspect, memory, scan, tensors, tokenizer};

const STYLES: Styles = Styles::styled()
    .header(Style::new().bold())
    .usage(Style::new().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(Style::new())
    .valid(AnsiColor::Green.on_default())
    .invalid(AnsiColor::Yellow.on_default());

const USAGE: &str = "anatomy [OPTIONS] MODEL\n       anatomy [OPTIONS] COMMAND ...";

const AFTER: &str = "\
\x1b[1mMODEL\x1b[0m is a file; a directory that holds a model (shards, config, tokenizer); an index \
(model.safetensors.index.json); or one shard of several, whose siblings are found beside it. A file that is \
called like a command is reached as ./NAME.

\x1b[1mExamples:\x1b[0m
  anatomy model.gguf                   what is this, on one screen
  anatomy ~/models/llama               the same for a directory of shards
  anatomy identify ~/Downloads         which format is each file, whatever its name
  anatomy tensors model.gguf --tree    every tensor, repeated layers in one line
  anatomy bytes model.safetensors      what is every byte range for
  anatomy scan ~/Downloads             is it safe to open
  anatomy model.gguf --json | jq .parameters.total

\x1b[1mExit status:\x1b[0m
  0  done
  1  done, and it found what the command looks for (scan: anything not clean; check: an error; memory --fit: does not \
fit)
  2  could not do it: bad usage, not found, unreadable, malformed beyond reading

No weight is loaded and no code of a model is run: only headers are read.";

/// Open any LLM file and see what every byte of it is for
///
/// Reads the headers of a model file (safetensors, GGUF, PyTorch, ONNX and many more; the format is
/// told from the bytes, never from the name) and answers in milliseconds, however large the weights.
/// Without a command it inspects.
#[derive(Debug, Parser)]
#[command(
    name = "anatomy",
    version,
    override_usage = USAGE,
    after_long_help = AFTER,
    styles = STYLES,
    max_term_width = 100,
    arg_required_else_help = true,
    subcommand_value_name = "COMMAND"
)]
pub struct Cli {
    /// What is asked.
    #[command(subcommand)]
    pub command: Command,
    /// How it is answered.
    #[command(flatten)]
    pub common: Common,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Common {
    /// Write one JSON document instead of text
    ///
    /// Nothing else goes to standard output. The document begins with "schema": "anatomy.COMMAND/1";
    /// an error is a document too ("anatomy.error/1").
    #[arg(long, global = true, help_heading = "Common options")]
    pub json: bool,
    /// Say nothing on standard error but errors
    #[arg(long, short, global = true, help_heading = "Common options")]
    pub quiet: bool,
    /// Colour the text
    ///
    /// "auto" colours for a terminal unless NO_COLOR is set.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t, help_heading = "Common options")]
    pub color: Color,
}

/// When text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    /// For a terminal.
    #[default]
    Auto,
    /// Even into a pipe.
    Always,
    /// Not at all.
    Never,
}

/// The commands, in the order of the help.
#[derive(Debug, Subcommand)]
pub enum Command {
    Inspect(inspect::Args),
    Identify(identify::Args),
    Tensors(tensors::Args),
    Bytes(bytes::Args),
    Blueprint(blueprint::Args),
    Memory(memory::Args),
    Tokenizer(tokenizer::Args),
    Scan(scan::Args),
    Check(check::Args),
    Completions(completions::Args),
    /// Anything that is no command is a model to inspect; [`parse`] replaces this.
    #[command(external_subcommand)]
    Model(Vec<OsString>),
}

/// Commands that the contract names and that this version does not have.
const PLANNED: [&str; 7] = ["stats", "diff", "convert", "edit", "report", "serve", "catalog"];

/// What the arguments amount to.
pub enum Parsed {
    /// A question.
    Cli(Cli),
    /// Help or the version was asked for.
    Help(String),
    /// Nothing was asked.
    ShortHelp(String),
}

/// Reads the arguments, program name first.
pub fn parse(mut arguments: Vec<OsString>) -> Result<Parsed, Error> {
    // A first reading only finds the model that stands in place of a command, what follows it left unread; clap
    // wants that word in Unicode, which a path need not be.
    let readable = arguments.iter().map(|argument| argument.to_string_lossy().into_owned());
    if let Ok(Cli { command: Command::Model(rest), .. }) = Cli::try_parse_from(readable) {
        let at = arguments.len().saturating_sub(rest.len());
        refuse_near_commands(&arguments, at)?;
        let after_dashes = at > 0 && arguments.get(at - 1).is_some_and(|before| before == "--");
        arguments.insert(if after_dashes { at - 1 } else { at }, "inspect".into());
    }
    Cli::try_parse_from(&arguments).map(Parsed::Cli).or_else(|error| match error.kind() {
        ClapKind::DisplayHelp | ClapKind::DisplayVersion => Ok(Parsed::Help(error.render().ansi().to_string())),
        ClapKind::DisplayHelpOnMissingArgumentOrSubcommand => Ok(Parsed::ShortHelp(error.render().ansi().to_string())),
        _ => Err(usage(&error, &arguments)),
    })
}

/// A word that was meant as a command must not end as "no such file".
fn refuse_near_commands(arguments: &[OsString], at: usize) -> Result<(), Error> {
    let Some(word) = arguments.get(at) else { return Err(no_command()) };
    if PLANNED.iter().any(|planned| word == planned) {
        let word = word.to_string_lossy();
        let message = format!("the command `{word}` is not built yet");
        let help = format!("see `anatomy --help` for those that are; a file of this name is `./{word}`");
        return Err(Error::new(ErrorKind::Unsupported, message).help(help));
    }
    if Path::new(word).symlink_metadata().is_ok() {
        return Ok(());
    }
    // Asked without models in place of commands, clap knows the command that is nearest.
    let commands = Cli::command().external_subcommand_value_parser(Resettable::<ValueParser>::Reset);
    let Err(error) = commands.try_get_matches_from(arguments) else { return Ok(()) };
    let word = word.to_string_lossy();
    match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(near)) if !word.contains(['.', '/', '\\']) => {
            let near = near.last().map(String::as_str).unwrap_or_default();
            let error = Error::new(ErrorKind::NotFound, "no such file, directory or command").in_file(word);
            Err(error.help(format!("did you mean `anatomy {near}`?")))
        }
        _ => Ok(()),
    }
}

/// Neither a command nor a model was given.
pub fn no_command() -> Error {
    Error::new(ErrorKind::Usage, "neither a command nor a model is given").help("see `anatomy --help`")
}

/// clap's explanation of several lines, in one.
fn usage(error: &clap::Error, arguments: &[OsString]) -> Error {
    if error.kind() == ClapKind::MissingSubcommand {
        return no_command();
    }
    let text = error.render().to_string();
    let (what, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
    let what: Vec<&str> = what.trim_start_matches("error: ").split_whitespace().collect();
    let tips = rest.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    let message = tips.fold(what.join(" "), |message, tip| format!("{message}; {tip}"));
    let cli = Cli::command();
    let command = arguments.iter().find_map(|argument| cli.find_subcommand(argument));
    let help = match command {
        Some(command) => format!("see `anatomy {} --help`", command.get_name()),
        None => "see `anatomy --help`".to_string(),
    };
    Error::new(ErrorKind::Usage, message).help(help)
}
