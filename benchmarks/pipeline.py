"""CPU time and memory of everything that is done to a table after localization, with the programs as they are called.

    python benchmarks/pipeline.py          # [number of localizations]

The table is the filaments of benchmarks/drift.py: 3D, with precisions, blinks of two frames and a drift. Every program
is started anew, on one thread. Its seconds are of the processor, its memory is all that the process held at its peak;
the first row is a program that only starts (imports and settings), which is in all the others.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROWS_KEPT = 0.8  # of what movie() is asked for: the rest lies outside of its field
STEPS = {
    "start alone": ("convert.py", "--help"),
    "convert csv to hdf5": ("convert.py", "table=locs.csv", "output=locs.hdf5", "pixel_size_nm=100"),
    "convert hdf5 to csv": ("convert.py", "table=locs.hdf5", "output=again.csv"),
    "filter": ("filter.py", "localizations=locs.csv", "where=precision_x_nm < 18", "output=few.csv"),
    "drift": ("drift.py", "localizations=locs.csv", "output=corrected.csv"),
    "link": ("link.py", "localizations=corrected.csv", "output=linked.csv"),
    "render histogram": ("render.py", "localizations=corrected.csv", "output=image.png"),
    "render gaussian": ("render.py", "localizations=corrected.csv", "style=gaussian", "output=soft.png"),
    "FRC and NeNA": ("resolution.py", "localizations=corrected.csv", "output=resolution.json"),
}


def write(path: Path, n: int) -> None:
    """The table. In a process of its own: a child's peak memory is never below what its parent held."""
    from drift import movie
    from emitter.io.tables import write_table

    table = movie("filaments", "random walk", round(n / ROWS_KEPT), seed=0)[0]
    write_table(path, table)
    print(f"{len(table)} localizations, {path.stat().st_size / 1e6:.0f} MB as csv")


def measured(program: str, *overrides: str, folder: Path) -> tuple[float, float]:
    """CPU-seconds and peak MB of a program that is run in a folder.

    Raises:
        RuntimeError: it failed.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, ROOT / program, *overrides],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise RuntimeError(f"{program} {' '.join(overrides)} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3


def main() -> None:
    if len(sys.argv) > 2:
        write(Path(sys.argv[1]), int(sys.argv[2]))
        return
    n = sys.argv[1] if len(sys.argv) > 1 else "1000000"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, __file__, folder / "locs.csv", n], check=True)
        print(f"{'step':20} {'CPU s':>6} {'MB':>6}")
        for step, (program, *overrides) in STEPS.items():
            seconds, megabytes = measured(program, *overrides, folder=folder)
            print(f"{step:20} {seconds:6.1f} {megabytes:6.0f}", flush=True)


if __name__ == "__main__":
    main()
