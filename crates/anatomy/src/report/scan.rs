//! Is it safe to open?

use std::cmp::Reverse;
use std::fmt::Write;

use serde::Serialize;

use super::identify::ErrorEntry;
use super::style::{BOLD, DIM, GREEN, RED, YELLOW, findings, paint, wrap};
use super::units::{count, elide, safe, thousands};
use crate::error::Error;
use crate::finding::{Finding, Severity};
use crate::scan::{FileScan, Program, Verdict};

/// The document of `anatomy scan`.
#[derive(Debug, Serialize)]
pub struct Scan {
    schema: &'static str,
    /// The worst of all files; nothing where one could not be read and the others are clean.
    pub verdict: Option<Verdict>,
    /// One entry per file on disk, in the order asked for.
    pub files: Vec<ScanEntry>,
}

/// One file.
#[derive(Debug, Serialize)]
pub struct ScanEntry {
    /// Path as given.
    pub path: String,
    /// Format identifier.
    pub format: Option<&'static str>,
    /// Whether it is safe to open; nothing where it could not be read.
    pub verdict: Option<Verdict>,
    /// What is odd, wrong or dangerous.
    pub findings: Vec<Finding>,
    /// What loading it would run; only where it is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<Program>,
    /// Why the file could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorEntry>,
}

impl ScanEntry {
    /// What a scan found.
    pub fn of(scan: FileScan) -> Self {
        let FileScan { path, format, verdict, findings, programs } = scan;
        ScanEntry { path, format: Some(format.id), verdict: Some(verdict), findings, programs, error: None }
    }

    /// A file that could not be read.
    pub fn failed(path: String, error: &Error) -> Self {
        let (findings, programs) = (Vec::new(), Vec::new());
        ScanEntry { path, format: None, verdict: None, findings, programs, error: Some(error.into()) }
    }
}

impl Scan {
    /// The document over some files.
    pub fn new(files: Vec<ScanEntry>) -> Self {
        let worst = files.iter().filter_map(|file| file.verdict).max().unwrap_or(Verdict::Clean);
        let unread = files.iter().any(|file| file.verdict.is_none());
        let verdict = Some(worst).filter(|worst| *worst != Verdict::Clean || !unread);
        Scan { schema: "anatomy.scan/1", verdict, files }
    }

    /// Each file that is not clean with the reasons, then how many there are of which verdict.
    pub fn text(&self, width: usize) -> String {
        let width = width.clamp(40, 120);
        let mut out = String::new();
        let only = self.files.len() == 1;
        // The worst on top; what could not be read says nothing, which is worse than clean.
        let mut files: Vec<&ScanEntry> = self.files.iter().collect();
        files.sort_by_key(|file| Reverse(file.verdict.map_or((Verdict::Clean, true), |verdict| (verdict, false))));
        for file in files {
            let path = elide(&safe(&file.path), width.saturating_sub(12));
            let (style, word) = match file.verdict {
                Some(Verdict::Clean) => (GREEN, "clean"),
                Some(Verdict::Malformed) => (YELLOW, "malformed"),
                Some(Verdict::Suspicious) => (YELLOW, "suspicious"),
                Some(Verdict::Malicious) => (RED, "malicious"),
                None => (RED, "unread"),
            };
            if file.verdict == Some(Verdict::Clean) && !only && file.programs.is_empty() {
                continue;
            }
            let _ = writeln!(out, "{} {}", paint(style, format!("{word:<11}")), paint(BOLD, path));
            if let Some(error) = &file.error {
                let _ = writeln!(out, "  {}", paint(RED, safe(&error.message)));
            }
            // Notes say nothing against a file; they are for the one that was asked about.
            let (notes, told): (Vec<_>, Vec<_>) =
                file.findings.iter().cloned().partition(|finding| finding.severity() == Severity::Note);
            out.push_str(&findings(&told, width));
            if only {
                out.push_str(&findings(&notes, width));
            }
            for program in &file.programs {
                out.push_str(&program_text(program, width));
            }
        }
        if !only {
            let _ = writeln!(out, "{}", self.summary());
        }
        out
    }

    fn summary(&self) -> String {
        let of = |verdict| self.files.iter().filter(|file| file.verdict == Some(verdict)).count();
        let unread = self.files.iter().filter(|file| file.verdict.is_none()).count();
        let parts = [
            (of(Verdict::Malicious), RED, "malicious"),
            (of(Verdict::Suspicious), YELLOW, "suspicious"),
            (of(Verdict::Malformed), YELLOW, "malformed"),
            (unread, RED, "unread"),
            (of(Verdict::Clean), GREEN, "clean"),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(number, ..)| *number > 0)
            .map(|(number, style, word)| paint(style, format!("{} {word}", thousands(number as u64))))
            .collect();
        if parts.is_empty() {
            return "no files".to_string();
        }
        format!("{}: {}", count(self.files.len() as u64, "file", "files"), parts.join(", "))
    }
}

/// A program with its place above it.
fn program_text(program: &Program, width: usize) -> String {
    let mut out = String::new();
    let place = match &program.member {
        Some(member) => format!("what {} runs, from byte {}:", safe(member), thousands(program.offset)),
        None => format!("what it runs, from byte {}:", thousands(program.offset)),
    };
    for line in wrap(&place, width.saturating_sub(2)) {
        let _ = writeln!(out, "  {}", paint(DIM, line));
    }
    for line in program.text.lines() {
        // Blanks count in a program, so lines are cut where they are full.
        let line: Vec<char> = safe(line).chars().collect();
        for (number, piece) in line.chunks(width.saturating_sub(8)).enumerate() {
            let indent = if number == 0 { 4 } else { 8 };
            let _ = writeln!(out, "{:indent$}{}", "", piece.iter().collect::<String>());
        }
    }
    out
}
