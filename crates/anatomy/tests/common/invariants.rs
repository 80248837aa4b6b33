//! What must hold for any bytes at all. The fuzz targets include this file too.

use anatomy::container::Container;
use anatomy::ledger::Label;
use anatomy::source::Source;
use anatomy::{Findings, probe, rules};

/// Reads `data` as the format with this id, or, without one, as whatever it seems to be, and panics where the result
/// breaks a promise of the library. An `Error` breaks none.
pub fn check(format: Option<&str>, data: &[u8]) {
    let source = Source::memory("input", data.to_vec());
    let identity = probe::identify(&source).ok();
    let format = match format {
        Some(id) => probe::FORMATS.iter().copied().find(|format| format.id == id),
        None => identity.map(|identity| identity.format),
    };
    // A format that is not in the table yet has nothing to check.
    if let Some(format) = format
        && let Ok(container) = (format.open)(&source)
    {
        promises(&container, data.len() as u64);
    }
}

/// Panics unless the ledger covers the file exactly, and the findings are few and known.
pub fn promises(container: &Container, len: u64) {
    let mut at = 0;
    for range in container.ledger.ranges() {
        assert_eq!(range.start, at, "the ledger has a hole or an overlap");
        assert!(range.start < range.end, "the ledger has an empty range at {at}");
        if let Label::Tensor(index) = range.label {
            assert!(index < container.tensors.len(), "the ledger names tensor {index}, which is not listed");
        }
        at = range.end;
    }
    assert_eq!(at, len, "the ledger does not end where the file ends");
    assert_eq!(container.ledger.len(), len);

    let known = || rules::ALL.iter().flat_map(|group| group.iter());
    let most = (Findings::PER_RULE + 1) * known().count() as u64;
    assert!(container.findings.len() as u64 <= most, "{} findings", container.findings.len());
    for finding in &container.findings {
        let name = finding.rule.name;
        assert!(known().any(|rule| rule.name == name), "the rule {name} is not registered");
    }
}
