"""How near to the Cramér-Rao bound a network comes, and how its error falls with the frames that show an emitter.

python benchmarks/precision.py --checkpoint RUN_OR_CKPT --samples 3000 --out runs/precision

Two tables in Markdown to stdout, and the same as on_frames.png and alone.png in --out. The first is of the network's
own simulation with its blinking, the second of emitters alone in independent frames. All is on held-out samples, paired
as protocol=plain does.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from precision_figures import Group, Row, plot_alone, plot_on_frames
from scipy.spatial import cKDTree

from emitter.app.evaluate import changed
from emitter.app.held_out import held_out_tables
from emitter.app.sureness import told_refiner, with_correction
from emitter.core.table import EmitterTable
from emitter.inference.bundle import Bundle, load_bundle
from emitter.metrics.crlb import joint_crlb, robust_ratio
from emitter.metrics.protocol import PROTOCOLS, Protocol, count, inside_border

ROOT = Path(__file__).resolve().parent.parent
AXES = ("x", "y", "z")
DIRECTIONS = {"lateral": [0, 1], "axial": [2]}  # columns of errors and bounds
LONG_WINDOW = 7  # frames
FLUX_SHARES = (
    1 / 6,
    1 / 3,
    2 / 3,
    1.0,
    math.inf,
)  # edges of the first table's bins, in typical photons of a full frame
APART_NM = 700.0  # two to three widths of a PSF out of focus: nearer, a neighbour is what makes the error
LEAST_PAIRS = 10  # an RMSE of fewer says nothing
ALONE = {
    "density_per_um2": [0.05, 0.05],
    "frame_size_px": [64, 64],
    "lifetime_frames": None,
    "filament_share": 0.0,
    "flux": {"distribution": "uniform", "range": [1000.0, 5000.0]},
}
PHOTON_EDGES = (1000.0, 2000.0, 3000.0, 4000.0, 5000.0)
Z_BINS = 5


@dataclass(frozen=True)
class Scored:
    """The N true emitters of the predicted frames; columns of (N, 3) are x, y and z.

    ``error_nm``: predicted - true, NaN where missed, and in z for a network without. ``bound_nm`` and ``on`` by a
    number of frames around the predicted one: the bound from all of them, and in how many of them the emitter is on.
    ``apart``: no other emitter and no edge of the frame is near.
    """

    truth: EmitterTable
    error_nm_N3: np.ndarray
    bound_nm_N3: Mapping[int, np.ndarray]
    on_N: Mapping[int, np.ndarray]
    apart_N: np.ndarray

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def found_N(self) -> np.ndarray:
        """Which are matched."""
        return np.isfinite(self.error_nm_N3[:, 0])

    def select(self, keep_N: np.ndarray) -> Scored:
        """Those of a mask."""
        return Scored(
            self.truth.select(keep_N),
            self.error_nm_N3[keep_N],
            {window: bound[keep_N] for window, bound in self.bound_nm_N3.items()},
            {window: on[keep_N] for window, on in self.on_N.items()},
            self.apart_N[keep_N],
        )


def scored(
    predicted: EmitterTable, truth: EmitterTable, bundle: Bundle, windows: Sequence[int], apart_nm: float
) -> Scored:
    """Errors and bounds from the tables of ``held_out_tables`` with ``truth_frames = max(windows)``; windows are odd
    numbers of frames with the predicted one in their middle."""
    n_frames = max(windows)
    step_R = truth.frame % n_frames - n_frames // 2  # from the predicted frame; R rows of the truth
    emitter_R = emitters_of(truth, n_frames)
    bounds, on = {}, {}
    for window in windows:
        near_R = np.abs(step_R) <= window // 2
        noise = bundle.camera.mean_noise_variance
        bound = joint_crlb(truth.select(near_R), emitter_R[near_R], bundle.psf, noise, bundle.pixel_size)
        bounds[window] = np.column_stack([std.numpy() for std in vars(bound).values()])[step_R[near_R] == 0]
        on[window] = np.bincount(emitter_R[near_R])[emitter_R[step_R == 0]]
    middle = truth.select(step_R == 0)
    rows, columns = bundle.simulation.frame_size_px
    field_nm = bundle.pixel_size.to_nm(float(columns), float(rows))
    return Scored(
        *(middle, errors_nm(predicted, middle, bundle.is_3d), bounds, on),
        apart(middle, field_nm, apart_nm),
    )


def emitters_of(truth: EmitterTable, n_frames: int) -> np.ndarray:
    """For every row the number of its emitter: in all frames of a sample it is at the same place, to the last bit."""
    place = np.column_stack((truth.frame // n_frames, truth.x_nm, truth.y_nm, truth.z_nm))
    return np.unique(place, axis=0, return_inverse=True)[1].reshape(-1)


def errors_nm(predicted: EmitterTable, truth: EmitterTable, axial: bool) -> np.ndarray:
    """Predicted - true of the matched, (N, 3), NaN elsewhere."""
    counted = count(predicted, truth, replace(PROTOCOLS["plain"], axial=axial), None, threshold=0.0)
    error_N3 = np.full((len(truth), 3), np.nan)
    for i, axis in enumerate(AXES if axial else AXES[:2]):
        p, t = (getattr(table, f"{axis}_nm") for table in (predicted, truth))
        error_N3[counted.truth_rows, i] = p[counted.predicted_rows] - t[counted.truth_rows]
    return error_N3


def apart(truth: EmitterTable, field_nm: tuple[float, float], reach_nm: float) -> np.ndarray:
    """Mask of the emitters with no other one of their frame and no edge within reach."""
    layer_nm = truth.frame * (
        2 * sum(field_nm) + 2 * reach_nm
    )  # frames so far from each other that they never meet
    points = np.column_stack((layer_nm, truth.x_nm, truth.y_nm))
    to_next_nm = cKDTree(points).query(points, k=2)[0][:, 1]
    return inside_border(truth, Protocol("apart", border_nm=reach_nm), field_nm) & (to_next_nm > reach_nm)


def rms(values_Nk: np.ndarray) -> float:
    """Root of the mean square length of the rows that are known; NaN for too few."""
    square_N = (values_Nk**2).sum(axis=1)
    square_N = square_N[np.isfinite(square_N)]
    return math.sqrt(square_N.mean()) if len(square_N) >= LEAST_PAIRS else math.nan


def in_bins(values_N: np.ndarray, edges: Sequence[float]) -> Iterator[tuple[str, np.ndarray]]:
    """Name and mask of every bin [low, high); the last edge may be infinite."""
    for low, high in zip(edges, edges[1:], strict=False):
        name = f"{low:,.0f} to {high:,.0f}" if math.isfinite(high) else f"from {low:,.0f}"
        yield name, (values_N >= low) & (values_N < high)


def on_frames(emitters: Scored, n_frames: int, typical_photons: float) -> list[Group]:
    """Emitters of equal light in the predicted frame by the number of frames that they are on in: in every bin of
    photons of the frames that the network sees, and in the last but one of the long window."""
    edges = [share * typical_photons for share in FLUX_SHARES]
    bins = [(name, emitters.select(mask)) for name, mask in in_bins(emitters.truth.photons, edges)]
    of = [(name, n_frames, some) for name, some in bins if n_frames > 1]
    if max(emitters.on_N) > n_frames:
        name, some = bins[-2]
        of.append((name, max(emitters.on_N), some))
    return [
        Group(name, n, {on: on_row(some.select(some.on_N[n] == on)) for on in range(1, n + 1)})
        for name, n, some in of
    ]


def on_row(some: Scored) -> Row:
    """Recall and RMSE of these emitters; RMSE and bounds of those of them that stand apart."""
    found = some.select(some.found_N)
    free = found.select(found.apart_N)
    row = {"emitters": float(len(some)), "apart": float(len(free)), "recall": _share(len(found), len(some))}
    for name, columns in DIRECTIONS.items():
        row[name] = rms(found.error_nm_N3[:, columns])
        row[f"{name} apart"] = rms(free.error_nm_N3[:, columns])
        for window, bound_N3 in free.bound_nm_N3.items():
            row[f"{name} bound {window}"] = rms(bound_N3[:, columns])
    return row


def alone_rows(emitters: Scored, z_range_nm: tuple[float, float]) -> dict[str, dict[str, Row]]:
    """Rows by photons and by z, and of all; by z only where it has a range."""
    z_edges = np.linspace(*z_range_nm, Z_BINS + 1) if z_range_nm[0] < z_range_nm[1] else ()
    by = {"photons": (emitters.truth.photons, PHOTON_EDGES), "z (nm)": (emitters.truth.z_nm, tuple(z_edges))}
    rows = {
        name: {label: alone_row(emitters.select(mask)) for label, mask in in_bins(values, edges)}
        for name, (values, edges) in by.items()
    }
    return {**rows, "all": {"": alone_row(emitters)}}


def alone_row(some: Scored) -> Row:
    """Of every axis the bound, the RMSE, and both ratios of error to bound."""
    found = some.select(some.found_N)
    row = {"emitters": float(len(some)), "recall": _share(len(found), len(some))}
    for i, axis in enumerate(AXES):
        error, bound = found.error_nm_N3[:, [i]], found.bound_nm_N3[1][:, [i]]
        row[f"bound {axis}"], row[f"rmse {axis}"] = rms(bound), rms(error)
        row[f"ratio {axis}"] = row[f"rmse {axis}"] / row[f"bound {axis}"]
        row[f"robust {axis}"] = robust_ratio(error, bound)
    return row


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if math.isfinite(value) else "–"


def on_frames_table(groups: Sequence[Group], windows: Sequence[int]) -> str:
    """The first table."""
    bounds = [f"bound, {window} frame{'s' if window > 1 else ''}" for window in windows]
    head = ["photons in the frame", "on in", "emitters (apart)", "recall"]
    for name in DIRECTIONS:
        head += [f"{name} RMSE (apart), nm", *bounds]
    lines = []
    for group in groups:
        for on, row in group.rows.items():
            line = [group.photons, f"{on} of {group.window}"]
            line += [f"{row['emitters']:,.0f} ({row['apart']:,.0f})", _text(row["recall"], 3)]
            for name in DIRECTIONS:
                line.append(f"{_text(row[name], 1)} ({_text(row[f'{name} apart'], 1)})")
                line += [_text(row[f"{name} bound {window}"], 1) for window in windows]
            lines.append(line)
    return markdown(head, lines)


def alone_table(rows: Mapping[str, Mapping[str, Row]]) -> str:
    """The second table."""
    head = ["emitters alone", "emitters", "recall"]
    for what in ("CRLB (nm)", "RMSE / CRLB", "crlb_ratio"):
        head += [f"{what} x", *AXES[1:]]
    lines = []
    for name, bins in rows.items():
        for label, row in bins.items():
            line = [f"{name} {label}".strip(), _text(row["emitters"], 0), _text(row["recall"], 3)]
            line += [_text(row[f"bound {axis}"], 1) for axis in AXES]
            line += [_text(row[f"{ratio} {axis}"], 2) for ratio in ("ratio", "robust") for axis in AXES]
            lines.append(line)
    return markdown(head, lines)


def report_on_frames(bundle: Bundle, n_samples: int, out: Path, how: Mapping[str, Any]) -> str:
    """The first table with what it shows, and its figure; a sentence for a network without blinking."""
    if bundle.simulation.lifetime_frames is None:
        return "No table by on-frames: the network's simulation has no blinking (lifetime_frames is null)."
    n_frames = bundle.simulation.n_frames
    windows = sorted({1, n_frames, max(n_frames, LONG_WINDOW)})
    tables = held_out_tables(bundle, n_samples, truth_frames=windows[-1], **how)
    groups = on_frames(scored(*tables, bundle, windows, APART_NM), n_frames, bundle.simulation.flux.typical)
    plot_on_frames(groups, windows, n_frames, out / "on_frames.png")
    text = (
        "Frames that show an emitter beside the predicted one lower the error of a network that sees them (here "
        f"{n_frames}): rows of equal light in the predicted frame tell this from brightness, and the bounds from 1 and "
        "from more frames say what is to be had without them and with them. RMSE is of all pairs, and in brackets of "
        f"those that stand apart (no other emitter of the frame and no edge within {APART_NM:.0f} nm), whose bounds "
        "these are; photons and background of every frame are unknown to them."
    )
    return f"{text}\n\n{on_frames_table(groups, windows)}"


def report_alone(bundle: Bundle, n_samples: int, out: Path, how: Mapping[str, Any]) -> str:
    """The second table with what it shows, and its figure."""
    bundle = replace(bundle, simulation=changed(bundle.simulation, ALONE))
    patch_nm = (bundle.psf.radius_px + 0.5) * max(bundle.pixel_size.x_nm, bundle.pixel_size.y_nm)
    emitters = scored(*held_out_tables(bundle, n_samples, **how), bundle, (1,), patch_nm)
    rows = alone_rows(emitters.select(emitters.apart_N), bundle.simulation.z_range_nm)
    plot_alone({name: bins for name, bins in rows.items() if name != "all" and bins}, out / "alone.png")
    text = (
        f"Emitters with no other one and no edge within {patch_nm:.0f} nm, in independent frames. RMSE / CRLB is of "
        "roots of mean squares over the pairs of a bin, crlb_ratio is evaluate.py's median of |error| / CRLB: where "
        "the first is the greater, few large errors make the difference."
    )
    return f"{text}\n\n{alone_table(rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="a .ckpt, or the folder of a run")
    parser.add_argument("--samples", type=int, default=3000, help="simulated frames for each table")
    parser.add_argument(
        "--density", type=float, help="emitters per µm² of the first table, not the training's"
    )
    parser.add_argument("--turned", action="store_true", help="as turned=true of evaluate.py")
    parser.add_argument("--refine", action="store_true", help="as refine=map of evaluate.py")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "precision")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    bundle = load_bundle(arguments.checkpoint)
    how: dict[str, Any] = {"turned": arguments.turned}
    if arguments.refine:  # fitted on the training's own frames
        bundle = with_correction(bundle)
        how["refiner"] = told_refiner(bundle)
    if arguments.density is not None:
        density = {"density_per_um2": [arguments.density] * 2}
        bundle = replace(bundle, simulation=changed(bundle.simulation, density))
    for report in (report_on_frames, report_alone):
        print(f"\n{report(bundle, arguments.samples, arguments.out, how)}", flush=True)


if __name__ == "__main__":
    main()
