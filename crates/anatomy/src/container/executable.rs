//! Executables: ELF and PE.

use super::{Facts, Format, identified};
use crate::probe::{Match, score};

const USE_AND_RISK: &str = "A program for a processor, not a model: running it runs whatever its author put in.";

/// ELF: Linux and most other Unix systems.
pub static ELF: Format = Format {
    id: "elf",
    name: "executable (ELF)",
    extensions: &["so", "elf"],
    use_and_risk: USE_AND_RISK,
    probe: |head| {
        head.starts_with(b"\x7fELF").then_some(())?;
        Match::new(score::CERTAIN - 5, "the first 4 bytes are 7f `ELF`, the magic number of Unix executables")
    },
    open: |source| {
        let mut facts = Facts::new();
        if let [.., class, order, _, _, _, _, _, _, _, _, _, kind0, kind1, machine0, machine1] =
            source.read_up_to(0, 20)?.as_slice()
        {
            let number = |low: &u8, high: &u8| {
                if *order == 2 { u16::from_be_bytes([*low, *high]) } else { u16::from_le_bytes([*low, *high]) }
            };
            facts.push(("class", if *class == 2 { "64-bit" } else { "32-bit" }.to_string()));
            facts.push(("kind", word(KINDS, number(kind0, kind1))));
            facts.push(("processor", word(ELF_MACHINES, number(machine0, machine1))));
        }
        Ok(identified(&ELF, source, 4, 48, facts))
    },
};

/// PE: Windows.
pub static PE: Format = Format {
    id: "pe",
    name: "executable (PE)",
    extensions: &["exe", "dll"],
    use_and_risk: USE_AND_RISK,
    probe: |head| {
        head.starts_with(b"MZ").then_some(())?;
        let place = head.u32(0x3c);
        let signature = place.and_then(|place| head.array::<4>(usize::try_from(place).ok()?));
        if signature == Some(*b"PE\0\0") {
            return Match::new(
                score::CERTAIN - 10,
                "the first 2 bytes are `MZ`, and a Windows executable (`PE`) begins where they point",
            );
        }
        // Without the second signature, two letters prove little.
        Match::new(score::FALLBACK + 5, "the first 2 bytes are `MZ`, as of a DOS or Windows executable")
    },
    open: |source| {
        let mut facts = Facts::new();
        let place = source.read_up_to(0x3c, 4)?.try_into().map_or(0, u32::from_le_bytes);
        if let [b'P', b'E', 0, 0, low, high] = source.read_up_to(place.into(), 6)?.as_slice() {
            facts.push(("processor", word(PE_MACHINES, u16::from_le_bytes([*low, *high]))));
        }
        Ok(identified(&PE, source, 2, 62, facts))
    },
};

const KINDS: &[(u16, &str)] =
    &[(1, "object file"), (2, "executable"), (3, "shared library or executable"), (4, "core")];
const ELF_MACHINES: &[(u16, &str)] =
    &[(3, "x86"), (40, "ARM"), (62, "x86-64"), (183, "ARM64"), (190, "CUDA"), (224, "AMD GPU"), (243, "RISC-V")];
const PE_MACHINES: &[(u16, &str)] = &[(0x14c, "x86"), (0x8664, "x86-64"), (0xaa64, "ARM64")];

fn word(table: &[(u16, &str)], number: u16) -> String {
    table
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(|| format!("unknown ({number})"), |(_, w)| w.to_string())
}
