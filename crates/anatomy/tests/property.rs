//! What holds for any bytes: no panic, a ledger that covers the file exactly, few and known findings. Every format of
//! the table is tried on arbitrary bytes and on mutated valid files, whether or not they are its own.

mod common;

use std::sync::LazyLock;

use anatomy::probe;
use anatomy::source::Source;
use common::invariants::check;
use proptest::prelude::*;

static CORPUS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(common::corpus);

/// Every reader, and what the probe chooses.
fn check_all(bytes: &[u8]) {
    check(None, bytes);
    for format in probe::FORMATS {
        check(Some(format.id), bytes);
    }
}

/// One way to damage a file; positions are taken modulo its length.
#[derive(Debug, Clone)]
enum Damage {
    Flip { at: usize, bits: u8 },
    Number { at: usize, number: u64, width: usize },
    Remove { at: usize, count: usize },
    Repeat { at: usize, count: usize },
    Insert { at: usize, bytes: Vec<u8> },
    Cut { len: usize },
}

fn damage() -> impl Strategy<Value = Damage> {
    // Numbers at which arithmetic goes wrong.
    let numbers = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX / 2),
        Just(1 << 63),
        Just(1 << 31),
        Just(1 << 32),
        Just(0xffff_ffff),
        0..1000u64,
        any::<u64>(),
    ];
    let at = any::<usize>;
    prop_oneof![
        (at(), 1..=255u8).prop_map(|(at, bits)| Damage::Flip { at, bits }),
        (at(), numbers, 1..=8usize).prop_map(|(at, number, width)| Damage::Number { at, number, width }),
        (at(), 1..64usize).prop_map(|(at, count)| Damage::Remove { at, count }),
        (at(), 1..256usize).prop_map(|(at, count)| Damage::Repeat { at, count }),
        (at(), prop::collection::vec(any::<u8>(), 1..32)).prop_map(|(at, bytes)| Damage::Insert { at, bytes }),
        at().prop_map(|len| Damage::Cut { len }),
    ]
}

// Every position is taken modulo the length.
#[allow(clippy::indexing_slicing)]
fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    match damage {
        Damage::Flip { at, bits } => bytes[at % len] ^= bits,
        Damage::Number { at, number, width } => {
            let (from, number) = (at % len, number.to_le_bytes());
            let to = len.min(from + width);
            bytes[from..to].copy_from_slice(&number[..to - from]);
        }
        Damage::Remove { at, count } => drop(bytes.drain(at % len..len.min(at % len + count))),
        Damage::Repeat { at, count } => {
            let part = bytes[at % len..len.min(at % len + count)].to_vec();
            bytes.splice(at % len..at % len, part);
        }
        Damage::Insert { at, bytes: more } => drop(bytes.splice(at % len..at % len, more.iter().copied())),
        Damage::Cut { len: left } => bytes.truncate(left % len),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_keep_the_promises(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        check_all(&bytes);
    }

    #[test]
    fn damaged_files_keep_the_promises(
        which in any::<prop::sample::Index>(),
        damages in prop::collection::vec(damage(), 1..8),
    ) {
        let mut bytes = which.get(&CORPUS).clone();
        damages.iter().for_each(|damage| apply(&mut bytes, damage));
        check_all(&bytes);
    }
}

#[test]
fn every_prefix_of_every_small_file_keeps_the_promises() {
    for file in CORPUS.iter() {
        // Long files are cut at some hundred places only.
        let step = (file.len() / 256).max(1);
        let own = probe::identify(&Source::memory("whole", file.clone())).map(|identity| identity.format.id);
        for len in (0..file.len()).step_by(step) {
            check(None, &file[..len]);
            if let Ok(own) = &own {
                check(Some(own), &file[..len]);
            }
        }
    }
}

#[test]
fn all_valid_files_are_known_and_whole() {
    for file in CORPUS.iter() {
        check_all(file);
    }
}

/// Run by `fuzz/seed.sh`: writes the corpus into the folder that `ANATOMY_CORPUS` names.
#[test]
#[ignore = "writes the seeds of the fuzz targets"]
fn write_corpus() {
    let folder = std::env::var("ANATOMY_CORPUS").expect("the folder to write to");
    for (index, file) in CORPUS.iter().enumerate() {
        std::fs::write(format!("{folder}/builder-{index:02}"), file).expect("a folder that can be written to");
    }
}
