//! What goes wrong while a template is read or rendered, and the budget that bounds it.

use super::super::TemplateErrorKind;

/// An error on its way up; the place is filled in where it is known.
#[derive(Debug)]
pub struct Fault {
    pub kind: TemplateErrorKind,
    pub message: String,
    /// The byte of the source.
    pub spot: Option<u32>,
}

pub type Result<T> = std::result::Result<T, Box<Fault>>;

/// An error of this kind, without a place.
pub fn fault<T>(kind: TemplateErrorKind, message: impl Into<String>) -> Result<T> {
    Err(Box::new(Fault { kind, message: message.into(), spot: None }))
}

/// What Python reports as TypeError, ValueError and the like.
pub fn wrong<T>(message: impl Into<String>) -> Result<T> {
    fault(TemplateErrorKind::Operation, message)
}

/// A part of Jinja that this renderer leaves out.
pub fn unsupported<T>(message: impl Into<String>) -> Result<T> {
    fault(TemplateErrorKind::Unsupported, message)
}

/// The longest text that a template may make, and the longest output.
pub const MAX_TEXT: usize = 16 << 20;

/// Work that any template may do. A unit is about one node of the template, or four bytes of new text.
const WORK: u64 = 20_000_000;

/// Work that a rendering may do besides, for each byte of the conversation.
const WORK_PER_INPUT_BYTE: u64 = 64;

/// How deep values, expressions, blocks and calls may nest.
pub const MAX_DEPTH: u16 = 200;

/// Work that is left. Since memory costs work, this bounds both.
#[derive(Debug)]
pub struct Budget {
    left: u64,
}

impl Budget {
    /// The budget for a conversation of so many bytes.
    pub fn new(input_bytes: usize) -> Self {
        Budget::of(WORK.saturating_add(WORK_PER_INPUT_BYTE.saturating_mul(input_bytes as u64)))
    }

    /// A budget of so much work.
    pub fn of(work: u64) -> Self {
        Budget { left: work }
    }

    /// Takes work away, or stops the rendering.
    pub fn spend(&mut self, units: usize) -> Result<()> {
        match self.left.checked_sub(units as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                fault(TemplateErrorKind::Limit, "the template does more work than the limit allows")
            }
        }
    }

    /// Takes the work of reading so many bytes.
    pub fn scan(&mut self, bytes: usize) -> Result<()> {
        self.spend(bytes / 64)
    }

    /// Takes the work of making a text of so many bytes, which is asked before it is made.
    pub fn text(&mut self, bytes: usize) -> Result<()> {
        if bytes > MAX_TEXT {
            let message = format!("the template makes a text of {bytes} bytes; the limit is {MAX_TEXT}");
            return fault(TemplateErrorKind::Limit, message);
        }
        self.spend(bytes / 4 + 1)
    }

    /// Takes the work of making so many values.
    pub fn values(&mut self, count: usize) -> Result<()> {
        self.spend(count.saturating_mul(8))
    }
}
