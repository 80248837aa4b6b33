#!/usr/bin/env python3
"""Makes the small files of crates/anatomy/tests/data/formats: one folder for each format, named by its identifier.

usage: make-format-fixtures.py      (needs: pip install onnx numpy sentencepiece tokenizers)

ONNX, SentencePiece and tokenizer files come from the reference libraries. Everything else is written here byte by byte
from the published layouts. Beside files that are read in full stands what a reader must find, as FILE.expected.json.
"""
import base64
import bz2
import gzip
import io
import json
import lzma
import pathlib
import struct

import numpy
import onnx
import sentencepiece
import tokenizers
from onnx import TensorProto, helper, numpy_helper

OUT = pathlib.Path(__file__).resolve().parent.parent / "crates/anatomy/tests/data/formats"


def write(name, data, expected=None):
    path = OUT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    if expected is not None:
        (OUT / (name + ".expected.json")).write_text(json.dumps(expected, indent=1) + "\n")


# ---- GGML ----------------------------------------------------------------------------------------------------------

TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q4_2": (4, 16, 10),
         "Q4_3": (5, 16, 12), "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144),
         "Q6_K": (14, 256, 210)}
WIDE = {"Q4_0": 20, "Q4_1": 24, "Q8_0": 36}  # before May 2023 the scales had 32 bits
MAGICS = {"ggml": 0x67676D6C, "ggmf": 0x67676D66, "ggjt": 0x67676A74, "ggla": 0x67676C61}


def ggml(name, magic, version, numbers, words, tensors, *, wide, counted=False, scores=False, before_words=b"", family):
    out = io.BytesIO()
    out.write(struct.pack("<I", MAGICS[magic]))
    if version is not None:
        out.write(struct.pack("<I", version))
    for number in numbers:
        out.write(struct.pack("<f" if isinstance(number, float) else "<I", number))
    out.write(before_words)
    if counted:
        out.write(struct.pack("<I", len(words)))
    for word in words:
        out.write(struct.pack("<I", len(word)) + word)
        if scores:
            out.write(struct.pack("<f", -1.0))
    expected = []
    for index, (tensor, kind, shape) in enumerate(tensors):
        id, block, size = TYPES[kind]
        size = WIDE.get(kind, size) if wide else size
        count = int(numpy.prod(shape)) // block * size
        out.write(struct.pack("<III", len(shape), len(tensor), id))
        out.write(struct.pack(f"<{len(shape)}I", *reversed(shape)))
        out.write(tensor.encode())
        if magic in ("ggjt", "ggla"):
            out.write(b"\0" * (-out.tell() % 32))
        expected.append({"name": tensor, "dtype": kind, "shape": shape, "start": out.tell(), "bytes": count})
        out.write(bytes([index + 1]) * count)
    write(name, out.getvalue(), {"family": family, "tensors": expected})


def make_ggml():
    words = [b"<unk>", b"<s>", b"</s>", b"a", b"\xe2\x96\x81b", b"", b"cd", b"\xff"]
    n = len(words)
    llama = [("tok_embeddings.weight", "F16", [n, 64]), ("norm.weight", "F32", [64]),
             ("layers.0.attention.wq.weight", "Q4_0", [64, 64]), ("layers.0.attention.wk.weight", "Q4_1", [64, 64]),
             ("layers.0.feed_forward.w1.weight", "Q8_0", [96, 64]), ("output.weight", "Q5_1", [n, 64])]
    numbers = [n, 64, 32, 4, 1, 16]
    ggml("ggml/llama-unversioned.bin", "ggml", None, [*numbers, 2], words, llama, wide=True, family="llama")
    ggml("ggml/llama-ggmf.bin", "ggmf", 1, [*numbers, 2], words, llama, wide=True, scores=True, family="llama")
    old = [*llama, ("layers.0.attention.wv.weight", "Q4_2", [64, 64]), ("layers.0.attention.wo.weight", "Q4_3", [64, 64])]
    ggml("ggml/llama-ggjt1.bin", "ggjt", 1, [*numbers, 5], words, old, wide=True, scores=True, family="llama")
    ggml("ggml/llama-ggjt2.bin", "ggjt", 2, [*numbers, 1002], words, llama, wide=True, scores=True, family="llama")
    new = [*llama, ("layers.0.feed_forward.w2.weight", "Q4_K", [4, 256]), ("layers.0.feed_forward.w3.weight", "Q6_K", [4, 256])]
    ggml("ggml/llama-ggjt3.bin", "ggjt", 3, [*numbers, 2015], words, new, wide=False, scores=True, family="llama")
    gpt = [("model/wte", "F16", [n, 64]), ("model/wpe", "F32", [16, 64]), ("model/h0/attn/c_attn/w", "Q4_0", [192, 64])]
    ggml("ggml/gpt-2.bin", "ggml", None, [n, 16, 64, 4, 1, 2002], words, gpt, wide=False, counted=True, family="gpt-2")
    star = [*words[:-1], b"<fim_prefix>"]
    ggml("ggml/starcoder.bin", "ggml", None, [n, 16, 64, 4, 1, 1002], star, gpt, wide=True, counted=True, family="starcoder")
    t = "transformer."
    gptj = [(t + "wte.weight", "F16", [n, 64]), (t + "h.0.attn.q_proj.weight", "Q5_0", [64, 64])]
    ggml("ggml/gpt-j.bin", "ggml", None, [n, 16, 64, 4, 1, 16, 1], words, gptj, wide=False, counted=True, family="gpt-j")
    neox = [("gpt_neox.embed_in.weight", "F16", [n, 64]), ("embed_out.weight", "Q8_0", [n, 64])]
    ggml("ggml/gpt-neox.bin", "ggml", None, [n, 16, 64, 4, 1, 16, 1, 2007], words, neox, wide=False, family="gpt-neox")
    ggml("ggml/gpt-neox-old.bin", "ggml", None, [n, 16, 64, 4, 1, 16, 7], words, neox, wide=True, family="gpt-neox")
    mpt = [(t + "wte.weight", "F16", [n, 64]), (t + "blocks.0.attn.Wqkv.weight", "Q4_1", [192, 64])]
    ggml("ggml/mpt.bin", "ggml", None, [64, 16, 4, 1, n, 8.0, 0.0, 2003], words, mpt, wide=False, family="mpt")
    ggml("ggml/replit.bin", "ggml", None, [64, 16, 4, 1, n, 2002], words, mpt, wide=False, scores=True, family="replit")
    falcon = [(t + "word_embeddings.weight", "F16", [n, 64]), ("lm_head.weight", "Q4_0", [n, 64])]
    ggml("ggml/falcon.bin", "ggjt", 3, [n, 64, 4, 1, 1, 7, 2002], words, falcon, wide=False, scores=True, family="falcon")
    ggml("ggml/falcon-rustformers.bin", "ggjt", 3, [n, 64, 4, 1, 1, 2002], words, falcon, wide=False, family="falcon")
    ggml("ggml/bloom.bin", "ggml", None, [n, 64, 1, 4, 1, 2], words, llama, wide=True, family="bloom")
    bert = [("embeddings.word_embeddings.weight", "F16", [n, 64]), ("encoder.layer.0.attention.self.query.weight", "Q4_0", [64, 64])]
    ggml("ggml/bert.bin", "ggml", None, [n, 16, 64, 128, 4, 1, 2], words, bert, wide=True, family="bert")
    filters = struct.pack("<II", 2, 3) + struct.pack("<6f", *range(6))
    whisper = [("encoder.positional_embedding", "F32", [8, 64]), ("encoder.conv1.weight", "F16", [64, 2, 3]),
               ("decoder.token_embedding.weight", "F16", [n + 3, 64])]
    ggml("ggml/whisper.bin", "ggml", None, [n + 3, 8, 64, 4, 1, 8, 64, 4, 1, 2, 1], words, whisper, wide=False, counted=True,
         before_words=filters, family="whisper")
    rwkv = [("emb.weight", "F16", [n, 64]), ("blocks.0.ln1.weight", "F32", [64]), ("head.weight", "Q5_1", [n, 64])]
    ggml("ggml/rwkv.bin", "ggmf", 101, [n, 64, 1, 2009], [], rwkv, wide=False, family="rwkv")
    lora = [("layers.0.attention.wq.weight.loraA", "F32", [4, 64]), ("layers.0.attention.wq.weight.loraB", "F16", [64, 4])]
    ggml("ggml/adapter.bin", "ggla", 1, [4, 8], [], lora, wide=False, family=None)


# ---- ONNX ----------------------------------------------------------------------------------------------------------

def make_onnx():
    rng = numpy.random.default_rng(0)
    raw = numpy_helper.from_array(rng.random((4, 8), dtype=numpy.float32), "raw")
    floats = helper.make_tensor("float_data", TensorProto.FLOAT, [2, 3], [1, 2, 3, 4, 5, 6])
    ints = helper.make_tensor("int32_data", TensorProto.INT8, [5], [-1, 2, 3, 4, 127])
    longs = helper.make_tensor("int64_data", TensorProto.INT64, [3], [1, -2, 1 << 40])
    halves = helper.make_tensor("half", TensorProto.FLOAT16, [4], numpy.arange(4, dtype=numpy.float16).tobytes(), raw=True)
    texts = helper.make_tensor("texts", TensorProto.STRING, [2], [b"ab", b"c"])
    doubles = helper.make_tensor("doubles", TensorProto.DOUBLE, [2], [1.0, 2.0])
    scalar = helper.make_tensor("scalar", TensorProto.BOOL, [], [True])
    empty = helper.make_tensor("empty", TensorProto.FLOAT, [0], [])
    complexes = helper.make_tensor("complex", TensorProto.COMPLEX64, [2], [1 + 2j, 3 + 4j])
    odd = [helper.make_tensor(f"type{kind}", kind, [3, 3], bytes(size), raw=True) for kind, size in
           [(17, 9), (18, 9), (19, 9), (20, 9), (21, 5), (22, 5), (23, 5), (24, 9), (16, 18), (25, 3), (26, 3)]]
    external = TensorProto(name="external", data_type=1, dims=[2, 8], data_location=TensorProto.EXTERNAL)
    for key, value in [("location", "weights.data"), ("offset", "4096"), ("length", "64")]:
        external.external_data.add(key=key, value=value)
    sparse = helper.make_sparse_tensor(helper.make_tensor("sparse", TensorProto.FLOAT, [2], [1, 2]),
                                       helper.make_tensor("", TensorProto.INT64, [2], [0, 3]), [4])
    inner = numpy_helper.from_array(rng.random((16, 8), dtype=numpy.float32), "inner")
    body = helper.make_graph([helper.make_node("Identity", ["inner"], ["out_then"])], "then", [],
                             [helper.make_tensor_value_info("out_then", 1, [16, 8])], [inner])
    constant = helper.make_node("Constant", [], ["big_constant"], value=numpy_helper.from_array(
        rng.random((8, 16), dtype=numpy.float32), "value"))
    small = helper.make_node("Constant", [], ["axes"], value=helper.make_tensor("axes", TensorProto.INT64, [1], [0]))
    other = helper.make_graph([constant, small, helper.make_node("Identity", ["big_constant"], ["out_else"])], "else", [],
                              [helper.make_tensor_value_info("out_else", 1, [16, 8])])
    branch = helper.make_node("If", ["scalar"], ["y"], then_branch=body, else_branch=other)
    listed = [raw, floats, ints, longs, halves, texts, doubles, scalar, empty, complexes, *odd, external]
    graph = helper.make_graph([branch], "fixture", [helper.make_tensor_value_info("x", 1, ["batch", 3])],
                              [helper.make_tensor_value_info("y", 1, [16, 8])], listed, doc_string="a description",
                              sparse_initializer=[sparse])
    model = helper.make_model(graph, producer_name="anatomy", producer_version="1", ir_version=10,
                              opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)])
    helper.set_model_props(model, {"author": "nobody", "task": "none"})
    names = {1: "F32", 2: "U8", 3: "I8", 7: "I64", 8: "OBJECT", 9: "BOOL", 10: "F16", 11: "F64", 14: "C64", 16: "BF16",
             17: "F8_E4M3", 18: "F8_E4M3FNUZ", 19: "F8_E5M2", 20: "F8_E5M2FNUZ", 21: "U4", 22: "I4", 23: "F4",
             24: "F8_E8M0", 25: "U2", 26: "I2"}
    sizes = {"float_data": 24, "int32_data": 14, "int64_data": 17, "texts": 5, "doubles": 16, "scalar": 1, "complex": 16,
             "external": 64, "sparse": 8, "sparse.indices": 2}
    expected = [{"name": t.name, "dtype": names[t.data_type], "shape": list(t.dims),
                 "bytes": sizes.get(t.name, len(t.raw_data))} for t in listed]
    expected += [{"name": "sparse", "dtype": "F32", "shape": [2], "bytes": 8},
                 {"name": "sparse.indices", "dtype": "I64", "shape": [2], "bytes": 2},
                 {"name": "inner", "dtype": "F32", "shape": [16, 8], "bytes": 512},
                 {"name": "big_constant", "dtype": "F32", "shape": [8, 16], "bytes": 512}]
    write("onnx/model.onnx", model.SerializeToString(), {"tensors": expected})


# ---- the rest ------------------------------------------------------------------------------------------------------

def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def flatbuffer(identifier, header=b""):
    # Root offset, identifier, (extended header), table of fields, table: version 3, a description.
    start = 8 + len(header)
    vtable = struct.pack("<6H", 12, 12, 4, 0, 0, 8)
    root = start + len(vtable)
    table = struct.pack("<iII", len(vtable), 3, 4)
    return struct.pack("<I", root) + identifier + header + vtable + table + struct.pack("<I", 7) + b"fixture\0" + bytes(16)


def make_rest():
    superblock = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + struct.pack("<HHI", 4, 16, 0)
    superblock += struct.pack("<QQQQ", 0, 2**64 - 1, 400, 2**64 - 1) + bytes(40)
    write("hdf5/weights.h5", superblock + b"layer_names\0keras_version\0".ljust(400 - len(superblock), b"\0"))
    write("hdf5/version2.h5", b"\x89HDF\r\n\x1a\n\x02\x08\x08\x00" + struct.pack("<QQQQI", 0, 2**64 - 1, 48, 48, 0))
    write("tflite/model.tflite", flatbuffer(b"TFL3"))
    write("executorch/model.pte", flatbuffer(b"ET12", b"eh00" + struct.pack("<IQQ", 24, 100, 0)))

    array = b"\x93\x92\x02\x03\xa7float32\xc4\x18" + bytes(24)
    tree = b"\x81\xa6params\x82\xa4step\x07\xa5Dense\x81\xa6kernel\xc7" + bytes([len(array), 1]) + array
    write("flax-msgpack/params.msgpack", tree)

    info = field(4, "serve") + field(5, "2.15.0")
    graph = field(1, field(1, "node") + field(2, "Const"))
    write("tf-savedmodel/saved_model.pb", field(1, 1) + field(2, field(1, info) + field(2, graph)))
    write("tf-checkpoint/model.index", bytes(60) + bytes(40) + bytes.fromhex("57fb808b247547db"))
    write("tf-checkpoint/checkpoint", 'model_checkpoint_path: "model.ckpt-3"\nall_model_checkpoint_paths: "model.ckpt-3"\n')

    feature = field(1, "image") + field(3, field(5, b"\x0a\x00"))
    described = field(1, feature) + field(10, field(1, "out") + field(3, b"")) + field(100, field(1, "a model"))
    write("coreml/model.mlmodel", field(1, 7) + field(2, described) + field(502, field(1, 1)))
    write("coreml/Manifest.json", json.dumps({"fileFormatVersion": "1.0.0", "itemInfoEntries": {"A": {"path": "x"}},
                                              "rootModelIdentifier": "A"}))
    write("openvino/model.xml", '<?xml version="1.0"?>\n<net name="fixture" version="11">\n<layers/>\n</net>\n')

    text = "\n".join("the quick brown fox jumps over the lazy dog again and again" for _ in range(50))
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(text.split("\n")), model_writer=stream, vocab_size=32,
                                             model_type="unigram", minloglevel=2, pad_id=3)
    write("sentencepiece/tokenizer.model", stream.getvalue())
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    bpe.train_from_iterator([text], tokenizers.trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>", "<s>", "</s>"]))
    bpe.add_tokens(["extra"])
    write("tokenizer-json/tokenizer.json", bpe.to_str(), {"vocab_size": bpe.get_vocab_size(), "model": "bpe",
          "merges": len(json.loads(bpe.to_str())["model"]["merges"]), "added_tokens": 4})
    pieces = [{"rank": i, "token_bytes": base64.b64encode(bytes([i])).decode(), "token_str": None} for i in range(256)]
    write("tekken/tekken.json", json.dumps({"config": {"pattern": ".", "num_vocab_tokens": 256, "default_vocab_size": 300,
          "default_num_special_tokens": 44, "version": "v3"}, "vocab": pieces}))
    write("tiktoken/ranks.tiktoken", "".join(f"{base64.b64encode(bytes([i])).decode()} {i}\n" for i in range(256)))

    write("python/modeling.py", '"""A model."""\nimport torch\n\n\nclass Model(torch.nn.Module):\n    pass\n')
    write("notebook/run.ipynb", json.dumps({"cells": [{"cell_type": "code", "source": ["1"]}], "metadata": {}, "nbformat": 4}))
    write("elf/library.so", b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, 62) + bytes(100))
    write("pe/program.exe", b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + struct.pack("<H", 0x8664) + bytes(50))
    index = {"metadata": {"total_size": 12}, "weight_map": {"a.weight": "model-00001-of-00002.safetensors",
                                                           "b.weight": "model-00002-of-00002.safetensors"}}
    write("safetensors-index/model.safetensors.index.json", json.dumps(index))
    write("pytorch-index/pytorch_model.bin.index.json", json.dumps(index).replace("model-", "pytorch_model-").replace(".safetensors", ".bin"))
    config = {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "model_type": "llama", "rope_scaling": None,
              "rms_norm_eps": 1e-5, "tie_word_embeddings": False}
    write("config-json/config.json", json.dumps(config, indent=2))
    write("config-json/with-bom.json", b"\xef\xbb\xbf" + json.dumps(config).encode())
    write("config-json/utf16.json", json.dumps(config).encode("utf-16"))
    write("config-json/blanks.json", "\n\n  \t" + json.dumps(config))
    write("config-json/params.json", json.dumps({"dim": 4096, "n_layers": 32, "n_heads": 32, "vocab_size": -1}))
    write("config-json/tokenizer_config.json", json.dumps({"bos_token": "<s>", "eos_token": {"content": "</s>"},
          "tokenizer_class": "LlamaTokenizer", "chat_template": "{{ messages }}"}))
    write("config-json/generation_config.json", json.dumps({"bos_token_id": 1, "eos_token_id": [2, 3]}))
    write("json/data.json", json.dumps({"a": [1, 2, {"b": None}]}))
    write("json/vocab.json", json.dumps({f"w{i}": i for i in range(120)}))
    write("json/list.json", "[1, 2, 3]")
    write("json/lines.jsonl", '{"a": 1}\n{"a": 2}\n')
    write("gzip/file.gz", gzip.compress(b"hello" * 10, mtime=0))
    write("xz/file.xz", lzma.compress(b"hello" * 10))
    write("bzip2/file.bz2", bz2.compress(b"hello" * 10))
    write("zstd/file.zst", bytes.fromhex("28b52ffd2005290000") + b"hello")
    write("7z/file.7z", b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(24))
    write("git-lfs-pointer/model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:" + "ab" * 32 +
          "\nsize 4600000000\n")
    write("html/model.bin", "<!DOCTYPE html>\n<html><head>\n<title>403\n Forbidden</title></head><body></body></html>\n")
    write("text/README.md", "# A model\nfrom the import of goods, a class of text.\n")
    write("text/posing.gguf", "Invalid username or password.\n")
    write("text/latin1.txt", "Gr\u00fc\u00dfe aus M\u00fcnchen\n".encode("latin-1"))
    write("empty/model.safetensors", b"")
    write("unknown/noise.bin", bytes((i * 73 + 11) % 256 for i in range(200)))
    write("unknown/zeros.safetensors", bytes(300))


make_ggml()
make_onnx()
make_rest()
