"""localize.py from file to table and image against its network alone, as shares of the network's frames per second.

python benchmarks/end_to_end.py [RUN_OR_CHECKPOINT]

Simulated movies of the quick start at 0.6 emitters/µm² are read from a TIFF. The network alone predicts the same blocks
of frames, in turns with the whole program (without its start, but with the checkpoint's loading and the image), on one
thread; rates are by CPU time, the least of each, so that the time of the reading thread counts in full. The share is of
a network that finds the emitters when a trained checkpoint is given; an untrained one finds few.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import tifffile
import torch
from memory import write_checkpoint

from emitter.app.localize import Settings, run
from emitter.app.localize_settings import build_localizer
from emitter.core.memory import keep_freed_memory
from emitter.inference.bundle import Bundle, load_bundle
from emitter.inference.localizer import Localizer, windows
from emitter.io.movie import Movie
from emitter.io.movies import open_movie
from emitter.simulation.simulator import Simulator

MOVIES = {64: 192, 512: 4}  # side in pixels: frames
ROUNDS = 2


def write_movie(path: Path, bundle: Bundle, side: int, n_frames: int) -> None:
    """Middle frames of simulated windows."""
    settings = replace(bundle.simulation, frame_size_px=(side, side), density_per_um2=(0.6, 0.6))
    simulator = Simulator(settings, bundle.psf, bundle.camera)
    frames = [
        simulator.sample(1, torch.arange(k, min(k + 16, n_frames))).counts_BTHW[:, 1]
        for k in range(0, n_frames, 16)
    ]
    tifffile.imwrite(path, torch.cat(frames).clamp(0, 65535).round().numpy().astype("u2"))


def network_alone(localizer: Localizer, movie: Movie) -> float:
    """Seconds for the maps of every block from photons, as in the program."""
    seconds = 0.0
    for start, stop in localizer.spans(movie):
        window_BT = windows(movie.frame_numbers, start, stop, localizer.network.n_frames)
        first, last = int(window_BT.min()), int(window_BT.max()) + 1
        photons_FHW = localizer._photons(movie.read(first, last))
        begin = time.process_time()
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=localizer.compute.precision == "bf16"),
        ):
            localizer._maps(photons_FHW, torch.from_numpy(window_BT - first))
        seconds += time.process_time() - begin
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", nargs="?", type=Path)
    arguments = parser.parse_args()
    keep_freed_memory()  # as the programs do
    torch.set_num_threads(1)
    print(
        "| movie | emitters a frame | network (frames per CPU-s) | file to table and image | share | without image |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = arguments.checkpoint or folder / "net.ckpt"
        if arguments.checkpoint is None:
            write_checkpoint(checkpoint)
        bundle = load_bundle(checkpoint)
        for side, n_frames in MOVIES.items():
            print(row(bundle, checkpoint, folder, side, n_frames), flush=True)


def row(bundle: Bundle, checkpoint: Path, folder: Path, side: int, n_frames: int) -> str:
    """One line of the table."""
    write_movie(folder / "movie.tif", bundle, side, n_frames)
    settings = Settings(
        checkpoint=checkpoint, movie=str(folder / "movie.tif"), output=folder / "locs.csv", device="cpu"
    )
    localizer = build_localizer(bundle, settings)
    alone, whole, table = (float("inf"),) * 3
    with open_movie(settings.movie) as movie:
        for _ in range(ROUNDS):
            alone = min(alone, network_alone(localizer, movie))
            begin = time.process_time()
            result = run(settings)
            whole = min(whole, time.process_time() - begin)
            begin = time.process_time()
            run(replace(settings, superres_nm=None))
            table = min(table, time.process_time() - begin)
    per_frame = result["n_emitters"] / n_frames
    return (
        f"| {side}×{side}, {n_frames} frames | {per_frame:.0f} | {n_frames / alone:.3g} | {n_frames / whole:.3g} | "
        f"{alone / whole:.2f} | {alone / table:.2f} |"
    )


if __name__ == "__main__":
    main()
