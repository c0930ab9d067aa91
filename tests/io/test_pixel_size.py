"""What files say of their pixels, as tifffile, ImageJ and OME write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from emitter.core.units import PixelSize
from emitter.io.movies import open_movie

FRAMES = np.arange(5 * 9 * 10, dtype=np.uint16).reshape(5, 9, 10)


def said_by(path: Path, **options: Any) -> PixelSize | None:
    tifffile.imwrite(path, FRAMES, photometric="minisblack", **options)
    with open_movie(path) as movie:
        return movie.pixel_size


def ome(x: float, y: float, unit: str | None) -> dict[str, Any]:
    sizes: dict[str, Any] = {"axes": "TYX", "PhysicalSizeX": x, "PhysicalSizeY": y}
    if unit is not None:
        sizes |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    return {"ome": True, "metadata": sizes}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (ome(0.1, 0.16, None), (100, 160)),
        (ome(0.1, 0.16, "µm"), (100, 160)),
        (ome(108, 108, "nm"), (108, 108)),
        (ome(1, 1, "pixel"), None),
        ({"imagej": True, "resolution": (10, 6.25), "metadata": {"unit": "um"}}, (100, 160)),
        ({"imagej": True, "resolution": (10, 10), "metadata": {"unit": "micron"}}, (100, 100)),
        ({"imagej": True, "resolution": (0.01, 0.01), "metadata": {"unit": "nm"}}, (100, 100)),
        ({"imagej": True, "resolution": (1, 1), "metadata": {"unit": "pixel"}}, None),
        ({"imagej": True}, None),
        ({"resolution": (1e5, 1e5), "resolutionunit": "CENTIMETER"}, (100, 100)),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (0, 0), "resolutionunit": "CENTIMETER"}, None),
        ({}, None),
    ],
)
def test_every_way_to_say_it(
    tmp_path: Path, options: dict[str, Any], expected: tuple[float, float] | None
) -> None:
    found = said_by(tmp_path / "movie.tif", **options)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert (found.x_nm, found.y_nm) == pytest.approx(expected, rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(size_nm=st.floats(20, 2000))
def test_round_trip_through_imagej(tmp_path_factory: pytest.TempPathFactory, size_nm: float) -> None:
    per_um = 1e3 / size_nm
    path = tmp_path_factory.mktemp("size") / "movie.tif"
    found = said_by(path, imagej=True, resolution=(per_um, per_um), metadata={"unit": "um"})
    assert found is not None and found.x_nm == pytest.approx(size_nm, rel=1e-4)


def test_micro_managers_frames(tmp_path: Path) -> None:
    words = b'{"PixelSizeUm": 0.127, "Exposure-ms": 30}'
    tags = [(51123, 2, len(words) + 1, words, True)]
    found = said_by(tmp_path / "mm.tif", extratags=tags, metadata=None)
    assert found is not None and found.x_nm == pytest.approx(127)


def test_files_of_one_movie_and_a_folder_say_what_the_first_says(tmp_path: Path) -> None:
    for number in (1, 2):
        tifffile.imwrite(tmp_path / f"{number}.tif", FRAMES[0], **ome(0.1, 0.1, None) | {"metadata": None})
    with open_movie(tmp_path) as movie:
        assert movie.pixel_size is None
    for number in (1, 2):
        tifffile.imwrite(
            tmp_path / f"{number}.tif", FRAMES[0], resolution=(1e5, 1e5), resolutionunit="CENTIMETER"
        )
    with open_movie(tmp_path) as movie:
        assert movie.pixel_size == PixelSize(100, 100)


@pytest.mark.parametrize(
    ("file", "expected_nm"),
    [
        ("bthd2013/ArtificialDataset_demo1.tif", 100),
        ("picasso/testdata.raw", 160),
        ("c16_mt0n1ld_as/z-stack-Beads-AS-Exp.tif", None),
        ("c16_mt0n1ld_as/frames/*.tif", None),
    ],
)
def test_real_files(data_dir: Path, file: str, expected_nm: float | None) -> None:
    with open_movie(str(data_dir / file)) as movie:
        found = movie.pixel_size
    assert found is None if expected_nm is None else found == PixelSize.of(expected_nm)
