//! The few text styles of the reports, as ANSI sequences that the caller may strip.

use std::fmt::Write;

use crate::finding::{Finding, Severity};

use super::units::{safe, thousands};

/// Ends any style.
pub const RESET: &str = "\x1b[0m";
/// Headings and the most important number.
pub const BOLD: &str = "\x1b[1m";
/// What explains, beside what answers.
pub const DIM: &str = "\x1b[2m";
/// Errors.
pub const RED: &str = "\x1b[31m";
/// Warnings.
pub const YELLOW: &str = "\x1b[33m";
/// What is well.
pub const GREEN: &str = "\x1b[32m";
/// Bars and names.
pub const CYAN: &str = "\x1b[36m";

/// `text` in a style.
pub fn paint(style: &str, text: impl AsRef<str>) -> String {
    format!("{style}{}{RESET}", text.as_ref())
}

/// A bar of `width` cells of which `share` (0 to 1) is filled, in eighths of a cell.
pub fn bar(share: f64, width: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    // A few hundred at most, so the cast is exact.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let eighths = eighths.max(usize::from(share > 0.0));
    let full = (eighths / 8).min(width);
    let part = PARTS.get(eighths % 8).copied().unwrap_or("");
    let mut out = "█".repeat(full);
    out.push_str(part);
    let used = full + usize::from(!part.is_empty());
    out.extend(std::iter::repeat_n(' ', width.saturating_sub(used)));
    out
}

/// Breaks `text` into lines of at most `width` characters at blanks; longer words are cut.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(20);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        // A number keeps its sign of percent.
        let kept = words.next_if(|next| next.trim_end_matches([',', '.', ')', ';']) == "%");
        let joined = kept.map(|sign| format!("{word} {sign}"));
        let word = joined.as_deref().unwrap_or(word);
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        let mut rest = word;
        while rest.chars().count() + used > width {
            let cut = rest.char_indices().nth(width - used).map_or(rest.len(), |(at, _)| at);
            let (front, back) = rest.split_at(cut);
            line.push_str(front);
            lines.push(std::mem::take(&mut line));
            used = 0;
            rest = back;
        }
        line.push_str(rest);
        used += rest.chars().count();
    }
    if used > 0 {
        lines.push(line);
    }
    lines
}

/// Findings as people read them, worst first, each with its place and its remedy.
pub fn findings(findings: &[Finding], width: usize) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
    let mut out = String::new();
    let mut last_help = "";
    for (index, finding) in sorted.iter().enumerate() {
        let (style, word) = match finding.severity() {
            Severity::Error => (RED, "error"),
            Severity::Warning => (YELLOW, "warning"),
            Severity::Note => (DIM, "note"),
        };
        let mut text = safe(&finding.message);
        let mut place = Vec::new();
        if let Some(file) = &finding.file {
            place.push(safe(file.rsplit(['/', '\\']).next().unwrap_or(file)));
        }
        if let Some(member) = &finding.member {
            place.push(safe(member));
        }
        if let Some(offset) = finding.offset {
            place.push(format!("byte {}", thousands(offset)));
        }
        place.extend(finding.opcode.map(str::to_string));
        if !place.is_empty() {
            text = format!("{text} ({})", place.join(", "));
        }
        let lines = wrap(&text, width.saturating_sub(10));
        for (number, line) in lines.iter().enumerate() {
            let head = if number == 0 { paint(style, format!("{word:<8}")) } else { " ".repeat(8) };
            let _ = writeln!(out, "  {head}{line}");
        }
        // The remedy once, under the last of equal findings.
        let next = sorted.get(index + 1).map(|next| next.rule.help).unwrap_or_default();
        last_help = finding.rule.help;
        if next != last_help && finding.severity() > Severity::Note {
            for line in wrap(&format!("→ {last_help}"), width.saturating_sub(10)) {
                let _ = writeln!(out, "          {}", paint(DIM, line));
            }
        }
    }
    let _ = last_help;
    out
}
