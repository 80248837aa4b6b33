//! Which arguments harmless functions may take.
//!
//! Each [`Check`] of the policy is a function that makes plain values of plain values, but more of others: `getattr`
//! finds the members of enumerations, and anything else.

use super::judge::{Judge, MAX_ATTRIBUTE, Made};
use super::policy::{Check, Name, Standing};
use crate::container::pickle::{Id, Value};

/// Why arguments are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No pickler gives these; what they do is not known.
    Odd(&'static str),
    /// They lead to something dangerous.
    Dangerous(&'static str),
}

/// Codecs by which Python 2's pickles carry bytes; others decompress or decode what is hidden.
const CODECS: [&str; 8] = ["latin1", "latin-1", "iso-8859-1", "ascii", "utf-8", "utf8", "utf_8", "latin_1"];
/// Modules within those whose array functions are pickled by their names (`numpy`, `scipy.special`).
#[rustfmt::skip]
const SUBMODULES: [&str; 48] = [
    "ma", "core", "lib", "linalg", "fft", "random", "testing", "polynomial", "ctypeslib", "compat", "distutils", "f2py",
    "rec", "char", "dtypes", "exceptions", "emath", "matrixlib", "typing", "version", "strings", "doc", "array_api",
    "os", "sys", "math", "multiarray", "umath", "numeric", "records", "memmap", "arrayprint", "defchararray", "overrides",
    "numerictypes", "fromnumeric", "shape_base", "einsumfunc", "getlimits", "function_base", "orthogonal", "basic",
    "spfun_stats", "cython_special", "sf_error", "specfun", "add_newdocs", "warnings",
];
/// How the names of methods begin that act on files, whatever object has them.
#[rustfmt::skip]
const WRITES: [&str; 22] = [
    "write", "unlink", "to_", "tofile", "dump", "save", "open", "rename", "replace", "rmdir", "mkdir", "touch", "chmod",
    "symlink", "hardlink", "link", "remove", "delete", "load", "read", "eval", "pipe",
];
/// Bytes that a call may reserve, and numbers that a range may have.
const MAX_RESERVED: i64 = 1 << 28;

impl Judge<'_> {
    /// Whether a check lets arguments pass.
    pub(super) fn allows(&mut self, check: Check, arguments: &[Id]) -> Result<(), Refusal> {
        let odd = |fine: bool, why| if fine { Ok(()) } else { Err(Refusal::Odd(why)) };
        match (check, arguments) {
            (Check::Attribute, [owner, name]) => self.attribute(*owner, *name),
            (Check::Size, _) => {
                let large = arguments.iter().any(|id| self.trace.int(*id).is_some_and(|bytes| bytes > MAX_RESERVED));
                odd(!large, "it reserves much memory")
            }
            (Check::Class, [class, ..]) => self.class(*class, false),
            (Check::Constructor, [class, ..]) => self.class(*class, true),
            (Check::Codec, [text]) => odd(self.is_plain(*text), "it encodes something else than text"),
            (Check::Codec, [text, codec]) => {
                let known =
                    self.trace.text(*codec).is_some_and(|codec| CODECS.contains(&codec.to_lowercase().as_str()));
                odd(known && self.is_plain(*text), "that is not how pickles carry bytes")
            }
            (Check::Dtype, [of, ..]) => match self.import(*of) {
                None | Some((_, Standing::Harmless)) => Ok(()),
                Some(_) => Err(Refusal::Odd("the type is none of numpy's")),
            },
            (Check::Factory, _) => self.factory(arguments),
            (Check::Generic, [class, ..]) => odd(self.is_type(*class), "it makes a type of what is none"),
            (Check::Getter, _) => {
                let read = |id: &Id| self.trace.text(*id).is_some_and(|text| self.is_innocent(text));
                if arguments.iter().all(read) {
                    Ok(())
                } else {
                    Err(Refusal::Dangerous("what it reads may be anything"))
                }
            }
            (Check::Nested, [bytes]) => match self.trace.value(*bytes) {
                Value::Bytes(place) => {
                    self.out.nested.extend(self.trace.span(place));
                    Ok(())
                }
                _ => Err(Refusal::Odd("it loads something that is not in the file as it is")),
            },
            (Check::One, [_]) => Ok(()),
            (Check::Partial, [function, bound @ ..]) => self.partial(*function, bound),
            (Check::Plain, _) => {
                odd(arguments.iter().all(|id| self.is_plain(*id)), "the arguments are no plain values")
            }
            (Check::Random, _) => {
                // The first may be a function that it calls for a generator of bits.
                let own = |(name, _): (&Name, Standing)| name.path.starts_with("numpy.random.");
                let fine = |id: &Id| self.is_plain(*id) || self.import(*id).or(self.maker(*id)).is_some_and(own);
                let why = "it calls what is given to it";
                let taken = |id: &Id| self.made(*id) == Made::Found;
                match arguments.iter().all(fine) {
                    true => Ok(()),
                    false if arguments.iter().any(taken) => Err(Refusal::Dangerous(why)),
                    false => Err(Refusal::Odd(why)),
                }
            }
            (Check::Rebuild, [function, kind, ..]) => match (self.import(*function), self.import(*kind)) {
                (Some((name, Standing::Harmless)), Some((_, standing))) if name.last().starts_with("_rebuild_") => {
                    odd(matches!(standing, Standing::Harmless | Standing::Known { .. }), "the class is unknown")
                }
                (Some((_, Standing::Dangerous)), _) => Err(Refusal::Dangerous("it calls what is given to it")),
                _ => Err(Refusal::Odd("it calls what is given to it")),
            },
            (Check::Reconstructor, [class, base, ..]) => match self.import(*base) {
                Some((_, Standing::Harmless)) => self.class(*class, false),
                _ => Err(Refusal::Odd("its base is no plain class")),
            },
            (Check::Typing, [owner, _]) => match self.import(*owner) {
                Some((name, Standing::Harmless)) if name.path.starts_with("typing.") => Ok(()),
                Some((name, Standing::Harmless)) if name.path.starts_with("builtins.") => Ok(()),
                Some((_, Standing::Dangerous)) => Err(Refusal::Dangerous("it takes something out of a module")),
                _ => Err(Refusal::Odd("it takes something out of an object")),
            },
            (Check::Ufunc, [module, name]) => {
                let (module, name) = (self.trace.text(*module), self.trace.text(*name));
                let (Some(module), Some(name)) = (module, name) else {
                    return Err(Refusal::Dangerous("it imports what is computed"));
                };
                let numeric = matches!(module, "numpy" | "numpy.core" | "scipy.special" | "scipy.special._ufuncs");
                if !numeric || name.len() > MAX_ATTRIBUTE {
                    return Err(Refusal::Dangerous("it imports any name of any module"));
                }
                let path = Name { path: format!("{module}.{name}"), own: 1 };
                let other =
                    ["load", "save", "from", "to", "test", "open", "mem"].iter().any(|begin| name.starts_with(begin));
                let submodule = SUBMODULES.contains(&name);
                if !name.starts_with('_') && !other && !submodule && self.standing(&path) != Standing::Dangerous {
                    return Ok(());
                }
                Err(Refusal::Dangerous("it imports any name of any module"))
            }
            // `int | None` and the like.
            (Check::Union, [function, types]) => {
                let or = self.import(*function).is_some_and(|(name, _)| name.path == "operator.or_");
                let tuple = matches!(self.trace.value(*types), Value::Tuple(_));
                if or && tuple && self.trace.contents(*types).iter().all(|id| self.is_type(*id)) {
                    return Ok(());
                }
                Err(Refusal::Dangerous("it calls what is given to it"))
            }
            (Check::Union, _) => Err(Refusal::Dangerous("it calls what is given to it")),
            _ => Err(Refusal::Odd("no pickler gives it these arguments")),
        }
    }

    /// `defaultdict`, whose first argument is called where a key is missing.
    fn factory(&self, arguments: &[Id]) -> Result<(), Refusal> {
        let Some(factory) = arguments.first() else { return Ok(()) };
        match self.import(*factory) {
            Some((_, Standing::Harmless | Standing::Known { .. })) => Ok(()),
            Some((_, Standing::Dangerous)) => Err(Refusal::Dangerous("a missing key calls it")),
            // A method of an object may do anything with it: `Path.unlink`.
            _ if self.trace.value(*factory) == Value::None || self.made(*factory) == Made::Plain => Ok(()),
            _ => Err(Refusal::Odd("a missing key calls it")),
        }
    }

    /// Whether a call is given a counter that never ends, in its arguments or in a tuple of them: `list` would never
    /// return. What takes many arguments does not count through them.
    pub(super) fn is_endless(&self, arguments: Id) -> bool {
        let counter = |id: &Id| self.maker(*id).is_some_and(|(name, _)| name.path == "itertools.count");
        self.trace.contents(arguments).iter().take(8).any(|id| match self.trace.value(*id) {
            Value::Tuple(_) => self.trace.contents(*id).iter().take(8).any(counter),
            _ => counter(id),
        })
    }

    /// Whether a value is a class, as it may stand in a type's description.
    fn is_type(&self, id: Id) -> bool {
        match self.import(id) {
            Some((_, standing)) => matches!(
                standing,
                Standing::Harmless | Standing::Known { .. } | Standing::Checked(Check::Size | Check::Factory)
            ),
            None => {
                const TYPES: [&str; 4] =
                    ["builtins.type", "types.GenericAlias", "operator.getitem", "functools.reduce"];
                let made = self.maker(id).is_some_and(|(name, _)| TYPES.contains(&name.path.as_str()));
                self.trace.value(id) == Value::None || made && self.made(id) != Made::Unknown
            }
        }
    }

    /// Whether the path of an attribute leads neither to a module nor behind the scenes.
    fn is_innocent(&self, path: &str) -> bool {
        let own = path.matches('.').count() + 1;
        let name = Name { path: format!("object.{path}"), own };
        path.len() <= MAX_ATTRIBUTE && !path.contains("__") && self.standing(&name) != Standing::Dangerous
    }

    /// `getattr`: members of enumerations, and methods of objects that are vouched for, to refer to.
    fn attribute(&self, owner: Id, name: Id) -> Result<(), Refusal> {
        let Some(attribute) = self.trace.text(name) else {
            return Err(Refusal::Dangerous("the attribute's name is computed"));
        };
        if attribute.starts_with("__") || attribute.contains('.') || attribute.len() > MAX_ATTRIBUTE {
            return Err(Refusal::Dangerous("it reaches for what Python keeps behind the scenes"));
        }
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let constant = attribute.starts_with(|c: char| c.is_ascii_uppercase()) && attribute.chars().all(word);
        let constant = constant && !attribute.contains(|c: char| c.is_ascii_lowercase());
        let Some((class, standing)) = self.import(owner) else {
            // Methods of plain values.
            let kind = match self.trace.value(owner) {
                Value::Text(_) => "str",
                Value::List => "list",
                Value::Dict => "dict",
                _ => "",
            };
            let method = Name { path: format!("builtins.{kind}.{attribute}"), own: 2 };
            if !kind.is_empty() && self.standing(&method) == Standing::Reference {
                return Ok(());
            }
            let plain = !attribute.starts_with('_') && !WRITES.iter().any(|verb| attribute.starts_with(verb));
            if matches!(self.made(owner), Made::Plain | Made::Framework) && plain {
                return Ok(());
            }
            return Err(Refusal::Odd("it reaches into something unknown"));
        };
        let is_class = class.last().trim_start_matches('_').starts_with(char::is_uppercase);
        let whole = self.standing(&class.attribute(attribute));
        match standing {
            _ if whole == Standing::Harmless => Ok(()),
            Standing::Harmless if whole == Standing::Reference => Ok(()),
            Standing::Dangerous | Standing::Standard => Err(Refusal::Dangerous("it reaches into a module")),
            _ if whole == Standing::Dangerous => Err(Refusal::Dangerous("it leads to a dangerous function")),
            _ if is_class && constant => Ok(()),
            Standing::Harmless | Standing::Known { .. } if is_class && !attribute.starts_with('_') => Ok(()),
            _ => Err(Refusal::Odd("it reaches into something that is no enumeration")),
        }
    }

    /// A class of which an object is made; `constructed` where its constructor runs.
    fn class(&self, class: Id, constructed: bool) -> Result<(), Refusal> {
        match self.import(class) {
            Some((_, Standing::Harmless | Standing::Known { callable: true })) => Ok(()),
            Some((_, Standing::Known { .. })) if !constructed => Ok(()),
            // That it is imported is a finding of its own.
            Some((_, Standing::Unknown { verb: false })) if !constructed => Ok(()),
            Some((_, Standing::Dangerous | Standing::Standard)) => {
                Err(Refusal::Dangerous("it makes an object of a dangerous class"))
            }
            _ => Err(Refusal::Odd("it makes an object of an unknown class")),
        }
    }

    /// `functools.partial`, which somebody may call later.
    fn partial(&self, function: Id, bound: &[Id]) -> Result<(), Refusal> {
        match self.import(function) {
            Some((_, Standing::Harmless | Standing::Known { .. } | Standing::Reference)) => Ok(()),
            // Dictionaries of dictionaries.
            Some((_, Standing::Checked(Check::Factory))) => self.factory(bound),
            Some((_, Standing::Dangerous | Standing::Standard)) => Err(Refusal::Dangerous("it wraps a function")),
            _ => Err(Refusal::Odd("it wraps a function that nobody vouches for")),
        }
    }

    /// The state of a `functools.partial`: function, arguments, keywords, attributes.
    pub(super) fn partial_state(&self, state: Id) -> Result<(), Refusal> {
        match self.trace.contents(state) {
            [function, bound, ..]
                if matches!(
                    (self.trace.value(state), self.trace.value(*bound)),
                    (Value::Tuple(_), Value::Tuple(_))
                ) =>
            {
                self.partial(*function, self.trace.contents(*bound))
            }
            _ => Err(Refusal::Odd("it wraps a function that nobody vouches for")),
        }
    }

    /// Whether a value is data and nothing else, as far as its outermost part goes.
    fn is_plain(&self, id: Id) -> bool {
        !matches!(
            self.trace.value(id),
            Value::Global(_) | Value::Call(_) | Value::Persistent(_) | Value::Buffer | Value::Unknown
        )
    }
}
