"""Counts the parameters of every Whisper config in catalog/ and writes catalog_parameters.json beside this file.

    python make_catalog_counts.py [--out DIRECTORY]   counts, compares, fails at a difference
    python make_catalog_counts.py --write             also corrects "parameters" in the catalogue's files

Each model is built on torch's meta device by transformers, so nothing is allocated. A tensor that two names share (the
embedding and proj_out) counts once. The parts are disjoint and add up to total:
    encoder            convolutions, positions, layers and final norm (positions are parameters, although never trained)
    decoder_embedding  tokens and positions; the token half is also the output projection
    cross_attention    every decoder layer's encoder_attn and encoder_attn_layer_norm
    decoder            everything else of the decoder
"decoder_with_embedding" is the sum of the last three, as FACTS.md and model cards count.
"""
import argparse
import json
import pathlib
import sys

import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration
from transformers.utils import logging

ROOT = pathlib.Path(__file__).parents[2]

# Counts that were found elsewhere (FACTS.md, section 2): (total, encoder).
KNOWN = {
    "openai/whisper-tiny": (37_760_640, 8_208_384), "openai/whisper-base": (72_593_920, 20_590_592),
    "openai/whisper-small": (241_734_912, 88_154_112), "openai/whisper-medium": (763_857_920, 307_216_384),
    "openai/whisper-large-v3": (1_543_490_560, 636_968_960),
    "openai/whisper-large-v3-turbo": (808_878_080, 636_968_960),
}


def part(name: str) -> str:
    if ".encoder." in name:
        return "encoder"
    if "encoder_attn" in name:
        return "cross_attention"
    return "decoder_embedding" if ".embed_" in name else "decoder"


def count(config: dict) -> dict[str, int]:
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(WhisperConfig(**config))
    parts = dict.fromkeys(["encoder", "decoder_embedding", "cross_attention", "decoder"], 0)
    for name, p in model.named_parameters():  # yields shared tensors once
        parts[part(name)] += p.numel()
    return {"total": sum(parts.values()), **parts, "decoder_with_embedding": sum(parts.values()) - parts["encoder"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = parser.parse_args()
    logging.set_verbosity_error()
    counts, wrong = {}, 0
    for path in sorted((ROOT / "catalog").glob("*/*.json")):
        entry = json.loads(path.read_text())
        if entry["config"].get("model_type") != "whisper":
            continue
        name = entry["name"]
        counts[name] = count(entry["config"])
        total, encoder = KNOWN.get(name, (counts[name]["total"], counts[name]["encoder"]))
        if (total, encoder) != (counts[name]["total"], counts[name]["encoder"]):
            print(f"{name}: counted {counts[name]}, known {total}, encoder {encoder}")
            wrong += 1
        if entry["parameters"] != counts[name]["total"]:
            print(f"{name}: the catalogue says {entry['parameters']}, counted {counts[name]['total']}")
            if options.write:
                entry["parameters"] = counts[name]["total"]
                path.write_text(json.dumps(entry, indent=2, ensure_ascii=False) + "\n")
            else:
                wrong += 1
    lines = [f" {json.dumps(name)}: {json.dumps(c)}" for name, c in counts.items()]
    (options.out / "catalog_parameters.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(counts)} models, {wrong} differences")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
