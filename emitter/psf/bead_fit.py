"""Fitting one B-spline PSF to many beads: the model from aligned beads, and the beads aligned to the model.

The coefficients are a least-squares fit to the beads' own pixels at their sub-pixel positions. Nothing is
interpolated or averaged on a grid, so the PSF is not blurred by its own calibration.

Shape suffixes: N beads, Z slices, P patch side, K z knots, C = P + 3 coefficients a side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from emitter.psf.beads import Bead
from emitter.psf.bspline import design_matrix
from emitter.psf.spline import SplinePSF

# Distance of the z knots. A PSF changes over its depth of focus, several hundred nm: a cubic spline with
# knots every 50 nm follows it far below the noise, and averages the slices between.
_Z_KNOTS_NM = 50.0
# Weights of the squared second (x, y) and third (z) differences of the coefficients, relative to the
# data's: just enough to settle what the pixels leave open (a single bead samples every frequency at one
# phase only).
_SMOOTH_XY = 1e-4
_SMOOTH_Z = 1e-3
_NEAR_FOCUS = 0.9  # of the largest sharpness
_ROUNDS = 12
_STEPS = 3
_STILL_PX = 0.002
_STILL_NM = 0.5


@dataclass(frozen=True)
class Placed:
    """Beads with their pixels and where they are.

    Attributes:
        cutouts_NZPP: pixels around every bead, without background, in the stack's units.
        column_N, row_N: the cutout's central pixel.
        dx_px_N, dy_px_N: position relative to the central pixel's centre.
        z_nm_N: position along z relative to the stack's: a slice at z shows the bead at z − z_nm.
        amplitude_N: what the PSF is to be multiplied by.
    """

    cutouts_NZPP: np.ndarray
    column_N: np.ndarray
    row_N: np.ndarray
    dx_px_N: np.ndarray
    dy_px_N: np.ndarray
    z_nm_N: np.ndarray
    amplitude_N: np.ndarray

    def __len__(self) -> int:
        return len(self.dx_px_N)

    def positions_px(self) -> np.ndarray:
        """x and y from the image's outer corner, (N, 2)."""
        x = self.column_N + 0.5 + self.dx_px_N
        y = self.row_N + 0.5 + self.dy_px_N
        return np.stack((x, y), axis=1)


def cut_out(stack_ZHW: np.ndarray, beads: list[Bead], radius_px: int, z_nm_N: np.ndarray) -> Placed:
    """The beads' pixels. A bead whose position left the image by a fit is cut at the border's nearest
    pixel."""
    _, height, width = stack_ZHW.shape
    x_N = np.array([bead.x_px for bead in beads])
    y_N = np.array([bead.y_px for bead in beads])
    column_N = np.clip(np.floor(x_N), radius_px, width - 1 - radius_px).astype(int)
    row_N = np.clip(np.floor(y_N), radius_px, height - 1 - radius_px).astype(int)
    reach = np.arange(-radius_px, radius_px + 1)
    windows = [
        stack_ZHW[:, row + reach[:, None], column + reach]
        for row, column in zip(row_N, column_N, strict=True)
    ]
    background_N = np.array([bead.background for bead in beads])
    cutouts_NZPP = np.stack(windows) - background_N[:, None, None, None]
    amplitude_N = cutouts_NZPP.sum(axis=(2, 3)).mean(axis=1)
    return Placed(cutouts_NZPP, column_N, row_N, x_N - column_N - 0.5, y_N - row_N - 0.5, z_nm_N, amplitude_N)


def shared_range(placed: Placed, z_nm_Z: np.ndarray) -> tuple[float, float]:
    """The z range that every bead's slices cover; offsets of less than half a slice are let pass."""
    half_step = 0.5 * float(z_nm_Z[1] - z_nm_Z[0])
    lowest, highest = float(placed.z_nm_N.min()), float(placed.z_nm_N.max())
    low = float(z_nm_Z[0]) - (lowest if abs(lowest) > half_step else 0.0)
    high = float(z_nm_Z[-1]) - (highest if abs(highest) > half_step else 0.0)
    return low, high


def fit_model(placed: Placed, z_nm_Z: np.ndarray) -> SplinePSF:
    """The B-spline PSF that the placed beads have in common, float64; its scale follows the amplitudes."""
    low, high = shared_range(placed, z_nm_Z)
    knot_step = max(_Z_KNOTS_NM, 1.5 * float(z_nm_Z[1] - z_nm_Z[0]))
    n_knots = max(3, round((high - low) / knot_step) + 1)
    step_nm = (high - low) / (n_knots - 1)
    patch = placed.cutouts_NZPP.shape[-1]
    side = patch + 3
    normal = np.zeros((side**2, side**2))
    right = np.zeros((n_knots + 2, side**2))
    brightness_N = placed.amplitude_N / placed.amplitude_N.mean()
    for n in range(len(placed)):
        along_z = _fit_z((z_nm_Z - placed.z_nm_N[n] - low) / step_nm, placed.cutouts_NZPP[n], n_knots)
        y_PC = design_matrix(np.arange(patch) + 0.5 - placed.dy_px_N[n], patch + 1)
        x_PC = design_matrix(np.arange(patch) + 0.5 - placed.dx_px_N[n], patch + 1)
        normal += brightness_N[n] * np.kron(y_PC.T @ y_PC, x_PC.T @ x_PC)
        projected = np.einsum("pc,kpq,qd->kcd", y_PC, along_z, x_PC, optimize=True)
        right += (brightness_N[n] / placed.amplitude_N[n]) * projected.reshape(len(right), -1)
    second = np.diff(np.eye(side), 2, axis=0)
    roughness, eye = second.T @ second, np.eye(side)
    normal += _SMOOTH_XY * len(placed) * (np.kron(roughness, eye) + np.kron(eye, roughness))
    # By torch: numpy's threads wait for each other on a busy machine, ten times as long as the work takes.
    factor = torch.linalg.cholesky(torch.from_numpy(normal))
    coefficients = torch.cholesky_solve(torch.from_numpy(right.T.copy()), factor).T
    return SplinePSF(coefficients.reshape(-1, side, side), low, step_nm)


def _fit_z(position_Z: np.ndarray, cutout_ZPP: np.ndarray, n_knots: int) -> np.ndarray:
    """B-spline coefficients along z of every pixel, (K + 2, P, P), from the slices within the knots."""
    # Slices up to one beyond the ends count too: the end cell's polynomial goes on.
    slack = float(position_Z[1] - position_Z[0])
    inside = (position_Z >= -slack) & (position_Z <= n_knots - 1 + slack)
    design = design_matrix(position_Z[inside], n_knots)
    third = np.diff(np.eye(n_knots + 2), min(3, n_knots + 1), axis=0)
    normal = design.T @ design + _SMOOTH_Z * third.T @ third
    pixels = cutout_ZPP[inside].reshape(int(inside.sum()), -1)
    return np.linalg.solve(normal, design.T @ pixels).reshape(n_knots + 2, *cutout_ZPP.shape[1:])


def evaluate(psf: SplinePSF, placed: Placed, n: int, z_nm_Z: np.ndarray) -> np.ndarray:
    """What the model says of one bead's cutout in the slices at z, in the stack's units, (Z, P, P)."""
    value, _ = _at(psf, (placed.dx_px_N[n], placed.dy_px_N[n]), z_nm_Z - placed.z_nm_N[n])
    return placed.amplitude_N[n] * value


def _at(psf: SplinePSF, offset_px: tuple[float, float], z_nm_Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The PSF (Z, P, P) and its derivatives (Z, 3, P, P) at one position and many z."""
    ones = torch.ones(len(z_nm_Z), dtype=torch.float64)
    value, by_xyz = psf.derivatives(ones * offset_px[0], ones * offset_px[1], torch.from_numpy(z_nm_Z))
    return value.numpy(), by_xyz.numpy()


def align(psf: SplinePSF, placed: Placed, z_nm_Z: np.ndarray, free: bool) -> Placed:
    """The beads moved to where the model fits them best (Gauss-Newton); only the amplitudes unless
    ``free``."""
    found = np.stack([_align_one(psf, placed, n, z_nm_Z, free) for n in range(len(placed))])
    dx, dy, z, amplitude = found.T
    return replace(placed, dx_px_N=dx, dy_px_N=dy, z_nm_N=z, amplitude_N=amplitude)


def _align_one(psf: SplinePSF, placed: Placed, n: int, z_nm_Z: np.ndarray, free: bool) -> np.ndarray:
    """dx, dy, z and amplitude of one bead."""
    low, high = psf.z_range_nm
    place = np.array([placed.dx_px_N[n], placed.dy_px_N[n], placed.z_nm_N[n]])
    for _ in range(_STEPS if free else 1):
        z_seen = z_nm_Z - place[2]
        inside = (z_seen >= low - 1e-6) & (z_seen <= high + 1e-6)
        value, by_xyz = _at(psf, (place[0], place[1]), z_seen[inside])
        data = placed.cutouts_NZPP[n][inside]
        amplitude = float((data * value).sum() / (value**2).sum())
        if not free:
            break
        # A bead moved up by z_nm is seen lower in every slice: hence the sign of the derivative by z.
        slopes = amplitude * by_xyz * np.array([1.0, 1.0, -1.0])[:, None, None]
        columns = np.concatenate((slopes, value[:, None]), axis=1).transpose(0, 2, 3, 1).reshape(-1, 4)
        rest = (data - amplitude * value).ravel()
        step, *_ = np.linalg.lstsq(columns.T @ columns, columns.T @ rest, rcond=None)
        place += np.clip(step[:3], (-0.3, -0.3, -100), (0.3, 0.3, 100))
    return np.array([*place, amplitude])


def focus_nm(psf: SplinePSF) -> float:
    """z where the light is most concentrated: the top of a parabola through the largest sums of squares.

    Between two foci the sum is nearly flat, so that the largest value alone would wander with the noise.
    """
    z = torch.linspace(*psf.z_range_nm, 301, dtype=torch.float64)
    value = psf.patches(torch.zeros_like(z), torch.zeros_like(z), z)
    sharpness_Z, z_nm_Z = (value**2).sum(dim=(1, 2)).numpy(), z.numpy()
    best = int(sharpness_Z.argmax())
    low = np.flatnonzero(sharpness_Z < _NEAR_FOCUS * sharpness_Z[best])
    first = int(low[low < best].max(initial=-1)) + 1
    last = int(low[low > best].min(initial=len(z_nm_Z)))
    if last - first < 3:
        return float(z_nm_Z[best])
    curvature, slope, _ = np.polyfit(z_nm_Z[first:last], sharpness_Z[first:last], 2)
    return float(np.clip(-0.5 * slope / curvature, z_nm_Z[first], z_nm_Z[last - 1]))


@dataclass(frozen=True)
class Curves:
    """The PSF's centroid (px) and light (sum of the patch) against z."""

    z_nm: np.ndarray
    x_px: np.ndarray
    y_px: np.ndarray
    light: np.ndarray


def curves(psf: SplinePSF, z_nm: np.ndarray | None = None) -> Curves:
    """Centroid and light of the PSF at the given z (default: 61 values over its range)."""
    z_Z = np.linspace(*psf.z_range_nm, 61) if z_nm is None else z_nm
    z = torch.from_numpy(z_Z)
    value = psf.patches(torch.zeros_like(z), torch.zeros_like(z), z).numpy()
    offset = np.arange(psf.patch_px) - psf.radius_px
    light = value.sum(axis=(1, 2))
    x = (value.sum(axis=1) * offset).sum(axis=1) / light
    y = (value.sum(axis=2) * offset).sum(axis=1) / light
    return Curves(z_Z, x, y, light)


def centroid_in_focus(psf: SplinePSF) -> tuple[float, float]:
    """Centroid (x, y; px) of the light within an eighth of the range on either side of the focus."""
    low, high = psf.z_range_nm
    focus, reach = focus_nm(psf), (high - low) / 8
    found = curves(psf, np.linspace(max(low, focus - reach), min(high, focus + reach), 21))
    return float(found.x_px.mean()), float(found.y_px.mean())


def first_z(placed: Placed, z_nm_Z: np.ndarray) -> np.ndarray:
    """Every bead's rough z offset: the lag at which its sharpness over z matches the beads' mean best."""
    sharpness = (placed.cutouts_NZPP**2).sum(axis=(2, 3)) / placed.amplitude_N[:, None] ** 2
    sharpness -= sharpness.mean(axis=1, keepdims=True)
    mean = sharpness.mean(axis=0)
    reach = len(mean) // 4
    lags = np.arange(-reach, reach + 1)
    lag_N = [lags[np.argmax([(np.roll(one, -lag) * mean).sum() for lag in lags])] for one in sharpness]
    z_nm_N = np.array(lag_N) * float(z_nm_Z[1] - z_nm_Z[0])
    return z_nm_N - z_nm_N.mean()


def fit(
    stack_ZHW: np.ndarray, beads: list[Bead], radius_px: int, z_nm_Z: np.ndarray, free: bool
) -> tuple[SplinePSF, list[Bead], Placed]:
    """The PSF and the beads' positions, in turns until both stand still.

    Args:
        free: align the beads in x, y and z and centre the PSF on its centroid in focus; otherwise the
        beads' given
            positions are the centre.
    """
    placed = cut_out(stack_ZHW, beads, radius_px, np.zeros(len(beads)))
    if not free:
        psf = fit_model(placed, z_nm_Z)
        psf = fit_model(align(psf, placed, z_nm_Z, free), z_nm_Z)  # again, with the amplitudes that it gives
        return psf, beads, align(psf, placed, z_nm_Z, free)
    placed = replace(placed, z_nm_N=first_z(placed, z_nm_Z))
    psf = fit_model(placed, z_nm_Z)
    for _ in range(_ROUNDS):
        before = placed
        aligned = align(psf, placed, z_nm_Z, free)
        beads = _moved(beads, aligned, centroid_in_focus(psf))
        z_nm_N = aligned.z_nm_N - aligned.z_nm_N.mean()
        placed = replace(cut_out(stack_ZHW, beads, radius_px, z_nm_N), amplitude_N=aligned.amplitude_N)
        psf = fit_model(placed, z_nm_Z)
        moved_px = np.abs(placed.positions_px() - before.positions_px()).max()
        if moved_px < _STILL_PX and np.abs(placed.z_nm_N - before.z_nm_N).max() < _STILL_NM:
            break
    return psf, beads, align(psf, placed, z_nm_Z, free=False)


def _moved(beads: list[Bead], placed: Placed, centroid_px: tuple[float, float]) -> list[Bead]:
    """The beads where the alignment found them, with the PSF's centroid as their centre."""
    places = placed.positions_px() + np.array(centroid_px)
    return [replace(bead, x_px=float(x), y_px=float(y)) for bead, (x, y) in zip(beads, places, strict=True)]
