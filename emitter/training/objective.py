"""What one training step minimises: the loss of every scale, the scales' weights, the channels' weighting.

Shape suffixes: K supervised scales, B images, C channels of the maps, 6 parts (one for each channel), H rows,
W columns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from emitter.inference.bundle import Bundle
from emitter.losses.base import Loss, Truth
from emitter.losses.reconstruction import reconstruction_loss
from emitter.losses.scale_warmup import scale_weights
from emitter.simulation.simulator import Sample
from emitter.training.guard import emptied
from emitter.training.settings import TrainingSettings


@dataclass(frozen=True)
class Outcome:
    """The loss of a step and where it comes from.

    ``parts_KB6``: of every supervised scale and image, before all weights. ``parts_6``: their mean over images,
    summed over scales with the scales' weights. ``contributions_7``: what the weighting makes of the six and of the
    reconstruction (0 without one); they add up to ``total``, but for the weighting's own penalty. ``preset_loss``: the
    same with the preset's fixed weights, whatever the weighting. ``reconstruction`` is before its weight.
    """

    total: Tensor
    preset_loss: Tensor
    contributions_7: Tensor
    parts_KB6: Tensor
    parts_6: Tensor
    scale_weights: tuple[float, ...]
    reconstruction: Tensor | None

    def shares(self) -> Tensor:
        """Each channel's share of the loss, (6,); likelihoods below 0 have a negative one.

        With a reconstruction the rest is its own. The weighting's penalty, which no channel causes, is left out.
        """
        contributions_7 = self.contributions_7.detach()
        return contributions_7[:-1] / contributions_7.abs().sum().clamp(min=1e-4)

    def epoch_parts(self) -> Tensor:
        """Parts that do not depend on the scale warm-up, (6,): the mean over scales and images."""
        return self.parts_KB6.detach().mean(dim=(0, 1))


class Objective(nn.Module):
    """Maps of all scales and a sample → the loss. Owns what a loss or weighting trains or remembers."""

    def __init__(self, settings: TrainingSettings, bundle: Bundle) -> None:
        super().__init__()
        self.settings = settings
        self.cells_px = bundle.network.cells_px
        self.scaling = bundle.scaling
        self.psf = bundle.psf
        n_scales = len(bundle.network.cells_px)
        final = scale_weights(settings.scale_warmup, sys.maxsize, n_scales, settings.epoch_steps)
        # of those to be supervised; wrong settings are named before the training begins
        self.scales = tuple(scale for scale, weight in enumerate(final) if weight > 0)
        self.losses = nn.ModuleList(settings.loss.build(settings.detection) for _ in self.scales)
        # where there is no z to learn, its error of 0 would draw an adaptive weight to itself
        preset = settings.channel_weights if bundle.is_3d else replace(settings.channel_weights, z=0.0)
        self.axial = preset.z > 0
        self.weighting = settings.weighting.build(preset)

    @property
    def finest(self) -> Loss:
        """The loss of the finest scale."""
        loss = self.losses[-1]
        assert isinstance(loss, Loss)
        return loss

    def scale_weights(self, step: int) -> tuple[float, ...]:
        """Of every scale at this step, coarse to fine, those that are not supervised among them."""
        settings = self.settings
        return scale_weights(settings.scale_warmup, step, len(self.cells_px), settings.epoch_steps)

    def supervised_weights(self, step: int) -> tuple[float, ...]:
        """Of the K supervised ones at this step."""
        weights = self.scale_weights(step)
        return tuple(weights[scale] for scale in self.scales)

    def final_weights(self) -> tuple[float, ...]:
        """Of the K supervised ones when the warm-up is over and all are active."""
        return self.supervised_weights(sys.maxsize)

    def forward(
        self, maps: list[Tensor], sample: Sample, keep_B: Tensor, step: int, progress: float
    ) -> Outcome:
        """The loss, in float32. Images that are not kept weigh nothing."""
        parts_KB6 = self.parts(maps, sample, keep_B, progress)
        weights = self.scale_weights(step)
        parts_6 = self._over_scales(parts_KB6, self.supervised_weights(step))
        contributions_6, preset_loss = self.weighting(parts_6), self.preset_loss(parts_6.detach())
        reconstruction = self._reconstruction(maps[-1], sample, keep_B)
        beside = parts_6.new_zeros(())
        if reconstruction is not None:
            weight = self.settings.reconstruction.weight
            beside = self.weighting.beside(reconstruction, weight)
            preset_loss = preset_loss + weight * reconstruction.detach()
        contributions_7 = torch.cat((contributions_6, beside[None]))
        total = contributions_7.sum() + self.weighting.penalty()
        return Outcome(total, preset_loss, contributions_7, parts_KB6, parts_6, weights, reconstruction)

    def preset_loss(self, parts_6: Tensor) -> Tensor:
        """The parts' sum with the preset's weights, a scalar: it means the same in every step of a run."""
        return (self.weighting.preset_6 * parts_6).sum()

    def parts(self, maps: list[Tensor], sample: Sample, keep_B: Tensor, progress: float) -> Tensor:
        """Of every supervised scale and image, before all weights, (K, B, 6)."""
        kept = keep_B[:, None].to(torch.float32)
        parts = []
        for scale, loss in zip(self.scales, self.losses, strict=True):
            truth = Truth(
                sample.emitters, sample.background_IHW, self.scaling, self.cells_px[scale], self.axial
            )
            parts.append(loss(maps[scale].float(), truth, progress) * kept)
        return torch.stack(parts)

    def _over_scales(self, parts_KB6: Tensor, weights: tuple[float, ...]) -> Tensor:
        weights_K1 = parts_KB6.new_tensor(weights)[:, None]
        # a locked scale may overflow as it likes: 0 · ∞ would be NaN
        parts_K6 = torch.where(weights_K1 > 0, parts_KB6.mean(dim=1), 0.0)
        return (parts_K6 * weights_K1).sum(dim=0)

    def _reconstruction(self, finest_BCHW: Tensor, sample: Sample, keep_B: Tensor) -> Tensor | None:
        settings = self.settings.reconstruction
        if settings.error == "none":
            return None
        observed_BHW = emptied(sample.predicted_photons_IHW, keep_B)
        truth = Truth(sample.emitters, sample.background_IHW, self.scaling, self.cells_px[-1])
        self.psf = self.psf.to(finest_BCHW.device)
        variance = sample.image_camera.noise_variance
        loss_B = reconstruction_loss(finest_BCHW, truth, observed_BHW, self.psf, variance, settings)
        return (loss_B * keep_B).mean()

    def channel_gradient_norms(
        self,
        estimates: list[Tensor],
        read: Callable[[list[Tensor]], list[Tensor]],
        outcome: Callable[[list[Tensor]], Outcome],
    ) -> Tensor:
        """Norm of every channel's gradient at the head's input, (6,): backward through the head alone."""
        leaves = [estimate.detach().requires_grad_() for estimate in estimates]
        parts_6 = outcome(read(leaves)).parts_6
        norms = []
        for part in parts_6:
            gradients = torch.autograd.grad(part, leaves, retain_graph=True, allow_unused=True)
            norms.append(torch.stack([g.float().norm() for g in gradients if g is not None]).norm())
        return torch.stack(norms)
