"""Batches of audio questions from hear.py's shards, and their losses.

A row is a chat: <|begin|>, now and then earlier turns, <|user|> vectors and question <|end|><|assistant|> answer <|end|>, now and then
further turns about the same clip, another or none. The answers are learnt. Beside it the vectors, each as the token that it is nearest
to, have to give what is said by CTC, <|audio|> being the blank: without that the decoder would have to find out alone which of the
vectors is which word.
"""

import numpy as np
import torch
import torch.nn.functional as F

import dialogues
import model as M
import tokens as T

CTC_WEIGHT = 0.3
SOUNDS_KEPT = 0.3      # of the clips of sounds: they are learnt first
NOTHING = "Nothing is said."


def answer_sound(name):
    return f"{dialogues.capital(name)}."


def article(name):
    """A bell, an engine, noise."""
    return name if name in ("silence", "noise", "clicks", "speech") else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def prompt(tok, audio, question, order=0):
    """Ids of the user's turn and <|assistant|>. order: audio first, last, or either with a line break or space."""
    said, line = tok.encode(question).ids, tok.encode("\n").ids
    middle = (audio + said, audio + line + said, said + line + audio, tok.encode(question + " ").ids + audio)[order]
    return [T.USER, *middle, T.END, T.ASSISTANT]


def question(tok, rng, audio, text, name):
    """A question about a clip and its answer, as ids. text: what is said, or ""; name: of the sound."""
    chance = rng.random()
    if chance < 0.2:
        asked, answer = rng.choice(dialogues.EITHER), text or answer_sound(article(name))
    elif chance < (0.85 if text else 0.3):
        asked, answer = rng.choice(dialogues.SAID), text or NOTHING
    else:
        asked, answer = rng.choice(dialogues.HEARD), answer_sound(name)
    order = rng.randrange(1, 4) if audio and rng.random() < 0.6 else 0
    return prompt(tok, audio, asked, order), [*tok.encode(answer).ids, T.END]


def of_both(tok, rng, a, b):
    """A question about two clips (vectors, text, name) in one turn, and its answer."""
    said = " ".join(text for _, text, _ in (a, b) if text)
    if said:
        asked, answer = rng.choice(dialogues.SAID), said
    else:
        asked, answer = rng.choice(dialogues.EITHER), " ".join(answer_sound(article(name)) for *_, name in (a, b))
    return prompt(tok, a[0] + (tok.encode("\n").ids if rng.random() < 0.5 else []) + b[0], asked), [*tok.encode(answer).ids, T.END]


def vectors_of(states):
    return -(-len(states) // M.STACK)


class Heard:
    """Endless batches from a folder of shards. A clip: (states, text, name)."""

    def __init__(self, folder, tok, rng):
        self.folder, self.tok, self.rng, self.groups = folder, tok, rng, []

    def load(self, count):
        path = self.rng.choice(sorted(self.folder.glob("*.npz")))
        z = np.load(path)
        states = np.split(z["states"], np.cumsum(z["lengths"])[:-1])
        kept = [i for i in range(len(states)) if z["names"][i] == "speech" or self.rng.random() < SOUNDS_KEPT]
        order = sorted(kept, key=lambda i: len(states[i]) + self.rng.random() * 20)
        clips = [(states[i], str(z["texts"][i]), str(z["names"][i])) for i in order]
        self.groups = [clips[i:i + count] for i in range(0, len(clips), count)]
        self.rng.shuffle(self.groups)

    def row(self, clips, together, before, after):
        """Ids and weights of a chat about clips, in their order."""
        ids, weights = [T.BEGIN], [0.0]
        if before and self.rng.random() < 0.2:
            ids += [T.SYSTEM, *self.tok.encode(self.rng.choice(dialogues.SYSTEMS)).ids, T.END]
            weights += [0.0] * (len(ids) - 1)

        def add(asked, answer):
            ids.extend(asked + answer)
            weights.extend([0.0] * len(asked) + [1.0] * len(answer))

        def exchange():
            asked, answer = dialogues.exchange(self.rng)
            add(prompt(self.tok, [], asked), [*self.tok.encode(answer).ids, T.END])

        for _ in range(before):
            exchange()
        heard = [([T.AUDIO] * vectors_of(states), text, name) for states, text, name in clips]
        if together:
            add(*of_both(self.tok, self.rng, *heard))
        for i, clip in enumerate([] if together else heard):
            add(*question(self.tok, self.rng, *clip))
            if i == 0 and after and self.rng.random() < 0.5:
                add(*question(self.tok, self.rng, [], *clip[1:]))      # about the same clip
            elif i == 0 and after:
                exchange()
        return ids, weights

    def batch(self, count):
        if not self.groups:
            self.load(count)
        clips, chance = self.groups.pop(), self.rng.random()
        pairs, before, after = chance < 0.3, self.rng.choice((0, 0, 0, 0, 0, 1, 2)), chance > 0.85
        if pairs and len(clips) > 1:
            clips = clips[:len(clips) // 2 * 2]
            rows = [self.row(clips[i:i + 2], chance < 0.06, before, after) for i in range(0, len(clips), 2)]
        else:
            rows = [self.row([c], False, before, after) for c in clips]
        n = max(len(r) for r, _ in rows)
        ids, weights = np.full((len(rows), n), T.PAD), np.zeros((len(rows), n), np.float32)
        for i, (r, w) in enumerate(rows):
            ids[i, :len(r)], weights[i, :len(r)] = r, w
        longest = max(len(s) for s, *_ in clips)
        states = np.zeros((len(clips), -(-longest // M.STACK) * M.STACK, clips[0][0].shape[1]), np.float32)
        for i, (s, *_) in enumerate(clips):
            states[i, :len(s)] = s
        return {"ids": torch.from_numpy(ids), "weights": torch.from_numpy(weights), "states": torch.from_numpy(states),
                "lengths": [vectors_of(s) for s, *_ in clips],
                "spoken": [self.tok.encode(text).ids for _, text, _ in clips]}


def forward(net, projector, batch):
    """Hidden states of the rows, and the vectors' own loss for each token that is said."""
    lengths, spoken = batch["lengths"], batch["spoken"]
    vectors = projector(batch["states"])
    vectors = torch.cat([v[:n] for v, n in zip(vectors, lengths)])
    x = net.embed_tokens(batch["ids"])
    x = x.masked_scatter((batch["ids"] == T.AUDIO)[..., None], vectors)
    logits = (F.rms_norm(vectors, vectors.shape[-1:]) * net.norm.weight.detach()) @ net.embed_tokens.weight.detach().T
    chances = torch.nn.utils.rnn.pad_sequence(F.log_softmax(logits, -1).split(lengths))
    tokens = torch.tensor([i for ids in spoken for i in ids], dtype=torch.long)
    losses = F.ctc_loss(chances, tokens, torch.tensor(lengths), torch.tensor([len(ids) for ids in spoken]), blank=T.AUDIO,
                        zero_infinity=True, reduction="none")
    return net.hidden(x), losses.sum() / max(1, len(tokens))
