//! Pickles that attack, by the name of the trick, and pickles that do not. Every payload is inert: what is called
//! would do nothing (`true`, `1+1`, `pass`). Where a trick is published, the test says where.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // helpers of tests

use anatomy::scan::{FileScan, Options, Policy, Verdict, scan};
use anatomy::source::Source;

/// A pickle being written.
#[derive(Default, Clone)]
struct Pickle(Vec<u8>);

#[cfg(test)]
impl Pickle {
    fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend(bytes.as_ref());
        self
    }

    fn text(self, text: &str) -> Self {
        self.raw([0x8c, u8::try_from(text.len()).unwrap()]).raw(text)
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        self.raw(b"B").raw(u32::try_from(bytes.len()).unwrap().to_le_bytes()).raw(bytes)
    }

    fn int(self, number: i32) -> Self {
        self.raw(b"J").raw(number.to_le_bytes())
    }

    /// An import by `GLOBAL`.
    fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n"))
    }

    /// An import by `STACK_GLOBAL`.
    fn stack_global(self, module: &str, name: &str) -> Self {
        self.text(module).text(name).raw(b"\x93")
    }

    /// A call of what is on the stack; `arguments` puts them there.
    fn call(self, arguments: impl FnOnce(Self) -> Self) -> Self {
        arguments(self.raw(b"(")).raw(b"tR")
    }

    /// `os.system('true')`.
    fn evil(self) -> Self {
        self.stack_global("os", "system").call(|it| it.text("true"))
    }

    fn stop(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

#[cfg(test)]
fn pickle() -> Pickle {
    Pickle::default().raw(b"\x80\x04")
}

#[cfg(test)]
fn scanned(name: &str, bytes: Vec<u8>) -> FileScan {
    let policy = Policy::new();
    scan(&Source::memory(name, bytes), Options { policy: &policy, explain: true }).unwrap()
}

#[cfg(test)]
fn rules(scan: &FileScan) -> Vec<&'static str> {
    scan.findings.iter().map(|finding| finding.rule.name).collect()
}

#[cfg(test)]
#[track_caller]
fn assert_verdict(bytes: Vec<u8>, verdict: Verdict) {
    let scan = scanned("test.pkl", bytes);
    assert_eq!(scan.verdict, verdict, "{:#?}", scan.findings);
}

/// Each test is a stream and what it must be called.
macro_rules! verdicts {
    ($($(#[$doc:meta])* $name:ident: $verdict:ident = $bytes:expr;)*) => {
        $($(#[$doc])* #[test] fn $name() { assert_verdict($bytes, Verdict::$verdict); })*
    };
}

verdicts! {
    /// picklescan #14 and #22: the memo entry that is asked for is not the last text.
    memo_entries_are_swapped: Malicious =
        pickle().text("system").raw(b"\x940").text("os").raw(b"\x940h\x01h\x00\x93").call(|it| it.text("true")).stop();
    /// picklescan pull request 23: `PUT` at far places, out of order.
    memo_is_written_out_of_order: Malicious = pickle()
        .text("os").raw(b"r\xe7\x03\0\0").raw(b"0").text("system").raw(b"q\x05").raw(b"0")
        .text("collections").raw(b"q\x00").raw(b"0")
        .raw(b"j\xe7\x03\0\0h\x05\x93").call(|it| it.text("true")).stop();
    /// Lib/pickle.py and _pickle.c take `1_0` for ten.
    memo_index_has_underscores: Malicious =
        Pickle::default().raw(b"Vos\np1_0\n0Vsystem\np1\n0g10\ng1\n\x93(Vtrue\ntR").stop();
    /// _pickle.c reads a number up to a NUL byte and passes over the rest of the line.
    memo_index_ends_with_nul: Malicious =
        Pickle::default().raw(b"Vos\np1\0x\n0Vsystem\np2\n0g1\ng2\0y\n\x93(Vtrue\ntR").stop();
    number_ends_with_nul: Malicious = Pickle::default().raw(b"I5\0junk\n0F1.0\0junk\n0L5\0L\n0cos\nsystem\n(Vtrue\ntR").stop();
    /// fickling #322: readers that do not know `FLOAT` stop before the import.
    float_of_protocol_0_comes_first: Malicious =
        Pickle::default().raw(b"}F1.0\ncos\nsystem\n(S'true'\ntR").stop();
    /// fickling pull request 108.
    obj_of_protocol_0: Malicious = Pickle::default().raw(b"(cpty\nspawn\nS\"true\"\no").stop();
    /// Lib/pickle.py takes the last line without its newline, and joblib uses that code.
    inst_is_the_last_line_without_newline: Malicious = b"(Vtrue\nios\nsystem0".to_vec();
    /// modelscan #85: `BUILD` writes attributes of an imported function, which names then walk through.
    build_overwrites_attributes: Malicious = pickle()
        .global("numpy", "prod").raw(b"N").raw(b"}").text("a").text("os").raw(b"s\x86b").raw(b"0")
        .raw(b"cnumpy\nprod.a\n").raw(b"0").global("collections", "OrderedDict").raw(b")R").stop();
    /// modelscan #89.
    builtins_of_a_harmless_module: Malicious = pickle()
        .global("builtins", "dict.get").call(|it| it.global("numpy", "__builtins__").text("exec"))
        .call(|it| it.text("pass")).stop();
    modules_through_attributes: Malicious = pickle()
        .global("numpy", "prod").raw(b"N").global("numpy", "core._internal.sys.modules").raw(b"\x86b0")
        .global("numpy", "prod.os.system").call(|it| it.text("true")).stop();
    /// modelscan #330.
    build_replaces_what_a_function_finds: Malicious = pickle()
        .stack_global("numpy", "size").raw(b"\x94").stack_global("numpy", "__builtins__").raw(b"\x94h\x00}}")
        .text("shape").raw(b"h\x01s\x86bh\x00").text("eval").raw(b"\x85R").text("1+1").raw(b"\x85R").stop();
    /// modelscan #331: names are joined from letters.
    name_is_joined_from_letters: Malicious = pickle()
        .stack_global("builtins", "getattr").call(|it| it.text("").text("join"))
        .call(|it| it.raw(b"](").text("o").text("s").raw(b"e"))
        .text("system").raw(b"\x93").call(|it| it.text("true")).stop();
    /// modelscan #338: operands that are no text; Python stops there, what ran before counts.
    name_is_bytes: Malicious = pickle().evil().raw(b"0C\x02os").text("system").raw(b"\x93").stop();
    name_is_bytes_and_nothing_ran: Malformed = pickle().raw(b"C\x02os").text("system").raw(b"\x93").stop();
    /// modelscan #338: compressed.
    payload_is_decompressed: Malicious = pickle()
        .stack_global("pickle", "loads").call(|it| it.stack_global("zlib", "decompress").call(|it| it.bytes(b"x"))).stop();
    /// modelscan pull request 346.
    mailcap_runs_a_test: Malicious =
        pickle().stack_global("mailcap", "findmatch").call(|it| it.raw(b"}").text("text/plain")).stop();
    /// GHSA-6ggj-6f2q-f7mx (fickling): another interpreter in the same process.
    subinterpreters: Malicious = pickle().stack_global("_interpreters", "create").raw(b")R").stop();
    subinterpreters_of_older_pythons: Malicious =
        pickle().stack_global("_xxsubinterpreters", "run_string").call(|it| it.int(0).text("pass")).stop();
    /// GHSA-vvpj-8cmc-gx39 (picklescan).
    resolve_name: Malicious = pickle()
        .stack_global("pkgutil", "resolve_name").call(|it| it.text("os:system")).call(|it| it.text("true")).stop();
    /// picklescan #66: chains through `importlib.util`.
    module_from_spec: Malicious = pickle()
        .stack_global("importlib.util", "module_from_spec")
        .call(|it| it.stack_global("importlib.util", "find_spec").call(|it| it.text("string"))).stop();
    /// CVE-2025-1716.
    pip_main: Malicious = pickle().stack_global("pip", "main").call(|it| it.raw(b"](").text("--version").raw(b"e")).stop();
    /// GHSA-xp4f-hrf8-rxw7.
    ensurepip: Malicious = pickle().stack_global("ensurepip", "_run_pip").raw(b")R").stop();
    /// CVE-2026-56315.
    imaplib: Malicious = pickle().stack_global("imaplib", "IMAP4_stream").call(|it| it.text("true")).stop();
    /// GHSA-955r-x9j8-7rhh: the C half of a module.
    c_half_of_operator: Malicious =
        pickle().stack_global("_operator", "methodcaller").call(|it| it.text("system").text("true")).stop();
    /// CVE-2025-10157: a part of a module that a list has only as a whole.
    submodule_of_asyncio: Malicious =
        pickle().stack_global("asyncio.unix_events", "_UnixSubprocessTransport._start").call(|it| it.raw(b"N")).stop();
    /// GHSA-r7v6-mfhq-g3m2, GHSA-565g-hwwr-4pp3 (fickling).
    code_objects: Malicious = pickle()
        .stack_global("types", "FunctionType").call(|it| it.stack_global("marshal", "loads").call(|it| it.bytes(b"N")).raw(b"}")).stop();
    /// GHSA-9gvj-pp9x-gcfr and arXiv:2508.19774: the stream breaks after the payload.
    breaks_after_the_payload: Malicious = pickle().evil().raw(b"\xff\xfegarbage").0;
    breaks_within_a_long_text: Malicious = pickle().evil().raw(b"X\xff\xff\xff\x7fshort").0;
    breaks_at_a_missing_memo_entry: Malicious = pickle().evil().raw(b"0h\xc8").stop();
    /// nullifAI (ReversingLabs, 2025): protocol 0, then nothing that makes sense.
    breaks_without_a_header: Malicious = Pickle::default().raw(b"cos\nsystem\n(Vtrue\ntR\xff\xff").0;
    /// Lib/pickle.py sets the pairs before it misses the last value.
    odd_items_are_set_before_it_fails: Malicious =
        pickle().global("builtins", "__dict__").raw(b"(").text("len").global("os", "system").text("odd").raw(b"u").stop();
    /// A mark pushed aside by `POP`.
    mark_is_popped: Malicious = pickle().raw(b"((0").stack_global("os", "system").text("true").raw(b"o").stop();
    callee_is_duplicated: Malicious =
        pickle().stack_global("os", "system").raw(b"2").text("true").raw(b"\x85R").stop();
    second_stream_after_filling: Malicious =
        [pickle().raw(b"N").stop(), vec![0; 300], b"\n \r\n".to_vec(), pickle().evil().stop()].concat();
    hundred_thousand_streams: Malicious = [b"N.".repeat(100_000), pickle().evil().stop()].concat();
    line_of_seventeen_megabytes: Malicious =
        Pickle::default().raw(b"V").raw(vec![b'a'; 17 << 20]).raw(b"\n0cos\nsystem\n(Vtrue\ntR").stop();
    /// Sleepy Pickle (Trail of Bits, 2024): the model's class is patched, nothing else runs.
    method_is_patched: Malicious = pickle()
        .global("torch.nn.modules.module", "Module").raw(b"N}").text("forward").global("numpy", "log").raw(b"s\x86b").stop();
    method_is_patched_by_setattr: Malicious = pickle()
        .stack_global("builtins", "setattr")
        .call(|it| it.global("torch.nn.modules.module", "Module").text("forward").global("numpy", "log")).stop();
    search_path_is_extended: Malicious = pickle().global("sys", "path").text("/nonexistent").raw(b"a").stop();
    list_of_modules_is_changed: Malicious =
        pickle().global("collections", "abc").text("x").raw(b"Ns").stop();
    /// What other code would import, registered.
    extension_registry: Malicious = pickle()
        .stack_global("copyreg", "add_extension").call(|it| it.text("os").text("system").int(7)).raw(b"0\x82\x07")
        .call(|it| it.text("true")).stop();
    extension_alone: Suspicious = pickle().raw(b"\x82\x07").stop();
    partial_is_filled_with_a_function: Malicious = pickle()
        .global("functools", "partial").global("builtins", "len").raw(b"\x85\x81(").global("os", "system").raw(b")}Ntb").stop();
    partial_is_called: Malicious = pickle()
        .global("functools", "partial").call(|it| it.global("builtins", "list")).raw(b")R").stop();
    missing_key_calls: Malicious =
        pickle().global("collections", "defaultdict").call(|it| it.global("os", "getcwd")).stop();
    missing_key_calls_what_is_unknown: Suspicious =
        pickle().global("collections", "defaultdict").call(|it| it.global("somebody", "Thing")).stop();
    iterator_calls: Malicious = pickle()
        .global("builtins", "list").call(|it| it.global("builtins", "map").call(|it| it.global("builtins", "len").raw(b"]"))).stop();
    iterator_with_sentinel: Suspicious = pickle()
        .global("builtins", "iter").call(|it| it.global("builtins", "list").int(1)).stop();
    /// CVE-2025-32434's other half: torch rebuilds with whatever function it is given.
    rebuild_calls_its_argument: Malicious = pickle()
        .global("torch._tensor", "_rebuild_from_type_v2")
        .call(|it| it.global("os", "system").global("torch", "Tensor").text("true").raw(b"\x85}")).stop();
    rebuild_calls_what_is_handed_on: Suspicious = pickle()
        .global("torch._tensor", "_rebuild_from_type_v2")
        .call(|it| it.global("builtins", "getattr").global("torch", "Tensor").text("x").raw(b"\x85}")).stop();
    ufunc_of_any_module: Malicious = pickle()
        .global("numpy.core", "_ufunc_reconstruct").call(|it| it.text("os").text("system")).stop();
    generator_calls_its_argument: Suspicious = pickle()
        .global("numpy.random._pickle", "__generator_ctor").call(|it| it.text("1+1").global("builtins", "repr")).stop();
    checkpoint_within_a_tensor: Malicious = pickle()
        .global("torch.storage", "_load_from_bytes").call(|it| it.bytes(&pickle().evil().stop())).stop();
    checkpoint_within_a_tensor_is_computed: Suspicious = pickle()
        .global("torch.storage", "_load_from_bytes").call(|it| it.global("builtins", "bytes").raw(b")R")).stop();
    bytes_of_another_codec: Suspicious =
        pickle().global("_codecs", "encode").call(|it| it.text("x").text("zlib")).stop();
    terabytes_are_reserved: Suspicious =
        pickle().global("builtins", "bytearray").call(|it| it.raw(b"\x8a\x06\0\0\0\0\0\x01")).stop();
    /// `__getattribute__` and its like are no attributes that data has.
    attribute_behind_the_scenes: Malicious = pickle()
        .global("builtins", "getattr").call(|it| it.global("collections", "OrderedDict").text("__subclasses__")).stop();
    attribute_is_computed: Malicious = pickle()
        .global("builtins", "getattr")
        .call(|it| it.global("collections", "OrderedDict").global("builtins", "str").call(|it| it.text("A"))).stop();
    attribute_is_called: Malicious = pickle()
        .global("builtins", "getattr").call(|it| it.global("pathlib", "Path").text("unlink")).call(|it| it.raw(b"N")).stop();
    constructor_of_a_popen: Malicious = pickle()
        .global("copyreg", "_reconstructor")
        .call(|it| it.global("subprocess", "Popen").global("builtins", "object").raw(b"N")).stop();
    python_2_names: Malicious = Pickle::default().raw(b"c__builtin__\nexecfile\n(S'x'\ntR").stop();
    python_2_module: Malicious = Pickle::default().raw(b"curllib2\nurlopen\n(S'data:,x'\ntR").stop();
    vendored_alias: Malicious =
        pickle().stack_global("six.moves.builtins", "eval").call(|it| it.text("1+1")).stop();
    reexport_in_a_known_framework: Malicious =
        pickle().stack_global("sklearn.base", "os.system").call(|it| it.text("true")).stop();
    test_helper_of_a_known_framework: Malicious =
        pickle().stack_global("sklearn.utils._testing", "check_skip_network").raw(b")R").stop();
    constructor_of_a_known_framework: Suspicious =
        pickle().stack_global("pytorch_lightning.loggers.csv_logs", "CSVLogger").call(|it| it.text("/nonexistent")).stop();
    persistent_identifier_is_computed: Malicious = pickle().evil().raw(b"Q").stop();
    keyword_arguments: Malicious = pickle()
        .global("subprocess", "Popen").raw(b")}").text("args").text("true").raw(b"s\x92").stop();
    names_that_look_alike: Suspicious = pickle().stack_global("оs", "systеm").call(|it| it.text("true")).stop();
    class_of_the_author: Suspicious = pickle().global("__main__", "Model").raw(b")\x81}b").stop();
    bare_import_of_a_stranger: Suspicious = pickle().global("antigravity", "fly").stop();

    // Broken, but nothing ran.
    values_are_left_over: Malformed = pickle().raw(b"NN").stop();
    lists_hold_each_other: Malformed = {
        let mut bomb = pickle().raw(b"]q\x00");
        for level in 0..40 {
            bomb = bomb.raw([b']', b'(', b'h', level, b'h', level, b'e', b'0', b']', b'(', b'h', level, b'h', level, b'e', b'q', level + 1, b'0']);
        }
        bomb.raw(b"h\x28").raw(b"\x85").stop()
    };
    nothing_can_be_called: Malformed = pickle().raw(b"N)R").stop();

    // Harmless.
    text_that_names_danger: Clean = pickle().raw(b"(").text("os").text("system").text("eval('1+1')").raw(b"t").stop();
    joined_tuple_of_names: Clean = pickle().raw(b"(").text("builtins").text("exec").raw(b"t").stop();
    member_of_an_enumeration: Clean = pickle()
        .stack_global("builtins", "getattr")
        .call(|it| it.stack_global("transformers.trainer_utils", "IntervalStrategy").text("STEPS")).stop();
    enumeration_by_value: Clean =
        pickle().stack_global("transformers.trainer_utils", "SchedulerType").call(|it| it.text("linear")).stop();
    default_dictionary: Clean =
        pickle().global("collections", "defaultdict").call(|it| it.global("__builtin__", "list")).stop();
    time_zone: Clean = pickle()
        .stack_global("builtins", "getattr").call(|it| it.stack_global("zoneinfo", "ZoneInfo").text("_unpickle"))
        .call(|it| it.text("Europe/Berlin").int(1)).stop();
    partial_of_a_layer: Clean = pickle()
        .global("functools", "partial").global("torch.nn.modules.normalization", "LayerNorm").raw(b"\x85\x81(")
        .global("torch.nn.modules.normalization", "LayerNorm").raw(b")}Ntb").stop();
    subclass_of_a_tensor: Clean = pickle()
        .global("torch._tensor", "_rebuild_from_type_v2")
        .call(|it| it.global("torch._utils", "_rebuild_tensor_v2").global("torch.nn.parameter", "Parameter").raw(b"(t}")).stop();
    random_state: Clean = pickle()
        .global("numpy.random._pickle", "__randomstate_ctor").call(|it| it.text("MT19937"))
        .raw(b"}").text("pos").int(1).raw(b"sb").stop();
    ufunc: Clean = pickle().global("numpy.core", "_ufunc_reconstruct").call(|it| it.text("numpy").text("add")).stop();
    estimator: Clean = pickle().global("sklearn.linear_model._logistic", "LogisticRegression").raw(b")\x81}b").stop();
    module_of_torch: Clean = pickle().global("torch.nn.modules.linear", "Linear").raw(b")\x81}b").stop();
    compiled_expression: Clean = pickle().global("re", "_compile").call(|it| it.text("a+").int(32)).stop();

    // Harmless, and beside each a twin that only looks like it.
    harmless_seed_of_cython: Clean = pickle()
        .global("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence")
        .call(|it| it.global("numpy.random.bit_generator", "SeedSequence").int(65_708_578).raw(b"N")).stop();
    seed_of_cython_with_another_class: Malicious = pickle()
        .global("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence")
        .call(|it| it.global("subprocess", "Popen").int(65_708_578).raw(b"N")).stop();
    unpickler_of_a_stranger: Malicious = pickle()
        .global("somebody.fast", "__pyx_unpickle_Thing")
        .call(|it| it.global("somebody.fast", "Thing").int(1).raw(b"N")).stop();
    harmless_array_functions: Clean = pickle().raw(b"(").global("numpy", "maximum").global("numpy", "clip")
        .global("scipy._lib.array_api_compat.numpy._aliases", "asarray").raw(b"t").stop();
    module_behind_an_array_function: Malicious =
        pickle().global("scipy._lib.array_api_compat.numpy._aliases", "sys.modules").stop();
    array_function_is_called: Suspicious = pickle().global("numpy", "maximum").call(|it| it.int(1).int(2)).stop();
    harmless_text_type_of_numpy: Clean =
        pickle().global("numpy._core._internal", "_convert_to_stringdtype_kwargs").call(|it| it.raw(b"\x88")).stop();
    neighbour_of_the_text_type: Malicious = pickle().global("numpy._core._internal", "_ctypes").raw(b")R").stop();
    harmless_polynomial: Clean = pickle().global("numpy", "poly1d").raw(b")\x81}b0")
        .global("numpy.polynomial.chebyshev", "Chebyshev").raw(b")\x81}b").stop();
    harmless_series_of_pandas_3: Clean = pickle().global("pandas", "Series").raw(b")\x81}b0")
        .global("pandas.core.indexes.base", "_new_Index").call(|it| it.global("pandas", "RangeIndex").raw(b"}")).stop();
    index_of_a_dangerous_class: Malicious = pickle()
        .global("pandas.core.indexes.base", "_new_Index").call(|it| it.global("subprocess", "Popen").raw(b"}")).stop();
    method_of_pandas_3_pickles: Malicious =
        pickle().global("pandas", "DataFrame.to_pickle").call(|it| it.raw(b"}").text("/nonexistent")).stop();
    method_of_pandas_3_writes: Suspicious =
        pickle().global("pandas", "DataFrame.to_csv").call(|it| it.raw(b"}").text("/nonexistent")).stop();
    method_of_pandas_3_evaluates: Malicious =
        pickle().global("pandas", "DataFrame.eval").call(|it| it.raw(b"}").text("1+1")).stop();
    harmless_members_by_value: Clean = pickle().global("http", "HTTPStatus").call(|it| it.int(200)).raw(b"0")
        .global("re", "RegexFlag").call(|it| it.int(2)).stop();
    neighbour_of_a_member: Malicious = pickle().global("http", "client").raw(b")R").stop();
    harmless_counter: Clean = pickle().global("itertools", "count").call(|it| it.int(3)).stop();
    counter_of_an_object: Suspicious =
        pickle().global("itertools", "count").call(|it| it.global("builtins", "str")).stop();
    counter_that_is_counted_through: Suspicious = pickle()
        .global("builtins", "list").call(|it| it.global("itertools", "count").call(|it| it.int(3))).stop();
    harmless_named_tuples: Clean = pickle().global("time", "struct_time").call(|it| it.raw(b")")).raw(b"0")
        .global("posix", "stat_result").call(|it| it.raw(b")")).raw(b"0")
        .global("platform", "uname_result").call(|it| it.text("Linux")).stop();
    neighbour_of_a_named_tuple: Malicious = pickle().global("posix", "stat").call(|it| it.text(".")).stop();
    harmless_files_in_memory: Clean = pickle().global("_io", "BytesIO").raw(b")\x81").raw(b"(")
        .bytes(b"x").int(0).raw(b"Ntb").stop();
    file_that_is_none_in_memory: Malicious =
        pickle().global("_io", "FileIO").call(|it| it.text("/nonexistent")).stop();
    /// As harmless as it looks, it is what attacks begin with.
    getter_alone: Malicious = pickle().global("operator", "attrgetter").call(|it| it.text("a.b")).stop();
    getter_of_a_module: Malicious = pickle().global("operator", "attrgetter").call(|it| it.text("os.system")).stop();
    getter_behind_the_scenes: Malicious =
        pickle().global("operator", "attrgetter").call(|it| it.text("__globals__")).stop();
    getter_is_called: Malicious = pickle().global("operator", "attrgetter").call(|it| it.text("system"))
        .call(|it| it.global("os", "path")).stop();
    getter_is_handed_on: Malicious =
        pickle().global("functools", "partial").call(|it| it.global("operator", "attrgetter")).stop();
    harmless_type_of_items: Clean = pickle()
        .global("types", "GenericAlias").call(|it| it.global("builtins", "dict").raw(b"(").global("builtins", "bytes")
            .global("builtins", "int").raw(b"t")).stop();
    type_of_a_function: Malicious = pickle()
        .global("types", "GenericAlias").call(|it| it.global("os", "system").raw(b")")).stop();
    harmless_union: Clean = pickle()
        .global("_functools", "reduce").call(|it| it.global("_operator", "or_").raw(b"(").global("builtins", "int")
            .global("builtins", "type").call(|it| it.raw(b"N")).raw(b"t")).stop();
    reduce_of_another_function: Malicious = pickle()
        .global("_functools", "reduce").call(|it| it.global("numpy", "maximum").raw(b"(").global("builtins", "int")
            .global("builtins", "str").raw(b"t")).stop();
    reduce_of_a_dangerous_function: Malicious = pickle()
        .global("_functools", "reduce").call(|it| it.global("os", "system").raw(b"(").text("true").text("")
            .raw(b"t")).stop();
    reduce_is_handed_on: Malicious =
        pickle().global("functools", "partial").call(|it| it.global("functools", "reduce")).stop();
    harmless_dictionary_of_dictionaries: Clean = pickle()
        .global("collections", "defaultdict").call(|it| it.global("functools", "partial")
            .call(|it| it.global("collections", "defaultdict")).raw(b"(").global("collections", "defaultdict")
            .global("builtins", "int").raw(b"\x85}Ntb")).stop();
    dictionary_of_dictionaries_calls: Malicious = pickle()
        .global("collections", "defaultdict").call(|it| it.global("functools", "partial")
            .call(|it| it.global("collections", "defaultdict").global("os", "getcwd"))).stop();
    missing_key_calls_a_method: Suspicious = pickle()
        .global("collections", "defaultdict").call(|it| it.global("builtins", "getattr")
            .call(|it| it.global("pathlib", "Path").call(|it| it.text("/nonexistent")).text("unlink"))).stop();
    harmless_methods_of_texts: Clean = pickle()
        .global("builtins", "getattr").call(|it| it.global("builtins", "str").text("lower")).raw(b"0")
        .global("builtins", "getattr").call(|it| it.text("abc").text("upper")).stop();
    method_of_texts_formats: Suspicious =
        pickle().global("builtins", "getattr").call(|it| it.global("builtins", "str").text("format")).stop();
    harmless_loss: Clean = pickle().global("sklearn.linear_model._sgd_fast", "Hinge").call(|it| it.int(1)).stop();
    harmless_class_in_lower_case: Clean =
        pickle().global("scipy.interpolate._interpolate", "interp1d").raw(b")\x81}b").stop();
    /// `rv_generic.__setstate__` gives text of the state to `exec`.
    distribution_runs_its_state: Suspicious = pickle()
        .global("scipy.stats._continuous_distns", "norm_gen").raw(b")\x81}")
        .text("_parse_arg_template").text("pass").raw(b"sb").stop();
    harmless_time_zone_of_dateutil: Clean = pickle().global("dateutil.tz.tz", "tzutc").raw(b")R").stop();
    time_zone_of_dateutil_opens: Suspicious =
        pickle().global("dateutil.tz.tz", "tzfile").call(|it| it.text("/nonexistent")).stop();
}

/// joblib reads an array's bytes where `pickle.load` goes on with opcodes: both readings count.
#[test]
fn bytes_of_an_array_are_a_program_too() {
    let program = Pickle::default().evil().stop();
    let state = |it: Pickle| {
        it.raw(b"}(")
            .text("shape")
            .raw(b"(")
            .int(i32::try_from(program.len()).unwrap())
            .raw(b"t")
            .text("dtype")
            .global("numpy", "dtype")
            .call(|it| it.text("u1"))
            .raw(b"u")
    };
    let array = state(pickle().global("joblib.numpy_pickle", "NumpyArrayWrapper").raw(b")\x81")).raw(b"b");
    let bytes = array.clone().raw(&program).raw(b".").0;
    assert_verdict(bytes, Verdict::Malicious);
    let harmless = vec![7; program.len()];
    assert_verdict(array.raw(harmless).raw(b".").0, Verdict::Clean);
}

/// What would have run, with its arguments.
#[test]
fn programs_are_written_out() {
    let bytes = pickle().raw(b"}").text("weights").evil().raw(b"s").stop();
    let scan = scanned("test.pkl", bytes);
    assert_eq!(scan.programs.len(), 1);
    assert_eq!(scan.programs[0].text, "import os\n_0 = os.system('true')\nresult = {'weights': _0}\n");
    assert!(rules(&scan).contains(&"pickle-dangerous-call"));
    let finding = scan.findings.iter().find(|finding| finding.rule.name == "pickle-dangerous-call").unwrap();
    assert_eq!(finding.message, "it runs os.system('true')");
    assert!(finding.offset.is_some());
}

/// Whatever the program, its text ends.
#[test]
fn programs_are_bounded() {
    let mut bytes = pickle().raw(b"]q\x00");
    for _ in 0..5000 {
        bytes = bytes.stack_global("os", "system").call(|it| it.raw(b"h\x00").text(&"x".repeat(200))).raw(b"a");
    }
    let scan = scanned("test.pkl", bytes.stop());
    assert!(scan.programs[0].text.len() < 1 << 20);
    assert!(scan.findings.len() < 100);
}

/// A policy of one's own speaks first.
#[test]
fn policies_are_added() {
    let mut policy = Policy::new();
    policy.add("[harmless]\nevil_pkg = \"boot\"\n[dangerous]\nmodules = \"collections.OrderedDict\"\n").unwrap();
    let verdict = |bytes: Vec<u8>| {
        scan(&Source::memory("test.pkl", bytes), Options { policy: &policy, explain: false }).unwrap().verdict
    };
    assert_eq!(verdict(pickle().global("evil_pkg", "boot").raw(b")R").stop()), Verdict::Clean);
    assert_eq!(verdict(pickle().global("collections", "OrderedDict").raw(b")R").stop()), Verdict::Malicious);
    assert!(policy.add("[harmles]\n").is_err());
}

/// The place of a pickle does not matter, nor its file's name.
#[test]
fn names_decide_nothing() {
    for name in ["model.safetensors", "model.gguf", "weights", "a.txt", "config.json", "x.npy"] {
        assert_eq!(scanned(name, pickle().evil().stop()).verdict, Verdict::Malicious, "{name}");
    }
}

/// Long names, used again and again from the memo, cost no time; nor do names of very many parts.
#[test]
fn long_names_are_cheap() {
    let long = "a.".repeat(30_000);
    let mut bytes =
        Pickle::default().raw(b"X").raw(u32::try_from(long.len()).unwrap().to_le_bytes()).raw(&long).raw(b"q\x00");
    bytes = bytes.global("builtins", "getattr").raw(b"q\x01").global("collections", "OrderedDict").raw(b"q\x02");
    for _ in 0..20_000 {
        bytes = bytes.raw(b"h\x00h\x00\x93h\x01h\x02h\x00\x86R00");
    }
    assert_verdict(bytes.raw(b"000").raw(b"N.").0, Verdict::Malicious);
}

/// Chains of names that are harmless one by one, found by people who looked for them: each line of the file has the
/// trick's name, the verdict and the pickle in hexadecimal digits.
#[test]
fn chains_of_harmless_names_are_told() {
    for line in include_str!("data/pickle-chains.txt").lines() {
        let [name, verdict, digits] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let scan = scanned("test.pkl", digits.as_bytes().chunks(2).map(byte).collect());
        assert_eq!(scan.verdict.as_str(), verdict, "{name}: {:?}", rules(&scan));
    }
}

/// Every function that a public advisory or a published attack names, in three ways of importing and calling it: each
/// line of the file has its module, its name and where it is told of.
#[test]
fn what_advisories_name_is_malicious() {
    for line in include_str!("data/pickle-gadgets.txt").lines() {
        let [module, name, source] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let streams = [
            pickle().global(module, name).call(|it| it.text("true")),
            pickle().stack_global(module, name).call(|it| it.text("true")),
            Pickle::default().raw(format!("(Vtrue\ni{module}\n{name}\n")),
        ];
        for stream in streams {
            let scan = scanned("test.pkl", stream.stop());
            assert_eq!(scan.verdict, Verdict::Malicious, "{module}.{name}, {source}: {:?}", rules(&scan));
        }
    }
}
