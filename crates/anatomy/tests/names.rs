//! Roles of real tensor names, of all families at once, and of each naming world by example.

#![cfg(test)]

mod lists;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

use anatomy::dtype::DType;
use anatomy::names::{Part, Role, Stack, collapse, parse, parse_all};
use anatomy::tensor::elements;
use lists::List;
use proptest::prelude::*;

fn parts(list: &List) -> Vec<Part> {
    parse_all(list.tensors.iter().map(|(name, ..)| name.as_str()))
}

/// A name as it stands within its layer, without numbers and without what it ends in everywhere.
fn within_layer(name: &str) -> String {
    let words: Vec<&str> = name
        .split('.')
        .map(|word| if word.bytes().all(|byte| byte.is_ascii_digit()) { "#" } else { word })
        .filter(|word| !["weight", "bias", "scale", "input_scale"].contains(word))
        .collect();
    let layer =
        |pair: &&[&str]| ["layers", "layer", "h", "blk", "block", "blocks"].contains(&pair[0]) && pair[1] == "#";
    match words.windows(2).rposition(|pair| layer(&pair)) {
        Some(at) => words[at + 2..].join("."),
        None => format!("^{}", words.join(".")),
    }
}

/// What every name of the corpus is taken for. Read it in full when it changes.
#[test]
fn the_table_of_all_names() {
    let mut table: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for list in lists::all() {
        for ((name, ..), part) in list.tensors.iter().zip(parts(list)) {
            let table_of = if part.buffer { " (table)" } else { "" };
            let row = format!("{} {}{table_of}", part.role.as_str(), part.component);
            table.entry(row.trim_end().to_string()).or_default().insert(within_layer(name));
        }
    }
    let mut text = String::new();
    for (row, names) in table {
        writeln!(text, "{row}").unwrap();
        names.iter().for_each(|name| writeln!(text, "    {name}").unwrap());
    }
    insta::assert_snapshot!("names", text);
}

/// Per mille of the parameters that the grammar leaves without a role, for lists where there are any; `known` are
/// those that it names without having a role for them.
#[test]
fn share_of_other() {
    let mut text = String::new();
    for list in lists::all() {
        let (mut total, mut other, mut unknown) = (0, 0, 0);
        for ((_, _, shape), part) in list.tensors.iter().zip(parts(list)) {
            let count = elements(shape);
            total += count;
            other += if part.role == Role::Other { count } else { 0 };
            unknown += if part.role == Role::Other && part.component.is_empty() { count } else { 0 };
        }
        if other * 1000 >= total {
            let line = format!(
                "{}: {} known, {} unknown",
                list.name,
                (other - unknown) * 1000 / total,
                unknown * 1000 / total
            );
            writeln!(text, "{line}").unwrap();
        }
        let causal = !list.name.contains("__");
        assert!(!causal || unknown == 0, "{}: a causal model keeps unknown names", list.name);
    }
    insta::assert_snapshot!("share_of_other", text);
}

/// Layers and experts, counted from names, against the configuration.
#[test]
fn layers_and_experts_agree_with_the_configuration() {
    let mut checked = (0, 0);
    for list in lists::all() {
        let parts = parts(list);
        let main = parts.iter().filter(|part| matches!(part.stack, Stack::Main | Stack::NextToken));
        let layers = main.filter_map(|part| part.layer).max().map_or(0, |last| u64::from(last) + 1);
        let experts = parts.iter().filter(|part| part.stack == Stack::Main).filter_map(|part| part.expert).max();
        let causal = !list.name.contains("__");
        let facts = |key: &str| list.facts.get(key).copied().unwrap_or(0);
        // These stack their layers in several towers, share them, or count two sublayers as one.
        let odd =
            ["funnel", "hrm_text", "blt", "whisper-tiny", "prophetnet", "xmod", "albert", "moshi", "longcat_flash"];
        if causal && facts("layers") > 0 && !odd.iter().any(|odd| list.name.contains(odd)) {
            assert_eq!(layers, facts("layers"), "{}", list.name);
            checked.0 += 1;
        }
        if let Some(last) = experts
            && facts("experts") > 0
            && !list.name.contains("longcat_flash")
        {
            assert_eq!(u64::from(last) + 1, facts("experts"), "{}", list.name);
            checked.1 += 1;
        }
    }
    assert!(checked.0 > 250 && checked.1 > 30, "{checked:?}");
}

fn by_role(name: &str) -> BTreeMap<&'static str, u64> {
    let list = lists::all().iter().find(|list| list.name == name).unwrap();
    let mut roles = BTreeMap::new();
    for ((_, _, shape), part) in list.tensors.iter().zip(parts(list)) {
        *roles.entry(part.role.as_str()).or_default() += elements(shape);
    }
    roles
}

/// Worked out by hand from the published dimensions.
#[test]
fn parameters_by_role_of_known_models() {
    let llama = by_role("real/Llama-3.1-8B");
    assert_eq!(llama["embedding"], 128_256 * 4096);
    assert_eq!(llama["head"], 128_256 * 4096);
    assert_eq!(llama["attention"], 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096));
    assert_eq!(llama["feed_forward"], 32 * 3 * 14_336 * 4096);
    assert_eq!(llama["norm"], 65 * 4096);
    assert_eq!(llama.len(), 5);
    let deepseek = by_role("real/DeepSeek-V3");
    assert_eq!(deepseek["experts"], 58 * 256 * 3 * 2048 * 7168);
    assert_eq!(deepseek["shared_experts"], 58 * 3 * 2048 * 7168);
    assert_eq!(deepseek["router"], 58 * (256 * 7168 + 256));
    assert_eq!(deepseek["feed_forward"], 3 * 3 * 18_432 * 7168);
    assert!(!deepseek.contains_key("other"));
    let oss = by_role("real/gpt-oss-20b");
    assert_eq!(oss["experts"], 24 * 32 * (2880 * 5760 + 5760 + 2880 * 2880 + 2880));
    assert_eq!(oss["router"], 24 * 32 * 2881);
}

/// The same model in two naming worlds has the same split.
#[test]
fn gguf_and_hub_names_agree() {
    let roles = |name: &str, role: &str| by_role(name).get(role).copied().unwrap_or(0);
    for role in ["embedding", "attention", "feed_forward", "experts", "shared_experts", "router"] {
        // llama.cpp splits the latent up-projection, which keeps its size.
        let (hub, gguf) = (roles("real/DeepSeek-V3", role), roles("gguf/deepseek-v3-671b-q4k", role));
        assert_eq!(hub, gguf, "{role}");
    }
}

#[test]
fn every_naming_world() {
    use Role::*;
    let rows: &[(&str, Role, &str)] = &[
        // Original Llama and Mistral
        ("tok_embeddings.weight", Embedding, "tokens"),
        ("layers.0.attention.wq.weight", Attention, "query"),
        ("layers.0.feed_forward.w1.weight", FeedForward, "gate"),
        ("layers.0.feed_forward.w3.weight", FeedForward, "up"),
        ("layers.0.feed_forward.gate.weight", Router, "router"),
        ("layers.0.feed_forward.experts.7.w2.weight", Experts, "down"),
        ("layers.0.attention_norm.weight", Norm, "input_norm"),
        ("output.weight", Head, ""),
        ("rope.freqs", Other, ""),
        // GPT-2 in PyTorch, TensorFlow and ggml
        ("h.11.attn.c_attn.weight", Attention, "fused_qkv"),
        ("h.11.attn.bias", Attention, "causal_mask"),
        ("h.11.mlp.c_proj.weight", FeedForward, "down"),
        ("h.11.attn.c_proj.weight", Attention, "output"),
        ("model/h3/mlp/c_fc/w", FeedForward, "up"),
        ("model/wte", Embedding, "tokens"),
        ("bert/encoder/layer_4/attention/self/query/kernel:0", Attention, "query"),
        ("tf_bert_model/bert/encoder/layer_._4/output/dense/kernel:0", FeedForward, "down"),
        // NeoX, Bloom, Falcon, MPT, GPT-J, OPT
        ("gpt_neox.layers.1.attention.query_key_value.weight", Attention, "fused_qkv"),
        ("gpt_neox.layers.1.attention.bias", Attention, "causal_mask"),
        ("gpt_neox.layers.1.mlp.dense_4h_to_h.weight", FeedForward, "down"),
        ("transformer.h.1.self_attention.dense.weight", Attention, "output"),
        ("transformer.blocks.1.attn.Wqkv.weight", Attention, "fused_qkv"),
        ("transformer.blocks.1.ffn.up_proj.weight", FeedForward, "up"),
        ("transformer.h.1.mlp.fc_in.weight", FeedForward, "up"),
        ("model.decoder.layers.1.fc2.weight", FeedForward, "down"),
        ("model.decoder.layers.1.self_attn_layer_norm.weight", Norm, "attention_norm"),
        // Megatron, old and new
        ("language_model.transformer.layers.2.self_attention.query_key_value.weight", Attention, "fused_qkv"),
        ("language_model.embedding.word_embeddings.weight", Embedding, "tokens"),
        ("decoder.layers.2.mlp.linear_fc1.weight", FeedForward, "up"),
        ("decoder.layers.2.mlp.linear_fc1.layer_norm_weight", Norm, ""),
        ("decoder.layers.2.self_attention.linear_qkv.weight", Attention, "fused_qkv"),
        ("decoder.layers.2.mlp.experts.local_experts.3.linear_fc2.weight", Experts, "down"),
        ("embedding.word_embeddings.weight", Embedding, "tokens"),
        // LitGPT, T5X
        ("transformer.h.2.mlp.fc_2.weight", FeedForward, "up"),
        ("decoder/layers_2/self_attention/query/kernel", Attention, "query"),
        // The first Qwen gates with w2
        ("transformer.h.3.mlp.w2.weight", FeedForward, "gate"),
        ("transformer.h.3.mlp.c_proj.weight", FeedForward, "down"),
        // GGUF
        ("blk.7.attn_q.weight", Attention, "query"),
        ("blk.7.ffn_gate.weight", FeedForward, "gate"),
        ("blk.7.ffn_gate.3.weight", Experts, "gate"),
        ("blk.7.ffn_gate_inp.weight", Router, "router"),
        ("blk.7.ffn_gate_inp_shexp.weight", SharedExperts, "shared_gate"),
        ("blk.7.exp_probs_b.bias", Router, "correction_bias"),
        ("blk.7.ssm_conv1d.weight", StateSpace, "convolution"),
        ("blk.7.time_mix_receptance.weight", StateSpace, "receptance"),
        ("blk.7.channel_mix_key.weight", FeedForward, "up"),
        ("enc.blk.7.attn_rel_b.weight", Attention, "relative_position"),
        ("dec.blk.7.cross_attn_q.weight", Attention, "cross_query"),
        ("v.blk.7.attn_q.weight", Vision, "query"),
        ("v.patch_embd.weight", Vision, ""),
        ("a.blk.7.ffn_up.weight", Audio, "up"),
        ("mm.0.weight", Projector, ""),
        ("blk.61.nextn.eh_proj.weight", Other, "next_token_projection"),
        ("blk.61.nextn.shared_head_norm.weight", Norm, ""),
        ("blk.61.nextn.shared_head_head.weight", Head, ""),
        ("rope_freqs.weight", Attention, "rotary_frequencies"),
        ("blk.0.attn_q.weight.lora_a", Adapter, "query"),
        // Recurrent models
        ("backbone.layers.0.mixer.in_proj.weight", StateSpace, "input"),
        ("backbone.layers.0.mixer.A_log", StateSpace, "decay"),
        ("model.layers.0.linear_attn.in_proj_qkvz.weight", StateSpace, "input"),
        ("model.layers.0.linear_attn.norm.weight", Norm, "recurrent_norm"),
        ("model.layers.0.conv.in_proj.weight", StateSpace, "input"),
        ("blocks.0.att.key.weight", StateSpace, "key"),
        ("blocks.0.att.time_decay", StateSpace, "decay"),
        ("blocks.0.ffn.value.weight", FeedForward, "down"),
        ("blocks.0.ln0.weight", Norm, "embedding_norm"),
        ("emb.weight", Embedding, "tokens"),
        ("head.weight", Head, ""),
        // Encoders and encoder-decoders
        ("encoder.layer.0.intermediate.dense.weight", FeedForward, "up"),
        ("encoder.layer.0.attention.output.dense.weight", Attention, "output"),
        ("encoder.layer.0.attention.output.LayerNorm.weight", Norm, ""),
        ("embeddings.LayerNorm.weight", Norm, "embedding_norm"),
        ("embeddings.position_ids", Embedding, "position_ids"),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", Attention, "query"),
        ("decoder.block.0.layer.1.EncDecAttention.k.weight", Attention, "cross_key"),
        ("decoder.block.0.layer.2.DenseReluDense.wi_0.weight", FeedForward, "gate"),
        ("model.encoder.conv1.weight", Audio, "convolution"),
        ("decoder.blocks.0.cross_attn.query.weight", Attention, "cross_query"),
        // Towers and connectors
        ("vision_tower.vision_model.encoder.layers.3.self_attn.q_proj.weight", Vision, "query"),
        ("visual.blocks.3.attn.qkv.weight", Vision, "fused_qkv"),
        ("visual.merger.mlp.0.weight", Projector, ""),
        ("multi_modal_projector.linear_1.weight", Projector, ""),
        ("model.mm_projector.2.weight", Projector, ""),
        ("audio_tower.layers.3.fc1.weight", Audio, "up"),
        ("mlp1.1.weight", Projector, ""),
        // Adapters
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", Adapter, "query"),
        ("base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector", Adapter, "up"),
        ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", Adapter, ""),
        ("lora_te_text_model_encoder_layers_3_mlp_fc1.alpha", Adapter, ""),
        ("unet.down_blocks.0.attentions.0.to_q.lora.down.weight", Other, ""),
        // Next-token prediction
        ("mtp.layers.0.mlp.experts.5.gate_proj.weight", Experts, "gate"),
        ("model.layers.61.shared_head.head.weight", Head, ""),
        // Experts, and the two meanings of `gate`
        ("model.layers.0.mlp.gate.weight", Router, "router"),
        ("model.layers.0.mlp.gate_proj.weight", FeedForward, "gate"),
        ("model.layers.0.mlp.shared_expert_gate.weight", SharedExperts, "shared_gate"),
        ("model.layers.0.mlp.shared_experts.down_proj.weight", SharedExperts, "down"),
        ("model.layers.0.mlp.experts.gate_up_proj_blocks", Experts, "fused_gate_up"),
        ("model.layers.0.mlp.router.bias", Router, "router"),
        ("model.layers.0.self_attn.gate_proj.weight", Attention, "gate"),
        // Training, other models, nothing
        ("optimizer.state.0.exp_avg", Other, ""),
        ("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight", Other, ""),
        ("down_blocks.0.resnets.0.conv1.weight", Other, ""),
        ("conv1.weight", Other, ""),
        ("fc1.weight", Other, ""),
        ("fc.weight", Other, ""),
        ("a", Other, ""),
        ("v", Other, ""),
        ("features.0.weight", Other, ""),
        ("", Other, ""),
        ("...", Other, ""),
    ];
    for (name, role, component) in rows {
        let part = parse(name);
        assert_eq!((part.role, part.component), (*role, *component), "{name}");
    }
}

#[test]
fn places_and_numbers() {
    let part = parse("model.layers.60.mlp.experts.255.down_proj.weight");
    assert_eq!((part.layer, part.expert, part.stack), (Some(60), Some(255), Stack::Main));
    assert_eq!(parse("blk.3.ffn_down.7.weight").expert, Some(7));
    assert_eq!(parse("decoder.block.5.layer.2.DenseReluDense.wo.weight").layer, Some(5));
    assert_eq!(parse("model/h11/ln_1/g").layer, Some(11));
    assert_eq!(parse("lora_te_text_model_encoder_layers_3_mlp_fc1.lora_up.weight").layer, Some(3));
    assert_eq!(parse("some.layers.4.thing").layer, Some(4));
    assert_eq!(parse("v.blk.2.ffn_up.weight").stack, Stack::Vision);
    assert_eq!(parse("enc.blk.2.ffn_up.weight").stack, Stack::Encoder);
    assert_eq!(parse("mtp.layers.0.input_layernorm.weight").stack, Stack::NextToken);
    assert_eq!(parse("optimizer.state.exp_avg.decoder.layers.1.mlp.linear_fc1.weight").stack, Stack::Training);
    assert_eq!(parse("layers.99999999999.attention.wq.weight").layer, None);
}

#[test]
fn neighbours_settle_what_one_name_leaves_open() {
    let kimi = parse_all([
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.A_log",
        "model.layers.0.self_attn.o_norm.weight",
        "model.layers.1.self_attn.q_proj.weight",
    ]);
    let roles: Vec<Role> = kimi.iter().map(|part| part.role).collect();
    assert_eq!(roles, [Role::StateSpace, Role::StateSpace, Role::Norm, Role::Attention]);

    let gguf =
        parse_all(["blk.0.attn_qkv.weight", "blk.0.ssm_beta.weight", "blk.3.attn_q.weight", "blk.3.ffn_up.weight"]);
    let roles: Vec<Role> = gguf.iter().map(|part| part.role).collect();
    assert_eq!(roles, [Role::StateSpace, Role::StateSpace, Role::Attention, Role::FeedForward]);

    // Falcon-H1 has both in each layer.
    let both = parse_all(["blk.0.attn_q.weight", "blk.0.ssm_in.weight"]);
    assert_eq!(both[0].role, Role::Attention);

    let deepseek = parse_all([
        "model.layers.60.mlp.gate.weight",
        "model.layers.61.mlp.gate.weight",
        "model.layers.61.eh_proj.weight",
    ]);
    let stacks: Vec<Stack> = deepseek.iter().map(|part| part.stack).collect();
    assert_eq!(stacks, [Stack::Main, Stack::NextToken, Stack::NextToken]);

    let bert = parse_all(["bert.encoder.layer.0.output.dense.weight"]);
    assert_eq!(bert[0].stack, Stack::Main);
    let bart = parse_all(["model.encoder.layers.0.fc1.weight", "model.decoder.layers.0.fc1.weight"]);
    assert_eq!((bart[0].stack, bart[1].stack), (Stack::Encoder, Stack::Main));
}

fn rows(names: &[&str]) -> Vec<(String, usize)> {
    let tensors: Vec<(&str, DType, &[u64])> = names.iter().map(|name| (*name, DType::F32, &[4u64, 4][..])).collect();
    collapse(&tensors).into_iter().map(|row| (row.pattern, row.count)).collect()
}

#[test]
fn collapsed_lists() {
    let row = |pattern: &str, count| (pattern.to_string(), count);
    assert_eq!(rows(&["a.0.w", "a.1.w", "a.2.w", "b"]), [row("a.{0..2}.w", 3), row("b", 1)]);
    assert_eq!(rows(&["a.0.w", "a.2.w", "a.3.w", "a.4.w"]), [row("a.{0,2..4}.w", 4)]);
    assert_eq!(rows(&["a.7.w"]), [row("a.7.w", 1)]);
    // A product of layers and experts, but for one layer that has fewer.
    let mut names: Vec<String> = Vec::new();
    for layer in [0, 1, 2, 3] {
        for expert in 0..if layer == 1 { 2 } else { 4 } {
            names.push(format!("l.{layer}.e.{expert}.w"));
        }
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(rows(&names), [row("l.{0,2,3}.e.{0..3}.w", 12), row("l.1.e.{0,1}.w", 2)]);
    // Numbers that are part of a word stay, as do those that would be written otherwise.
    assert_eq!(rows(&["h.0.ln_1", "h.0.ln_2", "h.0.fc1"]), [row("h.0.ln_1", 1), row("h.0.ln_2", 1), row("h.0.fc1", 1)]);
    assert_eq!(rows(&["a.00.w", "a.01.w"]), [row("a.00.w", 1), row("a.01.w", 1)]);
    assert_eq!(rows(&["x_blocks_0_to_q", "x_blocks_1_to_q"]), [row("x_blocks_{0,1}_to_q", 2)]);
    assert_eq!(rows(&["a\0b.1", "a\0b.2"]), [row("a\0b.1", 1), row("a\0b.2", 1)]);
}

#[test]
fn deepseek_collapses_to_its_rows() {
    let list = lists::all().iter().find(|list| list.name == "real/DeepSeek-V3").unwrap();
    let tensors: Vec<(&str, DType, &[u64])> =
        list.tensors.iter().map(|(name, dtype, shape)| (name.as_str(), *dtype, shape.as_slice())).collect();
    let text: String = collapse(&tensors)
        .into_iter()
        .map(|row| format!("{} {} × {:?}\n", row.pattern, row.count, row.shape))
        .collect();
    insta::assert_snapshot!("deepseek_tree", text);
}

/// An hour's work of a hostile author: very many words, numbers, patterns, and all of them in one list.
#[test]
fn hostile_names_take_little_time() {
    let start = std::time::Instant::now();
    let long = "layers.0.".repeat(200_000);
    parse(&long);
    parse(&"a".repeat(1 << 20));
    parse_all((0..20_000).map(|_| "x").chain([long.as_str()]));
    let names: Vec<String> =
        (0..50_000u64).map(|i| format!("a.{}.b.{}.c.{}.d.{}.e.{}", i % 7, i % 11, i, i % 3, i)).collect();
    let tensors: Vec<(&str, DType, &[u64])> = names.iter().map(|name| (name.as_str(), DType::F32, &[][..])).collect();
    assert_eq!(collapse(&tensors).iter().map(|row| row.count).sum::<usize>(), 50_000);
    collapse(&[(long.as_str(), DType::F32, &[])]);
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

proptest! {
    #[test]
    fn any_name_is_read(name in "\\PC{0,60}", other in "[a-z0-9_./#:]{0,60}") {
        parse(&name);
        parse(&other);
        parse_all([name.as_str(), other.as_str(), "model.layers.0.self_attn.A_log"]);
    }

    /// Rows stand for exactly their tensors, and single reading agrees with the number of names.
    #[test]
    fn rows_expand_to_what_they_came_from(
        names in prop::collection::vec("(a|b|c_1)(\\.(0|1|2|3|11|x|07)){0,4}(_1_z)?", 0..60)
    ) {
        let tensors: Vec<(&str, DType, &[u64])> = names.iter().map(|name| (name.as_str(), DType::F32, &[][..])).collect();
        let mut expanded: HashMap<String, usize> = HashMap::new();
        let mut total = 0;
        for row in collapse(&tensors) {
            total += row.count;
            let mut count = 0;
            lists::expand(&row.pattern, &mut |name| { count += 1; *expanded.entry(name).or_default() += 1; });
            prop_assert!(count <= row.count);
        }
        prop_assert_eq!(total, names.len());
        for name in &names {
            prop_assert!(expanded.contains_key(name));
        }
        let distinct: BTreeSet<&String> = names.iter().collect();
        for name in expanded.keys() {
            prop_assert!(distinct.contains(name), "{} was not there", name);
        }
        prop_assert_eq!(parse_all(names.iter().map(String::as_str)).len(), names.len());
    }
}
