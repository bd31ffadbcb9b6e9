"""Batches for training: windows of synthetic speech -> log-mel features and decoder targets.

Nothing is stored: a worker process synthesizes every batch when it is needed, seeded by
(seed, step), so a resumed run continues with fresh data.
"""

import random

import numpy as np
import torch
from torch.utils.data import IterableDataset
from transformers.audio_utils import mel_filter_bank

import synth
import tokenizer as T

MEL_HOP = 160                       # samples (10 ms)
POSITIONS = 500                     # encoder positions of a full 10 s window
IGNORE = -100


class LogMel:
    """WhisperFeatureExtractor's features (n_fft 400, hop 160, Slaney mel scale up to 8 kHz, log10
    clamped to 8 decades below the window's maximum, (x + 4) / 4), for a batch of clips."""

    def __init__(self):
        bank = mel_filter_bank(num_frequency_bins=201, num_mel_filters=80, min_frequency=0.0,
                               max_frequency=8000.0, sampling_rate=16000, norm="slaney", mel_scale="slaney")
        self.bank = torch.from_numpy(bank.T.astype(np.float32)).contiguous()
        self.window = torch.hann_window(400)

    def __call__(self, audio):
        """audio: float32 (batch, samples), zero padded; returns (batch, 80, samples / 160)."""
        power = torch.stft(audio, 400, MEL_HOP, window=self.window, return_complex=True)[..., :-1].abs() ** 2
        log = torch.clamp(self.bank @ power, min=1e-10).log10()
        log = torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8.0)
        return (log + 4.0) / 4.0


def stamp(seconds):
    """Timestamp token of a time in seconds."""
    return T.TIME0 + min(max(round(seconds / 0.02), 0), 500)


class Targets:
    """Decoder inputs and targets of a window, in Whisper's conventions."""

    def __init__(self, tok, rng):
        self.tok, self.rng, self.cache = tok, rng, {}

    def text(self, written):
        return self.tok.encode(" " + written, add_special_tokens=False)

    def __call__(self, segments, timestamps, offset_s=0.0, previous=None):
        """segments: [(start_s, end_s or None if the window's end cuts it, written)]. Returns
        (inputs, targets, places): targets aligned to the next token, IGNORE where there is no loss;
        places: encoder position at which the target is about to be heard, -1 where unknown."""
        head = [T.SOT, T.EN, T.TRANSCRIBE] + ([] if timestamps else [T.NOTIMESTAMPS])
        body, places = [], []
        for start, end, written in segments:
            if timestamps:
                body.append(stamp(start + offset_s))
                places.append(start * 50)
            if end is None:
                continue
            ids = self.text(written)
            body += ids
            # a token's time in proportion to its letters; a digit counts as four
            sizes = np.array([sum(4 if c.isdigit() else 1 for c in self.tok.decode([i])) for i in ids])
            middle = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
            places += list(50 * (start + middle * (end - start)))
            if timestamps:
                body.append(stamp(end + offset_s))
                places.append(end * 50)
        if segments:
            inputs = head + body
            targets = [T.EN] + [IGNORE] * (len(head) - 2) + body + [T.EOT]
            places = [-1] * (len(head) - 1) + places + [-1]
        else:
            # no speech: <|nospeech|> at the first position, then nothing. Decoders that suppress
            # an immediate end emit a timestamp or <|nospeech|>, after which the end must follow.
            forced = stamp(self.rng.uniform(0, 1)) if timestamps else T.NOSPEECH
            inputs = head + [forced]
            targets = [T.NOSPEECH] + [IGNORE] * (len(head) - 2) + [T.EOT, T.EOT]
            places = [-1] * len(targets)
        if previous:
            prefix = [T.STARTOFPREV] + self.text(previous)
            inputs = prefix + inputs
            targets = [IGNORE] * len(prefix) + targets
            places = [-1] * len(prefix) + places
        return inputs, targets, places


def stage(progress, curriculum):
    """Curriculum by progress 0..1: kind of window and its length in seconds."""
    if progress < curriculum[0]:
        return "clip", 0.0
    if progress < curriculum[1]:
        return "window", 5.6
    return "window", 10.0


class Stream(IterableDataset):
    """Endless batches; `progress` is a shared double that the trainer updates."""

    def __init__(self, tok, phones, seed, progress, batch_s, curriculum):
        self.tok, self.phones, self.seed = tok, phones, seed
        self.progress, self.batch_s, self.curriculum = progress, batch_s, curriculum

    def __iter__(self):
        torch.set_num_threads(1)
        self.rng = random.Random(self.seed)
        self.targets = Targets(self.tok, self.rng)
        self.mel = LogMel()
        self.speaker = synth.Speaker(self.phones, self.seed, replay=0.5)
        while True:
            kind, length = stage(self.progress.value, self.curriculum)
            if kind == "clip":
                pool = sorted((self.speaker.clip() for _ in range(128)), key=lambda w: len(w["audio"]))
                batches, batch = [], []
                for w in pool:
                    if batch and (len(batch) + 1) * len(w["audio"]) > self.batch_s * synth.RATE:
                        batches.append(batch)
                        batch = []
                    batch.append(w)
                self.rng.shuffle(batches)
                for batch in batches:
                    yield self.collate(batch)
            elif length < synth.WINDOW_S:
                # crops: their place within the 10 s is random; at the very end sentences may be cut
                cut = self.rng.random() < 0.3
                batch = [self.speaker.window(length, cut) for _ in range(int(self.batch_s / length))]
                yield self.collate(batch, "end" if cut else "any")
            else:
                yield self.collate([self.speaker.window() for _ in range(int(self.batch_s / length))], "full")

    def collate(self, batch, place="any"):
        rng = self.rng
        samples = max(len(w["audio"]) for w in batch) if place in ("any",) else max(
            len(w["phones"]) for w in batch) * synth.FRAME
        frames = POSITIONS if place == "full" else min(POSITIONS, -(-samples // synth.FRAME))
        offset = 0
        if place == "end":
            offset = POSITIONS - frames
        elif place == "any" and rng.random() < 0.8:
            offset = rng.randint(0, POSITIONS - frames)
        audio = np.zeros((len(batch), frames * synth.FRAME), np.float32)
        phones = np.zeros((len(batch), frames), np.int64)
        rows = []
        for i, w in enumerate(batch):
            n = min(len(w["audio"]), audio.shape[1])
            audio[i, :n] = w["audio"][:n]
            n = min(len(w["phones"]), frames)
            phones[i, :n] = w["phones"][:n]
            previous = self.speaker.sentence_text() if rng.random() < 0.08 else None
            rows.append(self.targets(w["segments"], rng.random() < 0.77, offset * 0.02, previous))
        length = max(len(r[0]) for r in rows)
        inputs = torch.full((len(rows), length), T.EOT)
        targets = torch.full((len(rows), length), IGNORE)
        places = torch.full((len(rows), length), -1.0)
        for i, (a, b, c) in enumerate(rows):
            places[i, :len(c)] = torch.tensor(c)
            inputs[i, :len(a)] = torch.tensor(a)
            targets[i, :len(b)] = torch.tensor(b)
        return {"mel": self.mel(torch.from_numpy(audio)), "phones": torch.from_numpy(phones),
                "inputs": inputs, "targets": targets, "places": places, "offset": offset,
                "sentences": sum(len(w["segments"]) for w in batch), "seconds": len(batch) * frames * 0.02}
