//! What follows from a configuration alone.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};
use serde_json::Value as Json;

use super::build::{ByRole, Meaning, Parameters, build};
use super::page::Page;
use super::style::{BOLD, CYAN, DIM, GREEN, RED, paint, wrap};
use super::units::{bytes, count, elide, parameters, safe, thousands};
use crate::architecture::{self, Architecture, Evidence};
use crate::atlas::{self, Expected};
use crate::cache::KvCache;
use crate::dtype::DType;
use crate::explain::growth::Growth;
use crate::metadata::Metadata;
use crate::names::{self, Part, Role};
use crate::tensor::elements;

/// The document of `anatomy blueprint`.
#[derive(Debug, Serialize)]
pub struct Blueprint {
    schema: &'static str,
    source: String,
    family: String,
    title: String,
    parameters: Parameters,
    architecture: Architecture,
    kv_cache: KvCache,
    #[serde(flatten)]
    meaning: Meaning,
    dtype: &'static str,
    bytes: u64,
    bytes_by_dtype: BTreeMap<&'static str, u64>,
    assumptions: Vec<String>,
    /// How the parameters follow each number, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub growth: Vec<Growth>,
    /// What other values than the configuration's change; empty where none were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Changes>,
    #[serde(serialize_with = "one_by_one")]
    tensors: Vec<Expected>,
}

/// One tensor.
#[derive(Serialize)]
struct Entry<'e> {
    name: String,
    shape: &'e [u64],
    role: Role,
    layer: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    buffer: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    integers: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    optional: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gguf: Option<String>,
}

/// Rows of many experts are written tensor by tensor, as they would stand in a file.
fn one_by_one<S: Serializer>(tensors: &[Expected], serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(tensors.iter().map(|row| row.count).sum()))?;
    for row in tensors {
        for number in 0..row.count {
            list.serialize_element(&Entry {
                name: row.name(number),
                shape: &row.shape,
                role: row.role,
                layer: row.layer,
                buffer: row.buffer,
                integers: row.integers,
                aliases: row.aliases(number),
                optional: row.optional.as_deref(),
                gguf: row.gguf(number),
            })?;
        }
    }
    list.end()
}

/// What other values than the configuration's change.
#[derive(Debug, Serialize)]
struct Changes {
    /// The values, as they were asked for: key and value.
    set: Vec<(String, String)>,
    parameters_before: u64,
    kv_cache_before: KvCache,
    tensors: Vec<Change>,
}

/// One tensor, or those of a name that differ in layer and expert only.
#[derive(Debug, PartialEq, Serialize)]
struct Change {
    /// Name, with sets of numbers in braces; that of before where they are gone.
    name: String,
    before: Option<Side>,
    after: Option<Side>,
}

/// A row of the tree before or after a change.
#[derive(Debug, PartialEq, Serialize)]
struct Side {
    count: usize,
    shape: Vec<u64>,
}

/// Element types in which sizes are shown.
const SIZES: [DType; 6] = [DType::F32, DType::BF16, DType::F8_E4M3, DType::Q8_0, DType::Q4_K, DType::Q4_0];

impl Blueprint {
    /// Sizes, and what each layer keeps.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Reads the architecture off a blueprint as if its tensors were a file's.
    ///
    /// `dtype` is the type in which the numbers are counted in bytes.
    pub fn new(
        source: &str,
        blueprint: atlas::Blueprint,
        config: Option<&Json>,
        gguf: Option<&Metadata>,
        dtype: Option<DType>,
    ) -> Self {
        let atlas::Blueprint { family, title, tensors, assumptions, .. } = blueprint;
        let due: Vec<&Expected> = tensors.iter().filter(|row| row.optional.is_none()).collect();
        // Of many experts, the first and the last say all: how many there are, and their shapes.
        let ends = due.iter().flat_map(|row| {
            let last = (row.count > 1).then(|| row.name(row.count - 1));
            std::iter::once(row.name(0)).chain(last).map(move |name| (name, *row))
        });
        let ends: Vec<(String, &Expected)> = ends.collect();
        let parts = names::parse_all(ends.iter().map(|(name, _)| name.as_str()));
        let witnesses: Vec<_> = ends
            .iter()
            .zip(parts)
            .map(|((name, row), part)| {
                (name.as_str(), &*row.shape, Part { role: row.role, buffer: row.buffer, ..part })
            })
            .collect();
        let mut architecture = architecture::read(&Evidence { config, gguf, tensors: &witnesses });

        let sum = |wanted: &dyn Fn(&Expected) -> bool| {
            let rows = due.iter().filter(|row| wanted(row));
            rows.map(|row| row.parameters()).fold(0, u64::saturating_add)
        };
        let total = sum(&|_| true);
        let by_role = ByRole(Role::ALL.iter().map(|role| (*role, sum(&|row| row.role == *role))).collect());
        let buffers = sum(&|row| row.buffer);
        let experts = architecture.experts.as_ref();
        let routed: Vec<(u64, u64)> = due
            .iter()
            .filter(|row| row.role == Role::Experts && !row.buffer)
            .map(|row| match row.count as u64 {
                1 => {
                    let stacked = experts
                        .and_then(|experts| experts.count)
                        .filter(|count| elements(&row.shape).is_multiple_of(*count));
                    (row.parameters(), stacked.unwrap_or(1))
                }
                count => (row.parameters(), count),
            })
            .collect();
        let active = match experts.and_then(|experts| experts.active) {
            // A router's correction is stored with the numbers, but multiplies nothing.
            Some(active) => architecture::active_parameters(total.saturating_sub(buffers), &routed, active),
            None => routed.is_empty().then_some(total),
        };
        let kv_cache = architecture.cache.summary(architecture.context_length);
        let meaning = Meaning::new(&mut architecture, config, gguf, &witnesses);
        let stated = ["dtype", "torch_dtype"].iter().find_map(|key| config?.get(key)?.as_str());
        let stated = stated.and_then(|name| DType::named(name.trim_start_matches("torch.")));
        let dtype = dtype.or(stated).unwrap_or(DType::BF16);
        let size = |dtype: DType| due.iter().map(|row| size_in(row, dtype)).fold(0, u64::saturating_add);
        let bytes_by_dtype = SIZES.iter().map(|dtype| (dtype.name(), size(*dtype))).collect();
        let bytes = size(dtype);
        Blueprint {
            schema: "anatomy.blueprint/1",
            source: source.to_string(),
            family,
            title,
            parameters: Parameters::new(total, active, buffers, by_role),
            kv_cache,
            meaning,
            architecture,
            dtype: dtype.name(),
            bytes,
            bytes_by_dtype,
            assumptions,
            growth: Vec::new(),
            changes: None,
            tensors,
        }
    }

    /// Adds what differs from `before`, the same configuration without the values of `set` (key and value).
    pub fn compare(&mut self, before: &Blueprint, set: Vec<(String, String)>) {
        let tensors = changes(&before.tensors, &self.tensors);
        self.changes = Some(Changes {
            set,
            parameters_before: before.parameters.total,
            kv_cache_before: before.kv_cache.clone(),
            tensors,
        });
    }

    /// The blueprint as text; with `all`, each tensor on a line of its own.
    pub fn text(&self, width: usize, all: bool) -> String {
        let mut page = Page { out: String::new(), width: width.clamp(40, 120) };
        self.title(&mut page);
        if let Some(changes) = &self.changes {
            self.changed(&mut page, changes);
        }
        build(&self.architecture, &self.kv_cache, &mut page);
        self.meaning.text(&mut page);
        self.parameters.text(&mut page);
        let others = self.bytes_by_dtype.iter().filter(|(name, _)| **name != self.dtype);
        let others: Vec<String> = others.map(|(name, size)| format!("{} {name}", bytes(*size))).collect();
        page.section("size", &format!("{} in {} · {}", bytes(self.bytes), self.dtype, others.join(" · ")));
        for (index, growth) in self.growth.iter().enumerate() {
            let name = if index == 0 { "growth" } else { "" };
            let order = match growth.order {
                "linear" => "in a straight line",
                "quadratic" => "by the square, in part or in all",
                _ => "in steps, or against other numbers",
            };
            let key = safe(&growth.key);
            page.section(
                name,
                &format!("twice {key} ({}): {:.2} × the parameters, {order}", growth.value, growth.doubled),
            );
        }
        let _ = writeln!(page.out);
        if all {
            self.list(&mut page)
        } else {
            self.tree(&mut page)
        }
        if !self.assumptions.is_empty() {
            let _ = writeln!(page.out);
            page.section("assumed", "defaults, since the configuration does not say:");
            self.assumptions.iter().for_each(|text| page.more("{}", &safe(text)));
        }
        page.out
    }

    fn title(&self, page: &mut Page) {
        let total = format!("{} parameters", parameters(self.parameters.total));
        let tensors: usize = self.tensors.iter().filter(|row| row.optional.is_none()).map(|row| row.count).sum();
        let words = format!("{total} · {}", count(tensors as u64, "tensor", "tensors"));
        let name = if self.title.is_empty() { &self.family } else { &self.title };
        let room = page.width.saturating_sub(words.chars().count() + 4).max(12);
        let _ = writeln!(page.out, "{} · {words}", paint(BOLD, elide(&safe(name), room)));
        let line = format!("family {}, from {} alone", safe(&self.family), safe(&self.source));
        for line in wrap(&line, page.width) {
            let _ = writeln!(page.out, "{}", paint(DIM, line));
        }
        let _ = writeln!(page.out);
    }

    fn changed(&self, page: &mut Page, changes: &Changes) {
        let set: Vec<String> =
            changes.set.iter().map(|(key, value)| format!("{} = {}", safe(key), safe(value))).collect();
        let (before, after) = (changes.parameters_before, self.parameters.total);
        let mut line = format!("{}: ", set.join(", "));
        let _ = write!(line, "{} → {} parameters", parameters(before), paint(BOLD, parameters(after)));
        if before > 0 && after != before {
            let _ = write!(line, " ({:+.1} %)", (after as f64 / before as f64 - 1.0) * 100.0);
        }
        let mut lines = vec![line];
        let cache = |cache: &KvCache| cache.bytes_per_token.map(|size| format!("{} per token", bytes(size)));
        if let (Some(old), Some(new)) = (cache(&changes.kv_cache_before), cache(&self.kv_cache))
            && old != new
        {
            lines.push(format!("cache {old} → {new}"));
        }
        if changes.tensors.is_empty() {
            lines.push("no tensor depends on it".to_string());
        }
        page.section("changed", lines.first().map(String::as_str).unwrap_or_default());
        lines.iter().skip(1).for_each(|line| page.more("{}", line));
        let names = changes.tensors.iter().map(|change| change.name.chars().count()).max().unwrap_or(0);
        let names = names.min(page.width.saturating_sub(50)).max(16);
        for change in &changes.tensors {
            let side = |side: &Side| match side.count {
                1 => format!("{:?}", side.shape),
                count => format!("{} × {:?}", thousands(count as u64), side.shape),
            };
            let text = match (&change.before, &change.after) {
                (Some(before), Some(after)) => format!("{} → {}", side(before), paint(CYAN, side(after))),
                (None, Some(after)) => paint(GREEN, format!("new {}", side(after))),
                (Some(before), None) => paint(RED, format!("gone {}", side(before))),
                (None, None) => String::new(),
            };
            let name = tail(&safe(&change.name), names);
            let _ = writeln!(page.out, "  {name:<names$}  {text}");
        }
        let _ = writeln!(page.out);
    }

    /// Repeated layers and experts in one line.
    fn tree(&self, page: &mut Page) {
        let rows = fold(&self.tensors);
        let names: Vec<String> = rows.iter().map(|row| safe(&row.name)).collect();
        let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
        let shapes: Vec<String> = rows.iter().map(|row| format!("{:?}", row.shape)).collect();
        let roles: Vec<String> = rows.iter().map(|row| row.role.as_str().replace('_', "-")).collect();
        let digits = longest(&mut rows.iter().map(|row| thousands(row.count as u64).len()));
        let shape_width = longest(&mut shapes.iter().map(String::len));
        let role_width = longest(&mut roles.iter().map(String::len)) + 2;
        let name_width = longest(&mut names.iter().map(|name| name.chars().count()));
        let room = page.width.saturating_sub(digits + shape_width + 5);
        // A name says what a tensor is; its role is left out where there is no room for both.
        let with_role = name_width + role_width <= room;
        let name_width = name_width.min(if with_role { room - role_width } else { room }).max(16);
        for (((row, name), shape), role) in rows.iter().zip(&names).zip(&shapes).zip(&roles) {
            let name = tail(name, name_width);
            let number = thousands(row.count as u64);
            let role = if with_role { format!("  {role}") } else { String::new() };
            let mut line = format!("{name:<name_width$}  {number:>digits$} × {shape:<shape_width$}{role}");
            line.truncate(line.trim_end().len());
            if let Some(reason) = row.optional {
                let _ = write!(line, "  {}", paint(DIM, format!("(optional: {})", safe(reason))));
            }
            let _ = writeln!(page.out, "{line}");
        }
    }

    fn list(&self, page: &mut Page) {
        let name_width = page.width.saturating_sub(40).max(16);
        for row in &self.tensors {
            for number in 0..row.count {
                let name = tail(&safe(&row.name(number)), name_width);
                let shape = format!("{:?}", row.shape);
                let role = row.role.as_str().replace('_', "-");
                let optional = if row.optional.is_some() { "  (optional)" } else { "" };
                let _ = writeln!(page.out, "{name:<name_width$}  {shape:<18} {role}{optional}");
            }
        }
    }
}

/// The end of a name that is too long: what distinguishes it stands there.
fn tail(name: &str, width: usize) -> String {
    let count = name.chars().count();
    if count <= width {
        return name.to_string();
    }
    std::iter::once('…').chain(name.chars().skip(count + 1 - width)).collect()
}

/// Bytes of the tensors of a row: blocks lie along the last dimension, and what has one dimension is not quantised.
fn size_in(row: &Expected, dtype: DType) -> u64 {
    let block = dtype.block();
    let columns = row.shape.last().copied().unwrap_or(1);
    let fits = block == 1 || (row.shape.len() > 1 && columns.is_multiple_of(block));
    let dtype = if fits { dtype } else { DType::BF16 };
    let one = elements(&row.shape) / dtype.block().max(1);
    one.saturating_mul(dtype.block_bytes()).saturating_mul(row.count as u64)
}

/// A line of the tree.
struct Folded<'e> {
    name: String,
    count: usize,
    shape: &'e [u64],
    role: Role,
    optional: Option<&'e str>,
}

/// Brings rows together that differ in nothing but numbers in their names.
fn fold(tensors: &[Expected]) -> Vec<Folded<'_>> {
    // A row of many experts is its first and its last; what lies between follows.
    let mut listed: Vec<(String, &Expected)> = Vec::new();
    for row in tensors {
        listed.push((row.pattern(), row));
    }
    let list: Vec<(&str, DType, &[u64])> =
        listed.iter().map(|(name, row)| (name.as_str(), kind(row), &*row.shape)).collect();
    let rows = names::collapse(&list);
    rows.into_iter()
        .filter_map(|folded| {
            let (_, row) = listed.get(folded.first)?;
            Some(Folded {
                name: folded.pattern,
                count: folded.count.saturating_mul(row.count),
                shape: &row.shape,
                role: row.role,
                optional: row.optional.as_deref(),
            })
        })
        .collect()
}

/// Optional rows and others do not go together; a type stands for which they are.
fn kind(row: &Expected) -> DType {
    if row.optional.is_some() { DType::UNKNOWN } else { DType::BF16 }
}

/// What differs between two blueprints, folded over layers and experts.
fn changes(before: &[Expected], after: &[Expected]) -> Vec<Change> {
    let mut old: Vec<Folded> = fold(before);
    let mut list = Vec::new();
    for new in fold(after) {
        // The same tensors, else those whose names differ in nothing but the numbers.
        let same = old.iter().position(|row| row.name == new.name && row.count == new.count);
        let same = same.or_else(|| old.iter().position(|row| bare(&row.name) == bare(&new.name)));
        let row = same.map(|index| old.remove(index));
        if row.as_ref().is_some_and(|row| row.name == new.name && row.shape == new.shape) {
            continue;
        }
        let side = |row: &Folded| Side { count: row.count, shape: row.shape.to_vec() };
        list.push(Change { before: row.as_ref().map(side), after: Some(side(&new)), name: new.name });
    }
    let gone = old.into_iter().map(|row| Change {
        before: Some(Side { count: row.count, shape: row.shape.to_vec() }),
        after: None,
        name: row.name,
    });
    list.extend(gone);
    list
}

/// A folded name without its numbers.
fn bare(name: &str) -> String {
    let pieces = name.split('{').map(|piece| piece.split_once('}').map_or(piece, |(_, rest)| rest));
    pieces.collect::<Vec<_>>().join("*").replace(|c: char| c.is_ascii_digit(), "")
}
