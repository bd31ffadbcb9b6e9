"""Writes tests/golden/tokenizer/: texts of every kind of character and what the `tokenizers` library makes of them.

    python make_tokenizer_corpus.py [--out DIRECTORY]

The tokenizer is whisper/multilingual-f32/model/tokenizer.json (run make_whisper.py first). Files: README.md.
Characters are those of Unicode 14 (Python 3.11's), so that no engine's newer or older tables matter.
"""
import argparse
import json
import pathlib
import random
import sys
import unicodedata
from collections import defaultdict

import numpy as np
from tokenizers import Tokenizer

from whisper_checkpoints import TRAINING_TEXT

HERE = pathlib.Path(__file__).parent
SPACES = [*"\t\n\v\f\r \x85\xa0\u1680", *map(chr, range(0x2000, 0x200B)), *"\u2028\u2029\u202f\u205f\u3000"]
NOT_SPACES = [*"\x00\x1c\x1d\x1e\x1f\u180e\u200b\u200c\u200d\u2060\ufeff"]  # some look like it; \s says no
EMOJI = ("😀 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 👩🏿‍🚀 🇩🇪🇫🇷🇯🇵 1️⃣ #️⃣ "
         "❤️‍🔥 🧑🏻‍🤝‍🧑🏾 ☺︎ ☺️ 🏴󠁧󠁢󠁳󠁣󠁴󠁿 🫠 ♀️ 🎉🎉🎉").split()
ENDINGS = "s t re ve m ll d".split()


def characters() -> tuple[dict, dict]:
    """(general category -> characters, script -> letters, marks and numbers). Script: the first word of the name."""
    categories, scripts = defaultdict(list), defaultdict(list)
    for code in range(0x110000):
        c = chr(code)
        category = unicodedata.category(c)
        if category == "Cs" or (category == "Cn" and not (code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF)):
            continue  # surrogates are no text; of the unassigned only noncharacters will stay unassigned
        categories[category].append(c)
        if category[0] in "LMN":
            scripts[unicodedata.name(c, "NONE").split()[0]].append(c)
    return categories, scripts


def make_lines(rng: random.Random) -> list[str]:
    categories, scripts = characters()
    lines = ["", " ", "\n", "a", " a", "  a", "a ", "a  ", "a  b", "\t\ta", "a\nb", "a\n\nb", "a \n b"]
    lines += ["\r\n", "a\r\nb\r\n", " \n\n  \n x  "]
    lines += TRAINING_TEXT
    for category, members in sorted(categories.items()):
        for c in [members[0], members[-1], *rng.sample(members, min(8, len(members)))]:
            lines += [f"a{c}b {c}{c} 1{c}2", f" {c} {c}'s!{c}"]
    for _, members in sorted(scripts.items()):
        word = "".join(rng.sample(members, min(5, len(members))))
        lines.append(f"{word} the{word[:2]} {word[1:3]}7, {word[::-1]}")
    for zero in [c for c in categories["Nd"] if unicodedata.decimal(c) == 0]:
        digits = [chr(ord(zero) + i) for i in range(10)]
        lines.append(f"{digits[1]}{digits[9]}{digits[8]}{digits[4]} a{digits[3]}b {digits[0]}.{digits[5]} 2{digits[7]}")
    for w in SPACES + NOT_SPACES:
        lines += [f"a{w}b", f"a{w}{w}b c", f" {w} a{w}", f"{w}", f"{w}a{w}\n{w} 1"]
    for e in ENDINGS:
        for apostrophe in "'’`":
            short, long = apostrophe + e, apostrophe + e.capitalize()
            lines += [f"we{short} I{short.upper()} 5{short}", f" {short}x {apostrophe}{short} {long}{short}"]
    for e in EMOJI:
        lines += [e, f"the {e}{e} and{e}1", f"{e}\u200d{e} \ufe0f{e}"]
    for base in "aeZ한אक":
        for count in (1, 2, 5, 30):
            lines.append(base + "".join(chr(rng.randrange(0x300, 0x36F)) for _ in range(count)) + "b")
    for text in ("Ångström façade naïve Việt Nam", "각힣가나다 한글", "ﬁ ﬀ ½ Ⅻ ǆ ℃ ﷺ", "ᄀᄀᄀ각ᆨᆨ"):
        lines += [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    runs = {"a": 1500, " ": 700, "0": 900, "!": 800, "the ": 300, "😀": 90, "\n": 400, " \n": 150, "é": 250, "'s": 200,
            "今": 200, "ab1 ": 150, "\u0301": 150, "\u200d": 100, "-_": 250, "\x00": 64}
    lines += [unit * n for unit, n in runs.items()]
    pieces = (TRAINING_TEXT[0].split() + TRAINING_TEXT[5].split() + SPACES + [" "] * 40 + EMOJI
              + ["'s", "'T", "'LL", "n't", "...", "1984", "3.14", "--", "{}", "://"]
              + [rng.choice(m) for m in [*scripts.values(), *categories.values()]])
    while len(lines) < 2200:
        lines.append("".join(rng.choice(pieces) for _ in range(rng.randrange(2, 12))))
    return lines


def special_lines(rng: random.Random) -> list[str]:
    tokens = ("<|endoftext|> <|startoftranscript|> <|en|> <|ja|> <|transcribe|> <|nospeech|> "
              "<|0.00|> <|29.98|> <|30.00|> <|7.40|>").split()
    almost = "<|EN|> <|en| <|en|>> <<|en|> <|xx|> <|30.02|> <|0.0|> <|0.01|> <|en|><|en|> <|endoftext".split()
    words = ["<| en|>", " the", "dog", " ", "\n", "'s", "über", "😀", "12", ""]
    real = "<|startoftranscript|><|en|><|transcribe|><|0.00|> How much?<|7.40|><|7.40|> What<|29.98|><|endoftext|>"
    units = tokens + almost + words * 2
    return tokens + almost + [real] + ["".join(rng.choices(units, k=rng.randrange(2, 9))) for _ in range(60)]


def byte_ids(tokenizer: Tokenizer) -> list[int]:
    """id of the token that stands for each byte (GPT-2's: printable bytes are themselves, the others 256, 257 …)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    char = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
    return [tokenizer.token_to_id(char[b]) for b in range(256)]


def decode_cases(tokenizer: Tokenizer, rng: random.Random) -> list[list[int]]:
    byte = byte_ids(tokenizer)
    sequences = ("80 bf80 c3 c328 c3a9 e28082 e280 e2 e228a1 e28028 f09f9880 f09f98 f09f f0 f0289f98 f09f2898 c080 "
                 "c1bf e08080 e09fbf eda080 edbfbf edb080 f0808080 f08fbfbf f4908080 f48fbfbf f5808080 ff fe f8888080 "
                 "fdbfbfbfbfbf efbfbd efbbbf c3c3a9 e2e28082 f09fe28082 e280f09f9880 00 7f f09f98c3a9 80c3a980 e282ac "
                 "e282ac80").split()
    cases = [[byte[b] for b in bytes.fromhex(s)] for s in sequences]
    cases += [[byte[0x61], *c, byte[0x62]] for c in cases]
    names = "<|endoftext|> <|startoftranscript|> <|en|> <|notimestamps|> <|0.00|> <|12.34|>".split()
    special = [tokenizer.token_to_id(t) for t in names]
    cases += [[], [special[0]], special]
    cases += [[byte[0xE2], special[2], byte[0x80], byte[0x82]], [byte[0xE2], special[4], byte[0x80]]]
    cases += [[599], [70, 599, 71], [byte[0xC3], 599, byte[0xA9]]]  # 599 is the empty token
    size = tokenizer.get_vocab_size()
    for _ in range(250):
        ids = [rng.randrange(600) if rng.random() < 0.9 else rng.randrange(size) for _ in range(rng.randrange(1, 16))]
        cases.append(ids)
    return cases


def write_lines(path: pathlib.Path, items: list) -> None:
    rows = [json.dumps(i, ensure_ascii=False, separators=(",", ":")) + "\n" for i in items]
    path.write_text("".join(rows), encoding="utf-8", newline="\n")


def main() -> None:
    assert sys.version_info[:2] == (3, 11), "the fixtures were made with Python 3.11's Unicode tables"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    out = parser.parse_args().out / "tokenizer"
    out.mkdir(exist_ok=True)
    tokenizer = Tokenizer.from_file(str(HERE / "whisper/multilingual-f32/model/tokenizer.json"))
    rng = random.Random(1)

    lines = make_lines(rng)
    encoded = [e.ids for e in tokenizer.encode_batch(lines, add_special_tokens=False)]
    pieces = []
    for line, ids in zip(lines, encoded):
        assert tokenizer.decode(ids, skip_special_tokens=False) == line and max(ids, default=0) < 600
        cut = [line[a:b] for _, (a, b) in tokenizer.pre_tokenizer.pre_tokenize_str(line)]
        assert "".join(cut) == line
        pieces.append([len(p.encode()) for p in cut])
    write_lines(out / "corpus.jsonl", lines)
    for name, rows in (("ids", encoded), ("pieces", pieces)):
        np.save(out / f"{name}.npy", np.array([i for row in rows for i in row], dtype=np.uint16))
        np.save(out / f"{name}_count.npy", np.array([len(row) for row in rows], dtype=np.uint16))

    write_lines(out / "special.jsonl", [
        {"text": t, "ids": tokenizer.encode(t, add_special_tokens=False).ids,
         "ids_with_prefix": tokenizer.encode(t).ids}
        for t in special_lines(rng)])
    write_lines(out / "decode.jsonl", [
        {"ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=False),
         "text_skip_special": tokenizer.decode(ids)}
        for ids in decode_cases(tokenizer, rng)])
    print(len(lines), "lines,", sum(map(len, encoded)), "ids,", sum(map(len, pieces)), "pieces")


if __name__ == "__main__":
    main()
