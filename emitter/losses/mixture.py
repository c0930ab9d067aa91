"""Mixture: the likelihood of a frame's emitters under a Gaussian mixture whose components are the cells.

    −log N(N; Σp, Σp(1 − p)) − Σ_i log Σ_k π_k N(target_i; μ_k, σ_k),        π_k = p_k / Σp

The first term is the count of emitters, once for each image; the sum over k runs over the cells around emitter i
(``window_cells``), Σp over the image's. Each component has its own σ for photons, x, y, z, read from four more
channels. After Speiser et al., Nature Methods 2021 (DECODE), which multiplies the count by N, so that an empty frame
teaches nothing: here it lowers every p.

Parts. With the responsibilities r_ik = π_k N_k / Σ_k' π_k' N_k' held fixed,

    −log Σ_k π_k N_k = Σ_k r_ik (log r_ik − log π_k − log N_k)

in value and, the first term held fixed too, in gradient (Fisher's identity, as in the EM algorithm). So −log N_k goes
to the channels that it comes from, the rest to p, and the parts add up to the likelihood.

Shape suffixes: M pairs, N emitters, B images, H rows and W columns of cells, 4 values (photons, x, y, z).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from emitter.core import channels as ch
from emitter.core.candidates import Candidates, candidates, softmax_within
from emitter.core.errors import require
from emitter.losses.base import Loss, LossSettings, Truth, background_part
from emitter.losses.detection.base import EPS, DetectionSettings
from emitter.losses.detection.count import count_loss

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class MixtureSettings(LossSettings):
    """``window_cells``: side of the square of cells that may explain an emitter."""

    kind: ClassVar[str] = "mixture"
    own_detection: ClassVar[bool] = True

    window_cells: int = 3

    def __post_init__(self) -> None:
        require(self.window_cells in (3, 5), f"loss.window_cells is {self.window_cells}: give 3 or 5")

    def build(self, detection: DetectionSettings) -> Mixture:
        """The loss for one scale."""
        return Mixture(self)


class Mixture(Loss):
    """Count, mixture and the background's squared error, on maps with four channels of widths."""

    n_maps: ClassVar[int] = ch.N_CHANNELS + len(ch.SIGMAS)

    def __init__(self, settings: MixtureSettings) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, maps_BCHW: Tensor, truth: Truth, progress: float) -> Tensor:
        """(B, 6) from maps (B, 10, H, W)."""
        maps = maps_BCHW.float()
        height, width = truth.background_BHW.shape[1:]
        radius = self.settings.window_cells // 2
        pairs = candidates(truth.emitters, height, width, truth.scaling, truth.cell_px, radius)
        logits_BHW = maps[:, ch.P]
        predicted_MC = pairs.predicted(maps)
        total_p_B = torch.sigmoid(logits_BHW).sum(dim=(1, 2)) + EPS
        surprise_M = total_p_B.log()[pairs.image_M] - F.logsigmoid(predicted_MC[:, ch.P])
        surprise_M4 = _surprise(predicted_MC, pairs)
        with torch.no_grad():
            joint_M = -surprise_M - surprise_M4.sum(dim=1)
            share_M = softmax_within(joint_M, pairs.emitter_M, len(pairs.emitters))
        n_B = pairs.emitters.image_N.bincount(minlength=len(maps))
        p_M = share_M * surprise_M - torch.special.entr(share_M)
        p_B = count_loss(logits_BHW, n_B[:, None]) + pairs.per_image(p_M)
        values_B4 = pairs.per_image(share_M[:, None] * surprise_M4)
        return torch.cat((p_B[:, None], values_B4, background_part(maps, truth)[:, None]), dim=1)


def _surprise(predicted_MC: Tensor, pairs: Candidates) -> Tensor:
    """−log N(target; μ, σ) of each value, ½ ((target − μ) / σ)² + log σ + ½ log 2π, (M, 4)."""
    sigma_M4 = ch.sigmas(predicted_MC[:, ch.SIGMAS])
    error_M4 = (pairs.values_M4.float() - predicted_MC[:, ch.REGRESSION]) / sigma_M4
    return 0.5 * error_M4**2 + sigma_M4.log() + _HALF_LOG_2PI
