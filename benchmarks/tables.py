"""Time and memory of tables: writing and reading a million emitters in every format.

    python benchmarks/tables.py          # [number of emitters]

Every step runs in a process of its own. The memory is what the step adds to its peak over what the process held before,
which when writing includes the table. A copy in memory is the table's eleven columns of 8 bytes each.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from emitter.core.table import PRECISION_COLUMNS, EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.insight3 import _RECORD
from emitter.io.tables import FORMATS, read_table, write_table

PIXEL = PixelSize.of(100.0)
MOVIE = Acquisition(PIXEL, (512, 512), 50_000)
N_COLUMNS = 11


def a_table(n: int) -> EmitterTable:
    """Emitters of a 3D acquisition with all precisions."""
    rng = np.random.default_rng(0)
    columns = {name: rng.uniform(100, 51_000, n) for name in ("x_nm", "y_nm")}
    columns |= {"z_nm": rng.normal(0, 300, n), "photons": rng.exponential(3000, n)}
    columns |= {"background": rng.exponential(50, n), "probability": rng.uniform(0, 1, n)}
    columns |= {name: rng.exponential(10, n) for name in PRECISION_COLUMNS}
    return EmitterTable.of(np.sort(rng.integers(0, 50_000, n)), **columns)


def insight3(path: Path, table: EmitterTable) -> None:
    """A molecule list."""
    records = np.zeros(len(table), _RECORD)
    records["x"], records["y"] = table.x_nm / PIXEL.x_nm + 0.5, table.y_nm / PIXEL.y_nm + 0.5
    records["frame"], records["z"], records["sum"] = table.frame + 1, table.z_nm, table.photons
    path.write_bytes(b"M425" + np.array([50_000, 6, len(table)], "<i4").tobytes() + records.tobytes())


def smap(path: Path, table: EmitterTable) -> None:
    """What a .mat of SMAP has."""
    columns = {"frame": table.frame + 1, "xnm": table.x_nm, "ynm": table.y_nm, "znm": table.z_nm}
    columns |= {"phot": table.photons, "bg": table.background, "xnmerr": table.precision_x_nm}
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, column in columns.items():
            file[f"saveloc/loc/{name}"] = np.asarray(column, np.float64)[None]


def challenge(path: Path, table: EmitterTable) -> None:
    """The challenge's csv, with its blanks."""
    columns = {"Ground-truth": np.arange(len(table)), "frame": table.frame + 1, "xnano": table.x_nm}
    columns |= {"ynano": table.y_nm, "znano": table.z_nm, "intensity ": table.photons}
    pd.DataFrame(columns).to_csv(path, index=False, float_format=" %.3f")


def trailing_commas(path: Path, table: EmitterTable) -> None:
    """A ThunderSTORM csv whose rows end with one comma more than the header: read by the careful reader."""
    write_table(path, table, "thunderstorm")
    header, rows = path.read_text().split("\n", 1)
    path.write_text(f"{header}\n" + rows.replace("\n", ",\n"))


FOREIGN = {
    "insight3": insight3,
    "smap": smap,
    "challenge csv": challenge,
    "csv, uneven rows": trailing_commas,
}


def step(what: str, name: str, path: Path, n: int) -> None:
    """One step, alone in its process: prints seconds and MB."""
    table = a_table(n) if what == "write" else None
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    if table is None:
        assert len(read_table(path, PIXEL)) == n
    elif name in FORMATS:
        write_table(path, table, name, MOVIE)
    else:
        FOREIGN[name](path, table)
    seconds = time.perf_counter() - start
    print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1e3)


def measured(what: str, name: str, path: Path, n: int) -> tuple[float, float]:
    """Seconds and MB of a step in a new process."""
    command = [sys.executable, __file__, what, name, str(path), str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, megabytes = done.stdout.split()[-2:]
    return float(seconds), float(megabytes)


def main() -> None:
    if len(sys.argv) > 2:
        step(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
        return
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    copy_mb = n * N_COLUMNS * 8 / 1e6
    print(f"{n} emitters, a copy in memory is {copy_mb:.0f} MB")
    print(f"{'format':18} {'MB':>6} {'write s':>8} {'copies':>7} {'read s':>8} {'copies':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for name in (*FORMATS, *FOREIGN):
            path = Path(folder) / f"table{FORMATS[name].suffix if name in FORMATS else '.foreign'}"
            written, written_mb = measured("write", name, path, n)
            size_mb = path.stat().st_size / 1e6
            read, read_mb = measured("read", name, path, n)
            writing = f"{written:8.2f} {written_mb / copy_mb:7.1f}" if name in FORMATS else f"{'':8} {'':7}"
            print(f"{name:18} {size_mb:6.0f} {writing} {read:8.2f} {read_mb / copy_mb:7.1f}", flush=True)


if __name__ == "__main__":
    main()
