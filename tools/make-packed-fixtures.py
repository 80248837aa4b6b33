#!/usr/bin/env python3
"""Makes the packed files of crates/anatomy/tests/data/packed with the reference libraries.

    pip install lz4 zstandard py7zr
    make-packed-fixtures.py crates/anatomy/tests/data/packed

`plain` is what every file unpacks to; of `twice.*` it comes out twice.
"""
import bz2, gzip, io, lzma, os, sys, zlib

import lz4.frame, py7zr, zstandard

out = sys.argv[1]
os.makedirs(out, exist_ok=True)
plain = b"".join(b"line %d of a text that repeats itself, and counts %d\n" % (i, i * i) for i in range(60))


def put(name, data):
    with open(os.path.join(out, name), "wb") as file:
        file.write(data)


def seven(name, filters, members=(("a/data.pkl", plain),), **options):
    path = os.path.join(out, name)
    if os.path.exists(path):
        os.remove(path)
    with py7zr.SevenZipFile(path, "w", filters=filters, **options) as archive:
        for member, data in members:
            archive.writestr(data, member)


put("plain", plain)
one = {
    "gzip": gzip.compress(plain, 9, mtime=0),
    "zlib": zlib.compress(plain, 9),
    "bzip2": bz2.compress(plain),
    "xz": lzma.compress(plain),
    "xz-delta-x86": lzma.compress(plain, filters=[{"id": lzma.FILTER_DELTA, "dist": 4}, {"id": lzma.FILTER_X86},
                                                   {"id": lzma.FILTER_LZMA2, "preset": 6}]),
    "lzma": lzma.compress(plain, format=lzma.FORMAT_ALONE),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress(plain),
    "lz4": lz4.frame.compress(plain, content_checksum=True, store_size=True),
    "lz4-linked": lz4.frame.compress(plain * 40, block_size=lz4.frame.BLOCKSIZE_MAX64KB, block_linked=True,
                                     block_checksum=True),
}
for name, data in one.items():
    put(name, data)
for name in ("gzip", "zlib", "bzip2", "xz", "lzma", "zstd", "lz4"):
    put("twice." + name, one[name] + one[name])
put("twice.skippable.zstd", one["zstd"] + b"\x5a\x2a\x4d\x18\x05\0\0\0skip!" + one["zstd"])
seven("copy.7z", [{"id": py7zr.FILTER_COPY}])
seven("lzma.7z", [{"id": py7zr.FILTER_LZMA}])
seven("lzma2.7z", [{"id": py7zr.FILTER_LZMA2, "preset": 7}])
seven("delta-lzma2.7z", [{"id": py7zr.FILTER_DELTA}, {"id": py7zr.FILTER_LZMA2, "preset": 6}])
seven("x86-lzma2.7z", [{"id": py7zr.FILTER_X86}, {"id": py7zr.FILTER_LZMA2, "preset": 6}])
seven("bzip2.7z", [{"id": py7zr.FILTER_BZIP2}])
seven("deflate.7z", [{"id": py7zr.FILTER_DEFLATE}])
seven("zstd.7z", [{"id": py7zr.FILTER_ZSTD, "level": 3}])
seven("ppmd.7z", [{"id": py7zr.FILTER_PPMD, "order": 6, "mem": 24}])
seven("encrypted.7z", None, password="secret")
seven("many.7z", [{"id": py7zr.FILTER_LZMA2, "preset": 6}],
      [("one.txt", b"1"), ("folder/two.bin", plain), ("three", b""), ("vier \u00fc.pkl", b"N.")])

# What a scanner must find within: a pickle that would call os.system("true").
pickle = b"cos\nsystem\n(S'true'\ntR."
seven("pickle-lzma.7z", [{"id": py7zr.FILTER_LZMA}], [("weights.txt", pickle)])
seven("pickle-lzma2.7z", [{"id": py7zr.FILTER_LZMA2, "preset": 6}], [("a", b"1"), ("b", pickle)])
put("pickle.zstd", zstandard.ZstdCompressor().compress(pickle))
put("pickle.lz4", lz4.frame.compress(pickle))
put("pickle.lzma", lzma.compress(pickle, format=lzma.FORMAT_ALONE))
put("pickle.xz", lzma.compress(pickle))
put("pickle.bz2", bz2.compress(pickle))
raw = lzma.compress(pickle, format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16}])
put("pickle.lzma-in-zip", b"\x09\x04\x05\x00\x5d" + (1 << 16).to_bytes(4, "little") + raw)
