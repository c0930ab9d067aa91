"""Cameras: from expected photons to counts, back, and the noise in between.

A photon becomes an electron with the quantum efficiency, an EMCCD multiplies the electrons by a random gain (Gamma
distributed output, hence twice the shot noise's variance), the amplifier adds Gaussian read noise, and the converter
counts in ADU above a baseline. An sCMOS camera has no gain register, but a baseline, a conversion and a read noise of
its own for every pixel.

Shape suffixes: B samples, T frames, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from emitter.core.errors import EmitterError, require
from emitter.core.random import Stream
from emitter.core.units import PixelSize

MAX_ADU = 65535.0


@dataclass(frozen=True)
class CameraSettings:
    """What a user says of her camera.

    ``calibration`` (sCMOS) is a .npy file of shape (3, H, W): offset in ADU, read variance in ADU² and gain in ADU per
    electron of every pixel; ``calibration_transposed`` when its axes are swapped against the movie's.
    """

    KINDS: ClassVar[tuple[str, ...]] = ("emccd", "scmos", "ideal")

    kind: Literal["emccd", "scmos", "ideal"]
    pixel_size_nm: float | tuple[float, float] = 100.0
    baseline_adu: float = 0.0
    e_per_adu: float = 1.0
    em_gain: float | None = None
    quantum_efficiency: float = 1.0
    read_noise_e: float = 0.0
    spurious_charge_e: float = 0.0
    calibration: str | None = None
    calibration_transposed: bool = False

    def __post_init__(self) -> None:
        require(
            self.kind in self.KINDS, f"camera.kind is '{self.kind}': choose one of {', '.join(self.KINDS)}"
        )
        PixelSize.of(self.pixel_size_nm)
        require(
            self.e_per_adu > 0,
            f"camera.e_per_adu is {self.e_per_adu}: give the electrons of one count, above 0",
        )
        require(
            0 < self.quantum_efficiency <= 1,
            f"camera.quantum_efficiency is {self.quantum_efficiency}: give a fraction above 0, at most 1",
        )
        for name in ("baseline_adu", "read_noise_e", "spurious_charge_e"):
            require(getattr(self, name) >= 0, f"camera.{name} is {getattr(self, name)}: give 0 or more")
        require(
            self.baseline_adu < MAX_ADU,
            f"camera.baseline_adu is {self.baseline_adu}: give the counts of a dark frame, below {MAX_ADU:.0f}",
        )
        gain_ok = (
            (self.em_gain is not None and self.em_gain > 1) if self.kind == "emccd" else self.em_gain is None
        )
        require(
            gain_ok,
            f"camera.em_gain is {self.em_gain} for a camera of kind '{self.kind}': give a gain above 1 for an emccd "
            "and leave it empty (null) for the others; an EMCCD with its gain switched off is an scmos here",
        )
        plain = (
            self.baseline_adu,
            self.e_per_adu,
            self.quantum_efficiency,
            self.read_noise_e,
            self.spurious_charge_e,
        )
        require(
            self.kind != "ideal" or plain == (0, 1, 1, 0, 0),
            "camera.kind is 'ideal', whose counts are photons, and it has a baseline, a gain, an efficiency or noise: "
            "give camera=scmos with these values",
        )
        require(
            self.calibration is None or self.kind == "scmos",
            f"camera.calibration is set for a camera of kind '{self.kind}': per-pixel maps belong to camera=scmos",
        )


@dataclass(frozen=True)
class Camera:
    """A camera ready for use. ``baseline_adu``, ``e_per_adu`` and ``read_noise_e`` are () or (H, W) tensors."""

    kind: str
    pixel_size: PixelSize
    em_gain: float | None
    quantum_efficiency: float
    spurious_charge_e: float
    baseline_adu: Tensor = field(repr=False)
    e_per_adu: Tensor = field(repr=False)
    read_noise_e: Tensor = field(repr=False)

    @classmethod
    def build(cls, settings: CameraSettings) -> Camera:
        """From settings; reads the calibration file where there is one."""
        baseline = torch.tensor(float(settings.baseline_adu))
        e_per_adu = torch.tensor(float(settings.e_per_adu))
        read_noise = torch.tensor(float(settings.read_noise_e))
        if settings.calibration is not None:
            baseline, e_per_adu, read_noise = _read_maps(
                Path(settings.calibration), settings.calibration_transposed
            )
        return cls(
            kind=settings.kind,
            pixel_size=PixelSize.of(settings.pixel_size_nm),
            em_gain=settings.em_gain,
            quantum_efficiency=settings.quantum_efficiency,
            spurious_charge_e=settings.spurious_charge_e,
            baseline_adu=baseline,
            e_per_adu=e_per_adu,
            read_noise_e=read_noise,
        )

    @property
    def map_shape(self) -> tuple[int, int] | None:
        """(H, W) of the per-pixel maps, or None for a camera whose pixels are all alike."""
        shapes = [m.shape for m in self._maps() if m.ndim >= 2]
        return (shapes[0][-2], shapes[0][-1]) if shapes else None

    @property
    def excess_noise(self) -> float:
        """Factor of the shot noise's variance: 2 for an EMCCD at high gain (Robbins and Hadwen 2003), else 1."""
        return 1.0 if self.em_gain is None else 2.0

    def _maps(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.baseline_adu, self.e_per_adu, self.read_noise_e

    def _with_maps(self, baseline_adu: Tensor, e_per_adu: Tensor, read_noise_e: Tensor) -> Camera:
        return Camera(
            self.kind,
            self.pixel_size,
            self.em_gain,
            self.quantum_efficiency,
            self.spurious_charge_e,
            baseline_adu,
            e_per_adu,
            read_noise_e,
        )

    def to(self, device: torch.device | str) -> Camera:
        """The same camera on another device."""
        return self._with_maps(*(m.to(device) for m in self._maps()))

    def pin_memory(self) -> Camera:
        """The same camera in memory from which a GPU copies fast."""
        return self._with_maps(*(m.pin_memory() for m in self._maps()))

    def windows(self, top_B: Tensor, left_B: Tensor, height: int, width: int) -> Camera:
        """The camera as B windows of its chip see it: maps (B, 1, H, W). Without maps, the camera itself."""
        if self.map_shape is None:
            return self
        row = top_B[:, None, None, None] + torch.arange(height, device=top_B.device)[:, None]
        column = left_B[:, None, None, None] + torch.arange(width, device=top_B.device)
        return self._with_maps(*(m if m.ndim == 0 else m[row, column] for m in self._maps()))

    def region(self, rows: slice, columns: slice) -> Camera:
        """The camera as one rectangle of its chip sees it. Without maps, the camera itself."""
        return self._with_maps(*(m if m.ndim < 2 else m[..., rows, columns] for m in self._maps()))

    def repeated(self, n: int) -> Camera:
        """Windows of the chip, all of them n times in a row. Without maps, the camera itself."""
        return self._with_maps(*(m if m.ndim < 4 else m.repeat(n, 1, 1, 1) for m in self._maps()))

    def check_frame(self, height: int, width: int) -> None:
        """Raise EmitterError when frames of this size cannot come from the camera's maps."""
        shape = self.map_shape
        if shape is not None and shape != (height, width):
            raise EmitterError(
                f"the camera's per-pixel maps are {shape[0]}×{shape[1]} (rows × columns) and the frames "
                f"{height}×{width}: give the maps of the same region, or camera.calibration_transposed=true"
            )

    def sample(self, photons_BTHW: Tensor, stream: Stream) -> Tensor:
        """Counts in ADU (float, whole numbers) of frames with the given expected photons; one key per sample."""
        electrons = photons_BTHW.mul(self.quantum_efficiency).add_(self.spurious_charge_e).flatten(1)
        electrons = stream.poisson(electrons)
        if self.em_gain is not None:
            electrons = stream.gamma(electrons).mul_(self.em_gain)
        signal = electrons.view_as(photons_BTHW)
        if bool((self.read_noise_e > 0).any()):
            noise = stream.normal(electrons.shape[1]).view_as(photons_BTHW)
            signal = signal.add_(noise.mul_(self.read_noise_e))
        return signal.div_(self.e_per_adu).add_(self.baseline_adu).round_().clamp_(0.0, MAX_ADU)

    def to_photons(self, counts: Tensor) -> Tensor:
        """Estimate of the photons on every pixel (signal and background) from counts in ADU (…, H, W)."""
        electrons = (counts.float() - self.baseline_adu) * self.e_per_adu
        if self.em_gain is not None:
            electrons = electrons / self.em_gain
        return (electrons - self.spurious_charge_e) / self.quantum_efficiency

    def noise_variance(self, photons: Tensor) -> Tensor:
        """Variance, in photons², of ``to_photons`` where ``photons`` are expected (for the Fisher information)."""
        electrons = photons * self.quantum_efficiency + self.spurious_charge_e
        read_noise_e = self.read_noise_e if self.em_gain is None else self.read_noise_e / self.em_gain
        return (self.excess_noise * electrons + read_noise_e**2) / self.quantum_efficiency**2

    def mean_noise_variance(self, photons: Tensor) -> Tensor:
        """The same for a pixel with the chip's mean read variance: for patches that lie anywhere on it."""
        read_noise_e = (self.read_noise_e**2).mean().sqrt()
        return self._with_maps(self.baseline_adu, self.e_per_adu, read_noise_e).noise_variance(photons)

    def state(self) -> dict[str, Any]:
        """Plain numbers and tensors from which ``from_state`` rebuilds the camera."""
        return {
            "kind": self.kind,
            "pixel_size_nm": [self.pixel_size.x_nm, self.pixel_size.y_nm],
            "em_gain": self.em_gain,
            "quantum_efficiency": self.quantum_efficiency,
            "spurious_charge_e": self.spurious_charge_e,
            "baseline_adu": self.baseline_adu.cpu(),
            "e_per_adu": self.e_per_adu.cpu(),
            "read_noise_e": self.read_noise_e.cpu(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Camera:
        """The camera of ``state()``."""
        rest = {name: value for name, value in state.items() if name != "pixel_size_nm"}
        return cls(pixel_size=PixelSize.of(state["pixel_size_nm"]), **rest)


def _read_maps(path: Path, transposed: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Baseline (ADU), electrons per ADU and read noise (electrons) of every pixel."""
    if not path.is_file():
        raise EmitterError(f"there is no camera calibration at '{path}': give camera.calibration a .npy file")
    try:
        maps = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise EmitterError(f"'{path}' cannot be read as a .npy camera calibration ({error})") from error
    require(
        isinstance(maps, np.ndarray) and maps.ndim == 3 and len(maps) == 3,
        f"the camera calibration '{path}' has shape {getattr(maps, 'shape', '?')}: "
        "give (3, rows, columns) with offset, variance and gain",
    )
    offset, variance, gain = (np.ascontiguousarray(m.T if transposed else m, dtype=np.float32) for m in maps)
    require(
        bool(np.isfinite(maps).all() and (gain > 0).all() and (variance >= 0).all()),
        f"the camera calibration '{path}' holds gains of 0 or less, negative variances or NaN: "
        "give offset in ADU, variance in ADU² and gain in ADU per electron, in this order",
    )
    e_per_adu = torch.from_numpy(1.0 / gain)
    return torch.from_numpy(offset), e_per_adu, torch.from_numpy(np.sqrt(variance)) * e_per_adu
