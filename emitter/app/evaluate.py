"""evaluate.py: a table of localizations against its truth, or a checkpoint on its own held-out simulation."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from emitter.app.evaluate_report import report_of
from emitter.app.examples import ShownFrames
from emitter.app.given import warn_of_unused_flux
from emitter.app.held_out import held_out_frames, held_out_tables
from emitter.app.schema import build, to_plain
from emitter.app.scoring import METRICS_FILE, Scored, offset_note, score, show, write_report
from emitter.app.sureness import told_refiner, with_correction
from emitter.core.decoding import Thresholds
from emitter.core.errors import EmitterError, require
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.inference.bundle import load_bundle
from emitter.io.files import leaving_no_empty, prepare_output
from emitter.io.movie import Movie
from emitter.io.movies import open_movie
from emitter.io.tables import read_table
from emitter.metrics.crlb import CRLB, table_crlb
from emitter.metrics.offset import estimate_offset, without_offset
from emitter.metrics.pixel_bias import pixel_bias
from emitter.metrics.protocol import FieldNm, protocol_named
from emitter.metrics.uncertainty import uncertainty_scores
from emitter.simulation.settings import SimulationSettings

log = logging.getLogger(__name__)

_ROUND_FIELD_TO_NM = 100.0  # when neither the field nor the pixel size is given


@dataclass(frozen=True)
class Settings:
    """What conf/evaluate.yaml says; its comments explain every key."""

    output: Path
    localizations: Path | None = None
    truth: Path | None = None
    checkpoint: Path | None = None
    protocol: str = "challenge2016"
    axial: bool = True
    field_size_nm: float | tuple[float, float] | None = None
    pixel_size_nm: float | tuple[float, float] | None = None
    frames: tuple[int, int] | None = None
    remove_offset: bool = False
    movie: str | None = None
    frame_size_px: tuple[int, int] | None = None
    samples: int = 1000
    threshold: float | None = None
    turned: bool = False
    refine: Literal["map"] | None = None
    simulation: dict[str, Any] = field(default_factory=dict)
    report: bool = True

    def __post_init__(self) -> None:
        require(
            (self.localizations is None) != (self.checkpoint is None),
            "evaluate.py takes either a table or a checkpoint: give localizations=TABLE truth=TABLE, "
            "or checkpoint=CKPT",
        )
        require(
            (self.localizations is None) == (self.truth is None),
            "a table of localizations and its truth belong together: give localizations=TABLE truth=TABLE",
        )
        require(
            not self.simulation or self.checkpoint is not None,
            "simulation says on what a checkpoint is scored, and there are tables here: leave it out",
        )
        for name, given in (
            ("threshold", self.threshold is not None),
            ("turned", self.turned),
            ("refine", self.refine is not None),
        ):
            require(
                not given or self.checkpoint is not None,
                f"{name} says how a checkpoint predicts, and there are tables here: leave it out",
            )
        if self.threshold is not None:
            Thresholds(self.threshold)  # checked by building it
        require(
            self.movie is None or self.report,
            "movie is for the report, and report is false: leave one of them out",
        )
        protocol_named(self.protocol)
        require(self.samples >= 1, f"samples is {self.samples}: give 1 or more simulated frames")
        for size_nm in self.field_nm or ():
            require(
                math.isfinite(size_nm) and size_nm > 0,
                f"field_size_nm is {self.field_size_nm}: give the extent of the field in nm as [x,y]",
            )
        _ = self.pixel_size  # checked by building it
        first, last = self.frames or (0, 0)
        require(0 <= first <= last, f"frames is [{first}, {last}]: give [first,last], counted from 0")

    @property
    def field_nm(self) -> FieldNm | None:
        """The field's size as (x, y), nm."""
        size = self.field_size_nm
        return (float(size), float(size)) if isinstance(size, (int, float)) else size

    @property
    def pixel_size(self) -> PixelSize | None:
        """The pixel size, when it is given."""
        return None if self.pixel_size_nm is None else PixelSize.of(self.pixel_size_nm)


def run(settings: Settings) -> dict[str, Any]:
    """Score, write ``metrics.json`` and show the figures, which are returned too.

    Raises:
        EmitterError: a table that cannot be read, truth without rows, or an output that cannot be written.
    """
    with leaving_no_empty(settings.output):
        prepare_output(settings.output / METRICS_FILE)
        return _run(settings)


def _run(settings: Settings) -> dict[str, Any]:
    with _opened(settings) as movie:
        if movie is not None:
            settings = _with_field(settings, movie)
        scored = (
            evaluate_tables(settings)
            if settings.checkpoint is None
            else evaluate_checkpoint(settings.checkpoint, settings)
        )
        metrics = scored.metrics
        path = write_report(metrics, settings.output)
        for note in metrics["notes"]:
            log.warning(note)
        show(metrics)
        log.info("wrote %s", path)
        if settings.report:
            shown = frames_behind(scored, settings, movie)
            log.info("wrote %s", report_of(scored, settings.output, shown, movie))
    return metrics


def _opened(settings: Settings) -> AbstractContextManager[Movie | None]:
    """The movie, where one is given, before any work."""
    if settings.movie is None:
        return nullcontext()
    movie = open_movie(settings.movie, settings.frame_size_px)
    try:
        if settings.checkpoint is None:
            pixel_size_of(settings, movie)
    except EmitterError:
        movie.close()
        raise
    return movie


def _with_field(settings: Settings, movie: Movie) -> Settings:
    """The field of tables is their movie's unless it is given."""
    if settings.checkpoint is not None or settings.field_nm is not None:
        return settings
    field_nm = pixel_size_of(settings, movie).to_nm(float(movie.width), float(movie.height))
    return replace(settings, field_size_nm=field_nm)


def frames_behind(scored: Scored, settings: Settings, movie: Movie | None) -> ShownFrames | None:
    """The frames that the tables are of: of a network the simulated ones, of tables the movie's; None without."""
    if scored.bundle is not None:
        bundle = scored.bundle
        return ShownFrames(
            np.arange(settings.samples),
            lambda numbers: held_out_frames(bundle, numbers),
            "photons per pixel",
            bundle.pixel_size,
        )
    if movie is None:
        return None

    def read(numbers: Sequence[int]) -> np.ndarray:
        places = np.searchsorted(movie.frame_numbers, numbers).tolist()
        return np.concatenate([movie.read(place, place + 1) for place in places])

    return ShownFrames(movie.frame_numbers, read, "counts", pixel_size_of(settings, movie))


def pixel_size_of(settings: Settings, movie: Movie) -> PixelSize:
    """The movie's: as given, as its file says, or the given field over its frame.

    Raises:
        EmitterError: when none of them is known.
    """
    if (known := settings.pixel_size or movie.pixel_size) is not None:
        return known
    if (field_nm := settings.field_nm) is not None:
        return PixelSize(field_nm[0] / movie.width, field_nm[1] / movie.height)
    raise EmitterError(
        f"{movie.name} does not say the size of its pixels, so the tables cannot be drawn on its frames: give "
        "pixel_size_nm="
    )


def evaluate_tables(settings: Settings) -> Scored:
    """The metrics of a table of localizations against its truth."""
    if settings.localizations is None or settings.truth is None:
        raise EmitterError("there are no tables to evaluate: give localizations=TABLE truth=TABLE")
    predicted = in_frames(read_table(settings.localizations, settings.pixel_size), settings.frames)
    truth = in_frames(read_table(settings.truth, settings.pixel_size), settings.frames)
    if not len(truth):
        where = "" if settings.frames is None else f" in frames {settings.frames[0]} to {settings.frames[1]}"
        raise EmitterError(f"truth {settings.truth} has no emitters{where}: give a truth table with rows")
    protocol = replace(protocol_named(settings.protocol), axial=settings.axial)
    field_nm = settings.field_nm
    notes = [*frame_notes(predicted, truth), *field_notes(predicted, truth, field_nm)]
    if field_nm is None and protocol.border_nm > 0:
        field_nm = estimated_field(predicted, truth, settings.pixel_size)
        notes.append(
            f"field_size_nm is not given: from the largest coordinates it is taken as {field_nm[0]:g} × "
            f"{field_nm[1]:g} nm, so the border at the right and the bottom may be a little too wide"
        )
    offset_nm, before = None, 0
    if settings.remove_offset:
        offset_nm = estimate_offset(predicted, truth, protocol, field_nm)
        before = score(predicted, truth, protocol, field_nm)["n_matched"]
        predicted = without_offset(predicted, offset_nm)
        notes.append(
            "a constant offset of x {:+.1f}, y {:+.1f}, z {:+.1f} nm was taken off".format(*offset_nm)
            if before
            else "nothing is matched, so no offset could be found"
        )
    metrics = score(predicted, truth, protocol, field_nm)
    if settings.remove_offset and metrics["n_matched"] < before:
        notes.append(
            f"with the offset taken off only {metrics['n_matched']} pairs are left of {before}: "
            "the pairs it was estimated from are probably wrong, score without remove_offset"
        )
    note = offset_note(metrics)
    if note and not settings.remove_offset:
        notes.append(f"{note} (remove_offset=true takes it off before matching)")
    metrics |= {"offset_removed_nm": offset_nm, "notes": notes}
    return Scored(metrics, predicted, truth, protocol)


def evaluate_checkpoint(checkpoint: Path, settings: Settings) -> Scored:
    """The metrics of a network on samples of its own simulation that training never saw, and its pixel bias."""
    bundle = with_correction(load_bundle(checkpoint)).with_threshold(settings.threshold)
    refiner = None if settings.refine is None else told_refiner(bundle)  # of the training's own frames
    bundle = replace(bundle, simulation=changed(bundle.simulation, settings.simulation))
    predicted, truth = held_out_tables(bundle, settings.samples, turned=settings.turned, refiner=refiner)
    if not len(truth):
        raise EmitterError(f"{settings.samples} simulated frames hold no emitter: give more samples=")
    protocol = replace(protocol_named(settings.protocol), axial=settings.axial and bundle.is_3d)
    height, width = bundle.simulation.frame_size_px

    def bound(table: EmitterTable) -> CRLB:
        return table_crlb(table, bundle.psf, bundle.camera.mean_noise_variance, bundle.pixel_size)

    field_nm = bundle.pixel_size.to_nm(float(width), float(height))
    metrics = score(predicted, truth, protocol, field_nm, bound)
    bias = pixel_bias(predicted, bundle.pixel_size)
    sureness = uncertainty_scores(predicted, truth, protocol)
    how = {"threshold": bundle.thresholds.mass, "turned": settings.turned, "refine": settings.refine}
    metrics |= {**bias, **sureness, "predicted_with": how, "offset_removed_nm": None, "notes": []}
    return Scored(metrics, predicted, truth, protocol, bound, bundle)


def changed(simulation: SimulationSettings, settings: Mapping[str, Any]) -> SimulationSettings:
    """Other frames than those of the training: the same settings but for these."""
    plain = to_plain(simulation)
    flux = {**plain["flux"], **settings.get("flux", {})}
    merged = build(SimulationSettings, {**plain, **settings, "flux": flux}, "simulation")
    warn_of_unused_flux(merged.flux, {f"simulation.flux.{name}" for name in settings.get("flux", {})})
    require(
        merged.n_frames == simulation.n_frames,
        f"simulation.n_frames is {merged.n_frames} and the network sees {simulation.n_frames} frames: leave it out",
    )
    return merged


def in_frames(table: EmitterTable, frames: tuple[int, int] | None) -> EmitterTable:
    """The rows from the first to the last frame (both included); all of them for None."""
    if frames is None:
        return table
    return table.select((table.frame >= frames[0]) & (table.frame <= frames[1]))


def frame_notes(predicted: EmitterTable, truth: EmitterTable) -> list[str]:
    """Sentences on frames that only one of the tables has and that therefore lower the score."""
    if not len(predicted):
        return ["there are no localizations: all of the truth counts as missed"]
    notes = []
    lacking = ~np.isin(truth.frame, predicted.frame)
    if lacking.any():
        notes.append(
            f"the localizations lack {len(np.unique(truth.frame[lacking]))} of the truth's "
            f"{len(np.unique(truth.frame))} frames: their {lacking.sum()} emitters count as missed"
        )
    first, last = int(truth.frame.min()), int(truth.frame.max())
    beyond = (predicted.frame < first) | (predicted.frame > last)
    if beyond.any():
        notes.append(
            f"{beyond.sum()} localizations lie in frames before the truth's first or after its last and count "
            f"as false: if the truth covers only its own frames, give frames=[{first},{last}] (counted from 0)"
        )
    return notes


def field_notes(predicted: EmitterTable, truth: EmitterTable, field_nm: FieldNm | None) -> list[str]:
    """Sentences on rows outside of a field that is given or the movie's."""
    if field_nm is None:
        return []
    notes = []
    for words, table in (("true emitters", truth), ("localizations", predicted)):
        inside = (table.x_nm >= 0) & (table.x_nm <= field_nm[0])
        inside &= (table.y_nm >= 0) & (table.y_nm <= field_nm[1])
        if not inside.all():
            notes.append(
                f"{(~inside).sum()} of {len(table)} {words} lie outside of the field of {field_nm[0]:g} × "
                f"{field_nm[1]:g} nm: check field_size_nm, pixel_size_nm and the movie against the tables"
            )
    return notes


def estimated_field(predicted: EmitterTable, truth: EmitterTable, pixel_size: PixelSize | None) -> FieldNm:
    """The largest coordinates of both tables, rounded up to whole pixels (100 nm when that is unknown)."""
    pixel_size = pixel_size or PixelSize.of(_ROUND_FIELD_TO_NM)
    both = EmitterTable.concatenate([predicted, truth])
    x_px, y_px = pixel_size.to_px(float(both.x_nm.max()), float(both.y_nm.max()))
    return math.ceil(x_px) * pixel_size.x_nm, math.ceil(y_px) * pixel_size.y_nm
