//! The symbolic pickle machine against CPython's own two: the same imports and calls in the same order. The recordings
//! are made by `tools/check-pickle.py`; `ANATOMY_TRACES` names a larger file of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // helpers of tests

use std::io::{BufRead, BufReader};

use anatomy::container::pickle::{self, Call, CallKind, Trace, Value, Via};
use anatomy::source::Source;
use proptest::prelude::*;
use serde_json::Value as Json;

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter(|byte| *byte != b'=');
    let values: Vec<u32> =
        digits.map(|byte| u32::try_from(DIGITS.iter().position(|digit| *digit == byte).unwrap()).unwrap()).collect();
    let mut bytes = Vec::new();
    for group in values.chunks(4) {
        let sum = group.iter().fold(0, |sum, value| sum << 6 | value) << (6 * (4 - group.len()));
        bytes.extend(&sum.to_be_bytes()[1..group.len()]);
    }
    bytes
}

/// The calls in which CPython's recorders can take part: their kind, callee and number of arguments.
fn calls(trace: &Trace) -> Vec<(String, String, Option<u64>)> {
    let mut numbers = std::collections::HashMap::new();
    let mut list = Vec::new();
    for (index, call) in trace.calls.iter().enumerate() {
        let Some(callee) = label(trace, call, &numbers) else { continue };
        let count = trace.contents(call.arguments).len() as u64;
        let tuple = matches!(trace.value(call.arguments), Value::Tuple(_));
        let rows = match call.kind {
            CallKind::Reduce | CallKind::Inst | CallKind::Obj => vec![("call", tuple.then_some(count))],
            CallKind::NewObj | CallKind::NewObjEx => vec![("new", tuple.then_some(count))],
            CallKind::Build => vec![("build", None)],
            CallKind::Append => vec![("append", Some(count))],
            // CPython makes one call for each.
            CallKind::SetItem => vec![("item", None); usize::try_from(count / 2).unwrap()],
            CallKind::Add => vec![("add", None); usize::try_from(count).unwrap()],
        };
        numbers.insert(index, list.len());
        list.extend(rows.into_iter().map(|(kind, count)| (kind.to_string(), callee.clone(), count)));
    }
    list
}

/// How the recorders call what is called; nothing for plain values, whose methods are Python's own.
fn label(trace: &Trace, call: &Call, numbers: &std::collections::HashMap<usize, usize>) -> Option<String> {
    match trace.value(call.callee) {
        Value::Global(_) => trace.path_of(call.callee),
        Value::Call(index) => Some(format!("#{}", numbers.get(&(index as usize))?)),
        Value::Persistent(_) => Some("persistent".into()),
        _ => None,
    }
}

/// Python gives an object without arguments from `INST` and `OBJ` as `NEWOBJ` does.
fn same(ours: &(String, String, Option<u64>), theirs: &Json) -> bool {
    let bare = ours.0 == "call" && ours.2 == Some(0) && theirs[0] == "new";
    (theirs[0] == ours.0.as_str() || bare)
        && theirs[1] == ours.1.as_str()
        && (ours.2.is_none() || theirs[2].is_null() || theirs[2].as_u64() == ours.2)
}

#[test]
fn imports_and_calls_are_those_of_cpython() {
    let path = std::env::var("ANATOMY_TRACES")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/pickle-traces.jsonl.gz").into());
    let file = BufReader::new(flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()));
    let (mut streams, mut through) = (0, 0);
    for line in file.lines() {
        let line: Json = serde_json::from_str(&line.unwrap()).unwrap();
        let bytes = base64(line["pickle"].as_str().unwrap());
        let trace = pickle::run(&Source::memory("stream", bytes.clone()), 0).unwrap();
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let imports: Vec<_> = trace.globals.iter().filter(|global| !matches!(global.via, Via::Extension(_))).collect();
        let calls = calls(&trace);
        for machine in ["c", "python"] {
            let theirs = &line[machine];
            let (their_imports, their_calls) =
                (theirs["imports"].as_array().unwrap(), theirs["calls"].as_array().unwrap());
            assert!(their_imports.len() <= imports.len(), "{machine} imports more in {shown:?}: {theirs}");
            for (ours, theirs) in imports.iter().zip(their_imports) {
                let part = |part: Option<_>| part.map(|part| trace.str(part)).unwrap_or_default();
                assert_eq!((theirs[0].as_str(), theirs[1].as_str()), (Some(part(ours.module)), Some(part(ours.name))));
            }
            assert!(their_calls.len() <= calls.len(), "{machine} calls more in {shown:?}: {theirs}, not {calls:?}");
            for (ours, theirs) in calls.iter().zip(their_calls) {
                assert!(same(ours, theirs), "{machine} in {shown:?}: {theirs}, not {ours:?}");
            }
            if let Some(end) = theirs["end"].as_u64() {
                through += 1;
                assert!(trace.fault.is_none(), "{machine} runs through {shown:?}, not {:?}", trace.fault);
                assert_eq!(trace.end, end, "{machine} ends elsewhere in {shown:?}");
                assert_eq!(their_imports.len(), imports.len(), "{shown:?}");
                assert_eq!(their_calls.len(), calls.len(), "{shown:?}: {theirs}, not {calls:?}");
                assert_eq!(theirs["persistent"].as_u64(), Some(trace.persistent.len() as u64), "{shown:?}");
            }
        }
        streams += 1;
    }
    assert!(streams > 100 && through > streams / 4, "{streams} streams, {through} ran through");
}

proptest! {
    /// Whatever the opcodes, values refer only to what is there, and nothing grows beyond the bytes.
    #[test]
    fn opcodes_in_any_order_are_followed(
        bytes in prop::collection::vec(
            prop_oneof![
                prop::sample::select(b"(0122)]}tldasue\x8f\x90\x91\x85\x86\x87RboQ\x81\x92\x93\x94N\x88\x89".to_vec())
                    .prop_map(|opcode| vec![opcode]),
                prop::sample::select(b"qhKU\x8cC".to_vec()).prop_flat_map(|opcode| {
                    (0u8..4).prop_map(move |number| {
                        let data = if b"U\x8cC".contains(&opcode) { "abcd" } else { "" };
                        [&[opcode, number][..], &data.as_bytes()[..usize::from(number).min(data.len())]].concat()
                    })
                }),
                prop::sample::select(vec!["cos\nsystem\n", "ia\nb\n", "p1\n", "g1\n", "I5\n", "Px\n", "S'os'\n"])
                    .prop_map(|text| text.as_bytes().to_vec()),
                any::<u8>().prop_map(|byte| vec![byte]),
            ],
            0..200,
        ),
    ) {
        let bytes = bytes.concat();
        let len = bytes.len();
        let trace = pickle::run(&Source::memory("stream", bytes), 0).unwrap();
        prop_assert!(trace.end <= len as u64);
        prop_assert!(trace.calls.len() <= len && trace.globals.len() <= len);
        for id in trace.ids() {
            prop_assert!(trace.offset(id) <= len as u64);
            for part in trace.contents(id) {
                prop_assert!(trace.index(*part).is_none_or(|index| index < trace.values()));
            }
        }
        for call in &trace.calls {
            prop_assert!(trace.index(call.callee).is_none_or(|index| index < trace.values()));
        }
    }
}
