//! Packed streams and 7z archives, made by the reference libraries (`tools/make-packed-fixtures.py`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::path::Path;

use anatomy::container::seven_zip;
use anatomy::decode::{Decoded, Fault, Method, decode};
use anatomy::source::Source;

fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/packed").join(name)).unwrap()
}

fn run(bytes: Vec<u8>, method: Method, room: u64) -> Decoded {
    decode(&Source::memory("packed", bytes), method, room).unwrap()
}

const ONE: [(&str, Method); 8] = [
    ("gzip", Method::Gzip),
    ("zlib", Method::Zlib),
    ("bzip2", Method::Bzip2),
    ("xz", Method::Xz),
    ("xz-delta-x86", Method::Xz),
    ("lzma", Method::Lzma),
    ("zstd", Method::Zstd),
    ("lz4", Method::Lz4),
];

#[test]
fn each_method_is_known_and_unpacks() {
    let plain = data("plain");
    for (name, method) in ONE {
        let packed = data(name);
        assert_eq!(Method::of(&packed), Some(method), "{name}");
        let len = packed.len() as u64;
        let decoded = run(packed, method, 1 << 20);
        assert_eq!(decoded.fault, None, "{name}");
        assert!(decoded.bytes == plain, "{name}");
        assert_eq!(decoded.used, len, "{name}");
    }
    let decoded = run(data("lz4-linked"), Method::Lz4, 1 << 20);
    assert_eq!(decoded.fault, None);
    assert!(decoded.bytes == plain.repeat(40));
}

#[test]
fn streams_that_follow_each_other_are_one() {
    let plain = data("plain");
    for name in ["gzip", "zlib", "bzip2", "xz", "lzma", "zstd", "lz4", "skippable.zstd"] {
        let packed = data(&format!("twice.{name}"));
        let method = Method::of(&packed).unwrap();
        let decoded = run(packed, method, 1 << 20);
        assert_eq!(decoded.fault, None, "{name}");
        assert!(decoded.bytes == plain.repeat(2), "{name}: {} bytes", decoded.bytes.len());
    }
}

#[test]
fn what_stands_behind_is_not_taken() {
    for (name, method) in ONE {
        let packed = data(name);
        let len = packed.len() as u64;
        let decoded = run([packed, b"cos\nsystem\n".to_vec()].concat(), method, 1 << 20);
        assert_eq!(decoded.used, len, "{name}");
        assert!(decoded.bytes == data("plain"), "{name}");
    }
}

#[test]
fn a_cut_or_changed_stream_has_a_fault_and_keeps_what_came() {
    let plain = data("plain");
    for (name, method) in ONE {
        let packed = data(name);
        for cut in 1..packed.len() {
            let decoded = run(packed[..cut].to_vec(), method, 1 << 20);
            assert!(decoded.fault.is_some(), "{name} cut at {cut}");
            assert!(plain.starts_with(&decoded.bytes), "{name} cut at {cut}");
        }
        for at in 0..packed.len() {
            let mut changed = packed.clone();
            changed[at] ^= 0x55;
            let decoded = run(changed, method, 1 << 20);
            assert!(decoded.bytes.len() <= 1 << 20, "{name} changed at {at}");
        }
    }
}

#[test]
fn no_more_comes_out_than_there_is_room_for() {
    for (name, method) in ONE {
        let decoded = run(data(name), method, 100);
        assert_eq!(decoded.fault, Some(Fault::Full), "{name}");
        assert_eq!(decoded.bytes, data("plain")[..100], "{name}");
    }
}

/// Names, contents and faults of all members.
fn members(bytes: Vec<u8>, room: u64) -> (Vec<(String, Vec<u8>)>, Vec<&'static str>) {
    let source = Source::memory("archive.7z", bytes);
    let archive = seven_zip::read(&source).unwrap();
    let mut contents = Vec::new();
    let mut rules: Vec<_> = archive.findings.clone().finish().iter().map(|finding| finding.rule.name).collect();
    for member in &archive.members {
        let Some((folder, _)) = member.place else {
            contents.push((member.name.clone(), Vec::new()));
            continue;
        };
        let decoded = seven_zip::unpack(&source, &archive.folders[folder], room).unwrap();
        rules.extend(decoded.fault.map(|_| "fault"));
        let (bytes, fault) = member.contents(&decoded.bytes);
        rules.extend(fault.filter(|_| rules.is_empty()).map(|finding| finding.rule.name));
        contents.push((member.name.clone(), bytes));
    }
    (contents, rules)
}

#[test]
fn seven_zip_archives_open() {
    let plain = data("plain");
    for name in ["copy", "lzma", "lzma2", "delta-lzma2", "x86-lzma2", "bzip2", "deflate", "zstd"] {
        let (contents, rules) = members(data(&format!("{name}.7z")), 1 << 20);
        assert_eq!(rules, [""; 0], "{name}");
        assert!(contents == [("a/data.pkl".to_string(), plain.clone())], "{name}");
    }
    let (contents, rules) = members(data("many.7z"), 1 << 20);
    assert_eq!(rules, [""; 0]);
    let expected = [("one.txt", &b"1"[..]), ("folder/two.bin", &plain), ("three", b""), ("vier \u{fc}.pkl", b"N.")];
    for (name, bytes) in expected {
        assert!(contents.iter().any(|(have, with)| have == name && with == bytes), "{name}");
    }
}

#[test]
fn seven_zip_says_what_it_cannot_open() {
    for name in ["ppmd.7z", "encrypted.7z"] {
        let (contents, rules) = members(data(name), 1 << 20);
        assert_eq!(rules, ["7z-method-unknown"], "{name}");
        assert!(contents.iter().all(|(_, bytes)| bytes.is_empty()), "{name}");
    }
}

#[test]
fn seven_zip_cut_or_changed_never_panics_and_never_passes_unnoticed() {
    for name in ["copy.7z", "lzma2.7z", "many.7z"] {
        let bytes = data(name);
        for cut in 6..bytes.len() {
            let (_, rules) = members(bytes[..cut].to_vec(), 1 << 20);
            assert!(!rules.is_empty(), "{name} cut at {cut}");
        }
        for at in 8..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x55;
            let (_, rules) = members(changed, 1 << 20);
            assert!(!rules.is_empty(), "{name} changed at {at}");
        }
    }
}
