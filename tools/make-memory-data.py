#!/usr/bin/env python3
"""Writes crates/anatomy/tests/data/memory: bytes that llama.cpp and transformers really allocate.

    tools/make-memory-data.py ORACLE TRUTH OUT

TRUTH holds memory.json (llama.cpp's own figures for headers of models) and gguf/*.head.gz, ORACLE kv.json (bytes in
transformers' caches). OUT/llama-cpp.jsonl.gz has a row for each run: model, settings, kv_bytes (cache and state),
compute_bytes, model_bytes, or the error; OUT/transformers.json.gz for each type of tiny/ the bytes after 37 and 200
tokens in single precision; OUT/headers.json the whole lengths of the models whose headers are in data/gguf-headers,
where those that are missing are copied to.
"""
import gzip
import json
import pathlib
import shutil
import sys

SETTINGS = """model n_ctx n_batch n_ubatch type_k type_v flash_attn n_seq_max swa_full kv_unified kv_bytes compute_bytes
model_bytes""".split()


def write(path, data):
    with open(path, "wb") as file, gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed:
        packed.write(data.encode())


oracle, truth, out = map(pathlib.Path, sys.argv[1:])
out.mkdir(parents=True, exist_ok=True)
memory = json.loads((truth / "memory.json").read_text())
index = json.loads((truth / "gguf/INDEX.json").read_text())
headers = out.parent / "gguf-headers"
rows, sizes = [], {}
for row in memory["memprobe_models"] + memory["memprobe_archs"]:
    name = row["model"].removesuffix(".gguf")
    source = truth / "gguf" / (row["model"] + ".head.gz")
    # Headers with a whole vocabulary are too large to keep; their shapes are among the others.
    if not source.exists() or source.stat().st_size > 100_000:
        continue
    sizes[name] = index[row["model"]]["file_bytes"]
    if not (headers / (name + ".gz")).exists():
        shutil.copyfile(source, headers / (name + ".gz"))
    kept = {key: row[key] for key in SETTINGS if key in row}
    if "error" in row:
        kept["error"] = row["error"].strip()
    # A mapped model is some bytes shorter than its tensors.
    if row["load"] == "mmap":
        kept.pop("model_bytes", None)
    rows.append(kept)
write(out / "llama-cpp.jsonl.gz", "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
(out / "headers.json").write_text(json.dumps(dict(sorted(sizes.items())), indent=0) + "\n")
caches = json.loads((oracle / "kv.json").read_text())
kept = {name: [entry["total_bytes_T37"], entry["total_bytes_T200"]] for name, entry in caches.items() if "layers" in entry}
write(out / "transformers.json.gz", json.dumps(kept, separators=(",", ":")))
print(len(rows), "rows,", len(sizes), "models,", len(kept), "caches")
