"""localize.py: a checkpoint and a movie → a table of emitters and a super-resolved image."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from emitter.app.localize_settings import Settings, build_localizer, open_part
from emitter.app.made_from import made_from
from emitter.app.shards import sharded_tables
from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.inference.bundle import Bundle, load_bundle
from emitter.inference.checks import FrameChecks
from emitter.io.files import prepare_output, replacing
from emitter.io.journal import Journal
from emitter.io.movie import Movie
from emitter.io.movies import files_of
from emitter.io.thunderstorm import TableWriter, read_positions
from emitter.plots.superres import SuperResImage

__all__ = ["Settings", "build_localizer", "run"]

log = logging.getLogger(__name__)


def run(settings: Settings) -> dict[str, Any]:
    """Localize; the table and, beside it, the image with the same name and ``.png``.

    Returns:
        ``n_frames``, ``n_emitters``, ``frames_per_second`` and the paths ``table`` and ``image`` (or None); of the last
        movie, where there are several.

    Raises:
        EmitterError: a checkpoint or a movie that cannot be used, or an output that cannot be written. What was
            found until then stays in ``<output>.partial``, and the same settings go on from there.
    """
    if not settings.each:
        return localize_movie(settings)
    movies = files_of(settings.movie)
    tables = [settings.output / f"{_stem(movie)}.csv" for movie in movies]
    if len(set(tables)) < len(tables):
        raise EmitterError("two of the movies have the same name: localize them one by one")
    result: dict[str, Any] = {}
    for movie, table in zip(movies, tables, strict=True):
        log.info("movie %s", movie)
        result = localize_movie(replace(settings, movie=movie, output=table, each=False))
    return result


def _stem(movie: str) -> str:
    """What a movie's table is called: its file without the ending, with the path inside where it has one."""
    file, _, inside = movie.partition(":/")
    return "_".join([Path(file).name.rsplit(".", 1)[0], *inside.split("/")]) if inside else Path(file).stem


def localize_movie(settings: Settings) -> dict[str, Any]:
    """One movie; see ``run``."""
    output = prepare_output(settings.output)
    bundle = load_bundle(settings.checkpoint)
    movie, field_nm = open_part(settings, bundle)
    with movie:
        redo = 0 if settings.follow_s is None else 1 + bundle.network.n_frames // 2
        with Journal(output, made_from(settings, bundle, movie), settings.resume, redo) as journal:
            start = time.monotonic()
            image = None
            with TableWriter(output, bundle.is_3d, journal.mark) as writer:
                n_frames = _localize(settings, bundle, movie, writer, journal)
                frames_per_second = n_frames / (time.monotonic() - start)
                if settings.superres_nm is not None:
                    z_range_nm = bundle.simulation.z_range_nm if bundle.is_3d else None
                    image = SuperResImage(field_nm, settings.superres_nm, z_range_nm)
                    save_image(image, writer.partial_path, output.with_suffix(".png"))
        log.info("%d emitters in %d frames, %.3g frames/s", writer.n_rows, n_frames, frames_per_second)
        log.info("wrote %s", output)
        if image is not None:
            log.info("wrote %s", output.with_suffix(".png"))
    return {
        "n_frames": n_frames,
        "n_emitters": writer.n_rows,
        "frames_per_second": frames_per_second,
        "table": output,
        "image": None if image is None else output.with_suffix(".png"),
    }


def save_image(image: SuperResImage, table: Path, path: Path) -> None:
    """Draw a table, in parts, as its file holds it: a table that was interrupted has the image of one that was not."""
    for part in read_positions(table):
        image.add(part)
    with replacing(path) as temporary:
        image.save(temporary)


def _localize(settings: Settings, bundle: Bundle, movie: Movie, writer: TableWriter, journal: Journal) -> int:
    """Write the emitters of a movie, block by block, and say where they are if it ends early.

    Returns:
        The number of frames, with those of an earlier program.
    """
    columns = (
        TextColumn("localizing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames, {task.fields[emitters]} emitters"),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns) as progress:
            done = _frames_before(settings, bundle, movie, journal.n_blocks)
            if done:
                log.info("going on after %d frames with %d emitters", done, writer.n_rows)
            task = progress.add_task(
                "", total=_n_frames(settings, movie), completed=done, emitters=writer.n_rows
            )
            with closing(_tables(settings, bundle, movie, journal.n_blocks)) as tables:
                for n_frames, table in tables:
                    writer.write(table)
                    journal.add(writer.mark)
                    done += n_frames
                    total = _n_frames(settings, movie)
                    progress.update(task, completed=min(done, total), total=total, emitters=writer.n_rows)
        return _n_frames(settings, movie)
    except (KeyboardInterrupt, EmitterError):
        if writer.n_rows:
            log.warning(
                "stopped early: the %d emitters of the first %d frames are kept in %s; "
                "the same command goes on from there",
                writer.n_rows,
                done,
                writer.partial_path,
            )
        raise


def _tables(
    settings: Settings, bundle: Bundle, movie: Movie, done: int
) -> Generator[tuple[int, EmitterTable], None, None]:
    """Frames and emitters of every block but the first ``done``, in order."""
    checks = FrameChecks(movie.name)
    localizer = build_localizer(bundle, settings)
    if settings.devices > 1:
        tables = sharded_tables(settings, done, checks)
    else:
        todo = itertools.islice(localizer.spans(movie, settings.frames), done, None)
        tables = localizer.tables(movie, todo, checks)
    with closing(tables):
        for n_frames, table in tables:
            yield n_frames, in_frames(table, settings.frames)
    checks.summarize()


def in_frames(table: EmitterTable, frames: tuple[int, int] | None) -> EmitterTable:
    """The rows of a range of frames."""
    if frames is None:
        return table
    return table.select((table.frame >= frames[0]) & (table.frame <= frames[1]))


def _n_frames(settings: Settings, movie: Movie) -> int:
    """Frames that are asked for, as far as they are there."""
    if settings.frames is None:
        return movie.n_frames
    first, last = np.searchsorted(movie.frame_numbers, [settings.frames[0], settings.frames[1] + 1]).tolist()
    return last - first


def _frames_before(settings: Settings, bundle: Bundle, movie: Movie, n_blocks: int) -> int:
    """Frames of the first blocks."""
    if n_blocks == 0:
        return 0
    spans = build_localizer(bundle, settings).spans(movie, settings.frames)
    return sum(stop - start for start, stop in itertools.islice(spans, n_blocks))
