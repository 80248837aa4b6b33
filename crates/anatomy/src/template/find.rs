//! Where a model keeps its chat templates, and which one counts.

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::metadata::Value;
use crate::model::Model;
use crate::source::Source;
use crate::tokenizer;

/// A template as a file states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatedTemplate {
    /// `default`, `tool_use`, `rag`, …
    pub name: String,
    /// The file, and the key in it where it is not the whole file.
    pub place: String,
    /// The template's text.
    pub source: String,
    /// Whether transformers (for a GGUF, llama.cpp) would use it, or another place is asked first.
    pub used: bool,
}

/// A model's chat templates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Templates {
    /// All that are stated, those of the place that is asked first in front.
    pub stated: Vec<StatedTemplate>,
    /// What is odd about them, in sentences.
    pub notes: Vec<String>,
}

/// Files longer than this are not read, in bytes.
const MAX: u64 = 32 << 20;

/// `chat_template` of a configuration: one template, or several with names.
#[derive(Deserialize)]
#[serde(untagged)]
enum Configured {
    One(String),
    Named(Vec<Named>),
    /// Hand-made files have a map from names to templates, as transformers has in memory.
    Map(Map<String, Json>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    chat_template: Option<Configured>,
}

impl Templates {
    /// The templates of a model: those within a GGUF, else those of the files beside the weights.
    pub fn of(model: &Model) -> Templates {
        let mut found = Templates::default();
        if let Some(file) = model.gguf() {
            for entry in file.container.metadata.entries() {
                let Some(rest) = entry.key.strip_prefix("tokenizer.chat_template") else { continue };
                let name = rest.strip_prefix('.').unwrap_or("default");
                let text = match &entry.value {
                    Value::Text(text) => text.clone(),
                    Value::LongText(_) => {
                        found.notes.push(format!("{} is too long to be read as a template", entry.key));
                        continue;
                    }
                    _ => continue,
                };
                // The list of names is `tokenizer.chat_templates`, which is no template.
                if rest.is_empty() || rest.starts_with('.') {
                    found.state(name, format!("{} {}", base(&file.path), entry.key), text);
                }
            }
        }
        if found.stated.is_empty() {
            found.read_files(model);
        }
        found.choose();
        found
    }

    /// The template for a conversation: the one that is asked for, else `tool_use` where there are tools, else
    /// `default`; the same choice as in transformers.
    pub fn pick(&self, name: Option<&str>, tools: bool) -> Result<&StatedTemplate, String> {
        let named = |name: &str| self.stated.iter().find(|stated| stated.used && stated.name == name);
        let names = || self.stated.iter().map(|stated| stated.name.as_str()).collect::<Vec<_>>().join(", ");
        if self.stated.is_empty() {
            let why = self.notes.first().map(|note| format!(": {note}")).unwrap_or_default();
            return Err(format!("the model has no chat template{why}"));
        }
        match name {
            Some(name) => {
                named(name).ok_or_else(|| format!("there is no template named '{name}'; there are: {}", names()))
            }
            None => named("tool_use").filter(|_| tools).or_else(|| named("default")).ok_or_else(|| {
                format!("there are several templates and none is the default; name one of: {}", names())
            }),
        }
    }

    fn state(&mut self, name: &str, place: String, source: String) {
        self.stated.push(StatedTemplate { name: name.to_string(), place, source, used: false });
    }

    fn read_files(&mut self, model: &Model) {
        let mut mistral = None;
        // Files of their own are asked first.
        for file in &model.files {
            let name = base(&file.path);
            if name == "chat_template.jinja" {
                self.read_whole("default", &file.path, &file.source);
            } else if let (Some(stem), true) = (name.strip_suffix(".jinja"), in_folder(&file.path)) {
                self.read_whole(stem, &file.path, &file.source);
            }
        }
        for wanted in ["tokenizer_config.json", "chat_template.json"] {
            for file in model.files.iter().filter(|file| base(&file.path) == wanted) {
                self.read_configuration(wanted, &file.source);
            }
        }
        for file in &model.files {
            if matches!(file.identity.format.id, "tekken") || base(&file.path).starts_with("tokenizer.model.v") {
                mistral = Some(base(&file.path).to_string());
            }
        }
        if let (Some(name), true) = (mistral, self.stated.is_empty()) {
            self.notes.push(format!("Mistral's own files ({name}) hold none; its library builds the text in code"));
        }
    }

    fn read_whole(&mut self, name: &str, path: &str, source: &Source) {
        match read(source).and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_string())) {
            Ok(text) => self.state(name, base(path).to_string(), text),
            Err(why) => self.notes.push(format!("{} cannot be read as a template: {why}", base(path))),
        }
    }

    fn read_configuration(&mut self, name: &str, source: &Source) {
        let parsed = read(source).and_then(|bytes| {
            let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
            serde_json::from_slice::<Configuration>(text).map_err(|error| error.to_string())
        });
        match parsed.map(|configuration| configuration.chat_template) {
            Ok(None) => {}
            Ok(Some(Configured::One(text))) => self.state("default", format!("{name} chat_template"), text),
            Ok(Some(Configured::Named(list))) => {
                for Named { name: of, template } in list {
                    self.state(&of, format!("{name} chat_template"), template);
                }
            }
            Ok(Some(Configured::Map(map))) => {
                for (of, template) in map {
                    if let Json::String(template) = template {
                        self.state(&of, format!("{name} chat_template"), template);
                    }
                }
            }
            Err(why) => self.notes.push(format!("{name} cannot be read for a template: {why}")),
        }
    }

    /// Marks those that are used: all of the first place that has any. (A processor asks `chat_template.json` first;
    /// tokenizers do not know it.)
    fn choose(&mut self) {
        let kind = |stated: &StatedTemplate| match stated.place.split_once(' ') {
            Some((file, _)) => file.to_string(),
            None => "files".to_string(),
        };
        let Some(first) = self.stated.first().map(kind) else { return };
        let defaults: Vec<(String, String)> = self
            .stated
            .iter()
            .filter(|stated| stated.name == "default")
            .map(|stated| (stated.place.clone(), stated.source.clone()))
            .collect();
        for stated in &mut self.stated {
            stated.used = kind(stated) == first;
        }
        if let [(place, text), rest @ ..] = defaults.as_slice() {
            for (other, _) in rest.iter().filter(|(_, source)| source != text) {
                self.notes.push(format!("{place} and {other} state different templates; transformers uses {place}"));
            }
        }
    }
}

/// The special tokens of a model as a template sees them: `bos_token`, `eos_token`, … What the configurations state
/// counts; where they state neither a begin nor an end, the tokenizer's own.
pub fn special_tokens(model: &Model) -> Map<String, Json> {
    let mut tokens = tokenizer::stated_special_tokens(model);
    if !tokens.contains_key("bos") && !tokens.contains_key("eos") {
        tokens = tokenizer::of_model(model).map(|summary| summary.special_tokens).unwrap_or(tokens);
    }
    let named = tokens.into_iter().filter_map(|(role, special)| Some((role, special.token?)));
    named.map(|(role, token)| (format!("{role}_token"), Json::String(token))).collect()
}

fn read(source: &Source) -> Result<Vec<u8>, String> {
    if source.len() > MAX {
        return Err(format!("it has {} bytes; the limit is {MAX}", source.len()));
    }
    source.read(0..source.len()).map_err(|error| error.message().to_string())
}

fn base(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or_default()
}

/// Whether a file lies in the folder of further templates.
fn in_folder(path: &str) -> bool {
    let mut parts = path.rsplit(['/', '\\']).skip(1);
    parts.next() == Some("additional_chat_templates")
}
