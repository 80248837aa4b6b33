#!/usr/bin/env python3
"""Compare configurations and weight indexes of published models with what `anatomy` makes of them.

    tools/check-hub.py --hub DIR --anatomy BINARY [--atlas FOLDER] [NAME ...]

Each folder of DIR holds a model's config.json and its index (`*.index.json`, plain or `.gz`), and no weights. For each:

 - every name of the index must be a row of the blueprint (under its name or an alias; optional rows count), what packing
   stores for such a row, or be told by a finding of `anatomy check`;
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
PACKED = ["qweight", "weight_packed", "weight_quantized", "W_q", "codes", "weight._data", "_blocks"]
SIDES = (
    r"qzeros|g_idx|weight_g_idx|scales|biases|zeros|weight_scale(_inv|_2)?|weight_global_scale|weight_zero_point"
    r"|weight_shape|weight_scales|weight_format|input_scale|input_global_scale|input_zero_point|k_scale|v_scale"
    r"|SCB|absmax|quant_map|nested_absmax|nested_quant_map|bitsandbytes__\w+|codebooks|scale|zero|meta|_scale|_shift"
)
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

    used, missing, size = set(), [], 0
    rows = set()
    for row in blueprint["tensors"]:
        spelled = [row["name"], *row.get("aliases", [])]
        rows.update(spelled)
        held = next((name for name in spelled if name in names), None)
        if held:
            size += elements(row["shape"])
        else:
            stems = [re.sub(r"\.weight$", "", name) for name in spelled]
            packed = [f"{stem}{'' if end.startswith('_') else '.'}{end}" for stem in stems for end in PACKED]
            held = next((name for name in packed if name in names), None)
        if held:
            used.add(held)
        elif not row.get("optional") and 0 not in row["shape"]:
            missing.append(row["name"])
    left = []
    for name in sorted(names - used):
        side = re.fullmatch(rf"(.*?)(\.quant_state)?[._]({SIDES})", name)
        if side and (side[1] in rows or side[1] + ".weight" in rows):
            continue
        if name.endswith(".bias") and name[:-4] + "qweight" in names:
            continue
        left.append(name)
    # A finding speaks of the name itself, or of the first of its kind.
    kind = lambda name: re.sub(r"\d+", "N", name)
    spoken = {kind(f["tensor"]) for f in findings if f.get("tensor")}
    words = {word.strip(".,;:()\"'") for f in findings for word in f["message"].split()}
    spoken |= {kind(word) for word in words if "." in word}
    heaps = check.get("explained", 0) >= check.get("listed", 0)  # The rest are tables, heads and layers set aside.
    unexplained = [name for name in left if kind(name) not in spoken and not (heaps and is_aside(name))]
    lost = [name for name in missing if kind(name) not in spoken]

    part = config.get("text_config") or {}
    stated = next((c.get(k) for c in (config, part) for k in ("torch_dtype", "dtype") if c.get(k)), None)
    quantised = any(key in c for c in (config, part) for key in ("quantization_config", "quantization"))
    wide = BYTES.get(str(stated).removeprefix("torch."))
    sized = "no dtype" if not wide else "packed" if quantised else None
    good = True
    if sized is None:
        off = (total or 0) - size * wide
        sized = "sizes agree" if off == 0 else f"total_size {total} is {off:+} from {size} x {wide}"
        tables = len(names) - len(used)
        said = any("total" in finding["rule"] for finding in findings)
        good = off == 0 or said or (off > 0 and tables > 0 and left != [])
        sized += " (said)" if off and said else " (tables)" if off and good else ""
    line = f"{blueprint['family']}: {len(names)} names, {len(unexplained)} unexplained, {len(lost)} missing; {sized}"
    details = [f"unexplained {name}" for name in patterns(unexplained)] + [f"missing {name}" for name in patterns(lost)]
    return line, details + told, good and not unexplained and not lost


def is_aside(name):
    """Tables, adapters, heads of a tied embedding and next-token layers, of which `check` tells only the first."""
    tables = r"inv_freq|causal_mask|masked_bias|attention\.bias|attn\.bias|position_ids|rotary_emb|\.lora_|mtp|nextn|lm_head"
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
