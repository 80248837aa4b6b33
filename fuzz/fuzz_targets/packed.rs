//! Packed streams and 7z archives: nothing panics, and no more comes out than there is room for.
#![no_main]

use anatomy::container::seven_zip;
use anatomy::decode::{Method, decode};
use anatomy::source::Source;
use libfuzzer_sys::fuzz_target;

const ROOM: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let source = Source::memory("fuzz", data.to_vec());
    if let Some(method) = Method::of(data) {
        let decoded = decode(&source, method, ROOM).unwrap();
        assert!(decoded.bytes.len() as u64 <= ROOM);
        assert!(decoded.used <= source.len());
    } else if data.starts_with(b"7z") {
        let archive = seven_zip::read(&source).unwrap();
        for folder in archive.folders.iter().take(8) {
            assert!(seven_zip::unpack(&source, folder, ROOM).unwrap().bytes.len() as u64 <= ROOM);
        }
    }
});
