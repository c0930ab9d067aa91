"""Cubic B-spline PSF from a calibration.

The spline's argument is the pixel's position relative to the emitter. Its x and y knots are one camera
pixel apart, at −(r + ½) … r + ½ px, its z knots ``z_step_nm`` apart. All pixels of a patch then share one
fraction of a cell per axis, and pixel p lies in cell p: the patch is four z slabs contracted over z, then
y, then x with four shifted weighted sums each. (The same idea with general cells: Li et al., Nature Methods
2018; Babcock & Zhuang, Sci. Rep. 2017.)

Shape suffixes: N emitters, P patch side, C = P + 3 coefficients a side, K + 2 coefficients along z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from emitter.core.errors import require
from emitter.psf.base import PSF
from emitter.psf.bspline import interpolate, weight_slopes, weights


@dataclass(frozen=True)
class SplineSettings:
    """A PSF calibrated from beads: the file that calibrate.py wrote."""

    kind: ClassVar[str] = "spline"
    file: str | None = None


class SplinePSF(PSF):
    """Cubic B-spline on a (z, y, x) grid. z outside the calibrated range is taken at the range's nearer end.

    Args:
        coefficients_ZCC: B-spline coefficients, (K + 2, C, C), of the fraction of the photons in a pixel.
        z_start_nm: z of the first knot.
        z_step_nm: distance of the z knots.
    """

    kind = SplineSettings.kind

    def __init__(self, coefficients_ZCC: Tensor, z_start_nm: float, z_step_nm: float) -> None:
        n_z, side, side_x = coefficients_ZCC.shape
        require(
            n_z >= 4 and side >= 6 and side == side_x and side % 2 == 0,
            f"spline PSF coefficients have the shape {tuple(coefficients_ZCC.shape)}: "
            f"give (at least 4, C, C) with an even C of at least 6",
        )
        self.coefficients_ZCC = coefficients_ZCC.contiguous()
        self.z_start_nm, self.z_step_nm = float(z_start_nm), float(z_step_nm)
        self.radius_px = (side - 4) // 2
        self._n_cells = n_z - 3
        self.z_range_nm = (self.z_start_nm, self.z_start_nm + self._n_cells * self.z_step_nm)

    @classmethod
    def from_samples(cls, samples_KYX: np.ndarray, z_start_nm: float, z_step_nm: float) -> SplinePSF:
        """The spline through samples at all knots, (K, P + 1, P + 1), with natural ends."""
        coefficients = np.asarray(samples_KYX)
        for axis in range(3):
            coefficients = interpolate(coefficients, axis)
        return cls(torch.from_numpy(coefficients), z_start_nm, z_step_nm)

    def patches(self, dx_px_N: Tensor, dy_px_N: Tensor, z_nm_N: Tensor) -> Tensor:
        """Fraction of the photons in every pixel, (N, P, P)."""
        slabs_N4CC, u_N, _ = self._slabs(z_nm_N)
        plane_NCC = _contract(slabs_N4CC, weights(u_N)[:, None])[:, 0]
        rows_NPC = _shifted_sum(plane_NCC, weights(0.5 - dy_px_N), 1)
        return _shifted_sum(rows_NPC, weights(0.5 - dx_px_N), 2).contiguous()

    def derivatives(self, dx_px_N: Tensor, dy_px_N: Tensor, z_nm_N: Tensor) -> tuple[Tensor, Tensor]:
        """The patches (N, P, P) and their derivatives (N, 3, P, P) by x (1/px), y (1/px), z (1/nm)."""
        slabs_N4CC, u_N, inside_N = self._slabs(z_nm_N)
        slope_N4 = weight_slopes(u_N) * (inside_N / self.z_step_nm)[:, None]
        plane_NCC, by_z_NCC = _contract(slabs_N4CC, torch.stack((weights(u_N), slope_N4), dim=1)).unbind(1)
        weight_y, weight_x = weights(0.5 - dy_px_N), weights(0.5 - dx_px_N)
        rows_NPC = _shifted_sum(plane_NCC, weight_y, 1)
        value = _shifted_sum(rows_NPC, weight_x, 2)
        by_x = _shifted_sum(rows_NPC, -weight_slopes(0.5 - dx_px_N), 2)
        by_y = _shifted_sum(_shifted_sum(plane_NCC, -weight_slopes(0.5 - dy_px_N), 1), weight_x, 2)
        by_z = _shifted_sum(_shifted_sum(by_z_NCC, weight_y, 1), weight_x, 2)
        return value.contiguous(), torch.stack((by_x, by_y, by_z), dim=1)

    def _slabs(self, z_nm_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Four z slabs of every emitter (N, 4, C, C), the fraction of the cell (N,), and whether z is in
        range."""
        position_N = (z_nm_N - self.z_start_nm) / self.z_step_nm
        inside_N = (position_N >= 0) & (position_N <= self._n_cells)
        position_N = position_N.clamp(0, self._n_cells)
        cell_N = position_N.floor().clamp_(max=self._n_cells - 1)
        coefficients = self.coefficients_ZCC.to(z_nm_N.dtype)
        index_N4 = cell_N.long()[:, None] + torch.arange(4, device=z_nm_N.device)
        slabs = coefficients.index_select(0, index_N4.view(-1))
        return slabs.view(len(z_nm_N), 4, *coefficients.shape[1:]), position_N - cell_N, inside_N

    def within(self, radius_px: int) -> Self:
        """The same model on patches of at most this radius."""
        rim = max(self.radius_px - radius_px, 0)
        inner_ZCC = self.coefficients_ZCC[:, rim:, rim:][:, : -rim or None, : -rim or None]
        return type(self)(inner_ZCC, self.z_start_nm, self.z_step_nm)

    def to(self, device: torch.device | str) -> Self:
        """The same model on another device."""
        return type(self)(self.coefficients_ZCC.to(device), self.z_start_nm, self.z_step_nm)

    def state(self) -> dict[str, Any]:
        """Numbers and one tensor for ``emitter.psf.from_state``."""
        return {
            "kind": self.kind,
            "coefficients": self.coefficients_ZCC,
            "z_start_nm": self.z_start_nm,
            "z_step_nm": self.z_step_nm,
        }


def _contract(slabs_N4CC: Tensor, weight_NM4: Tensor) -> Tensor:
    """Weighted sums of the four slabs, (N, M, C, C)."""
    n, _, side, _ = slabs_N4CC.shape
    return torch.bmm(weight_NM4, slabs_N4CC.view(n, 4, side * side)).view(n, -1, side, side)


def _shifted_sum(a_NRC: Tensor, weight_N4: Tensor, axis: int) -> Tensor:
    """Σ_i w_i a[i : i + P] along the rows (1) or the columns (2), which become 3 fewer.

    In one run over all rows, since runs of a single row are too short to be fast; what is mixed from the end of a row
    and the beginning of the next is cut off.
    """
    n, rows, columns = a_NRC.shape
    step = columns if axis == 1 else 1
    a_Np = a_NRC.reshape(n, rows * columns)
    size = a_Np.shape[1] - 3 * step
    sum_Np = (a_Np[:, :size] * weight_N4[:, :1]).contiguous()
    for i in range(1, 4):
        sum_Np.addcmul_(a_Np[:, i * step : i * step + size], weight_N4[:, i : i + 1])
    if axis == 1:
        return sum_Np.view(n, rows - 3, columns)
    return sum_Np.as_strided((n, rows, columns - 3), (size, columns, 1))
