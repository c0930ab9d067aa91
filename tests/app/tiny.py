"""Trainings of seconds, started as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "simulation.frame_size_px=[16,16]",
    "model.stem_channels=[8,8,8]",
    "model.widths=[8,8,8]",
    "model.blocks=[1,1,1]",
    "model.latent_channels=8",
    "training.batch_size=2",
    "training.validation.samples=2",
    "training.validation.times=1",
    "training.validation.pictures=false",
    "budget.steps=3",
    "logger.wandb=off",
    "trainer=cpu",
]


def train(folder: Path, *arguments: str, threads: int | None = 1) -> subprocess.CompletedProcess[str]:
    """``python train.py`` in a folder; flags first."""
    flags = [one for one in arguments if one.startswith("-")]
    command = [sys.executable, str(ROOT / "train.py"), *flags, *TINY, *arguments[len(flags) :]]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})},
    )


def same_weights(a: Path, b: Path) -> bool:
    """Whether two runs ended at the same step with the same weights, bit for bit."""
    one, other = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (a, b))
    weights = other["state_dict"]
    equal = all(torch.equal(value, weights[name]) for name, value in one["state_dict"].items())
    return bool(equal and one["global_step"] == other["global_step"])
