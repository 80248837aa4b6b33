//! The walk over a file and everything within it.
//!
//! Every member of every archive, every decoded stream and every run of bytes that nothing explains is a [`Piece`],
//! whatever its name: it is identified by its bytes and shown to all families. Bounds hold for the whole file, so
//! that bombs end soon; where one is reached, a finding says that not everything was seen.

use super::{
    Options, Program, archive, config, expression, hdf5, hidden, keras, name, packed, pickle, posing, python, secret,
    skops, template, tensorflow, torchscript,
};
use crate::container::pickle as pickled;
use crate::container::{Container, Format};
use crate::error::{ErrorKind, Result};
use crate::finding::{Finding, Findings, Rule, Severity};
use crate::probe;
use crate::source::Source;

static UNREAD: Rule = Rule {
    name: "scan-unread",
    severity: Severity::Error,
    why: "A part of the file claims to be of a format that it cannot be read as.",
    help: "get the file again; if it stays so, do not use it",
};
static LIMIT: Rule = Rule {
    name: "scan-limit",
    severity: Severity::Error,
    why: "The file is packed so deep, or unpacks to so much, that not all of it was looked at. No model needs that; \
          bombs and hidden programs do.",
    help: "unpack the file in a safe place and scan what comes out",
};

/// The rules of the walk.
pub(crate) static RULES: &[&Rule] = &[&UNREAD, &LIMIT];
/// Of these, those that nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[&LIMIT];

/// What a rule family is: it looks at a piece and reports.
type Look = fn(&mut Scanner, &Piece, &Opened) -> Result<()>;

/// All families, in the order in which they look.
static LOOKS: &[Look] = &[
    name::look,
    posing::look,
    pickle::look,
    archive::look,
    packed::look,
    hidden::look,
    config::look,
    python::look,
    keras::look,
    hdf5::look,
    skops::look,
    tensorflow::look,
    torchscript::look,
    expression::look,
    secret::look,
    template::look,
];

/// How deep pieces may lie within each other.
const MAX_DEPTH: usize = 8;
/// Pieces in one file.
const MAX_PIECES: u64 = 1 << 17;
/// Bytes that may be unpacked: this often the file's own…
const UNPACKED_FACTOR: u64 = 200;
/// … but at least and at most this many.
const UNPACKED: (u64, u64) = (256 << 20, 16 << 30);

/// A run of bytes to look at.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// The bytes.
    pub source: Source,
    /// Where they lie within the file: names of members, one within the other, `!` between them.
    pub member: Option<String>,
    /// How many archives or packed streams lie around them.
    pub depth: usize,
    /// What is added to offsets in `source` for those in the file or member.
    pub base: u64,
    /// Whether these are bytes that nothing explains: that they make sense as something would be odd, not that they
    /// do not.
    pub hidden: bool,
}

impl Piece {
    /// A whole file.
    pub(super) fn file(source: Source) -> Self {
        Piece { source, member: None, depth: 0, base: 0, hidden: false }
    }

    /// The last of the names that lead to it: its own as a member, or the file's path.
    pub(super) fn name(&self) -> &str {
        match &self.member {
            Some(member) => member.rsplit('!').next().unwrap_or(member),
            None => self.source.name(),
        }
    }

    /// A member or decoded stream within this piece.
    pub(super) fn inner(&self, name: &str, source: Source) -> Self {
        let member = match &self.member {
            Some(outer) => format!("{outer}!{name}"),
            None => name.to_string(),
        };
        // Only the file itself has a name that promises something.
        Piece { source: source.named(""), member: Some(member), depth: self.depth + 1, base: 0, hidden: false }
    }

    /// A run of bytes of this piece that nothing explains.
    pub(super) fn part(&self, start: u64, len: u64) -> Self {
        let source = self.source.section(start, len).named("");
        let base = self.base + start;
        Piece { source, member: self.member.clone(), depth: self.depth + 1, base, hidden: true }
    }
}

/// A piece with its format.
#[derive(Debug)]
pub(super) struct Opened {
    /// Its format.
    pub format: &'static Format,
    /// What its reader says; nothing where it cannot be read.
    pub container: Option<Container>,
}

/// A scan in progress.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    /// How it goes.
    pub options: Options<'a>,
    /// What was found so far.
    pub findings: Findings,
    /// What would run.
    pub programs: Vec<Program>,
    unpacked: u64,
    pieces: u64,
}

impl<'a> Scanner<'a> {
    /// A scan of a file of `len` bytes.
    pub(super) fn new(options: Options<'a>, len: u64) -> Self {
        let unpacked = len.saturating_mul(UNPACKED_FACTOR).clamp(UNPACKED.0, UNPACKED.1);
        Scanner { options, findings: Findings::new(), programs: Vec::new(), unpacked, pieces: MAX_PIECES }
    }

    /// Looks at a piece, and at what lies within it.
    pub(super) fn look(&mut self, piece: &Piece) -> Result<&'static Format> {
        let identity = probe::identify(&piece.source)?;
        let mut opened = Opened { format: identity.format, container: None };
        if piece.depth > MAX_DEPTH || self.pieces == 0 {
            self.report(piece, Finding::new(&LIMIT, "what lies further within is not looked at"));
            return Ok(opened.format);
        }
        self.pieces -= 1;
        self.open(piece, &mut opened)?;
        for look in LOOKS {
            look(self, piece, &opened)?;
        }
        Ok(opened.format)
    }

    /// Reads a piece and reports what its reader finds.
    fn open(&mut self, piece: &Piece, opened: &mut Opened) -> Result<()> {
        // The family of pickles follows these itself, once.
        if [&pickled::FORMAT, &pickled::JOBLIB].contains(&opened.format) {
            return Ok(());
        }
        match (opened.format.open)(&piece.source) {
            Ok(mut container) => {
                for finding in std::mem::take(&mut container.findings) {
                    // That bytes which need not be anything are broken says nothing.
                    if !piece.hidden {
                        self.report(piece, finding);
                    }
                }
                opened.container = Some(container);
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unreadable) => return Err(error),
            Err(_) if piece.hidden => {}
            Err(error) => {
                let finding = Finding { offset: error.offset(), ..Finding::new(&UNREAD, error.message()) };
                self.report(piece, finding);
            }
        }
        Ok(())
    }

    /// Adds a finding in a piece.
    pub(super) fn report(&mut self, piece: &Piece, mut finding: Finding) {
        finding.member = match (&piece.member, finding.member) {
            (Some(outer), Some(inner)) => Some(format!("{outer}!{inner}")),
            (outer, inner) => inner.or_else(|| outer.clone()),
        };
        finding.offset = finding.offset.map(|offset| offset.saturating_add(piece.base));
        self.findings.push(finding);
    }

    /// A piece's bytes, to `most`; says so where there are more.
    pub(super) fn read(&mut self, piece: &Piece, most: u64) -> Result<Vec<u8>> {
        if piece.source.len() > most {
            self.limit(piece, format!("only the first {most} bytes are looked at"));
        }
        piece.source.read_up_to(0, most)
    }

    /// Bytes that may still be unpacked.
    pub(super) fn room(&self) -> u64 {
        self.unpacked
    }

    /// Takes from the bytes that may still be unpacked.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.unpacked = self.unpacked.saturating_sub(bytes);
    }

    /// Says that a piece, or what is packed in it, was not looked at in full.
    pub(super) fn limit(&mut self, piece: &Piece, message: impl Into<String>) {
        self.report(piece, Finding::new(&LIMIT, message));
    }
}
