"""demo-lm's tokenizer: byte-level BPE of 2,048 tokens (GPT-2's pre-tokenizer), and its chat template.

    python tokens.py --text DIR --out DIR

Ids: 0 to 6 special, 7 to 262 the bytes, then 1,785 merges. Digits are never merged: numbers are read digit by digit.
"""

import argparse
import json
import random
import re
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

import dialogues
import model as M

SPECIAL = ["<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|audio|>", "<|pad|>"]
BEGIN, END, SYSTEM, USER, ASSISTANT, AUDIO, PAD = range(len(SPECIAL))
ROLES = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT}
TEMPLATE = ("{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + (message['content'] | trim) + '<|end|>' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")


def corpus_lines(text):
    """Half prose, half sentences and dialogues: the words of the speech must be tokens too."""
    rng = random.Random(3)
    prose = (Path(text) / "train.txt").read_text().split("\n")
    rng.shuffle(prose)
    yield from prose[:8000]
    for _ in range(20000):
        yield " " + dialogues.corpus.sentence(rng)[0]
        yield " " + " ".join(dialogues.exchange(rng))


def build(text, out):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator((re.sub(r"[0-9]+", "", line) for line in corpus_lines(text)), trainers.BpeTrainer(
        vocab_size=M.VOCAB, special_tokens=[AddedToken(t, special=True, normalized=False) for t in SPECIAL], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    assert tok.get_vocab_size() == M.VOCAB and tok.token_to_id("<|pad|>") == PAD
    out.mkdir(parents=True, exist_ok=True)
    tok.save(str(out / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[BEGIN], "eos_token": SPECIAL[END],
              "pad_token": SPECIAL[PAD], "model_max_length": M.CONTEXT, "clean_up_tokenization_spaces": False, "add_prefix_space": False, "chat_template": TEMPLATE}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def recall_words(tok):
    """Keys and values of the recall sequences: the tokens that are a space and three or more small letters, in order of id; every
    second one is a key."""
    words = [i for t, i in sorted(tok.get_vocab().items(), key=lambda x: x[1]) if re.fullmatch("Ġ[a-z]{3,}", t)]
    return words[0::2], words[1::2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    build(args.text, args.out)
    tok = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    keys, values = recall_words(tok)
    lines = [dialogues.corpus.sentence(random.Random(i))[0] for i in range(500)]
    rate = sum(len(tok.encode(s).ids) for s in lines) / sum(len(s.split()) for s in lines)
    print(f"{len(keys)} keys, {len(values)} values, {rate:.2f} tokens a word of speech")


if __name__ == "__main__":
    main()
