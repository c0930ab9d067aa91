"""Networks: sizes, published and promised budgets, locality, and what the VAR backbone is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional as F

from emitter.app.schema import build
from emitter.core.errors import SettingsError
from emitter.models.attention import WindowAttention
from emitter.models.backbone import count_macs_per_pixel, count_parameters, pointwise, windows_of
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
    assert count_parameters(net) <= 0.3e6
    assert count_macs_per_pixel(net, 3) <= 0.09e6


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
        replace(SMALL, latent_channels=9, attention_cells_px=(4, 2)),
        replace(SMALL, phi=False, stem_blocks=False),
    ],
    ids=["var", "unet", "var to 2", "attention", "lean"],
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


@pytest.mark.parametrize(
    "settings",
    [SMALL, UNetSettings(2, 4), replace(SMALL, attention_cells_px=(4, 2, 1))],
    ids=["var", "unet", "attention"],
)
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
    stacked = [level.chunk(3) for level in features]
    for scale in backbone.scales[1:]:
        torch.nn.init.zeros_(scale.out.weight)
        torch.nn.init.zeros_(scale.out.bias)
    torch.nn.init.zeros_(backbone.phi.conv.bias)
    with torch.no_grad():
        coarse, middle, fine = backbone.estimates(stacked)
    up = torch.nn.Upsample(scale_factor=2, mode="bilinear")
    assert torch.allclose(middle, up(coarse), atol=1e-5)
    assert torch.allclose(fine, up(middle), atol=1e-5)


def test_without_phi_the_contributions_add_up_as_they_are():
    backbone = network(replace(SMALL, phi=False)).backbone
    stacked = [level.chunk(3) for level in backbone.features(torch.rand(3, 16, 16))]
    added = []
    for scale in backbone.scales:
        scale.register_forward_hook(lambda _, __, out: added.append(out[0]))
    with torch.no_grad():
        coarse, middle, fine = backbone.estimates(stacked)
    up = torch.nn.Upsample(scale_factor=2, mode="bilinear")
    assert torch.allclose(coarse, added[0])
    assert torch.allclose(fine, up(up(coarse) + added[1]) + added[2], atol=1e-5)
    assert torch.allclose(middle, up(coarse) + added[1], atol=1e-5)


def test_phi_is_half_of_its_input_and_half_of_its_convolution():
    phi = network().backbone.phi
    h = torch.rand(2, SMALL.latent_channels, 9, 7)
    with torch.no_grad():
        assert torch.allclose(phi(h), 0.5 * h + 0.5 * phi.conv(h), atol=1e-6)


@pytest.mark.parametrize("n_images", [1, 20])
def test_parts_weighted_on_their_own_are_a_convolution_of_them_all(n_images):
    """The sum and every gradient, against torch's convolution of the stacked maps."""
    torch.manual_seed(0)
    parts = [torch.randn(n_images, c, 5, 6, requires_grad=True) for c in (3, 4, 4)]
    weights = [torch.randn(7, c, 1, 1, requires_grad=True) for c in (3, 4, 4)]
    bias = torch.randn(7, requires_grad=True)
    given = [*parts, *weights, bias]
    ours = pointwise(parts, weights, bias)
    theirs = F.conv2d(torch.cat(parts, dim=1), torch.cat(weights, dim=1), bias)
    towards = torch.randn_like(theirs)
    assert torch.allclose(ours, theirs, atol=1e-5)
    for a, b in zip(
        torch.autograd.grad(ours, given, towards), torch.autograd.grad(theirs, given, towards), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("n_frames_of_movie", [3, 5])
def test_windows_are_the_frames_around_every_predicted_one(n_frames_of_movie):
    """Images are frame · B + sample: for every window, frame t of sample b is the movie's own."""
    n_samples, movie_FB = 2, torch.arange(n_frames_of_movie * 2).unflatten(0, (n_frames_of_movie, 2))
    found = windows_of(movie_FB.flatten()[:, None, None, None], 3, n_samples)
    for t, frame in enumerate(found):
        assert frame.flatten().tolist() == movie_FB[t : t + n_frames_of_movie - 2].flatten().tolist()


def test_where_only_the_first_scale_sees_the_image_the_others_work_on_the_estimate():
    for image_at, sees in (("first_scale", False), ("every_scale", True)):
        backbone = network(replace(SMALL, image_at=image_at)).backbone
        features = [
            tuple(torch.rand(3, 1, c, *size)) for c, size in ((4, (16, 16)), (6, (8, 8)), (8, (4, 4)))
        ]
        with torch.no_grad():
            before = backbone.estimates(features)
            after = backbone.estimates(
                [tuple(map(torch.rand_like, level)) for level in features[:2]] + features[2:]
            )
        assert torch.equal(before[0], after[0])
        assert torch.equal(before[-1], after[-1]) is not sees


def test_shared_blocks_are_one_set_of_weights():
    alike = replace(SMALL, widths=(8, 8, 8))
    apart, shared = network(alike), network(replace(alike, shared_blocks=True))
    per_set = count_parameters(apart.backbone.scales[0].blocks)
    assert count_parameters(apart) - count_parameters(shared) == 2 * per_set
    assert count_macs_per_pixel(apart, 3) == count_macs_per_pixel(shared, 3)


def test_without_its_embedding_a_scale_has_no_parameters_for_it():
    with_it, without = network(), network(replace(SMALL, level_embedding=False))
    assert count_parameters(with_it) - count_parameters(without) == sum(SMALL.widths)


@pytest.mark.parametrize("with_coarser", [True, False])
def test_window_attention_is_full_attention_with_a_mask(with_coarser):
    """Against torch's attention over all cells of both scales, those outside of the windows masked."""
    torch.manual_seed(2)
    rows, columns = 6, 8
    attention = WindowAttention(5, 7 if with_coarser else None)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x, coarser = torch.randn(2, 5, rows, columns), torch.randn(2, 7, rows // 2, columns // 2)

    def heads(map_BCHW):
        return map_BCHW.flatten(2).unflatten(1, (2, 16)).mT  # (B, 2, cells, 16)

    def biases(window, height, width, step):
        """(2, cells, cells of the other map): the position's bias, -∞ outside of the window."""
        reach = window.side // 2
        full = torch.full((2, rows * columns, height * width), -torch.inf)
        for cell in range(rows * columns):
            row, column = cell // columns // step, cell % columns // step
            for other in range(height * width):
                down, right = other // width - row + reach, other % width - column + reach
                if 0 <= down < window.side and 0 <= right < window.side:
                    full[:, cell, other] = window.position[:, down * window.side + right, 0, 0]
        return full

    keys, values = attention.own.key_value(x).chunk(2, dim=1)
    keys, values, mask = [heads(keys)], [heads(values)], [biases(attention.own, rows, columns, 1)]
    if with_coarser:
        k, v = attention.coarser.key_value(coarser).chunk(2, dim=1)
        keys, values = [*keys, heads(k)], [*values, heads(v)]
        mask.append(biases(attention.coarser, rows // 2, columns // 2, 2))
    with torch.no_grad():
        expected = F.scaled_dot_product_attention(
            heads(attention.query(x)), torch.cat(keys, 2), torch.cat(values, 2), torch.cat(mask, 2)
        )
        expected = x + attention.out(expected.mT.flatten(1, 2).unflatten(-1, (rows, columns)))
        assert torch.allclose(attention(x, coarser), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"cells_px": (4, 1)}, "cells_px"),
        ({"cells_px": (4, 2)}, "cells_px"),
        ({"widths": (8, 8)}, "widths"),
        ({"stem_channels": (8,)}, "stem_channels"),
        ({"latent_channels": 0}, "latent_channels"),
        ({"shared_blocks": True}, "shared_blocks"),
        ({"attention_cells_px": (8,)}, "attention_cells_px"),
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
