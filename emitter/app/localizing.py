"""One movie into one table, from where it was interrupted on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from emitter.core.errors import EmitterError
from emitter.inference.localizer import Localizer
from emitter.io.acquisition import Acquisition
from emitter.io.journal import Journal, Written
from emitter.io.movie import Movie
from emitter.io.tables import read_table, write_table
from emitter.io.thunderstorm import TableWriter
from emitter.plots.superres import SuperResImage

log = logging.getLogger(__name__)


def places_of(movie: Movie, frames: tuple[int, int] | None) -> range:
    """Places in the movie of the frames from the first to the last, by their numbers.

    Raises:
        EmitterError: when the movie has none of them.
    """
    if frames is None:
        return range(movie.n_frames)
    first, last = frames
    numbers_T = movie.frame_numbers
    places = range(
        int(np.searchsorted(numbers_T, first)), int(np.searchsorted(numbers_T, last, side="right"))
    )
    if not places:
        raise EmitterError(
            f"frames is [{first},{last}] and {movie.name} has the frames {numbers_T[0]} to {numbers_T[-1]}: give some "
            "of these"
        )
    return places


def job_of(checkpoint: Path, movie: Movie, given: Mapping[str, Any]) -> str:
    """A fingerprint of all that the table follows from: the checkpoint's file, the movie and the settings given."""
    state = checkpoint.stat()
    first_frame = hashlib.sha256(movie.read(0, 1).tobytes()).hexdigest()
    of_movie = (movie.n_frames, movie.height, movie.width, first_frame)
    known = [str(checkpoint.resolve()), state.st_size, state.st_mtime_ns, *of_movie, dict(given)]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


@dataclass(frozen=True)
class Target:
    """Where the table goes, its optional columns, and the job that it is the result of."""

    output: Path
    with_z: bool
    with_precision: bool
    job: str

    def open(self) -> tuple[TableWriter, Journal, Written]:
        """The writer, behind what an interrupted job wrote.

        Raises:
            EmitterError: when that was another job.
        """
        journal = Journal(TableWriter.partial_of(self.output), self.job)
        before = journal.read()
        if not before.n_bytes:  # what a job that came to its end may have left must not outlive its table
            journal.remove()
        writer = TableWriter(self.output, self.with_z, self.with_precision, before)
        journal.write(Written(before.n_frames, writer.n_rows, writer.n_bytes))
        return writer, journal, before


def written_name(output: Path, format_name: str) -> Path:
    """The file that grows while a movie is localized: text that can be gone on with, whatever the output's format."""
    return output if format_name == "thunderstorm" else output.with_name(f"{output.name}.thunderstorm.csv")


def reformat(written: Path, output: Path, format_name: str, acquisition: Acquisition) -> None:
    """The finished table in the output's format, in place of the text that it grew in.

    Raises:
        EmitterError: when the format cannot hold the table, which then stays as text.
    """
    try:
        write_table(output, read_table(written), format_name, acquisition)
    except BaseException:
        log.warning("%s was not written: the emitters are in %s", output, written)
        raise
    written.unlink()


def localize(
    localizer: Localizer, movie: Movie, places: range, target: Target, image: SuperResImage | None
) -> tuple[int, int]:
    """Write the emitters of a movie, block by block, from where it was interrupted on; say where they are if it ends
    early.

    Returns:
        The number of emitters in the table, and the number of frames that were looked at now.
    """
    columns = (
        TextColumn("localizing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames, {task.fields[emitters]} emitters"),
        TimeRemainingColumn(),
    )
    writer, journal, before = target.open()
    done = before.n_frames
    if done:
        log.info("going on after %d frames and %d emitters of before", done, before.n_rows)
        if image is not None:
            image.add(read_table(writer.partial_path))
    try:
        with writer, Progress(*columns) as progress:
            task = progress.add_task("", total=len(places), completed=done, emitters=writer.n_rows)
            for n_frames, table in localizer.tables(movie, places[done:]):
                written = writer.write(table)
                if image is not None:
                    image.add(written)
                done += n_frames
                journal.write(Written(done, writer.n_rows, writer.n_bytes))
                progress.update(task, completed=done, emitters=writer.n_rows)
    except (KeyboardInterrupt, EmitterError):
        if writer.n_rows:
            log.warning(
                "stopped early: the %d emitters of the first %d frames are kept in %s; the same command goes on there",
                writer.n_rows,
                done,
                writer.partial_path,
            )
        else:
            journal.remove()
        raise
    journal.remove()
    return writer.n_rows, done - before.n_frames
