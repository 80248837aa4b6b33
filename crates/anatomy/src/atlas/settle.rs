//! What metadata leave open and the names in a header settle.
//!
//! The metadata of a GGUF do not say whether a model has biases, or whether the converter wrote queries, keys and values
//! in one tensor or in three; its header does. So a table marks such rows as `held`, and once names are known each of
//! them is due or is not there at all: a bias that one layer has is due in all, and of the forms of a choice each layer
//! has exactly one.

use foldhash::{HashMap, HashMapExt, HashSet};

use super::blueprint::{Blueprint, Expected, Held};
use super::matching::pattern;

/// A form of a choice: how many of its tensors are held, and how many there would be.
struct Form<'r> {
    name: &'r str,
    held: usize,
    all: usize,
}

impl Blueprint {
    /// Settles by the names in a file which of the optional tensors are due: none is optional afterwards. Of what may
    /// differ from layer to layer those that it holds are due, the others are not; what all layers have or none is due
    /// in all where one has it; and of the forms of a choice one is due in each layer, whether it is held as a whole
    /// or not.
    pub fn settle<'n>(&mut self, held: impl IntoIterator<Item = &'n str>) {
        let names: HashSet<&str> = held.into_iter().collect();
        let patterns: HashSet<String> = names.iter().map(|name| pattern(name).0).collect();
        let layers: HashSet<u64> = names.iter().filter_map(|name| pattern(name).1).collect();
        let due: Vec<bool> = {
            let choices = Choices::of(&self.tensors, &names);
            let due = |row: &Expected| {
                let absent = || row.layer.is_some_and(|layer| !layers.contains(&u64::from(layer)));
                match (&row.held, &row.optional) {
                    (Some(held), _) => choices.is_due(held, absent()),
                    (None, None) => true,
                    // Layers that are in another file have what others have.
                    (None, Some(_)) if row.layer.is_none() || absent() => patterns.contains(&pattern(&row.name(0)).0),
                    (None, Some(_)) => names.contains(row.name(0).as_str()),
                }
            };
            self.tensors.iter().map(due).collect()
        };
        let mut due = due.into_iter();
        self.tensors.retain_mut(|row| {
            row.optional = None;
            row.held = None;
            due.next().unwrap_or(true)
        });
    }
}

/// What of each choice is held.
struct Choices<'r> {
    lines: HashMap<usize, bool>,
    in_turn: HashMap<(&'r str, usize), Vec<Form<'r>>>,
    anywhere: HashMap<&'r str, Vec<Form<'r>>>,
}

impl<'r> Choices<'r> {
    fn of(tensors: &'r [Expected], names: &HashSet<&str>) -> Self {
        let mut choices = Choices { lines: HashMap::new(), in_turn: HashMap::new(), anywhere: HashMap::new() };
        for row in tensors {
            let Some(held) = &row.held else { continue };
            let count = (0..row.count).filter(|number| names.contains(row.name(*number).as_str())).count();
            if held.forms.is_empty() {
                *choices.lines.entry(held.line).or_default() |= count > 0;
            }
            for form in held.forms.iter() {
                add(choices.in_turn.entry((&held.choice, held.turn)).or_default(), form, count, row.count);
                add(choices.anywhere.entry(&held.choice).or_default(), form, count, row.count);
            }
        }
        choices
    }

    /// `absent`: nothing of the row's layer is in the file.
    fn is_due(&self, held: &Held, absent: bool) -> bool {
        if held.forms.is_empty() {
            return self.lines.get(&held.line).copied().unwrap_or(false);
        }
        let anywhere = self.anywhere.get(&*held.choice).map(Vec::as_slice).unwrap_or_default();
        let here = self.in_turn.get(&(&*held.choice, held.turn)).map(Vec::as_slice).unwrap_or_default();
        let here = if absent { anywhere } else { here };
        let own = |form: &Form| held.forms.iter().any(|own| own == form.name);
        if here.iter().any(|form| form.held == form.all) {
            return here.iter().any(|form| form.held == form.all && own(form));
        }
        // None is whole: that of which most is there, here and then elsewhere, and the first of equal ones, since
        // tables list the usual form first. Where there is one form alone, a layer may do without it.
        let elsewhere = |form: &Form| anywhere.iter().find(|other| other.name == form.name).map_or(0, |form| form.held);
        let best = here.iter().rev().max_by_key(|form| (form.held, elsewhere(form)));
        best.is_some_and(|form| own(form) && (form.held > 0 || anywhere.len() > 1))
    }
}

fn add<'r>(forms: &mut Vec<Form<'r>>, name: &'r str, held: usize, all: usize) {
    match forms.iter_mut().find(|form| form.name == name) {
        Some(form) => (form.held, form.all) = (form.held + held, form.all + all),
        None => forms.push(Form { name, held, all }),
    }
}
