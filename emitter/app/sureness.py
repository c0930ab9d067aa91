"""What a checkpoint has not stored of how sure its network is, found on simulated frames when it is asked for."""

from __future__ import annotations

import logging
from dataclasses import replace

from emitter.inference.bundle import Bundle
from emitter.inference.refine import Refiner
from emitter.inference.refine_fit import fit_refiner
from emitter.inference.uncertainty_fit import fit_correction

log = logging.getLogger(__name__)


def told_refiner(bundle: Bundle) -> Refiner:
    """The refinement for a network, fitted here, and what it will do."""
    log.info("simulating frames to find how far the refinement may go")
    refiner = fit_refiner(bundle)
    alone, dense = (
        ", ".join(f"{axis.removesuffix('_nm')} {gains[k]:.2f}" for axis, gains in refiner.gains.items())
        for k in (0, -1)
    )
    log.info("share of the way that is gone: alone %s; at 4 per µm² %s (0: not refined)", alone, dense)
    return refiner


def with_correction(bundle: Bundle, device: str = "cpu") -> Bundle:
    """The bundle with the correction of its uncertainties: fitted here where the checkpoint, one of an unfinished
    training or of before, has none."""
    if bundle.correction is not None:
        return bundle
    log.info(
        "the checkpoint, of an unfinished training or an earlier version, does not know its uncertainties: "
        "simulating frames to find them"
    )
    bundle.network.to(device)
    correction = fit_correction(bundle)
    if correction is None:
        log.warning("too few emitters are found for calibrated uncertainties: they are the Cramér-Rao bound")
    return replace(bundle, correction=correction)
