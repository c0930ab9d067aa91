"""Where a network's error lies: matched pairs and misses by neighbour, photons and edge.

python benchmarks/residuals.py --checkpoint RUN --samples 1500 --density 0.6

On held-out samples of the network's own simulation, protocol plain: for every class of true emitters its share of the
matched pairs, of the squared lateral and axial errors and of the misses, its recall and its RMSE. The photons are those
of the one frame: an emitter that has just begun or ended sends few.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.spatial import cKDTree

from emitter.app.evaluate import changed
from emitter.app.held_out import held_out_tables
from emitter.core.table import EmitterTable
from emitter.inference.bundle import load_bundle
from emitter.metrics.protocol import count, protocol_named

FAR_NM = 1e6  # lateral distance of different frames: none is another's neighbour
CLASSES = {
    "next emitter of the frame (nm)": ("neighbour_nm", (0, 150, 300, 500, 800, np.inf)),
    "photons in the frame": ("photons", (0, 300, 700, 1500, 3000, np.inf)),
    "from the frame's edge (nm)": ("edge_nm", (0, 150, 300, np.inf)),
}


@dataclass(frozen=True)
class Errors:
    """Of every true emitter, (N,): what it is classed by, and its errors by axis, NaN where it is missed."""

    neighbour_nm: np.ndarray
    photons: np.ndarray
    edge_nm: np.ndarray
    by_axis_nm: dict[str, np.ndarray]

    @classmethod
    def of(
        cls, predicted: EmitterTable, truth: EmitterTable, field_nm: tuple[float, float], axial: bool
    ) -> Self:
        """Of tables whose emitters lie in a field of this width and height; in 2D when not ``axial``."""
        counted = count(predicted, truth, replace(protocol_named("plain"), axial=axial), None, 0.0)
        rows = counted.truth_rows
        p, t = predicted.select(counted.predicted_rows), truth.select(rows)
        errors_nm = {"lateral": np.hypot(p.x_nm - t.x_nm, p.y_nm - t.y_nm)}
        if axial:
            errors_nm["axial"] = np.abs(p.z_nm - t.z_nm)
        by_axis_nm = {axis: np.full(len(truth), np.nan) for axis in errors_nm}
        for axis, error_nm in errors_nm.items():
            by_axis_nm[axis][rows] = error_nm
        places_N3 = np.stack([truth.x_nm, truth.y_nm, FAR_NM * truth.frame], axis=1)
        neighbour_nm = cKDTree(places_N3).query(places_N3, k=2)[0][:, 1]
        sides = (truth.x_nm, truth.y_nm, field_nm[0] - truth.x_nm, field_nm[1] - truth.y_nm)
        return cls(neighbour_nm, truth.photons, np.minimum.reduce(sides), by_axis_nm)

    def rows(self, title: str, by: str, edges: tuple[float, ...]) -> list[str]:
        """A table's lines, one for each class between two edges that has emitters."""
        found = np.isfinite(self.by_axis_nm["lateral"])
        value = getattr(self, by)
        shares = " | ".join(f"{axis} error" for axis in self.by_axis_nm)
        rmse = " | ".join(f"{axis} (nm)" for axis in self.by_axis_nm)
        lines = [
            f"| {title} | pairs | {shares} | misses | recall | {rmse} |",
            f"|{' --- |' * (4 + 2 * len(self.by_axis_nm))}",
        ]
        for low, high in zip(edges, edges[1:], strict=False):
            here = (value >= low) & ((value < high) | (high == np.inf))
            if not here.any():
                continue
            pairs = here & found
            squares = [(np.sum(e[pairs] ** 2), np.sum(e[found] ** 2)) for e in self.by_axis_nm.values()]
            cells = [
                f"{low:g} and more" if high == np.inf else f"{low:g} to {high:g}",
                _share(pairs.sum(), found.sum()),
                *(_share(*square) for square in squares),
                _share((here & ~found).sum(), (~found).sum()),
                f"{pairs.sum() / here.sum():.3f}",
                *(f"{np.sqrt(own / pairs.sum()):.1f}" if pairs.any() else "–" for own, _ in squares),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return lines


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--samples", type=int, default=1500)
    parser.add_argument("--density", type=float, help="emitters per µm² in place of the training's")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.checkpoint)
    if arguments.density is not None:
        density = {"density_per_um2": [arguments.density] * 2}
        bundle = replace(bundle, simulation=changed(bundle.simulation, density))
    height, width = bundle.simulation.frame_size_px
    field_nm = bundle.pixel_size.to_nm(float(width), float(height))
    errors = Errors.of(*held_out_tables(bundle, arguments.samples), field_nm, bundle.is_3d)
    for title, (by, edges) in CLASSES.items():
        print("\n".join(errors.rows(title, by, edges)), end="\n\n")


if __name__ == "__main__":
    main()
