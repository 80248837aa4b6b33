//! How much memory to run it, does it fit, up to which context.

use serde::Serialize;

use super::page::{INDENT, Page};
use super::style::{BOLD, CYAN, DIM, GREEN, RED, YELLOW, bar, paint};
use super::units::{bytes, parameters, safe, thousands};
use crate::error::Result;
use crate::memory::fit::{CURVE_TYPES, Estimator, Fit};
use crate::memory::{CacheType, Estimate, Part, Request, Runtime, Subject, estimate};

/// Points of a curve that was asked for.
const CURVE_POINTS: u64 = 200;
/// Points of the curve that every document holds.
const FEW_POINTS: u64 = 16;

/// The document of `anatomy memory`.
#[derive(Debug, Serialize)]
pub struct Memory {
    schema: &'static str,
    source: String,
    family: Option<String>,
    precision: String,
    parameters: u64,
    runtime: Runtime,
    context: u64,
    trained_context: Option<u64>,
    parallel: u64,
    kv_type: &'static str,
    weights_bytes: u64,
    kv_cache_bytes: Option<u64>,
    /// At most so much, where the cache is not known but the projections are.
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_cache_bound_bytes: Option<u64>,
    kv_bytes_per_token: Option<u64>,
    state_bytes: u64,
    compute_bytes: u64,
    output_bytes: u64,
    repack_bytes: u64,
    overhead_bytes: u64,
    total_bytes: u64,
    max_context: Option<u64>,
    fits: Option<bool>,
    /// Bytes left on the fullest device; missing bytes where negative.
    spare_bytes: Option<i64>,
    devices: Vec<Place>,
    max_context_by_kv_type: Vec<TypedContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu_layers_that_fit: Option<u64>,
    /// The largest mixtures in which llama.cpp would fit it, where it does not fit as it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quantizations_that_fit: Vec<Quantization>,
    max_parallel: Option<u64>,
    /// An upper bound: nobody reads memory at its peak rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    reading_speed_bound_tokens_per_second: Option<f64>,
    curve: Vec<Point>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    curves: Vec<Curve>,
    parts: Vec<Part>,
    /// What is wrong with the files, the first of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<String>,
    notes: Vec<String>,
    #[serde(skip)]
    layers: u64,
    #[serde(skip)]
    given: bool,
}

/// What one device holds.
#[derive(Debug, Serialize)]
struct Place {
    name: String,
    capacity_bytes: Option<u64>,
    used_bytes: u64,
    layers: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    basis: Option<String>,
}

/// Largest context with a type of cache.
#[derive(Debug, Serialize)]
struct TypedContext {
    kv_type: &'static str,
    context: Option<u64>,
}

/// A quantisation that fits.
#[derive(Debug, Serialize)]
struct Quantization {
    name: &'static str,
    weights_bytes: u64,
    max_context: Option<u64>,
}

/// One point of a curve.
#[derive(Debug, Clone, Serialize)]
struct Point {
    context: u64,
    total_bytes: u64,
}

/// A curve for one type of cache.
#[derive(Debug, Serialize)]
struct Curve {
    kv_type: &'static str,
    points: Vec<Point>,
}

impl Memory {
    /// Everything about a request. `main_memory` is what this machine has, in bytes; `stated` says whether the request
    /// names devices or sizes itself.
    ///
    /// # Errors
    /// Where the runtime refuses the settings.
    pub fn new(
        source: &str,
        subject: &Subject,
        request: &Request,
        main_memory: Option<u64>,
        with_curves: bool,
    ) -> Result<Self> {
        let mut estimator = Estimator::new(subject);
        estimator.main_memory = main_memory;
        let estimate = estimate(subject, request)?;
        let fit = estimator.fit(request)?;
        let trained = subject.architecture.context_length;
        let most = trained.unwrap_or(request.context).max(request.context).min(1 << 40);
        let points = |curve: Vec<(u64, u64)>| -> Vec<Point> {
            curve.into_iter().map(|(context, total_bytes)| Point { context, total_bytes }).collect()
        };
        let known = estimate.cache.is_some();
        let curve = match known {
            true => points(estimator.curve(request, most, if with_curves { CURVE_POINTS } else { FEW_POINTS })?),
            false => Vec::new(),
        };
        let mut curves = Vec::new();
        if with_curves && known {
            for kind in CURVE_TYPES {
                let request = Request { key_type: Some(kind), value_type: Some(kind), ..request.clone() };
                // A runtime may not have the type.
                if let Ok(curve) = estimator.curve(&request, most, CURVE_POINTS) {
                    curves.push(Curve { kv_type: kind.name(), points: points(curve) });
                }
            }
        }
        let bound = match estimate.cache {
            None => subject.cache_bound().map(|numbers| {
                numbers.saturating_mul(2).saturating_mul(request.context).saturating_mul(request.parallel)
            }),
            Some(_) => None,
        };
        let speed = estimator.reading_speed(request);
        Ok(Self::assemble(source, subject, request, main_memory, estimate, fit, curve, curves, bound, speed))
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one document")]
    fn assemble(
        source: &str,
        subject: &Subject,
        request: &Request,
        main_memory: Option<u64>,
        estimate: Estimate,
        fit: Fit,
        curve: Vec<Point>,
        curves: Vec<Curve>,
        bound: Option<u64>,
        speed: Option<f64>,
    ) -> Self {
        let devices = estimate.placed.iter().map(|placed| {
            let device = placed.device.and_then(|index| request.devices.get(index));
            Place {
                name: device.map_or("main memory".to_string(), |device| device.name.clone()),
                capacity_bytes: device.map_or(main_memory, |device| Some(device.capacity)),
                used_bytes: placed.used,
                layers: placed.layers,
                basis: device.map(|device| device.basis.clone()),
            }
        });
        let default = match request.runtime {
            Runtime::LlamaCpp => "f16",
            _ => CacheType::named(subject.dtype.name()).map_or("f16", CacheType::name),
        };
        let total = estimate.total();
        Memory {
            schema: "anatomy.memory/1",
            source: source.to_string(),
            family: subject.architecture.family.clone(),
            precision: subject.precision.clone(),
            parameters: subject.parameters,
            runtime: request.runtime,
            context: request.context,
            trained_context: subject.architecture.context_length,
            parallel: request.parallel,
            kv_type: request.key_type.map_or(default, CacheType::name),
            weights_bytes: estimate.weights,
            kv_cache_bytes: estimate.cache,
            kv_cache_bound_bytes: bound,
            kv_bytes_per_token: estimate.per_token,
            state_bytes: estimate.state,
            compute_bytes: estimate.compute,
            output_bytes: estimate.output,
            repack_bytes: estimate.repack,
            overhead_bytes: estimate.overhead,
            total_bytes: total,
            max_context: fit.max_context,
            fits: fit.fits,
            spare_bytes: fit.spare.and_then(|spare| i64::try_from(spare).ok()),
            devices: devices.collect(),
            max_context_by_kv_type: fit
                .contexts
                .iter()
                .map(|(kind, context)| TypedContext { kv_type: kind.name(), context: *context })
                .collect(),
            gpu_layers_that_fit: fit.gpu_layers,
            quantizations_that_fit: fit
                .mixtures
                .iter()
                .map(|found| Quantization { name: found.name, weights_bytes: found.bytes, max_context: found.context })
                .collect(),
            max_parallel: fit.parallel,
            reading_speed_bound_tokens_per_second: speed.map(|speed| (speed * 10.0).round() / 10.0),
            curve,
            curves,
            parts: estimate.parts,
            damage: subject.damage.clone(),
            notes: estimate.notes,
            layers: subject.layer_count() as u64,
            given: !request.devices.is_empty(),
        }
    }

    /// Bytes that are held at once: all terms, but of a mapped file whose blocks were re-packed only the copies, since
    /// the system may drop the pages.
    fn needed(&self) -> u64 {
        self.devices.iter().map(|place| place.used_bytes).fold(0, u64::saturating_add)
    }

    /// Whether it fits; `None` where nothing says how much memory there is.
    pub fn fits(&self) -> Option<bool> {
        self.fits
    }

    /// The page for people.
    pub fn text(&self, width: usize) -> String {
        let mut page = Page { out: String::new(), width: width.clamp(60, 120) };
        let name = self.source.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or(&self.source);
        let family = self.family.as_deref().map(|family| format!(" · {}", safe(family))).unwrap_or_default();
        page.line(&format!(
            "{}{family} · {} parameters · {}",
            paint(BOLD, safe(name)),
            parameters(self.parameters),
            self.precision
        ));
        let sequences = if self.parallel == 1 { String::new() } else { format!(" × {} sequences", self.parallel) };
        let about = if self.kv_cache_bytes.is_some() { "" } else { " without its cache" };
        page.line(&format!(
            "{} for {} tokens{sequences}{about}, run by {}",
            paint(BOLD, bytes(self.needed())),
            thousands(self.context),
            self.runtime.name()
        ));
        page.line("");
        self.verdict(&mut page);
        page.line("");
        self.terms(&mut page);
        self.growth(&mut page);
        for note in &self.notes {
            page.more(&paint(YELLOW, "{}"), &safe(note));
        }
        page.out
    }

    fn verdict(&self, page: &mut Page) {
        if let Some(damage) = &self.damage {
            page.section("damaged", &paint(RED, safe(damage)).to_string());
            page.more("{}", "the figures are of what the header declares; `anatomy check` tells more");
        }
        let limited = self.devices.iter().filter(|place| place.used_bytes > 0 && place.capacity_bytes.is_some());
        let several = limited.count() > 1;
        let on = if several { " on the fullest" } else { "" };
        match (self.fits, self.spare_bytes) {
            (Some(true), Some(spare)) => {
                let spare = bytes(spare.unsigned_abs());
                page.section("fits", &format!("{} with {spare} to spare{on}", paint(GREEN, "yes,")));
            }
            (Some(false), Some(spare)) => {
                let missing = bytes(spare.unsigned_abs());
                page.section("fits", &format!("{} {missing} too little{on}", paint(RED, "no,")));
            }
            _ => page.section("fits", "unknown: name a device with --gpu, or its memory with --vram"),
        }
        self.places(page);
        let trained = self.trained_context.map(|tokens| format!(" (trained for {})", thousands(tokens)));
        let trained = trained.unwrap_or_default();
        match (self.fits, self.max_context) {
            (Some(_), Some(context)) => {
                // Smaller types are worth a word only where they reach further.
                let others = self.max_context_by_kv_type.iter().filter_map(|typed| Some((typed, typed.context?)));
                let others = others.filter(|(typed, other)| typed.kv_type != self.kv_type && *other > context);
                let others: Vec<String> =
                    others.map(|(typed, context)| format!("{} with {}", thousands(context), typed.kv_type)).collect();
                let others = if others.is_empty() { String::new() } else { format!("; {}", others.join(", ")) };
                page.section("context", &format!("up to {} tokens{trained}{others}", thousands(context)));
            }
            (Some(_), None) => page.section("context", &format!("none fits{trained}")),
            (None, _) => {
                if let Some(tokens) = self.trained_context {
                    page.section("context", &format!("trained for {} tokens", thousands(tokens)));
                }
            }
        }
        if let Some(layers) = self.gpu_layers_that_fit {
            page.section("offload", &format!("{layers} of {} layers fit: --gpu-layers {layers}", self.layers + 1));
        }
        let mut name = "smaller";
        for other in &self.quantizations_that_fit {
            let context = other.max_context.map(|context| format!(", up to {} tokens", thousands(context)));
            let context = context.unwrap_or_default();
            let size = bytes(other.weights_bytes);
            page.section(name, &format!("{:<8} fits with llama.cpp: weights of {size}{context}", other.name));
            name = "";
        }
        if let Some(parallel) = self.max_parallel.filter(|parallel| *parallel > self.parallel) {
            page.section("batch", &format!("up to {} sequences at once in this context", thousands(parallel)));
        }
        // Nothing runs at a device's rate that does not fit it.
        let speed = self.reading_speed_bound_tokens_per_second.filter(|_| self.fits != Some(false));
        if let Some(speed) = speed {
            let speed = if speed < 10.0 { format!("{speed:.1}") } else { format!("{speed:.0}") };
            page.section(
                "speed",
                &format!("at most {speed} tokens/s: what each token reads, at the memory's peak rate"),
            );
        }
    }

    /// A line for each device; equal ones share theirs, which shows the fullest.
    fn places(&self, page: &mut Page) {
        let used: Vec<&Place> = self.devices.iter().filter(|place| place.used_bytes > 0).collect();
        let alike = |a: &&Place, b: &&Place| a.name == b.name && a.capacity_bytes == b.capacity_bytes;
        let groups: Vec<(String, &[&Place])> = used
            .chunk_by(alike)
            .filter_map(|group| {
                let name = safe(&group.first()?.name).to_string();
                Some((if group.len() > 1 { format!("{} × {name}", group.len()) } else { name }, group))
            })
            .collect();
        let width = groups.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, group) in groups {
            let most = group.iter().map(|place| place.used_bytes).max().unwrap_or(0);
            let capacity = group.first().and_then(|place| place.capacity_bytes);
            let size = capacity.map_or(String::new(), |size| format!(" of {}", bytes(size)));
            let each = if group.len() > 1 { " each" } else { "" };
            let share = capacity.map_or(0.0, |size| most as f64 / size.max(1) as f64);
            let gauge = if capacity.is_some() { bar(share, 12) } else { " ".repeat(12) };
            let counts = || group.iter().map(|place| place.layers);
            let layers = match (counts().min().unwrap_or(0), counts().max().unwrap_or(0)) {
                (_, 0) => String::new(),
                _ if !self.given => String::new(),
                (least, most) if least == most => format!(" · {most} of {} layers", self.layers),
                (least, most) => format!(" · {least} to {most} of {} layers", self.layers),
            };
            let gauge = paint(if share > 1.0 { RED } else { CYAN }, gauge);
            page.row(&format!("{name:<width$} {gauge} {}{size}{each}{layers}", bytes(most)));
        }
    }

    fn terms(&self, page: &mut Page) {
        for part in &self.parts {
            let share = part.bytes as f64 / self.total_bytes.max(1) as f64;
            let sign = if part.exact { " " } else { "≈" };
            let line = format!("{sign}{:>9}  {} ", bytes(part.bytes), paint(CYAN, bar(share, 12)));
            page.out.push_str(&paint(BOLD, format!("{:<INDENT$}", part.name)));
            page.out.push_str(&line);
            page.beside(INDENT + 25, &paint(DIM, "{}"), &part.formula);
        }
        if let Some(bound) = self.kv_cache_bound_bytes {
            page.section("cache", &format!("not known; at most {} by the shapes of the projections", bytes(bound)));
        }
    }

    fn growth(&self, page: &mut Page) {
        let Some(per_token) = self.kv_bytes_per_token else { return };
        page.line("");
        match (per_token, self.kv_cache_bytes, self.state_bytes) {
            (0, Some(0), 0) => page.section("growth", "none: it keeps nothing of past tokens"),
            (0, Some(0), _) => page.section("growth", "none: its state has a fixed size"),
            (0, _, _) => page.section("growth", "none any more: all windows are full"),
            (per_token, _, _) => {
                page.section("growth", &format!("{} for each further token of a sequence", bytes(per_token)));
            }
        }
        plot(page, &self.curve);
    }
}

/// A small plot of totals over contexts.
fn plot(page: &mut Page, curve: &[Point]) {
    const HEIGHT: usize = 6;
    const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (Some(first), Some(last)) = (curve.first(), curve.last()) else { return };
    let most = curve.iter().map(|point| point.total_bytes).max().unwrap_or(1).max(1);
    // A flat line says nothing that the figures above do not.
    if curve.len() < 4 || first.total_bytes * 20 > most * 19 {
        return;
    }
    let columns = 48;
    let heights: Vec<usize> = (0..columns)
        .map(|column| {
            let index = column * (curve.len() - 1) / (columns - 1);
            let total = curve.get(index).map_or(0, |point| point.total_bytes);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 48")]
            let eighths = (total as f64 / most as f64 * (HEIGHT * 8) as f64).round() as usize;
            eighths
        })
        .collect();
    for row in (0..HEIGHT).rev() {
        let cells: String = heights
            .iter()
            .map(|height| LEVELS.get(height.saturating_sub(row * 8).min(8)).copied().unwrap_or('█'))
            .collect();
        let label = if row == HEIGHT - 1 { bytes(most) } else { String::new() };
        page.row(&format!("{label:>9} {}", paint(CYAN, cells)));
    }
    let end = thousands(last.context);
    page.row(&format!("{:>9} {}{end:>width$}", "", paint(DIM, "0"), width = columns - 1));
}
