//! `anatomy scan` as scripts meet it: verdicts, exit statuses, policies.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// What the command says in `folder`.
fn scan(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anatomy"));
    command.current_dir(folder).stdin(Stdio::null()).env("NO_COLOR", "1").env("COLUMNS", "80");
    command.arg("scan").args(arguments.split_whitespace()).output().unwrap()
}

/// A folder with a file of each verdict. The calls in them would do nothing.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("clean.pkl", &b"\x80\x02}X\x01\0\0\0aK\x01s."[..]),
        ("malformed.pkl", b"\x80\x02]K\x01"),
        ("suspicious.pkl", b"\x80\x02cevil_pkg\nboot\n)R."),
        ("malicious.pkl", b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R."),
    ] {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

#[test]
fn verdicts_decide_the_exit_status() {
    let folder = folder();
    for (arguments, status) in [
        ("clean.pkl", 0),
        ("malformed.pkl", 1),
        ("suspicious.pkl", 1),
        ("malicious.pkl", 1),
        (".", 1),
        ("malformed.pkl --fail-on suspicious", 0),
        ("suspicious.pkl --fail-on suspicious", 1),
        ("suspicious.pkl --fail-on malicious", 0),
        (". --fail-on malicious", 1),
        ("clean.pkl nosuch.pkl", 2),
    ] {
        assert_eq!(scan(folder.path(), arguments).status.code(), Some(status), "{arguments}");
    }
}

#[test]
fn the_document_names_each_file_and_the_worst() {
    let folder = folder();
    let output = scan(folder.path(), ". nosuch.pkl --json");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["schema"], &found["verdict"]), (&"anatomy.scan/1".into(), &"malicious".into()));
    let files = found["files"].as_array().unwrap();
    assert_eq!(files.len(), 5);
    for file in files.iter().take(4) {
        let stem = file["path"].as_str().unwrap().trim_start_matches("./").trim_end_matches(".pkl");
        assert_eq!(file["verdict"], stem);
        assert_eq!(file["format"], "pickle");
        assert!(file.get("programs").is_none());
    }
    assert_eq!(files[4]["error"]["kind"], "not-found");
    let finding = &files[1]["findings"][0];
    for key in ["rule", "severity", "message", "offset", "help"] {
        assert!(!finding[key].is_null(), "{key} in {finding}");
    }
}

#[test]
fn people_see_what_would_run() {
    let folder = folder();
    let output = scan(folder.path(), "malicious.pkl --explain");
    let text = String::from_utf8(output.stdout).unwrap();
    for there in ["malicious", "it runs os.system('true')", "import os", "_0 = os.system('true')"] {
        assert!(text.contains(there), "{there} in {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let text = String::from_utf8(scan(folder.path(), ".").stdout).unwrap();
    assert!(text.ends_with("4 files: 1 malicious, 1 suspicious, 1 malformed, 1 clean\n"), "{text}");
}

#[test]
fn policies_of_ones_own_count() {
    let folder = folder();
    fs::write(folder.path().join("ours.toml"), "[harmless]\nevil_pkg = \"boot\"\n").unwrap();
    assert_eq!(scan(folder.path(), "suspicious.pkl --policy ours.toml").status.code(), Some(0));
    fs::write(folder.path().join("wrong.toml"), "[harmles]\n").unwrap();
    let output = scan(folder.path(), "suspicious.pkl --policy wrong.toml");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("wrong.toml: this is no policy"));
}
