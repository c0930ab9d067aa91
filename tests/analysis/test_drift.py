"""Drift that is known, on simulated structures; its parts against plain computations."""

from __future__ import annotations

import numpy as np
import pytest

from emitter.analysis.drift import Drift, DriftSettings, estimate_drift
from emitter.analysis.drift_correlation import coarse_drift
from emitter.analysis.drift_curve import Penalty, _climbed, _likeliest_jump
from emitter.analysis.drift_pairs import REACH, Pairs, even_weights, find_pairs, tiles_of
from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable

FRAMES = 2000


def sites(
    n: int = 5_000, drift_nm_F3: np.ndarray | None = None, seed: int = 4, three_d: bool = True
) -> EmitterTable:
    """Localizations of 80 sites within 4 × 4 µm, with a precision of 10 nm (20 nm axially), drifting."""
    rng = np.random.default_rng(seed)
    site = rng.uniform((0, 0, -300), (4000, 4000, 300), (80, 3))[rng.integers(0, 80, n)]
    frame = rng.integers(0, FRAMES, n)
    moved = site + rng.normal(size=(n, 3)) * (10, 10, 20)
    if drift_nm_F3 is not None:
        moved += drift_nm_F3[frame]
    x, y, z = moved.T
    precision = {"precision_x_nm": np.full(n, 10.0), "precision_y_nm": np.full(n, 10.0)}
    axial = {"z_nm": z, "precision_z_nm": np.full(n, 20.0)} if three_d else {}
    return EmitterTable.of(frame, x_nm=x, y_nm=y, **precision, **axial)


def curve() -> np.ndarray:
    """Drift in x, y, z of every frame, (F, 3): 300 nm in x."""
    time = np.arange(FRAMES) / FRAMES
    return np.column_stack((300 * time**2, 60 * np.sin(4 * time), -120 * time))


def left_rms(drift: Drift, true_F3: np.ndarray, table: EmitterTable) -> np.ndarray:
    left_FA = true_F3[drift.frames, : drift.nm_FA.shape[1]] - drift.nm_FA
    left_NA = left_FA[table.frame - drift.first_frame]
    return left_NA.std(axis=0)


def test_drift_in_three_axes_is_recovered_with_its_error() -> None:
    table = sites(drift_nm_F3=curve())
    drift = estimate_drift(table, DriftSettings())
    assert drift.first_frame == 0 and drift.nm_FA.shape == (FRAMES, 3)
    left = left_rms(drift, curve(), table)
    assert np.all(left < (2.5, 2.5, 5.0)), left
    stated = np.array(list(drift.errors_nm().values()))
    assert np.all(left < 2.5 * stated) and np.all(stated < 2.5 * left)
    corrected = drift.corrected(table)
    np.testing.assert_allclose(table.z_nm - corrected.z_nm, drift.nm_FA[table.frame, 2])
    assert abs(drift.nm_FA[table.frame].mean(axis=0)).max() < 1e-9


def test_one_row_far_off_and_one_without_z_change_nothing() -> None:
    table = sites(drift_nm_F3=2 * curve())
    z_nm, x_nm = table.z_nm.copy(), table.x_nm.copy()
    z_nm[17], x_nm[400] = np.nan, 1e5
    drift = estimate_drift(table.with_columns(x_nm=x_nm, z_nm=z_nm), DriftSettings())
    assert np.all(left_rms(drift, 2 * curve(), table) < (2.5, 2.5, 5.0))


def test_jumps_stay_sharp_between_smooth_drift() -> None:
    time = np.arange(FRAMES) / FRAMES
    true_F3 = np.column_stack((40 * time, -20 * time, 0 * time))
    true_F3[900:, :2] += (80, -50)
    true_F3[1500:, :2] += (-60, 30)
    table = sites(drift_nm_F3=true_F3, three_d=False)
    drift = estimate_drift(table, DriftSettings())
    assert left_rms(drift, true_F3, table).max() < 6  # 37 before; a bin of time is 12 frames
    found = np.flatnonzero(np.hypot(*np.diff(drift.nm_FA, axis=0).T) > 20) + 1
    assert len(found) == 2 and np.all(np.abs(found - (900, 1500)) <= 15)


def test_smooth_drift_has_no_jump() -> None:
    table = sites(drift_nm_F3=curve(), three_d=False)
    drift = estimate_drift(table, DriftSettings())
    assert np.hypot(*np.diff(drift.nm_FA, axis=0).T).max() < 2


def test_the_likeliest_jump_is_the_one_that_fits_best() -> None:
    """Against every jump fitted in turn."""
    rng = np.random.default_rng(6)
    early, late = np.sort(rng.choice(20, (4000, 2)), axis=1).T
    early, late = early[late - early > 1], late[late - early > 1]
    moved = 0.3 * np.arange(20)[:, None] / 20 + 0.8 * (np.arange(20) >= 13)[:, None]
    difference = (moved[late] - moved[early]).T + rng.normal(0, 0.5, (1, len(early)))
    pairs = Pairs(20, np.stack((early, late)), difference, np.ones(len(early)), np.zeros(len(early), int))

    def fitted(*jumps: int) -> tuple[np.ndarray, np.ndarray, float]:
        penalty = 1e3 * Penalty(2, 10, jumps).matrix_KK(20)
        drift = _climbed(pairs, np.zeros((20, 1)), penalty)
        lost = 0.5 * float(np.vdot(drift, penalty @ drift))
        return drift, penalty, float(pairs.kernel(drift)[0].sum()) - lost

    drift, penalty, _ = fitted()
    best = max(range(3, 18), key=lambda jump: fitted(jump)[2])
    assert _likeliest_jump(pairs, drift, penalty, ()) == best == 13
    assert _likeliest_jump(pairs, drift, penalty, (13,)) not in range(11, 16)
    assert _likeliest_jump(pairs, drift, penalty, tuple(range(0, 20, 3))) is None


@pytest.mark.parametrize("seed", range(3))
def test_where_there_is_no_drift_none_is_invented(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    table = sites(n=1000 * (1 + seed), seed=seed)
    drift = estimate_drift(table, DriftSettings())
    assert drift.nm_FA.std(axis=0).max() < 1.0  # chance lets a small one pass at times
    if not drift.nm_FA.any():
        assert "no drift in x and y shows" in caplog.text and "no drift in z shows" in caplog.text


def test_a_table_without_structure_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(8)
    table = EmitterTable.of(
        rng.integers(0, 400, 4000), x_nm=rng.uniform(0, 4e3, 4000), y_nm=rng.uniform(0, 4e3, 4000)
    )
    drift = estimate_drift(table, DriftSettings())
    assert not drift.nm_FA.any() and np.isnan(drift.error_nm_FA).all()
    assert "no drift in x and y shows beyond its error" in caplog.text


def test_rows_that_are_nowhere_near_each_other_show_none(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    x_nm, y_nm = rng.uniform(0, 50_000, (2, 150))
    drift = estimate_drift(
        EmitterTable.of(rng.integers(0, 10_000, 150), x_nm=x_nm, y_nm=y_nm), DriftSettings()
    )
    assert (
        not drift.nm_FA.any()
        and "left as it is" in caplog.text
        and "150 localizations are few" in caplog.text
    )


def test_the_same_seed_gives_the_same_drift() -> None:
    table = sites(n=1000, drift_nm_F3=curve(), three_d=False)
    one, two = (estimate_drift(table, DriftSettings(seed=3)) for _ in range(2))
    np.testing.assert_array_equal(one.nm_FA, two.nm_FA)


def test_too_few_localizations_or_frames_are_refused() -> None:
    table = sites(300)
    with pytest.raises(EmitterError, match="give 100 or more"):
        estimate_drift(table.select(np.arange(50)), DriftSettings())
    with pytest.raises(EmitterError, match="4 frames or more"):
        estimate_drift(table.with_columns(frame=table.frame % 3), DriftSettings())
    stray = table.with_columns(frame=np.append(table.frame[1:], 2_000_000_000))
    with pytest.raises(EmitterError, match="to 2000000000, more than 10000000: take stray rows off"):
        estimate_drift(stray, DriftSettings())


def test_correlation_finds_large_shifts_and_says_nothing_of_noise() -> None:
    table = sites(n=6000, drift_nm_F3=3 * curve())
    place = np.column_stack((table.x_nm, table.y_nm))
    found = coarse_drift(place, table.frame, 1000.0, lambda share: None)
    assert found is not None
    middle_G, drift_G2 = found
    true_G2 = np.column_stack([np.interp(middle_G, np.arange(FRAMES), 3 * c) for c in curve()[:, :2].T])
    np.testing.assert_allclose(drift_G2, true_G2 - true_G2[0], atol=15)
    noise = np.random.default_rng(0).uniform(0, 4000, (6000, 2))
    assert coarse_drift(noise, table.frame, 1000.0, lambda share: None) is None


def test_pairs_are_all_that_are_near_and_not_in_neighbouring_bins() -> None:
    rng = np.random.default_rng(1)
    place, bins = rng.uniform(0, 30, (200, 2)), rng.integers(0, 10, 200)
    early, late = find_pairs(place, bins, 10**6, rng)
    near = np.linalg.norm(place[:, None] - place[None], axis=2) <= REACH
    wanted = np.argwhere(near & (bins[None] - bins[:, None] > 1))
    assert sorted(zip(early, late, strict=True)) == [tuple(pair) for pair in wanted]
    few = find_pairs(np.tile(place[:1], (3000, 1)), rng.integers(0, 10, 3000), 10_000, rng)[0]
    assert 1000 < len(few) < 12_000


def test_gradient_and_overlap_agree() -> None:
    rng = np.random.default_rng(2)
    early, late = np.array([(i, j) for i in range(5) for j in range(i + 2, 5)] * 20).T
    n = len(early)
    pairs = Pairs(
        5, np.stack((early, late)), rng.normal(size=(2, n)), rng.uniform(0.5, 1, n), rng.integers(0, 64, n)
    )
    drift, small = rng.normal(0, 0.3, (5, 2)), 1e-6
    gradient = pairs.gradient(*pairs.kernel(drift))
    for k, axis in np.ndindex(5, 2):
        step = np.zeros((5, 2))
        step[k, axis] = small
        change = pairs.overlaps(drift + step).sum() - pairs.overlaps(drift - step).sum()
        assert gradient[k, axis] == pytest.approx(change / 2 / small, rel=1e-5)


def test_tiles_make_two_equal_halves() -> None:
    place = np.random.default_rng(3).normal(0, 1000, (20_000, 2))  # crowded in the middle
    assert np.mean(tiles_of(place) % 2) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("beads", [1, 2])
def test_beads_do_not_drown_the_rest(beads: int) -> None:
    rng, seen = np.random.default_rng(9), np.arange(0, FRAMES, 5)
    parts = [sites(600, curve(), three_d=False)]
    for _ in range(beads):
        x, y = (rng.uniform(500, 3500, 2) + curve()[seen, :2] + rng.normal(0, 3, (len(seen), 2))).T
        precision = {name: np.full(len(seen), 3.0) for name in ("precision_x_nm", "precision_y_nm")}
        parts.append(EmitterTable.of(seen, x_nm=x, y_nm=y, **precision))
    table = EmitterTable.concatenate(parts)
    drift = estimate_drift(table, DriftSettings())
    assert left_rms(drift, curve(), table).max() < 2.5  # 89 before


def test_crowded_places_weigh_by_their_rows() -> None:
    rows = np.array([30] + [3] * 20)  # a bead, and sites
    place = np.repeat(np.arange(21), rows)[:, None] * np.array([[100.0, 0.0]])
    early, late = find_pairs(place, 2 * np.arange(90), 10**6, np.random.default_rng(0))
    weight_of = np.bincount((place[early, 0] / 100).astype(int), even_weights(early, late))
    np.testing.assert_allclose(weight_of, rows)


@pytest.mark.parametrize("n_axes", [2, 3])
def test_thinning_leaves_pairs_at_every_distance(n_axes: int) -> None:
    """Rows spread evenly have as many pairs a volume near as far, else a drift that mixes them would seem right."""
    random = np.random.default_rng(2)
    side = {2: 300, 3: 60}[n_axes]
    place_NA = random.uniform(0, side, (150_000, n_axes))
    bin_N = np.sort(random.integers(0, 500, len(place_NA)))
    early_P, late_P = find_pairs(place_NA, bin_N, 200_000, random)
    assert 50_000 < len(early_P) < 250_000
    inside_P = (np.abs(place_NA[early_P] - side / 2) < side / 2 - REACH).all(axis=1)
    apart_P = np.linalg.norm(place_NA[early_P] - place_NA[late_P], axis=1)[inside_P]
    near = (apart_P < 1.5).sum() / 1.5**n_axes
    far = (apart_P > 2.5).sum() / (REACH**n_axes - 2.5**n_axes)
    assert near == pytest.approx(far, rel=0.06)
