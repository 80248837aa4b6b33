#!/usr/bin/env python3
"""Writes crates/anatomy/tests/data/memory/variants: what llama.cpp allocates for shapes that no other test has.

    tools/make-memory-variants.py ROWS HEADERS OUT NAME ...

ROWS is JSON with `rows` as make-memory-data.py writes them, for models whose files (their headers, at the files' whole
length) are in HEADERS. OUT/NAME.gz is the header of each model named, OUT/rows.jsonl.gz its rows, OUT/headers.json
the whole lengths. Rows in which llama.cpp ends itself, and rows that differ in nothing that is written, are left out.
"""
import gzip
import json
import pathlib
import sys

import gguf

SETTINGS = """model n_ctx n_batch n_ubatch type_k type_v flash_attn n_seq_max swa_full kv_unified kv_bytes compute_bytes
""".split()


def write(path, data):
    with open(path, "wb") as file, gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed:
        packed.write(data)


source, headers, out = map(pathlib.Path, sys.argv[1:4])
names = sys.argv[4:]
out.mkdir(parents=True, exist_ok=True)
sizes = {}
for name in names:
    path = headers / (name + ".gguf")
    with open(path, "rb") as file:
        write(out / (name + ".gz"), file.read(gguf.GGUFReader(path).data_offset))
    sizes[name] = path.stat().st_size
rows = {}
for row in json.loads(source.read_text())["rows"]:
    error = (row.get("error") or "").strip()
    if row["model"].removesuffix(".gguf") not in sizes or "aborts" in error:
        continue
    kept = {key: row[key] for key in SETTINGS if key in row}
    if error:
        kept["error"] = error
    rows[json.dumps(kept, separators=(",", ":"))] = None
write(out / "rows.jsonl.gz", "".join(row + "\n" for row in rows).encode())
(out / "headers.json").write_text(json.dumps(dict(sorted(sizes.items())), indent=0) + "\n")
print(len(rows), "rows,", len(sizes), "models")
