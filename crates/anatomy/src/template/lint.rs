//! What in a template reaches for more than a conversation, or says more than it should.
//!
//! The tree is looked at, not the text: names that are put together from pieces are put together here, too, by
//! evaluating whatever is constant. Literal text is data and alarms only where it is written under a condition on what
//! a user said, or where it hides.

mod words;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use super::jinja::ast::{Block, Comparison, Expr, ExprKind, FilterCall, Operator, Statement, StatementKind, Target};
use super::jinja::evaluate;
use super::jinja::fault::Budget;
use super::jinja::value::Value;
use super::{Conversation, Place, Template, TemplateErrorKind};

pub use words::{INSIDES, hidden};
use words::{hush, is_content, is_internal, is_sentence, is_wordy, spells_internal};

/// What kind of thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LintKind {
    /// Reaches for the insides of Python objects (`__class__`, `__globals__`): the way out of a sandbox.
    InternalAttribute,
    /// Takes the engine's own functions apart (`cycler.x`, `lipsum.x`, `self.x`).
    EngineObject,
    /// Calls what runs code or reads files (`popen`, `eval`, `__import__`).
    CodeCall,
    /// Loops or grows without reasonable end.
    Endless,
    /// Writes sentences only if a user's words match: instructions that lie in wait.
    GatedInstruction,
    /// Asks the model to hide what it was told.
    Concealment,
    /// Writes a link.
    Link,
    /// Holds characters that nobody sees.
    HiddenText,
}

impl LintKind {
    /// Whether no honest template does that.
    pub fn is_attack(self) -> bool {
        matches!(self, LintKind::InternalAttribute | LintKind::EngineObject | LintKind::CodeCall)
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lint {
    /// What it is.
    pub kind: LintKind,
    /// The line, from 1.
    pub line: usize,
    /// What was found there, in words.
    pub detail: String,
}

/// Work for putting constants together, for all of a template.
const FOLDING: u64 = 4_000_000;

/// Turns of nested loops over numbers that no conversation needs.
const MAX_TURNS: i128 = 10_000;

/// Functions of the engine, which have nothing to be looked into.
const ENGINE: [&str; 8] =
    ["lipsum", "cycler", "joiner", "namespace", "range", "self", "raise_exception", "strftime_now"];

/// Objects of web frameworks, which no chat template is given.
const FRAMEWORK: [&str; 5] = ["request", "config", "session", "g", "get_flashed_messages"];

/// Calls that run code or reach files.
const CALLS: [&str; 26] = [
    "eval",
    "exec",
    "execfile",
    "compile",
    "open",
    "popen",
    "Popen",
    "system",
    "check_output",
    "check_call",
    "getoutput",
    "spawn",
    "execv",
    "execve",
    "import_module",
    "import_string",
    "find_module",
    "load_module",
    "getattr",
    "setattr",
    "globals",
    "locals",
    "vars",
    "breakpoint",
    "input",
    "subclasses",
];

/// Filters whose first argument, or `attribute`, is a path of attributes.
const PATH_FILTERS: [&str; 11] =
    ["attr", "map", "selectattr", "rejectattr", "groupby", "sort", "unique", "sum", "min", "max", "join"];

impl Template {
    /// What is wrong with the template, in the order of its lines.
    pub fn lint(&self) -> Vec<Lint> {
        let mut linter = Linter::new(self);
        linter.block(&self.body, &Around::default());
        linter.found.extend(hidden(&self.source));
        linter.probe();
        let mut found = linter.found;
        found.sort_by_key(|lint| lint.line);
        found.dedup();
        found
    }
}

/// What a piece of the tree stands in.
#[derive(Clone, Default)]
struct Around {
    /// Under a condition on what somebody said; the words that it waits for.
    gate: Option<String>,
    /// Turns of the loops around.
    turns: i128,
    in_loop: bool,
    /// The macro whose body it is, and whether a condition or loop stands in between.
    own_macro: Option<(Arc<str>, bool)>,
    /// What is written there becomes a value: of `{% set %}`, a macro, or what a macro's caller holds.
    captured: bool,
}

struct Linter<'a> {
    template: &'a Template,
    found: Vec<Lint>,
    budget: Budget,
    /// Names with constant values.
    constants: HashMap<Arc<str>, Value>,
    /// Names that hold what somebody said.
    tainted: HashSet<Arc<str>>,
    /// Names that were set under a condition on ordinary words that somebody said.
    gated: HashSet<Arc<str>>,
    /// Names that the template defines.
    defined: HashSet<Arc<str>>,
    /// Attributes of Python's objects that were reported.
    spelled: HashSet<&'static str>,
    /// Whether what stands around was put together as a constant already.
    folded: bool,
}

/// The names that a template gives values itself.
pub(super) fn defined_names(template: &Template) -> HashSet<Arc<str>> {
    Linter::new(template).defined
}

impl<'a> Linter<'a> {
    fn new(template: &'a Template) -> Self {
        let mut linter = Linter {
            template,
            found: Vec::new(),
            budget: Budget::of(FOLDING),
            constants: HashMap::new(),
            tainted: HashSet::new(),
            gated: HashSet::new(),
            defined: HashSet::new(),
            spelled: HashSet::new(),
            folded: false,
        };
        linter.define(&template.body);
        linter
    }

    fn push(&mut self, kind: LintKind, spot: u32, detail: impl Into<String>) {
        let line = Place::of(&self.template.source, spot).map_or(1, |place| place.line);
        self.found.push(Lint { kind, line, detail: detail.into() });
    }

    /// Collects the names that the template gives values itself.
    fn define(&mut self, block: &Block) {
        for statement in block {
            match &statement.kind {
                StatementKind::For(each) => self.define_target(&each.target),
                StatementKind::Set { target, .. } | StatementKind::SetBlock { target, .. } => {
                    self.define_target(target)
                }
                StatementKind::With { targets, .. } => {
                    targets.iter().for_each(|(target, _)| self.define_target(target));
                }
                StatementKind::Macro(of) | StatementKind::Call { body: of, .. } => {
                    self.defined.extend(of.name.clone());
                    self.defined.extend(of.parameters.iter().map(|(name, _)| name.clone()));
                }
                StatementKind::Block { .. } => drop(self.defined.insert("self".into())),
                _ => {}
            }
            statement.blocks().into_iter().for_each(|block| self.define(block));
        }
    }

    fn define_target(&mut self, target: &Target) {
        match target {
            Target::Name(name) => drop(self.defined.insert(name.clone())),
            Target::Attribute(..) => {}
            Target::Tuple(targets) => targets.iter().for_each(|target| self.define_target(target)),
        }
    }

    fn block(&mut self, block: &Block, around: &Around) {
        for statement in block {
            self.statement(statement, around);
        }
    }

    fn statement(&mut self, statement: &Statement, around: &Around) {
        let spot = statement.spot;
        if let StatementKind::Text(text) = &statement.kind {
            self.text(text, spot, around);
            if around.captured {
                self.spell(text, spot);
            }
        }
        for expr in statement.expressions() {
            self.expression(expr, around);
        }
        match &statement.kind {
            StatementKind::If { branches, otherwise } => {
                for (test, body) in branches {
                    let gate = self.gate(test).or_else(|| around.gate.clone());
                    let inner = Around { gate, ..around.clone() }.conditional();
                    self.block(body, &inner);
                }
                self.block(otherwise, &around.clone().conditional());
            }
            StatementKind::For(each) => {
                let turns = self.turns(&each.over).map_or(around.turns, |own| around.turns.max(1).saturating_mul(own));
                if turns > MAX_TURNS && turns != around.turns {
                    self.push(LintKind::Endless, spot, format!("loops over numbers that turn {turns} times"));
                }
                if self.says(&each.over) {
                    self.taint(&each.target);
                }
                let inner = Around { turns, in_loop: true, ..around.clone() }.conditional();
                self.block(&each.body, &inner);
                self.block(&each.otherwise, &around.clone().conditional());
            }
            StatementKind::Set { target, value } => self.set(target, value, spot, around),
            StatementKind::Macro(of) => {
                let own_macro = of.name.clone().map(|name| (name, false));
                self.block(&of.body, &Around { own_macro, captured: true, ..around.clone() });
            }
            StatementKind::Call { body: of, .. } => {
                self.block(&of.body, &Around { captured: true, ..around.clone() });
            }
            StatementKind::Load { tag, .. } => {
                self.push(LintKind::CodeCall, spot, format!("'{tag}' loads another file"));
            }
            StatementKind::SetBlock { filters, body, target } => {
                for call in filters {
                    self.filter(call, around);
                }
                if around.gate.is_some() {
                    self.gate_target(target);
                }
                self.block(body, &Around { captured: true, ..around.clone() });
            }
            StatementKind::Filter { filters, body } => {
                for call in filters {
                    self.filter(call, around);
                }
                self.block(body, around);
            }
            _ => {
                for block in statement.blocks() {
                    self.block(block, around);
                }
            }
        }
    }

    fn set(&mut self, target: &Target, value: &Expr, spot: u32, around: &Around) {
        if self.says(value) {
            self.taint(target);
        }
        // Counters and the like are no switch for what is written.
        if around.gate.is_some() && matches!(self.constant(value), Some(Value::Bool(true) | Value::Str(_))) {
            self.gate_target(target);
        }
        let name = match target {
            Target::Name(name) => name.clone(),
            Target::Attribute(name, attribute) => format!("{name}.{attribute}").into(),
            Target::Tuple(_) => return,
        };
        if around.in_loop && doubles(value, &name) {
            self.push(LintKind::Endless, spot, format!("'{name}' doubles with each turn of a loop"));
        }
        match self.constant(value) {
            Some(value) => drop(self.constants.insert(name, value)),
            None => drop(self.constants.remove(&name)),
        }
    }

    fn taint(&mut self, target: &Target) {
        match target {
            Target::Name(name) => drop(self.tainted.insert(name.clone())),
            Target::Attribute(name, attribute) => drop(self.tainted.insert(format!("{name}.{attribute}").into())),
            Target::Tuple(targets) => targets.iter().for_each(|target| self.taint(target)),
        }
    }

    fn gate_target(&mut self, target: &Target) {
        match target {
            Target::Name(name) => drop(self.gated.insert(name.clone())),
            Target::Attribute(name, attribute) => drop(self.gated.insert(format!("{name}.{attribute}").into())),
            Target::Tuple(targets) => targets.iter().for_each(|target| self.gate_target(target)),
        }
    }

    /// How often a loop over numbers turns.
    fn turns(&mut self, over: &Expr) -> Option<i128> {
        let ExprKind::Call(of, arguments) = &over.kind else { return None };
        if !matches!(&of.kind, ExprKind::Name(name) if &**name == "range") {
            return None;
        }
        let mut numbers = Vec::new();
        for argument in &arguments.positional {
            numbers.push(self.constant(argument)?.as_int()?);
        }
        match *numbers.as_slice() {
            [stop] => Some(stop),
            [start, stop] => Some(stop.saturating_sub(start)),
            [start, stop, step] => stop.saturating_sub(start).checked_div(step),
            _ => None,
        }
    }

    fn expression(&mut self, expr: &Expr, around: &Around) {
        let outer = self.folded;
        if !outer && let Some(text) = self.put_together(expr) {
            self.spell(&text, expr.spot);
            self.folded = true;
        }
        self.look_into(expr, around);
        self.folded = outer;
    }

    /// The text that an expression puts together from constants; of lists, that of their parts one behind the other.
    fn put_together(&mut self, expr: &Expr) -> Option<Arc<str>> {
        match &expr.kind {
            ExprKind::Const(_) | ExprKind::Name(_) | ExprKind::Dict(_) => None,
            ExprKind::List(parts) | ExprKind::Tuple(parts) => {
                let mut text = String::new();
                for part in parts.iter().take(256) {
                    let ExprKind::Const(Value::Str(part)) = &part.kind else { return None };
                    text.push_str(part);
                }
                Some(text.into())
            }
            _ => match self.constant(expr) {
                Some(Value::Str(text) | Value::Markup(text)) => Some(text),
                _ => None,
            },
        }
    }

    /// Looks at a text that may be used as the name of an attribute: through which variable it gets there does not
    /// matter, since no conversation needs such a name.
    fn spell(&mut self, text: &str, spot: u32) {
        if let Some(name) = spells_internal(text)
            && self.spelled.insert(name)
        {
            self.push(LintKind::InternalAttribute, spot, format!("spells '{name}'"));
        }
    }

    fn look_into(&mut self, expr: &Expr, around: &Around) {
        match &expr.kind {
            ExprKind::Const(value) => {
                if let Some(text) = value.as_str() {
                    self.spell(text, expr.spot);
                    self.text(&Arc::from(text), expr.spot, around);
                }
            }
            ExprKind::Attribute(of, name) => self.access(of, name, expr.spot),
            ExprKind::Item(of, index) => {
                if let Some(Value::Str(name)) = self.constant(index) {
                    self.access(of, &name, expr.spot);
                }
            }
            ExprKind::Filter(_, call) => self.filter(call, around),
            // What it says there is written to nobody.
            ExprKind::Call(of, _) if matches!(&of.kind, ExprKind::Name(name) if &**name == "raise_exception") => return,
            ExprKind::Call(of, arguments) => {
                self.call(of, expr.spot, around);
                for (name, _) in &arguments.keywords {
                    self.spell(name, expr.spot);
                }
                if let ExprKind::Attribute(pattern, method) = &of.kind
                    && matches!(&**method, "format" | "format_map")
                {
                    let pattern = self.constant(pattern);
                    let fields = pattern.as_ref().and_then(Value::as_str).unwrap_or("");
                    if fields.contains("__") && !arguments.positional.is_empty() {
                        self.push(LintKind::InternalAttribute, expr.spot, format!("formats with '{fields}'"));
                    }
                }
            }
            ExprKind::Binary(Operator::Multiply, a, b) => {
                for number in [a, b] {
                    let times = self.constant(number).and_then(|value| value.as_int()).unwrap_or(0);
                    if times > 1_000_000 && matches!(self.constant(expr), None | Some(Value::Str(_))) {
                        self.push(LintKind::Endless, expr.spot, format!("repeats something {times} times"));
                    }
                }
            }
            ExprKind::Condition { test, then, otherwise } => {
                let gate = self.gate(test).or_else(|| around.gate.clone());
                self.expression(test, around);
                self.expression(then, &Around { gate, ..around.clone() }.conditional());
                if let Some(otherwise) = otherwise {
                    self.expression(otherwise, &around.clone().conditional());
                }
                return;
            }
            ExprKind::And(test, then) => {
                let gate = self.gate(test).or_else(|| around.gate.clone());
                self.expression(test, around);
                self.expression(then, &Around { gate, ..around.clone() }.conditional());
                return;
            }
            _ => {}
        }
        // What is put together may hide what its parts do not show.
        if matches!(expr.kind, ExprKind::Concat(_) | ExprKind::Binary(Operator::Add, ..))
            && around.gate.is_some()
            && let Some(Value::Str(text)) = self.constant(expr)
        {
            return self.text(&text, expr.spot, around);
        }
        for child in expr.children() {
            self.expression(child, around);
        }
    }

    /// Looks at an attribute or item by its name.
    fn access(&mut self, of: &Expr, name: &str, spot: u32) {
        if is_internal(name) {
            self.spelled.extend(spells_internal(name));
            return self.push(LintKind::InternalAttribute, spot, format!("reaches for '{name}'"));
        }
        if let ExprKind::Name(object) = &of.kind {
            let engine = ENGINE.contains(&&**object) || (FRAMEWORK.contains(&&**object) && name != "get");
            if engine && !self.defined.contains(object) {
                self.push(LintKind::EngineObject, spot, format!("looks into '{object}' for '{name}'"));
            }
        }
    }

    fn filter(&mut self, call: &FilterCall, around: &Around) {
        if PATH_FILTERS.contains(&&*call.name) {
            for argument in call.arguments.each() {
                let path = self.constant(argument);
                for part in path.as_ref().and_then(Value::as_str).unwrap_or("").split(['.', ',']) {
                    if is_internal(part) {
                        self.spelled.extend(spells_internal(part));
                        let detail = format!("reaches for '{part}' by the filter '{}'", call.name);
                        self.push(LintKind::InternalAttribute, call.spot, detail);
                    }
                }
            }
        }
        for argument in call.arguments.each() {
            self.expression(argument, around);
        }
    }

    fn call(&mut self, of: &Expr, spot: u32, around: &Around) {
        let name: Arc<str> = match &of.kind {
            ExprKind::Name(name) => {
                if let Some((own, false)) = &around.own_macro
                    && own == name
                {
                    self.push(LintKind::Endless, spot, format!("the macro '{name}' calls itself in any case"));
                }
                if self.defined.contains(name) {
                    return;
                }
                name.clone()
            }
            ExprKind::Attribute(_, name) => name.clone(),
            ExprKind::Item(_, index) => match self.constant(index) {
                Some(Value::Str(name)) => name,
                _ => return,
            },
            ExprKind::Filter(_, call) if &*call.name == "attr" => {
                match call.arguments.positional.first().and_then(|name| self.constant(name)) {
                    Some(Value::Str(name)) => name,
                    _ => return,
                }
            }
            _ => return,
        };
        if CALLS.contains(&&*name) || &*name == "__import__" {
            self.push(LintKind::CodeCall, spot, format!("calls '{name}'"));
        }
    }

    /// The value of an expression that depends on nothing but constants.
    fn constant(&mut self, expr: &Expr) -> Option<Value> {
        if let ExprKind::Const(value) = &expr.kind {
            return Some(value.clone());
        }
        let mut names = Vec::new();
        if !self.is_constant(expr, &mut names) {
            return None;
        }
        evaluate(expr, names, &mut self.budget).ok()
    }

    fn is_constant(&self, expr: &Expr, names: &mut Vec<(Arc<str>, Value)>) -> bool {
        match &expr.kind {
            ExprKind::Name(name) => match self.constants.get(name) {
                Some(value) => {
                    names.push((name.clone(), value.clone()));
                    true
                }
                // `dict(__class__=x)|join` makes a text of a name.
                None => matches!(&**name, "dict" | "range"),
            },
            ExprKind::Attribute(of, attribute) if let ExprKind::Name(name) = &of.kind => {
                self.constants.contains_key(&Arc::from(format!("{name}.{attribute}")))
                    || self.constants.contains_key(name) && self.is_constant(of, names)
            }
            _ => expr.children().into_iter().all(|child| self.is_constant(child, names)),
        }
    }

    /// Whether an expression holds what somebody said.
    fn says(&self, expr: &Expr) -> bool {
        // Whose words and what kind of part they are is not what they say.
        let label = |name: &str| matches!(name, "type" | "role" | "name" | "id");
        match &expr.kind {
            ExprKind::Attribute(_, name) if label(name) => return false,
            ExprKind::Item(_, index) if matches!(&index.kind, ExprKind::Const(Value::Str(name)) if label(name)) => {
                return false;
            }
            _ => {}
        }
        let own = match &expr.kind {
            ExprKind::Name(name) => self.tainted.contains(name),
            ExprKind::Attribute(of, name) => {
                is_content(name)
                    || matches!(&of.kind, ExprKind::Name(of) if self.tainted.contains(&Arc::from(format!("{of}.{name}"))))
            }
            ExprKind::Item(_, index) => {
                matches!(&index.kind, ExprKind::Const(Value::Str(name)) if is_content(name))
            }
            ExprKind::Filter(_, call) => call
                .arguments
                .each()
                .any(|argument| matches!(&argument.kind, ExprKind::Const(Value::Str(name)) if is_content(name))),
            _ => false,
        };
        own || expr.children().into_iter().any(|child| self.says(child))
    }

    /// The words that a condition waits for in what somebody says.
    fn gate(&mut self, test: &Expr) -> Option<String> {
        match &test.kind {
            ExprKind::And(a, b) | ExprKind::Or(a, b) => self.gate(a).or_else(|| self.gate(b)),
            ExprKind::Not(_) => None,
            ExprKind::Compare(first, rest) => rest.iter().find_map(|(comparison, second)| {
                let (words, said) = match comparison {
                    Comparison::In => (&**first, second),
                    Comparison::Equal if self.says(first) => (second, &**first),
                    Comparison::Equal => (&**first, second),
                    // `content.find('x') >= 0`
                    _ => return self.gate(first),
                };
                let words = self.constant(words)?;
                let words = words.as_str().filter(|words| is_wordy(words))?.to_string();
                self.says(said).then_some(words)
            }),
            ExprKind::Call(of, arguments) => {
                let ExprKind::Attribute(said, _) = &of.kind else { return None };
                let words = arguments.positional.first().and_then(|words| self.constant(words))?;
                let words = words.as_str().filter(|words| is_wordy(words))?.to_string();
                self.says(said).then_some(words)
            }
            ExprKind::Test(said, call) if matches!(&*call.name, "in" | "eq" | "equalto" | "==") => {
                let words = call.arguments.positional.first()?;
                let (words, said) = if self.says(said) { (words, &**said) } else { (&**said, words) };
                let words = self.constant(words)?;
                let words = words.as_str().filter(|words| is_wordy(words))?.to_string();
                self.says(said).then_some(words)
            }
            ExprKind::Name(name) if self.gated.contains(name) => Some(format!("({name})")),
            ExprKind::Attribute(of, attribute) if let ExprKind::Name(of) = &of.kind => {
                let name = format!("{of}.{attribute}");
                self.gated.contains(&Arc::from(name.as_str())).then(|| format!("({name})"))
            }
            _ => None,
        }
    }

    /// Looks at text that the template may write.
    fn text(&mut self, text: &Arc<str>, spot: u32, around: &Around) {
        let lower = text.to_lowercase();
        if let Some(phrase) = hush(text) {
            self.push(LintKind::Concealment, spot, format!("tells the model '{phrase}'"));
        }
        if let Some(gate) = &around.gate
            && is_sentence(text)
        {
            let shown: String = text.chars().take(60).collect();
            let detail = format!("writes '{shown}' only if somebody says '{gate}'");
            self.push(LintKind::GatedInstruction, spot, detail);
        }
        if let Some(at) = lower.find("http://").or_else(|| lower.find("https://"))
            && around.gate.is_some()
        {
            let link: String =
                lower.chars().skip(lower.get(..at).map_or(0, |before| before.chars().count())).take(60).collect();
            self.push(LintKind::Link, spot, format!("writes the link '{link}'"));
        }
        self.found.extend(hidden(text).map(|lint| {
            let line = Place::of(&self.template.source, spot).map_or(1, |place| place.line);
            Lint { line, ..lint }
        }));
    }

    /// Renders one line: a template that needs much work for that never ends well.
    fn probe(&mut self) {
        let conversation = Conversation {
            messages: vec![serde_json::json!({"role": "user", "content": "Hi"})],
            add_generation_prompt: true,
            now: Some(super::NOON),
            ..Conversation::default()
        };
        if let Err(error) = self.template.render_within(&conversation, Some(super::PROBE_WORK))
            && error.kind == TemplateErrorKind::Limit
        {
            let line = error.place.map_or(1, |place| place.line);
            self.found.push(Lint { kind: LintKind::Endless, line, detail: error.message });
        }
    }
}

impl Around {
    fn conditional(mut self) -> Self {
        if let Some((_, conditional)) = &mut self.own_macro {
            *conditional = true;
        }
        self
    }
}

/// Whether an expression adds a name to itself.
fn doubles(value: &Expr, name: &str) -> bool {
    fn count(expr: &Expr, name: &str) -> usize {
        let own = match &expr.kind {
            ExprKind::Name(found) => **found == *name,
            ExprKind::Attribute(of, attribute) => {
                matches!(&of.kind, ExprKind::Name(of) if format!("{of}.{attribute}") == name)
            }
            _ => false,
        };
        usize::from(own) + expr.children().into_iter().map(|child| count(child, name)).sum::<usize>()
    }
    match &value.kind {
        ExprKind::Concat(_) | ExprKind::Binary(Operator::Add, ..) => {
            value
                .children()
                .into_iter()
                .filter(|part| {
                    count(part, name) > 0 && matches!(part.kind, ExprKind::Name(_) | ExprKind::Attribute(..))
                })
                .count()
                > 1
        }
        ExprKind::Binary(Operator::Multiply, ..) => {
            let parts = value.children();
            parts.iter().any(|part| count(part, name) > 0)
                && parts.iter().any(|part| matches!(part.kind, ExprKind::Const(Value::Int(times)) if times > 9))
        }
        _ => false,
    }
}
