"""Optimizers: AdamW, and Muon for the convolutions with AdamW for the rest.

Muon (Jordan et al. 2024) steps along the momentum with its singular values set to one, so that every direction of a
layer learns at the same rate, and not only those that the loss sees most of. The orthogonal factor comes from five
Newton-Schulz iterations, in float32: matrices as small as these take longer in bfloat16. Convolutions count as
matrices (output channels × everything else). PyTorch's own takes matrices only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from emitter.training.settings import OptimizerSettings

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # the published quintic: fast, to singular values of 0.7-1.2
_ITERATIONS = 5
_MOMENTUM = 0.95
_BETAS = (0.9, 0.99)


def orthogonalize(matrices_KRC: Tensor) -> Tensor:
    """The nearest matrices, roughly, with all singular values one."""
    a, b, c = _NEWTON_SCHULZ
    wide = matrices_KRC.shape[1] <= matrices_KRC.shape[2]
    x = matrices_KRC if wide else matrices_KRC.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Muon for the parameter groups with ``matrices`` true, AdamW for the others."""

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 1e-3, "weight_decay": 0.0, "matrices": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not group["matrices"]:
                self._adamw(parameters, group)
                continue
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in parameters:
                by_shape.setdefault(parameter.shape, []).append(parameter)
            for alike in by_shape.values():  # layers of one shape are one batch of matrices
                self._muon(alike, group)
        return loss

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        for p in parameters:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum"] for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - _MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, _MOMENTUM)  # Nesterov
        steps_KRC = orthogonalize(torch.stack([step.flatten(1) for step in ahead]))
        rows, columns = steps_KRC.shape[1:]
        rate = group["lr"] * max(1.0, rows / columns) ** 0.5
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for parameter, step_RC in zip(parameters, steps_KRC, strict=True):
            parameter.sub_(step_RC.view(parameter.shape), alpha=rate)

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for p in parameters:
            if not self.state[p]:
                zeros = (torch.zeros_like(p), torch.zeros_like(p), torch.zeros(()))
                self.state[p].update(zip(("exp_avg", "exp_avg_sq", "step"), zeros, strict=True))
        adamw(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [self.state[p]["exp_avg"] for p in parameters],
            [self.state[p]["exp_avg_sq"] for p in parameters],
            [],
            [self.state[p]["step"] for p in parameters],
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


def build_optimizer(
    network: nn.Module,
    last_layer: nn.Module,
    settings: OptimizerSettings,
    of_the_loss: Iterable[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """The optimizer of the settings for a network and what its loss trains.

    The loss's parameters, biases, norms and level embeddings are not decayed. With Muon, the last layer's weight and
    everything that is no matrix go to AdamW.
    """
    ends = {id(last_layer.weight)}
    matrices: list[Tensor] = []
    vectors: list[Tensor] = list(of_the_loss)
    for p in network.parameters():
        is_matrix = p.ndim >= 2 and min(len(p), p[0].numel()) > 1 and p.ndim != 3
        (matrices if is_matrix and id(p) not in ends else vectors).append(p)
    others = {"params": vectors, "lr": settings.learning_rate}
    if settings.algorithm == "adamw":
        decayed = {"params": matrices, "lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        return torch.optim.AdamW([decayed, {**others, "weight_decay": 0.0}], betas=_BETAS)
    decayed = {"params": matrices, "lr": settings.muon_learning_rate, "weight_decay": settings.weight_decay}
    return Muon([{**decayed, "matrices": True}, others])
