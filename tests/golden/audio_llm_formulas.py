"""Parameters of audio-language models by formula, and the vectors that their audio becomes, from the config alone.

make_audio_llm_counts.py compares both with transformers' modules and functions; audio_llm_notes.md has them in words.
"""
import json
import pathlib

ROOT = pathlib.Path(__file__).parents[2]

# Ultravox names its backbones only. Values of their published configs.
def llama(width: int, inner: int, layers: int, heads: int, tie: bool = False) -> dict:
    return {"model_type": "llama", "vocab_size": 128256, "hidden_size": width, "intermediate_size": inner,
            "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": 8,
            "tie_word_embeddings": tie}


BACKBONES = {
    "meta-llama/Llama-3.2-1B-Instruct": llama(2048, 8192, 16, 32, tie=True),
    "meta-llama/Llama-3.1-8B-Instruct": llama(4096, 14336, 32, 32),
    "meta-llama/Llama-3.3-70B-Instruct": llama(8192, 28672, 80, 64),
    "Qwen/Qwen3-32B": {"model_type": "qwen3", "vocab_size": 151936, "hidden_size": 5120, "intermediate_size": 25600,
                       "num_hidden_layers": 64, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128,
                       "tie_word_embeddings": False},
    # The language model alone: gemma-3-27b-it's own vision tower is no part of Ultravox's audio path.
    "google/gemma-3-27b-it": {"model_type": "gemma3_text", "vocab_size": 262208, "hidden_size": 5376,
                              "intermediate_size": 21504, "num_hidden_layers": 62, "num_attention_heads": 32,
                              "num_key_value_heads": 16, "head_dim": 128},
}
BACKBONES["meta-llama/Meta-Llama-3.1-8B-Instruct"] = BACKBONES["meta-llama/Llama-3.1-8B-Instruct"]

# Gemma-3n's vision: tower (timm's mobilenetv5_300m_enc, which needs timm) and embed_vision (4,460,544). The difference
# between the hub's parameter counts (from memory: 5,439,438,272 and 7,849,978,192) and text + audio + key and value
# matrices of the sharing layers, which the files hold and no class uses; both sizes give this number.
GEMMA3N_VISION = 298_587_456


def whisper_config(config: dict) -> dict:
    """The audio half of a config that names or describes a Whisper."""
    if config.get("audio_model_id"):
        catalogued = ROOT / "catalog" / f"{config['audio_model_id']}.json"
        return json.loads(catalogued.read_text())["config"]
    return {"num_mel_bins": 80, "max_source_positions": 1500, **config["audio_config"]}


def linear(i: int, o: int, bias: bool = True) -> int:
    return i * o + bias * o


def norm(width: int) -> int:
    """LayerNorm: weight and bias. RMSNorm is one width."""
    return 2 * width


def attention(h: int, source: int = 0) -> int:
    """Four matrices with biases."""
    return 2 * linear(h, h) + 2 * linear(source or h, h)


def whisper_blocks(d: int, layers: int, ffn: int, key_bias: bool = False) -> int:
    return layers * (attention(d) - (not key_bias) * d + linear(d, ffn) + linear(ffn, d) + 2 * norm(d)) + norm(d)


def whisper_encoder(d: int, layers: int, ffn: int, mels: int, positions: int = 0) -> int:
    return linear(3 * mels, d) + linear(3 * d, d) + positions * d + whisper_blocks(d, layers, ffn)


def decoder(t: dict, qkv_bias: bool = False, qk_norm: bool = False, norms: int = 2, experts: bool = False,
            extra: int = 0) -> dict:
    """Layers and final norm of a Llama-like model; fused matrices have the same count."""
    h, heads, layers = t["hidden_size"], t["num_attention_heads"], t["num_hidden_layers"]
    kv, head = t.get("num_key_value_heads") or heads, t.get("head_dim") or h // heads
    layer = linear(h, (heads + 2 * kv) * head, qkv_bias) + heads * head * h + qk_norm * 2 * head + norms * h + extra
    layer += h * t["num_experts"] if experts else 3 * h * t["intermediate_size"]
    table = t["vocab_size"] * h
    return {"decoder": layers * layer + h, "embedding": table, "lm_head": 0 if t["tie_word_embeddings"] else table,
            "experts": layers * t["num_experts"] * 3 * h * t["moe_intermediate_size"] if experts else 0}


def text_parts(t: dict) -> dict:
    kind = t["model_type"]
    return decoder({"tie_word_embeddings": kind == "gemma3_text", **t}, qkv_bias=kind in ("qwen2", "qwen2_5_omni_text"),
                   qk_norm=kind in ("qwen3", "gemma3_text"), norms=4 if kind == "gemma3_text" else 2)


def formula_qwen2_audio(e):
    a, t = e["config"]["audio_config"], {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
                                         "num_key_value_heads": 32, **e["config"]["text_config"]}
    return {"encoder": whisper_encoder(a["d_model"], a["encoder_layers"], a["encoder_ffn_dim"], a["num_mel_bins"],
                                       a["max_source_positions"]),
            "projector": linear(a["d_model"], t["hidden_size"]), **text_parts(t)}


def formula_ultravox(e):
    c, a, t = e["config"], whisper_config(e["config"]), BACKBONES[e["config"]["text_model_id"]]
    stacked, hidden, out = a["d_model"] * c["stack_factor"], c["hidden_size"], t["hidden_size"]
    middle = hidden // 2
    return {"encoder": whisper_encoder(a["d_model"], a["encoder_layers"], a["encoder_ffn_dim"], a["num_mel_bins"],
                                       a["max_source_positions"]),
            "projector": stacked + stacked * hidden + middle * out + (middle if c.get("projector_ln_mid") else out),
            **text_parts(t)}


def formula_whisper_llama(e):
    """Voxtral, Audio Flamingo 3: two matrices behind the tower."""
    c = e["config"]
    a, t, bias = c["audio_config"], c["text_config"], c.get("projector_bias", False)
    wide = a["intermediate_size"] if c["model_type"] == "voxtral" else a["hidden_size"]
    h = t["hidden_size"]
    return {"encoder": whisper_encoder(a["hidden_size"], a["num_hidden_layers"], a["intermediate_size"],
                                       a["num_mel_bins"], a["max_source_positions"]),
            "projector": linear(wide, h, bias) + linear(h, h, bias), **text_parts(t)}


def formula_glmasr(e):
    a, t = e["config"]["audio_config"], {"tie_word_embeddings": True, **e["config"]["text_config"]}
    h = t["hidden_size"]
    return {"encoder": whisper_encoder(a["hidden_size"], a["num_hidden_layers"], a["intermediate_size"],
                                       a["num_mel_bins"]),
            "projector": linear(a["intermediate_size"], 2 * h) + linear(2 * h, h), **text_parts(t)}


def formula_voxtral_realtime(e):
    c = e["config"]
    a, t = c["audio_config"], c["text_config"]
    d, inner = a["hidden_size"], a["num_attention_heads"] * a["head_dim"]
    wide = d * c["downsample_factor"]
    layer = 2 * linear(d, inner) + d * inner + linear(inner, d) + 3 * d * a["intermediate_size"] + d + 2 * d
    return {"encoder": linear(3 * a["num_mel_bins"], d) + linear(3 * d, d) + a["num_hidden_layers"] * layer + d,
            "projector": wide * t["hidden_size"] + t["hidden_size"] ** 2, **decoder(t, extra=2 * 32 * t["hidden_size"])}


def formula_granite_speech(e):
    c, rank = e["config"], e["adapter_config"]["r"]
    a, q, t = c["encoder_config"], c["projector_config"], c["text_config"]
    d, inner, conv = a["hidden_dim"], a["num_heads"] * a["dim_head"], a["hidden_dim"] * a["conv_expansion_factor"]
    feed_forward = norm(d) + linear(d, d * a["feedforward_mult"]) + linear(d * a["feedforward_mult"], d)
    shaw = norm(d) + 3 * d * inner + linear(inner, d) + (2 * a["max_pos_emb"] + 1) * a["dim_head"]
    convolution = norm(d) + linear(d, 2 * conv) + conv * a["conv_kernel_size"] + norm(conv) + linear(conv, d)
    w, f = q["hidden_size"], q["intermediate_size"]
    cross = sum(i % q["cross_attention_frequency"] == 0 for i in range(q["num_hidden_layers"]))
    block = attention(w) + norm(w) + linear(w, f) + linear(f, w) + norm(w)
    h, width = t["hidden_size"], t["hidden_size"] // t["num_attention_heads"]
    adapted = e["adapter_config"]["target_modules"]
    outputs = {"q_proj": h, "v_proj": t["num_key_value_heads"] * width}
    return {"encoder": linear(a["input_dim"], d) + a["num_layers"] * (2 * feed_forward + shaw + convolution + norm(d))
            + linear(d, a["output_dim"]) + linear(a["output_dim"], d),
            "qformer": c["window_size"] // c["downsample_rate"] * w + norm(w) + q["num_hidden_layers"] * block
            + cross * (attention(w, q["encoder_hidden_size"]) + norm(w)),
            "projector": linear(w, h), **text_parts(t),
            "adapters": t["num_hidden_layers"] * rank * sum(h + outputs[m] for m in adapted)}


def formula_qwen2_5_omni(e):
    c = e["config"]["thinker_config"]
    a, t, v = c["audio_config"], c["text_config"], c["vision_config"]
    w, f, merged = v["hidden_size"], v["intermediate_size"], v["hidden_size"] * v["spatial_merge_size"] ** 2
    patch = v["in_channels"] * v["temporal_patch_size"] * v["patch_size"] ** 2
    block = attention(w) + 2 * linear(w, f) + linear(f, w) + 2 * w
    return {"encoder": whisper_encoder(a["d_model"], a["encoder_layers"], a["encoder_ffn_dim"], a["num_mel_bins"]),
            "projector": linear(a["d_model"], a["output_dim"]) + 2 * a["output_dim"], **text_parts(t),
            "vision": patch * w + v["depth"] * block + w + linear(merged, merged)
            + linear(merged, v["out_hidden_size"])}


def conv_tower(a: dict) -> dict:
    """Qwen3's: three 3x3 convolutions with stride 2, biases on all matrices of the blocks."""
    d, ch = a["d_model"], a["downsample_hidden_size"]
    bands = -(-a["num_mel_bins"] // 8)
    return {"encoder": linear(9, ch) + 2 * linear(9 * ch, ch) + ch * bands * d
            + whisper_blocks(d, a["encoder_layers"], a["encoder_ffn_dim"], key_bias=True),
            "projector": linear(d, d) + linear(d, a["output_dim"])}


def formula_qwen3_asr(e):
    c = e["config"]["thinker_config"]
    return {**conv_tower(c["audio_config"]), **text_parts(c["text_config"])}


def formula_qwen3_omni(e):
    c = e["config"]["thinker_config"]
    t, v = c["text_config"], c["vision_config"]
    w, f, merged = v["hidden_size"], v["intermediate_size"], v["hidden_size"] * v["spatial_merge_size"] ** 2
    patch = v["in_channels"] * v["temporal_patch_size"] * v["patch_size"] ** 2
    block = attention(w) + linear(w, f) + linear(f, w) + 2 * norm(w)
    merger = linear(merged, merged) + linear(merged, v["out_hidden_size"])
    deep = len(v["deepstack_visual_indexes"])
    return {**conv_tower(c["audio_config"]), **decoder(t, qk_norm=True, experts=True),
            "vision": linear(patch, w) + v["num_position_embeddings"] * w + v["depth"] * block + merger + norm(w)
            + deep * (merger + norm(merged))}


def formula_gemma3n(e):
    a, t = e["config"]["audio_config"], e["config"]["text_config"]
    d, (c0, c1), (k0, k1) = a["hidden_size"], a["sscp_conv_channel_size"], a["sscp_conv_kernel_size"]
    bands = a["input_feat_size"]
    for _, stride in a["sscp_conv_stride_size"]:
        bands = -(-bands // stride)
    feed_forward = 8 * d * d + 2 * d
    conformer = 2 * feed_forward + (5 * d * d + d // a["conf_num_attention_heads"] + 2 * d) \
        + (3 * d * d + d * a["conf_conv_kernel_size"] + 2 * d) + d
    encoder = k0[0] * k0[1] * c0 + c0 + k1[0] * k1[1] * c0 * c1 + c1 + c1 * bands * d \
        + a["conf_num_hidden_layers"] * conformer
    h, head, p, n = t["hidden_size"], t["head_dim"], t["hidden_size_per_layer_input"], t["altup_num_inputs"]
    layers, own = t["num_hidden_layers"], t["num_hidden_layers"] - t["num_kv_shared_layers"]
    layer = 2 * t["num_attention_heads"] * head * h + head + 4 * h  # q, o, q_norm, four norms
    layer += h + n * n + n * n * n + n * h + h  # AltUp: scale, correction, prediction, router and its norm
    layer += 2 * t["laurel_rank"] * h + h + 2 * p * h + h  # Laurel; gate, projection, norm of the layer's own embedding
    kv = 2 * t["num_key_value_heads"] * head * h + head
    stack = layers * layer + own * kv + sum(3 * h * f for f in t["intermediate_size"]) + h
    return {"encoder": encoder, "projector": a["vocab_size"] * d + 2 * d + d * h,
            "decoder": stack + layers * p * h + p + 2 * (n - 1) * h * h, "embedding": t["vocab_size"] * h,
            "per_layer_embedding": t["vocab_size_per_layer_input"] * layers * p, "vision": GEMMA3N_VISION}


def formula_phi4mm(e):
    c, a = e["config"], e["config"]["audio_processor"]["config"]
    d, f, ch = a["attention_dim"], a["linear_units"], a["nemo_conv_settings"]["conv_channels"]
    stages, bands = a["time_reduction"].bit_length() - 1, a["input_size"]
    for _ in range(stages):
        bands = -(-bands // 2)
    subsample = linear(9, ch) + (stages - 1) * (linear(9, ch) + linear(ch, ch)) + linear(ch * bands, d)
    feed_forward = norm(d) + linear(d, 2 * f) + linear(f, d)
    out = a["ext_pw_out_channel"]
    convolution = norm(d) + linear(d, 2 * out) + 2 * out + linear(a["kernel_size"], d) \
        + linear(d, a["depthwise_seperable_out_channel"]) + linear(d, out)
    block = 2 * feed_forward + attention(d) + convolution + 2 * norm(d)
    bias = 2 * a["relative_attention_bias_args"]["t5_bias_max_distance"] * a["attention_heads"]
    h, head = c["hidden_size"], c["hidden_size"] // c["num_attention_heads"]
    qkv = (c["num_attention_heads"] + 2 * c["num_key_value_heads"]) * head
    pairs = (h + qkv) + (h + h) + (h + 2 * c["intermediate_size"]) + (c["intermediate_size"] + h)
    # SigLIP-so400m, which the config doesn't describe: 27 layers, 1024 positions, patch 14, attention-pooling head
    w, vf = 1152, 4304
    siglip = linear(3 * 14 * 14, w) + 1024 * w + norm(w) \
        + 27 * (attention(w) + linear(w, vf) + linear(vf, w) + 2 * norm(w)) \
        + w + attention(w) + norm(w) + linear(w, vf) + linear(vf, w)
    return {"encoder": subsample + a["num_blocks"] * block + bias,
            "projector": 2 * (linear(d, h) + linear(h, h)), **decoder(c),
            "vision": siglip + 2 * w + linear(w, h) + linear(h, h),
            "adapters": c["num_hidden_layers"] * pairs * (c["speech_lora"]["r"] + c["vision_lora"]["r"])}


def formula_minicpmo(e):
    c, a, v = e["config"], whisper_config(e["config"]), e["config"]["vision_config"]
    h, w, f = c["hidden_size"], v["hidden_size"], v["intermediate_size"]
    siglip = linear(3 * v["patch_size"] ** 2, w) + (v["image_size"] // v["patch_size"]) ** 2 * w + norm(w) \
        + v["num_hidden_layers"] * (attention(w) + linear(w, f) + linear(f, w) + 2 * norm(w))
    return {"encoder": whisper_encoder(a["d_model"], a["encoder_layers"], a["encoder_ffn_dim"], a["num_mel_bins"],
                                       a["max_source_positions"]),
            "projector": linear(a["encoder_ffn_dim"] // 4, h) + linear(h, h), **decoder(c, qkv_bias=True),
            "vision": siglip + c["query_num"] * h + h * h + w * h + attention(h) + 3 * norm(h)}


def formula_midashenglm(e):
    c, a, t = e["config"], e["config"]["audio_encoder_config"], e["config"]["text_config"]
    d, inner, h = a["embed_dim"], int(a["embed_dim"] * a["mlp_ratio"]), t["hidden_size"]
    block = attention(d) + linear(d, inner) + linear(inner, d) + 2 * norm(d)
    positions = a["target_length"] // a["patch_stride"][1] + a["n_mels"] // a["patch_stride"][0]
    patch = a["patch_size"][0] * a["patch_size"][1] * a["input_channels"]
    return {"encoder": norm(a["n_mels"]) + linear(patch, d) + positions * d + a["depth"] * block + norm(d),
            "projector": linear(d * c["subsample_factor"], h) + linear(h, h), **text_parts(t)}


def formula_kimi_audio(e):
    c, a, h = e["config"], e["whisper_config"], e["config"]["hidden_size"]
    branch = decoder({**c, "num_hidden_layers": c["kimia_mimo_layers"]}, qkv_bias=True)
    return {"encoder": whisper_encoder(a["d_model"], a["encoder_layers"], a["encoder_ffn_dim"], a["num_mel_bins"],
                                       a["max_source_positions"]),
            "projector": linear(c["kimia_adaptor_input_dim"], h) + linear(h, h) + norm(h), **decoder(c, qkv_bias=True),
            "mimo": branch["decoder"] + branch["lm_head"]}


def formula_gama(e):
    c = e["config"]
    a, q, g = c["encoder_config"], c["qformer_config"], c["aggregator_config"]
    p, t, adapter = c["projection_config"], c["text_config"], c["lora_config"]

    def feed_forward(x):
        return linear(x["hidden_size"], x["intermediate_size"]) + linear(x["intermediate_size"], x["hidden_size"])

    def bert(x, source=0):
        return attention(x["hidden_size"], source) + norm(x["hidden_size"])
    d, w = a["hidden_size"], q["hidden_size"]
    crossed = -(-q["num_hidden_layers"] // q["cross_attention_frequency"])
    projection = linear(p["input_size"], p["hidden_size"]) + linear(p["hidden_size"], p["output_size"])
    return {"encoder": linear(a["patch_size"] ** 2, d) + a["num_patches"] * d + d + len(a["output_blocks"]) * norm(d)
            + a["num_hidden_layers"] * (attention(d) + feed_forward(a) + a["layer_norms_per_block"] * norm(d)),
            "qformer": 2 * norm(w) + q["num_query_tokens"] * w + crossed * bert(q, q["encoder_hidden_size"])
            + q["num_hidden_layers"] * (bert(q) + feed_forward(q) + norm(w)),
            "aggregator": g["num_hidden_layers"] * (bert(g) + bert(g, g["encoder_hidden_size"])
                                                    + 2 * (feed_forward(g) + norm(w))),
            "projector": p["count"] * projection, **text_parts(t),
            "adapters": t["num_hidden_layers"] * len(adapter["target_modules"]) * adapter["r"] * 2 * t["hidden_size"]}


FORMULAS = {
    "qwen2_audio": formula_qwen2_audio, "ultravox": formula_ultravox, "voxtral": formula_whisper_llama,
    "audioflamingo3": formula_whisper_llama, "glmasr": formula_glmasr, "voxtral_realtime": formula_voxtral_realtime,
    "granite_speech": formula_granite_speech, "qwen2_5_omni": formula_qwen2_5_omni, "qwen3_asr": formula_qwen3_asr,
    "qwen3_omni_moe": formula_qwen3_omni, "gemma3n": formula_gemma3n, "phi4mm": formula_phi4mm,
    "minicpmo": formula_minicpmo, "midashenglm": formula_midashenglm, "kimi_audio": formula_kimi_audio,
    "gama": formula_gama,
}


# ---- audio vectors -------------------------------------------------------------------------------------------------

def ceil(a: int, b: int) -> int:
    return -(-a // b)


def whisper_frames(samples: int) -> int:
    return ceil(samples, 160)


def pooled(frames: int) -> int:
    """Convolution with stride 2, then an average of two."""
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1


def audio_tokens(config: dict, samples: int) -> int:
    """Vectors for so many samples of 16 kHz audio."""
    kind, frames = config["model_type"], whisper_frames(samples)
    chunks = [min(480000, samples - at) for at in range(0, samples, 480000)]
    if kind == "qwen2_audio":  # one window of 30 s
        return pooled(min(frames, 3000))
    if kind == "ultravox":
        return sum(ceil(whisper_frames(n), 2 * config["stack_factor"]) for n in chunks)
    if kind == "voxtral":  # windows are padded to 30 s, four encoder positions make a vector
        a = config["audio_config"]
        return len(chunks) * a["max_source_positions"] * a["hidden_size"] // a["intermediate_size"]
    if kind == "voxtral_realtime":
        return ceil(frames, 2 * config["downsample_factor"])
    if kind == "granite_speech":
        queries = config["window_size"] // config["downsample_rate"]
        return ceil((samples // 160 + 1) // 2, config["window_size"]) * queries
    if kind == "qwen2_5_omni":
        return pooled(frames)
    if kind in ("qwen3_omni_moe", "qwen3_asr"):  # each 100 frames give 13, the rest is divided by 8
        rest = frames % 100
        return frames // 100 * 13 + ceil(ceil(ceil(rest, 2), 2), 2)
    if kind == "audioflamingo3":
        return pooled(min(frames, 20 * 3000))
    if kind == "glmasr":
        return ((min(frames, 21 * 3000) - 1) // 2 + 1 - 4) // 4 + 1
    if kind == "gemma3n":
        return config["audio_soft_tokens_per_image"]
    if kind == "phi4mm":
        a = config["embd_layer"]["audio_embd_layer"]
        return ceil(ceil((samples - 400) // 160 + 1, a["compression_rate"]), a["downsample_rate"])
    if kind == "minicpmo":
        step = config["audio_pool_step"]
        return sum(((whisper_frames(n) - 1) // 2 + 1 - step) // step + 1 for n in chunks)
    if kind == "midashenglm":
        a = config["audio_encoder_config"]
        return (1 + samples // a["hop_length"]) // a["patch_stride"][1] // config["subsample_factor"]
    if kind == "kimi_audio":  # 12.5 Hz in windows of 30 s
        return sum((n - 1) // 1280 + 1 for n in chunks)
    assert kind == "gama", kind
    return config["qformer_config"]["num_query_tokens"] + config["encoder_config"]["time_patches"]
