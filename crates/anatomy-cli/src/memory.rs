//! `anatomy memory`: how much memory to run it, does it fit, up to which context.

use std::path::PathBuf;
use std::process::ExitCode;

use anatomy::analysis::Analysis;
use anatomy::architecture::{self, Evidence};
use anatomy::atlas::Atlas;
use anatomy::memory::{CacheType, Device, Flash, Request, Runtime, Subject};
use anatomy::model::Model;
use anatomy::report::{Blueprint, Memory};
use anatomy::{Error, ErrorKind};
use clap::ValueEnum;

use crate::atlas::AtlasArg;
use crate::hardware;
use crate::model::local;
use crate::output::{Failure, Output};

/// What people run where they do not say: enough for a long chat, less than what models advertise.
const DEFAULT_CONTEXT: u64 = 8192;

const AFTER: &str = "\
\x1b[1mExamples:\x1b[0m
  anatomy memory model.gguf                            what llama.cpp takes on the processor
  anatomy memory model.gguf --gpu 'RTX 4090' -c 32768  does it fit this card, with how much to spare
  anatomy memory config.json --dtype q4_k_m --vram 24GiB
  anatomy memory DIR --runtime vllm --gpu 2xH100 --parallel 16
  anatomy memory model.gguf --gpu auto --kv-type q8_0  the devices of this machine
  anatomy memory config.json --gpu 4090 --fit && download-it
  anatomy memory model.gguf --curve --json | jq '.curves[0].points'

\x1b[1mExit status:\x1b[0m
  0  done
  1  it does not fit (only with --fit)
  2  not found, not a model, or settings that the runtime refuses";

/// How much memory to run it, does it fit, up to which context
///
/// Adds up weights, cache, states, intermediate results and overhead as the runtime really allocates
/// them, for every kind of attention. Says which terms are exact and which are estimates (≈), which
/// err high. Without a device the figures are those of the processor.
#[derive(Debug, clap::Args)]
#[command(after_long_help = AFTER)]
pub struct Args {
    /// A model, or a configuration alone
    #[arg(value_name = "MODEL", value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,
    /// Tokens of one sequence; 0 is the trained context [default: 8192, or less if it was trained for less]
    #[arg(short, long, visible_alias = "ctx-size", value_name = "N")]
    context: Option<u64>,
    /// Sequences at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    parallel: u64,
    /// The program that runs it [default: llama.cpp for a GGUF, else transformers]
    #[arg(long, value_enum, value_name = "RUNTIME")]
    runtime: Option<RuntimeArg>,
    /// Device, such as "RTX 4090", 2xH100 or m3max-64; repeat for several; "auto" for this machine's
    #[arg(long, value_name = "NAME")]
    gpu: Vec<String>,
    /// Memory of a device, such as 24GiB; repeat for several
    #[arg(long, value_name = "SIZE", value_parser = size)]
    vram: Vec<u64>,
    /// Exit with 1 if it does not fit
    #[arg(long)]
    fit: bool,
    /// Weights in this element type or mixture (bf16, fp8, q8_0, q4_k_m, …), not the file's
    #[arg(long, value_name = "TYPE")]
    dtype: Option<String>,
    /// Element type of cached keys and values
    #[arg(long, value_name = "TYPE", value_parser = cache_type, conflicts_with_all = ["cache_type_k", "cache_type_v"])]
    kv_type: Option<CacheType>,
    /// Element type of cached keys: f32, f16, bf16, fp8, q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl
    #[arg(long, value_name = "TYPE", value_parser = cache_type)]
    cache_type_k: Option<CacheType>,
    /// Element type of cached values
    #[arg(long, value_name = "TYPE", value_parser = cache_type)]
    cache_type_v: Option<CacheType>,
    /// Layers on the devices, the output counting as one more
    #[arg(long, visible_aliases = ["n-gpu-layers", "ngl"], value_name = "N")]
    gpu_layers: Option<u64>,
    /// Experts stay in main memory
    #[arg(long)]
    cpu_moe: bool,
    /// Flash attention
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    flash_attn: FlashArg,
    /// Tokens of a batch [default: 2048]
    #[arg(long, value_name = "N")]
    batch_size: Option<u64>,
    /// Tokens that are computed at once [default: 512]
    #[arg(long, value_name = "N")]
    ubatch_size: Option<u64>,
    /// Sliding windows get a cache of the whole context
    #[arg(long)]
    swa_full: bool,
    /// One cache for all sequences
    #[arg(long)]
    kv_unified: bool,
    /// Share of a device's memory that vLLM takes
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, value_parser = share)]
    gpu_memory_utilization: f64,
    /// Memory over contexts in 200 points, for six types of caches
    #[arg(long)]
    curve: bool,
    #[command(flatten)]
    atlas: AtlasArg,
}

/// Runtimes, as they are typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RuntimeArg {
    /// And what is built on it: Ollama, LM Studio.
    #[value(name = "llama.cpp", alias = "llamacpp")]
    LlamaCpp,
    /// An estimate by its rules.
    Vllm,
    /// The library itself.
    Transformers,
    /// Parameters × bytes + cache + 1 to 2 GiB.
    Formula,
}

/// When flash attention is used, as it is typed.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum FlashArg {
    /// Always.
    On,
    /// Never.
    Off,
    /// Where the runtime can.
    #[default]
    Auto,
}

fn cache_type(text: &str) -> Result<CacheType, &'static str> {
    CacheType::named(text).ok_or("one of f32, f16, bf16, fp8, q8_0, q5_1, q5_0, q4_1, q4_0, iq4_nl")
}

fn share(text: &str) -> Result<f64, &'static str> {
    let share = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share <= 1.0);
    share.ok_or("a number above 0 and at most 1")
}

/// `24GiB`, `24G`, `24576MiB`, `24` (GiB): people mean 2^30 when they speak of a card's GB.
fn size(text: &str) -> Result<u64, &'static str> {
    const HELP: &str = "write a size such as 24GiB, 24G or 512MiB";
    let text = text.trim().to_ascii_lowercase();
    let digits = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "g" | "gb" | "gib" => 1u64 << 30,
        "m" | "mb" | "mib" => 1 << 20,
        "k" | "kb" | "kib" => 1 << 10,
        "t" | "tb" | "tib" => 1 << 40,
        "b" => 1,
        _ => return Err(HELP),
    };
    let number: f64 = number.parse().map_err(|_| HELP)?;
    let bytes = number * factor as f64;
    if !(1.0..9e18).contains(&bytes) {
        return Err(HELP);
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Ok(bytes as u64)
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let atlas = args.atlas.open()?;
    let shown = args.path.display().to_string();
    let (subject, gguf) = subject(args, &atlas).map_err(|error| error.in_file(&*shown))?;
    let runtime = match args.runtime {
        Some(RuntimeArg::LlamaCpp) => Runtime::LlamaCpp,
        Some(RuntimeArg::Vllm) => Runtime::Vllm,
        Some(RuntimeArg::Transformers) => Runtime::Transformers,
        Some(RuntimeArg::Formula) => Runtime::Formula,
        None if gguf => Runtime::LlamaCpp,
        None => Runtime::Transformers,
    };
    let trained = subject.architecture.context_length.filter(|tokens| *tokens > 0);
    let context = match args.context {
        Some(0) => trained.ok_or_else(|| {
            Error::new(ErrorKind::Usage, "the trained context is not known").help("name one, such as -c 8192")
        })?,
        Some(context) => context,
        None => trained.map_or(DEFAULT_CONTEXT, |trained| trained.min(DEFAULT_CONTEXT)),
    };
    let mut devices = Vec::new();
    for name in &args.gpu {
        if name == "auto" {
            devices.extend(hardware::devices()?);
        } else {
            devices.extend(Device::named(name)?);
        }
    }
    for (number, bytes) in args.vram.iter().enumerate() {
        let name = if args.vram.len() == 1 { "device".to_string() } else { format!("device {}", number + 1) };
        devices.push(Device::of_size(name, *bytes));
    }
    let mut request = Request::new(runtime, context);
    request.parallel = args.parallel;
    request.batch = args.batch_size.unwrap_or(if runtime == Runtime::Vllm { 8192 } else { request.batch });
    request.ubatch = args.ubatch_size.unwrap_or(request.ubatch);
    request.key_type = args.kv_type.or(args.cache_type_k);
    request.value_type = args.kv_type.or(args.cache_type_v);
    request.flash = match args.flash_attn {
        FlashArg::On => Flash::On,
        FlashArg::Off => Flash::Off,
        FlashArg::Auto => Flash::Auto,
    };
    request.swa_full = args.swa_full;
    request.kv_unified = args.kv_unified;
    request.gpu_layers = args.gpu_layers;
    request.cpu_moe = args.cpu_moe;
    request.utilization = args.gpu_memory_utilization;
    let main_memory = if devices.is_empty() { hardware::main_memory() } else { None };
    request.devices = devices;
    let report = Memory::new(&shown, &subject, &request, main_memory, args.curve)?;
    if output.json {
        output.document(&report)?
    } else {
        output.text(&report.text(output.width()))?
    }
    if args.fit && report.fits().is_none() {
        let message = "nothing says whether it fits: there is no size to compare with, or the cache is not known";
        return Err(Error::new(ErrorKind::Usage, message).help("name a device with --gpu or --vram").into());
    }
    Ok(if args.fit && report.fits() == Some(false) { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// What is to be run, and whether it is a GGUF.
fn subject(args: &Args, atlas: &Atlas) -> Result<(Subject, bool), Error> {
    let path = local(&args.path)?;
    let model = Model::open(path)?;
    let analysis = Analysis::new(&model);
    let gguf = model.gguf();
    if let Some(file) = model.files.iter().find(|file| file.container.breaks_off) {
        let message = format!(
            "the header breaks off after {} tensors, so nobody knows how many more there are",
            file.container.tensors.len()
        );
        let help = "download the file again; `anatomy check` says where it ends";
        return Err(Error::new(ErrorKind::Malformed, message).help(help).in_file(&*file.path));
    }
    if gguf.is_some() && analysis.rows.is_empty() {
        let help = "name the file that holds the weights, or a config.json";
        return Err(Error::new(ErrorKind::Unsupported, "there are no weights in it").help(help));
    }
    let precision = args.dtype.as_deref().map(|name| if name.eq_ignore_ascii_case("fp8") { "f8_e4m3" } else { name });
    let blueprint = match (gguf, &model.config) {
        (None, Some(config)) => Some(atlas.blueprint(config)),
        _ => None,
    };
    let whole = !analysis.rows.is_empty() && !model.is_incomplete();
    if !whole && gguf.is_none() {
        let Some(blueprint) = blueprint.transpose()? else {
            return Err(Error::new(ErrorKind::Unsupported, "neither weights nor a configuration are there")
                .help("name a GGUF, a folder with weights, or a config.json"));
        };
        let report = Blueprint::new("", blueprint.clone(), model.config.as_ref(), None, None);
        let architecture = report.architecture().clone();
        return Ok((Subject::planned(&blueprint, architecture, model.config.as_ref(), precision)?, false));
    }
    let witnesses: Vec<_> =
        analysis.rows.iter().map(|row| (row.tensor.name.as_str(), row.logical_shape(), row.part)).collect();
    let metadata = gguf.map(|file| &file.container.metadata);
    let evidence = Evidence { config: model.config.as_ref(), gguf: metadata, tensors: &witnesses };
    let architecture = architecture::read(&evidence);
    let blueprint = blueprint.and_then(Result::ok);
    let subject = Subject::measured(&analysis, architecture, blueprint.as_ref());
    let subject = match precision {
        Some(precision) => subject.with_precision(precision)?.ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "its tensors are not known, so it cannot be weighed in another type")
        })?,
        None => subject,
    };
    Ok((subject, gguf.is_some()))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(size("24GiB"), Ok(24 << 30));
        assert_eq!(size("24 GB"), Ok(24 << 30));
        assert_eq!(size("24"), Ok(24 << 30));
        assert_eq!(size("512mib"), Ok(512 << 20));
        assert_eq!(size("1.5T"), Ok(3 << 39));
        for wrong in ["", "GiB", "24 apples", "-1", "1e40"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
