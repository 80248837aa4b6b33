//! What imports and calls of a pickle are good for, as data: `scan/policy.toml` beside the sources.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};

/// What the library itself holds for harmless and for dangerous.
static OWN: LazyLock<Policy> = LazyLock::new(|| {
    let mut policy = Policy::default();
    // A test reads the file too, so that a mistake in it is seen there.
    let _ = policy.add(include_str!("../../scan/policy.toml"));
    policy
});

/// Bytes and parts that the name of a thing that exists may have; all that is longer is there to waste time.
const MAX_NAME: usize = 1024;
const MAX_PARTS: usize = 64;

/// A policy: for every name that a pickle can import, what it is good for.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    aliases: HashMap<String, String>,
    /// By the name itself.
    names: HashMap<String, Standing>,
    /// By a package, module or class that it is in.
    within: HashMap<String, Within>,
    anywhere: HashSet<String>,
    attributes: HashSet<String>,
    verbs: HashSet<String>,
    enumerations: Vec<String>,
    standard: HashSet<String>,
}

/// What a name is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Builds plain values.
    Harmless,
    /// Harmless where a check lets the arguments pass.
    Checked(Check),
    /// A class of a well-known framework.
    Known {
        /// Whether its constructor is harmless too.
        callable: bool,
    },
    /// A harmless function that is no constructor: it may be referred to.
    Reference,
    /// Runs code or leads there.
    Dangerous,
    /// Part of the standard library that no pickled data needs.
    Standard,
    /// Nobody vouches for it.
    Unknown {
        /// Whether its name says that it runs, loads or writes something.
        verb: bool,
    },
}

/// What holds for all that is within a package, module or class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    Harmless,
    Classes { callable: bool },
    References,
    Dangerous,
    Nothing,
}

/// Which arguments a function may take; `scan/judge.rs` says what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Check {
    Attribute,
    Class,
    Codec,
    Constructor,
    Dtype,
    Factory,
    Generic,
    Getter,
    Nested,
    One,
    Partial,
    Plain,
    Random,
    Rebuild,
    Reconstructor,
    Size,
    Typing,
    Ufunc,
    Union,
}

impl Check {
    /// Whether the function is dangerous with other arguments, so that nothing good is meant where it is handed on.
    pub(super) fn is_narrow(self) -> bool {
        matches!(self, Self::Getter | Self::Union)
    }
}

/// The file's form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    aliases: HashMap<String, String>,
    #[serde(default)]
    harmless: HashMap<String, String>,
    #[serde(default)]
    checked: HashMap<String, Check>,
    #[serde(default)]
    known: KnownFile,
    #[serde(default)]
    dangerous: DangerousFile,
    #[serde(default)]
    standard: StandardFile,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct KnownFile {
    classes: String,
    calls: String,
    references: String,
    enumerations: String,
    lowercase: HashMap<String, String>,
    except: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct DangerousFile {
    modules: String,
    anywhere: String,
    attributes: String,
    verbs: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct StandardFile {
    modules: String,
}

impl Policy {
    /// The library's own.
    pub fn new() -> Self {
        OWN.clone()
    }

    /// Adds the entries of a policy file, which count before those that are there.
    pub fn add(&mut self, text: &str) -> Result<()> {
        let file: File = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start as u64);
            Error::new(ErrorKind::Malformed, format!("this is no policy: {}", error.message().trim())).at(at)
        })?;
        self.aliases.extend(file.aliases);
        let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
        for (list, what) in [
            (&file.known.references, Within::References),
            (&file.known.classes, Within::Classes { callable: false }),
            (&file.known.calls, Within::Classes { callable: true }),
            (&file.known.except, Within::Nothing),
            (&file.dangerous.modules, Within::Dangerous),
        ] {
            for name in words(list) {
                // What was said of the name itself before is overruled.
                self.names.remove(&name);
                self.within.insert(name, what);
            }
        }
        for (module, names) in &file.known.lowercase {
            let names = words(names).into_iter().map(|name| format!("{module}.{name}"));
            self.names.extend(names.map(|name| (name, Standing::Known { callable: false })));
        }
        for (module, names) in &file.harmless {
            for name in words(names) {
                match &*name {
                    "*" => _ = self.within.insert(module.clone(), Within::Harmless),
                    name => _ = self.names.insert(format!("{module}.{name}"), Standing::Harmless),
                }
            }
        }
        self.names.extend(file.checked.into_iter().map(|(name, check)| (name, Standing::Checked(check))));
        self.anywhere.extend(words(&file.dangerous.anywhere));
        self.enumerations.extend(words(&file.known.enumerations));
        self.attributes.extend(words(&file.dangerous.attributes));
        self.verbs.extend(words(&file.dangerous.verbs));
        self.standard.extend(words(&file.standard.modules));
        Ok(())
    }

    /// The name by which the policy knows `module.name`.
    pub(super) fn canonical(&self, module: &str, name: &str) -> Name {
        let mut path = format!("{module}.{name}");
        // An alias of an alias, but no circles.
        for _ in 0..3 {
            if path.len() > MAX_NAME {
                break;
            }
            let found = prefixes(&path).find_map(|prefix| Some((prefix.len(), self.aliases.get(prefix)?)));
            let Some((length, to)) = found else { break };
            path.replace_range(..length, to);
        }
        Name { path, own: name.matches('.').count() + 1 }
    }

    /// What a name, as [`Policy::canonical`] gives it, is good for.
    pub(super) fn standing(&self, name: &Name) -> Standing {
        let path = name.path.as_str();
        if path.len() > MAX_NAME || path.matches('.').count() >= MAX_PARTS {
            return Standing::Dangerous;
        }
        if let Some(standing) = self.names.get(path) {
            return *standing;
        }
        let last = name.last();
        // Cython's constructors take (class, checksum, state) and fill an object of that class. They are as harmless as
        // the class beside them, whose name they bear.
        let cython = last.strip_prefix("__pyx_unpickle_").filter(|_| name.own == 1);
        if let (Some(class), Some((module, _))) = (cython, path.rsplit_once('.')) {
            let class = Name { path: format!("{module}.{class}"), own: 1 };
            if matches!(self.standing(&class), Standing::Harmless | Standing::Known { .. }) {
                return Standing::Checked(Check::Class);
            }
        }
        let class = || last.trim_start_matches('_').chars().next().is_some_and(char::is_uppercase);
        for prefix in prefixes(path) {
            match self.within.get(prefix) {
                Some(Within::Dangerous) => return Standing::Dangerous,
                Some(Within::Harmless) => return Standing::Harmless,
                Some(_) if self.leads_astray(name) => return Standing::Dangerous,
                Some(Within::Classes { callable }) if class() => return Standing::Known { callable: *callable },
                Some(Within::References) if !class() => return Standing::Reference,
                // What a nearer entry does not speak of, a farther one may.
                Some(Within::Classes { .. } | Within::References) => {}
                Some(Within::Nothing) => break,
                None => {}
            }
        }
        if self.leads_astray(name) {
            return Standing::Dangerous;
        }
        if self.standard.contains(path.split('.').next().unwrap_or_default()) {
            return Standing::Standard;
        }
        let words = last.split('_').filter(|word| !word.is_empty());
        let verb = words.map(str::to_ascii_lowercase).any(|word| self.verbs.contains(&word));
        Standing::Unknown { verb: verb || self.verbs.contains(&last.to_ascii_lowercase()) }
    }

    /// Whether a class's name is that of an enumeration.
    pub(super) fn is_enumeration(&self, name: &Name) -> bool {
        self.enumerations.iter().any(|end| name.last().ends_with(end.as_str()))
    }

    /// Whether a dotted name walks into a module that another has imported, or into what Python keeps behind
    /// double underscores; or whether it is none that a program could have.
    fn leads_astray(&self, name: &Name) -> bool {
        let parts: Vec<&str> = name.path.split('.').collect();
        if parts.iter().any(|part| part.is_empty() || part.contains(|c: char| c.is_whitespace() || c.is_control())) {
            return true;
        }
        // `sklearn.base` has numpy as `np`: only classes have parts that a pickler names.
        let first = parts.len().saturating_sub(name.own);
        let through = |index: &usize| {
            let part = parts.get(*index).map_or("", |part| part.trim_start_matches('_'));
            let path = parts.get(..=*index).map(|parts| parts.join(".")).unwrap_or_default();
            let known = self.names.contains_key(&path) || self.within.get(&path) == Some(&Within::Harmless);
            !part.starts_with(char::is_uppercase) && !known
        };
        if (first..parts.len().saturating_sub(1)).any(|index| through(&index)) {
            return true;
        }
        let mut rest = name.path.as_str();
        for (index, part) in parts.iter().enumerate().skip(1) {
            let bare = part.trim_start_matches('_');
            let attribute = index + name.own >= parts.len();
            if self.anywhere.contains(*part)
                || self.anywhere.contains(bare)
                || attribute && (self.attributes.contains(*part) || self.attributes.contains(bare))
                || part.len() > 4 && part.starts_with("__") && part.ends_with("__")
            {
                return true;
            }
            // `torch.library` has `torch`, and so on: what follows counts as a name of its own.
            rest = rest.split_once('.').map_or("", |(_, rest)| rest);
            if attribute && prefixes(rest).any(|it| it.contains('.') && self.within.get(it) == Some(&Within::Dangerous))
            {
                return true;
            }
        }
        false
    }
}

/// A name of an import, aliases resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// `module.name`.
    pub path: String,
    /// How many parts of it, from its end, are attributes rather than the module's own path.
    pub own: usize,
}

impl Name {
    /// An attribute of what has this name.
    pub(super) fn attribute(&self, attribute: &str) -> Self {
        let own = self.own + attribute.matches('.').count() + 1;
        Name { path: format!("{}.{attribute}", self.path), own }
    }

    /// The last part.
    pub(super) fn last(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or(&self.path)
    }
}

/// `a.b.c`, `a.b`, `a`.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| Some(path.rsplit_once('.')?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_policy_is_read() {
        let mut policy = Policy::default();
        policy.add(include_str!("../../scan/policy.toml")).unwrap();
        let standing = |module, name| policy.standing(&policy.canonical(module, name));
        assert_eq!(standing("collections", "OrderedDict"), Standing::Harmless);
        assert_eq!(standing("__builtin__", "xrange"), standing("builtins", "range"));
        assert_eq!(standing("random", "_os.system"), Standing::Dangerous);
        assert_eq!(standing("torch.nn.modules.linear", "Linear"), Standing::Known { callable: false });
        assert_eq!(standing("somebody.io", "read"), Standing::Unknown { verb: false });
    }
}
