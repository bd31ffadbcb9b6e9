"""Writes what config classes of audio-language models fill in: audio_class_defaults.json beside this file.

    python make_audio_class_defaults.py [--out DIRECTORY]

Only keys that change memory are kept. transformers' classes are asked, not read:
    classes    config class -> "signature": defaults that stand in the class; "derived": values that the class computes
               when the key is missing (or whatever stands there, where the rule says so), with the rule and its value
               when all keys are missing. Rules with a formula are checked on changed configs.
    families   model_type -> its class and sub-configs. "parent_gives": values that the outer class puts below a
               sub-config's own keys: "always", or only when the whole sub-config is "missing". They win over the
               class's defaults. "head": whether lm_head is the embedding (text_config's own key has no say).
    left_out   catalogue entry -> sub-config -> keys that its published config leaves out (or that resolve to another
               value than "published"), and whether the value is from the class's signature, derived, or the parent's
    outside    families that transformers hasn't: defaults as read in the address given, with no class to check them
"""
import argparse
import dataclasses
import json
import pathlib
import re
import sys

from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging

ROOT = pathlib.Path(__file__).parents[2]
FAMILIES = ["qwen2_audio", "voxtral", "voxtral_realtime", "granite_speech", "qwen2_5_omni_thinker",
            "qwen3_omni_moe_thinker", "qwen3_asr", "audioflamingo3", "glmasr", "gemma3n", "phi4_multimodal"]
BACKBONES = ["whisper", "llama", "qwen2", "qwen3", "gemma3_text", "granite", "blip_2_qformer"]

# Keys without influence on memory.
SKIP = (r"^_|num_classes|multiplier|query_pre|token(?!s_per_image)|_ids?$|drop|init|eps$|_act$|"
        r"activation(?!_sparsity)|coef|aux|softcap|logit|dtype|transformers|architectures|"
        r"output_(att|hid|rout)|return_|label|problem|feed_forward|use_cache|pretraining|gradient|clip|"
        r"resid|_name|rope|position_id|seconds|embd_pdrop|norm_topk|suppress|median_filter|^mask_|apply_spec|weighted|"
        r"is_encoder_decoder|position_embedding_type|use_bidirectional|rms_norm|scale_embedding|model_args|do_pooling")


def qwen_layer_types(c: dict) -> list:
    return ["sliding_attention" if c["sliding_window"] and i >= c["max_window_layers"] else "full_attention"
            for i in range(c["num_hidden_layers"])]


def gemma_layer_types(every: int):
    def rule(c: dict) -> list:
        return ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(c["num_hidden_layers"])]
    return rule


RULES = {  # key, optionally with its class -> rule in words, rule
    "num_key_value_heads": ("num_attention_heads", lambda c: c["num_attention_heads"]),
    "head_dim": ("hidden_size // num_attention_heads", lambda c: c["hidden_size"] // c["num_attention_heads"]),
    "dim_head": ("hidden_dim // num_heads", lambda c: c["hidden_dim"] // c["num_heads"]),
    "sliding_window": ("null unless use_sliding_window, also when the key is given", lambda c: None),
    "layer_types": ("sliding_attention from layer max_window_layers on when sliding_window, else full_attention",
                    qwen_layer_types),
    "Gemma3nTextConfig.layer_types": ("every 5th layer full_attention, the others sliding_attention",
                                      gemma_layer_types(5)),
    "Gemma3TextConfig.layer_types": ("every 6th layer full_attention, the others sliding_attention",
                                     gemma_layer_types(6)),
    "Gemma3nTextConfig.intermediate_size": ("a number stands for every layer", None),
    "Gemma3nTextConfig.activation_sparsity_pattern": ("0.95 in the first 10 layers of more than 10, else 0.0", None),
    "mlp_only_layers": ("[]", lambda c: []),
    "nemo_final_size": ("input_size through time_reduction's halvings, rounded up", None),
}
CHANGES = {"hidden_size": 1536, "num_attention_heads": 12, "num_hidden_layers": 10, "hidden_dim": 512, "num_heads": 4}

OUTSIDE = {
    "ultravox": {
        "read": "github.com/fixie-ai/ultravox ultravox/model/ultravox_config.py",
        "signature": {"hidden_size": 4096, "stack_factor": 8, "projector_act": "swiglu", "projector_ln_mid": False,
                      "text_config.model_type": "llama", "audio_config.model_type": "whisper", "text_model_id": None,
                      "audio_model_id": None, "text_model_lora_config.r": 0, "audio_model_lora_config.r": 0},
        "derived": {"text_config": "the config of text_model_id where that is given",
                    "audio_config": "the config of audio_model_id where that is given",
                    "vocab_size": "text_config.vocab_size"}},
    "midashenglm": {
        "read": "vllm/transformers_utils/configs/midashenglm.py and mispeech's configuration_midashenglm.py",
        "audio_encoder_config": {"embed_dim": 768, "outputdim": 527, "patch_size": 16, "patch_stride": 16,
                                 "input_channels": 1, "target_length": 1012, "depth": 12, "num_heads": 12,
                                 "mlp_ratio": 4.0, "qkv_bias": True, "init_values": None, "hop_length": 160,
                                 "n_fft": 512, "win_length": 512, "n_mels": 64, "sample_rate": 16000},
        "text_config": "Qwen2_5OmniTextConfig"},
    "minicpmo": {"read": "configs of MiniCPM-o-2_6 and of its small test models", "audio_config": "WhisperConfig",
                 "text": "Qwen2Config"},
    "kimi_audio": {"read": "vllm/model_executor/models/kimi_audio.py", "signature": {"kimia_mimo_layers": 0},
                   "text": "Qwen2Config"},
}


def plain(value):
    """Tuples as JSON has them."""
    return json.loads(json.dumps(value, default=str))


def memory_keys(values: dict) -> dict:
    return {k: plain(v) for k, v in values.items()
            if not re.search(SKIP, k) and k != "model_type" and not k.endswith("_config")}


def signature(config_class) -> dict:
    fields = {}
    for f in dataclasses.fields(config_class):
        fields[f.name] = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
    return memory_keys({k: v for k, v in fields.items() if v is not dataclasses.MISSING})


def short(value):
    """Long lists of one value as {"value", "times"}."""
    if isinstance(value, list) and len(value) > 8 and all(v == value[0] for v in value):
        return {"value": value[0], "times": len(value)}
    return value


def describe(config_class) -> dict:
    stated, resolved = signature(config_class), memory_keys(config_class().to_dict())
    derived = {}
    for key, value in resolved.items():
        if key in stated and stated[key] == value:
            continue
        words, rule = RULES.get(f"{config_class.__name__}.{key}") or RULES[key]
        for changes in ({}, CHANGES):
            c = config_class(**{k: v for k, v in changes.items() if k in stated})
            if rule and plain(getattr(c, key)) != plain(rule(c.to_dict())):
                raise SystemExit(f"{config_class.__name__}.{key}: {getattr(c, key)} is not {words}")
        derived[key] = {"rule": words, "value": short(value)}
    return {"model_type": config_class.model_type, "signature": {k: v for k, v in stated.items() if k not in derived},
            "derived": derived}


def family(config_class) -> dict:
    """Sub-configs, and what the parent gives them."""
    empty, subs = config_class(), {}
    for key in config_class.sub_configs:
        sub = type(getattr(empty, key))
        own = memory_keys(sub().to_dict())
        missing = memory_keys(getattr(empty, key).to_dict())
        partial = memory_keys(getattr(config_class(**{key: {"model_type": sub.model_type}}), key).to_dict())
        gives = {k: v for k, v in missing.items() if own.get(k) != v}
        always = {k: v for k, v in partial.items() if own.get(k) != v}
        assert always in ({}, gives), (config_class, key)
        subs[key] = {"class": sub.__name__}
        if gives:
            subs[key] |= {"parent_gives": {k: short(v) for k, v in gives.items()},
                          "when": "always" if always else "missing"}
    stated = signature(config_class)
    tie = stated.get("tie_word_embeddings")
    head = "never tied" if tie is None else f"the outermost tie_word_embeddings, {json.dumps(tie)} when missing"
    return {"class": config_class.__name__, "signature": stated, "head": head, "sub_configs": subs}


def left_out(config: dict) -> dict:
    """Keys that the published sub-configs lack, with what they resolve to."""
    kind = config["model_type"]
    published = config.get("thinker_config", config)
    config_class = CONFIG_MAPPING[kind + "_thinker" if f"{kind}_thinker" in FAMILIES else kind]
    resolved, found = config_class(**published), {}
    for key in config_class.sub_configs:
        sub = getattr(resolved, key)
        stated, own = signature(type(sub)), memory_keys(type(sub)().to_dict())
        for name, value in memory_keys(sub.to_dict()).items():
            given = published[key].get(name, published[key].get(sub.attribute_map.get(name, ""), dataclasses.MISSING))
            if given is not dataclasses.MISSING and plain(given) == value:
                continue
            computed = name not in stated or own[name] != stated[name] and own[name] == value
            origin = "derived" if computed else "signature"
            if origin == "signature" and stated[name] != value:
                origin = "derived" if stated[name] is None or isinstance(value, list) else "parent"
            entry = {"value": short(value), "from": origin}
            if given is not dataclasses.MISSING:
                entry["published"] = given
            found.setdefault(key, {})[name] = entry
    for name, value in signature(config_class).items():
        if name not in published:
            found.setdefault("top", {})[name] = {"value": value, "from": "signature"}
    return found


def lines(title: str, items: dict) -> str:
    body = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in items.items())
    return f" {json.dumps(title)}: {{\n{body}\n }}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = parser.parse_args()
    logging.set_verbosity_error()
    families = {name: family(CONFIG_MAPPING[name]) for name in FAMILIES}
    classes = {CONFIG_MAPPING[name].__name__: CONFIG_MAPPING[name] for name in BACKBONES}
    for name in FAMILIES:
        empty = CONFIG_MAPPING[name]()
        subs = [type(getattr(empty, key)) for key in CONFIG_MAPPING[name].sub_configs]
        classes |= {sub.__name__: sub for sub in subs}
        if name == "phi4_multimodal":  # its text keys stand at the top
            classes[CONFIG_MAPPING[name].__name__] = CONFIG_MAPPING[name]
    missing = {}
    for path in sorted((ROOT / "catalog").glob("*/*.json")):
        entry = json.loads(path.read_text())
        kind = entry["config"].get("model_type")
        if (kind in FAMILIES or f"{kind}_thinker" in FAMILIES) and kind != "qwen3_asr":  # its published form is another
            missing[entry["name"]] = left_out(entry["config"])
    parts = [lines("classes", {name: describe(c) for name, c in sorted(classes.items())}), lines("families", families),
             lines("left_out", missing), lines("outside", OUTSIDE)]
    (options.out / "audio_class_defaults.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")
    print(f"{len(classes)} classes, {len(families)} families, {len(missing)} catalogue entries")
    return 0


if __name__ == "__main__":
    sys.exit(main())
