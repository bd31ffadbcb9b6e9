"""Writes tests/golden/decoders/: small random language models and what transformers computes from them in fp32.

    python make_decoders.py [--out DIRECTORY]          about twenty seconds on one core

A folder holds model/ (config.json and model.safetensors, no tokenizer) and expected.json: `ids` (a prompt), `logits` (of some
positions, all of the vocabulary), `greedy` (64 ids after the prompt by argmax) and `margin` (the smallest distance between the
best and the second best logit on the way: an engine whose error is below it finds the same ids). Widths, heads and layers all
differ, so that a transposed or swapped tensor cannot pass.
"""
import argparse
import json
import pathlib

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
from transformers.utils import logging

PROMPT, GREEDY, SHOWN = 100, 64, (0, 1, 17, 63, 99)
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
COMMON = {"vocab_size": 151, "hidden_size": 48, "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 6,
          "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2}

# name, config, dtype of the file, config.json in the style of transformers 4
CASES = [
    ("llama2", LlamaConfig(**COMMON | {"num_key_value_heads": 6}, rms_norm_eps=1e-5, tie_word_embeddings=False), torch.float16, True),
    ("llama3", LlamaConfig(**COMMON, rope_parameters=LLAMA3, tie_word_embeddings=True), torch.bfloat16, True),
    ("llama-linear", LlamaConfig(**COMMON | {"head_dim": 20}, attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
                                 rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5}), torch.float32, False),
    ("mistral-window", MistralConfig(**COMMON, sliding_window=24), torch.float32, False),
    ("qwen2-yarn", Qwen2Config(**COMMON | {"tie_word_embeddings": True}, rope_parameters=YARN), torch.float32, True),
    ("qwen2-mixed-window", Qwen2Config(**COMMON | {"num_hidden_layers": 4}, use_sliding_window=True, sliding_window=16, max_window_layers=2),
     torch.bfloat16, False),
    ("qwen3", Qwen3Config(**COMMON | {"head_dim": 16, "num_key_value_heads": 3}, tie_word_embeddings=False), torch.float32, False),
]


def old_style(config: dict) -> dict:
    """rope_theta and rope_scaling, torch_dtype: as transformers 4 wrote them."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.46.0"
    return config


def randomize(model: torch.nn.Module, seed: int) -> None:
    """Scales at which logits vary, attention is not uniform and norms and biases are not trivial."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if "norm" in name:
            p.data = 1 + 0.3 * torch.randn(p.shape, generator=g)
        elif p.dim() == 1:
            p.data = 0.3 * torch.randn(p.shape, generator=g)
        elif "embed" in name or "lm_head" in name:
            p.data = torch.randn(p.shape, generator=g)
        else:
            p.data = torch.randn(p.shape, generator=g) * (1.6 / p.shape[1] ** 0.5)


def write(folder: pathlib.Path, config, dtype: torch.dtype, legacy: bool, seed: int) -> None:
    config.dtype = dtype
    net = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    randomize(net, seed)
    net = net.to(dtype)
    net.save_pretrained(folder / "model")
    (folder / "model/generation_config.json").unlink(missing_ok=True)
    path = folder / "model/config.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(old_style(stored) if legacy else stored, indent=2) + "\n")
    net = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.randint(3, config.vocab_size, (PROMPT,), generator=torch.Generator().manual_seed(seed + 1)).tolist()
    with torch.no_grad():
        logits = net(torch.tensor([ids])).logits[0]
        greedy, margin = list(ids), float("inf")
        for _ in range(GREEDY):  # without a cache: a second opinion on the engine's
            best = net(torch.tensor([greedy])).logits[0, -1].topk(2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            greedy.append(best.indices[0].item())
    expected = {"ids": ids, "positions": list(SHOWN), "greedy": greedy[PROMPT:], "margin": round(margin, 6),
                "largest": round(logits.abs().max().item(), 6),
                "logits": [[float(f"{v:.8g}") for v in logits[i].tolist()] for i in SHOWN]}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = parser.parse_args().out
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    for i, (name, config, dtype, legacy) in enumerate(CASES):
        write(out / "decoders" / name, config, dtype, legacy, 100 + 10 * i)


if __name__ == "__main__":
    main()
