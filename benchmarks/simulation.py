"""Simulated frames per CPU-second: 64×64 px, EMCCD, astigmatic Gaussian or spline PSF, 0.5 and 1 emitters/µm².

    python benchmarks/simulation.py [psf.h5]

DECODE's simulator makes 463 and 350 frames per CPU-second under the first two conditions (measured on the CPU, one
process); the ratio is printed beside ours. One thread, since CPU-seconds are what is compared.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from emitter.core.units import PixelSize
from emitter.psf import PSF, build
from emitter.psf.gaussian import AstigmaticSettings
from emitter.psf.spline import SplinePSF, SplineSettings
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import SimulationSettings
from emitter.simulation.simulator import Simulator

DECODE_FRAMES_PER_CPU_S = {0.5: 463, 1.0: 350}
PIXEL = PixelSize(100, 100)
EMCCD = CameraSettings("emccd", 100, 100, 45, 300.0, 0.9, 74.4, 0.002)


def sampled_spline(psf: PSF) -> SplinePSF:
    """A spline of the astigmatic Gaussian, for when no calibration is given."""
    z = torch.arange(-500.0, 501.0, 50.0)
    half = torch.full_like(
        z, 0.5
    )  # the spline's knots lie at the pixels' corners, one more than there are pixels
    samples = torch.nn.functional.pad(psf.patches(half, half, z), (1, 0, 1, 0))
    return SplinePSF.from_samples(samples.numpy(), -500.0, 50.0)


def frames_per_cpu_second(psf: PSF, density: float, seconds: float = 6.0) -> float:
    """Throughput of samples of three frames, the truth included."""
    settings = SimulationSettings(frame_size_px=(64, 64), density_per_um2=(density, density))
    simulator = Simulator(settings, psf, Camera.build(EMCCD))
    batch = torch.arange(16)
    simulator.sample(0, batch)
    frames, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        frames += simulator.sample(1 + frames, batch).counts_BTHW[:, :, 0, 0].numel()
    return frames / (time.process_time() - start)


def main() -> None:
    torch.set_num_threads(1)
    astigmatic = build(AstigmaticSettings(130, 200, -200, 400, z_range_nm=(-500, 500)), PIXEL)
    spline = (
        build(SplineSettings(Path(sys.argv[1])), PIXEL) if len(sys.argv) > 1 else sampled_spline(astigmatic)
    )
    print("PSF         density /µm²   frames / CPU-s   against DECODE's astigmatic Gaussian")
    for name, psf in (("astigmatic", astigmatic), ("spline", spline)):
        for density, decode in DECODE_FRAMES_PER_CPU_S.items():
            speed = frames_per_cpu_second(psf, density)
            print(f"{name:11s} {density:12.1f} {speed:16.0f}   {speed / decode:.1f} ×")


if __name__ == "__main__":
    main()
