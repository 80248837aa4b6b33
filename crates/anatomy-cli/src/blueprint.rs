//! `anatomy blueprint`: which tensors follow from a configuration alone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anatomy::atlas::{Atlas, nearest, with_value};
use anatomy::dtype::DType;
use anatomy::explain::growth;
use anatomy::metadata::{Metadata, Value};
use anatomy::model::{Model, read_json};
use anatomy::report::Blueprint;
use anatomy::source::Source;
use anatomy::{Error, ErrorKind};
use serde_json::Value as Json;

use crate::atlas::AtlasArg;
use crate::model::local;
use crate::output::{Failure, Output};

const AFTER: &str = "\
\x1b[1mExamples:\x1b[0m
  anatomy blueprint config.json                        the model that the configuration describes
  anatomy blueprint config.json --set hidden_size=8192 the same with another size, and what changes
  anatomy blueprint DIR --set text_config.num_hidden_layers=2
  anatomy blueprint model.gguf --dtype q4_k            from the metadata of a GGUF
  anatomy blueprint config.json --json | jq -r '.tensors[].name'
  anatomy blueprint config.json --atlas my-family.toml a family that this program does not know

\x1b[1mExit status:\x1b[0m
  0  done
  2  not found, not a configuration, an unknown family, or numbers that cannot be";

/// Which tensors, shapes and parameter counts follow from a configuration alone
///
/// Reads config.json, params.json or the metadata of a GGUF, never a weight, and derives every
/// tensor's name, shape and role, parameters in all and at work, bytes and cache. Whatever the
/// configuration leaves to the class of the model is listed as an assumption.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    /// A config.json, a params.json, a GGUF, or a directory or model that holds one
    #[arg(value_name = "CONFIG", value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,
    /// Take another value for a key, and show what changes; dots reach into sub-configurations
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, Json)>,
    /// Count bytes in this element type (f32, bf16, f8_e4m3, q8_0, q4_k, …), not the configuration's
    #[arg(long, value_name = "TYPE", value_parser = dtype)]
    dtype: Option<DType>,
    /// List every tensor on a line of its own
    #[arg(long, conflicts_with = "json")]
    all: bool,
    /// Show how the parameters follow each number of the configuration
    #[arg(long)]
    growth: bool,
    #[command(flatten)]
    atlas: AtlasArg,
}

fn assignment(text: &str) -> Result<(String, Json), &'static str> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as hidden_size=8192")?;
    if key.is_empty() || key.split('.').any(str::is_empty) {
        return Err("write KEY=VALUE, such as hidden_size=8192");
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Json::String(value.to_string()));
    Ok((key.to_string(), value))
}

fn dtype(text: &str) -> Result<DType, &'static str> {
    let known = DType::named(text).filter(|dtype| dtype.block() > 0);
    known.ok_or("no such element type; some are f32, bf16, f16, f8_e4m3, q8_0, q6_k, q4_k, q4_0, mxfp4")
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let atlas = args.atlas.open()?;
    let shown = args.path.display().to_string();
    let configuration = configuration(&args.path)?;
    let build = |configuration: &Configuration| {
        let (blueprint, config, metadata) = match configuration {
            Configuration::Json(config) => (atlas.blueprint(config), Some(config), None),
            Configuration::Gguf(metadata, held) => {
                let blueprint = atlas.blueprint_of_gguf(metadata).map(|mut blueprint| {
                    blueprint.divide(metadata, held.iter().map(String::as_str));
                    blueprint.settle(held.iter().map(String::as_str));
                    blueprint
                });
                (blueprint, None, Some(metadata))
            }
        };
        let blueprint = blueprint.map_err(|error| with_names(error, &atlas, &args.path).in_file(&*shown))?;
        let (family, keys) = (blueprint.family.clone(), blueprint.keys.clone());
        Ok::<_, Error>((Blueprint::new(&shown, blueprint, config, metadata, args.dtype), family, keys))
    };
    let mut asked = configuration.clone();
    let mut report = if args.set.is_empty() {
        build(&configuration)?.0
    } else {
        for (key, value) in &args.set {
            asked.set(key, value.clone())?;
        }
        let (mut report, family, keys) = build(&asked)?;
        let read = |key: &str| keys.iter().any(|known| known == configuration.plain(key));
        if let Some((key, _)) = args.set.iter().find(|(key, _)| !read(key) && !configuration.states(key)) {
            let message = format!("neither the configuration nor family {family} has a key {key}");
            let help = match near(configuration.plain(key), &keys) {
                Some(near) => format!("did you mean {near}?"),
                None => "see the configuration for its keys".to_string(),
            };
            return Err(Error::new(ErrorKind::Usage, message).help(help).into());
        }
        // What the file itself describes may be no model at all: then there is nothing to compare with.
        if let Ok((before, ..)) = build(&configuration) {
            let set = args.set.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
            report.compare(&before, set);
        }
        report
    };
    if args.growth {
        let Configuration::Json(config) = &asked else {
            let message = "--growth needs a configuration; a GGUF states numbers of a finished model";
            return Err(Error::new(ErrorKind::Usage, message).help("name a config.json").into());
        };
        report.growth = growth::explain(&atlas, config).map_err(|error| error.in_file(&*shown))?;
    }
    if output.json {
        output.document(&report)?
    } else {
        output.text(&report.text(output.width(), args.all))?
    }
    Ok(ExitCode::SUCCESS)
}

/// Of the keys that decide something the one that was probably meant: by its whole path, or by its last word deeper in
/// the configuration.
fn near<'k>(key: &str, keys: &'k [String]) -> Option<&'k str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_string();
    let deeper = || {
        let best = nearest(&last(key), keys.iter().map(|known| known.rsplit('.').next().unwrap_or_default()))?;
        keys.iter().map(String::as_str).find(|known| last(known) == best)
    };
    let same = keys.iter().map(String::as_str).find(|known| last(known) == last(key));
    same.or_else(|| nearest(key, keys.iter().map(String::as_str))).or_else(deeper)
}

/// To the error about an unknown family, what the names of the tensors are like, where weights or an index lie beside.
fn with_names(error: Error, atlas: &Atlas, path: &Path) -> Error {
    if error.kind() != ErrorKind::Unsupported {
        return error;
    }
    let configuration = path.file_name().is_some_and(|name| name == "config.json" || name == "params.json");
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(model) = Model::open(if configuration { folder } else { path }) else { return error };
    let listed = model.listed_names();
    let names = model.tensors().map(|(_, tensor)| tensor.name.as_str()).chain(listed.iter().map(String::as_str));
    let Some(like) = atlas.like_names(names, model.gguf().is_some()) else { return error };
    let help = [Some(like.as_str()), error.remedy()].into_iter().flatten().collect::<Vec<_>>().join("; ");
    Error::new(error.kind(), error.message()).help(help)
}

/// From what a blueprint follows.
#[derive(Clone)]
enum Configuration {
    Json(Json),
    /// Metadata, and the names of the tensors beside them.
    Gguf(Metadata, Vec<String>),
}

impl Configuration {
    /// Sets the value at a dotted path.
    fn set(&mut self, path: &str, value: Json) -> Result<(), Error> {
        let plain = self.plain(path);
        match self {
            Configuration::Json(config) => *config = with_value(config, path, value),
            Configuration::Gguf(metadata, _) => {
                let key = gguf_key(metadata, plain);
                let Some(value) = metadata_value(&value) else {
                    let message = format!("{path} of a GGUF must be a number, a truth or a text");
                    return Err(Error::new(ErrorKind::Usage, message));
                };
                metadata.set(&key, value);
            }
        }
        Ok(())
    }

    /// The key as a family spells it: without the architecture of a GGUF, which users may write.
    fn plain<'k>(&self, key: &'k str) -> &'k str {
        let architecture = match self {
            Configuration::Json(_) => None,
            Configuration::Gguf(metadata, _) => metadata.text("general.architecture"),
        };
        architecture.and_then(|name| key.strip_prefix(name)?.strip_prefix('.')).unwrap_or(key)
    }

    /// Whether the file itself has the key.
    fn states(&self, path: &str) -> bool {
        match self {
            Configuration::Json(config) => path.split('.').try_fold(config, |value, word| value.get(word)).is_some(),
            Configuration::Gguf(metadata, _) => metadata.get(&gguf_key(metadata, path)).is_some(),
        }
    }
}

/// The key with the architecture in front, which users may leave out.
fn gguf_key(metadata: &Metadata, key: &str) -> String {
    match metadata.text("general.architecture") {
        Some(architecture) if metadata.get(key).is_none() => format!("{architecture}.{key}"),
        _ => key.to_string(),
    }
}

fn metadata_value(value: &Json) -> Option<Value> {
    Some(match value {
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Value::Unsigned(number),
            (None, Some(number)) => Value::Signed(number),
            (None, None) => Value::Float(number.as_f64()?),
        },
        Json::String(text) => Value::Text(text.clone()),
        _ => return None,
    })
}

/// The configuration that a path stands for.
fn configuration(path: &Path) -> Result<Configuration, Error> {
    let path = local(path)?;
    // The weights beside a configuration need not be opened.
    for name in ["config.json", "params.json"] {
        let inside = path.join(name);
        if inside.is_file() {
            return read_json(&Source::open(&inside)?).map(Configuration::Json);
        }
    }
    let model = Model::open(path)?;
    if let Some(config) = model.config {
        return Ok(Configuration::Json(config));
    }
    if let Some(file) = model.files.into_iter().find(|file| file.container.format.id == "gguf") {
        let held = file.container.tensors.iter().map(|tensor| tensor.name.to_string()).collect();
        return Ok(Configuration::Gguf(file.container.metadata, held));
    }
    // A file of another name that was meant as a configuration fails with the reason why it is none.
    let source = Source::open(path)?;
    if !source.is_empty() && source.read(0..1)?.as_slice() == b"{" {
        return read_json(&source).map(Configuration::Json);
    }
    Err(Error::new(ErrorKind::Unsupported, "neither a configuration nor a GGUF is there")
        .in_file(path.display().to_string())
        .help("name a config.json, a params.json, a GGUF, or a folder that holds one"))
}
