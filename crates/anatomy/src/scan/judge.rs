//! Judges what a pickle imports, calls and changes: names in the context of their use.
//!
//! A call of a name that the policy vouches for makes an object that may be filled (`BUILD`, items). Everything else
//! is a finding: names that are dangerous or unknown, arguments that a harmless function may not take, functions that
//! are only computed as the pickle runs, and changes to what other code shares.

use std::collections::{HashMap, HashSet};

use super::arguments::Refusal;
use super::explain::Writer;
use super::policy::{Check, Name, Policy, Standing};
use crate::container::pickle::{Call, CallKind, Id, Str, Trace, Value, Via};
use crate::finding::{Finding, Findings, Rule, Severity};
use crate::tensor::Span;

static DANGEROUS_CALL: Rule = Rule {
    name: "pickle-dangerous-call",
    severity: Severity::Error,
    why: "Loading the file calls a function that runs code, loads code, reads or writes files, or talks to the network. \
          No model needs that.",
    help: "do not load the file; look at what it would have run with `anatomy scan --explain`",
};
static DANGEROUS_IMPORT: Rule = Rule {
    name: "pickle-dangerous-import",
    severity: Severity::Error,
    why: "Loading the file imports a function that runs code, loads code, reads or writes files, or talks to the \
          network. Whatever uses the loaded object may call it.",
    help: "do not load the file",
};
static COMPUTED_NAME: Rule = Rule {
    name: "pickle-computed-name",
    severity: Severity::Error,
    why: "The name of an import is computed as the pickle runs. Python's pickler writes names as they are; computing \
          them only hides them.",
    help: "do not load the file",
};
static COMPUTED_CALL: Rule = Rule {
    name: "pickle-computed-call",
    severity: Severity::Error,
    why: "What is called is itself only computed as the pickle runs, as chains of `getattr` and imports do that lead \
          from harmless names to dangerous functions.",
    help: "do not load the file; look at what it would have run with `anatomy scan --explain`",
};
static OVERWRITES: Rule = Rule {
    name: "pickle-overwrites",
    severity: Severity::Error,
    why: "The pickle changes a module, class or function that it has imported, and so what other code does from then \
          on. Pickled objects only fill themselves.",
    help: "do not load the file",
};
static UNKNOWN_CALL: Rule = Rule {
    name: "pickle-unknown-call",
    severity: Severity::Error,
    why: "Loading the file calls something that is in no list of harmless names. It may well be part of the author's \
          own program; nobody but the author can tell.",
    help: "load it only if you trust its author; where it only holds weights, ask for safetensors or load with \
           `weights_only=True`",
};
static UNKNOWN_IMPORT: Rule = Rule {
    name: "pickle-unknown-import",
    severity: Severity::Error,
    why: "Loading the file imports something that is in no list of harmless names; importing a module runs it.",
    help: "load it only if you trust its author and the package that is imported",
};
static ARGUMENTS: Rule = Rule {
    name: "pickle-unexpected-arguments",
    severity: Severity::Error,
    why: "A function that is harmless with the arguments that picklers give it is called with others, or handed on so \
          that these cannot be known.",
    help: "load it only if you trust its author",
};
static EXTENSION: Rule = Rule {
    name: "pickle-extension-code",
    severity: Severity::Error,
    why: "The pickle names an import by a number that only the loading program's registry can resolve, so what it is \
          cannot be known.",
    help: "load it only if you trust its author",
};
static FAILS: Rule = Rule {
    name: "pickle-call-fails",
    severity: Severity::Error,
    why: "The pickle calls something that cannot be called, so loading stops there. What stands before has run.",
    help: "do not load the file; get it from its author again",
};
static FRAMEWORK: Rule = Rule {
    name: "pickle-framework-class",
    severity: Severity::Note,
    why: "The file holds objects of a well-known framework's classes. Loading needs that framework and `weights_only` \
          off; the objects themselves are harmless.",
    help: "prefer a format without code for what is published",
};

/// The rules of pickled programs.
pub(crate) static RULES: &[&Rule] = &[
    &DANGEROUS_CALL,
    &DANGEROUS_IMPORT,
    &COMPUTED_NAME,
    &COMPUTED_CALL,
    &OVERWRITES,
    &UNKNOWN_CALL,
    &UNKNOWN_IMPORT,
    &ARGUMENTS,
    &EXTENSION,
    &FAILS,
    &FRAMEWORK,
];
/// Of these, those whose findings are attacks.
pub(super) static MALICIOUS: &[&Rule] =
    &[&DANGEROUS_CALL, &DANGEROUS_IMPORT, &COMPUTED_NAME, &COMPUTED_CALL, &OVERWRITES];
/// Of these, those whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[&UNKNOWN_CALL, &UNKNOWN_IMPORT, &ARGUMENTS, &EXTENSION];

/// Whether a finding of this rule says that something runs or is imported that nobody vouches for.
pub(super) fn is_telling(rule: &Rule) -> bool {
    MALICIOUS.iter().chain(SUSPICIOUS).any(|one| one.name == rule.name)
}

/// Length of a call in a message.
const SHOWN: usize = 160;
/// How far chains of computed names are followed.
const MAX_CHAIN: usize = 8;
/// Bytes that the name of an attribute may have.
pub(super) const MAX_ATTRIBUTE: usize = 256;

/// What a judgement yields.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// What is odd or dangerous.
    pub findings: Findings,
    /// Whether some of it says that something runs or is imported that nobody vouches for.
    pub telling: bool,
    /// Bytes within the pickle's source that it has a loader read.
    pub nested: Vec<Span>,
}

/// What is known of what a call makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// Nobody vouches for it.
    Unknown,
    /// A value of its own, of Python's or an array library's plain types.
    Plain,
    /// An object of a well-known framework: harmless as long as none of its methods is run.
    Framework,
    /// Something that was there before: a method, a class, a module's function. It may be referred to, no more.
    Found,
}

/// A judgement in progress.
pub(super) struct Judge<'a> {
    pub(super) trace: &'a Trace,
    policy: &'a Policy,
    writer: Writer<'a>,
    /// The distinct names of imports.
    names: Vec<(Name, Standing)>,
    /// For each import the index of its name; nothing where it has none.
    name_of: Vec<Option<u32>>,
    /// For each call what is known of what it makes.
    made: Vec<Made>,
    /// Names that a finding is about already.
    told: HashSet<u32>,
    pub(super) out: Judgement,
}

/// Judges a whole trace.
pub(super) fn judge(trace: &Trace, policy: &Policy) -> Judgement {
    let mut judge = Judge {
        trace,
        policy,
        writer: Writer::new(trace),
        names: Vec::new(),
        name_of: Vec::with_capacity(trace.globals.len()),
        made: Vec::with_capacity(trace.calls.len()),
        told: HashSet::new(),
        out: Judgement::default(),
    };
    judge.resolve_imports();
    for call in &trace.calls {
        let made = match call.kind {
            CallKind::Build | CallKind::Append | CallKind::SetItem | CallKind::Add => {
                judge.change(call);
                Made::Unknown
            }
            _ if !judge.run(call) => Made::Unknown,
            _ => judge.made_by(call),
        };
        judge.made.push(made);
    }
    judge.imports();
    judge.out
}

impl<'a> Judge<'a> {
    fn resolve_imports(&mut self) {
        // Names that come from the memo are the same place each time, which spares reading them again.
        let mut places: HashMap<(Str, Str), u32> = HashMap::new();
        let mut known: HashMap<(&str, &str), u32> = HashMap::new();
        for global in &self.trace.globals {
            let (Some(module), Some(name)) = (global.module, global.name) else {
                self.name_of.push(None);
                continue;
            };
            if let Some(index) = places.get(&(module, name)) {
                self.name_of.push(Some(*index));
                continue;
            }
            let place = (module, name);
            let (module, name) = (self.trace.str(module), self.trace.str(name));
            let index = *known.entry((module, name)).or_insert_with(|| {
                let name = self.policy.canonical(module, name);
                let standing = self.policy.standing(&name);
                self.names.push((name, standing));
                u32::try_from(self.names.len() - 1).unwrap_or(u32::MAX)
            });
            places.insert(place, index);
            self.name_of.push(Some(index));
        }
    }

    /// The name of an imported value and what it is good for.
    pub(super) fn import(&self, id: Id) -> Option<(&Name, Standing)> {
        let (name, standing) = self.names.get(self.import_index(id)? as usize)?;
        Some((name, *standing))
    }

    fn import_index(&self, id: Id) -> Option<u32> {
        match self.trace.value(id) {
            Value::Global(index) => self.name_of.get(index as usize).copied().flatten(),
            _ => None,
        }
    }

    /// What a name is good for.
    pub(super) fn standing(&self, name: &Name) -> Standing {
        self.policy.standing(name)
    }

    /// What is known of a value that a call made.
    pub(super) fn made(&self, id: Id) -> Made {
        match self.trace.value(id) {
            Value::Call(index) => self.made.get(index as usize).copied().unwrap_or(Made::Unknown),
            _ => Made::Unknown,
        }
    }

    /// The name of what was called to make a value.
    pub(super) fn maker(&self, id: Id) -> Option<(&Name, Standing)> {
        self.import(self.trace.call(id)?.callee)
    }

    /// What a call makes that nothing speaks against.
    fn made_by(&self, call: &Call) -> Made {
        match self.import(call.callee) {
            Some((_, Standing::Checked(Check::Attribute | Check::Ufunc | Check::Typing))) => Made::Found,
            Some((name, _)) if name.path == "builtins.type" => Made::Found,
            Some((_, Standing::Known { .. })) => Made::Framework,
            Some(_) => Made::Plain,
            // A method of something, or what an object gives when it is called.
            None => Made::Found,
        }
    }

    /// The name that a value has when the pickle runs, where chains of `getattr` and imports lead to one.
    pub(super) fn name(&self, id: Id, depth: usize) -> Option<Name> {
        if let Some((name, _)) = self.import(id) {
            return Some(name.clone());
        }
        let call = self.trace.call(id).filter(|_| depth < MAX_CHAIN)?;
        let arguments = self.trace.contents(call.arguments);
        let short = |id: &Id| self.trace.text(*id).filter(|text| text.len() <= MAX_ATTRIBUTE);
        let text = |index: usize| arguments.get(index).and_then(short);
        // `attrgetter('a.b')(object)`.
        if let Some(getter) = self.trace.call(call.callee) {
            let made = self.name(getter.callee, depth + 1)?;
            let attribute = self.trace.contents(getter.arguments).first().and_then(short)?;
            return match &*made.path {
                "operator.attrgetter" => Some(self.name(*arguments.first()?, depth + 1)?.attribute(attribute)),
                _ => None,
            };
        }
        let callee = self.name(call.callee, depth + 1)?;
        let module = |path: &str| Some(Name { path: path.replace(':', "."), own: 0 });
        match &*callee.path {
            "builtins.getattr" => Some(self.name(*arguments.first()?, depth + 1)?.attribute(text(1)?)),
            "builtins.__import__" | "importlib.import_module" | "pkgutil.resolve_name" | "pydoc.locate" => {
                module(text(0)?)
            }
            "operator.getitem" => {
                let owner = self.name(*arguments.first()?, depth + 1)?;
                if owner.path.ends_with("sys.modules") { module(text(1)?) } else { Some(owner.attribute(text(1)?)) }
            }
            path if path.ends_with("sys.modules.get") || path.ends_with("sys.modules.__getitem__") => module(text(0)?),
            _ => None,
        }
    }

    pub(super) fn tell(&mut self, rule: &'static Rule, offset: u64, message: String) {
        self.out.telling |= is_telling(rule);
        self.out.findings.push(Finding::new(rule, message).at(offset));
    }

    fn shown(&self, call: &Call) -> String {
        self.writer.call(call, SHOWN)
    }

    /// A call proper; whether what it makes is vouched for.
    fn run(&mut self, call: &Call) -> bool {
        let Some(index) = self.import_index(call.callee) else {
            return self.run_computed(call);
        };
        let Some((name, standing)) = self.names.get(index as usize).cloned() else { return false };
        // An object made without its constructor: `INST` and `OBJ` do so where there are no arguments.
        let bare = match call.kind {
            // Native classes may read files where they are made.
            CallKind::NewObj | CallKind::NewObjEx => !self.names_path(call),
            CallKind::Inst | CallKind::Obj => self.trace.contents(call.arguments).is_empty(),
            _ => false,
        };
        if self.is_endless(call.arguments) {
            self.told.insert(index);
            self.tell(&ARGUMENTS, call.offset, format!("it runs {}: the counter never ends", self.shown(call)));
            return false;
        }
        let rule = match standing {
            // TorchScript's objects are never called.
            Standing::Harmless if name.path.starts_with("__torch__.") && !bare => &UNKNOWN_CALL,
            Standing::Harmless => return self.walks_through(call, &name),
            Standing::Checked(check) => return self.checked(call, check),
            Standing::Known { callable } if bare || callable || self.chooses_member(call, &name) => return true,
            Standing::Dangerous | Standing::Standard | Standing::Unknown { verb: true } => &DANGEROUS_CALL,
            Standing::Known { .. } | Standing::Reference | Standing::Unknown { verb: false } => &UNKNOWN_CALL,
        };
        self.told.insert(index);
        // What a loader is given is a program of its own, to be shown as well.
        let bytes = self.trace.contents(call.arguments).first().map(|first| self.trace.value(*first));
        if let (true, Some(Value::Bytes(place))) = (name.last() == "loads", bytes) {
            self.out.nested.extend(self.trace.span(place));
        }
        let message = match rule.name == DANGEROUS_CALL.name {
            true => format!("it runs {}", self.shown(call)),
            false => format!("it calls {}, which nobody vouches for", self.shown(call)),
        };
        self.tell(rule, call.offset, message);
        false
    }

    /// Whether a plain container is made of plain things; false where it walks through an object of a framework, which
    /// runs that object's methods (`list(DataLoader(…))`).
    fn walks_through(&mut self, call: &Call, name: &Name) -> bool {
        let walks = ["builtins.", "collections.", "itertools."].iter().any(|module| name.path.starts_with(module));
        let arguments = self.trace.contents(call.arguments);
        if !walks || arguments.iter().all(|id| self.made(*id) != Made::Framework) {
            return true;
        }
        let message = format!("it runs {}: it walks through an object of a framework", self.shown(call));
        self.tell(&ARGUMENTS, call.offset, message);
        false
    }

    /// Whether a call is given a text that looks like a path or an address.
    fn names_path(&self, call: &Call) -> bool {
        let arguments = self.trace.contents(call.arguments).iter();
        arguments.filter_map(|id| self.trace.text(*id)).any(|text| text.contains(['/', '\\']))
    }

    /// Whether a call is that of an enumeration with one of its values.
    fn chooses_member(&self, call: &Call, name: &Name) -> bool {
        const LONGEST: usize = 64;
        let plain = |id: &Id| match self.trace.value(*id) {
            Value::Int(_) | Value::Bool(_) => true,
            // No file's name, no address.
            _ => {
                self.trace.text(*id).is_some_and(|text| text.len() <= LONGEST && !text.contains(['/', '\\', ':', '.']))
            }
        };
        match self.trace.contents(call.arguments) {
            [value] => plain(value) && self.policy.is_enumeration(name),
            _ => false,
        }
    }

    /// A call of a harmless function, as far as its arguments are.
    fn checked(&mut self, call: &Call, check: Check) -> bool {
        let arguments = match self.trace.value(call.arguments) {
            Value::Tuple(_) => Some(self.trace.contents(call.arguments)),
            // Anything else that can be unrolled may have changed by then.
            _ => None,
        };
        let outcome = match arguments {
            Some(arguments) => self.allows(check, arguments),
            None => Err(Refusal::Odd("arguments that are only known when it runs")),
        };
        let (rule, why) = match outcome {
            Ok(()) => return true,
            Err(Refusal::Odd(why)) => (&ARGUMENTS, why),
            Err(Refusal::Dangerous(why)) => (&DANGEROUS_CALL, why),
        };
        let message = format!("it runs {}: {why}", self.shown(call));
        self.tell(rule, call.offset, message);
        false
    }

    /// A call of something that is not simply imported.
    fn run_computed(&mut self, call: &Call) -> bool {
        let (rule, what) = match self.trace.value(call.callee) {
            Value::Call(_) => {
                let name = self.name(call.callee, 0);
                let standing = name.as_ref().map(|name| self.standing(name));
                if matches!(standing, Some(Standing::Harmless | Standing::Known { callable: true })) {
                    return true;
                }
                (&COMPUTED_CALL, name.map_or(String::new(), |name| format!(", that is {}", clip(&name.path))))
            }
            Value::Global(_) => (&COMPUTED_CALL, String::new()),
            Value::Persistent(_) | Value::Unknown => (&UNKNOWN_CALL, String::new()),
            _ => (&FAILS, String::new()),
        };
        let message = format!("it calls {}{what}", self.shown(call));
        self.tell(rule, call.offset, message);
        false
    }

    /// A change of something that exists already.
    fn change(&mut self, call: &Call) {
        let rule = match self.trace.value(call.callee) {
            Value::Global(_) => &OVERWRITES,
            Value::Persistent(_) | Value::Unknown => &UNKNOWN_CALL,
            Value::Call(_) if self.made(call.callee) == Made::Found => &OVERWRITES,
            Value::Call(_) if self.made(call.callee) != Made::Unknown => {
                match self.maker(call.callee).map(|(name, _)| name.path.as_str()) {
                    Some("functools.partial") => match self.partial_state(call.arguments) {
                        Ok(()) => return,
                        Err(Refusal::Odd(_)) => &ARGUMENTS,
                        Err(Refusal::Dangerous(_)) => &DANGEROUS_CALL,
                    },
                    Some("joblib.numpy_pickle.NDArrayWrapper" | "joblib.numpy_pickle.ZNDArrayWrapper")
                        if self.leaves_folder(call.arguments) =>
                    {
                        &ARGUMENTS
                    }
                    Some(_) => match self.sets_special(call) {
                        Some(rule) => rule,
                        None => return,
                    },
                    None => return,
                }
            }
            // Its call was a finding; and plain values cannot be changed so.
            _ => return,
        };
        if let Some(index) = self.import_index(call.callee) {
            self.told.insert(index);
        }
        let message = format!("it runs {}", self.shown(call));
        self.tell(rule, call.offset, message);
    }

    /// Whether joblib would read an array from a file in another folder (`NDArrayWrapper.read` of joblib/numpy_pickle_compat.py).
    fn leaves_folder(&self, state: Id) -> bool {
        let file = self.trace.lookup(state, "filename");
        file.is_some_and(|file| self.trace.text(file).is_none_or(|file| file.contains(['/', '\\'])))
    }

    /// Whether a state gives an object methods of its own that the pickle's next opcodes call, or changes what it is.
    /// The first part of a pair, or all of a dictionary, becomes the object's `__dict__`, the second is set attribute
    /// by attribute; a second state is given to an own `__setstate__`, and `append`, `extend` and `add` of an object
    /// are called with what is appended (Lib/pickle.py, `load_build`, `load_appends`, `load_additems`). Dictionaries of
    /// some frameworks set attributes for their keys.
    fn sets_special(&self, call: &Call) -> Option<&'static Rule> {
        let state = call.arguments;
        let pairs: Vec<(Id, Id)> = match (call.kind, self.trace.value(state)) {
            (CallKind::SetItem, _) => {
                let items = self.trace.contents(state);
                items.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect()
            }
            (CallKind::Build, Value::Dict) => self.trace.pairs(state).collect(),
            (CallKind::Build, Value::Tuple(_)) => match self.trace.contents(state) {
                [own, slots] => {
                    let special = |key: &str| key.starts_with("__") && key.ends_with("__");
                    let is_dict = self.trace.value(*slots) == Value::Dict;
                    if is_dict && self.trace.pairs(*slots).any(|(key, _)| self.trace.text(key).is_none_or(special)) {
                        return Some(&ARGUMENTS);
                    }
                    self.trace.pairs(*own).chain(self.trace.pairs(*slots)).collect()
                }
                _ => return None,
            },
            _ => return None,
        };
        let runs = |id: Id| matches!(self.trace.value(id), Value::Global(_) | Value::Call(_));
        pairs.into_iter().find_map(|(key, value)| match self.trace.text(key) {
            Some("__setstate__") if runs(value) => Some(&DANGEROUS_CALL),
            Some("__setstate__") => Some(&ARGUMENTS),
            Some("append" | "extend" | "add" | "default_factory") if runs(value) => Some(&ARGUMENTS),
            // A name that only a call makes.
            None if self
                .maker(key)
                .is_some_and(|(name, _)| name.path.starts_with("_codecs.") || name.path == "builtins.str") =>
            {
                Some(&ARGUMENTS)
            }
            _ => None,
        })
    }

    /// The imports that no call was a finding about.
    fn imports(&mut self) {
        let handed_on = self.handed_on();
        let mut noted = HashSet::new();
        for (global, index) in self.trace.globals.iter().zip(&self.name_of.clone()) {
            let Some(index) = *index else {
                let (rule, what) = match global.via {
                    Via::Extension(code) => (&EXTENSION, format!("it imports number {code} of the extension registry")),
                    // Where too much was left out, the name may stand in the file as it is.
                    _ if self.trace.exhausted => {
                        (&UNKNOWN_IMPORT, "it imports something whose name was left out".into())
                    }
                    _ => (&COMPUTED_NAME, "it imports something whose name is only computed when it runs".into()),
                };
                self.tell(rule, global.offset, what);
                continue;
            };
            if self.told.contains(&index) || !noted.insert(index) {
                continue;
            }
            let Some((name, standing)) = self.names.get(index as usize).cloned() else { continue };
            let path = clip(&name.path);
            match standing {
                Standing::Harmless | Standing::Reference => {}
                Standing::Checked(_) if !handed_on.contains(&index) => {}
                // Classes: where one would be called is looked at there.
                Standing::Checked(Check::Size | Check::Factory) => {}
                Standing::Checked(check) => {
                    let rule = if check.is_narrow() { &DANGEROUS_IMPORT } else { &ARGUMENTS };
                    let message = format!("it hands on {path}, which is harmless only with the right arguments");
                    self.tell(rule, global.offset, message);
                }
                Standing::Known { .. } => {
                    self.tell(&FRAMEWORK, global.offset, format!("it holds objects of {path}"));
                }
                Standing::Dangerous => {
                    let message = format!("it imports {}", shown_path(clip(&self.trace.path(global)), path));
                    self.tell(&DANGEROUS_IMPORT, global.offset, message);
                }
                Standing::Standard | Standing::Unknown { .. } => {
                    let message = format!("it imports {path}, which nobody vouches for");
                    self.tell(&UNKNOWN_IMPORT, global.offset, message);
                }
            }
        }
    }

    /// The checked names that are used as values, not only called.
    fn handed_on(&self) -> HashSet<u32> {
        let mut found = HashSet::new();
        if !self.names.iter().any(|(_, standing)| matches!(standing, Standing::Checked(_))) {
            return found;
        }
        let calls = self.trace.calls.iter().flat_map(|call| [Some(call.arguments), call.keywords]);
        let used = self.trace.used().chain(calls.flatten()).chain(self.trace.root);
        found.extend(used.filter_map(|id| self.import_index(id)));
        found
    }
}

/// A path as the file has it, with what it stands for.
fn shown_path(written: &str, canonical: &str) -> String {
    if written == canonical { written.to_string() } else { format!("{written}, that is {canonical}") }
}

/// The begin of a name, which is all of it unless it is hostile.
fn clip(name: &str) -> &str {
    name.get(..name.floor_char_boundary(SHOWN)).unwrap_or_default()
}
