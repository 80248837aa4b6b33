//! PyTorch, pickles, numpy, zip and tar: against what the reference libraries hold, and against hostile
//! bytes. The files are made by `tools/make-torch-fixtures`; those in `data/lpips` are real (BSD-2-Clause).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // helpers of tests

use std::fs;
use std::path::PathBuf;

use anatomy::Severity;
use anatomy::container::pickle::{self, CallKind, Value, Via, Visit};
use anatomy::container::{Container, zip};
use anatomy::ledger::Kind;
use anatomy::probe::{self, Identity};
use anatomy::source::Source;
use proptest::prelude::*;

#[cfg(test)]
fn data(file: &str) -> Vec<u8> {
    fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file)).unwrap()
}

#[cfg(test)]
fn fixtures() -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/torch");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| name != "truth.json").map(|name| format!("torch/{name}")).collect();
    names.extend(["lpips/v0.0-alex.pth", "lpips/v0.1-alex.pth"].map(String::from));
    names.sort();
    names
}

/// Opens bytes and checks what must hold whatever they are.
#[cfg(test)]
fn open(bytes: Vec<u8>) -> Option<(Identity, Container)> {
    let len = bytes.len() as u64;
    let (identity, container) = probe::open(&Source::memory("test", bytes)).ok()?;
    let mut at = 0;
    for range in container.ledger.ranges() {
        assert_eq!(range.start, at);
        assert!(range.end > range.start);
        at = range.end;
    }
    assert_eq!(at, len);
    Some((identity, container))
}

#[cfg(test)]
fn opened(bytes: Vec<u8>) -> (Identity, Container) {
    open(bytes).expect("a format fits")
}

fn rules(container: &Container) -> Vec<&'static str> {
    container.findings.iter().map(|finding| finding.rule.name).collect()
}

#[cfg(test)]
fn crc(bytes: &[u8]) -> u64 {
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    u64::from(sum.sum())
}

#[test]
fn every_tensor_is_what_the_reference_libraries_say() {
    let truth: serde_json::Value = serde_json::from_slice(&data("torch/truth.json")).unwrap();
    let (mut tensors, mut compared) = (0, 0);
    for (file, rows) in truth.as_object().unwrap() {
        let bytes = data(&format!("torch/{file}"));
        let (_, container) = opened(bytes.clone());
        let rows = rows.as_object().unwrap();
        if file != "packed.joblib" {
            let mut names: Vec<&str> = container.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
            let mut wanted: Vec<&str> = rows.keys().map(String::as_str).collect();
            names.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(names, wanted, "{file}");
        }
        for (name, row) in rows {
            let tensor = container.tensors.iter().find(|tensor| tensor.name == *name).unwrap();
            let shape: Vec<u64> = row[1].as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).collect();
            assert_eq!(tensor.shape, shape, "{file} {name}");
            if row[0] != "array" {
                assert_eq!(tensor.dtype.name(), row[0].as_str().unwrap(), "{file} {name}");
            }
            if let Some(sum) = row[2].as_u64() {
                let span = tensor.span.unwrap();
                let place = usize::try_from(span.start).unwrap()..usize::try_from(span.end()).unwrap();
                assert_eq!(crc(&bytes[place]), sum, "{file} {name}");
                compared += 1;
            }
            tensors += 1;
        }
        assert_eq!(container.ledger.total(Kind::Unexplained), 0, "{file}");
        assert!(!rules(&container).iter().any(|rule| rule.starts_with("zip-")), "{file}");
    }
    assert_eq!((tensors, compared), (202, 155));
}

#[test]
fn formats_are_known_by_content() {
    for file in fixtures() {
        let (identity, _) = opened(data(&file));
        let wanted = match file.trim_start_matches("torch/") {
            name if name.contains("script") => "torchscript",
            name if name.contains("legacy") || name.starts_with("lpips") => "pytorch-legacy",
            name if name.ends_with(".pt") => "pytorch-zip",
            "old.tar" => "pytorch-tar",
            name => match name.rsplit('.').next().unwrap() {
                "pkl" => "pickle",
                extension => extension,
            },
        };
        assert_eq!(identity.format.id, wanted, "{file}");
    }
}

#[test]
fn a_checkpoint_keeps_model_and_training_apart() {
    let (_, container) = opened(data("torch/checkpoint.pt"));
    let names: Vec<&str> = container.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert!(names.contains(&"0.weight"));
    assert!(names.contains(&"ema.0.weight"));
    assert!(names.contains(&"optimizer.state.0.exp_avg"));
    assert_eq!(container.metadata.unsigned("epoch"), Some(7));
    assert_eq!(container.metadata.text("name"), Some("run"));
    assert_eq!(container.metadata.get("optimizer.param_groups.0.lr").and_then(|value| value.as_f64()), Some(0.01));
    assert_eq!(container.metadata.get("args.hidden").unwrap().as_array().unwrap().len, 2);
}

#[test]
fn tied_and_view_tensors_share_one_range() {
    for file in ["torch/tied.pt", "torch/tied-legacy.pt"] {
        let (_, container) = opened(data(file));
        let view = |name: &str| {
            let tensor = container.tensors.iter().find(|tensor| tensor.name == name).unwrap();
            (tensor.storage.unwrap(), tensor.span.unwrap())
        };
        let (embed, head, row) = (view("embed.weight"), view("head.weight"), view("row"));
        assert_eq!(embed, head);
        assert_eq!((row.0.storage, row.0.offset, row.0.extent), (embed.0.storage, 12, 6));
        assert_eq!(row.1.start, embed.1.start + 48);
        assert_eq!(view("column").0.extent, 19);
        assert_eq!(view("expanded").0.extent, 1);
        let ranges = container.ledger.ranges().iter().filter(|range| range.kind == Kind::Tensor).count();
        assert_eq!(ranges, 3);
    }
}

#[test]
fn truncated_at_every_byte_keeps_its_format_and_says_so() {
    for file in fixtures() {
        let bytes = data(&file);
        let (whole, _) = opened(bytes.clone());
        // From which byte on the format can be known: the magic, or the first member's name.
        let known = match whole.format.id {
            "pytorch-zip" => 64,
            // The name of the first storage, or the pickle's first import.
            "torchscript" => 160,
            "pytorch-legacy" => 32,
            "npz" => 40,
            "pytorch-tar" => 2560,
            "nemo" => 2048,
            "joblib" => 200,
            "pickle" => 64,
            _ => 16,
        };
        let step = bytes.len() / 1500 + 1;
        for len in (0..bytes.len()).step_by(step) {
            let Some((identity, container)) = open(bytes[..len].to_vec()) else { continue };
            if len < known || file.contains("packed") {
                continue;
            }
            let id = identity.format.id;
            let gone = matches!(whole.format.id, "pytorch-tar" | "nemo") && id == "tar";
            let mostly = whole.format.id == "npz" && id == "zip";
            assert!(id == whole.format.id || gone || mostly, "{file} cut at {len} is {id}: {}", identity.evidence);
            let zeros = bytes[len..].iter().all(|byte| *byte == 0);
            let said = container.findings.iter().any(|finding| finding.severity() == Severity::Error);
            assert!(said || zeros || gone, "{file} cut at {len}: nothing is said");
        }
    }
}

#[test]
fn a_cut_zip_is_still_known_by_its_first_member() {
    let bytes = data("torch/checkpoint.pt");
    for len in [50, 500, bytes.len() / 2, bytes.len() - 1] {
        let (identity, container) = opened(bytes[..len].to_vec());
        assert_eq!(identity.format.id, "pytorch-zip");
        assert!(identity.evidence.contains("cut"), "{}", identity.evidence);
        assert!(rules(&container).contains(&"zip-truncated"));
    }
    // With the pickle whole, all tensors are listed, and those that are there have their place.
    let (_, container) = opened(bytes[..bytes.len() / 2].to_vec());
    assert_eq!(container.tensors.len(), 26);
    assert!(container.tensors.iter().any(|tensor| tensor.span.is_some()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 200 } else { 2000 }))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), start in 0..6usize) {
        let prefixes: [&[u8]; 6] = [b"", b"\x80\x02", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"(dp0\n", b"\x80\x04\x95"];
        open([prefixes[start], &bytes].concat());
    }

    #[test]
    fn mutated_files_never_panic(
        file in 0..64usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let names = fixtures();
        let mut bytes = data(&names[file % names.len()]);
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        open(bytes);
    }
}

// Pickles.

#[cfg(test)]
fn trace(bytes: &[u8]) -> pickle::Trace {
    pickle::run(&Source::memory("test", bytes.to_vec()), 0).unwrap()
}

fn paths(trace: &pickle::Trace) -> Vec<String> {
    trace.globals.iter().map(|global| trace.path(global)).collect()
}

#[test]
fn every_way_to_import_and_call_is_kept() {
    use CallKind::*;
    let cases: [(&[u8], &[&str], &[CallKind]); 13] = [
        (b"cos\nsystem\n(S'x'\ntR.", &["os.system"], &[Reduce]),
        (b"(S'x'\nios\nsystem\n.", &["os.system"], &[Inst]),
        (b"(cos\nsystem\nS'x'\no.", &["os.system"], &[Obj]),
        (b"\x80\x02ca\nB\n)\x81.", &["a.B"], &[NewObj]),
        (b"\x80\x04ca\nB\n)}\x92.", &["a.B"], &[NewObjEx]),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.", &["os.system"], &[Reduce]),
        (b"ca\nB\n)R}b.", &["a.B"], &[Reduce, Build]),
        (b"\x80\x02\x82\x07)R.", &["copyreg extension 7"], &[Reduce]),
        (b"\x80\x02\x83\x07\x01)R.", &["copyreg extension 263"], &[Reduce]),
        (b"\x80\x02\x84\x07\x00\x01\x00)R.", &["copyreg extension 65543"], &[Reduce]),
        (b"csys\nmodules\nS'os'\nNs.", &["sys.modules"], &[SetItem]),
        (b"ca\nB\n(Ne.", &["a.B"], &[Append]),
        (b"ca\nB\n(N\x90.", &["a.B"], &[Add]),
    ];
    for (bytes, globals, calls) in cases {
        let trace = trace(bytes);
        assert_eq!(trace.fault, None, "{bytes:?}");
        assert_eq!(paths(&trace), globals, "{bytes:?}");
        assert_eq!(trace.calls.iter().map(|call| call.kind).collect::<Vec<_>>(), calls, "{bytes:?}");
    }
}

#[test]
fn names_that_are_computed_are_kept_as_unknown() {
    // STACK_GLOBAL whose module comes out of a call.
    let trace = trace(b"\x80\x04\x8c\x01a\x8c\x01b\x93)R\x8c\x06system\x93\x8c\x01x\x85R.");
    assert_eq!(paths(&trace), ["a.b", "?.system"]);
    assert_eq!(trace.globals[1].via, Via::Stack);
    assert_eq!(trace.calls.len(), 2);
}

#[test]
fn what_ran_before_a_break_is_kept() {
    for (bytes, offset) in [
        (&b"cos\nsystem\n(S'x'\ntR\xff."[..], 19),
        (b"cos\nsystem\n(S'x'\ntRR.", 19),
        (b"cos\nsystem\n(S'x'\ntRg9\n.", 19),
        (b"cos\nsystem\n(S'x'\ntRt.", 19),
        (b"cos\nsystem\n(S'x'\ntRX\xff\xff", 19),
    ] {
        let trace = trace(bytes);
        assert_eq!(trace.fault.as_ref().map(|fault| fault.offset), Some(offset));
        assert_eq!(paths(&trace), ["os.system"]);
        assert_eq!(trace.calls.len(), 1);
        let (identity, _) = opened(bytes.to_vec());
        assert_eq!(identity.format.id, "pickle");
    }
}

#[test]
fn marks_fence_the_stack_as_in_cpython() {
    // An opcode may not take what lies below the last mark; POP takes an empty mark off.
    assert!(trace(b"N(R.").fault.is_some());
    assert!(trace(b"N(.").fault.is_some());
    assert_eq!(trace(b"N(0.").fault, None);
    assert_eq!(trace(b"N(NN1.").fault, None);
    assert!(trace(b"(2.").fault.is_some());
}

#[test]
fn values_are_read_as_python_has_them() {
    let trace = trace(&data("torch/plain-p0.pkl"));
    let list = trace.lookup(trace.root.unwrap(), "n").unwrap();
    let values: Vec<Value> = trace.contents(list).iter().map(|id| trace.value(*id)).collect();
    assert_eq!(values[..2], [Value::Int(1), Value::Float(2.5)]);
    assert_eq!(trace.text(trace.contents(list)[2]), Some("x"));
    assert_eq!(values[3..5], [Value::None, Value::Bool(true)]);
    assert!(matches!(values[5], Value::BigInt(_)));
    assert_eq!(values[6], Value::Int(-5));
}

#[test]
fn text_and_other_bytes_are_no_pickles() {
    let texts: [&[u8]; 12] = [
        b"N.",
        b"I am.\n",
        b"(c) 2024 the authors. All rights reserved.\n",
        b"config\nmodel\nlayers: 3\n",
        b"import os\nos.system('x')\n",
        b"Keras is a library.\n",
        b"{\"a\": 1}",
        b"NNN. and so on\n",
        b"}{}{}{",
        b"cat dog\nbird fish\nthe rest of it\n",
        b"\x80\x81\x82\x83",
        b"]]]]]",
    ];
    for text in texts {
        let format = open(text.to_vec()).map(|(identity, _)| identity.format.id);
        assert_ne!(format, Some("pickle"), "{:?}", String::from_utf8_lossy(text));
    }
}

#[test]
fn a_million_memo_entries_deep_nesting_and_huge_indexes_are_fine() {
    let mut memo = b"\x80\x04N".to_vec();
    memo.extend([0x94].repeat(1_000_000));
    memo.extend(b"j\x3f\x42\x0f\x00.");
    let deep = [b"\x80\x02".to_vec(), b"]".repeat(500_000), b"a".repeat(499_999), b".".to_vec()].concat();
    let marks = [b"\x80\x02".to_vec(), b"(".repeat(500_000), b"t".repeat(500_000), b".".to_vec()].concat();
    for bytes in [memo, deep, marks, b"\x80\x02Nr\xff\xff\xff\xffj\xff\xff\xff\xff.".to_vec()] {
        let fault = trace(&bytes).fault;
        assert_eq!(fault, None);
        open(bytes);
    }
}

#[test]
fn lengths_beyond_the_file_allocate_nothing() {
    for bytes in [
        &b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff"[..],
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x80\x02X\xff\xff\xff\xff",
        b"\x80\x02\x8b\xff\xff\xff\x7f",
        b"\x80\x02T\xff\xff\xff\xff",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xffN.",
    ] {
        let trace = trace(bytes);
        assert!(trace.fault.is_some() || !trace.oddities.is_empty());
    }
}

#[test]
fn shared_and_cyclic_objects_are_walked_in_bounded_time() {
    // A list of two references to a list of two references to … 60 deep: 2^60 paths.
    let mut bytes = b"\x80\x04]\x94".to_vec();
    for level in 0..60u8 {
        bytes.extend([b'0', b']', b'(', b'h', level, b'h', level, b'e', 0x94]);
    }
    bytes.push(b'.');
    let shared = trace(&bytes);
    assert_eq!(shared.fault, None);
    assert!(!pickle::walk(&shared, shared.root.unwrap(), |_, _| Visit::Into));
    // A dictionary that holds itself.
    let cycle = trace(b"\x80\x04}\x94\x8c\x01ah\x00s.");
    assert_eq!(cycle.fault, None);
    assert!(pickle::walk(&cycle, cycle.root.unwrap(), |_, _| Visit::Into));
}

// Zip.

/// A zip archive of stored members, made by hand so that it can lie.
#[derive(Default)]
struct Zip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    count: u16,
}

#[cfg(test)]
impl Zip {
    fn add(mut self, name: &str, data: &[u8]) -> Self {
        let offset = u32::try_from(self.bytes.len()).unwrap();
        self.bytes.extend(header(b"PK\x03\x04\x14\0", name, data));
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(data);
        self.entry(name, data, offset)
    }

    fn entry(mut self, name: &str, data: &[u8], offset: u32) -> Self {
        self.directory.extend(header(b"PK\x01\x02\x14\0\x14\0", name, data));
        self.directory.extend([0; 10]);
        self.directory.extend(offset.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.count += 1;
        self
    }

    fn finish(self) -> Vec<u8> {
        let start = u32::try_from(self.bytes.len()).unwrap().to_le_bytes();
        let size = u32::try_from(self.directory.len()).unwrap().to_le_bytes();
        let count = self.count.to_le_bytes();
        [&self.bytes[..], &self.directory, b"PK\x05\x06\0\0\0\0", &count, &count, &size, &start, b"\0\0"].concat()
    }
}

#[cfg(test)]
fn header(start: &[u8], name: &str, data: &[u8]) -> Vec<u8> {
    let sum = u32::try_from(crc(data)).unwrap().to_le_bytes();
    let size = u32::try_from(data.len()).unwrap().to_le_bytes();
    let name = u16::try_from(name.len()).unwrap().to_le_bytes();
    [start, b"\0\0\0\0\0\0\0\0", &sum, &size, &size, &name, b"\0\0"].concat()
}

#[test]
fn a_plain_archive_has_no_findings() {
    let (identity, container) = opened(Zip::default().add("a/x.txt", b"text").add("b", b"").finish());
    assert_eq!(identity.format.id, "zip");
    assert_eq!(rules(&container), [] as [&str; 0]);
    assert_eq!(container.ledger.total(Kind::Unexplained), 0);
}

#[test]
fn overlapping_members() {
    let zip = Zip::default().add("a", b"0123456789").entry("b", b"0123456789", 0).finish();
    let (_, container) = opened(zip);
    assert!(rules(&container).contains(&"zip-overlap"));
    assert!(rules(&container).contains(&"zip-headers-differ"));
}

#[test]
fn members_that_lie_about_their_size() {
    let mut bytes = Zip::default().add("a", b"0123456789").finish();
    // The local header says more than the directory.
    bytes[22] = 200;
    assert!(rules(&opened(bytes).1).contains(&"zip-headers-differ"));
    let mut zip = Zip::default().add("a", b"0123456789");
    zip.directory[20..24].copy_from_slice(&u32::MAX.wrapping_sub(1).to_le_bytes());
    assert!(rules(&opened(zip.finish()).1).contains(&"zip-member-outside"));
}

#[test]
fn duplicate_and_escaping_names() {
    let zip = Zip::default().add("a/data.pkl", b"N.").add("a/DATA.pkl", b"N.").add("../x", b"").add("/etc/x", b"");
    let (_, container) = opened(zip.finish());
    assert!(rules(&container).contains(&"zip-duplicate-member"));
    assert_eq!(rules(&container).iter().filter(|rule| **rule == "zip-unsafe-name").count(), 2);
}

#[test]
fn bytes_before_between_and_after() {
    let zip = Zip::default().add("a", b"x").finish();
    let (_, container) = opened([b"#!/bin/sh\nexit\n", &zip[..]].concat());
    assert!(rules(&container).contains(&"zip-prefix"));
    let (_, container) = opened([&zip[..], b"tail"].concat());
    assert!(rules(&container).contains(&"zip-suffix"));
    let mut zip = Zip::default().add("a", b"x");
    zip.bytes.extend(b"hidden");
    let (_, container) = opened(zip.finish());
    assert!(rules(&container).contains(&"zip-gap"));
    assert_eq!(container.ledger.total(Kind::Unexplained), 6);
}

#[test]
fn a_bomb_is_not_unpacked() {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..200 {
        encoder.write_all(&vec![b'N'; 1 << 20]).unwrap();
    }
    let packed = encoder.finish().unwrap();
    let mut zip = Zip::default().add("a/data.pkl", &packed);
    // Method deflate, and a small declared size, in both headers.
    (zip.bytes[8], zip.directory[10]) = (8, 8);
    zip.bytes[22..26].copy_from_slice(&5u32.to_le_bytes());
    zip.directory[24..28].copy_from_slice(&5u32.to_le_bytes());
    let (identity, container) = opened(zip.finish());
    assert_eq!(identity.format.id, "pytorch-zip");
    assert!(rules(&container).contains(&"torch-pickle-broken"));
}

#[test]
fn an_archive_of_many_members_is_listed_once() {
    let mut archive = Zip::default().add("m/data.pkl", b"\x80\x02}.");
    for index in 0..60_000 {
        archive = archive.add(&format!("m/data/{index}"), b"");
    }
    let bytes = archive.finish();
    let source = Source::memory("test", bytes.clone());
    assert_eq!(zip::read(&source).unwrap().members.len(), 60_001);
    let (identity, _) = opened(bytes);
    assert_eq!(identity.format.id, "pytorch-zip");
}

// Checkpoints made by hand.

/// A pickle of one tensor `x` of floats over a storage of `elements`.
#[cfg(test)]
fn tensor_pickle(elements: u32, offset: u32, shape: &[u8], stride: &[u8]) -> Vec<u8> {
    let tuple =
        |numbers: &[u8]| [&b"("[..], &numbers.iter().flat_map(|n| [b'K', *n]).collect::<Vec<_>>(), b"t"].concat();
    [
        &b"\x80\x02}U\x01xctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuJ"[..],
        &elements.to_le_bytes(),
        b"tQJ",
        &offset.to_le_bytes(),
        &tuple(shape),
        &tuple(stride),
        b"\x89ccollections\nOrderedDict\n)RtRs.",
    ]
    .concat()
}

#[cfg(test)]
fn checkpoint(pickle: &[u8], storage: &[u8]) -> Container {
    opened(Zip::default().add("m/data.pkl", pickle).add("m/data/0", storage).add("m/version", b"3\n").finish()).1
}

#[test]
fn views_that_leave_their_storage() {
    assert_eq!(rules(&checkpoint(&tensor_pickle(4, 0, &[2, 2], &[2, 1]), &[0; 16])), [] as [&str; 0]);
    let outside = [
        tensor_pickle(4, 1, &[2, 2], &[2, 1]),
        tensor_pickle(4, 0, &[2, 2], &[9, 1]),
        tensor_pickle(4, u32::MAX >> 1, &[1], &[1]),
        tensor_pickle(4, 0, &[255; 64], &[255; 64]),
    ];
    for pickle in outside {
        let container = checkpoint(&pickle, &[0; 16]);
        let found = rules(&container);
        assert!(found.contains(&"torch-view-outside-storage") || found.contains(&"torch-tensor-invalid"), "{found:?}");
    }
}

#[test]
fn storages_of_the_wrong_size_missing_and_unused() {
    let pickle = tensor_pickle(4, 0, &[4], &[1]);
    assert!(rules(&checkpoint(&pickle, &[0; 8])).contains(&"torch-storage-size"));
    let missing = Zip::default().add("m/data.pkl", &pickle).finish();
    assert!(rules(&opened(missing).1).contains(&"torch-storage-missing"));
    let unused = Zip::default().add("m/data.pkl", &pickle).add("m/data/0", &[0; 16]).add("m/data/1", b"payload");
    let container = opened(unused.finish()).1;
    assert!(rules(&container).contains(&"torch-storage-unused"));
    assert_eq!(container.ledger.total(Kind::Unexplained), 7);
}

#[test]
fn a_pickle_that_is_cut_lists_its_first_tensors() {
    let bytes = data("torch/legacy-p2.pt");
    let (whole, _) = opened(bytes.clone());
    let (cut, container) = opened(bytes[..1000].to_vec());
    assert_eq!(cut.format, whole.format);
    assert!(cut.evidence.contains("cut"), "{}", cut.evidence);
    assert!(container.tensors.len() > 2);
    assert!(rules(&container).contains(&"torch-pickle-broken"));
}
