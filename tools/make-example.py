#!/usr/bin/env python3
"""Makes examples/tiny-llama and examples/tiny-llama.gguf: a whole Llama-style model in 170 KB, with every file that a
real one has. Needs nothing but Python; the same files come out each time. Its weights are random, so it talks nonsense.

    tools/make-example.py [OUT]
"""

import json
import math
import random
import re
import struct
import sys
from collections import Counter
from pathlib import Path

HIDDEN, LAYERS, HEADS, KV_HEADS, FEED_FORWARD = 32, 3, 8, 2, 96
HEAD_DIM = HIDDEN // HEADS
VOCAB, CONTEXT, THETA, EPSILON = 384, 131072, 500000.0, 1e-5
SCALING = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|pad|>"]
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# What the merges are learnt from.
TEXT = """
The anatomy of a language model is the arrangement of its numbers. There is an embedding that gives each token a row,
then layer upon layer of attention and of feed-forward, and a head that turns the last row into the next token. The
weights of the attention are queries, keys, values and outputs; the weights of the feed-forward are gate, up and down.
Norms stand between them, and they are small. When the model reads a text, the tokens of the text become rows, the rows
are mixed by the attention, and what was mixed is changed by the feed-forward. Nothing else is in the file: the rest of
the file says what the numbers are, and where they stand. The reader of the file opens it, reads the header, and knows
the shape of the model before one weight was loaded. That is what this example is for: it is small, it is whole, and
there is nothing in it that should not be there. Hello, world! What is the answer? The answer is in the weights.
"""


def byte_letters():
    """GPT-2's table: each byte as a printable character."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in kept}
    others = (byte for byte in range(256) if byte not in table)
    table.update({byte: chr(256 + index) for index, byte in enumerate(others)})
    return table


def train():
    """Byte-level BPE: tokens in the order of their ids, and merges."""
    letters = byte_letters()
    words = Counter(re.findall(r" ?[A-Za-z]+| ?[^\sA-Za-z]+|\s+", TEXT))
    words = {tuple(letters[byte] for byte in word.encode()): count for word, count in words.items()}
    tokens = [letters[byte] for byte in sorted(letters, key=lambda byte: ord(letters[byte]))]
    merges = []
    while len(tokens) < VOCAB - len(SPECIAL):
        pairs = Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merged = {}
        for word, count in words.items():
            out = []
            for part in word:
                out.append(part)
                if out[-2:] == [left, right]:
                    out[-2:] = [left + right]
            merged[tuple(out)] = merged.get(tuple(out), 0) + count
        words = merged
        merges.append((left, right))
        tokens.append(left + right)
    return tokens + SPECIAL, merges


def weights():
    """Names, shapes and numbers, in the order of a saved checkpoint."""
    source = random.Random(20231204)

    def gauss(rows, columns, std):
        return [rows, columns], [source.gauss(0, std) for _ in range(rows * columns)]

    def norm():
        return [HIDDEN], [1 + source.gauss(0, 0.1) for _ in range(HIDDEN)]

    # Matrices that write into the residual stream are smaller the more layers there are.
    into, out = HIDDEN**-0.5, HIDDEN**-0.5 / math.sqrt(2 * LAYERS)
    tensors = {"model.embed_tokens.weight": gauss(VOCAB, HIDDEN, 0.02)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        tensors[prefix + "input_layernorm.weight"] = norm()
        tensors[prefix + "mlp.down_proj.weight"] = gauss(HIDDEN, FEED_FORWARD, FEED_FORWARD**-0.5 / math.sqrt(2 * LAYERS))
        tensors[prefix + "mlp.gate_proj.weight"] = gauss(FEED_FORWARD, HIDDEN, into)
        tensors[prefix + "mlp.up_proj.weight"] = gauss(FEED_FORWARD, HIDDEN, into)
        tensors[prefix + "post_attention_layernorm.weight"] = norm()
        tensors[prefix + "self_attn.k_proj.weight"] = gauss(KV_HEADS * HEAD_DIM, HIDDEN, into)
        tensors[prefix + "self_attn.o_proj.weight"] = gauss(HIDDEN, HIDDEN, out)
        tensors[prefix + "self_attn.q_proj.weight"] = gauss(HIDDEN, HIDDEN, into)
        tensors[prefix + "self_attn.v_proj.weight"] = gauss(KV_HEADS * HEAD_DIM, HIDDEN, into)
    tensors["model.norm.weight"] = norm()
    return tensors


def bf16(number):
    bits = struct.unpack("<I", struct.pack("<f", number))[0]
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def rounded(number):
    return struct.unpack("<f", struct.pack("<I", bf16(number) << 16))[0]


def safetensors(tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (shape, numbers) in tensors.items():
        part = struct.pack(f"<{len(numbers)}H", *map(bf16, numbers))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def q8_0(numbers):
    out = b""
    for at in range(0, len(numbers), 32):
        block = numbers[at : at + 32]
        scale = max(map(abs, block)) / 127
        # Away from zero at one half, as C's roundf does; the scale is divided by before it is rounded to 16 bits.
        quants = [int(math.copysign(math.floor(abs(number / scale) + 0.5), number)) if scale else 0 for number in block]
        out += struct.pack("<e32b", scale, *quants)
    return out


def interleave(shape, numbers, heads):
    """Rows in the order of llama.cpp's rotary embedding: pairs side by side, not half a head apart."""
    rows, columns = shape
    half = rows // heads // 2
    order = [head * 2 * half + part * half + index for head in range(heads) for index in range(half) for part in (0, 1)]
    return [number for row in order for number in numbers[row * columns : (row + 1) * columns]]


def rope_factors():
    old, low, high = (SCALING[key] for key in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor"))
    factors = []
    for index in range(0, HEAD_DIM, 2):
        length = 2 * math.pi * THETA ** (index / HEAD_DIM)
        smooth = (old / length - low) / (high - low)
        if length < old / high:
            factors.append(1.0)
        elif length > old / low:
            factors.append(SCALING["factor"])
        else:
            factors.append(1 / ((1 - smooth) / SCALING["factor"] + smooth))
    return factors


def gguf(tensors, tokens, merges):
    def text(value):
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    def u32(value):
        return 4, struct.pack("<I", value)

    def f32(value):
        return 6, struct.pack("<f", value)

    def string(value):
        return 8, text(value)

    def texts(values):
        return 9, struct.pack("<IQ", 8, len(values)) + b"".join(map(text, values))

    entries = {
        "general.architecture": string("llama"),
        "general.type": string("model"),
        "general.name": string("Tiny Llama"),
        "general.license": string("mit"),
        "general.file_type": u32(7),
        "general.quantization_version": u32(2),
        "llama.block_count": u32(LAYERS),
        "llama.context_length": u32(CONTEXT),
        "llama.embedding_length": u32(HIDDEN),
        "llama.feed_forward_length": u32(FEED_FORWARD),
        "llama.attention.head_count": u32(HEADS),
        "llama.attention.head_count_kv": u32(KV_HEADS),
        "llama.attention.layer_norm_rms_epsilon": f32(EPSILON),
        "llama.rope.freq_base": f32(THETA),
        "llama.rope.dimension_count": u32(HEAD_DIM),
        "llama.vocab_size": u32(VOCAB),
        "tokenizer.ggml.model": string("gpt2"),
        "tokenizer.ggml.pre": string("llama-bpe"),
        "tokenizer.ggml.tokens": texts(tokens),
        "tokenizer.ggml.token_type": (
            9,
            struct.pack(f"<IQ{len(tokens)}i", 5, len(tokens), *(3 if token in SPECIAL else 1 for token in tokens)),
        ),
        "tokenizer.ggml.merges": texts([f"{left} {right}" for left, right in merges]),
        "tokenizer.ggml.bos_token_id": u32(tokens.index("<|begin_of_text|>")),
        "tokenizer.ggml.eos_token_id": u32(tokens.index("<|eot_id|>")),
        "tokenizer.ggml.padding_token_id": u32(tokens.index("<|pad|>")),
        "tokenizer.ggml.add_bos_token": (7, b"\1"),
        "tokenizer.chat_template": string(TEMPLATE),
    }
    names = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "mlp.down_proj": "ffn_down",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "self_attn.k_proj": "attn_k",
        "self_attn.o_proj": "attn_output",
        "self_attn.q_proj": "attn_q",
        "self_attn.v_proj": "attn_v",
    }
    rows = [("rope_freqs.weight", [HEAD_DIM // 2], 0, struct.pack(f"<{HEAD_DIM // 2}f", *rope_factors()))]
    for name, (shape, numbers) in tensors.items():
        numbers = [rounded(number) for number in numbers]
        if name.endswith("q_proj.weight"):
            numbers = interleave(shape, numbers, HEADS)
        elif name.endswith("k_proj.weight"):
            numbers = interleave(shape, numbers, KV_HEADS)
        name = name.replace("model.embed_tokens", "token_embd").replace("model.norm", "output_norm")
        name = name.replace("model.layers.", "blk.")
        for long, short in names.items():
            name = name.replace(f".{long}.", f".{short}.")
        if len(shape) == 1:
            rows.append((name, shape, 0, struct.pack(f"<{len(numbers)}f", *numbers)))
        else:
            rows.append((name, shape, 8, q8_0(numbers)))

    out = b"GGUF" + struct.pack("<IQQ", 3, len(rows), len(entries))
    for key, (kind, payload) in entries.items():
        out += text(key) + struct.pack("<I", kind) + payload
    data = b""
    for name, shape, kind, part in rows:
        out += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, len(data))
        data += part + b"\0" * (-len(part) % 32)
    return out + b"\0" * (-len(out) % 32) + data


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "examples"
    folder = out / "tiny-llama"
    folder.mkdir(parents=True, exist_ok=True)
    tokens, merges = train()
    tensors = weights()
    ids = {name: tokens.index(f"<|{name}|>") for name in ("begin_of_text", "end_of_text", "eot_id", "pad")}

    def write(name, value):
        (folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    write("config.json", {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": ids["begin_of_text"],
        "eos_token_id": [ids["end_of_text"], ids["eot_id"]],
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": FEED_FORWARD,
        "max_position_embeddings": CONTEXT,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "pad_token_id": ids["pad"],
        "rms_norm_eps": EPSILON,
        "rope_scaling": SCALING,
        "rope_theta": THETA,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": VOCAB,
    })
    write("generation_config.json", {
        "bos_token_id": ids["begin_of_text"],
        "do_sample": True,
        "eos_token_id": [ids["end_of_text"], ids["eot_id"]],
        "temperature": 0.6,
        "top_p": 0.9,
    })
    template = [{"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    bos = {"id": "<|begin_of_text|>", "ids": [ids["begin_of_text"]], "tokens": ["<|begin_of_text|>"]}
    write("tokenizer.json", {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": tokens.index(token), "content": token, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for token in SPECIAL
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        ]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": template,
            "pair": template + [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|begin_of_text|>": bos},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens[: -len(SPECIAL)])},
            "merges": [f"{left} {right}" for left, right in merges],
        },
    })
    write("tokenizer_config.json", {
        "bos_token": "<|begin_of_text|>",
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|eot_id|>",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": CONTEXT,
        "pad_token": "<|pad|>",
        "tokenizer_class": "PreTrainedTokenizerFast",
    })

    # Two shards, as a large model has them: the first layers, and the rest.
    names = list(tensors)
    cut = names.index("model.layers.2.input_layernorm.weight")
    weight_map = {}
    for number, part in enumerate([names[:cut], names[cut:]], 1):
        shard = f"model-{number:05}-of-00002.safetensors"
        (folder / shard).write_bytes(safetensors({name: tensors[name] for name in part}))
        weight_map.update({name: shard for name in part})
    total = sum(2 * len(numbers) for _, numbers in tensors.values())
    write("model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})
    (out / "tiny-llama.gguf").write_bytes(gguf(tensors, tokens, merges))


main()
