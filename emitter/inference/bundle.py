"""What a checkpoint carries beside the weights: everything that is needed to use the network on a movie.

A bundle travels in a training checkpoint under ``KEY`` as plain numbers, strings and tensors, so that checkpoints
load with ``weights_only=True``: opening a stranger's file runs none of his code.
"""

from __future__ import annotations

import pickle
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from emitter.core.channels import N_CHANNELS, Scaling
from emitter.core.decoding import Thresholds
from emitter.core.errors import EmitterError
from emitter.core.units import PixelSize
from emitter.inference.uncertainty import Correction, Uncertainty
from emitter.io.files import replacing
from emitter.models.network import EmitterNetwork, InputScaling
from emitter.models.settings import UNetSettings, VarSettings
from emitter.psf import PSF, from_state
from emitter.simulation.camera import Camera
from emitter.simulation.settings import FluxSettings, SimulationSettings

KEY = "emitter"
FORMAT = 1
_WEIGHTS_PREFIX = "network."
_MODELS = {"var": VarSettings, "unet": UNetSettings}


@dataclass(frozen=True)
class Bundle:
    """A trained network with all that it was trained for."""

    network: EmitterNetwork
    scaling: Scaling
    thresholds: Thresholds
    psf: PSF
    camera: Camera
    simulation: SimulationSettings
    correction: Correction | None = None  # of the uncertainties; there is none before a training's end

    def uncertainty(self) -> Uncertainty:
        """How sure its localizations are."""
        return Uncertainty(
            self.psf, self.camera.mean_noise_variance, self.pixel_size, self.is_3d, self.correction
        )

    def with_threshold(self, mass: float | None) -> Bundle:
        """With another threshold of an emitter; None: the one tuned in training."""
        return self if mass is None else replace(self, thresholds=replace(self.thresholds, mass=mass))

    @property
    def pixel_size(self) -> PixelSize:
        """Size of a camera pixel in the sample."""
        return self.camera.pixel_size

    @property
    def is_3d(self) -> bool:
        """Whether z was trained: false for a PSF that is drawn at one depth."""
        low, high = self.simulation.z_range_nm
        return high > low

    def state(self) -> dict[str, Any]:
        """The bundle without the weights, as plain numbers, strings and tensors."""
        return {
            "format": FORMAT,
            "model": asdict(self.network.settings),
            "n_frames": self.network.n_frames,
            "n_maps": self.network.n_maps,
            "input_scaling": asdict(self.network.input_scaling),
            "scaling": asdict(self.scaling),
            "thresholds": asdict(self.thresholds),
            "psf": self.psf.state(),
            "camera": self.camera.state(),
            "simulation": asdict(self.simulation),
            "correction": None if self.correction is None else self.correction.state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], weights: dict[str, torch.Tensor]) -> Bundle:
        """The bundle of ``state()`` with the network's weights."""
        model = _MODELS[state["model"]["kind"]](**state["model"])
        n_maps = state.get("n_maps", N_CHANNELS)  # checkpoints of before had no other channels
        network = EmitterNetwork(model, state["n_frames"], InputScaling(**state["input_scaling"]), n_maps)
        network.load_state_dict(weights)
        simulation = dict(state["simulation"])
        correction = state.get("correction")  # checkpoints of before have none
        simulation["flux"] = FluxSettings(**simulation["flux"])
        return cls(
            network=network.eval(),
            scaling=Scaling(**state["scaling"]),
            thresholds=Thresholds.from_state(state["thresholds"]),
            psf=from_state(state["psf"]),
            camera=Camera.from_state(state["camera"]),
            simulation=SimulationSettings(**simulation),
            correction=None if correction is None else Correction.from_state(correction),
        )


def checkpoint_path(source: str | Path) -> Path:
    """The checkpoint file of a checkpoint or of a run's folder (its best one, else its last).

    Raises:
        EmitterError: when there is none.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if not path.exists():
        raise EmitterError(
            f"there is no checkpoint '{path}': give a .ckpt file or the folder of a training run"
        )
    for name in ("best.ckpt", "last.ckpt"):
        for folder in (path / "checkpoints", path):
            if (folder / name).is_file():
                return folder / name
    raise EmitterError(
        f"the folder '{path}' holds no checkpoints/best.ckpt: give the folder of a training run"
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint file of this program holds.

    Raises:
        EmitterError: when the file is missing, truncated, or not a checkpoint of this program.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, LookupError, ValueError, pickle.UnpicklingError) as error:
        raise EmitterError(
            f"'{path}' cannot be read as a checkpoint: it is damaged, truncated or another kind of file; "
            "give a checkpoint that train.py wrote"
        ) from error
    if not isinstance(checkpoint, dict) or KEY not in checkpoint:
        raise EmitterError(f"'{path}' is a checkpoint of another program: give one that train.py wrote")
    return checkpoint


def store_correction(path: Path, correction: Correction) -> None:
    """Put the correction of its uncertainties into a checkpoint, which stays whole at any moment."""
    checkpoint = read_checkpoint(path)
    checkpoint[KEY]["correction"] = correction.state()
    with replacing(path) as temporary:
        torch.save(checkpoint, temporary)


def load_bundle(source: str | Path) -> Bundle:
    """The bundle of a checkpoint file or of a run's folder.

    Raises:
        EmitterError: when the file is missing, truncated, or not a checkpoint of this program and version.
    """
    path = checkpoint_path(source)
    checkpoint = read_checkpoint(path)
    state = checkpoint[KEY]
    version = state.get("format") if isinstance(state, dict) else None
    if version != FORMAT:
        raise EmitterError(
            f"'{path}' has checkpoint format {version} and this version reads {FORMAT}: "
            "use the version of emitter that wrote it"
        )
    try:
        weights = {
            name.removeprefix(_WEIGHTS_PREFIX): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith(_WEIGHTS_PREFIX)
        }
        return Bundle.from_state(state, weights)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise EmitterError(
            f"the checkpoint '{path}' does not fit this version of emitter, or is damaged "
            f"({str(error).splitlines()[0]}): use the version that wrote it, or train again"
        ) from error
