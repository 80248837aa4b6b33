//! The command as scripts and people meet it: exit statuses, streams, documents.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The command, run in `folder`, without the surroundings' wishes about colour and width.
fn anatomy(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anatomy"));
    command.current_dir(folder).stdin(Stdio::null());
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"] {
        command.env_remove(name);
    }
    command
}

fn run<A: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = A>) -> Output {
    anatomy(folder).args(arguments).output().unwrap()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// The one document of a run that succeeded.
fn document<A: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = A>) -> Value {
    let output = run(folder, arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A safetensors file of F32 tensors.
fn safetensors(tensors: &[(&str, &[u64])]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += shape.iter().product::<u64>() * 4;
        header.insert(name.to_string(), json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]}));
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + usize::try_from(end).unwrap(), 0);
    file
}

/// A GGUF that holds its architecture and nothing else.
fn gguf() -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3u32.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.extend(1u64.to_le_bytes());
    for text in ["general.architecture", "llama"] {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
        if text == "general.architecture" {
            file.extend(8u32.to_le_bytes());
        }
    }
    file
}

/// A folder with `model.safetensors`: an embedding, a norm, and two layers of two tensors.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tensors: [(&str, &[u64]); 6] = [
        ("model.embed_tokens.weight", &[16, 4]),
        ("model.layers.0.self_attn.q_proj.weight", &[4, 4]),
        ("model.layers.0.mlp.up_proj.weight", &[8, 4]),
        ("model.layers.1.self_attn.q_proj.weight", &[4, 4]),
        ("model.layers.1.mlp.up_proj.weight", &[8, 4]),
        ("model.norm.weight", &[4]),
    ];
    fs::write(folder.path().join("model.safetensors"), safetensors(&tensors)).unwrap();
    folder
}

fn names(document: &Value) -> Vec<&str> {
    document["tensors"].as_array().unwrap().iter().map(|tensor| tensor["name"].as_str().unwrap()).collect()
}

fn paths(document: &Value) -> Vec<&str> {
    document["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect()
}

#[test]
fn help_and_version_are_answers() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        "--help",
        "-h",
        "help",
        "--version",
        "-V",
        "inspect --help",
        "identify --help",
        "tensors --help",
        "bytes --help",
        "completions --help",
        "help inspect",
        "some.gguf --help",
    ] {
        let output = run(folder.path(), words(arguments));
        assert_eq!(output.status.code(), Some(0), "{arguments}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments}");
        assert!(!stdout(&output).contains('\x1b'), "{arguments}");
    }
    let help = run(folder.path(), ["--help"]);
    for there in [
        "inspect",
        "identify",
        "tensors",
        "bytes",
        "blueprint",
        "memory",
        "check",
        "completions",
        "Examples:",
        "Exit status:",
    ] {
        assert!(stdout(&help).contains(there), "{there}");
    }
    for not_built in ["convert", "serve"] {
        assert!(!stdout(&help).contains(not_built), "{not_built}");
    }
    assert_eq!(stdout(&run(folder.path(), ["--version"])), concat!("anatomy ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn no_arguments_show_the_help_as_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), [""; 0]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(stderr(&output).contains("Usage: anatomy"));
}

/// What cannot be done is one line on stderr, status 2, and with `--json` one document as well.
#[test]
fn errors_are_one_line_and_one_document() {
    let folder = folder();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let cases = [
        ("nosuch.gguf", "not-found", "nosuch.gguf: no such file or directory"),
        ("inspect nosuch", "not-found", "no such file"),
        ("tensors nosuch", "not-found", "no such file"),
        ("bytes nosuch", "not-found", "no such file"),
        ("inspect empty", "not-found", "empty"),
        ("identfy model.safetensors", "not-found", "did you mean `anatomy identify`?"),
        ("scan", "usage", "<PATH>"),
        ("scan . --policy nosuch.toml", "not-found", "nosuch.toml: no such file or directory"),
        ("stats", "unsupported", "`stats` is not built yet"),
        ("memory", "usage", "<MODEL>"),
        ("--color never convert a -o b --to gguf", "unsupported", "`convert` is not built yet"),
        ("hf://org/name", "unsupported", "remote models are not read yet; download it first"),
        ("tensors https://example.org/a.gguf", "unsupported", "remote models are not read yet"),
        ("bytes s3://bucket/a.gguf", "unsupported", "remote models are not read yet"),
        ("-", "usage", "standard input"),
        ("tensors -", "usage", "standard input"),
        ("--jsn model.safetensors", "usage", "'--json'"),
        ("model.safetensors --quite", "usage", "'--quiet'"),
        ("model.safetensors model.safetensors", "usage", "unexpected argument"),
        ("tensors", "usage", "<MODEL>"),
        ("identify", "usage", "<PATH>"),
        ("tensors model.safetensors --filter [a", "usage", "unclosed"),
        ("tensors model.safetensors --role nose", "usage", "feed_forward"),
        ("tensors model.safetensors --layer first", "usage", "whole number"),
        ("tensors model.safetensors --sort weight", "usage", "parameters"),
        ("tensors model.safetensors --tree --csv", "usage", "--csv"),
        ("tensors model.safetensors --color pink", "usage", "always"),
        ("completions tcsh", "usage", "zsh"),
        ("help serve", "usage", "serve"),
    ];
    for (arguments, kind, told) in cases {
        let output = run(folder.path(), words(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(output.stdout.is_empty(), "{arguments}");
        let line = stderr(&output);
        assert!(
            line.starts_with("anatomy: ") && line.lines().count() == 1 && line.ends_with('\n'),
            "{arguments}: {line}"
        );
        assert!(line.contains(told), "{arguments}: {line}");

        let output = run(folder.path(), ["--json"].into_iter().chain(words(arguments)));
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert_eq!(stderr(&output).lines().count(), 1, "{arguments}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["schema"], "anatomy.error/1", "{arguments}");
        assert_eq!(document["error"]["kind"], kind, "{arguments}");
        let error = document["error"].as_object().unwrap();
        assert!(["message", "path", "offset"].iter().all(|key| error.contains_key(*key)), "{arguments}");
    }
}

#[test]
fn an_empty_argument_is_no_model() {
    let folder = folder();
    for arguments in [vec![""], vec!["inspect", ""], vec!["identify", ""]] {
        let output = run(folder.path(), &arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).starts_with("anatomy: a value is required"), "{}", stderr(&output));
    }
}

#[test]
fn a_word_that_is_no_command_is_inspected() {
    let folder = folder();
    let wanted = document(folder.path(), words("inspect model.safetensors --json"));
    assert_eq!(wanted["schema"], "anatomy.inspect/1");
    for arguments in [
        "model.safetensors --json",
        "--json model.safetensors",
        "--json --color never model.safetensors",
        "--json -- model.safetensors",
    ] {
        assert_eq!(document(folder.path(), words(arguments)), wanted, "{arguments}");
    }
}

#[test]
fn a_file_called_like_a_command_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["identify", "scan", "-x", "inspct"] {
        fs::write(folder.path().join(name), gguf()).unwrap();
    }
    for arguments in ["./identify", "inspect identify", "./scan", "inspect scan", "-- -x", "inspect -- -x", "inspct"] {
        let output = run(folder.path(), words(arguments));
        assert_eq!(output.status.code(), Some(0), "{arguments}: {}", stderr(&output));
    }
}

#[test]
fn identify_names_formats_and_misnamed_files() {
    let folder = folder();
    fs::write(folder.path().join("lie.safetensors"), gguf()).unwrap();
    fs::write(folder.path().join("true.gguf"), gguf()).unwrap();
    let found = document(folder.path(), ["identify", ".", "--json"]);
    assert_eq!(found["schema"], "anatomy.identify/1");
    assert_eq!(paths(&found), ["./lie.safetensors", "./model.safetensors", "./true.gguf"]);
    for file in found["files"].as_array().unwrap() {
        for key in ["path", "bytes", "format", "evidence", "extension", "misnamed"] {
            assert!(!file[key].is_null(), "{key} in {file}");
        }
    }
    let of =
        |key: &str| -> Vec<Value> { found["files"].as_array().unwrap().iter().map(|file| file[key].clone()).collect() };
    assert_eq!(of("format"), ["gguf", "safetensors", "gguf"]);
    assert_eq!(of("misnamed"), [true, false, false]);

    let csv = run(folder.path(), ["identify", "lie.safetensors", "--csv"]);
    let mut lines = stdout(&csv).lines();
    assert_eq!(lines.next(), Some("path,bytes,format,evidence,extension,misnamed,error"));
    assert!(lines.next().unwrap().starts_with(&format!("lie.safetensors,{},gguf,", gguf().len())));
    assert_eq!(lines.next(), None);
    let text = run(folder.path(), ["identify", "lie.safetensors"]);
    assert!(stdout(&text).contains("misnamed"));
}

#[test]
fn directories_are_walked_in_name_order() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["b/2.gguf", "b/10.gguf", "b/.hidden/x", "a.gguf", "a/z.gguf", "c", ".first"];
    for name in names {
        let path = folder.path().join("d").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, gguf()).unwrap();
    }
    let wanted = ["d/.first", "d/a/z.gguf", "d/a.gguf", "d/b/.hidden/x", "d/b/10.gguf", "d/b/2.gguf", "d/c"];
    assert_eq!(paths(&document(folder.path(), ["identify", "d", "--json"])), wanted);
    assert_eq!(paths(&document(folder.path(), ["identify", "d/", "--json"])), wanted);
    // Paths keep the order in which they are given.
    assert_eq!(paths(&document(folder.path(), ["identify", "d/c", "d/b", "--json"]))[0], "d/c");
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert_eq!(document(folder.path(), ["identify", "empty", "--json"])["files"], json!([]));
}

#[test]
fn one_unreadable_file_does_not_hide_the_others() {
    let folder = folder();
    let output = run(folder.path(), ["identify", "nosuch", "model.safetensors", "hf://a/b", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(paths(&found), ["nosuch", "model.safetensors", "hf://a/b"]);
    assert_eq!(found["files"][0]["error"]["kind"], "not-found");
    assert_eq!(found["files"][0]["error"]["path"], "nosuch");
    assert_eq!(found["files"][1]["format"], "safetensors");
    assert_eq!(found["files"][2]["error"]["kind"], "unsupported");
    assert_eq!(stderr(&output), "anatomy: nosuch: no such file or directory; 1 other could not be read either\n");
}

#[test]
fn tensors_are_listed_with_what_the_contract_promises() {
    let folder = folder();
    let all = document(folder.path(), ["tensors", "model.safetensors", "--json"]);
    assert_eq!(all["schema"], "anatomy.tensors/1");
    assert_eq!(all["tensors"].as_array().unwrap().len(), 6);
    let header =
        u64::from_le_bytes(fs::read(folder.path().join("model.safetensors")).unwrap()[..8].try_into().unwrap());
    for tensor in all["tensors"].as_array().unwrap() {
        for key in ["name", "dtype", "shape", "parameters", "bytes", "file", "offset", "role", "layer", "component"] {
            assert!(tensor.as_object().unwrap().contains_key(key), "{key} in {tensor}");
        }
        assert!(tensor["offset"].as_u64().unwrap() >= 8 + header, "{tensor}");
    }
    // A directory, and the file in it, are the same model.
    let folder_form = document(folder.path(), ["tensors", ".", "--json"]);
    assert_eq!(names(&folder_form), names(&all));

    let csv = run(folder.path(), ["tensors", "model.safetensors", "--csv"]);
    assert_eq!(stdout(&csv).lines().count(), 7);
    assert!(stdout(&csv).starts_with("name,dtype,shape,parameters,bytes,file,offset,role,layer,component\n"));
    let tree = run(folder.path(), ["tensors", "model.safetensors", "--tree"]);
    assert!(stdout(&tree).contains("6 tensors, "), "{}", stdout(&tree));
}

#[test]
fn tensors_are_chosen_and_ordered() {
    let folder = folder();
    let chosen = |options: &[&str]| {
        let arguments = ["tensors", "model.safetensors", "--json"].into_iter().chain(options.iter().copied());
        names(&document(folder.path(), arguments)).iter().map(|name| name.to_string()).collect::<Vec<_>>()
    };
    let count = |glob: &str| chosen(&["--filter", glob]).len();
    assert_eq!(count("*"), 6);
    assert_eq!(count("model.layers.*"), 4, "a star matches dots");
    assert_eq!(count("norm"), 0, "the whole name must match");
    assert_eq!(count("*norm*"), 1);
    assert_eq!(count("*NORM*"), 0, "case matters");
    assert_eq!(count("*.{q_proj,up_proj}.weight"), 4);
    assert_eq!(count("*.layers.[1-9].*"), 2);
    assert_eq!(count("*.layers.?.mlp.*"), 2);
    assert_eq!(count("*q_proj*,*norm*"), 0, "a comma outside of braces is a comma");

    let sizes = chosen(&["--sort", "size"]);
    assert_eq!(sizes.first().unwrap(), "model.embed_tokens.weight");
    assert_eq!(sizes.last().unwrap(), "model.norm.weight");
    assert_eq!(chosen(&["--sort", "name"])[1], "model.layers.0.mlp.up_proj.weight");
    assert_eq!(chosen(&["--sort", "file"]), chosen(&[]));

    // Each tensor has one role; whichever it is, the filter finds it.
    let all = document(folder.path(), ["tensors", "model.safetensors", "--json"]);
    for tensor in all["tensors"].as_array().unwrap() {
        let name = tensor["name"].as_str().unwrap().to_string();
        assert!(chosen(&["--role", tensor["role"].as_str().unwrap()]).contains(&name));
        if let Some(layer) = tensor["layer"].as_u64() {
            assert!(chosen(&["--layer", &layer.to_string()]).contains(&name));
        }
    }

    let none = run(folder.path(), ["tensors", "model.safetensors", "--filter", "nose"]);
    assert_eq!(none.status.code(), Some(0));
    assert_eq!(stderr(&none), "anatomy: none of 6 tensors matches\n");
    let quiet = run(folder.path(), ["tensors", "model.safetensors", "--filter", "nose", "--quiet"]);
    assert!(quiet.stderr.is_empty());
}

#[test]
fn byte_ranges_cover_each_file() {
    let folder = folder();
    let whole = fs::read(folder.path().join("model.safetensors")).unwrap();
    fs::write(folder.path().join("cut.safetensors"), &whole[..whole.len() - 100]).unwrap();
    for (name, len) in [("model.safetensors", whole.len()), ("cut.safetensors", whole.len() - 100)] {
        let found = document(folder.path(), ["bytes", name, "--json"]);
        assert_eq!(found["schema"], "anatomy.bytes/1");
        let mut end = 0;
        for range in found["files"][0]["ranges"].as_array().unwrap() {
            assert_eq!(range["start"], end, "{range}");
            end = range["end"].as_u64().unwrap();
            assert!(range["kind"].is_string() && range["label"].is_string());
        }
        assert_eq!(end, len as u64);
        assert_eq!(found["files"][0]["bytes"], len as u64);
    }
    let shown = |options: &str| stdout(&run(folder.path(), words(options))).lines().count();
    assert!(shown("bytes model.safetensors --all") > shown("bytes model.safetensors"));
    let cut = run(folder.path(), ["tensors", "cut.safetensors"]);
    assert_eq!(cut.status.code(), Some(0));
    assert!(stderr(&cut).contains("`anatomy inspect` shows"), "{}", stderr(&cut));
}

#[test]
fn colour_is_for_terminals_and_for_those_who_ask() {
    let folder = folder();
    let styled = |arguments: &str, variables: &[(&str, &str)]| {
        let output = anatomy(folder.path()).args(words(arguments)).envs(variables.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        stdout(&output).contains("\x1b[")
    };
    for command in ["bytes model.safetensors", "tensors model.safetensors", "identify model.safetensors", "--help"] {
        assert!(!styled(command, &[]), "{command}");
        assert!(styled(&format!("--color always {command}"), &[]), "{command}");
        assert!(styled(&format!("--color=always {command}"), &[("NO_COLOR", "1")]), "{command}: the option wins");
        assert!(!styled(command, &[("NO_COLOR", "1")]), "{command}");
        assert!(!styled(&format!("{command} --color never"), &[("CLICOLOR_FORCE", "1")]), "{command}");
    }
    for data in ["bytes model.safetensors --json", "tensors model.safetensors --csv", "identify . --csv"] {
        assert!(!styled(&format!("{data} --color always"), &[]), "{data}");
    }
}

#[test]
fn text_keeps_to_the_width() {
    let folder = folder();
    let widest = |columns: &str| {
        let output =
            anatomy(folder.path()).args(["bytes", "model.safetensors"]).env("COLUMNS", columns).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{columns}");
        stdout(&output).lines().map(|line| line.chars().count()).max().unwrap()
    };
    assert!(widest("80") <= 80);
    assert!(widest("100") <= 100);
    for odd in ["0", "1", "-5", "many", "99999999999999999999", ""] {
        widest(odd);
    }
}

/// The keys that scripts rely on, and that their terms add up.
#[test]
fn memory_is_a_sum_with_what_the_contract_promises() {
    let folder = folder();
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32000, "hidden_size": 4096,
        "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "dtype": "float16",
        "max_position_embeddings": 4096
    });
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let ask = |arguments: &str| document(folder.path(), words("memory config.json --json").chain(words(arguments)));
    // Llama 2 7B: 6,738,415,616 parameters of two bytes, half a MiB of cache for each token.
    let plain = ask("-c 4096 --runtime formula");
    assert_eq!(plain["weights_bytes"], 2 * 6_738_415_616u64);
    assert_eq!(plain["kv_bytes_per_token"], 1 << 19);
    let terms = ["weights", "kv_cache", "state", "compute", "output", "repack", "overhead"];
    for arguments in [
        "-c 4096 --runtime llama.cpp --vram 24GiB",
        "-c 1000 --runtime llama.cpp --gpu 4090 --gpu-layers 10 --kv-type q8_0",
        "-c 0 --runtime transformers --parallel 3 --vram 24 --vram 24",
        "-c 512 --runtime vllm --gpu 2xH100",
        "--runtime formula",
    ] {
        let found = ask(arguments);
        let number = |key: &str| found[key].as_u64().unwrap();
        let sum: u64 = terms.iter().map(|term| number(&format!("{term}_bytes"))).sum();
        assert_eq!(sum, number("total_bytes"), "{arguments}");
        assert_eq!(found["schema"], "anatomy.memory/1");
        for key in ["runtime", "context", "parallel", "max_context", "fits", "devices", "curve"] {
            assert!(!found[key].is_null() || ["max_context", "fits"].contains(&key), "{arguments}: {key}");
        }
        for device in found["devices"].as_array().unwrap() {
            assert!(device["name"].is_string() && device["used_bytes"].is_u64() && device["layers"].is_u64());
        }
        let curve = found["curve"].as_array().unwrap();
        assert!(curve.len() > 3 && curve.iter().all(|point| point["total_bytes"].is_u64()), "{arguments}");
    }
    // Four bits fit into 8 GiB, sixteen do not; --fit says so by its status.
    let status = |arguments: &str| {
        let all = words("memory config.json --runtime llama.cpp --fit --vram 8GiB").chain(words(arguments));
        run(folder.path(), all).status.code()
    };
    assert_eq!(status("--dtype q4_k_m"), Some(0));
    assert_eq!(status("--dtype f16"), Some(1));
    assert_eq!(status("--dtype q4_k_m -c 0 --parallel 8"), Some(1));
    let found = ask("--runtime llama.cpp --vram 8GiB --dtype q4_k_m");
    let most = found["max_context"].as_u64().unwrap();
    assert_eq!(most, 4096);
    let found = ask("--runtime llama.cpp --vram 6GiB --dtype q4_k_m -c 4096");
    assert_eq!(found["fits"], false);
    let layers = found["gpu_layers_that_fit"].as_u64().unwrap();
    let with =
        |layers: u64| ask(&format!("--runtime llama.cpp --vram 6GiB --dtype q4_k_m -c 4096 --gpu-layers {layers}"));
    assert_eq!((with(layers)["fits"].clone(), with(layers + 1)["fits"].clone()), (json!(true), json!(false)));
    let most = found["max_context"].as_u64().unwrap();
    let at = |context: u64| ask(&format!("--runtime llama.cpp --vram 6GiB --dtype q4_k_m -c {context}"));
    assert_eq!((at(most)["fits"].clone(), at(most + 1)["fits"].clone()), (json!(true), json!(false)));
}

#[test]
fn settings_that_a_runtime_refuses_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "model_type": "llama", "vocab_size": 320, "hidden_size": 96, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4
    });
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    for (arguments, told) in [
        ("--runtime llama.cpp --kv-type fp8", "llama.cpp has no fp8 cache"),
        ("--runtime llama.cpp --cache-type-v q4_0 --flash-attn off", "flash attention"),
        ("--runtime llama.cpp --kv-type q8_0", "24 numbers of a head are not a whole number of q8_0 blocks"),
        ("--runtime transformers --kv-type q8_0", "transformers keeps no cache in q8_0"),
        ("--gpu RTX-4900", "no device is called `RTX-4900`"),
        ("--vram 24apples", "24GiB"),
        ("--dtype q9_9", "no element type or mixture is called q9_9"),
        ("--parallel 0", "at least one"),
        ("-c 99999999999", "beyond any model"),
    ] {
        let output = run(folder.path(), words("memory config.json").chain(words(arguments)));
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert_eq!(stderr(&output).lines().count(), 1, "{arguments}: {}", stderr(&output));
        assert!(stderr(&output).contains(told), "{arguments}: {}", stderr(&output));
    }
}

/// A cut header hides tensors, so no figure is given; cut weights were declared, so the figures stand.
#[test]
fn memory_of_a_damaged_file_is_not_taken_for_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read("../../examples/tiny-llama.gguf").unwrap();
    let at = |bytes: &[u8]| {
        fs::write(folder.path().join("model.gguf"), bytes).unwrap();
        document(folder.path(), words("memory model.gguf --json"))
    };
    let (intact, short) = (at(&whole), at(&whole[..whole.len() - 64]));
    assert_eq!(intact["total_bytes"], short["total_bytes"]);
    assert_eq!(intact["damage"], Value::Null);
    assert!(short["damage"].as_str().unwrap().contains("beyond the end"), "{}", short["damage"]);
    for (bytes, told) in [(&whole[..2000], "the header breaks off"), (&gguf(), "there are no weights in it")] {
        fs::write(folder.path().join("model.gguf"), bytes).unwrap();
        let output = run(folder.path(), words("memory model.gguf"));
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(told) && stderr(&output).lines().count() == 1, "{}", stderr(&output));
    }
}

#[test]
fn completions_for_every_shell() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(folder.path(), ["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("identify"), "{shell}");
    }
    assert_eq!(run(folder.path(), ["completions", "bash", "--json"]).status.code(), Some(2));
}

#[test]
fn strangers_text_is_never_written_raw() {
    let folder = tempfile::tempdir().unwrap();
    let evil = "a\u{1b}]0;owned\u{7}\u{202e}\u{9b}31m\u{7f}\r\nb";
    fs::write(folder.path().join("evil.safetensors"), safetensors(&[(evil, &[2])])).unwrap();
    let hidden = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).unwrap();
        text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}')
    };
    for command in ["tensors", "bytes", "inspect", "identify"] {
        for option in ["--quiet", "--json"] {
            let output = run(folder.path(), [command, "evil.safetensors", option]);
            assert_eq!(output.status.code(), Some(0), "{command} {option}");
            assert!(!hidden(&output.stdout) && !hidden(&output.stderr), "{command} {option}");
        }
    }
    // In JSON the escapes stand for the very same text.
    assert_eq!(names(&document(folder.path(), ["tensors", "evil.safetensors", "--json"])), [evil]);
    // CSV for another program is the text itself.
    assert!(stdout(&run(folder.path(), ["tensors", "evil.safetensors", "--csv"])).contains(evil));
    let missing = run(folder.path(), [evil, "--json"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(!hidden(&missing.stdout) && !hidden(&missing.stderr));
    assert_eq!(stderr(&missing).lines().count(), 1);
    for usage in [vec!["tensors", "x", evil], vec!["tensors", "x", "--role", evil], vec!["tensors", "--\u{1b}[2Jx"]] {
        let output = run(folder.path(), &usage);
        assert_eq!(output.status.code(), Some(2));
        assert!(!hidden(&output.stderr) && stderr(&output).lines().count() == 1, "{:?}", stderr(&output));
    }
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let tensors: Vec<String> = (0..20_000).map(|number| format!("layers.{number}.weight")).collect();
    let tensors: Vec<(&str, &[u64])> = tensors.iter().map(|name| (name.as_str(), [1].as_slice())).collect();
    fs::write(folder.path().join("many.safetensors"), safetensors(&tensors)).unwrap();
    for arguments in ["tensors many.safetensors", "tensors many.safetensors --json", "bytes many.safetensors --all"] {
        let mut child = anatomy(folder.path())
            .args(words(arguments))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 16];
        let mut reader = BufReader::with_capacity(16, child.stdout.take().unwrap());
        std::io::Read::read_exact(&mut reader, &mut first).unwrap();
        drop(reader);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments}");
        assert_eq!(stderr(&output), "", "{arguments}");
    }
    // Without a reader who leaves, all of it arrives.
    let output = run(folder.path(), words("tensors many.safetensors"));
    assert!(output.stdout.lines().count() > 20_000);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let folder = folder();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = anatomy(folder.path()).args(["tensors", "."]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("anatomy: standard output cannot be written: "));
}

#[cfg(unix)]
mod unix {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_need_not_be_unicode() {
        let folder = tempfile::tempdir().unwrap();
        let name = OsStr::from_bytes(b"m\xff\xfe.gguf");
        fs::write(folder.path().join(name), gguf()).unwrap();
        for command in ["inspect", "identify", "tensors", "bytes"] {
            let output = run(folder.path(), [OsStr::new(command), name]);
            assert_eq!(output.status.code(), Some(0), "{command}: {}", stderr(&output));
        }
        assert_eq!(run(folder.path(), [name]).status.code(), Some(0));
        let found = document(folder.path(), ["identify", ".", "--json"]);
        assert_eq!(paths(&found), ["./m\u{fffd}\u{fffd}.gguf"]);
        let missing = run(folder.path(), [OsStr::from_bytes(b"\xff")]);
        assert_eq!(stderr(&missing), "anatomy: \u{fffd}: no such file or directory\n");
    }

    #[test]
    fn links_are_followed_and_their_loops_end() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("d");
        fs::create_dir_all(root.join("real")).unwrap();
        fs::create_dir(folder.path().join("elsewhere")).unwrap();
        fs::write(root.join("real/a.gguf"), gguf()).unwrap();
        fs::write(folder.path().join("elsewhere/b.gguf"), gguf()).unwrap();
        symlink("real/a.gguf", root.join("to-file")).unwrap();
        symlink("real", root.join("again")).unwrap();
        symlink(".", root.join("loop")).unwrap();
        symlink("..", root.join("real/up")).unwrap();
        symlink("../elsewhere", root.join("out")).unwrap();
        let found = document(folder.path(), ["identify", "d", "--json"]);
        assert_eq!(paths(&found), ["d/out/b.gguf", "d/real/a.gguf", "d/to-file"]);

        symlink("nothing", root.join("dangling")).unwrap();
        let output = run(folder.path(), ["identify", "d"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("d/dangling: no such file or directory"));
    }

    /// Each folder links twice to the next: 2^30 ways through, 30 folders.
    #[test]
    fn a_lattice_of_links_is_walked_once() {
        let folder = tempfile::tempdir().unwrap();
        for level in 0..30 {
            let path = folder.path().join(format!("all/{level}"));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("x.gguf"), gguf()).unwrap();
            symlink(format!("../{}", level + 1), path.join("left")).unwrap();
            symlink(format!("../{}", level + 1), path.join("right")).unwrap();
        }
        fs::create_dir(folder.path().join("all/30")).unwrap();
        fs::create_dir(folder.path().join("start")).unwrap();
        symlink("../all/0", folder.path().join("start/in")).unwrap();
        assert_eq!(paths(&document(folder.path(), ["identify", "start", "--json"])).len(), 30);
    }

    #[test]
    fn pipes_are_never_waited_for() {
        let folder = folder();
        let made = Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap();
        assert!(made.success());
        assert_eq!(paths(&document(folder.path(), ["identify", ".", "--json"])), ["./model.safetensors"]);
        for arguments in ["identify pipe", "pipe", "tensors pipe", "identify /dev/zero", "bytes /dev/zero"] {
            let output = run(folder.path(), words(arguments));
            assert_eq!(output.status.code(), Some(2), "{arguments}");
            assert!(stderr(&output).contains("it is not a regular file"), "{arguments}");
        }
    }
}

/// The example's tokenizer, described, run and held beside itself.
#[test]
fn a_tokenizer_is_described_and_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let model = "examples/tiny-llama";
    let described = document(&root, ["tokenizer", model, "--json"]);
    for key in ["kind", "model", "vocab_size", "merges", "special_tokens", "added_tokens", "chat_template", "findings"]
    {
        assert!(described.get(key).is_some(), "{key}");
    }
    assert_eq!((&described["schema"], &described["kind"]), (&json!("anatomy.tokenizer/1"), &json!("tokenizer-json")));
    assert_eq!(described["matches"], json!(true));
    let text = "Hello, wörld!";
    let encoded = document(&root, ["tokenizer", model, "--encode", text, "--offsets", "--no-special", "--json"]);
    let ids: Vec<String> = encoded["ids"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(encoded["tokens"].as_array().unwrap().len(), ids.len());
    assert_eq!(encoded["offsets"].as_array().unwrap().len(), ids.len());
    let decode = ["tokenizer", model, "--json", "--decode"].map(str::to_string).into_iter().chain(ids.clone());
    assert_eq!(document(&root, decode)["text"], json!(text));

    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines.jsonl");
    fs::write(&lines, "\"Hello, wörld!\"\n\"\"\n\"a\\ud800\"\n").unwrap();
    let many =
        document(&root, ["tokenizer", model, "--no-special", "--json", "--encode-file", lines.to_str().unwrap()]);
    let results = many["results"].as_array().unwrap();
    assert_eq!((results.len(), &results[0]["ids"], &results[1]["ids"]), (3, &encoded["ids"], &json!([])));

    let compared = document(&root, ["tokenizer", model, "--compare", model, "--json"]);
    assert_eq!((&compared["only_a"], &compared["only_b"]), (&json!(0), &json!(0)));
    assert_eq!(compared["shared"], compared["same_id"]);
    let shown = run(&root, ["tokenizer", model]);
    assert!(stdout(&shown).contains("special"), "{}", stdout(&shown));
    let none = run(&root, ["tokenizer", "examples/llama-3.1-8b.json"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(stderr(&none).contains("there is no tokenizer"));
}
