"""Starting a training from the weights of an earlier one (``init_from=``)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from emitter.core.errors import EmitterError
from emitter.inference.bundle import Bundle, checkpoint_path, load_bundle


def warm_started(bundle: Bundle, source: Path) -> Bundle:
    """A new bundle with the weights of a checkpoint or of a run's best one.

    Its thresholds, and what a unit of its maps and of its input is worth, come along: the weights mean nothing without
    them. Channels of the head that the checkpoint has not (sigma channels) start as in a new network.

    Raises:
        EmitterError: when there is no such checkpoint, or its network is another one.
    """
    earlier = load_bundle(source)
    before, now = earlier.network, bundle.network
    if before.settings != now.settings or before.n_frames != now.n_frames:
        raise EmitterError(
            f"init_from='{checkpoint_path(source)}' holds a network of {before.settings} on {before.n_frames} frames "
            f"and this training has {now.settings} on {now.n_frames}: choose the same model and simulation.n_frames"
        )
    weights = before.state_dict()
    for name, fresh in now.state_dict().items():
        if weights[name].shape != fresh.shape:
            n = min(len(weights[name]), len(fresh))
            weights[name] = torch.cat((weights[name][:n], fresh[n:]))
    now.load_state_dict(weights)
    now.input_scaling = before.input_scaling
    return replace(bundle, scaling=earlier.scaling, thresholds=earlier.thresholds)
