"""Writes tests/golden/llm_tokenizers/: small tokenizers of language models and what `tokenizers` and `sentencepiece` make of
1,000 lines. Files: README.md. All 20,000 lines: tests/slow/tokenizers_test.py.

    python make_llm_tokenizers.py [--out DIRECTORY]
"""
import argparse
import json
import pathlib
import random
import sys

import numpy as np
import sentencepiece
from tokenizers import Tokenizer

import llm_tokenizers as llm

HERE = pathlib.Path(__file__).parent


def write_json(path: pathlib.Path, document) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def id_lists(rng: random.Random, encoded: list[list[int]], size: int, byte_ids: list[int], count: int = 40) -> list[list[int]]:
    """Ids to decode: what texts gave, and random ones with many bytes among them."""
    out = [ids[:40] for ids in rng.sample(encoded, count)]
    for _ in range(2 * count):
        out.append([rng.choice(byte_ids) if byte_ids and rng.random() < 0.5 else rng.randrange(size)
                    for _ in range(rng.randrange(1, 12))])
    if byte_ids:
        for text in ("e282ac", "e282ace2", "e282ff", "f09f9880", "20e282ac", "ed a0 80", "c080", "e2ac", "80"):
            out.append([byte_ids[b] for b in bytes.fromhex(text)])
    return out


def digest(ids: list[int]) -> int:
    """FNV-1a of 32 bits over the ids."""
    value = 0x811C9DC5
    for i in ids:
        value = (value ^ i) * 0x01000193 & 0xFFFFFFFF
    return value


def write_digests(folder: pathlib.Path, encoded: list[list[int]]) -> None:
    np.save(folder / "digests.npy", np.array([digest(ids) for ids in encoded], dtype=np.uint32))


def main() -> None:
    assert sys.version_info[:2] == (3, 11), "the fixtures were made with Python 3.11's Unicode tables"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    out = parser.parse_args().out / "llm_tokenizers"
    out.mkdir(exist_ok=True)
    rng = random.Random(7)
    texts = [t[:400] for t in llm.lines(rng, 960, 400)]
    broken = llm.broken(rng, llm.lines(rng, 40, 100))
    (out / "corpus.jsonl").write_text(
        "".join(json.dumps(t, ensure_ascii=False) + "\n" for t in texts)
        + "".join(json.dumps({"hex": b.hex()}) + "\n" for b in broken), encoding="utf-8")

    all_texts = texts + [b.decode("utf-8", errors="replace") for b in broken]
    bytes_model = llm.byte_model()
    write_json(out / "bytes_model.json", bytes_model)
    files = llm.piece_models(full=False)
    for name, document in llm.documents(files, bytes_model).items():
        folder = out / name
        folder.mkdir(exist_ok=True)
        write_json(folder / ("tokenizer.json" if "model" in document else "pipeline.json"),
                   llm.complete(document, bytes_model) if "model" in document else document)
        if name in llm.PRES:
            llm.write_gguf(folder / "tokens.gguf", llm.complete(document, bytes_model), None, name)
        tokenizer = Tokenizer.from_str(json.dumps(llm.complete(document, bytes_model)))
        encoded = [e.ids for e in tokenizer.encode_batch(all_texts, add_special_tokens=False)]
        write_digests(folder, encoded)
        size = tokenizer.get_vocab_size()
        named = [tokenizer.token_to_id(f"<0x{b:02X}>") for b in range(256)]
        cases = [{"ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=False), "text_skip_special": tokenizer.decode(ids)}
                 for ids in id_lists(rng, encoded, size, named if None not in named else [], 20)]
        write_json(folder / "expected.json", {"around": tokenizer.encode("a").ids, "plain": tokenizer.encode("a", add_special_tokens=False).ids,
                                              "decode": cases})
    for name, model in files.items():
        folder = out / name
        folder.mkdir(exist_ok=True)
        (folder / "tokenizer.model").write_bytes(model)
        if name in llm.MODEL_FILES:
            llm.write_gguf(folder / "tokens.gguf", None, model, name)
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        encoded = [processor.encode(t) for t in texts] + [processor.encode(b) for b in broken]
        write_digests(folder, encoded)
        named = [i for i, (_, _, kind) in enumerate(llm.pieces(model)) if kind == 6]
        cases = [{"ids": ids, "text_skip_special": processor.decode(ids)}
                 for ids in id_lists(rng, encoded, processor.get_piece_size(), named, 20)]
        write_json(folder / "expected.json", {"decode": cases})
    folder = out / "tekken-file"
    folder.mkdir(exist_ok=True)
    document = llm.tekken_document(bytes_model)
    write_json(folder / "tekken.json", document)
    reference = llm.ByRank(document)
    encoded = [reference.encode(t) for t in all_texts]
    write_digests(folder, encoded)
    write_json(folder / "expected.json", {
        "around": [1, *reference.encode("a")], "plain": reference.encode("a"),
        "decode": [{"ids": ids, "text_skip_special": reference.decode(ids)} for ids in id_lists(rng, encoded, reference.size, [], 20)]})
    print(len(all_texts), "lines")


if __name__ == "__main__":
    main()
