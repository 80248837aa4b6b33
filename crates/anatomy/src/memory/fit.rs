//! Does it fit, and how far: searches over the true function of a runtime, none of them a guess.

use super::{CacheType, Device, Estimate, Flash, Request, Runtime, Subject, llama_cpp};
use rayon::prelude::*;

use crate::error::Result;
use crate::names::Role;

/// Contexts are searched up to here where the trained one is not known.
const MAX_CONTEXT: u64 = 1 << 20;
/// Sequences are searched up to here.
const MAX_PARALLEL: u64 = 1 << 12;

/// So many mixtures that fit are shown.
const MOST_MIXTURES: usize = 4;

/// Types of caches for which the largest context is shown.
pub const SHOWN_TYPES: [CacheType; 3] = [CacheType::F16, CacheType::Q8_0, CacheType::Q4_0];
/// Types of caches for which a curve is drawn.
pub const CURVE_TYPES: [CacheType; 6] =
    [CacheType::F32, CacheType::F16, CacheType::Q8_0, CacheType::Q5_1, CacheType::Q4_0, CacheType::Iq4Nl];

/// Evaluates many requests on one subject.
#[derive(Debug)]
pub struct Estimator<'s> {
    subject: &'s Subject,
    plan: llama_cpp::Plan,
    /// Bytes of main memory that may be used, where that is known.
    pub main_memory: Option<u64>,
}

/// A mixture that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantised {
    /// Its name.
    pub name: &'static str,
    /// Bytes of the weights.
    pub bytes: u64,
    /// Largest context that fits with it.
    pub context: Option<u64>,
}

/// What the searches found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fit {
    /// Whether the request fits; `None` where nothing says how much memory there is.
    pub fits: Option<bool>,
    /// Bytes that are left, or missing where negative, on the device that is fullest.
    pub spare: Option<i128>,
    /// Largest context that fits, at most the trained one.
    pub max_context: Option<u64>,
    /// The same for other types of caches.
    pub contexts: Vec<(CacheType, Option<u64>)>,
    /// Most layers that can be offloaded, where not all can.
    pub gpu_layers: Option<u64>,
    /// The largest mixtures in which llama.cpp would fit it, where the request does not fit.
    pub mixtures: Vec<Quantised>,
    /// Most sequences at once in this context.
    pub parallel: Option<u64>,
}

/// Bytes of a device that a runtime uses at most: vLLM keeps to a share.
fn budget(request: &Request, device: &Device) -> u64 {
    match request.runtime {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a size")]
        Runtime::Vllm => (device.capacity as f64 * request.utilization) as u64,
        _ => device.capacity,
    }
}

/// The largest number between `low` and `high` for which `fits` holds, if it holds for `low`; `fits` must not hold again
/// once it does not.
fn largest(low: u64, high: u64, fits: impl Fn(u64) -> bool) -> Option<u64> {
    if low > high || !fits(low) {
        return None;
    }
    let (mut good, mut bad) = (low, high.saturating_add(1));
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Some(good)
}

impl<'s> Estimator<'s> {
    /// For one subject.
    pub fn new(subject: &'s Subject) -> Self {
        Estimator { subject, plan: llama_cpp::Plan::new(subject), main_memory: None }
    }

    /// What a request takes, without the formulas.
    ///
    /// # Errors
    /// As [`super::estimate`].
    pub fn estimate(&self, request: &Request) -> Result<Estimate> {
        match request.runtime {
            Runtime::LlamaCpp => llama_cpp::with_plan(self.subject, request, &self.plan),
            _ => super::estimate(self.subject, request),
        }
    }

    /// All terms together.
    fn total(&self, request: &Request) -> Result<u64> {
        let estimate = match request.runtime {
            Runtime::LlamaCpp => llama_cpp::sums(self.subject, request, &self.plan),
            _ => super::estimate(self.subject, request),
        };
        Ok(estimate?.total())
    }

    /// Bytes that are left on the fullest place whose size is known; `None` where none is, or the cache is not known.
    fn spare(&self, request: &Request, estimate: &Estimate) -> Option<i128> {
        estimate.cache?;
        let left = estimate.placed.iter().filter_map(|placed| {
            let capacity = match placed.device {
                Some(index) => request.devices.get(index).map(|device| budget(request, device)),
                None => self.main_memory,
            };
            capacity.map(|capacity| i128::from(capacity) - i128::from(placed.used))
        });
        left.min()
    }

    fn fits(&self, request: &Request) -> bool {
        let estimate = self.estimate(request);
        estimate.is_ok_and(|estimate| self.spare(request, &estimate).is_some_and(|spare| spare >= 0))
    }

    /// Largest context that fits with a request, in the runtime's steps.
    fn max_context(&self, request: &Request) -> Option<u64> {
        let trained = self.subject.architecture.context_length.unwrap_or(MAX_CONTEXT);
        let most = trained.max(request.context).clamp(1, 1 << 40);
        let step = if request.runtime == Runtime::LlamaCpp { 256.min(most) } else { 1 };
        let at = |steps: u64| Request { context: (steps * step).min(most), ..request.clone() };
        largest(1, most.div_ceil(step), |steps| self.fits(&at(steps))).map(|steps| (steps * step).min(most))
    }

    /// All searches.
    ///
    /// # Errors
    /// As [`super::estimate`].
    pub fn fit(&self, request: &Request) -> Result<Fit> {
        let estimate = self.estimate(request)?;
        let Some(spare) = self.spare(request, &estimate) else { return Ok(Fit::default()) };
        let fits = spare >= 0;
        let contexts = if request.runtime == Runtime::LlamaCpp { &SHOWN_TYPES[..] } else { &[] };
        let contexts = contexts.iter().map(|kind| {
            let request = Request { key_type: Some(*kind), value_type: Some(*kind), ..request.clone() };
            // A type that the runtime refuses has no context.
            let refused = self.estimate(&request).is_err();
            (*kind, if refused { None } else { self.max_context(&request) })
        });
        let mut fit = Fit {
            fits: Some(fits),
            spare: Some(spare),
            max_context: self.max_context(request),
            contexts: contexts.collect(),
            ..Fit::default()
        };
        let at = |parallel: u64| Request { parallel, ..request.clone() };
        fit.parallel = largest(1, MAX_PARALLEL, |parallel| self.fits(&at(parallel)));
        let layered = request.runtime == Runtime::LlamaCpp && !request.devices.is_empty();
        if !fits && layered && request.gpu_layers.is_none() {
            let layers = self.subject.layer_count() as u64;
            let at = |layers: u64| Request { gpu_layers: Some(layers), ..request.clone() };
            fit.gpu_layers = largest(0, layers + 1, |layers| self.fits(&at(layers)));
        }
        if !fits {
            fit.mixtures = self.mixtures(request);
        }
        Ok(fit)
    }

    /// The largest mixtures in which llama.cpp fits the request, each with the largest context.
    fn mixtures(&self, request: &Request) -> Vec<Quantised> {
        let request = &Request { runtime: Runtime::LlamaCpp, ..request.clone() };
        let capacity = match request.devices.as_slice() {
            [] => self.main_memory.unwrap_or(0),
            devices => devices.iter().map(|device| device.capacity).fold(0, u64::saturating_add),
        };
        // Layers may stay in main memory, of which nothing is known here: then only the search can tell.
        let may = |bytes: u64| bytes <= capacity || request.gpu_layers.is_some() || request.cpu_moe;
        let mut found = Vec::new();
        self.subject.in_mixtures(|name, subject| {
            let bytes = subject.weight_bytes();
            if !may(bytes) {
                return false;
            }
            let other = Estimator { subject, plan: self.plan.again(subject), main_memory: self.main_memory };
            if other.fits(request) {
                found.push(Quantised { name, bytes, context: other.max_context(request) });
            }
            found.len() == MOST_MIXTURES
        });
        found
    }

    /// Total bytes over contexts up to `most`, so many of them, equally far apart.
    ///
    /// # Errors
    /// As [`super::estimate`].
    pub fn curve(&self, request: &Request, most: u64, points: u64) -> Result<Vec<(u64, u64)>> {
        let points = points.clamp(1, most.max(1));
        let contexts = (1..=points).into_par_iter().map(|point| {
            let context = u128::from(most) * u128::from(point) / u128::from(points);
            u64::try_from(context).unwrap_or(most).max(1)
        });
        contexts
            .map(|context| {
                let request = Request { context, ..request.clone() };
                self.total(&request).map(|total| (context, total))
            })
            .collect()
    }

    /// Tokens per second at which the memory that each token touches can be read at best: an upper bound that nobody
    /// reaches. `None` where a bandwidth is not known, or part of the model is in main memory.
    pub fn reading_speed(&self, request: &Request) -> Option<f64> {
        let devices: &[Device] = &request.devices;
        let rates: Vec<f64> = devices.iter().map(|device| device.bandwidth).collect::<Option<_>>()?;
        let layers = self.subject.layer_count() as u64;
        let partly = request.gpu_layers.is_some_and(|offloaded| offloaded <= layers) || request.cpu_moe;
        if rates.is_empty() || partly {
            return None;
        }
        let experts = self.subject.architecture.experts.as_ref();
        let share =
            experts.and_then(|experts| Some(experts.active? as f64 / experts.count.filter(|count| *count > 0)? as f64));
        let tied = self.subject.is_tied();
        let touched = self.subject.weights.iter().map(|weight| match weight.role {
            Role::Experts => weight.bytes as f64 * share.unwrap_or(1.0).min(1.0),
            // One row of the embedding is read; as output all of them are.
            Role::Embedding if weight.layer.is_none() && !tied => 0.0,
            Role::Vision | Role::Audio => 0.0,
            _ => weight.bytes as f64,
        });
        let one = Request { parallel: 1, flash: Flash::Auto, ..request.clone() };
        let kept = self.estimate(&one).ok()?;
        let bytes = touched.sum::<f64>() + kept.cache? as f64 + kept.state as f64;
        let capacity: f64 = devices.iter().map(|device| device.capacity as f64).sum();
        // Layers are spread by capacity and read one device after the other; vLLM reads all at once.
        let seconds: f64 = match request.runtime {
            Runtime::Vllm => bytes / rates.iter().sum::<f64>(),
            _ => devices
                .iter()
                .zip(&rates)
                .map(|(device, rate)| bytes * (device.capacity as f64 / capacity) / rate)
                .sum(),
        };
        (seconds > 0.0).then(|| 1.0 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::largest;

    #[test]
    fn the_search_finds_the_edge() {
        for edge in [1, 2, 3, 100, 255, 256] {
            assert_eq!(largest(1, 256, |number| number <= edge), Some(edge));
        }
        assert_eq!(largest(1, 256, |_| false), None);
        assert_eq!(largest(1, 0, |_| true), None);
    }
}
