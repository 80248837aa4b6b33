//! TensorFlow Lite and ExecuTorch: models in FlatBuffers. The root table is read, nothing below it.
//!
//! <https://flatbuffers.dev/internals/>; field numbers from TensorFlow's `schema.fbs` and ExecuTorch's `program.fbs`.

use super::{Container, Facts, Format, identified};
use crate::error::Result;
use crate::probe::{Head, Match, score};
use crate::source::Source;

/// TensorFlow Lite.
pub static TFLITE: Format = Format {
    id: "tflite",
    name: "TensorFlow Lite",
    extensions: &["tflite", "lite"],
    use_and_risk: "For phones and small devices: weights and graph in one mapped file. Loading runs no code.",
    probe: |head| {
        (head.array::<4>(4)? == *b"TFL3").then_some(())?;
        Match::new(score::CERTAIN, "bytes 4 to 7 are `TFL3`, the identifier of TensorFlow Lite")
    },
    open: open_tflite,
};

/// ExecuTorch.
pub static EXECUTORCH: Format = Format {
    id: "executorch",
    name: "ExecuTorch program",
    extensions: &["pte", "ptd"],
    use_and_risk: "For PyTorch models on phones: a compiled program with its weights, run by the device's own kernels.",
    probe: |head| {
        let [e, t, tens, ones] = head.array::<4>(4)?;
        ([e, t] == *b"ET" && tens.is_ascii_digit() && ones.is_ascii_digit()).then_some(())?;
        let version = format!("ET{}{}", char::from(tens), char::from(ones));
        Match::new(score::CERTAIN, format!("bytes 4 to 7 are `{version}`, the identifier of ExecuTorch"))
    },
    open: open_executorch,
};

/// A table: where it lies, and where each of its fields does.
struct Table<'a> {
    source: &'a Source,
    at: u64,
    fields: Vec<u8>,
}

fn number(source: &Source, at: u64) -> Option<u32> {
    source.read_up_to(at, 4).ok()?.try_into().ok().map(u32::from_le_bytes)
}

impl<'a> Table<'a> {
    fn root(source: &'a Source) -> Option<Self> {
        let at = u64::from(number(source, 0)?);
        // The distance back to the table of fields is signed.
        let back = i64::from(number(source, at)?.cast_signed());
        let fields_at = at.checked_add_signed(back.checked_neg()?)?;
        let size: [u8; 2] = source.read_up_to(fields_at, 2).ok()?.try_into().ok()?;
        let fields = source.read_up_to(fields_at, u16::from_le_bytes(size).into()).ok()?;
        Some(Table { source, at, fields })
    }

    fn field(&self, index: usize) -> Option<u64> {
        let offset = self.fields.get(4 + index * 2..)?.first_chunk::<2>()?;
        let offset = u16::from_le_bytes(*offset);
        (offset != 0).then(|| self.at.saturating_add(offset.into()))
    }

    fn number(&self, index: usize) -> Option<u32> {
        number(self.source, self.field(index)?)
    }

    /// Where a vector or text begins, and its length.
    fn vector(&self, index: usize) -> Option<(u64, u32)> {
        let field = self.field(index)?;
        let at = field.checked_add(number(self.source, field)?.into())?;
        Some((at.checked_add(4)?, number(self.source, at)?))
    }

    fn text(&self, index: usize) -> Option<String> {
        let (at, length) = self.vector(index)?;
        let bytes = self.source.read_up_to(at, u64::from(length).min(1024)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn open_tflite(source: &Source) -> Result<Container> {
    let mut facts = Facts::new();
    if let Some(table) = Table::root(source) {
        facts.extend(table.number(0).map(|version| ("version", version.to_string())));
        facts.extend(table.text(3).map(|text| ("description", text)));
        for (index, what) in [(1, "operator codes"), (2, "subgraphs"), (4, "buffers")] {
            facts.extend(table.vector(index).map(|(_, count)| (what, count.to_string())));
        }
    }
    Ok(identified(&TFLITE, source, 8, 0, facts))
}

fn open_executorch(source: &Source) -> Result<Container> {
    let mut facts = Facts::new();
    let head = Head::read(source)?;
    if head.array::<4>(8) == Some(*b"eh00") {
        facts.extend(head.u64(16).map(|size| ("program", format!("{size} bytes"))));
        facts.extend(head.u64(24).filter(|at| *at > 0).map(|at| ("segments from byte", at.to_string())));
    }
    if let Some(table) = Table::root(source) {
        facts.extend(table.number(0).map(|version| ("version", version.to_string())));
        facts.extend(table.vector(1).map(|(_, count)| ("execution plans", count.to_string())));
    }
    let header = if head.array::<4>(8) == Some(*b"eh00") { 24 } else { 0 };
    Ok(identified(&EXECUTORCH, source, 8, header, facts))
}
