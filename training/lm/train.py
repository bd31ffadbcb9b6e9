"""Train demo-lm, then demo-audio-lm: its projector in front of the finished decoder, then both together.

    python train.py --work DIR --minutes 85
    python train.py --work DIR --minutes 20 --projector
    python train.py --work DIR --minutes 40 --audio --lr 5e-4 --clips 32 --tokens 1024

--work holds text/ (text.py) and tok/ (tokens.py); checkpoints and the log are written there. The learning rate follows the process's
CPU time / --minutes: on a free core that is the clock, and on a shared one the run takes longer and is no worse. A checkpoint is
written every 5 minutes (last.pt) and the same command resumes from it. The length of the rows rises from 128 to 2,048 when recall at
the present one passes 90 %, or when its share of the time is over. Optimizer: Muon for the matrices of the layers, AdamW for the
rest. log.jsonl has the curves.

--projector trains the projector alone, into projector.pt: the decoder is that of last.pt and stays as it is; audio/ (hear.py) too.
--audio trains both, into audio.pt, from last.pt and projector.pt; every second step has rows of text too, so that the decoder
forgets nothing.
"""

import argparse
import collections
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import heard
import model as M
import rows

sys.path.append(str(Path(__file__).parent.parent))
from muon import Muon  # noqa: E402

TEXT_WEIGHT = 0.5                   # of text beside audio
LATEST = (0.1, 0.2, 0.3, 0.4)       # progress at which each length is left, whatever the recall
ENOUGH = 0.9


def rate(progress):
    """Learning rate factor: warm-up, flat to 60 %, linear to zero."""
    return min(1.0, progress / 0.01 + 0.02, (1.02 - progress) / 0.4)


class Curriculum:
    """The row length: now and then the present one, mostly 128 and 256: long rows cost more and teach less of the language."""

    def __init__(self, rng, level=0):
        self.rng, self.level, self.recall = rng, level, collections.defaultdict(lambda: 0.0)

    def length(self):
        level = self.level if self.rng.random() < 0.15 else self.rng.randint(0, min(self.level, 1))
        return rows.LENGTHS[level]

    def learnt(self, n, accuracy, progress):
        self.recall[n] += 0.1 * (accuracy - self.recall[n])
        if self.level + 1 < len(rows.LENGTHS) and (self.recall[rows.LENGTHS[self.level]] > ENOUGH or progress > LATEST[self.level]):
            self.level += 1


def predict(net, hidden, ids, weights):
    """Weighted loss over the positions that have a weight; (loss, 1 where right, loss of each position)."""
    at = weights[:, 1:] > 0
    logits = net.logits(hidden[:, :-1][at])
    losses = F.cross_entropy(logits, ids[:, 1:][at], reduction="none")
    right = torch.zeros(at.shape)
    right[at] = (logits.argmax(-1) == ids[:, 1:][at]).float()
    per_row = torch.zeros(at.shape)
    per_row[at] = losses.detach()
    return (losses * weights[:, 1:][at]).sum() / weights.sum(), right, per_row


def optimizers_of(trained, lr):
    """AdamW and Muon. Beside the decoder the projector is AdamW's: its large matrix costs Muon as much as all others."""
    groups = ([], [])
    for name, p in trained.named_parameters():
        groups[p.ndim == 2 and "embed" not in name and not name.startswith("projector.")].append(p)
    return [torch.optim.AdamW(groups[0], lr=lr, betas=(0.9, 0.95), weight_decay=0.01), Muon(groups[1], lr=2 * lr)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=85, help="of CPU time")
    parser.add_argument("--tokens", type=int, default=3072, help="tokens a step")
    parser.add_argument("--clips", type=int, default=24, help="clips a step")
    parser.add_argument("--lr", type=float, default=1.5e-3, help="AdamW's; Muon's is twice that")
    parser.add_argument("--projector", action="store_true")
    parser.add_argument("--audio", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stop-after", type=float, default=1e9, help="minutes by the clock; for trials")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    net, projector = M.Llama(), M.Projector()
    stage = "audio" if args.audio else "projector" if args.projector else "last"
    trained = {"last": net, "projector": projector, "audio": torch.nn.ModuleDict({"net": net, "projector": projector})}[stage]
    optimizers = optimizers_of(trained, args.lr)
    state = {"step": 0, "elapsed": 0.0, "tokens": 0, "clips": 0, "level": 0}
    last = args.work / f"{stage}.pt"
    if stage != "last":
        net.load_state_dict(torch.load(args.work / "last.pt")["average"])
    if stage == "projector":
        net.requires_grad_(False)
    if stage == "audio":
        state["level"] = len(rows.LENGTHS) - 1
        projector.load_state_dict(torch.load(args.work / "projector.pt")["average"])
    average = {k: v.clone() for k, v in trained.state_dict().items()}
    if last.exists():
        saved = torch.load(last)
        trained.load_state_dict(saved["model"])
        average, state = saved["average"], saved["state"]
        for o, s in zip(optimizers, saved["optimizers"]):
            o.load_state_dict(s)
        print("resumed", state, flush=True)
    data = rows.Rows(args.work / "tok", args.work / "text", "train", 1000003 * (args.seed + 1) + state["step"])
    course = Curriculum(data.rng, state["level"])
    clips = heard.Heard(args.work / "audio", data.tok, data.rng)
    log = open(args.work / ("log.jsonl" if stage == "last" else f"{stage}.jsonl"), "a")
    print(f"{sum(p.numel() for p in trained.parameters()):,} parameters, pid {os.getpid()}, {args}", flush=True)

    def save():
        torch.save({"model": trained.state_dict(), "average": average, "state": state,
                    "optimizers": [o.state_dict() for o in optimizers]}, last.with_suffix(".tmp"))
        os.replace(last.with_suffix(".tmp"), last)

    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    begin = saved_at = shown_at = time.time()
    start, start_cpu = state["elapsed"], time.process_time()     # elapsed: seconds of CPU time over the threads
    sums, tokens = collections.defaultdict(list), 0
    while state["elapsed"] < 60 * args.minutes and time.time() - begin < 60 * args.stop_after and not ended:
        progress = state["elapsed"] / (60 * args.minutes)
        factor = rate(progress) * min(1.0, (state["step"] + 1) / 30)
        for o, peak in zip(optimizers, (args.lr, 2 * args.lr)):
            o.param_groups[0]["lr"] = peak * factor
        if stage == "last" or stage == "audio" and state["step"] % 2:
            n = course.length()
            ids, weights, kinds = data.batch(max(1, args.tokens // n), n, without=("heard",) if stage == "audio" else ())
            ids, weights = torch.from_numpy(ids), torch.from_numpy(weights)
            loss, right, losses = predict(net, net.hidden(net.embed_tokens(ids)), ids, weights)
            (loss * (TEXT_WEIGHT if stage == "audio" else 1)).backward()
            state["tokens"] += ids.numel()
            tokens += ids.numel()
            for i, kind in enumerate(kinds):
                key = weights[i, 1:] >= rows.ANSWER_WEIGHT
                if key.any():
                    sums["loss " + kind].append(losses[i][key].mean().item())
                if kind in ("copy", "recall", "passkey"):
                    sums[f"{kind} {n}"].append(right[i][key].mean().item())
                if kind == "recall":
                    course.learnt(n, right[i][key].mean().item(), progress)
        if stage != "last":
            batch = clips.batch(args.clips)
            hidden, ctc = heard.forward(net, projector, batch)
            loss, right, losses = predict(net, hidden, batch["ids"], batch["weights"])
            (loss + heard.CTC_WEIGHT * ctc).backward()
            state["clips"] += len(batch["lengths"])
            tokens += batch["ids"].numel()
            key = batch["weights"][:, 1:] > 0
            for name, value in (("loss audio", losses[key].mean()), ("audio", right[key].mean()), ("ctc", ctc)):
                sums[name].append(value.item())
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        for o in optimizers:
            o.step()
        trained.zero_grad(set_to_none=True)
        state["step"] += 1
        decay = min(0.99, state["step"] / (state["step"] + 10))
        with torch.no_grad():
            for k, v in trained.state_dict().items():
                average[k].lerp_(v, 1 - decay)
        state["level"] = course.level
        state["elapsed"] = start + (time.process_time() - start_cpu) / args.threads
        if time.time() - shown_at > 30:
            line = {"step": state["step"], "minutes": round(state["elapsed"] / 60, 2), "tokens": state["tokens"], "clips": state["clips"],
                    "length": rows.LENGTHS[course.level], "tokens_per_s": round(tokens / (time.time() - shown_at)),
                    "cores": round((time.process_time() - start_cpu) / (time.time() - begin), 2),
                    **{k: round(sum(v) / len(v), 3) for k, v in sorted(sums.items())}}
            print(json.dumps(line), flush=True)
            log.write(json.dumps(line) + "\n")
            log.flush()
            sums.clear()
            tokens, shown_at = 0, time.time()
        if time.time() - saved_at > 300:
            save()
            saved_at = time.time()
    save()
    print("stopped" if ended else "done", state)


if __name__ == "__main__":
    main()
