//! Tricks with everything that is no plain pickle: archives, streams, configurations, graphs, sources.
//!
//! Each test is a technique; every payload is inert (`true`). Where a technique is public, the advisory stands with it.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "helpers of tests")]

mod scan_build;

use anatomy::finding::Finding;
use anatomy::scan::{Options, Policy, Verdict, scan};
use anatomy::source::Source;
use scan_build::*;
use serde_json::json;

fn scanned(name: &str, bytes: Vec<u8>) -> (Verdict, Vec<Finding>) {
    let policy = Policy::new();
    let found = scan(&Source::memory(name, bytes), Options { policy: &policy, explain: false }).unwrap();
    (found.verdict, found.findings)
}

/// One technique: a file's name, its bytes, its verdict, and a rule that must be among the findings.
macro_rules! cases {
    ($($(#[$doc:meta])* $case:ident: $name:expr, $bytes:expr => $verdict:ident, $rule:expr;)*) => {$(
        $(#[$doc])*
        #[test]
        fn $case() {
            let (verdict, findings) = scanned($name, $bytes);
            let rules: Vec<_> = findings.iter().map(|finding| (finding.rule.name, finding.message.as_str())).collect();
            assert_eq!(verdict, Verdict::$verdict, "{rules:?}");
            assert!($rule.is_empty() || rules.iter().any(|(rule, _)| *rule == $rule), "{rules:?}");
        }
    )*};
}

fn zip_with(member: Member) -> Vec<u8> {
    Zip::new().add(Member::new("archive/data.pkl", HARMLESS)).add(member).build()
}

fn data(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/data/packed/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

// Zip: what two programs read differently.
cases! {
    a_plain_archive_is_clean: "a.pt", zip_with(Member::new("archive/version", b"3\n")) => Clean, "";
    /// GHSA-769v-p64c-89pr: members of any name are looked at.
    zip_member_of_any_name: "a.zip", zip_with(Member::new("readme.txt", EVIL)) => Malicious, "pickle-dangerous-call";
    /// CVE-2025-10156: a wrong checksum stops Python's zipfile, not PyTorch.
    zip_wrong_checksum: "a.pt", zip_with(Member { crc: Some(1), ..Member::new("x", EVIL) }) => Malicious, "zip-content-broken";
    /// GHSA-w8jq-xcqf-f792: flag bits that stop scanners.
    zip_marked_as_encrypted: "a.pt", zip_with(Member { flags: 1, ..Member::new("x", EVIL) }) => Malicious, "zip-encrypted";
    /// GHSA-7q5r-7gvp-wc82: the two names of a member.
    zip_names_differ: "a.pt", zip_with(Member { local_name: Some("y"), ..Member::new("x", EVIL) }) => Malicious, "zip-headers-differ";
    zip_local_name_climbs: "a.pt", zip_with(Member { local_name: Some("../../y"), ..Member::new("x", b"1") }) => Malicious, "zip-unsafe-name";
    zip_stored_by_one_header_deflated_by_the_other: "a.pt",
        zip_with(Member { local_method: Some(8), ..Member::new("x", &deflated(EVIL)) }) => Malicious, "zip-headers-differ";
    zip_longer_by_its_own_header: "a.pt", Zip::new()
        .add(Member { local_size: Some((EVIL.len() + 4) as u32), size: Some(4), ..Member::new("x", &[b"\x80\x02N.", EVIL].concat()) })
        .build() => Malicious, "zip-headers-differ";
    zip_bytes_behind_the_deflated_ones: "a.pt",
        zip_with(Member { method: 8, raw: Some([&deflated(b"text")[..], EVIL].concat()), ..Member::new("x", b"text") }) => Malicious, "";
    zip_stored_under_an_unknown_method: "a.pt", zip_with(Member { method: 77, raw: Some(EVIL.to_vec()), ..Member::new("x", EVIL) }) => Malicious, "zip-method-unknown";
    zip_packed_with_bzip2: "a.pt", zip_with(Member { method: 12, raw: Some(data("pickle.bz2")), ..Member::new("x", EVIL) }) => Malicious, "";
    zip_packed_with_lzma: "a.pt", zip_with(Member { method: 14, raw: Some(data("pickle.lzma-in-zip")), ..Member::new("x", EVIL) }) => Malicious, "";
    zip_packed_with_zstandard: "a.pt", zip_with(Member { method: 93, raw: Some(data("pickle.zstd")), ..Member::new("x", EVIL) }) => Malicious, "";
    zip_packed_with_xz: "a.pt", zip_with(Member { method: 95, raw: Some(data("pickle.xz")), ..Member::new("x", EVIL) }) => Malicious, "";
    zip_member_that_the_directory_leaves_out: "a.pt",
        Zip::new().add(Member { hidden: true, ..Member::new("x", EVIL) }).add(Member::new("y", b"1")).build() => Malicious, "zip-gap";
    zip_second_directory_in_the_comment: "a.pt", {
        // By the record at the very end there is one harmless member; the record before has another directory.
        let outer = zip_with(Member::new("x", EVIL));
        let inner = Zip::new().add(Member::new("y", b"1")).build_at(outer.len());
        let mut bytes = outer;
        let comment = bytes.len() - 2;
        bytes[comment..].copy_from_slice(&u16::try_from(inner.len()).unwrap().to_le_bytes());
        [bytes, inner].concat()
    } => Malicious, "zip-directories-several";
    zip_empty_directory_behind_the_real_one: "a.pt", {
        let mut bytes = zip_with(Member::new("x", EVIL));
        bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes
    } => Malicious, "zip-directories-several";
    zip_numbers_of_zip64_against_the_old_ones: "a.pt", {
        let evil = zip_with(Member::new("x", EVIL));
        let end = evil.len() - 22;
        let (offset, size) = (u32_at(&evil, end + 16), u32_at(&evil, end + 12));
        // Another directory in front, that the wide record names.
        let other = Zip::new().add(Member::new("y", b"1")).build_at(end);
        let other_end = other.len() - 22;
        let (other_offset, other_size) = (u32_at(&other, other_end + 16), u32_at(&other, other_end + 12));
        let mut bytes = [&evil[..end], &other[..other_end]].concat();
        let wide = bytes.len() as u64;
        bytes.extend_from_slice(b"PK\x06\x06");
        bytes.extend_from_slice(&44u64.to_le_bytes());
        bytes.extend_from_slice(&[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for number in [1, 1, u64::from(other_size), u64::from(other_offset)] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(b"PK\x06\x07\0\0\0\0");
        bytes.extend_from_slice(&wide.to_le_bytes());
        bytes.extend_from_slice(&1u32.to_le_bytes());
        bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0\x02\0\x02\0");
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&offset.to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes
    } => Malicious, "zip-directories-several";
    zip_same_name_twice: "a.pt", Zip::new().add(Member::new("d.pkl", HARMLESS)).add(Member::new("d.pkl", EVIL)).build() => Malicious, "zip-duplicate-member";
    zip_same_name_in_other_case: "a.pt", Zip::new().add(Member::new("d.pkl", HARMLESS)).add(Member::new("D.PKL", HARMLESS)).build() => Malformed, "zip-duplicate-member";
    zip_name_climbs: "a.zip", zip_with(Member::new("../../x", b"1")) => Malicious, "zip-unsafe-name";
    zip_name_climbs_in_windows: "a.zip", zip_with(Member::new("..\\x", b"1")) => Malicious, "zip-unsafe-name";
    zip_name_with_a_drive: "a.zip", zip_with(Member::new("C:\\x", b"1")) => Malicious, "zip-unsafe-name";
    zip_link_out_of_the_folder: "a.zip", zip_with(Member { link: true, ..Member::new("a/l", b"../../etc") }) => Malicious, "scan-archive-link";
    zip_link_within_the_folder: "a.zip", zip_with(Member { link: true, ..Member::new("a/l", b"../b") }) => Suspicious, "zip-link";
    zip_declares_far_too_much: "a.pt", zip_with(Member { size: Some(u32::MAX - 1), ..Member::new("x", b"1") }) => Suspicious, "zip-bomb";
    zip_bomb: "a.zip", zip_with(Member { method: 8, raw: Some(deflated(&vec![0; 20 << 20])), ..Member::new("x", &vec![0; 20 << 20]) }) => Suspicious, "zip-bomb";
    zip_behind_a_pickle: "a.pkl", Zip::new().add(Member::new("x", b"1")).build_behind(EVIL) => Malicious, "";
    zip_within_a_zip_within_a_tar_within_gzip: "a.tgz", gzip(&tar(&[("a.zip", &zip_with(Member::new("b.zip", &zip_with(Member::new("x", EVIL)))))])) => Malicious, "";
    zip_too_deep: "a.zip", (0..12).fold(EVIL.to_vec(), |inner, _| Zip::new().add(Member::new("x", &inner)).build()) => Suspicious, "scan-limit";
    mach_o_within_an_archive: "a.pt", zip_with(Member::new("lib.so", b"\xcf\xfa\xed\xfe\x07\0\0\x01\x03\0\0\0\x06\0\0\0")) => Suspicious, "scan-program-in-archive";
}

#[test]
fn zip_members_over_each_other_end_soon() {
    // Thousands of members that are one are looked at once.
    let zip = Zip::new().add(Member::new("x", &vec![b'('; 300_000])).repeat(5_000).build();
    let (verdict, findings) = scanned("a.zip", zip);
    // What was not looked at is nobody's to vouch for.
    assert_eq!(verdict, Verdict::Suspicious);
    for rule in ["zip-overlap", "scan-limit"] {
        assert!(findings.iter().any(|finding| finding.rule.name == rule), "{rule}");
    }
}

// Polyglots and what hides behind, between and within.
cases! {
    safetensors_with_a_zip_behind: "a.safetensors", [safetensors(json!({}), b"abcd"), Zip::new().add(Member::new("x", b"1")).build()].concat() => Suspicious, "scan-polyglot";
    gguf_with_a_zip_behind: "a.gguf", [gguf(&[]), Zip::new().add(Member::new("x", b"1")).build()].concat() => Suspicious, "scan-polyglot";
    gguf_with_a_pickle_behind: "a.gguf", [gguf(&[]), EVIL.to_vec()].concat() => Malicious, "";
    safetensors_with_a_packed_pickle_behind: "a.safetensors", [safetensors(json!({}), b"abcd"), gzip(EVIL)].concat() => Malicious, "scan-hidden-content";
    safetensors_with_an_executable_behind: "a.safetensors", [safetensors(json!({}), b"abcd"), elf()].concat() => Suspicious, "scan-hidden-content";
    executable_in_a_tensor: "a.safetensors", safetensors(json!({}), &elf()) => Suspicious, "scan-program-in-tensor";
    archive_in_a_tensor: "a.safetensors", safetensors(json!({}), &zip_with(Member::new("x", EVIL))) => Malicious, "";
    pickle_in_a_tensor_of_bytes: "a.safetensors", safetensors(json!({}), &[b"\x80\x02", EVIL].concat()) => Malicious, "";
    pickle_in_metadata_as_base64: "a.safetensors", safetensors(json!({ "x": base64(&[b"\x80\x02", EVIL].concat()) }), b"abcd") => Malicious, "scan-program-in-text";
    pickle_in_metadata_as_hexadecimal: "a.safetensors", safetensors(json!({ "x": hex(&[b"\x80\x02", EVIL].concat()) }), b"abcd") => Malicious, "scan-program-in-text";
    executable_in_metadata: "a.gguf", gguf(&[("general.note", &base64(&elf()))]) => Suspicious, "scan-program-in-text";
    picture_in_metadata: "a.safetensors", safetensors(json!({ "modelspec.thumbnail": format!("data:image/jpeg;base64,{}", base64(b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01")) }), b"abcd") => Clean, "";
    executable_as_a_model: "a.safetensors", elf() => Suspicious, "scan-program-as-model";
    script_as_a_model: "a.bin", b"#!/bin/sh\ntrue\n".to_vec() => Suspicious, "scan-program-as-model";
    notebook_as_a_model: "a.pt", br#"{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}"#.to_vec() => Suspicious, "scan-program-as-model";
    executable_as_such: "tool", elf() => Clean, "";
}

// Streams.
cases! {
    gzip_stream: "a.pkl", gzip(EVIL) => Malicious, "";
    gzip_of_gzip: "a", gzip(&gzip(EVIL)) => Malicious, "";
    gzip_second_stream: "a.gz", [gzip(HARMLESS), gzip(EVIL)].concat() => Malicious, "";
    gzip_something_behind: "a.gz", [gzip(b"1"), EVIL.to_vec()].concat() => Malicious, "packed-trailing-data";
    gzip_cut_behind_the_payload: "a.gz", { let mut bytes = gzip(EVIL); bytes.truncate(bytes.len() - 6); bytes } => Malicious, "packed-broken";
    gzip_cut: "a.gz", { let mut bytes = gzip(b"plain text that goes on"); bytes.truncate(bytes.len() - 6); bytes } => Malformed, "packed-broken";
    gzip_bomb: "a.gz", gzip(&vec![0; 20 << 20]) => Suspicious, "packed-bomb";
    zlib_stream: "a.joblib", zlib(EVIL) => Malicious, "";
    old_joblib_stream: "a.joblib", [format!("ZF0x{:<17x}", EVIL.len()).into_bytes(), zlib(EVIL)].concat() => Malicious, "";
    bzip2_stream: "a.pkl", data("pickle.bz2") => Malicious, "";
    xz_stream: "a.pkl", data("pickle.xz") => Malicious, "";
    lzma_stream: "a.joblib", data("pickle.lzma") => Malicious, "";
    zstandard_stream: "a.bin", data("pickle.zstd") => Malicious, "";
    zstandard_stream_behind_a_skipped_one: "a.bin", [b"\x50\x2a\x4d\x18\x02\0\0\0hi".to_vec(), data("pickle.zstd")].concat() => Malicious, "";
    lz4_stream: "a.joblib", data("pickle.lz4") => Malicious, "";
    /// nullifAI (ReversingLabs, February 2025): 7z instead of zip around the pickle.
    seven_zip_lzma: "a.pt", data("pickle-lzma.7z") => Malicious, "";
    seven_zip_lzma2: "a.bin", data("pickle-lzma2.7z") => Malicious, "";
    seven_zip_encrypted: "a.7z", data("encrypted.7z") => Suspicious, "7z-method-unknown";
    seven_zip_cut: "a.7z", data("lzma2.7z")[..100].to_vec() => Malformed, "7z-truncated";
}

// Tar.
cases! {
    tar_plain: "a.tar", tar(&[("a/b.txt", b"text")]) => Clean, "";
    tar_climbs: "a.tar", tar(&[("../x", b"1")]) => Malicious, "tar-unsafe-name";
    tar_link_out: "a.tar", tar_entry("a/l", b'2', "../../etc", b"") => Malicious, "tar-unsafe-name";
    tar_link_within: "a.tar", tar_entry("a/b/l", b'2', "../c", b"") => Clean, "";
    tar_hard_link_out: "a.tar", tar_entry("a/l", b'1', "/etc/hostname", b"") => Malicious, "tar-unsafe-name";
    tar_device: "a.tar", tar_entry("d", b'3', "", b"") => Suspicious, "tar-special-file";
    tar_climbs_by_a_pax_record: "a.tar", {
        let record = b"20 path=../../inert\n";
        let mut bytes = tar_entry("p", b'x', "", record);
        bytes.truncate(1024);
        [bytes, tar(&[("x", b"1")])].concat()
    } => Malicious, "tar-unsafe-name";
    tar_behind_the_end_marker: "a.tar", [tar(&[("x", b"1")]), tar(&[("y.pkl", EVIL)])].concat() => Malicious, "tar-trailing-data";
    tar_same_name_twice: "a.tar", tar(&[("x", b"N."), ("x", EVIL)]) => Malicious, "tar-duplicate-member";
}

fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

// Configurations.
cases! {
    config_plain: "config.json", text(r#"{"model_type": "llama", "architectures": ["A"], "auto_map": null}"#) => Clean, "";
    config_code_of_another_repository: "config.json", text(r#"{"auto_map": {"AutoModel": "who/what--modeling.M"}}"#) => Malicious, "config-remote-code";
    config_code_of_its_own: "config.json", text(r#"{"auto_map": {"AutoModel": "modeling.M"}}"#) => Suspicious, "config-local-code";
    /// CVE-2025-66448: vLLM followed `auto_map` of a sub-configuration.
    config_code_below: "config.json", text(r#"{"vision_config": {"auto_map": {"AutoConfig": ["who/what--c.C", null]}}}"#) => Malicious, "config-remote-code";
    config_key_twice: "config.json", text(r#"{"auto_map": {"AutoModel": "who/what--m.M"}, "auto_map": {}}"#) => Malicious, "config-remote-code";
    config_that_only_python_reads: "config.json", text(r#"{"x": NaN, "y": -Infinity, "auto_map": {"AutoModel": "who/what--m.M"}}"#) => Malicious, "config-remote-code";
    config_key_with_escapes: "config.json", text(r#"{"\u0061uto_map": {"AutoModel": "who/what\u002d-m.M"}}"#) => Malicious, "config-remote-code";
    config_behind_a_mark: "config.json", text("\u{feff}{\"auto_map\": {\"AutoModel\": \"who/what--m.M\"}}") => Malicious, "config-remote-code";
    /// CVE-2026-4372: attention kernels fetched from the hub.
    config_attention_of_a_repository: "config.json", text(r#"{"_attn_implementation_internal": "who/kernels"}"#) => Malicious, "config-names-kernel-repository";
    config_attention_by_name: "config.json", text(r#"{"_attn_implementation": "flash_attention_2"}"#) => Clean, "";
    config_trusts: "generation_config.json", text(r#"{"trust_remote_code": true}"#) => Suspicious, "config-trusts-remote-code";
    config_custom_pipelines: "config.json", text(r#"{"custom_pipelines": {"x": {"impl": "pipe.P", "pt": ["A"]}}}"#) => Suspicious, "config-local-code";
    config_behind_much_filling: "config.json", text(&format!("{{\"x\": \"{}\", \"auto_map\": {{\"AutoModel\": \"who/what--m.M\"}}}}", "x".repeat(40 << 20))) => Malicious, "config-remote-code";
    config_target: "config.json", text(r#"{"model": {"_target_": "builtins.eval", "_args_": ["1+1"]}}"#) => Malicious, "config-target-dangerous";
    config_target_by_another_way: "config.json", text(r#"{"_target_": "torch.utils.collect_env.run"}"#) => Malicious, "config-target-dangerous";
    config_target_of_nemo: "config.json", text(r#"{"_target_": "nemo.collections.asr.models.EncDecCTCModel"}"#) => Clean, "";
    config_target_unknown: "config.json", text(r#"{"_target_": "evil_package.run"}"#) => Suspicious, "config-target-unknown";
    modules_of_sentence_transformers: "modules.json", text(r#"[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]"#) => Clean, "";
    modules_of_somebody_else: "modules.json", text(r#"[{"idx": 0, "name": "0", "path": "", "type": "custom_module.Model"}]"#) => Suspicious, "config-target-unknown";
    modules_that_are_functions: "modules.json", text(r#"[{"idx": 0, "name": "0", "path": "", "type": "os.system"}]"#) => Malicious, "config-target-dangerous";
    adapter_that_imports: "adapter_config.json", text(r#"{"auto_mapping": {"base_model_class": "M", "parent_library": "evil"}, "peft_type": "LORA"}"#) => Suspicious, "config-target-unknown";
    jsonpickle: "config.json", text(r#"{"x": {"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["true"]}]}}"#) => Malicious, "config-builds-objects";
    expression_of_monai: "config.json", text(r#"{"x": "$__import__('os').system('true')"}"#) => Malicious, "config-expression";
    expression_without_calls: "config.json", text(r#"{"x": "$@network", "y": "$HOME"}"#) => Clean, "";
    pipeline_of_known_parts: "model_index.json", text(r#"{"_class_name": "StableDiffusionPipeline", "feature_extractor": [null, null], "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "unet": ["diffusers", "UNet2DConditionModel"]}"#) => Clean, "";
    pipeline_with_a_part_of_its_own: "model_index.json", text(r#"{"_class_name": "P", "unet": ["my_unet", "Unet"]}"#) => Suspicious, "config-target-unknown";
    pipeline_with_a_part_that_runs: "model_index.json", text(r#"{"_class_name": "P", "unet": ["os", "system"]}"#) => Malicious, "config-target-dangerous";
    pipeline_in_a_file: "model_index.json", text(r#"{"_class_name": ["pipeline", "P"], "_diffusers_version": "0.30"}"#) => Suspicious, "config-local-code";
    yaml_plain: "a.yaml", text("a: 1\nb: !!str 2 # !!python/object/apply:os.system\n") => Clean, "";
    yaml_apply: "a.yaml", text("a: !!python/object/apply:os.system ['true']\n") => Malicious, "config-builds-objects";
    yaml_in_full: "a.yml", text("- !<tag:yaml.org,2002:python/object/apply:os.system> [x]\n") => Malicious, "config-builds-objects";
    yaml_by_a_handle: "a.yaml", text("%TAG !p! tag:yaml.org,2002:python/object/\n---\na: !p!apply:os.system [x]\n") => Malicious, "config-builds-objects";
    yaml_with_escapes: "a.yaml", text("a: !!python%2Fobject/apply:os.system [x]\n") => Malicious, "config-builds-objects";
    yaml_in_brackets: "a.yaml", text("a: [1, !!python/name:os.system ]\n") => Malicious, "config-builds-objects";
    yaml_tuple: "a.yaml", text("a: !!python/tuple [1, 2]\n") => Clean, "config-builds-plain-values";
    yaml_target: "a.yaml", text("model:\n  _target_: subprocess.Popen\n") => Malicious, "config-target-dangerous";
    /// CVE-2025-23304: Hydra's targets, in whatever way YAML writes them.
    yaml_target_in_braces: "a.yaml", text("model: {_target_: os.system}\n") => Malicious, "config-target-dangerous";
    yaml_target_as_a_complex_key: "a.yaml", text("? _target_\n: os.system\n") => Malicious, "config-target-dangerous";
    yaml_target_with_escapes: "a.yaml", text("model:\n  \"_targ\\u0065t_\": \"os\\x2esystem\"\n") => Malicious, "config-target-dangerous";
    yaml_target_merged: "a.yaml", text("x: &s {_target_: os.system}\nm:\n  <<: *s\n") => Malicious, "config-target-dangerous";
    yaml_target_on_the_next_line: "a.yaml", text("m:\n  _target_:\n    os.system\n") => Malicious, "config-target-dangerous";
    yaml_target_in_a_block: "a.yaml", text("m:\n  _target_: >-\n    os.system\n") => Malicious, "config-target-dangerous";
    yaml_target_by_an_alias: "a.yaml", text("x: &s os.system\nm:\n  _target_: *s\n") => Malicious, "config-target-dangerous";
    yaml_target_that_a_text_speaks_of: "a.yaml", text("note: |\n  _target_: os.system\nb: 1 # _target_: os.system\n") => Clean, "";
    class_path: "config.json", text(r#"{"class_path": "os.system", "init_args": {}}"#) => Malicious, "config-target-dangerous";
    class_path_in_yaml: "a.yaml", text("model:\n  class_path: os.system\n") => Malicious, "config-target-dangerous";
    class_path_of_a_project: "a.yaml", text("model:\n  class_path: my_project.models.Unet\n") => Clean, "";
    expressions_with_imports: "config.json", text(r#"{"run": ["$os.system('x')"], "imports": ["$import os"]}"#) => Malicious, "config-expression";
    expressions_with_usual_imports: "config.json", text(r#"{"imports": ["$import os", "$import glob"], "x": "$glob.glob(os.path.join(@dir, '*'))"}"#) => Clean, "";
    yaml_chat_template_on_the_next_line: "a.yaml", text("chat_template:\n  \"{{ ().__class__\n  }}\"\n") => Malicious, "template-reaches-internals";
    secret: "config.json", text(r#"{"token": "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567"}"#) => Clean, "secret-in-file";
    secret_example: "config.json", text(r#"{"token": "hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#) => Clean, "";
}

#[test]
fn secrets_are_not_shown() {
    let (_, findings) = scanned("a.txt", text("token hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567"));
    assert!(findings.iter().any(|finding| finding.rule.name == "secret-in-file"));
    assert!(findings.iter().all(|finding| !finding.message.contains("aBcD")));
    let (_, findings) = scanned("a.txt", text("token hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"));
    assert!(findings.is_empty(), "{findings:?}");
}

const PYTHON: &[u8] = b"import os\nos.system('true')\n";

// Sources.
cases! {
    python_plain: "modeling.py", text("import torch\nfrom torch import nn\n\nclass M(nn.Module):\n    def forward(self, x):\n        return self.net.eval()(x)\n") => Clean, "python-source";
    python_that_runs_commands: "modeling.py", PYTHON.to_vec() => Suspicious, "python-dangerous-call";
    python_under_another_name: "modeling.py", text("from subprocess import run as go\ngo(['true'])\n") => Suspicious, "python-dangerous-call";
    python_put_together: "modeling.py", text("import os\ngetattr(os, 'sys' + 'tem')('true')\n") => Suspicious, "python-dangerous-call";
    python_that_builds_code: "modeling.py", text("import base64\nexec(base64.b64decode('cGFzcw=='))\n") => Suspicious, "python-dangerous-call";
    python_that_only_names_it: "modeling.py", text("import os\nrun = {'x': os.system}\nrun['x']('true')\n") => Suspicious, "python-dangerous-call";
    python_in_wide_letters: "modeling.py", text("import os\nos.\u{ff53}ystem('true')\n") => Suspicious, "python-dangerous-call";
    python_in_another_encoding: "modeling.py", text("# coding: rot13\nvzcbeg bf\n") => Suspicious, "python-dangerous-call";
    python_that_looks_after_files: "modeling.py", text("import os\nimport shutil\nos.makedirs(os.path.join('a', os.sep))\nshutil.copy('a', 'b')\n") => Clean, "";
    python_compiled_in_an_archive: "a.pt", zip_with(Member::new("p/__pycache__/m.pyc", b"\xcb\x0d\x0d\x0a\0\0\0\0\0\0\0\0\0\0\0\0")) => Suspicious, "scan-program-in-archive";
    python_in_a_package_of_torch: "a.pt", Zip::new().add(Member::new("p/.data/extern_modules", b"os\n")).add(Member::new("p/m/__init__.py", PYTHON)).build() => Malicious, "python-dangerous-call-in-archive";
    python_handler_of_torchserve: "a.mar", Zip::new().add(Member::new("MAR-INF/MANIFEST.json", b"{}")).add(Member::new("handler.py", PYTHON)).build() => Malicious, "python-dangerous-call-in-archive";
}

fn keras(config: serde_json::Value) -> Vec<u8> {
    let config = json!({ "class_name": "Functional", "module": "keras", "config": { "layers": [config] } }).to_string();
    Zip::new()
        .add(Member::new("metadata.json", b"{\"keras_version\": \"3.0\"}"))
        .add(Member::new("config.json", config.as_bytes()))
        .build()
}

fn activation(module: &str, name: &str) -> Vec<u8> {
    let function = json!({ "module": module, "class_name": "function", "config": name, "registered_name": "function" });
    keras(json!({ "class_name": "Activation", "module": "keras.layers", "config": { "activation": function } }))
}

/// A file of one object whose header has one message, in a block that the header goes on in.
fn hdf5(kind: u16, message: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0\x04\0\x10\0\0\0\0\0".to_vec();
    let numbers = |numbers: &[u64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
    bytes.extend(numbers(&[0, u64::MAX, 256, u64::MAX, 0, 96]));
    bytes.resize(96, 0);
    bytes.extend_from_slice(&[1, 0, 2, 0, 1, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 16, 0, 0, 0, 0, 0]);
    bytes.extend(numbers(&[160, 8 + message.len() as u64]));
    bytes.resize(160, 0);
    bytes.extend([kind.to_le_bytes(), u16::try_from(message.len()).unwrap().to_le_bytes(), [0; 2], [0; 2]].concat());
    bytes.extend_from_slice(message);
    bytes.resize(256, 0);
    bytes
}

// Keras and TensorFlow.
cases! {
    keras_plain: "a.keras", keras(json!({ "class_name": "Dense", "module": "keras.layers", "config": { "units": 2, "activation": "relu" } })) => Clean, "";
    /// CVE-2024-3660.
    keras_lambda: "a.keras", keras(json!({ "class_name": "Lambda", "module": "keras.layers", "config": {} })) => Malicious, "keras-lambda";
    keras_function_of_keras: "a.keras", activation("keras.activations", "relu") => Clean, "";
    /// CVE-2025-1550.
    keras_function_of_python: "a.keras", activation("builtins", "eval") => Malicious, "keras-module";
    keras_function_of_the_system: "a.keras", activation("os", "system") => Malicious, "keras-module";
    /// CVE-2025-8747.
    keras_that_fetches: "a.keras", activation("keras.utils", "get_file") => Malicious, "keras-module";
    /// CVE-2025-9906.
    keras_without_protection: "a.keras", activation("keras.config", "enable_unsafe_deserialization") => Malicious, "keras-module";
    keras_wrapped_torch: "a.keras", keras(json!({ "class_name": "TorchModuleWrapper", "module": "keras.layers", "config": { "module": "gAJOLg==" } })) => Malicious, "keras-module";
    /// CVE-2025-12058.
    keras_vocabulary_elsewhere: "a.keras", keras(json!({ "class_name": "StringLookup", "module": "keras.layers", "config": { "vocabulary": "/etc/hostname" } })) => Suspicious, "keras-reads-file";
    keras_without_protection_by_its_insides: "a.keras", activation("keras.src.backend.common.global_state", "set_global_attribute") => Malicious, "keras-module";
    keras_without_protection_by_a_path: "a.keras", activation("keras.src.backend", "common.global_state.set_global_attribute") => Malicious, "keras-module";
    keras_operator_that_writes: "a.keras", keras(json!({ "class_name": "TFOpLambda", "config": { "function": "io.write_file" } })) => Malicious, "keras-module";
    keras_operator_that_reads: "a.keras", keras(json!({ "class_name": "SlicingOpLambda", "config": { "function": "raw_ops.ReadFile" } })) => Malicious, "tensorflow-dangerous-operator";
    keras_operator_that_calls_python: "a.keras", keras(json!({ "class_name": "TFOpLambda", "config": { "function": "numpy_function" } })) => Malicious, "keras-module";
    keras_operator_that_computes: "a.keras", keras(json!({ "class_name": "TFOpLambda", "config": { "function": "io.decode_raw" } })) => Clean, "";
    keras_tokenizer_elsewhere: "a.keras", keras(json!({ "class_name": "SentencePieceTokenizer", "module": "keras_hub.tokenizers", "config": { "proto": "/etc/hostname" } })) => Suspicious, "keras-reads-file";
    keras_tokenizer_of_its_own: "a.keras", keras(json!({ "class_name": "SentencePieceTokenizer", "module": "keras_hub.tokenizers", "config": { "proto": "A".repeat(4096) } })) => Clean, "";
    keras_module_of_somebody: "a.keras", keras(json!({ "class_name": "Layer", "module": "some_package.layers", "config": {} })) => Suspicious, "keras-custom-module";
    keras_registered_class: "a.keras", keras(json!({ "class_name": "Layer", "module": null, "registered_name": "Custom>Layer", "config": {} })) => Clean, "keras-custom-object";
    keras_class_twice: "a.keras", {
        let config = r#"{"class_name": "Functional", "config": {"layers": [{"class_name": "Lambda", "class_name": "Dense", "config": {}}]}}"#;
        Zip::new().add(Member::new("metadata.json", b"{}")).add(Member::new("config.json", config.as_bytes())).build()
    } => Malicious, "keras-lambda";
    keras_lambda_in_hdf5: "a.h5", {
        let mut bytes = b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0\x04\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend_from_slice(&[0xff; 8]);
        bytes.extend_from_slice(&2048u64.to_le_bytes());
        bytes.resize(200, 0);
        bytes.extend_from_slice(br#"{"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda", "config": {}}]}}"#);
        bytes.resize(2048, 0);
        bytes
    } => Malicious, "keras-lambda";
    hdf5_objects_over_each_other: "a.weights.h5", {
        let mut bytes = hdf5(6, &[]);
        bytes[64..72].copy_from_slice(&96u64.to_le_bytes());
        bytes.truncate(96);
        // Parts of an index that all claim the rest of the file, which leads to each of them.
        bytes.extend(b"TREE\0\0\xff\xff".repeat(1000));
        bytes.extend((0..4000u64).flat_map(|child| (96 + 8 * (child % 1000)).to_le_bytes()).cycle().take(1 << 20));
        bytes
    } => Suspicious, "scan-limit";
    hdf5_link_within: "a.weights.h5", hdf5(6, &[1, 0, 1, b'x', 0, 0, 0, 0, 0, 0, 0, 0]) => Clean, "";
    /// CVE-2026-1669.
    hdf5_link_into_another_file: "a.weights.h5", hdf5(6, b"\x01\x08\x40\x01x\x05\0\0/x\0/a") => Suspicious, "hdf5-external-data";
    hdf5_values_in_another_file: "a.weights.h5", hdf5(7, &[1, 0, 0, 0, 1, 0, 1, 0]) => Suspicious, "hdf5-external-data";
    hdf5_put_together: "a.weights.h5", hdf5(8, &[4, 3, 0, 0, 0, 0, 0, 0]) => Suspicious, "hdf5-external-data";
    tensorflow_plain: "saved_model.pb", saved_model(&node("MatMul", &[])) => Clean, "";
    tensorflow_reads: "saved_model.pb", saved_model(&node("ReadFile", &[])) => Malicious, "tensorflow-dangerous-operator";
    tensorflow_in_a_function: "saved_model.pb", saved_model(&[node("MatMul", &[]), field(2, &field(1, &field(3, &node_def("PyFunc", &[]))))].concat()) => Malicious, "tensorflow-dangerous-operator";
    tensorflow_prints_to_a_file: "saved_model.pb", saved_model(&node("PrintV2", b"file:///tmp/inert")) => Malicious, "tensorflow-dangerous-operator";
    tensorflow_prints: "saved_model.pb", saved_model(&node("PrintV2", b"stderr")) => Clean, "";
    tensorflow_opens_files: "saved_model.pb", saved_model(&node("TFRecordDataset", &[])) => Suspicious, "tensorflow-file-operator";
    tensorflow_reads_a_matrix: "saved_model.pb", saved_model(&node("LoadAndRemapMatrix", &[])) => Malicious, "tensorflow-dangerous-operator";
    tensorflow_calls_native_code: "saved_model.pb", saved_model(&node("XlaCustomCallV2", &[])) => Malicious, "tensorflow-dangerous-operator";
    tensorflow_reads_a_queue: "saved_model.pb", saved_model(&node("KafkaGroupReadable", &[])) => Malicious, "tensorflow-dangerous-operator";
    tensorflow_io_reads: "saved_model.pb", saved_model(&node("IO>FileRead", &[])) => Malicious, "tensorflow-dangerous-operator";
    tensorflow_io_decodes: "saved_model.pb", saved_model(&node("IO>DecodeWebP", &[])) => Clean, "";
    tensorflow_engine: "saved_model.pb", saved_model(&node("TRTEngineOp", &[])) => Suspicious, "tensorflow-file-operator";
    tensorflow_checkpoints_are_usual: "saved_model.pb", saved_model(&[node("SaveV2", &[]), node("RestoreV2", &[]), node("MergeV2Checkpoints", &[])].concat()) => Clean, "";
}

fn template(template: &str) -> Vec<u8> {
    json!({ "chat_template": template, "bos_token": "<s>" }).to_string().into_bytes()
}

const CHAT: &str = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}";

// Templates.
cases! {
    template_plain: "tokenizer_config.json", template(CHAT) => Clean, "";
    /// CVE-2024-34359.
    template_reaches_internals: "tokenizer_config.json", template(&format!("{CHAT}{{{{ cycler.__init__.__globals__ }}}}")) => Malicious, "template-reaches-internals";
    template_of_many: "tokenizer_config.json", json!({ "chat_template": [{ "name": "default", "template": CHAT }, { "name": "tool_use", "template": "{{ ''|attr('__cla' ~ 'ss__') }}" }] }).to_string().into_bytes() => Malicious, "template-reaches-internals";
    template_in_a_file: "chat_template.jinja", text("{{ ().__class__.__base__ }}") => Malicious, "template-reaches-internals";
    template_in_a_gguf: "a.gguf", gguf(&[("tokenizer.chat_template.tool_use", "{{ lipsum['__glo' + 'bals__'] }}")]) => Malicious, "template-reaches-internals";
    template_that_no_parser_takes: "chat_template.jinja", text("{% strange %}{{ ().__class__ }}") => Malicious, "template-reaches-internals";
    /// CVE-2026-5760: the name goes through a variable.
    template_through_a_loop: "chat_template.jinja", text("{% for a in ['__class__'] %}{{ ()[a] }}{% endfor %}") => Malicious, "template-reaches-internals";
    template_through_a_namespace: "chat_template.jinja", text("{% set ns = namespace(a='x') %}{% set ns.a = '__class__' %}{{ ()[ns.a] }}") => Malicious, "template-reaches-internals";
    template_through_the_arguments_of_a_macro: "chat_template.jinja", text("{% macro f(a) %}{{ ()[a] }}{% endmacro %}{{ f('__cla' ~ 'ss__') }}") => Malicious, "template-reaches-internals";
    template_through_a_block: "chat_template.jinja", text("{% set a %}__class__{% endset %}{{ ()[a] }}") => Malicious, "template-reaches-internals";
    template_through_a_caller: "chat_template.jinja", text("{% macro f() %}{{ ()[caller()] }}{% endmacro %}{% call f() %}__class__{% endcall %}") => Malicious, "template-reaches-internals";
    template_through_parts_of_a_list: "chat_template.jinja", text("{% set ns = namespace(s='') %}{% for c in ['__cla', 'ss__'] %}{% set ns.s = ns.s ~ c %}{% endfor %}{{ ()[ns.s] }}") => Malicious, "template-reaches-internals";
    template_that_speaks_of_it: "chat_template.jinja", text("{{ 'Never write __class__ or __init__ in your code.' }}__init__") => Clean, "";
    template_by_its_ending: "chat.template", text("{{ cycler.__init__.__globals__.os }}") => Malicious, "template-reaches-internals";
    template_without_end: "tokenizer_config.json", template("{% for a in range(99999999) %}{% for b in range(99999999) %}x{% endfor %}{% endfor %}") => Suspicious, "template-endless";
    template_with_hidden_text: "tokenizer_config.json", template(&format!("{CHAT}\u{e0069}\u{e0067}\u{e006e}")) => Suspicious, "template-hidden-text";
}

// ONNX.
cases! {
    onnx_plain: "a.onnx", onnx("Identity", "", &[]) => Clean, "";
    onnx_external_beside: "a.onnx", onnx("Identity", "", &[("location", "a.data"), ("offset", "0"), ("length", "16")]) => Clean, "";
    /// CVE-2022-25882, CVE-2024-27318.
    onnx_external_climbs: "a.onnx", onnx("Identity", "", &[("location", "a/../../x"), ("length", "16")]) => Malicious, "onnx-external-path";
    onnx_external_address: "a.onnx", onnx("Identity", "", &[("location", "file:///etc/hostname")]) => Malicious, "onnx-external-path";
    onnx_external_home: "a.onnx", onnx("Identity", "", &[("location", "~/x")]) => Malicious, "onnx-external-path";
    onnx_external_with_a_wrong_offset: "a.onnx", onnx("Identity", "", &[("location", "../x"), ("offset", "x")]) => Malicious, "onnx-external-path";
    /// CVE-2026-34445.
    onnx_external_key: "a.onnx", onnx("Identity", "", &[("location", "a.data"), ("__class__", "x")]) => Suspicious, "onnx-external-key-unknown";
    onnx_external_with_a_zero: "a.onnx", onnx("Identity", "", &[("location", "a\0../x")]) => Malicious, "onnx-external-path";
    onnx_compiled_part_climbs: "a.onnx", compiled("../../x.so") => Malicious, "onnx-external-path";
    onnx_compiled_part_beside: "a.onnx", compiled("model_ctx.bin") => Clean, "";
    onnx_python: "a.onnx", onnx("PyOp", "ai.onnx.contrib", &[]) => Suspicious, "onnx-python-operator";
    onnx_of_a_runtime: "a.onnx", onnx("FusedMatMul", "com.microsoft", &[]) => Clean, "";
    onnx_of_somebody: "a.onnx", onnx("Run", "evil.ops", &[]) => Suspicious, "onnx-custom-operator";
}

/// A node with a compiled part of the graph, which lies there.
fn compiled(path: &str) -> Vec<u8> {
    let attribute = [field(1, b"ep_cache_context"), field(4, path.as_bytes())].concat();
    let node = [field(2, b"y"), field(4, b"EPContext"), field(5, &attribute), field(7, b"com.microsoft")].concat();
    [vec![8, 8], field(7, &[field(1, &node), field(2, b"g")].concat()), field(8, &[16, 17])].concat()
}

fn skops(schema: serde_json::Value) -> Vec<u8> {
    Zip::new().add(Member::new("schema.json", schema.to_string().as_bytes())).build()
}

// skops.
cases! {
    skops_plain: "a.skops", skops(json!({ "__class__": "dict", "__module__": "builtins", "__loader__": "DictNode", "content": { "t": { "__class__": "dtype", "__module__": "numpy", "__loader__": "DTypeNode" } } })) => Clean, "";
    /// CVE-2025-54412.
    skops_operator: "a.skops", skops(json!({ "__class__": "call", "__module__": "builtins", "__loader__": "OperatorFuncNode" })) => Malicious, "skops-dangerous-node";
    /// CVE-2025-54413.
    skops_method: "a.skops", skops(json!({ "__class__": "MethodNode", "__module__": "builtins", "__loader__": "MethodNode", "content": { "func": "__init__", "obj": { "__class__": "Popen", "__module__": "subprocess" } } })) => Malicious, "skops-dangerous-node";
    skops_function: "a.skops", skops(json!({ "__class__": "function", "__module__": "builtins", "__loader__": "FunctionNode", "content": { "module_path": "os", "function": "system" } })) => Malicious, "skops-dangerous-node";
}

fn tokenizer(expression: &str) -> Vec<u8> {
    let split = json!({ "type": "Split", "pattern": { "Regex": expression }, "behavior": "Isolated" });
    json!({ "version": "1.0", "added_tokens": [], "pre_tokenizer": split, "model": { "type": "BPE", "vocab": { "a": 0 }, "merges": [] } })
        .to_string()
        .into_bytes()
}

// Tokenizers.
cases! {
    tokenizer_usual: "tokenizer.json", tokenizer(r"'s|'t| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+") => Clean, "";
    tokenizer_hostile: "tokenizer.json", tokenizer(r"(\p{L}+\s?)+$") => Suspicious, "tokenizer-hostile-expression";
}

fn script(code: &str) -> Vec<u8> {
    Zip::new()
        .add(Member::new("m/data.pkl", HARMLESS))
        .add(Member::new("m/code/__torch__.py", code.as_bytes()))
        .add(Member::new("m/constants.pkl", b"\x80\x02)."))
        .add(Member::new("m/version", b"3\n"))
        .build()
}

// TorchScript: what its programs call.
cases! {
    /// Written by PyTorch 2.15 from a module that calls `torch.save` and `torch.from_file`.
    script_that_writes_a_file: "a.pt",
        std::fs::read(format!("{}/tests/data/torch/script-saves.pt", env!("CARGO_MANIFEST_DIR"))).unwrap()
        => Malicious, "torchscript-dangerous-operator";
    script_that_computes: "a.pt", script("class M(Module):\n  def forward(self, x: Tensor) -> Tensor:\n    return torch.add(x, x)\n") => Clean, "";
    script_that_reads_an_image: "a.pt", script("def f(s: str) -> Tensor:\n  return ops.image.read_file(s)\n") => Malicious, "torchscript-dangerous-operator";
    script_that_calls_another_machine: "a.pt", script("def f(s: str):\n  return rpc_sync(s, f, (1,))\n") => Malicious, "torchscript-dangerous-operator";
    script_that_only_speaks_of_it: "a.pt", script("def f(s: str) -> str:\n  return \"torch.save(x)\"\n") => Clean, "";
    script_of_known_operators: "a.pt", script("def f(b: Tensor, s: Tensor) -> Tensor:\n  return ops.torchvision.nms(b, s, 0.5)\n") => Clean, "";
    script_of_unknown_operators: "a.pt", script("def f(b: Tensor) -> Tensor:\n  return ops.helper.run(b)\n") => Suspicious, "torchscript-custom-operator";
    script_of_the_mobile_interpreter: "a.ptl", Zip::new()
        .add(Member::new("m/data.pkl", HARMLESS))
        .add(Member::new("m/bytecode.pkl", b"\x80\x02X\x0a\x00\x00\x00aten::save."))
        .build() => Malicious, "torchscript-dangerous-operator";
}
