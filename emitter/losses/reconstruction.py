"""Reconstruction: the frame that the maps predict, against the frame that the camera saw.

The expected image is a sum over cells and the background,

    mu(pixel) = Σ_cells p · photons · PSF(pixel; x, y, z) + background(pixel),

differentiable by the logits, photons, x, y, z and background. A frame fixes only the product p · photons of a cell:
the loss stands beside a loss that knows the truth, it does not replace one. (Light from emitters outside the frame is
of no cell: at the edge the two disagree.)

Errors, with the residual r = observed − mu in photons and the camera's variance v(mu) in photons²:

- ``poisson``: ½ (r² / v(mu) + log v(mu)), the likelihood of a normal distribution with the camera's mean and variance.
  For v = mu it is the Poisson likelihood to second order; with v of an EMCCD (excess noise) or with read noise, for
  which the Poisson law is wrong, it still has its minimum, in expectation, at the true mu (Dawid and Sebastiani, Ann.
  Stat. 1999). log v(observed) is subtracted, which no parameter changes: the truth costs about ½ a pixel.
- ``mse``: ½ r² / s², ``l1``: |r| / s, with s² the mean variance of the observed frame.
- ``weighted``: the same as ``mse``, times ``foreground_weight`` in the pixels where the true emitters' light exceeds
  s. The truth says where: weights that follow the observed noise would bias the minimum, and an untrained prediction
  has no foreground.

Unit: thousands of nats, summed over the frame's pixels (a perfect prediction of 40×40 pixels costs 0.8). The sum, like
that of PPXYZB over emitters, grows with the frame at a given density, so that a weight means the same at every frame
size. On EMCCD frames with 10-100 photons of background, ``poisson`` charges about 1 for a missed emitter of 3000
photons and about 0.02 for half a pixel's offset: a weight of 1 speaks beside a detection of weight 1 and hardly moves
positions. The weight multiplies what the weighting makes of the loss, as a channel's preset does: L is added with
``weighting=static``, and log(1 + L) with ``log_normalized``, which adds the channels' logarithms.

Shape suffixes: B images, C channels of the maps, H rows, W columns (of cells in maps, of pixels in frames), N cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from emitter.core import channels as ch
from emitter.core.channels import Scaling, channel_tensor
from emitter.core.decoding import emitters_at
from emitter.core.emitters import Emitters
from emitter.core.encoding import background_at
from emitter.core.errors import require
from emitter.losses.base import Truth
from emitter.losses.detection.base import EPS
from emitter.psf.base import PSF
from emitter.psf.render import render

ERRORS = ("none", "poisson", "l1", "mse", "weighted")
NATS = 1000.0  # in a unit of the loss

_MAX_LOGIT = 30.0  # beyond it a float32 probability is 0 or 1
_MAX_OFFSET_CELLS = 1.5
_MAX_PHOTONS = 1e6  # of an emitter or of a pixel's background: its square is far from float32's end
# Share of the frame's mean variance below which no pixel's variance counts. A network that begins with mu = 0 would
# otherwise divide by nothing. Where it acts the error is least squares, whose minimum is the same.
_MIN_VARIANCE_SHARE = 0.1


@dataclass(frozen=True)
class ReconstructionSettings:
    """``error``: how frames are compared; none switches the loss off. ``weight``: of the loss beside the six channels',
    on the scale of their ``channel_weights`` and through the same ``weighting`` (adaptive ones leave it as it is).

    ``foreground_weight``: of the pixels with true emitters' light (``weighted`` only). Cells with a probability of at
    most ``p_min`` are not rendered; of more than ``max_cells`` in a batch, those with most expected photons are.
    """

    error: Literal["none", "poisson", "l1", "mse", "weighted"] = "none"
    weight: float = 1.0
    foreground_weight: float = 5.0
    p_min: float = 0.05
    max_cells: int = 2048

    def __post_init__(self) -> None:
        require(
            self.error in ERRORS, f"reconstruction.error is '{self.error}': choose one of {', '.join(ERRORS)}"
        )
        require(
            self.weight > 0,
            f"reconstruction.weight is {self.weight}: give more than 0, or reconstruction=none to leave the loss out",
        )
        require(
            self.foreground_weight >= 1,
            f"reconstruction.foreground_weight is {self.foreground_weight}: give 1 or more",
        )
        require(0 <= self.p_min < 1, f"reconstruction.p_min is {self.p_min}: give 0 or more, below 1")
        require(self.max_cells >= 1, f"reconstruction.max_cells is {self.max_cells}: give at least 1 cell")


def reconstruction_loss(
    maps_BCHW: Tensor,
    truth: Truth,
    observed_BHW: Tensor,
    psf: PSF,
    noise_variance: Callable[[Tensor], Tensor],
    settings: ReconstructionSettings,
) -> Tensor:
    """The loss of every image, before its weight, (B,) float32.

    Args:
        maps_BCHW: scaled maps with logits, at the scale of ``truth``.
        truth: tells the maps' scaling and cells; only ``weighted`` looks at its emitters.
        observed_BHW: the middle frames in photons.
        noise_variance: variance in photons² where photons (B, 1, H, W) are expected, of the same shape: the sample's
            ``camera.noise_variance``.
    """
    if settings.error == "none":
        return maps_BCHW.new_zeros(len(maps_BCHW), dtype=torch.float32)
    height, width = observed_BHW.shape[1:]
    observed_BHW = observed_BHW.float()
    expected_BHW = expected_frames(maps_BCHW, psf, truth.scaling, settings, (height, width), truth.cell_px)
    residual_BHW = observed_BHW - expected_BHW

    def variance(photons_BHW: Tensor) -> Tensor:
        # one channel: a camera's maps are (H, W) or, for windows of its chip, (B, 1, H, W)
        return noise_variance(photons_BHW.clamp(min=0)[:, None])[:, 0]

    observed_variance_BHW = variance(observed_BHW)
    mean_B11 = observed_variance_BHW.mean(dim=(1, 2), keepdim=True).clamp(min=EPS)
    if settings.error == "poisson":
        floor_B11 = _MIN_VARIANCE_SHARE * mean_B11
        expected_variance_BHW = torch.maximum(variance(expected_BHW), floor_B11)
        ratio_BHW = expected_variance_BHW / torch.maximum(observed_variance_BHW, floor_B11)
        error_BHW = 0.5 * (residual_BHW**2 / expected_variance_BHW + ratio_BHW.log())
    elif settings.error == "l1":
        error_BHW = residual_BHW.abs() / mean_B11.sqrt()
    else:
        error_BHW = 0.5 * residual_BHW**2 / mean_B11
        if settings.error == "weighted":
            foreground_BHW = render(psf, truth.emitters, height, width) > mean_B11.sqrt()
            error_BHW = error_BHW * (1 + (settings.foreground_weight - 1) * foreground_BHW)
    return error_BHW.sum(dim=(1, 2)) / NATS


def expected_frames(
    maps_BCHW: Tensor,
    psf: PSF,
    scaling: Scaling,
    settings: ReconstructionSettings,
    size_px: tuple[int, int],
    cell_px: float = 1.0,
) -> Tensor:
    """Expected photons in every pixel of frames of ``size_px`` (rows, columns), (B, H, W) float32.

    Photons, offsets, z and background are bounded first (z to the PSF's range), so that every value is finite. The
    background of a cell is that of its pixels; a pixel of several cells has their mean.
    """
    maps_B6HW = _bounded(maps_BCHW[:, : ch.N_CHANNELS].float(), psf, scaling)
    signal_BHW = render(psf, _expected_emitters(maps_B6HW, scaling, settings, cell_px), *size_px)
    return signal_BHW + _background(maps_B6HW, scaling, size_px, cell_px)


def decoded_frames(
    found: Emitters,
    maps_BCHW: Tensor,
    psf: PSF,
    scaling: Scaling,
    size_px: tuple[int, int],
    cell_px: float = 1.0,
) -> Tensor:
    """The same of the emitters that were decoded from the maps, each with all of its photons."""
    maps_B6HW = _bounded(maps_BCHW[:, : ch.N_CHANNELS].float(), psf, scaling)
    values_4N = torch.stack([found.x_px_N, found.y_px_N, found.z_nm_N, found.photons_N])
    found = found.select(values_4N.isfinite().all(dim=0))
    photons_N, z_nm_N = found.photons_N.clamp(0, _MAX_PHOTONS), found.z_nm_N.clamp(*psf.z_range_nm)
    signal_BHW = render(psf, replace(found, photons_N=photons_N, z_nm_N=z_nm_N), *size_px)
    return signal_BHW + _background(maps_B6HW, scaling, size_px, cell_px)


def _background(maps_B6HW: Tensor, scaling: Scaling, size_px: tuple[int, int], cell_px: float) -> Tensor:
    height, width = size_px
    return background_at(maps_B6HW[:, ch.BACKGROUND], 1 / cell_px)[:, :height, :width] * scaling.background


def _bounded(maps_B6HW: Tensor, psf: PSF, scaling: Scaling) -> Tensor:
    """The maps within what can be rendered; no gradient beyond the bounds."""
    offset, (z_low, z_high) = _MAX_OFFSET_CELLS, psf.z_range_nm
    # a background below 0 stays: the residual's gradient brings it back
    low = (-_MAX_LOGIT, 0.0, -offset, -offset, z_low, -_MAX_PHOTONS)
    high = (_MAX_LOGIT, _MAX_PHOTONS, offset, offset, z_high, _MAX_PHOTONS)
    scale = channel_tensor(scaling.per_channel(), maps_B6HW)
    return maps_B6HW.clamp(channel_tensor(low, maps_B6HW) / scale, channel_tensor(high, maps_B6HW) / scale)


def _expected_emitters(
    maps_B6HW: Tensor, scaling: Scaling, settings: ReconstructionSettings, cell_px: float
) -> Emitters:
    """The cells to render, each with its expected photons p · photons."""
    p_BHW = torch.sigmoid(maps_B6HW[:, ch.P])
    # a NaN has no place to be rendered at; whoever counts NaN sees it in the maps
    chosen_BHW = (p_BHW > settings.p_min) & maps_B6HW.isfinite().all(dim=1)
    image_N, row_N, column_N = chosen_BHW.nonzero(as_tuple=True)
    emitters = emitters_at(maps_B6HW, image_N, row_N, column_N, scaling, cell_px)
    expected_N = p_BHW[image_N, row_N, column_N] * emitters.photons_N
    emitters = replace(emitters, photons_N=expected_N)
    if len(emitters) <= settings.max_cells:
        return emitters
    return emitters.select(expected_N.detach().topk(settings.max_cells).indices)
