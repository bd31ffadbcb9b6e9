"""Write checkpoints as Hugging Face models (fp16).

    python export.py --work DIR --lm ../../models/demo-lm --audio ../../models/demo-audio-lm

demo-lm: the averaged weights of last.pt; demo-audio-lm: those of audio.pt, projector and decoder; its encoder is demo-asr's, where it
lies. Keeps a README.md that is there.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

import model as M
import tokens as T

ASR = Path(__file__).parents[2] / "models/demo-asr"


def load(path, module):
    saved = torch.load(path, map_location="cpu")
    module.load_state_dict(saved["average"])
    print(path, json.dumps(saved["state"]))
    return module


def tokenizer(tok, out):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tok / name, out / name)
    GenerationConfig(bos_token_id=T.BEGIN, eos_token_id=T.END, pad_token_id=T.PAD, max_length=M.CONTEXT).save_pretrained(out)


def write_lm(net, tok, out):
    config = LlamaConfig(**M.CONFIG, bos_token_id=T.BEGIN, eos_token_id=T.END, pad_token_id=T.PAD)
    model = LlamaForCausalLM(config)
    missing = model.load_state_dict(net.exported(), strict=False).missing_keys
    assert missing == ["lm_head.weight"], missing
    model.tie_weights()
    with torch.no_grad():
        ids = torch.randint(7, M.VOCAB, (1, 100))
        error = (model(ids).logits - net.logits(net.hidden(net.embed_tokens(ids)))).abs().max().item()
    assert error < 1e-3, error
    model.to(torch.float16).save_pretrained(out)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "rope_theta": M.THETA}, indent=2, sort_keys=True) + "\n")   # where others look
    tokenizer(tok, out)


def write_audio(both, tok, out):
    weights = {"multi_modal_projector." + k: v.detach() for k, v in both["projector"].state_dict().items()}
    weights.update({"language_model." + k: v for k, v in both["net"].exported().items()})
    save_file({k: v.half() for k, v in weights.items()}, out / "model.safetensors", metadata={"format": "pt"})
    whisper = json.loads((ASR / "config.json").read_text())
    keys = ("activation_function", "d_model", "encoder_attention_heads", "encoder_ffn_dim", "encoder_layers", "max_source_positions",
            "num_mel_bins", "scale_embedding")
    config = {"architectures": ["UltravoxModel"], "model_type": "ultravox", "hidden_size": M.HIDDEN, "stack_factor": M.STACK,
              "norm_init": 1.0, "projector_act": "swiglu", "projector_ln_mid": True, "audio_token_index": T.AUDIO, "audio_model_id": "../demo-asr",
              "audio_config": {"model_type": "whisper", **{k: whisper[k] for k in keys}},
              "text_config": {"model_type": "llama", **M.CONFIG, "rope_theta": M.THETA, "bos_token_id": T.BEGIN, "eos_token_id": T.END,
                              "pad_token_id": T.PAD}, "vocab_size": M.VOCAB, "torch_dtype": "float16"}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    shutil.copy(ASR / "preprocessor_config.json", out / "preprocessor_config.json")
    tokenizer(tok, out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--lm", type=Path)
    parser.add_argument("--audio", type=Path)
    args = parser.parse_args()
    for out in filter(None, (args.lm, args.audio)):
        out.mkdir(parents=True, exist_ok=True)
    if args.lm:
        write_lm(load(args.work / "last.pt", M.Llama()), args.work / "tok", args.lm)
    if args.audio:
        both = torch.nn.ModuleDict({"net": M.Llama(), "projector": M.Projector()})
        write_audio(load(args.work / "audio.pt", both), args.work / "tok", args.audio)
    for out in filter(None, (args.lm, args.audio)):
        print(out, sum(f.stat().st_size for f in out.iterdir()), "bytes")


if __name__ == "__main__":
    main()
