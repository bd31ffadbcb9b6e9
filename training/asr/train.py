"""Train the demo Whisper model on synthetic speech.

    python train.py --work DIR --minutes 90 [--threads 1]
    python train.py --work DIR2 --minutes 90 --stage-of DIR/last.pt --curriculum 0.25,0.45 --peak 0.6

Wall-clock schedule: the learning rate and the curriculum follow elapsed / --minutes, so the run
ends on time on a machine of any speed. A checkpoint is written every 3 minutes (DIR/last.pt);
the same command resumes from it. A further stage starts from an earlier run's weights and optimizer
state with a schedule of its own. Optimizer: Muon (orthogonalised momentum, Jordan 2024) for the
weight matrices of the layers, AdamW for the rest. Auxiliary loss: the phone of every 20 ms frame,
known from the synthesizer, from the third encoder layer; its head is dropped at export. Guided
attention: two heads of each decoder layer learn to look where the token is heard.
"""

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperTokenizer

import data
import synth
import tokenizer as T

sys.path.append(str(Path(__file__).parent.parent))
from muon import Muon  # noqa: E402

CONFIG = dict(
    vocab_size=T.VOCAB, num_mel_bins=80, d_model=256, encoder_layers=4, decoder_layers=2,
    encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=512, decoder_ffn_dim=1024,
    max_source_positions=data.POSITIONS, max_target_positions=192, dropout=0.0, attention_dropout=0.0,
    activation_dropout=0.0, activation_function="gelu", scale_embedding=False,
    bos_token_id=T.EOT, eos_token_id=T.EOT, pad_token_id=T.EOT, decoder_start_token_id=T.SOT,
    suppress_tokens=[], begin_suppress_tokens=[220], max_length=192)
GUIDED = 2                         # heads of every decoder layer with guided attention
PHONE_LAYER = 2                    # index of the encoder layer under the phone head


class Model(nn.Module):
    """transformers' Whisper with cropped windows and a phone head."""

    def __init__(self, phones):
        super().__init__()
        self.whisper = WhisperForConditionalGeneration(WhisperConfig(**CONFIG))
        self.phone_norm = nn.LayerNorm(CONFIG["d_model"])
        self.phone_head = nn.Linear(CONFIG["d_model"], phones)
        embed = self.whisper.model.decoder.embed_tokens.weight
        with torch.no_grad():      # neighbouring times start with similar vectors
            embed.normal_(0, 0.02)
            embed[T.TIME0:T.TIME0 + 500] += 0.05 * self.whisper.model.encoder.embed_positions.weight
            embed[T.TIME0 + 500] = embed[T.TIME0 + 499]
        self.queries = {}
        for i, layer in enumerate(self.whisper.model.decoder.layers):
            layer.encoder_attn_layer_norm.register_forward_hook(
                lambda module, args, output, i=i: self.queries.__setitem__(i, output))

    def guide(self, encoded, places):
        """Guided attention: -log of the mass that the GUIDED heads of the cross-attention put near
        the place where the next token is heard (Gaussian of 0.3 s). Without it the attention stayed
        uniform for 11,000 sentences."""
        known = places >= 0
        distance = torch.arange(encoded.shape[1]) - places[known][:, None]
        near = torch.exp(-distance ** 2 / (2 * 15.0 ** 2))
        loss = 0.0
        for i, layer in enumerate(self.whisper.model.decoder.layers):
            attention, n = layer.encoder_attn, 64 * GUIDED
            q = F.linear(self.queries[i], attention.q_proj.weight[:n], attention.q_proj.bias[:n]) * attention.scaling
            k = F.linear(encoded, attention.k_proj.weight[:n])
            q, k = (x.unflatten(-1, (GUIDED, 64)).transpose(1, 2) for x in (q, k))
            weights = (q @ k.transpose(-1, -2)).softmax(-1).transpose(1, 2)[known]
            loss = loss - (weights * near[:, None]).sum(-1).clamp_min(1e-6).log().mean()
        return loss / len(self.whisper.model.decoder.layers)

    def forward(self, mel, inputs, offset, places):
        encoder = self.whisper.model.encoder
        x = F.gelu(encoder.conv1(mel))
        x = F.gelu(encoder.conv2(x)).transpose(1, 2)
        x = x + encoder.embed_positions.weight[offset:offset + x.shape[1]]
        for i, layer in enumerate(encoder.layers):
            x = layer(x, None)
            if i == PHONE_LAYER:
                phones = self.phone_head(self.phone_norm(x))
        x = encoder.layer_norm(x)
        hidden = self.whisper.model.decoder(
            input_ids=inputs, encoder_hidden_states=x, use_cache=False).last_hidden_state
        return self.whisper.proj_out(hidden), phones, self.guide(x, places)


def token_loss(logits, targets, smoothing=0.05):
    """Cross-entropy; timestamps share their mass with their neighbours at 20 and 40 ms, text has
    uniform smoothing. Returns (mean loss, accuracy of text, accuracy of timestamps within 40 ms)."""
    keep = targets != data.IGNORE
    logits, targets = logits[keep], targets[keep]
    logp = F.log_softmax(logits, -1)
    times = targets >= T.TIME0
    text = targets[~times]
    loss = -(1 - smoothing) * logp[~times].gather(1, text[:, None]).sum() - smoothing * logp[~times].mean(-1).sum()
    if times.any():
        stamps, p = targets[times], logp[times]
        for shift, weight in ((-2, 0.08), (-1, 0.2), (0, 0.44), (1, 0.2), (2, 0.08)):
            index = (stamps + shift).clamp(T.TIME0, T.VOCAB - 1)
            loss = loss - weight * p.gather(1, index[:, None]).sum()
    with torch.no_grad():
        best = logits.argmax(-1)
        accuracy = (best[~times] == text).float().mean().item()
        near = ((best[times] - targets[times]).abs() <= 2).float().mean().item() if times.any() else float("nan")
    return loss / len(targets), accuracy, near


def rate(progress):
    """Learning rate factor: 2 % warm-up, flat to 55 %, cosine to zero."""
    if progress < 0.02:
        return max(progress / 0.02, 0.01)
    return 1.0 if progress < 0.55 else 0.5 + 0.5 * math.cos(math.pi * min(1.0, (progress - 0.55) / 0.45))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", required=True)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-seconds", type=float, default=140, help="seconds of audio per step")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak rate of AdamW; Muon's is twice that")
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--peak", type=float, default=1.0, help="factor of the learning rates")
    parser.add_argument("--stage-of", help="last.pt of an earlier run, to go on from with a new schedule")
    parser.add_argument("--curriculum", default="0.48,0.68", type=lambda s: tuple(float(x) for x in s.split(",")),
                        help="shares of the time at which windows of 5.6 s and of 10 s begin")
    parser.add_argument("--stop-after", type=float, default=1e9, help="minutes; for trials")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "tokenizer").exists():
        T.build(work / "tokenizer")
    tok = WhisperTokenizer.from_pretrained(work / "tokenizer")
    if not (work / "phones.json").exists():
        (work / "phones.json").write_text(json.dumps(synth.phone_inventory()))
    phones = json.loads((work / "phones.json").read_text())
    model = Model(len(phones))
    matrices = [p for n, p in model.whisper.model.named_parameters() if p.ndim == 2 and ".layers." in n]
    if args.optimizer == "adamw":
        matrices = []
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen and p.requires_grad]
    optimizers = [torch.optim.AdamW(rest, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01)]
    if matrices:
        optimizers.append(Muon(matrices, lr=2 * args.lr))
    average = {k: v.clone() for k, v in model.state_dict().items()}
    state = {"step": 0, "elapsed": 0.0, "sentences": 0, "audio_s": 0.0}
    last = work / "last.pt"
    source = last if last.exists() else args.stage_of
    if source:
        saved = torch.load(source)
        model.load_state_dict(saved["model"])
        average = saved["average"]
        state = saved["state"]
        for o, s in zip(optimizers, saved["optimizers"]):
            o.load_state_dict(s)
        if source != last:
            state = {**state, "elapsed": 0.0, "earlier": [*state.get("earlier", []), state]}
        print("resumed", state, flush=True)
    count = sum(p.numel() for p in model.whisper.parameters())
    print(f"{count:,} parameters, {len(phones)} phone classes, {args}", flush=True)

    def save():
        torch.save({"model": model.state_dict(), "average": average, "state": state,
                    "optimizers": [o.state_dict() for o in optimizers], "args": vars(args)}, work / "last.tmp")
        os.replace(work / "last.tmp", last)

    budget = args.minutes * 60
    progress = multiprocessing.Value("d", state["elapsed"] / budget)
    stream = data.Stream(tok, phones, 1000003 * (args.seed + 1) + state["step"], progress, args.batch_seconds, args.curriculum)
    loader = iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=4))
    begin, start_elapsed = time.time(), state["elapsed"]
    saved_at = shown_at = time.time()
    sums, waited = [], 0.0
    while state["elapsed"] < budget and (state["elapsed"] - start_elapsed) < 60 * args.stop_after:
        t = time.time()
        batch = next(loader)
        waited += time.time() - t
        progress.value = state["elapsed"] / budget
        factor = args.peak * rate(progress.value)
        for o, peak in zip(optimizers, (args.lr, 2 * args.lr)):
            for group in o.param_groups:
                group["lr"] = peak * factor
        logits, phone_logits, guide = model(batch["mel"], batch["inputs"], batch["offset"], batch["places"])
        loss, accuracy, near = token_loss(logits, batch["targets"])
        phone_loss = F.cross_entropy(phone_logits.flatten(0, 1), batch["phones"].flatten())
        phone_weight = 0.5 if progress.value < 0.6 else 0.2
        guide_weight = 0.5 if progress.value < 0.6 else 0.2
        (loss + phone_weight * phone_loss + guide_weight * guide).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in optimizers:
            o.step()
        model.zero_grad(set_to_none=True)
        state["step"] += 1
        decay = min(0.99, state["step"] / (state["step"] + 10))
        with torch.no_grad():
            for k, v in model.state_dict().items():
                average[k].lerp_(v, 1 - decay)
        phone_accuracy = (phone_logits.argmax(-1) == batch["phones"]).float().mean().item()
        sums.append((loss.item(), accuracy, near, phone_loss.item(), phone_accuracy, guide.item(), batch["sentences"], batch["seconds"]))
        state["elapsed"] = start_elapsed + time.time() - begin
        state["sentences"] += batch["sentences"]
        state["audio_s"] += batch["seconds"]
        if time.time() - shown_at > 20:
            span = time.time() - shown_at
            m = torch.tensor(sums)
            mean = [m[:, i].nanmean().item() for i in range(6)]
            print(f"step {state['step']} {state['elapsed'] / 60:.1f} min, left {(budget - state['elapsed']) / 60:.1f} | "
                  f"loss {mean[0]:.3f} text {mean[1]:.3f} time {mean[2]:.3f} | phone {mean[3]:.3f} {mean[4]:.3f} guide {mean[5]:.2f} | "
                  f"{m[:, -2].sum() / span:.1f} sentences/s, {m[:, -1].sum() / span:.0f} x real time, "
                  f"{span / len(sums):.2f} s/step, wait {waited / span:.0%}, lr {args.lr * factor:.2e}, "
                  f"seen {state['sentences']}", flush=True)
            sums, waited, shown_at = [], 0.0, time.time()
        if time.time() - saved_at > 180:
            save()
            saved_at = time.time()
    save()
    print("done", state, flush=True)


if __name__ == "__main__":
    main()
