"""Simulate a movie and its truth: to plan an acquisition, or to test any localizer."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import tifffile
from rich.progress import Progress

from emitter.app.given import given_here, warn_of_unused_flux
from emitter.app.launch import conf_dir
from emitter.core.errors import require
from emitter.core.table import EmitterTable
from emitter.io.files import prepare_output, writing
from emitter.io.tables import write_table
from emitter.psf import build
from emitter.psf.gaussian import AstigmaticSettings, GaussianSettings
from emitter.psf.spline import SplineSettings
from emitter.simulation.camera import MAX_ADU, Camera, CameraSettings
from emitter.simulation.settings import SimulationSettings
from emitter.simulation.simulator import Simulator

log = logging.getLogger(__name__)

_BIGTIFF_FROM_BYTES = 2**32 - 2**25
_CLIPPED_WARNING = 0.001


@dataclass(frozen=True)
class Settings:
    """What conf/simulate.yaml says; its comments explain every key. An experiment says more, to train.py."""

    IGNORED: ClassVar[tuple[str, ...]] = ("name", "budget")

    psf: GaussianSettings | AstigmaticSettings | SplineSettings
    camera: CameraSettings
    simulation: SimulationSettings
    output: Path
    n_frames: int = 1000
    seed: int = 1
    frame_size_px: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        require(self.n_frames >= 1, f"n_frames is {self.n_frames}: give 1 or more")
        require(0 <= self.seed < 2**63, f"seed is {self.seed}: give a number from 0 to 2^63 - 1")
        require(
            self.output.suffix in (".tif", ".tiff"),
            f"output is '{self.output}': give the name of a .tif file",
        )


def run(settings: Settings) -> None:
    """Write the movie and ``NAME_truth.csv`` beside it."""
    output = prepare_output(settings.output)
    truth_path = prepare_output(output.with_name(f"{output.stem}_truth.csv"))
    camera = Camera.build(settings.camera)
    simulation = settings.simulation
    warn_of_unused_flux(simulation.flux, given_here(conf_dir()))
    # a camera with maps makes frames of their size, which is what a network for it takes
    frame_size_px = settings.frame_size_px or camera.map_shape or simulation.frame_size_px
    simulation = replace(simulation, frame_size_px=frame_size_px)
    simulator = Simulator(simulation, build(settings.psf, camera.pixel_size), camera)
    height, width = simulation.frame_size_px
    per_cm = (1e7 / camera.pixel_size.x_nm, 1e7 / camera.pixel_size.y_nm)
    truth = []
    n_clipped = 0
    large = 2 * height * width * settings.n_frames > _BIGTIFF_FROM_BYTES
    with (
        writing(output) as temporary,
        tifffile.TiffWriter(temporary, bigtiff=large) as tiff,
        Progress() as bar,
    ):
        task = bar.add_task("simulating", total=settings.n_frames)
        for counts_nHW, emitters in simulator.movie(settings.seed, settings.n_frames):
            n_clipped += int((counts_nHW >= MAX_ADU).sum())
            for frame_HW in counts_nHW.numpy().astype(np.uint16):
                tiff.write(frame_HW, contiguous=True, resolution=per_cm, resolutionunit="CENTIMETER")
            truth.append(EmitterTable.from_emitters(emitters, camera.pixel_size))
            bar.advance(task, len(counts_nHW))
    share = n_clipped / (settings.n_frames * height * width)
    if share > _CLIPPED_WARNING:
        log.warning(
            "%.1f %% of the pixels are saturated: lower the flux, or raise camera.e_per_adu", 100 * share
        )
    table = EmitterTable.concatenate(truth)
    write_table(truth_path, table)
    log.info("%d frames of %d×%d px in %s", settings.n_frames, height, width, output)
    log.info("their %d emitters in %s", len(table), truth_path)
