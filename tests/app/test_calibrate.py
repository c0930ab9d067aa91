"""calibrate.py from files to psf.h5, its figure and its summary; and what it says when it cannot."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from matplotlib.image import imread

from emitter.app.calibrate import Settings, run
from emitter.core.emitters import Emitters
from emitter.core.errors import EmitterError
from emitter.core.units import PixelSize
from emitter.psf import build, render
from emitter.psf.gaussian import AstigmaticSettings
from emitter.psf.psf_file import load_psf

REPOSITORY = Path(__file__).resolve().parents[2]
PLACES = np.array([[20.3, 21.8], [48.6, 20.4], [21.7, 47.2]])
N_SLICES, SIDE = 31, 68


@pytest.fixture
def beads(tmp_path: Path) -> Path:
    """A stack of three astigmatic beads, −300 … 300 nm in 20 nm steps."""
    psf = build(AstigmaticSettings(), PixelSize(100.0, 100.0))
    n = N_SLICES * len(PLACES)
    places = torch.from_numpy(PLACES).repeat(N_SLICES, 1)
    image = torch.arange(N_SLICES).repeat_interleave(len(PLACES))
    emitters = Emitters(
        N_SLICES, image, places[:, 0], places[:, 1], image * 20.0 - 300.0, torch.full((n,), 20000.0)
    )
    expected = render(psf, emitters, SIDE, SIDE).double().numpy() + 30
    path = tmp_path / "beads.tif"
    tifffile.imwrite(path, np.random.default_rng(0).poisson(expected).astype(np.uint16))
    return path


def settings(stack: Path, output: Path, **changed: object) -> Settings:
    given = {"beads": str(stack), "pixel_size_nm": 100.0, "z_step_nm": 20.0, "output": str(output)}
    return Settings(**{**given, **changed})  # type: ignore[arg-type]


def test_it_writes_the_psf_and_its_figure_and_says_what_it_did(
    beads: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out" / "psf.h5"
    with caplog.at_level(logging.INFO):
        run(settings(beads, output))
    psf, info = load_psf(output)
    assert psf.z_range_nm == (-300.0, 300.0)
    assert (info.n_beads_used, info.centred_on, info.z_zero) == (3, "centroid", "stack_centre")
    picture = imread(output.with_suffix(".png"))
    assert min(picture.shape[:2]) > 500
    assert picture[..., :3].std() > 0.05
    assert sorted(entry.name for entry in output.parent.iterdir()) == ["psf.h5", "psf.png"]
    assert "beads: 3 used, 0 refused" in caplog.text
    assert "z range: -300 to 300 nm" in caplog.text
    in_focus = re.search(r"z +\+0 nm: 1000 photons +(\S+) / +(\S+) / +(\S+), 5000", caplog.text)
    assert in_focus is not None
    x_nm, y_nm, z_nm = (float(one) for one in in_focus.groups())
    # Mortensen's bound of a Gaussian of the width in focus, sqrt(1.25) · 130 nm: 10 nm at background 50.
    assert 7 < x_nm < 14 and 7 < y_nm < 14 and 15 < z_nm < 60


def test_the_truth_of_a_table_is_the_centre(beads: Path, tmp_path: Path) -> None:
    table = tmp_path / "truth.csv"
    rows = [
        f"{k * 3 + n},{k + 1},{x * 100 - 20},{y * 100 + 10},{k * 20 - 280},20000"
        for k in range(N_SLICES)
        for n, (x, y) in enumerate(PLACES)
    ]
    table.write_text("\n".join(["Ground-truth,frame,xnano,ynano,znano,intensity", *rows]))
    output = tmp_path / "psf.h5"
    run(settings(beads, output, truth=str(table)))
    psf, info = load_psf(output)
    assert (info.centred_on, info.z_zero) == ("truth", "truth")
    assert psf.z_range_nm == pytest.approx((-280.0, 320.0))
    assert info.centroid_x_px.mean() == pytest.approx(0.2, abs=0.02)
    assert info.centroid_y_px.mean() == pytest.approx(-0.1, abs=0.02)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("z_step_nm", "z_step_nm is not given"),
        ("pixel_size_nm", "pixel_size_nm is not given"),
        ("beads", "beads is not given"),
    ],
)
def test_what_only_the_user_knows_is_asked_for(tmp_path: Path, missing: str, message: str) -> None:
    with pytest.raises(EmitterError, match=message):
        settings(tmp_path / "beads.tif", tmp_path / "psf.h5", **{missing: None})


def test_inputs_that_give_no_psf_leave_nothing_behind(beads: Path, tmp_path: Path) -> None:
    stack = tifffile.imread(beads)
    output = tmp_path / "out" / "psf.h5"
    spoilt = stack.astype(np.float32)
    spoilt[3, 2, 1] = np.nan
    files = {
        "one slice": (stack[:1], "1 slice"),
        "RGB": (np.zeros((31, 40, 40, 3), np.uint8), "RGB|colour"),
        "NaN": (spoilt, "NaN"),
        "constant": (np.full_like(stack, 100), "constant"),
        "saturated": (np.minimum(stack, 200), "saturated"),
        "empty": (np.random.default_rng(0).poisson(100, stack.shape).astype(np.uint16), "no beads"),
    }
    for name, (pixels, message) in files.items():
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, pixels, photometric="rgb" if name == "RGB" else "minisblack")
        with pytest.raises(EmitterError, match=message):
            run(settings(path, output))
    with pytest.raises(EmitterError, match="does not exist"):
        run(settings(tmp_path / "missing.tif", output))
    truncated = tmp_path / "truncated.tif"
    truncated.write_bytes(beads.read_bytes()[: beads.stat().st_size // 2])
    with pytest.raises(EmitterError, match=r"truncated\.tif"):
        run(settings(truncated, output))
    assert list(output.parent.iterdir()) == []


def test_the_output_is_never_an_image(tmp_path: Path) -> None:
    with pytest.raises(EmitterError, match=r"\.h5"):
        settings(tmp_path / "beads.tif", tmp_path / "beads.tif")


def test_an_output_that_cannot_be_written_is_named_first(beads: Path, tmp_path: Path) -> None:
    with pytest.raises(EmitterError, match="cannot be written"):
        run(settings(beads, beads / "psf.h5"))
    with pytest.raises(EmitterError, match="output is"):
        settings(beads, tmp_path / "psf.png")


def test_the_command_line_ends_with_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "calibrate.py", "beads=beads.tif", "pixel_size_nm=100"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "error: z_step_nm is not given: give the step between the bead stack's slices in nm, as z_step_nm=10"
    ]


def test_the_zlib_compressed_challenge_stack(data_dir: Path, tmp_path: Path) -> None:
    stack = data_dir / "c16_mt0n1ld_as" / "z-stack-Beads-2D-Exp.tif"
    output = tmp_path / "psf.h5"
    run(settings(stack, output, z_step_nm=10.0))
    psf, info = load_psf(output)
    assert info.n_beads_used == 6
    assert psf.z_range_nm == (-750.0, 750.0)
