"""A bead stack → psf.h5, psf.png and a summary."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from emitter.core.errors import EmitterError, require
from emitter.core.units import PixelSize
from emitter.io.files import prepare_output, writing
from emitter.io.movies import open_movie
from emitter.io.tables import read_table
from emitter.metrics.crlb import crlb
from emitter.plots.calibration import plot_calibration
from emitter.psf.calibration import BeadTruth, Calibration, CalibrationSettings, calibrate
from emitter.psf.psf_file import save_psf

log = logging.getLogger(__name__)

_PHOTONS = (1000.0, 5000.0)  # levels of the summary's precision
_BACKGROUND = 50.0  # photons per pixel of the same


@dataclass(frozen=True)
class Settings:
    """What calibrate.py is told; conf/calibrate.yaml says what each is."""

    beads: str | None = None
    pixel_size_nm: float | tuple[float, float] | None = None
    z_step_nm: float | None = None
    output: str = "psf.h5"
    truth: str | None = None
    z_zero: str = "stack_centre"
    radius_px: int | None = None

    def __post_init__(self) -> None:
        require(self.beads is not None, "beads is not given: give the z-stack of beads as beads=FILE")
        require(
            self.pixel_size_nm is not None,
            "pixel_size_nm is not given: give the camera's pixel size in the sample in nm, as pixel_size_nm=100",
        )
        require(
            self.z_step_nm is not None,
            "z_step_nm is not given: give the step between the bead stack's slices in nm, as z_step_nm=10",
        )
        require(
            Path(self.output).suffix.lower() in (".h5", ".hdf5"),
            f"output is {self.output}: give the name of a .h5 file, such as psf.h5; its figure takes .png",
        )
        self.calibration()

    def calibration(self, truth: BeadTruth | None = None) -> CalibrationSettings:
        """The settings of the calibration, checked."""
        assert self.pixel_size_nm is not None and self.z_step_nm is not None
        pixel_size = PixelSize.of(self.pixel_size_nm)
        return CalibrationSettings(pixel_size, self.z_step_nm, self.z_zero, self.radius_px, truth)


def run(settings: Settings) -> None:
    """Calibrate; write the PSF and its figure; log the summary.

    Raises:
        EmitterError: when an input cannot be used; nothing is written then.
    """
    assert settings.beads is not None
    output = prepare_output(Path(settings.output))
    figure = prepare_output(output.with_suffix(".png"))
    pixel_size = settings.calibration().pixel_size
    with open_movie(settings.beads) as movie:
        stack_ZHW = movie.read(0, len(movie))
    truth = _read_truth(Path(settings.truth), pixel_size, len(stack_ZHW)) if settings.truth else None
    calibration = calibrate(stack_ZHW, settings.calibration(truth))
    with writing(figure) as temporary:
        plot_calibration(calibration, temporary)
    save_psf(output, calibration.psf, calibration.info)
    for line in summary(calibration):
        log.info(line)
    log.info("wrote %s and %s", output, figure)


def _read_truth(path: Path, pixel_size: PixelSize, n_slices: int) -> BeadTruth:
    """The beads' positions: those of the table's first frame. Its z, when it has one for every slice."""
    table = read_table(path, pixel_size)
    if not len(table):
        raise EmitterError(f"truth {path} holds no bead: give a table of the beads' positions")
    first = table.select(table.frame == table.frame.min())
    x_px, y_px = pixel_size.to_px(first.x_nm, first.y_nm)
    known = len(np.unique(table.frame)) == n_slices and bool(np.isfinite(table.z_nm).all())
    return BeadTruth(x_px, y_px, float(table.z_nm.mean()) if known else 0.0)


def summary(calibration: Calibration) -> list[str]:
    """The lines that a user reads: beads, range, centre and expected precision."""
    info, psf = calibration.info, calibration.psf
    reasons = Counter(bead.refused for bead in calibration.beads if bead.refused)
    low, high = psf.z_range_nm
    lines = [f"beads: {info.n_beads_used} used, {info.n_beads_refused} refused"]
    lines += [f"  refused {n}: {reason}" for reason, n in reasons.items()]
    if info.n_beads_used == 1:
        lines.append("  a single bead's noise stays in the PSF: more beads make a better one")
    lines += [
        f"z range: {low:.0f} to {high:.0f} nm in steps of {info.z_step_nm:g} nm, z = 0 at the "
        f"{info.z_zero.replace('_', ' ')}",
        f"patch: {psf.patch_px} × {psf.patch_px} px; light in it {info.light.min():.2f} to "
        f"{info.light.max():.2f} of that in focus",
    ]
    return lines + _offset_lines(calibration) + _precision_lines(calibration)


def _offset_lines(calibration: Calibration) -> list[str]:
    """The centroid relative to the PSF's centre at five z."""
    info = calibration.info
    centre = {"truth": "the beads' true position", "centroid": "the centroid of the light in focus"}
    lines = [f"centre: {centre[info.centred_on]}; the PSF's centroid lies off it by"]
    for z_nm in np.linspace(*calibration.psf.z_range_nm, 5):
        x = np.interp(z_nm, info.centroid_z_nm, info.centroid_x_px)
        y = np.interp(z_nm, info.centroid_z_nm, info.centroid_y_px)
        x_nm, y_nm = info.pixel_size.to_nm(float(x), float(y))
        lines.append(f"  z {z_nm:+6.0f} nm: x {x:+.2f} px ({x_nm:+.0f} nm), y {y:+.2f} px ({y_nm:+.0f} nm)")
    return lines


def _precision_lines(calibration: Calibration) -> list[str]:
    """The least standard deviations in x, y, z (CRLB) at two photon levels, Poisson noise alone."""
    psf = calibration.psf
    z_nm = torch.linspace(*psf.z_range_nm, 7, dtype=torch.float64)[1:-1]
    background = torch.full_like(z_nm, _BACKGROUND)
    lines = [
        f"best precision (CRLB, x / y / z in nm; background {_BACKGROUND:g} photons per pixel, no EM gain):"
    ]
    bounds = [
        crlb(psf, _poisson, calibration.info.pixel_size, z_nm, torch.full_like(z_nm, photons), background)
        for photons in _PHOTONS
    ]
    for n, z in enumerate(z_nm.tolist()):
        parts = [
            f"{photons:g} photons {bound.x_nm[n]:5.1f} / {bound.y_nm[n]:5.1f} / {bound.z_nm[n]:5.1f}"
            for photons, bound in zip(_PHOTONS, bounds, strict=True)
        ]
        lines.append(f"  z {z:+6.0f} nm: " + ", ".join(parts))
    return lines


def _poisson(photons: Tensor) -> Tensor:
    """Variance of an ideal camera: the photons themselves."""
    return photons.clamp(min=1e-3)  # a fitted PSF can dip below zero in its tails
