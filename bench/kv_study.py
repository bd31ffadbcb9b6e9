#!/usr/bin/env python3
"""What the rules of the packed KV cache reach on a real model: a simulation of what the runtime does, chunk by chunk.

    bench/kv_study.py --text heldout.txt [--fixed] [--lengths 1024 2048] [--bits 2.5 3 3.5 4] [--rules flat recency history smart oracle]
                      [--set alpha=0.75 pooled=0] [--windows 4] [--prompts 4]

Rows of K and V are rotated (Hadamard), kept at 8 bits while they are recent, quantized once more when they are demoted, and lose planes later;
before a chunk is stored, what loses least per bit goes down until all fit `bits` times the tokens that will be there (--fixed: times the whole
length, as a budget in bytes does). All layers share the budget. `flat` stores everything at 2, 3 or 4 bits at once. Scales are not counted: they are
the same for all widths. Printed: attention-output SNR of prose and of recall's prompts (mean of the layers' dB, from row
256 on), perplexity and KL against the unquantized cache (second half of each window), and recall as src/harness/recall.cc asks it.
"""
import argparse
import json
import math
import pathlib
import random

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parent.parent
WIDTHS = (2, 3, 4, 8)
NOISE = {2: 10**-0.92, 3: 10**-1.43, 4: 10**-1.94, 8: 10**-4.07}  # D(bits), of a Gaussian after rotation (PACKED.md)
STEP = {2: 0.9957, 3: 0.5860, 4: 0.3352}  # the best midrise steps of a Gaussian, in rms
DEFAULTS = dict(window=8, sinks=4, alpha=0.5, halflife=0, prior="online", power=1.0, moment=1, by_head=0, pooled=1, group=1, energy=0.5, energy_mean=1)


def hadamard(n: int) -> torch.Tensor:
    h = torch.ones(1, 1)
    while h.shape[0] < n:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h / math.sqrt(n)


def midtread8(x):
    """x as 8 bits keep it: codes of -127 to 127, one half-precision scale a vector."""
    scale = (x.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-8).half().float().clamp_min(6e-8)
    return (x / scale).round().clamp(-127, 127) * scale


def scaled(codes, x):
    scale = (codes * x).sum(-1, keepdim=True) / (codes * codes).sum(-1, keepdim=True)
    return codes * scale.half().float()


def midrise(x, bits):
    """(codes, values): codes are odd halves, step by rms, then the scale of least squares."""
    top = 2 ** (bits - 1)
    step = STEP[bits] * x.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-8)
    codes = torch.floor(x / step).clamp(-top, top - 1) + 0.5
    return codes, scaled(codes, x)


class Packed:
    """K or V of all layers: [batch, layers, heads, tokens, dim] as attention sees them, with their codes."""

    def __init__(self, shape):
        self.values, self.codes = torch.zeros(shape), torch.zeros(shape)

    def store(self, layer, at, x, bits):
        n = x.shape[2]
        if bits == 8:
            self.values[:, layer, :, at:at + n] = midtread8(x)
        elif bits == 16:
            self.values[:, layer, :, at:at + n] = x
        else:
            self.codes[:, layer, :, at:at + n], self.values[:, layer, :, at:at + n] = midrise(x, bits)

    def demote(self, which, old, new):
        """Vectors `which` (a mask) go from width `old` to `new`: quantized from 8 bits, else their lowest planes are dropped."""
        x = self.values[which]
        if old >= 8:
            codes, values = midrise(x, new)
        else:
            codes = torch.floor((self.codes[which] - 0.5) / 2 ** (old - new)) + 0.5
            values = scaled(codes, x)
        self.codes[which], self.values[which] = codes, values


def fit(weights, widths, budget):
    """Widths, none above the present ones, of least sum of weight x noise within `budget` bits (last axis): one Lagrangian threshold."""
    order = sorted(WIDTHS)
    slope = [(NOISE[a] - NOISE[b]) / (b - a) for a, b in zip(order, order[1:])]

    def at(price):
        new = torch.full_like(widths, order[-1])
        for b, s in zip(reversed(order[:-1]), reversed(slope)):
            new = torch.where(weights * s < price, torch.full_like(widths, b), new)
        return torch.minimum(new, widths)

    low = torch.full_like(budget, -60.0)  # the price's logarithm to base 2
    high = torch.full_like(budget, 20.0)
    for _ in range(32):
        middle = (low + high) / 2
        fits = at((2.0**middle).unsqueeze(-1)).sum(-1) <= budget
        high, low = torch.where(fits, middle, high), torch.where(fits, low, middle)
    return at((2.0**high).unsqueeze(-1))


class Model:
    def __init__(self, path):
        self.config = json.loads((path / "config.json").read_text())
        self.w = {k: v.float() for k, v in load_file(path / "model.safetensors").items()}
        c = self.config
        self.layers, self.heads, self.kv, self.dim = c["num_hidden_layers"], c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        inverse = 1 / c["rope_theta"] ** (torch.arange(0, self.dim, 2) / self.dim)
        angle = torch.outer(torch.arange(c["max_position_embeddings"]), inverse)
        self.cos, self.sin = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)

    def norm(self, x, name):
        return F.rms_norm(x, (x.shape[-1],), self.w[name], self.config["rms_norm_eps"])

    def rope(self, x, at):
        n = x.shape[-2]
        half = torch.cat([-x[..., self.dim // 2:], x[..., :self.dim // 2]], -1)
        return x * self.cos[at:at + n] + half * self.sin[at:at + n]

    def qkv(self, x, layer, at):
        p = f"model.layers.{layer}."
        h = self.norm(x, p + "input_layernorm.weight")
        split = lambda y, n: y.view(*y.shape[:2], n, self.dim).transpose(1, 2)
        q, k, v = (F.linear(h, self.w[p + f"self_attn.{n}_proj.weight"]) for n in "qkv")
        return self.rope(split(q, self.heads), at), self.rope(split(k, self.kv), at), split(v, self.kv)

    def rest(self, x, attention, layer):
        p = f"model.layers.{layer}."
        x = x + F.linear(attention.transpose(1, 2).flatten(2), self.w[p + "self_attn.o_proj.weight"])
        h = self.norm(x, p + "post_attention_layernorm.weight")
        gate, up = (F.linear(h, self.w[p + f"mlp.{n}_proj.weight"]) for n in ("gate", "up"))
        return x + F.linear(F.silu(gate) * up, self.w[p + "mlp.down_proj.weight"])

    def logits(self, x):
        return F.linear(self.norm(x, "model.norm.weight"), self.w["model.embed_tokens.weight"])


def attend(q, k, v, at):
    """(output, probabilities [batch, heads of keys, queries a head, rows, keys]), causal; q's first row is at position `at`."""
    rows, keys, grouped = q.shape[2], k.shape[2], q.unflatten(1, (k.shape[1], -1))
    s = (grouped.flatten(2, 3) @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).unflatten(2, (-1, rows))
    s[..., at:].masked_fill_(torch.arange(rows) > torch.arange(rows)[:, None], -math.inf)
    p = s.softmax(-1)
    return (p.flatten(2, 3) @ v).unflatten(2, (-1, rows)).flatten(1, 2), p


class Watch:
    """What attention shows of each token, online (src/kv/rules.h): the mass that it received, and the mean mass of a pair at each distance."""

    def __init__(self, batch, layers, heads, n, o):
        self.o, self.n = o, n
        self.observed = torch.zeros(batch, layers, heads, n)
        distance = torch.arange(1, n + 1).float()
        self.buckets = (distance.view(torch.int32) >> 21).long() - (127 << 2)  # four an octave
        size = int(self.buckets[-1]) + 1
        start = torch.ceil(2.0 ** (torch.arange(size) // 4) * (1 + torch.arange(size) % 4 / 4))
        self.seen = torch.full((size,), 1e-3)
        self.mass = (self.seen / start).expand(batch, layers, heads, -1).clone()

    def see(self, layer, p, at):
        """p [batch, heads of keys, queries a head, rows, keys]: their mean over the queries of a head is what counts."""
        m = p.pow(self.o["moment"]).mean(2).sum(-2)
        rows, keys = p.shape[-2:]
        age = torch.arange(keys, 0, -1)
        by = age.clamp_max(rows)  # so many rows see it
        bucket = self.buckets[age - (by - 1) // 2 - 1]
        self.mass[:, layer].index_add_(-1, bucket, m)
        if layer == 0:
            self.seen.index_add_(0, bucket, by.float())
        keep = 0.5 ** (rows / self.o["halflife"]) if self.o["halflife"] else 1
        self.observed[:, layer, :, :keys] = self.observed[:, layer, :, :keys] * keep + m

    def weights(self, rule, at, future=None):
        """[batch, layers, heads, at]: the weight of each stored token when `at` are there."""
        shape = self.observed[..., :at]
        age = torch.arange(at, 0, -1)
        if rule == "uniform":
            return torch.ones_like(shape)
        if rule == "recency":
            return (1.0 / age).expand_as(shape)
        if rule == "history":
            return shape.clamp_min(1e-12)
        if rule == "oracle":
            return future[..., :at].clamp_min(1e-12)
        usual = (self.mass / self.seen)[..., self.buckets]  # of distances 1, 2, …
        if self.o["prior"] == "power":
            usual = torch.arange(1, self.n + 1).float().pow(-self.o["power"]).expand_as(usual)
        expected, usual = usual.cumsum(-1)[..., age - 1], usual[..., age.clamp_max(self.n - 1)]
        return (usual * (shape + usual) / (expected + usual)).clamp_min(1e-30).pow(self.o["alpha"])


def make_room(watch, rule, at, count, tokens, bits, widths, values, future, o):
    """The new widths of the `at` tokens that are there, so that with those up to `count`, at 8 bits, they fit the budget of `tokens`."""
    batch, layers, heads, _ = widths.shape
    w = watch.weights(rule, at, None if future is None else future[at // (count - at)])
    if rule in ("smart", "oracle"):
        energy = values.values[..., :at, :].square().sum(-1)
        w = w * (energy.mean(-1, keepdim=True) if o["energy_mean"] else energy).pow(o["energy"] if rule == "smart" else 1)
    w = w if o["by_head"] else w.mean(2, keepdim=True)
    if o["group"] > 1:
        whole = at // o["group"] * o["group"]
        w[..., :whole] = w[..., :whole].unflatten(-1, (-1, o["group"])).mean(-1).repeat_interleave(o["group"], -1)
    w[..., :o["sinks"]] = 1e9
    w[..., max(0, at - o["window"]):] = 1e9
    now = widths[:, :, :w.shape[2]]
    first = 1 if o["pooled"] else 2  # what shares a budget
    shared = w.flatten(first)
    budget = torch.full(shared.shape[:-1], (bits * tokens - 8 * (count - at)) * shared.shape[-1] / at)
    return fit(shared, now.flatten(first), budget).view_as(now).expand_as(widths)


@torch.no_grad()
def run(model, ids, rule="none", bits=16.0, fixed=False, chunk=32, future=None, want_future=False, o=DEFAULTS):
    """(logits, SNR by layer, future): `ids` [batch, n] through a cache of `rule`."""
    batch, n = ids.shape
    shape = (batch, model.layers, model.kv, n, model.dim)
    keys, values = Packed(shape), Packed(shape)
    exact_k, exact_v = torch.zeros(shape), torch.zeros(shape)
    turn = hadamard(model.dim)
    heads = model.kv
    widths = torch.full((batch, model.layers, heads, n), 8)
    watch = Watch(batch, model.layers, heads, n, o)
    seen = torch.zeros(n // chunk, batch, model.layers, heads, n) if want_future else None
    signal, noise = torch.zeros(2, model.layers, batch)
    logits = []
    flat = rule == "flat"
    for at in range(0, n, chunk):
        if rule not in ("none", "flat") and at > 0:
            new = make_room(watch, rule, at, count := min(at + chunk, n), n if fixed else count, bits, widths[..., :at], values, future, o)
            for old, b in ((8, 4), (8, 3), (8, 2), (4, 3), (4, 2), (3, 2)):
                which = (widths == old) & (F.pad(new, (0, n - at)) == b)
                if which.any():
                    keys.demote(which, old, b)
                    values.demote(which, old, b)
            widths[..., :at] = new
        x = F.embedding(ids[:, at:at + chunk], model.w["model.embed_tokens.weight"])
        for layer in range(model.layers):
            q, k, v = model.qkv(x, layer, at)
            q, k, v = q @ turn, k @ turn, v @ turn
            end = at + k.shape[2]
            exact_k[:, layer, :, at:end], exact_v[:, layer, :, at:end] = k, v
            first = 16 if rule == "none" else int(bits) if flat else 8
            keys.store(layer, at, k, first)
            values.store(layer, at, v, first)
            out, p = attend(q, keys.values[:, layer, :, :end], values.values[:, layer, :, :end], at)
            if rule != "none" and at // chunk % 4 == 3:
                true, _ = attend(q, exact_k[:, layer, :, :end], exact_v[:, layer, :, :end], at)
                if at >= 256:
                    signal[layer] += true.square().sum((1, 2, 3))
                    noise[layer] += (out - true).square().sum((1, 2, 3))
            if rule not in ("none", "flat"):
                watch.see(layer, p, at)
            if want_future:
                seen[at // chunk, :, layer, :, :end] = p.square().mean(2).sum(-2)
            x = model.rest(x, out @ turn.T, layer)
        logits.append(model.logits(x))
    if want_future:
        seen = seen.flip(0).cumsum(0).flip(0)
    return torch.cat(logits, 1), (signal, noise), seen


def recall_prompt(words, prose, n, random_):
    """(ids, places of the queried keys): as src/harness/recall.cc."""
    keys, values = words[0::2], words[1::2]
    pairs = min(n // 4 - 1, len(keys))
    asked = min(pairs, n // 8)
    told = [(k, random_.choice(values)) for k in random_.sample(keys, pairs)]
    ids = [0] + [t for pair in told for t in pair]
    start = random_.randrange(len(prose) - n)
    ids += prose[start:start + n - 2 * asked - len(ids)]
    first = len(ids)
    for pair in random_.sample(told, asked):
        ids += pair
    return ids, range(first, n, 2)


def measure(model, ids, texts, places, truth, rule, bits, args, o):
    """Of `ids`, whose first `texts` rows are prose and the others prompts of recall that ask at `places`."""
    n = ids.shape[1]
    logits, (signal, noise), _ = run(model, ids, rule, bits, args.fixed, args.chunk, truth[1] if rule == "oracle" else None, o=o)
    db = [10 * torch.log10(signal[:, part].sum(-1) / noise[:, part].sum(-1)) for part in (slice(0, texts), slice(texts, None))]
    half = slice(n // 2, n - 1)
    logp, base = logits[:texts, half].log_softmax(-1), truth[0][:texts, half].log_softmax(-1)
    nll = -logp.gather(-1, ids[:texts, n // 2 + 1:, None]).mean()
    kl = (base.exp() * (base - logp)).sum(-1).mean()
    right = logits[texts:, places].argmax(-1) == ids[texts:, [p + 1 for p in places]]
    return dict(snr=float(db[0].mean()), layers=[round(float(s), 1) for s in db[0]], snr_recall=float(db[1].mean()), ppl=math.exp(nll), kl=float(kl),
                recall=100 * float(right.float().mean()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/demo-lm")
    parser.add_argument("--text", type=pathlib.Path, required=True, help="UTF-8 prose that the model was not trained on")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--bits", type=float, nargs="+", default=[2.5, 3, 3.5, 4])
    parser.add_argument("--rules", nargs="+", default=["flat", "recency", "history", "smart", "oracle"])
    parser.add_argument("--windows", type=int, default=4, help="of text, a length")
    parser.add_argument("--prompts", type=int, default=4, help="of recall, a length")
    parser.add_argument("--part", type=int, default=0, help="which part of the text: other windows and prompts")
    parser.add_argument("--chunk", type=int, default=32)
    parser.add_argument("--fixed", action="store_true", help="the budget is that of the whole length from the start")
    parser.add_argument("--set", nargs="*", default=[], help=f"constants: {DEFAULTS}")
    args = parser.parse_args()
    o = dict(DEFAULTS)
    for item in args.set:
        name, value = item.split("=")
        o[name] = type(DEFAULTS[name])(value)
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    prose = tokenizer.encode(args.text.read_text(), add_special_tokens=False).ids
    words = [i for i in range(tokenizer.get_vocab_size())
             if (t := tokenizer.decode([i])).startswith(" ") and len(t) > 3 and t[1:].isascii() and t[1:].isalpha() and t[1:].islower()]
    model = Model(args.model)
    print("length  bits  rule      SNR dB  (recall)      ppl       KL  recall %  layers")
    for n in args.lengths:
        random_ = random.Random(n + args.part)
        first = args.part * args.windows * 2048
        rows = [[0] + prose[first + i * n:first + (i + 1) * n - 1] for i in range(args.windows)]
        for _ in range(args.prompts):
            prompt, places = recall_prompt(words, prose, n, random_)
            rows.append(prompt)
        ids = torch.tensor(rows)
        logits, _, future = run(model, ids, chunk=args.chunk, want_future="oracle" in args.rules)
        truth = (logits, future)
        nll = -logits[:args.windows, n // 2:-1].log_softmax(-1).gather(-1, ids[:args.windows, n // 2 + 1:, None]).mean()
        right = logits[args.windows:, places].argmax(-1) == ids[args.windows:, [p + 1 for p in places]]
        print(f"{n:6}    16  -              -         -  {math.exp(nll):7.3f}        -    {100 * float(right.float().mean()):6.2f}", flush=True)
        for bits in args.bits:
            for rule in args.rules:
                if rule == "flat" and bits not in (2, 3, 4):
                    continue
                r = measure(model, ids, args.windows, places, truth, rule, bits, args, o)
                print(f"{n:6} {bits:5}  {rule:8} {r['snr']:7.2f}   {r['snr_recall']:7.2f}  {r['ppl']:7.3f}  {r['kl']:7.4f}    {r['recall']:6.2f}"
                      f"  {r['layers']}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
