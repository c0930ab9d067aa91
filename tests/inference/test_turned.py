"""The mean with the frames turned by 180°."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds
from emitter.core.emitters import Emitters
from emitter.core.encoding import encode
from emitter.core.errors import SettingsError
from emitter.core.units import PixelSize
from emitter.inference.turned import asymmetry, check_turnable, mean_of_turned
from emitter.models.network import EmitterNetwork, InputScaling
from emitter.models.settings import VarSettings
from emitter.psf import build
from emitter.psf.gaussian import AstigmaticSettings, GaussianSettings
from emitter.psf.spline import SplinePSF

HEIGHT, WIDTH = 13, 22  # no multiples of the network's stride


@given(seed=st.integers(0, 99))
def test_turned_maps_are_the_maps_of_turned_emitters(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    x_N, y_N = WIDTH * torch.rand(5, generator=g), HEIGHT * torch.rand(5, generator=g)
    emitters = Emitters(
        n_images=2,
        image_N=torch.randint(2, (5,), generator=g),
        x_px_N=x_N,
        y_px_N=y_N,
        z_nm_N=torch.randn(5, generator=g),
        photons_N=torch.rand(5, generator=g),
        background_N=torch.ones(5),
    )
    background_BHW = torch.rand(2, HEIGHT, WIDTH, generator=g)
    other = encode(
        replace(emitters, x_px_N=WIDTH - x_N, y_px_N=HEIGHT - y_N), background_BHW.flip(-2, -1), Scaling()
    )
    torch.testing.assert_close(
        ch.turned(encode(emitters, background_BHW, Scaling()).maps_B6HW),
        other.maps_B6HW,
        atol=1e-5,
        rtol=1e-5,
    )


def test_the_mean_does_not_know_which_way_round_the_frames_are() -> None:
    torch.manual_seed(0)
    settings = VarSettings(stem_channels=(8, 8, 8), widths=(8, 8, 8), latent_channels=8)
    network = EmitterNetwork(settings, 3, InputScaling())
    torch.nn.init.normal_(network.head.out.weight)
    frames_BTHW = 100 * torch.rand(2, 3, HEIGHT, WIDTH)

    def finest(frames: Tensor) -> Tensor:
        return network(frames)[-1]

    with torch.inference_mode():
        mean, of_turned = (
            mean_of_turned(finest, frames) for frames in (frames_BTHW, frames_BTHW.flip(-2, -1))
        )
        alone, alone_turned = finest(frames_BTHW), finest(frames_BTHW.flip(-2, -1))
    torch.testing.assert_close(ch.turned(of_turned), mean)
    assert not torch.allclose(ch.turned(alone_turned), alone, atol=0.01)


@pytest.mark.parametrize("settings", [GaussianSettings(), AstigmaticSettings()])
def test_gaussians_may_be_turned(settings: GaussianSettings | AstigmaticSettings) -> None:
    psf = build(settings, PixelSize(100.0, 130.0))
    assert asymmetry(psf) < 1e-4
    check_turnable(psf, Thresholds())
    with pytest.raises(SettingsError, match="leave turned out"):
        check_turnable(psf, Thresholds(one_cell_each=True))


def test_a_psf_with_a_tail_to_one_side_may_not(lopsided_psf: SplinePSF) -> None:
    with pytest.raises(SettingsError, match=r"differs by \d\d % of its peak: leave turned out"):
        check_turnable(lopsided_psf, Thresholds())
