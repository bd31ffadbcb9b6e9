#!/usr/bin/env python3
"""Time and memory of `sotto plan` for every catalogue entry: the largest of each must stay under 20 ms and 20 MiB.

    bench/plan.py [--sotto build/release/sotto] [--rounds 5] [--options json]
"""
import argparse
import ctypes
import json
import os
import pathlib
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def measure(command: list[str], rounds: int) -> tuple[float, float]:
    """Least wall time of the whole process in ms, and its peak resident set in MiB."""
    environment = {**os.environ, "SOTTO_CATALOG": str(ROOT / "catalog"), "HF_HOME": "/nonexistent"}
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=True)
        times.append(time.perf_counter() - start)
    # A child's peak counts the memory of who forked it, so a shell forks and leaves, and the orphan comes to us.
    shell = subprocess.run(["sh", "-c", '"$@" >/dev/null & echo $!', "sh", *command], stdout=subprocess.PIPE, env=environment, check=True)
    _, _, usage = os.wait4(int(shell.stdout), 0)
    return 1e3 * min(times), usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sotto", default=str(ROOT / "build/release/sotto"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--options", nargs="*", default=[], help="of sotto plan, without their dashes: json")
    options = parser.parse_args()
    options.options = [f"--{option}" for option in options.options]
    pr_set_child_subreaper = 36  # prctl(2)
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1)
    names = [json.loads(path.read_text())["name"] for path in sorted((ROOT / "catalog").glob("*/*.json"))]
    rows = [(*measure([options.sotto, "plan", name, *options.options], options.rounds), name) for name in names]
    for title, key in (("slowest", 0), ("largest", 1)):
        print(title)
        for row in sorted(rows, key=lambda r: -r[key])[:5]:
            print(f"  {row[0]:6.1f} ms {row[1]:6.1f} MiB  {row[2]}")


if __name__ == "__main__":
    main()
