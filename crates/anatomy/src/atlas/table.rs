//! A part of a family's file, compiled once for all turns of its loop.

use std::sync::Arc;

use indexmap::IndexMap;

use super::expression::{Code, compile, failed};
use super::family::{Family, Part, Row};
use super::name::Template;
use super::scope::Scope;
use crate::error::{Error, ErrorKind, Result};

/// A part, compiled.
pub(super) struct Table<'p> {
    pub(super) lets: Arc<IndexMap<String, Code>>,
    pub(super) when: Option<(Code, &'p str)>,
    pub(super) part_under: Template,
    pub(super) part_gguf: Template,
    pub(super) lines: Vec<Line<'p>>,
}

/// A row, compiled.
pub(super) struct Line<'p> {
    pub(super) row: &'p Row,
    pub(super) name: Template,
    pub(super) gguf: Option<Template>,
    pub(super) aliases: Vec<Template>,
    pub(super) when: Option<(Code, &'p str)>,
    pub(super) dimensions: Vec<(Code, &'p str)>,
    pub(super) each: Vec<(&'p str, Code, &'p str)>,
    pub(super) optional: Option<Arc<str>>,
    /// Its number among all lines.
    pub(super) id: usize,
    /// The choice that the names in a header settle, and the forms of it to which the line belongs.
    pub(super) forms: Option<(Arc<str>, Arc<[String]>)>,
}

impl<'p> Table<'p> {
    /// `first`: what its first line is counted as.
    pub(super) fn new(family: &Family, part: &'p Part, first: usize) -> Result<Self> {
        let of_family = part.loops.iter().flat_map(|_| &family.turn).filter(|(name, _)| !part.lets.contains_key(*name));
        let lets: IndexMap<String, Code> = of_family
            .chain(&part.lets)
            .map(|(name, text)| Ok((name.clone(), compile(family, name, text)?)))
            .collect::<Result<_>>()?;
        let when = |text: &'p Option<String>| {
            text.as_deref().map(|text| Ok::<_, Error>((compile(family, "if", text)?, text))).transpose()
        };
        let lines = part.rows.iter().enumerate().map(|(index, row)| {
            let name = Template::new(&row.name);
            let each = row.more.each.iter().chain(&part.each).filter(|(variable, _)| name.mentions(variable));
            let mut loops: Vec<(&str, Code, &str)> = Vec::new();
            for (variable, text) in each {
                if loops.iter().all(|(known, ..)| known != variable) {
                    loops.push((variable, compile(family, variable, text)?, text));
                }
            }
            let dimensions = dimensions(&row.shape).map(|text| Ok((compile(family, &row.name, text)?, text)));
            Ok(Line {
                row,
                name,
                gguf: row.gguf.as_deref().map(Template::new),
                aliases: row.more.alias.iter().map(|alias| Template::new(alias)).collect(),
                when: when(&row.more.when)?,
                dimensions: dimensions.collect::<Result<_>>()?,
                each: loops,
                optional: row.more.may_lack().map(Arc::from),
                id: first + index,
                forms: row.more.held.as_deref().map(|choice| (Arc::from(choice), row.more.form.as_slice().into())),
            })
        });
        Ok(Table {
            lets: Arc::new(lets),
            when: when(&part.when)?,
            part_under: Template::new(part.under.as_deref().unwrap_or_default()),
            part_gguf: Template::new(part.gguf.as_deref().unwrap_or_default()),
            lines: lines.collect::<Result<_>>()?,
        })
    }
}

impl Line<'_> {
    pub(super) fn shape(&self, family: &Family, scope: &Arc<Scope>) -> Result<Arc<[u64]>> {
        let mut shape = Vec::with_capacity(self.dimensions.len());
        let mut elements: u64 = 1;
        for (code, text) in &self.dimensions {
            let value = code.value(scope).map_err(|error| failed(family, &self.row.name, text, &error))?;
            let size = i64::try_from(value.clone()).ok().and_then(|size| u64::try_from(size).ok());
            let Some(size) = size.filter(|size| *size > 0 || self.row.more.empty) else {
                let message = format!("{}: its size {text} is {value}, which cannot be", self.row.name);
                return Err(Error::malformed(message).help("correct the configuration"));
            };
            elements = elements.checked_mul(size).filter(|elements| *elements < 1 << 60).ok_or_else(|| {
                let message = format!("{}: its size {text} is {value}, beyond any model", self.row.name);
                Error::new(ErrorKind::Limit, message).help("correct the configuration")
            })?;
            shape.push(size);
        }
        Ok(shape.into())
    }
}

/// The dimensions of a shape: what stands between commas that are outside of parentheses.
pub(super) fn dimensions(shape: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0i32;
    shape
        .split(move |c| {
            match c {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                _ => {}
            }
            c == ',' && depth == 0
        })
        .map(str::trim)
        .filter(|text| !text.is_empty())
}
