//! Statements: what a template writes.

use std::ops;
use std::sync::Arc;

use indexmap::IndexMap;

use super::super::TemplateErrorKind;
use super::ast::{Block, Expr, FilterCall, For, Macro, Statement, StatementKind, Target};
use super::fault::{Budget, MAX_TEXT, Result, fault, unsupported, wrong};
use super::functions::Function;
use super::loops::Loop;
use super::value::{Undefined, Value};

/// How deep blocks, expressions and calls may be in each other while a template runs.
const MAX_STACK: u32 = 400;

type Names = IndexMap<Arc<str>, Value, foldhash::fast::RandomState>;

/// Where a block ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Next,
    Break,
    Continue,
}

#[derive(Default)]
struct Scope {
    parent: Option<usize>,
    names: Names,
}

/// A macro with the scope that it was defined in.
#[derive(Clone, Copy)]
pub struct Closure<'t> {
    pub of: &'t Macro,
    pub scope: usize,
}

/// What a rendering is given from outside.
pub struct Given {
    /// The variables.
    pub names: Vec<(Arc<str>, Value)>,
    /// The local time, for `strftime_now`.
    pub now: Option<jiff::civil::DateTime>,
    /// Work is allowed according to the size of the input.
    pub input_bytes: usize,
    /// Other work than that.
    pub work: Option<u64>,
}

/// What a rendering gives: the text, and what `{% generation %}` wrote of it.
pub struct Output {
    pub text: String,
    pub generation: Vec<ops::Range<usize>>,
}

/// A template at work.
pub struct Renderer<'t> {
    pub budget: Budget,
    pub now: Option<jiff::civil::DateTime>,
    pub macros: Vec<Closure<'t>>,
    pub namespaces: Vec<Names>,
    pub loops: Vec<Loop<'t>>,
    pub iterators: Vec<std::vec::IntoIter<Value>>,
    pub cyclers: Vec<(Vec<Value>, usize)>,
    pub joiners: Vec<(Arc<str>, bool)>,
    /// The byte of the source that is being worked on.
    pub spot: u32,
    scopes: Vec<Scope>,
    /// The scope in use.
    scope: usize,
    /// Scopes before this one may belong to a macro and stay.
    kept_scopes: usize,
    /// The output, and what is captured above it.
    outputs: Vec<String>,
    generation: Vec<ops::Range<usize>>,
    stack: u32,
}

/// Renders a template.
pub fn render(template: &Block, given: Given) -> Result<Output> {
    let budget = given.work.map_or(Budget::new(given.input_bytes), Budget::of);
    let mut renderer = Renderer::new(given.names, given.now, budget);
    match renderer.block(template) {
        Ok(_) => Ok(Output { text: renderer.outputs.pop().unwrap_or_default(), generation: renderer.generation }),
        Err(mut error) => {
            error.spot.get_or_insert(renderer.spot);
            Err(error)
        }
    }
}

/// The value of an expression by itself.
pub fn evaluate(expr: &Expr, names: Vec<(Arc<str>, Value)>, budget: &mut Budget) -> Result<Value> {
    let mut renderer = Renderer::new(names, None, std::mem::replace(budget, Budget::of(0)));
    let value = renderer.eval(expr);
    *budget = renderer.budget;
    value
}

impl<'t> Renderer<'t> {
    fn new(names: Vec<(Arc<str>, Value)>, now: Option<jiff::civil::DateTime>, budget: Budget) -> Self {
        Renderer {
            budget,
            now,
            macros: Vec::new(),
            namespaces: Vec::new(),
            loops: Vec::new(),
            iterators: Vec::new(),
            cyclers: Vec::new(),
            joiners: Vec::new(),
            spot: 0,
            scopes: vec![Scope { parent: None, names: names.into_iter().collect() }],
            scope: 0,
            kept_scopes: 1,
            outputs: vec![String::new()],
            generation: Vec::new(),
            stack: 0,
        }
    }

    /// Runs something one level deeper.
    pub fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.stack >= MAX_STACK {
            return fault(
                TemplateErrorKind::Limit,
                format!("blocks and calls nest deeper than {MAX_STACK} levels: does a macro call itself without end?"),
            );
        }
        self.stack += 1;
        let result = run(self);
        self.stack -= 1;
        result
    }

    /// Runs something in a new scope within another.
    pub fn scoped<T>(&mut self, parent: usize, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = self.scope;
        let scope = self.scopes.len();
        self.scopes.push(Scope { parent: Some(parent), names: Names::default() });
        self.scope = scope;
        let result = run(self);
        self.scope = before;
        if scope >= self.kept_scopes {
            self.scopes.truncate(scope);
        }
        result
    }

    /// Gives a name a value in the scope in use.
    pub fn define(&mut self, name: &Arc<str>, value: Value) {
        if let Some(scope) = self.scopes.get_mut(self.scope) {
            scope.names.insert(name.clone(), value);
        }
    }

    /// What a name stands for.
    pub fn lookup(&mut self, name: &Arc<str>) -> Result<Value> {
        let mut scope = self.scopes.get(self.scope);
        while let Some(Scope { parent, names }) = scope {
            self.budget.spend(1)?;
            if let Some(value) = names.get(name) {
                return Ok(value.clone());
            }
            scope = parent.and_then(|parent| self.scopes.get(parent));
        }
        Ok(match Function::named(name) {
            Some(function) => Value::Function(function),
            None => Value::Undefined(Arc::new(Undefined::Name(name.clone()))),
        })
    }

    /// Writes text.
    pub fn write(&mut self, text: &str) -> Result<()> {
        self.budget.spend(text.len() / 4 + 1)?;
        let Some(output) = self.outputs.last_mut() else { return Ok(()) };
        if output.len() + text.len() > MAX_TEXT {
            return fault(TemplateErrorKind::Limit, format!("the output is larger than the limit of {MAX_TEXT} bytes"));
        }
        output.push_str(text);
        Ok(())
    }

    /// What a part of the template writes.
    pub fn capture(&mut self, run: impl FnOnce(&mut Self) -> Result<()>) -> Result<String> {
        self.outputs.push(String::new());
        let result = run(self);
        let text = self.outputs.pop().unwrap_or_default();
        result.map(|()| text)
    }

    /// Runs statements.
    pub fn block(&mut self, block: &'t Block) -> Result<Flow> {
        for statement in block {
            self.spot = statement.spot;
            let flow = match &statement.kind {
                StatementKind::Text(text) => {
                    self.write(text)?;
                    Flow::Next
                }
                StatementKind::Print(expr) => {
                    let value = self.eval(expr)?;
                    self.print(&value)?;
                    Flow::Next
                }
                _ => self.deeper(|renderer| renderer.statement(statement))?,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, value: &Value) -> Result<()> {
        match value.as_str() {
            Some(text) => self.write(text),
            None => {
                let text = self.text(value)?;
                self.write(&text)
            }
        }
    }

    fn statement(&mut self, statement: &'t Statement) -> Result<Flow> {
        self.budget.spend(1)?;
        match &statement.kind {
            StatementKind::Text(_) | StatementKind::Print(_) => {}
            StatementKind::If { branches, otherwise } => {
                for (test, body) in branches {
                    if self.truth(test)? {
                        return self.block(body);
                    }
                }
                return self.block(otherwise);
            }
            StatementKind::For(each) => self.for_loop(each)?,
            StatementKind::Set { target, value } => {
                let value = self.eval(value)?;
                self.assign(target, value)?;
            }
            StatementKind::SetBlock { target, filters, body } => {
                let text = self.captured_scope(body)?;
                let value = self.filter_all(filters, Value::str(text))?;
                self.assign(target, value)?;
            }
            StatementKind::Filter { filters, body } => {
                let text = self.captured_scope(body)?;
                let value = self.filter_all(filters, Value::str(text))?;
                self.print(&value)?;
            }
            StatementKind::Macro(of) => {
                let closure = self.closure(of);
                if let Some(name) = &of.name {
                    self.define(name, closure);
                }
            }
            StatementKind::Call { call, body } => {
                let caller = self.closure(body);
                let value = self.call_with(call, Some(caller))?;
                self.print(&value)?;
            }
            StatementKind::With { targets, body } => {
                let scope = self.scope;
                return self.scoped(scope, |renderer| {
                    // The values see the scope outside.
                    let mut values = Vec::with_capacity(targets.len());
                    for (_, value) in targets {
                        values.push(renderer.eval(value)?);
                    }
                    for ((target, _), value) in targets.iter().zip(values) {
                        renderer.assign(target, value)?;
                    }
                    renderer.block(body)
                });
            }
            StatementKind::Block { body } => {
                // A block sees what was set outside of it at the top, not what is set in loops around it.
                self.scoped(0, |renderer| renderer.block(body))?;
            }
            StatementKind::Generation { body } => {
                let text = self.captured_scope(body)?;
                // Counted as transformers does: from what was written before, even within a macro.
                let start = self.outputs.first().map_or(0, String::len);
                self.generation.push(start..start + text.len());
                self.write(&text)?;
            }
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
            StatementKind::Load { tag, name } => {
                self.eval(name)?;
                return wrong(format!(
                    "'{tag}' asks for another template, and a chat template has nowhere to load from"
                ));
            }
            StatementKind::Autoescape { .. } => {
                return unsupported("'autoescape' blocks are not known to this renderer");
            }
        }
        Ok(Flow::Next)
    }

    fn closure(&mut self, of: &'t Macro) -> Value {
        self.kept_scopes = self.kept_scopes.max(self.scopes.len());
        self.macros.push(Closure { of, scope: self.scope });
        Value::Macro(self.macros.len() - 1)
    }

    /// What a block with a scope of its own writes.
    fn captured_scope(&mut self, body: &'t Block) -> Result<String> {
        let scope = self.scope;
        self.capture(|renderer| renderer.scoped(scope, |renderer| renderer.block(body)).map(drop))
    }

    fn filter_all(&mut self, filters: &'t [FilterCall], mut value: Value) -> Result<Value> {
        for call in filters {
            value = self.filter(value, call)?;
        }
        Ok(value)
    }

    pub fn truth(&mut self, test: &'t Expr) -> Result<bool> {
        let value = self.eval(test)?;
        Ok(self.is_true(&value))
    }

    /// Gives a target a value, taking tuples apart.
    pub fn assign(&mut self, target: &'t Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => self.define(name, value),
            Target::Attribute(name, attribute) => {
                let Value::Namespace(index) = self.lookup(name)? else {
                    return wrong("an attribute can only be set on a namespace");
                };
                self.set_in_namespace(index, attribute.clone(), value)?;
            }
            Target::Tuple(targets) => {
                let values = self.iterate(&value)?;
                if values.len() != targets.len() {
                    let (wanted, found) = (targets.len(), values.len());
                    let many = if found > wanted { "too many" } else { "not enough" };
                    return wrong(format!("{many} values to unpack: {wanted} are expected"));
                }
                for (target, value) in targets.iter().zip(values) {
                    self.assign(target, value)?;
                }
            }
        }
        Ok(())
    }

    /// Sets an attribute of a namespace; transformers refuses those with an underscore in front.
    pub fn set_in_namespace(&mut self, index: usize, name: Arc<str>, value: Value) -> Result<()> {
        if name.starts_with('_') {
            return fault(
                TemplateErrorKind::Security,
                format!("a namespace takes no attribute that begins with an underscore: '{name}'"),
            );
        }
        self.budget.values(1)?;
        if let Some(names) = self.namespaces.get_mut(index) {
            names.insert(name, value);
        }
        Ok(())
    }

    fn for_loop(&mut self, each: &'t For) -> Result<()> {
        let over = self.eval(&each.over)?;
        self.run_loop(each, &over, self.scope, 0)
    }

    /// Runs a loop's body over a value; `outer` is the scope around the loop.
    pub fn run_loop(&mut self, each: &'t For, over: &Value, outer: usize, depth: usize) -> Result<()> {
        let items = self.iterate(over)?;
        self.budget.values(items.len())?;
        self.loops.push(Loop::new(each, items, outer, depth));
        let index = self.loops.len() - 1;
        let name: Arc<str> = "loop".into();
        let mut any = false;
        while let Some(item) = self.next_item(index)? {
            any = true;
            let flow = self.scoped(outer, |renderer| {
                renderer.assign(&each.target, item)?;
                renderer.define(&name, Value::Loop(index));
                renderer.block(&each.body)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        if !any {
            self.scoped(outer, |renderer| renderer.block(&each.otherwise))?;
        }
        Ok(())
    }
}
