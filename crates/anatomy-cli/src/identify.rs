//! `anatomy identify`: which format is each file.

use std::path::PathBuf;
use std::process::ExitCode;

use anatomy::report::units::count;
use anatomy::report::{Identify, IdentifyEntry};
use anatomy::source::Source;
use rayon::prelude::*;

use crate::files::{Found, files};
use crate::output::{Failure, Output, incomplete};

const AFTER: &str = "\
\x1b[1mExamples:\x1b[0m
  anatomy identify pytorch_model.bin     a pickle, a zip, or an error page?
  anatomy identify ~/Downloads ~/.cache/huggingface
  anatomy identify . --csv > formats.csv
  anatomy identify . --json | jq -r '.files[] | select(.misnamed) | .path'

\x1b[1mExit status:\x1b[0m
  0  done; a misnamed, cut or unknown file is an answer too
  2  a file could not be read; the others are reported, that one with its error";

/// Which format is each file, told from its bytes
///
/// The name decides nothing: a file whose extension promises another format than its bytes have is
/// said to be misnamed. The evidence names the bytes that decided. Directories are walked, hidden
/// files included; symbolic links are followed, each directory once; pipes, sockets and devices in
/// them are passed over. Files are listed in name order.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    /// Files, and directories to walk
    #[arg(value_name = "PATH", required = true, value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// Write comma-separated values with a header line
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let found = files(&args.paths);
    let report = Identify::new(match found.as_slice() {
        // Not worth starting threads.
        [one] => vec![entry(one)],
        many => many.par_iter().map(entry).collect(),
    });
    match () {
        () if output.json => output.document(&report)?,
        () if args.csv => output.plain(&report.csv())?,
        () => output.text(&report.text(output.width()))?,
    }
    if report.files.is_empty() {
        output.note("there are no files");
    }
    let mut failed = report.files.iter().filter_map(|file| Some((&file.path, file.error.as_ref()?)));
    let Some((path, error)) = failed.next() else { return Ok(ExitCode::SUCCESS) };
    let more = match failed.count() as u64 {
        0 => String::new(),
        more => format!("; {} could not be read either", count(more, "other", "others")),
    };
    output.error(&format!("{path}: {}{more}", error.message));
    Ok(incomplete())
}

fn entry(found: &Found) -> IdentifyEntry {
    match found {
        Ok(path) => match Source::open(path) {
            Ok(source) => IdentifyEntry::of(&source),
            Err(error) => IdentifyEntry::failed(path.display().to_string(), &error),
        },
        Err(error) => IdentifyEntry::failed(error.path().unwrap_or_default().to_string(), error),
    }
}
