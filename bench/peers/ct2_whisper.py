"""Writes a ctranslate2 model directory through its own specification classes, as its converter fills them, but from arrays:
neither torch nor a published tokenizer is needed."""
import itertools
import pathlib
import sys

import numpy as np

for unused in ("torch", "transformers"):  # ctranslate2 imports them where they are installed, which takes seconds
    sys.modules[unused] = None
from ctranslate2.specs import whisper_spec  # noqa: E402


def write(path: pathlib.Path, c: dict, tensors: dict[str, np.ndarray], tokens: list[str], kind: str) -> None:
    spec = whisper_spec.WhisperSpec(c["encoder_layers"], c["encoder_attention_heads"], c["decoder_layers"],
                                    c["decoder_attention_heads"])

    def get(name):
        return np.array(tensors[name])  # a copy: quantizing works in place

    def norm(to, name):
        to.gamma, to.beta = get(f"{name}.weight"), get(f"{name}.bias")

    def linear(to, *names):
        """Several projections of the same input stand in one matrix; the keys' missing bias becomes zeros."""
        to.weight = np.concatenate([get(f"{n}.weight") for n in names])
        to.bias = np.concatenate([get(f"{n}.bias") if f"{n}.bias" in tensors
                                  else np.zeros(len(tensors[f"{n}.weight"]), np.float32) for n in names])

    def conv(to, name):
        to.weight, to.bias = get(f"{name}.weight"), get(f"{name}.bias")

    for side, to in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        to.position_encodings.encodings = get(f"model.{side}.embed_positions.weight")
        norm(to.layer_norm, f"model.{side}.layer_norm")
        for i, layer in enumerate(to.layer):
            at = f"model.{side}.layers.{i}"
            own = f"{at}.self_attn"
            linear(layer.self_attention.linear[0], f"{own}.q_proj", f"{own}.k_proj", f"{own}.v_proj")
            linear(layer.self_attention.linear[1], f"{own}.out_proj")
            norm(layer.self_attention.layer_norm, f"{own}_layer_norm")
            if side == "decoder":
                cross = f"{at}.encoder_attn"
                linear(layer.attention.linear[0], f"{cross}.q_proj")
                linear(layer.attention.linear[1], f"{cross}.k_proj", f"{cross}.v_proj")
                linear(layer.attention.linear[2], f"{cross}.out_proj")
                norm(layer.attention.layer_norm, f"{cross}_layer_norm")
            linear(layer.ffn.linear_0, f"{at}.fc1")
            linear(layer.ffn.linear_1, f"{at}.fc2")
            norm(layer.ffn.layer_norm, f"{at}.final_layer_norm")
    conv(spec.encoder.conv1, "model.encoder.conv1")
    conv(spec.encoder.conv2, "model.encoder.conv2")
    embedding = get("model.decoder.embed_tokens.weight")
    spec.decoder.embeddings.weight = embedding
    spec.decoder.projection.weight = embedding  # tied: the specification stores an alias

    eot = tokens.index("<|endoftext|>")
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], [220, eot]
    spec.config.lang_ids = list(range(eot + 2, tokens.index("<|translate|>")))
    layers = range(c["decoder_layers"] // 2, c["decoder_layers"])
    spec.config.alignment_heads = list(itertools.product(layers, range(c["decoder_attention_heads"])))
    spec.register_vocabulary(tokens)
    spec.validate()
    spec.optimize(quantization=kind)
    path.mkdir(parents=True)
    spec.save(str(path))
