//! The wire format of protocol buffers, as far as model files use it: fields one after the other, with their places.
//!
//! <https://protobuf.dev/programming-guides/encoding/>. Nothing is built up: a caller walks the fields of a message
//! and steps over the values that it does not want, so weights within a message are never read.

use crate::bytes::Reader;
use crate::tensor::Span;

/// A field of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// Field number, from 1.
    pub number: u64,
    /// Where its tag begins.
    pub start: u64,
    /// Its value.
    pub value: Value,
}

/// A field's value by wire type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    /// A whole number, truth value or enum.
    Varint(u64),
    /// Eight bytes: a `double` or fixed-width number.
    Fixed64,
    /// Four bytes: a `float` or fixed-width number.
    Fixed32(u32),
    /// Text, bytes, packed numbers or a message: where it lies. It may run past the end of a cut file.
    Bytes(Span),
}

impl Field {
    /// The place of a length-delimited value.
    pub fn span(&self) -> Option<Span> {
        match self.value {
            Value::Bytes(span) => Some(span),
            _ => None,
        }
    }
}

/// Why a message cannot be read on.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// Where.
    pub at: u64,
    /// Whether the file merely ends too early.
    pub cut: bool,
    /// In words.
    pub what: &'static str,
}

impl Fault {
    pub fn broken(at: u64, what: &'static str) -> Self {
        Fault { at, cut: false, what }
    }
}

/// Walks the fields of one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    at: u64,
    end: u64,
    whole: bool,
}

impl Fields {
    /// The fields of the message that is the whole source.
    pub fn of_source(reader: &Reader) -> Self {
        Fields { at: 0, end: reader.source().len(), whole: true }
    }

    /// The fields of the message within `span`.
    pub fn within(span: Span) -> Self {
        Fields { at: span.start, end: span.end(), whole: false }
    }

    /// Where the next field begins.
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// The next field, or `None` after the last. After a fault there is nothing more to ask for.
    pub fn next(&mut self, reader: &mut Reader) -> Result<Option<Field>, Fault> {
        let len = reader.source().len();
        if self.at >= self.end {
            return Ok(None);
        }
        let start = self.at;
        if start >= len {
            return Err(Fault { at: len, cut: true, what: "the file ends within a message" });
        }
        reader.seek(start);
        let tag = self.number(reader)?;
        let number = tag >> 3;
        if number == 0 || number > (1 << 29) - 1 {
            return Err(Fault::broken(start, "a field number that protocol buffers do not allow"));
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.number(reader)?),
            1 => reader.u64().map(|_| Value::Fixed64).map_err(|_| self.short(reader))?,
            2 => {
                let length = self.number(reader)?;
                Value::Bytes(Span { start: reader.offset(), len: length })
            }
            5 => reader.u32().map(Value::Fixed32).map_err(|_| self.short(reader))?,
            _ => return Err(Fault::broken(start, "a wire type that is not in use")),
        };
        self.at = match value {
            Value::Bytes(span) => {
                let end = span.start.checked_add(span.len);
                end.ok_or(Fault::broken(start, "a length beyond 64 bits"))?
            }
            _ => reader.offset(),
        };
        // Of the whole file nobody has declared the end, so a value that runs past it means that the file is cut.
        if self.at > self.end && !self.whole {
            return Err(Fault::broken(start, "a field that is longer than its message"));
        }
        Ok(Some(Field { number, start, value }))
    }

    fn short(&self, reader: &Reader) -> Fault {
        Fault { at: reader.offset(), cut: true, what: "the file ends within a field" }
    }

    fn number(&self, reader: &mut Reader) -> Result<u64, Fault> {
        let start = reader.offset();
        let mut number = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = reader.u8().map_err(|_| self.short(reader))?;
            // The tenth byte holds the last bit of 64.
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Fault::broken(start, "a number of more than 64 bits"))
    }
}

/// The text at `span`, at most `most` bytes of it; invalid UTF-8 is replaced. `None` where the file is cut.
pub(crate) fn text(reader: &mut Reader, span: Span, most: u64) -> Option<String> {
    reader.seek(span.start);
    let bytes = reader.bytes(span.len.min(most)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
