"""llama-cpp-python as convert_test.py asks for it; run by a Python that has it. A request as JSON on stdin, the answer on stdout.

  {"do": "quantize", "from": "a.gguf", "to": "b.gguf", "type": 15}
  {"do": "read", "model": "a.gguf", "texts": ["..."], "ids": [1, 2], "greedy": 16, "logits": "out.npy"}
"""
import ctypes
import json
import sys

import llama_cpp
import numpy


def quantize(ask: dict) -> dict:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = ask["type"]
    params.nthread = 2
    code = llama_cpp.llama_model_quantize(ask["from"].encode(), ask["to"].encode(), ctypes.byref(params))
    return {"code": code}


def read(ask: dict) -> dict:
    model = llama_cpp.Llama(ask["model"], n_ctx=256, n_threads=2, logits_all=True, verbose=False, n_gpu_layers=0)
    answer = {"tokens": [model.tokenize(t.encode(), add_bos=True, special=True) for t in ask["texts"]],
              "bos": model.token_bos(), "eos": model.token_eos(), "vocab": model.n_vocab(),
              "template": model.metadata.get("tokenizer.chat_template", "")}
    answer["back"] = [model.detokenize(t).decode(errors="replace") for t in answer["tokens"]]
    ids = list(ask["ids"])
    model.eval(ids)
    numpy.save(ask["logits"], numpy.array(model.scores[:len(ids)], dtype=numpy.float32))
    greedy = []
    for _ in range(ask["greedy"]):
        greedy.append(int(numpy.argmax(model.scores[model.n_tokens - 1])))
        model.eval([greedy[-1]])
    answer["greedy"] = greedy
    answer["text"] = model.detokenize(greedy).decode(errors="replace")
    return answer


def main() -> None:
    ask = json.load(sys.stdin)
    json.dump({"quantize": quantize, "read": read}[ask["do"]](ask), sys.stdout)


if __name__ == "__main__":
    main()
