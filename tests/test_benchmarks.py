"""The benchmarks start: what they measure is shown by running them."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda p: p.stem)
def test_every_benchmark_has_its_command(path):
    module = load(path.stem)
    assert callable(module.main)
    assert f"python benchmarks/{path.name}" in module.__doc__


def test_the_simulation_benchmark_counts_frames():
    module = load("simulation")
    psf = module.build(module.AstigmaticSettings(130, 200, -200, 400, z_range_nm=(-500, 500)), module.PIXEL)
    for model in (psf, module.sampled_spline(psf)):
        assert module.frames_per_cpu_second(model, 0.5, seconds=0.1) > 1
    spline = module.sampled_spline(psf)
    z, zero = torch.tensor([-300.0, 0.0, 300.0]), torch.zeros(3)
    light = [model.patches(zero, zero, z).sum(dim=(1, 2)) for model in (psf, spline)]
    assert torch.allclose(light[0], light[1], atol=0.03)  # it is the same PSF
