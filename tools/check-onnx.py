#!/usr/bin/env python3
"""Compares what the library reads from ONNX files with what the onnx package reads.

usage: check-onnx.py FILE...      (needs: pip install onnx; builds the example `dump` with cargo)

Every initializer of every graph, and every constant of a node that the library lists, must agree in name, type, shape
and values' bytes; IR version, producer and operator sets too.
"""
import json
import subprocess
import sys

import onnx

DTYPES = {1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 8: "OBJECT", 9: "BOOL", 10: "F16",
          11: "F64", 12: "U32", 13: "U64", 14: "C64", 15: "C128", 16: "BF16", 17: "F8_E4M3", 18: "F8_E4M3FNUZ",
          19: "F8_E5M2", 20: "F8_E5M2FNUZ", 21: "U4", 22: "I4", 23: "F4", 24: "F8_E8M0", 25: "U2", 26: "I2"}


def tensors(graph, constants):
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                constants.setdefault(node.output[0] if node.output else "", []).append(attribute.t)
            for inner in ([attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs):
                yield from tensors(inner, constants)
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values


def main():
    failures = 0
    out = subprocess.run(["cargo", "run", "-q", "-p", "anatomy", "--example", "dump", "--", *sys.argv[1:]],
                         check=True, capture_output=True, text=True).stdout
    for line in out.splitlines():
        ours = json.loads(line)
        path = ours["path"]
        if "error" in ours:
            print(path, ours["error"])
            failures += 1
            continue
        model = onnx.load(path, load_external_data=False)
        constants, data = {}, open(path, "rb").read()
        listed = {}
        for tensor in ours["tensors"]:
            listed.setdefault(tensor["name"], []).append(tensor)
        checked = problems = raw = 0

        def compare(proto, ours):
            nonlocal raw
            same = (ours["dtype"], ours["shape"]) == (DTYPES[proto.data_type], list(proto.dims))
            if proto.data_location != 1 and proto.raw_data:
                raw += 1
                same &= data[ours["start"]:ours["start"] + ours["len"]] == proto.raw_data
            return same

        for proto in tensors(model.graph, constants):
            checked += 1
            problems += not any(compare(proto, t) for t in listed.get(proto.name, []))
        known = {p.name for p in tensors(model.graph, {})}
        extra = [t for name, list_ in listed.items() for t in list_ if name not in known and not name.endswith(".indices")]
        for tensor in extra:
            problems += not any(compare(proto, tensor) for proto in constants.get(tensor["name"], []))
        facts = dict(map(tuple, ours["facts"]))
        problems += facts["IR version"] != str(model.ir_version)
        problems += facts.get("producer", "") != (model.producer_name + " " + model.producer_version).strip()
        problems += facts["operator sets"] != ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import)
        at = 0
        for start, end, *_ in ours["ranges"]:
            problems += start != at
            at = end
        problems += at != len(data)
        unexplained = sum(e - s for s, e, kind, _ in ours["ranges"] if kind == "unexplained")
        failures += problems
        print(f"{path}: {checked} weights and {len(extra)} constants compared ({raw} byte for byte), "
              f"{problems} differ, {unexplained} bytes unexplained, {len(ours['findings'])} findings, {ours['evidence']}")
    sys.exit(1 if failures else 0)


main()
