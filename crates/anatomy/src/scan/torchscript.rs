//! TorchScript: the operators that its programs call.
//!
//! An archive's `code/` holds programs in a language of PyTorch's own. `torch.jit.load` runs those that restore a
//! module's state, and the others run when the model is called; no Python is needed. What they can do is what its
//! operators do: `torch::jit::getAllOperators` of PyTorch 2.15 has these few that leave the process.

use super::python::tokens;
use super::walk::{Opened, Piece, Scanner};
use crate::container::text::decode;
use crate::error::Result;
use crate::finding::{Finding, Rule, Severity};

static DANGEROUS: Rule = Rule {
    name: "torchscript-dangerous-operator",
    severity: Severity::Error,
    why: "The program within the model writes a file, maps one of the machine's files as a tensor, or calls other \
          machines. PyTorch runs it with all your rights when the model is loaded or called, from C++ as well.",
    help: "do not load the model",
};
static CUSTOM: Rule = Rule {
    name: "torchscript-custom-operator",
    severity: Severity::Warning,
    why: "The program calls an operator that neither PyTorch nor one of its known companions has: running it takes a \
          native library from somewhere, for which nobody vouches.",
    help: "find out which library has the operator, and whether you trust it",
};

/// The rules of this family.
pub(crate) static RULES: &[&Rule] = &[&DANGEROUS, &CUSTOM];
/// Rules whose findings are attacks.
pub(super) static MALICIOUS: &[&Rule] = &[&DANGEROUS];
/// Rules whose findings nobody vouches for.
pub(super) static SUSPICIOUS: &[&Rule] = &[&CUSTOM];

/// Operators that leave the process, by their names in programs.
#[rustfmt::skip]
const DANGEROUS_OPS: &[&str] = &[
    "torch.save", "torch.from_file", "ops.aten.save", "ops.aten.from_file", "rpc_async", "rpc_sync", "rpc_remote",
    "ops.prim.rpc_async", "ops.prim.rpc_sync", "ops.prim.rpc_remote", "ops.image.read_file", "ops.image.write_file",
    "ops.torchaudio.sox_io_save_audio_file", "ops.torchaudio.sox_io_load_audio_file",
    "ops.torchaudio.sox_effects_apply_effects_file", "ops.torchtext._load_token_and_vectors_from_file",
    "ops.torchtext._build_vocab_from_text_file", "ops.video_reader.read_video_from_file",
    "ops.video_reader.probe_video_from_file",
];
/// The same by their names in the lists of the mobile interpreter.
const DANGEROUS_NAMES: &[&str] =
    &["aten::save", "aten::from_file", "prim::rpc_", "image::read_file", "image::write_file", "sox_io_save_audio_file"];
/// Whose operators are known: PyTorch's own and those of what is installed beside it.
#[rustfmt::skip]
const NAMESPACES: &[&str] = &[
    "aten", "prim", "prims", "quantized", "_quantized", "quantization", "quantized_decomposed", "mkl", "mkldnn",
    "mkldnn_prepacked", "onednn", "xnnpack", "prepacked", "vulkan_prepack", "metal_prepack", "sparse", "static_runtime",
    "inductor", "profiler", "cuda", "rngprims", "_native", "_c10d_functional", "c10d", "symm_mem", "fsdp", "export",
    "onnx", "torchvision", "image", "video_reader", "torchaudio", "torchtext", "torchao", "torch_scatter",
    "torch_sparse", "torch_cluster", "torch_spline_conv", "pyg", "fbgemm", "tensorrt", "neuron", "torch_ipex", "rnnt",
    "detectron2", "llama", "executorch", "_test",
];

/// Programs longer than this are not read, in bytes.
const MAX: u64 = 64 << 20;

/// Looks at a piece that is a program.
pub(super) fn look(scanner: &mut Scanner, piece: &Piece, _: &Opened) -> Result<()> {
    let Some(member) = piece.member.as_deref() else { return Ok(()) };
    if member.ends_with("bytecode.pkl") {
        let bytes = scanner.read(piece, MAX)?;
        for name in DANGEROUS_NAMES {
            if let Some(at) = memchr::memmem::find(&bytes, name.as_bytes()) {
                let message = format!("its list of operators has {name:?}");
                scanner.report(piece, Finding::new(&DANGEROUS, message).at(at as u64));
            }
        }
        return Ok(());
    }
    if !(member.contains("/code/") && member.ends_with(".py")) {
        return Ok(());
    }
    let bytes = scanner.read(piece, MAX)?;
    let text =
        decode(&bytes).map_or_else(|| String::from_utf8_lossy(&bytes).into_owned(), |text| text.text.into_owned());
    for (name, at) in called(&text) {
        if DANGEROUS_OPS.contains(&name.as_str()) {
            scanner.report(piece, Finding::new(&DANGEROUS, format!("it calls {name:?}")).at(at));
        } else if let Some(namespace) = name.strip_prefix("ops.").and_then(|rest| rest.split('.').next())
            && !NAMESPACES.contains(&namespace)
        {
            scanner.report(piece, Finding::new(&CUSTOM, format!("it calls {name:?}")).at(at));
        }
    }
    Ok(())
}

/// Names with dots that are called, each with its place.
fn called(text: &str) -> Vec<(String, u64)> {
    let tokens = tokens(text);
    let mut called = Vec::new();
    let mut name = String::new();
    let mut start = 0;
    let mut before = "";
    for token in &tokens {
        let is_word = token.text.starts_with(|c: char| c == '_' || c.is_alphanumeric());
        match token.text {
            "." if !name.is_empty() => name.push('.'),
            "(" if !name.is_empty() && before != "def" => called.push((std::mem::take(&mut name), start)),
            word if is_word && name.ends_with('.') => name.push_str(word),
            word if is_word => {
                before = if name == "def" { "def" } else { "" };
                name = word.to_string();
                start = token.at;
            }
            _ => name.clear(),
        }
    }
    called
}

#[cfg(test)]
mod tests {
    use super::called;

    #[test]
    fn calls_are_found_with_their_whole_names() {
        let text = "def forward(self,\n    x: Tensor) -> Tensor:\n  y = torch.from_file(\"ops.a.b(\", False, 4)\n  \
                    z = ops.image . read_file(annotate(str, x))\n  return torch.add(x, y)\n";
        let names: Vec<String> = called(text).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["torch.from_file", "ops.image.read_file", "annotate", "torch.add"]);
        assert_eq!(called(text)[0].1, text.find("torch.from_file").unwrap() as u64);
    }
}
