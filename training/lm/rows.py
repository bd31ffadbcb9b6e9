"""Training rows of demo-lm: token ids and the weight of each one's prediction.

text      prose
copy      random tokens, again and again: what forms induction heads first
recall    "key value" pairs of one token each, prose, then queries: "key value" of pairs seen before; only the values are learnt
passkey   five digits in prose, asked for at the end
chat      dialogues; what the user says has a low weight
heard     questions about audio, with tokens in the place of the projector's vectors: each word's tokens once or twice, <|audio|>
          between them, some missing or wrong. So the decoder can answer from vectors before there is a projector
"""

import random

import numpy as np
from tokenizers import Tokenizer

import dialogues
import heard
import tokens as T

LENGTHS = (128, 256, 512, 1024, 2048)
MIX = {"text": 0.36, "copy": 0.04, "recall": 0.1, "passkey": 0.05, "chat": 0.23, "heard": 0.22}
LONG_MIX = {"text": 0.35, "copy": 0.05, "recall": 0.35, "passkey": 0.15, "chat": 0.1}     # from 512
USER_WEIGHT, ANSWER_WEIGHT = 0.2, 1.0


class Rows:
    """Rows of one split ("train" or "heldout"), from a seed."""

    def __init__(self, tokenizer, text, split, seed):
        self.tok, self.split, self.rng = Tokenizer.from_file(str(tokenizer / "tokenizer.json")), split, random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        cache = text / f"{split}.npy"
        if not cache.exists():
            pages = (text / f"{split}.txt").read_text().split("\n\f\n")
            ids = [i for e in self.tok.encode_batch(pages) for i in [T.BEGIN, *e.ids]]
            np.save(cache, np.array(ids, np.uint16))
        self.prose = np.load(cache).astype(np.int64)
        self.keys, self.values = (np.array(x) for x in T.recall_words(self.tok))

    def ids(self, text):
        return self.tok.encode(text).ids

    def piece(self, n):
        at = self.rng.randrange(len(self.prose) - n)
        return self.prose[at:at + n]

    def text(self, n):
        ids = np.concatenate(([T.BEGIN], self.piece(n - 1)))
        return ids, np.ones(n)

    def copy(self, n):
        period = self.rng.randint(8, max(9, min(n // 2, 512)))
        ids = np.concatenate(([T.BEGIN], np.resize(self.numbers.integers(len(T.SPECIAL), 2048, period), n - 1)))
        weights = np.zeros(n)
        weights[period + 2:] = 1
        return ids, weights

    def recall(self, n, pairs=None, queries=None):
        """pairs (n / 4 or all keys), prose, queries (n / 8 or more)."""
        pairs = pairs or min(n // 4 - 1, len(self.keys))
        queries = queries or min(pairs, self.rng.randint(n // 8, n // 4))
        keys = self.numbers.permutation(self.keys)[:pairs]
        values = self.numbers.choice(self.values, pairs)
        asked = self.numbers.permutation(pairs)[:queries]
        block = np.stack((keys, values), 1)
        between = n - 1 - 2 * pairs - 2 * queries
        ids = np.concatenate(([T.BEGIN], block.ravel(), self.piece(between), block[asked].ravel()))
        weights = np.zeros(n)
        weights[n - 2 * queries + 1::2] = 1
        return ids, weights

    def passkey(self, n, depth=None):
        """depth: where the key stands, 0 at the start, 1 at the end."""
        key = "".join(self.rng.choice("0123456789") for _ in range(5))
        told, asked = self.ids(f" The pass key is {key}. Remember it."), self.ids(f" What is the pass key? The pass key is {key}.")
        between = n - 1 - len(told) - len(asked)
        before = int(between * (self.rng.random() if depth is None else depth))
        prose = self.piece(between)
        ids = np.concatenate(([T.BEGIN], prose[:before], told, prose[before:], asked))
        weights = np.full(n, 0.3)
        weights[-6:-1] = 5
        return ids, weights

    def turns(self, dialogue):
        """Ids and weights of a dialogue as the chat template writes it, without <|begin|>."""
        ids, weights = [], []
        for role, text in dialogue:
            new = [T.ROLES[role], *self.ids(text), T.END]
            ids += new
            weights += [0.0] + [ANSWER_WEIGHT if role == "assistant" else USER_WEIGHT] * (len(new) - 1)
        return ids, weights

    def chat(self, n):
        ids, weights = [], []
        while len(ids) < n:
            if self.rng.random() < 0.25:     # a sentence of the speech grammar, to repeat
                sentence = dialogues.corpus.sentence(self.rng, "train" if self.split == "train" else "test")[0]
                dialogue = [("user", f"Repeat: {sentence}"), ("assistant", sentence)]
            else:
                dialogue = dialogues.dialogue(self.rng, "train" if self.split == "train" else "test")
            new, w = self.turns(dialogue)
            ids += [T.BEGIN, *new]
            weights += [0.0, *w]
        return np.array(ids[:n]), np.array(weights[:n])

    def like_vectors(self, ids):
        """What the projector might make of a clip in which these tokens are heard."""
        rng, out = self.rng, [T.AUDIO] * self.rng.randint(0, 5)
        errors, gaps = rng.choice((0.0, 0.0, 0.1)), rng.choice((0.0, 0.2, 0.5, 1.0))     # gaps: from text to what vectors are like
        for i in ids:
            if rng.random() < errors:
                i = rng.choice((T.AUDIO, rng.randrange(len(T.SPECIAL), 2048)))
            out += [i] * (rng.choice((1, 1, 2)) if rng.random() < gaps else 1)
            out += [T.AUDIO] * (rng.choice((0, 0, 1, 1, 2, 3)) if rng.random() < gaps else 0)
        return out + [T.AUDIO] * rng.randint(0, 4)

    def heard(self, n):
        ids, weights = [], []
        while len(ids) < n:
            if self.rng.random() < 0.75:
                name, text = "speech", dialogues.corpus.sentence(self.rng, "train" if self.split == "train" else "test")[0]
                audio = self.like_vectors(self.ids(text))
            else:
                name, text = self.rng.choice(dialogues.CLASSES[:-1]), ""
                audio = self.rng.choices((*self.ids(" " + name), T.AUDIO), k=self.rng.randint(5, 30))
            prompt, answer = heard.question(self.tok, self.rng, audio, text, name)
            ids += [T.BEGIN, *prompt, *answer]
            weights += [0.0] * (len(prompt) + 1) + [ANSWER_WEIGHT] * len(answer)
        return np.array(ids[:n]), np.array(weights[:n])

    def batch(self, count, n, without=()):
        """count rows of n tokens: ids, weights, kinds."""
        mix = LONG_MIX if n >= 512 else {k: v for k, v in MIX.items() if (n >= 256 or k != "passkey") and k not in without}
        kinds = self.rng.choices(list(mix), list(mix.values()), k=count)
        rows = [getattr(self, kind)(n) for kind in kinds]
        return np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows]).astype(np.float32), kinds
