"""Writes whisper.cpp's model file. All numbers are little-endian; int is int32:

    magic 0x67676d6c | hparams, 11 ints | mel filters: int n_mel, int n_fft, floats | int tokens, each: int length, bytes |
    tensors, each: int n_dims, int length of the name, int type, dims from the fastest, name, data

Matrices have the file's type; convolutions are f16; vectors and position tables f32.
"""
import pathlib
import struct

import numpy as np

F32, F16, Q8_0 = 0, 1, 8                   # ggml_type
FTYPE = {"f16": 1, "q8_0": 2 * 1000 + 7}   # ggml_ftype; quantized ones carry the quantization's version
BLOCK = 32
LAYER = [("self_attn.q_proj", "attn.query"), ("self_attn.k_proj", "attn.key"), ("self_attn.v_proj", "attn.value"),
         ("self_attn.out_proj", "attn.out"), ("self_attn_layer_norm", "attn_ln"),
         ("encoder_attn.q_proj", "cross_attn.query"), ("encoder_attn.k_proj", "cross_attn.key"),
         ("encoder_attn.v_proj", "cross_attn.value"), ("encoder_attn.out_proj", "cross_attn.out"),
         ("encoder_attn_layer_norm", "cross_attn_ln"), ("fc1", "mlp.0"), ("fc2", "mlp.2"), ("final_layer_norm", "mlp_ln")]
TOP = {"encoder.embed_positions.weight": "encoder.positional_embedding",
       "decoder.embed_positions.weight": "decoder.positional_embedding",
       "decoder.embed_tokens.weight": "decoder.token_embedding.weight",
       "encoder.layer_norm.weight": "encoder.ln_post.weight", "encoder.layer_norm.bias": "encoder.ln_post.bias",
       "decoder.layer_norm.weight": "decoder.ln.weight", "decoder.layer_norm.bias": "decoder.ln.bias"}


def ggml_name(name: str) -> str:
    name = name.removeprefix("model.")
    if ".layers." not in name:
        return TOP.get(name, name)  # conv1 and conv2 keep theirs
    side, _, layer, *rest = name.split(".")
    part, kind = ".".join(rest[:-1]), rest[-1]
    return f"{side}.blocks.{layer}.{dict(LAYER)[part]}.{kind}"


def q8_0(x: np.ndarray) -> bytes:
    """Blocks of 32 numbers of a row: an f16 scale, 32 int8."""
    blocks = x.reshape(-1, BLOCK)
    scale = np.abs(blocks).max(axis=1) / np.float32(127)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    out = np.empty(len(blocks), dtype=[("d", "<f2"), ("q", "i1", BLOCK)])
    out["d"] = scale
    scaled = blocks * inverse[:, None]
    out["q"] = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))
    return out.tobytes()


def write(path: pathlib.Path, c: dict, tensors: dict[str, np.ndarray], tokens: list[str], alphabet: list[str],
          kind: str) -> None:
    byte_of = {character: byte for byte, character in enumerate(alphabet)}
    with open(path, "wb") as f:
        def ints(*values):
            f.write(struct.pack(f"<{len(values)}i", *values))

        ints(0x67676d6c, c["vocab_size"], c["max_source_positions"], c["d_model"], c["encoder_attention_heads"],
             c["encoder_layers"], c["max_target_positions"], c["d_model"], c["decoder_attention_heads"],
             c["decoder_layers"], c["num_mel_bins"], FTYPE[kind])
        ints(c["num_mel_bins"], 201)
        f.write(bytes(4 * 201 * c["num_mel_bins"]))  # zeros: the mel is given
        ints(len(tokens))
        for token in tokens:
            text = bytes(byte_of[character] for character in token)
            ints(len(text))
            f.write(text)
        for name, x in tensors.items():
            name = ggml_name(name)
            if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
                x = x.reshape(-1, 1)
            matrix = x.ndim == 2 and name.endswith(".weight")
            if matrix and kind == "q8_0":
                dtype, data = Q8_0, q8_0(x)
            elif matrix or x.ndim == 3:
                dtype, data = F16, x.astype("<f2").tobytes()
            else:
                dtype, data = F32, x.astype("<f4").tobytes()
            encoded = name.encode()
            ints(x.ndim, len(encoded), dtype, *reversed(x.shape))
            f.write(encoded)
            f.write(data)
