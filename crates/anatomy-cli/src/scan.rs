//! `anatomy scan`: is it safe to open.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use anatomy::Error;
use anatomy::report::units::count;
use anatomy::report::{Scan, ScanEntry};
use anatomy::scan::{Options, Policy, Verdict, scan};
use anatomy::source::Source;
use clap::ValueEnum;
use rayon::prelude::*;

use crate::files::{Found, files};
use crate::output::{Failure, Output, incomplete};

const AFTER: &str = "\
\x1b[1mExamples:\x1b[0m
  anatomy scan pytorch_model.bin              may it be loaded?
  anatomy scan ~/models && run-it             go on only if every file is clean
  anatomy scan model.pkl --explain            what would run, as Python
  anatomy scan . --fail-on malicious          let pass what is only unknown
  anatomy scan . --sarif > anatomy.sarif      for code hosts and security tools
  anatomy scan . --json | jq '.files[] | select(.verdict != \"clean\")'

\x1b[1mVerdicts:\x1b[0m
  malicious   it does what no model needs and attackers do
  suspicious  it imports, calls or hides something that nobody vouches for
  malformed   it is broken, or not what its name promises
  clean       none of these

\x1b[1mExit status:\x1b[0m
  0  every file is clean
  1  a file is not (with --fail-on: is as bad as that)
  2  a file could not be read; the others are reported, that one with its error";

/// Is it safe to open
///
/// Looks at files and at everything packed within them, whatever the names, and executes nothing:
/// pickles are followed opcode by opcode, archives and compressed streams are opened in memory and
/// within bounds. Directories are walked, hidden files included; symbolic links are followed, each
/// directory once.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    /// Files, and directories to walk
    #[arg(value_name = "PATH", required = true, value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// Write out what loading would run, as Python
    #[arg(long)]
    explain: bool,
    /// Write SARIF 2.1.0 instead, for code hosts and security tools
    #[arg(long, conflicts_with = "json")]
    sarif: bool,
    /// Least verdict that makes the exit status 1
    #[arg(long, value_enum, value_name = "VERDICT", default_value_t)]
    fail_on: Level,
    /// Allow or forbid imports besides those of the library's own policy
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    policy: Vec<PathBuf>,
}

/// Verdicts, as they are typed.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Level {
    /// An attack.
    Malicious,
    /// Something that nobody vouches for.
    Suspicious,
    /// Broken, or not what the name promises.
    #[default]
    Malformed,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let policy = policy(&args.policy)?;
    let options = Options { policy: &policy, explain: args.explain };
    let found = files(&args.paths);
    let progress = Progress::new(found.len(), output);
    let entry = |found: &Found| {
        let entry = entry(found, options);
        progress.step();
        entry
    };
    let report = Scan::new(match found.as_slice() {
        // Not worth starting threads.
        [one] => vec![entry(one)],
        many => many.par_iter().map(entry).collect(),
    });
    progress.end();
    if args.sarif {
        output.document(&report.sarif())?;
    } else if output.json {
        output.document(&report)?;
    } else {
        output.text(&report.text(output.width()))?;
    }
    let mut failed = report.files.iter().filter_map(|file| Some((&file.path, file.error.as_ref()?)));
    if let Some((path, error)) = failed.next() {
        let more = match failed.count() as u64 {
            0 => String::new(),
            more => format!("; {} could not be read either", count(more, "other", "others")),
        };
        output.error(&format!("{path}: {}{more}", error.message));
        return Ok(incomplete());
    }
    let least = match args.fail_on {
        Level::Malicious => Verdict::Malicious,
        Level::Suspicious => Verdict::Suspicious,
        Level::Malformed => Verdict::Malformed,
    };
    Ok(if report.verdict.is_some_and(|verdict| verdict >= least) { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// The library's policy with what the user's files say on top.
fn policy(files: &[PathBuf]) -> Result<Policy, Error> {
    let mut policy = Policy::new();
    for file in files {
        let shown = file.display().to_string();
        let text = read(file, &shown)?;
        policy.add(&text).map_err(|error| error.in_file(&*shown))?;
    }
    Ok(policy)
}

fn read(file: &Path, shown: &str) -> Result<String, Error> {
    std::fs::read_to_string(file).map_err(|error| Error::io(shown, &error))
}

fn entry(found: &Found, options: Options) -> ScanEntry {
    let path = match found {
        Ok(path) => path.display().to_string(),
        Err(error) => error.path().unwrap_or_default().to_string(),
    };
    let scanned = match found {
        Ok(path) => Source::open(path).and_then(|source| scan(&source, options)),
        Err(error) => Err(error.clone()),
    };
    match scanned {
        Ok(scan) => ScanEntry::of(scan),
        Err(error) => ScanEntry::failed(path, &error),
    }
}

/// How many files are done, on a terminal, where there are many.
struct Progress {
    done: AtomicUsize,
    all: usize,
    shown: bool,
}

impl Progress {
    /// Files between two updates.
    const STEP: usize = 16;

    fn new(all: usize, output: &Output) -> Self {
        let shown = all > Self::STEP && !output.quiet() && std::io::stderr().is_terminal();
        Progress { done: AtomicUsize::new(0), all, shown }
    }

    fn step(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if self.shown && done.is_multiple_of(Self::STEP) {
            // Nothing is lost where this cannot be written.
            let _ = write!(std::io::stderr(), "\r{done} of {} files", self.all);
        }
    }

    fn end(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
