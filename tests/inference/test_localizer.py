"""Localizing with a network whose answer is known: a marker of bright pixels."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds
from emitter.core.errors import EmitterError, SettingsError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.inference import localizer as localizer_module
from emitter.inference.checks import check_sample
from emitter.inference.localizer import Compute, Localizer, Region, windows
from emitter.io.movie import ArrayMovie
from emitter.io.movies import open_movie
from emitter.simulation.camera import Camera, CameraSettings

PIXEL = PixelSize(100.0, 160.0)


@dataclass
class Marker:
    """Finds every pixel of the middle frame above 100 photons, ``lean_px`` too far to the right and below; z tells what
    its neighbours in time hold there."""

    n_frames: int = 3
    cells_px: tuple[float, ...] = (1.0,)
    stride: int = 4
    receptive_radius_px: int = 0
    lean_px: float = 0.0

    def forward_movie(self, frames_FHW: Tensor, window_BT: Tensor) -> list[Tensor]:
        middle = frames_FHW[window_BT[:, 1]]
        maps = torch.zeros(len(middle), 6, *middle.shape[-2:])
        maps[:, ch.P] = torch.where(middle > 100, 30.0, -30.0)
        maps[:, ch.PHOTONS] = middle / Scaling().photons
        maps[:, [ch.X, ch.Y]] = self.lean_px / Scaling().offset_cells
        before, after = frames_FHW[window_BT[:, 0]], frames_FHW[window_BT[:, 2]]
        maps[:, ch.Z] = (10 * before + after) / Scaling().z_nm
        return [maps]


class CountingCamera:
    """Two photons a count above 10."""

    def check_frame(self, height: int, width: int) -> None:
        pass

    def to_photons(self, counts: Tensor) -> Tensor:
        return (counts - 10) * 2

    def windows(self, top_B: Tensor, left_B: Tensor, height: int, width: int) -> CountingCamera:
        return self


def localizer(batch_px: int = 4096, turned: bool = False, lean_px: float = 0.0) -> Localizer:
    compute = Compute(batch_px=batch_px, turned=turned)
    network = Marker(lean_px=lean_px)
    return Localizer(network, CountingCamera(), Scaling(), Thresholds(), PIXEL, (1.0, 9.0), compute)


def movie_of(places: list[tuple[int, int, int]], shape: tuple[int, int, int] = (7, 30, 50)) -> np.ndarray:
    """Counts of 10 to 12 with a bright pixel of 100 + frame at every (frame, row, column)."""
    frames = np.random.default_rng(0).integers(10, 13, shape).astype(np.uint16)
    for frame, row, column in places:
        frames[frame, row, column] = 100 + frame
    return frames


def whole_table(frames: np.ndarray, batch_px: int = 4096, **how: Any) -> EmitterTable:
    tables = localizer(batch_px, **how).tables(open_movie(frames))
    return EmitterTable.concatenate(table for _, table in tables)


def test_emitters_come_out_where_they_are_in_nm() -> None:
    places = [(0, 3, 40), (2, 29, 0), (2, 5, 6), (6, 10, 49)]
    table = whole_table(movie_of(places))
    assert table.frame.tolist() == [0, 2, 2, 6]
    expected = sorted(places)
    np.testing.assert_allclose(table.x_nm, [(column + 0.5) * 100 for _, _, column in expected])
    np.testing.assert_allclose(table.y_nm, [(row + 0.5) * 160 for _, row, _ in expected])
    np.testing.assert_allclose(table.photons, [(90 + frame) * 2 for frame, _, _ in expected], rtol=1e-6)


@given(seed=st.integers(0, 99), batch_px=st.integers(1024, 20000))
def test_the_result_does_not_depend_on_the_batches(seed: int, batch_px: int) -> None:
    rng = np.random.default_rng(seed)
    places = [(int(rng.integers(7)), int(rng.integers(30)), int(rng.integers(50))) for _ in range(9)]
    frames = movie_of(places)
    expected, table = whole_table(frames, 10**6), whole_table(frames, batch_px)
    for name, column in expected.columns().items():
        np.testing.assert_array_equal(table.columns()[name], column)


@pytest.mark.parametrize("batch_px", [1024, 10**6])
def test_turning_takes_a_leaning_to_one_side_away_and_changes_nothing_else(batch_px: int) -> None:
    frames = movie_of([(0, 3, 40), (2, 29, 0), (2, 5, 6), (6, 10, 49)])
    expected, leaning = whole_table(frames), whole_table(frames, batch_px, lean_px=0.2)
    np.testing.assert_allclose(leaning.x_nm - expected.x_nm, 20, rtol=1e-4)
    table = whole_table(frames, batch_px, turned=True, lean_px=0.2)
    for name, column in expected.columns().items():
        np.testing.assert_allclose(table.columns()[name], column, rtol=1e-6)


def test_neighbours_are_the_frames_before_and_after() -> None:
    frames = np.full((4, 8, 8), 10, np.uint16)
    frames[:, 0, 0] = 11  # not constant
    frames[:, 4, 4] = [110, 210, 310, 410]
    table = whole_table(frames)
    p = [200.0, 400.0, 600.0, 800.0]
    expected = [
        10 * p[0] + p[1],
        10 * p[0] + p[2],
        10 * p[1] + p[3],
        10 * p[2] + p[3],
    ]  # the ends repeat themselves
    np.testing.assert_allclose(table.z_nm, expected, rtol=1e-6)


def test_frames_across_a_gap_are_no_neighbours() -> None:
    numbers = np.array([0, 1, 4, 5, 6, 9])
    np.testing.assert_array_equal(
        windows(numbers, 0, 6, 3), [[0, 0, 1], [0, 1, 1], [2, 2, 3], [2, 3, 4], [3, 4, 4], [5, 5, 5]]
    )
    np.testing.assert_array_equal(windows(numbers, 3, 5, 5), [[2, 2, 3, 4, 4], [2, 3, 4, 4, 4]])
    np.testing.assert_array_equal(windows(numbers, 2, 4, 1), [[2], [3]])


@given(gaps=st.lists(st.integers(1, 3), min_size=1, max_size=12), half=st.integers(0, 2))
def test_windows_against_their_definition(gaps: list[int], half: int) -> None:
    numbers = np.cumsum(gaps)
    places = {int(number): k for k, number in enumerate(numbers)}
    result = windows(numbers, 0, len(numbers), 2 * half + 1)
    for k, number in enumerate(numbers.tolist()):
        for direction in (-1, 1):
            stand_in = k
            for step in range(1, half + 1):
                if places.get(number + direction * (step - 1)) == stand_in:
                    stand_in = places.get(number + direction * step, stand_in)
                assert result[k, half + direction * step] == stand_in


def refused(frames: np.ndarray, match: str) -> None:
    with pytest.raises(EmitterError, match=match):
        whole_table(frames)


def test_constant_frames_are_refused_or_counted(caplog: pytest.LogCaptureFixture) -> None:
    refused(np.full((5, 20, 20), 37, np.uint16), "all 5 frames .* constant .* 37")
    refused(np.full((50, 20, 20), 37, np.uint16), "20 frames spread over 50 frames .* constant .* 37")
    frames = movie_of([(0, 3, 3), (4, 3, 3)])
    frames[2] = 11
    with caplog.at_level(logging.WARNING):
        assert whole_table(frames).frame.tolist() == [0, 4]
    assert "1 frames" in caplog.text


def test_saturated_frames_are_named_with_their_share(caplog: pytest.LogCaptureFixture) -> None:
    frames = movie_of([(0, 3, 3)])
    frames[:, :3] = 65535  # a tenth of the rows
    with caplog.at_level(logging.WARNING):
        whole_table(frames)
    assert "10.0 %" in caplog.text
    assert "65535" in caplog.text
    assert caplog.text.count("saturated") == 1


def test_nan_names_the_frame_as_the_table_would() -> None:
    frames = movie_of([(0, 3, 3)]).astype(np.float32)
    frames[4, 2, 2:5] = np.nan
    refused(frames, "frame 5 .* 3 pixels .*NaN")


def test_a_closed_shutter_at_the_start_of_a_large_movie_is_no_reason_to_refuse_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    frames = movie_of([(4, 3, 3)], (30, 30, 50))
    frames[0] = 0  # below the baseline, and alone in its block
    with caplog.at_level(logging.WARNING):
        assert whole_table(frames, batch_px=1500).frame.tolist() == [4]
    assert [record.message[:9] for record in caplog.records] == ["1 frames "]


def test_a_sample_is_looked_at_one_frame_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    movie = ArrayMovie(movie_of([], (400, 8, 8)))
    read = []
    original = movie.read
    monkeypatch.setattr(movie, "read", lambda a, b: read.append((a, b)) or original(a, b))
    check_sample(movie, lambda counts: (counts - 10.0) * 2, (1.0, 9.0))
    assert len(read) == 20
    assert (read[0], read[-1]) == ((0, 1), (399, 400))
    assert all(b == a + 1 for a, b in read)


def test_wrong_camera_units_name_the_setting(caplog: pytest.LogCaptureFixture) -> None:
    refused(
        np.random.default_rng(0).integers(0, 9, (5, 20, 20)).astype(np.uint16),
        "100.0 % .* negative.*camera.baseline_adu.*baseline_adu=",
    )
    frames = np.random.default_rng(0).integers(8, 11, (5, 20, 20)).astype(np.uint16)
    frames[:, :9] = 9
    frames[:, 9] = 12
    with caplog.at_level(logging.WARNING):
        assert len(whole_table(frames)) == 0
    assert "baseline_adu" in caplog.text


@pytest.mark.parametrize(
    ("name", "baseline_adu", "photons_per_adu", "verdict"),
    [
        ("c16_mt0n1ld_as/frames", 100, 1 / 6, "silent"),
        ("c16_mt0n1ld_as/frames", 600, 1 / 6, "silent"),  # too low a baseline shows as background only
        ("c16_mt0n1ld_as/frames", 800, 1 / 6, "warned"),
        ("c16_mt0n1ld_as/frames", 1100, 1 / 6, "refused"),  # peaks of emitters are still above zero
        ("deepstorm3d_tetrapod", 50, 1 / 6, "warned"),
        ("deepstorm3d_tetrapod", 100, 1 / 6, "warned"),  # background-subtracted: must run
        ("deepstorm3d_tetrapod", 100, 1.0, "warned"),
        ("deepstorm3d_tetrapod", 200, 1 / 6, "refused"),
        ("storm_analysis/test_300x200.dax", 100, 1.0, "silent"),
        ("storm_analysis/test_300x200.dax", 200, 1.0, "refused"),
        ("picasso/testdata.raw", 100, 0.5, "silent"),
        ("picasso/testdata.raw", 400, 0.5, "refused"),
    ],
)
def test_wrong_baselines_of_real_movies(
    data_dir: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    baseline_adu: float,
    photons_per_adu: float,
    verdict: str,
) -> None:
    with open_movie(data_dir / name) as movie, caplog.at_level(logging.WARNING):
        try:
            check_sample(movie, lambda counts: (counts - float(baseline_adu)) * photons_per_adu, (1.0, 200.0))
            found = "warned" if "baseline_adu" in caplog.text else "silent"
        except EmitterError as error:
            assert "camera.baseline_adu" in str(error)
            found = "refused"
    assert found == verdict


@pytest.mark.parametrize(("shift", "warned"), [(0, False), (30, True)])
def test_a_background_unlike_the_training_is_named(
    caplog: pytest.LogCaptureFixture, shift: int, warned: bool
) -> None:
    with caplog.at_level(logging.WARNING):
        whole_table(movie_of([]) + np.uint16(shift))
    assert ("62 photons a pixel" in caplog.text and "1 to 9" in caplog.text) == warned


def test_frames_that_are_too_small() -> None:
    refused(movie_of([], (3, 7, 20)), "7×20.*8×8")


def test_nothing_found_is_an_empty_table() -> None:
    assert len(whole_table(movie_of([]))) == 0


def test_settings_out_of_range() -> None:
    with pytest.raises(SettingsError, match="batch_px"):
        Compute(batch_px=10)


@pytest.mark.parametrize("roi", [Region(0, 0, 50, 30), Region(8, 4, 31, 20), Region(41, 20, 50, 30)])
@pytest.mark.parametrize("lean_px", [0.0, 0.6, -0.6])
def test_a_region_has_what_is_found_in_it_in_whole_frames(roi: Region, lean_px: float) -> None:
    rng = np.random.default_rng(5)
    places = [(int(f), int(r), int(c)) for f, r, c in rng.integers(0, (7, 30, 50), (90, 3))]
    frames = movie_of(places)
    tables = replace(localizer(lean_px=lean_px), roi=roi).tables(open_movie(frames))
    found = EmitterTable.concatenate(table for _, table in tables)
    whole = whole_table(frames, lean_px=lean_px)
    left, right = (-np.inf if roi.x0 == 0 else roi.x0), (np.inf if roi.x1 == 50 else roi.x1)
    top, bottom = (-np.inf if roi.y0 == 0 else roi.y0), (np.inf if roi.y1 == 30 else roi.y1)
    x_px, y_px = whole.x_nm / PIXEL.x_nm, whole.y_nm / PIXEL.y_nm
    inside = whole.select((x_px >= left) & (x_px < right) & (y_px >= top) & (y_px < bottom))
    assert 0 < len(found) == len(inside)
    np.testing.assert_allclose(found.x_nm, inside.x_nm)
    np.testing.assert_allclose(found.y_nm, inside.y_nm)
    np.testing.assert_array_equal(found.frame, inside.frame)
    np.testing.assert_array_equal(found.z_nm, inside.z_nm)


def test_what_lies_far_from_a_region_is_not_looked_at() -> None:
    """Such as another channel on the same chip, here 20 photons below zero."""
    roi, frames = Region(2, 2, 20, 12), movie_of([(1, 5, 9), (2, 8, 18), (3, 25, 40)])
    there = EmitterTable.concatenate(t for _, t in replace(localizer(), roi=roi).tables(open_movie(frames)))
    frames[:, 24:], frames[:, :, 32:] = 0, 0
    dark = EmitterTable.concatenate(t for _, t in replace(localizer(), roi=roi).tables(open_movie(frames)))
    assert dark.frame.tolist() == [1, 2]
    np.testing.assert_array_equal(dark.x_nm, there.x_nm)


def test_a_region_of_a_camera_with_maps() -> None:
    roi, frames = Region(8, 4, 31, 20), movie_of([(1, 5, 9), (2, 8, 20)])
    maps = torch.from_numpy(np.random.default_rng(1).uniform(5, 10, (30, 50)).astype(np.float32))
    camera = replace(Camera.build(CameraSettings("scmos", e_per_adu=2.0)), baseline_adu=maps)
    of_region = replace(camera, baseline_adu=maps[roi.inside])
    found, expected = (
        EmitterTable.concatenate(table for _, table in one.tables(open_movie(counts)))
        for one, counts in (
            (replace(localizer(), camera=camera, roi=roi), frames),
            (replace(localizer(), camera=of_region), frames[:, *roi.inside]),
        )
    )
    assert found.frame.tolist() == [1, 2]
    np.testing.assert_array_equal(found.photons, expected.photons)


def test_whole_frames_are_not_kept_for_a_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block holds many frames of a small region: it is read in pieces."""
    monkeypatch.setattr(localizer_module, "_READ_PX", 3 * 30 * 50)
    frames = movie_of([(k, 5, 9) for k in range(40)], (40, 30, 50))
    movie, asked = open_movie(frames), []
    read = movie.read
    monkeypatch.setattr(movie, "read", lambda start, stop: asked.append(stop - start) or read(start, stop))
    tables = replace(localizer(), roi=Region(0, 0, 16, 8)).tables(movie)
    assert [(n_frames, len(table)) for n_frames, table in tables] == [(10, 10)] * 4
    assert max(asked) == 3


def test_a_region_outside_of_the_frame_is_refused() -> None:
    with pytest.raises(EmitterError, match="roi ends at column 51 and row 30"):
        list(replace(localizer(), roi=Region(0, 0, 51, 30)).tables(open_movie(movie_of([]))))
    with pytest.raises(EmitterError, match="at least 8×8"):
        list(replace(localizer(), roi=Region(0, 0, 7, 30)).tables(open_movie(movie_of([(1, 3, 3)]))))


def test_frames_of_a_range_see_their_neighbours_outside_of_it() -> None:
    frames = movie_of([(1, 5, 5), (2, 5, 5), (3, 5, 5), (4, 5, 5)])
    whole = whole_table(frames)
    part = EmitterTable.concatenate(table for _, table in localizer(1500).tables(open_movie(frames), (2, 3)))
    inside = whole.select((whole.frame >= 2) & (whole.frame < 4))
    for name, column in part.columns().items():
        np.testing.assert_array_equal(column, inside.columns()[name])
