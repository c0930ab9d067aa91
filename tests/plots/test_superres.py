"""Super-resolved images: positions, colours, bounds, and the length of the scale bar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from emitter.core.errors import SettingsError
from emitter.core.table import EmitterTable
from emitter.plots.superres import MAX_SIDE_PX, SuperResImage, scale_bar_um


def table(x_nm: list[float], y_nm: list[float], z_nm: list[float]) -> EmitterTable:
    return EmitterTable.of(np.zeros(len(x_nm)), x_nm=x_nm, y_nm=y_nm, z_nm=z_nm)


@given(x=st.integers(5, 94), y=st.integers(5, 44))
def test_a_localization_is_brightest_where_it_is(x: int, y: int) -> None:
    image = SuperResImage((1000, 500), pixel_nm=10)
    image.add(table([10 * x + 3.0], [10 * y + 7.0], [np.nan]))
    rgb = image.rgb()
    assert rgb.shape == (50, 100, 3)
    brightness = rgb.sum(axis=2, dtype=int)
    assert np.unravel_index(brightness.argmax(), brightness.shape) == (y, x)


def test_the_blur_is_a_gaussian_of_one_pixel() -> None:
    image = SuperResImage((400, 400), pixel_nm=10, z_range_nm=(-1, 1))
    image.add(table([205.0], [205.0], [0.0]))
    brightness = image.rgb().max(axis=2).astype(float)
    # the centre is clipped by the contrast; 0.6 is the display's gamma
    assert brightness[20, 22] / brightness[20, 21] == pytest.approx(np.exp(-0.5 * 3) ** 0.6, abs=0.01)
    assert brightness[22, 22] / brightness[21, 21] == pytest.approx(np.exp(-0.5 * 6) ** 0.6, abs=0.01)


def test_z_is_the_colour_and_the_mean_where_several_lie() -> None:
    image = SuperResImage((900, 300), pixel_nm=10, z_range_nm=(-300, 300))
    image.add(table([150, 450, 750, 750], [150] * 4, [-300, 300, -300, 300]))
    low, high, both = (image.rgb()[15, column].astype(int) for column in (15, 45, 75))
    assert low.argmax() == 2  # blue
    assert high.argmax() == 0  # red
    assert both.argmax() == 1  # green, the middle of the scale


def test_blocks_add_up_and_what_lies_outside_is_left_out() -> None:
    rng = np.random.default_rng(0)
    x, y, z = rng.uniform(-200, 1200, 500), rng.uniform(-200, 900, 500), rng.uniform(-300, 300, 500)
    whole, parts = (SuperResImage((1000, 700), 25, (-300, 300)) for _ in range(2))
    whole.add(table(x, y, z))
    inside = (x >= 0) & (x < 1000) & (y >= 0) & (y < 700)
    for rows in np.array_split(np.flatnonzero(inside), 7):
        parts.add(table(x[rows], y[rows], z[rows]))
    np.testing.assert_array_equal(whole.rgb(), parts.rgb())


def test_large_fields_stay_bounded_and_keep_their_shape() -> None:
    image = SuperResImage((200_000, 100_000), pixel_nm=5)
    assert image.rgb().shape[:2] == (MAX_SIDE_PX // 2, MAX_SIDE_PX)
    assert image.pixel_nm == pytest.approx(200_000 / MAX_SIDE_PX)


@pytest.mark.parametrize("bead", [False, True], ids=["alone", "beside a bead that never bleaches"])
def test_single_localizations_of_a_large_field_are_seen_at_screen_size(bead: bool) -> None:
    image = SuperResImage((30_000, 30_000), pixel_nm=10)
    places = np.arange(1005.0, 29_000, 1500)
    x, y = (side.ravel() for side in np.meshgrid(places, places))
    image.add(table(x, y, np.zeros(len(x))))
    if bead:
        image.add(table([15_005 + 600.0] * 20_000, [15_005.0] * 20_000, [0.0] * 20_000))
    rgb = image.rgb()
    screen = rgb.reshape(1000, 3, 1000, 3, 3).mean(axis=(1, 3)).max(axis=2)  # on a screen of 1000 pixels
    column, row = (x // 30).astype(int), (y // 30).astype(int)
    assert screen[row, column].min() > 0.3 * 255
    assert screen[100, 50] <= 3  # between them: the darkest colour


@pytest.mark.parametrize("z_range_nm", [None, (-500.0, 500.0)])
@pytest.mark.parametrize("n", [0, 40])
def test_png_shows_the_image_and_a_scale_bar_of_the_right_length(
    tmp_path: Path, n: int, z_range_nm: tuple[float, float] | None
) -> None:
    rng = np.random.default_rng(1)
    image = SuperResImage((6400, 6400), pixel_nm=10, z_range_nm=z_range_nm)
    image.add(table(rng.uniform(0, 6400, n), rng.uniform(0, 6400, n), rng.uniform(-500, 500, n)))
    image.save(tmp_path / "locs.png")
    png = (imread(tmp_path / "locs.png")[..., :3] * 255).round().astype(np.uint8)
    np.testing.assert_array_equal(png[:640, :640], image.rgb())
    white = (png[640:] == 255).all(axis=2)
    assert white.sum(axis=1).max() == 100  # 1 µm at 10 nm


def test_small_fields_are_enlarged_by_whole_pixels(tmp_path: Path) -> None:
    image = SuperResImage((800, 600), pixel_nm=10)
    image.add(table([400], [300], [0]))
    image.save(tmp_path / "locs.png")
    png = (imread(tmp_path / "locs.png")[..., :3] * 255).round().astype(np.uint8)
    np.testing.assert_array_equal(png[:480, :640:8], image.rgb().repeat(8, axis=0))


@given(width_um=st.floats(0.05, 1e4))
def test_scale_bar_is_a_round_number_and_a_tenth_to_a_fifth_of_the_field(width_um: float) -> None:
    length = scale_bar_um(width_um)
    assert width_um / 5 / 2.5 * (1 - 1e-6) <= length <= width_um / 5 * (1 + 1e-6)
    assert f"{length:e}"[0] in "125"
    assert float(f"{length:.0e}") == pytest.approx(length)


def test_pixel_must_be_positive() -> None:
    with pytest.raises(SettingsError, match="superres_nm"):
        SuperResImage((1000, 1000), 0.0)
