//! llamafile: llama.cpp as a program for any system, with a GGUF in the zip archive at its end.
//!
//! Layout: <https://github.com/Mozilla-Ocho/llamafile>. The program comes first (an "actually portable
//! executable", which begins like one of DOS, or ELF), the archive's directory last; the GGUF is stored, not
//! deflated, so that it can be mapped in place.

use super::{Container, Format, gguf, zip};
use crate::error::Result;
use crate::ledger::{Draft, Kind, Label};
use crate::probe::{Head, Match, score};
use crate::source::Source;

/// The format.
pub static FORMAT: Format = Format {
    id: "llamafile",
    name: "llamafile",
    extensions: &["llamafile"],
    use_and_risk: "For people without an installation: llama.cpp and a GGUF in one program. It is an executable: \
                   running it runs its author's code, so read its GGUF instead.",
    probe,
    open,
};

fn probe(head: &Head) -> Option<Match> {
    let program = match () {
        () if head.starts_with(b"\x7fELF") => "an ELF executable",
        () if head.starts_with(b"MZ") => "a portable executable (`MZ`)",
        () => return None,
    };
    let model = head.zip()?.names.iter().find(|name| name.ends_with(".gguf"))?;
    // It is an executable and a zip archive as well; this says the most.
    Match::new(score::CERTAIN + 10, format!("{program} that ends with a zip archive, which has the member `{model}`"))
}

fn open(source: &Source) -> Result<Container> {
    let archive = zip::read(source)?;
    let mut draft = Draft::new();
    archive.claim_structure(&mut draft);
    let mut container = Container::new(&FORMAT, crate::ledger::Ledger::default());
    let mut inner = None;
    let mut program_end = source.len();
    for member in &archive.members {
        program_end = program_end.min(member.header.start);
        match member.stored().filter(|_| member.name.ends_with(".gguf") && inner.is_none()) {
            Some(span) => {
                let section = source.section(span.start, span.len);
                let opened = (gguf::FORMAT.open)(&section)?;
                for range in opened.ledger.ranges() {
                    draft.add(range.start + span.start, range.end + span.start, range.kind, range.label.clone());
                }
                inner = Some((member.name.clone(), span.start, opened));
            }
            None => {
                let kind = zip::kind_of(&member.name);
                draft.add(member.data.start, member.data.end(), kind, format!("member {}", member.name));
            }
        }
    }
    draft.add(0, program_end, Kind::Code, "the program");
    container.facts.push(("members", archive.members.len().to_string()));
    // What stands before the archive is the program, not a gap.
    let mut findings = archive.findings.finish();
    findings.retain(|finding| finding.offset.is_none_or(|offset| offset >= program_end));
    container.findings = findings;
    container.ledger = draft.finish_with(source.len(), |start, _| match start < program_end {
        true => (Kind::Code, Label::from("the program")),
        false => (Kind::Unexplained, Label::from("bytes that no member claims")),
    });
    if let Some((name, start, opened)) = inner {
        container.facts.push(("member", name));
        container.facts.extend(opened.facts);
        container.metadata = opened.metadata;
        container.tensors = opened.tensors;
        for span in container.tensors.iter_mut().filter_map(|tensor| tensor.span.as_mut()) {
            span.start = span.start.saturating_add(start);
        }
        container.findings.extend(opened.findings.into_iter().map(|mut finding| {
            finding.offset = finding.offset.map(|offset| offset.saturating_add(start));
            finding
        }));
    }
    Ok(container)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(bytes: &[u8]) -> u32 {
        u32::try_from(bytes.len()).unwrap()
    }

    /// A zip archive of one stored member behind a program, as `zipalign` of llamafile lays it out.
    fn file(program: &[u8], name: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = program.to_vec();
        let header = size(&bytes);
        let mut fields = Vec::new();
        let mut crc = flate2::Crc::new();
        crc.update(data);
        fields.extend_from_slice(&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        fields.extend_from_slice(&crc.sum().to_le_bytes());
        fields.extend_from_slice(&size(data).to_le_bytes());
        fields.extend_from_slice(&size(data).to_le_bytes());
        fields.extend_from_slice(&u16::try_from(name.len()).unwrap().to_le_bytes());
        fields.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(b"PK\x03\x04");
        bytes.extend_from_slice(&fields);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(data);
        let directory = size(&bytes);
        bytes.extend_from_slice(b"PK\x01\x02\x14\x00");
        bytes.extend_from_slice(&fields);
        bytes.extend_from_slice(&[0; 10]);
        bytes.extend_from_slice(&header.to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
        let length = size(&bytes) - directory;
        bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&directory.to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes
    }

    #[test]
    fn the_model_within_is_read_in_place() {
        let mut model = b"GGUF\x03\0\0\0".to_vec();
        model.extend_from_slice(&1u64.to_le_bytes());
        model.extend_from_slice(&0u64.to_le_bytes());
        model.extend_from_slice(&1u64.to_le_bytes());
        model.extend_from_slice(b"a\x01\0\0\0");
        model.extend_from_slice(&8u64.to_le_bytes());
        model.extend_from_slice(&0u32.to_le_bytes());
        model.extend_from_slice(&0u64.to_le_bytes());
        model.resize(64 + 32, 0);
        let program = b"MZqFpD='\n the program";
        let source = Source::memory("test", file(program, "model.gguf", &model));
        let (identity, container) = crate::probe::open(&source).unwrap();
        assert_eq!(identity.format.id, "llamafile");
        let rules: Vec<&str> = container.findings.iter().map(|finding| finding.rule.name).collect();
        assert_eq!(rules, ["gguf-architecture-missing"]);
        let tensor = container.tensors.first().unwrap();
        let start = program.len() as u64 + 30 + 10 + 64;
        assert_eq!((tensor.name.as_str(), tensor.span.unwrap().start), ("a", start));
        assert_eq!(container.ledger.total(Kind::Tensor), 32);
        assert_eq!(container.ledger.total(Kind::Code), program.len() as u64);
        assert_eq!(container.ledger.total(Kind::Unexplained), 0);
    }
}
