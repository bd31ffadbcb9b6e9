"""What demo-asr's encoder makes of speech and sounds, kept on disk: the encoder is frozen, so each clip is encoded once.

    python hear.py --out DIR --shards 40 [--encoder ../../models/demo-asr]        # resumable

A shard holds 256 clips: 60 % one sentence, 10 % up to three, 30 % sounds; `states` (fp16, all clips in one), `lengths`, `texts` and
`names` (the class of the sound; "speech").
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import WhisperForConditionalGeneration

import dialogues
import sounds

sys.path.append(str(Path(__file__).parent.parent / "asr"))
import synth  # noqa: E402

CLIPS, PER_SHARD = {"speech": 0.6, "several": 0.1, "sound": 0.3}, 256


class Ear:
    """demo-asr's encoder on the frames that there are, as Ultravox runs it."""

    def __init__(self, path):
        from data import LogMel      # training/asr
        self.encoder = WhisperForConditionalGeneration.from_pretrained(path, dtype=torch.float32).model.encoder.eval()
        self.mel = LogMel()

    @torch.no_grad()
    def __call__(self, audio):
        """float32 samples, at most 10 s -> states [n, 256]"""
        audio = audio[: synth.WINDOW]
        mel = self.mel(torch.from_numpy(audio[: len(audio) // 160 * 160])[None])
        e = self.encoder
        x = torch.nn.functional.gelu(e.conv1(mel))
        x = torch.nn.functional.gelu(e.conv2(x)).transpose(1, 2)
        x = x + e.embed_positions.weight[: x.shape[1]]
        for layer in e.layers:
            x = layer(x, None)
        return e.layer_norm(x)[0]


class Clips:
    """Endless clips of a split: dict(audio, segments, name)."""

    def __init__(self, seed, split="train", held_voices=False):
        self.speaker = synth.Speaker([""], seed, split, held_voices)
        self.rng, self.numbers = self.speaker.rng, np.random.default_rng(seed)

    def __call__(self, kind=None):
        kind = kind or self.rng.choices(list(CLIPS), list(CLIPS.values()))[0]
        if kind == "sound":
            name = self.rng.choice(dialogues.CLASSES[:-1])
            return {"audio": sounds.make(name, self.numbers), "segments": [], "name": name}
        while True:
            clip = self.speaker.clip() if kind == "speech" else self.speaker.window(cut=False, speech_share=1.0)
            if all(end is not None for _, end, _ in clip["segments"]) and len(clip["audio"]) <= synth.WINDOW:
                return {**clip, "name": "speech"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--encoder", default=str(Path(__file__).parents[2] / "models/demo-asr"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    ear = Ear(args.encoder)
    for shard in range(args.shards):
        path = args.out / f"{shard:03d}.npz"
        if path.exists():
            continue
        clips, states, lengths, texts, names = Clips(5000 + shard), [], [], [], []
        for _ in range(PER_SHARD):
            clip = clips()
            states.append(ear(clip["audio"]).half().numpy())
            lengths.append(len(states[-1]))
            texts.append(" ".join(t for _, _, t in clip["segments"]))
            names.append(clip["name"])
        with open(path.with_suffix(".tmp"), "wb") as f:
            np.savez(f, states=np.concatenate(states), lengths=lengths, texts=texts, names=names)
        path.with_suffix(".tmp").rename(path)
        print(json.dumps({"shard": shard, "seconds": sum(lengths) / 50}), flush=True)


if __name__ == "__main__":
    main()
