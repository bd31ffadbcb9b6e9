#!/usr/bin/env python3
"""Twenty budgets from the smallest to that of the weights as stored: what `sotto fit` chooses in each, and what running it takes and gives.

    bench/budgets.py MODEL TEXT --work DIR [--sensitivity FILE.json] [--picture FILE.svg] [--table FILE.csv]

TEXT measures quality (perplexity of its first --tokens tokens). Versions packed at 2.5 to 8 bits are made in DIR once. Calibrate the
machine first (sotto calibrate): fit weighs speed by it. Exits with 1 when a run takes more than its budget.
"""
import argparse
import csv
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOTTO = os.environ.get("SOTTO", str(ROOT / "build/release/sotto"))
RATES = (2.5, 3, 3.5, 4, 4.5, 5, 6, 8)


def sotto(*arguments: str, refused: bool = False) -> dict:
    done = subprocess.run([SOTTO, *map(str, arguments), "--json"], capture_output=True, text=True)
    if done.returncode not in ((0, 5) if refused else (0,)):
        sys.exit(f"sotto {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}{done.stdout[:500]}")
    return json.loads(done.stdout)


def measure(o: argparse.Namespace, packed: list[pathlib.Path], budget: int) -> dict:
    plan = o.work / "plan.json"
    more = [x for p in packed for x in ("--packed", p)] + (["--sensitivity", o.sensitivity] if o.sensitivity else [])
    fit = sotto("fit", o.model, "--memory", budget, "--context", o.context, "-o", plan, *more)["choice"]
    run = sotto("run", "--plan", plan, o.prompt, "--max-tokens", 200, "--ignore-eos")
    written = json.loads(plan.read_text())
    model = next((p for p in packed if str(p.resolve()) == written["model"]), o.model)
    weights = [] if model != o.model else ["--weights", fit["weights"]]
    layers = fit["residency"]
    quality = sotto("eval", "perplexity", model, o.text, "-n", o.tokens, "--kv", fit["kv"], "--context", o.context, *weights,
                    *(["--resident", layers["layers"] - layers["from_disk"]] if layers["from_disk"] else []), "-q")
    speed = run["ledger"].get("speed", {})
    return {"budget": budget, "weights": fit["weights"], "kv": fit["kv"], "from_disk": layers["from_disk"], "planned": run["ledger"]["planned_bytes"],
            "peak": run["ledger"]["peak_bytes"], "perplexity": round(quality["perplexity"], 4), "predicted_kl": fit["predicted"]["quality"],
            "predicted_tokens_per_second": fit["predicted"]["tokens_per_second"], "tokens_per_second": speed.get("measured_tokens_per_second", speed.get("tokens_per_second"))}


def picture(rows: list[dict], name: str) -> str:
    """Three charts above each other: bytes, perplexity, tokens a second, over the budget."""
    width, height, left, gap = 760, 190, 90, 54
    low, high = rows[0]["budget"], rows[-1]["budget"]
    x = lambda b: left + (b - low) / (high - low) * (width - left - 30)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{3 * (height + gap) + 40}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>', f'<text x="{left}" y="20" font-size="15">{name}: sotto fit in {len(rows)} budgets</text>']
    charts = [("memory, MiB", [("budget", "#999999", [r["budget"] / 2**20 for r in rows]), ("planned", "#4472aa", [r["planned"] / 2**20 for r in rows]),
                               ("peak", "#c05020", [r["peak"] / 2**20 for r in rows])]),
              ("perplexity", [("perplexity", "#4472aa", [r["perplexity"] for r in rows])])]
    if all(r["tokens_per_second"] for r in rows):
        charts.append(("tokens a second", [("measured", "#c05020", [r["tokens_per_second"] for r in rows])] + (
            [("predicted", "#999999", [r["predicted_tokens_per_second"] for r in rows])] if all(r["predicted_tokens_per_second"] for r in rows) else [])))
    for i, (title, lines) in enumerate(charts):
        top = 40 + i * (height + gap)
        least, most = min(min(v) for *_, v in lines), max(max(v) for *_, v in lines)
        margin = (most - least or 1) * 0.06
        least, most = least - margin, most + margin
        y = lambda v: top + height - (v - least) / (most - least) * height
        out.append(f'<rect x="{left}" y="{top}" width="{width - left - 30}" height="{height}" fill="none" stroke="#cccccc"/>')
        for tick in range(5):
            v = least + (most - least) * tick / 4
            out.append(f'<text x="{left - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.4g}</text>')
            b = low + (high - low) * tick / 4
            out.append(f'<text x="{x(b):.1f}" y="{top + height + 16}" text-anchor="middle">{b / 2**20:.1f}</text>')
        out.append(f'<text x="{left + 8}" y="{top + 18}" font-weight="bold">{title}</text>')
        for n, (label, colour, values) in enumerate(lines):
            points = " ".join(f"{x(r['budget']):.1f},{y(v):.1f}" for r, v in zip(rows, values))
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            out += [f'<circle cx="{x(r["budget"]):.1f}" cy="{y(v):.1f}" r="3" fill="{colour}"/>' for r, v in zip(rows, values)]
            out.append(f'<text x="{left + 150 + 90 * n}" y="{top + 18}" fill="{colour}">{label}</text>')
    out.append(f'<text x="{width // 2}" y="{40 + len(charts) * (height + gap) - 12}" text-anchor="middle">budget, MiB</text></svg>')
    return "\n".join(out) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--sensitivity")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=20000)
    parser.add_argument("--budgets", type=int, default=20)
    parser.add_argument("--prompt", default="Hello, who are you?")
    parser.add_argument("--picture", type=pathlib.Path)
    parser.add_argument("--table", type=pathlib.Path)
    o = parser.parse_args()
    o.work.mkdir(parents=True, exist_ok=True)
    packed = []
    for rate in RATES:
        packed.append(o.work / f"packed-{rate:g}")
        if not packed[-1].exists():
            sotto("pack", o.model, "--bits", rate, "-o", packed[-1], *(["--sensitivity", o.sensitivity] if o.sensitivity else []))
    refusal = sotto("fit", o.model, "--memory", "1MiB", "--context", o.context, "-o", o.work / "plan.json",
                    *[x for p in packed for x in ("--packed", p)], refused=True)["error"]
    smallest = refusal["smallest_budget_bytes"]
    largest = sotto("plan", o.model, "--context", o.context)["memory"]["total_bytes"]
    rows = []
    for i in range(o.budgets):
        rows.append(measure(o, packed, smallest + (largest - smallest) * i // (o.budgets - 1)))
        r = rows[-1]
        speed = f"{r['tokens_per_second']:9.1f} tokens/s" if r["tokens_per_second"] else ""
        print(f"{r['budget']:>12} {r['weights']:<18} {r['kv']:<5} {r['from_disk']:>3} from disk  peak {r['peak']:>12}  perplexity {r['perplexity']:8.3f} {speed}", flush=True)
    if o.table:
        with open(o.table, "w", newline="") as f:
            writer = csv.DictWriter(f, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    if o.picture:
        o.picture.write_text(picture(rows, pathlib.Path(o.model).name))
    over = [r for r in rows if r["peak"] > r["budget"]]
    print(f"{len(rows)} budgets, {len(over)} exceeded")
    sys.exit(1 if over else 0)


if __name__ == "__main__":
    main()
