"""Writes tests/golden/whisper/: small random Whisper checkpoints, audio, and what transformers computes in fp32.

    python make_whisper.py              everything, about a minute on one core
    python make_whisper.py --search N   tries N seeds a checkpoint and prints which would make good fixtures

Versions: requirements.txt. What every file means, rules and tolerances: README.md.
"""
import argparse
import dataclasses
import json
import pathlib

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import DynamicCache, EncoderDecoderCache, WhisperFeatureExtractor, WhisperForConditionalGeneration
from transformers import WhisperTokenizer
from transformers.generation.logits_process import (
    SuppressTokensAtBeginLogitsProcessor, SuppressTokensLogitsProcessor, WhisperTimeStampLogitsProcessor)
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

import whisper_checkpoints as wc

HERE = pathlib.Path(__file__).parent
LIMIT = 64             # new tokens of the one-window cases; long form uses max_target_positions // 2
TIME_PRECISION = 0.02  # seconds a timestamp step, = one encoder position
PROMPT_TEXT = "The quick brown dog, 42 days."


class Model:
    """A checkpoint read back from its files, in fp32, with its feature extractor, tokenizer and special ids."""

    def __init__(self, c: wc.Checkpoint, folder: pathlib.Path):
        self.c = c
        self.net = WhisperForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager").eval()
        self.extractor = WhisperFeatureExtractor.from_pretrained(folder)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.whisper_tokenizer = WhisperTokenizer.from_pretrained(folder)
        self.ids = wc.token_ids(c)
        self.end = self.ids["<|endoftext|>"]
        self.timestamp_begin = self.ids["<|0.00|>"]
        self.chunk_frames = 100 * c.seconds

    def mel(self, samples: np.ndarray, **options) -> torch.Tensor:
        """[1, mels, chunk_frames] of one window: zeros are appended to the samples, the maximum is the window's own."""
        return torch.from_numpy(self.extractor(samples, sampling_rate=wc.RATE, **options)["input_features"])

    def file_mel(self, samples: np.ndarray) -> torch.Tensor:
        """[1, mels, frames] of a whole file, as transformers' long form wants it."""
        return self.mel(samples, truncation=False, padding="longest")

    def encode(self, mel: torch.Tensor) -> torch.Tensor:
        """[1, positions, dim]"""
        return self.net.model.encoder(mel).last_hidden_state

    def logits(self, states: torch.Tensor, ids: list[int]) -> torch.Tensor:
        """[len(ids), vocabulary], teacher forced."""
        return self.net(encoder_outputs=BaseModelOutput(states), decoder_input_ids=torch.tensor([ids])).logits[0]

    def prompt(self, language="en", task="transcribe", timestamps=False) -> list[int]:
        out = [self.ids["<|startoftranscript|>"]]
        if self.c.multilingual:
            out += [self.ids[f"<|{language}|>"], self.ids[f"<|{task}|>"]]
        return out if timestamps else [*out, self.ids["<|notimestamps|>"]]

    def text(self, ids: list[int]) -> str:
        return self.tokenizer.decode([i for i in ids if i < self.end])

    def processors(self, begin: int, timestamps: bool) -> list:
        """transformers' processors for Whisper's defaults, in the order in which they are applied."""
        g = self.net.generation_config
        out = [SuppressTokensAtBeginLogitsProcessor(g.begin_suppress_tokens, begin),
               SuppressTokensLogitsProcessor(g.suppress_tokens)]
        return out + [WhisperTimeStampLogitsProcessor(g, begin)] if timestamps else out


def decode(m: Model, states: torch.Tensor, prompt: list[int], timestamps=False, plain=False, limit=LIMIT) -> dict:
    """Greedy decoding, token by token. plain: argmax of the raw logits, never stops. Otherwise transformers' default
    processors, and <|endoftext|> ends it (and is not part of ids).

    margin: the smallest distance between the best and the second best score. rule_margin: the same for "the timestamps
    together are likelier than any single other token". An engine whose error is below both finds the same ids.
    """
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    ids, logprobs, margin, rule_margin = list(prompt), [], float("inf"), float("inf")
    processors = [] if plain else m.processors(len(prompt), timestamps)
    no_speech = None
    ended = False
    while len(ids) < len(prompt) + limit and not ended:
        fresh = ids if len(ids) == len(prompt) else ids[-1:]
        all_logits = m.net(encoder_outputs=BaseModelOutput(states), decoder_input_ids=torch.tensor([fresh]),
                           past_key_values=cache, use_cache=True).logits
        if no_speech is None:
            at = prompt.index(m.ids["<|startoftranscript|>"])
            no_speech = all_logits[0, at].softmax(-1)[m.ids["<|nospeech|>"]].item()
        scores = all_logits[:, -1].float()
        for p in processors:
            if isinstance(p, WhisperTimeStampLogitsProcessor):
                p._detect_timestamp_from_logprob = False
                before = p(torch.tensor([ids]), scores).log_softmax(-1)[0]
                p._detect_timestamp_from_logprob = True
                gap = before[m.timestamp_begin:].logsumexp(-1) - before[:m.timestamp_begin].max()
                rule_margin = min(rule_margin, abs(gap.item()))
            scores = p(torch.tensor([ids]), scores)
        best = scores[0].topk(2)
        margin = min(margin, (best.values[0] - best.values[1]).item())
        token = best.indices[0].item()
        logprobs.append(scores.log_softmax(-1)[0, token].item())
        ended = token == m.end and not plain
        if not ended:
            ids.append(token)
    out = {"prompt": prompt, "ids": ids[len(prompt):], "limit": limit, "margin": round(margin, 5)}
    if not plain:
        out |= {"ended": ended, "text": m.text(out["ids"]), "avg_logprob": round(sum(logprobs) / len(logprobs), 5),
                "no_speech_prob": float(f"{no_speech:.6g}")}
    if timestamps:
        out["rule_margin"] = round(rule_margin, 5)
    return out


def cut(ids: list[int], timestamp_begin: int, seek: int, frames: int) -> tuple[list[dict], int, str]:
    """The published rules (README.md, "Long form"): segments of one window, frames to advance, which rule said so.

    seek: first mel frame of the window; frames: how many of the window's frames are audio.
    """
    def seconds(token):
        return seek * wc.HOP / wc.RATE + (token - timestamp_begin) * TIME_PRECISION

    stamp = [i >= timestamp_begin for i in ids]
    pairs = [i for i in range(1, len(ids)) if stamp[i - 1] and stamp[i]]
    single_ending = stamp[-2:] == [False, True]
    if pairs:
        ends = pairs + [len(ids)] if single_ending else pairs
        begins = [0] + ends[:-1]
        segments = [{"start": seconds(ids[b]), "end": seconds(ids[e - 1]), "ids": ids[b:e]}
                    for b, e in zip(begins, ends)]
        if single_ending:
            return segments, frames, "single ending"
        return segments, 2 * (ids[ends[-1] - 1] - timestamp_begin), "pair"
    stamps = [i for i in ids if i >= timestamp_begin]
    last = stamps[-1] - timestamp_begin if stamps and stamps[-1] != timestamp_begin else frames // 2
    segment = {"start": seconds(timestamp_begin), "end": seconds(timestamp_begin + last), "ids": ids}
    return [segment], frames, "one timestamp" if stamps and stamps[-1] != timestamp_begin else "no timestamp"


def long_form(m: Model, samples: np.ndarray, whole_file_mel=False) -> dict:
    """Sequential transcription with timestamps, language en, no conditioning on earlier text, no fallback.

    whole_file_mel: as transformers does it, mel of the whole file cut into windows, the last padded with zeros *in the
    mel*; only used to check this loop against transformers. sotto computes mel from each window's samples.
    """
    total = len(samples) // wc.HOP  # frames
    file_mel = None
    if whole_file_mel:
        file_mel = m.file_mel(samples)
        total = file_mel.shape[-1]
    windows, segments, seek = [], [], 0
    while seek < total:
        frames = min(m.chunk_frames, total - seek)
        if whole_file_mel:
            mel = torch.nn.functional.pad(file_mel[:, :, seek:seek + frames], (0, m.chunk_frames - frames))
        else:
            mel = m.mel(samples[seek * wc.HOP:(seek + m.chunk_frames) * wc.HOP])
        out = decode(m, m.encode(mel), m.prompt(timestamps=True), timestamps=True, limit=m.c.target_positions // 2)
        cuts, advance, rule = cut(out["ids"], m.timestamp_begin, seek, frames)
        for s in cuts:
            s["start"], s["end"] = round(s["start"], 4), round(s["end"], 4)
            s["text"] = m.text(s["ids"])
        windows.append({"seek": seek, "frames": frames, "advance": advance, "rule": rule, **out})
        segments += cuts
        seek += advance
    return {"total_frames": total, "windows": windows, "segments": segments}


# ------------------------------------------------------------------------------ checks against transformers' own loops

def check_generate(m: Model, mel: torch.Tensor, ours: dict, **options) -> None:
    """One window through transformers' generate must give the ids that decode() gave."""
    theirs = m.net.generate(mel, max_new_tokens=ours["limit"], force_unique_generate_call=True, **options)[0].tolist()
    assert theirs[:len(ours["prompt"])] == ours["prompt"], (theirs, ours["prompt"])
    theirs = theirs[len(ours["prompt"]):]
    assert theirs == ours["ids"] + [m.end] * ours["ended"], (theirs, ours["ids"])


def check_long_form(m: Model, samples: np.ndarray, options: dict) -> None:
    """With the whole file's mel, long_form() must give the segments that transformers gives."""
    theirs = m.net.generate(m.file_mel(samples), max_new_tokens=m.c.target_positions // 2, return_timestamps=True,
                            return_segments=True, condition_on_prev_tokens=False, temperature=0.0,
                            **options)["segments"][0]
    ours = long_form(m, samples, whole_file_mel=True)["segments"]
    assert len(ours) == len(theirs), (len(ours), len(theirs))
    for a, b in zip(ours, theirs):
        tokens = b["tokens"].tolist()
        # transformers leaves the second timestamp of a closing pair in the last segment; README.md
        assert a["ids"] == tokens or (a["ids"] == tokens[:-1] and tokens[-1] >= m.timestamp_begin), (a["ids"], tokens)
        assert abs(a["start"] - float(b["start"])) < 1e-3 and abs(a["end"] - float(b["end"])) < 1e-3, (a, b)


def exact(m: Model, samples: np.ndarray, ids: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mel [mels, frames], encoder states [positions, dim], logits [len(ids), vocabulary]) in float64 throughout."""
    padded = np.zeros(m.c.seconds * wc.RATE)
    padded[:len(samples)] = samples[:len(padded)]
    mel = m.extractor._np_extract_fbank_features(padded[None], "cpu")
    m.net.double()
    states = m.encode(torch.from_numpy(mel).double())
    logits = m.logits(states, ids)
    m.net.float()
    return mel[0], states[0].numpy(), logits.numpy()


def error(a: torch.Tensor, b: np.ndarray) -> float:
    return float(f"{np.abs(a.numpy() - b).max():.2g}")


def cut_cases() -> list[dict]:
    """Hand-made windows for cut(), each compared with transformers' own rule. timestamp_begin is 1000, a window begins
    at frame 700 and has 500 frames; in some cases only 321 of them are audio."""
    t = 1000
    cases = [
        ("nothing", [], 500),
        ("text only", [5, 6, 7], 500),
        ("only the first timestamp, zero", [t, 5, 6], 500),
        ("only the first timestamp, not zero", [t + 4, 5, 6], 500),
        ("one timestamp alone", [t + 7], 500),
        ("closed once", [t, 5, 6, t + 90], 500),
        ("a pair at the end", [t, 5, 6, t + 90, t + 90], 500),
        ("a pair, then unfinished text", [t, 5, t + 90, t + 95, 6, 7], 500),
        ("a pair, then a single ending", [t + 3, 5, t + 90, t + 95, 6, 7, t + 200], 500),
        ("two pairs", [t, 5, t + 40, t + 40, 6, t + 81, t + 83], 500),
        ("two pairs, unfinished text", [t, 5, t + 40, t + 40, 6, t + 81, t + 83, 7, 8, 9], 500),
        ("a single ending, short audio", [t, 5, t + 1, t + 2, 6, t + 3], 321),
        ("no pair, short audio", [t, 5, 6], 321),
        ("a pair beyond short audio", [t, 5, t + 240, t + 240], 321),
    ]
    out = []
    for name, ids, frames in cases:
        segments, advance, rule = cut(ids, t, 700, frames)
        theirs, theirs_advance = WhisperForConditionalGeneration._retrieve_segment(
            torch.tensor(ids, dtype=torch.long), [None], torch.tensor([7.0]), t, torch.tensor([frames]), TIME_PRECISION,
            0.01, 2, 0, 0, False, torch.zeros(1, 0)) if ids else (segments, advance)
        assert int(theirs_advance) == advance and len(theirs) == len(segments), name
        for a, b in zip(segments, theirs):
            a["start"], a["end"] = round(a["start"], 4), round(a["end"], 4)
            assert abs(a["start"] - float(b["start"])) < 1e-6 and abs(a["end"] - float(b["end"])) < 1e-6, (name, a, b)
        out.append({"name": name, "seek": 700, "frames": frames, "timestamp_begin": t, "ids": ids, "advance": advance,
                    "rule": rule, "segments": segments})
    return out


# ------------------------------------------------------------------------------------------------------- expectations

@torch.no_grad()
def expectations(m: Model, audio: pathlib.Path) -> tuple[dict, dict]:
    """(what goes into expected.json, arrays for .npy files)."""
    c = m.c
    name = "long.wav" if c.seconds == 30 else "short.wav"
    samples = wc.read_audio(audio / name)
    mel = m.mel(samples)
    states = m.encode(mel)
    mel_step, row_step, rows = (25, 10, 8) if c.seconds == 30 else (5, 2, 14)
    e = {"audio": name, "special_ids": {k: v for k, v in m.ids.items() if v <= m.timestamp_begin}}
    e["mel"] = {"file": "mel.npy", "shape": list(mel.shape[1:]), "every_nth_frame": mel_step}
    e["encoder"] = {"file": "encoder.npy", "shape": list(states.shape[1:]), "every_nth_position": row_step}
    arrays = {"mel": mel[0, :, ::mel_step], "encoder": states[0, ::row_step]}

    start = m.prompt()
    text_ids = m.tokenizer.encode(" How much memory, über, это 今", add_special_tokens=False).ids
    ids = (start + text_ids)[:rows - 2] + [m.timestamp_begin + 77, m.end]
    e["logits"] = {"file": "logits.npy", "ids": ids}
    arrays["logits"] = m.logits(states, ids)
    exact_mel, exact_states, exact_logits = exact(m, samples, ids)
    e["mel"]["fp32_error"] = error(mel[0], exact_mel)
    e["encoder"]["fp32_error"] = error(states[0], exact_states)
    e["logits"]["fp32_error"] = error(arrays["logits"], exact_logits)

    previous = m.whisper_tokenizer.get_prompt_ids(PROMPT_TEXT).tolist()
    ids = previous + m.prompt()
    e["previous"] = {"file": "previous_logits.npy", "text": PROMPT_TEXT, "ids": ids,
                     "rows": [len(ids) - 2, len(ids) - 1]}
    arrays["previous_logits"] = m.logits(states, ids)[-2:]

    known = {"language": "en", "task": "transcribe"} if c.multilingual else {}
    e["greedy"] = decode(m, states, m.prompt(), plain=True)
    e["generate"] = decode(m, states, m.prompt())
    check_generate(m, mel, e["generate"], return_timestamps=False, **known)
    e["generate_timestamps"] = decode(m, states, m.prompt(timestamps=True), timestamps=True)
    check_generate(m, mel, e["generate_timestamps"], return_timestamps=True, **known)
    e["generate_previous"] = decode(m, states, previous + m.prompt())
    check_generate(m, mel, e["generate_previous"], return_timestamps=False, prompt_ids=torch.tensor(previous), **known)
    if c.multilingual:
        probabilities = m.logits(states, start[:1])[0, [m.ids[f"<|{x}|>"] for x in c.languages]].softmax(-1)
        language = c.languages[int(probabilities.argmax())]
        assert m.net.detect_language(mel).item() == m.ids[f"<|{language}|>"]
        e["detect_language"] = {"language": language, "probabilities": {
            x: float(f"{p:.6g}") for x, p in zip(c.languages, probabilities.tolist())}}
        e["generate_detected"] = decode(m, states, m.prompt(language))
        check_generate(m, mel, e["generate_detected"], return_timestamps=False)
        e["translate"] = decode(m, states, m.prompt("en", "translate"))
        check_generate(m, mel, e["translate"], return_timestamps=False, language="en", task="translate")
    samples = wc.read_audio(audio / "long.wav")
    e["long_form"] = {"audio": "long.wav", **long_form(m, samples)}
    check_long_form(m, samples, known)
    return e, {k: v.contiguous().numpy().astype(np.float32) for k, v in arrays.items()}


def report(e: dict) -> str:
    """One line: margins, diversity, endings; for choosing seeds."""
    windows = e["long_form"]["windows"]
    runs = [v for v in e.values() if isinstance(v, dict) and "margin" in v] + windows
    margin = min(min(r["margin"], r.get("rule_margin", 9)) for r in runs)
    distinct = [round(len(set(r["ids"])) / max(1, len(r["ids"])), 1) for r in runs]
    rules = [w["rule"] for w in windows]
    lengths = [len(r["ids"]) for r in runs]
    return f"margin {margin:.4f} distinct {distinct} lengths {lengths} {rules}"


def write_expected(e: dict, arrays: dict, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    lines = []
    for key, value in e.items():
        if key == "long_form":
            inner = ",\n  ".join(f"{json.dumps(k)}: " + (dump_rows(v) if isinstance(v, list) else json.dumps(v))
                                 for k, v in value.items())
            lines.append(f' "{key}": {{\n  {inner}}}')
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    (folder / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def dump_rows(rows: list) -> str:
    return "[\n   " + ",\n   ".join(json.dumps(r, ensure_ascii=False) for r in rows) + "]"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--search", type=int, default=0)
    arguments.add_argument("--first", type=int, default=1)
    arguments.add_argument("--only", default="")
    arguments.add_argument("--out", type=pathlib.Path, default=HERE)
    options = arguments.parse_args()
    out = options.out / "whisper"
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    wc.write_audio(out / "audio")
    (out / "cut_cases.json").write_text(dump_rows(cut_cases()) + "\n")
    for c in wc.CHECKPOINTS:
        if options.only not in c.name:
            continue
        seeds = range(options.first, options.first + options.search) if options.search else [c.seed]
        for seed in seeds:
            folder = out / c.name
            wc.write_model(dataclasses.replace(c, seed=seed), folder / "model")
            e, arrays = expectations(Model(c, folder / "model"), out / "audio")
            print(c.name, "seed", seed, report(e), flush=True)
            if not options.search:
                write_expected(e, arrays, folder / "expected")


if __name__ == "__main__":
    main()
