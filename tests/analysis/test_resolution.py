"""FRC against a plain computation and a known answer; NeNA against a known precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emitter.analysis.doubts import frc_doubts, nena_doubts, shared_blinks
from emitter.analysis.field import in_field
from emitter.analysis.frc import frc, ring_correlation
from emitter.analysis.nena import Nena, nena, next_frame_distances, scatter_over_precision
from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.io.tables import read_table


@pytest.mark.parametrize("side", [32, 33])
def test_rings_are_those_of_the_whole_fourier_plane(side: int) -> None:
    rng = np.random.default_rng(0)
    one, two = rng.poisson(3, (2, side, side)).astype(float)
    a, b = np.fft.fft2(one), np.fft.fft2(two)
    freq = np.fft.fftfreq(side, 1 / side)
    ring = np.round(np.sqrt(freq[:, None] ** 2 + freq[None] ** 2))
    for q, value in enumerate(ring_correlation(one, two)):
        at = ring == q
        power = (abs(a[at]) ** 2).sum() * (abs(b[at]) ** 2).sum()
        expected = (a[at] * b[at].conj()).sum().real / np.sqrt(power)
        assert value == pytest.approx(expected)


@pytest.mark.parametrize("sigma", [10.0, 20.0])
def test_resolution_of_points_seen_often_is_the_known_one(sigma: float) -> None:
    """Emitters at random, each seen 2m times, split by chance: FRC = s / (1 + s), s = (m - 1/2)·exp(-4π²σ²q²)."""
    rng = np.random.default_rng(1)
    n, m = 1200, 10
    at = np.repeat(np.arange(n), 2 * m)
    x, y = (rng.uniform(0, 4000, n)[at] + rng.normal(0, sigma, len(at)) for _ in range(2))
    found = frc(EmitterTable.of(rng.integers(0, 2000, len(at)), x_nm=x, y_nm=y), pixel_nm=5)
    expected = 2 * np.pi * sigma / np.sqrt(np.log(6 * (m - 0.5)))  # s = 1/6 where FRC = 1/7
    assert found.resolution_nm == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("sigma", [8.0, 20.0])
def test_nena_recovers_the_precision(sigma: float) -> None:
    rng = np.random.default_rng(2)
    n, life = 2500, 3
    at = np.repeat(np.arange(n), life)
    frame = rng.integers(0, 500, n)[at] + np.tile(np.arange(life), n)
    x, y = (rng.uniform(0, 8000, n)[at] + rng.normal(0, sigma, len(at)) for _ in range(2))
    table = EmitterTable.of(frame, x_nm=x, y_nm=y)
    found = nena(table)
    assert found.precision_nm == pytest.approx(sigma, rel=0.05)
    assert found.error_nm < 0.05 * sigma and nena_doubts(found, table) == []


def test_nenas_standard_error_is_its_scatter() -> None:
    found = []
    for seed in range(30):
        rng = np.random.default_rng((7, seed))
        at = np.repeat(np.arange(150), 3)
        frame = rng.integers(0, 500, 150)[at] + np.tile(np.arange(3), 150)
        x, y = (rng.uniform(0, 8000, 150)[at] + rng.normal(0, 10, len(at)) for _ in range(2))
        found.append(nena(EmitterTable.of(frame, x_nm=x, y_nm=y)))
    scatter = np.std([one.precision_nm for one in found])
    assert np.mean([one.error_nm for one in found]) == pytest.approx(scatter, rel=0.4)


def test_distances_are_to_the_next_frame() -> None:
    table = EmitterTable.of([0, 0, 1, 1, 3], x_nm=[0, 900, 3, 500, 3], y_nm=[0, 0, 4, 0, 4])
    np.testing.assert_allclose(next_frame_distances(table, 200), [5])


def test_tables_that_say_nothing_are_refused() -> None:
    few = EmitterTable.of(np.arange(50), x_nm=np.arange(50.0), y_nm=np.arange(50.0))
    with pytest.raises(EmitterError, match="100 localizations"):
        frc(few)
    with pytest.raises(EmitterError, match="NeNA needs 200"):
        nena(few)
    rng = np.random.default_rng(0)
    other = EmitterTable.of(
        rng.integers(0, 50, 3000), x_nm=rng.uniform(0, 3000, 3000), y_nm=rng.uniform(0, 3000, 3000)
    )
    with pytest.raises(EmitterError, match="hardly any emitter is seen again"):
        nena(other)


def blinking(n: int, n_frames: int, life: int, seed: int = 0) -> EmitterTable:
    """Blinks of so many frames, of points on a line across 3 µm, precision 10 nm."""
    rng = np.random.default_rng(seed)
    at = np.repeat(np.arange(n), life)
    frame = rng.integers(0, n_frames - life + 1, n)[at] + np.tile(np.arange(life), n)
    along = rng.integers(0, 100, n) * 30.0
    x, y = along[at] + rng.normal(0, 10, len(at)), 0.7 * along[at] + rng.normal(0, 10, len(at))
    return EmitterTable.of(frame, x_nm=x, y_nm=y).sorted()


def test_a_linked_table_of_many_localizations_is_not_doubted() -> None:
    table = blinking(6000, 3000, life=1)
    assert frc_doubts(table, frc(table)) == []


@pytest.mark.parametrize("far_nm", [4e3, 1e5, 1e9])
def test_strays_far_outside_do_not_change_the_resolution(far_nm: float) -> None:
    table = blinking(6000, 3000, life=1)
    strays = EmitterTable.of([5, 900, 2500], x_nm=[-far_nm, 2 * far_nm, 50], y_nm=[20, far_nm, -far_nm])
    clean, found = frc(table), frc(EmitterTable.concatenate([table, strays]).sorted())
    assert found.pixel_nm == clean.pixel_nm == 10
    np.testing.assert_allclose(found.frequency_Q, clean.frequency_Q)
    assert found.resolution_nm == pytest.approx(clean.resolution_nm, rel=0.02)
    assert frc_doubts(table, found) == []


def test_rows_of_an_ordinary_field_are_all_in_it() -> None:
    rng = np.random.default_rng(5)
    for place in (rng.uniform(0, 1, (500, 2)), rng.normal(0, 1, (500, 2)) * (0.1, 1)):
        span = np.ptp(np.percentile(place, (1, 99), axis=0), axis=0)
        assert in_field(place).sum() >= 495
        assert not in_field(np.vstack((place, place.max(axis=0) + span * (0, 2))))[-1]


def test_too_few_localizations_are_said() -> None:
    rng = np.random.default_rng(3)
    noise = EmitterTable.of(
        rng.integers(0, 200, 400), x_nm=rng.uniform(0, 3e3, 400), y_nm=rng.uniform(0, 3e3, 400)
    )
    doubts = [*frc_doubts(noise, frc(noise)), *frc_doubts(few := blinking(130, 500, life=1), frc(few))]
    assert len(doubts) == 2
    assert "nothing finer than the shape of the field in 400 localizations" in doubts[0]
    assert "130 localizations are too few" in doubts[1]


def test_a_pixel_that_is_too_large_is_said() -> None:
    table = blinking(6000, 3000, life=1)
    (doubt,) = frc_doubts(table, frc(table, pixel_nm=40))
    assert "FRC stays above 1/7 down to 80 nm: give a smaller pixel_nm" in doubt


def fading(life: float, n_frames: int, seen: float = 1.0) -> tuple[EmitterTable, np.ndarray]:
    """Blinks that last for ``life`` frames on average and end at random, some of their frames missed, on twelve
    waves; and the frame that each row's blink began in."""
    rng = np.random.default_rng(8)
    lives = rng.geometric(1 / life, 5000)
    at = np.repeat(np.arange(5000), lives)
    begin = rng.integers(0, n_frames, 5000)[at]
    frame = begin + np.arange(len(at)) - np.repeat(np.cumsum(lives) - lives, lives)
    along, wave = rng.uniform(0, 4000, 5000), rng.integers(0, 12, 5000)
    x, y = along[at], (300 * wave + 100 * np.sin(along / 500 + wave))[at]
    table = EmitterTable.of(frame, x_nm=x + rng.normal(0, 10, len(at)), y_nm=y + rng.normal(0, 10, len(at)))
    kept = np.flatnonzero((rng.random(len(at)) < seen) & (frame < n_frames))
    return table.select(kept), begin[kept]


@pytest.mark.parametrize(("life", "seen"), [(2, 1.0), (5, 1.0), (5, 0.5)])
def test_a_blink_of_many_frames_counts_for_one_half(life: float, seen: float) -> None:
    """Against the table with each blink in the frame that it began in, which cannot be in both."""
    table, begin = fading(life, 10_000, seen)
    found, apart = (frc(rows).resolution_nm for rows in (table, table.with_columns(frame=begin)))
    assert found == pytest.approx(apart, rel=0.03)
    shuffled = np.random.default_rng(0).permutation(len(table))  # each localization by itself in a half
    assert frc(table.with_columns(frame=shuffled)).resolution_nm < 0.9 * apart
    assert not [doubt for doubt in frc_doubts(table, frc(table)) if "halves share" in doubt]


@pytest.mark.parametrize(("life", "seen"), [(10, 1.0), (20, 0.5)])
def test_blinks_so_long_that_both_halves_share_them_are_said(life: float, seen: float) -> None:
    table, begin = fading(life, 1000, seen)
    # blocks of about 20 frames: how many are still on, and seen, two frames later
    assert shared_blinks(table) == pytest.approx(seen * (1 - 1 / life) ** 2, abs=0.06)
    found, apart = frc(table), frc(table.with_columns(frame=begin))
    assert found.resolution_nm < 0.95 * apart.resolution_nm
    assert any(
        "so long that both halves share them: link them" in doubt for doubt in frc_doubts(table, found)
    )


def test_places_that_blink_again_are_no_long_blinks() -> None:
    rng = np.random.default_rng(9)
    site = rng.uniform(0, 3000, (40, 2))[rng.integers(0, 40, 20_000)] + rng.normal(0, 10, (20_000, 2))
    table = EmitterTable.of(rng.integers(0, 2000, 20_000), x_nm=site[:, 0], y_nm=site[:, 1])
    assert shared_blinks(table) < 0.02
    stray = np.append(table.frame[1:], 2_000_000_000)
    assert shared_blinks(table.with_columns(frame=stray)) < 0.25


def test_an_uncertain_nena_is_said() -> None:
    (doubt,) = nena_doubts(Nena(10.0, 3.0), EmitterTable.empty())
    assert doubt.startswith("NeNA is uncertain by 3 nm")


def seen_thrice(shared: float) -> EmitterTable:
    """Emitters in three frames each, their precisions as different as exponentially distributed photons make them, a
    share of the variance being common to an emitter's frames."""
    rng = np.random.default_rng(4)
    n, life = 1500, 3
    at = np.repeat(np.arange(n), life)
    frame = rng.integers(0, 1000, n)[at] + np.tile(np.arange(life), n)
    sigma = (130 / np.sqrt(np.maximum(rng.exponential(1000, n), 100)))[at]
    x, y = (
        rng.uniform(0, 9000, n)[at]
        + sigma * (np.sqrt(shared) * rng.normal(size=n)[at] + np.sqrt(1 - shared) * rng.normal(size=len(at)))
        for _ in range(2)
    )
    return EmitterTable.of(frame, x_nm=x, y_nm=y, precision_x_nm=sigma, precision_y_nm=sigma)


@pytest.mark.parametrize("shared", [0.0, 0.3, 0.8])
def test_a_nena_of_errors_that_adjacent_frames_share_is_said(shared: float) -> None:
    table = seen_thrice(shared)
    assert scatter_over_precision(table) == pytest.approx(np.sqrt(1 - shared), rel=0.04)
    doubts = nena_doubts(nena(table), table)
    assert [doubt.startswith("NeNA is probably too fine") for doubt in doubts] == [True] * (shared == 0.8)
    unknown = table.with_columns(precision_y_nm=np.full(len(table), np.nan))
    assert np.isnan(scatter_over_precision(unknown)) and nena_doubts(nena(table), unknown) == []


@pytest.mark.parametrize("name", ["picasso/testdata_locs.hdf5", "locan_tables/smap_dstorm_data.mat"])
def test_tables_of_programs_that_fit_each_frame_by_itself_are_not_doubted(name: str, data_dir: Path) -> None:
    table = read_table(data_dir / name)
    assert not [doubt for doubt in nena_doubts(nena(table), table) if "too fine" in doubt]
