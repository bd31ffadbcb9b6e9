"""Writes gguf_models/: small random language models in GGUF, by the `gguf` package, and what transformers computes from them in fp32.

    python make_gguf_models.py [--out DIRECTORY]          about ten seconds on one core

NAME.gguf (llama-00001-of-00002.gguf …: the llama is split) and NAME.json, whose fields are those of make_decoders.py. Together the
files hold a matrix of each type from F32 to Q6_K. The reference has the weights that the package decodes from the blocks, its rows
of queries and keys in Hugging Face's order; the file has them as llama.cpp's converters write them.
"""
import argparse
import json
import pathlib

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config
from transformers.utils import logging

from make_decoders import GREEDY, PROMPT, SHOWN

COMMON = {"vocab_size": 83, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8,
          "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
MODELS = {
    "llama": (LlamaConfig(**COMMON, head_dim=32, rope_parameters=LLAMA3, tie_word_embeddings=False),
              [Type.Q6_K, Type.Q4_K, Type.Q4_K, Type.Q6_K, Type.Q4_K, Type.Q5_K, Type.Q5_K, Type.Q3_K, Type.Q2_K, Type.Q8_0, Type.Q4_0,
               Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q6_K, Type.Q8_0]),
    "qwen2": (Qwen2Config(**COMMON | {"hidden_size": 128, "intermediate_size": 160, "num_attention_heads": 4, "tie_word_embeddings": True},
                          rope_parameters=YARN),
              [Type.Q4_0, Type.Q8_0, Type.F16, Type.BF16, Type.F32, Type.Q5_0, Type.Q4_0, Type.Q8_0]),
}
# Of K types: where in a block its scales stand, and by how much the second is larger (which makes the mean of the weights zero).
SCALES = {Type.Q2_K: (80, 82, 1.5), Type.Q3_K: (108, None, 0), Type.Q4_K: (0, 2, 7.5), Type.Q5_K: (0, 2, 15.5), Type.Q6_K: (208, None, 0)}


def blocks(kind: Type, weights: np.ndarray) -> np.ndarray:
    """Rows of the type: the package's quantizer where it has one, else random codes of about the weights' size."""
    if kind not in SCALES:
        return gguf.quantize(weights, kind)
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(int(kind)).integers(0, 256, (weights.size // elements, size), dtype=np.uint8)
    at, least, ratio = SCALES[kind]

    def scaled(d: float) -> np.ndarray:
        raw[:, at : at + 2] = np.array([d], np.float16).view(np.uint8)
        if least is not None:
            raw[:, least : least + 2] = np.array([d * ratio], np.float16).view(np.uint8)
        return gguf.dequantize(raw, kind)

    scaled(float(weights.std() / scaled(2.0**-6).std() * 2.0**-6))
    return raw.reshape(weights.shape[0], -1)


def pair(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head as 0, n/2, 1, n/2 + 1 …: what llama.cpp's converters do to the queries and keys of a llama."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def unpair(rows: np.ndarray, heads: int) -> np.ndarray:
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def write(folder: pathlib.Path, name: str, config, types: list, seed: int) -> None:
    net = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    g = torch.Generator().manual_seed(seed)
    writer = gguf.GGUFWriter(folder / f"{name}.gguf", name, split_max_tensors=12 if name == "llama" else 0)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if name == "llama":
        # The frequencies that transformers divides, over those it started from.
        plain = 1.0 / config.rope_parameters["rope_theta"] ** (torch.arange(0, config.head_dim, 2).float() / config.head_dim)
        writer.add_tensor("rope_freqs.weight", (plain / net.model.rotary_emb.inv_freq).numpy().astype(np.float32))
    else:
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(YARN["factor"])
        writer.add_rope_scaling_orig_ctx_len(YARN["original_max_position_embeddings"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{i}" for i in range(config.vocab_size)])
    writer.add_eos_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA if name == "llama" else gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    matrices = 0
    for module, p in net.named_parameters():
        tensor = names.get_name(module, (".weight", ".bias"))
        if p.dim() == 1:
            p.data = (1 + 0.3 * torch.randn(p.shape, generator=g)) if "norm" in module else 0.3 * torch.randn(p.shape, generator=g)
            writer.add_tensor(tensor, p.data.numpy())
            continue
        outer = "embed" in module or "lm_head" in module
        weights = (torch.randn(p.shape, generator=g) * (1.0 if outer else 1.6 / p.shape[1] ** 0.5)).numpy()
        kind = types[matrices % len(types)]
        matrices += 1
        paired = name == "llama" and ("q_proj" in module or "k_proj" in module)
        heads = config.num_attention_heads if "q_proj" in module else config.num_key_value_heads
        raw = blocks(kind, pair(weights, heads) if paired else weights)
        decoded = gguf.dequantize(raw, kind)
        p.data = torch.from_numpy(np.ascontiguousarray(unpair(decoded, heads) if paired else decoded).copy())
        writer.add_tensor(tensor, raw, raw_dtype=kind)
    assert matrices >= len(types) - 2, (name, matrices)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    ids = torch.randint(3, config.vocab_size, (PROMPT,), generator=torch.Generator().manual_seed(seed + 1)).tolist()
    with torch.no_grad():
        logits = net(torch.tensor([ids])).logits[0]
        greedy, margin = list(ids), float("inf")
        for _ in range(GREEDY):
            best = net(torch.tensor([greedy])).logits[0, -1].topk(2)
            margin = min(margin, (best.values[0] - best.values[1]).item())
            greedy.append(best.indices[0].item())
    expected = {"ids": ids, "positions": list(SHOWN), "greedy": greedy[PROMPT:], "margin": round(margin, 6),
                "largest": round(logits.abs().max().item(), 6),
                "logits": [[float(f"{v:.8g}") for v in logits[i].tolist()] for i in SHOWN]}
    (folder / f"{name}.json").write_text(json.dumps(expected) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    folder = parser.parse_args().out / "gguf_models"
    folder.mkdir(exist_ok=True)
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    for i, (name, (config, types)) in enumerate(MODELS.items()):
        write(folder, name, config, types, 500 + 10 * i)


if __name__ == "__main__":
    main()
