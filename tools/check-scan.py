#!/usr/bin/env python3
"""Compares `anatomy scan` with the manifest of a corpus.

    tools/check-scan.py [--anatomy PROGRAM] [--misses] CORPUS...

Each CORPUS is a folder with files and a `manifest.json`, a list of {path, verdict, kind, technique}. `malicious`
asks for that verdict, `suspicious` for that or worse, `malformed` for anything but clean, `benign` for clean, and
`warning` for a finding of whatever weight. Prints a table by class of technique; exits 1 where anything differs.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time

# First match wins.
CLASSES = [
    ("plain calls", r"reduce_(global|in_ptbin)"),
    ("long tail of callables", r"denylist_longtail"),
    ("re-exported modules", r"reexport_alias"),
    ("INST, OBJ, NEWOBJ", r"(inst|obj|newobj)_"),
    ("BUILD and items", r"build_|setitems_"),
    ("STACK_GLOBAL tricks", r"stack_global"),
    ("broken after the payload", r"broken|truncated_after|stack_underflow|invalid_utf8|bad_frame|proto_"),
    ("further streams", r"second_pickle|pickle_after|many_streams"),
    ("budgets", r"opcode_budget|big_string|deep_nesting"),
    ("indirection", r"nested_|getattr_|importlib|methodcaller|functools|map_list|copyreg|extension_reg|marshal|reexport_sys"
     r"|persid|safe_prefix|dill|cloudpickle|import_only|unknown_third|fiximports"),
    ("names that lie", r"ext_mismatch"),
    ("torch archives", r"torchzip|torchscript|torchpackage"),
    ("torch before 1.6", r"legacy"),
    ("numpy and joblib", r"npy|npz|joblib|numpy|sklearn"),
    ("packed files", r"gz_|bz2|xz_|zlib|7z|double|zip_in|tar|nemo|mar_|gz$"),
    ("configuration and code", r"auto_map|hydra|yaml|config"),
    ("templates", r"chat_template|template"),
    ("ONNX, Keras, TensorFlow", r"onnx|keras|tf_"),
    ("safetensors", r"safetensors|embedded|^st_"),
    ("GGUF", r"gguf"),
    ("zip structure", r"^zip_"),
    ("pickle structure", r"^pkl_"),
    ("others", r""),
]


def accepted(expected, entry):
    verdict = entry["verdict"]
    if expected == "malicious":
        return verdict == "malicious"
    if expected == "suspicious":
        return verdict in ("malicious", "suspicious")
    if expected == "malformed":
        return verdict not in (None, "clean")
    if expected == "warning":
        return bool(entry["findings"]) or verdict != "clean"
    return verdict == "clean"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anatomy", default="target/debug/anatomy")
    parser.add_argument("--misses", action="store_true", help="list what differs")
    parser.add_argument("corpus", nargs="+")
    arguments = parser.parse_args()
    table, misses, seconds = {}, [], 0.0
    for corpus in arguments.corpus:
        with open(os.path.join(corpus, "manifest.json")) as file:
            manifest = json.load(file)
        begin = time.monotonic()
        out = subprocess.run([arguments.anatomy, "scan", "--json", corpus], capture_output=True, text=True)
        seconds += time.monotonic() - begin
        if out.returncode not in (0, 1):
            sys.exit(out.stderr)
        found = {os.path.relpath(entry["path"], corpus): entry for entry in json.loads(out.stdout)["files"]}
        for item in manifest:
            entry = found[item["path"]]
            name = next(name for name, pattern in CLASSES if re.search(pattern, item["technique"]))
            cell = table.setdefault(name, {}).setdefault(item["kind"], [0, 0])
            cell[1] += 1
            if accepted(item["verdict"], entry):
                cell[0] += 1
            else:
                rules = ", ".join(sorted({finding["rule"] for finding in entry["findings"]}))
                misses.append(f"{os.path.join(corpus, item['path'])} {item.get('note', '')}: "
                              f"{entry['verdict']} instead of {item['verdict']} ({entry['format']}; {rules})")
    kinds = ["malicious", "benign", "malformed"]
    print(f"{'class':<28}" + "".join(f"{kind:>14}" for kind in kinds))
    total = {kind: [0, 0] for kind in kinds}
    for name, _ in CLASSES:
        if name not in table:
            continue
        row = f"{name:<28}"
        for kind in kinds:
            right, count = table[name].get(kind, (0, 0))
            total[kind][0] += right
            total[kind][1] += count
            row += f"{f'{right}/{count}' if count else '':>14}"
        print(row)
    print(f"{'all':<28}" + "".join(f"{'/'.join(map(str, total[kind])):>14}" for kind in kinds))
    print(f"{seconds:.2f} s")
    if arguments.misses:
        print("\n".join(misses))
    sys.exit(1 if misses else 0)


if __name__ == "__main__":
    main()
