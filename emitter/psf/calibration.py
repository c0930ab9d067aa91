"""From a stack of beads to a PSF: find, align, fit, normalise.

Where the centre is. A bead shows where its light is, not where it is. Unless the beads' true positions are
given, the PSF is centred on the centroid of its light in focus: a localization then means "the centroid of
this emitter's light, were it in focus", and whatever the true centre's offset from it is, it is the same
for all emitters. How the centroid wanders with z is part of the PSF and reported.

Where z = 0 is. ``stack_centre``: the middle of the stack's travel, with the beads at 0 on average; right when the stage
moved symmetrically about the surface that the beads lie on. ``focus``: where the light is most concentrated.

What the PSF sums to. 1 over its patch in focus. The other slices keep their ratio to it, as the beads show
it: light that leaves the patch out of focus is lost to the PSF as it is to the camera's patch.

Shape suffixes: Z slices, H rows, W columns, N beads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from emitter.core.errors import EmitterError, require
from emitter.core.units import PixelSize
from emitter.psf.bead_fit import Placed, curves, evaluate, fit, focus_nm
from emitter.psf.beads import Bead, check_stack, choose_beads, find_candidates
from emitter.psf.psf_file import CalibrationInfo
from emitter.psf.spline import SplinePSF

_MATCH_PX = 3.0  # a bead and its truth are no farther apart
_BRIGHTNESS_RATIO = 3.0  # brighter or dimmer than the median by more: two beads in one, or no bead
_SHAPE_RATIO = 2.5  # residual against the beads' median residual
_SHAPE_FLOOR = 0.1  # a bead that the PSF explains this well (residual over signal, rms) is never refused
_Z_SPREAD = 0.25  # of the stack's travel


@dataclass(frozen=True)
class BeadTruth:
    """True positions of beads: x, y in pixels from the image's outer corner, and the z of the stack's
    middle."""

    x_px: np.ndarray
    y_px: np.ndarray
    z_middle_nm: float = 0.0


@dataclass(frozen=True)
class CalibrationSettings:
    """What a calibration needs to know beside the stack.

    Attributes:
        z_step_nm: step from slice to slice; negative when z falls from slice to slice.
        z_zero: ``stack_centre`` or ``focus``.
        radius_px: of the PSF's patch; None: from the PSF's extent.
        truth: the beads' true positions, when they are known: the PSF is then centred on them.
    """

    pixel_size: PixelSize
    z_step_nm: float
    z_zero: str = "stack_centre"
    radius_px: int | None = None
    truth: BeadTruth | None = None

    def __post_init__(self) -> None:
        require(
            0.5 <= abs(self.z_step_nm) <= 1000,
            f"z_step_nm is {self.z_step_nm}: give the step between slices in nm, between 0.5 and 1000 "
            f"(negative when z falls from slice to slice)",
        )
        require(
            self.z_zero in ("stack_centre", "focus"),
            f"z_zero is '{self.z_zero}': give stack_centre or focus",
        )
        require(
            self.radius_px is None or 3 <= self.radius_px <= 30,
            f"radius_px is {self.radius_px}: give 3 to 30 pixels, or null for the PSF's own extent",
        )


@dataclass(frozen=True)
class Calibration:
    """A calibrated PSF with the beads it came from.

    Attributes:
        psf: float64, z and centre as ``info`` says.
        beads: all beads found, brightest first, with the reason for each that is refused.
        placed: pixels and positions of the beads used; amplitudes are the beads' photons in the stack's
        units. z_nm: of every slice, (Z,).
    """

    psf: SplinePSF
    info: CalibrationInfo
    beads: list[Bead]
    placed: Placed
    z_nm: np.ndarray

    def model(self, bead: int) -> np.ndarray:
        """What the PSF says of one used bead's cutout, in the stack's units, (Z, P, P)."""
        return evaluate(self.psf, self.placed, bead, self.z_nm)


def calibrate(stack_ZHW: np.ndarray, settings: CalibrationSettings) -> Calibration:
    """Calibrate a PSF from a bead stack (Z, H, W), in any unit that is linear in photons.

    Raises:
        EmitterError: when the stack is no stack of beads; the message says why.
    """
    stack = check_stack(stack_ZHW)
    if settings.z_step_nm < 0:
        stack = stack[::-1]
    middle_nm = settings.truth.z_middle_nm if settings.truth else 0.0
    z_nm_Z = (np.arange(len(stack)) - 0.5 * (len(stack) - 1)) * abs(settings.z_step_nm) + middle_nm
    candidates = find_candidates(stack)
    if settings.truth is not None:
        candidates = _at_truth(candidates, settings.truth)
    beads, radius = choose_beads(stack, candidates, settings.radius_px)
    free = settings.truth is None
    used = [bead for bead in beads if bead.refused is None]
    psf, moved, placed = fit(stack, used, radius, z_nm_Z, free)
    judged = _refuse_unlike(psf, moved, placed, z_nm_Z)
    kept = [bead for bead in judged if bead.refused is None]
    if len(kept) < len(judged):
        psf, moved, placed = fit(stack, kept, radius, z_nm_Z, free)
        positions = iter(moved)
        judged = [bead if bead.refused else next(positions) for bead in judged]
    else:
        judged = moved
    psf, placed, z_nm_Z = _normalised(psf, placed, z_nm_Z, settings.z_zero)
    everything = judged + [bead for bead in beads if bead.refused is not None]
    info = _info(psf, settings, len(placed), len(everything) - len(placed))
    return Calibration(psf, info, everything, placed, z_nm_Z)


def _at_truth(candidates: list[Bead], truth: BeadTruth) -> list[Bead]:
    """The candidates at their true positions; those without a truth are refused."""
    placed = []
    for bead in candidates:
        distance = np.hypot(truth.x_px - bead.x_px, truth.y_px - bead.y_px)
        nearest = int(np.argmin(distance))
        if distance[nearest] > _MATCH_PX:
            placed.append(replace(bead, refused=f"no true position within {_MATCH_PX:g} px"))
        else:
            placed.append(replace(bead, x_px=float(truth.x_px[nearest]), y_px=float(truth.y_px[nearest])))
    if all(bead.refused for bead in placed):
        raise EmitterError(
            f"none of the {len(placed)} beads found lies within {_MATCH_PX:g} px of a true position: check that the "
            f"truth belongs to this stack, and pixel_size_nm"
        )
    return placed


def _refuse_unlike(psf: SplinePSF, beads: list[Bead], placed: Placed, z_nm_Z: np.ndarray) -> list[Bead]:
    """The beads with those refused whose brightness, z or shape is unlike the others'. Needs three to
    judge."""
    if len(beads) < 3:
        return beads
    brightness_N = placed.amplitude_N / np.median(placed.amplitude_N)
    z_off_N = placed.z_nm_N - np.median(placed.z_nm_N)
    rest_N = np.empty(len(beads))
    for n in range(len(beads)):
        model = evaluate(psf, placed, n, z_nm_Z)
        rest_N[n] = np.sqrt(((placed.cutouts_NZPP[n] - model) ** 2).sum() / (model**2).sum())
    typical = float(np.median(rest_N))
    judged = []
    for n, bead in enumerate(beads):
        reason = None
        if not 1 / _BRIGHTNESS_RATIO < brightness_N[n] < _BRIGHTNESS_RATIO:
            reason = f"{brightness_N[n]:.2g} times as bright as the median bead"
        elif abs(z_off_N[n]) > _Z_SPREAD * (z_nm_Z[-1] - z_nm_Z[0]):
            reason = f"in focus {z_off_N[n]:.0f} nm off the median bead"
        elif rest_N[n] > max(_SHAPE_FLOOR, _SHAPE_RATIO * typical):
            reason = f"unlike the others: residual {rest_N[n]:.0%} of its light against {typical:.0%}"
        judged.append(replace(bead, refused=reason))
    return judged


def _normalised(
    psf: SplinePSF, placed: Placed, z_nm_Z: np.ndarray, z_zero: str
) -> tuple[SplinePSF, Placed, np.ndarray]:
    """The PSF with the sum 1 in focus and z counted from where the user wants it."""
    focus = focus_nm(psf)
    light = float(curves(psf, np.array([focus])).light[0])
    shift_nm = -focus if z_zero == "focus" else 0.0
    scaled = SplinePSF(psf.coefficients_ZCC / light, psf.z_start_nm + shift_nm, psf.z_step_nm)
    return scaled, replace(placed, amplitude_N=placed.amplitude_N * light), z_nm_Z + shift_nm


def _info(psf: SplinePSF, settings: CalibrationSettings, n_used: int, n_refused: int) -> CalibrationInfo:
    found = curves(psf)
    z_zero = "truth" if settings.truth is not None and settings.z_zero == "stack_centre" else settings.z_zero
    return CalibrationInfo(
        pixel_size=settings.pixel_size,
        z_step_nm=abs(settings.z_step_nm),
        n_beads_used=n_used,
        n_beads_refused=n_refused,
        centred_on="centroid" if settings.truth is None else "truth",
        z_zero=z_zero,
        centroid_z_nm=found.z_nm,
        centroid_x_px=found.x_px,
        centroid_y_px=found.y_px,
        light=found.light,
    )
