"""Writes ggml_blocks.json: blocks of GGUF types and what the `gguf` package decodes them to, and digests of its quantizers.

    python make_ggml_blocks.py [--out DIRECTORY]

dequantize  type -> `blocks` and `floats` (hex, little endian), two blocks of random bytes; `digest` of the floats of
            2,048 more. Random bytes: every scale occurs, also subnormal, infinite and NaN; a NaN counts as 7FC00000.
quantize    type -> digest of the blocks of `rows`

src/codec/ggml_blocks_test.cc makes the same bytes and rows: all arithmetic here is exact or rounded once, in float64.
"""
import argparse
import json
import pathlib

import gguf
import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
         "TQ1_0", "TQ2_0", "MXFP4", "NVFP4"]
WRITTEN = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


def mix(x):
    """The finalizer of splitmix64 (https://prng.di.unimi.it/splitmix64.c)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def words(seed, count):
    return mix((np.uint64(seed << 40) + np.arange(count, dtype=np.uint64)) * np.uint64(GOLDEN))


def digest(values):
    """Of unsigned integers of up to 32 bits, in their order."""
    return f"{int(mix((np.arange(values.size, dtype=np.uint64) << np.uint64(32)) | values.astype(np.uint64)).sum()):016x}"


def bits(floats):
    return np.where(np.isnan(floats), np.uint32(0x7FC00000), floats.view(np.uint32))


def normal(seed, count):
    """The sum of twelve uniform numbers, less 6: exact in float64, so in any order."""
    u = (words(seed, 12 * count) >> np.uint64(40)).astype(np.float64) * 2.0**-24
    return u.reshape(count, 12).sum(axis=1) - 6


def row(kind, count=16384):
    if kind == "gaussian":
        x = normal(1, count)
    elif kind == "student":  # 6 degrees of freedom
        squares = np.zeros(count)
        for k in range(6):
            squares += normal(3 + k, count) ** 2
        x = normal(2, count) / np.sqrt(squares / 6)
    else:  # "outliers": about one of 128 is ten times as large
        x = normal(9, count) * np.where(words(10, count) >> np.uint64(57) == 0, 10.0, 1.0)
    return (x * 0.02).astype(np.float32)


def special():
    """Blocks of 32 that have caught quantizers: zeros, constants, halves between codes, one spike, extremes of range. None of -0 alone:
    the sign of its scale differs between gguf and ggml."""
    k = np.arange(32, dtype=np.float32)
    return np.concatenate([0 * k, 0 * k + 3, 0 * k - 3, k / 2 - 8, 8 - k / 2, (k - 16) * 63.5 / 16, k == 7, -1.0 * (k == 7),
                           k * 1e-30, (k - 9) * 1e4, np.where(k % 2 == 0, 1.0, -1.0)]).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = parser.parse_args().out
    decoded, coded = {}, {}
    rows = np.concatenate([row("gaussian"), row("student"), row("outliers"), special()])
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        raw = words(int(kind) + 100, 2050 * size // 8 + 1).view(np.uint8)[: 2050 * size]
        with np.errstate(all="ignore"):
            floats = bits(gguf.dequantize(raw.reshape(1, -1), kind).reshape(-1))
        first = floats[: 2 * elements].astype("<u4")
        decoded[name] = {"blocks": raw[: 2 * size].tobytes().hex(), "floats": first.tobytes().hex(),
                         "digest": digest(floats[2 * elements:])}
    for name in WRITTEN:
        blocks = gguf.quantize(rows.reshape(1, -1), gguf.GGMLQuantizationType[name])
        coded[name] = digest(np.ascontiguousarray(blocks).view(np.uint8).reshape(-1))
    text = json.dumps({"dequantize": decoded, "quantize": coded}, indent=1)
    (out / "ggml_blocks.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
