"""One movie into one table, from where it was interrupted on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from emitter.core.errors import EmitterError
from emitter.inference.checks import FrameChecks
from emitter.inference.frame_blocks import places_of
from emitter.inference.localizer import Localizer, Tables
from emitter.inference.shards import sharded
from emitter.inference.uncertainty import UNCERTAINTY_VERSION
from emitter.io.acquisition import Acquisition
from emitter.io.files import writable
from emitter.io.journal import Journal, Written
from emitter.io.movie import Movie
from emitter.io.tables import read_parts, write_parts
from emitter.io.thunderstorm import TableWriter
from emitter.plots.superres import SuperResImage

log = logging.getLogger(__name__)


def job_of(checkpoint: Path, movie: Movie, growing: bool, given: Mapping[str, Any]) -> str:
    """A fingerprint of all that the table follows from: the checkpoint's file, the movie, the settings given, and how
    this version decodes and finds uncertainties."""
    state = checkpoint.stat()
    first_frame = hashlib.sha256(movie.read(0, 1).tobytes()).hexdigest()
    n_frames = None if growing else movie.n_frames
    of_movie = (n_frames, movie.height, movie.width, first_frame)
    known = [str(checkpoint.resolve()), state.st_size, state.st_mtime_ns, *of_movie, dict(given)]
    known.append(UNCERTAINTY_VERSION)
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


@dataclass(frozen=True)
class Work:
    """The frames of a movie that are looked at, and by how many processes; they open the movie with ``open_again``."""

    localizer: Localizer
    movie: Movie
    frames: tuple[int, int] | None
    devices: int
    open_again: Callable[[], Movie]

    @property
    def places(self) -> range:
        """Of the frames in the movie, as far as they are there."""
        return places_of(self.movie, self.frames)

    def tables(self, done: int) -> Tables:
        """Of every block but those of the first frames, which are done; see ``Localizer.predicted``."""
        checks = FrameChecks(self.movie.name)
        blocks = self.localizer.blocks(self.movie, self.frames, done)
        if self.devices == 1:
            tables = self.localizer.predicted(self.movie, blocks, checks)
        else:
            tables = sharded(self.localizer, self.open_again, list(blocks), self.devices, checks)
        yield from tables
        checks.summarize()


@dataclass(frozen=True)
class Target:
    """Where the table goes, its optional columns, and the job that it is the result of.

    ``on_the_way``: the finished table is to be written in another format, and is kept for that until ``done``.
    """

    output: Path
    with_z: bool
    with_precision: bool
    job: str
    on_the_way: bool = False

    @property
    def journal(self) -> Journal:
        """How far the table has come."""
        return Journal(TableWriter.partial_of(self.output), self.job)

    def done(self) -> None:
        """Nothing is left to do."""
        self.journal.remove()
        if self.on_the_way:
            self.output.unlink()

    def open(self) -> tuple[TableWriter, Journal, Written]:
        """The writer, behind what an interrupted job wrote.

        Raises:
            EmitterError: when that was another job.
        """
        journal = self.journal
        at_last_step = not journal.partial.is_file()  # if an earlier life came so far
        before = journal.read(self.output if at_last_step else journal.partial)
        if at_last_step and before.n_bytes and self.output.stat().st_size != before.n_bytes:
            before = Written()  # a table of before, and somebody took away the partial one
        if at_last_step and before.n_bytes:
            self.output.rename(journal.partial)
        if not before.n_bytes:  # what a job that came to its end may have left must not outlive its table
            journal.remove()
        writer = TableWriter(self.output, self.with_z, self.with_precision, before)
        journal.write(Written(before.n_frames, writer.n_rows, writer.n_bytes))
        return writer, journal, before


def written_name(output: Path, format_name: str) -> Path:
    """The file that grows while a movie is localized: text that can be gone on with, whatever the output's format."""
    return output if format_name == "thunderstorm" else output.with_name(f"{output.name}.thunderstorm.csv")


def reformat(written: Path, output: Path, format_name: str, acquisition: Acquisition) -> None:
    """The finished table in the output's format, from the text that it grew in, a block of rows in memory at a time.

    Raises:
        EmitterError: when the format cannot hold the table, which then stays as text.
    """
    try:
        write_parts(output, read_parts(written)[0], format_name, acquisition)
    except BaseException:
        log.warning("%s was not written: the emitters are in %s", output, written)
        raise


def localize(work: Work, target: Target, image: SuperResImage | None) -> tuple[int, int]:
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
            for part in read_parts(writer.partial_path)[0]:
                image.add(part)
    try:
        with writer, Progress(*columns) as progress, closing(work.tables(done)) as tables:
            task = progress.add_task("", total=len(work.places), completed=done, emitters=writer.n_rows)
            for n_frames, table in tables:
                with writable(writer.partial_path):
                    written = writer.write(table)
                    journal.write(Written(done + n_frames, writer.n_rows, writer.n_bytes))
                done += n_frames
                if image is not None:
                    image.add(written)
                progress.update(task, total=len(work.places), completed=done, emitters=writer.n_rows)
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
    return writer.n_rows, done - before.n_frames
