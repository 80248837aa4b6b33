//! From a family and a configuration to every tensor.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use indexmap::IndexMap;
use minijinja::Value;
use minijinja::value::ValueKind;
use serde_json::Value as Json;

use super::Atlas;
use super::expression::{Code, compile, failed};
use super::family::{Family, Include, Part};
use super::matching::pattern;
use super::name::{Name, Template};
use super::scope::{Scope, at};
use super::table::{Line, Table};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::Metadata;
use crate::names::Role;

/// Tensors beyond this number are refused: the largest known models have half a million.
const MAX_TENSORS: usize = 4_000_000;
/// Rows beyond this number are refused, where each is held by itself; experts share one. The largest known models have
/// some tens of thousands.
const MAX_ROWS: usize = 300_000;
/// Turns of one loop beyond this number are refused.
const MAX_TURNS: usize = 1_000_000;
/// Work for one blueprint: turns of loops and rows that are looked at in them, whether a condition holds or not. The
/// largest known models take some tens of thousands.
const MAX_STEPS: usize = 500_000;
/// Entries of the longest list of the configuration that make each step cost one more, since an expression may search
/// a list.
const LIST_PER_STEP: usize = 64;
/// Entries of a list beyond this number are refused: the longest lists have one for each layer.
const MAX_LIST: usize = 100_000;
/// Families inside of families.
const MAX_DEPTH: usize = 8;

/// Tensors that follow from a configuration: one, or one for each expert of a layer.
#[derive(Debug, Clone)]
pub struct Expected {
    name: Name,
    aliases: Vec<Name>,
    gguf: Option<Name>,
    /// What the variables in the names become, loop by loop; the last loop turns fastest.
    inner: Arc<[Vec<String>]>,
    /// How many tensors they are.
    pub count: usize,
    /// Dimensions of each, outermost first.
    pub shape: Arc<[u64]>,
    /// What they do.
    pub role: Role,
    /// Layer within its stack.
    pub layer: Option<u32>,
    /// Stored, but not learned.
    pub buffer: bool,
    /// Integers, which are not learned and not counted.
    pub integers: bool,
    /// May be stored with fewer dimensions of the same product.
    pub flat: bool,
    /// Why some checkpoints leave them out.
    pub optional: Option<Arc<str>>,
    /// How the names in a header settle whether they are there.
    pub(super) held: Option<Held>,
}

/// Where a row stands that the names in a header settle.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// Its line: the same one in all turns of the loop.
    pub line: usize,
    /// The turn of the loop.
    pub turn: usize,
    /// What is chosen between, in words: lines with the same words belong together.
    pub choice: Arc<str>,
    /// The forms of the choice to which it belongs; none where the line is a choice by itself.
    pub forms: Arc<[String]>,
}

impl Expected {
    /// One tensor of a given name.
    pub(super) fn plain(name: &str, shape: &[u64], role: Role) -> Self {
        Expected {
            name: Name { pieces: vec![(name.to_string(), None)], len: name.len() },
            aliases: Vec::new(),
            gguf: None,
            inner: Arc::default(),
            count: 1,
            shape: shape.into(),
            role,
            layer: None,
            buffer: false,
            integers: false,
            flat: false,
            optional: None,
            held: None,
        }
    }

    /// Gives the name another beginning; the old one stays as another name. Nothing happens where it begins otherwise.
    pub(super) fn exchange(&mut self, from: &str, to: &str) {
        if let Some(name) = self.name.with_prefix(from, to) {
            self.aliases.retain(|alias| *alias != name);
            self.aliases.push(std::mem::replace(&mut self.name, name));
        }
    }

    /// Name of the tensor of this number, below `count`.
    pub fn name(&self, number: usize) -> String {
        self.name.at(number, &self.inner)
    }

    /// The name of all of them, with the numbers in which they differ in braces: `experts.{0..127}.up_proj.weight`.
    pub fn pattern(&self) -> String {
        let ranges: Vec<Vec<String>> = self.inner.iter().map(|values| vec![range(values)]).collect();
        self.name.at(0, &ranges)
    }

    /// Other names under which checkpoints of the family hold the tensor of this number.
    pub fn aliases(&self, number: usize) -> Vec<String> {
        self.aliases.iter().map(|alias| alias.at(number, &self.inner)).collect()
    }

    /// Its name in a GGUF; tensors share one where a GGUF stacks them.
    pub fn gguf(&self, number: usize) -> Option<String> {
        Some(self.gguf.as_ref()?.at(number, &self.inner))
    }

    /// Numbers in all of them that count as parameters.
    pub fn parameters(&self) -> u64 {
        if self.integers {
            return 0;
        }
        crate::tensor::elements(&self.shape).saturating_mul(self.count as u64)
    }
}

/// `{0..7}`, or `{a,b}`.
fn range(values: &[String]) -> String {
    match values {
        [one] => one.clone(),
        [first, .., last] if values.iter().enumerate().all(|(index, value)| *value == index.to_string()) => {
            format!("{{{first}..{last}}}")
        }
        _ => format!("{{{}}}", values.join(",")),
    }
}

/// Everything that follows from a configuration alone.
#[derive(Debug, Clone, Default)]
pub struct Blueprint {
    /// Name of the family.
    pub family: String,
    /// What people call it.
    pub title: String,
    /// The architecture that llama.cpp knows it by.
    pub gguf: Option<String>,
    /// Its tensors, layer by layer.
    pub tensors: Vec<Expected>,
    /// Each default that the configuration left to the class.
    pub assumptions: Vec<String>,
    /// The configuration keys that decided something, as dotted paths.
    pub keys: Vec<String>,
}

impl Blueprint {
    /// Learned numbers, those of optional tensors left out.
    pub fn total(&self) -> u64 {
        let due = self.tensors.iter().filter(|tensor| tensor.optional.is_none());
        due.map(Expected::parameters).fold(0, u64::saturating_add)
    }

    /// Drops the dimensions of 1 that precede all others, as ggml does when it writes a tensor.
    pub(super) fn drop_leading_ones(&mut self) {
        for row in &mut self.tensors {
            let most = row.shape.len().saturating_sub(1);
            let ones = row.shape.iter().take(most).take_while(|size| **size == 1).count();
            if ones > 0 {
                row.shape = row.shape.iter().skip(ones).copied().collect();
            }
        }
    }

    /// How many tensors there are, those of optional rows left out.
    pub fn count(&self) -> usize {
        self.tensors.iter().filter(|tensor| tensor.optional.is_none()).map(|tensor| tensor.count).sum()
    }

    /// Of a GGUF that was divided, leaves out what is in the other file: the layers that predict further tokens, which
    /// its metadata count in all the same, or all layers but those.
    pub fn divide<'n>(&mut self, metadata: &Metadata, held: impl IntoIterator<Item = &'n str>) {
        let architecture = metadata.text("general.architecture").unwrap_or_default();
        let number = |key: &str| metadata.unsigned(&format!("{architecture}.{key}")).unwrap_or(0);
        let further = number("nextn_predict_layers");
        let first = number("block_count").saturating_sub(further);
        if further == 0 || first == 0 {
            return;
        }
        let (mut holds_layers, mut holds_further) = (false, false);
        for name in held {
            match pattern(name).1 {
                Some(layer) if layer >= first || name.contains(".nextn.") => holds_further = true,
                Some(_) => holds_layers = true,
                None => {}
            }
        }
        if holds_layers != holds_further {
            let here = |layer: u32| (u64::from(layer) >= first) == holds_further;
            self.tensors.retain(|row| row.layer.is_none_or(here));
        }
    }
}

/// Builds the tensors of a configuration; `place` is where it stands in the whole, for messages.
pub(super) fn build(atlas: &Atlas, family: &Family, config: &Json) -> Result<Blueprint> {
    let scope = scope_of(family, config, String::new(), IndexMap::new());
    let longest = longest_list(config);
    if longest > MAX_LIST {
        let message = format!("the configuration holds a list of {longest} entries: no model needs so many");
        return Err(Error::new(ErrorKind::Limit, message).help("correct the configuration"));
    }
    let cost = 1 + longest / LIST_PER_STEP;
    let mut builder = Builder {
        atlas,
        tensors: Vec::new(),
        count: 0,
        cost,
        steps: 0,
        turn: 0,
        lines: 0,
        counted: HashMap::new(),
        scopes: Vec::new(),
    };
    builder.family(family, &Arc::new(scope), 0)?;
    let Builder { mut tensors, scopes, .. } = builder;
    let mut names = HashSet::with_capacity(tensors.len());
    if let Some(twice) = tensors.iter().find(|tensor| !names.insert((&tensor.name, &tensor.inner))) {
        return Err(Error::malformed(format!("family {}: {} follows twice", family.name, twice.name(0))));
    }
    drop(names);
    for tensor in &mut tensors {
        let Expected { name, aliases, .. } = tensor;
        aliases.retain(|alias| alias != name);
    }
    let mut assumptions = Vec::new();
    let mut keys = Vec::new();
    for scope in &scopes {
        assumptions.extend(scope.assumptions().into_iter().map(|assumption| match assumption.formula {
            Some(formula) => format!("{} = {} (from {formula})", assumption.key, assumption.value),
            None => format!("{} = {} (default of the class)", assumption.key, assumption.value),
        }));
        keys.extend(scope.keys_read());
    }
    Ok(Blueprint {
        family: family.name.clone(),
        title: family.title.clone(),
        gguf: family.gguf.clone(),
        tensors,
        assumptions,
        keys,
    })
}

fn scope_of(family: &Family, config: &Json, place: String, defaults: IndexMap<String, toml::Value>) -> Scope {
    let scope = Scope::family(family.keys.clone(), family.lets.clone(), config.clone(), place, defaults);
    let class = config.get("architectures").and_then(|list| list.get(0)).and_then(Json::as_str).unwrap_or_default();
    scope.set("architecture", Value::from(class));
    scope
}

struct Builder<'a> {
    atlas: &'a Atlas,
    tensors: Vec<Expected>,
    /// Single tensors so far.
    count: usize,
    /// What a step costs, and what all did so far.
    cost: usize,
    steps: usize,
    /// Number of the turn, over all loops, and how many lines were compiled.
    turn: usize,
    lines: usize,
    /// The numbers below a count as texts: the experts of all layers share them.
    counted: HashMap<usize, Arc<[Vec<String>]>>,
    scopes: Vec<Arc<Scope>>,
}

impl Builder<'_> {
    fn family(&mut self, family: &Family, scope: &Arc<Scope>, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::new(ErrorKind::Limit, "families contain each other without end"));
        }
        self.scopes.push(Arc::clone(scope));
        let start = self.tensors.len();
        for (id, include) in &family.include {
            self.include(family, id, include, scope, depth)?;
        }
        // After the includes, whose names a requirement may mention.
        for (sentence, text) in &family.requires {
            if !truth(family, sentence, text, scope)? {
                return Err(Error::malformed(format!(
                    "the configuration cannot be: {sentence} ({text} does not hold)"
                ))
                .help("correct the number that is wrong"));
            }
        }
        let parts: Vec<&Part> = family.part.values().collect();
        for parts in parts.chunk_by(|a, b| a.loops.is_some() && a.loops == b.loops) {
            self.parts(family, parts, scope)?;
        }
        for tensor in self.tensors.iter_mut().skip(start) {
            for (prefix, other) in &family.aliases {
                if let Some(alias) = tensor.name.with_prefix(prefix, other) {
                    tensor.aliases.push(alias);
                }
            }
        }
        Ok(())
    }

    fn include(
        &mut self,
        family: &Family,
        id: &str,
        include: &Include,
        scope: &Arc<Scope>,
        depth: usize,
    ) -> Result<()> {
        if let Some(text) = &include.when
            && !truth(family, id, text, scope)?
        {
            return Ok(());
        }
        let whole = scope.config();
        let path = include.config.as_deref();
        let empty = Json::Object(serde_json::Map::new());
        let config = match path {
            Some(path) => at(whole, path).filter(|value| !value.is_null()).unwrap_or(&empty),
            None => whole,
        };
        if let (Some(path), Json::Number(_) | Json::Bool(_) | Json::Array(_)) = (path, config) {
            return Err(Error::malformed(format!("{path} is not an object with keys of its own"))
                .help("correct the configuration"));
        }
        let stated = config.get("model_type").and_then(Json::as_str);
        let name = include.family.as_deref().or(stated).or(include.any.as_deref());
        let Some(name) = name else {
            let message = format!("{} does not say which model it is", path.unwrap_or("the configuration"));
            return Err(Error::malformed(message).help("add its model_type"));
        };
        let inner = match include.family {
            Some(_) => self.atlas.family(name)?,
            None => self.atlas.of_model_type(name, config)?,
        };
        let place = match path {
            Some(path) if scope.place().is_empty() => path.to_string(),
            Some(path) => format!("{}.{path}", scope.place()),
            None => scope.place().to_string(),
        };
        let inner_scope = Arc::new(scope_of(&inner, config, place, include.defaults.clone()));
        for (key, text) in &include.set {
            let value = Code::new(text).and_then(|code| code.value(scope));
            inner_scope.set(key, value.map_err(|error| failed(family, key, text, &error))?);
        }
        scope.set(id, Value::from_dyn_object(Arc::clone(&inner_scope)));
        let start = self.tensors.len();
        self.family(&inner, &inner_scope, depth + 1)?;
        let added = self.tensors.split_off(start);
        for mut tensor in added {
            tensor.name = tensor.name.renamed(&include.renames);
            let name = tensor.name(0);
            let left_out = include.without.iter().any(|without| match without.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => *without == name,
            });
            if left_out {
                continue;
            }
            tensor.aliases = tensor.aliases.into_iter().map(|alias| alias.renamed(&include.renames)).collect();
            tensor.role = include.role.map_or(tensor.role, |word| word.0);
            self.tensors.push(tensor);
        }
        Ok(())
    }

    /// Counts work, and refuses what is more than any model takes.
    fn step(&mut self, steps: usize) -> Result<()> {
        self.steps = self.steps.saturating_add(steps.saturating_mul(self.cost));
        if self.steps <= MAX_STEPS {
            return Ok(());
        }
        let message = "the configuration leads to more layers and parts than any model has";
        Err(Error::new(ErrorKind::Limit, message).help("look at its number of layers and experts, and at its lists"))
    }

    /// What the variables in the names of a row become, loop by loop.
    fn inner(&mut self, family: &Family, line: &Line, scope: &Arc<Scope>) -> Result<Arc<[Vec<String>]>> {
        let mut all: Vec<Vec<String>> = Vec::with_capacity(line.each.len());
        for (name, code, text) in &line.each {
            let value = code.value(scope).map_err(|error| failed(family, &line.row.name, text, &error))?;
            let items = items(family, name, text, &value)?;
            let count = items.len();
            if self.count.saturating_add(count) > MAX_TENSORS {
                return Err(too_many_tensors(MAX_TENSORS));
            }
            let counted = line.each.len() == 1 && value.kind() == ValueKind::Number;
            let texts = || items.iter().map(Value::to_string).collect();
            if counted {
                let known = self.counted.entry(count).or_insert_with(|| vec![texts()].into());
                return Ok(Arc::clone(known));
            }
            all.push(texts());
        }
        Ok(all.into())
    }

    /// Parts that run through the same loop, turn by turn.
    fn parts(&mut self, family: &Family, parts: &[&Part], scope: &Arc<Scope>) -> Result<()> {
        let mut tables = Vec::with_capacity(parts.len());
        for part in parts {
            tables.push(Table::new(family, part, self.lines)?);
            self.lines += part.rows.len();
        }
        let empty = IndexMap::new();
        let loops = parts.first().and_then(|part| part.loops.as_ref()).unwrap_or(&empty);
        let loops: Vec<(&str, Code, &str)> = loops
            .iter()
            .map(|(name, text)| Ok((name.as_str(), compile(family, name, text)?, text.as_str())))
            .collect::<Result<_>>()?;
        self.turns(family, &tables, scope, &loops, &mut Vec::new())
    }

    fn turns<'t>(
        &mut self,
        family: &Family,
        tables: &[Table],
        scope: &Arc<Scope>,
        loops: &[(&'t str, Code, &str)],
        variables: &mut Vec<(&'t str, Value)>,
    ) -> Result<()> {
        let Some(((name, code, text), rest)) = loops.split_first() else {
            for table in tables {
                self.turn(family, table, scope, variables)?;
            }
            return Ok(());
        };
        let here = Arc::new(Scope::turn(scope, &Arc::default(), variables));
        let value = code.value(&here).map_err(|error| failed(family, name, text, &error))?;
        for item in items(family, name, text, &value)? {
            self.step(1)?;
            variables.push((name, item));
            self.turns(family, tables, scope, rest, variables)?;
            variables.pop();
        }
        Ok(())
    }

    fn turn(&mut self, family: &Family, table: &Table, outer: &Arc<Scope>, variables: &[(&str, Value)]) -> Result<()> {
        self.step(1)?;
        self.turn += 1;
        let scope = Arc::new(Scope::turn(outer, &table.lets, variables));
        if let Some((code, text)) = &table.when
            && !holds(family, "a part", text, code, &scope)?
        {
            return Ok(());
        }
        let layer = variables
            .iter()
            .find(|(name, _)| *name == "layer")
            .and_then(|(_, value)| u32::try_from(value.clone()).ok());
        self.step(table.lines.len())?;
        let under = Name::new(family, "", &table.part_under, &scope, &[])?.at(0, &[]);
        let gguf_under = Name::new(family, "", &table.part_gguf, &scope, &[])?.at(0, &[]);
        for line in &table.lines {
            if let Some((code, text)) = &line.when
                && !holds(family, &line.row.name, text, code, &scope)?
            {
                continue;
            }
            let shape = line.shape(family, &scope)?;
            let inner = self.inner(family, line, &scope)?;
            let count = inner.iter().map(Vec::len).fold(1, usize::saturating_mul);
            self.count = self.count.saturating_add(count);
            if self.count > MAX_TENSORS || self.tensors.len() >= MAX_ROWS {
                let most = if self.count > MAX_TENSORS { MAX_TENSORS } else { MAX_ROWS };
                return Err(too_many_tensors(most));
            }
            if count == 0 {
                continue;
            }
            let fill = |before: &str, template: &Template| Name::new(family, before, template, &scope, &line.each);
            self.tensors.push(Expected {
                name: fill(&under, &line.name)?,
                aliases: line.aliases.iter().map(|alias| fill(&under, alias)).collect::<Result<_>>()?,
                gguf: line.gguf.as_ref().map(|gguf| fill(&gguf_under, gguf)).transpose()?,
                inner,
                count,
                shape,
                role: line.row.role,
                layer,
                buffer: line.row.more.buffer || line.row.more.integers,
                integers: line.row.more.integers,
                flat: line.row.more.flat,
                optional: line.optional.clone(),
                held: line.forms.as_ref().map(|(choice, forms)| Held {
                    line: line.id,
                    turn: self.turn,
                    choice: Arc::clone(choice),
                    forms: Arc::clone(forms),
                }),
            });
        }
        Ok(())
    }
}

fn too_many_tensors(most: usize) -> Error {
    let message = format!("the configuration asks for more than {most} tensors");
    Error::new(ErrorKind::Limit, message).help("look at its number of layers and experts")
}

/// Entries of the longest list anywhere in a configuration.
fn longest_list(config: &Json) -> usize {
    match config {
        Json::Array(list) => list.iter().map(longest_list).max().unwrap_or(0).max(list.len()),
        Json::Object(object) => object.values().map(longest_list).max().unwrap_or(0),
        _ => 0,
    }
}

fn truth(family: &Family, place: &str, text: &str, scope: &Arc<Scope>) -> Result<bool> {
    holds(family, place, text, &compile(family, place, text)?, scope)
}

fn holds(family: &Family, place: &str, text: &str, code: &Code, scope: &Arc<Scope>) -> Result<bool> {
    code.value(scope).map(|value| value.is_true()).map_err(|error| failed(family, place, text, &error))
}

/// The values that a loop variable takes: the items of a list, or the numbers below a count.
fn items(family: &Family, name: &str, text: &str, value: &Value) -> Result<Vec<Value>> {
    let too_many = |count: &dyn std::fmt::Display| {
        let message = format!("{text} is {count}: no model has so many of them");
        Error::new(ErrorKind::Limit, message).help("correct the configuration")
    };
    match value.kind() {
        ValueKind::Number => {
            let count = i64::try_from(value.clone()).ok().filter(|count| *count >= 0);
            let count = count.and_then(|count| usize::try_from(count).ok());
            let Some(count) = count else {
                return Err(Error::malformed(format!("{text} is {value}, not a count of {name}s"))
                    .help("correct the configuration"));
            };
            if count > MAX_TURNS { Err(too_many(&count)) } else { Ok((0..count).map(Value::from).collect()) }
        }
        ValueKind::String => Err(Error::malformed(format!("{text} is the text {value:?}, not a count of {name}s"))
            .help("correct the configuration")),
        _ => {
            let items = value.try_iter().map_err(|error| failed(family, name, text, &error))?;
            let items: Vec<Value> = items.take(MAX_TURNS + 1).collect();
            if items.len() > MAX_TURNS { Err(too_many(&items.len())) } else { Ok(items) }
        }
    }
}
