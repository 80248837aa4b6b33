#!/usr/bin/env python3
"""Makes a held-out set for the rules of architectures: the oracle's classes with other sizes, counts and flags.

    tools/make-variants.py --oracle DIR --out DIR [--count 4] [--seed 1] [--only TYPE...]
    tools/make-variants.py --oracle DIR --out DIR --stated tools/stated-variants.txt

The oracle has, for each type, a small configuration and the names and shapes that transformers 5.23 saves for it.
Rules written against those may hold only for their numbers. This mutates each configuration in many places at once,
builds the class, saves it, and writes OUT/TYPE/N/config.json (as saved by the class) and expected.json (the oracle's
form, with what was `mutated`, as key -> [old, new]). In the last variant of each type, keys are left out so that the
class's defaults apply; they are listed as `removed`. Types whose unmutated list isn't the oracle's are left out.

A mutation is a group of keys that change together, with alternatives from free to cautious. All groups are tried at
once, then by halves, so a class that refuses some keeps the others. "Refuses" means that it cannot be built, that it
has more than --most elements, or that a forward pass on text breaks where that of the unmutated one works (towers for
images and sound aren't run). Run it with transformers and torch installed; it needs no network and little memory.

With --stated, each line of a file is one variant: a type, then keys that it leaves out (`-key`) and states (`key=JSON`),
dotted in sub-configurations. That reaches what drawing lots never does: old spellings of keys, patterns of layers, keys
that only the class's defaults fill. They are written as OUT/TYPE/sN.
"""
import argparse
import collections
import copy
import json
import os
import random
import re
import signal
import struct
import tempfile
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers

TASKS = ["causal", "vlm", "seq2seq", "mlm"]
KINDS = ["gqa", "mqa", "mha"]
HIDDEN = "hidden_size d_model n_embd dim embed_dim emb_dim hidden_dim width".split()
HEADS = re.compile(r"^(swa_|num_|n_|encoder_|decoder_|num_sliding_)?(attention_)?heads?$")
KV_HEADS = re.compile(r"(key_value_heads|kv_heads|kv_n_heads|head_kv)$")
HEAD_DIMS = "head_dim d_kv attention_head_size dim_head".split()
LAYERS = re.compile(r"^(num_|n_|encoder_|decoder_)?((hidden|decoder|encoder)_)?(layers?|depth)$")
EXPERTS = re.compile(r"^(num_experts|n_routed_experts|num_local_experts|moe_num_experts|num_routed_experts)$")
TOP_K = re.compile(r"^(num_experts_per_tok|moe_topk|moe_k|moe_top_k|top_k_experts)$")
INDICES = re.compile(r"(layers|indexes|indices|idxs|_ids)$")
LINKED = re.compile(r"(hidden|dim|size|width|d_model|embd|channels|rank)")
# Never touched: what the class is, tokens, and settings of training and generation.
FIXED = re.compile(r"(^(architectures|model_type|dtype|torch_dtype|transformers_version|id2label|label2id|_name_or_path"
                   r"|problem_type|is_encoder_decoder|is_decoder|return_dict|use_cache|output_.*|is_encoder|langs"
                   r"|languages|supported_aspect_ratios|image_grid_pinpoints|.*dropout.*|beta_.*|max_length)$"
                   r"|token_ids?$|token_index$|_token$|^rope_|_eps$|_epsilon$)")
# Words that change structure, or prove that they don't.
WORDS = {
    "weight_mode": ["single", "fused"], "norm_type": ["layer_norm", "rms_norm"],
    "normalization_type": ["no_norm", "layer_norm"], "position_embedding_type": ["absolute", "rotary", "rope", "nope"],
    "encoder_attention_type": ["local", "transient-global"], "attention_type": ["block_sparse", "original_full"],
    "feed_forward_proj": ["relu", "gated-gelu"], "pooling_type": ["mean", "max"], "attn_type": ["vanilla", "none"],
    "scoring_func": ["sigmoid", "softmax", "sqrtsoftplus"],
}
ACTIVATIONS = ["gelu", "silu", "relu", "gelu_pytorch_tanh"]
MORE_WORDS = {"mlp_layer_types": ["dense", "sparse"], "indexer_types": ["full", "shared"]}
# What only has meaning together, by a key of the scope.
BUNDLES = {
    "enable_moe_block": {"enable_moe_block": True, "num_experts": 5, "top_k_experts": 2, "moe_intermediate_size": 26},
    "is_moe": {"is_moe": True, "num_experts": 9, "num_experts_per_tok": 2},
    "use_resampler": {"use_resampler": True},
    "relative_attention": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 20},
    "add_cross_attention": {"add_cross_attention": True, "is_decoder": True},
    "shared_expert_intermediate_size": {"num_experts": 0},
    "shared_intermediate_size": {"num_local_experts": 0},
}


class Refused(Exception):
    """Of a mutated configuration, by the class."""


def leaves(config, path=()):
    for key, value in config.items():
        if isinstance(value, dict) and not key.endswith("2label") and "__float__" not in value:
            yield from leaves(value, path + (key,))
        else:
            yield path + (key,), value


def at(config, path):
    for key in path:
        config = config[key]
    return config


def changed(config, changes):
    config = copy.deepcopy(config)
    for path, value in changes.items():
        at(config, path[:-1])[path[-1]] = value
    return config


def integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def scopes(config, path=()):
    """Paths of the dictionaries that are configurations, text before towers."""
    inner = [key for key, value in config.items()
             if isinstance(value, dict) and ("model_type" in value or key.endswith("config") or HIDDEN[0] in value)]
    found = [path] + [deeper for key in inner for deeper in scopes(config[key], path + (key,))]
    return sorted(found, key=lambda p: (not any("text" in k or "llm" in k or "decoder" in k for k in p), len(p)))


class Subject:
    """A class of the library and whether it accepts a configuration."""

    def __init__(self, entry, source, most, tried=True):
        self.make = getattr(transformers, entry["cls"])
        self.most, self.forward = most, False
        self.base = json.loads((source / "config.json").read_text())
        self.forward = tried and self.accepts(self.base, forward=True)
        self.tries = 0

    def build(self, config, device="cpu"):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "config.json").write_text(json.dumps(config))
            parsed = self.make.config_class.from_pretrained(folder)
        with torch.device(device):
            return self.make(parsed)

    def signature(self, config):
        """Names, shapes and which of them share memory, made without memory for values."""
        model, first, found = self.build(config, "meta"), {}, {}
        for name, value in model.named_parameters(remove_duplicate=False):
            found[name] = (tuple(value.shape), first.setdefault(id(value), name))
        for name, value in model.state_dict().items():
            found.setdefault(name, (tuple(value.shape), name))
        if sum(torch.Size(shape).numel() for name, (shape, same) in found.items() if name == same) > self.most:
            raise Refused("too large")
        return found

    def run(self, model, config):
        special = {v for p, v in leaves(config) if integer(v) and ("token" in p[-1] or p[-1].endswith("_id"))}
        ids = torch.tensor([[i for i in range(10, 100) if i not in special][:12]])
        both = dict(decoder_input_ids=ids) if getattr(model.config, "is_encoder_decoder", False) else {}
        with torch.no_grad():
            model.eval()(input_ids=ids, **both)

    def accepts(self, config, forward=None):
        signal.alarm(30)
        try:
            self.tries += 1
            self.signature(config)
            model = self.build(config)
            if self.forward if forward is None else forward:
                self.run(model, config)
            return True
        except (Exception, SystemExit):
            return False
        finally:
            signal.alarm(0)

    tries = 0

    def stored(self, config):
        """What `save_pretrained` writes: the configuration, and the list in the oracle's form."""
        model = self.build(config).to(torch.bfloat16)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            tensors = {}
            for file in sorted(Path(folder).glob("*.safetensors")):
                with open(file, "rb") as stream:
                    (length,) = struct.unpack("<Q", stream.read(8))
                    head = json.loads(stream.read(length))
                tensors |= {k: [v["dtype"], v["shape"]] for k, v in head.items() if k != "__metadata__"}
            written = json.loads(Path(folder, "config.json").read_text())
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        unique = dict(model.named_parameters())
        return written, {
            "params_unique": sum(p.numel() for p in unique.values()),
            "elements_stored": sum(torch.Size(shape).numel() for _, shape in tensors.values()),
            "tied_not_stored": sorted(set(names) - set(unique)),
            "tensors": dict(sorted(tensors.items())),
        }


class Plan:
    """The groups of one variant. A group is (name, alternatives), an alternative makes changes from a configuration."""

    def __init__(self, subject, number, count, rng):
        self.subject, self.base, self.number, self.count, self.rng = subject, subject.base, number, count, rng
        self.kind, self.linking = KINDS[number % 3], number % 2 == 1
        self.done, self.groups = set(), []
        for path in scopes(self.base):
            self.scope(path)
        self.vocabularies()
        self.flags()
        self.rest()

    def add(self, name, paths, *alternatives):
        self.done |= set(paths)
        self.groups.append((name, alternatives))

    def draw(self, config, low, high, step=1, keep=lambda value: True):
        """A number that isn't in use, where there is one."""
        used = {v for _, v in leaves(config) if integer(v) and v > 4}
        numbers = [v for v in range(-(-low // step) * step, high + 1, step) if keep(v)]
        return self.rng.choice([v for v in numbers if v not in used] or numbers or [low])

    def scope(self, path):
        scope = at(self.base, path)
        keys = [key for key, value in scope.items() if integer(value)]
        hidden = next((key for key in HIDDEN if key in keys), None)
        if hidden:
            mine = [path + (k,) for k in keys if k == hidden or HEADS.match(k) or KV_HEADS.search(k) or k in HEAD_DIMS]
            ways = [(False, False), (False, True), (True, False), (True, True)]
            ways.sort(key=lambda way: way[1] != self.linking)
            shapes = [lambda c, w=w: self.shape(c, path, hidden, *w) for w in ways]
            shapes += [lambda c, l=l: self.shape(c, path, hidden, True, l, True) for l in (False, True)]
            self.add("shape", mine, *shapes)
        for key in [k for k in keys if LAYERS.match(k)]:
            self.layers(path, key)
        if "kv_lora_rank" in keys:
            self.latent(path, scope)
        if "linear_num_key_heads" in keys:
            names = ["linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"]
            paths = [path + (n,) for n in names]
            make = lambda c, much: dict(zip(paths, (
                heads := self.rng.choice([2, 3, 4]), heads * self.rng.choice([1, 2, 3] if much else [1, 2]),
                self.draw(c, 6, 24, 2), self.draw(c, 6, 24, 2))))
            self.add("linear", paths, lambda c: make(c, True), lambda c: make(c, False))
        experts = [k for k in keys if EXPERTS.match(k)]
        if experts:
            names = experts + [k for k in keys if TOP_K.match(k)] + [k for k in ("n_group", "topk_group") if k in keys]

            def make(config, grouped):
                groups = self.rng.choice([1, 2, 3]) if grouped else 1
                number = groups * self.rng.choice([3, 4, 5] if groups > 1 else [4, 5, 7, 8, 9])
                size = dict(n_group=groups, topk_group=self.rng.randint(1, groups))
                return {path + (n,): number if n in experts else size.get(n) or self.rng.randint(1, 3) for n in names}
            self.add("experts", [path + (n,) for n in names], lambda c: make(c, True), lambda c: make(c, False),
                     lambda c: {path + (n,): 5 for n in experts}, lambda c: {path + (n,): 8 for n in experts})
        if integer(scope.get("patch_size")) and integer(scope.get("image_size")):
            def make(config, much):
                patch = self.draw(config, 4, 18, 2) if much else scope["patch_size"]
                side = self.rng.choice([2, 4, 6]) if much else scope["image_size"] // scope["patch_size"] * 2
                return {path + ("patch_size",): patch, path + ("image_size",): patch * max(side, 1)}
            self.add("image", [path + ("patch_size",), path + ("image_size",)], lambda c: make(c, True),
                     lambda c: make(c, True), lambda c: make(c, False))

    def shape(self, config, path, hidden, coupled, linked, coarse=False):
        """Another width with heads of another number and size; everything that must follow follows."""
        old, now, rng = at(self.base, path), at(config, path), self.rng
        heads = [k for k, v in old.items() if HEADS.match(k) and integer(v)]
        dims = [k for k in HEAD_DIMS if integer(old.get(k)) and old.get(k) != old.get("qk_rope_head_dim")]
        mamba2 = "expand" in old and "num_heads" in old
        factors = [v for p, v in leaves(old) if p[-1] == "partial_rotary_factor" and isinstance(v, float)]
        rotates = lambda d: all(int(d * f) > 0 and int(d * f) % 2 == 0 for f in factors)
        wide = old[hidden] > 100
        if not heads or mamba2:
            step = 32 if coarse else 8 if coupled else 4
            width = now[hidden] if now[hidden] != old[hidden] else self.draw(config, 24, 140, step)
            new = {hidden: width}
        else:
            fits = {"gqa": [4, 6, 8], "mqa": [2, 3, 4, 5], "mha": [2, 3, 5, 6]}[self.kind]
            if coarse:
                fits = [2, 4, 8]
            each = [d for d in (range(8, 49, 8) if coarse else range(6, 30, 2)) if rotates(d)] or [16]
            fixed = now[hidden] != old[hidden]
            if fixed:
                width = now[hidden]
                number = rng.choice([a for a in fits + [2, 3, 4] if width % a == 0 and width // a % 2 == 0] or [1])
                size = width // number
            else:
                number = rng.choice(fits)
                size = rng.choice([d for d in each if (100 if wide else 20) <= d * number <= (260 if wide else 140)]
                                  or each)
                width = size * number
            if not coupled:
                size = self.draw(config, each[0], each[-1], 1, lambda d: d in each and d * number != width)
            new = {hidden: width, heads[0]: number}
            new |= {k: rng.choice([a for a in (2, 3, 4, 6) if width % a == 0 and width // a % 2 == 0] or [number])
                    for k in heads[1:]}
            new |= {k: size for k in dims}
            parts = [k for k in range(2, number) if number % k == 0]
            kv = {"gqa": rng.choice(parts or [1]), "mqa": 1, "mha": number}[self.kind]
            if coarse and linked or "kv_lora_rank" in old:
                kv = number
            new |= {k: kv for k, v in old.items() if KV_HEADS.search(k) and integer(v) and not k.startswith("index")}
            if "num_attention_heads_per_layer" in old:
                new["num_attention_heads_per_layer"] = [kv * rng.choice([1, 2, 3]) for _ in
                                                        now["num_attention_heads_per_layer"]]
            for rotary in ("rotary_dim", "query_pre_attn_scalar"):
                if integer(old.get(rotary)):
                    new[rotary] = rng.choice(range(2, size + 1, 2)) if rotary == "rotary_dim" else size
        changes = {path + (k,): v for k, v in new.items()}
        seen = {**now, **new}
        first = lambda source, *names: next((source[n] for n in names if integer(source.get(n))), 0)
        inner = lambda s: first(s, "mamba_expand", "expand") * s[hidden]
        count = next((k for k in ("mamba_n_heads", "n_mamba_heads", "mamba_num_heads", "num_heads") if k in old), None)
        part = next((k for k in ("mamba_d_head", "mamba_headdim", "mamba_head_dim", "head_dim") if k in old), None)
        grouped = next((k for k in ("mamba_n_groups", "mamba_ngroups", "n_groups") if k in old), None)
        if count and part and grouped and inner(old) and inner(old) == old[count] * old[part]:
            expand = "expand" if "expand" in old else "mamba_expand"
            seen[expand] = rng.choice([1, 2, 3])
            pieces = [d for d in range(4, 50) if inner(seen) % d == 0 and 2 <= inner(seen) // d <= 24]
            seen[part] = rng.choice(pieces or [inner(seen)])
            seen[count] = inner(seen) // seen[part]
            seen[grouped] = rng.choice([g for g in (1, 2, 3, 4) if seen[count] % g == 0])
            changes |= {path + (k,): seen[k] for k in (expand, part, count, grouped)}
            self.done |= {path + (k,) for k in (expand, part, count, grouped)}
        total = lambda s: first(s, *heads) if heads else 0
        follow = {"attention_hidden_size": lambda s: 2 * s[hidden], "num_query_groups": total,
                  "attention_head_dim": lambda s: 2 * s[hidden] // max(total(s), 1),
                  "kv_channels": lambda s: s[hidden] // max(total(s), 1),
                  "mamba_d_ssm": lambda s: s.get("mamba_n_heads", 0) * s.get("mamba_d_head", 0)}
        for key, rule in follow.items():
            if integer(old.get(key)) and rule(old) == old[key]:
                changes[path + (key,)] = rule(seen)
                self.done.add(path + (key,))
        if "axial_pos_embds_dim" in old:
            some = seen[hidden] // 3
            changes[path + ("axial_pos_embds_dim",)] = [some, seen[hidden] - some]
        for deep, value in leaves(old):
            if deep[-1] == "mrope_section" and dims:
                half = int(seen[dims[0]] * (factors[0] if factors else 1)) // 2
                each = half // len(value)
                changes[path + deep] = [half - each * (len(value) - 1)] + [each] * (len(value) - 1)
        if linked:
            for other, value in leaves(self.base):
                if value == old[hidden] and integer(value) and LINKED.search(other[-1]) and other not in changes \
                        and not re.search("vocab|intermediate|ffn|head", other[-1]) and not FIXED.search(other[-1]):
                    changes[other] = changes[path + (hidden,)]
        return changes

    def layers(self, path, key):
        """Another number of layers, with every list of something per layer made anew."""
        scope, rng = at(self.base, path), self.rng
        length = scope[key]
        side = "encoder" if "encoder" in key else "decoder" if "decoder" in key else ""
        lists = {k: v for k, v in scope.items() if isinstance(v, list) and not FIXED.search(k)
                 and (len(v) == length and length > 1 or "layer" in k and len(v) == length)
                 and k not in ("block_sizes", "num_attention_heads_per_layer") and (not side or side in k)}
        places = {k: v for k, v in scope.items() if INDICES.search(k) and k not in lists and v != [] and
                  isinstance(v, list) and all(integer(x) and x >= 0 for x in v) and not FIXED.search(k)}
        per_layer = "num_attention_heads_per_layer"

        def make(config, number, how):
            changes = {path + (key,): number}
            for name, values in lists.items():
                words = sorted({json.dumps(v) for v in values})
                words += [w for w in map(json.dumps, MORE_WORDS.get(name, [])) if w not in words]
                if how == "derive":
                    remade = None
                elif how == "repeat" or values == sorted(set(values), key=str) == list(range(length)):
                    remade = list(range(number)) if values == list(range(length)) else \
                        [values[i % len(values)] for i in range(number)]
                else:
                    picked = rng.sample(words, min(number, len(words)))
                    picked += [rng.choice(words) for _ in range(number - len(picked))]
                    rng.shuffle(picked)
                    remade = [json.loads(w) for w in picked]
                changes[path + (name,)] = remade
            for name, values in places.items():
                most = min(len(values), number)
                changes[path + (name,)] = sorted(rng.sample(range(number), rng.randint(min(1, most), most)))
            now = at(config, path).get(per_layer)
            if now and key == "num_hidden_layers":
                changes[path + (per_layer,)] = [rng.choice(now) for _ in range(number)]
            return changes
        other = lambda: rng.choice([n for n in range(1 if self.number == 2 else 2, 8) if n != length])
        ways = [lambda c: make(c, other(), "random"), lambda c: make(c, other(), "random"),
                lambda c: make(c, length * 2, "repeat"), lambda c: make(c, length + 1, "repeat"),
                lambda c: make(c, length, "random"), lambda c: make(c, other(), "derive")]
        if self.number == 1 and lists:
            ways.insert(0, ways.pop())
        self.add("layers", [path + (k,) for k in (key, *lists, *places, per_layer) if k in scope], *ways)

    def latent(self, path, scope):
        names = [k for k in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim") if scope.get(k)]

        def make(config, ranks):
            new = {k: self.draw(config, 6, 30, 4 if k == "qk_rope_head_dim" else 2) for k in names}
            if "q_lora_rank" in scope:
                new["q_lora_rank"] = None if ranks == "null" else self.draw(config, 14, 40, 2)
            if integer(scope.get("qk_head_dim")):
                new["qk_head_dim"] = new["qk_nope_head_dim"] + new["qk_rope_head_dim"]
            if scope.get("head_dim") in (scope.get("qk_rope_head_dim"), scope.get("qk_head_dim")):
                same = "qk_rope_head_dim" if scope["head_dim"] == scope["qk_rope_head_dim"] else "qk_head_dim"
                new["head_dim"] = new[same]
            if ranks == "keep":
                new = {k: v for k, v in new.items() if k == "kv_lora_rank"}
            return {path + (k,): v for k, v in new.items()}
        ways = ["some", "null", "keep"] if self.number % 2 else ["null", "some", "keep"]
        paths = [path + (k,) for k in (*names, "q_lora_rank", "qk_head_dim", "head_dim") if k in scope]
        self.add("latent", paths, *[lambda c, w=w: make(c, w) for w in ways])

    def vocabularies(self):
        paths = [p for p, v in leaves(self.base) if "vocab_size" in p[-1] and integer(v) and v > 20]
        same = collections.defaultdict(list)
        for path in paths:
            same[at(self.base, path)].append(path)
        highest = max([v for p, v in leaves(self.base) if integer(v) and "token" in p[-1] and v < 400] or [0])
        fresh = lambda c, v: self.draw(c, max(int(v * 0.7), min(highest + 2, v)), int(v * 1.4))

        def linked(config, rounded=1):
            return {p: n for v, each in same.items() for n in [fresh(config, v) // rounded * rounded] for p in each}

        def apart(config):
            changes = {}
            for path in paths:
                changes[path] = fresh(changed(config, changes), at(self.base, path))
            return changes
        ways = [apart, linked, lambda c: linked(c, 8), lambda c: {p: v + 64 for v, e in same.items() for p in e}]
        self.add("vocabulary", paths, *(ways[1:2] + ways[:1] + ways[2:] if self.linking else ways))

    def structural(self, path, value):
        """Whether the class, with only this changed, has other tensors; None if it refuses."""
        cache = self.subject.__dict__.setdefault("probes", {})
        where = (path, json.dumps(value))
        if where not in cache:
            base = cache.setdefault("base", None) or self.subject.signature(self.base)
            cache["base"] = base
            try:
                cache[where] = self.subject.signature(changed(self.base, {path: value})) != base
            except (Exception, SystemExit):
                cache[where] = None
        return cache[where]

    def flags(self):
        """Booleans, words, and null for numbers and numbers for null."""
        rng, patterns = self.rng, [0b0101, 0b0011, 0b0110, 0b1010, 0b1100, 0b1001]
        turn, tying = 0, [p for p, v in leaves(self.base) if p[-1] == "tie_word_embeddings" and isinstance(v, bool)]
        flip = lambda ps: (lambda c: {p: not at(self.base, p) for p in ps})
        if tying and self.number % 2 == 0:
            self.add("flag", tying, flip(tying), *[flip([p]) for p in tying])
        for path, value in list(leaves(self.base)):
            key = path[-1]
            if path in self.done or FIXED.search(key):
                continue
            if isinstance(value, bool):
                effect, turn = self.structural(path, not value), turn + 1
                mine = patterns[turn % 6] >> (self.number % 4) & 1
                if key in BUNDLES or effect is None or (not effect and rng.random() > 0.2) or not mine:
                    continue
                self.add("flag", [path], flip([path]))
            elif value is None:
                options = [v for v in (26, True, 0.5, "rope") if self.structural(path, v)]
                if options and rng.random() < 0.6:
                    wanted = options[0]
                    self.add("unset", [path],
                             lambda c, p=path, w=wanted: {p: self.draw(c, 10, 60, 2) if integer(w) else w})
            elif integer(value) and not LAYERS.match(key) and rng.random() < 0.3 and "vocab" not in key:
                if self.structural(path, None) is not None:
                    self.add("null", [path], lambda c, p=path: {p: None})
            elif isinstance(value, float) and rng.random() < 0.6:
                options = [v for v in (0.5, 0.25, 2.0, 1.5, 3.0) if v != value and self.structural(path, v)]
                if options:
                    self.add("ratio", [path], *[lambda c, p=path, v=v: {p: v} for v in rng.sample(options, 1) + options])
            elif isinstance(value, str) and rng.random() < 0.5:
                acts = ACTIVATIONS if re.search(r"(^|_)(hidden_)?(act|activation|act_fn|activation_function)$", key) else []
                options = [w for w in WORDS.get(key, acts) if w != value]
                rng.shuffle(options)
                gate = path[:-1] + ("is_gated_act",)
                extra = lambda w: {gate: w.startswith("gated")} if key == "feed_forward_proj" else {}
                if options:
                    self.add("word", [path], *[lambda c, p=path, w=w: {p: w, **extra(w)} for w in options])
        for path in scopes(self.base):
            for key, bundle in BUNDLES.items():
                if key in at(self.base, path) and all(k in at(self.base, path) for k in bundle) and rng.random() < 0.4:
                    self.add("bundle", [], lambda c, p=path, b=bundle: {p + (k,): v for k, v in b.items()})

    def rest(self):
        """Every other number, and lists of numbers."""
        rng = self.rng
        for path, value in list(leaves(self.base)):
            key = path[-1]
            if path in self.done or FIXED.search(key) or any(k.startswith("rope") for k in path):
                continue
            linked = [p for p, v in leaves(self.base) if v == value and integer(v) and p in self.done]
            if self.linking and LINKED.search(key) and linked and any(p[-1] in HIDDEN for p in linked):
                continue
            if integer(value) and value >= 0:
                even = 2 if value % 2 == 0 else 1
                if value <= 3:
                    few = [n for n in range(0 if re.search("shared|dense|nextn|mtp|first", key) or not value else 1, 5)
                           if n != value]
                    rng.shuffle(few)
                    ways = [lambda c, p=path, n=n: {p: n} for n in few[:3]]
                elif value <= 8:
                    small = rng.sample([n for n in range(2, 10) if n != value], 3)
                    ways = [lambda c, p=path, n=n: {p: n} for n in small + [value * 2]]
                else:
                    ways = [lambda c, p=path, v=value, s=s: {p: self.draw(c, int(v * 0.6), int(v * (1.6 if v < 300 else 1)), s)}
                            for s in (even, 4, 8)]
                    ways.append(lambda c, p=path, v=value: {p: v * 2 if v < 200 else v // 2})
                if re.search("proj|hidden|dim|size", key) and value > 8:
                    wide = next((p for p in linked if p[-1] in HIDDEN), None)
                    if wide:
                        ways.append(lambda c, p=path, w=wide: {p: at(c, w)})
                self.add("number", [path], *ways)
            elif isinstance(value, list) and value and all(integer(v) and v > 0 for v in value):
                jitter = [max(1, v + rng.choice([-1, 1, 2])) for v in value]
                ways = [[rng.randint(1, 4) for _ in value] if max(value) < 5 else jitter, [v * 2 for v in value],
                        value[::-1]]
                self.add("list", [path], *[lambda c, p=path, w=w: {p: w} for w in ways])

    def removals(self, config):
        """Groups that leave keys out."""
        keys = [p for p, v in leaves(config) if not re.match("architectures|model_type|transformers_version", p[-1])
                and not LAYERS.match(p[-1]) and not p[-1].endswith("2label")]
        often = re.compile("head_dim|key_value_heads|kv_heads|_types$|_bias$|^tie_|^use_|qk_|type")
        return [p for p in keys if self.rng.random() < (0.7 if often.search(p[-1]) or at(config, p) is None else 0.3)]


def accepted(subject, config, groups, refused, budget):
    """The configuration with as many groups as the class takes."""
    if not groups or subject.tries > budget:
        refused += [name for name, _ in groups]
        return config
    for attempt in range(1 if len(groups) > 1 else len(groups[0][1])):
        changed_config = config
        try:
            for _, ways in groups:
                changed_config = changed(changed_config, ways[attempt](changed_config))
        except (ArithmeticError, KeyError, TypeError, IndexError, ValueError):
            continue
        if subject.accepts(changed_config):
            return changed_config
    if len(groups) == 1:
        refused.append(groups[0][0])
        return config
    half = len(groups) // 2
    config = accepted(subject, config, groups[:half], refused, budget)
    return accepted(subject, config, groups[half:], refused, budget)


def without(subject, config, paths, budget):
    """The configuration without as many of the keys as the class can spare, and which."""
    if not paths or subject.tries > budget:
        return config, []
    less = copy.deepcopy(config)
    for path in paths:
        at(less, path[:-1]).pop(path[-1])
    if subject.accepts(less):
        return less, paths
    if len(paths) == 1:
        return config, []
    half = len(paths) // 2
    config, first = without(subject, config, paths[:half], budget)
    config, second = without(subject, config, paths[half:], budget)
    return config, first + second


def variant(subject, number, count, rng, budget):
    """One variant as (config, expected), or Refused."""
    subject.tries, refused = 0, []
    plan = Plan(subject, number, count, rng)
    config, _ = subject.stored(accepted(subject, subject.base, plan.groups, refused, budget))
    removed = []
    if number == count - 1:
        subject.tries = 0
        config, removed = without(subject, config, plan.removals(config), budget)
    written, expected = subject.stored(config)
    if not removed and subject.stored(written)[1] != expected:
        raise Refused("the saved configuration makes other tensors")
    config = config if removed else written
    old, new = dict(leaves(subject.base)), dict(leaves(config))
    gone = sorted(".".join(p) for p in old if p not in new)
    expected["mutated"] = {".".join(p): [old.get(p), v] for p, v in new.items() if p not in old or old[p] != v}
    return config, {**expected, "removed": gone, "refused": dict(collections.Counter(refused))}


def stated(subject, words):
    """The configuration that a line of changes makes, and what it makes of the class."""
    config = copy.deepcopy(subject.base)
    for word in words:
        key, _, value = word.lstrip("-").partition("=")
        *inner, last = key.split(".")
        scope = config
        for part in inner:
            scope = scope.setdefault(part, {})
        if word.startswith("-"):
            scope.pop(last, None)
        else:
            scope[last] = json.loads(value)
    return config, subject.stored(config)[1]


def write_stated(options, index):
    numbers = collections.Counter()
    for line in options.stated.read_text().splitlines():
        name, *words = line.split()
        if options.only and name not in options.only:
            continue
        entry, source = index[name], options.oracle / "tiny" / index[name]["dir"]
        torch.manual_seed(0)
        subject = Subject(entry, source, options.most, tried=False)
        try:
            config, expected = stated(subject, words)
        except Exception as error:
            print(f"{line}\n  refused: {type(error).__name__}: {str(error)[:200]}", flush=True)
            continue
        numbers[name] += 1
        folder = options.out / name / f"s{numbers[name]}"
        folder.mkdir(parents=True, exist_ok=True)
        head = {"model_type": entry["config_model_type"], "architecture": entry["cls"], "task": entry["task"]}
        (folder / "expected.json").write_text(json.dumps({**head, **expected, "stated": words}))
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--oracle", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=4, help="variants of each type")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=int, default=3_000_000, help="elements in a model")
    parser.add_argument("--budget", type=int, default=90, help="tries for a variant")
    parser.add_argument("--only", nargs="+", metavar="TYPE")
    parser.add_argument("--stated", type=Path, metavar="FILE", help="variants to make, a line each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

    def late(*_):
        raise Refused("too slow")
    signal.signal(signal.SIGALRM, late)
    index = json.loads((options.oracle / "INDEX.json").read_text())
    if options.stated:
        write_stated(options, index)
        return
    names = sorted(index, key=lambda name: (TASKS.index(index[name]["task"]), name))
    for name in options.only or names:
        begin, entry, source = time.time(), index[name], options.oracle / "tiny" / index[name]["dir"]
        torch.manual_seed(0)
        subject = Subject(entry, source, options.most)
        want = json.loads((source / "expected.json").read_text())
        have = subject.stored(subject.base)[1]
        if any(have[key] != want[key] for key in have):
            print(f"{name}: not as in the oracle: {[key for key in have if have[key] != want[key]]}", flush=True)
            continue
        seen, notes = [want["tensors"]], []
        for number in range(options.count):
            for again in range(3):
                rng = random.Random(f"{options.seed} {name} {number} {again}")
                try:
                    config, expected = variant(subject, number, options.count, rng, options.budget)
                    if expected["tensors"] in seen:
                        raise Refused("no other tensors")
                except (Exception, SystemExit) as error:
                    notes.append(f"{number}: {type(error).__name__}: {str(error)[:200]}")
                    continue
                seen.append(expected["tensors"])
                folder = options.out / name / str(number)
                folder.mkdir(parents=True, exist_ok=True)
                head = {"model_type": entry["config_model_type"], "architecture": entry["cls"], "task": entry["task"]}
                (folder / "expected.json").write_text(json.dumps({**head, **expected}))
                (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
                notes.append(f"{number}: {len(expected['mutated'])} changed, {len(expected['removed'])} removed, "
                             f"{sum(expected['refused'].values())} refused, {subject.tries} tries")
                break
        forward = "" if subject.forward else " (no forward pass)"
        print(f"{name}: {len(seen) - 1} in {time.time() - begin:.0f} s{forward}\n  " + "\n  ".join(notes), flush=True)


if __name__ == "__main__":
    main()
