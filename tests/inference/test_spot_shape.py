"""How many pixels of a spot lie above a share of its photons: a PSF's tables against Gaussians' closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from emitter.core.units import PixelSize
from emitter.inference.survey.spot_shape import SCALES_PX, FreeShape, KnownShape, as_peaked_px, at_shares
from emitter.psf import build
from emitter.psf.gaussian import AstigmaticSettings, GaussianPSF, GaussianSettings

PIXEL_SIZE = PixelSize.of(100.0)
LOG_SHARES = np.log(np.geomspace(1e-4, 2e-2, 8))


class WithHalo(GaussianPSF):
    """A Gaussian of 1.2 px with 30 % of its photons in one of 3.6 px."""

    def __init__(self) -> None:
        super().__init__(3.6, 3.6)

    def patches(self, dx_px_N: Tensor, dy_px_N: Tensor, z_nm_N: Tensor) -> Tensor:
        narrow = GaussianPSF(1.2, 1.2)
        core = narrow.patches(dx_px_N, dy_px_N, z_nm_N)
        edge = self.radius_px - narrow.radius_px
        padded = torch.nn.functional.pad(core, (edge, edge, edge, edge))
        return 0.7 * padded + 0.3 * super().patches(dx_px_N, dy_px_N, z_nm_N)


@pytest.mark.parametrize("scale_px", SCALES_PX)
@pytest.mark.parametrize(
    ("psf", "shape"),
    [
        (build(GaussianSettings(150.0), PIXEL_SIZE), FreeShape(1.5, 0.0)),
        (WithHalo(), FreeShape(1.2, 0.0, 0.3, 3.0)),
    ],
)
def test_tables_of_a_psf_are_the_closed_form(scale_px: float, psf: GaussianPSF, shape: FreeShape) -> None:
    table = at_shares(KnownShape.of(psf).pixels_above(scale_px), LOG_SHARES)
    closed = at_shares(shape.pixels_above(scale_px), LOG_SHARES)
    # a few pixels are counted; and a patch ends at 3.5 widths
    assert table == pytest.approx(closed, rel=0.05, abs=1.5)


def test_width_counts_the_halo() -> None:
    assert KnownShape.of(build(GaussianSettings(150.0), PIXEL_SIZE)).width_px == pytest.approx(1.5, rel=0.02)
    assert FreeShape(1.5, 0.0).width_px == pytest.approx(1.5)
    assert KnownShape.of(WithHalo()).width_px == pytest.approx(
        FreeShape(1.2, 0.0, 0.3, 3.0).width_px, rel=0.02
    )


def test_part_of_the_depths_is_what_a_psf_of_these_depths_shows() -> None:
    settings = AstigmaticSettings(100.0, depth_nm=300.0)
    psf = build(settings, PIXEL_SIZE)
    whole = KnownShape.of(psf)
    assert whole.z_range_nm == (-500.0, 500.0)
    part = KnownShape(whole.z_range_nm, whole.pixels_SZ, whole.width_Z, 0.25, 0.6)
    assert part.seen_nm == pytest.approx((-250.0, 100.0))
    alone = KnownShape.of(psf, (-250.0, 100.0))
    assert part.width_px == pytest.approx(alone.width_px, rel=0.01)
    assert at_shares(part.pixels_above(SCALES_PX[1]), LOG_SHARES) == pytest.approx(
        at_shares(alone.pixels_above(SCALES_PX[1]), LOG_SHARES), rel=0.03, abs=0.5
    )


def test_as_peaked_is_the_sigma_of_a_gaussian() -> None:
    patches = GaussianPSF(1.3, 1.3).patches(torch.zeros(2), torch.tensor([0.0, 0.4]), torch.zeros(2))
    assert as_peaked_px(patches.numpy()) == pytest.approx(1.3, rel=0.02)
