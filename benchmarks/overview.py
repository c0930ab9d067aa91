"""The README's picture: one simulated frame, the probability of its cells, and what is found against the truth.

python benchmarks/overview.py RUN docs/overview.png
"""

from __future__ import annotations

import sys

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from emitter.core import channels as ch
from emitter.core.decoding import decode
from emitter.inference.bundle import load_bundle
from emitter.simulation.simulator import Simulator

SEED, SIDE_PX = 20, 40


def main(run: str, path: str) -> None:
    bundle = load_bundle(run)
    sample = Simulator(bundle.simulation, bundle.psf, bundle.camera).sample(SEED, torch.arange(1))
    with torch.inference_mode():
        maps_B6HW = bundle.network(sample.photons_BTHW)[-1]
    found = decode(maps_B6HW, bundle.scaling, bundle.thresholds, bundle.network.cells_px[-1])
    truth = sample.emitters
    panels = [
        ("camera frame", sample.counts_BTHW[0, 1], "gray"),
        ("probability", torch.sigmoid(maps_B6HW[0, ch.P]), "magma"),
    ]
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels) + 1)
    extent = (0, SIDE_PX, SIDE_PX, 0)
    for axis, (title, image, cmap) in zip(axes, panels, strict=False):
        axis.imshow(image, cmap=cmap, extent=extent, interpolation="nearest")
        axis.set_title(title, fontsize=11)
    last = axes[-1]
    last.imshow(sample.counts_BTHW[0, 1], cmap="gray", extent=extent, alpha=0.35)
    last.scatter(
        truth.x_px_N, truth.y_px_N, s=90, facecolors="none", edgecolors="black", linewidths=1, label="truth"
    )
    points = last.scatter(
        found.x_px_N, found.y_px_N, c=found.z_nm_N, s=28, marker="x", cmap="turbo", label="found"
    )
    last.set_title("emitters: truth ○, found ×", fontsize=11)
    figure.colorbar(points, ax=last, label="z (nm)")
    for axis in axes:
        axis.set(xlim=(0, SIDE_PX), ylim=(SIDE_PX, 0), xticks=[], yticks=[])
    figure.savefig(path, dpi=75)


if __name__ == "__main__":
    main(*sys.argv[1:3])
