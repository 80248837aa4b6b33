//! PyTorch's zip form: `NAME/data.pkl` describes the tensors, `NAME/data/KEY` are their storages.
//!
//! TorchScript has the same form, with the program in `NAME/code/` and its constants in
//! `NAME/constants.pkl` (torch/csrc/jit/serialization/export_module.cpp).

use std::collections::HashMap;

use super::{HIDDEN, Model, PICKLE_BROKEN, STORAGE_MISSING, STORAGE_SIZE};
use crate::container::zip::{self, Archive, Listing, Member, by_name, read_member};
use crate::container::{Container, Format, pickle};
use crate::dtype::DType;
use crate::error::Result;
use crate::finding::{Finding, Findings};
use crate::ledger::{Draft, Kind};
use crate::probe::{Head, Match};
use crate::source::Source;

/// Checkpoints since PyTorch 1.6.
pub static FORMAT: Format = Format {
    id: "pytorch-zip",
    name: "PyTorch checkpoint (zip)",
    extensions: &["pt", "pth", "bin", "ckpt", "pt2"],
    use_and_risk: "For PyTorch. It holds a pickle: loading it without `weights_only` can run any code.",
    probe,
    open,
};

/// TorchScript programs.
pub static TORCHSCRIPT: Format = Format {
    id: "torchscript",
    name: "TorchScript program",
    extensions: &["pt", "pth", "jit", "ts", "ptl"],
    use_and_risk: "For PyTorch without Python: weights with the program that uses them, which runs when it is called.",
    probe: probe_script,
    open: open_script,
};

/// Texts of a few bytes such as `version` are read to this length.
const SHORT: u64 = 64;

/// The folder within the archive and whether it is TorchScript.
fn torch_folder<'a>(head: &Head, listing: &'a Listing) -> Option<(&'a str, bool)> {
    if let Some(folder) = listing.folder_of("constants.pkl") {
        return Some((folder, true));
    }
    let folder = listing.folder_of("data.pkl");
    let code = |folder: &str| {
        listing.names.iter().any(|name| name.strip_prefix(folder).is_some_and(|rest| rest.starts_with("code/")))
    };
    match folder {
        Some(folder) => {
            // `torch.save` writes its pickle first, TorchScript its storages.
            let storage = || listing.names.first().is_some_and(|name| name.starts_with(&format!("{folder}data/")));
            Some((folder, code(folder) || listing.cut && (is_program(head) || storage())))
        }
        // Newer TorchScript writes its storages first; a cut file may have no more.
        None if listing.cut => {
            let first = listing.names.first()?;
            let (folder, _) = first.split_once("/data/")?;
            let folder = first.get(..folder.len() + 1)?;
            Some((folder, true))
        }
        None => None,
    }
}

/// Whether the pickle within the first bytes makes objects of a TorchScript program: all that tells one whose
/// code is beyond the cut.
fn is_program(head: &Head) -> bool {
    let first = head.first.get(..4096).unwrap_or(&head.first);
    first.windows(10).any(|window| window == b"c__torch__")
}

fn probe(head: &Head) -> Option<Match> {
    let listing = head.zip()?;
    let (folder, script) = torch_folder(head, listing)?;
    if script {
        return None;
    }
    Match::new(listing.score(), format!("{}, and has the member `{folder}data.pkl`", listing.evidence()))
}

fn probe_script(head: &Head) -> Option<Match> {
    let listing = head.zip()?;
    let (folder, script) = torch_folder(head, listing)?;
    if !script {
        return None;
    }
    let member = ["constants.pkl", "code/", "data.pkl", "data/"]
        .into_iter()
        .find(|member| listing.names.iter().any(|name| name.starts_with(&format!("{folder}{member}"))))?;
    Match::new(listing.score(), format!("{}, and has the member `{folder}{member}`", listing.evidence()))
}

fn open(source: &Source) -> Result<Container> {
    read(&FORMAT, source)
}

fn open_script(source: &Source) -> Result<Container> {
    read(&TORCHSCRIPT, source)
}

/// The archive's folder: that of the first `data.pkl`, else of the first member.
fn folder_of(archive: &Archive) -> String {
    let names = || archive.members.iter().map(|member| member.name.as_str());
    let folder = |file: &'static str| {
        names().filter_map(move |name| name.strip_suffix(file)).find(|rest| rest.is_empty() || rest.ends_with('/'))
    };
    let first = || names().next().and_then(|name| name.get(..=name.find('/')?));
    folder("data.pkl").or_else(|| folder("constants.pkl")).or_else(first).unwrap_or_default().to_string()
}

fn read(format: &'static Format, source: &Source) -> Result<Container> {
    let mut archive = zip::read(source)?;
    let folder = folder_of(&archive);
    let mut model = Model::default();
    read_pickle(source, &archive, &folder, "data", "", &mut model)?;
    let plain = model.storages.len();
    if archive.cut {
        // The pickle knows the sizes that the members' own headers leave out.
        let sizes: HashMap<String, u64> = model
            .storages
            .iter()
            .filter_map(|storage| Some((format!("{folder}data/{}", storage.key), storage.bytes?)))
            .collect();
        let data = format!("{folder}data.pkl");
        let known = archive.member(&data).map(|member| member.data.len);
        archive = zip::recover(source, &mut |name| if name == data { known } else { sizes.get(name).copied() })?;
    }
    if format == &TORCHSCRIPT {
        read_pickle(source, &archive, &folder, "constants", "constants.", &mut model)?;
    }

    let mut draft = Draft::new();
    archive.claim_structure(&mut draft);
    let members = by_name(&archive.members);
    let mut used = vec![false; archive.members.len()];
    for (index, storage) in model.storages.iter_mut().enumerate() {
        let place = if index < plain { "data" } else { "constants" };
        let key = storage.key.strip_prefix("constants/").unwrap_or(&storage.key);
        let name = format!("{folder}{place}/{key}");
        let Some(member) = members.get(&*name).and_then(|at| {
            if let Some(used) = used.get_mut(*at) {
                *used = true;
            }
            archive.members.get(*at)
        }) else {
            // A storage without elements may go without a member; of a cut archive it is no news.
            if storage.bytes != Some(0) && !archive.cut {
                let message = format!("the member {name:?} that holds a storage is missing");
                model.findings.push(Finding::new(&STORAGE_MISSING, message));
            }
            continue;
        };
        check_storage(storage, member, source, &mut model.findings);
    }
    model.place();
    model.claim_storages(&mut draft);
    for (member, used) in archive.members.iter().zip(used) {
        claim_member(member, &folder, used, &model, &mut draft, &mut archive.findings);
    }

    for (file, fact) in
        [("version", "archive version"), ("byteorder", "byte order"), (".format_version", "format version")]
    {
        if let Some(member) = members.get(&*format!("{folder}{file}")).and_then(|at| archive.members.get(*at))
            && let Ok(text) = zip::read_first(source, member, SHORT).and_then(|text| text.read_up_to(0, SHORT))
        {
            model.facts.push((fact, String::from_utf8_lossy(&text).trim().to_string()));
        }
    }
    model.facts.push(("archive folder", folder.trim_end_matches('/').to_string()));
    if archive.members.iter().any(|member| member.method == zip::DEFLATED && member.name.contains("/data/")) {
        model.facts.push(("compression", "deflate".to_string()));
    }
    let mut container = Container::new(format, draft.finish(source.len()));
    model.into_container(&mut container, archive.findings);
    Ok(container)
}

/// Follows `NAME.pkl` and lists what it describes.
fn read_pickle(
    source: &Source,
    archive: &Archive,
    folder: &str,
    name: &str,
    prefix: &str,
    model: &mut Model,
) -> Result<()> {
    let member_name = format!("{folder}{name}.pkl");
    // Of two with the same name PyTorch takes the last; a finding has said so.
    let Some(member) = archive.members.iter().rev().find(|member| member.name == member_name) else {
        model.findings.push(Finding::new(&PICKLE_BROKEN, format!("the member {member_name:?} is missing")));
        return Ok(());
    };
    let contents = match read_member(source, member, pickle::MAX_UNPACKED) {
        Ok(contents) => contents,
        Err(error) => {
            model.findings.push(Finding::new(&PICKLE_BROKEN, error.message()).member(member_name));
            return Ok(());
        }
    };
    if let Some(fault) = contents.fault {
        model.findings.push(fault);
    }
    let trace = pickle::run(&contents.source, 0)?;
    if trace.fault.is_none() && trace.end < contents.source.len() {
        let message = format!("{} bytes follow the pickle in its member", contents.source.len() - trace.end);
        model.findings.push(Finding::new(&HIDDEN, message).at(trace.end).member(&*member_name));
    }
    if prefix.is_empty() {
        model.facts.push(("pickle protocol", trace.protocol.to_string()));
        model.read_object(&trace, prefix);
    } else {
        // Constants have storages of their own, under the same keys.
        let mut constants = Model::default();
        constants.read_object(&trace, prefix);
        model.absorb(constants, "constants/");
    }
    Ok(())
}

impl Model {
    /// Adds another pickle's tensors, whose storage keys get a prefix.
    fn absorb(&mut self, other: Model, prefix: &str) {
        let base = u32::try_from(self.storages.len()).unwrap_or(u32::MAX);
        let first = self.tensors.len();
        for mut storage in other.storages {
            storage.key = format!("{prefix}{}", storage.key);
            storage.tensor = storage.tensor.map(|tensor| tensor + first);
            self.storages.push(storage);
        }
        for mut tensor in other.tensors {
            if let Some(view) = &mut tensor.storage {
                view.storage = view.storage.saturating_add(base);
            }
            self.tensors.push(tensor);
        }
        self.reach.extend(other.reach);
        for finding in other.findings.finish() {
            self.findings.push(finding);
        }
        for name in other.globals {
            if !self.globals.contains(&name) {
                self.globals.push(name);
            }
        }
    }
}

fn check_storage(storage: &mut super::Storage, member: &Member, source: &Source, findings: &mut Findings) {
    storage.span = member.stored();
    if let Some(bytes) = storage.bytes.filter(|bytes| *bytes != member.size) {
        // Quantised types of less than a byte are counted in bytes by some versions, in elements by others.
        let packed = matches!(storage.dtype, Some(DType::QUINT4X2 | DType::QUINT2X4));
        if packed && member.size > bytes {
            storage.bytes = Some(member.size);
        } else {
            let message =
                format!("storage {:?} should have {bytes} bytes, but its member has {}", storage.key, member.size);
            findings.push(Finding::new(&STORAGE_SIZE, message).at(member.data.start).member(&*member.name));
        }
    }
    if member.data.end() >= source.len()
        && storage.bytes.is_some_and(|bytes| bytes > member.data.len)
        && member.method == zip::STORED
    {
        let bytes = storage.bytes.unwrap_or(0);
        // The place that the bytes would have: what is there of them is labelled so.
        storage.span = Some(crate::tensor::Span { start: member.data.start, len: bytes });
        let message = format!(
            "storage {:?} is cut: {bytes} bytes from byte {}, but the file ends at byte {}",
            storage.key,
            member.data.start,
            source.len()
        );
        findings.push(Finding::new(&STORAGE_MISSING, message).at(source.len()));
    }
}

fn claim_member(member: &Member, folder: &str, used: bool, model: &Model, draft: &mut Draft, findings: &mut Findings) {
    let (start, end) = (member.data.start, member.data.end());
    let short = member.name.strip_prefix(folder).unwrap_or(&member.name);
    if used {
        // A compressed storage has no place of its own in the tensors' list.
        draft.add(start, end, Kind::Tensor, format!("compressed storage {short}"));
        return;
    }
    let kind = if short.ends_with(".pkl") || short.ends_with(".debug_pkl") || short.starts_with("code/") {
        Kind::Code
    } else if short.starts_with("data/") || short.starts_with("constants/") {
        if model.globals.is_empty() {
            // The pickle that would say is beyond the cut.
            draft.add(start, end, Kind::Tensor, format!("storage {short} of a tensor unknown"));
            return;
        }
        if end > start {
            let message = format!("member {:?} holds {} bytes that no tensor uses", member.name, end - start);
            findings.push(Finding::new(&super::STORAGE_UNUSED, message).at(start).member(&*member.name));
        }
        Kind::Unexplained
    } else if matches!(short, "version" | "byteorder" | ".format_version" | ".storage_alignment")
        || short.starts_with(".data/")
    {
        Kind::Header
    } else if short.starts_with("extra/") || short == "attributes.pkl" || model.tensors.is_empty() {
        Kind::Metadata
    } else {
        if end > start {
            let message = format!("member {:?} is none that PyTorch writes", member.name);
            findings.push(Finding::new(&HIDDEN, message).at(start).member(&*member.name));
        }
        zip::kind_of(&member.name)
    };
    draft.add(start, end, kind, format!("member {}", member.name));
}
