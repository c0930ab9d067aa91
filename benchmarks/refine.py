"""What refine=map is worth at every density: the network's efficiency, with the refinement, and with the whole way.

    python benchmarks/refine.py --checkpoint RUN --densities 0.1 0.3 0.6 1 2 3 5

Efficiencies (3D, lateral for a network without depth) under protocol=challenge2016 on held-out frames of the network's
own microscope, about --emitters of them at every density, the same for the three rows, as a Markdown table. "The whole
way" goes to the maximum a posteriori at most one standard deviation away, as it would be without the fitted shares.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch

from emitter.app.held_out import held_out_tables
from emitter.app.sureness import told_refiner, with_correction
from emitter.core.memory import keep_freed_memory
from emitter.inference.bundle import Bundle, load_bundle
from emitter.inference.refine import CROWD_KNOTS, Refiner
from emitter.inference.uncertainty import AXES
from emitter.metrics.protocol import protocol_named
from emitter.metrics.scores import EmitterMetrics


def samples_for(bundle: Bundle, density: float, emitters: int) -> int:
    """Samples of the training's size that hold about so many emitters."""
    height, width = bundle.simulation.frame_size_px
    x_nm, y_nm = bundle.pixel_size.to_nm(float(width), float(height))
    return math.ceil(emitters / (density * x_nm * y_nm * 1e-6))


def efficiency(bundle: Bundle, n_samples: int, refiner: Refiner | None) -> float:
    """On the held-out frames of the bundle's simulation."""
    height, width = bundle.simulation.frame_size_px
    protocol = replace(protocol_named("challenge2016"), axial=bundle.is_3d)
    metrics = EmitterMetrics(protocol, bundle.pixel_size.to_nm(float(width), float(height)))
    metrics.update(*held_out_tables(bundle, n_samples, refiner=refiner))
    return metrics.compute()["efficiency_3d" if bundle.is_3d else "efficiency_lateral"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="a .ckpt, or the folder of a run")
    parser.add_argument("--densities", nargs="+", type=float, default=[0.1, 0.3, 0.6, 1, 2, 3, 5])
    parser.add_argument("--emitters", type=int, default=2000, help="true ones at every density")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    bundle = with_correction(load_bundle(arguments.checkpoint))
    fitted = told_refiner(bundle)
    whole = replace(fitted, gains={axis: (1.0,) * len(CROWD_KNOTS) for axis in AXES})
    rows = {"network": None, "refine=map": fitted, "the whole way": whole}
    print("| emitters per µm² |" + "".join(f" {density:g} |" for density in arguments.densities))
    print("| --- |" + " --- |" * len(arguments.densities))
    for name, refiner in rows.items():
        cells = []
        for density in arguments.densities:
            there = replace(bundle, simulation=replace(bundle.simulation, density_per_um2=(density, density)))
            n_samples = samples_for(bundle, density, arguments.emitters)
            cells.append(f" {efficiency(there, n_samples, refiner):.4f} |")
        print(f"| {name} |{''.join(cells)}", flush=True)
    for axis, gains in fitted.gains.items():
        print(f"share gone, {axis}: {', '.join(f'{gain:.2f}' for gain in gains)}")


if __name__ == "__main__":
    main()
