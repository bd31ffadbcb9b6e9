#!/usr/bin/env python3
"""Writes headers.json: the tensors that transformers saves for a tiny model of each family, names and shapes alone.

    python make_headers.py [--out DIRECTORY]

One entry a model: "config" as config.json says it, "tensors" name -> shape as save_pretrained writes them (the names that
published files have), "modules" the same as the module's own state_dict names them, where that differs: newer files and
other tools write those (experts fused, model.language_model. for language_model.model.). "counted" is how many parameters
the module has, tied ones once, and DeepSeek's stored correction of its router. Nothing is trained or stored but the headers.
"""
import argparse
import json
import pathlib
import struct
import tempfile

import torch
import transformers
from transformers.utils import logging

TEXT = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 6,
        "num_key_value_heads": 2, "vocab_size": 80, "pad_token_id": 0, "max_position_embeddings": 2048}
MOE = {"moe_intermediate_size": 10}
DEEPSEEK = {"kv_lora_rank": 12, "q_lora_rank": 14, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 6,
            "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2, "n_shared_experts": 2,
            "first_k_dense_replace": 1, "num_key_value_heads": 4}
SIGLIP = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56,
          "patch_size": 14, "vision_use_head": False}
WHISPER = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 28, "num_mel_bins": 8,
           "max_source_positions": 30}
TOWER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "num_mel_bins": 8,
         "max_source_positions": 30, "head_dim": 8, "num_key_value_heads": 2}
VISION = {"depth": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 20, "patch_size": 4, "out_hidden_size": 24}
CONFORMER = {"hidden_dim": 16, "num_heads": 2, "dim_head": 8, "num_layers": 2, "feedforward_mult": 2,
             "conv_expansion_factor": 2, "conv_kernel_size": 3, "input_dim": 8, "output_dim": 10, "max_pos_emb": 12,
             "context_size": 10}
QFORMER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20,
           "encoder_hidden_size": 16, "cross_attention_frequency": 1, "model_type": "blip_2_qformer"}
ASR_TOWER = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 28, "num_mel_bins": 16,
             "downsample_hidden_size": 6, "output_dim": 24, "max_source_positions": 60}


def text(model_type: str, **more) -> dict:
    return {"model_type": model_type, **TEXT, **more}


# name -> (model class, config)
MODELS = {
    "whisper": ("WhisperForConditionalGeneration",
                {"vocab_size": 80, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
                 "decoder_attention_heads": 2, "encoder_ffn_dim": 28, "decoder_ffn_dim": 20, "num_mel_bins": 8,
                 "max_source_positions": 30, "max_target_positions": 20, "pad_token_id": 0, "bos_token_id": 1,
                 "eos_token_id": 2, "decoder_start_token_id": 3}),
    "llama": ("LlamaForCausalLM", text("llama")),
    "llama tied": ("LlamaForCausalLM", text("llama", tie_word_embeddings=True, attention_bias=True, mlp_bias=True)),
    "mistral": ("MistralForCausalLM", text("mistral")),
    "qwen2": ("Qwen2ForCausalLM", text("qwen2")),
    "qwen3": ("Qwen3ForCausalLM", text("qwen3", tie_word_embeddings=True)),
    "qwen3_moe": ("Qwen3MoeForCausalLM", text("qwen3_moe", num_experts=3, num_experts_per_tok=2, **MOE)),
    "gemma2": ("Gemma2ForCausalLM", text("gemma2")),
    "gemma3_text": ("Gemma3ForCausalLM", text("gemma3_text")),
    "gemma3": ("Gemma3ForConditionalGeneration", {"text_config": text("gemma3_text"), "vision_config": SIGLIP}),
    "phi3": ("Phi3ForCausalLM", text("phi3")),
    "phi": ("PhiForCausalLM", text("phi", qk_layernorm=True)),
    "deepseek_v2": ("DeepseekV2ForCausalLM", text("deepseek_v2", **MOE) | DEEPSEEK),
    "deepseek_v3": ("DeepseekV3ForCausalLM", text("deepseek_v3", **MOE) | DEEPSEEK),
    "granite": ("GraniteForCausalLM", text("granite")),
    "qwen2_audio": ("Qwen2AudioForConditionalGeneration", {"audio_config": WHISPER, "text_config": text("qwen2")}),
    "voxtral": ("VoxtralForConditionalGeneration", {"audio_config": TOWER, "text_config": text("llama")}),
    "voxtral_realtime": ("VoxtralRealtimeForConditionalGeneration",
                         {"audio_config": TOWER, "text_config": text("voxtral_realtime_text")}),
    "audioflamingo3": ("AudioFlamingo3ForConditionalGeneration", {"audio_config": TOWER, "text_config": text("qwen2")}),
    "glmasr": ("GlmAsrForConditionalGeneration", {"audio_config": TOWER, "text_config": text("llama")}),
    "granite_speech": ("GraniteSpeechForConditionalGeneration",
                       {"encoder_config": CONFORMER, "projector_config": QFORMER, "text_config": text("granite"),
                        "window_size": 15, "downsample_rate": 5, "has_lora_adapter": False}),
    "qwen2_5_omni_thinker": ("Qwen2_5OmniThinkerForConditionalGeneration",
                             {"audio_config": WHISPER | {"output_dim": 24, "n_window": 10}, "vision_config": VISION,
                              "text_config": text("qwen2_5_omni_text")}),
    "qwen3_omni_moe_thinker": ("Qwen3OmniMoeThinkerForConditionalGeneration",
                               {"audio_config": ASR_TOWER,
                                "vision_config": VISION | {"num_position_embeddings": 16,
                                                           "deepstack_visual_indexes": [0, 1]},
                                "text_config": text("qwen3_omni_moe_text", num_experts=3, num_experts_per_tok=2, **MOE)}),
    "qwen3_asr": ("Qwen3ASRForConditionalGeneration",
                  {"audio_config": ASR_TOWER | {"model_type": "qwen3_asr_encoder"}, "text_config": text("qwen3")}),
    "gemma3n_text": ("Gemma3nForCausalLM",
                     text("gemma3n_text", num_hidden_layers=10, num_kv_shared_layers=5, intermediate_size=[40] * 10,
                          hidden_size_per_layer_input=6, vocab_size_per_layer_input=70, laurel_rank=4,
                          activation_sparsity_pattern=[0.0] * 10)),
}


def header(directory: pathlib.Path) -> dict[str, list[int]]:
    shapes = {}
    for path in sorted(directory.glob("*.safetensors")):
        data = path.read_bytes()
        entries = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
        shapes |= {name: entry["shape"] for name, entry in entries.items() if name != "__metadata__"}
    return shapes


def entry(class_name: str, config: dict) -> dict:
    model_class = getattr(transformers, class_name)
    model = model_class(model_class.config_class(**config))
    with tempfile.TemporaryDirectory() as directory:
        model.save_pretrained(directory)
        saved = json.loads((pathlib.Path(directory) / "config.json").read_text())
        tensors = header(pathlib.Path(directory))
    own = {name: list(t.shape) for name, t in model.state_dict().items()}
    row = {"config": saved, "tensors": tensors}
    if own.keys() != tensors.keys():
        row["modules"] = own
    corrections = [b for n, b in model.named_buffers() if n.endswith("e_score_correction_bias")]
    row["counted"] = sum(t.numel() for t in (*model.parameters(), *corrections))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = parser.parse_args()
    logging.set_verbosity_error()
    rows = {name: entry(*model) for name, model in MODELS.items()}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    (options.out / "headers.json").write_text(f"{{\n{lines}\n}}\n")
    print(f"{len(rows)} models, {sum(len(row['tensors']) for row in rows.values())} tensors")


if __name__ == "__main__":
    main()
