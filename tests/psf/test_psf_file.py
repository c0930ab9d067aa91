"""psf.h5: what is written is read back; every other file ends with one sentence."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from emitter.core.errors import EmitterError
from emitter.core.units import PixelSize
from emitter.psf import build
from emitter.psf.psf_file import CalibrationInfo, load_psf, save_psf
from emitter.psf.spline import SplinePSF, SplineSettings

PSF = SplinePSF(torch.rand(7, 12, 12, dtype=torch.float64), -300.0, 100.0)
INFO = CalibrationInfo(
    pixel_size=PixelSize(100.0, 110.0),
    z_step_nm=10.0,
    n_beads_used=5,
    n_beads_refused=2,
    centred_on="centroid",
    z_zero="focus",
    centroid_z_nm=np.array([-300.0, 0.0, 300.0]),
    centroid_x_px=np.array([0.1, 0.0, -0.1]),
    centroid_y_px=np.array([0.2, 0.0, -0.2]),
    light=np.array([0.9, 1.0, 0.8]),
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "psf.h5"
    save_psf(path, PSF, INFO)
    return path


def test_what_is_written_is_read_back(saved: Path) -> None:
    psf, info = load_psf(saved)
    torch.testing.assert_close(psf.coefficients_ZCC, PSF.coefficients_ZCC.float())
    assert psf.z_range_nm == PSF.z_range_nm == (-300.0, 100.0)
    assert info.pixel_size == INFO.pixel_size
    assert (info.n_beads_used, info.n_beads_refused, info.centred_on, info.z_zero) == (
        5,
        2,
        "centroid",
        "focus",
    )
    np.testing.assert_array_equal(info.light, INFO.light)
    assert [entry.name for entry in saved.parent.iterdir()] == ["psf.h5"]


def test_build_reads_the_file_and_checks_the_pixel_size(saved: Path) -> None:
    assert isinstance(build(SplineSettings(str(saved)), PixelSize(100.0, 110.0)), SplinePSF)
    with pytest.raises(EmitterError, match="100 × 110 nm"):
        build(SplineSettings(str(saved)), PixelSize(160.0, 160.0))
    with pytest.raises(EmitterError, match=r"psf\.file is not given"):
        build(SplineSettings(), PixelSize(100.0, 110.0))


def test_files_that_are_no_psf_are_named(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(EmitterError, match="is not there"):
        load_psf(tmp_path / "missing.h5")
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["something"] = 1
    with pytest.raises(EmitterError, match="holds no PSF"):
        load_psf(other)
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    with pytest.raises(EmitterError, match="damaged or no HDF5"):
        load_psf(text)
    whole = saved.read_bytes()
    for size in (100, len(whole) // 2, len(whole) - 100):
        saved.write_bytes(whole[:size])
        with pytest.raises(EmitterError, match=r"damaged|lacks a part"):
            load_psf(saved)


def test_a_newer_version_and_broken_contents_are_refused(saved: Path) -> None:
    with h5py.File(saved, "a") as file:
        file["coefficients"][0, 0, 0] = np.nan
    with pytest.raises(EmitterError, match="no numbers"):
        load_psf(saved)
    with h5py.File(saved, "a") as file:
        file.attrs["version"] = 99
    with pytest.raises(EmitterError, match="version 99"):
        load_psf(saved)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmitterError, match="cannot be written"):
        save_psf(tmp_path / "file" / "psf.h5", PSF, INFO)
