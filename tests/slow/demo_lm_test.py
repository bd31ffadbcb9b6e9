#!/usr/bin/env python3
"""models/demo-lm in GGUF files of both makers: what `sotto convert` wrote, llama.cpp reads; what llama.cpp's quantizer wrote, sotto
runs; and both answer the same questions with the same text.

Needs $SOTTO_PYTHON and $SOTTO_LLAMA_PYTHON as convert_test.py does.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

import convert_test as c

QUESTIONS = ["What is the capital of France?", "What is 3 plus 4?", "Spell tiger.", "What colour is the sky?", "Count from 3 to 9.",
             "Anna has a lemon. What does Anna have?", "What is the opposite of hot?", "Which day comes after Monday?",
             "Repeat: the train to Oxford leaves at noon.", "Which is larger, 17 or 71?"]
TYPES = {"f16": None, "q8_0": 7, "q4_0": 2, "q4_k_m": 15}
TOKENS = 24  # of each answer; ends of turns included


def answers(ids: list, model: str, tmp: str) -> tuple[list, list]:
    theirs = [c.ask_llama({"do": "read", "model": model, "texts": [], "ids": one, "greedy": TOKENS, "logits": f"{tmp}/l.npy"})["greedy"]
              for one in ids]
    return [c.sotto_logits(model, one, f"{tmp}/l.npy", TOKENS) for one in ids], theirs


def main() -> None:
    python = os.environ.get("SOTTO_PYTHON", "")
    try:
        from transformers import AutoTokenizer
    except ImportError:
        if python and "SOTTO_AGAIN" not in os.environ:
            os.environ["SOTTO_AGAIN"] = "1"
            os.execv(python, [python, *sys.argv])
        print("SKIP: needs $SOTTO_PYTHON with the packages of tests/requirements.txt")
        return
    model = sys.argv[1] if len(sys.argv) > 1 else str(c.ROOT / "models/demo-lm")
    if not c.LLAMA or not pathlib.Path(c.SOTTO).exists():
        print("SKIP: needs build/release/sotto and $SOTTO_LLAMA_PYTHON, a Python with llama-cpp-python==0.3.36")
        return
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = [tokenizer.apply_chat_template([{"role": "user", "content": q}], add_generation_prompt=True)["input_ids"] for q in QUESTIONS]
    end = tokenizer.eos_token_id

    def texts(all_: list) -> list:
        return [tokenizer.decode(one[:one.index(end)] if end in one else one) for one in all_]

    with tempfile.TemporaryDirectory() as tmp:
        for name, number in TYPES.items():
            made = {"sotto convert": f"{tmp}/ours-{name}.gguf"}
            c.convert(model, name, made["sotto convert"])
            if number is not None:
                made["llama.cpp"] = f"{tmp}/theirs-{name}.gguf"
                said = c.ask_llama({"do": "quantize", "from": f"{tmp}/ours-f16.gguf", "to": made["llama.cpp"], "type": number})
                assert said["code"] == 0, said
            for maker, file in made.items():
                ours, theirs = (texts(a) for a in answers(ids, file, tmp))
                same = sum(a == b for a, b in zip(ours, theirs))
                print(f"{name} by {maker}: {same} of {len(QUESTIONS)} answers are the same text", flush=True)
                for question, a, b in zip(QUESTIONS, ours, theirs):
                    if a != b:
                        print(f"    {question} sotto: {a!r} llama.cpp: {b!r}", flush=True)
                # Roundings of activations differ between the two; where answers are what the model learnt, the text does not.
                assert same == len(QUESTIONS), (name, maker)
        ran = subprocess.run([c.SOTTO, "run", f"{tmp}/theirs-q4_k_m.gguf", QUESTIONS[0], "--memory", "64MiB"],
                             capture_output=True, text=True)
        assert ran.returncode == 0 and "Paris" in ran.stdout, ran.stdout + ran.stderr
        print("sotto run, on llama.cpp's q4_k_m:", ran.stdout.strip())


if __name__ == "__main__":
    main()
