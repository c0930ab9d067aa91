"""What is said of movies that do not fit a network, and that nothing is said of those that do.

The network here is an oracle: it finds most of what is there, whatever the PSF.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.inference.appearance import Appearance, appearance, floors, relative_width, sampled_photons
from emitter.inference.bundle import Bundle
from emitter.inference.mismatches import Seen, mismatches
from emitter.inference.overlap import overlap
from emitter.inference.usual import Usual, crowding, density_behind, simulated_appearance, simulated_frames
from emitter.io.movies import open_movie
from emitter.psf import build
from emitter.psf.gaussian import AstigmaticSettings, GaussianSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import FluxSettings, SimulationSettings
from emitter.simulation.simulator import Domain, Simulator

CAMERA = Camera.build(CameraSettings("ideal"))
ROUND, ASTIGMATIC = GaussianSettings(130), AstigmaticSettings(110)


def bundle(is_3d: bool = False, density: tuple[float, float] = (0.2, 2.0)) -> Bundle:
    """There is no network: none is asked."""
    simulation = SimulationSettings(
        frame_size_px=(40, 40),
        density_per_um2=density,
        lifetime_frames=None,
        z_range_nm=(-400, 400) if is_3d else (0, 0),
        background=(20, 40),
        flux=FluxSettings("uniform", range=(1000, 3000)),
    )
    psf = build(ASTIGMATIC if is_3d else ROUND, CAMERA.pixel_size)
    return Bundle(None, Scaling(), Thresholds(), psf, CAMERA, simulation)  # type: ignore[arg-type]


def known(of: Bundle, density: float) -> Usual:
    """As ``usual`` with a network that finds everything."""
    top = replace(of.simulation, density_per_um2=(of.simulation.density_per_um2[1],) * 2)
    emitters = Simulator(top, of.psf, of.camera).sample(1, torch.arange(32), Domain.HELD_OUT).emitters
    here = replace(of.simulation, density_per_um2=(density, density))
    return Usual(
        1.0,
        crowding(EmitterTable.from_emitters(emitters, of.pixel_size)),
        simulated_appearance(of, here, 128),
        overlap(simulated_frames(of, top, 128)),
    )


def movie(
    of: Bundle, seed: int, density: float, psf: Any = None, pixel_nm: float = 100.0, **other: Any
) -> Seen:
    """A movie of other settings, as the network sees it: positions in pixels are right."""
    size = PixelSize.of(pixel_nm)
    camera = replace(of.camera, pixel_size=size)
    settings = replace(of.simulation, frame_size_px=(64, 64), density_per_um2=(density, density), **other)
    model = build(psf or (ASTIGMATIC if of.is_3d else ROUND), size)
    sample = Simulator(settings, model, camera).sample(seed, torch.arange(32), Domain.TRAINING)
    emitters = replace(
        sample.emitters, background_N=torch.full_like(sample.emitters.x_px_N, settings.background[0])
    )
    photons_FHW = of.camera.to_photons(sample.counts_BTHW[:, 1]).numpy()
    return Seen(
        EmitterTable.from_emitters(emitters, of.pixel_size), appearance(photons_FHW, of.camera), chi2=1.0
    )


@pytest.mark.parametrize("is_3d", [False, True])
@pytest.mark.parametrize("density", [0.1, 0.6, 2.0])
def test_nothing_is_said_of_movies_that_fit(is_3d: bool, density: float) -> None:
    of = bundle(is_3d)
    usual = known(of, density)
    for seed in (0, 1):
        assert mismatches(movie(of, seed, density), of, usual) == []


@pytest.mark.parametrize(
    ("is_3d", "changed", "words"),
    [
        (False, {"pixel_nm": 160.0}, "0.6. times as wide.*about 1[56]. nm"),
        (True, {"pixel_nm": 160.0}, "0.6. times as wide.*about 1[56]. nm"),
        (False, {"psf": GaussianSettings(170)}, "1.[23]. times as wide"),
        (True, {"psf": replace(ASTIGMATIC, sigma_nm=80)}, "0.7. times as wide"),
        (False, {"background": (150.0, 150.0)}, "The background is 15. photons a pixel.*20 to 40"),
        (False, {"background": (5.0, 5.0)}, "The background is [56] photons a pixel.*20 to 40"),
        (False, {"flux": FluxSettings("uniform", range=(6000, 9000))}, "have .* photons.*1000 to 3000"),
        (False, {"flux": FluxSettings("uniform", range=(300, 500))}, "have .* photons.*1000 to 3000"),
    ],
)
def test_what_differs_is_named(is_3d: bool, changed: dict[str, Any], words: str) -> None:
    of = bundle(is_3d)
    (sentence,) = mismatches(movie(of, 1, 0.5, **changed), of, known(of, 0.5))
    assert re.search(words, sentence), sentence


def test_a_crowd_is_named_as_one_and_not_as_background() -> None:
    of = bundle(density=(0.2, 2.0))
    found = mismatches(movie(of, 1, 6.0), of, known(of, 2.0))
    assert any("density" in sentence for sentence in found)
    assert not any("background" in sentence for sentence in found)


def test_a_crowd_without_anything_dark_left_is_named_as_one_and_not_as_background() -> None:
    """The network finds as many as at its highest density and not more."""
    of = bundle(is_3d=True)
    usual = known(of, 2.0)
    full = movie(of, 1, 12.0)
    assert np.median(full.appearance.floor_F) > 100 > 40
    seen = replace(full, table=movie(of, 1, 2.0).table, chi2=50.0)
    density, chi2 = mismatches(seen, of, usual)
    assert re.search(r"density is higher.* [5-7](\.\d)? times as much", density), density
    assert "reduced χ²" in chi2
    for changed in ({"background": (400.0, 400.0)}, {"flux": FluxSettings("uniform", range=(6000, 9000))}):
        other = replace(movie(of, 1, 2.0, **changed), chi2=50.0)
        assert not any("spots overlap" in sentence for sentence in mismatches(other, of, usual))


def test_depths_of_a_part_of_the_range_are_no_other_width() -> None:
    of = bundle(is_3d=True)
    deep, usual = movie(of, 1, 0.5, z_range_nm=(300.0, 400.0)), known(of, 0.5)
    assert mismatches(deep, of, usual) == []
    assert np.median(deep.appearance.width_px_M) > 1.15 * np.median(usual.appearance.width_px_M)


def test_what_the_file_says_of_its_pixels() -> None:
    of = bundle()
    fits, usual = movie(of, 1, 0.5), known(of, 0.5)
    assert mismatches(replace(fits, pixel_size=PixelSize.of(101)), of, usual) == []
    (sentence,) = mismatches(replace(fits, pixel_size=PixelSize(100, 160)), of, usual)
    assert "100 × 160 nm" in sentence and "100 × 100 nm" in sentence
    both = mismatches(replace(movie(of, 1, 0.5, pixel_nm=160), pixel_size=PixelSize.of(160)), of, usual)
    assert len(both) == 2 and "the file states explains it" in both[1]
    (other,) = mismatches(
        replace(movie(of, 1, 0.5, GaussianSettings(90)), pixel_size=PixelSize.of(100)), of, usual
    )
    assert "the pixel size in the file does not explain it" in other


def test_frames_that_the_table_does_not_explain_and_a_movie_of_nothing() -> None:
    of = bundle()
    fits, usual = movie(of, 1, 0.5), known(of, 0.5)
    (sentence,) = mismatches(replace(fits, chi2=9.0), of, usual)
    assert "reduced χ² of 9" in sentence
    assert mismatches(replace(fits, chi2=1.1), of, replace(usual, chi2=6.0)) == []
    (sentence,) = mismatches(replace(fits, chi2=0.4), of, replace(usual, chi2=6.0))
    assert "reduced χ² of 0.4" in sentence
    (sentence,) = mismatches(replace(fits, table=EmitterTable.empty()), of, usual)
    assert sentence.startswith("Nothing was found")


@pytest.mark.parametrize("shape", [(2, 8, 9), (1, 40, 40)])
def test_frames_too_small_or_dark_for_spots_are_looked_at_too(shape: tuple[int, ...]) -> None:
    flat = np.random.default_rng(0).poisson(30, shape).astype(np.float32)
    seen = appearance(flat, CAMERA)
    assert len(seen.sigma_x_px_M) == 0 and relative_width(seen, seen) is None
    assert seen.noise_F == pytest.approx(np.full(shape[0], np.sqrt(30)), rel=0.35)


def test_the_floor_is_the_background_of_flat_frames_and_of_full_ones() -> None:
    of = bundle()
    for density, within in ((0.1, 1.5), (2.0, 6.0)):
        seen: Appearance = movie(of, 3, density, background=(30.0, 30.0)).appearance
        assert np.median(seen.floor_F) == pytest.approx(30, abs=within)
    assert floors(np.full((1, 20, 20), 50.0), CAMERA)[0] > 50  # what noise would have taken off


def test_few_frames_of_a_long_movie_are_read_and_those_with_nan_left_out() -> None:
    counts = np.full((500, 20, 30), 7.0, dtype=np.float32)
    counts[0, 0, 0] = np.nan
    taken = sampled_photons(open_movie(counts), range(500), CAMERA, (slice(2, 12), slice(5, 25)))
    assert taken.shape == (47, 10, 20)


def test_spots_that_are_nothing_to_the_network_are_named() -> None:
    of = bundle()
    fits = movie(of, 1, 0.6)
    blind = replace(fits, table=fits.table.select(np.arange(len(fits.table)) % 8 == 0))
    (sentence,) = mismatches(blind, of, known(of, 0.6 / 8))
    assert re.search(r"have [4-8]\.?\d* times as many bright spots", sentence), sentence


def test_photons_of_a_few_rows_say_nothing() -> None:
    of = bundle()
    fits, usual = movie(of, 1, 0.5), known(of, 0.5)
    few = fits.table.select(np.arange(5)).with_columns(photons=np.full(5, 90.0))
    assert mismatches(replace(fits, table=few), of, usual) == []


@given(st.floats(0.001, 6.0), st.floats(0.3, 0.9), st.floats(0.2, 1.0))
def test_the_density_behind_what_is_found(true: float, power: float, share: float) -> None:
    """Of a network that finds a power of the density, all of it at most."""

    def found(density: float) -> float:
        return min(density, share * density**power)

    def ends(density: float) -> tuple[float, float]:
        return density, found(density)

    told = density_behind(found(true), ends(found(true)), ends(6.0))
    if share * found(true) ** power <= found(true):  # the power law holds at both ends
        assert told == pytest.approx(true, rel=1e-6)
    assert found(true) <= told * (1 + 1e-9)
    assert density_behind(9.0, (9.0, 4.0), (6.0, 3.0)) == 9.0  # more than is ever found in the training
