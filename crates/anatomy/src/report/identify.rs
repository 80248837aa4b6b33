//! Which format is each file, from its bytes.

use std::fmt::Write;

use serde::Serialize;

use super::style::{BOLD, DIM, RED, YELLOW, paint, wrap};
use super::tensors::csv_field;
use super::units::{bytes, elide, safe};
use crate::error::Error;
use crate::probe;
use crate::source::Source;

/// The document of `anatomy identify`.
#[derive(Debug, Serialize)]
pub struct Identify {
    schema: &'static str,
    /// One entry per file, in the order asked for.
    pub files: Vec<IdentifyEntry>,
}

/// One file.
#[derive(Debug, Serialize)]
pub struct IdentifyEntry {
    /// Path as given.
    pub path: String,
    /// Length in bytes.
    pub bytes: Option<u64>,
    /// Format identifier.
    pub format: Option<&'static str>,
    /// Format name for people.
    pub name: Option<&'static str>,
    /// What decided it.
    pub evidence: Option<String>,
    /// Extension of the path, lower-case.
    pub extension: Option<String>,
    /// Whether the extension promises another format.
    pub misnamed: Option<bool>,
    /// Why the file could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorEntry>,
}

/// An error within a list, in the form of the JSON error document.
#[derive(Debug, Serialize)]
pub struct ErrorEntry {
    /// Broad class.
    pub kind: &'static str,
    /// What is wrong, without the place.
    pub message: String,
    path: Option<String>,
    offset: Option<u64>,
}

impl From<&Error> for ErrorEntry {
    fn from(error: &Error) -> Self {
        ErrorEntry {
            kind: error.kind().as_str(),
            message: error.message().to_string(),
            path: error.path().map(str::to_string),
            offset: error.offset(),
        }
    }
}

impl IdentifyEntry {
    /// Identifies one source.
    pub fn of(source: &Source) -> Self {
        let path = source.name().to_string();
        match probe::identify_with_cut(source) {
            Ok(identity) => IdentifyEntry {
                bytes: Some(source.len()),
                format: Some(identity.format.id),
                name: Some(identity.format.name),
                extension: probe::extension(&path),
                misnamed: Some(identity.misnamed(&path)),
                evidence: Some(identity.evidence),
                error: None,
                path,
            },
            Err(error) => IdentifyEntry::failed(path, &error),
        }
    }

    /// A file that could not be read.
    pub fn failed(path: String, error: &Error) -> Self {
        IdentifyEntry {
            bytes: None,
            format: None,
            name: None,
            evidence: None,
            extension: probe::extension(&path),
            misnamed: None,
            error: Some(error.into()),
            path,
        }
    }
}

impl Identify {
    /// The document over some files.
    pub fn new(files: Vec<IdentifyEntry>) -> Self {
        Identify { schema: "anatomy.identify/1", files }
    }

    /// Whether a file could not be read.
    pub fn failed(&self) -> bool {
        self.files.iter().any(|file| file.error.is_some())
    }

    /// Comma-separated values with a header line; what is not known of a file is empty.
    pub fn csv(&self) -> String {
        let mut out = String::from("path,bytes,format,evidence,extension,misnamed,error\n");
        for file in &self.files {
            let fields = [
                file.path.as_str(),
                &file.bytes.map(|bytes| bytes.to_string()).unwrap_or_default(),
                file.format.unwrap_or_default(),
                file.evidence.as_deref().unwrap_or_default(),
                file.extension.as_deref().unwrap_or_default(),
                &file.misnamed.map(|misnamed| misnamed.to_string()).unwrap_or_default(),
                file.error.as_ref().map(|error| error.message.as_str()).unwrap_or_default(),
            ];
            let _ = writeln!(out, "{}", fields.map(csv_field).join(","));
        }
        out
    }

    /// A block per file: path, format, size, and the reason beneath.
    pub fn text(&self, width: usize) -> String {
        let mut out = String::new();
        for file in &self.files {
            let path = elide(&safe(&file.path), width);
            match (&file.error, file.name) {
                (None, Some(name)) => {
                    let size = bytes(file.bytes.unwrap_or(0));
                    let _ = writeln!(out, "{path}\n  {}  {size}", paint(BOLD, name));
                    if file.misnamed == Some(true) {
                        let extension = file.extension.as_deref().unwrap_or_default();
                        let text = format!("misnamed: `.{}` promises another format", safe(extension));
                        let _ = writeln!(out, "  {}", paint(YELLOW, text));
                    }
                    for line in wrap(&safe(file.evidence.as_deref().unwrap_or_default()), width.saturating_sub(2)) {
                        let _ = writeln!(out, "  {}", paint(DIM, line));
                    }
                }
                (error, _) => {
                    let message = error.as_ref().map(|error| error.message.as_str()).unwrap_or_default();
                    let _ = writeln!(out, "{path}\n  {}", paint(RED, safe(message)));
                }
            }
        }
        out
    }
}
