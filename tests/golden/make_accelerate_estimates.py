"""Writes tests/golden/accelerate_estimates.json: what accelerate's estimate-memory finds for catalogue entries.

    python make_accelerate_estimates.py [--out DIRECTORY]      needs accelerate beside transformers

The command asks a hub for the config, so its own functions are called here on the empty model of the catalogue's config: AutoModel
from the config on the meta device, then calculate_maximum_sizes in fp32, as accelerate/commands/estimate.py does. The figure is
bytes in fp32; it halves or quarters that for other precisions.
"""
import argparse
import json
import pathlib

import torch
from accelerate import __version__, init_empty_weights
from accelerate.utils import calculate_maximum_sizes
from transformers import CONFIG_MAPPING, AutoModel
from transformers.utils import logging

HERE = pathlib.Path(__file__).parent
CATALOG = HERE.parent.parent / "catalog"
NAMES = ["openai/whisper-base", "openai/whisper-large-v3", "openai/whisper-large-v3-turbo", "Qwen/Qwen2-Audio-7B", "mistralai/Voxtral-Mini-3B-2507",
         "nvidia/audio-flamingo-3-hf", "ibm-granite/granite-speech-3.3-2b", "Qwen/Qwen2-7B", "Qwen/Qwen3-0.6B",
         "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.2-1B", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", "google/gemma-2-2b", "deepseek-ai/DeepSeek-V2-Lite"]


def estimate(name: str) -> int:
    config = json.loads((CATALOG / f"{name}.json").read_text())["config"]
    built = CONFIG_MAPPING[config["model_type"]].from_dict(config)
    with init_empty_weights():
        model = AutoModel.from_config(built, torch_dtype=torch.float32)
    return calculate_maximum_sizes(model)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    out = parser.parse_args().out
    logging.set_verbosity_error()
    found = {name: estimate(name) for name in NAMES if (CATALOG / f"{name}.json").exists()}
    text = json.dumps({"accelerate": __version__, "fp32_bytes": found}, indent=1) + "\n"
    (out / "accelerate_estimates.json").write_text(text)


if __name__ == "__main__":
    main()
