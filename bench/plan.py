#!/usr/bin/env python3
"""Time and memory of `sotto plan` for every catalogue entry: the largest of each must stay under 20 ms and 20 MiB.

    bench/plan.py [--sotto build/release/sotto] [--rounds 5]
"""
import argparse
import ctypes
import json
import os
import pathlib
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def measure(sotto: str, name: str, rounds: int) -> tuple[float, float]:
    """Least wall time in ms (a shell's start included) and largest resident set in MiB of a whole process."""
    environment = {**os.environ, "SOTTO_CATALOG": str(ROOT / "catalog"), "HF_HOME": "/nonexistent"}
    times, peak = [], 0
    for _ in range(rounds):
        start = time.perf_counter()
        # A child's peak counts the memory of who forked it, so a shell forks and leaves, and the orphan comes to us.
        shell = subprocess.run(["sh", "-c", '"$@" >/dev/null & echo $!', "sh", sotto, "plan", name, "--json"],
                               stdout=subprocess.PIPE, env=environment, check=True)
        _, status, usage = os.wait4(int(shell.stdout), 0)
        times.append(time.perf_counter() - start)
        if status != 0:
            raise SystemExit(f"sotto plan {name} ended with status {status}")
        peak = max(peak, usage.ru_maxrss)
    return 1e3 * min(times), peak / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sotto", default=str(ROOT / "build/release/sotto"))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    pr_set_child_subreaper = 36  # prctl(2)
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1)
    names = [json.loads(path.read_text())["name"] for path in sorted((ROOT / "catalog").glob("*/*.json"))]
    rows = [(*measure(options.sotto, name, options.rounds), name) for name in names]
    for title, key in (("slowest", 0), ("largest", 1)):
        print(title)
        for row in sorted(rows, key=lambda r: -r[key])[:5]:
            print(f"  {row[0]:6.1f} ms {row[1]:6.1f} MiB  {row[2]}")


if __name__ == "__main__":
    main()
