"""Localization precision from nearest neighbours in adjacent frames (NeNA).

Endesfelder et al., Histochem. Cell Biol. 141, 629 (2014). Shape suffixes: N rows, D distances, B bins, P pairs of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import curve_fit
from scipy.spatial import cKDTree

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable

_BINS = 100
_MIN_DISTANCES = 200
_MEDIAN_OF_CHI2 = 2 * np.log(2)  # with two degrees of freedom
_MIN_SAME = 0.05  # share of distances that are of one emitter with itself: with fewer the width is arbitrary


@dataclass(frozen=True)
class Nena:
    """Standard deviation of x and of y, nm, and its standard error."""

    precision_nm: float
    error_nm: float


def nena(table: EmitterTable, max_distance_nm: float = 200.0) -> Nena:
    """The precision, from emitters that are seen in two frames in a row.

    Raises:
        EmitterError: fewer than 200 localizations have a neighbour in the next frame, the model does not fit, or it
            finds hardly any emitter that is seen again.
    """
    distance_D = next_frame_distances(table, max_distance_nm)
    if len(distance_D) < _MIN_DISTANCES:
        raise EmitterError(
            f"{len(distance_D)} localizations have a neighbour in the next frame, NeNA needs {_MIN_DISTANCES}: give "
            "a table that is not linked"
        )
    density_B, edges = np.histogram(distance_D, _BINS, (0, max_distance_nm), density=True)
    middle_B = (edges[1:] + edges[:-1]) / 2
    start = max(
        float(middle_B[np.argmax(density_B)]) / np.sqrt(2), edges[1] / 2
    )  # where the Rayleigh part is highest
    far = max_distance_nm
    try:
        fit, covariance = curve_fit(
            _density,
            middle_B,
            density_B,
            p0=(start, 0.8, far / 2, far / 4, 0.1, 1 / far**2),
            bounds=([edges[1] / 10, 0, 0, edges[1], 0, 0], [far, 2, 2 * far, 2 * far, 2, np.inf]),
        )
    except RuntimeError as error:
        raise EmitterError(
            "the distances to the next frame do not follow NeNA's model: give a table of blinking emitters"
        ) from error
    sigma, same = float(fit[0]), float(fit[1])
    if same < _MIN_SAME or sigma > max_distance_nm / 4:
        raise EmitterError(
            "hardly any emitter is seen again in the next frame, so NeNA has nothing to measure: give a table that is "
            "not linked yet"
        )
    # the fit does not know how few distances its bins hold: a Rayleigh distribution's width from so many samples
    counted = sigma / np.sqrt(4 * same * len(distance_D))
    return Nena(sigma, float(np.hypot(np.sqrt(covariance[0, 0]), counted)))


def next_frame_distances(table: EmitterTable, max_distance_nm: float) -> np.ndarray:
    """Lateral distance (nm) to the nearest localization of the next frame, (D,), where one is near enough."""
    distance_N = distances_to_frame(table, table.frame + 1, max_distance_nm)
    return distance_N[np.isfinite(distance_N)]


def scatter_over_precision(table: EmitterTable, max_distance_nm: float = 200.0) -> float:
    """How far apart neighbours of adjacent frames are, over what the precisions of the two rows make of it.

    1 where the precisions hold and the errors of adjacent frames are independent, whatever the spread of precisions
    within the table; below it where they have errors in common. From the median, which different emitters that are
    near each other raise. NaN without a pair that has precisions.
    """
    if table.precision_x_nm is None or table.precision_y_nm is None:
        return float("nan")
    distance_N, neighbour_N = _nearest_in_frame(table, table.frame + 1, max_distance_nm)
    row_P = np.flatnonzero(np.isfinite(distance_N))
    chi2_P = np.zeros(len(row_P))
    for at_nm, precision_nm in ((table.x_nm, table.precision_x_nm), (table.y_nm, table.precision_y_nm)):
        variance_P = precision_nm[row_P] ** 2 + precision_nm[neighbour_N[row_P]] ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            chi2_P += (at_nm[row_P] - at_nm[neighbour_N[row_P]]) ** 2 / variance_P
    chi2_P = chi2_P[np.isfinite(chi2_P)]
    return float(np.sqrt(np.median(chi2_P) / _MEDIAN_OF_CHI2)) if len(chi2_P) else float("nan")


def distances_to_frame(table: EmitterTable, frame_N: np.ndarray, max_distance_nm: float) -> np.ndarray:
    """Lateral distance (nm) of each row to the nearest of a frame given for it, (N,); inf where none is near."""
    return _nearest_in_frame(table, frame_N, max_distance_nm)[0]


def _nearest_in_frame(
    table: EmitterTable, frame_N: np.ndarray, max_distance_nm: float
) -> tuple[np.ndarray, np.ndarray]:
    """As ``distances_to_frame``, with the nearest's row, (N,) each; the row is no row where none is near."""
    # frames far apart as a third length: a neighbour is then always in the frame asked for
    apart = 3 * max_distance_nm
    tree = cKDTree(np.column_stack((table.x_nm, table.y_nm, table.frame * apart)))
    asked_N3 = np.column_stack((table.x_nm, table.y_nm, frame_N * apart))
    distance_N, row_N = tree.query(asked_N3, distance_upper_bound=max_distance_nm)
    return np.asarray(distance_N), np.asarray(row_N)


def _density(
    d_B: np.ndarray, sigma: float, same: float, centre: float, spread: float, other: float, slope: float
) -> np.ndarray:
    """Same emitter (Rayleigh), a Gaussian for neighbours at short range, and a line for others at random."""
    rayleigh_B = d_B / (2 * sigma**2) * np.exp(-(d_B**2) / (4 * sigma**2))
    gaussian_B = np.exp(-((d_B - centre) ** 2) / (2 * spread**2)) / (np.sqrt(2 * np.pi) * spread)
    return same * rayleigh_B + other * gaussian_B + slope * d_B
