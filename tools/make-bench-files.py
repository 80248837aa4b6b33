#!/usr/bin/env python3
"""Makes the files that benches/run.py measures: true headers in front of sparse weights, so that 16 GB take some MB of
disk. Needs nothing but Python.

    tools/make-bench-files.py OUT
"""

import json
import struct
import sys
from pathlib import Path


def sparse(path, head, length):
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(length)
    print(f"{path}: header {len(head):,} of {length:,} bytes")


def safetensors(path, tensors):
    """`tensors`: name, shape; all BF16."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors:
        size = 2
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = struct.pack("<Q", len(text)) + text
    sparse(path, head, len(head) + at)
    return at


def llama_8b():
    yield "model.embed_tokens.weight", [128256, 4096]
    for layer in range(32):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", [4096]
        for name, shape in dict(down=[4096, 14336], gate=[14336, 4096], up=[14336, 4096]).items():
            yield f"{prefix}mlp.{name}_proj.weight", shape
        yield prefix + "post_attention_layernorm.weight", [4096]
        for name, rows in dict(k=1024, o=4096, q=4096, v=1024).items():
            yield f"{prefix}self_attn.{name}_proj.weight", [rows, 4096]
    yield "model.norm.weight", [4096]
    yield "lm_head.weight", [128256, 4096]


def experts(layers, count, hidden, inner):
    """A mixture of experts, each matrix a tensor of its own, as hubs hold them."""
    yield "model.embed_tokens.weight", [163840, hidden]
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", [hidden]
        for expert in range(count):
            for name, shape in dict(down=[hidden, inner], gate=[inner, hidden], up=[inner, hidden]).items():
                yield f"{prefix}mlp.experts.{expert}.{name}_proj.weight", shape
        yield prefix + "mlp.gate.weight", [count, hidden]
        yield prefix + "post_attention_layernorm.weight", [hidden]
        yield prefix + "self_attn.kv_a_layernorm.weight", [512]
        yield prefix + "self_attn.kv_a_proj_with_mqa.weight", [576, hidden]
        yield prefix + "self_attn.kv_b_proj.weight", [16384, 512]
        yield prefix + "self_attn.o_proj.weight", [hidden, 8192]
        yield prefix + "self_attn.q_a_proj.weight", [1536, hidden]
        yield prefix + "self_attn.q_b_proj.weight", [12288, 1536]
    yield "model.norm.weight", [hidden]
    yield "lm_head.weight", [163840, hidden]


def trillion(folder):
    """61 shards, one a layer, with their index: 70 thousand tensors, a trillion parameters."""
    folder.mkdir(exist_ok=True)
    tensors, weight_map, total = list(experts(61, 384, 7168, 2048)), {}, 0
    shards = [[] for _ in range(61)]
    for name, shape in tensors:
        parts = name.split(".")
        layer = int(parts[2]) if parts[1] == "layers" else (0 if "embed" in name else 60)
        shards[layer].append((name, shape))
    for number, part in enumerate(shards, 1):
        shard = f"model-{number:05}-of-00061.safetensors"
        total += safetensors(folder / shard, part)
        weight_map.update((name, shard) for name, _ in part)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    print(f"{folder}: {len(weight_map):,} tensors, {total // 2:,} parameters")


def gguf(path):
    """Llama 8B in F16 with a vocabulary of 150 thousand tokens and 280 thousand merges."""

    def text(value):
        return struct.pack("<Q", len(value)) + value

    def texts(values):
        return 9, struct.pack("<IQ", 8, len(values)) + b"".join(map(text, values))

    tokens = [f"Ġtoken{index:06}".encode() for index in range(150_000)]
    merges = [f"Ġto{index % 999} ken{index}".encode() for index in range(280_000)]
    entries = {
        "general.architecture": (8, text(b"llama")),
        "general.file_type": (4, struct.pack("<I", 1)),
        "llama.block_count": (4, struct.pack("<I", 32)),
        "llama.context_length": (4, struct.pack("<I", 131072)),
        "llama.embedding_length": (4, struct.pack("<I", 4096)),
        "llama.feed_forward_length": (4, struct.pack("<I", 14336)),
        "llama.attention.head_count": (4, struct.pack("<I", 32)),
        "llama.attention.head_count_kv": (4, struct.pack("<I", 8)),
        "tokenizer.ggml.model": (8, text(b"gpt2")),
        "tokenizer.ggml.tokens": texts(tokens),
        "tokenizer.ggml.token_type": (9, struct.pack("<IQ", 5, len(tokens)) + struct.pack("<i", 1) * len(tokens)),
        "tokenizer.ggml.merges": texts(merges),
    }
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
             "model.layers": "blk", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
             "mlp.down_proj": "ffn_down", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "self_attn.k_proj": "attn_k", "self_attn.o_proj": "attn_output", "self_attn.q_proj": "attn_q",
             "self_attn.v_proj": "attn_v"}
    table, at, count = b"", 0, 0
    for name, shape in llama_8b():
        for long, short in names.items():
            name = name.replace(long, short)
        # Norms are F32 there.
        kind, width = (0, 4) if len(shape) == 1 else (1, 2)
        shape = [150_000 if dimension == 128256 else dimension for dimension in shape]
        size = width
        for dimension in shape:
            size *= dimension
        table += text(name.encode())
        table += struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, at)
        at += size + -size % 32
        count += 1
    head = b"GGUF" + struct.pack("<IQQ", 3, count, len(entries))
    head += b"".join(text(key.encode()) + struct.pack("<I", kind) + payload for key, (kind, payload) in entries.items())
    head += table
    head += b"\0" * (-len(head) % 32)
    sparse(path, head, len(head) + at)


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    gguf(out / "llama.gguf")
    safetensors(out / "llama.safetensors", llama_8b())
    safetensors(out / "experts.safetensors", list(experts(82, 380, 512, 128)))
    trillion(out / "trillion")


main()
