//! The only way out: everything that the command writes goes through an [`Output`], so that styles,
//! closed pipes and the form of errors are the same everywhere.

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use anatomy::Error;
use anatomy::report::units::safe;
use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use crate::args::{Color, Common};

/// Why a command ended without its answer.
pub enum Failure {
    /// It could not be done.
    Error(Error),
    /// Standard output did not take the answer.
    Output(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

/// The exit status when it could not be done.
const CANNOT: u8 = 2;
/// Columns where neither a terminal nor `COLUMNS` says how many there are.
const COLUMNS: usize = 100;

/// Where and how the command writes.
pub struct Output {
    /// One JSON document instead of text.
    pub json: bool,
    quiet: bool,
    color: ColorChoice,
}

impl Output {
    /// As the options say.
    pub fn new(common: &Common) -> Self {
        let color = match common.color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        Output { json: common.json, quiet: common.quiet, color }
    }

    /// As the arguments look: for help, and for errors in the arguments themselves.
    pub fn guess(arguments: &[OsString]) -> Self {
        let options: Vec<&str> = arguments
            .iter()
            .filter_map(|argument| argument.to_str())
            .take_while(|argument| *argument != "--")
            .collect();
        let has = |long: &str| options.contains(&long);
        let color = |when: &str| {
            options.contains(&format!("--color={when}").as_str())
                || options.windows(2).any(|pair| pair == ["--color", when])
        };
        let color = match () {
            () if color("always") => ColorChoice::Always,
            () if color("never") => ColorChoice::Never,
            () => ColorChoice::Auto,
        };
        Output { json: has("--json"), quiet: has("--quiet") || has("-q"), color }
    }

    /// Whether nothing but errors belongs on standard error.
    pub fn quiet(&self) -> bool {
        self.quiet
    }

    /// Columns of the terminal; of `COLUMNS` or of the terminal of the other streams in a pipe.
    pub fn width(&self) -> usize {
        let asked = || std::env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse().ok());
        let size = |found: (terminal_size::Width, _)| usize::from(found.0.0);
        let width = terminal_size::terminal_size_of(io::stdout()).map(size);
        let width = width.or_else(asked).or_else(|| terminal_size::terminal_size().map(size));
        width.unwrap_or(COLUMNS).clamp(40, 1000)
    }

    /// Writes a report, with its styles where they are wanted.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        let styled = is_styled(self.color, &io::stdout());
        write(|out| if styled { out.write_all(text.as_bytes()) } else { write!(out, "{}", strip_str(text)) })
    }

    /// Writes lines for other programs as they are; for a terminal, without what could steer it.
    pub fn plain(&self, text: &str) -> Result<(), Failure> {
        let terminal = io::stdout().is_terminal();
        write(|out| {
            if !terminal {
                return out.write_all(text.as_bytes());
            }
            text.lines().try_for_each(|line| writeln!(out, "{}", safe(line)))
        })
    }

    /// Writes the one JSON document.
    pub fn document(&self, document: &impl Serialize) -> Result<(), Failure> {
        write(|out| {
            document.serialize(&mut Serializer::with_formatter(&mut *out, Harmless))?;
            writeln!(out)
        })
    }

    /// Says something beside the answer, unless it should be quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            complain(text);
        }
    }

    /// An error beside an answer that was given all the same.
    pub fn error(&self, text: &str) {
        complain(text);
    }

    /// Shows how the command is used.
    pub fn usage(&self, help: &str) -> ExitCode {
        let stderr = io::stderr();
        let help = if is_styled(self.color, &stderr) { help.to_string() } else { strip_str(help).to_string() };
        let _ = stderr.lock().write_all(help.as_bytes());
        ExitCode::from(CANNOT)
    }

    /// Reports a failure, and with which status to end.
    pub fn fail(&self, failure: &Failure) -> ExitCode {
        match failure {
            // Whoever reads has seen enough, as with `| head`.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Failure::Output(error) => complain(&format!("standard output cannot be written: {error}")),
            Failure::Error(error) => {
                complain(&error.to_string());
                if self.json {
                    // Nothing better can be done if this fails too.
                    let _ = self.document(&ErrorDocument::from(error));
                }
            }
        }
        ExitCode::from(CANNOT)
    }
}

/// The status of a list of which something could not be read.
pub fn incomplete() -> ExitCode {
    ExitCode::from(CANNOT)
}

fn is_styled(color: ColorChoice, stream: &impl anstream::stream::RawStream) -> bool {
    match color {
        ColorChoice::Auto => AutoStream::choice(stream) != ColorChoice::Never,
        color => color != ColorChoice::Never,
    }
}

/// Writes to standard output in large pieces.
fn write(with: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    with(&mut out).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// One line on standard error.
fn complain(text: &str) {
    // Standard error may be closed; the exit status still tells.
    let _ = writeln!(io::stderr(), "anatomy: {}", safe(text));
}

/// `anatomy.error/1`.
#[derive(Serialize)]
struct ErrorDocument<'e> {
    schema: &'static str,
    error: ErrorBody<'e>,
}

#[derive(Serialize)]
struct ErrorBody<'e> {
    kind: &'static str,
    message: &'e str,
    path: Option<&'e str>,
    member: Option<&'e str>,
    offset: Option<u64>,
    help: Option<&'e str>,
}

impl<'e> From<&'e Error> for ErrorDocument<'e> {
    fn from(error: &'e Error) -> Self {
        let body = ErrorBody {
            kind: error.kind().as_str(),
            message: error.message(),
            path: error.path(),
            member: error.member(),
            offset: error.offset(),
            help: error.remedy(),
        };
        ErrorDocument { schema: "anatomy.error/1", error: body }
    }
}

/// Compact JSON that may be shown on a terminal: characters that steer it or reorder text, which JSON
/// allows as they are, are written as escapes. The values stay the same.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.bytes().all(|byte| byte.is_ascii() && byte != 0x7f) {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
        let mut start = 0;
        for (at, c) in fragment.char_indices() {
            if !anatomy::report::units::is_hidden(c) {
                continue;
            }
            writer.write_all(fragment.get(start..at).unwrap_or_default().as_bytes())?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            start = at + c.len_utf8();
        }
        writer.write_all(fragment.get(start..).unwrap_or_default().as_bytes())
    }
}
