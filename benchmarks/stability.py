"""Share of training steps with NaN or Inf: forms that are often written, and ours, on the same stress.

python benchmarks/stability.py

Every step has predictions as a training that goes wrong has them: logits and values from 0.1 to 10⁵ in size, confident
or empty maps, 0 to 200 emitters in a frame of 20×20 cells, in float32, bfloat16 and float16. Counted is a step whose
loss or gradient holds a number that is not finite.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from emitter.core import channels as ch
from emitter.core.candidates import candidates
from emitter.core.channels import Scaling
from emitter.core.emitters import Emitters
from emitter.losses.base import LossSettings, Truth
from emitter.losses.detection.bce import BCESettings
from emitter.losses.detection.count import count_loss
from emitter.losses.mixture import MixtureSettings
from emitter.losses.ppxyzb import PPXYZBSettings
from emitter.losses.set_matching import SetMatchingSettings

SIDE = 20
Loss = Callable[[Tensor, Truth], Tensor]


def legacy_count(maps: Tensor, truth: Truth) -> Tensor:
    """Poisson-binomial with a variance eps of 1e-6, in the precision of the maps."""
    p = torch.sigmoid(maps[:, ch.P]).flatten(1)
    n = truth.emitters.image_N.bincount(minlength=len(maps)).to(p)
    variance = (p * (1 - p)).sum(1) + 1e-6
    return ((n - p.sum(1)) ** 2 / variance + variance.log()).sum()


def legacy_cross_entropy(maps: Tensor, truth: Truth) -> Tensor:
    """−t log p − (1 − t) log(1 − p) of the sigmoid, without bounds."""
    p = torch.sigmoid(maps[:, ch.P])
    target = truth.targets().maps_B6HW[:, ch.P].to(p)
    return -(target * p.log() + (1 - target) * (1 - p).log()).sum()


def legacy_mixture(maps: Tensor, truth: Truth) -> Tensor:
    """log Σ π exp(−½ d²) with squared distances and widths exp(raw) without bounds."""
    pairs = candidates(truth.emitters, SIDE, SIDE, truth.scaling)
    predicted = pairs.predicted(maps)
    width = predicted[:, list(ch.SIGMAS)].exp()
    distance = (((pairs.values_M4.to(maps.dtype) - predicted[:, list(ch.REGRESSION)]) / width) ** 2).sum(1)
    p = torch.sigmoid(predicted[:, ch.P])
    density = p * torch.exp(-0.5 * distance) / width.prod(1)
    total = density.new_zeros(len(pairs.emitters)).index_add(0, pairs.emitter_M, density)
    return -total.log().sum()


def ours(settings: LossSettings) -> Loss:
    """A loss of the package."""
    loss = settings.build(BCESettings())
    return lambda maps, truth: loss(maps, truth, 0.0).sum()


def our_count(maps: Tensor, truth: Truth) -> Tensor:
    """The package's number of emitters."""
    return count_loss(maps[:, ch.P], truth.targets().maps_B6HW[:, ch.P]).sum()


PAIRS: dict[str, tuple[Loss, Loss]] = {
    "number of emitters": (legacy_count, our_count),
    "cross-entropy (ours: all of PPXYZB)": (legacy_cross_entropy, ours(PPXYZBSettings())),
    "mixture": (legacy_mixture, ours(MixtureSettings())),
}
ALONE: dict[str, Loss] = {"set matching": ours(SetMatchingSettings())}


def stress(n_steps: int) -> Iterator[tuple[Tensor, Truth]]:
    """Maps (1, 10, H, W) and their truth."""
    generator = torch.Generator().manual_seed(0)

    def uniform() -> float:
        return float(torch.rand((), generator=generator))

    for _ in range(n_steps):
        size = 10 ** (6 * uniform() - 1)
        maps = torch.randn(1, 10, SIDE, SIDE, generator=generator) * size
        if uniform() < 0.3:
            maps[:, ch.P] = size * (1 if uniform() < 0.5 else -1)
        n = int(200 * uniform() ** 3)
        x, y, z, photons = torch.rand(4, n, generator=generator)
        emitters = Emitters(
            1, torch.zeros(n, dtype=torch.long), SIDE * x, SIDE * y, 1000 * z - 500, 5000 * photons
        )
        yield maps, Truth(emitters, torch.full((1, SIDE, SIDE), 50.0), Scaling())


def is_finite(loss: Loss, maps: Tensor, truth: Truth) -> bool:
    """Whether the loss and its gradient are."""
    leaf = maps.clone().requires_grad_()
    value = loss(leaf, truth)
    if value.requires_grad:
        value.backward()
    return bool(torch.isfinite(value)) and (leaf.grad is None or bool(torch.isfinite(leaf.grad).all()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1000)
    n_steps = parser.parse_args().steps
    torch.set_num_threads(1)
    losses = {f"{name} | usual": pair[0] for name, pair in PAIRS.items()}
    losses |= {f"{name} | ours": pair[1] for name, pair in PAIRS.items()}
    losses |= {f"{name} | ours": loss for name, loss in ALONE.items()}
    print("| loss | form | float32 | bfloat16 | float16 |\n| --- | --- | --- | --- | --- |")
    for name in sorted(losses, key=lambda name: (name.partition(" | ")[0], name.endswith("ours"))):
        shares = []
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            steps = [(maps.clamp(-6e4, 6e4).to(dtype), truth) for maps, truth in stress(n_steps)]
            bad = sum(not is_finite(losses[name], maps, truth) for maps, truth in steps)
            shares.append(f"{100 * bad / n_steps:.1f} %")
        print(f"| {name} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
