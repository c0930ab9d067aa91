"""Rendering against a brute-force sum over whole frames, and its symmetries."""

from __future__ import annotations

import dataclasses
import importlib

import pytest
import torch

from emitter.core.emitters import Emitters
from emitter.core.units import PixelSize
from emitter.psf import PSF, build, render
from emitter.psf.gaussian import AstigmaticSettings, GaussianPSF

PSF_3D = build(AstigmaticSettings(), PixelSize(100.0, 100.0))
HEIGHT, WIDTH = 17, 23


def random_emitters(n: int, n_images: int = 3, margin_px: float = 20.0, seed: int = 0) -> Emitters:
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    return Emitters(
        n_images=n_images,
        image_N=torch.randint(0, n_images, (n,), generator=generator),
        x_px_N=uniform(-margin_px, WIDTH + margin_px),
        y_px_N=uniform(-margin_px, HEIGHT + margin_px),
        z_nm_N=uniform(-500, 500),
        photons_N=uniform(100, 5000),
    )


def brute_force(psf: PSF, emitters: Emitters, height: int, width: int) -> torch.Tensor:
    """Pixel by pixel: which patch pixel of which emitter falls on it."""
    frames = torch.zeros(emitters.n_images, height, width, dtype=torch.float64)
    for n in range(len(emitters)):
        x, y = float(emitters.x_px_N[n]), float(emitters.y_px_N[n])
        column, row = int(x // 1), int(y // 1)
        where = (torch.tensor([x - column - 0.5]), torch.tensor([y - row - 0.5]), emitters.z_nm_N[n : n + 1])
        patch = psf.patches(*where)[0].double() * float(emitters.photons_N[n])
        for i in range(psf.patch_px):
            for j in range(psf.patch_px):
                h, w = row - psf.radius_px + i, column - psf.radius_px + j
                if 0 <= h < height and 0 <= w < width:
                    frames[int(emitters.image_N[n]), h, w] += patch[i, j]
    return frames


def test_render_is_the_sum_of_all_patches_inside_the_frame() -> None:
    emitters = random_emitters(60)
    expected = brute_force(PSF_3D, emitters, HEIGHT, WIDTH)
    frames = render(PSF_3D, emitters, HEIGHT, WIDTH)
    torch.testing.assert_close(frames.double(), expected, atol=1e-3, rtol=1e-5)
    assert frames.shape == (3, HEIGHT, WIDTH)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    emitters = random_emitters(50)
    whole = render(PSF_3D, emitters, HEIGHT, WIDTH)
    module = importlib.import_module("emitter.psf.render")
    monkeypatch.setattr(module, "_CHUNK_PIXELS", 3 * PSF_3D.patch_px**2)
    torch.testing.assert_close(render(PSF_3D, emitters, HEIGHT, WIDTH), whole, atol=1e-3, rtol=1e-5)


def test_the_order_of_emitters_is_of_no_account() -> None:
    emitters = random_emitters(80)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        render(PSF_3D, emitters.select(order), HEIGHT, WIDTH),
        render(PSF_3D, emitters, HEIGHT, WIDTH),
        atol=1e-3,
        rtol=1e-5,
    )


def test_a_larger_frame_shows_the_same_light_moved() -> None:
    emitters = random_emitters(40)
    moved = dataclasses.replace(emitters, x_px_N=emitters.x_px_N + 5, y_px_N=emitters.y_px_N + 3)
    larger = render(PSF_3D, moved, HEIGHT + 7, WIDTH + 9)
    small = render(PSF_3D, emitters, HEIGHT, WIDTH)
    torch.testing.assert_close(larger[:, 3 : 3 + HEIGHT, 5 : 5 + WIDTH], small, atol=2e-2, rtol=1e-4)


def test_light_and_centre_of_one_emitter() -> None:
    psf = GaussianPSF(1.3, 1.3)
    one = torch.tensor([0.0])
    emitters = Emitters(1, torch.tensor([0]), one + 12.3, one + 8.9, one, one + 1000)
    frame = render(psf, emitters, HEIGHT, WIDTH)[0]
    assert float(frame.sum()) == pytest.approx(1000, rel=2e-3)
    rows, columns = torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5
    assert float((frame.sum(0) * columns).sum() / frame.sum()) == pytest.approx(12.3, abs=5e-3)
    assert float((frame.sum(1) * rows).sum() / frame.sum()) == pytest.approx(8.9, abs=5e-3)


def test_no_emitters_give_dark_frames() -> None:
    frames = render(PSF_3D, random_emitters(5).select(torch.zeros(5, dtype=torch.bool)), HEIGHT, WIDTH)
    assert frames.shape == (3, HEIGHT, WIDTH)
    assert float(frames.abs().max()) == 0
