"""Synthetic sounds of nine classes (dialogues.CLASSES without speech), made of numpy alone; peaks and lengths vary.

    python sounds.py --out DIR        # one WAV of each class
"""

import argparse
from pathlib import Path

import numpy as np

RATE = 16000


def harmonics(rng, t, base, count, roll):
    phases = rng.uniform(0, 2 * np.pi, count)
    return sum(np.sin(2 * np.pi * base * k * t + phases[k - 1]) / k ** roll for k in range(1, count + 1) if base * k < 7800)


def silence(rng, t):
    return 10 ** rng.uniform(-5.0, -3.2) * rng.standard_normal(len(t))


def tone(rng, t):
    return np.sin(2 * np.pi * np.exp(rng.uniform(np.log(200), np.log(4000))) * t)


def chirp(rng, t):
    """A frequency that rises or falls steadily, once or again and again."""
    low, high = rng.uniform(200, 800), rng.uniform(1500, 5000)
    period = t[-1] if rng.random() < 0.5 else rng.uniform(0.3, 0.8)
    phase = (t % period) / period
    frequency = low + (high - low) * (phase if rng.random() < 0.5 else 1 - phase)
    return np.sin(2 * np.pi * np.cumsum(frequency) / RATE)


def noise(rng, t):
    spectrum = np.fft.rfft(rng.standard_normal(len(t)))
    f = np.maximum(np.arange(len(spectrum)) * RATE / len(t), 50)
    return np.fft.irfft(spectrum / f ** rng.choice((0.0, 0.5)), len(t))


def clicks(rng, t):
    x = np.zeros(len(t))
    gap = rng.uniform(0.08, 0.4)
    for at in np.arange(rng.uniform(0, gap), t[-1] - 0.02, gap):
        i = int((at + rng.uniform(-0.1, 0.1) * gap * rng.integers(2)) * RATE)
        n = int(rng.integers(16, 96))
        if 0 <= i < len(t) - n:
            x[i:i + n] = rng.standard_normal(n) * np.exp(-np.arange(n) / (n / 4))
    return x


def buzzer(rng, t):
    """A square wave, whole or in bursts."""
    x = np.sign(np.sin(2 * np.pi * rng.uniform(90, 500) * t))
    return x * (np.sin(2 * np.pi * rng.uniform(1, 4) * t) > -0.3) if rng.random() < 0.5 else x


def bell(rng, t):
    """Struck partials that die away, one or several strokes."""
    x = np.zeros(len(t))
    base, gap = rng.uniform(300, 1200), rng.uniform(0.5, 1.5)
    partials = np.array((1.0, 2.0, 2.4, 3.0, 4.5, 5.3)) * rng.uniform(0.99, 1.01, 6)
    for at in np.arange(rng.uniform(0, 0.2), t[-1] - 0.2, gap):
        s = t[int(at * RATE):] - at
        for k, p in enumerate(partials):
            x[-len(s):] += np.sin(2 * np.pi * base * p * s) * np.exp(-s * (2 + 1.5 * k)) / (1 + k)
    return x


def siren(rng, t):
    """A frequency that swings to and fro, or two tones in turn."""
    middle, swing, speed = rng.uniform(600, 1200), rng.uniform(0.2, 0.4), rng.uniform(0.4, 2.0)
    wave = np.sin(2 * np.pi * speed * t)
    if rng.random() < 0.4:
        wave = np.sign(wave)
    phase = 2 * np.pi * np.cumsum(middle * (1 + swing * wave)) / RATE
    return np.sin(phase) + 0.3 * np.sin(2 * phase)


def engine(rng, t):
    """A low buzz whose loudness beats with its turns, and some noise."""
    turns = rng.uniform(8, 30)
    beat = 0.5 + 0.5 * np.abs(np.sin(np.pi * turns * t)) ** rng.uniform(2, 6)
    return beat * (harmonics(rng, t, rng.uniform(30, 90), 12, 0.7) + 0.5 * rng.standard_normal(len(t)))


def make(name, rng, seconds=None):
    """float32 samples of the class: 1 to 4 s, peaks of -1 to -22 dBFS, now and then a little noise."""
    t = np.arange(int(RATE * (seconds or rng.uniform(1.0, 4.0)))) / RATE
    x = globals()[name](rng, t)
    if name == "silence":
        return x.astype(np.float32)
    x = x / np.abs(x).max()
    if rng.random() < 0.4:
        x = x + 10 ** rng.uniform(-3.0, -1.5) * rng.standard_normal(len(t))
    return (x / np.abs(x).max() * 10 ** (-rng.uniform(1, 22) / 20)).astype(np.float32)


def main():
    from scipy.io import wavfile

    import dialogues
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(dialogues.CLASSES[:-1]):
        wavfile.write(out / f"{name}.wav", RATE, (make(name, np.random.default_rng(i), 2.0) * 32767).astype(np.int16))


if __name__ == "__main__":
    main()
