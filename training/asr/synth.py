"""Speech synthesis with espeak-ng, augmentation, and assembly of training windows.

espeak-ng (GPL-3.0, Debian package libespeak-ng1) is called through its C interface (speak_lib.h)
and used as a tool only. Its phoneme events give the time of every phoneme, which becomes a
frame-level target of an auxiliary loss (train.py). Units: samples at 16 kHz, frames of 20 ms (one
encoder position), seconds where a name ends in `_s`.
"""

import ctypes as C
import random

import numpy as np
from scipy import fft, signal

import corpus

RATE = 16000
FRAME = 320                    # samples per encoder position: 2 mel hops of 160
WINDOW_S = 10.0
WINDOW = int(WINDOW_S * RATE)

BASES = ["en-us", "en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbclan",
         "en-us-nyc"]
VARIANTS = ["", "m1", "m2", "m3", "m5", "m6", "m7", "f1", "f2", "f4", "f5", "klatt", "klatt2",
            "klatt4", "Andy", "Alicia", "steph", "Mario", "norbert", "Gene", "Michael"]
HELD_BASES = ["en-gb-x-gbcwmd"]                       # West Midlands, never trained
HELD_VARIANTS = ["m4", "f3", "klatt3", "Annie", "Alex"]   # never trained
SPEEDS = (0.9, 0.95, 1.0, 1.05, 1.1)                  # resampling factors (pitch and tempo)

EVENT_END, EVENT_PHONEME = 0, 7


class _Id(C.Union):
    _fields_ = [("number", C.c_int), ("name", C.c_char_p), ("string", C.c_char * 8)]


class _Event(C.Structure):                            # espeak_EVENT of speak_lib.h
    _fields_ = [("type", C.c_int), ("unique_identifier", C.c_uint), ("text_position", C.c_int),
                ("length", C.c_int), ("audio_position", C.c_int), ("sample", C.c_int),
                ("user_data", C.c_void_p), ("id", _Id)]


_CALLBACK = C.CFUNCTYPE(C.c_int, C.POINTER(C.c_short), C.c_int, C.POINTER(_Event))


class Espeak:
    """In-process synthesizer: text -> (float32 samples at 22,050 Hz, [(phoneme, sample)])."""

    def __init__(self):
        self.lib = C.CDLL("libespeak-ng.so.1")
        # AUDIO_OUTPUT_SYNCHRONOUS = 2, espeakINITIALIZE_PHONEME_EVENTS = 1
        self.rate = self.lib.espeak_Initialize(2, 0, None, 1)
        self.pieces, self.events = [], []
        self.callback = _CALLBACK(self._receive)
        self.lib.espeak_SetSynthCallback(self.callback)

    def _receive(self, wav, count, events):
        if wav and count > 0:
            self.pieces.append(np.ctypeslib.as_array(wav, (count,)).copy())
        i = 0
        while events[i].type != EVENT_END:
            if events[i].type == EVENT_PHONEME:
                name = events[i].id.string.decode("latin-1")
                self.events.append((name, events[i].sample))
            i += 1
        return 0

    def say(self, text, voice, wpm=165, pitch=50, pitch_range=50):
        self.pieces, self.events = [], []
        if self.lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError("unknown voice " + voice)
        for parameter, value in ((1, wpm), (3, pitch), (4, pitch_range)):
            self.lib.espeak_SetParameter(parameter, value, 0)
        data = text.encode() + b"\0"
        self.lib.espeak_Synth(data, len(data), 0, 1, 0, 1, None, None)
        return np.concatenate(self.pieces).astype(np.float32) / 32768.0, self.events


def phone_class(name):
    """Phoneme mnemonics folded to fewer classes: the first two characters, pauses to silence."""
    return "" if not name or name.startswith("_") else name[:2]


def pick_voice(rng, held=False):
    if not held:
        base, variant = rng.choice(BASES), rng.choice(VARIANTS)
    elif rng.random() < 0.4:
        base, variant = rng.choice(HELD_BASES), rng.choice(VARIANTS + HELD_VARIANTS)
    else:
        base, variant = rng.choice(BASES + HELD_BASES), rng.choice(HELD_VARIANTS)
    return base + ("+" + variant if variant else "")


class Speaker:
    """Synthesizes grammar sentences in random voices; audio at 16 kHz with 20 ms phone labels."""

    def __init__(self, phones, seed, split="train", held_voices=False, augment=True, replay=0.0):
        """replay: share of the single-sentence clips whose clean speech was heard before (with
        other noise, room and pauses); synthesis is most of a clip's cost."""
        self.espeak = Espeak()
        self.phones = {p: i for i, p in enumerate(phones)}
        self.rng = random.Random(seed)
        self.np_rng = np.random.default_rng(seed)
        self.split, self.held, self.augment = split, held_voices, augment
        self.replay, self.heard = replay, []
        self.filters = {}
        self.noises = [self._coloured(exponent) for exponent in (0.0, 0.5, 1.0)]

    def _coloured(self, exponent):
        """20 s of noise with amplitude spectrum 1/f^exponent (white, pink, brown), RMS 1."""
        n = 20 * RATE
        spectrum = fft.rfft(self.np_rng.standard_normal(n).astype(np.float32))
        f = np.maximum(np.arange(len(spectrum), dtype=np.float32) * RATE / n, 20.0)
        x = fft.irfft(spectrum / f ** exponent, n).astype(np.float32)
        return x / np.sqrt(np.mean(x * x))

    def voice(self):
        """Random speaker settings for one window."""
        rng = self.rng
        return {"voice": pick_voice(rng, self.held), "wpm": rng.randint(130, 200),
                "pitch": rng.randint(30, 70), "range": rng.randint(25, 75),
                "speed": rng.choice(SPEEDS)}

    def sentence(self, who):
        """One sentence: (written, samples, phone labels per 20 ms)."""
        written, spoken = corpus.sentence(self.rng, self.split)
        return (written, *self.say(spoken, who))

    def sentence_text(self):
        return corpus.sentence(self.rng, self.split)[0]

    def say(self, spoken, who):
        """Audio of `spoken`, trimmed, peak 1, and its phone labels."""
        wave, events = self.espeak.say(spoken, who["voice"], who["wpm"], who["pitch"], who["range"])
        up, down = 320, round(441 * who["speed"])            # 22,050 Hz -> 16 kHz, faster or slower
        if (up, down) not in self.filters:
            self.filters[up, down] = signal.firwin(
                2 * 10 * max(up, down) + 1, 1.0 / max(up, down), window=("kaiser", 5.0)).astype(np.float32)
        audio = signal.resample_poly(wave, up, down, window=self.filters[up, down]).astype(np.float32)
        loud = np.flatnonzero(np.abs(audio) > 0.015 * np.abs(audio).max())
        first, last = loud[0], loud[-1] + 1                  # trim espeak's own silence
        audio = audio[first:last]
        labels = np.zeros(len(audio) // FRAME + 1, np.int64)
        starts = [(round((s * up / down - first) / FRAME), phone_class(n)) for n, s in events]
        for (a, name), (b, _) in zip(starts, starts[1:] + [(len(labels), "")]):
            labels[max(a, 0):max(b, 0)] = self.phones.get(name, 0)
        return audio / (np.abs(audio).max() + 1e-9), labels

    # ---- augmentation -------------------------------------------------------------------------

    def room(self, audio):
        """Synthetic room: direct path plus exponentially decaying noise (T60 0.1 to 0.5 s)."""
        t60 = self.rng.uniform(0.1, 0.5)
        n = int(t60 * RATE)
        delay = self.rng.randint(8, 160)
        tail = self.np_rng.standard_normal(n).astype(np.float32)
        tail *= np.exp(-6.9 * np.arange(n, dtype=np.float32) / n)
        tail *= self.rng.uniform(0.1, 0.7) / np.sqrt(np.sum(tail * tail))
        rir = np.concatenate([[1.0], np.zeros(delay), tail]).astype(np.float32)
        return signal.fftconvolve(audio, rir)[:len(audio)].astype(np.float32)

    def noise(self, n):
        """Noise of RMS 1: white, pink or brown, sometimes with a mains hum."""
        rng = self.rng
        source = rng.choice(self.noises)
        start = rng.randint(0, max(0, len(source) - n))
        x = np.resize(source[start:], n) if n > len(source) else source[start:start + n].copy()
        if rng.random() < 0.25:
            t = np.arange(n, dtype=np.float32) / RATE
            f0 = rng.choice((50.0, 60.0)) * rng.uniform(0.99, 1.01)
            hum = sum(rng.uniform(0.2, 1.0) / k * np.sin(2 * np.pi * k * f0 * t) for k in (1, 2, 3, 5))
            x += rng.uniform(0.3, 2.0) * hum.astype(np.float32)
        return x / (np.sqrt(np.mean(x * x)) + 1e-9)

    def degrade(self, audio, clean=False):
        """Room, noise at 5 to 35 dB SNR, gain. `audio` has peaks near 1 where there is speech."""
        rng = self.rng
        if self.augment and not clean:
            if rng.random() < 0.3:
                audio = self.room(audio)
            if rng.random() < 0.6:
                snr = rng.uniform(5.0, 35.0)
                speech = audio[np.abs(audio) > 0.02]
                power = np.mean(speech * speech) if len(speech) else 0.02
                audio = audio + np.sqrt(power / 10 ** (snr / 10)) * self.noise(len(audio))
        peak = 10 ** (-rng.uniform(1.0, 22.0) / 20)
        return (audio * (peak / max(np.abs(audio).max(), 1e-6))).astype(np.float32)

    def silence(self, n):
        """A window without speech: digital silence, faint or loud noise, or clicks."""
        rng, kind = self.rng, self.rng.random()
        if kind < 0.15:
            return np.zeros(n, np.float32)
        x = self.noise(n) * 10 ** (-rng.uniform(15.0, 75.0) / 20)
        if kind > 0.8:
            for _ in range(rng.randint(1, 8)):
                at, length = rng.randint(0, n - 400), rng.randint(20, 400)
                x[at:at + length] += rng.uniform(0.05, 0.5) * self.np_rng.standard_normal(length)
        return np.clip(x, -1, 1).astype(np.float32)

    # ---- windows ------------------------------------------------------------------------------

    def gap(self):
        """A pause between sentences, in samples (0.2 to 2 s)."""
        return int(RATE * (self.rng.uniform(0.2, 1.0) if self.rng.random() < 0.8 else self.rng.uniform(1.0, 2.0)))

    def lead(self):
        """The pause at the start of a window, in samples."""
        kind = self.rng.random()
        low, high = (0.0, 0.1) if kind < 0.3 else (0.1, 1.0) if kind < 0.85 else (1.0, 4.0)
        return int(RATE * self.rng.uniform(low, high))

    def clip(self):
        """A short clip with one whole sentence: dict(audio, phones, segments)."""
        if len(self.heard) >= 512 and self.rng.random() < self.replay:
            written, audio, labels = self.rng.choice(self.heard)
        else:
            written, audio, labels = spoken = self.sentence(self.voice())
            if self.replay:
                self.heard.append(spoken)
                self.heard = self.heard[-6000:]
        lead = int(RATE * self.rng.uniform(0.0, 0.4)) // FRAME * FRAME
        trail = int(RATE * self.rng.uniform(0.05, 0.4))
        padded = np.concatenate([np.zeros(lead, np.float32), audio, np.zeros(trail, np.float32)])
        phones = np.concatenate([np.zeros(lead // FRAME, np.int64), labels])
        segments = [(lead / RATE, (lead + len(audio)) / RATE, written)]
        return {"audio": self.degrade(padded), "phones": phones, "segments": segments}

    def window(self, limit_s=WINDOW_S, cut=True, clean=False, speech_share=0.95):
        """A window of at most limit_s. A sentence that its end cuts has end None; with cut=False
        only whole sentences are used."""
        rng, limit = self.rng, int(limit_s * RATE)
        if rng.random() > speech_share:
            return {"audio": self.silence(limit), "phones": np.zeros(limit // FRAME, np.int64), "segments": []}
        audio = np.zeros(limit, np.float32)
        phones = np.zeros(limit // FRAME, np.int64)
        segments, who = [], self.voice()
        at = self.lead() if limit_s > 6 else min(self.lead(), RATE)
        if at > RATE // 8 and rng.random() < 0.1:            # the tail of an earlier sentence
            _, other, _ = self.sentence(who)
            n = rng.randint(RATE // 50, RATE // 8)
            audio[:n] = other[-n:]
        stop_after = rng.randint(1, 3) if not cut or rng.random() < 0.3 else 99
        end_of_sound = 0
        while at < limit - RATE // 4 and len(segments) < stop_after:
            if rng.random() < 0.1:
                who = self.voice()
            written, speech, labels = self.sentence(who)
            end = at + len(speech)
            if end > limit and not cut:
                if segments:
                    break
                who["wpm"] = 190
                at = min(at, FRAME * 5)
                if len(speech) > limit - at:
                    continue
                end = at + len(speech)
            n = min(end, limit) - at
            audio[at:at + n] += speech[:n] * rng.uniform(0.6, 1.0)
            f = round(at / FRAME)
            phones[f:f + len(labels)] = labels[:max(0, len(phones) - f)]
            segments.append((at / RATE, end / RATE if end <= limit else None, written))
            end_of_sound = min(end, limit)
            at = end + self.gap()
        if stop_after < 99:                                   # the recording may end early
            keep = min(limit, end_of_sound + int(RATE * rng.uniform(0.02, 1.5)))
            if rng.random() < 0.6:
                audio = audio[:keep]
        return {"audio": self.degrade(audio, clean), "phones": phones, "segments": segments}


def phone_inventory(sentences=600, seed=1):
    """Phoneme classes seen over all training voices; class 0 is silence."""
    espeak, rng, found = Espeak(), random.Random(seed), set()
    for _ in range(sentences):
        _, events = espeak.say(corpus.sentence(rng)[1], pick_voice(rng))
        found.update(phone_class(name) for name, _ in events)
    return [""] + sorted(found - {""})


if __name__ == "__main__":
    import time
    inventory = phone_inventory()
    print(len(inventory), "phone classes:", inventory)
    speaker = Speaker(inventory, 0)
    for make in (speaker.clip, speaker.window):
        t, seconds = time.time(), 0.0
        for _ in range(100):
            seconds += len(make()["audio"]) / RATE
        print(f"{make.__name__}: {seconds / 100:.2f} s of audio each, {10 * (time.time() - t):.1f} ms each")
