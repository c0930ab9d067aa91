"""localize.py: a checkpoint and a movie → a table of emitters and a super-resolved image."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from emitter.app.localize_report import write_localize_report
from emitter.core.errors import EmitterError, require
from emitter.core.precision import has_fast_bfloat16
from emitter.inference.bundle import Bundle, load_bundle
from emitter.inference.localizer import Compute, Localizer
from emitter.inference.turned import check_turnable
from emitter.io.files import prepare_output, replacing
from emitter.io.movie import Movie
from emitter.io.movies import open_movie
from emitter.io.thunderstorm import TableWriter
from emitter.plots.superres import SuperResImage
from emitter.simulation.camera import MAX_ADU

log = logging.getLogger(__name__)


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
    report: bool = True

    def __post_init__(self) -> None:
        require(self.output.suffix == ".csv", f"output is '{self.output}': give the name of a .csv file")
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
        self.compute()

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
    localizer = build_localizer(bundle, settings)
    with open_movie(settings.movie, settings.frame_size_px) as movie:
        field_nm = bundle.pixel_size.to_nm(float(movie.width), float(movie.height))
        z_range_nm = bundle.simulation.z_range_nm if bundle.is_3d else None
        image = None
        if settings.superres_nm is not None:
            image = SuperResImage(field_nm, settings.superres_nm, z_range_nm)
        start = time.monotonic()
        n_emitters = localize(localizer, movie, TableWriter(output, with_z=bundle.is_3d), image)
        frames_per_second = movie.n_frames / (time.monotonic() - start)
        log.info("%d emitters in %d frames, %.3g frames/s", n_emitters, movie.n_frames, frames_per_second)
        log.info("wrote %s", output)
        image_path = None
        if image is not None:
            image_path = output.with_suffix(".png")
            with replacing(image_path) as temporary:
                image.save(temporary)
            log.info("wrote %s", image_path)
        if settings.report:
            log.info("wrote %s", write_localize_report(output, movie, bundle, settings))
        return {
            "n_frames": movie.n_frames,
            "n_emitters": n_emitters,
            "frames_per_second": frames_per_second,
            "table": output,
            "image": image_path,
        }


def build_localizer(bundle: Bundle, settings: Settings) -> Localizer:
    """The checkpoint's localizer with what the user overrides, on the device."""
    compute = settings.compute()
    if compute.turned:
        check_turnable(bundle.psf, bundle.thresholds)
    camera, thresholds = bundle.camera, bundle.thresholds
    if settings.baseline_adu is not None:
        camera = replace(camera, baseline_adu=torch.tensor(float(settings.baseline_adu)))
    if settings.threshold is not None:
        thresholds = replace(thresholds, mass=settings.threshold)
    return Localizer(
        network=bundle.network.to(compute.device),
        camera=camera.to(compute.device),
        scaling=bundle.scaling,
        thresholds=thresholds,
        pixel_size=bundle.pixel_size,
        trained_background=bundle.simulation.background,
        compute=compute,
    )


def localize(localizer: Localizer, movie: Movie, writer: TableWriter, image: SuperResImage | None) -> int:
    """Write the emitters of a movie, block by block, and say where they are if it ends early.

    Returns:
        The number of emitters.
    """
    columns = (
        TextColumn("localizing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames, {task.fields[emitters]} emitters"),
        TimeRemainingColumn(),
    )
    done = 0
    try:
        with writer, Progress(*columns) as progress:
            task = progress.add_task("", total=movie.n_frames, emitters=0)
            for n_frames, table in localizer.tables(movie):
                writer.write(table)
                if image is not None:
                    image.add(table)
                done += n_frames
                progress.update(task, completed=done, emitters=writer.n_rows)
    except (KeyboardInterrupt, EmitterError):
        if writer.n_rows:
            log.warning(
                "stopped early: the %d emitters of the first %d frames are kept in %s",
                writer.n_rows,
                done,
                writer.partial_path,
            )
        raise
    return writer.n_rows
