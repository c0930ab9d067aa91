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

from emitter.app.held_out import held_out_tables
from emitter.core.table import EmitterTable
from emitter.inference.bundle import load_bundle
from emitter.metrics.matching import match

FAR_NM = 1e6  # lateral distance of different frames: none is another's neighbour
CLASSES = {
    "next emitter of the frame (nm)": ("neighbour_nm", (0, 150, 300, 500, 800, np.inf)),
    "photons in the frame": ("photons", (0, 300, 700, 1500, 3000, np.inf)),
    "from the frame's edge (nm)": ("edge_nm", (0, 150, 300, np.inf)),
}


@dataclass(frozen=True)
class Errors:
    """Of every true emitter, (N,): what it is classed by, and its errors, NaN where it is missed."""

    neighbour_nm: np.ndarray
    photons: np.ndarray
    edge_nm: np.ndarray
    lateral_nm: np.ndarray
    axial_nm: np.ndarray

    @classmethod
    def of(cls, predicted: EmitterTable, truth: EmitterTable, field_nm: tuple[float, float]) -> Self:
        """Of tables whose emitters lie in a field of this width and height."""
        pairs = match(predicted, truth, "optimal")
        p, t = predicted.select(pairs.predicted), truth.select(pairs.truth)
        lateral_nm, axial_nm = np.full((2, len(truth)), np.nan)
        lateral_nm[pairs.truth] = np.hypot(p.x_nm - t.x_nm, p.y_nm - t.y_nm)
        axial_nm[pairs.truth] = np.abs(p.z_nm - t.z_nm)
        places_N3 = np.stack([truth.x_nm, truth.y_nm, FAR_NM * truth.frame], axis=1)
        neighbour_nm = cKDTree(places_N3).query(places_N3, k=2)[0][:, 1]
        sides = (truth.x_nm, truth.y_nm, field_nm[0] - truth.x_nm, field_nm[1] - truth.y_nm)
        return cls(neighbour_nm, truth.photons, np.minimum.reduce(sides), lateral_nm, axial_nm)

    def rows(self, title: str, by: str, edges: tuple[float, ...]) -> list[str]:
        """A table's lines, one for each class between two edges."""
        found = np.isfinite(self.lateral_nm)
        value = getattr(self, by)
        lines = [
            f"| {title} | pairs | lateral error | axial error | misses | recall | lateral (nm) | axial (nm) |",
            f"|{' --- |' * 8}",
        ]
        for low, high in zip(edges, edges[1:], strict=False):
            here = (value >= low) & (value < high)
            pairs = here & found
            shares = [pairs.sum() / found.sum()]
            rmse_nm = []
            for error_nm in (self.lateral_nm, self.axial_nm):
                shares.append(np.sum(error_nm[pairs] ** 2) / np.sum(error_nm[found] ** 2))
                rmse_nm.append(np.sqrt(np.mean(error_nm[pairs] ** 2)))
            shares.append((here & ~found).sum() / (~found).sum())
            name = f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} and more"
            cells = [*(f"{100 * share:.0f} %" for share in shares), f"{pairs.sum() / here.sum():.3f}"]
            lines.append(f"| {' | '.join([name, *cells, *(f'{one:.1f}' for one in rmse_nm)])} |")
        return lines


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
        densities = (arguments.density, arguments.density)
        bundle = replace(bundle, simulation=replace(bundle.simulation, density_per_um2=densities))
    height, width = bundle.simulation.frame_size_px
    field_nm = bundle.pixel_size.to_nm(float(width), float(height))
    errors = Errors.of(*held_out_tables(bundle, arguments.samples), field_nm)
    for title, (by, edges) in CLASSES.items():
        print("\n".join(errors.rows(title, by, edges)), end="\n\n")


if __name__ == "__main__":
    main()
