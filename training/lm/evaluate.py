"""Figures of demo-lm and demo-audio-lm, with transformers in fp32.

    python evaluate.py --work DIR --model ../../models/demo-lm [--sets perplexity,recall,passkey,chat]
    python evaluate.py --work DIR --model ../../models/demo-audio-lm [--sets said,sounds,perplexity,recall,passkey,chat]

perplexity   held-back pages of the prose, windows of 1,024 and 2,048 tokens that each begin with <|begin|>; every token but that one
recall       n / 4 "key value" pairs (at most all keys), held-back prose, n / 8 queries at the end: share of values right (argmax)
passkey      five digits at depths 0 to 1 in held-back prose: share of keys right in all digits
chat         held-back exchanges, one turn, greedy: share of answers right to the letter
said         words wrong of "What is said?" on held-back sentences, voices of training and voices never trained (`voices`)
sounds       "Which sound is heard?" over the ten classes: share right, greedy, and the confusions
"""

import argparse
import collections
import json
import math
import random
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

import dialogues
import heard
import rows
import tokens as T

LENGTHS = (256, 512, 1024, 2048)


def part(weights, prefix):
    return {k[len(prefix):]: v for k, v in weights.items() if k.startswith(prefix)}


class Model:
    """demo-lm, or the language model that demo-audio-lm's file holds."""

    def __init__(self, path):
        path = Path(path)
        config = json.loads((path / "config.json").read_text())
        self.net = LlamaForCausalLM(LlamaConfig(**config.get("text_config", config))).eval()
        self.weights = {k: v.float() for k, v in load_file(path / "model.safetensors").items()}
        missing = self.net.load_state_dict(part(self.weights, "language_model.") or self.weights, strict=False)
        assert missing == (["lm_head.weight"], []), missing
        self.net.tie_weights()
        self.tok = Tokenizer.from_file(str(path / "tokenizer.json"))

    def logits(self, ids):
        return self.net(torch.as_tensor(ids)[None]).logits[0]

    def greedy(self, vectors, most=64):
        """Text after the embedded prompt [n, width]."""
        out, cache, x = [], None, vectors[None]
        while len(out) < most:
            step = self.net(inputs_embeds=x, past_key_values=cache, use_cache=True)
            best = step.logits[0, -1].argmax().item()
            if best == T.END:
                break
            out.append(best)
            cache, x = step.past_key_values, self.net.get_input_embeddings()(torch.tensor([[best]]))
        return self.tok.decode(out)

    def embed(self, ids):
        return self.net.get_input_embeddings()(torch.as_tensor(ids))


def perplexity(model, data, windows):
    result = {}
    for n in (1024, 2048):
        total, count = 0.0, 0
        starts = np.linspace(0, len(data.prose) - n, windows * 1024 // n).astype(int)
        for at in starts:
            ids = torch.from_numpy(np.concatenate(([T.BEGIN], data.prose[at:at + n - 1])))
            total += torch.nn.functional.cross_entropy(model.logits(ids)[:-1], ids[1:], reduction="sum").item()
            count += n - 1
        text = model.tok.decode([int(i) for i in data.prose])
        result[n] = {"tokens": count, "perplexity": round(math.exp(total / count), 2),
                     "bits_per_byte": round(total / count / math.log(2) * len(data.prose) / len(text.encode()), 3)}
    return result


def recall(model, data, queries):
    result = {}
    for n in LENGTHS:
        right, count = 0, 0
        while count < queries:
            ids, weights = data.recall(n, queries=n // 8)
            at = np.flatnonzero(weights)
            best = model.logits(ids)[at - 1].argmax(-1).numpy()
            right, count = right + int((best == ids[at]).sum()), count + len(at)
        result[n] = {"queries": count, "right_percent": round(100 * right / count, 1)}
    return result


def passkey(model, data, count):
    result = {}
    for n in LENGTHS:
        right = 0
        for i in range(count):
            ids, _ = data.passkey(n, depth=i / (count - 1))
            right += bool((model.logits(ids)[-7:-2].argmax(-1).numpy() == ids[-6:-1]).all())
        result[n] = {"keys": count, "right_percent": round(100 * right / count, 1)}
    return result


def chat(model, data, count):
    rng, by_kind, wrong = random.Random(5), collections.defaultdict(list), []
    while sum(map(len, by_kind.values())) < count:
        kind = rng.choice(sorted(set(dialogues.KINDS), key=lambda k: k.__name__))
        for _ in range(200):
            question, answer = kind(rng)
            if dialogues.held_back(question, answer):
                break
        else:
            continue
        ids = [T.BEGIN, *data.turns([("user", question)])[0], T.ASSISTANT]
        said = model.greedy(model.embed(ids))
        by_kind[kind.__name__].append(said == answer)
        if said != answer:
            wrong.append((question, said))
    every = [x for v in by_kind.values() for x in v]
    return {"exchanges": len(every), "right_percent": round(100 * sum(every) / len(every), 1),
            **{k: f"{sum(v)}/{len(v)}" for k, v in sorted(by_kind.items())}, "wrong": wrong[:5]}


class Hearing:
    """demo-asr's encoder and the projector of demo-audio-lm, in front of its language model."""

    def __init__(self, path, model):
        import hear
        import model as M
        self.ear, self.projector, self.model = hear.Ear(Path(path).parent / "demo-asr"), M.Projector(), model
        self.projector.load_state_dict(part(model.weights, "multi_modal_projector."))

    def ask(self, audio, question):
        vectors = self.projector(self.ear(audio))
        ids = torch.tensor([T.BEGIN] + heard.prompt(self.model.tok, [T.AUDIO] * len(vectors), question))
        return self.model.greedy(self.model.embed(ids).masked_scatter((ids == T.AUDIO)[:, None], vectors))


def said(hearing, count):
    import corpus
    import hear
    import jiwer
    result = {}
    for name, held in (("mix", False), ("voices", True)):
        clips, references, answers = hear.Clips(77, "test", held), [], []
        for i in range(count):
            clip = clips("several" if i % 7 == 6 else "speech")
            references.append(corpus.normalise(" ".join(t for _, _, t in clip["segments"])))
            answers.append(corpus.normalise(hearing.ask(clip["audio"], "What is said?")))
        result[name] = {"clips": count, "words": sum(len(r.split()) for r in references),
                        "wer_percent": round(100 * jiwer.wer(references, answers), 1), "examples": list(zip(references, answers))[:3]}
    return result


def sounds(hearing, count):
    import hear
    clips, right, confused = hear.Clips(99, "test"), 0, collections.Counter()
    for i in range(count):
        name = dialogues.CLASSES[i % len(dialogues.CLASSES)]
        if name == "speech":
            audio = clips("speech")["audio"]
        else:
            audio = hear.sounds.make(name, clips.numbers)
        answer = hearing.ask(audio, "Which sound is heard?")
        right += answer == heard.answer_sound(name)
        if answer != heard.answer_sound(name):
            confused[f"{name}: {answer}"] += 1
    return {"clips": count, "right_percent": round(100 * right / count, 1), "wrong": dict(confused.most_common(8))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sets")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = Model(args.model)
    data = rows.Rows(Path(args.model), args.work / "text", "heldout", 12345)
    sets = {"perplexity": lambda: perplexity(model, data, 64), "recall": lambda: recall(model, data, 512),
            "passkey": lambda: passkey(model, data, 41), "chat": lambda: chat(model, data, 200)}
    if part(model.weights, "multi_modal_projector."):
        hearing = Hearing(args.model, model)
        sets = {"said": lambda: said(hearing, args.clips), "sounds": lambda: sounds(hearing, 2 * args.clips), **sets}
    with torch.no_grad():
        for name in args.sets.split(",") if args.sets else sets:
            print(json.dumps({name: sets[name]()}), flush=True)


if __name__ == "__main__":
    main()
