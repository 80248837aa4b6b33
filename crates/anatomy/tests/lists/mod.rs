//! Names, types and shapes as real programs write them; made by `tools/make-name-lists`.

use std::collections::HashMap;
use std::io::Read;
use std::sync::LazyLock;

use anatomy::dtype::DType;

pub struct List {
    /// `tiny/llama`, `real/DeepSeek-V3`, `gguf/llama-dense`.
    pub name: String,
    /// Layers and experts by the configuration, elements in the file.
    pub facts: HashMap<String, u64>,
    pub tensors: Vec<(String, DType, Vec<u64>)>,
}

/// All lists, read once.
pub fn all() -> &'static [List] {
    static LISTS: LazyLock<Vec<List>> = LazyLock::new(read);
    &LISTS
}

fn read() -> Vec<List> {
    let packed = include_bytes!("../data/names.txt.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
    let mut lists: Vec<List> = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix('=') {
            let mut words = head.split(' ');
            let name = words.next().unwrap().to_string();
            let facts = words.map(|fact| fact.split_once('=').unwrap());
            let facts = facts.map(|(key, value)| (key.to_string(), value.parse().unwrap())).collect();
            lists.push(List { name, facts, tensors: Vec::new() });
            continue;
        }
        let mut fields = line.split('\t');
        let (name, dtype, shape) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        let dtype = match dtype.parse() {
            Ok(id) => DType::from_ggml(id).unwrap(),
            Err(_) => DType::from_safetensors(dtype).unwrap(),
        };
        let shape: Vec<u64> = shape.split(',').filter(|d| !d.is_empty()).map(|d| d.parse().unwrap()).collect();
        let tensors = &mut lists.last_mut().unwrap().tensors;
        expand(name, &mut |name| tensors.push((name, dtype, shape.clone())));
    }
    lists
}

/// Writes out `a.{0..3,7}.b`.
pub fn expand(name: &str, put: &mut dyn FnMut(String)) {
    let Some((before, rest)) = name.split_once('{') else { return put(name.to_string()) };
    let (set, after) = rest.split_once('}').unwrap();
    for run in set.split(',') {
        let (first, last) = run.split_once("..").unwrap_or((run, run));
        for number in first.parse::<u64>().unwrap()..=last.parse().unwrap() {
            expand(&format!("{before}{number}{after}"), put);
        }
    }
}
