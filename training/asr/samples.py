"""Write the short test recordings of data/samples (held-back sentences, fixed seeds).

    python samples.py --out ../../data/samples

Each recording has a .txt beside it: one sentence a line, `start<TAB>end<TAB>text`, seconds.
"""

import argparse
from pathlib import Path

import numpy as np
import soundfile

import synth
from evaluate import long_recording

#       file              seconds  seed  augmentation
FILES = [("two-sentences.wav", 7.0, 11, False),
         ("noisy.wav", 6.0, 12, True),
         ("six-sentences.flac", 23.0, 13, True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", required=True)
    out = Path(parser.parse_args().out)
    out.mkdir(parents=True, exist_ok=True)
    for name, seconds, seed, augment in FILES:
        speaker = synth.Speaker(synth.phone_inventory(), seed, split="test", augment=augment)
        if seconds < 10:
            while True:
                item = speaker.window(cut=False, speech_share=1.0)
                if len(item["segments"]) == 2 and item["segments"][-1][1] < seconds and item["segments"][0][0] < 0.6:
                    break
            item["audio"] = np.resize(item["audio"], int(seconds * synth.RATE))
        else:
            item = long_recording(speaker, seconds)
        soundfile.write(out / name, item["audio"], synth.RATE, subtype="PCM_16")
        lines = [f"{a:.2f}\t{b:.2f}\t{text}\n" for a, b, text in item["segments"]]
        (out / name).with_suffix(".txt").write_text("".join(lines))
        print(name, f"{len(item['audio']) / synth.RATE:.1f} s", *lines, sep="\n  ")


if __name__ == "__main__":
    main()
