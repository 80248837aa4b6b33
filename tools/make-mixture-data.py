#!/usr/bin/env python3
"""Writes crates/anatomy/tests/data/mixture.json.gz: which type llama.cpp's quantiser gives each tensor.

    tools/make-mixture-data.py QUANTIZE HEADERS OUT [NAME ...]

QUANTIZE is llama-quantize, which is run with --dry-run on the headers HEADERS/NAME.gz, lengthened to what bytes.json
or ../memory/headers.json says; without NAMEs on all of them. OUT has the types, and for each header and mixture a
letter for each tensor, by layer and name, as the program goes through them: the place of its type among the types, or
a dot where the tensor is not quantised.
"""
import gzip
import json
import pathlib
import re
import subprocess
import sys
import tempfile

MIXTURES = """IQ1_S IQ1_M TQ1_0 IQ2_XXS TQ2_0 IQ2_XS IQ2_S IQ2_M Q2_K_S Q2_K IQ3_XXS IQ3_XS Q3_K_S IQ3_S IQ3_M Q3_K_M
Q3_K_L IQ4_XS IQ4_NL Q4_0 Q4_K_S Q4_K_M Q4_1 Q5_0 Q5_K_S Q5_K_M Q5_1 Q6_K Q8_0""".split()
TYPES = """F16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ4_NL
IQ4_XS TQ1_0 TQ2_0""".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"
# [  12/ 291] blk.0.attn_q.weight  - [4096, 4096, 1, 1], type = f32, size = 64.00 MiB -> 9.00 MiB (q4_K)
LINE = re.compile(r"\[ *\d+/ *\d+\] (\S+) +- \[[^\]]*\], type = +(\S+), size = [^(\n]*(?:\((\w+)\))?")
# Types that only what is left alone has.
KEPT = ("f32", "f16", "bf16", "i32")


def types(quantize, path, mixture):
    command = [quantize, "--allow-requantize", "--dry-run", str(path), mixture]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace")
    letters = []
    for _, old, new in LINE.findall(run.stdout + run.stderr):
        new = new or old
        letters.append("." if new.lower() in KEPT and new == old else LETTERS[TYPES.index(new.upper())])
    if run.returncode or not letters:
        sys.exit(f"{path} {mixture}: {run.stderr[-300:]}")
    return "".join(letters)


def main():
    quantize, headers, out = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    sizes = json.loads((headers / "bytes.json").read_text())
    sizes.update(json.loads((headers.parent / "memory/headers.json").read_text()))
    models = {}
    for name in sys.argv[4:] or sorted(sizes):
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            file.write(gzip.decompress((headers / f"{name}.gz").read_bytes()))
            file.truncate(sizes[name])
            file.flush()
            models[name] = {mixture: types(quantize, file.name, mixture) for mixture in MIXTURES}
    data = json.dumps({"types": TYPES, "models": models}, separators=(",", ":")) + "\n"
    with open(out, "wb") as file, gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed:
        packed.write(data.encode())
    print(len(models), "models,", sum(len(row["Q8_0"]) for row in models.values()), "tensors")


main()
