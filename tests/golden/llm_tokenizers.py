"""Small tokenizers with the pipelines of published language models, and texts to compare them on. Used by
make_llm_tokenizers.py (which writes the goldens) and tests/slow/tokenizers_test.py (which compares 20,000 lines).

The vocabularies are trained here on a few sentences; what surrounds them (normalizer, pre-tokenizer, decoder, post-processor,
the settings of the model) is that of the public tokenizer.json of the family.
"""
import io
import json
import pathlib
import random
import re
import struct
import tempfile
import unicodedata
from base64 import b64decode, b64encode

import gguf
import sentencepiece
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from make_tokenizer_corpus import EMOJI, NOT_SPACES, SPACES, characters
from whisper_checkpoints import TRAINING_TEXT

MARK = "\u2581"
CODE = ["for (int i = 0; i < n; ++i) sum += a[i] * b[i];  // dot product", "def f(x):\n    return x ** 2 if x else None",
        "SELECT name, COUNT(*) FROM users WHERE id >= 10 GROUP BY 1;", "https://example.org/a/b?c=1&d=%20#e", "a_b.c->d::e()",
        "{\"key\": [1, 2.5, -3e-7, null], \"other\": {}}", "<div class=\"x\">&nbsp;</div>", "\t\tif err != nil {\n\t\t\treturn\n\t}"]
SPECIAL = ["<s>", "</s>", "<unk>", "<pad>", "<|begin_of_text|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<0x41>", "<0xE2>",
           "<mask>", "<extra_id_0>", "<s", "|>", "<|", "[INST]", "tool_call", MARK, MARK * 2, f"a{MARK}b", f"{MARK} {MARK}"]


# Models ---------------------------------------------------------------------------------------------------------------

def byte_model() -> dict:
    """Byte-level BPE, trained on whole sentences so that its tokens reach across every cut that a pre-tokenizer may miss."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    text = [*TRAINING_TEXT, *CODE] + ["It'S WE'LL 1234567 89  \r\n\r\n\t x!!\n ((--)) ...  ǅ"] * 2
    trained.train_from_iterator(text * 3, trainers.BpeTrainer(
        vocab_size=700, min_frequency=2, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=8))
    model = json.loads(trained.to_str())["model"]
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": model["vocab"],
            "merges": [" ".join(m) for m in model["merges"]]}


def train(**options) -> bytes:
    """A model file of SentencePiece."""
    model = io.BytesIO()
    text = [line for line in [*TRAINING_TEXT, *CODE] for line in line.split("\n")]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text * 20), model_writer=model, hard_vocab_limit=False, num_threads=1, minloglevel=2,
        shuffle_input_sentence=False, character_coverage=0.98, **options)
    return b"".join(field(n, without_path(v) if n == 3 else v) for n, v in fields(model.getvalue()))


# Protobuf: what of SentencePiece's messages is changed or written by hand.
def varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def field(number: int, value) -> bytes:
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(message: bytes):
    """(number, value) of each field."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            value |= (message[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if message[at - 1] < 128:
                return value

    while at < len(message):
        tag = number()
        if tag & 7 == 0:
            yield tag >> 3, number()
        else:
            size = 4 if tag & 7 == 5 else number()
            yield tag >> 3, message[at:at + size]
            at += size


def without_path(spec: bytes) -> bytes:
    """A normalizer_spec that doesn't say which file its rules came from."""
    return b"".join(field(number, value) for number, value in fields(spec) if number != 6)


def pieces(model: bytes) -> list[tuple[str, float, int]]:
    """(name, score, type) of each piece."""
    out = []
    for number, message in fields(model):
        if number == 1:
            piece = dict(fields(message))
            out.append((piece[1].decode(), struct.unpack("<f", piece.get(2, bytes(4)))[0], piece.get(3, 1)))
    return out


def with_pieces(model: bytes, changed: list[tuple[str, float, int]]) -> bytes:
    rest = b"".join(field(number, value) for number, value in fields(model) if number != 1)
    return b"".join(field(1, field(1, n) + field(2, s) + field(3, t)) for n, s, t in changed) + rest


def charsmap(model: bytes) -> bytes:
    return dict(fields(dict(fields(model))[3])).get(2, b"")


def small_rules(folder: str) -> str:
    """A part of nmt_nfkc that a golden can hold: compatibility characters of some blocks, composed Latin, controls, spaces."""
    rules = {}
    for block in (range(0xA0, 0x180), range(0x2070, 0x2190), range(0xFB00, 0xFB07), range(0xFF01, 0xFF5F), range(0xFF65, 0xFF9F)):
        for code in block:
            for form in ("NFD", "NFKD"):
                if (source := unicodedata.normalize(form, chr(code))) != (to := unicodedata.normalize("NFKC", chr(code))):
                    rules[source] = to
            if unicodedata.normalize("NFKC", chr(code)) != chr(code):
                rules[chr(code)] = unicodedata.normalize("NFKC", chr(code))
    rules |= {chr(c): "" for c in [*range(1, 9), 0xB, *range(0xE, 0x20), 0x7F, 0x8F, 0x9F]}
    rules |= {chr(c): " " for c in [9, 0xA, 0xC, 0xD, 0x1680, *range(0x200B, 0x2010), 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD]}
    rules |= {"\u3000": " ", "\ufdfa": "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647", "\r\n": " ", "  ": " "}
    path = pathlib.Path(folder) / "rules.tsv"
    path.write_text("".join(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n"
                            for a, b in sorted(rules.items()) if a != b))
    return str(path)


def piece_models(full: bool) -> dict[str, bytes]:
    """Model files by name. `full`: with SentencePiece's own character maps, which are too large to be goldens."""
    with tempfile.TemporaryDirectory() as scratch:
        own = {"normalization_rule_tsv": small_rules(scratch)}
        nfkc, nfkc_cf = ({"normalization_rule_name": n} for n in ("nmt_nfkc", "nmt_nfkc_cf")) if full else (own, own)
        identity = {"normalization_rule_name": "identity"}
        out = {
            "spm-llama": train(model_type="bpe", vocab_size=800, byte_fallback=True, split_digits=True, remove_extra_whitespaces=False,
                               allow_whitespace_only_pieces=True, **identity),
            "spm-gemma": train(model_type="bpe", vocab_size=800, byte_fallback=True, split_digits=True, remove_extra_whitespaces=False,
                               allow_whitespace_only_pieces=True, split_by_whitespace=False, split_by_unicode_script=False,
                               add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3, max_sentencepiece_length=6,
                               user_defined_symbols=["<mask>", MARK * 2, MARK * 3, "[INST]", "tool", "tool_call"], **identity),
            "spm-t5": train(model_type="unigram", vocab_size=700, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, **nfkc),
            "spm-bytes": train(model_type="unigram", vocab_size=700, byte_fallback=True, remove_extra_whitespaces=False,
                               user_defined_symbols=["<mask>", "tool", "tool_call"], **identity),
            "spm-suffix": train(model_type="bpe", vocab_size=600, treat_whitespace_as_suffix=True, **nfkc_cf),
        }
    # Pieces that only help: some of those that longer ones are made of.
    rng = random.Random(2)
    changed = [(name, score, 5 if kind == 1 and 1 < len(name) < 5 and rng.random() < 0.4 else kind)
               for name, score, kind in pieces(out["spm-llama"])]
    out["spm-unused"] = with_pieces(out["spm-llama"], changed)
    return out


def merges_of(model: bytes) -> list[list[str]]:
    """Merges that make what a BPE model of SentencePiece makes, as transformers' converter lists them."""
    listed = pieces(model)
    ids = {name: i for i, (name, _, _) in enumerate(listed)}
    out = []
    for name, score, kind in listed:
        if kind not in (1, 4):
            continue
        splits = [(name[:i], name[i:]) for i in range(1, len(name)) if name[:i] in ids and name[i:] in ids]
        out += [(score, a, b) for a, b in sorted(splits, key=lambda s: (ids[s[0]], ids[s[1]]))]
    return [[a, b] for score, a, b in sorted(out, key=lambda m: -m[0])]


def character_model(model: bytes, byte_fallback: bool = True) -> dict:
    vocab = {name: i for i, (name, _, _) in enumerate(pieces(model))}
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": True, "byte_fallback": byte_fallback, "ignore_merges": False, "vocab": vocab, "merges": merges_of(model)}


def unigram_model(model: bytes, byte_fallback: bool = False) -> dict:
    listed = pieces(model)
    return {"type": "Unigram", "unk_id": [kind for _, _, kind in listed].index(2),
            "vocab": [[name, score] for name, score, _ in listed], "byte_fallback": byte_fallback}


# Pipelines ------------------------------------------------------------------------------------------------------------

def sequence(name: str, *steps) -> dict:
    return {"type": "Sequence", name: list(steps)}


def split(regex: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def byte_level(regex: bool) -> dict:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": regex}


def template(before: list, after: list) -> dict:
    def piece(name):
        return {"SpecialToken": {"id": name, "type_id": 0}}

    single = [*(piece(n) for n, _ in before), {"Sequence": {"id": "A", "type_id": 0}}, *(piece(n) for n, _ in after)]
    return {"type": "TemplateProcessing", "single": single, "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {n: {"id": n, "ids": [i], "tokens": [n]} for n, i in [*before, *after]}}


def added(content: str, id: int, **flags) -> dict:
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": True} | flags


CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def documents(model_files: dict[str, bytes], bytes_model: dict) -> dict[str, dict]:
    """tokenizer.json by name, without the model where that is bytes_model: those share it."""
    n = len(bytes_model["vocab"])
    both = {"decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}}
    end, im = added("<|endoftext|>", n), [added("<|im_start|>", n + 1), added("<|im_end|>", n + 2)]
    tools = [added("tool_call", n + 3, special=False, normalized=True), added("tool", n + 4, special=False, single_word=True),
             added("<mask>", n + 5, lstrip=True, rstrip=True)]
    bos = added("<|begin_of_text|>", n + 3)

    def pre(*steps):
        return sequence("pretokenizers", *steps)

    out = {
        "gpt2": both | {"pre_tokenizer": byte_level(True), "added_tokens": [end]},
        "llama3": both | {
            "pre_tokenizer": pre(split(LLAMA3), byte_level(False)), "ignore_merges": True, "added_tokens": [end, *im, bos],
            "post_processor": sequence("processors", byte_level(True), template([(bos["content"], bos["id"])], []))},
        "qwen2": both | {"normalizer": {"type": "NFC"}, "pre_tokenizer": pre(split(QWEN2), byte_level(False)),
                         "post_processor": byte_level(False), "added_tokens": [end, *im, *tools]},
        "tekken": both | {"pre_tokenizer": pre(split(TEKKEN), byte_level(False)), "added_tokens": [end, *im]},
        "smollm": both | {"pre_tokenizer": pre({"type": "Digits", "individual_digits": True}, byte_level(True)),
                          "added_tokens": [end, *im]},
        "default": both | {"added_tokens": [end], "pre_tokenizer": pre(
            split(r"[\p{P}\$\+<=>\^~\|]+"), split(GPT2), split(r"\p{N}+"), split("[0-9][0-9][0-9]"), byte_level(False))},
    }
    pieces_decoder = [{"type": "Replace", "pattern": {"String": MARK}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
    usual = [added("<unk>", 0), added("<s>", 1), added("</s>", 2)]
    llama, gemma, t5, plain = (model_files[f"spm-{n}"] for n in ("llama", "gemma", "t5", "bytes"))
    count = len(pieces(llama))
    meta = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "always", "split": True}
    nmt = {"type": "Precompiled", "precompiled_charsmap": b64encode(charsmap(t5)).decode()}
    out |= {
        "llama2": {
            "model": character_model(llama), "normalizer": sequence("normalizers", {"type": "Prepend", "prepend": MARK}, replace),
            "decoder": sequence("decoders", *pieces_decoder, strip), "post_processor": template([("<s>", 1)], []),
            "added_tokens": [*usual, added("tool_call", count, special=False, normalized=True), added("[INST]", count + 1, rstrip=True)]},
        "mistral": {
            "model": character_model(llama), "pre_tokenizer": meta | {"prepend_scheme": "first", "split": False},
            "decoder": sequence("decoders", *pieces_decoder, strip), "post_processor": template([("<s>", 1)], []),
            "added_tokens": usual},
        "fused": {  # unknown characters without byte fallback
            "model": character_model(llama, byte_fallback=False), "pre_tokenizer": meta, "decoder": meta, "added_tokens": usual},
        "gemma": {
            "model": character_model(gemma), "normalizer": replace,
            "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
            "decoder": sequence("decoders", *pieces_decoder), "post_processor": template([("<s>", 2)], []),
            "added_tokens": [added("<pad>", 0), added("</s>", 1), added("<s>", 2), added("<unk>", 3)] + [
                added(name, i, special=False) for i, (name, _, kind) in enumerate(pieces(gemma)) if kind == 4]},
        "t5": {
            "model": unigram_model(t5), "pre_tokenizer": meta, "decoder": meta, "post_processor": template([], [("</s>", 1)]),
            "normalizer": sequence("normalizers", nmt, {"type": "Strip", "strip_left": False, "strip_right": True},
                                   {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": MARK}),
            "added_tokens": [added("<pad>", 0), added("</s>", 1), added("<unk>", 2), added("<extra_id_0>", len(pieces(t5)))]},
        "xlmr": {
            "model": unigram_model(t5), "normalizer": nmt, "decoder": meta,
            "pre_tokenizer": pre({"type": "WhitespaceSplit"}, meta | {"add_prefix_space": True}),
            "post_processor": template([("<pad>", 0)], [("</s>", 1)]),
            "added_tokens": [added("<pad>", 0), added("</s>", 1), added("<unk>", 2), added("<mask>", len(pieces(t5)), lstrip=True)]},
        "unigram-bytes": {
            "model": unigram_model(plain, byte_fallback=True), "pre_tokenizer": meta | {"split": False},
            "decoder": sequence("decoders", *pieces_decoder, strip), "added_tokens": usual},
    }
    return out


def complete(document: dict, bytes_model: dict) -> dict:
    """The whole tokenizer.json."""
    model = document.get("model") or bytes_model | {"ignore_merges": document.get("ignore_merges", False)}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": document["added_tokens"],
            "normalizer": document.get("normalizer"), "pre_tokenizer": document.get("pre_tokenizer"),
            "post_processor": document.get("post_processor"), "decoder": document["decoder"], "model": model}


# GGUF -----------------------------------------------------------------------------------------------------------------

# What tokenizer.ggml.pre is for a pipeline; and the model files that GGUF can describe (a mark behind words it cannot).
PRES = {"gpt2": "gpt-2", "llama3": "llama-bpe", "qwen2": "qwen2", "tekken": "tekken", "smollm": "smollm", "default": "default"}
MODEL_FILES = ["spm-llama", "spm-gemma", "spm-t5", "spm-bytes", "spm-unused"]
KNOWS_FLAGS = re.compile("tool|<mask>")  # a text with tokens whose flags (single_word, lstrip …) a GGUF file doesn't hold


def write_gguf(path: pathlib.Path, document: dict | None, model: bytes | None, name: str) -> None:
    """The settings that llama.cpp's converters write for a whole tokenizer.json of bytes, or for a model file."""
    writer = gguf.GGUFWriter(path, "llama")
    if document:
        tokens = {i: (t, gguf.TokenType.NORMAL) for t, i in document["model"]["vocab"].items()}
        tokens |= {t["id"]: (t["content"], gguf.TokenType.CONTROL if t["special"] else gguf.TokenType.USER_DEFINED)
                   for t in document["added_tokens"]}
        listed = [tokens[i] for i in range(len(tokens))]
        names = [t for t, _ in listed]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(PRES[name])
        writer.add_token_list(names)
        writer.add_token_types([t for _, t in listed])
        writer.add_token_merges(document["model"]["merges"])
        end, bos = names.index("<|endoftext|>"), "<|begin_of_text|>"
        writer.add_bos_token_id(names.index(bos) if bos in names else end)
        writer.add_eos_token_id(end)
        if "<|im_end|>" in names:
            writer.add_eot_token_id(names.index("<|im_end|>"))
        writer.add_add_bos_token(bos in names)
        writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}")
    else:
        trainer, normalizer = (dict(fields(dict(fields(model))[n])) for n in (2, 3))
        writer.add_tokenizer_model("t5" if trainer.get(3, 1) == 1 else "llama")
        writer.add_token_list([n for n, _, _ in pieces(model)])
        writer.add_token_scores([s for _, s, _ in pieces(model)])
        writer.add_token_types([t for _, _, t in pieces(model)])
        writer.add_add_space_prefix(bool(normalizer.get(3, 1)))
        writer.add_remove_extra_whitespaces(bool(normalizer.get(4, 1)))
        if charsmap(model):
            writer.add_precompiled_charsmap(charsmap(model))
        for add, number, otherwise in ((writer.add_unk_token_id, 40, 0), (writer.add_bos_token_id, 41, 1), (writer.add_eos_token_id, 42, 2)):
            if (i := trainer.get(number, otherwise)) < len(pieces(model)):
                add(i)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()


# tekken.json -----------------------------------------------------------------------------------------------------------

def tekken_document(bytes_model: dict) -> dict:
    """Mistral's own file, with more tokens than the model has, as the published one."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    char = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
    names = sorted(bytes_model["vocab"], key=bytes_model["vocab"].get)
    special = ["<unk>", "<s>", "</s>", "[INST]", "[AUDIO]"]
    return {"config": {"pattern": TEKKEN, "num_vocab_tokens": len(names), "default_vocab_size": len(names) + 20 - 8,
                       "default_num_special_tokens": 20, "version": "v13"},
            "vocab": [{"rank": i, "token_bytes": b64encode(bytes(char[c] for c in name)).decode(), "token_str": None}
                      for i, name in enumerate(names)],
            "special_tokens": [{"rank": i, "token_str": t, "is_control": True} for i, t in enumerate(special)],
            "audio": {"sampling_rate": 16000, "audio_encoding_config": {"num_mel_bins": 128}}}


class ByRank:
    """What tiktoken does with such a file, slowly."""

    def __init__(self, document: dict):
        config = document["config"]
        self.specials, self.size = config["default_num_special_tokens"], config["default_vocab_size"]
        self.ranks = {b64decode(t["token_bytes"]): t["rank"] for t in document["vocab"][:self.size - self.specials]}
        self.bytes = {rank + self.specials: token for token, rank in self.ranks.items()}
        self.split = pre_tokenizers.Split(Regex(config["pattern"]), "isolated")

    def encode(self, text: str) -> list[int]:
        out = []
        for piece, _ in self.split.pre_tokenize_str(text):
            parts = [bytes([b]) for b in piece.encode()]
            while len(parts) > 1:
                ranked = [(self.ranks.get(a + b, 1 << 30), i) for i, (a, b) in enumerate(zip(parts, parts[1:]))]
                rank, at = min(ranked)
                if rank == 1 << 30:
                    break
                parts[at:at + 2] = [parts[at] + parts[at + 1]]
            out += [self.ranks[p] + self.specials for p in parts]
        return out

    def decode(self, ids: list[int]) -> str:
        return b"".join(self.bytes.get(i, b"") for i in ids).decode("utf-8", errors="replace")


# Texts ----------------------------------------------------------------------------------------------------------------

def lines(rng: random.Random, count: int, longest: int) -> list[str]:
    """Lines of every script and category, emoji, marks, jamo, white space, code, special tokens; without line feeds."""
    categories, scripts = characters()
    jamo = [[chr(c) for c in r] for r in (range(0x1100, 0x1113), range(0x1161, 0x1176), range(0x11A7, 0x11C3), range(0xAC00, 0xAC40))]
    marks = categories["Mn"] + categories["Mc"]
    composed = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000
                and unicodedata.normalize("NFKD", chr(c)) != chr(c)]
    words = [w for t in [*TRAINING_TEXT, *CODE] for w in t.split()]
    spaces = [s for s in SPACES + NOT_SPACES if s != "\n"]

    def word():
        members = rng.choice(list(scripts.values()))
        return "".join(rng.choices(members, k=rng.randrange(1, 7)))

    def marked():
        base = rng.choice(rng.choice([rng.choice(list(scripts.values())), *categories.values()]))
        return base + "".join(rng.choices(marks, k=rng.choice((1, 1, 1, 2, 3, 6))))

    kinds = [
        lambda: " ".join(rng.choices(words, k=rng.randrange(1, 6))),
        lambda: rng.choice(TRAINING_TEXT)[rng.randrange(40):][:rng.randrange(3, 50)],
        lambda: rng.choice(CODE).replace("\n", "\r")[rng.randrange(8):],
        lambda: " ".join(word() for _ in range(rng.randrange(1, 4))),
        lambda: "".join(rng.choice(m) for m in rng.choices(list(categories.values()), k=rng.randrange(1, 8))),
        lambda: "".join(marked() for _ in range(rng.randrange(1, 4))),
        lambda: "".join(rng.choice(rng.choice(jamo)) for _ in range(rng.randrange(1, 8))) + rng.choice(["", marked()]),
        lambda: unicodedata.normalize(rng.choice(["NFC", "NFD", "NFKC", "NFKD"]), "".join(rng.choices(composed, k=rng.randrange(1, 6)))),
        lambda: rng.choice(composed) + rng.choice(marks) + rng.choice(["", "\u200d", "\u200c", "\ufe0f"]) + rng.choice(composed),
        lambda: "".join(rng.choices(EMOJI, k=rng.randrange(1, 4))) + rng.choice(["", "\u200d", "\ufe0f", " ok"]),
        lambda: "".join(rng.choices(spaces + [" "] * 20, k=rng.randrange(1, 6))).join(rng.choices(words + spaces, k=rng.randrange(1, 5))),
        lambda: " " * rng.randrange(1, 9) + rng.choice(words) + " " * rng.randrange(9),
        lambda: rng.choice(["", " ", "-", "$"]) + "".join(rng.choices("0123456789.,٣४二Ⅷ½", k=rng.randrange(1, 14))),
        lambda: "".join(rng.choices(SPECIAL + ["", " ", "  ", *words[:30]], k=rng.randrange(1, 6))),
        lambda: rng.choice(["'", "’"]).join(rng.choice(words + ["s", "T", "LL", "ve", "ſ", "RE"]) for _ in range(3)),
        lambda: rng.choice("aéßΣжא今🙂e\u0301 ") * rng.randrange(1, 40),
    ]
    out = []
    while len(out) < count:
        text = rng.choice(kinds)()
        if rng.random() < 0.15:
            text += rng.choice(kinds)()
        if rng.random() < 0.002:
            text = (text or "a") * rng.randrange(1, max(2, longest // max(1, len(text))))
        out.append(text.replace("\n", "\r"))
    return out


def broken(rng: random.Random, texts: list[str]) -> list[bytes]:
    """Lines that are not UTF-8, most of them."""
    out = []
    for text in texts:
        data = bytearray(text.encode())
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data) + 1)
            if rng.random() < 0.4 and data:
                del data[min(at, len(data) - 1)]
            else:
                data[at:at] = rng.choice([b"\xff", b"\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
        out.append(bytes(data.replace(b"\n", b"\r")))
    return out
