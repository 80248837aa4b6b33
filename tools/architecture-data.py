#!/usr/bin/env python3
"""Writes crates/anatomy/tests/data/architecture.jsonl.gz: configurations, GGUF metadata, names and shapes of tensors,
with what transformers and llama.cpp make of them.

    tools/architecture-data.py ORACLE TRUTH OUT

ORACLE holds what transformers itself wrote (tiny/, real/, kv.json), TRUTH what llama.cpp did (gguf/*.head.gz,
memory.json). One JSON object a line:

- id, source (tiny, real or gguf), config or metadata, tensors (name -> shape, for a selection)
- growth: bytes by which the reference program's cache grows with each token, once windows are full;
  `element` bytes for each number
- active: parameters in use for a token, as counted by the oracle
"""
import gzip
import json
import math
import pathlib
import struct
import sys

# Real models whose tensors go into the file; of the others only the configuration does.
WITH_TENSORS = """Llama-3.1-8B gpt-oss-20b Mixtral-8x7B-v0.1 DeepSeek-V2-Lite gemma-3-27b-pt Phi-4-mini-instruct gpt2
pythia-160m falcon-7b mamba-130m-hf LFM2-350M bloom-560m t5-large Llama-4-Scout-17B-16E dbrx-base
OLMo-2-1124-7B stablelm-2-1_6b bert-base-uncased recurrentgemma-2b""".split()
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def clean(value):
    """Without what JSON cannot say: infinities, which the oracle spells as objects."""
    if isinstance(value, dict):
        return None if "__float__" in value else {key: clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def gguf(raw):
    """Metadata without the vocabulary, and tensors, of a GGUF header."""
    place = 4

    def number(code):
        nonlocal place
        (value,) = struct.unpack_from("<" + code, raw, place)
        place += struct.calcsize("<" + code)
        return value

    def text():
        nonlocal place
        length = number("Q")
        place += length
        return raw[place - length : place].decode("utf-8", "replace")

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            element, count = number("I"), number("Q")
            return [value(element) for _ in range(count)]
        return number(SCALARS[kind])

    assert raw[:4] == b"GGUF"
    _version, tensors, entries = number("I"), number("Q"), number("Q")
    metadata, shapes = {}, {}
    for _ in range(entries):
        key = text()
        item = value(number("I"))
        if key == "general.architecture" or (not key.startswith(("general.", "tokenizer.")) and "deepstack" not in key):
            metadata[key] = item
    for _ in range(tensors):
        name = text()
        shapes[name] = [number("Q") for _ in range(number("I"))][::-1]
        number("I"), number("Q")
    return metadata, shapes


def llama_cpp_growth(truth):
    """Bytes per token between the two longest contexts that llama.cpp was asked for, f16, one sequence."""
    memory = json.loads((truth / "memory.json").read_text())
    seen = {}
    for row in memory["memprobe_archs"] + memory["memprobe_models"]:
        plain = row["type_k"] == row["type_v"] == "f16" and row["n_seq_max"] == 1 and not row["swa_full"]
        if plain:
            seen.setdefault(row["model"], {})[row["n_ctx"]] = row["kv_bytes"]
    growth = {}
    for model, sizes in seen.items():
        lengths = sorted(sizes)[-2:]
        if len(lengths) == 2:
            growth[model] = (sizes[lengths[1]] - sizes[lengths[0]]) / (lengths[1] - lengths[0])
    return growth


def main(oracle, truth, out):
    rows = []
    kv = json.loads((oracle / "kv.json").read_text())
    for folder in sorted((oracle / "tiny").iterdir()):
        if not (folder / "config.json").exists():
            continue
        row = {"id": folder.name, "source": "tiny", "config": clean(json.loads((folder / "config.json").read_text()))}
        if "__" not in folder.name:
            tensors = json.loads((folder / "expected.json").read_text())["tensors"]
            row["tensors"] = {name: shape for name, (_, shape) in tensors.items()}
        grown = kv.get(folder.name, {})
        if "layers" in grown:
            row["growth"] = (grown["total_bytes_T200"] - grown["total_bytes_T37"]) / (200 - 37)
            row["element"] = 4
        rows.append(row)
    for folder in sorted((oracle / "real").iterdir()):
        if not folder.is_dir():
            continue
        row = {"id": folder.name, "source": "real", "config": clean(json.loads((folder / "config.json").read_text()))}
        expected = json.loads(gzip.decompress((folder / "expected.json.gz").read_bytes()))
        if folder.name in WITH_TENSORS:
            row["tensors"] = expected["tensors"]
            if "active_params" in expected:
                row["active"] = expected["active_params"]
        rows.append(row)
    growth = llama_cpp_growth(truth)
    for path in sorted((truth / "gguf").glob("*.head.gz")):
        metadata, tensors = gguf(gzip.decompress(path.read_bytes()))
        name = path.name.removesuffix(".head.gz")
        row = {"id": name, "source": "gguf", "metadata": clean(metadata), "tensors": tensors}
        if name in growth:
            row.update(growth=growth[name], element=2)
        rows.append(row)
    lines = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    out.write_bytes(gzip.compress(lines.encode(), 9, mtime=0))
    print(len(rows), "rows,", len(lines), "bytes,", out.stat().st_size, "compressed")


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:4]))
