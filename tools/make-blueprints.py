#!/usr/bin/env python3
"""Writes crates/anatomy/tests/data/blueprints/*.jsonl.gz: configurations with the tensors that the reference library
makes of them.

    tools/make-blueprints.py --oracle DIR [--variants DIR] [--most BYTES] OUT

DIR holds tiny/, flags/, full/ and real/ as tools/check-atlas.py reads them; variants are those of
tools/make-variants.py. Each line is one list: `{"name", "config", "rows": [[name, shape], …], "active"?}`, names with
numbers in braces (`layers.{0..31}.mlp.experts.{0..7}.up_proj.weight`) where tensors differ in nothing else.
"""
import argparse
import gzip
import importlib.machinery
import importlib.util
import json
import os

def tool(name):
    """Another tool of this folder as a module."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_").split(".")[0], path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module

LISTS = tool("make-name-lists")
CHECK = tool("check-atlas.py")
# Keys that no tensor depends on and that take much room.
IDLE = {"id2label", "label2id", "task_specific_params", "transformers_version", "generation_config"}

def slim(config):
    if isinstance(config, dict):
        labels = "id2label" in config and len(config["id2label"]) != 2
        return {key: slim(value) for key, value in config.items() if labels or key not in IDLE}
    return config

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", required=True)
    parser.add_argument("--variants")
    parser.add_argument("out")
    args = parser.parse_args()

    lines = {}
    for set_, name, config, expected in CHECK.cases(args.oracle, args.variants):
        data = CHECK.load(expected)
        if "tensors" not in data:
            continue
        tensors = [(tensor, CHECK.shape_of(entry)) for tensor, entry in data["tensors"].items()]
        line = {"name": name, "config": slim(CHECK.load(config)), "rows": list(LISTS.collapsed(tensors))}
        if set_ == "real":
            line["active"] = data.get("active") or None
            line["total"] = data.get("total_params_stored")
        lines.setdefault(set_, []).append(json.dumps(line, separators=(",", ":")))
    os.makedirs(args.out, exist_ok=True)
    for set_, list_ in lines.items():
        path = os.path.join(args.out, set_ + ".jsonl.gz")
        with open(path, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=9, mtime=0) as file:
            file.write("\n".join(list_).encode())
        print(f"{path}: {len(list_)} lists, {os.path.getsize(path)} bytes")

if __name__ == "__main__":
    main()
