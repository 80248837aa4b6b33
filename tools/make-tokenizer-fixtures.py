#!/usr/bin/env python3
"""Trains tiny tokenizers of every kind and asks the reference programs what they make of a few hundred lines.

usage: make-tokenizer-fixtures.py LLAMA-TOKENIZE      (see llama-tokenize.cpp)
needs: pip install tokenizers sentencepiece tiktoken mistral-common gguf

Writes crates/anatomy/tests/data/tokenizers/: the tokenizers, lines.json.gz, and for each NAME.expected.json.gz the ids
with special tokens (`ids`), without (`plain`), and the decoded text where it is not the line itself (`text`).
"""
import base64
import gzip
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tempfile

import gguf
import sentencepiece
import tiktoken
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "crates", "anatomy", "tests", "data", "tokenizers")
spec = importlib.util.spec_from_file_location("corpus", os.path.join(HERE, "tokenizer-corpus.py"))
corpus = importlib.util.module_from_spec(spec)
spec.loader.exec_module(corpus)

MARKS = ["<s>", "</s>", "<|im_start|>", "<mask>", "<0x0A>"]
ALL = list(corpus.corpus(6000, MARKS))
TRAIN = [line.replace("\0", "") for line in ALL[1500:]]
NARROW = [line for line in TRAIN if all(ord(c) < 0x600 for c in line)]
LINES = [line for index, line in enumerate(ALL) if index % 17 == 0 and len(line) < 400]
llama = sys.argv[1]


def write(name, data):
    path = os.path.join(OUT, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        out.write(data if isinstance(data, bytes) else data.encode())


def pack(name, value):
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, compresslevel=9) as out:
        out.write(json.dumps(value, separators=(",", ":")).encode())
    write(name + ".json.gz", buffer.getvalue())


def expect(name, encode, plain, decode, lines=LINES):
    ids = [encode(line) for line in lines]
    text = [decode(line) for line in ids] if decode else None
    pack(name + ".expected", {"ids": ids, "plain": [plain(line) for line in lines],
                              "text": text and [None if got == line else got for got, line in zip(text, lines)]})


def library(name, tokenizer):
    tokenizer.save(os.path.join(OUT, name + ".json"), pretty=False)
    tokenizer = tokenizers.Tokenizer.from_file(os.path.join(OUT, name + ".json"))

    def plain(line):
        tokenizer.encode_special_tokens = True
        ids = tokenizer.encode(line, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = False
        return ids

    expect(name, lambda line: tokenizer.encode(line).ids, plain, lambda ids: tokenizer.decode(ids, skip_special_tokens=False))
    return tokenizer


def added(text, **flags):
    return tokenizers.AddedToken(text, **flags)


GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
bytes_ = tokenizers.Tokenizer(models.BPE())
bytes_.normalizer = normalizers.NFC()
bytes_.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(tokenizers.Regex(GPT4), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
bytes_.decoder = decoders.ByteLevel()
bytes_.train_from_iterator(TRAIN, trainers.BpeTrainer(vocab_size=900, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
bytes_.add_special_tokens([added("<s>", special=True), added("<|im_start|>", special=True, rstrip=True)])
bytes_.add_tokens([added("<mask>", lstrip=True, normalized=False), added("Å", normalized=True), added("word", single_word=True)])
bytes_.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bytes_.token_to_id("<s>"))])
library("bytes", bytes_)

gpt2 = tokenizers.Tokenizer(models.BPE())
gpt2.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
gpt2.decoder = decoders.ByteLevel()
gpt2.train_from_iterator(TRAIN, trainers.BpeTrainer(vocab_size=800, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                                    special_tokens=["<|endoftext|>"], show_progress=False))
state = json.loads(gpt2.to_str())["model"]
write("plain/vocab.json", json.dumps(state["vocab"], ensure_ascii=False))
write("plain/merges.txt", "#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in state["merges"]))
expect("plain", lambda line: gpt2.encode(line).ids, lambda line: gpt2.encode(line).ids, None, [line for line in LINES if "<|endoftext|>" not in line])

bert = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
bert.normalizer = normalizers.BertNormalizer()
bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
bert.decoder = decoders.WordPiece()
bert.train_from_iterator(TRAIN, trainers.WordPieceTrainer(vocab_size=1500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
bert.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
library("bert", bert)
words = sorted(bert.get_vocab().items(), key=lambda entry: entry[1])

unigram = tokenizers.Tokenizer(models.Unigram())
unigram.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")])
unigram.pre_tokenizer = pre_tokenizers.Metaspace()
unigram.decoder = decoders.Metaspace()
unigram.train_from_iterator(NARROW, trainers.UnigramTrainer(vocab_size=1600, special_tokens=["<s>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
library("unigram", unigram)


def piece_model(name, **options):
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text")
        with open(text, "w", encoding="utf-8", newline="\n") as out:
            out.writelines(re.sub(r"[\r\n]", " ", line) + "\n" for line in NARROW)
        sentencepiece.SentencePieceTrainer.train(input=text, model_prefix=os.path.join(folder, "m"), minloglevel=2, num_threads=1, **options)
        with open(os.path.join(folder, "m.model"), "rb") as model:
            data = model.read()
    write(name + ".model", data)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=data)
    first, last = [pieces.bos_id()] if options["model_type"] == "bpe" else [], []
    expect(name, lambda line: first + pieces.encode(line) + last, pieces.encode, None)
    pack(name + ".decoded.expected", [pieces.decode(pieces.encode(line)) for line in LINES])
    return data, pieces


bpe_data, bpe_pieces = piece_model("pieces-bpe", model_type="bpe", vocab_size=1400, byte_fallback=True, character_coverage=0.98, split_digits=True,
                         user_defined_symbols=["<mask>", "word"], normalization_rule_name="identity", remove_extra_whitespaces=False,
                         allow_whitespace_only_pieces=True, hard_vocab_limit=False)
uni_data, uni_pieces = piece_model("pieces-unigram", model_type="unigram", vocab_size=1400, character_coverage=0.98, user_defined_symbols=["<mask>", "word"],
                       normalization_rule_name="nmt_nfkc", hard_vocab_limit=False)
piece_model("pieces-suffix", model_type="unigram", vocab_size=900, character_coverage=0.98, treat_whitespace_as_suffix=True,
            normalization_rule_name="nmt_nfkc_cf", hard_vocab_limit=False, byte_fallback=True)

letters = {letter: byte for byte, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet(), key=lambda c: (ord(c) >= 256, ord(c))))}
direct = {**{chr(b): b for b in [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]}}
for byte in range(256):
    if byte not in direct.values():
        direct[chr(256 + sum(1 for other in range(byte) if other not in [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]))] = byte
plain = sorted((id, bytes(direct[c] for c in text)) for text, id in state["vocab"].items() if text != "<|endoftext|>")
singles = [bytes([byte]) for byte in range(256)]
longer = [piece for _, piece in plain if len(piece) > 1]
ranks = {piece: rank for rank, piece in enumerate(singles + longer)}
special = {"<|im_start|>": len(ranks), "<mask>": len(ranks) + 1}
coded = " ".join(base64.b64encode(piece).decode() for piece in ranks)
write("ranks.json", json.dumps({"pat_str": GPT4, "special_tokens": special, "bpe_ranks": "! 0 " + coded}))
encoding = tiktoken.Encoding("ranks", pat_str=GPT4, mergeable_ranks=ranks, special_tokens=special)
expect("ranks", lambda line: encoding.encode(line, allowed_special="all"), lambda line: encoding.encode(line, disallowed_special=()),
       lambda ids: encoding.decode(ids))

from mistral_common.tokens.tokenizers.tekken import Tekkenizer
write("tekken.json", json.dumps({"config": {"pattern": GPT4, "num_vocab_tokens": len(ranks), "default_vocab_size": len(ranks) + 20,
                                            "default_num_special_tokens": 30, "version": "v3"},
                                 "vocab": [{"rank": rank, "token_bytes": base64.b64encode(piece).decode(), "token_str": None} for piece, rank in ranks.items()]}))
tekken = Tekkenizer.from_file(os.path.join(OUT, "tekken.json"))
expect("tekken", lambda line: tekken.encode(line, bos=True, eos=False), lambda line: tekken.encode(line, bos=False, eos=False), None)


def run(path, add, parse, lines):
    text = "".join(line.encode().hex() + "\n" for line in lines)
    out = subprocess.run([llama, path, str(add), str(parse)], input=text, capture_output=True, text=True, check=True).stdout
    rows = [row.split("\t") for row in out.split("\n")[:-1]]
    assert len(rows) == len(lines), (path, len(rows))
    return [[int(id) for id in row[0].split()] for row in rows], [bytes.fromhex(row[1]).decode("utf-8", "replace") for row in rows]


def write_gguf(path, model, tokens, types, scores=None, merges=None, pre=None, ids=None, flags=None, charsmap=None, architecture="llama", title=None):
    writer = gguf.GGUFWriter(path, architecture)
    if title:
        writer.add_name(title)
    writer.add_tokenizer_model(model)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if scores is not None:
        writer.add_token_scores(scores)
    if merges is not None:
        writer.add_token_merges(merges)
    for key, id in (ids or {}).items():
        writer.add_uint32(f"tokenizer.ggml.{key}", id)
    for key, flag in (flags or {}).items():
        writer.add_bool(f"tokenizer.ggml.{key}", flag)
    if charsmap:
        writer.add_precompiled_charsmap(charsmap)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def llama_fixture(name, **options):
    path = os.path.join(OUT, name + ".gguf")
    write_gguf(path, **options)
    ids, text = run(path, 1, 1, LINES)
    plain, _ = run(path, 0, 0, LINES)
    pack(name + ".expected", {"ids": ids, "plain": plain, "text": [None if got == line else got for got, line in zip(text, LINES)]})


def proto_pieces(data):
    from sentencepiece import sentencepiece_model_pb2 as pb
    model = pb.ModelProto()
    model.ParseFromString(data)
    # llama.cpp numbers the types as SentencePiece does.
    return ([piece.piece for piece in model.pieces], [piece.score for piece in model.pieces], [piece.type for piece in model.pieces],
            model.normalizer_spec.precompiled_charsmap)


gpt2_tokens = [text for text, _ in sorted(state["vocab"].items(), key=lambda entry: entry[1])] + ["<|im_start|>", "<|im_end|>", "<mask>", "<s>"]
gpt2_types = [3] + [1] * (len(gpt2_tokens) - 5) + [3, 3, 4, 3]
gpt2_options = dict(model="gpt2", tokens=gpt2_tokens, types=gpt2_types, merges=[" ".join(pair) for pair in state["merges"]],
                    ids={"bos_token_id": len(gpt2_tokens) - 1, "eos_token_id": 0})
llama_fixture("llama-gpt2", pre="gpt-2", flags={"add_bos_token": True}, **gpt2_options)
texts, scores, types, _ = proto_pieces(bpe_data)
llama_fixture("llama-scores", model="llama", pre="default", tokens=texts, types=types, scores=scores, flags={"add_eos_token": True})
llama_fixture("llama-phi", model="llama", pre="default", tokens=texts + ["<|endoftext|>", "<|im_start|>"], types=types + [3, 3], scores=scores + [0.0, 0.0], title="Phi-3 small", architecture="phi3",
              flags={"add_space_prefix": False})
texts, scores, types, charsmap = proto_pieces(uni_data)
llama_fixture("llama-unigram", model="t5", tokens=texts, types=types, scores=scores, charsmap=charsmap, architecture="t5",
              ids={"unknown_token_id": 0, "eos_token_id": 2, "bos_token_id": 1},
              flags={"add_space_prefix": True, "remove_extra_whitespaces": True, "add_bos_token": True})
marked = [text if text.startswith("[") and len(text) > 1 and text.endswith("]") else text[2:] if text.startswith("##") and len(text) > 2 else "\u2581" + text
          for text, _ in words]
seen, bert_tokens = set(), []
for index, text in enumerate(marked):
    bert_tokens.append(text if text not in seen else f"[unused{index}]")
    seen.add(text)
llama_fixture("llama-bert", model="bert", pre="bert-bge", tokens=bert_tokens, types=[3 if id < 5 else 1 for id in range(len(bert_tokens))], architecture="bert",
              ids={"unknown_token_id": 1, "seperator_token_id": 3, "padding_token_id": 0, "cls_token_id": 2, "bos_token_id": 2, "mask_token_id": 4})
escaped = ["<s>"] + [f"\\x{byte:02x}" for byte in range(256)] + ["the", " of", "ing", "\\n\\n", "\\t\\t", "中", "\\xe4\\xbd", "  ", " and", "a\\\\b", "<mask>"]
llama_fixture("llama-rwkv", model="rwkv", tokens=escaped, types=[3] + [1] * (len(escaped) - 2) + [4], architecture="rwkv6")
byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
texts, scores, types, _ = proto_pieces(bpe_data)
order = {piece: index for index, piece in enumerate(texts)}
plamo = [("<|plamo:unk|>", 0.0, 2), ("<|plamo:bos|>", 0.0, 3), ("<|plamo:eos|>", 0.0, 3), ("<|plamo:pad|>", 0.0, 3)] + [(text, 0.0, 6) for text in byte_tokens]
plamo += [(text.replace("\u2581", " "), -3.0 - (index * 37 % 101) / 13, 1) for index, text in enumerate(texts) if types[index] == 1][:900]
plamo = list({text: row for row in plamo for text in [row[0]]}.values())
llama_fixture("llama-plamo2", model="plamo2", tokens=[row[0] for row in plamo], scores=[row[1] for row in plamo], types=[row[2] for row in plamo], architecture="plamo2")
spaced = tokenizers.Tokenizer(models.BPE())
spaced.normalizer = normalizers.Replace(" ", "\u2581")
spaced.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
spaced.train_from_iterator(TRAIN, trainers.BpeTrainer(vocab_size=1500, limit_alphabet=900, special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"], show_progress=False))
inner = json.loads(spaced.to_str())["model"]
gemma = [text for text, _ in sorted(inner["vocab"].items(), key=lambda entry: entry[1])]
gemma += [text for text in byte_tokens + ["\n\n", "\n\n\n"] if text not in inner["vocab"]]
merges = [" ".join(pair) for pair in inner["merges"] if " " not in pair[0] and " " not in pair[1] and "\n" not in "".join(pair)]
llama_fixture("llama-gemma4", model="gemma4", tokens=gemma, merges=merges, architecture="gemma4", ids={"bos_token_id": 2, "eos_token_id": 1, "unknown_token_id": 3},
              types=[3 if id < 4 else 6 if text in byte_tokens else 1 for id, text in enumerate(gemma)])

names = re.findall(r'"([^"]+)"', "".join(re.findall(r"^names = (\[.*\])", open(os.path.join(OUT, "..", "..", "..", "pre-tokenizers.toml")).read(), re.M)))
some = [line for line in ALL[::41] if len(line) < 300]
with tempfile.TemporaryDirectory() as folder:
    found = {}
    for name in names:
        if name in ("gemma4", "granite-embed-multi-311m", "sarvam-moe", "whitespace"):
            continue
        path = os.path.join(folder, "x.gguf")
        write_gguf(path, pre=name, **gpt2_options)
        found[name] = run(path, 0, 1, some)[0]
    pack("pre.expected", {"lines": some, "ids": found})
pack("lines", LINES)
for folder, _, files in os.walk(OUT):
    for file in (os.path.join(folder, file) for file in files if not file.endswith(".gz")):
        with open(file, "rb") as plain_file, open(file + ".gz", "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as out:
            out.write(plain_file.read())
        os.remove(file)
print(len(LINES), "lines;", sum(os.path.getsize(os.path.join(folder, file)) for folder, _, files in os.walk(OUT) for file in files), "bytes")
