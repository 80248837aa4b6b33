//! The `anatomy` command: open any LLM file and see what every byte of it is for.

mod args;
mod atlas;
mod blueprint;
mod bytes;
mod chat;
mod check;
mod completions;
mod files;
mod hardware;
mod identify;
mod inspect;
mod memory;
mod model;
mod output;
mod scan;
mod tensors;
mod tokenizer;

// Headers of big models are a hundred thousand small strings: this allocator takes a sixth off the whole run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::ffi::OsString;
use std::process::ExitCode;

use args::{Command, Parsed};
use output::{Failure, Output};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let mut output = Output::guess(&arguments);
    run(arguments, &mut output).unwrap_or_else(|failure| output.fail(&failure))
}

fn run(arguments: Vec<OsString>, output: &mut Output) -> Result<ExitCode, Failure> {
    let cli = match args::parse(arguments)? {
        Parsed::Cli(cli) => cli,
        Parsed::Help(help) => return output.text(&help).map(|()| ExitCode::SUCCESS),
        Parsed::ShortHelp(help) => return Ok(output.usage(&help)),
    };
    *output = Output::new(&cli.common);
    match cli.command {
        Command::Inspect(args) => inspect::run(&args, output),
        Command::Identify(args) => identify::run(&args, output),
        Command::Tensors(args) => tensors::run(&args, output),
        Command::Bytes(args) => bytes::run(&args, output),
        Command::Blueprint(args) => blueprint::run(&args, output),
        Command::Memory(args) => memory::run(&args, output),
        Command::Scan(args) => scan::run(&args, output),
        Command::Tokenizer(args) => tokenizer::run(&args, output),
        Command::Check(args) => check::run(&args, output),
        Command::Completions(args) => completions::run(&args, output),
        Command::Model(_) => Err(args::no_command().into()),
    }
}
