//! Flax parameters: nested MessagePack maps with arrays as extension type 1.
//!
//! As `flax.serialization.msgpack_serialize` writes them: an array is the extension 1 around `(shape, type, bytes)`.

use super::{Facts, Format, identified};
use crate::bytes::{Endian, Reader};
use crate::error::Result;
use crate::probe::{Head, Match, score};
use crate::source::Source;

/// The format.
pub static FORMAT: Format = Format {
    id: "flax-msgpack",
    name: "Flax parameters (MessagePack)",
    extensions: &["msgpack"],
    use_and_risk: "For JAX and Flax: arrays in nested maps. Loading runs no code, but needs the whole file in memory.",
    probe,
    open,
};

/// The first array: its path, type and shape.
struct First {
    path: Vec<String>,
    dtype: String,
    shape: Vec<u64>,
}

/// Maps that are followed down, and entries that are looked at, until an array must have come.
const MAX_DEPTH: usize = 32;
const MAX_ENTRIES: usize = 256;

fn first_array(source: &Source) -> Option<First> {
    let mut reader = Reader::new(source, 0);
    reader.set_endian(Endian::Big);
    let mut path: Vec<String> = Vec::new();
    let mut left = vec![map_size(&mut reader)?];
    for _ in 0..MAX_ENTRIES {
        while left.last() == Some(&0) {
            left.pop();
            path.pop();
        }
        *left.last_mut()? -= 1;
        path.push(text(&mut reader)?);
        match reader.peek().ok()?? {
            0x80..=0x8f | 0xde | 0xdf => {
                left.push(map_size(&mut reader)?);
                if left.len() > MAX_DEPTH {
                    return None;
                }
                continue;
            }
            // A step count, or text, may come before the first array.
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => reader.skip(1).ok()?,
            0xcc | 0xd0 => reader.skip(2).ok()?,
            0xcd | 0xd1 => reader.skip(3).ok()?,
            0xca | 0xce | 0xd2 => reader.skip(5).ok()?,
            0xcb | 0xcf | 0xd3 => reader.skip(9).ok()?,
            0xa0..=0xbf | 0xd9 | 0xda => drop(text(&mut reader)?),
            0xc7..=0xc9 | 0xd4..=0xd8 => return array(&mut reader, path),
            _ => return None,
        }
        path.pop();
    }
    None
}

fn map_size(reader: &mut Reader) -> Option<u32> {
    match reader.u8().ok()? {
        byte @ 0x80..=0x8f => Some(u32::from(byte & 0x0f)),
        0xde => Some(reader.u16().ok()?.into()),
        0xdf => reader.u32().ok(),
        _ => None,
    }
}

fn text(reader: &mut Reader) -> Option<String> {
    let length = match reader.u8().ok()? {
        byte @ 0xa0..=0xbf => u64::from(byte & 0x1f),
        0xd9 => reader.u8().ok()?.into(),
        0xda => reader.u16().ok()?.into(),
        _ => return None,
    };
    String::from_utf8(reader.bytes(length).ok()?).ok()
}

fn array(reader: &mut Reader, path: Vec<String>) -> Option<First> {
    match reader.u8().ok()? {
        0xc7 => drop(reader.u8().ok()?),
        0xc8 => drop(reader.u16().ok()?),
        0xc9 => drop(reader.u32().ok()?),
        _ => {}
    }
    // The extension's number, then an array of three.
    if reader.u8().ok()? != 1 || reader.u8().ok()? != 0x93 {
        return None;
    }
    let dimensions = reader.u8().ok()?;
    if dimensions & 0xf0 != 0x90 {
        return None;
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions & 0x0f {
        shape.push(match reader.u8().ok()? {
            byte @ 0x00..=0x7f => byte.into(),
            0xcc => reader.u8().ok()?.into(),
            0xcd => reader.u16().ok()?.into(),
            0xce => reader.u32().ok()?.into(),
            0xcf => reader.u64().ok()?,
            _ => return None,
        });
    }
    Some(First { path, dtype: text(reader)?, shape })
}

fn probe(head: &Head) -> Option<Match> {
    matches!(head.first.first()?, 0x80..=0x8f | 0xde | 0xdf).then_some(())?;
    let first = first_array(head.source)?;
    let place = first.path.join(".");
    Match::new(score::CERTAIN - 10, format!("MessagePack maps lead to an array of Flax's kind, {place:?}"))
}

fn open(source: &Source) -> Result<super::Container> {
    let mut facts = Facts::new();
    if let Some(First { path, dtype, shape }) = first_array(source) {
        facts.push(("first array", format!("{} {dtype} {shape:?}", path.join("."))));
    }
    Ok(identified(&FORMAT, source, 1, 0, facts))
}
