//! `anatomy bytes`: what is every byte range of the file for.

use std::process::ExitCode;

use anatomy::report::Bytes;

use crate::model::ModelArg;
use crate::output::{Failure, Output};

const AFTER: &str = "\
\x1b[1mKinds:\x1b[0m magic, header, metadata, tokenizer, tensor, padding, container (the archive around the parts), code \
(pickles and programs), unexplained.

\x1b[1mExamples:\x1b[0m
  anatomy bytes model.gguf               totals by kind, long runs summed up
  anatomy bytes model.safetensors --all  every single range
  anatomy bytes DIR --json | jq '.files[].ranges[] | select(.kind == \"padding\")'

\x1b[1mExit status:\x1b[0m
  0  done; a file that is cut is reported as far as it goes, with a finding
  2  not found, unreadable, or malformed beyond reading";

/// What every byte range of a model's files is for
///
/// Every byte has exactly one label: the ranges are in order, do not overlap and cover each file from
/// its first byte to its last. What cannot be explained is shown as unexplained, never hidden.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    #[command(flatten)]
    model: ModelArg,
    /// Show every range instead of summing up long runs of one kind
    #[arg(long)]
    all: bool,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let model = args.model.open()?;
    let report = Bytes::new(&model);
    if output.json {
        output.document(&report)?
    } else {
        output.text(&report.text(output.width(), args.all))?
    }
    Ok(ExitCode::SUCCESS)
}
