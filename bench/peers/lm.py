#!/usr/bin/env python3
"""Language models: sotto against llama.cpp on the same GGUF file, in turns, and their peak memory.

    bench/peers/lm.py make DIR [--shape tinyllama|qwen2-0.5b]      random weights, quantized by llama.cpp's own quantizer
    bench/peers/lm.py run FILE.gguf [--rounds 3] [--depths 0,2048,8192]
    bench/peers/lm.py first FILE.gguf [--rounds 3]                 time to first token: open, load, 128 tokens of prompt

Needs llama-cpp-python (0.3.36 was used) in this interpreter, and build/release/sotto_bench_lm. Both sides answer the same lines
(bench/lm_bench.cc); llama.cpp has flash attention, an fp16 cache, batches of 512 and the same number of threads. Ratios are
llama.cpp's seconds over sotto's, of the medians and of the minima; above 1 sotto is faster.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHAPES = {  # vocabulary, width, ffn, layers, heads, kv heads; architecture
    "tinyllama": (32000, 2048, 5632, 22, 32, 4, "llama"),
    "qwen2-0.5b": (151936, 896, 4864, 24, 14, 2, "qwen2"),
    "toy": (4096, 512, 1536, 4, 8, 2, "llama"),
}
TYPES = {"q8_0": 7, "q4_0": 2, "q4_k_m": 15}  # llama_ftype
CONTEXT = 8704


def make(folder: pathlib.Path, shape: str) -> None:
    """Student-t weights, as trained ones look; F16, then each type."""
    import gguf
    import llama_cpp
    import numpy as np

    vocabulary, width, ffn, layers, heads, kv_heads, architecture = SHAPES[shape]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{shape}-f16.gguf"
    if not path.exists():
        w = gguf.GGUFWriter(path, architecture)
        w.add_block_count(layers), w.add_embedding_length(width), w.add_feed_forward_length(ffn), w.add_context_length(16384)
        w.add_head_count(heads), w.add_head_count_kv(kv_heads), w.add_layer_norm_rms_eps(1e-5), w.add_rope_freq_base(1e4)
        w.add_rope_dimension_count(width // heads), w.add_file_type(1)
        w.add_tokenizer_model("gpt2"), w.add_tokenizer_pre("default")
        w.add_token_list([f"t{i}" for i in range(vocabulary)]), w.add_token_types([1] * vocabulary), w.add_token_merges(["t 0"])
        w.add_bos_token_id(0), w.add_eos_token_id(0)
        rng = np.random.default_rng(1)
        pool = (rng.standard_t(6, 1 << 22) * 0.02).astype(np.float16)

        def matrix(name: str, rows: int, cols: int) -> None:
            at = int(rng.integers(0, 1 << 20))
            w.add_tensor(name, np.resize(pool[at:], rows * cols).reshape(rows, cols))

        def ones(name: str, n: int) -> None:
            w.add_tensor(name, np.ones(n, np.float32))

        kv = width // heads * kv_heads
        matrix("token_embd.weight", vocabulary, width), ones("output_norm.weight", width)
        if architecture == "llama":
            matrix("output.weight", vocabulary, width)
        for i in range(layers):
            b = f"blk.{i}"
            ones(f"{b}.attn_norm.weight", width), ones(f"{b}.ffn_norm.weight", width)
            matrix(f"{b}.attn_q.weight", width, width), matrix(f"{b}.attn_k.weight", kv, width)
            matrix(f"{b}.attn_v.weight", kv, width), matrix(f"{b}.attn_output.weight", width, width)
            matrix(f"{b}.ffn_gate.weight", ffn, width), matrix(f"{b}.ffn_up.weight", ffn, width)
            matrix(f"{b}.ffn_down.weight", width, ffn)
            if architecture == "qwen2":
                for part, n in (("q", width), ("k", kv), ("v", kv)):
                    w.add_tensor(f"{b}.attn_{part}.bias", np.zeros(n, np.float32))
        w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
    for name, ftype in TYPES.items():
        out = folder / f"{shape}-{name}.gguf"
        if not out.exists():
            params = llama_cpp.llama_model_quantize_default_params()
            params.ftype, params.nthread = ftype, os.cpu_count()
            if llama_cpp.llama_model_quantize(str(path).encode(), str(out).encode(), params) != 0:
                sys.exit(f"{out} could not be quantized")
        print(out, out.stat().st_size)


def peak() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def serve(path: str, threads: int, repack: bool) -> None:
    """llama.cpp's side."""
    import ctypes

    import llama_cpp as ll

    quiet = ll.llama_log_callback(lambda *_: None)  # held: llama.cpp keeps only its address
    ll.llama_log_set(quiet, ctypes.c_void_p(0))
    begin = time.perf_counter()
    model_params = ll.llama_model_default_params()
    model_params.use_extra_bufts = repack
    model = ll.llama_model_load_from_file(path.encode(), model_params)
    params = ll.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = CONTEXT, 512, 512
    params.n_threads = params.n_threads_batch = threads
    params.flash_attn_type = 1
    context = ll.llama_init_from_model(model, params)
    vocabulary = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
    batch = ll.llama_batch_init(512, 0, 1)
    print(json.dumps({"load_s": time.perf_counter() - begin}), flush=True)
    length = 0

    def read(n: int, at_once: int) -> None:
        nonlocal length
        for first in range(0, n, at_once):
            batch.n_tokens = min(at_once, n - first)
            for i in range(batch.n_tokens):
                batch.token[i] = 1 + (first + i) * 7919 % (vocabulary - 1)
                batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = length + i, 1, 0
                batch.logits[i] = i == batch.n_tokens - 1
            if ll.llama_decode(context, batch) != 0:
                sys.exit("llama_decode failed")
            length += batch.n_tokens

    for line in sys.stdin:
        what, *numbers = line.split()
        if what == "peak":
            print(json.dumps({"peak": peak()}), flush=True)
            continue
        n, depth = map(int, numbers)
        if length > depth:
            ll.llama_memory_seq_rm(ll.llama_get_memory(context), 0, depth, -1)
            length = depth
        read(depth - length, 512)
        begin = time.perf_counter()
        read(n, 512 if what == "prefill" else 1)
        ll.llama_get_logits(context)  # waits for it
        print(json.dumps({"s": time.perf_counter() - begin}), flush=True)


class Side:
    def __init__(self, command: list[str]):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.load = self.answer()["load_s"]

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} ended")
        return json.loads(line)

    def ask(self, line: str) -> dict:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def run(o: argparse.Namespace) -> None:
    ours = [str(ROOT / "build/release/sotto_bench_lm"), o.file, "--threads", str(o.threads), "--kv", o.kv]
    theirs = [sys.executable, __file__, "serve", o.file, "--threads", str(o.threads)]
    sides = {"sotto": Side(ours), "llama.cpp": Side(theirs)}
    depths = [int(d) for d in o.depths.split(",")]
    questions = [f"prefill 512 {d}" for d in sorted({0, max(depths) - 512} if max(depths) >= 512 else {0})]
    questions += [f"decode {o.tokens} {d}" for d in depths]
    rows = {}
    for side in sides.values():  # both reach every depth once before anything is timed
        side.ask(f"decode 1 {max(depths)}")
    for question in sorted(questions, key=lambda q: int(q.split()[2])):
        times = {name: [] for name in sides}
        for _ in range(o.rounds):
            for name, side in sides.items():
                times[name].append(side.ask(question)["s"])
        n = int(question.split()[1])
        ours_s, theirs_s = times["sotto"], times["llama.cpp"]
        rows[question] = {"sotto_tok_s": n / statistics.median(ours_s), "llama_tok_s": n / statistics.median(theirs_s),
                          "ratio": statistics.median(theirs_s) / statistics.median(ours_s), "ratio_of_minima": min(theirs_s) / min(ours_s)}
        print(f"{question:<20} sotto {rows[question]['sotto_tok_s']:8.2f} tok/s   llama.cpp {rows[question]['llama_tok_s']:8.2f} tok/s"
              f"   ratio {rows[question]['ratio']:.2f} (minima {rows[question]['ratio_of_minima']:.2f})", flush=True)
    memory = sides["sotto"].ask("peak")
    theirs_peak = sides["llama.cpp"].ask("peak")["peak"]
    for side in sides.values():
        side.close()
    lean = Side([*theirs, "--no-repack"])  # the peer's smallest form
    lean.ask("prefill 512 0")
    bare = peak()  # of a Python that did nothing else
    rows["memory"] = {"sotto": memory["peak"], "sotto_planned": memory["planned"], "llama": theirs_peak, "llama_without_repacking": lean.ask("peak")["peak"],
                      "python": bare, "file": pathlib.Path(o.file).stat().st_size, "load_s": {n: s.load for n, s in sides.items()}}
    lean.close()
    print(json.dumps(rows["memory"]))
    if o.out:
        pathlib.Path(o.out).write_text(json.dumps(rows, indent=1) + "\n")


def first(o: argparse.Namespace) -> None:
    """A new process each time, the file in the page cache. A virtual machine's host takes back what its guest frees, within seconds,
    and gives it again slowly (2 s for 0.7 GB here): each timed start follows an untimed one of the same side at once."""
    ours = [str(ROOT / "build/release/sotto_bench_lm"), o.file, "--threads", str(o.threads), "--kv", o.kv]
    theirs = [sys.executable, __file__, "serve", o.file, "--threads", str(o.threads)]
    times = {"sotto": [], "llama.cpp": [], "llama.cpp without repacking": []}
    for _ in range(o.rounds):
        for name, command in zip(times, (ours, theirs, [*theirs, "--no-repack"])):
            for _ in ("untimed", "timed"):
                side = Side(command)
                seconds = side.load + side.ask("prefill 128 0")["s"]
                side.close()
            times[name].append(seconds)
    median = {name: statistics.median(t) for name, t in times.items()}
    best = min(s for name, s in median.items() if name != "sotto")
    for name, seconds in median.items():
        print(f"{name:<30} {seconds:6.2f} s to the first token")
    print(f"ratio to the better of llama.cpp's {best / median['sotto']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    p = commands.add_parser("make")
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("--shape", choices=SHAPES, default="tinyllama")
    for name in ("run", "first"):
        p = commands.add_parser(name)
        p.add_argument("file")
        p.add_argument("--rounds", type=int, default=3)
        p.add_argument("--threads", type=int, default=2)
        p.add_argument("--kv", default="fp16")
    p = commands.choices["run"]
    p.add_argument("--tokens", type=int, default=32)
    p.add_argument("--depths", default="0,2048,8192")
    p.add_argument("--out")
    p = commands.add_parser("serve")
    p.add_argument("file")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--no-repack", action="store_true")
    o = parser.parse_args()
    if o.command == "make":
        make(o.folder, o.shape)
    elif o.command == "run":
        run(o)
    elif o.command == "first":
        first(o)
    else:
        serve(o.file, o.threads, not o.no_repack)


if __name__ == "__main__":
    main()
