#!/usr/bin/env python3
"""Parameter counts of the text decoders in catalog/, counted from transformers' own modules on the meta device.

    /work/py/bin/python tests/golden/make_decoder_counts.py              # or any Python with requirements.txt
    /work/py/bin/python tests/golden/make_decoder_counts.py --write      # corrects "parameters" in catalog/
    ... --out DIRECTORY                                                  # where decoder_parameters.json goes

Writes decoder_parameters.json, a line per model, and fails when a catalogue entry says another number, when a known
count differs, or when the formulas below differ from the modules. Shared (tied) tensors are counted once, and so are
stored buffers, which a checkpoint holds like any tensor: DeepSeek-V3's router bias (e_score_correction_bias) is one, so
its total is 14,848 above transformers' num_parameters(). Parts, disjoint, adding up to "total":
"decoder"    layers (attention, norms, dense MLP, router, shared experts), the final norm, and all not named otherwise
"experts"    routed experts' matrices, where there are any
"embedding"  token embeddings
"lm_head"    0 when tied
"vision"     SigLIP tower of Gemma 3, and "projector" multi_modal_projector, where there are any
formula() below computes the same from config.json and class_defaults.json alone, as a planner must.
"""
import argparse
import json
import pathlib
import sys

import torch
import transformers
from transformers.utils import logging

from make_class_defaults import TYPES, layers, resolve

ROOT = pathlib.Path(__file__).parents[2]
DEFAULTS = json.loads((pathlib.Path(__file__).parent / "class_defaults.json").read_text())

# Totals found elsewhere: FACTS.md, section 2; keras-hub's presets (Gemma 3 1B); the Hub's safetensors total as public
# tests quote it (Gemma 3 12B, Phi-4-mini); a printout of the loaded model (Gemma 3 27B, ai-bot-pro/achatbot#150);
# total_size / 4 of pytorch_model.bin.index.json less stored rotary tables, 64 floats a layer (Llama 2 13B and 70B).
KNOWN = {
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384, "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-3.1-8B": 8_030_261_248, "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "Qwen/Qwen2-7B": 7_615_616_512, "Qwen/Qwen2.5-0.5B": 494_032_768, "google/gemma-3-1b-it": 999_885_952,
    "google/gemma-3-12b-it": 12_187_325_040, "google/gemma-3-27b-it": 27_432_406_640,
    "meta-llama/Llama-2-13b-hf": 13_015_864_320, "meta-llama/Llama-2-70b-hf": 68_976_648_192,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
}

# Small models for the branches of the formulas that no catalogue entry takes.
SMALL = {"hidden_size": 96, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 6, "head_dim": 20,
         "num_key_value_heads": 2, "vocab_size": 200, "pad_token_id": 0}
TOWER = {"hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 70,
         "patch_size": 14}
HEADLESS = TOWER | {"vision_use_head": False}
ODD = [
    ("llama", {"attention_bias": True}), ("llama", {"mlp_bias": True, "tie_word_embeddings": True}), ("mistral", {}),
    ("qwen2", {}), ("qwen3", {"attention_bias": True}), ("phi3", {}), ("phi", {"tie_word_embeddings": True}),
    ("phi", {"qk_layernorm": True}), ("gemma2", {"attention_bias": True, "tie_word_embeddings": False}),
    ("qwen3_moe", {"num_experts": 4, "decoder_sparse_step": 2}), ("qwen3_moe", {"mlp_only_layers": [1]}),
    ("deepseek_v3", {"q_lora_rank": None, "attention_bias": True, "first_k_dense_replace": 1, "n_shared_experts": 3}),
    ("deepseek_v2", {"attention_bias": True, "mlp_bias": True, "first_k_dense_replace": 2}),
    ("gemma3", {"text_config": SMALL | {"attention_bias": True, "tie_word_embeddings": False}, "vision_config": TOWER}),
    ("gemma3", {"text_config": SMALL, "vision_config": HEADLESS, "tie_word_embeddings": False}),
]


def part(name: str) -> str:
    pieces = {".vision_tower.": "vision", ".multi_modal_projector.": "projector", ".experts.": "experts",
              "embed_tokens.": "embedding", "lm_head.": "lm_head"}
    return next((into for piece, into in pieces.items() if piece in name), "decoder")


def summed(parts: dict[str, int]) -> dict[str, int]:
    """Total first; parts that a model doesn't have only when every model has them."""
    return {"total": sum(parts.values()),
            **{k: n for k, n in parts.items() if n or k in ("decoder", "embedding", "lm_head")}}


def count(config: dict) -> dict[str, int]:
    config_class, model_class = (getattr(transformers, name) for name in TYPES[config["model_type"]][:2])
    with torch.device("meta"):
        model = model_class(config_class(**config))
    parts = dict.fromkeys(["decoder", "experts", "embedding", "lm_head", "vision", "projector"], 0)
    stored = model.state_dict().keys()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):  # each yields shared tensors once
        if name in stored:
            parts[part(name)] += tensor.numel()
    return summed(parts)


def attention(c: dict) -> int:
    """q, k, v, o, their biases and norms; c is the config with all defaults filled in."""
    kind, h, heads = c["model_type"], c["hidden_size"], c["num_attention_heads"]
    if "kv_lora_rank" in c:  # multi-head latent attention
        rank, low, rope, bias = c["q_lora_rank"], c["kv_lora_rank"], c["qk_rope_head_dim"], c["attention_bias"]
        queries = heads * (c["qk_nope_head_dim"] + rope)
        q = h * queries if rank is None else (h + bias) * rank + rank + rank * queries
        kv = (h + bias) * (low + rope) + low + low * heads * (c["qk_nope_head_dim"] + c["v_head_dim"])
        return q + kv + (heads * c["v_head_dim"] + bias) * h
    d, bias = c["head_dim"], c.get("attention_bias", False)
    if kind in ("mistral", "phi3"):  # they ignore attention_bias
        bias = False
    q, kv = heads * d, c["num_key_value_heads"] * d
    qkv_bias, o_bias = {"qwen2": (True, False), "phi": (True, True)}.get(kind, (bias, bias))
    norms = 2 * d if kind in ("qwen3", "qwen3_moe", "gemma3_text") else 0
    norms += 4 * (h // heads) if c.get("qk_layernorm") else 0
    return (h + qkv_bias) * (q + 2 * kv) + (q + o_bias) * h + norms


def mlp(c: dict, width: int) -> int:
    h = c["hidden_size"]
    if c["model_type"] == "phi":
        return h * width + width + width * h + h
    bias = c.get("mlp_bias", False) if c["model_type"] in ("llama", "deepseek_v2") else False
    return 2 * (h + bias) * width + (width + bias) * h


def text_formula(model_type: str, raw: dict) -> dict[str, int]:
    c = {**resolve(DEFAULTS[model_type], raw), "model_type": model_type}
    h, n = c["hidden_size"], c["num_hidden_layers"]
    norm = 2 * h if model_type == "phi" else h
    norms = {"phi": 1, "gemma2": 4, "gemma3_text": 4}.get(model_type, 2)
    sparse = sum(is_sparse for _, is_sparse in layers(DEFAULTS[model_type], c))
    decoder = n * (attention(c) + norms * norm) + (n - sparse) * mlp(c, c["intermediate_size"]) + norm
    experts = 0
    if sparse:
        e, width = c["num_experts"] if model_type == "qwen3_moe" else c["n_routed_experts"], c["moe_intermediate_size"]
        router_bias = model_type == "deepseek_v3"
        shared = mlp(c, c["n_shared_experts"] * width) if "n_shared_experts" in c else 0
        decoder += sparse * ((h + router_bias) * e + shared)
        experts = sparse * e * 3 * h * width
    head = 0 if c["tie_word_embeddings"] else c["vocab_size"] * h
    head += c["vocab_size"] if model_type == "phi" else 0  # its bias stays when the matrix is tied
    return {"decoder": decoder, "experts": experts, "embedding": c["vocab_size"] * h, "lm_head": head}


def vision_formula(raw: dict) -> int:
    c = resolve(DEFAULTS["siglip_vision_model"], raw)
    h, f, p = c["hidden_size"], c["intermediate_size"], c["patch_size"]
    block = 4 * h * h + 4 * h + h * f + f + f * h + h  # q, k, v, out; fc1, fc2
    layer = block + 2 * 2 * h
    head = h + block + 2 * h if c["vision_use_head"] else 0  # probe, attention and MLP, one LayerNorm
    embeddings = c["num_channels"] * p * p * h + h + (c["image_size"] // p) ** 2 * h
    return embeddings + c["num_hidden_layers"] * layer + 2 * h + head


def formula(raw: dict) -> dict[str, int]:
    if raw["model_type"] != "gemma3":
        return summed({**text_formula(raw["model_type"], raw), "vision": 0, "projector": 0})
    outer = resolve(DEFAULTS["gemma3"], raw)
    tied = {"tie_word_embeddings": outer["tie_word_embeddings"]}  # text_config's own has no say
    text = {**(raw.get("text_config") or {}), **tied}
    vision = raw.get("vision_config") or {}
    width = resolve(DEFAULTS["siglip_vision_model"], vision)["hidden_size"]
    projector = width * resolve(DEFAULTS["gemma3_text"], text)["hidden_size"] + width
    return summed({**text_formula("gemma3_text", text), "vision": vision_formula(vision), "projector": projector})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = parser.parse_args()
    logging.set_verbosity_error()
    counts, wrong = {}, 0
    for model_type, odd in ODD:
        config = {"model_type": model_type, **(odd if model_type == "gemma3" else SMALL | odd)}
        if count(config) != formula(config):
            print(f"{config}: counted {count(config)}, formula {formula(config)}")
            wrong += 1
    for path in sorted((ROOT / "catalog").glob("*/*.json")):
        entry = json.loads(path.read_text())
        name, config = entry["name"], entry["config"]
        if config.get("model_type") not in TYPES:
            continue
        counts[name] = count(config)
        total = counts[name]["total"]
        if counts[name] != formula(config):
            print(f"{name}: counted {counts[name]}, formula {formula(config)}")
            wrong += 1
        if KNOWN.get(name, total) != total:
            print(f"{name}: counted {total}, known {KNOWN[name]}")
            wrong += 1
        if entry["parameters"] != total:
            print(f"{name}: the catalogue says {entry['parameters']}, counted {total}")
            if options.write:
                entry["parameters"] = total
                path.write_text(json.dumps(entry, indent=2, ensure_ascii=False) + "\n")
            else:
                wrong += 1
    lines = [f" {json.dumps(name)}: {json.dumps(c)}" for name, c in counts.items()]
    (options.out / "decoder_parameters.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(counts)} models, {wrong} differences")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
