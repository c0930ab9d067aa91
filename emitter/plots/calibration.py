"""The figure of a calibration: beads against the PSF at several z, and what changes with z.

Shape suffixes: Z slices, P patch side.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpecFromSubplotSpec, SubplotSpec
from scipy.optimize import curve_fit

from emitter.psf.calibration import Calibration

_N_SHOWN = 7  # slices shown as images
_N_WIDTHS = 31  # slices whose widths are fitted
_N_CURVES = 12  # beads drawn one by one; more would only hide each other
_AXES = (("x", 1, "tab:blue"), ("y", 0, "tab:orange"))


def plot_calibration(calibration: Calibration, path: Path) -> None:
    """Write the figure as a PNG: data, model and residual of the brightest bead; widths, centroid, light,
    residuals."""
    figure = Figure(figsize=(15, 11), layout="constrained")
    FigureCanvasAgg(figure)
    halves = figure.add_gridspec(2, 1, height_ratios=(3.2, 4))
    _draw_images(figure, halves[0], calibration)
    panels = halves[1].subgridspec(2, 2)
    _draw_widths(figure.add_subplot(panels[0, 0]), calibration)
    _draw_centroids(figure.add_subplot(panels[0, 1]), calibration)
    _draw_light(figure.add_subplot(panels[1, 0]), calibration)
    _draw_residuals(figure.add_subplot(panels[1, 1]), calibration)
    info = calibration.info
    figure.suptitle(
        f"PSF from {info.n_beads_used} bead{'s' * (info.n_beads_used != 1)} ({info.n_beads_refused} refused), "
        f"centred on the {info.centred_on}, z = 0 at the {info.z_zero.replace('_', ' ')}"
    )
    figure.savefig(path, dpi=90, format="png")


def _draw_images(figure: Figure, place: SubplotSpec, calibration: Calibration) -> None:
    """Bead, PSF and residual in standard deviations of the residual, one column for each z."""
    grid = GridSpecFromSubplotSpec(3, _N_SHOWN, place)
    data_ZPP, model_ZPP = calibration.placed.cutouts_NZPP[0], calibration.model(0)
    shown = np.linspace(0, len(data_ZPP) - 1, _N_SHOWN).round().astype(int)
    for column, k in enumerate(shown):
        noise = _noise(data_ZPP[k], model_ZPP[k])
        rest = (data_ZPP[k] - model_ZPP[k]) / noise
        # The square root shows the tails beside the peak.
        root = [np.sqrt(np.clip(image, 0, None)) for image in (data_ZPP[k], model_ZPP[k])]
        top = max(float(image.max()) for image in root)
        images = (("bead", root[0], 0.0, top, "viridis"), ("PSF", root[1], 0.0, top, "viridis"))
        rows = (*images, ("residual, ±4σ", rest, -4.0, 4.0, "RdBu_r"))
        for row, (name, image, low, high, colours) in enumerate(rows):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(image, vmin=low, vmax=high, cmap=colours, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(f"{calibration.z_nm[k]:.0f} nm", fontsize=10)
            if column == 0:
                axes.set_ylabel(name)


def _noise(data_PP: np.ndarray, model_PP: np.ndarray) -> np.ndarray:
    """Standard deviation of a pixel: variance a + b · signal with a and b from the residuals themselves."""
    signal = np.clip(model_PP, 0, None).ravel()
    square = ((data_PP - model_PP) ** 2).ravel()
    design = np.stack((np.ones_like(signal), signal), axis=1)
    # Two rounds of weighted least squares: the scatter of a square grows with its own mean.
    coefficients = np.array([square.mean(), 0.0])
    for _ in range(2):
        mean = np.clip(design @ coefficients, 0.1 * square.mean() + 1e-12, None)
        coefficients, *_ = np.linalg.lstsq(design / mean[:, None], square / mean, rcond=None)
    floor = 0.05 * square.mean() + 1e-12
    return np.sqrt(np.clip(design @ coefficients, floor, None)).reshape(data_PP.shape)


def _draw_widths(axes: Axes, calibration: Calibration) -> None:
    """Widths (standard deviation of a Gaussian fitted to the projection) of beads and PSF, nm."""
    chosen = np.unique(np.linspace(0, len(calibration.z_nm) - 1, _N_WIDTHS).round().astype(int))
    size = calibration.info.pixel_size
    for (name, axis, colour), pixel_nm in zip(_AXES, (size.x_nm, size.y_nm), strict=True):
        for n in range(min(len(calibration.placed), _N_CURVES)):
            z_nm = calibration.z_nm[chosen] - calibration.placed.z_nm_N[n]
            width = _widths_px(calibration.placed.cutouts_NZPP[n][chosen], axis) * pixel_nm
            axes.plot(z_nm, width, ".", color=colour, alpha=0.4, ms=5)
        width = _widths_px(calibration.model(0)[chosen], axis) * pixel_nm
        axes.plot(
            calibration.z_nm[chosen] - calibration.placed.z_nm_N[0], width, color=colour, label=f"PSF, {name}"
        )
    axes.set(xlabel="z (nm)", ylabel="Gaussian width (nm)", title="Widths: beads (dots) and PSF (lines)")
    axes.set_ylim(bottom=0)
    axes.legend()


def _widths_px(patch_ZPP: np.ndarray, axis: int) -> np.ndarray:
    """Width of a Gaussian plus a constant fitted to every slice's projection; NaN where none fits."""
    profile_ZP = patch_ZPP.sum(axis=1 if axis == 1 else 2)
    position = np.arange(profile_ZP.shape[1], dtype=np.float64)

    def gaussian(x: np.ndarray, height: float, centre: float, width: float, floor: float) -> np.ndarray:
        return floor + height * np.exp(-0.5 * ((x - centre) / width) ** 2)

    widths = []
    for profile in profile_ZP:
        start = (np.ptp(profile), float(len(position) // 2), 2.0, float(profile.min()))
        try:
            found, _ = curve_fit(gaussian, position, profile, start, maxfev=400)
            widths.append(abs(found[2]) if abs(found[2]) < 0.5 * len(position) else np.nan)
        except RuntimeError:  # no convergence
            widths.append(np.nan)
    return np.array(widths)


def _draw_centroids(axes: Axes, calibration: Calibration) -> None:
    """Centroid relative to the PSF's centre, nm: beads smoothed over 5 slices, and PSF."""
    info, placed = calibration.info, calibration.placed
    size = info.pixel_size
    reach = placed.cutouts_NZPP.shape[-1] // 2
    offset = np.arange(-reach, reach + 1)
    curves = (info.centroid_x_px * size.x_nm, info.centroid_y_px * size.y_nm)
    for k, (name, axis, colour) in enumerate(_AXES):
        pixel_nm, shift_N = ((size.x_nm, placed.dx_px_N), (size.y_nm, placed.dy_px_N))[k]
        for n in range(min(len(placed), _N_CURVES)):
            patch = _running_mean(placed.cutouts_NZPP[n])
            profile = patch.sum(axis=1 if axis == 1 else 2)
            centroid = (profile * offset).sum(axis=1) / patch.sum(axis=(1, 2)) - shift_N[n]
            z_nm = _running_mean(calibration.z_nm) - placed.z_nm_N[n]
            axes.plot(z_nm, centroid * pixel_nm, color=colour, alpha=0.25, lw=0.8)
        axes.plot(info.centroid_z_nm, curves[k], color=colour, lw=2, label=f"PSF, {name}")
    axes.axhline(0, color="grey", lw=0.5)
    axes.set(
        xlabel="z (nm)", ylabel="centroid (nm)", title=f"Centroid relative to the centre ({info.centred_on})"
    )
    limit = 1.6 * max(float(np.abs(curve).max()) for curve in curves) + 5
    axes.set_ylim(-limit, limit)
    axes.legend()


def _running_mean(values: np.ndarray, width: int = 5) -> np.ndarray:
    """Mean over ``width`` slices, without the ends."""
    total = np.cumsum(np.concatenate((np.zeros_like(values[:1]), values)), axis=0)
    return (total[width:] - total[:-width]) / width


def _draw_light(axes: Axes, calibration: Calibration) -> None:
    """Sum over the patch: 1 in focus."""
    info, placed = calibration.info, calibration.placed
    for n in range(min(len(placed), _N_CURVES)):
        light = placed.cutouts_NZPP[n].sum(axis=(1, 2)) / placed.amplitude_N[n]
        axes.plot(calibration.z_nm - placed.z_nm_N[n], light, ".", color="tab:green", alpha=0.3, ms=3)
    axes.plot(info.centroid_z_nm, info.light, color="black", label="PSF")
    axes.set(xlabel="z (nm)", ylabel="sum over the patch", title="Light in the patch (1 in focus)")
    axes.set_ylim(bottom=0)
    axes.legend()


def _draw_residuals(axes: Axes, calibration: Calibration) -> None:
    """Residual of every bead over the root of its light: shot noise gives the same at every z."""
    placed = calibration.placed
    for n in range(len(placed)):
        model = calibration.model(n)
        square = ((placed.cutouts_NZPP[n] - model) ** 2).sum(axis=(1, 2))
        ratio = np.sqrt(square / np.clip(model.sum(axis=(1, 2)), 1e-12, None))
        axes.plot(calibration.z_nm, ratio, color="tab:red", alpha=0.5, lw=0.8)
    axes.set(
        xlabel="z (nm)",
        ylabel="residual / √light",
        title="Residuals of every bead: flat where shot noise is all that is left",
    )
    axes.set_ylim(bottom=0)
