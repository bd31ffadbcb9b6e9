"""Byte-level BPE tokenizer in Whisper's multilingual layout, with English as its one language.

    python tokenizer.py --out DIR        # trains on the grammar's sentences and writes the files

Ids: 0..769 text (256 bytes and 514 merges; digits are never merged), then <|endoftext|>,
<|startoftranscript|>, <|en|>, <|translate|>, <|transcribe|>, <|startoflm|>, <|startofprev|>,
<|nospeech|>, <|notimestamps|>, then <|0.00|> .. <|10.00|> in steps of 0.02 s: 1,280 in all.
"""

import argparse
import json
import random
import re
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import WhisperTokenizer

import corpus

TEXT_TOKENS = 770
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>",
           "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
TIMESTAMPS = [f"<|{i * 0.02:.2f}|>" for i in range(501)]
EOT, SOT, EN, TRANSLATE, TRANSCRIBE, STARTOFLM, STARTOFPREV, NOSPEECH, NOTIMESTAMPS = range(
    TEXT_TOKENS, TEXT_TOKENS + len(SPECIAL))
TIME0 = NOTIMESTAMPS + 1
VOCAB = TIME0 + len(TIMESTAMPS)


def train_bpe(sentences=60000, seed=7):
    """Vocabulary and merges of a byte-level BPE (GPT-2's pre-tokenizer)."""
    rng = random.Random(seed)
    texts = (re.sub(r"[0-9]+", "", " " + corpus.sentence(rng)[0]) for _ in range(sentences))
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=TEXT_TOKENS, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False))
    model = json.loads(tok.to_str())["model"]
    return model["vocab"], [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]


def build(directory):
    """Train, check the layout and write every tokenizer file that Whisper checkpoints have."""
    out = Path(directory)
    out.mkdir(parents=True, exist_ok=True)
    vocab, merges = train_bpe()
    assert len(vocab) == TEXT_TOKENS
    full = dict(vocab)
    full[SPECIAL[0]] = EOT
    tok = WhisperTokenizer(vocab=full, merges=merges, language="en", task="transcribe",
                           pad_token="<|endoftext|>", additional_special_tokens=SPECIAL[1:])
    tok.add_tokens([AddedToken(t, lstrip=False, rstrip=False, normalized=False, special=False)
                    for t in TIMESTAMPS])
    assert tok.convert_tokens_to_ids(SPECIAL) == list(range(EOT, TIME0)), tok.convert_tokens_to_ids(SPECIAL)
    assert tok.convert_tokens_to_ids([TIMESTAMPS[0], TIMESTAMPS[-1]]) == [TIME0, VOCAB - 1]
    assert tok.all_special_ids[-1] == NOTIMESTAMPS and len(tok) == VOCAB
    tok.save_pretrained(out)
    added = {t: EOT + i for i, t in enumerate(SPECIAL + TIMESTAMPS)}
    (out / "vocab.json").write_text(json.dumps(full, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in merges), encoding="utf-8")
    (out / "added_tokens.json").write_text(
        json.dumps({k: v for k, v in added.items() if v != EOT}, indent=1) + "\n")
    eot = {"content": "<|endoftext|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    (out / "special_tokens_map.json").write_text(json.dumps(
        {"additional_special_tokens": SPECIAL, "bos_token": eot, "eos_token": eot, "pad_token": eot,
         "unk_token": eot}, indent=1) + "\n")
    return tok


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", required=True)
    build(parser.parse_args().out)
