"""localize.py: a checkpoint and a movie → a table of emitters and a super-resolved image."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from emitter.app.localize_report import report_of
from emitter.app.localizing import Target, job_of, localize, places_of, reformat, written_name
from emitter.app.schema import to_plain
from emitter.app.sureness import told_refiner, with_correction
from emitter.core.errors import require
from emitter.core.precision import has_fast_bfloat16
from emitter.inference.bundle import Bundle, checkpoint_path, load_bundle
from emitter.inference.localizer import Compute, Localizer, Region
from emitter.inference.turned import check_turnable
from emitter.io.acquisition import Acquisition
from emitter.io.files import prepare_output, replacing
from emitter.io.movies import open_movie
from emitter.io.tables import FormatName, format_of
from emitter.plots.superres import SuperResImage
from emitter.simulation.camera import MAX_ADU

log = logging.getLogger(__name__)

# Where the table is, how it is written and what comes with it; of the checkpoint its content counts.
_NOT_OF_THE_TABLE = ("output", "format", "checkpoint", "report")


@dataclass(frozen=True)
class Settings:
    """What conf/localize.yaml says; its comments explain every key."""

    checkpoint: Path
    movie: str
    output: Path
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
    report: bool = True
    format: FormatName | None = None

    def __post_init__(self) -> None:
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
        self.format_name()
        self.compute()
        _ = self.region  # checked by building it

    def format_name(self) -> str:
        """The table's format, from the output's ending unless it is given."""
        return self.format or format_of(self.output)

    @property
    def region(self) -> Region | None:
        """The part of the frame that is looked at; None: all of it."""
        return None if self.roi is None else Region(*self.roi)

    def compute(self) -> Compute:
        """How the movie is predicted."""
        gpu = self.device == "gpu" or (self.device == "auto" and torch.cuda.is_available())
        device = "cuda" if gpu else "cpu"
        precision = self.precision
        if precision == "auto":
            precision = "bf16" if has_fast_bfloat16(device) else "fp32"
        return Compute(self.batch_px, device, precision, self.turned)


def run(settings: Settings) -> dict[str, Any]:
    """Localize; the table and, beside it, the image with the same name and ``.png``.

    Returns:
        ``n_frames``, ``n_emitters``, ``frames_per_second`` and the paths ``table`` and ``image`` (or None).

    Raises:
        EmitterError: a checkpoint or a movie that cannot be used, or an output that cannot be written. What was
            found until then stays in ``<output>.partial``.
    """
    output = prepare_output(settings.output)
    bundle = load_bundle(settings.checkpoint)
    if settings.uncertainty:
        bundle = with_correction(bundle, settings.compute().device)
    localizer = build_localizer(bundle, settings)
    with open_movie(settings.movie, settings.frame_size_px) as movie:
        field_nm = bundle.pixel_size.to_nm(float(movie.width), float(movie.height))
        z_range_nm = bundle.simulation.z_range_nm if bundle.is_3d else None
        image = None
        if settings.superres_nm is not None:
            image = SuperResImage(field_nm, settings.superres_nm, z_range_nm)
        start = time.monotonic()
        places = places_of(movie, settings.frames)
        given = {name: value for name, value in to_plain(settings).items() if name not in _NOT_OF_THE_TABLE}
        job = job_of(checkpoint_path(settings.checkpoint), movie, given)
        written = written_name(output, settings.format_name())
        target = Target(written, bundle.is_3d, settings.uncertainty, job)
        n_emitters, n_now = localize(localizer, movie, places, target, image)
        if written != output:
            last_frame = int(movie.frame_numbers[-1])
            movie_told = Acquisition(bundle.pixel_size, (movie.height, movie.width), last_frame + 1)
            reformat(written, output, settings.format_name(), movie_told)
        frames_per_second = n_now / (time.monotonic() - start)
        log.info("%d emitters in %d frames, %.3g frames/s", n_emitters, len(places), frames_per_second)
        log.info("wrote %s", output)
        image_path = None
        if image is not None:
            image_path = output.with_suffix(".png")
            with replacing(image_path) as temporary:
                image.save(temporary)
            log.info("wrote %s", image_path)
        if settings.report:
            title = f"Localizations of {Path(movie.name).name}"
            looked_at = used(bundle, settings), title, settings.region
            log.info("wrote %s", report_of(output, image_path, movie, places, *looked_at))
        return {
            "n_frames": len(places),
            "n_emitters": n_emitters,
            "frames_per_second": frames_per_second,
            "table": output,
            "image": image_path,
        }


def used(bundle: Bundle, settings: Settings) -> Bundle:
    """The bundle with what the user says of the camera and the threshold."""
    camera, thresholds = bundle.camera, bundle.thresholds
    if settings.baseline_adu is not None:
        camera = replace(camera, baseline_adu=torch.tensor(float(settings.baseline_adu)))
    if settings.threshold is not None:
        thresholds = replace(thresholds, mass=settings.threshold)
    return replace(bundle, camera=camera, thresholds=thresholds)


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
