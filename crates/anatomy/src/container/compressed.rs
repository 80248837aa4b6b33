//! Compressed files and archives that are not looked into: gzip, zstd, xz, bzip2, 7z.

use super::{Container, Facts, Format, identified};
use crate::error::Result;
use crate::probe::{Head, Match, score};
use crate::source::Source;

const USE_AND_RISK: &str =
    "A compressed file: unpack it to see what it holds. Unpacking runs no code, but can fill a disk.";

/// gzip, RFC 1952.
pub static GZIP: Format = Format {
    id: "gzip",
    name: "gzip",
    extensions: &["gz", "tgz"],
    use_and_risk: USE_AND_RISK,
    probe: |head| magic(head, b"\x1f\x8b\x08", "gzip"),
    open: |source| {
        let head = source.read_up_to(0, 512)?;
        let mut facts = Facts::new();
        // The name stands after the fixed header of 10 bytes, unless extra fields come first.
        if let [_, _, _, flags, ..] = head.as_slice()
            && flags & 0x0c == 0x08
            && let Some(name) = head.get(10..).and_then(|rest| rest.split(|byte| *byte == 0).next())
        {
            facts.push(("original name", String::from_utf8_lossy(name).into_owned()));
        }
        if let Some(start) = source.len().checked_sub(4).filter(|start| *start >= 14)
            && let Ok(Ok(size)) = source.read_up_to(start, 4).map(<[u8; 4]>::try_from)
        {
            facts.push(("unpacked size", format!("{} bytes (modulo 4 GiB)", u32::from_le_bytes(size))));
        }
        Ok(identified(&GZIP, source, 3, 7, facts))
    },
};

/// Zstandard, RFC 8878.
pub static ZSTD: Format = Format {
    id: "zstd",
    name: "Zstandard",
    extensions: &["zst"],
    use_and_risk: USE_AND_RISK,
    probe: |head| magic(head, b"\x28\xb5\x2f\xfd", "Zstandard"),
    open: |source| only_magic(&ZSTD, source, 4),
};

/// xz.
pub static XZ: Format = Format {
    id: "xz",
    name: "xz",
    extensions: &["xz", "txz"],
    use_and_risk: USE_AND_RISK,
    probe: |head| magic(head, b"\xfd7zXZ\0", "xz"),
    open: |source| only_magic(&XZ, source, 6),
};

/// bzip2.
pub static BZIP2: Format = Format {
    id: "bzip2",
    name: "bzip2",
    extensions: &["bz2", "tbz2"],
    use_and_risk: USE_AND_RISK,
    probe: |head| {
        let level = head.array::<4>(0)?;
        let block = head.first.get(4..10.min(head.first.len()))?;
        // The first block begins with the digits of pi, an empty file ends with those of its root.
        let known = b"\x31\x41\x59\x26\x53\x59".starts_with(block) || b"\x17\x72\x45\x38\x50\x90".starts_with(block);
        (level.starts_with(b"BZh") && (b'1'..=b'9').contains(&level[3]) && known).then_some(())?;
        magic(head, b"BZh", "bzip2")
    },
    open: |source| only_magic(&BZIP2, source, 4),
};

/// 7-Zip.
pub static SEVEN_ZIP: Format = Format {
    id: "7z",
    name: "7-Zip archive",
    extensions: &["7z"],
    use_and_risk: USE_AND_RISK,
    probe: |head| magic(head, b"7z\xbc\xaf\x27\x1c", "7z"),
    open: |source| {
        let facts = match source.read_up_to(6, 2)?.as_slice() {
            [major, minor] => vec![("version", format!("{major}.{minor}"))],
            _ => Facts::new(),
        };
        Ok(identified(&SEVEN_ZIP, source, 6, 26, facts))
    },
};

fn magic(head: &Head, magic: &[u8], name: &str) -> Option<Match> {
    let bytes: Vec<String> = magic.iter().map(|byte| format!("{byte:02x}")).collect();
    head.starts_with(magic).then_some(())?;
    Match::new(score::CERTAIN, format!("the first bytes are {}, the magic number of {name}", bytes.join(" ")))
}

fn only_magic(format: &'static Format, source: &Source, magic: u64) -> Result<Container> {
    Ok(identified(format, source, magic, 0, Facts::new()))
}
