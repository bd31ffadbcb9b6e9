#!/usr/bin/env python3
"""sotto's blocks of GGUF types beside ggml's own code, which pywhispercpp carries (bench/peers/setup).

    cmake --build --preset release --target sotto_ggml_rows
    bench/peers/ggml_blocks.py [--rows build/release/sotto_ggml_rows] [--out tests/golden] [--model models/demo-asr]

With the environment's python, which needs gguf, too. Prints Markdown: for each type the root mean square error of both
quantizers, without an importance matrix, on the rows of tests/golden/make_ggml_blocks.py; how many bytes are the same; and
nanoseconds a weight. Stops where ggml decodes a block that sotto wrote to other bits than sotto does. --out writes
ggml_rmse.json, ggml's errors, which src/codec/ggml_blocks_test.cc holds sotto to. --model measures the errors of W a, too: the
matrices of a Whisper checkpoint, the activations of data/samples.
"""
import argparse
import ctypes
import json
import pathlib
import subprocess
import sys
import time

import gguf
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "golden"))
import make_ggml_blocks as golden  # noqa: E402

TYPES = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]


class Ggml:
    def __init__(self):
        import _pywhispercpp
        self.lib = ctypes.CDLL(_pywhispercpp.__file__)

    def quantize(self, name, x):
        kind = gguf.GGMLQuantizationType[name]
        out = np.empty(gguf.quants.quant_shape_to_byte_shape((x.size,), kind), np.uint8)
        start = time.perf_counter()
        self.lib.ggml_quantize_chunk(ctypes.c_int(kind), pointer(x), pointer(out), ctypes.c_int64(0), ctypes.c_int64(x.size // 256),
                                     ctypes.c_int64(256), None)
        return out, time.perf_counter() - start

    def dequantize(self, name, blocks):
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
        out = np.empty(blocks.size // size * block, np.float32)
        row = name if name.endswith("_K") else name.lower()
        getattr(self.lib, f"dequantize_row_q{row[1:]}")(pointer(blocks), pointer(out), ctypes.c_int64(out.size))
        return out


class Sotto:
    def __init__(self, rows):
        self.rows = rows

    def run(self, what, name, data, dtype):
        p = subprocess.run([self.rows, what, name], input=data.tobytes(), capture_output=True, check=True)
        return np.frombuffer(p.stdout, dtype), float(p.stderr)

    def quantize(self, name, x):
        return self.run("quantize", name, x, np.uint8)

    def dequantize(self, name, blocks):
        return self.run("dequantize", name, blocks, np.float32)[0]


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def rms(x):
    return float(np.sqrt(np.mean(x.astype(np.float64) ** 2)))


def compare(sotto, ggml):
    """Prints the table; ggml's errors by type and kind of row."""
    print("| type | rows | sotto's error | ggml's | ratio | same bytes | ns a weight, sotto / ggml |\n|---|---|---|---|---|---|---|")
    errors = {}
    for name in TYPES:
        for kind in ("gaussian", "student", "outliers"):
            x = golden.row(kind)
            (ours, our_time), (theirs, their_time) = sotto.quantize(name, x), ggml.quantize(name, x)
            for blocks in (ours, theirs):
                if not np.array_equal(sotto.dequantize(name, blocks), ggml.dequantize(name, blocks)):
                    sys.exit(f"{name}, {kind}: the same blocks are decoded to other numbers")
            a, b = rms(ggml.dequantize(name, ours) - x), rms(ggml.dequantize(name, theirs) - x)
            print(f"| {name} | {kind} | {a / rms(x):.5f} | {b / rms(x):.5f} | {a / b:.4f} | {np.mean(ours == theirs):.3f} "
                  f"| {1e9 * our_time / x.size:.0f} / {1e9 * their_time / x.size:.0f} |")
            errors.setdefault(name, {})[kind] = b
    return errors


def moments(path):
    """Weight and sum of a a^T over the samples, for each linear layer of a Whisper checkpoint."""
    import soundfile
    import torch
    from transformers import WhisperForConditionalGeneration, WhisperProcessor
    processor = WhisperProcessor.from_pretrained(path)
    model = WhisperForConditionalGeneration.from_pretrained(path, dtype=torch.float32).eval()
    found = {}

    def listen(module, inputs, _):
        a = inputs[0].reshape(-1, module.weight.shape[1]).double()
        found[module] = found.get(module, 0) + a.T @ a

    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.weight.shape[1] % 256 == 0:
            module.register_forward_hook(listen)
    for file in sorted((ROOT / "data" / "samples").glob("*.[wf][al]*")):
        audio, rate = soundfile.read(file)
        audio = audio.mean(axis=1) if audio.ndim == 2 else audio
        features = processor.feature_extractor(audio, sampling_rate=rate, return_tensors="pt").input_features
        with torch.no_grad():
            model.generate(features, language="en", task="transcribe")
    return [(m.weight.detach().numpy(), h.numpy()) for m, h in found.items()]


def compare_products(sotto, ggml, path):
    layers = moments(path)
    print(f"\n{len(layers)} matrices of {path}: ggml's error of W a, sotto's as a part of it (geometric mean, worst)\n")
    for name in (t for t in TYPES if t.endswith("_K")):
        ratios = []
        for w, h in layers:
            x = np.ascontiguousarray(w).reshape(-1)
            off = [(ggml.dequantize(name, q.quantize(name, x)[0]) - x).reshape(w.shape).astype(np.float64) for q in (sotto, ggml)]
            ours, theirs = (float(np.sum(d @ h * d)) for d in off)
            ratios.append(np.sqrt(ours / theirs))
        print(f"- {name}: {np.exp(np.mean(np.log(ratios))):.3f}, {max(ratios):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=str(ROOT / "build" / "release" / "bench" / "sotto_ggml_rows"))
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--model", type=pathlib.Path)
    arguments = parser.parse_args()
    sotto, ggml = Sotto(arguments.rows), Ggml()
    errors = compare(sotto, ggml)
    if arguments.out:
        (arguments.out / "ggml_rmse.json").write_text(json.dumps(errors, indent=1) + "\n")
    if arguments.model:
        compare_products(sotto, ggml, arguments.model)


if __name__ == "__main__":
    main()
