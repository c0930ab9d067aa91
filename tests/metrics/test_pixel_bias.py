"""Offsets within a pixel: uniform ones, and such as a biased localizer gives."""

import math

import numpy as np
import pytest

from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.metrics.pixel_bias import pixel_bias

PIXEL = PixelSize.of((100.0, 120.0))


def table(x_px: np.ndarray, y_px: np.ndarray) -> EmitterTable:
    zero = np.zeros(len(x_px))
    return EmitterTable.of(zero.astype(int), x_nm=100 * x_px, y_nm=120 * y_px, z_nm=zero, photons=zero)


def test_uniform_places_show_none() -> None:
    rng = np.random.default_rng(3)
    bias = pixel_bias(table(*rng.uniform(0, 64, (2, 40_000))), PIXEL)
    assert max(bias.values()) < 0.01


def test_places_drawn_to_the_centre_show_as_much_as_the_closed_form_says() -> None:
    rng = np.random.default_rng(4)
    pixel, offset = rng.integers(0, 64, (2, 40_000)), rng.uniform(-0.5, 0.5, (2, 40_000))
    bias = pixel_bias(table(pixel[0] + 0.5 + 0.8 * offset[0], pixel[1] + 0.5 + offset[1]), PIXEL)
    assert bias["pixel_bias_x"] == pytest.approx(0.1, abs=0.01)  # the first tenth of a pixel stays empty
    assert bias["pixel_bias_y"] < 0.01


def test_without_rows_it_is_undefined() -> None:
    assert all(math.isnan(value) for value in pixel_bias(table(np.zeros(0), np.zeros(0)), PIXEL).values())
