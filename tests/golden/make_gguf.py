#!/usr/bin/env python3
"""Writes gguf/NAME.gguf and gguf.json: headers of GGUF files, as the `gguf` package writes them, of small models of each family.

    python make_gguf.py [--out DIRECTORY]

A file ends where its tensors' data would begin: a test adds as many zeros as gguf.json's "bytes" says, which takes no disk.
Tensors are those of transformers' modules (on the meta device); their GGUF names are those of gguf.get_tensor_name_map, and
what llama.cpp's converters do to shapes on the way is done here: experts stacked and apart, kv_b split, altup stacked. Types
are a mix like Q4_K_M's: Q6_K for embeddings and down matrices, Q4_K else, Q8_0 or F16 where rows are no whole blocks, F32 for
vectors. One entry a file: "config" the model's own (of a whole model for mmproj files, which also name their "text"), "bytes",
"by_type", "parameters", "names" GGUF tensor -> module.
"""
import argparse
import json
import math
import pathlib
import re
import tempfile

import gguf
import torch
import transformers
from gguf import GGMLQuantizationType as Type
from transformers.utils import logging

TEXT = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 64,
        "num_key_value_heads": 2, "vocab_size": 96, "pad_token_id": 0, "max_position_embeddings": 4096}
MOE = {"moe_intermediate_size": 256, "num_experts_per_tok": 2}
LATENT = {"kv_lora_rank": 256, "qk_rope_head_dim": 32, "qk_nope_head_dim": 64, "v_head_dim": 48, "n_routed_experts": 4,
          "n_group": 2, "topk_group": 1, "n_shared_experts": 2, "first_k_dense_replace": 1, "num_key_value_heads": 4}
GEMMA3N = {"num_hidden_layers": 10, "num_kv_shared_layers": 5, "intermediate_size": [512] * 10, "laurel_rank": 64,
           "hidden_size_per_layer_input": 32, "vocab_size_per_layer_input": 96, "activation_sparsity_pattern": [0.0] * 10}

# file -> architecture, model class, changes to TEXT
TEXTS = {
    "llama": ("llama", "LlamaForCausalLM", {}),
    "llama-biased": ("llama", "LlamaForCausalLM", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "mistral": ("llama", "MistralForCausalLM", {"sliding_window": None}),
    "qwen2": ("qwen2", "Qwen2ForCausalLM", {}),
    "qwen3": ("qwen3", "Qwen3ForCausalLM", {"tie_word_embeddings": True}),
    "qwen3moe": ("qwen3moe", "Qwen3MoeForCausalLM", MOE | {"num_experts": 3}),
    "gemma2": ("gemma2", "Gemma2ForCausalLM", {"sliding_window": 128}),
    "gemma3": ("gemma3", "Gemma3ForCausalLM", {"sliding_window": 128, "num_hidden_layers": 7}),
    "gemma3n": ("gemma3n", "Gemma3nForCausalLM", GEMMA3N | {"sliding_window": 128}),
    "phi3": ("phi3", "Phi3ForCausalLM", {"sliding_window": None}),
    "deepseek2-lite": ("deepseek2", "DeepseekV2ForCausalLM", MOE | LATENT | {"q_lora_rank": None}),
    "deepseek2": ("deepseek2", "DeepseekV3ForCausalLM", MOE | LATENT | {"q_lora_rank": 256}),
    "granite": ("granite", "GraniteForCausalLM", {}),
}

WHISPER = {"d_model": 64, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 128, "num_mel_bins": 16,
           "max_source_positions": 30}
TOWER = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256, "num_mel_bins": 16,
         "max_source_positions": 30, "head_dim": 16, "num_key_value_heads": 4}
ROTARY = {key: value for key, value in TOWER.items() if key != "max_source_positions"}
CONVOLUTIONS = WHISPER | {"downsample_hidden_size": 32, "output_dim": 256, "model_type": "qwen3_asr_encoder"}
ULTRAVOX = {"model_type": "ultravox", "audio_config": WHISPER | {"model_type": "whisper"}, "stack_factor": 4,
            "hidden_size": 128, "projector_act": "swiglu", "projector_ln_mid": True}

# file -> projector, language model's file, model class (None: ours), config without text_config
AUDIO = {
    "mmproj-ultravox": ("ultravox", "llama", None, ULTRAVOX),
    "mmproj-voxtral": ("voxtral", "llama", "VoxtralForConditionalGeneration", {"audio_config": TOWER}),
    "mmproj-musicflamingo": ("musicflamingo", "qwen2", "AudioFlamingo3ForConditionalGeneration", {"audio_config": TOWER}),
    "mmproj-glma": ("glma", "llama", "GlmAsrForConditionalGeneration", {"audio_config": ROTARY, "tie_word_embeddings": False}),
    "mmproj-qwen2a": ("qwen2a", "qwen2", "Qwen2AudioForConditionalGeneration", {"audio_config": WHISPER}),
    "mmproj-qwen2.5o": ("qwen2.5o", "qwen2", "Qwen2_5OmniThinkerForConditionalGeneration",
                        {"audio_config": WHISPER | {"output_dim": 256}}),
    "mmproj-qwen3a": ("qwen3a", "qwen3", "Qwen3ASRForConditionalGeneration",
                      {"audio_config": CONVOLUTIONS, "tie_word_embeddings": True}),
}

# Of transformers' modules, the names that llama.cpp's converters see: the published checkpoints'.
AUDIO_RENAMES = [(r"^model\.", ""), (r"^audio_tower\.norm\.", "audio.multi_modal_projector.ln_pre."),
                 (r"^multi_modal_projector\.", "audio.multi_modal_projector."),
                 (r"\.input_layernorm\.", ".self_attn_layer_norm."), (r"\.post_attention_layernorm\.", ".final_layer_norm."),
                 (r"\.mlp\.fc", ".fc"), (r"\.o_proj\.", ".out_proj.")]


def modules(class_name: str, config: dict) -> tuple[dict, dict]:
    """The config as config.json says it, and name -> shape of all stored tensors, tied ones once."""
    model_class = getattr(transformers, class_name)
    c = model_class.config_class(**config)
    with torch.device("meta"):
        model = model_class(c)
    stored = model.state_dict().keys()
    names = [n for n, _ in (*model.named_parameters(), *model.named_buffers()) if n in stored]
    with tempfile.TemporaryDirectory() as directory:
        c.save_pretrained(directory)
        saved = json.loads((pathlib.Path(directory) / "config.json").read_text())
    return saved, {n: list(model.state_dict()[n].shape) for n in names}


class File:
    def __init__(self, path: pathlib.Path, arch: str, model_arch: gguf.MODEL_ARCH, blocks: int, **options):
        self.path, self.writer = path, gguf.GGUFWriter(path, arch, **options)
        self.map, self.row = gguf.get_tensor_name_map(model_arch, blocks), {"by_type": {}, "parameters": 0, "names": {}}

    def add(self, module: str, shape: list[int], named: str | None = None) -> None:
        """`named`: the module as the name map knows it, where that is another."""
        name = self.map.get_name(named or module, try_suffixes=(".weight", ".bias"))
        assert name, module
        self.put(name, module, shape)

    def put(self, name: str, module: str, shape: list[int]) -> None:
        flat = sum(d > 1 for d in shape) < 2 or ".conv" in name
        kind = Type.Q6_K if "embd" in name or "down" in name else Type.Q4_K
        if shape[-1] % 256:
            kind = Type.F16 if shape[-1] % 32 else Type.Q8_0
        kind = Type.F32 if flat else kind
        size = math.prod(gguf.quant_shape_to_byte_shape(shape, kind)) if kind not in (Type.F32, Type.F16) else (
            math.prod(shape) * (4 if kind == Type.F32 else 2))
        self.writer.add_tensor_info(name, shape, torch.float32, size, kind)
        self.row["names"][name] = module
        self.row["by_type"][kind.name.lower()] = self.row["by_type"].get(kind.name.lower(), 0) + size
        self.row["parameters"] += math.prod(shape)

    def finish(self) -> dict:
        w = self.writer
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_ti_data_to_file()
        sizes = []
        for file, tensors in zip(w.fout, w.tensors):
            data = sum(w.ggml_pad(t.nbytes, w.data_alignment) for t in tensors.values())
            sizes.append(w.ggml_pad(file.tell(), w.data_alignment) + data)
        w.close()
        self.row["bytes"] = sizes if len(sizes) > 1 else sizes[0]
        self.row["by_type"] = dict(sorted(self.row["by_type"].items()))
        return self.row


def add_text(file: File, name: str, shape: list[int]) -> None:
    """What llama.cpp's converters make of a tensor."""
    if name.endswith(".experts.gate_up_proj"):
        for part in ("gate_proj", "up_proj"):
            file.add(name, [shape[0], shape[1] // 2, shape[2]], name.replace("gate_up_proj", part) + ".weight")
    elif name.endswith(".experts.down_proj"):
        file.add(name, shape, name + ".weight")
    elif name.endswith(".kv_b_proj.weight"):
        heads, nope, value = TEXT["num_attention_heads"], LATENT["qk_nope_head_dim"], LATENT["v_head_dim"]
        file.add(name, [heads, shape[1], nope], name.replace("kv_b_proj", "k_b_proj"))
        file.add(name, [heads, value, shape[1]], name.replace("kv_b_proj", "v_b_proj"))
    elif match := re.fullmatch(r"(model\.altup(?:_unembed)?_projections)\.(\d)\.weight", name):
        if match[2] == "0":
            file.add(name, [3, *shape], match[1] + ".weight")
    else:
        file.add(name, shape, name.replace("e_score_correction_bias", "e_score_correction.bias") +
                 (".weight" if name.endswith("_scale") else ""))


def text_settings(w: gguf.GGUFWriter, arch: str, c: dict, experts: bool) -> None:
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(1 if arch == "deepseek2" else c["num_key_value_heads"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    if arch in ("qwen3", "qwen3moe", "gemma2", "gemma3", "gemma3n"):
        w.add_key_length(c["head_dim"])
        w.add_value_length(c["head_dim"])
    if arch in ("gemma2", "gemma3", "gemma3n", "phi3"):
        w.add_sliding_window(c["sliding_window"] or 0)
    if experts:
        w.add_expert_count(c.get("num_local_experts") or c["n_routed_experts"])
        w.add_expert_feed_forward_length(c["moe_intermediate_size"])
        w.add_expert_used_count(c["num_experts_per_tok"])
    if arch == "deepseek2":
        w.add_leading_dense_block_count(c["first_k_dense_replace"])
        w.add_expert_shared_count(c["n_shared_experts"])
        w.add_kv_lora_rank(c["kv_lora_rank"])
        if c["q_lora_rank"]:
            w.add_q_lora_rank(c["q_lora_rank"])
        w.add_key_length(c["kv_lora_rank"] + c["qk_rope_head_dim"])
        w.add_value_length(c["kv_lora_rank"])
        w.add_key_length_mla(c["qk_nope_head_dim"] + c["qk_rope_head_dim"])
        w.add_value_length_mla(c["v_head_dim"])
        w.add_rope_dimension_count(c["qk_rope_head_dim"])
    if arch == "gemma3n":
        w.add_altup_num_inputs(c["altup_num_inputs"])
        w.add_embedding_length_per_layer_input(c["hidden_size_per_layer_input"])
        w.add_shared_kv_layers(c["num_kv_shared_layers"])
        w.add_sliding_window_pattern([kind == "sliding_attention" for kind in c["layer_types"]])
    w.add_tokenizer_model("gpt2")
    w.add_token_list([f"t{i}" for i in range(c["vocab_size"])])
    w.add_token_types([1] * c["vocab_size"])


def text_file(path: pathlib.Path, arch: str, class_name: str, changes: dict, **options) -> dict:
    config, tensors = modules(class_name, TEXT | changes)
    model_arch = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == arch)
    file = File(path, arch, model_arch, config["num_hidden_layers"], **options)
    text_settings(file.writer, arch, config, any("experts" in n for n in tensors))
    if arch == "llama" and not changes:  # Llama 3's scaling, a tensor of no module
        file.put("rope_freqs.weight", "", [config["head_dim"] // 2])
        file.row["parameters"] -= config["head_dim"] // 2
    for name, shape in tensors.items():
        add_text(file, name, shape)
    return file.finish() | {"config": config}


def ultravox_modules() -> dict:
    d, hidden, stack = WHISPER["d_model"], ULTRAVOX["hidden_size"], ULTRAVOX["stack_factor"]
    with torch.device("meta"):
        encoder = transformers.models.whisper.modeling_whisper.WhisperEncoder(transformers.WhisperConfig(**WHISPER))
    tensors = {"audio_tower." + n: list(t.shape) for n, t in encoder.state_dict().items()}
    return tensors | {"multi_modal_projector.ln_pre.weight": [stack * d],
                      "multi_modal_projector.linear_1.weight": [hidden, stack * d],
                      "multi_modal_projector.ln_mid.weight": [hidden // 2],
                      "multi_modal_projector.linear_2.weight": [TEXT["hidden_size"], hidden // 2]}


def audio_file(path: pathlib.Path, projector: str, text: dict, class_name: str | None, config: dict) -> dict:
    if class_name is None:
        config, tensors = config | {"text_config": text}, ultravox_modules()
    else:
        config, tensors = modules(class_name, config | {"text_config": text})
    file = File(path, "clip", gguf.MODEL_ARCH.MMPROJ, 4)  # conv3 is a number, too
    w, a = file.writer, config["audio_config"]
    w.add_clip_has_audio_encoder(True)
    w.add_clip_projector_type(projector)
    w.add_audio_embedding_length(a.get("hidden_size") or a["d_model"])
    w.add_audio_feed_forward_length(a.get("intermediate_size") or a["encoder_ffn_dim"])
    w.add_audio_block_count(a.get("num_hidden_layers") or a["encoder_layers"])
    w.add_audio_head_count(a.get("num_attention_heads") or a["encoder_attention_heads"])
    w.add_audio_num_mel_bins(a["num_mel_bins"])
    w.add_audio_projection_dim(text["hidden_size"])
    if projector == "ultravox":
        w.add_audio_stack_factor(config["stack_factor"])
    for module, shape in tensors.items():
        name = module
        for pattern, to in AUDIO_RENAMES:
            name = re.sub(pattern, to, name)
        if projector == "qwen3a":
            name = name.replace("audio.multi_modal_projector.linear_", "audio_tower.proj")
        if not name.startswith(("audio_tower.", "audio.")) or "audio_bos_eos_token" in name:
            continue
        if re.search(r"conv(2d)?\d\.bias", name):
            shape = shape + [1] * (2 if "2d" in name else 1)
        file.add(module, shape, name)
    if projector == "qwen2.5o":  # eyes, and positions that were computed
        file.put("v.patch_embd.weight", "", [64, 3, 14, 14])
        file.put("v.blk.0.ln1.weight", "", [64])
        file.put("a.position_embd.weight", "", [30, 64])
        file.row["parameters"] -= 30 * 64
    return file.finish() | {"config": config}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = parser.parse_args()
    logging.set_verbosity_error()
    folder = options.out / "gguf"
    folder.mkdir(exist_ok=True)
    rows = {name: text_file(folder / f"{name}.gguf", *of) for name, of in TEXTS.items()}
    rows["split"] = text_file(folder / "split.gguf", *TEXTS["qwen2"], split_max_tensors=12)
    for name, (projector, text, class_name, config) in AUDIO.items():
        row = audio_file(folder / f"{name}.gguf", projector, rows[text]["config"], class_name, config)
        rows[name] = row | {"text": text}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    (options.out / "gguf.json").write_text(f"{{\n{lines}\n}}\n")
    print(f"{len(rows)} files")


if __name__ == "__main__":
    main()
