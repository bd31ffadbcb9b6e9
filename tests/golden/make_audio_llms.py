"""Writes tests/golden/audio_llms/: small random audio-language models and what the references compute from them in fp32.

    python make_audio_llms.py [--out DIRECTORY]        about a minute on one core

References: transformers' Qwen2AudioForConditionalGeneration and VoxtralForConditionalGeneration; for Ultravox, which transformers
does not carry, a re-implementation from its published description (Ultravox below: Whisper's encoder on the frames that there
are, states stacked, RMSNorm, SwiGLU whose second half is the gate, RMSNorm before or behind the second matrix).

A folder holds model/ (config.json, preprocessor_config.json, model.safetensors) and expected.json: for each case the audio files
(of tests/golden/whisper/audio; "joined": JOINED), `ids` (placeholders repeated as the processors do), some rows of `vectors` (what joins the
decoder's sequence) and of `logits`, and `greedy` (32 ids by argmax) with their `margin`.
"""
import argparse
import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.io import wavfile
from torch import nn
from transformers import (
    LlamaConfig, LlamaForCausalLM, Qwen2AudioConfig, Qwen2AudioForConditionalGeneration, VoxtralConfig, VoxtralForConditionalGeneration,
    WhisperConfig, WhisperFeatureExtractor)
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils import logging

HERE = pathlib.Path(__file__).parent
AUDIO = HERE / "whisper/audio"
PLACEHOLDER, GREEDY = 7, 32
# 34 s, quiet but for the end: more than a window, and the loudest moment is in the second one. The factors are exact in fp32.
JOINED = [("long.wav", 2**-5), ("short.wav", 2**-4), ("long.wav", 2**-5), ("short.wav", 2**-5), ("short.wav", 1)]
VECTOR_ROWS, LOGIT_ROWS = 5, 4  # so many, evenly spaced
TEXT = {"vocab_size": 99, "hidden_size": 40, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 10, "max_position_embeddings": 2048, "eos_token_id": 2, "bos_token_id": 1}
TOWER = {"d_model": 24, "encoder_layers": 2, "encoder_attention_heads": 3, "encoder_ffn_dim": 96, "num_mel_bins": 80,
         "max_source_positions": 1500}


def read(name: str) -> np.ndarray:
    if name == "joined":
        return np.concatenate([read(part) * np.float32(factor) for part, factor in JOINED])
    rate, samples = wavfile.read(AUDIO / name)
    assert rate == 16000
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    assert samples.dtype == np.int16
    return samples.astype(np.float32) / 32768


def randomize(model: nn.Module, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if "norm" in name or ".ln_" in name:
            p.data = (1 if name.endswith("weight") else 0) + 0.3 * torch.randn(p.shape, generator=g)
        elif "embed_positions" in name:
            p.data = 0.5 * torch.randn(p.shape, generator=g)
        elif p.dim() == 1:
            p.data = 0.3 * torch.randn(p.shape, generator=g)
        elif "embed" in name or "lm_head" in name:
            p.data = torch.randn(p.shape, generator=g)
        else:
            p.data = torch.randn(p.shape, generator=g) * (1.5 / p[0].numel() ** 0.5)


class Ultravox(nn.Module):
    def __init__(self, tower: WhisperConfig, text: LlamaConfig, stack: int, hidden: int, norm_between: bool):
        super().__init__()
        self.audio_tower, self.stack, self.norm_between = WhisperEncoder(tower), stack, norm_between
        p = nn.Module()
        p.ln_pre = LlamaRMSNorm(stack * tower.d_model)
        p.linear_1 = nn.Linear(stack * tower.d_model, hidden, bias=False)
        p.linear_2 = nn.Linear(hidden // 2, text.hidden_size, bias=False)
        if norm_between:
            p.ln_mid = LlamaRMSNorm(hidden // 2)
        else:
            p.ln_post = LlamaRMSNorm(text.hidden_size)
        self.multi_modal_projector = p
        self.language_model = LlamaForCausalLM(text)

    def vectors(self, mel: torch.Tensor) -> torch.Tensor:
        """mel [1, bands, frames] -> [ceil(states / stack), d_model]"""
        t, p = self.audio_tower, self.multi_modal_projector
        x = nn.functional.gelu(t.conv2(nn.functional.gelu(t.conv1(mel)))).permute(0, 2, 1)
        x = x + t.embed_positions.weight[: x.shape[1]]
        for layer in t.layers:
            out = layer(x, None)
            x = out[0] if isinstance(out, tuple) else out
        x = t.layer_norm(x)[0]
        x = nn.functional.pad(x, (0, 0, 0, -len(x) % self.stack)).reshape(-1, self.stack * x.shape[1])
        x, gate = p.linear_1(p.ln_pre(x)).chunk(2, dim=-1)
        x = nn.functional.silu(gate) * x
        return p.linear_2(p.ln_mid(x)) if self.norm_between else p.ln_post(p.linear_2(x))


def qwen2_audio(folder: pathlib.Path):
    config = Qwen2AudioConfig(audio_config={**TOWER, "model_type": "qwen2_audio_encoder"}, text_config={**TEXT, "model_type": "qwen2"},
                              audio_token_index=PLACEHOLDER)
    net = Qwen2AudioForConditionalGeneration(config).eval()
    randomize(net, 1)
    net.save_pretrained(folder)
    net = Qwen2AudioForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    extractor = WhisperFeatureExtractor(feature_size=80)

    def vectors(audio):
        f = extractor(audio, sampling_rate=16000, return_tensors="pt", return_attention_mask=True, padding="max_length")
        tower = net.model.audio_tower
        states, tokens = tower._get_feat_extract_output_lengths(f["attention_mask"].sum(-1))
        mask = torch.full((1, 1, 1500, 1500), 0.0)
        mask[..., states.item():] = float("-inf")
        out = tower(f["input_features"], attention_mask=mask).last_hidden_state
        return net.model.multi_modal_projector(out)[0, :tokens.item()], f
    return net, extractor, vectors


def voxtral(folder: pathlib.Path):
    config = VoxtralConfig(audio_config={**TOWER, "hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3,
                                         "head_dim": 8, "model_type": "voxtral_encoder"},
                           text_config={**TEXT, "model_type": "llama"}, audio_token_id=PLACEHOLDER)
    net = VoxtralForConditionalGeneration(config).eval()
    randomize(net, 2)
    net.save_pretrained(folder)
    net = VoxtralForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    extractor = WhisperFeatureExtractor(feature_size=80)

    def vectors(audio):
        f = extractor(audio, sampling_rate=16000, return_tensors="pt", padding=True, truncation=False, pad_to_multiple_of=480000)
        windows = f["input_features"].reshape(80, -1, 3000).transpose(0, 1)  # as VoxtralProcessor cuts them
        return net.model.get_audio_features(windows).pooler_output, f
    return net, extractor, vectors


def ultravox(norm_between: bool):
    def make(folder: pathlib.Path):
        tower, text = WhisperConfig(**TOWER, attn_implementation="eager"), LlamaConfig(**TEXT, attn_implementation="eager")
        net = Ultravox(tower, text, 8, 64, norm_between).eval()
        randomize(net, 4)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "model.safetensors", metadata={"format": "pt"})
        config = {"architectures": ["UltravoxModel"], "model_type": "ultravox", "hidden_size": 64, "stack_factor": 8, "projector_act": "swiglu",
                  "projector_ln_mid": norm_between, "norm_init": 0.4, "audio_token_index": PLACEHOLDER,
                  "audio_config": {**TOWER, "model_type": "whisper"}, "text_config": {**TEXT, "model_type": "llama"}, "torch_dtype": "float32"}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        extractor = WhisperFeatureExtractor(feature_size=80)

        def vectors(audio):
            f = extractor(audio, sampling_rate=16000, return_tensors="pt", padding="longest", pad_to_multiple_of=160, truncation=False)
            return torch.cat([net.vectors(part) for part in f["input_features"].split(3000, dim=2)]), f
        return net, extractor, vectors
    return make


def logits_of(net, embedded: torch.Tensor) -> torch.Tensor:
    model = net.language_model if isinstance(net, Ultravox) else net.model.language_model
    head = model.lm_head if isinstance(net, Ultravox) else net.lm_head
    model = model.model if isinstance(net, Ultravox) else model
    return head(model(inputs_embeds=embedded).last_hidden_state)[0]


def case(net, vectors_of, files: list[str], seed: int) -> dict:
    g = torch.Generator().manual_seed(seed)
    text = lambda n: torch.randint(10, TEXT["vocab_size"], (n,), generator=g).tolist()
    ids, parts = text(5), []
    for name in files:
        vectors, _ = vectors_of(read(name))
        parts.append(vectors)
        ids += [PLACEHOLDER] * len(vectors) + text(4)
    vectors = torch.cat(parts)
    embed = net.language_model.get_input_embeddings() if isinstance(net, Ultravox) else net.get_input_embeddings()
    x = embed(torch.tensor([ids]))
    x[0, torch.tensor(ids) == PLACEHOLDER] = vectors
    logits = logits_of(net, x)
    greedy, margin, best = [], float("inf"), logits[-1].topk(2)
    for _ in range(GREEDY):
        margin = min(margin, (best.values[0] - best.values[1]).item())
        greedy.append(best.indices[0].item())
        x = torch.cat([x, embed(torch.tensor([greedy[-1:]]))], dim=1)
        best = logits_of(net, x)[-1].topk(2)
    shown = np.linspace(0, len(vectors) - 1, VECTOR_ROWS).astype(int).tolist()
    rows = np.linspace(0, len(ids) - 1, LOGIT_ROWS).astype(int).tolist()
    digits = lambda t: [float(f"{v:.8g}") for v in t.tolist()]
    return {"audio": files, **({"joined": JOINED} if "joined" in files else {}), "ids": ids, "vector_rows": shown, "vectors": [digits(vectors[i]) for i in shown],
            "largest_vector": vectors.abs().max().item(), "logit_rows": rows, "logits": [digits(logits[i]) for i in rows],
            "largest_logit": logits.abs().max().item(), "greedy": greedy, "margin": round(margin, 6)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    out = parser.parse_args().out / "audio_llms"
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    with torch.no_grad():
        for name, make in (("qwen2-audio", qwen2_audio), ("voxtral", voxtral), ("ultravox-v0.4", ultravox(False)), ("ultravox-v0.5", ultravox(True))):
            net, extractor, vectors = make(out / name / "model")
            extractor.save_pretrained(out / name / "model")
            (out / name / "model/generation_config.json").unlink(missing_ok=True)
            cases = [case(net, vectors, files, 50 + i) for i, files in enumerate((["short.wav"], ["short.wav", "long.wav"], ["joined"]))]
            (out / name / "expected.json").write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
