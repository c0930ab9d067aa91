"""Every loss driven to its limits: finite loss and gradients whatever the prediction and the truth.

Infinite predictions never reach a loss: they are counted and their images emptied before (tests/training/test_guard.py
and the last test here).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds
from emitter.core.emitters import Emitters
from emitter.core.units import PixelSize
from emitter.inference.bundle import Bundle
from emitter.losses.base import LossSettings, Truth
from emitter.losses.detection.base import DetectionSettings
from emitter.losses.detection.bce import BCESettings
from emitter.losses.ppxyzb import PPXYZBSettings
from emitter.losses.reconstruction import ERRORS, ReconstructionSettings, reconstruction_loss
from emitter.losses.weighting.base import WeightingSettings
from emitter.models.network import EmitterNetwork, InputScaling
from emitter.models.settings import VarSettings
from emitter.psf import build
from emitter.psf.gaussian import AstigmaticSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import SimulationSettings
from emitter.simulation.simulator import Sample
from emitter.training.guard import count_non_finite, emptied, finite_images
from emitter.training.objective import Objective
from emitter.training.settings import TrainingSettings

SIDE, IMAGES = 12, 2
PSF = build(AstigmaticSettings(100, 200, -200, 300), PixelSize(100, 100))


def concrete(base: type) -> Iterator[type]:
    """Every kind that the configuration knows."""
    for cls in base.__subclasses__():
        if "kind" in vars(cls):
            yield cls
        yield from concrete(cls)


def objectives() -> Iterator[tuple[str, object]]:
    """(name, loss(maps, truth) → (B,)) of everything that can be minimised."""
    for cls in dict.fromkeys(concrete(LossSettings)):
        loss = cls().build(BCESettings())
        yield cls.kind, lambda maps, truth, loss=loss: loss(maps, truth, 0.5).sum(dim=1)
    for cls in dict.fromkeys(concrete(DetectionSettings)):
        loss = PPXYZBSettings().build(cls(count_weight=1.0))
        yield f"ppxyzb + {cls.kind}", lambda maps, truth, loss=loss: loss(maps, truth, 0.5).sum(dim=1)
    for region, regression in itertools.product((1, 3), ("mse", "l1", "smooth_l1")):
        loss = PPXYZBSettings(regression=regression, region_cells=region).build(BCESettings(pos_weight=2.0))
        yield (
            f"ppxyzb {regression} {region}",
            lambda maps, truth, loss=loss: loss(maps, truth, 1.0).sum(dim=1),
        )
    for error in [error for error in ERRORS if error != "none"]:
        settings = ReconstructionSettings(error=error)
        yield (
            f"reconstruction {error}",
            lambda maps, truth, settings=settings: reconstruction_loss(
                maps, truth, torch.full((IMAGES, SIDE, SIDE), 40.0), PSF, lambda mu: 2 * mu + 1, settings
            ),
        )


OBJECTIVES = dict(objectives())


def emitters(n: int, seed: int) -> Emitters:
    g = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, n, generator=g) * SIDE
    return Emitters(
        IMAGES,
        torch.randint(0, IMAGES, (n,), generator=g),
        x,
        y,
        1000 * torch.rand(n, generator=g) - 500,
        5000 * torch.rand(n, generator=g),
    )


def predictions(seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Maps with ten channels; a loss takes what it knows of them."""
    g = torch.Generator().manual_seed(seed)
    shape = (IMAGES, 10, SIDE, SIDE)
    normal = torch.randn(shape, generator=g)
    yield "zeros", torch.zeros(shape)
    yield "ordinary", normal
    yield "large", 1e4 * normal
    for logit in (-1e4, 1e4):
        maps = normal.clone()
        maps[:, ch.P] = logit
        yield f"logit {logit:g}", maps
    yield "alternating", 1e4 * torch.sign(normal)


def finite_loss_and_gradient(loss, maps: torch.Tensor, truth: Truth) -> None:
    leaf = maps.clone().requires_grad_()
    value = loss(leaf, truth)
    assert value.dtype == torch.float32 and value.shape == (IMAGES,)
    value.sum().backward()
    assert torch.isfinite(value).all(), value
    if leaf.grad is not None:
        assert torch.isfinite(leaf.grad).all()


def scene(truth: Truth) -> Sample:
    """A batch of the frames' size with this truth: a dim frame of 40 photons everywhere."""
    camera = Camera.build(CameraSettings("ideal"))
    return Sample(torch.full((IMAGES, 3, SIDE, SIDE), 40.0), camera, truth.emitters, truth.background_BHW)


def whole(weighting: WeightingSettings, loss: LossSettings, **more) -> Objective:
    """All that a step minimises, at two scales, with the frames' reconstruction."""
    simulation = SimulationSettings(frame_size_px=(SIDE, SIDE))
    model = VarSettings(
        stem_channels=(4, 4), cells_px=(2, 1), widths=(4, 4), blocks=(1, 1), latent_channels=4
    )
    network = EmitterNetwork(model, 3, InputScaling(), loss.build(BCESettings()).n_maps)
    camera = Camera.build(CameraSettings("ideal"))
    bundle = Bundle(network, Scaling(), Thresholds(), PSF, camera, simulation)
    refused = isinstance(loss, PPXYZBSettings) and loss.quality_px is not None
    reconstruction = ReconstructionSettings("none" if refused else "poisson")
    return Objective(
        TrainingSettings(weighting=weighting, loss=loss, reconstruction=reconstruction, **more), bundle
    )


ALL_LOSSES = [*(loss() for loss in dict.fromkeys(concrete(LossSettings))), PPXYZBSettings(quality_px=None)]
WHOLE = [
    (weighting(), loss)
    for weighting in dict.fromkeys(concrete(WeightingSettings))
    for loss in ALL_LOSSES
    if weighting.takes_negative_parts or not loss.own_detection
]


@pytest.mark.parametrize("n", [0, 8, 1000], ids=["empty", "some", "overfull"])
@pytest.mark.parametrize(("weighting", "loss"), WHOLE, ids=lambda s: s.kind)
def test_the_whole_objective_with_every_weighting(weighting, loss, n):
    """Loss, gradients, shares and weights are finite, step after step; an infinite prediction is masked."""
    objective = whole(weighting, loss)
    sample = scene(Truth(emitters(n, 0), torch.full((IMAGES, SIDE, SIDE), 40.0), Scaling(), 1.0))
    all_kept, first_bad = torch.ones(IMAGES, dtype=torch.bool), torch.tensor([False, True])
    courses = [(maps, all_kept) for _, maps in predictions(0)]
    infinite = torch.randn(IMAGES, 10, SIDE, SIDE)
    infinite[0, :, 2, 2] = float("inf")
    courses.append((emptied(infinite, first_bad), first_bad))
    for step, (maps, keep_B) in enumerate(courses):
        fine = maps[:, : loss.build(BCESettings()).n_maps]
        leaves = [fine[..., ::2, ::2].clone().requires_grad_(), fine.clone().requires_grad_()]
        outcome = objective(leaves, sample, keep_B, step=step, progress=0.5)
        outcome.total.backward()
        assert torch.isfinite(outcome.total) and torch.isfinite(outcome.preset_loss)
        assert all(torch.isfinite(leaf.grad).all() and not leaf.grad[~keep_B].any() for leaf in leaves)
        assert torch.isfinite(outcome.shares()).all() and outcome.shares().abs().sum() <= 1.0001
        objective.weighting.on_epoch(outcome.epoch_parts())
        objective.weighting.on_norms(outcome.parts_6.detach().abs())
        assert torch.isfinite(objective.weighting.effective_6()).all()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in objective.parameters())


def test_everything_that_can_be_configured_is_driven():
    conf = Path(__file__).resolve().parents[2] / "conf"
    weightings = {path.stem for path in (conf / "weighting").glob("*.yaml")}
    assert weightings == {weighting.kind for weighting, _ in WHOLE}
    kinds = {path.stem for group in ("loss", "detection") for path in (conf / group).glob("*.yaml")}
    assert kinds - {"count"} <= {name.split(" + ")[-1] for name in OBJECTIVES}


@pytest.mark.parametrize("n", [0, 1, 8, 1000], ids=["empty", "one", "some", "overfull"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_and_gradient_are_finite(name, dtype, n):
    for seed, cell_px in ((0, 1.0), (1, 1.0 if name.startswith("reconstruction") else 2.0)):
        truth = Truth(emitters(n, seed), torch.full((IMAGES, SIDE, SIDE), 40.0), Scaling(), cell_px)
        side = round(SIDE / cell_px)
        for _, maps in predictions(seed):
            finite_loss_and_gradient(OBJECTIVES[name], maps[..., :side, :side].to(dtype), truth)


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_infinite_predictions_are_counted_and_masked(name, bad):
    truth = Truth(emitters(8, 0), torch.full((IMAGES, SIDE, SIDE), 40.0), Scaling(), 1.0)
    maps = torch.randn(IMAGES, 10, SIDE, SIDE)
    for channel in range(10):
        maps[0, channel, 3, channel] = bad
    counts = count_non_finite([maps])
    assert counts.sum() == 10
    keep = finite_images([maps])
    assert keep.tolist() == [False, True]
    leaf = maps.requires_grad_()
    value = OBJECTIVES[name](emptied(leaf, keep), truth) * keep
    value.sum().backward()
    assert value[0] == 0 and torch.isfinite(value).all()
    assert not leaf.grad[0].any() and torch.isfinite(leaf.grad).all()
