"""What every test shares: the data folder, one thread, fixed seeds, a hypothesis profile."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from emitter.psf.spline import SplinePSF

REPOSITORY = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)  # small tensors: more threads only wait for each other
settings.register_profile(
    "emitter",
    deadline=None,
    max_examples=30,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("emitter")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the third-party test data: ``EMITTER_DATA``, else ``../shared/data`` beside the checkout."""
    folder = Path(os.environ.get("EMITTER_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"test data not found in {folder}: set EMITTER_DATA")
    return folder


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    """Every test starts from the same global random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 the legacy global state is what third-party code may draw from
    torch.manual_seed(0)


@pytest.fixture
def lopsided_psf() -> SplinePSF:
    """With a tail to one side, the same at every depth."""
    x = np.arange(12) - 5.5
    spot_YX = np.exp(-(x[:, None] ** 2) / 4) * (np.exp(-(x**2) / 4) + 0.3 * np.exp(-((x - 2) ** 2) / 4))
    return SplinePSF.from_samples(np.repeat(spot_YX[None] / spot_YX.sum(), 5, axis=0), -200.0, 100.0)
