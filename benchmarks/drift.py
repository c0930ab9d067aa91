"""Drift that is known: its RMS error per axis before and after drift.py's estimate, on simulated structures.

python benchmarks/drift.py [--picasso PYTHON] [--rows 3000 30000 300000] [--seeds 1]

Filaments (3D, curved, 12 nm thick) and clusters (2D, of 15 nm, a fifth of the rows spread at random), 20 × 20 µm,
10,000 frames, blinks of 2 frames on average, precision 8 to 20 nm. ``--picasso`` takes the interpreter of an
environment with ``picassosr`` and adds its redundant cross-correlation and its AIM at several numbers of segments, each
at its best one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from emitter.analysis.drift import DriftSettings, estimate_drift
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize
from emitter.io.acquisition import Acquisition
from emitter.io.tables import write_table

FRAMES, FIELD_NM, PIXEL_NM = 10_000, 20_000.0, 100.0
MARGIN_NM = 2_000.0  # around the field, so that drift leads nowhere outside of the image
KINDS = ("none", "linear", "large", "random walk", "steps")
PICASSO_SEGMENTS = (5, 10, 20, 50, 100)


def true_drift(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Drift in x, y, z of every frame, (F, 3) nm."""
    time_F1 = np.arange(FRAMES)[:, None] / FRAMES
    if kind == "linear":
        return time_F1 * np.array([200.0, -120.0, 150.0])
    if kind == "large":
        return time_F1**1.5 * np.array([800.0, -500.0, 400.0]) + 30 * np.sin(9 * time_F1)
    if kind == "random walk":
        return np.cumsum(rng.normal(0, 0.5, (FRAMES, 3)), axis=0)  # 50 nm after all frames
    if kind == "steps":
        jumps = (time_F1 > 0.37) * np.array([60.0, -35.0, 80.0]) + (time_F1 > 0.71) * np.array([-90, -50, 40])
        return jumps + 30 * time_F1
    return np.zeros((FRAMES, 3))


def filaments(n: int, rng: np.random.Generator) -> np.ndarray:
    """Places of n emitters, (n, 3) nm: on 40 curved filaments."""
    line_N, along_N = rng.integers(0, 40, n), rng.uniform(-1, 1, n)
    centre, angle, bend = (
        rng.uniform(0, FIELD_NM, (40, 2)),
        rng.uniform(0, np.pi, 40),
        rng.normal(0, 1500, 40),
    )
    u_N, v_N = 6000 * along_N, bend[line_N] * along_N**2
    cos_N, sin_N = np.cos(angle)[line_N], np.sin(angle)[line_N]
    z_N = rng.uniform(-200, 200, 40)[line_N] + rng.normal(0, 150, 40)[line_N] * along_N
    place_N3 = np.column_stack((u_N * cos_N - v_N * sin_N, u_N * sin_N + v_N * cos_N, z_N))
    place_N3[:, :2] += centre[line_N]
    return place_N3 + rng.normal(0, 12, (n, 3))


def clusters(n: int, rng: np.random.Generator) -> np.ndarray:
    """Places of n emitters, (n, 3) nm, z 0: in 400 clusters, or at random."""
    centre = rng.uniform(0, FIELD_NM, (400, 2))
    place_N2 = centre[rng.integers(0, 400, n)] + rng.normal(0, 15, (n, 2))
    lone_N = rng.random(n) < 0.2
    place_N2[lone_N] = rng.uniform(0, FIELD_NM, (int(lone_N.sum()), 2))
    return np.column_stack((place_N2, np.zeros(n)))


STRUCTURES = {"filaments": filaments, "clusters": clusters}


def movie(structure: str, kind: str, rows: int, seed: int) -> tuple[EmitterTable, np.ndarray]:
    """A table of about so many rows, and the drift of every frame, (F, 3) nm."""
    rng = np.random.default_rng((seed, rows))
    drift_F3 = true_drift(kind, rng)
    blinks = rows // 2
    life_N = rng.geometric(0.5, blinks)
    first_N, place_N3 = rng.integers(0, FRAMES, blinks), STRUCTURES[structure](blinks, rng)
    blink_N = np.repeat(np.arange(blinks), life_N)
    frame_N = first_N[blink_N] + np.arange(len(blink_N)) - np.repeat(np.cumsum(life_N) - life_N, life_N)
    inside = (frame_N < FRAMES) & np.all(
        (place_N3[blink_N, :2] >= 0) & (place_N3[blink_N, :2] < FIELD_NM), axis=1
    )
    blink_N, frame_N = blink_N[inside], frame_N[inside]
    precision_N = rng.uniform(8, 20, len(frame_N))
    error_N3 = rng.normal(size=(len(frame_N), 3)) * precision_N[:, None] * np.array([1.0, 1.0, 2.0])
    x, y, z = (place_N3[blink_N] + drift_F3[frame_N] + error_N3).T
    columns = {"x_nm": x + MARGIN_NM, "y_nm": y + MARGIN_NM, "photons": (1e4 / precision_N) ** 2 / 100}
    columns |= {"precision_x_nm": precision_N, "precision_y_nm": precision_N}
    if structure == "filaments":
        columns |= {"z_nm": z, "precision_z_nm": 2 * precision_N}
    return EmitterTable.of(frame_N, **columns).sorted(), drift_F3


def rms_nm(left_FA: np.ndarray, table: EmitterTable) -> float:
    """Root mean square of what is left of the drift, per axis, over the localizations; a common shift is none."""
    left_NA = left_FA[table.frame]
    return float(np.sqrt(np.mean((left_NA - left_NA.mean(axis=0)) ** 2)))


def ours(table: EmitterTable, drift_F3: np.ndarray) -> dict[str, float]:
    """What is left laterally and axially, the stated standard errors, and the CPU-seconds."""
    start = time.process_time()
    found = estimate_drift(table, DriftSettings())
    seconds = time.process_time() - start
    at = slice(found.first_frame, found.first_frame + len(found.nm_FA))
    left_FA = drift_F3[at, : found.nm_FA.shape[1]] - found.nm_FA
    padded_FA = np.zeros((FRAMES, left_FA.shape[1]))
    padded_FA[at] = left_FA
    says = found.errors_nm()
    scores = {"lateral": rms_nm(padded_FA[:, :2], table), "says": says["x_nm"]}
    if "z_nm" in says:
        scores |= {"axial": rms_nm(padded_FA[:, 2:], table), "says z": says["z_nm"]}
    return scores | {"s": seconds}


THEIR_PROGRAM = """
import json, sys
import numpy as np
from picasso import aim, io, postprocess
path, segments = sys.argv[1], [int(n) for n in sys.argv[2].split()]
drift = {}
locs, info = io.load_locs(path)
frames = info[0]["Frames"]
for n in segments:
    for name in ("rcc", "aim"):
        try:
            if name == "rcc":
                found = postprocess.undrift(locs.copy(), info, frames // n, display=False)[0]
            else:
                found = aim.aim(locs.copy(), info, frames // n)[2]
            z = [found["z"].tolist()] if "z" in found else []
            drift[f"{name} {n}"] = [found["x"].tolist(), found["y"].tolist(), *z]
        except Exception as error:
            sys.stderr.write(f"{name} {n}: {error}\\n")
json.dump(drift, open(sys.argv[3], "w"))
"""


def picasso(python: str, table: EmitterTable, drift_F3: np.ndarray) -> dict[str, float]:
    """What Picasso leaves, at the number of segments that happens to be best: no user knows it."""
    with tempfile.TemporaryDirectory() as folder:
        path, found = Path(folder) / "locs.hdf5", Path(folder) / "drift.json"
        side = int((FIELD_NM + 2 * MARGIN_NM) / PIXEL_NM)
        write_table(path, table, "picasso", Acquisition(PixelSize.of(PIXEL_NM), (side, side), FRAMES))
        segments = " ".join(map(str, PICASSO_SEGMENTS))
        command = [python, "-c", THEIR_PROGRAM, str(path), segments, str(found)]
        subprocess.run(command, check=True, capture_output=True)
        curves = json.loads(found.read_text())
    scores = {}
    for name, curve in curves.items():
        theirs_FA = np.array(curve).T * np.array([PIXEL_NM, PIXEL_NM, 1.0])[: len(curve)]
        left_FA = drift_F3[:, : len(curve)] - theirs_FA
        method, kept = name.split()[0], {"lateral": rms_nm(left_FA[:, :2], table)}
        if len(curve) == 3:
            kept["axial"] = rms_nm(left_FA[:, 2:], table)
        for axis, value in kept.items():
            key = f"{method} {axis}"
            scores[key] = min(scores.get(key, np.inf), value)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[3_000, 30_000, 300_000])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--picasso", help="interpreter of an environment with picassosr")
    arguments = parser.parse_args()
    names = ["before", "lateral", "says", "before z", "axial", "says z", "s"]
    names += ["rcc lateral", "aim lateral", "aim axial"] if arguments.picasso else []
    print(f"RMS error of the drift, nm per axis\n| structure | drift | rows | {' | '.join(names)} |")
    print("| --- " * (3 + len(names)) + "|")
    for structure in STRUCTURES:
        for rows in arguments.rows:
            for kind in KINDS:
                runs = []
                for seed in range(arguments.seeds):
                    table, drift_F3 = movie(structure, kind, rows, seed)
                    runs.append({"before": rms_nm(drift_F3[:, :2], table)} | ours(table, drift_F3))
                    if structure == "filaments":
                        runs[-1]["before z"] = rms_nm(drift_F3[:, 2:], table)
                    if arguments.picasso:
                        runs[-1] |= picasso(arguments.picasso, table, drift_F3)
                cells = [
                    f"{np.mean([run[name] for run in runs]):.1f}" if name in runs[0] else "" for name in names
                ]
                print(f"| {structure} | {kind} | {rows:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
