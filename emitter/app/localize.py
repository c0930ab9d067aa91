"""localize.py: a checkpoint and a movie → a table of emitters and a super-resolved image."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emitter.app.localize_report import report_of
from emitter.app.localize_settings import Settings, build_localizer, used
from emitter.app.localizing import Target, Work, job_of, localize, reformat, written_name
from emitter.app.schema import to_plain
from emitter.app.sureness import with_correction
from emitter.core.errors import EmitterError, require
from emitter.inference.bundle import Bundle, checkpoint_path, load_bundle
from emitter.inference.localizer import Localizer
from emitter.io.acquisition import Acquisition
from emitter.io.files import prepare_output, require_apart, writing
from emitter.io.journal import Finished
from emitter.io.movie import Movie
from emitter.io.movies import movies_of
from emitter.io.tables import FORMATS, check_output, read_parts
from emitter.plots.superres import SuperResImage

__all__ = ["Settings", "run"]

log = logging.getLogger(__name__)

# Where the results are and who predicts; of the checkpoint its content counts.
_NOT_OF_THE_RESULTS = ("output", "checkpoint", "each", "devices", "batch_px")
_NOT_OF_THE_TABLE = (*_NOT_OF_THE_RESULTS, "format", "report", "superres_nm")


def run(settings: Settings) -> dict[str, Any]:
    """Localize; the table and, beside it, the image with the same name and ``.png``, and a report.

    Returns:
        ``n_frames``, ``n_emitters``, ``frames_per_second`` and the paths ``table`` and ``image`` (or None); with
        ``each`` a list of these, ``movies``, without those that an interrupted run had finished.

    Raises:
        EmitterError: a checkpoint or a movie that cannot be used, or an output that cannot be written. What was
            found until then stays in ``<output>.partial``.
    """
    outputs = _outputs(settings)
    for one in outputs:
        for path in (one.output, *_beside(one).values()):
            prepare_output(path)
    written = (path for one in outputs for path in (one.output, *_beside(one).values()))
    require_apart(written, _files(settings.movie))
    if not settings.each and settings.follow_s is None:
        settings.open().close()  # what cannot be read is said before the work begins
    bundle = load_bundle(settings.checkpoint)
    for one in outputs:
        check_output(one.output, one.format_name(), Acquisition(bundle.pixel_size))
    if settings.uncertainty:
        bundle = with_correction(bundle, settings.compute().device)
    localizer = build_localizer(bundle, settings)
    if not settings.each:
        return _localize_movie(outputs[0], bundle, localizer)
    return _localize_each(outputs, bundle, localizer)


def _outputs(settings: Settings) -> list[Settings]:
    """The settings of every movie."""
    if not settings.each:
        return [replace(settings, output=settings.output.expanduser())]
    suffix = FORMATS[settings.format_name()].suffix
    folder = settings.output.expanduser()
    one_by_one = [
        replace(settings, movie=movie, output=folder / f"{_stem(movie)}{suffix}", each=False)
        for movie in movies_of(settings.movie)
    ]
    require(len(one_by_one) > 0, "movie names no movie: name at least one")
    names = Counter(one.output.name for one in one_by_one)
    alike, n_alike = names.most_common(1)[0]
    if n_alike > 1:
        raise EmitterError(
            f"{n_alike} of the movies would all be written to {alike}: localize them into folders of their own"
        )
    return one_by_one


def _beside(settings: Settings) -> dict[str, Path]:
    """What is written with the table: ``image`` and ``report``, as far as they are wanted."""
    output = settings.output
    image = {} if settings.superres_nm is None else {"image": output.with_suffix(".png")}
    return image | ({"report": output.with_name(f"{output.stem}_report.html")} if settings.report else {})


def _files(movie: str | Sequence[str]) -> list[Path]:
    """Those of the movie, as far as they are there: what is not is told when it is opened."""
    try:
        return [Path(name.partition(":/")[0]) for name in movies_of(movie)]
    except EmitterError:
        return []


def _stem(movie: str) -> str:
    """What a movie's table is called: its file without the ending, with the path inside where it has one."""
    file, _, inside = movie.partition(":/")
    return "_".join([Path(file).name.rsplit(".", 1)[0], *inside.split("/")]) if inside else Path(file).stem


def _localize_each(outputs: Sequence[Settings], bundle: Bundle, localizer: Localizer) -> dict[str, Any]:
    """Movie by movie; one that cannot be localized does not keep the others from it."""
    finished = Finished(outputs[0].output.parent)
    results, failed = [], []
    for number, one in enumerate(outputs, 1):
        log.info("movie %d of %d: %s", number, len(outputs), one.movie)
        try:
            results.append(_localize_movie(one, bundle, localizer, finished))
        except Exception as error:  # a night's other movies are worth more than the first traceback
            known = isinstance(error, EmitterError | OSError)
            log.error("%s: %s", one.movie, error, exc_info=None if known else error)
            failed.append(str(one.movie))
    if failed:
        raise EmitterError(
            f"{len(failed)} of {len(outputs)} movies could not be localized ({', '.join(failed)}): see above; the same "
            "command does only these again"
        )
    finished.remove()
    return {"movies": [result for result in results if result]}


def _localize_movie(
    settings: Settings, bundle: Bundle, localizer: Localizer, finished: Finished | None = None
) -> dict[str, Any]:
    """One movie, unless it is finished already; see ``run``."""
    output = settings.output
    with settings.open() as movie:
        if finished is not None and finished.has(output, _job(settings, movie, of_table=False)):
            log.info("%s is there already", output)
            return {}
        localizer.check(movie)
        start = time.monotonic()
        image = _image_of(movie, bundle, settings)
        written = written_name(output, settings.format_name())
        job = _job(settings, movie, of_table=True)
        target = Target(written, bundle.is_3d, settings.uncertainty, job, on_the_way=written != output)
        work = Work(localizer, movie, settings.frames, settings.devices, settings.open)
        n_emitters, n_now = localize(work, target, image)
        if written != output:
            last_frame = int(movie.frame_numbers[-1])
            movie_told = Acquisition(bundle.pixel_size, (movie.height, movie.width), last_frame + 1)
            reformat(written, output, settings.format_name(), movie_told)
        frames_per_second = n_now / (time.monotonic() - start)
        places = work.places
        log.info("%d emitters in %d frames, %.3g frames/s", n_emitters, len(places), frames_per_second)
        log.info("wrote %s", output)
        image_path = None if image is None else _save(image, _beside(settings)["image"])
        if settings.report:
            page = _beside(settings)["report"]
            title = f"Localizations of {_short(movie.name)}"
            looked_at = movie, places, used(bundle, settings), title, settings.region
            log.info("wrote %s", report_of(page, read_parts(output)[0], image_path, *looked_at))
        target.done()
        if finished is not None:
            finished.add(output, _job(settings, movie, of_table=False))
    return {
        "n_frames": len(places),
        "n_emitters": n_emitters,
        "frames_per_second": frames_per_second,
        "table": output,
        "image": image_path,
    }


def _short(movie: str) -> str:
    """A movie's name without the folders above, but for files of a folder with that."""
    path = Path(movie)
    return str(Path(path.parent.name, path.name)) if set("*?[") & set(path.name) else path.name


def _job(settings: Settings, movie: Movie, of_table: bool) -> str:
    """A fingerprint of what the table follows from, which a movie's growth does not change, or all the results."""
    left_out = _NOT_OF_THE_TABLE if of_table else _NOT_OF_THE_RESULTS
    given = {name: value for name, value in to_plain(settings).items() if name not in left_out}
    growing = of_table and settings.follow_s is not None
    return job_of(checkpoint_path(settings.checkpoint), movie, growing, given)


def _image_of(movie: Movie, bundle: Bundle, settings: Settings) -> SuperResImage | None:
    """An image, still empty, of what is looked at."""
    if settings.superres_nm is None:
        return None
    x0, y0, x1, y1 = settings.roi or (0, 0, movie.width, movie.height)
    field_nm = bundle.pixel_size.to_nm(float(x1 - x0), float(y1 - y0))
    origin_nm = bundle.pixel_size.to_nm(float(x0), float(y0))
    z_range_nm = bundle.simulation.z_range_nm if bundle.is_3d else None
    return SuperResImage(field_nm, settings.superres_nm, z_range_nm, origin_nm=origin_nm)


def _save(image: SuperResImage, path: Path) -> Path:
    with writing(path) as temporary:
        image.save(temporary)
    log.info("wrote %s", path)
    return path
