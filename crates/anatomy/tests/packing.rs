//! Packed tensors against the numbers that they stand for.

#![cfg(test)]

mod lists;

use anatomy::dtype::{Class, DType};
use anatomy::names::parse_all;
use anatomy::packing::{Entry, Packing, logical};
use anatomy::tensor::{StorageView, Tensor, elements};
use proptest::prelude::*;
use serde_json::{Value, json};

fn tensor(name: &str, dtype: DType, shape: &[u64]) -> Tensor {
    let bytes = dtype.bytes(elements(shape)).unwrap_or(0);
    Tensor { name: name.to_string(), dtype, shape: shape.to_vec(), bytes, span: None, storage: None }
}

fn count(tensors: &[Tensor], config: Option<&Value>) -> Packing {
    let parts = parse_all(tensors.iter().map(|tensor| tensor.name.as_str()));
    let entries: Vec<Entry> =
        tensors.iter().zip(&parts).map(|(tensor, part)| Entry { tensor, file: 0, buffer: part.buffer }).collect();
    logical(&entries, config)
}

fn real(name: &str) -> Vec<Tensor> {
    let list = lists::all().iter().find(|list| list.name == name).unwrap();
    list.tensors.iter().map(|(name, dtype, shape)| tensor(name, *dtype, shape)).collect()
}

/// Every linear layer of the blocks, packed by `pack` from its name without `.weight` and its `[out, in]`.
fn packed(model: &str, pack: impl Fn(&str, u64, u64) -> Vec<Tensor>) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    for tensor in real(model) {
        let linear = tensor.name.contains("_proj.weight") && tensor.shape.len() == 2;
        match tensor.name.strip_suffix(".weight").filter(|_| linear) {
            Some(stem) => tensors.extend(pack(stem, tensor.shape[0], tensor.shape[1])),
            None => tensors.push(tensor),
        }
    }
    tensors
}

const LLAMA: &str = "real/Llama-3.1-8B";
const LLAMA_TOTAL: u64 = 8_030_261_248;

#[track_caller]
fn assert_llama(tensors: &[Tensor], config: Option<&Value>, scheme: &str) {
    let packing = count(tensors, config);
    assert_eq!(packing.parameters(), LLAMA_TOTAL);
    assert_eq!(packing.schemes.len(), 1, "{:?}", packing.schemes);
    assert_eq!(packing.schemes[0].0.to_string(), scheme);
    assert_eq!(packing.schemes[0].1, 224);
    let query = tensors.iter().zip(&packing.tensors);
    let mut query = query.filter(|(tensor, logical)| tensor.name.contains("layers.0.mlp.down_proj") && !logical.side);
    let (tensor, logical) = query.next().unwrap();
    assert_eq!(logical.parameters, 4096 * 14_336, "{}", tensor.name);
    assert!(query.next().is_none());
}

#[test]
fn gptq_of_all_widths() {
    for bits in [2, 3, 4, 8] {
        let layout = |index: bool| {
            packed(LLAMA, move |stem, out, inputs| {
                let mut list = vec![
                    tensor(&format!("{stem}.qweight"), DType::I32, &[inputs * bits / 32, out]),
                    tensor(&format!("{stem}.qzeros"), DType::I32, &[inputs / 128, out * bits / 32]),
                    tensor(&format!("{stem}.scales"), DType::F16, &[inputs / 128, out]),
                ];
                if index {
                    list.push(tensor(&format!("{stem}.g_idx"), DType::I32, &[inputs]));
                }
                list
            })
        };
        let scheme = format!("GPTQ {bits}-bit, group 128");
        assert_llama(&layout(true), None, &scheme);
        assert_llama(&layout(false), None, &scheme);
        // A configuration that is wrong does not change what the shapes say.
        assert_llama(&layout(true), Some(&json!({"quantization_config": {"bits": 5, "group_size": 7}})), &scheme);
    }
}

#[test]
fn awq() {
    let list = packed(LLAMA, |stem, out, inputs| {
        vec![
            tensor(&format!("{stem}.qweight"), DType::I32, &[inputs, out / 8]),
            tensor(&format!("{stem}.qzeros"), DType::I32, &[inputs / 64, out / 8]),
            tensor(&format!("{stem}.scales"), DType::F16, &[inputs / 64, out]),
        ]
    });
    assert_llama(&list, None, "AWQ 4-bit, group 64");
}

#[test]
fn bitsandbytes() {
    let four = packed(LLAMA, |stem, out, inputs| {
        let n = out * inputs;
        let w = format!("{stem}.weight");
        vec![
            tensor(&w, DType::U8, &[n / 2, 1]),
            tensor(&format!("{w}.absmax"), DType::U8, &[n / 64]),
            tensor(&format!("{w}.quant_map"), DType::F32, &[16]),
            tensor(&format!("{w}.nested_absmax"), DType::F32, &[n / 64 / 256]),
            tensor(&format!("{w}.nested_quant_map"), DType::F32, &[256]),
            tensor(&format!("{w}.quant_state.bitsandbytes__nf4"), DType::U8, &[150]),
        ]
    });
    assert_llama(&four, None, "bitsandbytes NF4");
    // Codes kept in BF16, as for FSDP.
    let wide = packed(LLAMA, |stem, out, inputs| {
        let w = format!("{stem}.weight");
        vec![
            tensor(&w, DType::BF16, &[out * inputs / 4, 1]),
            tensor(&format!("{w}.absmax"), DType::F32, &[out * inputs / 64]),
            tensor(&format!("{w}.quant_map"), DType::F32, &[16]),
            tensor(&format!("{w}.quant_state.bitsandbytes__fp4"), DType::U8, &[150]),
        ]
    });
    assert_llama(&wide, None, "bitsandbytes FP4");
    let eight = packed(LLAMA, |stem, out, inputs| {
        vec![
            tensor(&format!("{stem}.weight"), DType::I8, &[out, inputs]),
            tensor(&format!("{stem}.SCB"), DType::F32, &[out]),
            tensor(&format!("{stem}.weight_format"), DType::U8, &[]),
        ]
    });
    assert_llama(&eight, None, "bitsandbytes INT8");
}

#[test]
fn compressed_tensors() {
    for (bits, group) in [(4, 128), (4, 32), (8, 128)] {
        let list = packed(LLAMA, |stem, out, inputs| {
            vec![
                tensor(&format!("{stem}.weight_packed"), DType::I32, &[out, inputs * bits / 32]),
                tensor(&format!("{stem}.weight_scale"), DType::BF16, &[out, inputs / group]),
                tensor(&format!("{stem}.weight_shape"), DType::I64, &[2]),
            ]
        });
        let config = json!({"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized",
            "config_groups": {"group_0": {"weights": {"num_bits": bits, "group_size": group}}}}});
        assert_llama(&list, Some(&config), &format!("compressed-tensors {bits}-bit, group {group}"));
    }
    // Rows that end within a word: 100 columns of 4 bits in 13 words.
    let list = [
        tensor("a.weight_packed", DType::I32, &[10, 13]),
        tensor("a.weight_scale", DType::BF16, &[10, 5]),
        tensor("a.weight_shape", DType::I64, &[2]),
    ];
    let config =
        json!({"quantization_config": {"config_groups": {"g": {"weights": {"num_bits": 4, "group_size": 20}}}}});
    assert_eq!(count(&list, Some(&config)).tensors[0].shape, Some(vec![10, 100]));
    let nvfp4 = packed(LLAMA, |stem, out, inputs| {
        vec![
            tensor(&format!("{stem}.weight_packed"), DType::U8, &[out, inputs / 2]),
            tensor(&format!("{stem}.weight_scale"), DType::F8_E4M3, &[out, inputs / 16]),
            tensor(&format!("{stem}.weight_global_scale"), DType::F32, &[1]),
            tensor(&format!("{stem}.input_global_scale"), DType::F32, &[1]),
        ]
    });
    assert_llama(&nvfp4, None, "NVFP4, group 16");
}

#[test]
fn fp8_and_model_opt() {
    let fp8 = packed(LLAMA, |stem, out, inputs| {
        vec![
            tensor(&format!("{stem}.weight"), DType::F8_E4M3, &[out, inputs]),
            tensor(&format!("{stem}.weight_scale"), DType::F32, &[out, 1]),
            tensor(&format!("{stem}.input_scale"), DType::F32, &[1]),
        ]
    });
    assert_llama(&fp8, None, "FP8");
    let nvfp4 = packed(LLAMA, |stem, out, inputs| {
        vec![
            tensor(&format!("{stem}.weight"), DType::U8, &[out, inputs / 2]),
            tensor(&format!("{stem}.weight_scale"), DType::F8_E4M3, &[out, inputs / 16]),
            tensor(&format!("{stem}.weight_scale_2"), DType::F32, &[]),
            tensor(&format!("{stem}.input_scale"), DType::F32, &[]),
            tensor(&format!("{stem}.k_scale"), DType::F32, &[]),
        ]
    });
    assert_llama(&nvfp4, None, "NVFP4, group 16");
}

#[test]
fn mlx() {
    for (bits, group) in [(4, 64), (8, 64), (3, 64), (6, 64), (2, 64), (4, 32), (8, 128)] {
        let list = packed(LLAMA, |stem, out, inputs| {
            vec![
                tensor(&format!("{stem}.weight"), DType::U32, &[out, inputs * bits / 32]),
                tensor(&format!("{stem}.scales"), DType::F16, &[out, inputs / group]),
                tensor(&format!("{stem}.biases"), DType::F16, &[out, inputs / group]),
            ]
        });
        let config = json!({"quantization": {"bits": bits, "group_size": group}});
        assert_llama(&list, Some(&config), &format!("MLX {bits}-bit, group {group}"));
        if group == 64 {
            assert_llama(&list, None, &format!("MLX {bits}-bit, group 64"));
        }
    }
    let list = packed(LLAMA, |stem, out, inputs| {
        vec![
            tensor(&format!("{stem}.weight"), DType::U32, &[out, inputs / 8]),
            tensor(&format!("{stem}.scales"), DType::U8, &[out, inputs / 32]),
        ]
    });
    assert_llama(&list, None, "MLX MXFP4, group 32");
    // One module has settings of its own.
    let list = [
        tensor("model.embed_tokens.weight", DType::U32, &[1000, 128 * 8 / 32]),
        tensor("model.embed_tokens.scales", DType::F16, &[1000, 4]),
        tensor("model.embed_tokens.biases", DType::F16, &[1000, 4]),
    ];
    let config = json!({"quantization": {"bits": 4, "group_size": 64,
        "model.embed_tokens": {"bits": 8, "group_size": 32}}});
    assert_eq!(count(&list, Some(&config)).parameters(), 128_000);
}

#[test]
fn hqq_aqlm_quanto_eetq_bitnet() {
    let (out, inputs) = (512, 256);
    let hqq = |bits: u64, dtype: DType, rows: u64| {
        [
            tensor("a.W_q", dtype, &[rows, 64]),
            tensor("a.scale", DType::F16, &[out * inputs / 64, 1]),
            tensor("a.zero", DType::F16, &[out * inputs / 64, 1]),
            tensor("a.nbits", DType::I32, &[]),
            tensor("a.shape", DType::I32, &[2]),
            tensor(&format!("a.channel_wise_{bits}"), DType::BOOL, &[]),
        ]
    };
    for bits in [1, 2, 4, 8] {
        let packing = count(&hqq(bits, DType::U8, out * inputs / 64 * bits / 8), None);
        assert_eq!(packing.parameters(), out * inputs);
        assert_eq!(packing.schemes[0].0.to_string(), format!("HQQ {bits}-bit, group 64"));
    }
    // Three bits, ten to a word: 2048 rows in 205.
    let packing = count(&hqq(3, DType::I32, 205), None);
    assert_eq!((packing.parameters(), packing.schemes[0].0.bits), (out * inputs, 3));

    let aqlm = [
        tensor("a.codes", DType::I16, &[out, inputs / 8, 1]),
        tensor("a.codebooks", DType::F16, &[1, 65_536, 1, 8]),
        tensor("a.scales", DType::F16, &[out, 1, 1, 1]),
        tensor("a.bias", DType::F16, &[out]),
    ];
    let packing = count(&aqlm, None);
    assert_eq!(packing.parameters(), out * inputs + out);
    assert_eq!(packing.tensors[0].shape, Some(vec![out, inputs]));
    assert!(packing.tensors[1].side && packing.tensors[2].side && !packing.tensors[3].side);

    let quanto = [
        tensor("a.weight._data", DType::I8, &[out, inputs]),
        tensor("a.weight._scale", DType::F16, &[out, 1]),
        tensor("a.input_scale", DType::F16, &[]),
        tensor("b.weight._data._data", DType::U8, &[out / 2, inputs]),
        tensor("b.weight._scale", DType::F16, &[out, 2]),
        tensor("b.weight._shift", DType::F16, &[out, 2]),
    ];
    assert_eq!(count(&quanto, None).parameters(), 2 * out * inputs);
    let eetq = [tensor("a.qweight", DType::I8, &[inputs, out]), tensor("a.weight_scales", DType::F16, &[out])];
    assert_eq!(count(&eetq, None).parameters(), out * inputs);
    let bitnet = [tensor("a.weight", DType::U8, &[out / 4, inputs]), tensor("a.weight_scale", DType::BF16, &[1])];
    let packing = count(&bitnet, None);
    assert_eq!(packing.tensors[0].shape, Some(vec![out, inputs]));
}

/// gpt-oss as OpenAI releases it: experts in MXFP4, everything else in BF16.
#[test]
fn mxfp4_of_gpt_oss() {
    for (name, total) in [("real/gpt-oss-20b", 20_914_757_184), ("real/gpt-oss-120b", 116_829_156_672)] {
        let mut tensors = Vec::new();
        for t in real(name) {
            if t.shape.len() == 3 {
                // Stored transposed, in blocks of 32 along the input.
                let [experts, inputs, out] = t.shape[..] else { panic!() };
                tensors.push(tensor(&format!("{}_blocks", t.name), DType::U8, &[experts, out, inputs / 32, 16]));
                tensors.push(tensor(&format!("{}_scales", t.name), DType::U8, &[experts, out, inputs / 32]));
            } else {
                tensors.push(t);
            }
        }
        let packing = count(&tensors, None);
        assert_eq!(packing.parameters(), total);
        assert_eq!(packing.schemes[0].0.to_string(), "MXFP4, group 32");
    }
}

/// DeepSeek-V3 in BF16, in FP8 with a scale for each block of 128 × 128, and a shape of V4 with FP4 experts in I8.
#[test]
fn deepseek() {
    const TOTAL: u64 = 671_026_419_200;
    assert_eq!(count(&real("real/DeepSeek-V3"), None).parameters(), TOTAL);
    let mut scales = 0;
    let mut tensors = Vec::new();
    for mut t in real("real/DeepSeek-V3") {
        if t.name.contains("_proj") {
            let shape = [t.shape[0].div_ceil(128), t.shape[1].div_ceil(128)];
            scales += elements(&shape);
            t.dtype = DType::F8_E4M3;
            tensors.push(tensor(&format!("{}_scale_inv", t.name), DType::F32, &shape));
        }
        tensors.push(t);
    }
    let config = json!({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}});
    let packing = count(&tensors, Some(&config));
    assert_eq!(packing.parameters(), TOTAL);
    assert_eq!(packing.schemes[0].0.to_string(), "FP8, group 128");
    assert!(scales > 40_000_000);

    let v4 = [
        tensor("layers.0.ffn.experts.0.w1.weight", DType::I8, &[2048, 7168 / 2]),
        tensor("layers.0.ffn.experts.0.w1.scale", DType::F8_E8M0, &[2048, 7168 / 32]),
        tensor("layers.0.attn.wq_a.weight", DType::F8_E4M3, &[1536, 7168]),
        tensor("layers.0.attn.wq_a.scale", DType::F32, &[12, 56]),
    ];
    assert_eq!(count(&v4, None).parameters(), 2048 * 7168 + 1536 * 7168);
}

/// fracast's int8 file: 85,001 parameters, scales below the name of the weight.
#[test]
fn scales_below_the_weight() {
    let list = [
        tensor("core.in_proj.weight", DType::I8, &[64, 7]),
        tensor("core.in_proj.weight.scale", DType::F32, &[64, 1]),
        tensor("core.block.dw_weight", DType::I8, &[64, 1, 9]),
        tensor("core.block.dw_weight.scale", DType::F32, &[64, 1, 1]),
        tensor("core.norm.weight", DType::F32, &[64]),
    ];
    let packing = count(&list, None);
    assert_eq!(packing.parameters(), 64 * 7 + 64 * 9 + 64);
    assert_eq!(packing.schemes[0].0.to_string(), "INT8");
}

#[test]
fn onnx_quantised() {
    let list = [
        tensor("onnx::MatMul_367_scale", DType::F32, &[]),
        tensor("onnx::MatMul_367_zero_point", DType::I8, &[]),
        tensor("onnx::MatMul_367_quantized", DType::I8, &[128, 64]),
        tensor("model.proj.weight_Q4", DType::U8, &[64, 4, 16]),
        tensor("model.proj.weight_scales", DType::F32, &[256]),
    ];
    assert_eq!(count(&list, None).parameters(), 128 * 64 + 64 * 4 * 32);
}

/// A bare `scale` may be learned; scales beside packed weights are not.
#[test]
fn learned_scales_count() {
    let list = [
        tensor("router.scale", DType::BF16, &[64]),
        tensor("router.proj.weight", DType::BF16, &[8, 64]),
        tensor("norm.scale", DType::F32, &[64]),
        tensor("layer_scale.scales", DType::F32, &[64]),
        tensor("codebooks", DType::F32, &[4]),
        tensor("x.position_ids", DType::I64, &[512]),
        tensor("x.mask", DType::BOOL, &[512]),
    ];
    assert_eq!(count(&list, None).parameters(), 64 + 512 + 64 + 64 + 4);
}

/// What transformers stores is what counts, but for whole numbers and rotary tables.
#[test]
fn all_stored_elements_of_the_oracle() {
    for list in lists::all() {
        let Some(stored) = list.facts.get("stored") else { continue };
        let tensors: Vec<Tensor> =
            list.tensors.iter().map(|(name, dtype, shape)| tensor(name, *dtype, shape)).collect();
        let learned = |tensor: &&Tensor| tensor.dtype.class() == Class::Float && !tensor.name.ends_with("inv_freq");
        let tables: u64 = tensors.iter().filter(|tensor| !learned(tensor)).map(Tensor::elements).sum();
        // The large ones were listed without types: their whole numbers are known by name only.
        let packing = count(&tensors, None);
        assert_eq!(packing.parameters(), stored - tables, "{}", list.name);
        assert!(packing.schemes.is_empty(), "{}: {:?}", list.name, packing.schemes);
    }
}

/// llama.cpp's own test files carry scales beside their weights, and rotary tables.
#[test]
fn gguf_headers() {
    let total = |name: &str| count(&real(name), None).parameters();
    assert_eq!(total("gguf/deepseek-v3-671b-q4k"), 671_026_419_200);
    assert_eq!(total("gguf/SmolLM2-135M-Instruct.Q4_1"), 134_515_008);
    assert_eq!(total("gguf/deepseek-r1-distill-qwen-7b"), 7_615_616_512);
    assert_eq!(total("gguf/gpt-oss-20b-mxfp4"), 20_914_757_184);
    // Names say which elements are none; everything else counts.
    for list in lists::all().iter().filter(|list| list.name.starts_with("gguf/")) {
        let tensors: Vec<Tensor> =
            list.tensors.iter().map(|(name, dtype, shape)| tensor(name, *dtype, shape)).collect();
        let side = |tensor: &&Tensor| tensor.name.ends_with("scale") || tensor.name.starts_with("rope_f");
        let sides: u64 = tensors.iter().filter(side).map(Tensor::elements).sum();
        let all: u64 = tensors.iter().map(Tensor::elements).sum();
        assert_eq!(count(&tensors, None).parameters(), all - sides, "{}", list.name);
    }
}

fn view(name: &str, shape: &[u64], storage: u32, offset: u64, extent: u64) -> Tensor {
    Tensor { storage: Some(StorageView { storage, offset, extent }), ..tensor(name, DType::F32, shape) }
}

#[test]
fn shared_storages_count_once() {
    let tied = [
        view("lm_head.weight", &[100, 8], 0, 0, 800),
        view("embed.weight", &[100, 8], 0, 0, 800),
        view("other", &[5], 1, 0, 5),
    ];
    let packing = count(&tied, None);
    let counts: Vec<u64> = packing.tensors.iter().map(|tensor| tensor.parameters).collect();
    assert_eq!(counts, [800, 0, 5]);
    // A slice of the whole, a part that reaches beyond, and the whole's neighbour.
    let overlap = [view("a", &[100], 0, 50, 100), view("b", &[100], 0, 0, 100), view("c", &[10], 0, 20, 10)];
    assert_eq!(count(&overlap, None).parameters(), 150);
    // Columns of one matrix: views with gaps that fill each other's.
    let columns = [view("even", &[50, 2], 0, 0, 198), view("odd", &[50, 2], 0, 2, 198)];
    assert_eq!(count(&columns, None).parameters(), 200);
    let twice = [view("a", &[50, 2], 0, 0, 198), view("b", &[50, 2], 0, 0, 198)];
    assert_eq!(count(&twice, None).parameters(), 100);
    // An expanded view reaches fewer elements than it has.
    assert_eq!(count(&[view("a", &[1000, 8], 0, 0, 8)], None).parameters(), 8);
    // A larger buffer of which only a part is a tensor.
    assert_eq!(count(&[view("a", &[4, 4], 0, 100, 16)], None).parameters(), 16);
}

#[test]
fn storages_are_told_apart_by_file() {
    let tensors = [view("a", &[10], 0, 0, 10), view("b", &[10], 0, 0, 10)];
    let entries: Vec<Entry> =
        tensors.iter().enumerate().map(|(file, tensor)| Entry { tensor, file, buffer: false }).collect();
    assert_eq!(logical(&entries, None).parameters(), 20);
}

#[test]
fn hostile_shapes_saturate() {
    let huge = u64::MAX;
    for leaf in ["qweight", "weight", "weight_packed", "W_q", "codes", "a_blocks", "weight._data", "weight._data._data"]
    {
        for dtype in [DType::I32, DType::U8, DType::U32, DType::I8, DType::BF16] {
            let list = [
                tensor(&format!("m.{leaf}"), dtype, &[huge, huge]),
                tensor("m.scales", DType::F16, &[huge, 0]),
                tensor("m.scale", DType::U8, &[huge, huge]),
                tensor("m.weight_scale", DType::U8, &[huge, 1]),
                tensor("m.qzeros", DType::I32, &[0, huge]),
                tensor("m.g_idx", DType::I32, &[huge]),
                tensor("m.a_scales", DType::U8, &[]),
                tensor("m.codebooks", DType::F16, &[0, huge, huge, huge]),
                view("v", &[huge, huge], 0, huge, huge),
                view("w", &[huge], 0, 1, huge),
                view("x", &[], 0, huge, 0),
            ];
            count(&list, Some(&json!({"quantization_config": {"bits": 0, "group_size": 0}})));
            count(&list, None);
        }
    }
}

proptest! {
    #[test]
    fn anything_is_counted(
        list in prop::collection::vec(
            (
                "(m|n)\\.(weight|qweight|qzeros|scales|scale|biases|g_idx|weight_packed|weight_scale|W_q|codes|codebooks|SCB|w_blocks|w_scales|weight\\._data|weight\\.absmax)",
                0usize..8,
                prop::collection::vec(prop_oneof![0u64..40, Just(u64::MAX), Just(1u64 << 33)], 0..5),
                prop::option::of((0u32..3, any::<u64>(), any::<u64>())),
            ),
            0..12,
        ),
        bits in 0u64..40, group in 0u64..200,
    ) {
        let types = [DType::I32, DType::U8, DType::U32, DType::I8, DType::F16, DType::F8_E4M3, DType::BOOL, DType::F8_E8M0];
        let tensors: Vec<Tensor> = list
            .iter()
            .map(|(name, dtype, shape, storage)| Tensor {
                storage: storage.map(|(storage, offset, extent)| StorageView { storage, offset, extent }),
                ..tensor(name, types[*dtype], shape)
            })
            .collect();
        let packing = count(&tensors, Some(&json!({"quantization": {"bits": bits, "group_size": group}})));
        prop_assert_eq!(packing.tensors.len(), tensors.len());
        for logical in &packing.tensors {
            prop_assert!(!logical.side || logical.parameters == 0);
        }
    }
}
