"""A network on samples of its own simulation that it was not trained on."""

from __future__ import annotations

import torch
from rich.progress import track

from emitter.core.decoding import decode
from emitter.core.precision import has_fast_bfloat16
from emitter.core.table import EmitterTable
from emitter.inference.bundle import Bundle
from emitter.simulation.simulator import Domain, Simulator

_SEED = 1
_BATCH = 32


@torch.inference_mode()
def held_out_tables(
    bundle: Bundle, n_samples: int, bf16: bool | None = None
) -> tuple[EmitterTable, EmitterTable]:
    """Predicted and true emitters of ``n_samples`` middle frames, each sample a frame of its own.

    ``bf16``: predict in bfloat16; None: where the processor has it.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    bf16 = has_fast_bfloat16(device) if bf16 is None else bf16
    simulator = Simulator(bundle.simulation, bundle.psf, bundle.camera).to(device)
    network = bundle.network.to(device).eval()
    predicted: list[EmitterTable] = []
    truth: list[EmitterTable] = []
    for index_B in track(torch.arange(n_samples).split(_BATCH), "evaluating", transient=True):
        sample = simulator.sample(_SEED, index_B.to(device), Domain.HELD_OUT)
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            maps_B6HW = network(sample.photons_BTHW)[-1]
        found = decode(maps_B6HW, bundle.scaling, bundle.thresholds, network.cells_px[-1])
        for emitters, tables in ((found, predicted), (sample.emitters, truth)):
            tables.append(EmitterTable.from_emitters(emitters, bundle.pixel_size, index_B.tolist()))
    return EmitterTable.concatenate(predicted), EmitterTable.concatenate(truth)
