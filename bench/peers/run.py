#!/usr/bin/env python3
"""sotto's Whisper beside ctranslate2, whisper.cpp and transformers: same shapes, same weights, same input, one machine.

    bench/peers/run.py [--shapes base small] [--rounds 5] [--engines sotto-int8 ct2-int8 …]

Every engine lives in a process of its own that is loaded once and then sleeps; a round measures them one after the other, so
that whatever else happens on the machine happens to all of them, and ratios are taken inside a round. What is missing is made
first: the engines (bench/peers/setup), sotto's binary, the models. Prints Markdown; everything measured goes to results.json.
"""
import argparse
import json
import os
import pathlib
import platform
import select
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MIB = 1 << 20
ENGINES = ["sotto-int8", "sotto-bf16", "sotto-fp32", "ct2-int8", "ct2-float32", "whisper.cpp-q8_0", "whisper.cpp-f16",
           "transformers-float32", "transformers-bfloat16"]
# (what, field, ours, theirs, must, goal): ours / theirs; FACTS.md, section 8, where there is a target
RATIOS = [
    ("encoder", "encoder_s", "sotto-int8", "ct2-int8", 1.0, None),
    ("ms/token", "ms_per_token", "sotto-int8", "whisper.cpp-q8_0", 1.0, 0.7),
    ("peak memory, Python's part taken off theirs", "net_bytes", "sotto-int8", "whisper.cpp-q8_0", 0.8, 0.6),
    ("peak memory, as the processes are", "peak_bytes", "sotto-int8", "whisper.cpp-q8_0", None, None),
    ("encoder", "encoder_s", "sotto-int8", "whisper.cpp-q8_0", None, None),
    ("encoder and prompt", "first_s", "sotto-int8", "ct2-int8", None, None),
    ("encoder and prompt", "first_s", "sotto-int8", "whisper.cpp-q8_0", None, None),
    ("encoder, prompt and 100 tokens", "window_s", "sotto-int8", "ct2-int8", None, None),
    ("encoder, prompt and 100 tokens", "window_s", "sotto-int8", "whisper.cpp-q8_0", None, None),
    ("ms/token", "ms_per_token", "sotto-int8", "ct2-int8", None, None),
    ("peak memory, Python's part taken off theirs", "net_bytes", "sotto-int8", "ct2-int8", None, None),
    ("encoder", "encoder_s", "sotto-fp32", "ct2-float32", None, None),
    ("ms/token", "ms_per_token", "sotto-fp32", "ct2-float32", None, None),
    ("peak memory, Python's part taken off theirs", "net_bytes", "sotto-fp32", "ct2-float32", None, None),
    ("encoder", "encoder_s", "sotto-int8", "transformers-bfloat16", None, 1.0),
    ("encoder", "encoder_s", "sotto-int8", "transformers-float32", None, None),
    ("encoder", "encoder_s", "sotto-fp32", "transformers-float32", None, None),
    ("ms/token", "ms_per_token", "sotto-fp32", "transformers-float32", None, None),
]


class Failed(Exception):
    pass


class Contestant:
    """An engine in its own process; blocked in a read except during round()."""

    def __init__(self, name: str, command: list, timeout: float):
        self.name, self.timeout = name, timeout
        self.log = tempfile.TemporaryFile()
        env = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self.process = subprocess.Popen([str(x) for x in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log, env=env)
        self.info = self.read()

    def read(self) -> dict:
        deadline, line = time.monotonic() + self.timeout, b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self.process.stdout.fileno(), 1 << 16) if ready else b""
            if not chunk:
                self.log.seek(0)
                why = self.log.read().decode(errors="replace").strip().splitlines()[-1:]
                self.close(kill=True)
                raise Failed(f"{self.name}: " + ("no answer in time" if not ready else "".join(why) or "it ended"))
            line += chunk
        return json.loads(line)

    def round(self) -> dict:
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        r = self.read()
        r["net_bytes"] = r["peak_bytes"] - self.info.get("baseline_bytes", 0)
        r["first_s"] = r["encoder_s"] + r["prompt_s"]
        r["window_s"] = r["first_s"] + r["ms_per_token"] / 10
        return r

    def close(self, kill=False) -> None:
        if kill:
            self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()
        self.process.wait()


def command_of(name: str, folder: pathlib.Path, a) -> list:
    engine, kind = name.rsplit("-", 1)
    if engine == "sotto":
        return [a.sotto, folder / "hf", "--weights", kind, "--threads", a.threads, "--mel", folder / "mel.f32", "--serve"]
    model = {"ct2": f"ct2-{kind}", "whisper.cpp": f"ggml-{kind}.bin", "transformers": "hf"}[engine]
    return [a.python, HERE / "engines.py", "ctranslate2" if engine == "ct2" else engine, "--model", folder / model,
            "--type", kind, "--mel", folder / "mel.f32", "--config", folder / "hf" / "config.json", "--threads", a.threads]


def measure(folder: pathlib.Path, a) -> dict:
    """{name: {"info", "rounds": [...]} or {"failed": why}}; a generation of processes measures a.rounds rounds."""
    results = {name: {"info": None, "rounds": []} for name in a.engines}
    for generation in range(a.processes):
        contestants = []
        for name in a.engines:
            if "failed" in results[name]:
                continue
            note(f"{folder.name}: loading {name}")
            try:
                contestants.append(Contestant(name, command_of(name, folder, a), a.timeout))
                results[name]["info"] = contestants[-1].info
            except (Failed, OSError) as e:
                results[name]["failed"] = str(e)
                note(str(e))
        for number in range(-a.warmup, a.rounds):
            note(f"{folder.name}: round {number + 1} of {a.rounds}" + (" (not counted)" if number < 0 else ""))
            for c in list(contestants):
                time.sleep(a.pause)  # thread pools of the one before stop spinning
                try:
                    r = c.round()
                    if number >= 0:
                        results[c.name]["rounds"].append(r | {"generation": generation, "round": number})
                except (Failed, OSError, ValueError) as e:
                    results[c.name]["failed"] = str(e)
                    contestants.remove(c)
                    note(str(e))
        for c in contestants:
            c.close()
    return results


# ----------------------------------------------------------------------------------------------------------------- loading

def read_whole(path: pathlib.Path, cold: bool) -> float:
    """Seconds to read a file as `cat FILE > /dev/null` does."""
    buffer = bytearray(128 << 10)
    with open(path, "rb", buffering=0) as f:
        if cold:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        while f.readinto(buffer):
            pass
        return time.perf_counter() - start


def forget(path: pathlib.Path) -> None:
    with open(path, "rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure_load(folder: pathlib.Path, a) -> list:
    """Rounds of {"case", "read_s", "load_s"}: open to loaded, beside reading the same file, in the page cache or not."""
    model = folder / "hf" / "model.safetensors"
    subprocess.run(["sync", str(model)], check=False)
    rows = []
    for cold in (False, True):
        read_whole(model, cold=False)
        for number in range(a.rounds):
            for kind in ("int8", "fp32"):
                for tokenizer in (True, False):
                    if f"sotto-{kind}" not in a.engines:
                        continue
                    read = read_whole(model, cold)
                    if cold:
                        forget(model)
                    command = [str(x) for x in (a.sotto, folder / "hf", "--weights", kind, "--threads", a.threads,
                                                "--load-only", *([] if tokenizer else ["--no-tokenizer"]))]
                    done = subprocess.run(command, capture_output=True, text=True, timeout=a.timeout)
                    if done.returncode != 0:
                        note(f"sotto-{kind} --load-only: {done.stderr.strip()}")
                        continue
                    case = f"{kind}, {'cold' if cold else 'page cache'}, {'with' if tokenizer else 'without'} tokenizer"
                    rows.append({"case": case, "round": number, "read_s": read, **json.loads(done.stdout)})
    return rows


# ------------------------------------------------------------------------------------------------------------------ report

def column(rounds: list, field: str) -> list:
    return [r[field] for r in rounds]


def spread(values: list, scale: float, digits: int) -> str:
    return f"{min(values) * scale:.{digits}f} / {statistics.median(values) * scale:.{digits}f}"


def engine_table(results: dict) -> list:
    lines = ["| engine | encoder s | prompt s | ms/token | peak MiB | without Python MiB | load s |",
             "|---|---|---|---|---|---|---|"]
    for name, e in results.items():
        if not e["rounds"]:
            lines.append(f"| {name} | failed: {e.get('failed', 'no rounds')} | | | | | |")
            continue
        r = e["rounds"]
        net = max(column(r, "net_bytes")) / MIB
        lines.append(f"| {name} | {spread(column(r, 'encoder_s'), 1, 3)} | {spread(column(r, 'prompt_s'), 1, 3)} | "
                     f"{spread(column(r, 'ms_per_token'), 1, 2)} | {max(column(r, 'peak_bytes')) / MIB:.0f} | {net:.0f} | "
                     f"{e['info']['load_s']:.2f} |")
    return lines


def paired(results: dict, field: str, ours: str, theirs: str) -> list:
    """ours / theirs of every round that has both."""
    def by_round(name):
        return {(r["generation"], r["round"]): r[field] for r in results.get(name, {"rounds": []})["rounds"]}
    x, y = by_round(ours), by_round(theirs)
    return [x[key] / y[key] for key in sorted(x.keys() & y.keys())]


def ratio_table(results: dict) -> tuple[list, list]:
    lines = ["| ours / theirs | of | median of rounds | range | must | goal | |", "|---|---|---|---|---|---|---|"]
    data = []
    for what, field, ours, theirs, must, goal in RATIOS:
        values = paired(results, field, ours, theirs)
        if not values:
            continue
        middle = statistics.median(values)
        verdict = "" if must is None else ("met" if middle <= must else "**missed**")
        if goal is not None:
            verdict = "goal met" if middle <= goal else verdict
        show = [f"<= {x:g}" if x is not None else "" for x in (must, goal)]
        lines.append(f"| {ours} / {theirs} | {what} | {middle:.3f} | {min(values):.3f} to {max(values):.3f} | "
                     f"{show[0]} | {show[1]} | {verdict} |")
        data.append({"what": what, "field": field, "ours": ours, "theirs": theirs, "median": middle, "rounds": values,
                     "must": must, "goal": goal})
    return lines, data


def load_table(rows: list) -> list:
    lines = ["| load of sotto | read s | load s | load / read, median | must |", "|---|---|---|---|---|"]
    for case in dict.fromkeys(r["case"] for r in rows):
        mine = [r for r in rows if r["case"] == case]
        ratio = statistics.median(r["load_s"] / r["read_s"] for r in mine)
        lines.append(f"| {case} | {spread(column(mine, 'read_s'), 1, 3)} | {spread(column(mine, 'load_s'), 1, 3)} | "
                     f"{ratio:.2f} | <= 1.5 {'met' if ratio <= 1.5 else '**missed**'} |")
    return lines


def agreement(results: dict) -> list:
    """Engines that hold the same weights say the same: a wrong conversion shows here."""
    lines = []
    for name, e in results.items():
        if e["rounds"]:
            r = e["rounds"][-1]
            logit = f"{r['logit0']:+.4f}" if "logit0" in r else "not shown"
            lines.append(f"- {name}: first logit after the prompt {logit}; greedy ids {r.get('ids', 'not shown')}")
    return lines


def machine() -> dict:
    cpu, flags = platform.processor(), []
    with open("/proc/cpuinfo") as f:
        for line in f:
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                cpu = value.strip()
            elif key.strip() == "flags":
                flags = value.split()
    thp = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {"cpu": cpu, "cpus": os.cpu_count(), "kernel": platform.release(), "load_at_start": os.getloadavg()[0],
            "isa": [x for x in flags if x in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "avx_vnni")],
            "thp": thp.read_text().strip() if thp.exists() else None, "date": time.strftime("%Y-%m-%d %H:%M")}


# -------------------------------------------------------------------------------------------------------------------- main

def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def prepare(a) -> None:
    """The engines, sotto's binary and the models, where they are missing."""
    if a.python is None:
        venv = pathlib.Path(os.environ.get("SOTTO_BENCH_VENV", ROOT / ".venv-bench"))
        a.python = venv / "bin" / "python"
        if not a.python.exists():
            subprocess.run([HERE / "setup"], check=True)
    if a.sotto is None:
        a.sotto = ROOT / "build" / "release" / "sotto_bench_whisper"
        if any(e.startswith("sotto") for e in a.engines):
            if not (ROOT / "build" / "release" / "build.ninja").exists():
                subprocess.run(["cmake", "--preset", "release"], cwd=ROOT, check=True, stdout=sys.stderr)
            subprocess.run(["cmake", "--build", "--preset", "release", "--target", "sotto_bench_whisper"], cwd=ROOT,
                           check=True, stdout=sys.stderr)
    parts = ["hf", "mel", *(e.replace("whisper.cpp", "ggml") for e in a.engines if e.startswith(("ct2", "whisper")))]
    subprocess.run([a.python, HERE / "make_models.py", a.work, "--shapes", *a.shapes, "--only", *parts], check=True,
                   stdout=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["base", "small"], help="base small tiny medium; test: a toy")
    parser.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES, metavar="ENGINE", help=" ".join(ENGINES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=1, help="fresh processes so many times, --rounds rounds each")
    parser.add_argument("--warmup", type=int, default=1, help="rounds that are not counted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.4, help="seconds between two measurements")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for a load or a round of one engine")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "peers", help="models and results")
    parser.add_argument("--out", type=pathlib.Path, help="default: WORK/results/<time>")
    parser.add_argument("--python", type=pathlib.Path, help="of the environment that bench/peers/setup makes")
    parser.add_argument("--sotto", type=pathlib.Path, help="sotto_bench_whisper; default: build/release's, built first")
    parser.add_argument("--no-load", action="store_true", help="skip the table of loading")
    a = parser.parse_args()
    prepare(a)
    out = a.out or a.work / "results" / time.strftime("%Y%m%d-%H%M%S")
    out.mkdir(parents=True, exist_ok=True)
    host = machine()
    document = {"machine": host, "arguments": {k: str(v) for k, v in vars(a).items()}, "shapes": {}}
    lines = [f"{host['cpu']}, {host['cpus']} CPUs ({' '.join(host['isa'])}), {host['date']}; {a.threads} threads, "
             f"{a.rounds * a.processes} rounds; minimum / median. Load of the machine at the start: "
             f"{host['load_at_start']:.2f}" + (" (**not quiet**)." if host["load_at_start"] > 0.7 else ".")]
    for shape in a.shapes:
        results = measure(a.work / shape, a)
        ratios, ratio_data = ratio_table(results)
        lines += ["", f"## Whisper {shape}, one 30 s window", "", *engine_table(results), "", *ratios]
        document["shapes"][shape] = {"engines": results, "ratios": ratio_data}
        if not a.no_load:
            rows = measure_load(a.work / shape, a)
            lines += ["", *load_table(rows)]
            document["shapes"][shape]["load"] = rows
        lines += ["", "Same weights, same numbers?", "", *agreement(results)]
        (out / "results.json").write_text(json.dumps(document, indent=1) + "\n")
        (out / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    note(f"\n{out}/results.json and table.md")


if __name__ == "__main__":
    main()
