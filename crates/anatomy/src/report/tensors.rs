//! Every tensor of a model: name, type, shape, bytes, place, role.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use serde::ser::Serializer;

use super::style::{BOLD, DIM, paint};
use super::units::{bytes, count, elide, parameters, safe, thousands};
use crate::analysis::{Analysis, Row};
use crate::dtype::DType;
use crate::names::{Role, Stack, collapse};

/// The document of `anatomy tensors`.
#[derive(Debug, Serialize)]
pub struct Tensors<'m> {
    schema: &'static str,
    source: &'m str,
    /// Rows in the chosen order.
    pub tensors: Vec<TensorRow<'m>>,
}

/// One tensor.
#[derive(Debug, Serialize)]
pub struct TensorRow<'m> {
    name: &'m str,
    #[serde(serialize_with = "dtype")]
    dtype: DType,
    shape: &'m [u64],
    #[serde(skip_serializing_if = "Option::is_none")]
    logical_shape: Option<&'m [u64]>,
    parameters: u64,
    bytes: u64,
    file: &'m str,
    offset: Option<u64>,
    #[serde(serialize_with = "role")]
    role: Role,
    layer: Option<u32>,
    expert: Option<u32>,
    component: &'static str,
    #[serde(skip_serializing_if = "is_main")]
    stack: &'static str,
}

fn role<S: Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(role.as_str())
}

fn dtype<S: Serializer>(dtype: &DType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(dtype.name())
}

fn is_main(stack: &&str) -> bool {
    *stack == "main"
}

/// Decides on a name.
pub type NameFilter<'s> = Box<dyn Fn(&str) -> bool + 's>;

/// Which tensors are wanted; every condition that is set must hold.
#[derive(Default)]
pub struct Selection<'s> {
    /// On the name.
    pub name: Option<NameFilter<'s>>,
    /// By role.
    pub role: Option<Role>,
    /// By layer.
    pub layer: Option<u32>,
}

/// The order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As the files have them.
    #[default]
    File,
    /// By name, numbers in it as numbers.
    Name,
    /// Largest first, in bytes.
    Size,
    /// Most learned numbers first.
    Parameters,
    /// By element type, then name.
    Dtype,
}

impl<'m> Tensors<'m> {
    /// The tensors that are wanted, in order.
    pub fn new(analysis: &'m Analysis<'m>, wanted: &Selection, order: Order) -> Self {
        let matches = |row: &&Row| {
            wanted.name.as_ref().is_none_or(|name| name(&row.tensor.name))
                && wanted.role.is_none_or(|role| row.part.role == role)
                && wanted.layer.is_none_or(|layer| row.part.layer == Some(layer))
        };
        let model = analysis.model;
        let mut tensors: Vec<TensorRow> = analysis
            .rows
            .iter()
            .filter(matches)
            .map(|row| TensorRow {
                name: &row.tensor.name,
                dtype: row.tensor.dtype,
                shape: &row.tensor.shape,
                logical_shape: row.logical.shape.as_deref(),
                parameters: row.logical.parameters,
                bytes: row.tensor.bytes,
                file: model.files.get(row.file).map(|file| file.path.as_str()).unwrap_or_default(),
                offset: row.tensor.span.map(|span| span.start),
                role: row.part.role,
                layer: row.part.layer,
                expert: row.part.expert,
                component: row.part.component,
                stack: stack_name(row.part.stack),
            })
            .collect();
        match order {
            Order::File => {}
            Order::Name => tensors.sort_by_cached_key(|row| natural(row.name)),
            Order::Size => tensors.sort_by_key(|row| std::cmp::Reverse(row.bytes)),
            Order::Parameters => tensors.sort_by_key(|row| std::cmp::Reverse(row.parameters)),
            Order::Dtype => tensors.sort_by_cached_key(|row| (row.dtype.name(), natural(row.name))),
        }
        Tensors { schema: "anatomy.tensors/1", source: &model.source, tensors }
    }

    /// A table, one row per tensor.
    pub fn text(&self, width: usize) -> String {
        let mut out = String::new();
        let shapes: Vec<String> = self.tensors.iter().map(|row| shape(row)).collect();
        let widest = |lengths: &mut dyn Iterator<Item = usize>, most: usize| lengths.max().unwrap_or(0).min(most);
        let shape_width = widest(&mut shapes.iter().map(|text| text.chars().count()), 28).max(5);
        let dtype_width = widest(&mut self.tensors.iter().map(|row| row.dtype.name().len()), 12).max(5);
        let fixed = shape_width + dtype_width + 14 + 12 + 8;
        let longest = widest(&mut self.tensors.iter().map(|row| row.name.chars().count()), 120);
        let name_width = longest.min(width.saturating_sub(fixed)).max(16);
        let head = format!(
            "{:<name_width$}  {:<dtype_width$}  {:<shape_width$}  {:>10}  {:<14}",
            "name", "dtype", "shape", "bytes", "role"
        );
        let _ = writeln!(out, "{}", paint(DIM, head.trim_end()));
        for (row, shape) in self.tensors.iter().zip(&shapes) {
            let name = elide(&safe(row.name), name_width);
            let size = bytes(row.bytes);
            let role = row.role.as_str();
            let _ = writeln!(
                out,
                "{name:<name_width$}  {:<dtype_width$}  {shape:<shape_width$}  {size:>10}  {role}",
                row.dtype.name()
            );
        }
        self.closing_line(&mut out);
        out
    }

    /// Names collapsed over layers and experts: `layers.{0..31}.self_attn.q_proj  32 × [4096, 4096] BF16`.
    pub fn tree(&self, width: usize) -> String {
        let mut out = String::new();
        let list: Vec<_> = self.tensors.iter().map(|row| (row.name, row.dtype, row.shape)).collect();
        let rows = collapse(&list);
        let patterns: Vec<String> = rows.iter().map(|row| safe(&row.pattern)).collect();
        let longest = patterns.iter().map(|pattern| pattern.chars().count()).max().unwrap_or(0);
        let pattern_width = longest.min(width.saturating_sub(36)).max(16);
        let digits = rows.iter().map(|row| thousands(row.count as u64).len()).max().unwrap_or(1);
        for (row, pattern) in rows.iter().zip(&patterns) {
            let pattern = elide(pattern, pattern_width);
            let number = thousands(row.count as u64);
            let _ =
                writeln!(out, "{pattern:<pattern_width$}  {number:>digits$} × {:?} {}", row.shape, row.dtype.name());
        }
        self.closing_line(&mut out);
        out
    }

    fn closing_line(&self, out: &mut String) {
        let total = self.tensors.iter().map(|row| row.parameters).fold(0, u64::saturating_add);
        let size = self.tensors.iter().map(|row| row.bytes).fold(0, u64::saturating_add);
        let tensors = count(self.tensors.len() as u64, "tensor", "tensors");
        let text = format!("{tensors}, {} parameters ({}), {}", parameters(total), thousands(total), bytes(size));
        let _ = writeln!(out, "{}", paint(BOLD, text));
    }

    /// Comma-separated values with a header line; shapes are written `4096x4096`.
    pub fn csv(&self) -> String {
        let mut out = String::from("name,dtype,shape,parameters,bytes,file,offset,role,layer,component\n");
        for row in &self.tensors {
            let shape: Vec<String> = row.shape.iter().map(u64::to_string).collect();
            let offset = row.offset.map(|offset| offset.to_string()).unwrap_or_default();
            let layer = row.layer.map(|layer| layer.to_string()).unwrap_or_default();
            let fields = [
                row.name,
                row.dtype.name(),
                &shape.join("x"),
                &row.parameters.to_string(),
                &row.bytes.to_string(),
                row.file,
                &offset,
                row.role.as_str(),
                &layer,
                row.component,
            ];
            let fields: Vec<String> = fields.iter().map(|field| csv_field(field)).collect();
            let _ = writeln!(out, "{}", fields.join(","));
        }
        out
    }
}

/// A field as RFC 4180 has it.
pub(super) fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_string() }
}

fn shape(row: &TensorRow) -> String {
    match row.logical_shape {
        Some(logical) => format!("{:?} = {logical:?}", row.shape),
        None => format!("{:?}", row.shape),
    }
}

fn stack_name(stack: Stack) -> &'static str {
    match stack {
        Stack::Main => "main",
        Stack::Encoder => "encoder",
        Stack::Vision => "vision",
        Stack::Audio => "audio",
        Stack::NextToken => "next_token",
        Stack::Training => "training",
    }
}

/// Splits a name so that `layers.10` sorts after `layers.9`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let words = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(words);
        let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(digits);
        parts.push((word.to_string(), number.parse().unwrap_or(0)));
        rest = tail;
    }
    parts
}

/// Bytes by element type, largest first: `(dtype, tensors, parameters, bytes)`.
pub(super) fn by_dtype(analysis: &Analysis) -> Vec<(&'static str, u64, u64, u64)> {
    let mut sums: BTreeMap<DType, (u64, u64, u64)> = BTreeMap::new();
    for row in &analysis.rows {
        let sum = sums.entry(row.tensor.dtype).or_default();
        sum.0 += 1;
        sum.1 = sum.1.saturating_add(row.logical.parameters);
        sum.2 = sum.2.saturating_add(row.tensor.bytes);
    }
    let mut list: Vec<_> =
        sums.into_iter().map(|(dtype, (tensors, params, size))| (dtype.name(), tensors, params, size)).collect();
    list.sort_by_key(|(_, _, _, size)| std::cmp::Reverse(*size));
    list
}
