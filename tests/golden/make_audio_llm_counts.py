"""Counts the parameters of every audio-language model in catalog/ by part: audio_llm_parameters.json beside this file.

    python make_audio_llm_counts.py [--out DIRECTORY]   counts, compares, fails at a difference
    python make_audio_llm_counts.py --write             also corrects "parameters" in the catalogue's files

Each model is built twice: as modules on torch's meta device ("how": "transformers", or "rebuilt" from its published
description where transformers has no class) and by formula from the config's keys. The two must agree in every part.
The parts are disjoint and add up to "total"; tied tensors count once; buffers don't count.
    encoder               audio tower: convolutions, positions (also fixed ones that are parameters), blocks, final norm
    projector             what carries audio vectors into the language model; with a Q-Former, the matrix behind it
    qformer, aggregator   query transformers with their query vectors (and GAMA's LayerNorm before its Q-Former)
    decoder               the language model's layers and final norm, routers included
    experts               routed experts
    embedding, lm_head    token table; output matrix, 0 when tied
    per_layer_embedding   Gemma-3n's table of vocab_size_per_layer_input rows
    mimo                  Kimi-Audio's audio output branch: layers, norm, head
    vision                vision tower with its merger, resampler or projection
    adapters              LoRA, never merged
"audio_tokens" maps seconds to the vectors that join the language model's sequence (formula; compared with transformers'
own functions where it has some). The notes are in audio_llm_notes.md.
"""
import argparse
import json
import pathlib
import re
import sys
from types import SimpleNamespace

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, SiglipVisionConfig, SiglipVisionModel, WhisperConfig
from transformers.models.audioflamingo3 import AudioFlamingo3Config, AudioFlamingo3ForConditionalGeneration
from transformers.models.audioflamingo3.processing_audioflamingo3 import AudioFlamingo3Processor
from transformers.models.gemma3n import Gemma3nConfig, Gemma3nForCausalLM, Gemma3nTextConfig
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nAudioEncoder, Gemma3nMultimodalEmbedder
from transformers.models.glmasr import GlmAsrConfig, GlmAsrForConditionalGeneration
from transformers.models.glmasr.processing_glmasr import GlmAsrProcessor
from transformers.models.granite_speech import GraniteSpeechConfig, GraniteSpeechForConditionalGeneration
from transformers.models.granite_speech.feature_extraction_granite_speech import GraniteSpeechFeatureExtractor
from transformers.models.phi4_multimodal import Phi4MultimodalConfig, Phi4MultimodalForCausalLM
from transformers.models.phi4_multimodal.feature_extraction_phi4_multimodal import Phi4MultimodalFeatureExtractor
from transformers.models.qwen2_5_omni import processing_qwen2_5_omni
from transformers.models.qwen2_5_omni import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration
from transformers.models.qwen2_audio import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration
from transformers.models.qwen3_asr import Qwen3ASRConfig, Qwen3ASRForConditionalGeneration
from transformers.models.qwen3_omni_moe import processing_qwen3_omni_moe
from transformers.models.qwen3_omni_moe import Qwen3OmniMoeThinkerConfig, Qwen3OmniMoeThinkerForConditionalGeneration
from transformers.models.voxtral import VoxtralConfig, VoxtralForConditionalGeneration
from transformers.models.voxtral_realtime import VoxtralRealtimeConfig, VoxtralRealtimeForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils import logging

from audio_llm_formulas import BACKBONES, FORMULAS, GEMMA3N_VISION, ROOT, audio_tokens, whisper_config, whisper_frames

PARTS = ["encoder", "projector", "qformer", "aggregator", "decoder", "experts", "embedding", "lm_head",
         "per_layer_embedding", "mimo", "vision", "adapters"]
SECONDS = (1, 10, 30, 95)

# Totals that were found elsewhere (FACTS.md section 2), without adapters; Gemma-3n and MiniCPM-o without vision. Its
# figures for Phi-4-multimodal are wrong (audio_llm_notes.md says why).
KNOWN = {
    "Qwen/Qwen2-Audio-7B": 8_397_094_912, "fixie-ai/ultravox-v0_5-llama-3_2-1b": 1_918_932_992,
    "fixie-ai/ultravox-v0_5-llama-3_1-8b": 8_717_574_144, "mistralai/Voxtral-Mini-3B-2507": 4_676_271_104,
    "mistralai/Voxtral-Small-24B-2507": 24_261_800_960, "ibm-granite/granite-speech-3.3-2b": 3_009_219_840,
    "ibm-granite/granite-speech-3.3-8b": 8_648_645_888, "google/gemma-3n-E2B-it": 5_119_876_736,
    "google/gemma-3n-E4B-it": 7_519_929_616, "Qwen/Qwen2.5-Omni-7B": 8_931_813_888,
    "nvidia/audio-flamingo-3-hf": 8_267_215_360, "zai-org/GLM-ASR-Nano-2512": 2_136_470_528,
    "openbmb/MiniCPM-o-2_6": 7_936_745_984, "Sreyan88/GAMA": 6_991_619_072,
}
KNOWN_WITHOUT_VISION = ("google/gemma-3n", "openbmb/")

# ---- modules -------------------------------------------------------------------------------------------------------

class Projector(nn.Module):
    """Ultravox: RMSNorm, stacked width -> hidden_size, SwiGLU halves, norm between (v0.5) or behind (up to v0.4.1)."""

    def __init__(self, width: int, hidden: int, out: int, act: str, norm_between: bool):
        super().__init__()
        middle = hidden // 2 if act == "swiglu" else hidden
        self.ln_pre = nn.RMSNorm(width)
        self.linear_1 = nn.Linear(width, hidden, bias=False)
        self.linear_2 = nn.Linear(middle, out, bias=False)
        self.norm = nn.RMSNorm(middle if norm_between else out)


class DashengBlock(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)


class Dasheng(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        width, (height, time) = c["embed_dim"], c["patch_size"]
        self.init_bn = nn.BatchNorm2d(c["n_mels"])
        self.patch = nn.Conv2d(c["input_channels"], width, (height, time))
        self.time = nn.Parameter(torch.empty(c["target_length"] // c["patch_stride"][1], width))
        self.frequency = nn.Parameter(torch.empty(c["n_mels"] // c["patch_stride"][0], width))
        self.blocks = nn.ModuleList(DashengBlock(width, int(width * c["mlp_ratio"])) for _ in range(c["depth"]))
        self.norm = nn.LayerNorm(width)


class CavMaeBlock(DashengBlock):
    """With a LayerNorm pair for each of joint, audio and video; the audio branch uses one pair."""

    def __init__(self, width: int, inner: int, norms: int):
        super().__init__(width, inner)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(norms))


class CavMaeAudio(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        width = c["hidden_size"]
        self.patch = nn.Conv2d(1, width, c["patch_size"])
        self.position = nn.Parameter(torch.empty(c["num_patches"], width))
        self.modality = nn.Parameter(torch.empty(width))
        self.blocks = nn.ModuleList(CavMaeBlock(width, c["intermediate_size"], c["layer_norms_per_block"])
                                    for _ in range(c["num_hidden_layers"]))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in c["output_blocks"])


class BertAttention(nn.Module):
    def __init__(self, width: int, source: int):
        super().__init__()
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(source, width), nn.Linear(source, width)
        self.out, self.norm = nn.Linear(width, width), nn.LayerNorm(width)


class BertFeedForward(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.up, self.down, self.norm = nn.Linear(width, inner), nn.Linear(inner, width), nn.LayerNorm(width)


class BertBlock(nn.Module):
    def __init__(self, c: dict, cross: bool, feed_forwards: int):
        super().__init__()
        width = c["hidden_size"]
        self.attention = BertAttention(width, width)
        self.cross = BertAttention(width, c["encoder_hidden_size"]) if cross else None
        self.feed_forward = nn.ModuleList(BertFeedForward(width, c["intermediate_size"]) for _ in range(feed_forwards))


class QFormer(nn.Module):
    """GAMA's: LayerNorm before it, query vectors, embedding LayerNorm, cross-attention in every n-th block."""

    def __init__(self, c: dict):
        super().__init__()
        self.input_norm, self.norm = nn.LayerNorm(c["hidden_size"]), nn.LayerNorm(c["hidden_size"])
        self.queries = nn.Parameter(torch.empty(c["num_query_tokens"], c["hidden_size"]))
        self.blocks = nn.ModuleList(BertBlock(c, i % c["cross_attention_frequency"] == 0, 1)
                                    for i in range(c["num_hidden_layers"]))


class Resampler(nn.Module):
    """MiniCPM's: query_num vectors attend once to the vision tower's output."""

    def __init__(self, queries: int, width: int, source: int):
        super().__init__()
        self.query, self.proj = nn.Parameter(torch.empty(queries, width)), nn.Parameter(torch.empty(width, width))
        self.kv_proj = nn.Linear(source, width, bias=False)
        self.attn = nn.MultiheadAttention(width, width // 128)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))


def mlp(*widths: int) -> nn.Module:
    return nn.ModuleList(nn.Linear(i, o) for i, o in zip(widths, widths[1:]))


def text_keys(config: dict) -> dict:
    """Of a config whose text part stands at the top, what counts."""
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "vocab_size", "tie_word_embeddings")
    return {key: config[key] for key in keys}


def language_model(text: dict) -> nn.Module:
    text = {k: v for k, v in text.items() if k not in ("torch_dtype", "rope_scaling")}
    kind = {"qwen2_5_omni_text": "qwen2"}.get(text["model_type"], text["model_type"])
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**{**text, "model_type": kind}))


def lora(model: nn.Module, pattern: str, rank: int) -> nn.Module:
    """The pairs of matrices that LoRA of this rank adds to the matrices whose names match."""
    found = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and re.search(pattern, n)]
    assert found, pattern
    pairs = [(nn.Linear(m.in_features, rank, bias=False), nn.Linear(rank, m.out_features, bias=False)) for m in found]
    return nn.ModuleList(matrix for pair in pairs for matrix in pair)


# ---- families: config -> modules by part ---------------------------------------------------------------------------

COMMON = [(r"embed_tokens_per_layer", "per_layer_embedding"), (r"lm_head", "lm_head"), (r"\.experts\.", "experts"),
          (r"embed_tokens\.", "embedding"), (r"language_model|^model\.(layers|norm)\.", "decoder")]
TOWER = [(r"audio_tower\.(proj|audio_bos_eos)", "projector"), (r"audio_tower", "encoder"), (r"visual", "vision"),
         (r"multi_modal_projector", "projector")]


def by_name(model: nn.Module, rules: list) -> dict:
    counts = {}
    for name, p in model.named_parameters():  # yields shared tensors once
        part = next(part for pattern, part in rules + COMMON if re.search(pattern, name))
        counts[part] = counts.get(part, 0) + p.numel()
    return counts


def by_part(**modules: nn.Module) -> dict:
    """Counts of modules by the keyword they come under; "language" falls into decoder, embedding and so on."""
    counts = {}
    for part, module in modules.items():
        if part == "language":
            counts |= by_name(module, COMMON + [("", "decoder")])
        else:
            counts[part] = sum(p.numel() for p in module.parameters())
    return counts


def simple(config_class, model_class):
    def build(entry: dict) -> dict:
        return by_name(model_class(config_class(**entry["config"])), TOWER)
    return build


def thinker(config_class, model_class):
    def build(entry: dict) -> dict:
        return by_name(model_class(config_class(**entry["config"]["thinker_config"])), TOWER)
    return build


def qwen3_asr(entry: dict) -> dict:
    t = entry["config"]["thinker_config"]
    audio = {**t["audio_config"], "model_type": "qwen3_asr_encoder"}
    audio.pop("max_source_positions")  # the class's positions are a fixed table of one chunk, no parameters
    tie = t["text_config"]["tie_word_embeddings"]
    return by_name(Qwen3ASRForConditionalGeneration(
        Qwen3ASRConfig(audio_config=audio, text_config=t["text_config"], tie_word_embeddings=tie)),
        [(r"audio_tower\.proj|multi_modal_projector", "projector"), (r"audio_tower", "encoder")])


def ultravox(entry: dict) -> dict:
    c, audio, text = entry["config"], whisper_config(entry["config"]), BACKBONES[entry["config"]["text_model_id"]]
    projector = Projector(audio["d_model"] * c["stack_factor"], c["hidden_size"], text["hidden_size"],
                          c["projector_act"], c.get("projector_ln_mid", False))
    return by_part(encoder=WhisperEncoder(WhisperConfig(**audio)), projector=projector, language=language_model(text))


def granite_speech(entry: dict) -> dict:
    model = GraniteSpeechForConditionalGeneration(GraniteSpeechConfig(**{**entry["config"], "has_lora_adapter": False}))
    counts = by_name(model, [(r"\.projector\.(query|qformer)", "qformer"), (r"\.projector\.", "projector"),
                             (r"^model\.encoder\.", "encoder")])
    adapter = entry["adapter_config"]
    pattern = rf"language_model\.layers.*\.({'|'.join(adapter['target_modules'])})$"
    return counts | by_part(adapters=lora(model, pattern, adapter["r"]))


def gemma3n(entry: dict) -> dict:
    c = Gemma3nConfig(**entry["config"])
    embedder = Gemma3nMultimodalEmbedder(c.audio_config, c.text_config)
    counts = by_part(encoder=Gemma3nAudioEncoder(c.audio_config), projector=embedder,
                     language=Gemma3nForCausalLM(c.text_config))
    return counts | {"vision": GEMMA3N_VISION}


def phi4_config(c: dict) -> Phi4MultimodalConfig:
    """The published config in the words of transformers' class."""
    a = c["audio_processor"]["config"]
    audio = {"hidden_size": a["attention_dim"], "num_attention_heads": a["attention_heads"],
             "intermediate_size": a["linear_units"], "num_blocks": a["num_blocks"],
             "input_size": a["input_size"], "time_reduction": a["time_reduction"],
             "nemo_conv_channels": a["nemo_conv_settings"]["conv_channels"], "kernel_size": a["kernel_size"],
             "ext_pw_out_channel": a["ext_pw_out_channel"], "depthwise_multiplier": a["depthwise_multiplier"],
             "depthwise_separable_out_channel": a["depthwise_seperable_out_channel"],
             "bias_max_distance": a["relative_attention_bias_args"]["t5_bias_max_distance"]}
    vision = {"crop_size": c["embd_layer"]["image_embd_layer"]["crop_size"]}
    return Phi4MultimodalConfig(audio_config=audio, vision_config=vision, **text_keys(c),
                                partial_rotary_factor=c["partial_rotary_factor"])


def phi4mm(entry: dict) -> dict:
    model = Phi4MultimodalForCausalLM(phi4_config(entry["config"]))
    counts = by_name(model, [(r"audio_embed\.(up|down)_proj", "projector"), (r"audio_embed", "encoder"),
                             (r"image_embed", "vision")])
    pattern = r"^model\.layers\..*\.(qkv_proj|o_proj|gate_up_proj|down_proj)$"  # what both "layer" expressions match
    adapters = [lora(model, pattern, entry["config"][key]["r"]) for key in ("speech_lora", "vision_lora")]
    return counts | by_part(adapters=nn.ModuleList(adapters))


def minicpmo(entry: dict) -> dict:
    c, audio = entry["config"], whisper_config(entry["config"])
    v = SiglipVisionModel(SiglipVisionConfig(**{**c["vision_config"], "vision_use_head": False}))
    width = audio["encoder_ffn_dim"] // 4
    text = {"model_type": "qwen2", **text_keys(c)}
    vision = nn.ModuleList([v, Resampler(c["query_num"], c["hidden_size"], c["vision_config"]["hidden_size"])])
    return by_part(encoder=WhisperEncoder(WhisperConfig(**audio)), vision=vision, language=language_model(text),
                   projector=mlp(width, c["hidden_size"], c["hidden_size"]))


def midashenglm(entry: dict) -> dict:
    c, width = entry["config"], entry["config"]["text_config"]["hidden_size"]
    audio = c["audio_encoder_config"]
    return by_part(encoder=Dasheng(audio), projector=mlp(audio["embed_dim"] * c["subsample_factor"], width, width),
                   language=language_model(c["text_config"]))


def kimi_audio(entry: dict) -> dict:
    c, width = entry["config"], entry["config"]["hidden_size"]
    text = {"model_type": "qwen2", **text_keys(c)}
    branch = language_model({**text, "num_hidden_layers": c["kimia_mimo_layers"]})
    branch.model.embed_tokens = None
    adaptor = nn.ModuleList([mlp(c["kimia_adaptor_input_dim"], width, width), nn.LayerNorm(width)])
    return by_part(encoder=WhisperEncoder(WhisperConfig(**entry["whisper_config"])), projector=adaptor,
                   language=language_model(text), mimo=branch)


def gama(entry: dict) -> dict:
    c, p, agg = entry["config"], entry["config"]["projection_config"], entry["config"]["aggregator_config"]
    language = language_model(c["text_config"])
    aggregator = nn.ModuleList(BertBlock(agg, True, 2) for _ in range(agg["num_hidden_layers"]))
    projector = nn.ModuleList(mlp(p["input_size"], p["hidden_size"], p["output_size"]) for _ in range(p["count"]))
    adapters = lora(language, rf"\.({'|'.join(c['lora_config']['target_modules'])})$", c["lora_config"]["r"])
    return by_part(encoder=CavMaeAudio(c["encoder_config"]), qformer=QFormer(c["qformer_config"]),
                   aggregator=aggregator, projector=projector, language=language, adapters=adapters)


FAMILIES = {  # model_type -> (how, modules)
    "qwen2_audio": ("transformers", simple(Qwen2AudioConfig, Qwen2AudioForConditionalGeneration)),
    "ultravox": ("rebuilt", ultravox),
    "voxtral": ("transformers", simple(VoxtralConfig, VoxtralForConditionalGeneration)),
    "voxtral_realtime": ("transformers", simple(VoxtralRealtimeConfig, VoxtralRealtimeForConditionalGeneration)),
    "granite_speech": ("transformers", granite_speech),
    "qwen2_5_omni": ("transformers", thinker(Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration)),
    "qwen3_omni_moe": ("transformers", thinker(Qwen3OmniMoeThinkerConfig, Qwen3OmniMoeThinkerForConditionalGeneration)),
    "qwen3_asr": ("transformers", qwen3_asr),
    "audioflamingo3": ("transformers", simple(AudioFlamingo3Config, AudioFlamingo3ForConditionalGeneration)),
    "glmasr": ("transformers", simple(GlmAsrConfig, GlmAsrForConditionalGeneration)),
    "gemma3n": ("transformers", gemma3n), "phi4mm": ("transformers", phi4mm), "minicpmo": ("rebuilt", minicpmo),
    "midashenglm": ("rebuilt", midashenglm), "kimi_audio": ("rebuilt", kimi_audio), "gama": ("rebuilt", gama),
}


# ---- vectors, by transformers ---------------------------------------------------------------------------------------

def tokens_of_transformers(config: dict, samples: int):
    """The same from transformers' own functions, None where it has none that works without audio."""
    kind, frames = config["model_type"], torch.tensor([whisper_frames(samples)])
    if kind == "qwen2_5_omni":
        return int(processing_qwen2_5_omni._get_feat_extract_output_lengths(frames))
    if kind == "qwen3_omni_moe":
        window = config["thinker_config"]["audio_config"]["n_window"]
        return int(processing_qwen3_omni_moe._get_feat_extract_output_lengths(frames, window))
    if kind == "audioflamingo3":
        return int(AudioFlamingo3Processor._get_audio_token_length(None, frames))
    if kind == "glmasr":
        return int(GlmAsrProcessor._get_audio_token_length(None, frames))
    if kind == "granite_speech":
        self = SimpleNamespace(melspec_kwargs={"hop_length": 160}, projector_window_size=config["window_size"],
                               projector_downsample_rate=config["downsample_rate"])
        return GraniteSpeechFeatureExtractor._get_num_audio_features(self, [samples])[0]
    if kind == "phi4mm":
        self = SimpleNamespace(audio_compression_rate=8, audio_downsample_rate=1)
        frames = torch.tensor([(samples - 400) // 160 + 1])
        return int(Phi4MultimodalFeatureExtractor._compute_audio_embed_size(self, frames))
    return None


# --------------------------------------------------------------------------------------------------------------------

def count(entry: dict) -> tuple[dict, list[str]]:
    """What goes into the file, and what is wrong."""
    name, config, wrong = entry["name"], entry["config"], []
    how, build = FAMILIES[config["model_type"]]
    with torch.device("meta"):
        built = build(entry)
    formula = FORMULAS[config["model_type"]](entry)
    parts = {part: built[part] for part in PARTS if built.get(part)} | {"lm_head": built.get("lm_head", 0)}
    for part in sorted(built.keys() | formula.keys()):
        if built.get(part, 0) != formula.get(part, 0):
            wrong.append(f"{name}: {part} is {built.get(part, 0)} as modules, {formula.get(part, 0)} by formula")
    total = sum(parts.values())
    plain = total - parts.get("adapters", 0) - (parts.get("vision", 0) if name.startswith(KNOWN_WITHOUT_VISION) else 0)
    if plain != KNOWN.get(name, plain):
        wrong.append(f"{name}: counted {plain}, known {KNOWN[name]}")
    tokens = {str(s): audio_tokens(config, 16000 * s) for s in SECONDS}
    for s in SECONDS:
        theirs = tokens_of_transformers(config, 16000 * s)
        if theirs is not None and theirs != tokens[str(s)]:
            wrong.append(f"{name}: {s} s are {tokens[str(s)]} vectors, {theirs} by transformers")
    return {"how": how, "total": total, **parts, "audio_tokens": tokens}, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = parser.parse_args()
    logging.set_verbosity_error()
    counts, wrong = {}, []
    for path in sorted((ROOT / "catalog").glob("*/*.json")):
        entry = json.loads(path.read_text())
        if entry["config"].get("model_type") not in FAMILIES:
            continue
        counts[entry["name"]], found = count(entry)
        total = counts[entry["name"]]["total"]
        if entry["parameters"] != total and options.write:
            entry["parameters"] = total
            path.write_text(json.dumps(entry, indent=2, ensure_ascii=False) + "\n")
        elif entry["parameters"] != total:
            found.append(f"{entry['name']}: the catalogue says {entry['parameters']}, counted {total}")
        wrong += found
    lines = [f" {json.dumps(name)}: {json.dumps(c)}" for name, c in counts.items()]
    (options.out / "audio_llm_parameters.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print("\n".join(wrong + [f"{len(counts)} models, {len(wrong)} differences"]))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
