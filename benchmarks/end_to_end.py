"""localize.py from file to table against its network alone, as shares of the network's frames per CPU-second.

python benchmarks/end_to_end.py RUN_OR_CHECKPOINT … --densities 0.6 1.5 3

For every density a movie of the checkpoint's own simulation is written to a TIFF. In turns, in one process with one
thread, the network alone predicts all of its frames, and localize.py's ``run`` makes of the same file a table with all
uncertainties, a table and the super-resolved image, and these and the report. CPU time of all threads, so that the
thread that reads counts in full; medians over the rounds of the ratios within each. A checkpoint that does not know its
uncertainties learns them before. Then where the time beside the network goes, in CPU-ms for a frame, and what is spent
once for a movie, in CPU-seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import tifffile
import torch

from emitter.app import localize as program
from emitter.app.localize import Settings
from emitter.app.localize_settings import build_localizer
from emitter.app.sureness import with_correction
from emitter.core.memory import keep_freed_memory
from emitter.inference import localizer as inference
from emitter.inference.bundle import KEY, Bundle, checkpoint_path, load_bundle
from emitter.inference.checks import FrameChecks
from emitter.inference.localizer import Localizer, windows
from emitter.inference.tiling import predict
from emitter.inference.uncertainty import Uncertainty
from emitter.io.movie import Movie
from emitter.io.thunderstorm import TableWriter
from emitter.io.tiff import TiffMovie
from emitter.plots.superres import SuperResImage
from emitter.simulation.camera import Camera
from emitter.simulation.simulator import Simulator

# what is timed within a run, by the name under which it is printed
PER_FRAME = {
    "reading": (TiffMovie, "read"),
    "checks": (FrameChecks, "__call__"),
    "photons": (Camera, "to_photons"),
    "decoding": (inference, "decode"),
    "uncertainty": (Uncertainty, "columns"),
    "table": (TableWriter, "write"),
    "image": (SuperResImage, "add"),
}
ONCE = {
    "checkpoint": (program, "load_bundle"),
    "image's file": (SuperResImage, "save"),
    "report": (program, "report_of"),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "table": {"superres_nm": None, "report": False},
    "and image": {"report": False},
    "and report": {},
}


def calibrated(run: Path, folder: Path) -> Path:
    """A checkpoint of the run's network that knows its uncertainties."""
    path = checkpoint_path(run)
    if load_bundle(path).correction is not None:
        return path
    state = torch.load(path, weights_only=True, map_location="cpu")
    known = {KEY: with_correction(load_bundle(path)).state(), "state_dict": state["state_dict"]}
    torch.save(known, folder / "network.ckpt")
    return folder / "network.ckpt"


def write_movie(path: Path, bundle: Bundle, density: float, side: int, n_frames: int) -> None:
    """Frames of a new acquisition."""
    settings = replace(bundle.simulation, frame_size_px=(side, side), density_per_um2=(density, density))
    simulator = Simulator(settings, bundle.psf, bundle.camera)
    counts = torch.cat([part for part, _ in simulator.movie(1, n_frames)])
    tifffile.imwrite(path, counts.clamp(0, 65535).round().numpy().astype("u2"))


def network_alone(localizer: Localizer, movie: Movie) -> float:
    """CPU-seconds for the maps of all frames, from photons on, in the program's blocks."""
    seconds = 0.0
    for block in localizer.blocks(movie):
        window_BT = windows(movie.frame_numbers, block.start, block.stop, localizer.network.n_frames)
        first, last = int(window_BT.min()), int(window_BT.max()) + 1
        counts_FHW = torch.from_numpy(movie.read(first, last).astype("f4"))
        photons_FHW = localizer.camera.to_photons(counts_FHW)
        bf16 = localizer.compute.precision == "bf16"
        start = time.process_time()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            window = torch.from_numpy(window_BT - first)
            predict(localizer.network, photons_FHW, window, localizer.compute.batch_px)
        seconds += time.process_time() - start
    return seconds


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """CPU-seconds of the parts of the runs within, each in its thread."""
    spent: dict[str, float] = defaultdict(float)

    def timing(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                spent[name] += time.thread_time() - start

        return call

    with ExitStack() as stack:
        for name, (owner, attribute) in (PER_FRAME | ONCE).items():
            function = timing(name, getattr(owner, attribute))
            stack.enter_context(mock.patch.object(owner, attribute, function))
        yield spent


@dataclass
class Row:
    """Of one checkpoint and density: frames, emitters and what every round took, CPU-seconds by variant."""

    n_frames: int
    n_emitters: int = 0
    network: list[float] = field(default_factory=list)
    whole: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in VARIANTS})
    parts: dict[str, float] = field(default_factory=dict)

    def share(self, variant: str) -> float:
        """Of the network's frames per second."""
        return median(one / all_ for one, all_ in zip(self.network, self.whole[variant], strict=True))


def measured(checkpoint: Path, movie_path: Path, n_frames: int, rounds: int) -> Row:
    """The network and the variants in turns, then the parts of one more run with all of it."""
    row = Row(n_frames)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(checkpoint, str(movie_path), Path(folder) / "locs.csv", device="cpu")
        localizer = build_localizer(load_bundle(checkpoint), settings)
        with settings.open() as movie:
            for _ in range(rounds):
                row.network.append(network_alone(localizer, movie))
                for name, changes in VARIANTS.items():
                    start = time.process_time()
                    row.n_emitters = program.run(replace(settings, **changes))["n_emitters"]
                    row.whole[name].append(time.process_time() - start)
        with timed() as row.parts:
            program.run(settings)
    return row


def table(rows: dict[str, Row]) -> str:
    """All of it, as two tables."""
    lines = [
        "| | emitters a frame | network (frames per CPU-s) | table | and image | and report |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        speed = row.n_frames / median(row.network)
        shares = " | ".join(f"{row.share(variant):.2f}" for variant in VARIANTS)
        lines.append(f"| {name} | {row.n_emitters / row.n_frames:.0f} | {speed:.0f} | {shares} |")
    lines += [
        "",
        f"| CPU-ms for a frame | network | {' | '.join(PER_FRAME)} | once: {' | '.join(ONCE)} (s) |",
    ]
    lines.append("|" + " --- |" * (2 + len(PER_FRAME) + len(ONCE)))
    for name, row in rows.items():
        per_frame = [median(row.network), *(row.parts[part] for part in PER_FRAME)]
        cells = [f"{1e3 * seconds / row.n_frames:.2f}" for seconds in per_frame]
        cells += [f"{row.parts[part]:.1f}" for part in ONCE]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--densities", nargs="+", type=float, default=[0.6, 1.5, 3])
    parser.add_argument("--side", type=int, default=64, help="of the frames, in pixels")
    parser.add_argument("--frames", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    keep_freed_memory()  # as the programs do
    torch.set_num_threads(1)
    rows = {}
    for run in given.checkpoints:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = calibrated(run, Path(folder))
            for density in given.densities:
                movie = Path(folder) / "movie.tif"
                write_movie(movie, load_bundle(checkpoint), density, given.side, given.frames)
                name = f"{run.name}, {density:g}/µm²"
                rows[name] = measured(checkpoint, movie, given.frames, given.rounds)
    print(table(rows))


if __name__ == "__main__":
    main()
