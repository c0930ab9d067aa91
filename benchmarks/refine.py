"""What refine=map is worth at every density: the network's efficiency, with the refinement, and with the whole way.

    python benchmarks/refine.py --checkpoint RUN --densities 0.1 0.3 0.6 1 2 3 5

Efficiencies (3D, lateral for a network without depth) under protocol=challenge2016 on held-out frames of the network's
own microscope, about --emitters of them at every density, the same for all rows, as a Markdown table. "More by it" is
the refinement's less the network's with the standard error of this difference (a jackknife over blocks of frames):
within twice of it the difference is chance, mostly of single pairs at the edge of the radius within which they count.
"The whole way" is refined with every share 1. Below: the fitted shares, and what is left of the precisions.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emitter.app.held_out import held_out_tables
from emitter.app.sureness import told_refiner, with_correction
from emitter.core.memory import keep_freed_memory
from emitter.core.table import EmitterTable
from emitter.inference.bundle import Bundle, load_bundle
from emitter.inference.refine import DENSITY_KNOTS, Refiner
from emitter.inference.uncertainty import AXES
from emitter.metrics.figures import Sums, scores, sums
from emitter.metrics.protocol import count, photon_threshold, protocol_named

BLOCKS = 20


@dataclass(frozen=True)
class Timed(Refiner):
    """Notes the CPU-seconds of each call."""

    seconds: list[float] = field(default_factory=list)

    def __call__(self, *arguments: Any) -> Any:
        """As the refiner."""
        start = time.process_time()
        refined = super().__call__(*arguments)
        self.seconds.append(time.process_time() - start)
        return refined


def samples_for(bundle: Bundle, density: float, emitters: int) -> int:
    """Samples of the training's size that hold about so many emitters."""
    height, width = bundle.simulation.frame_size_px
    x_nm, y_nm = bundle.pixel_size.to_nm(float(width), float(height))
    return max(BLOCKS, math.ceil(emitters / (density * x_nm * y_nm * 1e-6)))


def blocks_of(bundle: Bundle, predicted: EmitterTable, truth: EmitterTable) -> list[Sums]:
    """The sums that efficiencies follow from, of every block of frames by itself."""
    height, width = bundle.simulation.frame_size_px
    field_nm = bundle.pixel_size.to_nm(float(width), float(height))
    protocol = replace(protocol_named("challenge2016"), axial=bundle.is_3d)
    threshold = photon_threshold(truth, protocol, field_nm)
    blocks = []
    for block in range(BLOCKS):
        own, true = (one.select(np.flatnonzero(one.frame % BLOCKS == block)) for one in (predicted, truth))
        counted = count(own, true, protocol, field_nm, threshold)
        blocks.append(sums(own, true, counted, protocol.axial))
    return blocks


def efficiency(blocks: Sequence[Sums], is_3d: bool) -> float:
    """Of all blocks together."""
    return scores(reduce(add, blocks))["efficiency_3d" if is_3d else "efficiency_lateral"]


def gained(network: list[Sums], refined: list[Sums], is_3d: bool) -> tuple[float, float]:
    """The difference of the efficiencies and its standard error."""
    without = [
        efficiency(refined[:k] + refined[k + 1 :], is_3d) - efficiency(network[:k] + network[k + 1 :], is_3d)
        for k in range(BLOCKS)
    ]
    return efficiency(refined, is_3d) - efficiency(network, is_3d), float(np.std(without)) * math.sqrt(
        BLOCKS - 1
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="a .ckpt, or the folder of a run")
    parser.add_argument("--densities", nargs="+", type=float, default=[0.1, 0.3, 0.6, 1, 2, 3, 5])
    parser.add_argument("--emitters", type=int, default=10_000, help="true ones at every density")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    bundle = with_correction(load_bundle(arguments.checkpoint))
    fitted = told_refiner(bundle)
    whole = replace(fitted, gains={axis: (1.0,) * len(DENSITY_KNOTS) for axis in AXES})
    columns = []
    for density in arguments.densities:
        there = replace(bundle, simulation=replace(bundle.simulation, density_per_um2=(density, density)))
        n_samples = samples_for(bundle, density, arguments.emitters)
        timed = Timed(**vars(fitted))
        tables = [held_out_tables(there, n_samples, refiner=refiner) for refiner in (None, timed, whole)]
        network, refined, farthest = (blocks_of(there, *pair) for pair in tables)
        difference, error = gained(network, refined, bundle.is_3d)
        columns.append(
            (
                f"{density:g}",
                "---",
                *(f"{efficiency(blocks, bundle.is_3d):.4f}" for blocks in (network, refined)),
                f"{difference:+.4f} ± {error:.4f}",
                f"{efficiency(farthest, bundle.is_3d):.4f}",
                f"{1e6 * sum(timed.seconds) / len(tables[1][0]):.0f}",
            )
        )
    names = (
        "emitters per µm²",
        "---",
        "network",
        "refine=map",
        "more by it",
        "the whole way",
        "µs an emitter",
    )
    for name, cells in zip(names, zip(*columns, strict=True), strict=True):
        print(f"| {name} | {' | '.join(cells)} |")
    for what, by_axis in (("share gone", fitted.gains), ("precision left", fitted.spreads)):
        for axis, knots in by_axis.items():
            print(f"{what}, {axis}: {', '.join(f'{one:.2f}' for one in knots)}")


if __name__ == "__main__":
    main()
