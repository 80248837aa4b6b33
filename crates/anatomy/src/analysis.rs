//! What every report starts from: each tensor of a model with its part in it and the numbers that it
//! stands for.

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::{Finding, Rule, Severity};
use crate::model::Model;
use crate::names::{self, Part, Role, Stack};
use crate::packing::{self, Entry, Logical, Scheme};
use crate::tensor::Tensor;

pub(crate) static NORM_MISSING: Rule = Rule {
    name: "norm-missing",
    severity: Severity::Error,
    why: "A layer lacks a norm that the layers like it have. Norms are the smallest tensors and the most critical: \
          without one the model does not load, or talks nonsense.",
    help: "get the file again; if it is a merge or conversion, the tool that made it dropped the tensor",
};

/// The rules of this module.
pub static RULES: &[&Rule] = &[&NORM_MISSING];

/// One tensor, understood.
#[derive(Debug)]
pub struct Row<'m> {
    /// The tensor as its file lists it.
    pub tensor: &'m Tensor,
    /// Index of its file in the model.
    pub file: usize,
    /// What its name says.
    pub part: Part,
    /// Which numbers it stands for.
    pub logical: Logical,
}

impl Row<'_> {
    /// Shape of the numbers that it stands for.
    pub fn logical_shape(&self) -> &[u64] {
        self.logical.shape.as_deref().unwrap_or(&self.tensor.shape)
    }
}

/// A model's tensors, understood, in the order of their files.
#[derive(Debug)]
pub struct Analysis<'m> {
    /// The model.
    pub model: &'m Model,
    /// Its tensors.
    pub rows: Vec<Row<'m>>,
    /// The packed quantisations that were met, the one with most numbers first.
    pub schemes: Vec<Scheme>,
}

impl<'m> Analysis<'m> {
    /// Reads every tensor's name and counts what it stands for.
    pub fn new(model: &'m Model) -> Self {
        let (files, tensors): (Vec<usize>, Vec<&Tensor>) = model.tensors().unzip();
        let parts = names::parse_all(tensors.iter().map(|tensor| tensor.name.as_str()));
        let entries: Vec<Entry> = tensors
            .iter()
            .zip(&files)
            .zip(&parts)
            .map(|((tensor, file), part)| Entry { tensor, file: *file, buffer: part.buffer })
            .collect();
        let packing = packing::logical(&entries, model.config.as_ref());
        let rows = files.into_iter().zip(tensors).zip(packing.tensors).zip(parts);
        let mut rows: Vec<Row> =
            rows.map(|(((file, tensor), logical), part)| Row { tensor, file, part, logical }).collect();
        // Moments and averages of training are no numbers of the model.
        for row in rows.iter_mut().filter(|row| row.part.stack == Stack::Training) {
            row.logical.parameters = 0;
        }
        Analysis { model, rows, schemes: packing.schemes.into_iter().map(|(scheme, ..)| scheme).collect() }
    }

    /// Learned numbers in all.
    pub fn total(&self) -> u64 {
        self.rows.iter().map(|row| row.logical.parameters).fold(0, u64::saturating_add)
    }

    /// Learned numbers of each role, in the order of [`Role::ALL`]; they add up to the total.
    pub fn by_role(&self) -> Vec<(Role, u64)> {
        let mut sums: Vec<(Role, u64)> = Role::ALL.iter().map(|role| (*role, 0)).collect();
        // One pass: half a million rows do not fit into the processor's caches.
        for row in &self.rows {
            if let Some((_, sum)) = sums.iter_mut().find(|(role, _)| *role == row.part.role) {
                *sum = sum.saturating_add(row.logical.parameters);
            }
        }
        sums
    }
}

impl Analysis<'_> {
    /// Bytes of the model's own tensors; what tensors share counts once.
    pub fn stored_bytes(&self) -> u64 {
        self.bytes_of(|row| row.part.stack != Stack::Training)
    }

    /// Bytes that training left in the file beside the model: optimizer states, moving averages.
    pub fn training_bytes(&self) -> u64 {
        self.bytes_of(|row| row.part.stack == Stack::Training)
    }

    fn bytes_of(&self, wanted: impl Fn(&Row) -> bool) -> u64 {
        let mut sum = 0u64;
        // Per file and storage, the views' places: tied tensors coincide, views may overlap.
        let mut shared: BTreeMap<(usize, u32), Vec<(u64, u64)>> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| wanted(row)) {
            match row.tensor.storage {
                None => sum = sum.saturating_add(row.tensor.bytes),
                Some(view) => {
                    let size = row.tensor.dtype.block_bytes();
                    let start = view.offset.saturating_mul(size);
                    shared
                        .entry((row.file, view.storage))
                        .or_default()
                        .push((start, start.saturating_add(row.tensor.bytes)));
                }
            }
        }
        for places in shared.values_mut() {
            places.sort_unstable();
            let mut at = 0;
            for (start, end) in places.iter() {
                sum = sum.saturating_add(end.saturating_sub((*start).max(at)));
                at = at.max(*end);
            }
        }
        sum
    }
}

/// Layers that lack nothing but a norm, compared with the layers that are otherwise like them.
pub fn norms_missing(analysis: &Analysis) -> Vec<Finding> {
    // For each stack and layer: the names without their layer number, norms apart from the rest.
    type Names = (BTreeSet<String>, BTreeSet<String>);
    let mut layers: BTreeMap<(Stack, u32), Names> = BTreeMap::new();
    for row in &analysis.rows {
        let (Some(layer), None) = (row.part.layer, row.part.expert) else { continue };
        let Some((front, back)) = row.tensor.name.split_once(&format!(".{layer}.")) else { continue };
        let (norms, rest) = layers.entry((row.part.stack, layer)).or_default();
        let names = if row.part.role == Role::Norm { norms } else { rest };
        names.insert(format!("{front}.{{}}.{back}"));
    }
    // Layers of one kind hold the same tensors besides their norms; each norm that most of them have is due to all.
    type Alike<'n> = Vec<(u32, &'n BTreeSet<String>)>;
    let mut kinds: BTreeMap<(Stack, &BTreeSet<String>), Alike> = BTreeMap::new();
    for ((stack, layer), (norms, rest)) in &layers {
        kinds.entry((*stack, rest)).or_default().push((*layer, norms));
    }
    let of_embedding =
        |row: &Row| row.part.role == Role::Norm && row.part.layer.is_none() && row.tensor.name.contains("emb");
    let embedding_norm = analysis.rows.iter().any(of_embedding);
    let mut findings = crate::Findings::new();
    for alike in kinds.values().filter(|alike| alike.len() > 2) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in alike.iter().flat_map(|(_, norms)| norms.iter()) {
            *counts.entry(name).or_default() += 1;
        }
        let due = counts.iter().filter(|(_, count)| **count < alike.len() && **count * 2 > alike.len());
        for (name, count) in due {
            for (layer, _) in alike.iter().filter(|(_, norms)| !norms.contains(*name)) {
                // The first layer needs no norm of its input where the embedding has one (ModernBERT).
                if *layer == 0 && embedding_norm {
                    continue;
                }
                let full = name.replacen("{}", &layer.to_string(), 1);
                let message = format!("{full} is missing; {count} of {} layers like it have theirs", alike.len());
                findings.push(Finding::new(&NORM_MISSING, message).tensor(full));
            }
        }
    }
    findings.finish()
}
