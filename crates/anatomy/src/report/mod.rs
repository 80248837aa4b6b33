//! Reports: values that hold an answer, and their text for people. Each serialises to the JSON
//! document of its command; its `text` method draws it with ANSI styles, which the caller strips
//! where they are not wanted.

mod blueprint;
mod build;
mod bytes;
mod check;
mod identify;
mod inspect;
mod memory;
mod page;
mod sarif;
mod scan;
pub mod style;
mod template;
mod tensors;
mod tokenizer;
pub mod units;

pub use blueprint::Blueprint;
pub use bytes::Bytes;
pub use check::Check;
pub use identify::{Identify, IdentifyEntry};
pub use inspect::Inspect;
pub use memory::Memory;
pub use scan::{Scan, ScanEntry};
pub use template::{Chat, ChatTemplates};
pub use tensors::{Order, Selection, TensorRow, Tensors};
pub use tokenizer::{Comparison, Decoded, Encoded, EncodedLines, Tokenizer};
