"""Writes chat/: a small byte-level tokenizer with a chat template, and the ids that transformers makes of conversations with it,
which `sotto run` and `sotto chat` must equal.

    python make_chat.py [--out DIRECTORY]

The template is ours: chat_templates/qwen2_audio.jinja, in the manner of Qwen2-Audio, which tells audio parts from text.
"""
import argparse
import json
import pathlib

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>"]
TEXT = """You are a helpful assistant. The user asks what is said, what is heard, and what was said before; the assistant
answers. What is the capital of Italy? Rome is the capital of Italy. Name three rivers: Po, Tiber, Arno. Audio one, audio two."""


def user(*content):
    return {"role": "user", "content": content[0] if content[0:] and isinstance(content[0], str) else list(content)}


def assistant(text):
    return {"role": "assistant", "content": text}


SOUND = {"type": "audio", "audio_url": "a.wav"}


def text(words):
    return {"type": "text", "text": words}


CONVERSATIONS = [
    [user("What is the capital of Italy?")],
    [{"role": "system", "content": "Answer in one word."}, user("Grüße! 你好 🎉")],
    [user("Name three rivers."), assistant("Po, Tiber,\n Arno. "), user("  And the <|im_end|> of it?")],
    [user(SOUND, text("What is said?"))],
    [user(SOUND, text("first"), SOUND, text("second")), assistant("Two."), user(SOUND)],
]


def make_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def main() -> None:
    here = pathlib.Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=here)
    out = parser.parse_args().out / "chat"
    out.mkdir(parents=True, exist_ok=True)
    template = (here / "chat_templates/qwen2_audio.jinja").read_text()
    fast = PreTrainedTokenizerFast(tokenizer_object=make_tokenizer(), eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=template)
    fast.backend_tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    settings = {"eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>"}, "chat_template": template}
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    cases = [{"messages": c, "ids": fast.apply_chat_template(c, add_generation_prompt=True, return_dict=False)} for c in CONVERSATIONS]
    golden = {"vocab_size": len(fast), "audio_token": fast.convert_tokens_to_ids("<|AUDIO|>"), "cases": cases}
    (out / "expected.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")
    print(f"{len(fast)} tokens, {len(cases)} conversations")


if __name__ == "__main__":
    main()
