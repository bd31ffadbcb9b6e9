"""Small random Whisper checkpoints and the synthetic audio they listen to.

A checkpoint here has the layout of a published one (config, generation config, tokenizer, weights) and random weights
whose scales are chosen so that logits vary, attention is not uniform and greedy decoding does not repeat one token.
make_whisper.py adds what transformers computes from them.
"""
import json
import pathlib
from dataclasses import dataclass

import numpy as np
import torch
from scipy.io import wavfile
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

RATE = 16000  # Hz
HOP = 160     # samples a mel frame: 10 ms

# What Whisper suppresses by default, as far as it lies inside the small vocabularies: punctuation that is not speech.
NON_SPEECH = [1, 2, 7, 8, 9, 10, 14, 25, 26, 27, 28, 29, 31, 58, 59, 60, 61, 62, 63, 90, 91, 92, 93]


@dataclass
class Checkpoint:
    name: str
    seed: int
    dtype: torch.dtype         # of the file
    dim: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    encoder_ffn: int
    decoder_ffn: int
    mels: int
    seconds: int               # chunk_length; the encoder has 50 positions a second
    text_tokens: int           # ids below <|endoftext|>
    languages: tuple           # language codes, in the order of their ids
    multilingual: bool
    target_positions: int
    sinusoids: bool            # encoder positions as published; otherwise random: an engine must read them
    timestamp_bias: float      # added to the logits of timestamps and of <|endoftext|>: how often they win
    end_bias: float
    legacy_config: bool        # config.json as transformers 4 wrote it (torch_dtype, forced_decoder_ids …)
    legacy_merges: bool        # tokenizer.json's merges as "a b" instead of ["a", "b"]
    slow_tokenizer: bool       # also vocab.json, merges.txt, added_tokens.json …
    shard_size: str            # for save_pretrained

    @property
    def positions(self) -> int:
        return 50 * self.seconds


CHECKPOINTS = [
    Checkpoint("multilingual-f32", 9, torch.float32, 32, 2, 2, 2, 128, 128, 80, 30, 600,
               ("en", "zh", "de", "es", "ru", "ko", "fr", "ja", "pt", "tr"), True, 448, True,
               0.5, 2.0, False, False, True, "10MB"),
    Checkpoint("english-bf16", 15, torch.bfloat16, 64, 1, 3, 1, 64, 64, 128, 5, 320,
               ("en", "zh", "de"), False, 128, True,
               2.0, 2.5, False, True, False, "300KB"),
    Checkpoint("odd-f16", 24, torch.float16, 36, 3, 1, 2, 100, 76, 80, 5, 437,
               ("en", "de", "fr", "ja", "uk"), True, 128, False,
               1.0, 2.5, True, False, False, "10MB"),
]

# ---------------------------------------------------------------------------------------------------------- tokenizer

TRAINING_TEXT = """
The quick brown fox jumps over the lazy dog, and the dog doesn't mind. We're here; they've gone, I'll stay and he'd go.
In 1984 there were 365 days, 12 months and 7 seas. What is the weather like today? It's raining again, said the man.
She sells sea shells on the sea shore, the shells that she sells are sea shells for sure. Thank you very much indeed.
How much memory does this model need, and how much memory is there? A plan is a promise that the program then keeps.
Der schnelle braune Fuchs springt über den faulen Hund. Schöne Grüße aus München, wo es gerade regnet und schneit.
Les élèves ont déjà reçu leurs cahiers; où sont-ils allés après l'école ? Ça va très bien, merci beaucoup à vous.
El niño comió una manzana y después durmió la siesta. ¿Qué hora es? Son las tres y media de la tarde, señor.
Съешь же ещё этих мягких французских булок, да выпей чаю. Привет, как дела? Сегодня хорошая погода в городе.
今天天气很好，我们去公园吧。你好，世界！ 私は毎日日本語を勉強します。これは本です。東京は大きいです。
안녕하세요, 오늘은 날씨가 좋네요. 저는 학생입니다. Bugün hava çok güzel, dışarı çıkalım mı? Merhaba dünya!
Esta é uma frase em português, não é? O coração da cidade é a praça. Щось українською: її їжак їсть яблука.
مرحبا بالعالم، كيف حالك اليوم؟ שלום עולם. नमस्ते दुनिया, आप कैसे हैं? สวัสดีชาวโลก 😀 🎉 — “quotes” … and so on.
""".strip().split("\n")


def special_tokens(c: Checkpoint) -> list[str]:
    """Whisper's special tokens in the order of their ids, which start at c.text_tokens."""
    return ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{x}|>" for x in c.languages), "<|translate|>",
            "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]


def timestamp_tokens(c: Checkpoint) -> list[str]:
    return [f"<|{i * 0.02:.2f}|>" for i in range(c.positions + 1)]


def token_ids(c: Checkpoint) -> dict[str, int]:
    return {token: c.text_tokens + i for i, token in enumerate(special_tokens(c) + timestamp_tokens(c))}


def write_tokenizer(c: Checkpoint, folder: pathlib.Path) -> None:
    """Trains a byte-level BPE and writes it as Whisper's tokenizers are laid out.

    Multilingual vocabularies end, as the published one does, with an empty text token just below <|endoftext|>.
    Special tokens are special; timestamps are added tokens that are not.
    """
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.train_from_iterator(TRAINING_TEXT * 3, trainers.BpeTrainer(
        vocab_size=c.text_tokens - c.multilingual, min_frequency=2, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    bpe = json.loads(trained.to_str())["model"]
    vocab, merges = bpe["vocab"], [tuple(m) for m in bpe["merges"]]
    if c.multilingual:
        vocab[""] = c.text_tokens - 1
    assert len(vocab) == c.text_tokens and vocab["Ġ"] == 220

    ids = token_ids(c)
    prefix = ["<|startoftranscript|>", "<|notimestamps|>"]
    tokenizer = Tokenizer(models.BPE(vocab, merges, continuing_subword_prefix="", end_of_word_suffix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special_tokens(c)])
    tokenizer.add_tokens([AddedToken(t, normalized=True, special=False) for t in timestamp_tokens(c)])
    end = "<|endoftext|>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*prefix, "$A", end], pair=[*prefix, "$A", "$B", end],
        special_tokens=[(t, ids[t]) for t in [*prefix, end]])
    document = json.loads(tokenizer.to_str())
    assert {t["content"]: t["id"] for t in document["added_tokens"]} == ids
    if c.legacy_merges:
        document["model"]["merges"] = [" ".join(m) for m in merges]
    write_json(folder / "tokenizer.json", document, indent=None)

    write_json(folder / "tokenizer_config.json", {
        "add_prefix_space": False, "additional_special_tokens": special_tokens(c), "bos_token": end, "eos_token": end,
        "clean_up_tokenization_spaces": True, "errors": "replace", "model_max_length": 1024, "pad_token": end,
        "processor_class": "WhisperProcessor", "return_attention_mask": False, "tokenizer_class": "WhisperTokenizer",
        "unk_token": end})
    if c.slow_tokenizer:
        write_json(folder / "vocab.json", vocab, indent=None)
        (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
        write_json(folder / "added_tokens.json", ids, indent=None)
        write_json(folder / "special_tokens_map.json", {
            "additional_special_tokens": special_tokens(c), "bos_token": end, "eos_token": end, "unk_token": end})


# ------------------------------------------------------------------------------------------------------------ weights

GAINS = [("q_proj", 2.2), ("k_proj", 2.2), ("decoder.layers.0.encoder_attn.out_proj", 1.5), ("self_attn.out_proj", 3.0),
         ("fc1", 2.5), ("fc2", 3.0), ("", 1.8)]


def randomize(model: WhisperForConditionalGeneration, c: Checkpoint) -> None:
    """Draws every parameter. Scales: projections 1/sqrt(fan-in) times a gain, attention's q and k larger so that
    attention prefers some keys, LayerNorm gains about 1, every bias different from 0."""
    g = torch.Generator().manual_seed(c.seed)

    def normal(p, std, mean=0.0):
        p.copy_(torch.randn(p.shape, generator=g) * std + mean)

    for name, p in sorted(model.named_parameters()):
        if "encoder.embed_positions" in name:
            if not c.sinusoids:
                normal(p, 0.4)
        elif "embed_positions" in name:
            normal(p, 2.0)
        elif "embed_tokens" in name:
            normal(p, 0.5)
        elif "layer_norm" in name:
            normal(p, 0.2, 1.0 if name.endswith("weight") else 0.0)
        elif name.endswith("bias"):
            normal(p, 0.1)
        elif "conv" in name:
            normal(p, 1.5 / (p.shape[1] * p.shape[2]) ** 0.5)
        else:
            normal(p, next(gain for part, gain in GAINS if part in name) / p.shape[1] ** 0.5)

    # The output projection is the embedding and has no bias. The final LayerNorm's bias b gives every token the
    # constant logit row·b, so moving a row along b moves that token's logit.
    b = model.model.decoder.layer_norm.bias
    rows = model.model.decoder.embed_tokens.weight
    along = b / b.square().sum()
    ids = token_ids(c)
    first = ids["<|0.00|>"]
    rows[first:] *= 0.5
    wanted = torch.linspace(c.timestamp_bias + 1, c.timestamp_bias - 1, c.positions + 1)  # early ones are likelier
    rows[first:] += (wanted - rows[first:] @ b)[:, None] * along
    end = ids["<|endoftext|>"]
    rows[end] += (c.end_bias - rows[end] @ b) * along


@torch.no_grad()
def write_model(c: Checkpoint, folder: pathlib.Path) -> None:
    """Writes folder/: everything that a published Whisper repository holds."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    write_tokenizer(c, folder)
    ids = token_ids(c)
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    suppress = [i for i in NON_SPEECH if i < c.text_tokens] + [ids[t] for t in (
        "<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>")]
    forced = [[1, None], [2, ids["<|transcribe|>"]]] if c.multilingual else [[1, ids["<|notimestamps|>"]]]

    config = WhisperConfig(
        vocab_size=c.text_tokens + len(ids), num_mel_bins=c.mels, d_model=c.dim,
        encoder_layers=c.encoder_layers, encoder_attention_heads=c.heads, encoder_ffn_dim=c.encoder_ffn,
        decoder_layers=c.decoder_layers, decoder_attention_heads=c.heads, decoder_ffn_dim=c.decoder_ffn,
        max_source_positions=c.positions, max_target_positions=c.target_positions,
        decoder_start_token_id=start, bos_token_id=end, eos_token_id=end, pad_token_id=end,
        begin_suppress_tokens=[220, end], suppress_tokens=None)
    model = WhisperForConditionalGeneration(config)
    randomize(model, c)
    generation = {
        "begin_suppress_tokens": [220, end], "bos_token_id": end, "decoder_start_token_id": start, "eos_token_id": end,
        "forced_decoder_ids": forced, "is_multilingual": c.multilingual, "max_initial_timestamp_index": 50,
        "max_length": c.target_positions, "no_timestamps_token_id": ids["<|notimestamps|>"], "pad_token_id": end,
        "prev_sot_token_id": ids["<|startofprev|>"], "return_timestamps": False, "suppress_tokens": suppress}
    if c.multilingual:
        generation["lang_to_id"] = {f"<|{x}|>": ids[f"<|{x}|>"] for x in sorted(c.languages)}
        generation["task_to_id"] = {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]}
    model.generation_config = GenerationConfig(**generation)
    model.to(c.dtype).save_pretrained(folder, max_shard_size=c.shard_size)
    write_json(folder / "generation_config.json", generation)  # exactly this, not what save_pretrained makes of it

    if c.legacy_config:
        path = folder / "config.json"
        old = json.loads(path.read_text())
        old["torch_dtype"] = old.pop("dtype")
        old |= {"forced_decoder_ids": forced, "suppress_tokens": suppress, "max_length": c.target_positions,
                "transformers_version": "4.27.0.dev0"}
        write_json(path, dict(sorted(old.items())))
    WhisperFeatureExtractor(feature_size=c.mels, chunk_length=c.seconds).save_pretrained(folder)
    trim_preprocessor(folder / "preprocessor_config.json", c)


def trim_preprocessor(path: pathlib.Path, c: Checkpoint) -> None:
    """Published preprocessor_config.json files name these keys (older ones list the mel filters as well)."""
    document = json.loads(path.read_text())
    document.pop("mel_filters", None)
    document |= {"nb_max_frames": 100 * c.seconds, "n_samples": RATE * c.seconds, "processor_class": "WhisperProcessor"}
    write_json(path, dict(sorted(document.items())))


def write_json(path: pathlib.Path, document, indent=1) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=indent,
                               separators=(",", ":") if indent is None else None) + "\n")


# -------------------------------------------------------------------------------------------------------------- audio

def babble(seconds: float, seed: int) -> np.ndarray:
    """float64 [samples] in -1..1: bursts of gliding harmonics of different loudness, pauses, faint noise."""
    rng = np.random.default_rng(seed)
    out = rng.normal(0, 2e-3, int(seconds * RATE))
    at = 0.05
    while at < seconds - 0.1:
        length = rng.uniform(0.12, 0.45)
        t = np.arange(int(length * RATE)) / RATE
        pitch = rng.uniform(90, 260) + rng.uniform(-200, 200) * t
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        formants = rng.uniform(300, 4000, 3)
        voice = np.zeros_like(t)
        for harmonic in range(1, 30):
            gain = sum(np.exp(-((harmonic * pitch - f) / 250) ** 2) for f in formants) + 0.02
            voice += gain * np.sin(harmonic * phase)
        voice += rng.normal(0, rng.uniform(0, 0.3), len(t))
        voice *= np.hanning(len(t)) * 10 ** rng.uniform(-1.4, -0.5)
        first = int(at * RATE)
        voice = voice[:len(out) - first]
        out[first:first + len(voice)] += voice
        at += length + (rng.uniform(0.4, 0.9) if rng.random() < 0.2 else rng.uniform(0.0, 0.12))
    return np.clip(out, -0.99, 0.99)


def tones(rate: int, seconds=0.5) -> np.ndarray:
    """float64 [samples, 2]: band-limited (below 6 kHz) tones, different left and right, known at any sample rate."""
    t = np.arange(int(seconds * rate)) / rate
    fade = np.sin(np.pi * t / seconds) ** 2
    left = 0.4 * np.sin(2 * np.pi * (300 * t + 2000 * t * t)) + 0.2 * np.sin(2 * np.pi * 5000 * t)
    right = 0.5 * np.sin(2 * np.pi * (4000 * t - 1500 * t * t)) - 0.1 * np.sin(2 * np.pi * 150 * t)
    return np.stack([left * fade, right * fade], axis=1)


def write_audio(folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wavfile.write(folder / "short.wav", RATE, np.round(babble(3.2, 11) * 32768).astype(np.int16))
    wavfile.write(folder / "long.wav", RATE, (np.round(babble(12.345, 12) * 128) + 128).astype(np.uint8))
    wavfile.write(folder / "tones_44k_stereo.wav", 44100, np.round(tones(44100) * 32768).astype(np.int16))
    wavfile.write(folder / "tones_16k_mono.wav", RATE, np.round(tones(RATE).mean(axis=1) * 32768).astype(np.int16))


def read_audio(path: pathlib.Path) -> np.ndarray:
    """float32 [samples] of a mono file: PCM16 / 32768, or unsigned PCM8 as (x - 128) / 128."""
    rate, samples = wavfile.read(path)
    assert rate == RATE and samples.ndim == 1
    if samples.dtype == np.uint8:
        return ((samples.astype(np.float32) - 128) / 128).astype(np.float32)
    return (samples.astype(np.float32) / 32768).astype(np.float32)
