"""Gaussian PSFs, integrated over the camera's pixels: of one width (2D) and astigmatic (3D).

The integral of a Gaussian over a pixel is a product of differences of the normal distribution Φ at the
pixel's edges (Smith et al., Nature Methods 2010; Mortensen et al., Nature Methods 2010). The model is
therefore separable: P + 1 edges per axis and one outer product for each emitter.

Shape suffixes: N emitters, P patch side, E = P + 1 pixel edges.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from copy import copy
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from emitter.core.errors import require
from emitter.core.units import PixelSize
from emitter.psf.base import PSF

# 3.5 widths on either side hold 0.99953 of the light per axis, for an emitter at the centre of its pixel;
# half a pixel is taken off because the patch's edge lies half a pixel outside its last pixel's centre.
_RADIUS_IN_SIGMAS = 3.5


@dataclass(frozen=True)
class GaussianSettings:
    """A Gaussian of one width, in nm. For 2D data: it does not depend on z."""

    kind: ClassVar[str] = "gaussian"
    sigma_nm: float = 130.0

    def __post_init__(self) -> None:
        _require_width(self.sigma_nm)


@dataclass(frozen=True)
class AstigmaticSettings:
    """A Gaussian whose two widths depend on z (Huang et al., Science 2008), all lengths in nm.

    w(z) = sigma · sqrt(1 + u² + A u³ + B u⁴), u = (z − focus) / depth; x and y have a focus, an A and a B
    each.
    """

    kind: ClassVar[str] = "astigmatic"
    sigma_nm: float = 130.0
    focus_x_nm: float = 200.0
    focus_y_nm: float = -200.0
    depth_nm: float = 400.0
    a_x: float = 0.0
    a_y: float = 0.0
    b_x: float = 0.0
    b_y: float = 0.0
    z_range_nm: tuple[float, float] = (-500.0, 500.0)

    def __post_init__(self) -> None:
        _require_width(self.sigma_nm)
        require(self.depth_nm > 0, f"psf.depth_nm is {self.depth_nm}: give a positive depth of focus in nm")
        low, high = self.z_range_nm
        require(low < high, f"psf.z_range_nm is [{low}, {high}]: give the lower end first")
        z = np.linspace(low, high, 201)
        for axis, focus, a, b in (
            ("x", self.focus_x_nm, self.a_x, self.b_x),
            ("y", self.focus_y_nm, self.a_y, self.b_y),
        ):
            u = (z - focus) / self.depth_nm
            positive = bool(np.all(1 + u**2 + a * u**3 + b * u**4 > 0.01))
            require(
                positive,
                f"psf.a_{axis} = {a} and psf.b_{axis} = {b} give no real width somewhere in psf.z_range_nm: "
                f"narrow the range or correct the calibration",
            )


def _require_width(sigma_nm: float) -> None:
    require(
        10 <= sigma_nm <= 10_000,
        f"psf.sigma_nm is {sigma_nm}: give the Gaussian's standard deviation in nm, between 10 and 10000",
    )


class _Profile(NamedTuple):
    """The light along one axis and its derivatives, each (N, P)."""

    value: Tensor
    by_shift: Tensor
    by_sigma: Tensor


class _SeparableGaussian(PSF):
    """What the Gaussian models share: a width per axis as a function of z."""

    @abstractmethod
    def _widths(self, z_nm_N: Tensor) -> tuple[Tensor, Tensor]:
        """Widths in x and y, px, (N,) each."""

    @abstractmethod
    def _width_slopes(self, z_nm_N: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of the widths by z, px/nm, (N,) each."""

    def patches(self, dx_px_N: Tensor, dy_px_N: Tensor, z_nm_N: Tensor) -> Tensor:
        """Fraction of the photons in every pixel, (N, P, P)."""
        sigma_x_N, sigma_y_N = self._widths(z_nm_N)
        x_NP = _integrals(self._edges(dx_px_N), sigma_x_N)
        y_NP = _integrals(self._edges(dy_px_N), sigma_y_N)
        return y_NP[:, :, None] * x_NP[:, None, :]

    def derivatives(self, dx_px_N: Tensor, dy_px_N: Tensor, z_nm_N: Tensor) -> tuple[Tensor, Tensor]:
        """The patches (N, P, P) and their derivatives (N, 3, P, P) by x (1/px), y (1/px), z (1/nm)."""
        sigma_x_N, sigma_y_N = self._widths(z_nm_N)
        slope_x_N, slope_y_N = self._width_slopes(z_nm_N)
        x = _profile(self._edges(dx_px_N), sigma_x_N)
        y = _profile(self._edges(dy_px_N), sigma_y_N)
        across_N4P = torch.stack((x.value, x.by_shift, x.value, x.by_sigma * slope_x_N[:, None]), dim=1)
        down_N4P = torch.stack((y.value, y.value, y.by_shift, y.value), dim=1)
        all_N4PP = down_N4P[:, :, :, None] * across_N4P[:, :, None]
        all_N4PP[:, 3].addcmul_((y.by_sigma * slope_y_N[:, None])[:, :, None], x.value[:, None])
        return all_N4PP[:, 0], all_N4PP[:, 1:]

    def within(self, radius_px: int) -> Self:
        """The same model on patches of at most this radius."""
        inner = copy(self)
        inner.radius_px = min(radius_px, self.radius_px)
        return inner

    def _edges(self, shift_px_N: Tensor) -> Tensor:
        """Distance from the emitter to the pixels' edges, px, (N, E)."""
        edges_E = torch.arange(self.patch_px + 1, device=shift_px_N.device, dtype=shift_px_N.dtype)
        return (edges_E - (self.radius_px + 0.5)) - shift_px_N[:, None]


def _integrals(edges_NE: Tensor, sigma_N: Tensor) -> Tensor:
    """Gaussian light in every pixel along one axis, (N, P)."""
    phi_NE = torch.erf(edges_NE * (math.sqrt(0.5) / sigma_N)[:, None])
    return (phi_NE[:, 1:] - phi_NE[:, :-1]).mul_(0.5)


def _profile(edges_NE: Tensor, sigma_N: Tensor) -> _Profile:
    """The same with the derivatives by the emitter's position and by the width."""
    u_NE = edges_NE / sigma_N[:, None]
    density_NE = torch.exp(-0.5 * u_NE**2) / (math.sqrt(2 * math.pi) * sigma_N[:, None])
    by_shift = density_NE[:, :-1] - density_NE[:, 1:]
    moment_NE = u_NE * density_NE
    by_sigma = moment_NE[:, :-1] - moment_NE[:, 1:]
    return _Profile(_integrals(edges_NE, sigma_N), by_shift, by_sigma)


def _radius_px(widest_px: float) -> int:
    return max(1, math.ceil(_RADIUS_IN_SIGMAS * widest_px - 0.5))


class GaussianPSF(_SeparableGaussian):
    """Gaussian of fixed widths, px.

    It knows no z: its derivative by z is zero and its range is z = 0 alone, so that whatever draws emitters
    from the model's range draws z = 0.
    """

    kind = GaussianSettings.kind
    z_range_nm = (0.0, 0.0)

    def __init__(self, sigma_x_px: float, sigma_y_px: float) -> None:
        self.sigma_x_px, self.sigma_y_px = float(sigma_x_px), float(sigma_y_px)
        self.radius_px = _radius_px(max(sigma_x_px, sigma_y_px))

    @classmethod
    def of(cls, settings: GaussianSettings, pixel_size: PixelSize) -> GaussianPSF:
        """The model on a camera of the given pixel size."""
        return cls(settings.sigma_nm / pixel_size.x_nm, settings.sigma_nm / pixel_size.y_nm)

    def _widths(self, z_nm_N: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(z_nm_N, self.sigma_x_px), torch.full_like(z_nm_N, self.sigma_y_px)

    def _width_slopes(self, z_nm_N: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(z_nm_N), torch.zeros_like(z_nm_N)

    def to(self, device: torch.device | str) -> Self:
        """The model holds no tensors: itself."""
        return self

    def state(self) -> dict[str, Any]:
        """Plain numbers for ``emitter.psf.from_state``."""
        return {"kind": self.kind, "sigma_x_px": self.sigma_x_px, "sigma_y_px": self.sigma_y_px}


class AstigmaticPSF(_SeparableGaussian):
    """Astigmatic Gaussian on a camera. z outside the range is taken at the range's nearer end."""

    kind = AstigmaticSettings.kind

    def __init__(self, settings: AstigmaticSettings, pixel_size: PixelSize) -> None:
        self.settings, self.pixel_size = settings, pixel_size
        self.z_range_nm = (float(settings.z_range_nm[0]), float(settings.z_range_nm[1]))
        z = torch.linspace(*self.z_range_nm, 201, dtype=torch.float64)
        self.radius_px = _radius_px(max(float(width.max()) for width in self._widths(z)))

    def _axes(self) -> tuple[tuple[float, float, float, float], ...]:
        """Focus, A, B and the width in focus (px) of x and of y."""
        s = self.settings
        return (
            (s.focus_x_nm, s.a_x, s.b_x, s.sigma_nm / self.pixel_size.x_nm),
            (s.focus_y_nm, s.a_y, s.b_y, s.sigma_nm / self.pixel_size.y_nm),
        )

    def _widths(self, z_nm_N: Tensor) -> tuple[Tensor, Tensor]:
        z_nm_N = z_nm_N.clamp(*self.z_range_nm)
        x_N, y_N = (self._width(z_nm_N, *axis) for axis in self._axes())
        return x_N, y_N

    def _width(self, z_nm_N: Tensor, focus_nm: float, a: float, b: float, sigma_px: float) -> Tensor:
        u = (z_nm_N - focus_nm) / self.settings.depth_nm
        return (1 + u * u * (1 + u * (a + b * u))).sqrt() * sigma_px

    def _width_slopes(self, z_nm_N: Tensor) -> tuple[Tensor, Tensor]:
        x_N, y_N = (self._width_slope(z_nm_N, *axis) for axis in self._axes())
        return x_N, y_N

    def _width_slope(self, z_nm_N: Tensor, focus_nm: float, a: float, b: float, sigma_px: float) -> Tensor:
        low, high = self.z_range_nm
        z = z_nm_N.clamp(low, high)
        u = (z - focus_nm) / self.settings.depth_nm
        by_u = u * (2 + u * (3 * a + 4 * b * u))
        width = self._width(z, focus_nm, a, b, sigma_px)
        slope = by_u * (0.5 * sigma_px**2 / self.settings.depth_nm) / width
        return slope * ((z_nm_N >= low) & (z_nm_N <= high))

    def to(self, device: torch.device | str) -> Self:
        """The model holds no tensors: itself."""
        return self

    def state(self) -> dict[str, Any]:
        """Plain numbers for ``emitter.psf.from_state``."""
        settings = {**asdict(self.settings), "z_range_nm": list(self.z_range_nm)}
        return {
            "kind": self.kind,
            "settings": settings,
            "pixel_size_nm": [self.pixel_size.x_nm, self.pixel_size.y_nm],
        }
