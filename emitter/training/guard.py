"""Non-finite numbers: counted everywhere, masked before they spread, and never stepped on.

Images with a NaN or Inf are emptied before the forward pass, and images whose maps have one before the loss: they
weigh nothing. A gradient that is not finite all the same is dropped on every rank (no step is taken; gradients set to
zero would still move the weights through the optimizer's momentum). So is a step of which no image was left.

Shape suffixes: B images, T frames, 6 channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from emitter.core.channels import CHANNELS
from emitter.models.network import EmitterNetwork

PLACES = ("inputs", "outputs", *(f"loss_{name}" for name in CHANNELS), "gradients")
COUNTS = tuple(f"health/{place}_{kind}" for place in PLACES for kind in ("nan", "inf"))
MASKED = "health/masked_images"
SKIPPED = "health/skipped_steps"


def count_non_finite(values: Iterable[Tensor]) -> Tensor:
    """How many NaN and how many Inf, (2,) float64."""
    counts = [torch.stack((torch.isnan(value).sum(), torch.isinf(value).sum())) for value in values]
    return torch.stack(counts).sum(dim=0).double() if counts else torch.zeros(2, dtype=torch.float64)


def finite_images(tensors_B: Iterable[Tensor]) -> Tensor:
    """Which images (B,) are finite in every tensor (B, …)."""
    finite = [torch.isfinite(tensor).flatten(1).all(dim=1) for tensor in tensors_B]
    return torch.stack(finite).all(dim=0)


def emptied(tensor_B: Tensor, keep_B: Tensor) -> Tensor:
    """The tensor with the images that are not kept set to 0, in values and gradients."""
    mask = keep_B.view(-1, *[1] * (tensor_B.ndim - 1))
    return torch.where(mask, tensor_B, torch.zeros_like(tensor_B))


def drop_non_finite_gradients(
    parameters: Iterable[nn.Parameter], to_drop: Callable[[bool], bool] = bool
) -> tuple[Tensor, bool]:
    """Count the gradients' NaN and Inf, (2,), and drop all gradients when there is one; whether they were dropped.

    After the all-reduce of DDP every rank should see the same gradients. ``to_drop`` is told whether this one saw a
    bad one and decides for all: ranks that do not step together would train different networks from then on.
    """
    with_gradient = [p for p in parameters if p.grad is not None]
    gradients = [p.grad for p in with_gradient if p.grad is not None]
    finite = not gradients or bool(torch.isfinite(torch.stack(torch._foreach_norm(gradients)).norm()))
    if not to_drop(not finite):
        return torch.zeros(2, dtype=torch.float64), False
    counts_2 = count_non_finite(gradients)
    for parameter in with_gradient:
        parameter.grad = None
    return counts_2, True


def group_norms(network: EmitterNetwork) -> dict[str, float]:
    """Norm of the gradient of every group of layers, from the input to the head."""
    groups = {**network.backbone.groups(), "head": network.head}
    norms = {}
    for name, group in groups.items():
        gradients = [p.grad for p in group.parameters() if p.grad is not None]
        norms[name] = float(torch.stack(torch._foreach_norm(gradients)).norm()) if gradients else 0.0
    return norms
