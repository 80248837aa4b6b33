#!/usr/bin/env python3
"""Makes crates/anatomy/tests/data/reference: headers of GGUF and safetensors files, and what the formats' reference
libraries read in them. Run by hand, with gguf 0.19 and safetensors installed:

    tools/make-truth.py GGUF_HEADS SAFETENSORS OUT

GGUF_HEADS holds `*.gguf.head.gz` (everything before the tensor data) and INDEX.json (their files' lengths),
SAFETENSORS holds folders with a `model.safetensors`. Only headers are kept; the tests put zeros behind them.
"""

import argparse
import gzip
import json
import struct
import tempfile
from pathlib import Path

import gguf
import numpy as np
from gguf import GGUFReader, GGUFValueType
from safetensors import safe_open

# One of each kind: dense, experts, latent attention, recurrent, encoder, many tensors, many types.
GGUF = """deepseek-v3-671b-q4k gemma3-27b-q4k gpt-oss-120b-mxfp4 mamba-2.8b-q4k llama3.1-70b-q4k qwen3-30b-a3b-q4k
deepseek-v2-lite-q4k gemma2-9b-q4k llama2-7b-f16 mixtral-8x7b-q4k phi3-mini-4k-q4k qwen2.5-7b-q4k afmoe-moe
bloom-dense cogvlm-dense falcon-h1-dense granitehybrid-dense jamba-dense kimi-linear-moe lfm2-dense llama4-moe
qwen3next-moe plamo2-dense nemotron_h-dense deci-dense qwen3tts-dense""".split()
SAFETENSORS = """llama mixtral deepseek_v3 gpt2 mamba2 gpt_oss qwen3_next gemma3_text bert bart falcon_h1
deepseek_v4""".split()

# Texts in arrays are compared up to this many, numbers up to that many: what the reader holds.
TEXTS, NUMBERS = 64, 4096


def number(value):
    """A float as the bits of a double, since text loses some."""
    return {"float": struct.pack(">d", float(value)).hex()} if isinstance(value, float) else value


def metadata(field):
    kind = field.types[0].name.lower()
    names = {"uint": "u", "int": "i", "float": "f"}
    for long, short in names.items():
        if kind.startswith(long):
            kind = short + kind[len(long):]
    if field.types[0] != GGUFValueType.ARRAY:
        return [kind, number(field.contents())]
    element = field.types[-1].name.lower() if field.data else None
    for long, short in names.items():
        if element and element.startswith(long):
            element = short + element[len(long):]
    most = TEXTS if element == "string" else NUMBERS
    items = [number(item) for item in field.contents()] if field.data and len(field.data) <= most else None
    return ["array", element, len(field.data), items]


def read_gguf(path):
    reader = GGUFReader(path)
    tensors = []
    for tensor in reader.tensors:
        ne = [int(dimension) for dimension in tensor.shape]
        tensors.append([tensor.name, ne, tensor.tensor_type.name, int(tensor.data_offset), int(tensor.n_bytes)])
    fields = {key: metadata(field) for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    return {"file_bytes": path.stat().st_size, "tensors": tensors, "metadata": fields}


def sparse(folder, head, length):
    path = Path(folder) / "file"
    path.write_bytes(head)
    with open(path, "r+b") as file:
        file.truncate(length)
    return path


def every_type(path, endian):
    """A file with every value type and every tensor type that the library can write."""
    writer = gguf.GGUFWriter(path, "llama", endianess=endian)
    for name, value in dict(uint8=7, int8=-7, uint16=700, int16=-700, uint32=70000, int32=-70000, uint64=1 << 60,
                            int64=-(1 << 60), float32=0.1, float64=0.1, bool=True, string="größe").items():
        getattr(writer, f"add_{name}")(f"x.{name}", value)
    writer.add_array("x.texts", ["a", "", "ö"])
    writer.add_array("x.numbers", [1, -2, 3])
    writer.add_array("x.floats", [0.5, 1.5])
    writer.add_array("x.bools", [True, False])
    for kind in gguf.GGMLQuantizationType:
        # The library's size of Q8_1 is that of ggml before 2023.
        if kind.name == "Q8_1":
            continue
        block, size = gguf.GGML_QUANT_SIZES[kind]
        rows = np.zeros((3, 2 * size), dtype=np.uint8)
        writer.add_tensor(f"t.{kind.name}", rows, raw_shape=rows.shape, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_safetensors(path):
    with safe_open(path, "np") as file:
        with open(path, "rb") as raw:
            at = 8 + struct.unpack("<Q", raw.read(8))[0]
        widths = dict(F64=8, F32=4, F16=2, BF16=2, I64=8, I32=4, I16=2, I8=1, U8=1, BOOL=1)
        tensors = []
        # The format leaves no holes, so in the library's order of offsets each begins where the last one ended.
        for name in file.offset_keys():
            part = file.get_slice(name)
            shape, dtype = part.get_shape(), part.get_dtype()
            size = int(np.prod(shape, dtype=np.int64)) * widths[dtype]
            tensors.append([name, shape, dtype, at, size])
            at += size
        return {"file_bytes": path.stat().st_size, "tensors": tensors, "metadata": file.metadata() or {}}


def write(path, data):
    # Without a time in it, so that the same input gives the same bytes.
    path.write_bytes(gzip.compress(data, 9, mtime=0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("safetensors", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    expected = {}
    lengths = json.loads((options.gguf / "INDEX.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        for name in GGUF:
            source = options.gguf / f"{name}.gguf.head.gz"
            if not source.exists():
                print("not there:", name)
                continue
            head = gzip.decompress(source.read_bytes())
            path = sparse(folder, head, lengths[f"{name}.gguf"]["file_bytes"])
            expected[f"{name}.gguf"] = read_gguf(path)
            write(options.out / f"{name}.gguf.head.gz", head)
        for name, endian in [("types-little", gguf.GGUFEndian.LITTLE), ("types-big", gguf.GGUFEndian.BIG)]:
            path = Path(folder) / "types"
            every_type(path, endian)
            truth = read_gguf(path)
            expected[f"{name}.gguf"] = truth
            first = min(tensor[3] for tensor in truth["tensors"])
            write(options.out / f"{name}.gguf.head.gz", path.read_bytes()[:first])
    for name in SAFETENSORS:
        path = options.safetensors / name / "model.safetensors"
        if not path.exists():
            print("not there:", name)
            continue
        truth = read_safetensors(path)
        expected[f"{name}.safetensors"] = truth
        with open(path, "rb") as file:
            head = file.read(truth["tensors"][0][3])
        write(options.out / f"{name}.safetensors.head.gz", head)
    write(options.out / "expected.json.gz", json.dumps(expected, separators=(",", ":")).encode())
    total = sum(path.stat().st_size for path in options.out.iterdir())
    tensors = sum(len(truth["tensors"]) for truth in expected.values())
    print(f"{len(expected)} files, {tensors} tensors, {total} bytes")


main()
