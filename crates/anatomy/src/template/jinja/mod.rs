//! Jinja as chat templates use it, with Python's values and the sandbox of transformers.
//!
//! A template's meaning is Python's: `True` and `None` in text, integers that divide down, methods of texts, errors
//! where a text meets a number, dictionaries that keep their order, iterators that can be walked once. Engines for
//! other languages differ in these on purpose, inside operators that nobody can replace from outside, and none bounds
//! the memory of a single value. So this is a renderer of its own, kept as small as the language that templates use.
//!
//! What it leaves out it refuses by name ([`super::TemplateErrorKind::Unsupported`]): integers beyond 128 bits, the
//! filters `urlize`, `wordwrap`, `pprint` and `random`, `lipsum`, `autoescape` blocks, `str.encode` and `translate`,
//! `\N{name}` escapes, and what would write the address of an object. Unicode's classes of characters are those of this
//! library's standard library, which may be another version of Unicode than Python's.

mod access;
pub mod ast;
mod check;
mod expression;
pub mod fault;
mod filters;
mod format;
mod functions;
mod json;
mod lexer;
mod loops;
mod methods;
mod operators;
mod parser;
mod precedence;
mod print;
mod render;
mod select;
mod tests;
mod text;
mod time;
pub mod value;

pub use functions::is_function;
pub use lexer::unified;
pub use parser::parse;
pub use render::{Given, evaluate, render};
pub use text::is_space;
