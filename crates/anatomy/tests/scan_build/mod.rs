//! Small writers of files in which every header may lie.

// Clippy's allowances for tests do not reach shared modules.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::io::Write;

/// A pickle that would call `os.system("true")`.
pub const EVIL: &[u8] = b"cos\nsystem\n(S'true'\ntR.";
/// A pickle of an empty dictionary.
pub const HARMLESS: &[u8] = b"\x80\x02}.";

/// A member of a zip archive; what is `None` is as it should be.
#[derive(Clone, Default)]
pub struct Member {
    pub name: String,
    pub data: Vec<u8>,
    /// Packed bytes; else the data as they are.
    pub raw: Option<Vec<u8>>,
    pub method: u16,
    pub local_method: Option<u16>,
    pub flags: u16,
    pub crc: Option<u32>,
    /// Size as the directory has it, and as the header before the data does.
    pub size: Option<u32>,
    pub local_size: Option<u32>,
    pub local_name: Option<&'static str>,
    pub link: bool,
    /// Whether the directory leaves it out.
    pub hidden: bool,
}

impl Member {
    pub fn new(name: &str, data: &[u8]) -> Self {
        Member { name: name.into(), data: data.into(), ..Member::default() }
    }
}

/// An archive.
#[derive(Default)]
pub struct Zip {
    members: Vec<Member>,
    repeat: usize,
}

fn len32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

impl Zip {
    pub fn new() -> Self {
        Zip { repeat: 1, ..Zip::default() }
    }

    pub fn add(mut self, member: Member) -> Self {
        self.members.push(member);
        self
    }

    /// Lists each member in the directory so many times.
    pub fn repeat(mut self, times: usize) -> Self {
        self.repeat = times;
        self
    }

    pub fn build(&self) -> Vec<u8> {
        self.build_at(0)
    }

    /// An archive whose places count from a byte so far before its own first.
    pub fn build_at(&self, base: usize) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::new();
        let mut directory: Vec<u8> = Vec::new();
        let mut count = 0u16;
        for member in &self.members {
            let offset = u32::try_from(base + out.len()).unwrap();
            let raw = member.raw.as_deref().unwrap_or(&member.data);
            let mut crc = flate2::Crc::new();
            crc.update(&member.data);
            let numbers = |method: u16, packed: u32, size: u32, name: &str| {
                let mut bytes = Vec::new();
                bytes.extend_from_slice(&[20, 0]);
                bytes.extend_from_slice(&member.flags.to_le_bytes());
                bytes.extend_from_slice(&method.to_le_bytes());
                bytes.extend_from_slice(&[0, 0, 0x21, 0]);
                bytes.extend_from_slice(&member.crc.unwrap_or(crc.sum()).to_le_bytes());
                bytes.extend_from_slice(&packed.to_le_bytes());
                bytes.extend_from_slice(&size.to_le_bytes());
                bytes.extend_from_slice(&u16::try_from(name.len()).unwrap().to_le_bytes());
                bytes.extend_from_slice(&[0, 0]);
                bytes
            };
            let stored = member.method == 0;
            let size = member.size.unwrap_or(len32(&member.data));
            // Of a stored member that is shorter by the directory, the packed size says so too.
            let packed = if stored && size < len32(raw) { size } else { len32(raw) };
            let local_size = member.local_size.unwrap_or(size);
            let local_packed = if member.local_size.is_some() { local_size } else { packed };
            let local_name = member.local_name.unwrap_or(&member.name);
            out.extend_from_slice(b"PK\x03\x04");
            out.extend(numbers(member.local_method.unwrap_or(member.method), local_packed, local_size, local_name));
            out.extend_from_slice(local_name.as_bytes());
            out.extend_from_slice(raw);
            if member.hidden {
                continue;
            }
            for _ in 0..self.repeat {
                directory.extend_from_slice(if member.link { b"PK\x01\x02\x14\x03" } else { b"PK\x01\x02\x14\x00" });
                directory.extend(numbers(member.method, packed, size, &member.name));
                directory.extend_from_slice(&[0; 6]);
                let mode: u32 = if member.link { 0o120_777 << 16 } else { 0 };
                directory.extend_from_slice(&mode.to_le_bytes());
                directory.extend_from_slice(&offset.to_le_bytes());
                directory.extend_from_slice(member.name.as_bytes());
                count += 1;
            }
        }
        let start = u32::try_from(base + out.len()).unwrap();
        out.extend_from_slice(&directory);
        out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&len32(&directory).to_le_bytes());
        out.extend_from_slice(&start.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out
    }

    /// An archive behind other bytes, its places counted from the first of these.
    pub fn build_behind(&self, before: &[u8]) -> Vec<u8> {
        [before, &self.build_at(before.len())].concat()
    }
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn deflated(data: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

pub fn zlib(data: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

/// A tar archive of one entry, with its end marker.
pub fn tar_entry(name: &str, kind: u8, link: &str, data: &[u8]) -> Vec<u8> {
    let mut head = vec![0u8; 512];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..108].copy_from_slice(b"0000644\0");
    head[108..116].copy_from_slice(b"0000000\0");
    head[116..124].copy_from_slice(b"0000000\0");
    head[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
    head[136..148].copy_from_slice(b"00000000000\0");
    head[148..156].fill(b' ');
    head[156] = kind;
    head[157..157 + link.len()].copy_from_slice(link.as_bytes());
    head[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head.extend_from_slice(data);
    head.resize(head.len().div_ceil(512) * 512 + 1024, 0);
    head
}

pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in files {
        let entry = tar_entry(name, b'0', "", data);
        out.extend_from_slice(&entry[..entry.len() - 1024]);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// A safetensors file with one tensor of bytes.
pub fn safetensors(metadata: serde_json::Value, tensor: &[u8]) -> Vec<u8> {
    let entry = serde_json::json!({ "dtype": "U8", "shape": [tensor.len()], "data_offsets": [0, tensor.len()] });
    let mut header = serde_json::json!({ "__metadata__": metadata, "w": entry }).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), tensor].concat()
}

/// A GGUF with these texts and one tensor.
pub fn gguf(texts: &[(&str, &str)]) -> Vec<u8> {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend_from_slice(&1u64.to_le_bytes());
    out.extend_from_slice(&(texts.len() as u64 + 1).to_le_bytes());
    for (key, value) in texts.iter().chain(&[("general.architecture", "llama")]) {
        out.extend_from_slice(&(key.len() as u64).to_le_bytes());
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(&8u32.to_le_bytes());
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(&1u64.to_le_bytes());
    out.extend_from_slice(b"a\x01\0\0\0");
    out.extend_from_slice(&8u64.to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&0u64.to_le_bytes());
    out.resize(out.len().div_ceil(32) * 32 + 32, 0);
    out
}

/// An ELF header and nothing else.
pub fn elf() -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    out.resize(64, 0);
    out
}

pub fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn base64(data: &[u8]) -> String {
    const SIGNS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in data.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sign = SIGNS[(word >> (18 - 6 * place) & 63) as usize];
            out.push(if place > chunk.len() { '=' } else { char::from(sign) });
        }
    }
    out
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number > 127 {
        out.push((number & 127) as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

/// A protocol-buffer field of bytes.
pub fn field(number: u64, data: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(data.len() as u64), data.to_vec()].concat()
}

fn whole(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

pub fn node_def(operator: &str, attribute: &[u8]) -> Vec<u8> {
    let attribute = if attribute.is_empty() {
        Vec::new()
    } else {
        field(5, &[field(1, b"x"), field(2, &field(2, attribute))].concat())
    };
    [field(1, b"n"), field(2, operator.as_bytes()), attribute].concat()
}

/// A node of a graph.
pub fn node(operator: &str, attribute: &[u8]) -> Vec<u8> {
    field(1, &node_def(operator, attribute))
}

/// A SavedModel of these parts of a graph.
pub fn saved_model(graph: &[u8]) -> Vec<u8> {
    [whole(1, 1), field(2, &field(2, &[&node("Placeholder", &[])[..], graph].concat()))].concat()
}

/// A model of one node and one weight, which lies elsewhere if `external` says where.
pub fn onnx(operator: &str, domain: &str, external: &[(&str, &str)]) -> Vec<u8> {
    let mut tensor = [whole(1, 4), whole(2, 1), field(8, b"w")].concat();
    for (key, value) in external {
        tensor.extend(field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat()));
    }
    tensor.extend(if external.is_empty() { field(9, &[0; 16]) } else { whole(14, 1) });
    let node = [field(1, b"w"), field(2, b"y"), field(4, operator.as_bytes()), field(7, domain.as_bytes())].concat();
    let graph = [field(1, &node), field(2, b"g"), field(5, &tensor)].concat();
    [whole(1, 8), field(2, b"anatomy"), field(7, &graph), field(8, &[field(1, b""), whole(2, 17)].concat())].concat()
}
