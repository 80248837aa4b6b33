//! Open any LLM file and understand exactly what every byte is doing.
//!
//! A file's way through the library: a [`source`] gives random-access bytes, [`probe`] names the
//! format from the first of them, the reader in [`container`] parses headers (never weights) into a
//! [`container::Container`] with a [`ledger`] in which every byte has one label. Everything after that is the same
//! for every format.

pub mod analysis;
pub mod architecture;
pub mod atlas;
pub mod bytes;
pub mod cache;
pub mod check;
pub mod container;
pub mod decode;
pub mod dtype;
pub mod error;
pub mod explain;
pub mod finding;
pub mod known;
pub mod ledger;
pub mod memory;
pub mod metadata;
pub mod model;
pub mod names;
pub mod packing;
pub mod probe;
pub mod report;
pub mod rules;
pub mod scan;
pub mod source;
pub mod template;
pub mod tensor;
pub mod tokenizer;

pub use error::{Error, ErrorKind, Result};
pub use finding::{Finding, Findings, Rule, Severity};
