"""The settings of localize.py, and the localizer that they make of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from emitter.core.errors import require
from emitter.core.precision import has_fast_bfloat16
from emitter.inference.bundle import Bundle
from emitter.inference.localizer import Compute, Localizer
from emitter.inference.turned import check_turnable
from emitter.io.growing import GrowingMovie
from emitter.io.movie import Movie
from emitter.io.movies import open_movie
from emitter.io.region import RegionMovie
from emitter.simulation.camera import MAX_ADU


@dataclass(frozen=True)
class Settings:
    """What conf/localize.yaml says; its comments explain every key."""

    checkpoint: Path
    movie: str | tuple[str, ...]
    output: Path
    each: bool = False
    frames: tuple[int, int] | None = None
    roi: tuple[int, int, int, int] | None = None
    follow_s: float | None = None
    threshold: float | None = None
    baseline_adu: float | None = None
    frame_size_px: tuple[int, int] | None = None
    superres_nm: float | None = 10.0
    resume: bool = True
    devices: int = 1
    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    batch_px: int = 2**18
    turned: bool = False

    def __post_init__(self) -> None:
        require(
            self.each or self.output.suffix == ".csv",
            f"output is '{self.output}': give the name of a .csv file",
        )
        require(
            not self.each or self.output.suffix != ".csv",
            f"output is '{self.output}' and each=true writes a table for every movie: give a folder",
        )
        self._check_part()
        require(
            self.threshold is None or 0 < self.threshold < 1,
            f"threshold is {self.threshold}: give a probability between 0 and 1",
        )
        require(
            self.superres_nm is None or 0 < self.superres_nm <= 1000,
            f"superres_nm is {self.superres_nm}: give the pixel of the image, up to 1000 nm, or null for no image",
        )
        require(
            self.baseline_adu is None or 0 <= self.baseline_adu < MAX_ADU,
            f"baseline_adu is {self.baseline_adu}: give the counts of a dark frame, 0 or more",
        )
        require(
            self.device != "gpu" or torch.cuda.is_available(),
            "device is 'gpu' and there is none: give device=cpu",
        )
        self._check_devices()
        self.compute()

    def _check_part(self) -> None:
        """Which part of the movie."""
        require(
            self.frame_size_px is None or min(self.frame_size_px) >= 1,
            f"frame_size_px is {self.frame_size_px}: give [rows, columns] of the .dax movie's frames",
        )
        first, last = self.frames or (0, 0)
        require(0 <= first <= last, f"frames is [{first},{last}]: give [first,last], counted from 0")
        x0, y0, x1, y1 = self.roi or (0, 0, 1, 1)
        require(
            0 <= x0 < x1 and 0 <= y0 < y1,
            f"roi is [{x0},{y0},{x1},{y1}]: give [x0,y0,x1,y1] in pixels, with x0 < x1 and y0 < y1",
        )
        require(
            self.follow_s is None or self.follow_s > 0,
            f"follow_s is {self.follow_s}: give the seconds without a new frame that end the movie, or null",
        )

    def _check_devices(self) -> None:
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

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU predicts."""
        return self.device == "gpu" or (self.device == "auto" and torch.cuda.is_available())

    def compute(self, rank: int = 0) -> Compute:
        """How the movie is predicted by the process ``rank`` of ``devices``."""
        kind = "cuda" if self.on_gpu else "cpu"
        device = f"cuda:{rank}" if self.on_gpu and self.devices > 1 else kind
        precision = self.precision
        if precision == "auto":
            precision = "bf16" if has_fast_bfloat16(kind) else "fp32"
        return Compute(self.batch_px, device, precision, self.turned)


def open_part(settings: Settings, bundle: Bundle) -> tuple[Movie, tuple[float, float]]:
    """The movie, or the part of its frames that is asked for, and the extent x, y of its whole frames in nm.

    Raises:
        EmitterError: it cannot be read, or does not fit the camera's maps or the region.
    """

    def now() -> Movie:
        return open_movie(settings.movie, settings.frame_size_px, growing=settings.follow_s is not None)

    movie = now() if settings.follow_s is None else GrowingMovie(now, settings.follow_s)
    try:
        bundle.camera.check_frame(movie.height, movie.width)
        field_nm = bundle.pixel_size.to_nm(float(movie.width), float(movie.height))
        return movie if settings.roi is None else RegionMovie(movie, settings.roi), field_nm
    except Exception:
        movie.close()
        raise


def build_localizer(bundle: Bundle, settings: Settings, rank: int = 0) -> Localizer:
    """The checkpoint's localizer with what the user overrides, on the device of this rank."""
    compute = settings.compute(rank)
    if compute.turned:
        check_turnable(bundle.psf, bundle.thresholds)
    camera, thresholds = bundle.camera, bundle.thresholds
    if settings.baseline_adu is not None:
        camera = replace(camera, baseline_adu=torch.tensor(float(settings.baseline_adu)))
    if settings.threshold is not None:
        thresholds = replace(thresholds, mass=settings.threshold)
    origin_px = (0, 0)
    if settings.roi is not None:
        x0, y0, x1, y1 = settings.roi
        camera, origin_px = camera.region(slice(y0, y1), slice(x0, x1)), (x0, y0)
    return Localizer(
        network=bundle.network.to(compute.device),
        camera=camera.to(compute.device),
        scaling=bundle.scaling,
        thresholds=thresholds,
        pixel_size=bundle.pixel_size,
        trained_background=bundle.simulation.background,
        compute=compute,
        origin_px=origin_px,
    )
