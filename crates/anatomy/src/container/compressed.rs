//! Compressed files: identified here, and opened where something looks into them ([`crate::decode`]).

use super::{Container, Facts, Format, identified};
use crate::decode::{self, Method};
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

/// LZ4's frames.
pub static LZ4: Format = Format {
    id: "lz4",
    name: "LZ4",
    extensions: &["lz4"],
    use_and_risk: USE_AND_RISK,
    probe: |head| {
        let magic = head.array::<4>(0)?;
        (Method::of(&magic) == Some(Method::Lz4)).then_some(())?;
        self::magic(head, &magic, "LZ4")
    },
    open: |source| only_magic(&LZ4, source, 4),
};

/// A zlib stream by itself, RFC 1950.
pub static ZLIB: Format = Format {
    id: "zlib",
    name: "zlib",
    extensions: &["zlib", "z"],
    use_and_risk: USE_AND_RISK,
    probe: |head| weak(head, Method::Zlib),
    open: |source| only_magic(&ZLIB, source, 2),
};

/// The older LZMA file.
pub static LZMA: Format = Format {
    id: "lzma",
    name: "LZMA",
    extensions: &["lzma"],
    use_and_risk: USE_AND_RISK,
    probe: |head| weak(head, Method::Lzma),
    open: |source| only_magic(&LZMA, source, 13),
};

/// Formats whose first bytes many others could have: what follows must unpack.
fn weak(head: &Head, method: Method) -> Option<Match> {
    (Method::of(&head.first) == Some(method) && decode::unpacks(head.source, method).ok()?).then_some(())?;
    let name = method.name();
    Match::new(score::PLAUSIBLE, format!("the first bytes are a header of {name}, and what follows unpacks"))
}

fn magic(head: &Head, magic: &[u8], name: &str) -> Option<Match> {
    let bytes: Vec<String> = magic.iter().map(|byte| format!("{byte:02x}")).collect();
    head.starts_with(magic).then_some(())?;
    Match::new(score::CERTAIN, format!("the first bytes are {}, the magic number of {name}", bytes.join(" ")))
}

fn only_magic(format: &'static Format, source: &Source, magic: u64) -> Result<Container> {
    Ok(identified(format, source, magic, 0, Facts::new()))
}
