"""Llama in PyTorch, with transformers' names, and Ultravox's projector (v0.5).

Not transformers' own class: one matrix for queries, keys and values, logits at chosen positions only, and no cache make a step on
one core a third faster. `state` has the names of LlamaForCausalLM (evaluate.py and export.py load it there).
"""

import torch
import torch.nn.functional as F
from torch import nn

VOCAB, WIDTH, LAYERS, HEADS, KV_HEADS, HEAD, FFN = 2048, 256, 4, 4, 2, 64, 512
CONTEXT, THETA, EPSILON = 2048, 500000.0, 1e-5
STACK, ENCODER, HIDDEN = 4, 256, 1024     # projector: states a vector, width of a state, both halves of the SwiGLU

CONFIG = dict(
    vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=FFN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
    num_key_value_heads=KV_HEADS, head_dim=HEAD, max_position_embeddings=CONTEXT, rms_norm_eps=EPSILON,
    rope_parameters={"rope_type": "default", "rope_theta": THETA}, tie_word_embeddings=True)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, EPSILON)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        self.input_layernorm, self.post_attention_layernorm = Norm(WIDTH), Norm(WIDTH)
        self.q_proj, self.k_proj = linear(WIDTH, HEADS * HEAD), linear(WIDTH, KV_HEADS * HEAD)
        self.v_proj, self.o_proj = linear(WIDTH, KV_HEADS * HEAD), linear(HEADS * HEAD, WIDTH)
        self.gate_proj, self.up_proj, self.down_proj = linear(WIDTH, FFN), linear(WIDTH, FFN), linear(FFN, WIDTH)

    def forward(self, x, cos, sin):
        h = self.input_layernorm(x)
        q = self.q_proj(h).unflatten(-1, (HEADS, HEAD)).transpose(1, 2)
        k = self.k_proj(h).unflatten(-1, (KV_HEADS, HEAD)).transpose(1, 2)
        v = self.v_proj(h).unflatten(-1, (KV_HEADS, HEAD)).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (t.repeat_interleave(HEADS // KV_HEADS, 1) for t in (k, v))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o_proj(a.transpose(1, 2).flatten(2))
        h = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


class Projector(nn.Module):
    """Ultravox v0.5: stacked states, RMSNorm, SwiGLU whose second half is the gate, RMSNorm, matrix."""

    def __init__(self):
        super().__init__()
        self.ln_pre, self.ln_mid = nn.RMSNorm(STACK * ENCODER, eps=1e-6), nn.RMSNorm(HIDDEN // 2, eps=1e-6)
        self.linear_1 = nn.Linear(STACK * ENCODER, HIDDEN, bias=False)
        self.linear_2 = nn.Linear(HIDDEN // 2, WIDTH, bias=False)

    def forward(self, states):
        """states [..., n, ENCODER] -> [..., ceil(n / STACK), WIDTH]"""
        states = F.pad(states, (0, 0, 0, -states.shape[-2] % STACK))
        x = states.unflatten(-2, (-1, STACK)).flatten(-2)
        x, gate = self.linear_1(self.ln_pre(x)).chunk(2, -1)
        return self.linear_2(self.ln_mid(F.silu(gate) * x))


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCAB, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = Norm(WIDTH)
        frequency = THETA ** (-torch.arange(0, HEAD, 2) / HEAD)
        angle = torch.arange(CONTEXT)[:, None] * frequency
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        self.start()

    @torch.no_grad()
    def start(self):
        """Starting weights. Layers add nothing at first but two pairs of heads: layer 0's attend to the previous token and write down
        what it was, layer 1's look for places where it was the present token and bring what follows there. Such induction heads,
        on which recall rests, form by themselves too, after some million tokens."""
        for name, p in self.named_parameters():
            if p.ndim == 2 and "embed" not in name:
                nn.init.normal_(p, 0, p.shape[1] ** -0.5)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                p.zero_()
        scale, half = 0.2, HEAD // 2
        frequency = THETA ** (-torch.arange(0, HEAD, 2) / HEAD)
        slow = [i + j for j in (0, half) for i in range(18, half)]       # pairs that turn by less than a radian in 2,048 positions
        fast = torch.where(torch.arange(half) < 6, 1.2, 0.0)
        embed = self.embed_tokens.weight.normal_(0, scale)
        embed[:, WIDTH // 2:] = 0            # room for what the previous token was
        embed *= scale * (WIDTH / 2) ** 0.5 / embed.norm(dim=1, keepdim=True)
        embed[:, 0] = 8 * scale              # a constant, for heads that look at places and not at contents
        self.norm.weight.fill_(0.1)
        basis = torch.zeros(2 * HEAD, WIDTH)
        basis[:-1, 1:WIDTH // 2] = torch.linalg.qr(torch.randn(WIDTH // 2 - 1, WIDTH // 2 - 1))[0]
        first, second = self.layers[0], self.layers[1]
        for kv in range(KV_HEADS):
            rows, head = slice(kv * HEAD, (kv + 1) * HEAD), slice(2 * kv * HEAD, (2 * kv + 1) * HEAD)
            token, room = basis[rows], torch.eye(WIDTH)[WIDTH // 2:][rows]
            for layer in (first, second):
                layer.k_proj.weight[rows] *= 0.1
                layer.q_proj.weight[head] *= 0.1
                layer.v_proj.weight[rows] = token
            # the product of query and key is largest one position back: cos((distance - 1) frequency)
            first.k_proj.weight[rows, 0] = torch.cat((fast, torch.zeros(half)))
            first.q_proj.weight[head, 0] = torch.cat((fast * frequency.cos(), -fast * frequency.sin()))
            first.o_proj.weight[:, head] = 1.5 * scale * room.T
            second.k_proj.weight[rows][slow] = 2.6 * room[slow]
            second.q_proj.weight[head][slow] = 2.6 * token[slow]
            second.o_proj.weight[:, head] = 4 * scale * token.T

    def hidden(self, x):
        """x: embeddings [rows, n, WIDTH]"""
        n = x.shape[1]
        for layer in self.layers:
            x = layer(x, self.cos[:n], self.sin[:n])
        return self.norm(x)

    def logits(self, hidden):
        return hidden @ self.embed_tokens.weight.T

    def exported(self):
        """The weights under LlamaForCausalLM's names."""
        out = {"model.embed_tokens.weight": self.embed_tokens.weight, "model.norm.weight": self.norm.weight}
        for name, p in self.layers.named_parameters():
            layer, part, kind = name.split(".")
            block = "" if "norm" in part else "self_attn." if part[0] in "qkvo" else "mlp."
            out[f"model.layers.{layer}.{block}{part}.{kind}"] = p
        return {k: v.detach().clone().contiguous() for k, v in out.items()}
