#!/usr/bin/env python3
"""Makes headers of GGUFs that llama.cpp itself writes, one for each architecture below, of sizes that no model has.

    tools/make-gguf-headers/make.py LLAMA_CPP BUILD [ARCHITECTURE ...]

LLAMA_CPP is llama.cpp's source, BUILD where its static libraries were built (cmake -DBUILD_SHARED_LIBS=OFF, target
`llama`). Needs gguf 0.19 and a C++ compiler. Writes `<architecture>-other.gz` into
crates/anatomy/tests/data/gguf-headers and the lengths of the files into its bytes.json. The sizes differ from layer to
layer wherever an architecture allows it, so that a family that knew only numbers would fail.
"""
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parents[1] / "crates/anatomy/tests/data/gguf-headers"
VOCABULARY = 150

BASE = {
    "vocab_size": VOCABULARY,
    "context_length": 256,
    "embedding_length": 160,
    "block_count": 6,
    "feed_forward_length": 224,
    "attention.head_count": 6,
    "attention.head_count_kv": 3,
    "attention.key_length": 24,
    "attention.value_length": 40,
    "attention.layer_norm_epsilon": 1e-5,
    "attention.layer_norm_rms_epsilon": 1e-5,
}
STATE_SPACE = {
    "ssm.conv_kernel": 3,
    "ssm.inner_size": 320,
    "ssm.state_size": 16,
    "ssm.time_step_rank": 5,
    "ssm.group_count": 4,
}
EXPERTS = {
    "expert_count": 8,
    "expert_used_count": 3,
    "expert_feed_forward_length": 48,
    "expert_gating_func": 2,
    "expert_weights_scale": 1.5,
    "expert_weights_norm": True,
}
SHARED = {**EXPERTS, "expert_shared_count": 2}
# Layers with attention are those with key-value heads.
HYBRID = {"attention.head_count_kv": [3, 0, 0, 2, 0, 3]}
EVEN = {"attention.key_length": 32, "attention.value_length": 32}
# Four of the five values per group of keys, layers of attention at odd places, one layer of next-token prediction.
DELTA_NET = {
    **STATE_SPACE,
    "ssm.inner_size": 128,
    "ssm.time_step_rank": 8,
    "rope.dimension_sections": [4, 4, 4, 0],
    "attention.recurrent_layers": [1, 0, 1, 1, 0, 0],
    "nextn_predict_layers": 1,
}
LATENT = {
    **SHARED,
    "leading_dense_block_count": 2,
    "attention.head_count": 3,
    "attention.head_count_kv": [1, 0, 0, 1, 0, 1],
    "attention.kv_lora_rank": 48,
    "attention.q_lora_rank": 40,
    "attention.key_length": 56,
    "attention.value_length": 48,
    "attention.key_length_mla": 24,
    "attention.value_length_mla": 20,
    "rope.dimension_count": 8,
    "ssm.conv_kernel": 3,
    "kda.head_dim": 16,
    "kda.safe_gate": True,
    "kda.gate_lower_bound": -5.0,
}
INDEXER = {
    "attention.indexer.head_count": 4,
    "attention.indexer.key_length": 32,
    "attention.indexer.top_k": 64,
}
STREAMS = {
    "hyper_connection.count": 4,
    "hyper_connection.sinkhorn_iterations": 2,
    "hyper_connection.epsilon": 1e-6,
}
RECURRENT = {
    "embedding_length": 96,
    "attention.head_count": 0,
    "attention.head_count_kv": 0,
    "wkv.head_size": 16,
}
RANKS = {
    "attention.decay_lora_rank": 8,
    "attention.iclr_lora_rank": 12,
    "attention.value_residual_mix_lora_rank": 20,
    "attention.gate_lora_rank": 28,
}

ARCHITECTURES = {
    "falcon-h1": {**STATE_SPACE, "rope.dimension_count": 16},
    "jamba": {**STATE_SPACE, **HYBRID, **EXPERTS},
    "lfm2": {**HYBRID, **EVEN, "shortconv.l_cache": 4, "embedding_length_out": 48},
    "lfm2moe": {**HYBRID, **EVEN, **EXPERTS, "shortconv.l_cache": 4, "leading_dense_block_count": 2},
    "mamba2": STATE_SPACE,
    "nemotron_h": {
        **STATE_SPACE,
        "attention.head_count_kv": [0, 3, 0, 0, 2, 0],
        "feed_forward_length": [0, 0, 96, 0, 0, 224],
    },
    "nemotron_h_moe": {
        **STATE_SPACE,
        **SHARED,
        "expert_shared_feed_forward_length": 80,
        "attention.head_count_kv": [0, 3, 0, 0, 2, 0],
        "feed_forward_length": [0, 0, 48, 0, 0, 48],
    },
    "granitehybrid": {**STATE_SPACE, **HYBRID, **SHARED, "expert_shared_feed_forward_length": 80},
    "plamo2": {**STATE_SPACE, **HYBRID, "ssm.group_count": 0},
    "plamo3": {
        "feed_forward_length": [96, 128, 160, 192, 224, 256],
        "attention.head_count": [6, 4, 6, 2, 4, 6],
        "attention.head_count_kv": [3, 2, 1, 2, 4, 6],
        "attention.sliding_window": 32,
        "attention.key_length_swa": 16,
        "attention.value_length_swa": 32,
        "attention.sliding_window_pattern": [1, 0, 1, 1, 0, 1],
    },
    "qwen3next": {**DELTA_NET, **SHARED, "expert_shared_feed_forward_length": 80},
    "qwen35": DELTA_NET,
    "qwen35moe": {**DELTA_NET, **SHARED, "expert_shared_feed_forward_length": 80},
    "qwen4exp": {
        **{key: value for key, value in DELTA_NET.items() if key != "nextn_predict_layers"},
        **SHARED,
        **INDEXER,
        **STREAMS,
        "hyper_connection.count": 3,
        "hyper_connection.low_rank": 8,
        "expert_shared_feed_forward_length": 80,
        "ple.layers": [2],
        "ple.ngram_size": 3,
        "ple.heads_per_ngram": 2,
        "ple.conv_kernel": 4,
        "ple.eos_token_id": 0,
        "embedding_length_per_layer_input": 24,
        "ple.layer_multipliers": gguf.GGUFValueType.UINT64,
        "ple.head_offsets": gguf.GGUFValueType.UINT64,
        "ple.head_vocab_sizes": gguf.GGUFValueType.UINT64,
    },
    "kimi-linear": LATENT,
    "kimi-k3": {
        **LATENT,
        "expert_latent_length": 56,
        "attn_res.block_size": 2,
        "activation.situ_beta": 4.0,
        "activation.situ_linear_beta": 25.0,
    },
    "bailingmoe3": {**LATENT, "nextn_predict_layers": 1},
    "minimax-01": {**EXPERTS, "residual_scale": 3.5, "attention.recurrent_layers": [1, 0, 0, 1, 1, 0]},
    "hrm_text": {"block_count": 12, "hrm.layers_per_stack": 2, "hrm.h_cycles": 2, "hrm.l_cycles": 2},
    "glm5-next": {
        **LATENT,
        **INDEXER,
        **STREAMS,
        "rope.dimension_count": 0,
        "attention.indexer.kpool": 2,
        "attention.indexer.types": [1, 0, 1, 0, 1, 1],
    },
    "deepseek4": {
        **SHARED,
        **INDEXER,
        **STREAMS,
        "attention.head_count": 8,
        "attention.head_count_kv": 1,
        "attention.key_length": 32,
        "attention.value_length": 32,
        "rope.dimension_count": 16,
        "attention.q_lora_rank": 40,
        "attention.sliding_window": 32,
        "attention.output_group_count": 2,
        "attention.output_lora_rank": 24,
        "attention.compress_rope_freq_base": 160000.0,
        "attention.compress_ratios": [0, 4, 128, 4, 0, 128],
        "hash_layer_count": 2,
        "expert_gating_func": 4,
        "swiglu_clamp_exp": 10.0,
    },
    "rwkv6": {**RECURRENT, "time_mix_extra_dim": 12, "time_decay_extra_dim": 20},
    "rwkv6qwen2": {
        **RECURRENT,
        "time_mix_extra_dim": 12,
        "time_decay_extra_dim": 20,
        "attention.head_count_kv": 2,
        "token_shift_count": 1,
    },
    "rwkv7": {**RECURRENT, **RANKS},
    "arwkv7": {**RECURRENT, **RANKS, "token_shift_count": 1},
}
# Numbers that llama.cpp wants in 64 bits.
LONG = {"ple.layer_multipliers": [1, 3, 5], "ple.head_offsets": [0, 61, 128, 201], "ple.head_vocab_sizes": [61, 67, 73, 79]}


def write_metadata(path, architecture, values):
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in values.items():
        key = f"{architecture}.{name}"
        if isinstance(value, gguf.GGUFValueType):
            writer.add_key_value(key, LONG[name], gguf.GGUFValueType.ARRAY, sub_type=value)
        elif isinstance(value, list):
            writer.add_key_value(key, value, gguf.GGUFValueType.ARRAY, sub_type=gguf.GGUFValueType.UINT32)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    writer.add_tokenizer_model("test")
    writer.add_token_list([f"token {number}" for number in range(VOCABULARY)])
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def main(source, build, wanted):
    source, build = pathlib.Path(source), pathlib.Path(build)
    lengths = DATA / "bytes.json"
    known = json.loads(lengths.read_text())
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        program = folder / "write"
        libraries = ["src/libllama.a", *(f"ggml/src/lib{name}.a" for name in ["ggml", "ggml-cpu", "ggml-base"])]
        command = ["c++", "-std=c++17", HERE / "write.cpp", f"-I{source}/include", f"-I{source}/ggml/include", "-o", program]
        subprocess.run([*command, *(build / name for name in libraries), "-lpthread", "-ldl", "-lm", "-fopenmp"], check=True)
        for architecture in wanted or ARCHITECTURES:
            metadata, model = folder / "metadata.gguf", folder / "model.gguf"
            write_metadata(metadata, architecture, {**BASE, **ARCHITECTURES[architecture]})
            subprocess.run([program, metadata, model], check=True, stderr=subprocess.DEVNULL)
            head = model.read_bytes()[: gguf.GGUFReader(model).data_offset]
            name = f"{architecture}-other"
            (DATA / f"{name}.gz").write_bytes(gzip.compress(head, 9, mtime=0))
            known[name] = model.stat().st_size
    lengths.write_text(json.dumps(dict(sorted(known.items())), indent=1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
