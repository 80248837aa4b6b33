#!/usr/bin/env python3
"""Compares the library's tokenizer summaries with what tokenizers and sentencepiece say.

usage: check-tokenizers.py FILE...    (tokenizer.json and SentencePiece models; needs: pip install tokenizers sentencepiece)
"""
import json
import subprocess
import sys

import sentencepiece
import tokenizers

out = subprocess.run(["cargo", "run", "-q", "--release", "-p", "anatomy", "--example", "tokenizer", "--", *sys.argv[1:]],
                     check=True, capture_output=True, text=True).stdout
failures = 0
for line in out.splitlines():
    document = json.loads(line)
    path, ours = document["path"], document["tokenizer"]
    if ours["kind"] == "sentencepiece":
        theirs = sentencepiece.SentencePieceProcessor(model_file=path)
        want = {"vocab_size": theirs.get_piece_size()}
        want |= {role: (theirs.id_to_piece(id), id) for role, id in
                 [("unk", theirs.unk_id()), ("bos", theirs.bos_id()), ("eos", theirs.eos_id()), ("pad", theirs.pad_id())] if id >= 0}
        have = {"vocab_size": ours["vocab_size"]} | {r: (s["token"], s["id"]) for r, s in ours["special_tokens"].items()}
    else:
        theirs, raw = tokenizers.Tokenizer.from_file(path), json.load(open(path))
        vocab = theirs.get_vocab(with_added_tokens=True)
        want = {"vocab_size": len(set(vocab.values())), "model": type(theirs.model).__name__.lower(),
                "merges": len(raw["model"]["merges"]) if "merges" in raw["model"] else None,
                "added_tokens": len(raw["added_tokens"]), "max_id": max(vocab.values())}
        have = {key: ours[key] for key in want}
    failures += want != have or "problem" in ours
    print("same  " if want == have else "DIFFER", document["milliseconds"], "ms", path, have, "" if want == have else want)
sys.exit(1 if failures else 0)
