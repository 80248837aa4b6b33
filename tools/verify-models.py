#!/usr/bin/env python3
"""Compares `anatomy tensors --json` with the formats' reference libraries for every model under a folder: names,
shapes, types, sizes, and places where the library tells them. Run by hand, with gguf, safetensors and onnx installed:

    tools/verify-models.py DIR [--anatomy target/release/anatomy] [--torch-python python3]

`--torch-python` names an interpreter that has torch, which loads the PyTorch files. It runs the code that they hold, so
do that with trusted files only. The exit status is 1 where anything differs.
"""

import argparse
import json
import struct
import subprocess
import sys
from pathlib import Path

# A tensor is (shape, type, bytes, offset); None where the library does not say.
TORCH = """
import json, sys, torch
def walk(prefix, value, out):
    if isinstance(value, torch.Tensor):
        out[prefix] = (list(value.shape), str(value.dtype).replace("torch.", ""))
    elif isinstance(value, dict):
        for key, part in value.items():
            walk(f"{prefix}.{key}" if prefix else str(key), part, out)
    elif isinstance(value, (list, tuple)):
        for key, part in enumerate(value):
            walk(f"{prefix}.{key}" if prefix else str(key), part, out)
try:
    value = torch.jit.load(sys.argv[1], map_location="cpu").state_dict()
except Exception:
    value = torch.load(sys.argv[1], map_location="cpu")
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
out = {}
walk("", value, out)
print(json.dumps(out))
"""
TORCH_TYPES = dict(float32="F32", float16="F16", bfloat16="BF16", float64="F64", int64="I64", int32="I32", int16="I16",
                   int8="I8", uint8="U8", bool="BOOL", complex64="C64", complex128="C128", qint8="QINT8",
                   quint8="QUINT8", qint32="QINT32")


def read_gguf(path):
    from gguf import GGUFReader

    return {
        tensor.name: ([int(n) for n in reversed(tensor.shape)], tensor.tensor_type.name, int(tensor.n_bytes),
                      int(tensor.data_offset))
        for tensor in GGUFReader(path).tensors
    }


def read_safetensors(path):
    from safetensors import safe_open

    with open(path, "rb") as raw:
        data = 8 + struct.unpack("<Q", raw.read(8))[0]
        header = json.loads(raw.read(data - 8))
    out = {}
    with safe_open(path, "np") as file:
        for name in file.keys():
            part = file.get_slice(name)
            begin, end = header[name]["data_offsets"]
            out[name] = (list(part.get_shape()), part.get_dtype(), end - begin, data + begin)
    return out


def read_onnx(path):
    import onnx

    kinds = {1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 9: "BOOL", 10: "F16", 11: "F64",
             12: "U32", 13: "U64", 14: "C64", 15: "C128", 16: "BF16"}
    model = onnx.load(path, load_external_data=False)
    return {part.name: (list(part.dims), kinds.get(part.data_type), None, None) for part in model.graph.initializer}


def read_torch(path, python):
    run = subprocess.run([python, "-c", TORCH, str(path)], capture_output=True, text=True)
    if run.returncode != 0:
        raise ValueError(run.stderr.strip().splitlines()[-1])
    return {name: (shape, TORCH_TYPES.get(kind), None, None) for name, (shape, kind) in json.loads(run.stdout).items()}


def ours(path, binary):
    run = subprocess.run([binary, "tensors", str(path), "--json"], capture_output=True, text=True)
    if run.returncode != 0:
        raise ValueError(run.stderr.strip() or run.stdout.strip())
    rows = json.loads(run.stdout)["tensors"]
    # Shards and siblings are joined; only this file's own tensors count here.
    rows = [row for row in rows if Path(row["file"]).name == path.name]
    return {row["name"]: (row["shape"], row["dtype"], row["bytes"], row["offset"]) for row in rows}


def differences(truth, found):
    for name in truth.keys() - found.keys():
        yield f"{name}: missing"
    for name in found.keys() - truth.keys():
        yield f"{name}: not in the reference"
    for name in truth.keys() & found.keys():
        for what, want, have in zip(("shape", "type", "bytes", "offset"), truth[name], found[name]):
            if want is not None and want != have:
                yield f"{name}: {what} is {have}, the reference says {want}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--anatomy", default="target/release/anatomy")
    parser.add_argument("--torch-python")
    options = parser.parse_args()
    files = tensors = wrong = 0
    for path in sorted(path for path in options.folder.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            head = file.read(16)
        try:
            if head.startswith(b"GGUF"):
                truth = read_gguf(path)
            elif path.suffix == ".safetensors":
                truth = read_safetensors(path)
            elif path.suffix == ".onnx":
                truth = read_onnx(path)
            elif path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".jit") and options.torch_python:
                truth = read_torch(path, options.torch_python)
            else:
                continue
        except Exception as error:
            print(f"skip  {path}: the reference cannot read it: {str(error)[:150]}")
            continue
        try:
            faults = list(differences(truth, ours(path, options.anatomy)))
        except (ValueError, KeyError) as error:
            faults = [str(error)]
        files, tensors, wrong = files + 1, tensors + len(truth), wrong + bool(faults)
        print(f"{'FAIL' if faults else 'same'}  {path}: {len(truth)} tensors")
        for fault in sorted(faults)[:5]:
            print(f"      {fault}")
    print(f"{files} files, {tensors} tensors, {wrong} files differ")
    sys.exit(1 if wrong else 0)


main()
