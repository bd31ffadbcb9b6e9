"""Measures the key/value caches that transformers builds and writes cache_bytes.json beside this file.

    python make_cache_bytes.py [--out DIRECTORY]      all models, about three minutes on one core
    python make_cache_bytes.py --only NAME...         prints the cases of some models, writes nothing

Every model is small and random. Its config is first given as a published config.json gives it (`given`: keys that are
left out take the class's default), then as save_pretrained writes it (`config`); both must build the same cache. Each
case runs generate() with the default cache (or cache_implementation="static") and a forward hook that reads the cache
after every step; each must agree with the rule written down here (rule_layers, check). cache_notes.md says what the
fields are and what surprised.
"""
import argparse
import itertools
import json
import pathlib
import sys
import tempfile
from unittest import mock

import torch
import transformers
from transformers import AutoConfig, GenerationMixin
from transformers.models.gemma3n import modeling_gemma3n
from transformers.utils import logging

NEW_TOKENS = 4  # the last one is never fed back: the cache ends with prompt + NEW_TOKENS - 1 positions
BATCHES, BEAMS = (1, 2), (1, 3)
STATIC = 80  # positions of a static cache: more than any case uses, except mistral-default, which has none

# ---- text models: name -> (class, given config, prompt lengths below and above the window)

PLAIN = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": True}
LLAMA = {"model_type": "llama", "vocab_size": 101, "num_hidden_layers": 3, "intermediate_size": 88, **PLAIN}
MISTRAL = {"model_type": "mistral", "vocab_size": 103, "hidden_size": 72, "num_attention_heads": 6,
           "num_key_value_heads": 2, "num_hidden_layers": 4, "intermediate_size": 90, **PLAIN}
QWEN2 = {"model_type": "qwen2", "vocab_size": 107, "hidden_size": 80, "num_attention_heads": 10,
         "num_key_value_heads": 2, "num_hidden_layers": 5, "intermediate_size": 92, **PLAIN}
QWEN3 = {**QWEN2, "model_type": "qwen3", "head_dim": 14}
QWEN3_MOE = {**QWEN3, "model_type": "qwen3_moe", "num_experts": 6, "num_experts_per_tok": 2,
             "moe_intermediate_size": 24, "num_hidden_layers": 4}
GEMMA2 = {"model_type": "gemma2", "vocab_size": 109, "hidden_size": 84, "num_attention_heads": 6,
          "num_key_value_heads": 3, "head_dim": 18, "num_hidden_layers": 5, "intermediate_size": 94,
          "sliding_window": 15, **PLAIN}
GEMMA3 = {"model_type": "gemma3_text", "vocab_size": 109, "hidden_size": 84, "num_attention_heads": 6,
          "num_key_value_heads": 2, "head_dim": 22, "num_hidden_layers": 8, "intermediate_size": 94,
          "sliding_window": 14, "sliding_window_pattern": 3, **PLAIN}
GEMMA3N = {"model_type": "gemma3n_text", "vocab_size": 131, "vocab_size_per_layer_input": 113, "hidden_size": 84,
           "hidden_size_per_layer_input": 6, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16,
           "num_hidden_layers": 15, "num_kv_shared_layers": 5, "intermediate_size": 60, "sliding_window": 12,
           "laurel_rank": 5, "activation_sparsity_pattern": [0.0] * 15, **PLAIN}
PHI3 = {"model_type": "phi3", "vocab_size": 127, "hidden_size": 96, "num_attention_heads": 8,
        "num_key_value_heads": 4, "num_hidden_layers": 3, "intermediate_size": 98, **PLAIN}
DEEPSEEK = {"vocab_size": 137, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4,
            "num_hidden_layers": 3, "intermediate_size": 70, "moe_intermediate_size": 24, "n_routed_experts": 8,
            "num_experts_per_tok": 2, "n_shared_experts": 1, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
            "kv_lora_rank": 20, "q_lora_rank": 28, "qk_nope_head_dim": 14, "qk_rope_head_dim": 6, "v_head_dim": 18,
            "max_position_embeddings": 512, **PLAIN}

TEXT = {
    "llama-mha": ("LlamaForCausalLM", {**LLAMA, "hidden_size": 48, "num_attention_heads": 4}, (7, 30)),
    "llama-gqa": ("LlamaForCausalLM", {**LLAMA, "hidden_size": 72, "num_attention_heads": 6, "num_key_value_heads": 2},
                  (7, 30)),
    "llama-mqa": ("LlamaForCausalLM", {**LLAMA, "hidden_size": 72, "num_attention_heads": 6, "num_key_value_heads": 1,
                                       "head_dim": 20}, (7, 30)),
    "mistral-window": ("MistralForCausalLM", {**MISTRAL, "sliding_window": 17, "head_dim": 10}, (8, 33)),
    "mistral-null": ("MistralForCausalLM", {**MISTRAL, "sliding_window": None}, (8, 33)),
    "mistral-default": ("MistralForCausalLM", {**MISTRAL, "num_hidden_layers": 2}, (33, 4200)),
    "qwen2-off": ("Qwen2ForCausalLM", {**QWEN2, "use_sliding_window": False, "sliding_window": 13,
                                       "max_window_layers": 2}, (9, 31)),
    "qwen2-window": ("Qwen2ForCausalLM", {**QWEN2, "use_sliding_window": True, "sliding_window": 13,
                                          "max_window_layers": 2}, (9, 31)),
    "qwen3": ("Qwen3ForCausalLM", {**QWEN3, "use_sliding_window": False, "sliding_window": None}, (9, 31)),
    "qwen3-window": ("Qwen3ForCausalLM", {**QWEN3, "use_sliding_window": True, "sliding_window": 13,
                                          "max_window_layers": 2}, (9, 31)),
    "qwen3_moe": ("Qwen3MoeForCausalLM", QWEN3_MOE, (9, 31)),
    "qwen3_moe-window": ("Qwen3MoeForCausalLM", {**QWEN3_MOE, "use_sliding_window": True, "sliding_window": 13,
                                                 "max_window_layers": 2}, (9, 31)),
    "gemma2": ("Gemma2ForCausalLM", GEMMA2, (8, 29)),
    "gemma3_text": ("Gemma3ForCausalLM", GEMMA3, (8, 29)),
    "gemma3n_text": ("Gemma3nForCausalLM", GEMMA3N, (7, 27)),
    "phi3-window": ("Phi3ForCausalLM", {**PHI3, "sliding_window": 19}, (10, 35)),
    "phi3-null": ("Phi3ForCausalLM", {**PHI3, "sliding_window": None}, (10, 35)),
    "deepseek_v3": ("DeepseekV3ForCausalLM", {**DEEPSEEK, "model_type": "deepseek_v3"}, (7, 30)),
    "deepseek_v2": ("DeepseekV2ForCausalLM", {**DEEPSEEK, "model_type": "deepseek_v2", "topk_method": "greedy"},
                    (7, 30)),
}

# ---- models that hear: name -> (class, given config, [(mel frames, text tokens), ...], how the input is made)

AUDIO_TOKEN = 90  # inside every vocabulary below
LM = {"vocab_size": 107, "hidden_size": 80, "num_attention_heads": 10, "num_key_value_heads": 2,
      "num_hidden_layers": 5, "intermediate_size": 92, "max_position_embeddings": 700, **PLAIN}
WHISPER_ENCODER = {"num_mel_bins": 16, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 96,
                   "d_model": 24, "max_source_positions": 50}
FLAMINGO_ENCODER = {"num_mel_bins": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
                    "hidden_size": 24, "max_source_positions": 48}  # Voxtral and GLM-ASR join 4 positions into one
OMNI_VISION = {"depth": 1, "hidden_size": 32, "intermediate_size": 36, "num_heads": 2, "patch_size": 4,
               "out_hidden_size": 80, "fullatt_block_indexes": [0]}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}

WHISPER = {"model_type": "whisper", "vocab_size": 111, "num_mel_bins": 16, "d_model": 24, "encoder_layers": 2,
           "encoder_attention_heads": 4, "encoder_ffn_dim": 56, "decoder_layers": 3, "decoder_attention_heads": 3,
           "decoder_ffn_dim": 60, "num_hidden_layers": 2, "max_source_positions": 50, "max_target_positions": 40,
           "decoder_start_token_id": 3, **PLAIN}

AUDIO = {
    "whisper": ("WhisperForConditionalGeneration", WHISPER, [(100, 5), (100, 30)], "whisper"),
    "qwen2_audio": ("Qwen2AudioForConditionalGeneration",
                    {"model_type": "qwen2_audio", "audio_token_index": AUDIO_TOKEN,
                     "audio_config": {"model_type": "qwen2_audio_encoder", **WHISPER_ENCODER},
                     "text_config": {"model_type": "qwen2", **LM}}, [(40, 5), (97, 21)], "masked"),
    "voxtral": ("VoxtralForConditionalGeneration",
                {"model_type": "voxtral", "audio_token_id": AUDIO_TOKEN,
                 "audio_config": {"model_type": "voxtral_encoder", **FLAMINGO_ENCODER},
                 "text_config": {"model_type": "llama", "head_dim": 12, **LM}}, [(96, 5), (96, 21)], "plain"),
    "granite_speech": ("GraniteSpeechForConditionalGeneration",
                       {"model_type": "granite_speech", "audio_token_index": AUDIO_TOKEN, "has_lora_adapter": False,
                        "downsample_rate": 5, "window_size": 15,
                        "encoder_config": {"model_type": "granite_speech_encoder", "input_dim": 16, "num_layers": 2,
                                           "hidden_dim": 24, "num_heads": 4, "dim_head": 6, "output_dim": 11,
                                           "context_size": 20, "max_pos_emb": 50},
                        "projector_config": {"model_type": "blip_2_qformer", "hidden_size": 36, "num_hidden_layers": 1,
                                             "num_attention_heads": 3, "intermediate_size": 44,
                                             "encoder_hidden_size": 24, "cross_attention_frequency": 1},
                        "text_config": {"model_type": "granite", **LM}}, [(44, 5), (100, 21)], "frames_first"),
    "audioflamingo3": ("AudioFlamingo3ForConditionalGeneration",
                       {"model_type": "audioflamingo3", "audio_token_id": AUDIO_TOKEN,
                        "audio_config": {"model_type": "audioflamingo3_encoder", **FLAMINGO_ENCODER},
                        "text_config": {"model_type": "qwen2", **LM}}, [(40, 5), (96, 21)], "flamingo"),
    "glmasr": ("GlmAsrForConditionalGeneration",
               {"model_type": "glmasr", "audio_token_id": AUDIO_TOKEN,
                "audio_config": {"model_type": "glmasr_encoder", "num_mel_bins": 16, "num_hidden_layers": 2,
                                 "num_attention_heads": 4, "intermediate_size": 96, "hidden_size": 24},
                "text_config": {"model_type": "llama", **LM}}, [(40, 5), (96, 21)], "flamingo"),
    "qwen2_5_omni_thinker": ("Qwen2_5OmniThinkerForConditionalGeneration",
                             {"model_type": "qwen2_5_omni_thinker", "audio_token_index": AUDIO_TOKEN,
                              "image_token_index": 91, "video_token_index": 92, "audio_start_token_id": 93,
                              "audio_end_token_id": 94, "user_token_id": 95, "vision_start_token_id": 96,
                              "audio_config": {"model_type": "qwen2_5_omni_audio_encoder", **WHISPER_ENCODER,
                                               "n_window": 10, "output_dim": 80},
                              "vision_config": {"model_type": "qwen2_5_omni_vision_encoder", **OMNI_VISION},
                              "text_config": {"model_type": "qwen2_5_omni_text", "rope_parameters": MROPE,
                                              "use_sliding_window": True, "sliding_window": 23,
                                              "max_window_layers": 3, **LM}}, [(40, 5), (97, 21)], "omni"),
    "qwen3_omni_moe_thinker": ("Qwen3OmniMoeThinkerForConditionalGeneration",
                               {"model_type": "qwen3_omni_moe_thinker", "audio_token_id": AUDIO_TOKEN,
                                "image_token_id": 91, "video_token_id": 92, "audio_start_token_id": 93,
                                "user_token_id": 95, "vision_start_token_id": 96,
                                "audio_config": {"model_type": "qwen3_omni_moe_audio_encoder", **WHISPER_ENCODER,
                                                 "n_window": 50, "n_window_infer": 200, "downsample_hidden_size": 10,
                                                 "output_dim": 80},
                                "vision_config": {"model_type": "qwen3_omni_moe_vision_encoder", "depth": 1,
                                                  "hidden_size": 32, "intermediate_size": 36, "num_heads": 2,
                                                  "out_hidden_size": 80, "num_position_embeddings": 16,
                                                  "deepstack_visual_indexes": [0]},
                                "text_config": {"model_type": "qwen3_omni_moe_text", "head_dim": 14,
                                                "rope_parameters": {**MROPE, "mrope_section": [3, 2, 2]},
                                                "num_experts": 6, "num_experts_per_tok": 2,
                                                "moe_intermediate_size": 24, **LM}}, [(40, 5), (230, 21)], "omni"),
    "phi4_multimodal": ("Phi4MultimodalForCausalLM",
                        {"model_type": "phi4_multimodal", **LM, "num_hidden_layers": 3, "sliding_window": 18,
                         "original_max_position_embeddings": 300,
                         "audio_config": {"hidden_size": 24, "intermediate_size": 28, "num_blocks": 2,
                                          "num_attention_heads": 4, "ext_pw_out_channel": 24,
                                          "depthwise_separable_out_channel": 24, "nemo_conv_channels": 10,
                                          "input_size": 16, "audio_token_id": AUDIO_TOKEN},
                         "vision_config": {"hidden_size": 32, "intermediate_size": 36, "num_hidden_layers": 2,
                                           "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
                                           "crop_size": 28, "image_token_id": 91}}, [(40, 5), (96, 21)], "phi4"),
    "gemma3n": ("Gemma3nForConditionalGeneration",
                {"model_type": "gemma3n", "audio_token_id": 129, "image_token_id": 121,
                 "audio_soft_tokens_per_image": 9,
                 "audio_config": {"model_type": "gemma3n_audio", "vocab_size": 8, "vocab_offset": 123,
                                  "input_feat_size": 16, "hidden_size": 24, "conf_num_attention_heads": 4,
                                  "conf_num_hidden_layers": 2, "conf_attention_chunk_size": 4,
                                  "conf_attention_context_left": 5, "sscp_conv_channel_size": [6, 4]},
                 "vision_config": {"model_type": "gemma3n_vision", "hidden_size": 32, "vocab_size": 8,
                                   "vocab_offset": 115},
                 "text_config": GEMMA3N}, [(40, 5), (40, 21)], "gemma3n"),
}


# ---- measuring

def layer_tensors(layer) -> list[torch.Tensor]:
    """What a layer keeps: tensors with content; the scalars that count positions are left out."""
    values = vars(layer).values()
    return [v for v in values if isinstance(v, torch.Tensor) and v.dim() > 1 and v.numel()]


def measure(cache) -> dict:
    """Bytes of the K/V tensors per layer, kept positions, and the storages behind them (a view keeps its whole own)."""
    sizes, positions, storages = [], [], {}
    for layer in cache.layers:
        tensors = layer_tensors(layer)
        sizes.append(sum(t.numel() * t.element_size() for t in tensors))
        positions.append(tensors[0].shape[-2] if tensors else 0)
        for t in tensors:
            storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
    kinds = {"DynamicLayer": "full", "StaticLayer": "full", "DynamicSlidingWindowLayer": "sliding",
             "StaticSlidingWindowLayer": "sliding", "DummyLayer": "none"}
    return {"bytes": sizes, "positions": positions, "storage": sum(storages.values()),
            "layers": [kinds[type(layer).__name__] for layer in cache.layers],
            "dtypes": sorted({str(t.dtype).removeprefix("torch.") for la in cache.layers for t in layer_tensors(la)})}


def measure_all(cache) -> dict:
    parts = {"cache_class": type(cache).__name__}
    cross = getattr(cache, "cross_attention_cache", None)
    parts["self"] = measure(cache if cross is None else cache.self_attention_cache)
    parts["cross"] = measure(cross) if cross is not None else None
    return parts


# ---- the rule, from config.json as saved, that every measurement below must agree with

def rule_layers(config: dict) -> tuple[list[str], int, int]:
    """Kinds of the decoder's layers, elements of K and V together per position and layer, window."""
    text = config.get("text_config", config)
    if config["model_type"] == "whisper":
        return ["full"] * config["decoder_layers"], 2 * config["d_model"], 0
    layers, heads, window = text["num_hidden_layers"], text["num_attention_heads"], text.get("sliding_window") or 0
    kinds = [kind.removesuffix("_attention") for kind in text.get("layer_types") or []]
    kinds = kinds or ["sliding" if window else "full"] * layers
    shared = text.get("num_kv_shared_layers") or 0
    kinds[layers - shared:] = ["none"] * shared
    if text.get("kv_lora_rank"):
        return kinds, text["kv_lora_rank"] + text["qk_rope_head_dim"], window
    head_dim = text.get("head_dim") or text["hidden_size"] // heads
    return kinds, 2 * (text.get("num_key_value_heads") or heads) * head_dim, window


def check(config: dict, case: dict, last: dict, first: dict) -> None:
    """Stops unless kept positions, bytes and storages are what the rule says."""
    kinds, width, window = rule_layers(config)
    rows, size = case["batch"] * case["beams"], {"bfloat16": 2, "float32": 4}[case["dtype"]]
    tokens, prompt, static = case["tokens"], case["prompt"], case.get("max_cache_len")
    held = {"full": static or tokens, "sliding": min(window, static) if static else min(tokens, window - 1), "none": 0}
    # A dynamic sliding layer keeps a view of the concatenation until beams reorder it.
    behind = {**held, "sliding": held["sliding"] if static or case["beams"] > 1 else min(tokens, window)}
    after_prefill = {**behind, "full": static or prompt, "sliding": held["sliding"] if static else prompt}
    wanted = ([held[kind] for kind in kinds], [held[kind] * width * rows * size for kind in kinds],
              sum(behind[kind] * width * rows * size for kind in kinds),
              sum(after_prefill[kind] * width * rows * size for kind in kinds))
    measured = (last["self"]["positions"], last["self"]["bytes"], last["self"]["storage"], first["self"]["storage"])
    if wanted != measured or kinds != last["self"]["layers"]:
        sys.exit(f"{config['model_type']} {case}: the rule says {kinds} {wanted}, measured {measured}")
    if last["cross"]:
        cross = config["max_source_positions"] * width * rows * size
        if last["cross"]["bytes"] != [cross] * len(kinds) or last["cross"]["storage"] != cross * len(kinds):
            sys.exit(f"{case}: the rule says {cross} bytes of cross-attention a layer, measured {last['cross']}")


# ---- inputs

def audio_rows(model, inputs: dict, how: str) -> int:
    """How many decoder positions one audio takes: rows that the model's own audio part returns."""
    with torch.no_grad():
        if how == "masked":  # Qwen2-Audio has no get_audio_features
            lengths = inputs["feature_attention_mask"].sum(-1)
            return int(model.model.audio_tower._get_feat_extract_output_lengths(lengths)[1][0])
        if how == "omni":
            mask = inputs["feature_attention_mask"]
            rows = model.get_audio_features(inputs["input_features"], mask).last_hidden_state
        elif how == "phi4":
            audio = model.model.embed_tokens_extend.audio_embed.encoder
            return audio(inputs["audio_input_features"], inputs.get("audio_attention_mask")).shape[1]
        elif how == "flamingo":
            rows = model.get_audio_features(inputs["input_features"], inputs["input_features_mask"]).pooler_output
        elif how == "gemma3n":
            return model.config.audio_soft_tokens_per_image
        else:
            rows = model.get_audio_features(inputs["input_features"]).pooler_output
    return rows.reshape(-1, rows.shape[-1]).shape[0]


def audio_inputs(model, how: str, frames: int) -> dict:
    """One audio of random mel frames in the form that the model takes. Batch 1."""
    config = model.config
    dtype = model.dtype
    mels = 16
    if how == "masked":  # padded to 30 s: 2 x max_source_positions frames
        total = 2 * config.audio_config.max_source_positions
        mask = (torch.arange(total) < frames).long()[None]
        return {"input_features": torch.randn(1, mels, total).to(dtype), "feature_attention_mask": mask}
    if how == "omni":
        return {"input_features": torch.randn(1, mels, frames).to(dtype),
                "feature_attention_mask": torch.ones(1, frames, dtype=torch.long)}
    if how == "frames_first":
        return {"input_features": torch.randn(1, frames, mels).to(dtype)}
    if how == "flamingo":  # padded to 96 frames, as the feature extractor pads to 30 s
        mask = (torch.arange(96) < frames)[None]
        return {"input_features": torch.randn(1, mels, 96).to(dtype), "input_features_mask": mask}
    if how == "phi4":
        return {"audio_input_features": torch.randn(1, frames, mels).to(dtype)}
    if how == "gemma3n":
        return {"input_features": torch.randn(1, frames, mels).to(dtype),
                "input_features_mask": torch.ones(1, frames, dtype=torch.bool)}
    return {"input_features": torch.randn(1, mels, frames).to(dtype)}


def make_inputs(model, how: str | None, frames: int, text: int, batch: int) -> tuple[dict, int, int]:
    """generate()'s arguments, the prompt's length and how many of its positions are audio."""
    if how is None:
        return {"input_ids": torch.randint(4, 90, (batch, text))}, text, 0
    inputs = audio_inputs(model, how, frames)
    inputs = {name: value.repeat_interleave(batch, 0) for name, value in inputs.items()}
    if how == "whisper":
        return {**inputs, "decoder_input_ids": torch.randint(4, 90, (batch, text))}, text, 0
    rows = audio_rows(model, audio_inputs(model, how, frames), how)
    token = getattr(model.config, "audio_token_id", None) or model.config.audio_config.audio_token_id
    ids = torch.randint(4, 89, (batch, text))
    ids = torch.cat([ids[:, :2], torch.full((batch, rows), token), ids[:, 2:]], dim=1)
    if how == "phi4":
        inputs["audio_embed_sizes"] = torch.tensor([rows] * batch)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **inputs}, text + rows, rows


# ---- models and cases

class NoVision(torch.nn.Module):
    """Stands for Gemma-3n's vision tower, which needs the package timm. It is never called."""


def build(class_name: str, given: dict, dtype: torch.dtype):
    torch.manual_seed(20)
    config = AutoConfig.for_model(**given)
    if class_name == "Gemma3nForConditionalGeneration":
        original = modeling_gemma3n.AutoModel.from_config

        def pick(part, *arguments, **named):
            return NoVision() if part.model_type == "gemma3n_vision" else original(part, *arguments, **named)

        with mock.patch.object(modeling_gemma3n.AutoModel, "from_config", pick):
            return modeling_gemma3n.Gemma3nForConditionalGeneration(config).to(dtype).eval()
    return getattr(transformers, class_name)(config).to(dtype).eval()


def saved_config(model) -> dict:
    with tempfile.TemporaryDirectory() as directory:
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(directory)
        saved = json.loads((pathlib.Path(directory) / "config.json").read_text())
    saved.pop("transformers_version", None)
    return saved


def run(model, config, how, frames, text, batch, beams, static) -> dict:
    """One case: generate() with a hook that reads the cache after every step."""
    torch.manual_seed(21)
    inputs, prompt, audio = make_inputs(model, how, frames, text, batch)
    steps, encoder_batch = [], []

    def after_step(module, arguments, output):
        steps.append(measure_all(output.past_key_values))

    def before_encoder(module, arguments, named):
        encoder_batch.append(next(v for v in [*arguments, *named.values()] if isinstance(v, torch.Tensor)).shape[0])

    hooks = [model.register_forward_hook(after_step)]
    names = ("model.encoder", "model.audio_tower", "model.embed_tokens_extend.audio_embed.encoder")
    encoder = next((module for name, module in model.named_modules() if name in names), None)
    if encoder is not None:
        hooks.append(encoder.register_forward_pre_hook(before_encoder, with_kwargs=True))
    options = {"cache_implementation": "static", "disable_compile": True, "max_cache_len": STATIC} if static else {}
    with torch.no_grad():
        # GenerationMixin's own generate: Whisper's wrapper around it would choose the prompt itself
        output = GenerationMixin.generate(model, **inputs, **options, max_new_tokens=NEW_TOKENS, num_beams=beams,
                                          min_new_tokens=NEW_TOKENS, do_sample=False, return_dict_in_generate=True)
    for hook in hooks:
        hook.remove()
    assert len(steps) == NEW_TOKENS, (len(steps), "steps")
    last, first = measure_all(output.past_key_values), steps[0]
    case = {"batch": batch, "beams": beams, "prompt": prompt, "tokens": prompt + NEW_TOKENS - 1,
            "dtype": "/".join(last["self"]["dtypes"])}
    if how:
        case["frames"] = frames
        case["audio_tokens"] = audio
    if static:
        case["max_cache_len"] = STATIC
    case.update({"self_bytes": sum(last["self"]["bytes"]), "cross_bytes": 0,
                 "bytes_per_layer": last["self"]["bytes"], "positions_per_layer": last["self"]["positions"],
                 "self_storage_bytes": last["self"]["storage"],
                 "prefill": {"self_bytes": sum(first["self"]["bytes"]), "self_storage_bytes": first["self"]["storage"]},
                 "cache_class": last["cache_class"]})
    if last["cross"]:
        case.update({"cross_bytes": sum(last["cross"]["bytes"]), "cross_bytes_per_layer": last["cross"]["bytes"],
                     "cross_positions": last["cross"]["positions"][0]})
        case["prefill"]["cross_bytes"] = sum(first["cross"]["bytes"])
    if encoder is not None:
        assert len(encoder_batch) == 1, "the encoder runs once"
        case["encoder_batch"] = encoder_batch[0]
    check(config, case, last, first)
    return case


def cases_of(name: str) -> tuple[dict, list[dict]]:
    """The model's configs and its cases; stops when config.json as saved builds another cache than as given."""
    text_only = name in TEXT
    class_name, given, lengths = (TEXT[name] if text_only else AUDIO[name])[:3]
    how = None if text_only else AUDIO[name][3]
    pairs = [(0, n) for n in lengths] if text_only else lengths
    model = build(class_name, given, torch.bfloat16)
    config = saved_config(model)
    cases = []

    def add(m, pair, batch, beams, static=False):
        case = run(m, config, how, *pair, batch, beams, static)
        label = "short" if pair == pairs[0] else "long"
        parts = [name, label, f"b{batch}", f"k{beams}", case["dtype"]] + (["static"] if static else [])
        cases.append({"name": "/".join(parts), "model": name, **case})

    small = name == "mistral-default"  # 4,200 positions: one case of each length is enough
    for pair, batch, beams in itertools.product(pairs, BATCHES, BEAMS):
        if not small or (batch, beams) == (1, 1):
            add(model, pair, batch, beams)
    if not small:
        for batch, beams in (2, 1), (1, 3):
            add(model, pairs[1], batch, beams, static=True)
        add(build(class_name, given, torch.float32), pairs[1], 2, 1)
    again = build(class_name, config, torch.bfloat16)
    first = run(again, config, how, *pairs[1], 1, 1, False)
    kept = next(c for c in cases if c["prompt"] == first["prompt"] and (c["batch"], c["beams"]) == (1, 1))
    if any(first[key] != kept[key] for key in first):
        sys.exit(f"{name}: config.json as saved builds another cache\n{first}\n{kept}")
    return {"given": given, "config": config, "layers": rule_layers(config)[0]}, cases


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    models, cases = {}, []
    for name in options.only or [*TEXT, *AUDIO]:
        models[name], more = cases_of(name)
        cases += more
        print(f"{name}: {len(more)} cases", flush=True)
    if options.only:
        print("\n".join(json.dumps(case) for case in cases))
        return 0
    lines = [f'"transformers": {json.dumps(transformers.__version__)}',
             '"models": {\n' + ",\n".join(f" {json.dumps(n)}: {json.dumps(m)}" for n, m in models.items()) + "\n}",
             '"cases": [\n' + ",\n".join(f" {json.dumps(case)}" for case in cases) + "\n]"]
    (options.out / "cache_bytes.json").write_text("{" + ",\n".join(lines) + "}\n")
    print(f"{len(models)} models, {len(cases)} cases")
    return 0


if __name__ == "__main__":
    sys.exit(main())
