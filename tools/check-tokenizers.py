#!/usr/bin/env python3
"""Holds `anatomy tokenizer` to the reference programs: summaries, ids and decoded text.

usage: check-tokenizers.py [--lines N] [--llama LLAMA-TOKENIZE] PATH...

PATH: a tokenizer.json, a SentencePiece model, a tekken.json, a JSON file of ranks, or a GGUF (with LLAMA-TOKENIZE, see
llama-tokenize.cpp). Each is run over the lines of tokenizer-corpus.py (10,000 unless told), with special tokens and
without, and over every character of Unicode. A GGUF beside which FILE.gguf.inp and FILE.gguf.out stand, as in llama.cpp's
models/, is held to these too.
needs: pip install tokenizers sentencepiece tiktoken mistral-common; `cargo build --release`
"""
import argparse
import base64
import importlib.util
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
spec = importlib.util.spec_from_file_location("corpus", os.path.join(HERE, "tokenizer-corpus.py"))
corpus = importlib.util.module_from_spec(spec)
spec.loader.exec_module(corpus)
ANATOMY = os.environ.get("ANATOMY") or os.path.join(HERE, "..", "target", "release", "anatomy")


def anatomy(*arguments):
    out = subprocess.run([ANATOMY, "tokenizer", *arguments, "--json"], capture_output=True, text=True)
    if out.returncode:
        sys.exit(f"{arguments}: {out.stderr.strip()}")
    return json.loads(out.stdout)


def ours(path, lines, special, parse):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
        file.flush()
        options = [] if special else ["--no-special"]
        options += [] if parse else ["--no-parse-special"]
        return [result["ids"] for result in anatomy(path, "--encode-file", file.name, *options)["results"]]


def library(path):
    import tokenizers
    reference = tokenizers.Tokenizer.from_file(path)
    reference.no_truncation()
    reference.no_padding()

    def encode(lines, special, parse):
        reference.encode_special_tokens = not parse
        return [reference.encode(line, add_special_tokens=special).ids for line in lines]

    return encode, lambda ids: reference.decode(ids, skip_special_tokens=False)


def pieces(path):
    import sentencepiece
    reference = sentencepiece.SentencePieceProcessor(model_file=path)
    # SentencePiece knows neither tokens round a text nor special ones within it.
    return lambda lines, special, parse: None if special or parse else [reference.encode(line) for line in lines], reference.decode


def tekken(path):
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer
    reference = Tekkenizer.from_file(path)
    return lambda lines, special, parse: None if parse else [reference.encode(line, bos=special, eos=False) for line in lines], None


def ranks(path):
    import tiktoken
    state = json.load(open(path))
    table, words = {}, [line.split(" ") for line in state["bpe_ranks"].split("\n")]
    for _, first, *coded in words:
        table.update({base64.b64decode(piece): int(first) + step for step, piece in enumerate(coded)})
    reference = tiktoken.Encoding("ranks", pat_str=state["pat_str"], mergeable_ranks=table, special_tokens=state["special_tokens"])

    def encode(lines, _, parse):
        return [reference.encode(line, **({"allowed_special": "all"} if parse else {"disallowed_special": ()})) for line in lines]

    return encode, reference.decode


def llama(program, path):
    def run(lines, special, parse):
        text = "".join(line.encode().hex() + "\n" for line in lines)
        out = subprocess.run([program, path, str(int(special)), str(int(parse))], input=text, capture_output=True, text=True, check=True).stdout
        return [[int(id) for id in row.split("\t")[0].split()] for row in out.split("\n")[:-1]]

    return run, None


def kind(path, program):
    with open(path, "rb") as file:
        head = file.read(65536)
    if head.startswith(b"GGUF"):
        return llama(program, path) if program else None
    if head.startswith(b"{"):
        return tekken(path) if b"token_bytes" in head else ranks(path) if b"bpe_ranks" in head else library(path)
    return pieces(path)


def compare(name, lines, got, want):
    bad = [index for index, (one, other) in enumerate(zip(got, want)) if one != other]
    bad += [] if len(got) == len(want) else [len(want)]
    print("same  " if not bad else "DIFFER", f"{len(want) - len(bad)} of {len(want)}", name, flush=True)
    for index in bad[:3]:
        print("    ", ascii(lines[index])[:120], "\n      ours  ", str(got[index])[:120], "\n      theirs", str(want[index])[:120])
    return len(bad)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--llama")
    parser.add_argument("--characters", action="store_true", help="also every character of Unicode")
    parser.add_argument("paths", nargs="+")
    options = parser.parse_args()
    wrong = 0
    for path in options.paths:
        known = anatomy(path)
        special = [token["token"] for token in known["special_tokens"].values() if token["token"]]
        lines = list(corpus.corpus(options.lines, special + [token["content"] for token in known["added_tokens"][:8]]))
        if options.characters:
            lines += [f"a{chr(code)}b1{chr(code)}2 {chr(code)}{chr(code)}! {chr(code)}" for code in range(0x33500) if not 0xD800 <= code < 0xE000]
        reference = kind(path, options.llama)
        if reference:
            encode, decode = reference
            for special in (True, False):
                want = encode(lines, special, special)
                if want is None and special:
                    want = encode(lines, True, False)
                    if want is not None:
                        wrong += compare(f"{path}, with special tokens", lines, ours(path, lines, True, False), want)
                    continue
                got = ours(path, lines, special, special)
                wrong += compare(f"{path}, {'with' if special else 'without'} special tokens", lines, got, want)
            if decode:
                some = [ids for ids in want[::97] if ids]
                got = [anatomy(path, "--decode", *map(str, ids))["text"] for ids in some]
                wrong += compare(f"{path}, decoded", some, got, [decode(ids) for ids in some])
        if os.path.exists(path + ".inp"):
            lines = open(path + ".inp", encoding="utf-8", newline="").read().split("\n__ggml_vocab_test__\n")
            want = [[int(id) for id in line.split()] for line in open(path + ".out").read().split("\n")]
            lines, want = lines[:len(want)], want[:len(lines)]
            wrong += compare(f"{path}, its own cases", lines, ours(path, lines, False, False), want)
    sys.exit(1 if wrong else 0)


main()
