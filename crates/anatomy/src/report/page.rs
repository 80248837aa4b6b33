//! Text that grows section by section.

use std::fmt::Write;

use super::style::{BOLD, paint, wrap};

/// Width of the column of section names.
pub(super) const INDENT: usize = 11;

/// Text that grows section by section.
pub(super) struct Page {
    pub(super) out: String,
    pub(super) width: usize,
}

impl Page {
    /// A section's name with its first lines beside it.
    pub(super) fn section(&mut self, name: &str, text: &str) {
        let _ = write!(self.out, "{}", paint(BOLD, format!("{name:<INDENT$}")));
        let lines = wrap(text, self.width - INDENT);
        let _ = writeln!(self.out, "{}", lines.first().map(String::as_str).unwrap_or_default());
        for line in lines.iter().skip(1) {
            self.row(line);
        }
    }

    /// Takes back the end of line, for a caller that draws the first line itself.
    pub(super) fn trim_line(&mut self) {
        while self.out.ends_with('\n') {
            self.out.pop();
        }
    }

    /// A line under the section's first.
    pub(super) fn row(&mut self, line: &str) {
        let _ = writeln!(self.out, "{:INDENT$}{line}", "");
    }

    /// Text under the section's first line, each line drawn as `pattern` has it.
    pub(super) fn more(&mut self, pattern: &str, text: &str) {
        for line in wrap(text, self.width - INDENT) {
            self.row(&pattern.replace("{}", &line));
        }
    }

    /// A line at the margin.
    pub(super) fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }

    /// Text that goes on beside what stands on the line already, `used` columns wide; each piece is drawn as `pattern`
    /// has it.
    pub(super) fn beside(&mut self, used: usize, pattern: &str, text: &str) {
        for (number, piece) in wrap(text, self.width.saturating_sub(used)).iter().enumerate() {
            if number > 0 {
                let _ = write!(self.out, "{:used$}", "");
            }
            let _ = writeln!(self.out, "{}", pattern.replace("{}", piece));
        }
    }
}
