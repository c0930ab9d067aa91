"""The most memory that a localize.py takes, by the number of frames of its movie.

python benchmarks/memory.py

Movies of noise, 64×64 pixels, as BigTIFF. The network is untrained, and the threshold so low that it reports some 300
emitters a frame. Resident memory of the process at its peak, as the system counts it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
import torch
from harness import ROOT, Stepper

from emitter.inference.bundle import KEY

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


def main() -> None:
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
