"""Word error rates and timestamp errors of an exported model, with transformers' greedy decoding.

    python evaluate.py --model models/demo-asr [--sets mix,clean,voices] [--sentences 300]
    python evaluate.py --list mix          # the reference texts of a set
    python evaluate.py --model ... --json  # one JSON object a set

Sets, all made of held-back sentences (corpus.in_test), regenerated from fixed seeds:
  mix       windows of 10 s, 1 to 3 whole sentences, trained voices, noise and room as in training;
            decoded with timestamps
  plain     the same windows, decoded with <|notimestamps|>
  clean     without noise or room, trained voices, with timestamps
  voices    as mix, voices (base or variant) that were never trained
  short     one sentence of 1.5 to 5 s, as mix
  long      recordings of 30 to 40 s, sentences cut by the window's end, sequential decoding
  silence   windows without speech: how many transcripts are not empty (with, without timestamps);
            probability of <|nospeech|> at the first position there, and for 20 windows of `mix`
Word error rate: (substitutions + deletions + insertions) / reference words over the whole set,
after corpus.normalise. Times: mean absolute difference to the synthesizer's, over windows whose
number of segments is right. Sentences and seeds are fixed; espeak-ng 1.51 was used.
"""

import argparse
import json
import time

import jiwer
import numpy as np
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

import corpus
import synth

SETS = ("mix", "plain", "clean", "voices", "short", "long", "silence")
SEEDS = {"mix": 101, "plain": 101, "clean": 102, "voices": 103, "short": 104, "long": 105, "silence": 106}


def long_recording(speaker, seconds=32.0):
    """Sentences with pauses of 0.3 to 2 s until `seconds` are full."""
    pieces, segments, at, who = [], [], 0, speaker.voice()
    while at < seconds * synth.RATE:
        pause = speaker.gap()
        written, audio, _ = speaker.sentence(who)
        pieces += [np.zeros(pause, np.float32), audio]
        segments.append(((at + pause) / synth.RATE, (at + pause + len(audio)) / synth.RATE, written))
        at += pause + len(audio)
    pieces.append(np.zeros(synth.RATE // 2, np.float32))
    return {"audio": speaker.degrade(np.concatenate(pieces)), "segments": segments}


def make(name, sentences):
    """The windows of a set: [{audio, segments}] with about `sentences` sentences."""
    speaker = synth.Speaker([""], SEEDS[name], split="test", held_voices=name == "voices")
    items, count = [], 0
    while count < (sentences if name != "silence" else 40):
        if name == "silence":
            item = speaker.window(speech_share=0.0)
        elif name == "short":
            item = speaker.clip()
        elif name == "long":
            item = long_recording(speaker)
        else:
            item = speaker.window(cut=False, clean=name == "clean", speech_share=1.0)
        items.append(item)
        count += max(1, len(item["segments"]))
    return items


class Decoder:
    """Greedy decoding of windows; returns token ids without prompt and specials."""

    def __init__(self, path):
        self.processor = WhisperProcessor.from_pretrained(path)
        self.model = WhisperForConditionalGeneration.from_pretrained(path, dtype=torch.float32).eval()
        self.config = self.model.generation_config
        self.time0 = self.config.no_timestamps_token_id + 1

    def text(self, ids):
        return self.processor.tokenizer.decode([i for i in ids if i < self.config.eos_token_id])

    def segments(self, ids):
        """[(start_s, end_s or None, text)] of a decoded window."""
        result, start, words = [], None, []
        for i in ids:
            if i >= self.time0:
                if words:
                    result.append((start, (i - self.time0) * 0.02, self.text(words)))
                    start, words = None, []
                else:
                    start = (i - self.time0) * 0.02
            elif i < self.config.eos_token_id:
                words.append(i)
        return result + ([(start, None, self.text(words))] if words else [])

    @torch.no_grad()
    def windows(self, audios, timestamps, batch=16):
        ids = []
        for i in range(0, len(audios), batch):
            features = self.processor.feature_extractor(
                audios[i:i + batch], sampling_rate=16000, return_tensors="pt").input_features
            out = self.model.generate(features, language="en", task="transcribe", return_timestamps=timestamps,
                                      num_beams=1, do_sample=False)
            ids += out.tolist()
        return ids

    @torch.no_grad()
    def nospeech(self, audios):
        """Probability of <|nospeech|> after <|startoftranscript|>."""
        features = self.processor.feature_extractor(audios, sampling_rate=16000, return_tensors="pt").input_features
        start = torch.full((len(audios), 1), self.config.decoder_start_token_id)
        logits = self.model(features, decoder_input_ids=start).logits[:, 0]
        return logits.softmax(-1)[:, self.config.no_timestamps_token_id - 1]

    @torch.no_grad()
    def long(self, audio):
        inputs = self.processor.feature_extractor(audio, sampling_rate=16000, return_tensors="pt", truncation=False,
                                                  padding="longest", return_attention_mask=True)
        out = self.model.generate(inputs.input_features, attention_mask=inputs.attention_mask, language="en",
                                  task="transcribe", return_timestamps=True, return_segments=True,
                                  num_beams=1, do_sample=False)
        return " ".join(self.text(s["tokens"].tolist()) for s in out["segments"][0])


def score(references, hypotheses):
    """Corpus word error rate and its counts."""
    out = jiwer.process_words([corpus.normalise(r) for r in references], [corpus.normalise(h) for h in hypotheses])
    words = out.hits + out.substitutions + out.deletions
    return {"wer_percent": round(100 * out.wer, 2), "words": words, "substitutions": out.substitutions,
            "deletions": out.deletions, "insertions": out.insertions}


def evaluate(decoder, name, sentences, show=0):
    items = make(name, sentences)
    result = {"set": name, "recordings": len(items), "sentences": sum(len(i["segments"]) for i in items)}
    audios = [i["audio"] for i in items]
    if name == "silence":
        for mode in (True, False):
            texts = [decoder.text(ids).strip() for ids in decoder.windows(audios, mode)]
            result["not_empty_" + ("timestamps" if mode else "plain")] = sum(bool(t) for t in texts)
        speech = [i["audio"] for i in make("mix", 40)][:20]
        result["nospeech_min_in_silence"] = round(decoder.nospeech(audios).min().item(), 3)
        result["nospeech_max_in_speech"] = round(decoder.nospeech(speech).max().item(), 3)
        return result
    references = [" ".join(t for _, _, t in i["segments"]) for i in items]
    if name == "long":
        hypotheses = [decoder.long(a) for a in audios]
    else:
        ids = decoder.windows(audios, name != "plain")
        hypotheses = [decoder.text(i) for i in ids]
        if name != "plain":
            errors, right = [], 0
            for item, tokens in zip(items, ids):
                found = decoder.segments(tokens)
                if len(found) == len(item["segments"]):
                    right += 1
                    for (a, b, _), (c, d, _) in zip(item["segments"], found):
                        errors += [abs(a - c)] if c is not None else []
                        errors += [abs(b - d)] if d is not None else []
            result["segment_count_right"] = right
            result["time_error_s"] = round(float(np.mean(errors)), 3) if errors else None
            result["time_error_median_s"] = round(float(np.median(errors)), 3) if errors else None
    result.update(score(references, hypotheses))
    exact = sum(corpus.normalise(r) == corpus.normalise(h) for r, h in zip(references, hypotheses))
    result["recordings_without_error"] = exact
    for r, h in list(zip(references, hypotheses))[:show]:
        print(f"  ref {r}\n  hyp {h.strip()}")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--sentences", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show", type=int, default=0, help="print that many transcripts of a set")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--list", choices=SETS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.list:
        for i, item in enumerate(make(args.list, args.sentences)):
            print(i, f"{len(item['audio']) / synth.RATE:.2f}", " ".join(t for _, _, t in item["segments"]), sep="\t")
        return
    decoder = Decoder(args.model)
    for name in args.sets.split(","):
        begin = time.time()
        result = evaluate(decoder, name, args.sentences, args.show)
        result["seconds"] = round(time.time() - begin, 1)
        print(json.dumps(result) if args.json else "  ".join(f"{k} {v}" for k, v in result.items()), flush=True)


if __name__ == "__main__":
    main()
