//! Names that are told together: a whole part of a model is one sentence, not a thousand.

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};

/// The beginnings, up to a dot, of many names.
pub(super) struct Beginnings<'a>(HashSet<&'a str>);

impl<'a> Beginnings<'a> {
    pub(super) fn of(names: impl Iterator<Item = &'a str>) -> Self {
        let mut out = HashSet::new();
        for name in names {
            // Of names in order, what is there already holds for all that is shorter.
            for (end, _) in name.rmatch_indices('.') {
                if !out.insert(name.get(..end).unwrap_or_default()) {
                    break;
                }
            }
            out.insert(name);
        }
        Beginnings(out)
    }

    /// The shortest beginning of a name with which none of these names begins.
    fn foreign<'n>(&self, name: &'n str) -> &'n str {
        let ends = name.match_indices('.').map(|(end, _)| end).chain([name.len()]);
        ends.filter_map(|end| name.get(..end)).find(|start| !self.0.contains(start)).unwrap_or(name)
    }
}

/// Names that are strange in the same way.
pub(super) struct Group<'a> {
    /// The first of them.
    pub(super) first: &'a str,
    /// With what it begins that nothing else begins with; the whole name where it stands alone.
    pub(super) under: &'a str,
    /// Indices of the names.
    pub(super) members: Vec<usize>,
    /// With what the last of them begins so: names with one beginning follow each other.
    last: &'a str,
    /// How many beginnings there are, which differ in numbers.
    trees: usize,
}

impl Group<'_> {
    /// `a.b.weight`, `12 names under a.b`, `12 names under layers.0.b and 3 more like it`.
    pub(super) fn words(&self) -> String {
        let more = |trees: usize| if trees > 1 { format!(" and {} more like it", trees - 1) } else { String::new() };
        match self.members.len() {
            1 => self.first.to_string(),
            count if count == self.trees => format!("{}{}", self.first, more(count)),
            count => format!("{count} names under {}{}", self.under, more(self.trees)),
        }
    }
}

/// Brings names together by how they differ from all of `known`; numbers aside.
pub(super) fn group<'a>(names: &[&'a str], known: &Beginnings) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (index, name) in names.iter().enumerate() {
        let under = known.foreign(name);
        let place = *places.entry(crate::atlas::without_numbers(under)).or_insert_with(|| {
            groups.push(Group { first: name, under, last: "", members: Vec::new(), trees: 0 });
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(place) {
            group.members.push(index);
            group.trees += usize::from(under != group.last || under == *name);
            group.last = under;
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_alike_is_told_once() {
        let known =
            Beginnings::of(["model.norm.weight", "model.layers.0.q.weight", "model.layers.1.q.weight"].into_iter());
        let names = ["model.layers.0.k.weight", "model.layers.1.k.weight", "vision.a.weight", "vision.b", "vision.c.d"];
        let words: Vec<String> = group(&names, &known).iter().map(Group::words).collect();
        assert_eq!(words, ["model.layers.0.k.weight and 1 more like it", "3 names under vision"]);
        let names = ["model.layers.0.bias", "model.layers.1.bias", "model.layers.2.q.weight", "score.weight"];
        let words: Vec<String> = group(&names, &known).iter().map(Group::words).collect();
        assert_eq!(words, ["model.layers.0.bias and 1 more like it", "model.layers.2.q.weight", "score.weight"]);
    }
}
