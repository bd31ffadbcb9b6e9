#!/usr/bin/env python3
"""A model directory of a published shape with random Student-t(6) weights of a fixed seed, bf16, written in chunks: what measures memory and
speed where the published weights can't be had. Constants would compress; these don't.

    bench/make_model.py DIR [--shape llama-3.1-8b|tinyllama|qwen2-0.5b]

Needs NumPy. There is no tokenizer: `sotto logits` and sotto_bench_lm run it.
"""
import argparse
import json
import pathlib
import struct

import numpy as np

SHAPES = {
    "tinyllama": dict(vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
                      num_key_value_heads=4, max_position_embeddings=2048, rope_theta=10000.0, rms_norm_eps=1e-5),
    "qwen2-0.5b": dict(vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
                       num_key_value_heads=2, max_position_embeddings=32768, rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=True),
    "llama-3.1-8b": dict(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
                         num_key_value_heads=8, max_position_embeddings=131072, rope_theta=5e5, rms_norm_eps=1e-5,
                         rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                       "original_max_position_embeddings": 8192}),
}
CHUNK = 1 << 22  # weights


def tensors(c: dict, family: str):
    """(name, shape) in the order of a pass."""
    width, ffn, head = c["hidden_size"], c["intermediate_size"], c["hidden_size"] // c["num_attention_heads"]
    kv = c["num_key_value_heads"] * head
    yield "model.embed_tokens.weight", (c["vocab_size"], width)
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        yield at + "input_layernorm.weight", (width,)
        for part, rows in (("q", width), ("k", kv), ("v", kv)):
            yield f"{at}self_attn.{part}_proj.weight", (rows, width)
            if family == "qwen2":
                yield f"{at}self_attn.{part}_proj.bias", (rows,)
        yield at + "self_attn.o_proj.weight", (width, width)
        yield at + "post_attention_layernorm.weight", (width,)
        yield at + "mlp.gate_proj.weight", (ffn, width)
        yield at + "mlp.up_proj.weight", (ffn, width)
        yield at + "mlp.down_proj.weight", (width, ffn)
    yield "model.norm.weight", (width,)
    if not c.get("tie_word_embeddings"):
        yield "lm_head.weight", (c["vocab_size"], width)


def bf16(x: np.ndarray) -> np.ndarray:
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--shape", choices=SHAPES, default="tinyllama")
    o = parser.parse_args()
    config = SHAPES[o.shape]
    family = "qwen2" if o.shape.startswith("qwen2") else "llama"
    o.folder.mkdir(parents=True, exist_ok=True)
    header, end = {}, 0
    for name, shape in tensors(config, family):
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64)
    rng = np.random.default_rng(1)
    pool = bf16(rng.standard_t(6, 4 * CHUNK) * 0.02)  # drawn once: every chunk begins elsewhere in it
    partial = o.folder / "model.safetensors.partial"
    with open(partial, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors(config, family):
            n = int(np.prod(shape))
            if len(shape) == 1:
                f.write(bf16(np.full(n, 0.0 if name.endswith("bias") else 1.0)).tobytes())
            for first in range(0, n if len(shape) == 2 else 0, CHUNK):
                at = int(rng.integers(0, 3 * CHUNK))
                f.write(pool[at:at + min(CHUNK, n - first)].tobytes())
    partial.rename(o.folder / "model.safetensors")
    (o.folder / "config.json").write_text(json.dumps({"model_type": family, "torch_dtype": "bfloat16", **config}, indent=1) + "\n")
    print(o.folder, end, "bytes of weights")


if __name__ == "__main__":
    main()
