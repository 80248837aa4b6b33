#!/usr/bin/env python3
"""Measures the command as a whole process against the formats' own Python libraries, in turn, in one run.

    cargo build --release
    tools/make-bench-files.py DIR
    benches/run.py DIR [--runs 11] [--anatomy target/release/anatomy] [--python python3]

`--python` names the interpreter that has gguf and safetensors; without them only the command is measured. Wall times
are medians, memory is the largest resident size of the process. Both read files that are in the page cache.
"""

import argparse
import os
import statistics
import subprocess
import time
from pathlib import Path

GGUF = "import sys, gguf; r = gguf.GGUFReader(sys.argv[1]); print(len(r.tensors))"
SAFETENSORS = """
import sys
from safetensors import safe_open
count = 0
for path in sys.argv[1:]:
    with safe_open(path, "np") as file:
        for name in file.keys():
            part = file.get_slice(name)
            part.get_shape(), part.get_dtype()
            count += 1
print(count)
"""


def measure(command):
    """Seconds and bytes of one run."""
    begin = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    taken = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{command[:3]} failed: {errors.decode()[-500:]}")
    return taken, usage.ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--peer-runs", type=int, default=3)
    parser.add_argument("--anatomy", default="target/release/anatomy")
    parser.add_argument("--python", default="python3")
    options = parser.parse_args()
    folder = options.folder
    shards = sorted(map(str, (folder / "trillion").glob("*.safetensors")))
    cases = [
        ("GGUF of 16 GB, 10 MB header", folder / "llama.gguf", GGUF, [folder / "llama.gguf"], 30, 40),
        ("safetensors, 94 k tensors", folder / "experts.safetensors", SAFETENSORS,
         [folder / "experts.safetensors"], 100, None),
        ("safetensors of 16 GB", folder / "llama.safetensors", SAFETENSORS, [folder / "llama.safetensors"], 10, None),
        ("61 shards, 70 k tensors", folder / "trillion", SAFETENSORS, shards, 150, None),
    ]
    probe = subprocess.run([options.python, "-c", "import gguf, safetensors"], capture_output=True)
    if probe.returncode != 0:
        print("gguf and safetensors are not there, so no peer is measured\n")
    print(f"{'case':30} {'median':>9} {'least':>9} {'memory':>9} {'target':>8} {'peer':>9} {'memory':>9} {'ratio':>7}")
    for name, path, program, arguments, most_ms, most_mib in cases:
        own, peer = [], []
        for run in range(options.runs):
            own.append(measure([options.anatomy, "inspect", str(path)]))
            if probe.returncode == 0 and run < options.peer_runs:
                peer.append(measure([options.python, "-c", program, *map(str, arguments)]))
        wall, memory = statistics.median(taken for taken, _ in own), max(memory for _, memory in own)
        least = min(taken for taken, _ in own)
        met = wall * 1000 <= most_ms and (most_mib is None or memory <= most_mib << 20)
        line = f"{name:30} {wall * 1000:6.1f} ms {least * 1000:6.1f} ms {memory / 2**20:5.0f} MiB"
        line += f" {most_ms:5} ms{' ' if met else '!'}"
        if peer:
            other = statistics.median(taken for taken, _ in peer)
            line += f" {other * 1000:6.0f} ms {max(memory for _, memory in peer) / 2**20:5.0f} MiB {other / wall:6.1f}x"
        print(line)


main()
