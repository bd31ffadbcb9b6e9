#!/usr/bin/env python3
"""What transformers' config classes of text decoders fill in when config.json leaves a key out.

    /work/py/bin/python tests/golden/make_class_defaults.py [--out DIRECTORY]      # or any Python with requirements.txt

Writes class_defaults.json: for each model_type
  "class"      the config class
  "signature"  key -> default as written in the class. Only keys that change memory; null is written there, too
  "derived"    key -> {"rule", "when", "by"}: what is worked out. The rule is an expression in config keys ("//" is
               integer division), to be taken in this order, after the signature's defaults. "when": "null" the key is
               missing or null; "missing" only then, a null is an error; "always" whatever is there. "by": "config" the
               config class does it; "model" the config leaves it out and the model class does it
  "null"       keys of the signature that may be null in config.json and stay null; for others null is an error unless
               a rule replaces it
  "aliases"    other name in config.json -> name used here; the class reads and writes both
  "layers"     expressions for layer i: "sliding" (sees sliding_window positions only), "sparse" (routed experts)
  "sub_configs" key -> model_type of the nested config; missing or null is that class with all its defaults
Signatures are read from the classes. Rules are written below, and checked: on odd values, against the cache's own list
of sliding layers and small models on the meta device, and on every catalogue entry of these types, whose keys must come
out of this file as they come out of the class. The script fails at a difference.
"""
import argparse
import dataclasses
import json
import pathlib
import sys

import torch
import transformers
from transformers.cache_utils import get_layer_types_and_kwargs
from transformers.utils import logging

ROOT = pathlib.Path(__file__).parents[2]

KEYS = """vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim
tie_word_embeddings attention_bias mlp_bias qk_layernorm max_position_embeddings sliding_window use_sliding_window
max_window_layers layer_types use_bidirectional_attention num_experts num_experts_per_tok moe_intermediate_size
decoder_sparse_step mlp_only_layers n_routed_experts n_shared_experts first_k_dense_replace q_lora_rank kv_lora_rank
qk_rope_head_dim qk_nope_head_dim v_head_dim num_nextn_predict_layers num_channels image_size patch_size vision_use_head
mm_tokens_per_image""".split()

HEADS = {"num_key_value_heads": ("num_attention_heads", "null")}
HEAD_DIM = {"head_dim": ("hidden_size // num_attention_heads", "null")}
MODEL_HEAD_DIM = {"head_dim": ("hidden_size // num_attention_heads", "missing")}  # the model class does it
WINDOW = {"sliding_window": ("sliding_window if use_sliding_window else None", "always")}
UPPER_WINDOW = {"layer_types": ("['sliding_attention' if sliding_window is not None and i >= max_window_layers else "
                                "'full_attention' for i in range(num_hidden_layers)]", "null")}
QK = {"qk_head_dim": ("qk_nope_head_dim + qk_rope_head_dim", "always")}
ROPE_HEAD_DIM = ("qk_rope_head_dim", "always")  # for the rotary table only; no tensor has this size
BY_TYPE = "layer_types[i] == 'sliding_attention'"
ALL = "sliding_window is not None"

# model_type: (config class, model class, derived keys, which layers slide, which are sparse)
TYPES = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", HEADS | HEAD_DIM, "False", "False"),
    "mistral": ("MistralConfig", "MistralForCausalLM", HEAD_DIM, ALL, "False"),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", HEADS | MODEL_HEAD_DIM | WINDOW | UPPER_WINDOW, BY_TYPE, "False"),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", HEADS | WINDOW | UPPER_WINDOW, BY_TYPE, "False"),
    "qwen3_moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM",
                  MODEL_HEAD_DIM | WINDOW | {"mlp_only_layers": ("[]", "null")}, ALL,
                  "i not in mlp_only_layers and num_experts > 0 and (i + 1) % decoder_sparse_step == 0"),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {
        "layer_types": ("['sliding_attention' if (i + 1) % 2 else 'full_attention' for i in range(num_hidden_layers)]",
                        "null")}, BY_TYPE, "False"),
    "gemma3_text": ("Gemma3TextConfig", "Gemma3ForCausalLM", {
        "sliding_window": ("sliding_window // 2 + 1 if use_bidirectional_attention else sliding_window", "always"),
        "sliding_window_pattern": ("6", "missing"),
        "layer_types": ("['sliding_attention' if (i + 1) % sliding_window_pattern else 'full_attention' "
                        "for i in range(num_hidden_layers)]", "null")}, BY_TYPE, "False"),
    "gemma3": ("Gemma3Config", "Gemma3ForConditionalGeneration", {}, None, None),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", HEADS | MODEL_HEAD_DIM, ALL, "False"),
    "phi": ("PhiConfig", "PhiForCausalLM", HEADS | MODEL_HEAD_DIM, "False", "False"),
    "deepseek_v3": ("DeepseekV3Config", "DeepseekV3ForCausalLM",
                    HEADS | QK | {"head_dim": (ROPE_HEAD_DIM[0], "missing")}, "False", "i >= first_k_dense_replace"),
    "deepseek_v2": ("DeepseekV2Config", "DeepseekV2ForCausalLM", HEADS | QK | {"head_dim": ROPE_HEAD_DIM}, "False",
                    "i >= first_k_dense_replace"),
    "siglip_vision_model": ("SiglipVisionConfig", "SiglipVisionModel", {}, None, None),
}
SUB_CONFIGS = {"gemma3": {"text_config": "gemma3_text", "vision_config": "siglip_vision_model"}}

# Small models that take the branches which no catalogue entry takes.
SMALL = {"hidden_size": 96, "intermediate_size": 40, "num_hidden_layers": 7, "num_attention_heads": 6,
         "vocab_size": 200, "pad_token_id": 0}
ODD = [
    ("llama", {}), ("llama", {"head_dim": 24, "num_key_value_heads": 2}),
    ("mistral", {}), ("mistral", {"sliding_window": None, "head_dim": 20, "num_key_value_heads": 3}),
    ("qwen2", {"num_key_value_heads": None}),
    ("qwen2", {"use_sliding_window": True, "max_window_layers": 3, "head_dim": 10, "num_key_value_heads": 2}),
    ("qwen3", {"use_sliding_window": True, "max_window_layers": 2, "num_key_value_heads": 2}),
    ("qwen3", {"layer_types": ["sliding_attention"] * 3 + ["full_attention"] * 4, "num_key_value_heads": 2}),
    ("qwen3_moe", {"num_key_value_heads": 2, "decoder_sparse_step": 2, "mlp_only_layers": [3], "num_experts": 4}),
    ("qwen3_moe", {"num_key_value_heads": 2, "use_sliding_window": True, "num_local_experts": 5, "head_dim": 8}),
    ("gemma2", {"num_key_value_heads": 2}), ("gemma3_text", {"num_key_value_heads": 2}),
    ("gemma3_text", {"num_key_value_heads": 2, "sliding_window_pattern": 3, "use_bidirectional_attention": True}),
    ("phi3", {}), ("phi3", {"sliding_window": 9, "num_key_value_heads": 2, "head_dim": 18}),
    ("phi", {}), ("phi", {"num_key_value_heads": None, "head_dim": 22}),
    ("deepseek_v3", {"n_routed_experts": 8, "n_group": 2}),
    ("deepseek_v3", {"first_k_dense_replace": 0, "num_local_experts": 16, "q_lora_rank": None}),
    ("deepseek_v2", {"n_routed_experts": 8, "num_key_value_heads": None}),
]


def signature(cls) -> dict:
    """Defaults that the class itself writes, by the name that config.json has."""
    fields = {f.name: f.default for f in dataclasses.fields(cls) if f.name in cls.__annotations__}
    if "num_mtp_layers" in fields:
        fields["num_nextn_predict_layers"] = fields.pop("num_mtp_layers")
    return {key: fields[key] for key in KEYS if key in fields}


def build(model_type: str, config):
    with torch.device("meta"):
        return getattr(transformers, TYPES[model_type][1])(config)


def accepts_null(model_type: str, key: str) -> bool:
    """Whether a small model can be built with this key null, and it stays null."""
    small = {} if model_type in SUB_CONFIGS else SMALL
    try:
        config = getattr(transformers, TYPES[model_type][0])(**{**small, key: None})
        build(model_type, config)
    except Exception:  # the strict classes' own error type, or whatever the model stumbles over
        return False
    return getattr(config, key) is None


def describe(model_type: str) -> dict:
    name, _, derived, sliding, sparse = TYPES[model_type]
    cls = getattr(transformers, name)
    written = signature(cls)
    maps = {"num_local_experts": "num_experts"} if model_type == "qwen3_moe" else {
        other: own for other, own in cls.attribute_map.items() if own in written}
    entry = {
        "class": f"{cls.__module__}.{name}",
        "signature": written,
        "derived": {key: {"rule": how[0], "when": how[1], "by": "model" if how is MODEL_HEAD_DIM.get(key) else "config"}
                    for key, how in derived.items()},
        "null": [key for key in written if accepts_null(model_type, key)],
        "aliases": maps,
    }
    if sliding is not None:
        entry["layers"] = {"sliding": sliding, "sparse": sparse}
    if model_type in SUB_CONFIGS:
        entry["sub_configs"] = SUB_CONFIGS[model_type]
    return entry


def resolve(entry: dict, raw: dict) -> dict:
    """The keys of a published config.json with all that its class fills in, by class_defaults.json alone."""
    raw = {entry["aliases"].get(key, key): value for key, value in raw.items()}
    values = {**entry["signature"], **raw}
    for key, how in entry["derived"].items():
        if how["when"] == "always" or key not in values or (how["when"] == "null" and values[key] is None):
            values[key] = eval(how["rule"], dict(values))  # a rule is text of this very file
    return values


def layers(entry: dict, values: dict) -> list[tuple[bool, bool]]:
    """(sliding, sparse) of each layer."""
    return [tuple(bool(eval(entry["layers"][kind], {**values, "i": i})) for kind in ("sliding", "sparse"))
            for i in range(values["num_hidden_layers"])]


def differences(document: dict, model_type: str, raw: dict, small: bool) -> list[str]:
    """Where class_defaults.json and transformers give another value for this config.json."""
    entry = document[model_type]
    config, values = getattr(transformers, TYPES[model_type][0])(**raw), resolve(entry, raw)
    found = []
    for key in (*entry["signature"], *entry["derived"]):
        if hasattr(config, key) and getattr(config, key) != values[key]:
            found.append(f"{key}: {values[key]}, the class has {getattr(config, key)}")
    for key, sub_type in entry.get("sub_configs", {}).items():
        found += differences(document, sub_type, raw.get(key) or {}, False)
    if "layers" in entry:
        slides = [kind == "sliding_attention" for kind in get_layer_types_and_kwargs(config)[0]]
        if slides != [sliding for sliding, _ in layers(entry, values)]:
            found.append(f"sliding layers, the cache has {slides}")
    if small:
        blocks = build(model_type, config).model.layers
        sparse = [hasattr(block.mlp, "experts") for block in blocks]
        if sparse != [sparse for _, sparse in layers(entry, values)]:
            found.append(f"sparse layers, the model has {sparse}")
        width = getattr(blocks[0].self_attn, "head_dim", None)
        if width is not None and width != values["head_dim"]:
            found.append(f"head_dim: {values['head_dim']}, the model has {width}")
    return [f"{model_type} {difference}" for difference in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = parser.parse_args()
    logging.set_verbosity_error()
    document = {model_type: describe(model_type) for model_type in TYPES}
    cases = [(model_type, SMALL | odd, True) for model_type, odd in ODD]
    cases += [(model_type, {}, False) for model_type in TYPES]
    for path in sorted((ROOT / "catalog").glob("*/*.json")):
        config = json.loads(path.read_text())["config"]
        if config.get("model_type") in TYPES:
            cases.append((config["model_type"], config, False))
    wrong = [difference for model_type, raw, small in cases
             for difference in differences(document, model_type, raw, small)]
    print("\n".join(wrong) + ("\n" if wrong else "") + f"{len(cases)} configs, {len(wrong)} differences")
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (options.out / "class_defaults.json").write_text(text + "\n")
    return int(len(wrong) > 0)


if __name__ == "__main__":
    sys.exit(main())
