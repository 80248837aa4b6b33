//! `for` and its `loop`.

use std::sync::Arc;

use super::ast::For;
use super::fault::{Result, wrong};
use super::render::Renderer;
use super::value::Value;

/// A loop that runs, or ran.
pub struct Loop<'t> {
    each: &'t For,
    items: std::vec::IntoIter<Value>,
    /// Whether the items have passed the loop's own test already.
    tested: bool,
    /// The scope around the loop.
    outer: usize,
    depth: usize,
    /// An item that was looked at before its turn; an outer `Some` says that it was looked for.
    ahead: Option<Option<Value>>,
    /// How many items had their turn.
    turns: usize,
    length: Option<usize>,
    previous: Option<Value>,
    current: Option<Value>,
    /// What `changed` was last asked about.
    changed: Option<Vec<Value>>,
}

impl<'t> Loop<'t> {
    pub fn new(each: &'t For, items: Vec<Value>, outer: usize, depth: usize) -> Self {
        let length = each.test.is_none().then_some(items.len());
        let items = items.into_iter();
        let tested = each.test.is_none();
        Loop {
            each,
            items,
            tested,
            outer,
            depth,
            ahead: None,
            turns: 0,
            length,
            previous: None,
            current: None,
            changed: None,
        }
    }
}

impl<'t> Renderer<'t> {
    /// The next item for a loop's body, if there is one.
    pub fn next_item(&mut self, index: usize) -> Result<Option<Value>> {
        let ahead = self.loops.get_mut(index).and_then(|each| each.ahead.take());
        let item = match ahead {
            Some(item) => item,
            None => self.pull(index)?,
        };
        if let (Some(each), Some(item)) = (self.loops.get_mut(index), &item) {
            each.turns += 1;
            each.previous = each.current.replace(item.clone());
        }
        Ok(item)
    }

    /// The next item that passes the loop's own test. It is only tested when it is wanted, since the test may depend
    /// on what the body did before.
    fn pull(&mut self, index: usize) -> Result<Option<Value>> {
        loop {
            self.budget.spend(1)?;
            let Some(each) = self.loops.get_mut(index) else { return Ok(None) };
            let (of, outer) = (each.each, each.outer);
            let Some(item) = each.items.next() else { return Ok(None) };
            let Some(test) = of.test.as_ref().filter(|_| !each.tested) else { return Ok(Some(item)) };
            let passes = self.scoped(outer, |renderer| {
                renderer.assign(&of.target, item.clone())?;
                renderer.truth(test)
            })?;
            if passes {
                return Ok(Some(item));
            }
        }
    }

    fn look_ahead(&mut self, index: usize) -> Result<Option<Value>> {
        if let Some(ahead) = self.loops.get(index).and_then(|each| each.ahead.clone()) {
            return Ok(ahead);
        }
        let item = self.pull(index)?;
        if let Some(each) = self.loops.get_mut(index) {
            each.ahead = Some(item.clone());
        }
        Ok(item)
    }

    /// How many items the loop has in all; with a test, all of them are tested now.
    pub fn loop_length(&mut self, index: usize) -> Result<usize> {
        if let Some(length) = self.loops.get(index).and_then(|each| each.length) {
            return Ok(length);
        }
        let mut rest = Vec::new();
        while let Some(item) = self.pull(index)? {
            rest.push(item);
        }
        let Some(each) = self.loops.get_mut(index) else { return Ok(0) };
        // What is ahead was counted apart from the rest.
        let ahead = usize::from(matches!(each.ahead, Some(Some(_))));
        let length = each.turns + ahead + rest.len();
        each.length = Some(length);
        each.items = rest.into_iter();
        each.tested = true;
        Ok(length)
    }

    /// An attribute of `loop`.
    pub fn loop_attribute(&mut self, index: usize, name: &str) -> Result<Option<Value>> {
        let Some(each) = self.loops.get(index) else { return Ok(None) };
        let turns = each.turns;
        let depth = each.depth;
        Ok(Some(match name {
            "index" => Value::int(turns),
            "index0" => Value::Int(turns as i128 - 1),
            "first" => Value::Bool(turns == 1),
            "last" => Value::Bool(self.look_ahead(index)?.is_none()),
            "length" => Value::int(self.loop_length(index)?),
            "revindex" => Value::Int(self.loop_length(index)? as i128 - turns as i128 + 1),
            "revindex0" => Value::Int(self.loop_length(index)? as i128 - turns as i128),
            "depth" => Value::int(depth + 1),
            "depth0" => Value::int(depth),
            "previtem" => match &each.previous {
                Some(item) if turns > 1 => item.clone(),
                _ => Value::undefined("there is no previous item"),
            },
            "nextitem" => match self.look_ahead(index)? {
                Some(item) => item,
                None => Value::undefined("there is no next item"),
            },
            "cycle" | "changed" => Value::Method(Arc::new((Value::Loop(index), name.into()))),
            _ => return Ok(None),
        }))
    }

    /// `loop.cycle`
    pub fn loop_cycle(&mut self, index: usize, values: Vec<Value>) -> Result<Value> {
        let turn = self.loops.get(index).map_or(0, |each| each.turns.saturating_sub(1));
        match turn.checked_rem(values.len()) {
            Some(place) => Ok(values.into_iter().nth(place).unwrap_or(Value::None)),
            None => wrong("no items for cycling given"),
        }
    }

    /// `loop.changed`
    pub fn loop_changed(&mut self, index: usize, values: Vec<Value>) -> Result<Value> {
        let before = self.loops.get_mut(index).and_then(|each| each.changed.take());
        let mut same = before.as_ref().is_some_and(|before| before.len() == values.len());
        if same {
            for (a, b) in before.iter().flatten().zip(&values) {
                same = same && a.equals(b, &mut self.budget)?;
            }
        }
        if let Some(each) = self.loops.get_mut(index) {
            each.changed = Some(values);
        }
        Ok(Value::Bool(!same))
    }

    /// `loop(items)` of a loop that is `recursive`.
    pub fn loop_again(&mut self, index: usize, over: &Value) -> Result<Value> {
        let Some(each) = self.loops.get(index) else { return Ok(Value::None) };
        let (of, outer, depth) = (each.each, each.outer, each.depth + 1);
        if !of.recursive {
            return wrong("only a loop that is marked 'recursive' can be called");
        }
        let text = self.deeper(|renderer| renderer.capture(|renderer| renderer.run_loop(of, over, outer, depth)))?;
        Ok(Value::str(text))
    }
}
