//! A tensor as a container lists it: name, type, shape and place; never its values.

use crate::dtype::DType;

/// Where bytes lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u64,
    /// How many bytes.
    pub len: u64,
}

impl Span {
    /// One past the last byte; saturates.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// A tensor of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Name as stored; nested state dicts join their keys with a dot.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Row-major shape as stored, outermost dimension first. GGUF's `ne` is reversed to match.
    pub shape: Vec<u64>,
    /// Bytes that its elements take as stored.
    pub bytes: u64,
    /// Place in the file; `None` where it is compressed, in another file, or nowhere.
    pub span: Option<Span>,
    /// The storage that it looks into, where a format lets tensors share one (PyTorch).
    pub storage: Option<StorageView>,
}

/// How a tensor looks into a shared storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageView {
    /// Which storage of this file, counted from 0.
    pub storage: u32,
    /// First element of the view.
    pub offset: u64,
    /// Elements from the first to the last that the view reaches, both included; more than the
    /// number of its elements where its strides leave gaps, fewer where they repeat.
    pub extent: u64,
}

impl Tensor {
    /// Number of elements; 1 for a scalar. Saturates, since a reader has reported an overflow.
    pub fn elements(&self) -> u64 {
        elements(&self.shape)
    }
}

/// Product of the dimensions, 1 for a scalar, saturating at `u64::MAX`.
pub fn elements(shape: &[u64]) -> u64 {
    checked_elements(shape).unwrap_or(u64::MAX)
}

/// Product of the dimensions, 1 for a scalar; `None` where it exceeds 64 bits. A dimension of zero
/// makes it 0 whatever the others are.
pub fn checked_elements(shape: &[u64]) -> Option<u64> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1u64, |product, dimension| product.checked_mul(*dimension))
}
