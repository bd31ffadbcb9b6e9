"""Muon (Jordan 2024): momentum, orthogonalised by Newton-Schulz iterations, for the weight matrices of layers."""

import torch


class Muon(torch.optim.Optimizer):
    """Updates have the RMS of AdamW's (factor 0.2 sqrt(max(rows, columns)))."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.02, iterations=5):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, iterations=iterations))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                m = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                g = p.grad.lerp(m, group["momentum"]).reshape(p.shape[0], -1)
                tall = g.shape[0] > g.shape[1]
                x = g.T if tall else g
                x = x / (x.norm() + 1e-9)
                for _ in range(group["iterations"]):
                    a = x @ x.T
                    x = 3.4445 * x + torch.addmm(a, a, a, beta=-4.7750, alpha=2.0315) @ x
                x = x.T if tall else x
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(x.reshape(p.shape), alpha=-group["lr"] * 0.2 * max(x.shape) ** 0.5)
