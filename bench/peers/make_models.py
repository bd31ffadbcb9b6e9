"""Whisper models with random weights in the published shapes, in every engine's own format.

    make_models.py WORK [--shapes base small]

writes, for each shape, WORK/<shape>/hf (config, tokenizer, model.safetensors in fp32: what sotto and transformers read),
ct2-float32 and ct2-int8 (ctranslate2), ggml-f16.bin and ggml-q8_0.bin (whisper.cpp) and mel.f32 (one window of input). All
hold the same weights. What exists is kept. Speed does not depend on the weights' values, only on their shapes and types, so
nothing has to be downloaded; the scales are chosen so that activations stay in range and attention is not uniform.
"""
import argparse
import json
import pathlib
import shutil
import struct

import numpy as np

CATALOG = pathlib.Path(__file__).resolve().parents[2] / "catalog" / "openai"
TEXT_TOKENS = 50257   # below <|endoftext|>
POSITIONS = 1500
LANGUAGES = 99
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|x{i:02}|>" for i in range(LANGUAGES)), "<|translate|>",
           "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
TIMESTAMPS = [f"<|{i * 0.02:.2f}|>" for i in range(POSITIONS + 1)]
NON_SPEECH = [1, 2, 7, 8, 9, 10, 14, 25, 26, 27, 28, 29, 31, 58, 59, 60, 61, 62, 63, 90, 91, 92, 93]
# Projections are drawn with gain / sqrt(fan-in); everything that is not named here has a gain of 1.5.
GAINS = [("q_proj", 2.0), ("k_proj", 2.0), ("self_attn.out_proj", 2.0), ("fc1", 2.0), ("fc2", 2.0)]


def shape_config(shape: str) -> dict:
    if shape == "test":  # small enough for a functional check; whisper.cpp knows 4 layers as "tiny"
        config = json.loads((CATALOG / "whisper-base.json").read_text())["config"]
        return config | {"d_model": 128, "encoder_layers": 4, "decoder_layers": 4, "num_hidden_layers": 4,
                         "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 512,
                         "decoder_ffn_dim": 512}
    return json.loads((CATALOG / f"whisper-{shape}.json").read_text())["config"]


# ------------------------------------------------------------------------------------------------------------ tokenizer

def byte_alphabet() -> list[str]:
    """The character that byte-level BPE writes for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def vocabulary() -> tuple[list[str], list[tuple[str, str]]]:
    """Text tokens by id, and the merges that make them: as many, and about as long, as the published ones."""
    rng = np.random.default_rng(1)
    alphabet = byte_alphabet()
    order = [*range(33, 127), *range(161, 173), *range(174, 256)]
    tokens = [alphabet[b] for b in order] + [alphabet[b] for b in range(256) if b not in order]  # "Ġ" is 220
    letters = [alphabet[b] for b in b"etaoinshrdlucmfwypvbgkjqxz"]
    starts = [*letters, *(alphabet[32] + x for x in letters)]
    known, merges = set(tokens), []

    def add(a, b):
        if a + b not in known:
            known.add(a + b)
            tokens.append(a + b)
            merges.append((a, b))

    for x in letters:
        add(alphabet[32], x)
    pool = list(starts)
    while len(merges) < TEXT_TOKENS - 1 - 256:
        a = pool[int(len(pool) * rng.random())]
        if len(a) < 9:
            before = len(tokens)
            add(a, letters[int(26 * rng.random() ** 2)])
            pool.extend(tokens[before:])
    tokens.append("")  # published multilingual vocabularies end with an empty token
    assert len(tokens) == TEXT_TOKENS and tokens[220] == alphabet[32]
    return tokens, merges


def write_tokenizer(folder: pathlib.Path) -> None:
    tokens, merges = vocabulary()
    ids = {t: TEXT_TOKENS + i for i, t in enumerate(SPECIAL + TIMESTAMPS)}
    prefix, end = ["<|startoftranscript|>", "<|notimestamps|>"], "<|endoftext|>"

    def special(t):
        return {"SpecialToken": {"id": t, "type_id": 0}}

    def sequence(t, kind):
        return {"Sequence": {"id": t, "type_id": kind}}

    level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    document = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": i >= ids["<|0.00|>"], "special": i < ids["<|0.00|>"]}
                         for t, i in ids.items()],
        "normalizer": None,
        "pre_tokenizer": level | {"add_prefix_space": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*map(special, prefix), sequence("A", 0), special(end)],
            "pair": [*map(special, prefix), sequence("A", 0), sequence("B", 1), special(end)],
            "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in [*prefix, end]}},
        "decoder": level | {"add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(tokens)}, "merges": [f"{a} {b}" for a, b in merges]}}
    write_json(folder / "tokenizer.json", document)
    write_json(folder / "tokenizer_config.json", {
        "add_prefix_space": False, "additional_special_tokens": SPECIAL, "bos_token": end, "eos_token": end,
        "errors": "replace", "model_max_length": 1024, "pad_token": end, "processor_class": "WhisperProcessor",
        "tokenizer_class": "WhisperTokenizer", "unk_token": end})


# --------------------------------------------------------------------------------------------------------------- weights

def tensor_shapes(c: dict) -> dict[str, tuple]:
    """Published names of all tensors, in the file's order."""
    d, shapes = c["d_model"], {}

    def norm(name):
        shapes.update({f"{name}.weight": (d,), f"{name}.bias": (d,)})

    def linear(name, rows, columns, bias=True):
        shapes[f"{name}.weight"] = (rows, columns)
        if bias:
            shapes[f"{name}.bias"] = (rows,)

    def attention(name):
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{name}.{part}", d, d, bias=part != "k_proj")

    shapes["model.encoder.conv1.weight"] = (d, c["num_mel_bins"], 3)
    shapes["model.encoder.conv1.bias"] = (d,)
    shapes["model.encoder.conv2.weight"] = (d, d, 3)
    shapes["model.encoder.conv2.bias"] = (d,)
    shapes["model.encoder.embed_positions.weight"] = (c["max_source_positions"], d)
    shapes["model.decoder.embed_tokens.weight"] = (c["vocab_size"], d)
    shapes["model.decoder.embed_positions.weight"] = (c["max_target_positions"], d)
    for side in ("encoder", "decoder"):
        for i in range(c[f"{side}_layers"]):
            at = f"model.{side}.layers.{i}"
            attention(f"{at}.self_attn")
            norm(f"{at}.self_attn_layer_norm")
            if side == "decoder":
                attention(f"{at}.encoder_attn")
                norm(f"{at}.encoder_attn_layer_norm")
            linear(f"{at}.fc1", c[f"{side}_ffn_dim"], d)
            linear(f"{at}.fc2", d, c[f"{side}_ffn_dim"])
            norm(f"{at}.final_layer_norm")
        norm(f"model.{side}.layer_norm")
    return shapes


def draw(name: str, shape: tuple, rng) -> np.ndarray:
    if name == "model.encoder.embed_positions.weight":  # the published sinusoids
        half = shape[1] // 2
        rates = np.exp(-np.log(10000) / (half - 1) * np.arange(half))
        angles = np.arange(shape[0])[:, None] * rates
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    x = rng.standard_normal(shape, dtype=np.float32)
    if "layer_norm" in name:
        return 0.1 * x + (1 if name.endswith("weight") else 0)
    if name.endswith("bias"):
        return 0.1 * x
    if "embed_tokens" in name:
        return 0.3 * x
    if "embed_positions" in name:
        return x
    gain = next((g for part, g in GAINS if part in name), 1.5)
    return x * np.float32(gain / np.sqrt(np.prod(shape[1:])))


def write_safetensors(path: pathlib.Path, shapes: dict[str, tuple], seed: int) -> None:
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(seed)
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            x = np.ascontiguousarray(draw(name, shape, rng), dtype="<f4")
            assert x.shape == shape and np.isfinite(x).all()
            f.write(x.tobytes())
    partial.rename(path)


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Read-only views of a file that write_safetensors made."""
    data = np.memmap(path, dtype=np.uint8, mode="r")
    length = int(data[:8].view("<u8")[0])
    header = json.loads(bytes(data[8:8 + length]))
    header.pop("__metadata__", None)
    body = data[8 + length:]
    return {name: body[t["data_offsets"][0]:t["data_offsets"][1]].view("<f4").reshape(t["shape"])
            for name, t in header.items()}


def write_hf(folder: pathlib.Path, c: dict) -> None:
    folder.mkdir(parents=True)
    write_json(folder / "config.json", c | {"tie_word_embeddings": True, "init_std": 0.02})
    write_json(folder / "generation_config.json", {
        "begin_suppress_tokens": [220, TEXT_TOKENS], "bos_token_id": TEXT_TOKENS, "eos_token_id": TEXT_TOKENS,
        "pad_token_id": TEXT_TOKENS, "decoder_start_token_id": TEXT_TOKENS + 1, "is_multilingual": True,
        "max_initial_timestamp_index": 50, "max_length": c["max_target_positions"],
        "no_timestamps_token_id": TEXT_TOKENS + SPECIAL.index("<|notimestamps|>"), "suppress_tokens": NON_SPEECH,
        "lang_to_id": {t: TEXT_TOKENS + 2 + i for i, t in enumerate(SPECIAL[2:2 + LANGUAGES])},
        "task_to_id": {t: TEXT_TOKENS + SPECIAL.index(f"<|{t}|>") for t in ("transcribe", "translate")}})
    write_json(folder / "preprocessor_config.json", {
        "chunk_length": 30, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": c["num_mel_bins"],
        "hop_length": 160, "n_fft": 400, "n_samples": 480000, "nb_max_frames": 3000, "padding_side": "right",
        "padding_value": 0.0, "processor_class": "WhisperProcessor", "return_attention_mask": False,
        "sampling_rate": 16000})
    write_tokenizer(folder)
    write_safetensors(folder / "model.safetensors", tensor_shapes(c), seed=c["d_model"])


def write_mel(path: pathlib.Path, n_mels: int) -> None:
    """float32 [n_mels, 3000], no header: smooth in time and frequency and in a log-mel's range, so no speech but no silence."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((n_mels + 8, 2 * POSITIONS + 8))
    kernel = np.hanning(9) / np.hanning(9).sum()
    x = np.apply_along_axis(lambda r: np.convolve(r, kernel, "valid"), 0, x)
    x = np.apply_along_axis(lambda r: np.convolve(r, kernel, "valid"), 1, x)
    np.clip(0.5 * x / x.std(), -1, 1.5).astype("<f4").tofile(path)


def write_json(path: pathlib.Path, document) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False) + "\n")


# ------------------------------------------------------------------------------------------------------------------ main

def make(work: pathlib.Path, shape: str, only: set[str]) -> None:
    c = shape_config(shape)
    folder = work / shape
    hf = folder / "hf"

    def step(name, path, write):
        if (only and name not in only) or path.exists():
            return
        print(f"{shape}: {name}", flush=True)
        partial = path.with_name(path.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        write(partial)
        partial.rename(path)

    folder.mkdir(parents=True, exist_ok=True)
    step("hf", hf, lambda p: write_hf(p, c))
    step("mel", folder / "mel.f32", lambda p: write_mel(p, c["num_mel_bins"]))

    def ggml(kind):
        import ggml_whisper
        return lambda p: ggml_whisper.write(p, c, read_safetensors(hf / "model.safetensors"), vocabulary()[0],
                                            byte_alphabet(), kind)

    def ct2(kind):
        def write(p):
            import ct2_whisper
            names = [*vocabulary()[0], *SPECIAL, *TIMESTAMPS]
            ct2_whisper.write(p, c, read_safetensors(hf / "model.safetensors"), names, kind)
        return write

    for kind in ("f16", "q8_0"):
        step(f"ggml-{kind}", folder / f"ggml-{kind}.bin", lambda p, kind=kind: ggml(kind)(p))
    for kind in ("float32", "int8"):
        step(f"ct2-{kind}", folder / f"ct2-{kind}", ct2(kind))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--shapes", nargs="+", default=["base", "small"])
    parser.add_argument("--only", nargs="+", default=[], help="hf mel ggml-f16 ggml-q8_0 ct2-float32 ct2-int8")
    a = parser.parse_args()
    for shape in a.shapes:
        make(a.work, shape, set(a.only))


if __name__ == "__main__":
    main()
