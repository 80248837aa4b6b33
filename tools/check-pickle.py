#!/usr/bin/env python3
"""Records what CPython's own pickle machines import and call, for comparison with ours.

    tools/check-pickle.py [--seed N] [--count N] [--out FILE] [PICKLE-OR-FOLDER...]

Runs both unpicklers of the Python that it is started with (C and Python), with `find_class` and `persistent_load`
replaced by recorders, over the pickles named and over random streams of opcodes; nothing that a pickle names is
imported or called. Writes one JSON line for each: the stream, and for both machines the imports, the calls, and whether
the stream ran through. `ANATOMY_TRACES=FILE cargo test -p anatomy --test pickle_machine` compares.
"""

import argparse
import base64
import gzip
import io
import json
import os
import pickle
import random
import struct


def unpicklers(log):
    """Unpickler classes of both machines that record into `log`."""

    class Kind(type):
        """Stands for whatever a pickle imports: it can be called, made, filled and changed."""

        def __call__(cls, *args, **kwargs):
            return made("call", cls.label, len(args))

        def __setstate__(cls, state):
            log["calls"].append(["build", cls.label, None])

        def append(cls, item):
            log["calls"].append(["append", cls.label, 1])

        def extend(cls, items):
            log["calls"].append(["append", cls.label, len(items)])

        def add(cls, item):
            log["calls"].append(["add", cls.label, None])

        def __setitem__(cls, key, value):
            log["calls"].append(["item", cls.label, None])

    class Object:
        """Stands for whatever a call gives back."""

        def __init__(self, label):
            self.label = label

        def __call__(self, *args, **kwargs):
            return made("call", self.label, len(args))

        def __setstate__(self, state):
            log["calls"].append(["build", self.label, None])

        append = lambda self, item: log["calls"].append(["append", self.label, 1])
        extend = lambda self, items: log["calls"].append(["append", self.label, len(items)])
        add = lambda self, item: log["calls"].append(["add", self.label, None])

        def __setitem__(self, key, value):
            log["calls"].append(["item", self.label, None])

    def made(kind, label, count):
        log["calls"].append([kind, label, count])
        return Object(f"#{len(log['calls']) - 1}")

    def imported(module, name):
        log["imports"].append([module, name])
        label = f"{module}.{name}"
        new = lambda cls, *args, **kwargs: made("new", label, len(args))
        return Kind("Recorder", (), {"label": label, "__new__": new})

    def asked(identifier):
        log["persistent"] += 1
        return Object("persistent")

    def with_recorders(base):
        class Recorder(base):
            def find_class(self, module, name):
                return imported(module, name)

            def persistent_load(self, identifier):
                return asked(identifier)

        return Recorder

    return with_recorders(pickle.Unpickler), with_recorders(pickle._Unpickler)


def record(stream):
    line = {"pickle": base64.b64encode(stream).decode()}
    for index, name in enumerate(("c", "python")):
        log = {"imports": [], "calls": [], "persistent": 0}
        file = io.BytesIO(stream)
        try:
            unpicklers(log)[index](file).load()
            log["end"] = file.tell()
        except BaseException as error:
            log["error"] = type(error).__name__
        line[name] = log
    return line


MODULES = ["os", "a.b", "collections", "x_y", "torch._utils"]
NAMES = ["system", "Thing", "Outer.Inner", "f", "OrderedDict"]


def text(rand, value):
    data = value.encode()
    return rand.choice([
        lambda: b"V" + data + b"\n",
        lambda: b"X" + struct.pack("<I", len(data)) + data,
        lambda: b"\x8c" + bytes([len(data)]) + data,
        lambda: b"\x8d" + struct.pack("<Q", len(data)) + data,
        lambda: b"S'" + data + b"'\n",
        lambda: b"U" + bytes([len(data)]) + data,
        lambda: b"T" + struct.pack("<i", len(data)) + data,
    ])()


def value(rand):
    number = rand.randrange(256)
    return rand.choice([
        lambda: b"N", lambda: b"\x88", lambda: b"\x89", lambda: b"]", lambda: b"}", lambda: b")", lambda: b"\x8f",
        lambda: b"K" + bytes([number]), lambda: b"M" + struct.pack("<H", number), lambda: b"J" + struct.pack("<i", -number),
        lambda: b"I%d\n" % number, lambda: b"L%dL\n" % number, lambda: b"I01\n", lambda: b"F1.5\n",
        lambda: b"G" + struct.pack(">d", number), lambda: b"\x8a\x02" + bytes(2), lambda: b"\x8b\1\0\0\0" + bytes([number]),
        lambda: b"C\2ab", lambda: b"B\2\0\0\0ab", lambda: b"\x8e" + struct.pack("<Q", 1) + b"z",
        lambda: b"\x96" + struct.pack("<Q", 1) + b"z",
        lambda: text(rand, rand.choice(MODULES)), lambda: text(rand, rand.choice(NAMES)),
    ])()


def imports(rand):
    module, name = rand.choice(MODULES), rand.choice(NAMES)
    if rand.random() < 0.5:
        return b"c" + module.encode() + b"\n" + name.encode() + b"\n"
    return text(rand, module) + text(rand, name) + b"\x93"


def operation(rand):
    index = rand.randrange(6)
    module, name = rand.choice(MODULES).encode(), rand.choice(NAMES).encode()
    return rand.choice([
        lambda: b"0", lambda: b"1", lambda: b"2", lambda: b"(", lambda: b"t", lambda: b"l", lambda: b"d", lambda: b"a",
        lambda: b"e", lambda: b"s", lambda: b"u", lambda: b"\x90", lambda: b"\x91", lambda: b"\x85", lambda: b"\x86",
        lambda: b"\x87", lambda: b"R", lambda: b"b", lambda: b"o", lambda: b"\x81", lambda: b"\x92", lambda: b"\x93",
        lambda: b"i" + module + b"\n" + name + b"\n", lambda: b"Pname\n", lambda: b"Q", lambda: b"\x94",
        lambda: b"q" + bytes([index]), lambda: b"r" + struct.pack("<I", index), lambda: b"p%d\n" % index,
        lambda: b"h" + bytes([index]), lambda: b"j" + struct.pack("<I", index), lambda: b"g%d\n" % index,
        lambda: b"\x80" + bytes([rand.randrange(6)]), lambda: b"\x98",
    ])()


def phrase(rand):
    """A few opcodes that make sense together, most of the time."""
    return rand.choice([
        lambda: value(rand), lambda: operation(rand), lambda: imports(rand),
        lambda: imports(rand) + value(rand) + b"\x85R",
        lambda: imports(rand) + b")\x81",
        lambda: imports(rand) + b")}\x92",
        lambda: imports(rand) + b")R" + value(rand) + b"b",
        lambda: b"(" + imports(rand) + value(rand) + b"o",
        lambda: b"(" + value(rand) + b"i" + rand.choice(MODULES).encode() + b"\nf\n",
        lambda: b"](" + value(rand) + value(rand) + b"e",
        lambda: b"}(" + text(rand, "k") + value(rand) + b"u",
        lambda: imports(rand) + b")R(" + value(rand) + value(rand) + rand.choice([b"e", b"u", b"\x90"]),
        lambda: imports(rand) + value(rand) + b"a",
        lambda: imports(rand) + text(rand, "k") + value(rand) + b"s",
        lambda: b"q%c0h%c" % ((rand.randrange(4),) * 2),
        lambda: b"\x940" + value(rand) + b"h" + bytes([rand.randrange(3)]),
        lambda: b"(" + value(rand) + b"1", lambda: value(rand) + b"0", lambda: b"2" + operation(rand),
    ])()


def stream(rand):
    body = b"".join(phrase(rand) for _ in range(rand.randrange(1, 12)))
    if rand.random() < 0.1:
        at = rand.randrange(len(body) + 1)
        body = body[:at] + bytes([rand.randrange(256)]) + body[at:]
    return (b"\x80" + bytes([rand.randrange(6)]) if rand.random() < 0.5 else b"") + body + b"."


# Where the two machines, or this one and a reader of text, could differ.
TRICKS = [
    b"cos\nsystem\n(V1\ntR.", b"p1\0zzz\n.", b"Np1_0\n0g10\n.", b"Np1\0zz\n0g1\n.", b"Np-0\n0g0\n.", b"Np-1\n.",
    b"I5\0junk\n.", b"I 7 \n.", b"I0x1f\n.", b"I1_000\n.", b"L5\0junk\n.", b"F1.0\0junk\n.", b"F1_0.5\n.", b"Fnan\n.",
    b"S'a'\n.", b"S'a' \n.", b"S a\n.", b"S'\\x6fs'\nS'system'\n\x93.", b"V\\u006fs\nV\\u0073ystem\n\x93.",
    b"V\\\\u006fs\nVsystem\n\x93.", b"(0.", b"N(0.", b"(1N.", b"((NN1N0t.", b"(2.", b"N(2.", b"(q\0.", b"N(t.",
    b"\x80\x06N.", b"\x80\x04\x95\xff\0\0\0\0\0\0\0N.", b"\x80\x04\x95\1\0\0\0\0\0\0\0N.", b"\x80\x05\x97.",
    b"cos\nsystem\n(Vk\nK\1Vl\nu.", b"](K\1K\2e(K\3e.", b"}(K\1K\2K\3u.", b"\x8f(K\1K\1\x90.", b"K\1K\2\x86b.",
    b"N}b.", b"]Nb.", b"cos\nsystem\nNb.", b"\x82\1.", b"\x84\0\0\0\0.", b"\x84\xff\xff\xff\xff.", b"(cos\nsystem\no.",
    b"(o.", b"(ios\nsystem\n.", b"cos\nsystem\n]R.", b"cos\nsystem\n)R)R.", b"X\2\0\0\0\xff\xfe.", b"X\3\0\0\0\xed\xa0\x80.",
    b"U\1\xff.", b"T\xff\xff\xff\xff.", b"\x8b\xff\xff\xff\xff.", b"c\xff\n\xfe\n.", b"cos\n\n.", b"c\n\n.",
    b"cos\nsystem\r\n.", b"Pa\xff\n.", b"Pid\nQ.", b"h\0.", b"Nr\0\1\0\0j\0\1\0\0.", b"N\x94\x94\x94h\2.", b"N", b"",
    b"Nq\5\x94h\1.", b"Nq\0q\0q\0\x940h\1.", b"NN.", b"(N.", b"2.", b".", b"a.", b"]a.", b"N]a.", b"]Na.", b"R.",
]


def gather(paths):
    for path in paths:
        files = [path]
        if os.path.isdir(path):
            files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
        for name in files:
            with open(name, "rb") as file:
                data = file.read()
            if len(data) < 1 << 16:
                yield data


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000, help="random streams")
    parser.add_argument("--out", default="traces.jsonl.gz")
    parser.add_argument("paths", nargs="*")
    arguments = parser.parse_args()
    rand = random.Random(arguments.seed)
    streams = TRICKS + list(gather(arguments.paths)) + [stream(rand) for _ in range(arguments.count)]
    done = 0
    with open(arguments.out, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as out:
        for data in streams:
            out.write(json.dumps(record(data), separators=(",", ":")).encode() + b"\n")
            done += 1
    print(f"{done} streams")


if __name__ == "__main__":
    main()
