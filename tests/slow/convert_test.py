#!/usr/bin/env python3
"""Files of `sotto convert` as other programs read them: gguf-py and safetensors (values and settings), llama-cpp-python (tokens,
logits, greedy text), and llama.cpp's own quantizer on the same weights (types and sizes of its mixes).

Needs $SOTTO_PYTHON with tests/requirements.txt (transformers, gguf). What asks llama.cpp needs $SOTTO_LLAMA_PYTHON, a Python with
llama-cpp-python==0.3.36 and numpy (python3 -m venv V && V/bin/pip install llama-cpp-python==0.3.36: a build of ten minutes);
without it that part is skipped. scripts/test_full runs all tests/slow/*_test.*: SOTTO_LLAMA_PYTHON=V/bin/python scripts/test_full slow
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOTTO = os.environ.get("SOTTO", str(ROOT / "build/release/sotto"))
LLAMA = os.environ.get("SOTTO_LLAMA_PYTHON", "")

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEXTS = ["sotto plans a budget, and 1234 bytes more are refused.", " Ünïcödé 北京 🙂\n\n  two  spaces", "it's <|end|> they'LL"]
MIXES = {"q4_k_m": 15, "q5_k_m": 17, "q3_k_m": 12, "q6_k": 18, "q4_k_s": 14}
PURE = {"q2_k": 10, "q8_0": 7, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9}  # types here; there mixes of that name


def make_tokenizer(kind: str, folder: str) -> None:
    """A small tokenizer of the family's kind, trained on the repository's own documents."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast
    texts = [p.read_text() for p in sorted(ROOT.glob("docs/*.md"))[:12]]
    specials = ["<unk>", "<s>", "</s>"] if kind == "llama2" else ["<|begin|>", "<|end|>"]
    if kind == "llama2":
        tok = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tok.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # while it learns
        bytes_ = [f"<0x{b:02X}>" for b in range(256)]
        tok.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=900, special_tokens=specials + bytes_, show_progress=False))
        state = json.loads(tok.to_str())
        state["pre_tokenizer"] = None
        state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in specials]
        tok = Tokenizer.from_str(json.dumps(state))
        tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                         decoders.Strip(" ", 1, 0)])
    else:
        tok = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
        if kind == "qwen2":
            tok.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(Regex(LLAMA3 if kind == "llama3" else QWEN2), "isolated")
        tok.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        tok.decoder = decoders.ByteLevel()
        tok.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=700, special_tokens=specials, show_progress=False,
                                                           initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
        tok.add_tokens([AddedToken("<tool_call>", special=False, normalized=False)])
    bos = specials[-2]
    if kind != "qwen2":
        tok.post_processor = processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
                                                           special_tokens=[(bos, tok.token_to_id(bos))])
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, bos_token=bos, eos_token=specials[-1],
                                   unk_token="<unk>" if kind == "llama2" else None)
    fast.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    fast.save_pretrained(folder)


def make_model(kind: str, folder: str) -> None:
    """A random checkpoint of the family, widths multiples of 256, with a tokenizer."""
    import torch
    import transformers
    make_tokenizer("llama2" if kind in ("llama2", "mistral") else "llama3" if kind == "llama3" else "qwen2", folder)
    common = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2,
                  max_position_embeddings=512, vocab_size=960, rms_norm_eps=1e-5, initializer_range=0.08,
                  tie_word_embeddings=kind in ("llama3", "qwen3"), bos_token_id=1, eos_token_id=2)
    scaling = {"rope_type": "llama3", "rope_theta": 50000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}
    make = {"llama2": lambda: transformers.LlamaConfig(**common),
            "llama3": lambda: transformers.LlamaConfig(**common, rope_parameters=scaling),
            "mistral": lambda: transformers.MistralConfig(**common, sliding_window=None, head_dim=64),
            "qwen2": lambda: transformers.Qwen2Config(**common, rope_parameters={
                "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}),
            "qwen3": lambda: transformers.Qwen3Config(**common, head_dim=32)}
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(make[kind]()).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.copy_(1 + 0.2 * torch.randn(parameter.shape))
            if name.endswith("bias"):
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    dtype = {"llama3": torch.bfloat16, "qwen2": torch.float16}.get(kind, torch.float32)
    model.to(dtype).save_pretrained(folder, max_shard_size="2MB" if kind == "llama3" else "1GB")


def convert(folder: str, weights: str, out: str) -> dict:
    ran = subprocess.run([SOTTO, "convert", folder, "--weights", weights, "-o", out, "--force", "--json"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout)


def tensors_of(folder: str) -> dict:
    import safetensors.torch
    all_ = {}
    for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
        all_.update({k: v.float().numpy() for k, v in safetensors.torch.load_file(file).items()})
    return all_


def paired(rows, heads: int):
    """transformers' halves of a head to GGUF's pairs."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def check_values(kind: str, folder: str, file: str) -> int:
    """Every tensor against gguf-py's own quantization of the checkpoint; returns how many were compared bit by bit."""
    import gguf
    import numpy
    reader = gguf.GGUFReader(file)
    arch = str(reader.fields["general.architecture"].contents())
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, arch.upper()), 6)
    want = {}
    for name, value in tensors_of(folder).items():
        stem, suffix = name.rsplit(".", 1)
        heads = 4 if ".q_proj." in name else 2 if ".k_proj." in name else 0
        want[f"{names.get_name(stem)}.{suffix}"] = paired(value, heads) if heads and arch == "llama" else value
    exact = 0
    for tensor in reader.tensors:
        if tensor.name == "rope_freqs.weight":
            continue
        source = want.pop(tensor.name)
        got = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(source.shape)
        kind_name = tensor.tensor_type.name
        if "_K" in kind_name:
            error = numpy.sqrt(numpy.mean((got - source) ** 2) / numpy.mean(source ** 2))
            assert error < {"Q2_K": 0.3, "Q3_K": 0.15, "Q4_K": 0.08, "Q5_K": 0.04, "Q6_K": 0.02}[kind_name], (tensor.name, error)
            continue
        expected = gguf.quants.dequantize(gguf.quants.quantize(source, tensor.tensor_type), tensor.tensor_type)
        assert numpy.array_equal(got, expected.reshape(source.shape)), (kind, file, tensor.name, kind_name)
        exact += 1
    assert not [n for n in want if n != "output.weight"], want.keys()
    return exact


def check_settings(kind: str, folder: str, file: str) -> None:
    import gguf
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoTokenizer
    reader = gguf.GGUFReader(file)
    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    field = {k: v.contents() for k, v in reader.fields.items()}
    arch = {"llama2": "llama", "llama3": "llama", "mistral": "llama"}.get(kind, kind)
    head_dim = getattr(config, "head_dim", None) or 64
    expected = {"general.architecture": arch, f"{arch}.block_count": 6, f"{arch}.context_length": 512,
                f"{arch}.embedding_length": 256, f"{arch}.feed_forward_length": 512, f"{arch}.attention.head_count": 4,
                f"{arch}.attention.head_count_kv": 2, f"{arch}.vocab_size": 960, f"{arch}.attention.key_length": head_dim,
                f"{arch}.attention.value_length": head_dim, f"{arch}.rope.dimension_count": head_dim,
                "general.alignment": 32, "general.quantization_version": 2,
                "tokenizer.ggml.model": "llama" if kind in ("llama2", "mistral") else "gpt2",
                "tokenizer.ggml.pre": {"llama3": "llama-bpe", "llama2": "default", "mistral": "default"}.get(kind, "qwen2"),
                "tokenizer.ggml.bos_token_id": tokenizer.bos_token_id, "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
                "tokenizer.ggml.add_bos_token": arch == "llama", "tokenizer.chat_template": tokenizer.chat_template}
    if kind == "qwen2":
        expected |= {"qwen2.rope.scaling.type": "yarn", "qwen2.rope.scaling.factor": 4.0,
                     "qwen2.rope.scaling.original_context_length": 128}
    for key, value in expected.items():
        assert field.get(key) == value, (kind, key, field.get(key), value)
    assert abs(field[f"{arch}.attention.layer_norm_rms_epsilon"] - 1e-5) < 1e-11
    tokens, types = field["tokenizer.ggml.tokens"], field["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == 960
    vocabulary = Tokenizer.from_file(f"{folder}/tokenizer.json").get_vocab()  # AutoTokenizer may add the family's own
    for text, token in vocabulary.items():
        assert tokens[token] == text, (token, tokens[token], text)
    assert all(types[i] == 5 for i in range(960) if i not in vocabulary.values())


def ask_llama(ask: dict) -> dict:
    ran = subprocess.run([LLAMA, str(ROOT / "tests/slow/llama_peer.py")], input=json.dumps(ask), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout)


def sotto_logits(model: str, ids: list, out: str, greedy: int, weights: str = "auto") -> list:
    ran = subprocess.run([SOTTO, "logits", model, "--ids", ",".join(map(str, ids)), "--greedy", str(greedy), "--ignore-eos",
                          "--weights", weights, "-o", out], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    return json.loads(ran.stdout)["ids"]


def check_theirs(kind: str, mix: str, file: str, ids: list, tmp: str) -> None:
    """A file of llama.cpp's quantizer, read by both. Each rounds activations in its own way; what the weights decode to is exact in
    sotto's fp32, and the distance to that is what either loses."""
    import numpy
    said = ask_llama({"do": "read", "model": file, "texts": [], "ids": ids, "greedy": 16, "logits": f"{tmp}/theirs.npy"})
    ours = sotto_logits(file, ids, f"{tmp}/ours.npy", 16)
    sotto_logits(file, ids, f"{tmp}/exact.npy", 16, "fp32")
    theirs, mine, exact = (numpy.load(f"{tmp}/{n}.npy") for n in ("theirs", "ours", "exact"))
    size = numpy.sqrt(numpy.mean(exact ** 2))
    lost, they_lost = (float(numpy.sqrt(numpy.mean((x - exact) ** 2)) / size) for x in (mine, theirs))
    same = next((i for i, (a, b) in enumerate(zip(said["greedy"], ours)) if a != b), 16)
    best = numpy.sort(exact, axis=1)[:, -2:]
    clear = best[:, 1] - best[:, 0] > 6 * max(lost, they_lost) * size
    assert numpy.array_equal(theirs.argmax(1)[clear], mine.argmax(1)[clear]), (kind, mix)
    assert lost < 1.25 * they_lost, (kind, mix, lost, they_lost)
    print(f"{kind} {mix} by llama.cpp: from exact arithmetic sotto's logits are {lost:.1e} (relative rms), llama.cpp's {they_lost:.1e}; "
          f"greedy ids equal for {same} of 16", flush=True)


def check_llama(kind: str, folder: str, tmp: str) -> None:
    """The same tokens and greedy ids in llama.cpp; its quantizer gives the same tensors the same types."""
    import gguf
    import numpy
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [i % 900 for i in range(3, 963, 20)]
    ours = sotto_logits(folder, ids, f"{tmp}/ours.npy", 16)
    want = numpy.load(f"{tmp}/ours.npy")
    for weights, limit in (("f32", 2e-3), ("f16", 1e-2), ("q8_0", 0.1), ("q4_k_m", 0.8)):
        said = ask_llama({"do": "read", "model": f"{tmp}/{kind}-{weights}.gguf", "texts": TEXTS, "ids": ids, "greedy": 16,
                          "logits": f"{tmp}/theirs.npy"})
        theirs = numpy.load(f"{tmp}/theirs.npy")
        error = float(numpy.sqrt(numpy.mean((theirs - want) ** 2) / numpy.mean(want ** 2)))
        assert error < limit, (kind, weights, error)
        if weights == "f32":
            assert said["greedy"] == ours, (kind, said["greedy"], ours)
            assert said["text"].strip() == tokenizer.decode(ours).strip(), (kind, said["text"], tokenizer.decode(ours))
            for text, got in zip(TEXTS, said["tokens"]):
                expected = tokenizer.encode(text)
                expected = expected if expected[:1] == [tokenizer.bos_token_id] or kind.startswith("qwen") else [said["bos"], *expected]
                assert got == expected, (kind, text, got, expected)
            assert said["template"] == tokenizer.chat_template
        print(f"{kind} {weights}: llama.cpp's logits differ by {error:.1e} (relative rms)", flush=True)
    for mix, number in (MIXES | PURE).items():
        theirs, mine = f"{tmp}/theirs.gguf", f"{tmp}/mine.gguf"
        assert ask_llama({"do": "quantize", "from": f"{tmp}/{kind}-f16.gguf", "to": theirs, "type": number})["code"] == 0
        check_theirs(kind, mix, theirs, ids, tmp)
        if mix in PURE:
            continue
        convert(folder, mix, mine)
        types = [{t.name: t.tensor_type.name for t in gguf.GGUFReader(f).tensors} for f in (theirs, mine)]
        assert types[0] == types[1], (kind, mix, {n: (types[0].get(n), types[1].get(n)) for n in types[0]
                                                  if types[0].get(n) != types[1].get(n)})


def check_int8(folder: str, out: str) -> None:
    import numpy
    import safetensors
    convert(folder, "int8", out)
    source, count = tensors_of(folder), 0
    with safetensors.safe_open(f"{out}/model.safetensors", "pt") as file:
        assert file.metadata()["sotto.weights"] == "int8"
        for name in file.keys():
            tensor = file.get_tensor(name)
            if name.endswith(".scale"):
                continue
            if f"{name}.scale" not in file.keys():
                assert numpy.array_equal(tensor.float().numpy(), source[name]), name
                continue
            scale, rows = file.get_tensor(f"{name}.scale").numpy(), source[name]
            most = numpy.abs(rows).max(axis=1)
            assert numpy.array_equal(scale, (most / numpy.float32(127)).astype(numpy.float32)), name
            codes = numpy.rint(rows * (numpy.float32(127) / most)[:, None]).astype(numpy.int8)
            assert numpy.array_equal(tensor.numpy(), codes), name
            count += 1
    assert count == 6 * 7 + 1 + ("lm_head.weight" in source), count


def main() -> None:
    python = os.environ.get("SOTTO_PYTHON", "")
    try:
        import gguf  # noqa: F401
        import transformers  # noqa: F401
    except ImportError:
        if python and pathlib.Path(python).resolve() != pathlib.Path(sys.executable).resolve() and "SOTTO_AGAIN" not in os.environ:
            os.environ["SOTTO_AGAIN"] = "1"
            os.execv(python, [python, *sys.argv])
        print("SKIP: needs $SOTTO_PYTHON with the packages of tests/requirements.txt")
        return
    if not pathlib.Path(SOTTO).exists():
        print("SKIP: needs build/release/sotto")
        return
    for kind in sys.argv[1:] or ("llama2", "llama3", "mistral", "qwen2", "qwen3"):
        with tempfile.TemporaryDirectory() as tmp:
            folder = f"{tmp}/{kind}"
            make_model(kind, folder)
            exact = 0
            for weights in ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_m", "q5_k_m"):
                file = f"{tmp}/{kind}-{weights}.gguf"
                convert(folder, weights, file)
                exact += check_values(kind, folder, file)
                check_settings(kind, folder, file)
            check_int8(folder, f"{tmp}/int8")
            print(f"{kind}: {exact} tensors bit-equal to gguf-py's", flush=True)
            if LLAMA:
                check_llama(kind, folder, tmp)
    if not LLAMA:
        print("SKIP: what asks llama.cpp needs $SOTTO_LLAMA_PYTHON, a Python with llama-cpp-python==0.3.36")


if __name__ == "__main__":
    main()
