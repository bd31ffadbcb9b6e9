"""Write the short test recordings of data/samples (held-back sentences, fixed seeds).

    python samples.py --out ../../data/samples

Beside each recording: NAME.txt with its text, one sentence a line, and NAME.tsv with the times,
`start<TAB>end<TAB>text` in seconds.
"""

import argparse
from pathlib import Path

import numpy as np
import soundfile

import synth
from evaluate import long_recording

#       file              seconds  seed  augmentation
FILES = [("two-sentences.wav", 7.0, 11, False),
         ("noisy.flac", 6.0, 12, True),
         ("seven-sentences.flac", 23.0, 13, False)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", required=True)
    out = Path(parser.parse_args().out)
    out.mkdir(parents=True, exist_ok=True)
    for name, seconds, seed, augment in FILES:
        speaker = synth.Speaker([""], seed, split="test", augment=augment)
        if seconds < 10:
            while True:
                item = speaker.window(cut=False, speech_share=1.0)
                if len(item["segments"]) == 2 and item["segments"][-1][1] < seconds and item["segments"][0][0] < 0.6:
                    break
            audio = np.zeros(int(seconds * synth.RATE), np.float32)
            n = min(len(audio), len(item["audio"]))
            audio[:n] = item["audio"][:n]
            item["audio"] = audio
        else:
            item = long_recording(speaker, seconds)
            item["audio"] *= 0.12 / np.abs(item["audio"]).max()      # quiet: a smaller file
        soundfile.write(out / name, item["audio"], synth.RATE, subtype="PCM_16")
        lines = [f"{a:.2f}\t{b:.2f}\t{text}\n" for a, b, text in item["segments"]]
        (out / name).with_suffix(".tsv").write_text("".join(lines))
        (out / name).with_suffix(".txt").write_text("".join(t + "\n" for _, _, t in item["segments"]))
        print(name, f"{len(item['audio']) / synth.RATE:.1f} s", *lines, sep="\n  ")


if __name__ == "__main__":
    main()
