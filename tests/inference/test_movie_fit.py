"""Sentences appear exactly when something is out of the trained range."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.inference.movie_fit import Residuals, crowding_per_um2, flux_range, misfits
from emitter.simulation.settings import FluxSettings, SimulationSettings

PIXEL = PixelSize.of(100)
TRAINED = SimulationSettings(density_per_um2=(0.2, 1.0), background=(10.0, 100.0))


def table_of(density: float = 0.6, photons: float = 3000.0, n_frames: int = 60) -> EmitterTable:
    rng = np.random.default_rng(0)
    n = round(density * 64 * n_frames)  # of 8 × 8 µm
    return EmitterTable.of(
        rng.integers(0, n_frames, n),
        x_nm=rng.uniform(0, 8000, n),
        y_nm=rng.uniform(0, 8000, n),
        photons=rng.normal(photons, 0.1 * photons, n),
    )


FITS = {
    "table": table_of(),
    "movie_um2": 60 * 64.0,
    "median_photons_per_pixel": 50.0,
    "simulation": TRAINED,
    "pixel_size": PIXEL,
    "residuals": Residuals(1.5, 1.1),
    "simulated": Residuals(1.4, 1.2),
    "stated_pixel_size": PixelSize.of(101),
}


def test_nothing_is_said_of_a_movie_that_fits():
    assert misfits(**FITS) == []
    assert misfits(**{**FITS, "residuals": None, "stated_pixel_size": None}) == []


@pytest.mark.parametrize(
    ("change", "about"),
    [
        ({"stated_pixel_size": PixelSize.of(110)}, "Pixel size"),
        ({"median_photons_per_pixel": 300.0}, "Background"),
        ({"median_photons_per_pixel": 2.0}, "Background"),
        ({"table": table_of(photons=200.0)}, "Photons"),
        ({"table": table_of(photons=9000.0)}, "Photons"),
        ({"table": table_of(density=4.0)}, "Density"),
        ({"table": EmitterTable.empty()}, "Density"),
        ({"movie_um2": 4e6}, "Density"),
        ({"residuals": Residuals(4.0, 1.1)}, "PSF"),
        ({"residuals": Residuals(1.5, 4.0)}, "Left over"),
    ],
)
def test_one_sentence_for_what_is_out_of_range(change, about):
    (sentence,) = misfits(**{**FITS, **change})
    assert sentence.startswith(f"{about}: ") and sentence.endswith(".") and "\n" not in sentence


def test_left_over_counts_against_what_the_network_misses_in_simulation():
    crowded = {"residuals": Residuals(6.0, 3.0), "simulated": Residuals(5.0, 2.5)}
    assert misfits(**{**FITS, **crowded}) == []


def test_crowding_of_random_places_is_their_density():
    table = table_of(density=2.0)
    assert crowding_per_um2(table, (40, 40), PIXEL) == pytest.approx(2.0, rel=0.05)
    assert np.isnan(crowding_per_um2(EmitterTable.empty(), (40, 40), PIXEL))


@pytest.mark.parametrize("distribution", FluxSettings.DISTRIBUTIONS)
def test_flux_range_holds_nine_of_ten_emitters(distribution):
    flux = FluxSettings(distribution=distribution, mean=2000, std=1500, range=(500, 4000))
    rng = np.random.default_rng(0)
    variance = np.log1p((flux.std / flux.mean) ** 2)
    normal = rng.normal(flux.mean, flux.std, 200_000)
    draws = {
        "uniform": rng.uniform(500, 4000, 200_000),
        "lognormal": rng.lognormal(np.log(flux.mean) - variance / 2, np.sqrt(variance), 200_000),
        "normal": normal[normal > 0],
    }[distribution]
    low, high = flux_range(flux)
    assert (draws < low).mean() == pytest.approx(0.05, abs=0.003)
    assert (draws > high).mean() == pytest.approx(0.05, abs=0.003)
    assert replace(flux).typical > low
