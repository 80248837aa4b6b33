//! What is this, on one screen.

use serde::Serialize;

use crate::analysis::Analysis;

/// The document of `anatomy inspect`.
#[derive(Debug, Serialize)]
pub struct Inspect {
    schema: &'static str,
}

impl Inspect {
    /// Looks at a model as a whole.
    pub fn new(_analysis: &Analysis) -> Self {
        Inspect { schema: "anatomy.inspect/1" }
    }

    /// One screen of text.
    pub fn text(&self, _width: usize) -> String {
        String::new()
    }
}
