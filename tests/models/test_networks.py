"""Networks: sizes, published and promised budgets, locality, and what the VAR backbone is."""

from pathlib import Path

import pytest
import torch
import yaml

from emitter.app.schema import build
from emitter.core.errors import SettingsError
from emitter.models.backbone import count_macs_per_pixel, count_parameters
from emitter.models.network import EmitterNetwork, InputScaling
from emitter.models.settings import ModelSettings, UNetSettings, VarSettings

CONF = Path(__file__).parents[2] / "conf" / "model"
SMALL = VarSettings(stem_channels=(4, 6, 8), widths=(8, 8, 6), blocks=(1, 1, 1), latent_channels=5)


def preset(name: str, n_frames: int = 3) -> EmitterNetwork:
    settings = build(ModelSettings, yaml.safe_load((CONF / f"{name}.yaml").read_text()))
    return EmitterNetwork(settings, n_frames, InputScaling())


def network(settings=SMALL, n_frames: int = 3) -> EmitterNetwork:
    torch.manual_seed(1)
    net = EmitterNetwork(settings, n_frames, InputScaling(0.0, 1.0)).eval()
    for p in net.parameters():  # zero-initialised branches would hide what they see
        torch.nn.init.normal_(p, std=0.15)
    return net


def test_the_quick_start_keeps_its_budget():
    net = preset("var_tiny")
    assert count_parameters(net) <= 0.5e6
    assert count_macs_per_pixel(net, 3) <= 0.15e6


def test_the_baseline_has_the_published_size():
    """Speiser et al. 2021: 2.20 M parameters, 1.04 M multiply-adds per pixel, ten output heads of its own included."""
    net = preset("unet")
    assert count_parameters(net) == pytest.approx(2.2e6, rel=0.05)
    assert count_macs_per_pixel(net, 3) == pytest.approx(1.04e6, rel=0.12)


def test_multiply_adds_are_counted_right():
    """Against a closed form: 1 → 4 channels 3×3 at full size, then 4 → 8 with stride 2."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Conv2d(4, 8, 3, stride=2, padding=1)
    )
    assert count_macs_per_pixel(net, 2) == 2 * 4 * 9 + 4 * 8 * 9 / 4


@pytest.mark.parametrize("name", ["var_tiny", "var_base", "var_large", "unet"])
@pytest.mark.parametrize("size", [(40, 40), (37, 53)])
def test_every_preset_takes_any_size(name, size):
    net = preset(name)
    with torch.no_grad():
        maps = net(torch.rand(1, 3, *size) * 100)
    for maps_k, cell in zip(maps, net.cells_px, strict=True):
        assert maps_k.shape == (1, 6, -(-size[0] // int(cell)), -(-size[1] // int(cell)))
        assert maps_k.dtype == torch.float32


def test_a_scale_finer_than_the_frame():
    net = network(VarSettings(cells_px=(2, 1, 0.5), stem_channels=(4, 6), widths=(6, 6, 6), blocks=(1, 1, 1)))
    assert [tuple(m.shape[-2:]) for m in net(torch.rand(1, 3, 9, 7))] == [(5, 4), (9, 7), (18, 14)]


@pytest.mark.parametrize(
    "settings",
    [
        SMALL,
        UNetSettings(depth=2, features=4),
        VarSettings("var", (2, 1, 0.5), (4, 6), (6, 6, 6), (1, 1, 1), 5),
    ],
    ids=["var", "unet", "var to 2"],
)
def test_no_prediction_looks_farther_than_the_receptive_radius(settings):
    net = network(settings)
    radius = net.receptive_radius_px
    side = 2 * (radius + 2 * net.stride) + 4
    side += -side % net.stride
    frames = torch.rand(1, 3, side, side, requires_grad=True)
    centre = side // 2
    row = round(centre / net.cells_px[-1])
    net(frames)[-1][0, :, row, row].sum().backward()
    seen = (frames.grad[0].abs().sum(dim=0) > 0).nonzero()
    assert int((seen - centre).abs().max()) <= radius
    assert int((seen - centre).abs().max()) > radius / 3  # a bound, but not an idle one


@pytest.mark.parametrize("settings", [SMALL, UNetSettings(2, 4)], ids=["var", "unet"])
def test_shifting_by_the_stride_shifts_the_prediction(settings):
    net = network(settings)
    margin = net.receptive_radius_px
    side = 2 * margin + 6 * net.stride
    side += -side % net.stride
    frames = torch.rand(1, 3, side + net.stride, side)
    with torch.no_grad():
        a, b = net(frames[:, :, :side])[-1], net(frames[:, :, net.stride :])[-1]
    inner = slice(margin, side - margin - net.stride)
    moved = slice(margin + net.stride, side - margin)
    assert torch.allclose(
        a[:, :, moved, margin : side - margin], b[:, :, inner, margin : side - margin], atol=1e-5
    )


@pytest.mark.parametrize("settings", [SMALL, UNetSettings(1, 4)], ids=["var", "unet"])
def test_a_movie_is_predicted_as_its_windows_are(settings):
    net = network(settings)
    movie = torch.rand(6, 13, 10)
    windows = torch.tensor([[0, 0, 1], [2, 3, 4], [4, 5, 5]])
    with torch.no_grad():
        for a, b in zip(net(movie[windows]), net.forward_movie(movie, windows), strict=True):
            assert torch.allclose(a, b, atol=1e-5)


def test_the_order_of_the_frames_matters_and_batches_do_not():
    net = network()
    frames = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        together, alone = net(frames)[-1][1], net(frames[1:2])[-1][0]
        assert torch.allclose(together, alone, atol=1e-5)
        assert not torch.allclose(net(frames.flip(1))[-1], net(frames)[-1], atol=1e-3)


def test_the_estimate_accumulates_over_the_scales():
    """f̂_k = up(f̂_{k-1}) + Φ(h_k): with Φ silenced nothing is ever added; with h_k zero the coarse estimate stays."""
    net = network()
    backbone = net.backbone
    features = [level.detach() for level in backbone.features(torch.rand(3, 16, 16))]
    stacked = [torch.cat(level.chunk(3), dim=1) for level in features]
    for scale in backbone.scales[1:]:
        torch.nn.init.zeros_(scale.out.weight)
        torch.nn.init.zeros_(scale.out.bias)
    torch.nn.init.zeros_(backbone.phi.conv.bias)
    with torch.no_grad():
        coarse, middle, fine = backbone.estimates(stacked)
    up = torch.nn.Upsample(scale_factor=2, mode="bilinear")
    assert torch.allclose(middle, up(coarse), atol=1e-5)
    assert torch.allclose(fine, up(middle), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"cells_px": (4, 1)}, "cells_px"),
        ({"cells_px": (4, 2)}, "cells_px"),
        ({"widths": (8, 8)}, "widths"),
        ({"stem_channels": (8,)}, "stem_channels"),
        ({"latent_channels": 0}, "latent_channels"),
    ],
)
def test_wrong_settings_are_named(change, named):
    with pytest.raises(SettingsError, match=named):
        VarSettings(**change)


@pytest.mark.parametrize("settings", [SMALL, UNetSettings(depth=2, features=4)])
def test_of_a_short_movie_every_frame_is_predicted_as_from_its_own_window(settings):
    net, movie_BTHW = network(settings), torch.rand(2, 6, 16, 12)
    with torch.no_grad():
        together = net(movie_BTHW)
        alone = [net(movie_BTHW[:, first : first + 3]) for first in range(4)]
    for k, maps in enumerate(together):
        torch.testing.assert_close(maps, torch.cat([maps_k[k] for maps_k in alone]))
