//! What makes reading stop: one error that says what is wrong, where, and what to do.
//!
//! An [`Error`] means that nothing more can be said about a file. Everything that still allows a
//! report is a [`crate::Finding`] instead.

use std::fmt;
use std::io;

/// The result of everything in this library that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Broad class of an [`Error`]; its name is the `kind` of the JSON error document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No such file or directory.
    NotFound,
    /// The operating system refused or failed to read.
    Unreadable,
    /// The bytes are not what the format promises.
    Malformed,
    /// The file is well formed as far as is known, but what was asked cannot be answered for it.
    Unsupported,
    /// A declared size or count is beyond the limits that protect the reader.
    Limit,
    /// The call itself makes no sense.
    Usage,
}

impl ErrorKind {
    /// Stable name, as it appears in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "not-found",
            ErrorKind::Unreadable => "unreadable",
            ErrorKind::Malformed => "malformed",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Limit => "limit",
            ErrorKind::Usage => "usage",
        }
    }
}

/// Why reading stopped: what, where (path, archive member, byte offset) and what to do about it.
#[derive(Debug, Clone)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    path: Option<String>,
    member: Option<String>,
    offset: Option<u64>,
    help: Option<String>,
}

impl Error {
    /// An error of the given kind; `message` says what is wrong in a clause without a final stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), path: None, member: None, offset: None, help: None }))
    }

    /// Shorthand for [`ErrorKind::Malformed`], the most frequent kind by far.
    pub fn malformed(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Malformed, message)
    }

    /// Wraps an error of the operating system on `path`.
    pub fn io(path: impl Into<String>, error: &io::Error) -> Self {
        let (kind, message) = match error.kind() {
            io::ErrorKind::NotFound => (ErrorKind::NotFound, "no such file or directory".to_string()),
            io::ErrorKind::PermissionDenied => (ErrorKind::Unreadable, "permission denied".to_string()),
            _ => (ErrorKind::Unreadable, format!("cannot be read: {error}")),
        };
        Error::new(kind, message).in_file(path)
    }

    /// Names the file, unless a more precise place has named one already.
    #[must_use]
    pub fn in_file(mut self, path: impl Into<String>) -> Self {
        self.0.path.get_or_insert(path.into());
        self
    }

    /// Names the archive member, unless one is named already.
    #[must_use]
    pub fn in_member(mut self, member: impl Into<String>) -> Self {
        self.0.member.get_or_insert(member.into());
        self
    }

    /// Sets the byte offset, unless one is set already.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Says what the reader can do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help.get_or_insert(help.into());
        self
    }

    /// Broad class.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// File that the error is about.
    pub fn path(&self) -> Option<&str> {
        self.0.path.as_deref()
    }

    /// Archive member that the error is about.
    pub fn member(&self) -> Option<&str> {
        self.0.member.as_deref()
    }

    /// Byte offset in the file, or in the member where one is named.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<&str> {
        self.0.help.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { message, path, member, offset, help, .. } = &*self.0;
        if let Some(path) = path {
            write!(f, "{path}: ")?;
        }
        write!(f, "{message}")?;
        match (member, offset) {
            (Some(member), Some(offset)) => write!(f, " (member {member}, byte {offset})")?,
            (Some(member), None) => write!(f, " (member {member})")?,
            (None, Some(offset)) => write!(f, " (byte {offset})")?,
            (None, None) => {}
        }
        if let Some(help) = help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
