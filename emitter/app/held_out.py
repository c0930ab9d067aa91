"""A network on samples of its own simulation that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from emitter.core.decoding import decode
from emitter.core.errors import require
from emitter.core.precision import has_fast_bfloat16
from emitter.core.table import EmitterTable
from emitter.inference.bundle import Bundle
from emitter.inference.refine import Refiner, background
from emitter.inference.turned import check_turnable, mean_of_turned
from emitter.simulation.simulator import Domain, Simulator

_SEED = 1
_BATCH = 32


@torch.inference_mode()
def held_out_tables(
    bundle: Bundle,
    n_samples: int,
    bf16: bool | None = None,
    truth_frames: int = 1,
    turned: bool = False,
    refiner: Refiner | None = None,
) -> tuple[EmitterTable, EmitterTable]:
    """Predicted emitters of the middle frames of ``n_samples`` samples, and true ones of the frames around them.

    ``bf16``: predict in bfloat16; None: where the processor has it. ``truth_frames``: an odd number F of consecutive
    frames of every sample whose truth is given, the predicted one in their middle. Frames are numbered F · sample + 0,
    1, …; with one, frame and sample are the same. ``turned``: the mean with the frames turned by 180°.
    ``refiner``: moves what is found.

    Raises:
        SettingsError: when F is even, or ``turned`` is not for this network.
    """
    require(
        truth_frames % 2 == 1, f"truth_frames is {truth_frames}: give an odd number, its middle is predicted"
    )
    if turned:
        check_turnable(bundle.psf, bundle.thresholds)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    bf16 = has_fast_bfloat16(device) if bf16 is None else bf16
    simulator = Simulator(bundle.simulation, bundle.psf, bundle.camera).to(device)
    network = bundle.network.to(device).eval()
    uncertainty = bundle.uncertainty()
    height, width = bundle.simulation.frame_size_px
    half = truth_frames // 2

    def finest(frames_BTHW: Tensor) -> Tensor:
        return network(frames_BTHW)[-1]

    predicted: list[EmitterTable] = []
    truth: list[EmitterTable] = []
    for index_B in track(torch.arange(n_samples).split(_BATCH), "evaluating", transient=True):
        sample = simulator.sample(_SEED, index_B.to(device), Domain.HELD_OUT, truth_frames)
        photons_BTHW = sample.photons_BTHW[:, half : half + network.n_frames]
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            maps_B6HW = mean_of_turned(finest, photons_BTHW) if turned else finest(photons_BTHW)
        found = decode(maps_B6HW, bundle.scaling, bundle.thresholds, network.cells_px[-1])
        precision = uncertainty.columns(found, height, width)
        if refiner is not None:
            middle_BHW = photons_BTHW[:, network.n_frames // 2]
            flat_BHW = background(maps_B6HW, bundle.scaling, height, width)
            found, precision = refiner(found, precision, middle_BHW, flat_BHW)
        frame_FB = torch.arange(truth_frames)[:, None] + truth_frames * index_B
        for emitters, frames, columns, tables in (
            (found, frame_FB[half], precision, predicted),
            (sample.emitters, frame_FB.flatten(), {}, truth),
        ):
            table = EmitterTable.from_emitters(emitters, bundle.pixel_size, frames.tolist())
            tables.append(table.with_columns(**columns))
    return EmitterTable.concatenate(predicted), EmitterTable.concatenate(truth)


@torch.inference_mode()
def held_out_frames(bundle: Bundle, samples: Sequence[int]) -> np.ndarray:
    """The predicted frames of some of the samples of ``held_out_tables``, (F, H, W) in photons."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    simulator = Simulator(bundle.simulation, bundle.psf, bundle.camera).to(device)
    index_F = torch.tensor(list(samples), dtype=torch.long, device=device)
    frames_FHW: np.ndarray = (
        simulator.sample(_SEED, index_F, Domain.HELD_OUT).predicted_photons_IHW.cpu().numpy()
    )
    return frames_FHW
