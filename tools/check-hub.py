#!/usr/bin/env python3
"""Compare configurations and weight indexes of published models with what `anatomy` makes of them.

    tools/check-hub.py --hub DIR --anatomy BINARY [--atlas FOLDER] [NAME ...]

Each folder of DIR holds a model's config.json and its index (`*.index.json`, plain or `.gz`), and no weights. For each:

 - every name of the index must be a row of the blueprint (under its name or an alias; optional rows count), what
   packing stores for such a row, or be told by a finding of `anatomy check`;
 - every row that is not optional must be in the index, unless a finding names it;
 - `total_size` must be the bytes of the rows that the index lists, in the type that the configuration states (tables
   that are no rows have unknown sizes; packed models are not summed), unless a finding says that it is not.

Prints a line for each model, what differs, and what `check` says beside the shards that are not there. Exits 1 if
anything is unexplained, missing, or summed otherwise. A family that is refused is printed, and no fault.
"""
import argparse
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

# What packing puts behind a module's name (or its weight's), and what that stands for.
PACKED = ["qweight", "q_weight", "trellis", "weight_packed", "weight_quantized", "W_q", "codes", "weight._data"]
PACKED += ["_blocks"]
SIDES = (
    r"qzeros|g_idx|weight_g_idx|scales|biases|zeros|weight_scale(_inv|_2)?|weight_global_scale|weight_zero_point"
    r"|weight_shape|weight_scales|weight_format|input_scale|input_global_scale|input_zero_point|k_scale|v_scale|q_scale"
    r"|q_groups|q_group_map|q_invperm|q_scale_max|suh|svh"
    r"|SCB|absmax|quant_map|nested_absmax|nested_quant_map|bitsandbytes__\w+|codebooks|scale|zero|meta"
    r"|_scale|_shift|res_u|res_v|salient_(idx|weight|scale)"
)
FILES = ["shard-missing", "git-lfs-pointer", "git-lfs-other-version"]
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stdout) if done.stdout.strip() else {}, done.stderr.strip()


def unpack(folder, to):
    for file in os.listdir(folder):
        source, target = os.path.join(folder, file), os.path.join(to, file)
        if file.endswith(".gz"):
            with gzip.open(source) as packed, open(target[:-3], "wb") as plain:
                shutil.copyfileobj(packed, plain)
        elif os.path.isfile(source):
            shutil.copyfile(source, target)
    return sorted(file for file in os.listdir(to) if file.endswith(".index.json"))


def patterns(names):
    """One of each kind of name, with how many there are: layers and experts repeat."""
    kinds = {}
    for name in names:
        kinds.setdefault(re.sub(r"\d+", "N", name), []).append(name)
    return [f"{alike[0]}" + (f" and {len(alike) - 1} more" if len(alike) > 1 else "") for alike in kinds.values()]


def elements(shape):
    count = 1
    for size in shape:
        count *= size
    return count


def compare(anatomy, atlas, folder):
    """Returns (line, details, whether all is well)."""
    extra = ["--atlas", atlas] if atlas else []
    with tempfile.TemporaryDirectory() as temporary:
        indexes = unpack(folder, temporary)
        blueprint, refused = run([anatomy, "blueprint", temporary, "--json", *extra])
        check, _ = run([anatomy, "check", temporary, "--json", *extra])
        names, total = set(), None
        for file in indexes:
            try:
                with open(os.path.join(temporary, file)) as text:
                    index = json.load(text)
            except ValueError as error:
                return f"index broken: {error}", [], any(f["rule"] == "index-broken" for f in check.get("findings", []))
            names |= set(index["weight_map"])
            total = (index.get("metadata") or {}).get("total_size")
        try:
            with open(os.path.join(temporary, "config.json")) as text:
                config = json.load(text)
        except ValueError as error:
            return f"configuration broken: {error}", [], "findings" in check
    findings = [finding for finding in check.get("findings", []) if finding["rule"] != "shard-missing"]
    told = [f"{finding['severity']} {finding['rule']}: {finding['message']}" for finding in findings]
    if "tensors" not in blueprint:
        return f"refused: {refused.splitlines()[0] if refused else '?'}", told, True

    # Adapters wrap modules, and some programs put a prefix before all names, which `check` tells.
    rows = {name for row in blueprint["tensors"] for name in [row["name"], *row.get("aliases", [])]}
    plain = {name.removeprefix("base_model.model.") for name in names}
    plain = {re.sub(r"\.(base_layer|original_module)\.", ".", name) for name in plain}
    for finding in findings:
        prefix = re.match(r'all names (begin with|lack) "(.*?)"', finding["message"])
        if prefix and prefix[1] == "lack":
            plain = {name if name in rows else prefix[2] + name for name in plain}
        elif prefix:
            plain = {name.removeprefix(prefix[2]) for name in plain}
    used, missing, size, whole, packed = set(), [], 0, 0, False
    for row in blueprint["tensors"]:
        spelled = [row["name"], *row.get("aliases", [])]
        held, loose = find(spelled, row["shape"], plain)
        packed = packed or loose
        if held:
            used |= held
            if row.get("integers"):
                whole += 8 * elements(row["shape"])
            else:
                size += elements(row["shape"])
        elif not row.get("optional") and 0 not in row["shape"]:
            missing.append(row["name"])
    modules = {stem(name) for name in used}
    left = [name for name in sorted(plain - used)]
    left = [name for name in left if not is_beside(name, used, modules)]
    # A finding speaks of a name, of all names like it, or of all below one word.
    kind = lambda name: re.sub(r"\d+", "N", name)
    spoken = {kind(f["tensor"]) for f in findings if f.get("tensor")}
    messages = " ".join(finding["message"].replace(",", " ") for finding in findings)
    spoken |= {kind(word) + "." for word in re.findall(r"under (\S+)", messages)}
    told_of = lambda name: any(kind(name) == words or kind(name).startswith(words) for words in spoken)
    set_aside = check.get("explained", 0) >= check.get("listed", 0)
    unexplained = [name for name in left if not told_of(name) and not (set_aside and is_aside(name))]
    lost = [name for name in missing if not told_of(name)]

    part = config.get("text_config") or {}
    stated = next((c.get(k) for c in (config, part) for k in ("torch_dtype", "dtype") if c.get(k)), None)
    keys = ("quantization_config", "quantization", "quantization_bit")
    quantised = any(c.get(key) for c in (config, part) for key in keys)
    wide = BYTES.get(str(stated).removeprefix("torch."))
    sized = "no dtype" if not wide else "packed" if quantised or packed else None
    good = True
    if sized is None:
        off = (total or 0) - size * wide - whole
        sized = "sizes agree" if off == 0 else f"total_size {total} is {off:+} from {size} x {wide}"
        said = any("total" in finding["rule"] for finding in findings)
        # Tables that loaders compute have unknown sizes; whether they are too large for that, `check` says.
        good = off == 0 or said or total is None or (off > 0 and left != [])
        sized += " (said)" if off and said else " (tables)" if off and good else ""
    errors = sum(finding["severity"] == "error" and finding["rule"] not in FILES for finding in findings)
    line = f"{blueprint['family']}: {len(names)} names, {len(unexplained)} unexplained, {len(lost)} missing; {sized}"
    line += f"; {errors} errors told" if errors else ""
    details = [f"unexplained {name}" for name in patterns(unexplained)] + [f"missing {name}" for name in patterns(lost)]
    return line, details + told, good and not unexplained and not lost


def stem(name):
    return re.sub(r"\.weight$", "", name)


def find(spelled, shape, names):
    """The names that hold a row, and whether they are packed or lie otherwise than the row says."""
    for name in spelled:
        if name in names:
            return {name}, False
    for name in spelled:
        for other in [[name], *layouts(stem(name), shape)]:
            held = set()
            for part in other:
                ends = [part] + [f"{stem(part)}{'' if end.startswith('_') else '.'}{end}" for end in PACKED]
                held.add(next((end for end in ends if end in names), None))
            if other and None not in held:
                return held, True
    return None, False


def layouts(name, shape):
    """Other ways to keep the experts: one tensor for each, all of one kind in one, gate and up in one."""
    words = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
    fused = re.fullmatch(r"(.*)\.experts\.(gate_up_proj|down_proj)", name)
    one = re.fullmatch(r"(.*)\.experts\.\d+\.(\w+)", name)
    latent = re.fullmatch(r"(.*)\.kv_b_proj", name)
    if fused:
        parts = ["gate_proj", "up_proj"] if fused[2] == "gate_up_proj" else ["down_proj"]
        yield [f"{fused[1]}.experts.{expert}.{part}.weight" for expert in range(shape[0]) for part in parts]
        for stack in ["switch_mlp", "experts.switch_glu"]:
            yield [f"{fused[1]}.{stack}.{part}.weight" for part in parts]
    elif one:
        word = words.get(one[2], one[2])
        yield [f"{one[1]}.experts.{'down_proj' if word == 'down_proj' else 'gate_up_proj'}"]
        for stack in ["switch_mlp", "experts.switch_glu"]:
            yield [f"{one[1]}.{stack}.{word}.weight"]
    elif latent:
        yield [f"{latent[1]}.embed_q.weight", f"{latent[1]}.unembed_out.weight"]


def is_beside(name, used, modules):
    """Whether a name is a scale, a zero point or the like of a name that is explained."""
    side = re.fullmatch(rf"(.*?)(\.quant_state)?[._]({SIDES})", name)
    if side and (side[1] in used or stem(side[1]) in modules or any(f"{side[1]}.{end}" in used for end in PACKED)):
        return True
    return name.endswith(".bias") and name[:-4] + "qweight" in used


def is_aside(name):
    """Tables, adapters, heads of a tied embedding and next-token layers, of which `check` tells only the first."""
    tables = (
        r"inv_freq|causal_mask|masked_bias|attention\.bias|attn\.bias|position_ids|rotary_emb|lora_|mtp|nextn|lm_head"
        r"|decoder\.(weight|bias)$"
    )
    return re.search(tables, name) is not None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hub", required=True)
    parser.add_argument("--anatomy", default="target/release/anatomy")
    parser.add_argument("--atlas")
    parser.add_argument("--most", type=int, default=12, help="lines shown for each model")
    parser.add_argument("--bad", action="store_true", help="only models with something wrong")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    good = total = 0
    for name in args.names or sorted(os.listdir(args.hub)):
        folder = os.path.join(args.hub, name)
        if not os.path.isdir(folder):
            continue
        line, details, well = compare(args.anatomy, args.atlas, folder)
        total += 1
        good += well
        if args.bad and well:
            continue
        print(f"{'ok ' if well else 'BAD'} {name}: {line}")
        for detail in details[: args.most]:
            print("     ", detail)
        if len(details) > args.most:
            print(f"      … and {len(details) - args.most} more")
    print(f"{good} of {total} models are explained")
    sys.exit(good != total)


if __name__ == "__main__":
    main()
