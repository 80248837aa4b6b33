//! `anatomy identify`: which format is each file.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anatomy::Error;
use anatomy::report::units::count;
use anatomy::report::{Identify, IdentifyEntry};
use anatomy::source::Source;
use rayon::prelude::*;

use crate::model::local;
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

/// A file to identify, or why there is none.
type Found = Result<PathBuf, Error>;

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let mut found = Vec::new();
    for path in &args.paths {
        match local(path) {
            Ok(path) if path.is_dir() => found.extend(walk(path)),
            Ok(path) => found.push(Ok(path.to_path_buf())),
            Err(error) => found.push(Err(error)),
        }
    }
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

/// The files below a directory, in name order.
///
/// Linked directories come last, so that each directory is walked once and, where it has one, under
/// its own name: a loop of links ends, and a lattice of them does not grow without bounds.
fn walk(root: &Path) -> Vec<Found> {
    let mut found: Vec<(PathBuf, Option<Error>)> = Vec::new();
    let fail = |path: &Path, error: &std::io::Error, found: &mut Vec<_>| {
        let error = Error::io(path.display().to_string(), error);
        found.push((path.to_path_buf(), Some(error)));
    };
    let mut folders = vec![root.to_path_buf()];
    let mut linked = BTreeSet::new();
    let mut seen = HashSet::new();
    while let Some(folder) = folders.pop().or_else(|| linked.pop_first()) {
        let entries =
            folder.canonicalize().and_then(|real| seen.insert(real).then(|| fs::read_dir(&folder)).transpose());
        let entries = match entries {
            Ok(Some(entries)) => entries,
            Ok(None) => continue,
            Err(error) => {
                fail(&folder, &error, &mut found);
                continue;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    fail(&folder, &error, &mut found);
                    break;
                }
            };
            let path = entry.path();
            match (entry.file_type().is_ok_and(|kind| kind.is_symlink()), fs::metadata(&path)) {
                (false, Ok(metadata)) if metadata.is_dir() => folders.push(path),
                (true, Ok(metadata)) if metadata.is_dir() => _ = linked.insert(path),
                (_, Ok(metadata)) if metadata.is_file() => found.push((path, None)),
                (_, Ok(_)) => {}
                (_, Err(error)) => fail(&path, &error, &mut found),
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found.into_iter().map(|(path, error)| error.map_or(Ok(path), Err)).collect()
}
