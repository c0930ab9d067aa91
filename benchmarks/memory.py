"""The most memory that a localize.py takes, by the number of frames of its movie, or a convert.py, by its rows.

python benchmarks/memory.py
python benchmarks/memory.py --sparse-gb 20 --seconds 120    # a movie larger than memory, its memory over time
python benchmarks/memory.py --sparse-gb 20 --seconds 120 --side-of-roi 64    # all of its frames, of a region
python benchmarks/memory.py --tables 1000000 5000000        # of convert.py instead, by the number of rows

Movies of noise, 64×64 pixels, as BigTIFF. The network is untrained, and the threshold so low that it reports some 300
emitters a frame. Resident memory of the process at its peak, as the system counts it.

The large movie is a sparse BigTIFF of frames of `--side` 512 pixels: noise in its first and last 200 frames and zeros,
which take no room on the disk, between. The program is ended, as by kill -9, after half of the seconds, and is then
started again to show that it goes on: for the other half, or with a region, which takes seconds for what takes hours
of whole frames, to its end.

Tables are converted from ThunderSTORM's columns, as localize.py does at its end, to every format, and from that to
Parquet.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
import torch
from harness import ROOT, Stepper
from tables import a_table

from emitter.inference.bundle import KEY
from emitter.io.tables import FORMATS
from emitter.io.thunderstorm import TableWriter

FRAMES = (500, 8000)
SIDE = 64
# a child's peak counts that of the process that it was forked from, before it became another: from a small one here
_PEAK = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def write_movie(path: Path, n_frames: int) -> None:
    """Noise, a frame at a time."""
    random = np.random.default_rng(0)

    def frames() -> Iterator[np.ndarray]:
        for _ in range(n_frames):
            yield random.integers(100, 300, (SIDE, SIDE), dtype=np.uint16)

    tifffile.imwrite(path, frames(), shape=(n_frames, SIDE, SIDE), dtype=np.uint16, bigtiff=True)


def write_checkpoint(path: Path) -> None:
    """Of the quick start's network, untrained."""
    bundle = Stepper.of(()).bundle
    weights = {f"network.{name}": value for name, value in bundle.network.state_dict().items()}
    torch.save({KEY: bundle.state(), "state_dict": weights}, path)


def peak_mb(command: list[str]) -> float:
    """The most resident memory of a process that ends well, in megabytes.

    Raises:
        RuntimeError: it ends otherwise.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr}")
    return int(done.stdout.split()[-1]) * 1024 / 1e6


def write_sparse(path: Path, size_gb: float, side: int, noisy: int = 200) -> int:
    """Noise at both ends, holes between; the number of frames."""
    n_frames = int(size_gb * 1e9 / (2 * side * side))
    tifffile.imwrite(path, shape=(n_frames, side, side), dtype=np.uint16, bigtiff=True)
    frames_THW = tifffile.memmap(path, mode="r+")
    random = np.random.default_rng(0)
    for k in (*range(noisy), *range(n_frames - noisy, n_frames)):
        frames_THW[k] = random.integers(100, 300, (side, side), dtype=np.uint16)
    frames_THW.flush()
    return n_frames


def watched(command: list[str], journal: Path, every_s: float, times: float) -> Iterator[tuple[int, float]]:
    """Frames that are done and the resident memory in MB, so many times, of a program that is then killed."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while times > 0:
        time.sleep(every_s)
        times -= 1
        if process.poll() is not None:
            print(f"ended with status {process.returncode}")
            break
        resident = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
        n_frames = json.loads(journal.read_text())["written"]["n_frames"] if journal.exists() else 0
        yield n_frames, int(resident) * resource.getpagesize() / 1e6
    process.kill()
    process.wait()


def sparse(size_gb: float, side: int, seconds: float, side_of_roi: int | None) -> None:
    """Two lives of one localize.py on one large movie."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_checkpoint(folder / "net.ckpt")
        n_frames = write_sparse(folder / "movie.tif", size_gb, side)
        stat = (folder / "movie.tif").stat()
        print(
            f"{n_frames:,} frames, {stat.st_size / 1e9:.1f} GB, {stat.st_blocks * 512 / 1e9:.2f} GB on the disk"
        )
        settings = [f"checkpoint={folder}/net.ckpt", f"movie={folder}/movie.tif", f"output={folder}/locs.csv"]
        if side_of_roi is not None:
            settings.append(f"roi=[0,0,{side_of_roi},{side_of_roi}]")
        command = [sys.executable, str(ROOT / "localize.py"), *settings, "threshold=0.1"]
        print("| life | frames done | memory (MB) |\n| --- | --- | --- |")
        to_its_end = math.inf if side_of_roi is not None else 10
        for life, times in ((1, 10), (2, to_its_end)):
            for done, memory_mb in watched(command, folder / "locs.csv.partial.json", seconds / 20, times):
                print(f"| {life} | {done} | {memory_mb:.0f} |", flush=True)


def write_rows(path: Path, n_rows: int, at_once: int = 100_000) -> None:
    """A table in ThunderSTORM's columns, as localize.py writes it."""
    with TableWriter(path, with_z=True, with_precision=True) as writer:
        for start in range(0, n_rows, at_once):
            part = a_table(min(at_once, n_rows - start))
            writer.write(part.with_columns(frame=part.frame // 100 + start // 200))


def tables(numbers: list[int]) -> None:
    """Conversions of tables with so many rows."""
    print("| rows | format | file (MB) | writing: most memory (MB) | s | reading: most memory (MB) | s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    movie = ("pixel_size_nm=100", "frame_size_px=[512,512]", "n_frames=100000")
    command = [sys.executable, str(ROOT / "convert.py"), *movie]
    with tempfile.TemporaryDirectory() as name:
        for n_rows in numbers:
            text = Path(name) / "locs.csv"
            write_rows(text, n_rows)
            for kind, known in FORMATS.items():
                table, again = Path(name) / f"table{known.suffix}", Path(name) / "again.parquet"
                row = [f"{n_rows:,}", kind]
                for given in ((text, table, kind), (table, again, "parquet")):
                    settings = [
                        f"{key}={value}"
                        for key, value in zip(("table", "output", "format"), given, strict=True)
                    ]
                    start = time.monotonic()
                    peak = peak_mb([*command, *settings])
                    row += [f"{peak:.0f}", f"{time.monotonic() - start:.1f}"]
                row.insert(2, f"{table.stat().st_size / 1e6:.0f}")
                print(f"| {' | '.join(row)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sparse-gb", type=float, default=None)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--side-of-roi", type=int, default=None)
    parser.add_argument("--tables", type=int, nargs="+", default=None)
    arguments = parser.parse_args()
    if arguments.tables is not None:
        tables(arguments.tables)
        return
    if arguments.sparse_gb is not None:
        sparse(arguments.sparse_gb, arguments.side, arguments.seconds, arguments.side_of_roi)
        return
    rows = ["| frames | file (MB) | rows of the table | most memory (MB) |", "| --- | --- | --- | --- |"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_checkpoint(folder / "net.ckpt")
        for n_frames in FRAMES:
            movie, table = folder / "movie.tif", folder / "locs.csv"
            write_movie(movie, n_frames)
            settings = (
                f"checkpoint={folder}/net.ckpt",
                f"movie={movie}",
                f"output={table}",
                "threshold=0.02",
            )
            peak = peak_mb([sys.executable, str(ROOT / "localize.py"), *settings])
            with table.open() as lines:
                n_rows = sum(1 for _ in lines) - 1
            size_mb = movie.stat().st_size / 1e6
            rows.append(f"| {n_frames:,} | {size_mb:.0f} | {n_rows:,} | {peak:.0f} |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
