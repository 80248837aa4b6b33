//! The ledger: every byte of a file with exactly one label.

use std::borrow::Cow;

/// What a range of bytes is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The bytes by which the format is known.
    Magic,
    /// Lengths, counts, tensor tables: what a reader needs to find the rest.
    Header,
    /// Keys and values about the model.
    Metadata,
    /// Vocabulary, merges, scores, chat template.
    Tokenizer,
    /// Learned numbers.
    Tensor,
    /// Alignment and other filling.
    Padding,
    /// What the surrounding archive needs: zip and tar headers, directories, checksums.
    Container,
    /// Programs: pickle streams, TorchScript, executables.
    Code,
    /// Nothing in the format says what these bytes are for.
    Unexplained,
}

impl Kind {
    /// Stable lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Magic => "magic",
            Kind::Header => "header",
            Kind::Metadata => "metadata",
            Kind::Tokenizer => "tokenizer",
            Kind::Tensor => "tensor",
            Kind::Padding => "padding",
            Kind::Container => "container",
            Kind::Code => "code",
            Kind::Unexplained => "unexplained",
        }
    }
}

/// The words on a range. A tensor is named by its place in the container's list, so that half a
/// million ranges cost no half a million strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label {
    /// Plain words.
    Text(Cow<'static, str>),
    /// The tensor at this index of the container's list.
    Tensor(usize),
}

impl From<&'static str> for Label {
    fn from(text: &'static str) -> Self {
        Label::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Label {
    fn from(text: String) -> Self {
        Label::Text(Cow::Owned(text))
    }
}

/// One labelled range, `start..end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// What it is for.
    pub kind: Kind,
    /// What it is, in words.
    pub label: Label,
}

/// Labelled ranges that cover `0..len` without hole or overlap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    ranges: Vec<Range>,
    len: u64,
}

/// Takes ranges in any order and makes a [`Ledger`] of them.
#[derive(Debug, Default)]
pub struct Draft {
    ranges: Vec<Range>,
}

impl Draft {
    /// An empty draft.
    pub fn new() -> Self {
        Draft::default()
    }

    /// Makes room for `more` further claims.
    pub fn reserve(&mut self, more: usize) {
        self.ranges.reserve(more);
    }

    /// Claims `start..end`. Empty and inverted ranges are dropped.
    pub fn add(&mut self, start: u64, end: u64, kind: Kind, label: impl Into<Label>) {
        if start < end {
            self.ranges.push(Range { start, end, kind, label: label.into() });
        }
    }

    /// Cuts the claims at `len`, resolves overlaps in favour of the range that begins first, and
    /// labels what nobody claimed as unexplained.
    ///
    /// Overlaps and ranges past the end are faults of the file; the readers report them.
    pub fn finish(self, len: u64) -> Ledger {
        self.finish_with(len, |_, _| (Kind::Unexplained, "bytes that nothing refers to".into()))
    }

    /// As [`Draft::finish`], where `explain(start, end)` names what lies in a hole.
    pub fn finish_with(mut self, len: u64, mut explain: impl FnMut(u64, u64) -> (Kind, Label)) -> Ledger {
        self.ranges.sort_by_key(|range| (range.start, range.end));
        // A sound file's claims fit together as they are.
        let mut end = 0;
        let fits = |range: &Range| range.start == std::mem::replace(&mut end, range.end);
        if self.ranges.iter().all(fits) && end == len {
            return Ledger { ranges: self.ranges, len };
        }
        let mut ranges: Vec<Range> = Vec::with_capacity(self.ranges.len());
        let mut at = 0;
        for mut range in self.ranges {
            range.start = range.start.max(at);
            range.end = range.end.min(len);
            if range.start >= range.end {
                continue;
            }
            if at < range.start {
                let (kind, label) = explain(at, range.start);
                ranges.push(Range { start: at, end: range.start, kind, label });
            }
            at = range.end;
            ranges.push(range);
        }
        if at < len {
            let (kind, label) = explain(at, len);
            ranges.push(Range { start: at, end: len, kind, label });
        }
        Ledger { ranges, len }
    }
}

impl Ledger {
    /// The ranges in order of their place.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Length of the file, which the ranges add up to.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of one kind.
    pub fn total(&self, kind: Kind) -> u64 {
        self.ranges.iter().filter(|range| range.kind == kind).map(|range| range.end - range.start).sum()
    }
}
