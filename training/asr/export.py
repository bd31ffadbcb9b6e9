"""Write a training checkpoint as a Hugging Face Whisper model (fp16 weights).

    python export.py --work DIR [--checkpoint last.pt] --out models/demo-asr

Takes the averaged weights; the phone head of training is left out. Keeps a README.md in --out.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

import data
import tokenizer as T
from train import CONFIG

# heads of the cross-attention that were guided to follow time: (layer, head)
ALIGNMENT_HEADS = [[0, 0], [0, 1], [1, 0], [1, 1]]


def generation_config():
    values = dict(
        is_multilingual=True, lang_to_id={"<|en|>": T.EN},
        task_to_id={"transcribe": T.TRANSCRIBE, "translate": T.TRANSLATE},
        no_timestamps_token_id=T.NOTIMESTAMPS, prev_sot_token_id=T.STARTOFPREV,
        decoder_start_token_id=T.SOT, bos_token_id=T.EOT, eos_token_id=T.EOT, pad_token_id=T.EOT,
        suppress_tokens=[], begin_suppress_tokens=CONFIG["begin_suppress_tokens"],
        max_initial_timestamp_index=50, max_length=CONFIG["max_target_positions"], return_timestamps=False)
    values["alignment_heads"] = ALIGNMENT_HEADS
    return GenerationConfig(**values)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", required=True)
    parser.add_argument("--checkpoint", default="last.pt")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    out = Path(args.out)
    saved = torch.load(Path(args.work) / args.checkpoint, map_location="cpu")
    model = WhisperForConditionalGeneration(WhisperConfig(**{k: v for k, v in CONFIG.items() if k != "max_length"}))
    prefix = "whisper."
    weights = {k[len(prefix):]: v for k, v in saved["average"].items() if k.startswith(prefix)}
    model.load_state_dict(weights)
    model.tie_weights()
    model = model.half().eval()
    model.generation_config = generation_config()
    model.save_pretrained(out)
    for f in (Path(args.work) / "tokenizer").iterdir():
        shutil.copy(f, out / f.name)
    WhisperFeatureExtractor(feature_size=80, sampling_rate=16000, hop_length=data.MEL_HOP, chunk_length=10,
                            n_fft=400).save_pretrained(out)
    for f in out.iterdir():
        f.chmod(0o644)
    config = json.loads((out / "config.json").read_text())
    print(json.dumps(saved["state"]), sum(p.numel() for p in model.parameters()), "parameters",
          sum(f.stat().st_size for f in out.iterdir() if f.is_file()), "bytes,", config["architectures"])


if __name__ == "__main__":
    main()
