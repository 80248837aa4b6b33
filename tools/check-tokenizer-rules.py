#!/usr/bin/env python3
"""Breaks real tokenizers, one fault at a time, and asks whether the rules say so, and nothing else.

usage: check-tokenizer-rules.py PATH...    (folders with a tokenizer.json, GGUF files; needs nothing but Python)

First each healthy tokenizer is verified: every warning and error is shown, to be looked at by hand. Then copies with one
fault each are made in a temporary folder. What a copy finds beyond the healthy one must be the fault's own rules.
"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

# What truly follows from a fault as well: lists beside no longer agree, and turns no longer end generation.
FOLLOWS = {"added-token-moves": {"added-tokens-disagree"}, "special-id-outside": {"chat-end-not-eos"},
           "special-id-is-text": {"chat-end-not-eos"}}
PROGRAM = os.environ.get("VERIFY", "").split() or ["cargo", "run", "-q", "--release", "-p", "anatomy", "--example", "verify", "--"]


def verify(paths):
    out = subprocess.run([*PROGRAM, *map(str, paths)], check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def loud(document):
    return {finding["rule"] for finding in document.get("findings", []) if finding["severity"] != "note"}


def json_faults(text):
    """Faults of a tokenizer.json: name, the rules that must fire, the broken document."""
    def fresh():
        return json.loads(text)

    def merges(edit):
        document = fresh()
        edit(document["model"]["merges"])
        return document

    whole = fresh()
    model, added = whole["model"], whole["added_tokens"]
    texts = {token["content"] for token in added}
    if model["type"] == "BPE" and model["merges"]:
        whole_words = lambda merge: "".join(merge if isinstance(merge, list) else merge.split(" "))
        # A token that one merge alone makes: its loss is the loss of the token.
        makers = {}
        for place, merge in enumerate(model["merges"]):
            makers.setdefault(whole_words(merge), []).append(place)
        alone = [places[0] for word, places in makers.items() if len(places) == 1 and word not in texts and not word.startswith("<")]
        for place in (alone[0], alone[len(alone) // 2], alone[-1]):
            yield f"merge {place} lost", {"token-never-merged"}, merges(lambda list: list.pop(place))
        yield "half of the merges lost", {"token-never-merged"}, merges(lambda list: list.__delitem__(slice(len(list) // 2, None)))
        yield "all merges lost", {"merges-missing"}, merges(lambda list: list.clear())
        yield "a merge of nothing", {"merge-token-missing"}, merges(lambda list: list.append(["a", "\u0001\u0002zq"]))
        document = fresh()
        piece = whole_words(model["merges"][len(model["merges"]) // 2])
        document["model"]["vocab"]["\u0001zq"] = document["model"]["vocab"].pop(piece)
        yield f"{piece!r} renamed", {"merge-token-missing", "token-never-merged"}, document
    if isinstance(model["vocab"], dict):
        pieces = [piece for piece in model["vocab"] if piece not in texts and len(piece) > 2]
        document = fresh()
        document["model"]["vocab"][pieces[-1]] = model["vocab"][pieces[-2]]
        yield "an id twice", {"token-id-twice"}, document
    behind = [place for place, token in enumerate(added) if token["content"] not in model["vocab"]]
    if len(behind) > 1:
        document = fresh()
        list_ = document["added_tokens"]
        list_[behind[0]], list_[behind[-1]] = list_[behind[-1]], list_[behind[0]]
        yield "added tokens in another order", {"added-token-moves"}, document
        document = fresh()
        document["added_tokens"][behind[0]]["id"] += 1
        yield "an added token's id shifted", {"added-token-moves"}, document


def gguf_faults(data):
    """Faults of a GGUF: a key is hidden by changing its last letter, an id or type is changed in place."""
    def at(key):
        needle = struct.pack("<Q", len(key)) + key
        place = data.find(needle)
        return place + len(needle) if place >= 0 else None

    def hidden(key):
        broken = bytearray(data)
        broken[at(key) - 1] = ord("~")
        return broken

    def number(key, value):
        broken = bytearray(data)
        broken[at(key) + 4:at(key) + 8] = struct.pack("<I", value)
        return broken

    model = data[at(b"tokenizer.ggml.model") + 12:][:8]
    if at(b"tokenizer.ggml.merges"):
        yield "no merges", {"merges-missing"}, hidden(b"tokenizer.ggml.merges")
    if at(b"tokenizer.ggml.pre") and model.startswith(b"gpt2"):
        yield "no pre-tokenizer", {"gguf-pre-tokenizer-missing"}, hidden(b"tokenizer.ggml.pre")
    if at(b"tokenizer.ggml.scores") and model.startswith((b"llama", b"t5")):
        yield "no scores", {"gguf-scores-missing"}, hidden(b"tokenizer.ggml.scores")
    types = at(b"tokenizer.ggml.token_type")
    if types:
        yield "no types", {"gguf-token-types-missing"}, hidden(b"tokenizer.ggml.token_type")
    for role in (b"bos", b"eos"):
        key = b"tokenizer.ggml." + role + b"_token_id"
        if at(key):
            yield f"{role.decode()} beyond all", {"special-id-outside"}, number(key, 9_999_999)
            yield f"{role.decode()} is text", {"special-id-is-text"}, number(key, 1000)


def main():
    paths = [pathlib.Path(path) for path in sys.argv[1:]]
    healthy = verify(paths)
    wrong = total = 0
    for path, document in zip(paths, healthy):
        known = loud(document)
        print(f"{path.name}: {document.get('error') or (', '.join(sorted(known)) or 'silent')}")
        for finding in document.get("findings", []):
            if finding["severity"] != "note":
                print(f"    {finding['severity']} {finding['rule']}: {finding['message']}")
        with tempfile.TemporaryDirectory() as folder:
            copies = []
            if path.is_dir() and (path / "tokenizer.json").exists():
                for name, rules, broken in json_faults((path / "tokenizer.json").read_text()):
                    copy = pathlib.Path(folder) / str(len(copies))
                    shutil.copytree(path, copy, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "tokenizer.json", "vocab.txt"))
                    (copy / "tokenizer.json").write_text(json.dumps(broken))
                    copies.append((copy, name, rules))
            elif path.suffix == ".gguf" and path.stat().st_size < 1 << 27:
                for name, rules, broken in gguf_faults(path.read_bytes()):
                    copy = pathlib.Path(folder) / f"{len(copies)}.gguf"
                    copy.write_bytes(broken)
                    copies.append((copy, name, rules))
            for (_, name, rules), document in zip(copies, verify([copy for copy, *_ in copies]) if copies else []):
                found = loud(document) - known
                total += 1
                follows = set().union(*(FOLLOWS.get(rule, set()) for rule in rules))
                if found - follows != rules - known:
                    wrong += 1
                    print(f"  WRONG {name}: {', '.join(sorted(found)) or 'silent'}; expected {', '.join(sorted(rules))}")
    print(f"{total} faults, {wrong} not told as they should be")
    sys.exit(1 if wrong else 0)


main()
