"""Movies that cannot be read whole end in one sentence that names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from emitter.core.errors import EmitterError
from emitter.io.movies import open_movie

FRAME = np.zeros((12, 10), np.uint16)


def refused(source: object, *words: str) -> None:
    with pytest.raises(EmitterError) as caught:
        open_movie(source)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "nope.tif", "nope.tif", "does not exist")
    refused([tmp_path / "nope.tif"], "nope.tif", "does not exist")
    refused(str(tmp_path / "*.tif"), "no file matches")
    refused([], "empty")


@pytest.mark.parametrize("share", [0.0003, 0.02, 0.3, 0.5, 0.97])
@pytest.mark.parametrize(
    "name",
    [
        "bthd2013/ArtificialDataset_demo1.tif",
        "c16_mt0n1ld_as/z-stack-Beads-2D-Exp.tif",
        "c16_mt0n1ld_as/frames/00001.tif",
    ],
)
def test_truncated_tiff(data_dir: Path, tmp_path: Path, name: str, share: float) -> None:
    content = (data_dir / name).read_bytes()
    cut = tmp_path / "cut.tif"
    cut.write_bytes(content[: int(len(content) * share)])
    refused(cut, "cut.tif")


@pytest.mark.parametrize(
    "options", [{}, {"metadata": None}, {"ome": True}, {"bigtiff": True}, {"imagej": True}]
)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_stack_of_every_writer(tmp_path: Path, options: dict, share: float) -> None:
    whole, cut = (
        tmp_path / "whole.ome.tif" if "ome" in options else tmp_path / "whole.tif",
        tmp_path / "cut.tif",
    )
    tifffile.imwrite(whole, np.zeros((20, 30, 40), np.uint16), **options)
    content = whole.read_bytes()
    cut.write_bytes(content[: int(len(content) * share)])
    refused(cut, "cut.tif", "truncated")


def test_truncated_dax_and_raw(data_dir: Path, tmp_path: Path) -> None:
    for folder, name, info in (
        ("storm_analysis", "test_300x200.dax", ".inf"),
        ("picasso", "testdata.raw", ".yaml"),
    ):
        source = data_dir / folder / name
        cut = tmp_path / name
        content = source.read_bytes()
        for size in (len(content) // 2, len(content) // 2 + 7):
            cut.write_bytes(content[:size])
            cut.with_suffix(info).write_bytes(source.with_suffix(info).read_bytes())
            refused(cut, name, "truncated")


def test_flat_movie_without_its_text_file(tmp_path: Path) -> None:
    for name, info in (("movie.dax", "movie.inf"), ("movie.raw", "movie.yaml")):
        (tmp_path / name).write_bytes(b"\0" * 200)
        refused(tmp_path / name, name, info)
        (tmp_path / info).write_text("nothing of use")
        refused(tmp_path / name, info, "lacks")


def test_frame_size_of_a_movie_that_tells_its_own(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "movie.tif", FRAME)
    with pytest.raises(EmitterError, match=r"movie\.tif tells its frame size itself.*frame_size_px"):
        open_movie(tmp_path / "movie.tif", frame_shape_HW=FRAME.shape)


def test_colour_image(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((12, 10, 3), np.uint8), photometric="rgb")
    refused(tmp_path / "rgb.tif", "rgb.tif", "colour")


def test_colour_image_in_planes(tmp_path: Path) -> None:
    options = {"photometric": "rgb", "planarconfig": "separate", "metadata": None, "software": False}
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((3, 12, 10), np.uint16), **options)
    refused(tmp_path / "rgb.tif", "rgb.tif", "colour")


def test_not_an_image(tmp_path: Path) -> None:
    for content in (b"", b"frame,x,y\n1,2,3\n", b"II*\0nonsense that follows the magic"):
        (tmp_path / "notes.tif").write_bytes(content)
        refused(tmp_path / "notes.tif", "notes.tif")
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY\x01\x00")
    refused(tmp_path / "broken.npy", "broken.npy")


def test_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no movie here")
    refused(tmp_path, "no TIFF file")


def test_files_of_different_sizes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "1.tif", FRAME)
    tifffile.imwrite(tmp_path / "2.tif", FRAME.T)
    refused(tmp_path, "1.tif 12×10", "2.tif 10×12")


def test_pages_of_different_sizes(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "mixed.tif") as writer:
        writer.write(FRAME)
        writer.write(FRAME.T)
    refused(tmp_path / "mixed.tif", "mixed.tif", "series")


def test_hyperstack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "hyper.tif", np.zeros((3, 2, 12, 10), np.uint16), imagej=True)
    refused(tmp_path / "hyper.tif", "axes", "(3, 2, 12, 10)")


@pytest.mark.parametrize("dtype", ["complex64", "int64", "float64", "bool"])
def test_unsupported_pixel_type(tmp_path: Path, dtype: str) -> None:
    refused(FRAME.astype(dtype), dtype, "uint16")
    tifffile.imwrite(tmp_path / "movie.tif", FRAME.astype(dtype))
    refused(tmp_path / "movie.tif", "movie.tif", dtype)


def test_arrays_of_other_dimensions() -> None:
    refused(np.zeros((2, 3, 4, 5), np.uint16), "4 dimensions")
    refused(np.zeros(5, np.uint16), "1 dimensions")
    refused(np.zeros((0, 4, 5), np.uint16), "no pixels")


def test_damage_inside_the_pixels_names_the_frames(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 99, (5, 30, 40)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "movie.tif", frames, compression="zlib")
    with tifffile.TiffFile(tmp_path / "movie.tif") as tiff:
        offset = tiff.pages[1].dataoffsets[0]
    content = bytearray((tmp_path / "movie.tif").read_bytes())
    content[offset : offset + 20] = b"\xff" * 20
    (tmp_path / "movie.tif").write_bytes(content)
    with open_movie(tmp_path / "movie.tif") as movie, pytest.raises(EmitterError, match="frames 1 to 2"):
        movie.read(1, 3)
