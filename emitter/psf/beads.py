"""Finding beads in a stack: candidates, the size of their patch, and why some are refused.

Shape suffixes: Z slices, H rows, W columns, N beads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter

from emitter.core.errors import EmitterError

_MIN_SLICES = 5
_Z_PARTS = 5  # of the stack, over which noise is averaged where its slow change with z is looked at
_SMOOTHING_PX = 1.5  # about the width of a PSF in focus: the matched filter of a spot
_NOISE_LEVELS = 8.0  # a maximum of pure noise reaches 5 in a million pixels
_MIN_BRIGHTNESS = 0.1  # of the brightest bead's: what is dimmer is light of a bead's rings, or dirt
_MAX_RADIUS_PX = 13
_MIN_RADIUS_PX = 4
_LIGHT_IN_PATCH = 0.99
_BACKGROUND_REACH_PX = 30
_BACKGROUND_PIXELS = 400
_SATURATED_PIXELS = 3
_MAX_FLICKER = (
    0.5  # a blinking molecule's is near 2; a bead's is a few percent, in coarse steps perhaps a third
)


@dataclass(frozen=True)
class Bead:
    """One bead. Positions in pixels from the image's outer corner.

    Attributes:
        x_px, y_px: where the light's centre is, or the truth when that is given.
        background: of a pixel, in the stack's units.
        refused: why it is not used, or None.
    """

    x_px: float
    y_px: float
    background: float = 0.0
    refused: str | None = None


def check_stack(stack_ZHW: np.ndarray) -> np.ndarray:
    """The stack as float64 (Z, H, W).

    Raises:
        EmitterError: when no PSF can come from it, whatever beads it holds.
    """
    stack = np.asarray(stack_ZHW)
    if stack.ndim == 4 or (stack.ndim == 3 and stack.shape[2] in (3, 4) and stack.shape[0] > 4):
        raise EmitterError(
            f"the bead stack has the shape {stack.shape}, which looks like colour (RGB) images: "
            f"convert it to one grey channel"
        )
    if stack.ndim != 3 or len(stack) < _MIN_SLICES:
        n = len(stack) if stack.ndim == 3 else 1
        raise EmitterError(
            f"the bead stack has {n} slice{'s' * (n > 1)}: give a z-stack of at least {_MIN_SLICES} slices"
        )
    if min(stack.shape[1:]) < 2 * _MIN_RADIUS_PX + 3:
        raise EmitterError(
            f"the bead stack's images are {stack.shape[1]} × {stack.shape[2]} pixels: "
            f"give at least {2 * _MIN_RADIUS_PX + 3} pixels on each side"
        )
    stack = stack.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(stack).all(axis=(1, 2)))
    if len(wrong):
        raise EmitterError(
            f"the bead stack has NaN or infinite pixels in slice {wrong[0]}: remove that slice or repair it"
        )
    if stack.max() == stack.min():
        raise EmitterError(
            f"the bead stack is constant (every pixel is {stack.max():g}): give a stack with beads in it"
        )
    return stack


def find_candidates(stack_ZHW: np.ndarray) -> list[Bead]:
    """Maxima of the stack's mean over z that rise out of the noise, brightest first.

    Raises:
        EmitterError: when there are none.
    """
    mean_HW = stack_ZHW.mean(axis=0)
    filtered = gaussian_filter(mean_HW, _SMOOTHING_PX) - np.median(mean_HW)
    # Even minus odd slices: the PSF hardly changes between them, so that noise is what is left, twice the
    # mean's.
    noise = gaussian_filter(stack_ZHW[::2].mean(axis=0) - stack_ZHW[1::2].mean(axis=0), _SMOOTHING_PX)
    level = _NOISE_LEVELS * 0.5 * 1.4826 * float(np.median(np.abs(noise - np.median(noise))))
    floor = max(level, _MIN_BRIGHTNESS * filtered.max())
    # Two maxima nearer than 5 px are one bead's rings, or cannot be told apart anyway.
    peak = (filtered == maximum_filter(filtered, 11)) & (filtered >= floor) & (filtered > level)
    rows, columns = np.nonzero(peak)
    order = np.argsort(-filtered[rows, columns])
    found = [_centred(mean_HW, rows[i], columns[i]) for i in order]
    if not found:
        raise EmitterError(
            "no beads were found in the bead stack: nothing rises out of the noise of its mean over z; give a "
            "z-stack of bright, well separated beads"
        )
    return found


def _centred(mean_HW: np.ndarray, row: int, column: int) -> Bead:
    """A bead at the centroid of the light around a maximum."""
    reach = 3
    top, left = max(row - reach, 0), max(column - reach, 0)
    window = mean_HW[top : row + reach + 1, left : column + reach + 1]
    light = window - window.min()
    rows, columns = np.mgrid[: window.shape[0], : window.shape[1]] + 0.5
    total = light.sum()
    return Bead(
        x_px=left + float((light * columns).sum() / total), y_px=top + float((light * rows).sum() / total)
    )


def measure_background(stack_ZHW: np.ndarray, beads: list[Bead]) -> list[Bead]:
    """Every bead with the background around it: where no bead's light reaches, as near as that is.

    The tails of a defocused PSF reach far, so pixels at least 30 px from every bead are taken where there are
    enough; in a small image the farthest that it has. One value for all slices: the lowest of five parts
    of the stack, because what rises above it is the PSF's own tail.
    """
    rows, columns = np.mgrid[: stack_ZHW.shape[1], : stack_ZHW.shape[2]] + 0.5
    nearest = np.full(stack_ZHW.shape[1:], np.inf)
    for bead in beads:
        nearest = np.minimum(nearest, np.hypot(rows - bead.y_px, columns - bead.x_px))
    wanted = min(_BACKGROUND_PIXELS, max(20, nearest.size // 20))
    reach = min(_BACKGROUND_REACH_PX, float(np.sort(nearest, axis=None)[-wanted]))
    far = np.nonzero(nearest >= reach)
    measured = []
    for bead in beads:
        order = np.argsort(np.hypot(far[0] - bead.y_px, far[1] - bead.x_px))[:wanted]
        over_z = stack_ZHW[:, far[0][order], far[1][order]].mean(axis=1)
        parts = [float(part.mean()) for part in np.array_split(over_z, _Z_PARTS)]
        measured.append(replace(bead, background=min(parts)))
    return measured


def patch_radius(stack_ZHW: np.ndarray, beads: list[Bead]) -> int:
    """Radius (px) that holds 99 % of a bead's light at every z, from 4 to 13 px.

    The light is counted out to 16 px, or as far as the image's border and half the way to the next bead
    allow, for the bead with the most room.
    """
    room = [min(_border(stack_ZHW, bead), 0.5 * _gap(beads, n)) for n, bead in enumerate(beads)]
    best = int(np.argmax(room))
    reach = int(np.clip(room[best], _MIN_RADIUS_PX, 16))
    bead = beads[best]
    rows, columns = np.mgrid[: stack_ZHW.shape[1], : stack_ZHW.shape[2]] + 0.5
    away = np.maximum(np.abs(rows - bead.y_px), np.abs(columns - bead.x_px))
    light = stack_ZHW - bead.background
    within = np.stack([light[:, away <= q + 0.5].sum(axis=1) for q in range(1, reach + 1)])
    # Over parts of the stack, because in one slice the noise of a thousand pixels is a percent of the light.
    parts = np.stack([part.mean(axis=1) for part in np.array_split(within, _Z_PARTS, axis=1)])
    needed = 1 + np.argmax(parts >= _LIGHT_IN_PATCH * parts[:, -1:], axis=1)
    return int(np.clip(needed.max(), _MIN_RADIUS_PX, _MAX_RADIUS_PX))


def _border(stack_ZHW: np.ndarray, bead: Bead) -> float:
    """Whole pixels between the bead's pixel and the image's nearest border."""
    _, height, width = stack_ZHW.shape
    row, column = int(bead.y_px), int(bead.x_px)
    return min(row, column, height - 1 - row, width - 1 - column)


def _gap(beads: list[Bead], n: int) -> float:
    """Distance (px, the larger of x and y) to the nearest other bead."""
    others = [
        max(abs(o.x_px - beads[n].x_px), abs(o.y_px - beads[n].y_px)) for o in beads if o is not beads[n]
    ]
    return min(others, default=np.inf)


def refuse_unfit(stack_ZHW: np.ndarray, beads: list[Bead], radius_px: int) -> list[Bead]:
    """The beads with those refused that are near a border or another bead, saturated, or that blink."""
    ceiling = stack_ZHW.max()
    checked = []
    for n, bead in enumerate(beads):
        row, column = int(bead.y_px), int(bead.x_px)
        window = (slice(max(row - 3, 0), row + 4), slice(max(column - 3, 0), column + 4))
        at_ceiling = int((stack_ZHW[:, *window] == ceiling).sum(axis=(1, 2)).max())
        reason = bead.refused
        if _border(stack_ZHW, bead) < radius_px:
            reason = f"nearer than {radius_px} px to the border"
        elif _gap(beads, n) < 2 * radius_px:
            reason = f"another bead {_gap(beads, n):.0f} px away"
        elif at_ceiling >= _SATURATED_PIXELS:
            reason = f"saturated: {at_ceiling} pixels at {ceiling:g}"
        elif _flicker(stack_ZHW[:, *window], bead) > _MAX_FLICKER:
            reason = "comes and goes from slice to slice: a blinking molecule, no bead"
        checked.append(replace(bead, refused=reason))
    return checked


def _flicker(window_ZHW: np.ndarray, bead: Bead) -> float:
    """Mean change of a bead's light from slice to slice over its mean light."""
    light_Z = (window_ZHW - bead.background).sum(axis=(1, 2))
    return float(np.abs(np.diff(light_Z)).mean() / np.abs(light_Z).mean())


def choose_beads(stack_ZHW: np.ndarray, beads: list[Bead], radius_px: int | None) -> tuple[list[Bead], int]:
    """The beads, each used or refused, and the patch radius: the PSF's extent, or less where beads are dense.

    A radius that the user gives is kept.

    Raises:
        EmitterError: when every bead is refused.
    """
    beads = measure_background(stack_ZHW, beads)
    radius = radius_px or patch_radius(stack_ZHW, beads)
    checked = refuse_unfit(stack_ZHW, beads, radius)
    while radius_px is None and radius > _MIN_RADIUS_PX and 2 * _n_used(checked) < len(checked):
        smaller = refuse_unfit(stack_ZHW, beads, radius - 1)
        radius, checked = radius - 1, smaller
    if not _n_used(checked):
        reasons = "; ".join(sorted({str(bead.refused) for bead in checked}))
        raise EmitterError(
            f"none of the {len(checked)} beads found can be used ({reasons}): give a z-stack of unsaturated beads "
            f"with {2 * radius} px between them and {radius} px to the border"
        )
    return checked, radius


def _n_used(beads: list[Bead]) -> int:
    return sum(bead.refused is None for bead in beads)
