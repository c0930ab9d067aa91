"""The settings of localize.py, and the localizer that they make of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from emitter.app.sureness import told_refiner
from emitter.core.decoding import Thresholds
from emitter.core.errors import require
from emitter.core.precision import has_fast_bfloat16
from emitter.inference.bundle import Bundle
from emitter.inference.localizer import Compute, Localizer, Region
from emitter.inference.turned import check_turnable
from emitter.io.growing import GrowingMovie
from emitter.io.movie import Movie
from emitter.io.movies import open_movie
from emitter.io.tables import FORMATS, FormatName, format_of
from emitter.simulation.camera import MAX_ADU


@dataclass(frozen=True)
class Settings:
    """What conf/localize.yaml says; its comments explain every key."""

    checkpoint: Path
    movie: str | tuple[str, ...]
    output: Path
    each: bool = False
    threshold: float | None = None
    baseline_adu: float | None = None
    frame_size_px: tuple[int, int] | None = None
    superres_nm: float | None = 10.0
    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    batch_px: int = 2**18
    turned: bool = False
    uncertainty: bool = True
    refine: Literal["map"] | None = None
    frames: tuple[int, int] | None = None
    roi: tuple[int, int, int, int] | None = None
    follow_s: float | None = None
    devices: int = 1
    report: bool = True
    format: FormatName | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None:
            Thresholds(self.threshold)  # checked by building it
        require(
            self.superres_nm is None or 0 < self.superres_nm <= 1000,
            f"superres_nm is {self.superres_nm}: give the pixel of the image, up to 1000 nm, or null for no image",
        )
        require(
            self.baseline_adu is None or 0 <= self.baseline_adu < MAX_ADU,
            f"baseline_adu is {self.baseline_adu}: give the counts of a dark frame, 0 or more",
        )
        require(
            self.frame_size_px is None or min(self.frame_size_px) >= 1,
            f"frame_size_px is {self.frame_size_px}: give [rows, columns] of the .dax movie's frames",
        )
        require(
            self.device != "gpu" or torch.cuda.is_available(),
            "device is 'gpu' and there is none: give device=cpu",
        )
        require(
            self.refine is None or self.uncertainty,
            "refine=map weighs the network's answer by its uncertainty, and uncertainty is false: leave one out",
        )
        first, last = self.frames or (0, 0)
        require(
            0 <= first <= last,
            f"frames is [{first},{last}]: give [first,last], both included, counted from 0",
        )
        self._check_output()
        self._check_devices()
        self.compute()
        _ = self.region  # checked by building it

    def _check_output(self) -> None:
        if not self.each:
            self.format_name()
            require(
                self.output.suffix != ".png" or self.superres_nm is None,
                f"output is '{self.output}', which is the image's name: give another ending, or superres_nm=null",
            )
            return
        require(
            self.output.suffix not in {known.suffix for known in FORMATS.values()},
            f"output is '{self.output}' and each=true writes a table for every movie: give a folder",
        )

    def _check_devices(self) -> None:
        require(
            self.follow_s is None or self.follow_s > 0,
            f"follow_s is {self.follow_s}: give the seconds without a new frame that end the movie, or null",
        )
        require(self.devices >= 1, f"devices is {self.devices}: give 1 or more processes")
        require(
            self.devices == 1 or self.follow_s is None,
            "follow_s is set with several devices, which could not agree on the movie's end: give devices=1",
        )
        n_gpus = torch.cuda.device_count() if self.on_gpu else self.devices
        require(
            self.devices <= n_gpus,
            f"devices is {self.devices} and there are {n_gpus} GPUs: give at most that, or device=cpu",
        )

    def format_name(self) -> str:
        """The table's format, from the output's ending unless it is given."""
        return self.format or ("thunderstorm" if self.each else format_of(self.output))

    def open(self) -> Movie:
        """The movie.

        Raises:
            EmitterError: it cannot be read.
        """
        if self.follow_s is None:
            return open_movie(self.movie, self.frame_size_px)
        return GrowingMovie(partial(open_movie, self.movie, self.frame_size_px, growing=True), self.follow_s)

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU predicts."""
        return self.device == "gpu" or (self.device == "auto" and torch.cuda.is_available())

    @property
    def region(self) -> Region | None:
        """The part of the frame that is looked at; None: all of it."""
        return None if self.roi is None else Region(*self.roi)

    def compute(self) -> Compute:
        """How the movie is predicted."""
        device = "cuda" if self.on_gpu else "cpu"
        precision = self.precision
        if precision == "auto":
            precision = "bf16" if has_fast_bfloat16(device) else "fp32"
        return Compute(self.batch_px, device, precision, self.turned)


def used(bundle: Bundle, settings: Settings) -> Bundle:
    """The bundle with what the user says of the camera and the threshold."""
    camera = bundle.camera
    if settings.baseline_adu is not None:
        camera = replace(camera, baseline_adu=torch.tensor(float(settings.baseline_adu)))
    return replace(bundle, camera=camera).with_threshold(settings.threshold)


def build_localizer(bundle: Bundle, settings: Settings) -> Localizer:
    """The checkpoint's localizer with what the user overrides, on the device."""
    compute = settings.compute()
    if compute.turned:
        check_turnable(bundle.psf, bundle.thresholds)
    bundle = used(bundle, settings)
    return Localizer(
        network=bundle.network.to(compute.device),
        camera=bundle.camera.to(compute.device),
        scaling=bundle.scaling,
        thresholds=bundle.thresholds,
        pixel_size=bundle.pixel_size,
        trained_background=bundle.simulation.background,
        compute=compute,
        uncertainty=bundle.uncertainty() if settings.uncertainty else None,
        roi=settings.region,
        refiner=None if settings.refine is None else told_refiner(bundle),
    )
