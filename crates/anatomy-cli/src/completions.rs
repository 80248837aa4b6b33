//! `anatomy completions`: the Tab key.

use std::process::ExitCode;

use anatomy::{Error, ErrorKind};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::output::{Failure, Output};

const AFTER: &str = "\
\x1b[1mExamples:\x1b[0m
  anatomy completions bash > ~/.local/share/bash-completion/completions/anatomy
  anatomy completions zsh > ~/.zfunc/_anatomy          with ~/.zfunc in fpath, before compinit
  anatomy completions fish > ~/.config/fish/completions/anatomy.fish
  anatomy completions powershell >> $PROFILE";

/// Completions for a shell
///
/// Writes a script to standard output that teaches the shell to complete the commands and options.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    if output.json {
        let error = Error::new(ErrorKind::Usage, "completions are a shell script and have no JSON form");
        return Err(error.help("leave --json out").into());
    }
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "anatomy", &mut script);
    output.text(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
