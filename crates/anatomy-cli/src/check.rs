//! `anatomy check`: is it whole and consistent.

use std::process::ExitCode;

use anatomy::Severity;
use anatomy::analysis::Analysis;
use anatomy::check::check;
use anatomy::report::Check;
use clap::ValueEnum;

use crate::atlas::AtlasArg;
use crate::model::ModelArg;
use crate::output::{Failure, Output};

const AFTER: &str = "\
\x1b[1mExamples:\x1b[0m
  anatomy check ~/models/llama                   a directory of shards, index, config and tokenizer
  anatomy check model.gguf && run-it             go on only if nothing is broken
  anatomy check DIR --fail-on warning            be strict
  anatomy check DIR --json | jq '.findings[] | {rule, message}'

\x1b[1mExit status:\x1b[0m
  0  nothing of the level that counts
  1  a finding of that level (an error, unless --fail-on says otherwise)
  2  not found, unreadable, or malformed beyond reading";

/// Is it whole and consistent
///
/// Compares the tensors with what the configuration (or the metadata of a GGUF) asks for: missing,
/// renamed, unexpected and mis-shaped ones, norms first of all; the index with its shards; the numbers
/// of the configuration with the weights. What checkpoints are known to carry besides is understood.
/// No weight is read.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// Least severity that makes the exit status 1
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t)]
    fail_on: Level,
    #[command(flatten)]
    atlas: AtlasArg,
}

/// Severities, as they are typed.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Level {
    /// Broken.
    #[default]
    Error,
    /// Odd.
    Warning,
    /// Worth knowing.
    Note,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let atlas = args.atlas.open()?;
    let model = args.model.open()?;
    let analysis = Analysis::new(&model);
    let report = Check::new(&analysis, check(&analysis, &atlas));
    if output.json {
        output.document(&report)?
    } else {
        output.text(&report.text(output.width()))?
    }
    let least = match args.fail_on {
        Level::Error => Severity::Error,
        Level::Warning => Severity::Warning,
        Level::Note => Severity::Note,
    };
    let found = report.findings.iter().any(|finding| finding.severity() >= least);
    Ok(if found { ExitCode::from(1) } else { ExitCode::SUCCESS })
}
