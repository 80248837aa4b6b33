//! Attacks by name: each must end in findings with the right rule and byte offset, never in a panic, and memory must
//! follow the bytes that are there, not the numbers that they declare.

mod common;
#[path = "common/memory.rs"]
mod memory;

use anatomy::container::Container;
use anatomy::dtype::DType;
use anatomy::ledger::Kind;
use anatomy::source::Source;
use anatomy::{ErrorKind, probe};
use common::{Gguf, entry, findings, open, safetensors, safetensors_raw, small_gguf, small_gguf_file};
use common::{format, small_safetensors};

/// Reads the bytes and asserts exactly these findings, in their order.
#[track_caller]
fn expect(id: &str, bytes: &[u8], wanted: &[(&str, u64)]) -> Container {
    let (container, peak) = memory::peak(|| open(id, bytes));
    let wanted: Vec<_> = wanted.iter().map(|(rule, offset)| (*rule, Some(*offset))).collect();
    assert_eq!(findings(&container), wanted, "{:#?}", container.findings);
    // The reader's own buffers, and a small multiple of the header.
    let bound = (1 << 20) + 64 * bytes.len() as u64;
    assert!(peak <= bound, "{peak} bytes were allocated for a file of {}", bytes.len());
    container
}

/// The rules that fire, each once.
fn fired(container: &Container) -> Vec<&'static str> {
    let mut rules: Vec<_> = container.findings.iter().map(|finding| finding.rule.name).collect();
    rules.dedup();
    rules
}

/// Where `text` first stands; the end where it does not, which no test expects.
fn at(bytes: &[u8], text: &str) -> u64 {
    let text = text.as_bytes();
    bytes.windows(text.len()).position(|window| window == text).unwrap_or(bytes.len()) as u64
}

mod safetensors_attacks {
    use super::*;

    const ID: &str = "safetensors";

    /// Where the value of a key with this name stands.
    fn value_at(bytes: &[u8], name: &str) -> u64 {
        let key = format!("\"{name}\":");
        at(bytes, &key) + key.len() as u64
    }

    #[test]
    fn a_valid_file_has_no_findings() {
        let container = expect(ID, &small_safetensors(), &[]);
        assert_eq!(container.tensors.len(), 4);
        assert_eq!(container.ledger.total(Kind::Unexplained), 0);
    }

    #[test]
    fn fewer_than_eight_bytes_are_an_error_with_an_offset() {
        for len in 0..8 {
            let source = Source::memory("test", vec![0; len]);
            let error = (format(ID).open)(&source).unwrap_err();
            assert_eq!((error.kind(), error.offset()), (ErrorKind::Malformed, Some(0)));
        }
    }

    #[test]
    fn header_length_0() {
        expect(ID, &safetensors_raw(0, b"", 0), &[("safetensors-header-broken", 8)]);
    }

    #[test]
    fn header_length_beyond_the_file() {
        let bytes = safetensors_raw(500, br#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#, 0);
        let len = bytes.len() as u64;
        // The tensor whose entry is whole is listed; it lies where the declared length puts it.
        let wanted = [("safetensors-header-cut", len), ("safetensors-truncated", len)];
        assert_eq!(expect(ID, &bytes, &wanted).tensors[0].span.unwrap().start, 508);
    }

    #[test]
    fn header_length_2_to_the_63() {
        let bytes = safetensors_raw(1 << 63, br#"{"a":{}}"#, 0);
        let len = bytes.len() as u64;
        let container = expect(
            ID,
            &bytes,
            &[("safetensors-header-too-long", 0), ("safetensors-header-cut", len), ("safetensors-tensor-invalid", 13)],
        );
        assert!(container.tensors.is_empty());
    }

    #[test]
    fn header_length_of_all_ones() {
        let bytes = safetensors_raw(u64::MAX, b"{", 0);
        expect(ID, &bytes, &[("safetensors-header-too-long", 0), ("safetensors-header-cut", 9)]);
    }

    #[test]
    fn header_length_one_beyond_100_mb() {
        // The file really has that many bytes, so only the limit refuses it.
        let file = tempfile::NamedTempFile::new().unwrap();
        let header = br#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
        std::fs::write(file.path(), safetensors_raw(100_000_001, header, 0)).unwrap();
        file.as_file().set_len(100_000_009).unwrap();
        let source = Source::open(file.path()).unwrap();
        let (container, peak) = memory::peak(|| (format(ID).open)(&source).unwrap());
        common::invariants::promises(&container, 100_000_009);
        assert_eq!(findings(&container)[0], ("safetensors-header-too-long", Some(0)));
        assert!(peak < 128 << 20, "{peak}");
    }

    #[test]
    fn header_that_is_no_object() {
        for header in ["[]", "null", "7", "\"text\"", "        "] {
            let container = open(ID, &safetensors(header, 0));
            assert_eq!(fired(&container), ["safetensors-header-broken"], "{header}");
        }
    }

    #[test]
    fn header_with_bytes_behind_its_json() {
        let header = format!("{{{}}} PK secret", entry("a", "U8", "[1]", 0, 1));
        let bytes = safetensors(&header, 1);
        let container = expect(ID, &bytes, &[("safetensors-header-broken", at(&bytes, "PK"))]);
        assert_eq!(container.tensors.len(), 1);
        // What hides behind the fault is shown.
        assert!(container.ledger.total(Kind::Unexplained) >= "PK secret".len() as u64);
    }

    #[test]
    fn header_padded_with_zeros_instead_of_blanks() {
        let header = format!("{{{}}}\0\0\0", entry("a", "U8", "[1]", 0, 1));
        let bytes = safetensors(&header, 1);
        expect(ID, &bytes, &[("safetensors-header-broken", at(&bytes, "}\0") + 1)]);
    }

    #[test]
    fn header_with_blanks_before_the_brace() {
        let header = format!("  {{{}}}", entry("a", "U8", "[1]", 0, 1));
        expect(ID, &safetensors(&header, 1), &[("safetensors-header-odd", 8)]);
    }

    #[test]
    fn header_that_is_not_utf8() {
        let mut header = format!("{{{},\"b", entry("a", "U8", "[1]", 0, 1)).into_bytes();
        let fault = 8 + header.len() as u64;
        header.extend(b"\xff\xfe\":1}");
        let bytes = safetensors_raw(header.len() as u64, &header, 0);
        let container = open(ID, &bytes);
        assert_eq!(findings(&container)[0], ("safetensors-header-broken", Some(fault)));
        assert_eq!(container.tensors.len(), 1);
    }

    #[test]
    fn a_number_that_is_none() {
        let bytes = safetensors(r#"{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}"#, 1);
        assert_eq!(findings(&open(ID, &bytes))[0], ("safetensors-header-broken", Some(at(&bytes, "NaN"))));
    }

    #[test]
    fn unaligned_data() {
        let header = format!("{{{}}}", entry("a", "U8", "[1]", 0, 1));
        let bytes = safetensors_raw(header.len() as u64, header.as_bytes(), 1);
        expect(ID, &bytes, &[("safetensors-unaligned-data", bytes.len() as u64 - 1)]);
    }

    #[test]
    fn overflowing_shapes() {
        for shape in ["[4294967296,4294967296]", "[18446744073709551615,2]", "[9223372036854775807,2]"] {
            let bytes = safetensors(&format!("{{{}}}", entry("a", "F32", shape, 0, 4)), 4);
            expect(ID, &bytes, &[("safetensors-size-mismatch", value_at(&bytes, "a"))]);
        }
    }

    #[test]
    fn a_zero_among_overflowing_dimensions_is_no_overflow() {
        let bytes = safetensors(&format!("{{{}}}", entry("a", "F32", "[18446744073709551615,2,0]", 0, 0)), 0);
        expect(ID, &bytes, &[]);
    }

    #[test]
    fn shape_and_span_disagree() {
        let bytes = safetensors(&format!("{{{}}}", entry("a", "F32", "[2]", 0, 4)), 4);
        expect(ID, &bytes, &[("safetensors-size-mismatch", value_at(&bytes, "a"))]);
    }

    #[test]
    fn a_sub_byte_type_that_ends_within_a_byte() {
        let bytes = safetensors(&format!("{{{}}}", entry("a", "F4", "[3]", 0, 2)), 2);
        expect(ID, &bytes, &[("safetensors-size-mismatch", value_at(&bytes, "a"))]);
        let bytes = safetensors(&format!("{{{}}}", entry("a", "F4", "[4]", 0, 2)), 2);
        expect(ID, &bytes, &[]);
    }

    #[test]
    fn a_shape_of_ten_thousand_dimensions() {
        let shape = format!("[{}1]", "1,".repeat(9_999));
        let bytes = safetensors(&format!("{{{}}}", entry("a", "U8", &shape, 0, 1)), 1);
        expect(ID, &bytes, &[("safetensors-shape-odd", value_at(&bytes, "a"))]);
    }

    #[test]
    fn numbers_that_are_negative_fractions_or_beyond_64_bits() {
        for (shape, offsets) in [
            ("[-1]", "[0,1]"),
            ("[1.0]", "[0,1]"),
            ("[1e0]", "[0,1]"),
            ("[18446744073709551616]", "[0,1]"),
            ("[\"1\"]", "[0,1]"),
            ("1", "[0,1]"),
            ("[1]", "[0]"),
            ("[1]", "[0,1,2]"),
            ("[1]", "[-1,1]"),
            ("[1]", "{}"),
        ] {
            let header = format!(r#"{{"a":{{"dtype":"U8","shape":{shape},"data_offsets":{offsets}}}}}"#);
            let bytes = safetensors(&header, 0);
            expect(ID, &bytes, &[("safetensors-tensor-invalid", value_at(&bytes, "a"))]);
        }
    }

    #[test]
    fn entries_that_lack_a_field() {
        for body in [
            r#"{"shape":[1],"data_offsets":[0,1]}"#,
            r#"{"dtype":"U8","data_offsets":[0,1]}"#,
            r#"{"dtype":"U8","shape":[1]}"#,
            "{}",
            "null",
            "[]",
            "\"U8\"",
        ] {
            let bytes = safetensors(&format!(r#"{{"a":{body}}}"#), 0);
            expect(ID, &bytes, &[("safetensors-tensor-invalid", value_at(&bytes, "a"))]);
        }
    }

    #[test]
    fn an_entry_with_a_field_too_many() {
        let header = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"extra":{"x":[1,"]"]}}}"#;
        let bytes = safetensors(header, 1);
        let container = expect(ID, &bytes, &[("safetensors-header-odd", value_at(&bytes, "a"))]);
        assert_eq!(container.tensors.len(), 1);
    }

    #[test]
    fn unknown_and_lower_case_types() {
        for dtype in ["f32", "FLOAT", "", "BF16 "] {
            let bytes = safetensors(&format!("{{{}}}", entry("a", dtype, "[1]", 0, 4)), 4);
            let container = expect(ID, &bytes, &[("safetensors-dtype-unknown", value_at(&bytes, "a"))]);
            assert_eq!((container.tensors[0].dtype, container.tensors[0].bytes), (DType::UNKNOWN, 4));
        }
    }

    #[test]
    fn a_tensor_that_ends_before_it_begins() {
        let bytes = safetensors(&format!("{{{}}}", entry("a", "U8", "[1]", 1, 0)), 0);
        expect(ID, &bytes, &[("safetensors-tensor-invalid", value_at(&bytes, "a"))]);
    }

    #[test]
    fn overlapping_tensors() {
        let header = format!("{{{},{}}}", entry("a", "U8", "[8]", 0, 8), entry("b", "U8", "[8]", 4, 12));
        let bytes = safetensors(&header, 12);
        expect(ID, &bytes, &[("safetensors-overlap", bytes.len() as u64 - 8)]);
    }

    #[test]
    fn the_same_bytes_twice() {
        let header = format!("{{{},{}}}", entry("a", "U8", "[8]", 0, 8), entry("b", "U8", "[8]", 0, 8));
        let bytes = safetensors(&header, 8);
        expect(ID, &bytes, &[("safetensors-overlap", bytes.len() as u64 - 8)]);
    }

    #[test]
    fn an_empty_tensor_within_another() {
        let header = format!("{{{},{}}}", entry("a", "U8", "[8]", 0, 8), entry("b", "U8", "[0]", 4, 4));
        let bytes = safetensors(&header, 8);
        expect(ID, &bytes, &[("safetensors-overlap", bytes.len() as u64 - 4)]);
    }

    #[test]
    fn tensors_listed_in_another_order_than_they_lie() {
        let header = format!("{{{},{}}}", entry("b", "U8", "[4]", 8, 12), entry("a", "U8", "[8]", 0, 8));
        let container = expect(ID, &safetensors(&header, 12), &[]);
        assert_eq!(container.tensors[0].name, "b");
    }

    #[test]
    fn a_hole_before_and_between_tensors() {
        let header = format!("{{{},{}}}", entry("a", "U8", "[4]", 4, 8), entry("b", "U8", "[4]", 16, 20));
        let bytes = safetensors(&header, 20);
        let data = bytes.len() as u64 - 20;
        let container = expect(ID, &bytes, &[("safetensors-hole", data), ("safetensors-hole", data + 8)]);
        assert_eq!(container.ledger.total(Kind::Unexplained), 12);
    }

    #[test]
    fn offsets_out_of_the_file() {
        let bytes = safetensors(&format!("{{{}}}", entry("a", "U8", "[8]", 0, 8)), 7);
        expect(ID, &bytes, &[("safetensors-truncated", bytes.len() as u64)]);
    }

    #[test]
    fn offsets_that_overflow() {
        let huge = u64::MAX;
        let bytes = safetensors(&format!("{{{}}}", entry("a", "U8", "[8]", huge - 8, huge)), 8);
        let len = bytes.len() as u64;
        expect(ID, &bytes, &[("safetensors-hole", len - 8), ("safetensors-truncated", len)]);
    }

    #[test]
    fn trailing_data() {
        let mut bytes = small_safetensors();
        let len = bytes.len() as u64;
        bytes.extend(b"PK\x03\x04payload");
        let container = expect(ID, &bytes, &[("safetensors-trailing-data", len)]);
        assert_eq!(container.ledger.total(Kind::Unexplained), 11);
    }

    #[test]
    fn duplicate_tensor() {
        let header = format!("{{{},{}}}", entry("a", "U8", "[4]", 0, 4), entry("a", "I8", "[4]", 4, 8));
        let bytes = safetensors(&header, 8);
        let second = at(&bytes, r#"{"dtype":"I8""#);
        let container = expect(ID, &bytes, &[("safetensors-tensor-duplicate", second)]);
        assert_eq!(container.findings[0].tensor.as_deref(), Some("a"));
        assert_eq!(container.tensors.len(), 2);
    }

    #[test]
    fn duplicate_tensor_of_which_one_is_written_with_escapes() {
        let header = format!("{{{},{}}}", entry("a", "U8", "[4]", 0, 4), entry("\\u0061", "I8", "[4]", 4, 8));
        let bytes = safetensors(&header, 8);
        expect(ID, &bytes, &[("safetensors-tensor-duplicate", at(&bytes, r#"{"dtype":"I8""#))]);
    }

    #[test]
    fn duplicate_fields_within_an_entry() {
        for twice in [r#""dtype":"I8","#, r#""shape":[1],"#, r#""data_offsets":[0,1],"#] {
            let header = format!(r#"{{"a":{{{twice}"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#);
            let bytes = safetensors(&header, 0);
            expect(ID, &bytes, &[("safetensors-tensor-invalid", value_at(&bytes, "a"))]);
        }
    }

    #[test]
    fn duplicate_metadata_key() {
        let bytes = safetensors(r#"{"__metadata__":{"k":"one","k":"two"}}"#, 0);
        let container = expect(ID, &bytes, &[("safetensors-metadata-duplicate", at(&bytes, "\"two\""))]);
        assert_eq!(container.metadata.text("k"), Some("one"));
    }

    #[test]
    fn duplicate_metadata() {
        let bytes = safetensors(r#"{"__metadata__":{"k":"one"},"__metadata__":{"l":"two"}}"#, 0);
        expect(ID, &bytes, &[("safetensors-metadata-invalid", at(&bytes, r#"{"l""#))]);
    }

    #[test]
    fn metadata_that_is_no_text() {
        let bytes = safetensors(r#"{"__metadata__":{"k":7,"l":"x"}}"#, 0);
        let container = expect(ID, &bytes, &[("safetensors-metadata-invalid", at(&bytes, "7,"))]);
        assert_eq!(container.metadata.text("l"), Some("x"));
        let bytes = safetensors(r#"{"__metadata__":[1]}"#, 0);
        expect(ID, &bytes, &[("safetensors-metadata-invalid", at(&bytes, "[1]"))]);
    }

    #[test]
    fn nesting_of_ten_thousand_levels() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        let bytes = safetensors(&format!(r#"{{"a":{deep}}}"#), 0);
        expect(ID, &bytes, &[("safetensors-tensor-invalid", value_at(&bytes, "a"))]);
        let bytes = safetensors(&format!(r#"{{"__metadata__":{{"a":{deep}}}}}"#), 0);
        expect(ID, &bytes, &[("safetensors-metadata-invalid", value_at(&bytes, "a"))]);
        let fields = r#""dtype":"U8","shape":[1],"data_offsets":[0,1]"#;
        let bytes = safetensors(&format!(r#"{{"a":{{{fields},"deep":{deep}}}}}"#), 0);
        expect(ID, &bytes, &[("safetensors-tensor-invalid", value_at(&bytes, "a"))]);
        // Never closed.
        let bytes = safetensors(&format!(r#"{{"a":{}"#, "[{\"a\":".repeat(10_000)), 0);
        assert_eq!(fired(&open(ID, &bytes)), ["safetensors-header-broken"]);
    }

    #[test]
    fn endless_string() {
        let bytes = safetensors(&format!(r#"{{"{}"#, "a".repeat(1 << 20)), 0);
        expect(ID, &bytes, &[("safetensors-header-broken", bytes.len() as u64 - 1)]);
    }

    #[test]
    fn names_that_are_empty_endless_or_paths_or_hold_control_characters() {
        let long = "a".repeat(1 << 20);
        for name in ["", "a\\u001b[31mred", "a\\nb", "../../etc/passwd", "/etc/passwd", "..\\\\x", &long] {
            let bytes = safetensors(&format!("{{{}}}", entry(name, "U8", "[1]", 0, 1)), 1);
            let container = expect(ID, &bytes, &[("safetensors-name-odd", at(&bytes, r#"{"dtype""#))]);
            let message = &container.findings[0].message;
            assert!(!message.contains('\u{1b}') && message.len() < 300, "{message}");
        }
    }

    #[test]
    fn a_thousand_faults_are_summed_up() {
        let entries: Vec<String> = (0..1000).map(|i| entry(&format!("t{i}"), "X", "[1]", i, i + 1)).collect();
        let container = open(ID, &safetensors(&format!("{{{}}}", entries.join(",")), 1000));
        assert_eq!(container.findings.len(), 21);
        assert!(container.findings[20].message.contains("980 more"));
    }

    #[test]
    fn memory_is_a_small_multiple_of_the_header() {
        // The densest header: the shortest entries that are valid.
        let entries: Vec<String> = (0..50_000).map(|i| entry(&i.to_string(), "U8", "[]", i, i + 1)).collect();
        let bytes = safetensors(&format!("{{{}}}", entries.join(",")), 50_000);
        let source = Source::memory("test", bytes.clone());
        let (_, peak) = memory::peak(|| (format(ID).open)(&source).unwrap());
        assert!(peak < 16 * bytes.len() as u64, "{peak} of {}", bytes.len());
    }

    #[test]
    fn truncated_at_every_byte() {
        let whole = small_safetensors();
        for len in 8..whole.len() {
            let container = open(ID, &whole[..len]);
            let rules = fired(&container);
            assert!(container.findings.iter().any(|finding| finding.rule.means_cut()), "{len}: {rules:?}");
            let cut = container.findings.iter().find(|finding| finding.rule.means_cut()).unwrap();
            assert_eq!(cut.offset, Some(len as u64));
            // Nothing is blamed on the file but that it is cut.
            assert!(container.findings.iter().all(|finding| finding.rule.means_cut()), "{len}: {rules:?}");
        }
    }

    #[test]
    fn a_cut_file_keeps_its_format() {
        let whole = small_safetensors();
        for len in 9..whole.len() {
            let identity = probe::identify_with_cut(&Source::memory("test", whole[..len].to_vec())).unwrap();
            assert_eq!(identity.format.id, ID);
            assert!(identity.evidence.contains("cut"), "{len}: {}", identity.evidence);
        }
    }
}

mod gguf_attacks {
    use super::*;

    const ID: &str = "gguf";

    /// A file with one F32 tensor of eight numbers, to which a test adds its fault.
    fn with_tensor() -> Gguf {
        Gguf::new().tensor("a", &[8], 0, 0)
    }

    #[test]
    fn a_valid_file_has_no_findings() {
        let container = expect(ID, &small_gguf_file(), &[]);
        assert_eq!(container.tensors.len(), 3);
        assert_eq!(container.ledger.total(Kind::Unexplained), 0);
        assert_eq!(container.metadata.entries().len(), 14);
    }

    #[test]
    fn big_endian_reads_the_same() {
        let mut file = Gguf::new();
        file.big_endian = true;
        let file = file.text("general.architecture", b"llama").number("x", 7).tensor("a", &[8, 2], 0, 0);
        let container = expect(ID, &file.file(64), &[]);
        assert_eq!(container.metadata.unsigned("x"), Some(7));
        assert_eq!(container.tensors[0].shape, [2, 8]);
    }

    #[test]
    fn version_1_reads_with_its_short_lengths() {
        let mut file = Gguf::new();
        file.version = 1;
        let file = file.text("general.architecture", b"llama").tensor("a", &[8, 2], 0, 0);
        let container = expect(ID, &file.file(64), &[("gguf-version-old", 4)]);
        assert_eq!(container.tensors[0].shape, [2, 8]);
    }

    #[test]
    fn versions_that_do_not_exist() {
        for version in [0, 4, 0xffff] {
            let mut file = with_tensor();
            file.version = version;
            let container = expect(ID, &file.file(32), &[("gguf-version-unknown", 4)]);
            assert!(container.tensors.is_empty());
        }
    }

    #[test]
    fn nothing_but_the_magic() {
        expect(ID, b"GGUF", &[("gguf-truncated", 4)]);
    }

    #[test]
    fn counts_of_2_to_the_63() {
        for count in [1 << 63, u64::MAX, 1 << 40] {
            let mut file = small_gguf();
            file.declared_tensors = Some(count);
            let bytes = file.file(192);
            let (container, peak) = memory::peak(|| open(ID, &bytes));
            assert_eq!(findings(&container)[0], ("gguf-count-impossible", Some(8)));
            assert!(peak < 2 << 20, "{peak}");
            // What is really there is still listed.
            assert_eq!(container.tensors[2].name, "output_norm.weight");

            let mut file = small_gguf();
            file.declared_entries = Some(count);
            let bytes = file.file(192);
            let (container, peak) = memory::peak(|| open(ID, &bytes));
            assert_eq!(findings(&container)[0], ("gguf-count-impossible", Some(16)));
            assert!(peak < 2 << 20, "{peak}");
            assert_eq!(container.metadata.unsigned("x.u8"), Some(7));
        }
    }

    #[test]
    fn a_sparse_file_of_zeros_that_declares_a_billion_entries() {
        // Each zero entry is whole: an empty key, type u8, value 0. Only a limit stops them.
        for (tensors, entries) in [(0u64, 1u64 << 30), (1 << 30, 0)] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let head = [&b"GGUF\x03\0\0\0"[..], &tensors.to_le_bytes(), &entries.to_le_bytes()].concat();
            std::fs::write(file.path(), head).unwrap();
            file.as_file().set_len(64 << 30).unwrap();
            let source = Source::open(file.path()).unwrap();
            let (container, peak) = memory::peak(|| (format(ID).open)(&source).unwrap());
            common::invariants::promises(&container, 64 << 30);
            assert!(fired(&container).contains(&"gguf-header-broken"));
            assert!(peak < 512 << 20, "{peak}");
        }
    }

    #[test]
    fn endless_strings() {
        for len in [1 << 63, u64::MAX, 1 << 40, 100_000] {
            let payload = [&u64::to_le_bytes(len)[..], b"short"].concat();
            let file = Gguf::new().entry("x", (8, payload.clone()));
            let bytes = file.file(0);
            // The place of the length's end, where that many bytes should follow.
            let place = file.header().len() as u64 - 5;
            expect(ID, &bytes, &[("gguf-truncated", place)]);

            let tensor_name = [&file.header()[..], &payload].concat();
            assert!(open(ID, &tensor_name).tensors.is_empty());
        }
    }

    #[test]
    fn a_long_string_is_placed_and_not_held() {
        let text = vec![b'a'; 3 << 20];
        let bytes = Gguf::new().text("x", &text).file(0);
        let source = Source::memory("test", bytes);
        let (container, peak) = memory::peak(|| (format(ID).open)(&source).unwrap());
        assert!(container.findings.is_empty());
        assert!(peak < 1 << 20, "{peak}");
    }

    #[test]
    fn a_key_of_a_megabyte() {
        let file = Gguf::new().entry(vec![b'k'; 2 << 20], (0, vec![1]));
        expect(ID, &file.file(0), &[("gguf-header-broken", 24)]);
    }

    #[test]
    fn keys_that_are_empty_long_or_hold_control_characters() {
        for key in [&b""[..], b"a\x1b[31m", b"a\0b", &[b'k'; 65_536]] {
            let file = Gguf::new().entry(key, (0, vec![1]));
            let rule = if key.is_empty() { "gguf-key-empty" } else { "gguf-key-odd" };
            let container = expect(ID, &file.file(0), &[(rule, 24)]);
            let message = &container.findings[0].message;
            assert!(!message.contains(['\u{1b}', '\0']) && message.len() < 300, "{message}");
        }
    }

    #[test]
    fn keys_and_values_that_are_not_utf8() {
        let file = Gguf::new().entry(b"k\xff", (0, vec![1]));
        expect(ID, &file.file(0), &[("gguf-text-invalid", 32)]);
        let file = Gguf::new().text("key", b"\xc3\x28");
        expect(ID, &file.file(0), &[("gguf-text-invalid", 24 + 8 + 3 + 4 + 8)]);
    }

    #[test]
    fn duplicate_metadata_key() {
        let file = Gguf::new().number("a", 1).number("b", 2).number("a", 3);
        let container = expect(ID, &file.file(0), &[("gguf-key-duplicate", file.entry_at(2))]);
        assert_eq!(container.metadata.unsigned("a"), Some(1));
    }

    #[test]
    fn unknown_value_types() {
        for kind in [13, 0xff, u32::MAX] {
            let file = with_tensor().number("a", 1).entry("b", (kind, vec![0; 8]));
            let place = file.entry_at(1) + 8 + 1;
            expect(ID, &file.file(32), &[("gguf-header-broken", place)]);
        }
    }

    #[test]
    fn unknown_array_types() {
        let file = Gguf::new();
        let payload = file.array(13, 1, &[0; 8]);
        let file = file.entry("a", (9, payload));
        expect(ID, &file.file(0), &[("gguf-header-broken", 24 + 8 + 1 + 4)]);
    }

    #[test]
    fn truth_value_2() {
        let file = with_tensor().entry("a", (7, vec![2]));
        let container = expect(ID, &file.file(32), &[("gguf-bool-odd", 24 + 8 + 1 + 4)]);
        assert_eq!(container.metadata.get("a").unwrap().as_bool(), Some(true));
    }

    #[test]
    fn arrays_longer_than_the_file() {
        for (kind, count) in [(4, 1 << 62), (0, u64::MAX), (8, 1 << 40), (8, 1 << 61), (12, 1000), (9, 1 << 60)] {
            let file = Gguf::new();
            let payload = file.array(kind, count, &[0; 16]);
            let file = file.entry("a", (9, payload));
            expect(ID, &file.file(0), &[("gguf-truncated", 24 + 8 + 1 + 4)]);
        }
    }

    #[test]
    fn nested_arrays_up_to_four_deep_are_read_and_deeper_ones_refused() {
        let file = Gguf::new();
        let mut payload = file.array(4, 1, &[7, 0, 0, 0]);
        let place = 24 + 8 + 1 + 4;
        for depth in 2..=5 {
            payload = file.array(9, 1, &payload);
            let file = with_tensor().entry("a", (9, payload.clone()));
            let mut wanted = vec![("gguf-array-nested", place)];
            if depth > 4 {
                wanted.push(("gguf-header-broken", place + 4 * 12 - 12));
            }
            expect(ID, &file.file(32), &wanted);
        }
    }

    #[test]
    fn arrays_nested_ten_thousand_deep() {
        let file = Gguf::new();
        let mut payload = Vec::new();
        (0..10_000).for_each(|_| payload.extend(file.array(9, 1, &[])));
        let container = open(ID, &file.entry("a", (9, payload)).file(0));
        assert_eq!(fired(&container), ["gguf-array-nested", "gguf-header-broken"]);
    }

    #[test]
    fn many_small_arrays_are_not_all_held() {
        // A held number takes seventy times the byte that it is stored in.
        let mut file = Gguf::new();
        for index in 0..2_000 {
            let payload = file.array(0, 4096, &[1; 4096]);
            file = file.entry(index.to_string(), (9, payload));
        }
        let bytes = file.file(0);
        let source = Source::memory("test", bytes.clone());
        let (container, peak) = memory::peak(|| (format(ID).open)(&source).unwrap());
        assert_eq!(container.metadata.entries().len(), 2_000);
        assert!(peak < 4 * bytes.len() as u64, "{peak} of {}", bytes.len());
    }

    #[test]
    fn alignment_of_zero_three_and_other_than_u32() {
        for (kind, payload) in [
            (4, 0u32.to_le_bytes().to_vec()),
            (4, 3u32.to_le_bytes().to_vec()),
            (4, 48u32.to_le_bytes().to_vec()),
            (10, 32u64.to_le_bytes().to_vec()),
            (5, (-32i32).to_le_bytes().to_vec()),
            (6, 32f32.to_le_bytes().to_vec()),
            (8, [&2u64.to_le_bytes()[..], b"32"].concat()),
        ] {
            let file = with_tensor().entry("general.alignment", (kind, payload));
            expect(ID, &file.file(32), &[("gguf-alignment-invalid", 24)]);
        }
    }

    #[test]
    fn huge_alignments() {
        let mut file = with_tensor().number("general.alignment", 1 << 21);
        file.alignment = 1 << 21;
        expect(ID, &file.file(1 << 21), &[("gguf-alignment-large", 24)]);
        // More than the file has: the tensor lies behind its end.
        let file = with_tensor().number("general.alignment", 1 << 31);
        let bytes = file.file(32);
        expect(ID, &bytes, &[("gguf-alignment-large", 24), ("gguf-truncated", bytes.len() as u64)]);
        let file = with_tensor().entry("general.alignment", (10, (1u64 << 63).to_le_bytes().to_vec()));
        let bytes = file.file(32);
        expect(ID, &bytes, &[("gguf-alignment-invalid", 24), ("gguf-truncated", bytes.len() as u64)]);
    }

    #[test]
    fn overflowing_shapes() {
        let max = i64::MAX as u64;
        let shapes = [
            vec![max, 2],
            vec![1 << 32, 1 << 32],
            vec![u64::MAX],
            vec![1 << 62, 1, 1, 8],
            vec![1 << 63],
            vec![0, 1 << 63],
        ];
        for ne in shapes {
            let file = Gguf::new().tensor("a", &ne, 0, 0);
            let container = open(ID, &file.file(32));
            assert_eq!(findings(&container)[0], ("gguf-shape-invalid", Some(24)), "{ne:?}");
        }
    }

    #[test]
    fn sizes_that_overflow_only_when_padded() {
        // 2^64 - 4 bytes: adding the alignment wraps to zero.
        let file = Gguf::new().tensor("a", &[(1 << 62) - 1], 0, 0).tensor("b", &[8], 0, 0);
        let bytes = file.file(32);
        let container = open(ID, &bytes);
        assert_eq!(fired(&container), ["gguf-offset-invalid", "gguf-truncated"]);
    }

    #[test]
    fn more_dimensions_than_ggml_has_room_for() {
        let file = Gguf::new().tensor("a", &[1, 1, 1, 1, 8], 0, 0);
        expect(ID, &file.file(32), &[("gguf-shape-invalid", 24)]);
    }

    #[test]
    fn a_billion_dimensions() {
        for dims in [65, 1 << 30, u32::MAX] {
            let mut bytes = Gguf::new().tensor("a", &[8], 0, 0).file(64);
            bytes[33..37].copy_from_slice(&dims.to_le_bytes());
            expect(ID, &bytes, &[("gguf-header-broken", 24)]);
        }
    }

    #[test]
    fn dimensions_of_zero_and_none_at_all() {
        let file = Gguf::new().tensor("a", &[0, 4], 0, 0);
        expect(ID, &file.file(0), &[("gguf-shape-odd", 24)]);
        let file = Gguf::new().tensor("a", &[], 0, 0);
        let container = expect(ID, &file.file(4), &[("gguf-shape-odd", 24)]);
        assert_eq!(container.tensors[0].bytes, 4);
    }

    #[test]
    fn rows_that_are_no_whole_blocks() {
        let file = Gguf::new().tensor("a", &[33], 8, 0);
        let container = open(ID, &file.file(68));
        assert_eq!(findings(&container), [("gguf-shape-invalid", Some(24))]);
    }

    #[test]
    fn retired_types() {
        for (id, name) in [(4, "Q4_2"), (5, "Q4_3"), (31, "Q4_0_4_4"), (33, "Q4_0_8_8"), (36, "IQ4_NL_4_4")] {
            let file = Gguf::new().tensor("a", &[32], id, 0);
            let container = open(ID, &file.file(32));
            assert_eq!(findings(&container), [("gguf-type-retired", Some(24))], "{name}");
            assert_eq!(container.tensors[0].dtype.name(), name);
        }
    }

    #[test]
    fn unknown_types_are_sized_by_what_follows() {
        for id in [43, 1000, u32::MAX] {
            let file = Gguf::new().tensor("a", &[32], id, 0).tensor("b", &[8], 0, 96);
            let container = expect(ID, &file.file(128), &[("gguf-type-unknown", 24)]);
            assert_eq!((container.tensors[0].dtype, container.tensors[0].bytes), (DType::UNKNOWN, 96));
        }
    }

    #[test]
    fn duplicate_tensor() {
        let file = with_tensor().tensor("a", &[8], 0, 32);
        expect(ID, &file.file(64), &[("gguf-tensor-duplicate", file.tensor_at(1))]);
    }

    #[test]
    fn names_that_are_empty_long_or_hold_control_characters() {
        for name in [&b""[..], b"a\x1b[2J", &[b'n'; 64], &[b'n'; 100_000]] {
            let file = Gguf::new().tensor(name, &[8], 0, 0);
            let container = expect(ID, &file.file(32), &[("gguf-tensor-name-odd", 24)]);
            let message = &container.findings[0].message;
            assert!(!message.contains('\u{1b}') && message.len() < 300, "{message}");
        }
        let file = Gguf::new().tensor([b'n'; 63], &[8], 0, 0);
        expect(ID, &file.file(32), &[]);
    }

    #[test]
    fn a_tensor_name_that_is_not_utf8() {
        let file = Gguf::new().tensor(b"a\xff", &[8], 0, 0);
        expect(ID, &file.file(32), &[("gguf-text-invalid", 32)]);
    }

    #[test]
    fn overlapping_tensors() {
        let file = with_tensor().tensor("b", &[8], 0, 0);
        let bytes = file.file(32);
        expect(ID, &bytes, &[("gguf-offset-invalid", bytes.len() as u64 - 32)]);
    }

    #[test]
    fn a_hole_before_the_first_and_between_tensors() {
        let file = Gguf::new().tensor("a", &[8], 0, 64).tensor("b", &[8], 0, 160);
        let bytes = file.file(192);
        let data = bytes.len() as u64 - 192;
        let container = expect(ID, &bytes, &[("gguf-offset-invalid", data + 64), ("gguf-offset-invalid", data + 160)]);
        assert_eq!(container.ledger.total(Kind::Unexplained), 128);
    }

    #[test]
    fn tensors_listed_in_another_order_than_they_lie() {
        let file = Gguf::new().tensor("b", &[8], 0, 32).tensor("a", &[8], 0, 0);
        assert_eq!(fired(&open(ID, &file.file(64))), ["gguf-offset-invalid"]);
    }

    #[test]
    fn an_offset_that_is_not_aligned() {
        let file = with_tensor().tensor("b", &[8], 0, 33);
        let bytes = file.file(65);
        expect(ID, &bytes, &[("gguf-offset-invalid", bytes.len() as u64 - 32)]);
    }

    #[test]
    fn offsets_out_of_the_file_and_beyond_64_bits() {
        for offset in [32, 1 << 40, u64::MAX - 31, 1 << 63] {
            let file = with_tensor().tensor("b", &[8], 0, offset);
            let bytes = file.file(32);
            let container = open(ID, &bytes);
            let cut = container.findings.iter().find(|finding| finding.rule.name == "gguf-truncated").unwrap();
            assert_eq!(cut.offset, Some(bytes.len() as u64));
        }
    }

    #[test]
    fn trailing_data() {
        let mut bytes = with_tensor().file(32);
        let len = bytes.len() as u64;
        bytes.extend([b'P'; 100]);
        let container = expect(ID, &bytes, &[("gguf-trailing-data", len)]);
        assert_eq!(container.ledger.total(Kind::Unexplained), 100);
    }

    #[test]
    fn trailing_data_behind_a_file_without_tensors() {
        let mut bytes = Gguf::new().text("general.architecture", b"llama").file(0);
        let len = bytes.len() as u64;
        bytes.extend([b'P'; 100]);
        expect(ID, &bytes, &[("gguf-trailing-data", len)]);
    }

    #[test]
    fn data_hidden_in_the_padding() {
        let file = with_tensor();
        let mut bytes = file.file(32);
        let padding = file.header().len();
        bytes[padding..padding + 4].copy_from_slice(b"evil");
        expect(ID, &bytes, &[("gguf-padding-filled", padding as u64)]);
    }

    #[test]
    fn a_thousand_faults_are_summed_up() {
        let mut file = Gguf::new();
        for index in 0..1000 {
            file = file.tensor(format!("t{index}"), &[8], 999, index * 32);
        }
        let container = open(ID, &file.file(32_000));
        assert_eq!(container.findings.len(), 21);
    }

    #[test]
    fn memory_is_a_small_multiple_of_the_header() {
        let mut file = Gguf::new();
        for index in 0..50_000u64 {
            file = file.tensor(index.to_string(), &[8], 0, index * 32);
        }
        let bytes = file.header();
        let source = Source::memory("test", bytes.clone());
        let (container, peak) = memory::peak(|| (format(ID).open)(&source).unwrap());
        assert_eq!(container.tensors.len(), 50_000);
        assert!(peak < 12 * bytes.len() as u64, "{peak} of {}", bytes.len());
    }

    #[test]
    fn truncated_at_every_byte() {
        let file = small_gguf();
        let whole = file.file(192);
        // The last 12 bytes are padding, which nothing needs.
        for len in 4..whole.len() - 12 {
            let container = open(ID, &whole[..len]);
            let cut = container.findings.iter().find(|finding| finding.rule.means_cut());
            assert!(cut.is_some(), "{len}: {:?}", findings(&container));
            let others = fired(&container).into_iter().filter(|rule| *rule != "gguf-count-impossible");
            assert_eq!(others.collect::<Vec<_>>(), ["gguf-truncated"], "{len}");
        }
    }

    #[test]
    fn a_cut_file_keeps_its_format() {
        let whole = small_gguf_file();
        for len in 4..whole.len() - 12 {
            let identity = probe::identify_with_cut(&Source::memory("test", whole[..len].to_vec())).unwrap();
            assert_eq!(identity.format.id, ID);
            assert!(identity.evidence.contains("cut"), "{len}: {}", identity.evidence);
        }
    }
}
