"""Tiled prediction is the whole prediction, wherever the edges of the tiles fall."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from emitter.inference.tiling import predict, spans
from emitter.models.network import EmitterNetwork, InputScaling
from emitter.models.settings import VarSettings


class Pyramid(nn.Module):
    """Two strided layers down and up again: sees (3 + 2·3 + 4·3 + 4) pixels at most, pads like the real network."""

    n_frames = 3
    stride = 4
    receptive_radius_px = 24

    def __init__(self, cell_px: float) -> None:
        super().__init__()
        self.cells_px = (4.0, cell_px)
        self.inp = nn.Conv2d(3, 6, 3, padding=1)
        self.down = nn.ModuleList([nn.Conv2d(6, 6, 3, stride=2, padding=1) for _ in range(2)])
        self.bottom = nn.Conv2d(6, 6, 3, padding=1)

    def forward_movie(self, frames_FHW: Tensor, window_BT: Tensor) -> list[Tensor]:
        x = frames_FHW[window_BT]
        height, width = x.shape[-2:]
        x = torch.relu(self.inp(F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")))
        deep = self.bottom(torch.relu(self.down[1](torch.relu(self.down[0](x)))))
        out = x + F.interpolate(deep, scale_factor=4.0, mode="nearest")
        cell = self.cells_px[-1]
        if cell < 1:
            out = F.interpolate(out, scale_factor=1 / cell, mode="nearest")
        return [deep, out[..., : math.ceil(height / cell), : math.ceil(width / cell)]]


@given(
    height=st.integers(8, 150),
    width=st.integers(8, 150),
    side=st.integers(1, 130),
    cell=st.sampled_from([1.0, 0.5]),
)
def test_tiled_equals_whole(height: int, width: int, side: int, cell: float) -> None:
    torch.manual_seed(0)
    network = Pyramid(cell).double()
    frames_FHW = torch.rand(4, height, width, dtype=torch.float64)
    window_BT = torch.tensor([[0, 1, 2], [1, 2, 3]])
    with torch.inference_mode():
        whole = predict(network, frames_FHW, window_BT, max_px=10**9)
        tiled = predict(network, frames_FHW, window_BT, max_px=side * side)
    assert whole.shape == (2, 6, height / cell, width / cell)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-12)


def test_a_halo_that_is_too_small_would_be_seen() -> None:
    torch.manual_seed(0)
    network = Pyramid(1.0).double()
    network.receptive_radius_px = 4
    frames_FHW = torch.rand(3, 100, 100, dtype=torch.float64)
    window_BT = torch.tensor([[0, 1, 2]])
    with torch.inference_mode():
        whole = predict(network, frames_FHW, window_BT, max_px=10**9)
        tiled = predict(network, frames_FHW, window_BT, max_px=40 * 40)
    assert (tiled - whole).abs().max() > 1e-3


@pytest.mark.parametrize("cells_px", [(4, 2, 1), (2, 1, 0.5)])
def test_the_real_network_does_not_see_its_tiles(cells_px: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    n_stem = 1 + int(math.log2(cells_px[0]))
    settings = VarSettings(
        cells_px=cells_px, stem_channels=(8,) * n_stem, widths=(8, 8, 8), blocks=(1, 1, 1), latent_channels=8
    )
    network = EmitterNetwork(settings, 3, InputScaling()).eval()
    for parameter in network.parameters():  # a fresh network is nearly constant
        nn.init.normal_(parameter, std=0.2)
    frames_FHW = torch.rand(3, 190, 230) * 300
    window_BT = torch.tensor([[0, 1, 2]])
    with torch.inference_mode():
        whole = predict(network, frames_FHW, window_BT, max_px=10**9)
        tiled = predict(network, frames_FHW, window_BT, max_px=170 * 170)
    assert whole.std(dim=(0, 2, 3)).min() > 1e-3
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))


@given(length=st.integers(1, 400), core=st.integers(1, 99), halo=st.integers(0, 50))
def test_spans_keep_every_pixel_once(length: int, core: int, halo: int) -> None:
    kept = [pixel for span in spans(length, core, halo) for pixel in range(length)[span.keep]]
    assert kept == list(range(length))
    for span in spans(length, core, halo):
        assert span.read.start == max(0, span.keep.start - halo)
        assert span.read.stop == min(length, span.keep.stop + halo) or span.keep.stop == length
