#!/usr/bin/env python3
"""Compare `anatomy blueprint` with lists of tensors that the reference library wrote, name by name and shape by shape.

    tools/check-atlas.py --oracle DIR [--variants DIR] [--anatomy BINARY] [--atlas FOLDER] [TYPE ...]

DIR holds tiny/, flags/, full/ and real/ (see the README there); FOLDER is read instead of the families that are built
into the binary, so that a family can be written without a rebuild. TYPE picks folders by name; `llama` takes every
set's `llama`, and those of real/ whose model_type it is. Prints one line for each list that differs, with the first differences; exits 1
if any does. `--all` prints the equal ones too.

An expected name counts as found under the blueprint's name or one of its aliases; optional rows may be absent from a
list, nothing else may.
"""
import argparse
import concurrent.futures
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile


def load(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt") as file:
        return json.load(file)


def cases(oracle, variants):
    """Yields (set, name, path of the configuration, function that loads the expected list)."""
    for set_, root in [("tiny", oracle), ("flags", oracle)]:
        folder = os.path.join(root, set_)
        for name in sorted(os.listdir(folder)):
            base = os.path.join(folder, name)
            if os.path.exists(os.path.join(base, "expected.json")):
                yield set_, name, os.path.join(base, "config.json"), os.path.join(base, "expected.json")
    full = os.path.join(oracle, "full")
    for file in sorted(os.listdir(full)):
        if file.endswith(".json.gz"):
            name = file[: -len(".json.gz")]
            yield "full", name, os.path.join(full, "configs", name + ".json"), os.path.join(full, file)
    real = os.path.join(oracle, "real")
    for name in sorted(os.listdir(real)):
        base = os.path.join(real, name)
        if os.path.exists(os.path.join(base, "expected.json.gz")):
            yield "real", name, os.path.join(base, "config.json"), os.path.join(base, "expected.json.gz")
    if variants and os.path.isdir(variants):
        for name in sorted(os.listdir(variants)):
            folder = os.path.join(variants, name)
            for number in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
                base = os.path.join(folder, number)
                if os.path.exists(os.path.join(base, "expected.json")):
                    yield "variants", f"{name}/{number}", os.path.join(base, "config.json"), os.path.join(base, "expected.json")


def shape_of(entry):
    return tuple(entry[1]) if entry and isinstance(entry[0], str) else tuple(entry)


def compare(binary, atlas, config, expected):
    """Returns (how many tensors agree, list of differences)."""
    command = [binary, "blueprint", config, "--json"] + (["--atlas", atlas] if atlas else [])
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        return 0, [run.stderr.strip()]
    blueprint = json.loads(run.stdout)
    expected = load(expected)
    if "tensors" not in expected:
        return 0, ["the oracle gives patterns only"]
    want = {name: shape_of(entry) for name, entry in expected["tensors"].items()}
    differences, found = [], set()
    for tensor in blueprint["tensors"]:
        shape = tuple(tensor["shape"])
        names = [tensor["name"]] + tensor.get("aliases", [])
        name = next((name for name in names if name in want), None)
        if name is None:
            if not tensor.get("optional"):
                differences.append(f"extra   {tensor['name']} {list(shape)}")
        elif want[name] != shape:
            differences.append(f"shape   {name} {list(shape)}, expected {list(want[name])}")
            found.add(name)
        else:
            found.add(name)
    differences += [f"missing {name} {list(shape)}" for name, shape in want.items() if name not in found]
    return len(found), differences


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", required=True)
    parser.add_argument("--variants")
    parser.add_argument("--anatomy", default="target/release/anatomy")
    parser.add_argument("--atlas")
    parser.add_argument("--set", action="append", help="only these sets: tiny flags full real variants")
    parser.add_argument("--most", type=int, default=6, help="differences shown for each list")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("types", nargs="*")
    args = parser.parse_args()

    def wanted(set_, name, config):
        if args.set and set_ not in args.set:
            return False
        if not args.types:
            return True
        if set_ == "real":
            return name in args.types or load(config).get("model_type") in args.types
        return name.split("/")[0] in args.types

    work = [case for case in cases(args.oracle, args.variants) if wanted(*case[:3])]
    good = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        jobs = [(case, pool.submit(compare, args.anatomy, args.atlas, case[2], case[3])) for case in work]
        for (set_, name, *_), job in jobs:
            count, differences = job.result()
            good += not differences
            if differences:
                print(f"{set_}/{name}: {len(differences)} differ, {count} agree")
                # Numbers in names repeat the same difference for each layer: one of each kind is enough.
                shown = {}
                for line in differences:
                    shown.setdefault(re.sub(r"\.\d+", ".N", line), line)
                for line in list(shown.values())[: args.most]:
                    print("   ", line)
            elif args.all:
                print(f"{set_}/{name}: {count} agree")
    print(f"{good} of {len(work)} lists equal")
    sys.exit(good != len(work))


if __name__ == "__main__":
    main()
