"""Batches of audio questions from hear.py's shards, and their loss.

A row: <|begin|><|user|> vectors and question <|end|><|assistant|> answer <|end|>; only the answer is learnt. Beside it each vector is
drawn towards the token that is heard then (or <|audio|> between words): without that the decoder would have to find out alone which
of the vectors is which word.
"""

import numpy as np
import torch
import torch.nn.functional as F

import dialogues
import tokens as T

SLOT_WEIGHT, BETWEEN_WEIGHT = 0.5, 0.3
NOTHING = "Nothing is said."


def answer_sound(name):
    return f"{dialogues.capital(name)}."


def prompt(tok, audio, question, order=0):
    """Ids up to <|assistant|>. order: audio first, last, or either with a line break or space."""
    said, line = tok.encode(question).ids, tok.encode("\n").ids
    middle = (audio + said, audio + line + said, said + line + audio, tok.encode(question + " ").ids + audio)[order]
    return [T.BEGIN, T.USER, *middle, T.END, T.ASSISTANT]


def question(tok, rng, audio, text, name):
    """A question about a clip and its answer, as ids."""
    if rng.random() < (0.8 if text else 0.1):
        asked, answer = rng.choice(dialogues.SAID), text or NOTHING
    else:
        asked, answer = rng.choice(dialogues.HEARD), answer_sound(name)
    order = 0 if rng.random() < 0.4 else rng.randrange(1, 4)
    return prompt(tok, audio, asked, order), [*tok.encode(answer).ids, T.END]


class Heard:
    def __init__(self, folder, tok, rng):
        self.folder, self.tok, self.rng, self.shard = folder, tok, rng, None

    def load(self):
        path = self.rng.choice(sorted(self.folder.glob("*.npz")))
        z = np.load(path)
        ends, vectors = np.cumsum(z["lengths"]), np.cumsum(-(-z["lengths"] // 4))
        states, slots = np.split(z["states"], ends[:-1]), np.split(z["slots"], vectors[:-1])
        order = sorted(range(len(states)), key=lambda i: len(states[i]) + self.rng.random() * 20)
        self.shard = [(states[i], slots[i], str(z["texts"][i]), str(z["names"][i])) for i in order]

    def batch(self, count):
        if not self.shard:
            self.load()
            groups = [self.shard[i:i + count] for i in range(0, len(self.shard), count)]
            self.rng.shuffle(groups)
            self.shard = groups
        clips, rows = self.shard.pop(), []
        for _, slots, text, name in clips:
            rows.append(question(self.tok, self.rng, [T.AUDIO] * len(slots), text, name))
        n = max(len(a) + len(b) for a, b in rows)
        ids, weights = np.full((len(rows), n), T.PAD), np.zeros((len(rows), n), np.float32)
        for i, (a, b) in enumerate(rows):
            ids[i, :len(a) + len(b)] = a + b
            weights[i, len(a):len(a) + len(b)] = 1
        longest = max(len(s) for s, *_ in clips)
        states = np.zeros((len(rows), -(-longest // 4) * 4, clips[0][0].shape[1]), np.float32)
        for i, (s, *_) in enumerate(clips):
            states[i, :len(s)] = s
        return {"ids": torch.from_numpy(ids), "weights": torch.from_numpy(weights), "states": torch.from_numpy(states),
                "slots": [torch.from_numpy(c[1]) for c in clips]}


def forward(net, projector, batch):
    """Hidden states of the rows, and the loss of the vectors themselves."""
    vectors = projector(batch["states"])
    vectors = torch.cat([v[:len(s)] for v, s in zip(vectors, batch["slots"])])
    slots = torch.cat(batch["slots"])
    x = net.embed_tokens(batch["ids"])
    x = x.masked_scatter((batch["ids"] == T.AUDIO)[..., None], vectors)
    logits = (F.rms_norm(vectors, vectors.shape[-1:]) * net.norm.weight.detach()) @ net.embed_tokens.weight.detach().T
    losses = F.cross_entropy(logits, slots, reduction="none")
    weights = torch.where(slots == T.AUDIO, BETWEEN_WEIGHT, 1.0)
    right = (logits.argmax(-1) == slots)[slots != T.AUDIO].float().mean().item()
    return net.hidden(x), (losses * weights).sum() / weights.sum(), right
