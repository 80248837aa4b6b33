//! HDF5, and Keras weights within it: only the superblock is read.
//!
//! <https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html>, section II.A.

use super::{Facts, Format, identified};
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};
use crate::probe::{Head, Match, score};
use crate::source::Source;

/// The format.
pub static FORMAT: Format = Format {
    id: "hdf5",
    name: "HDF5",
    extensions: &["h5", "hdf5"],
    use_and_risk: "For Keras and science: arrays in folders. HDF5 runs no code, but Keras may rebuild Lambda layers from \
                   Python code stored in it.",
    probe,
    open,
};

static CUT: Rule = Rule {
    name: "hdf5-truncated",
    severity: Severity::Error,
    why: "The superblock says that the file is longer than it is: the download is incomplete.",
    help: "download the file again and compare its size with the one that the hub states",
};

/// The rules of this reader.
pub static RULES: &[&Rule] = &[&CUT];

const MAGIC: &[u8; 8] = b"\x89HDF\r\n\x1a\n";

/// A user block may stand before; the superblock is looked for at 0, 512, and every doubling of that.
fn superblock(head: &Head) -> Option<usize> {
    let places = std::iter::once(0).chain((9..16).map(|power| 1usize << power));
    places.into_iter().find(|place| head.array::<8>(*place).as_ref() == Some(MAGIC))
}

fn probe(head: &Head) -> Option<Match> {
    let place = superblock(head)?;
    let cut = match end(head, place) {
        Some(end) if end > head.len() => format!("; the file is cut: it should have {end} bytes"),
        None if head.len() < place as u64 + 48 => "; the file is cut within its superblock".to_string(),
        _ => String::new(),
    };
    Match::new(
        score::CERTAIN,
        format!("the 8 bytes at {place} are 89 `HDF` 0d 0a 1a 0a, the magic number of HDF5{cut}"),
    )
}

/// The end of the file, as the superblock at `place` states it.
fn end(head: &Head, place: usize) -> Option<u64> {
    // Offsets are 8 bytes wide in every file that is not a curiosity.
    let (width, at) = match head.array::<1>(place + 8)? {
        [0] => (13, 40),
        [1] => (13, 44),
        _ => (9, 28),
    };
    (head.array::<1>(place + width)? == [8]).then_some(())?;
    head.u64(place + at).filter(|end| *end != u64::MAX)
}

fn open(source: &Source) -> Result<super::Container> {
    let head = Head::read(source)?;
    let place = superblock(&head).unwrap_or(0);
    let mut facts = Facts::new();
    if let Some([version]) = head.array::<1>(place + 8) {
        facts.push(("superblock version", version.to_string()));
    }
    let contains = |word: &[u8]| head.first.windows(word.len()).any(|window| window == word);
    if contains(b"keras_version") || contains(b"layer_names") {
        let whole = if contains(b"model_config") { "Keras model (with its configuration)" } else { "Keras weights" };
        facts.push(("kind", whole.to_string()));
    }
    let mut container = identified(&FORMAT, source, place as u64 + 8, 88, facts);
    if let Some(end) = end(&head, place).filter(|end| *end > source.len()) {
        let message = format!("the file should have {end} bytes and has {}", source.len());
        container.findings.push(Finding::new(&CUT, message).at(source.len()));
    }
    Ok(container)
}
