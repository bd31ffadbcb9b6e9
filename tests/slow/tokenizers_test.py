#!/usr/bin/env python3
"""`sotto tokenize` against `tokenizers` and `sentencepiece` on 20,000 lines of every script, emoji, marks, jamo, white space, code,
special tokens and broken UTF-8, for every pipeline of tests/golden/llm_tokenizers.py with SentencePiece's own character maps, and
the same from GGUF files where those can say it.
Prints the mismatches of each; there must be none. LINES=1000 shortens it; names on the command line pick tokenizers.

Broken UTF-8: `tokenizers` takes none, so it gets what Python's errors="replace" makes of it (U+FFFD for each maximal part),
which is what sotto does; sentencepiece gets the bytes.
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOTTO = pathlib.Path(os.environ.get("SOTTO", ROOT / "build/release/sotto"))
sys.path.insert(0, str(ROOT / "tests/golden"))
try:
    import sentencepiece
    from tokenizers import Tokenizer

    import llm_tokenizers as llm
    from make_llm_tokenizers import id_lists
except ImportError as missing:
    print(f"SKIP: {missing} (tests/requirements.txt)")
    sys.exit(0)


def sotto(folder: pathlib.Path, lines: list[bytes], *flags: str) -> list[dict]:
    run = subprocess.run([SOTTO, "tokenize", folder, "--lines", "--json", *flags], input=b"\n".join(lines) + b"\n",
                         capture_output=True)
    if run.returncode != 0:
        sys.exit(f"{folder}: exit {run.returncode}: {run.stderr.decode()}{run.stdout.decode()[-500:]}")
    return [json.loads(line) for line in run.stdout.split(b"\n") if line]


def compare(what: str, given: list, expected: list, found: list) -> int:
    assert len(given) == len(expected) == len(found), (what, len(given), len(expected), len(found))
    wrong = [i for i, (e, f) in enumerate(zip(expected, found)) if e != f]
    for i in wrong[:3]:
        print(f"{what}: {given[i]!r:.300}\n  expected {expected[i]!r:.300}\n  found    {found[i]!r:.300}")
    return len(wrong)


def check(name: str, folder: pathlib.Path, lines: list[bytes], encode, decode, ids_of, flags: list[str], skips: list[bool],
          gguf: bool = False) -> int:
    expected = encode(lines)
    cases = ids_of(expected)
    asked = [json.dumps(ids).encode() for ids in cases]
    texts = {skip: [decode(ids, skip) for ids in cases] for skip in skips}
    total = 0
    for source in [folder, folder / "tokens.gguf"] if gguf else [folder]:
        what = f"{name} (GGUF)" if source != folder else name
        whole = source == folder or name != "qwen2"
        keep = [i for i, line in enumerate(lines) if whole or not llm.KNOWS_FLAGS.search(line.decode(errors="replace"))]
        given = [lines[i] for i in keep]
        wrong = compare(f"{what}, encode", given, [expected[i] for i in keep], [d["ids"] for d in sotto(source, given, *flags)])
        undone = sum(compare(f"{what}, decode", cases, texts[skip], [
            d["text"] for d in sotto(source, asked, "--decode", *(["--no-special"] if skip else []))]) for skip in skips)
        print(f"{what:22} {len(given)} lines, {sum(map(len, expected))} ids: {wrong} mismatches; "
              f"{len(cases) * len(skips)} lists of ids: {undone} mismatches", flush=True)
        total += wrong + undone
    return total


def main() -> None:
    if not SOTTO.exists():
        print("SKIP: needs build/release/sotto")
        return
    count, rng, picked = int(os.environ.get("LINES", "20000")), random.Random(11), sys.argv[1:]
    texts = llm.lines(rng, count - count // 20, 20_000)
    lines = [t.encode() for t in texts] + llm.broken(rng, llm.lines(rng, count // 20, 200))
    wrong = 0
    bytes_model, files = llm.byte_model(), llm.piece_models(full=True)
    with tempfile.TemporaryDirectory() as scratch:
        def folder(name: str) -> pathlib.Path:
            path = pathlib.Path(scratch) / name
            path.mkdir()
            return path

        for name, document in llm.documents(files, bytes_model).items():
            if picked and name not in picked:
                continue
            at = folder(name)
            (at / "tokenizer.json").write_text(json.dumps(llm.complete(document, bytes_model)))
            if name in llm.PRES:
                llm.write_gguf(at / "tokens.gguf", llm.complete(document, bytes_model), None, name)
            tokenizer = Tokenizer.from_file(str(at / "tokenizer.json"))
            named = [tokenizer.token_to_id(f"<0x{b:02X}>") for b in range(256)]
            wrong += check(
                name, at, lines,
                lambda data: [e.ids for e in tokenizer.encode_batch([d.decode("utf-8", errors="replace") for d in data],
                                                                    add_special_tokens=False)],
                lambda ids, skip: tokenizer.decode(ids, skip_special_tokens=skip),
                lambda encoded: encoded[:2000] + id_lists(rng, encoded, tokenizer.get_vocab_size(), named if None not in named else []),
                [], [False, True], gguf=name in llm.PRES)
        for name, model in files.items():
            if picked and name not in picked:
                continue
            at = folder(name)
            (at / "tokenizer.model").write_bytes(model)
            if name in llm.MODEL_FILES:
                llm.write_gguf(at / "tokens.gguf", None, model, name)
            processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            named = [i for i, (_, _, kind) in enumerate(llm.pieces(model)) if kind == 6]
            wrong += check(name, at, lines, lambda data: [processor.encode(d) for d in data],
                           lambda ids, _: processor.decode(ids),
                           lambda encoded: encoded[:2000] + id_lists(rng, encoded, processor.get_piece_size(), named),
                           ["--no-special"], [True], gguf=name in llm.MODEL_FILES)
        if not picked or "tekken-file" in picked:
            at, document = folder("tekken-file"), llm.tekken_document(bytes_model)
            (at / "tekken.json").write_text(json.dumps(document))
            reference = llm.ByRank(document)
            wrong += check("tekken-file", at, [l for l in lines if len(l) < 2000],
                           lambda data: [reference.encode(d.decode("utf-8", errors="replace")) for d in data],
                           lambda ids, _: reference.decode(ids),
                           lambda encoded: encoded[:2000] + id_lists(rng, encoded, reference.size, []), ["--no-special"], [True])
    print(f"{wrong} mismatches in all")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
