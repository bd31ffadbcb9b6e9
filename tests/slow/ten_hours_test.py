#!/usr/bin/env python3
"""Ten hours of audio peak where ten seconds do (within 4 MiB), and the plan is kept: a sample repeated to 36,000 s, transcribed by
the shipped model. HOURS=0.5 shortens it."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import wave

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOTTO = ROOT / "build/release/sotto"
MODEL = ROOT / "models/demo-asr"


def repeat(source: pathlib.Path, target: str, seconds: float) -> None:
    """Writes 16 kHz mono PCM16 of `seconds`, the source again and again with half a second of pause."""
    with wave.open(str(source)) as w:
        assert (w.getframerate(), w.getnchannels(), w.getsampwidth()) == (16000, 1, 2), source
        block = w.readframes(w.getnframes()) + bytes(16000)
    left = int(seconds * 16000) * 2
    with wave.open(target, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        while left > 0:
            out.writeframesraw(block[:left])
            left -= len(block)


def transcribe(audio: str, out: str) -> dict:
    run = subprocess.run([SOTTO, "transcribe", MODEL, audio, "--memory", "64MiB", "--json", "-o", out, "--format", "srt"],
                         capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"exit {run.returncode}: {run.stderr}{run.stdout[:500]}")
    return json.loads(run.stdout)


def main() -> None:
    samples = sorted((ROOT / "data/samples").glob("*.wav"))
    if not SOTTO.exists() or not MODEL.exists() or not samples:
        print("SKIP: needs build/release/sotto, models/demo-asr and data/samples/*.wav")
        return
    hours = float(os.environ.get("HOURS", "10"))
    with tempfile.TemporaryDirectory() as folder:
        peaks = {}
        for name, seconds in (("short", 10.0), ("long", hours * 3600)):
            audio = f"{folder}/{name}.wav"
            repeat(samples[0], audio, seconds)
            document = transcribe(audio, folder)
            peaks[name] = document["ledger"]["peak_bytes"]
            assert peaks[name] <= document["ledger"]["planned_bytes"], document["ledger"]
            print(f"{seconds:9.0f} s: peak {peaks[name]} of {document['ledger']['planned_bytes']} planned, "
                  f"{document['files'][0]['segments']} segments", flush=True)
        assert peaks["long"] <= peaks["short"] + (4 << 20), peaks


if __name__ == "__main__":
    main()
