//! `anatomy inspect`: what is this, on one screen.

use std::process::ExitCode;

use anatomy::analysis::Analysis;
use anatomy::report::Inspect;

use crate::atlas::AtlasArg;
use crate::model::ModelArg;
use crate::output::{Failure, Output};

const AFTER: &str = "\
\x1b[1mExamples:\x1b[0m
  anatomy model.gguf              the same as `anatomy inspect model.gguf`
  anatomy inspect ~/models/llama  a directory of shards, config and tokenizer
  anatomy inspect model-00001-of-00004.safetensors
  anatomy inspect model.gguf --json | jq '.parameters.by_role'

\x1b[1mExit status:\x1b[0m
  0  done, whatever the findings (a cut or damaged file is still reported)
  2  not found, unreadable, or malformed beyond reading";

/// What is this model, on one screen
///
/// Says what the file is and how that is known, what loading it risks, where its bytes go (weights,
/// tokenizer, metadata, padding, unexplained), its architecture, its parameters by role and by type,
/// its tokenizer, and everything about it that is odd or broken.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    #[command(flatten)]
    model: ModelArg,
    #[command(flatten)]
    atlas: AtlasArg,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let model = args.model.open()?;
    let analysis = Analysis::new(&model);
    let report = Inspect::new(&analysis, &args.atlas.open()?);
    if output.json {
        output.document(&report)?
    } else {
        output.text(&report.text(output.width()))?
    }
    Ok(ExitCode::SUCCESS)
}
