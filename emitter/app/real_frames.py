"""Simulated frames against a real movie's: figures, and one sentence that says where they differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from emitter.inference.appearance import Appearance, appearance, relative_width, sampled_photons
from emitter.inference.bundle import Bundle
from emitter.inference.mismatches import width_mismatch
from emitter.inference.usual import simulated_appearance, simulated_frames
from emitter.io.movie import Movie
from emitter.plots.appearance import plot_distributions, plot_side_by_side
from emitter.plots.report import Picture, Section

_SAMPLES = 256
_EXAMPLES = 16
_SMOOTH_PX = 1.0
_CENTRAL = (0.05, 0.95)
_FEWEST = 15
_WIDTHS = "width of spots alone, σ (px)"


@dataclass(frozen=True)
class Quantity:
    """Its values in simulated and in real frames, and in words what it is, with its unit."""

    label: str
    words: str
    unit: str
    simulated: np.ndarray
    real: np.ndarray

    @property
    def central(self) -> tuple[float, float]:
        """Between which nine of ten simulated values lie."""
        low, high = np.quantile(self.simulated, _CENTRAL).tolist()
        return low, high

    def differs(self) -> bool:
        """Whether the movie's median lies outside of ``central``; never of few values."""
        if min(len(self.simulated), len(self.real)) < 1:
            return False
        low, high = self.central
        return not low <= float(np.median(self.real)) <= high

    def difference(self) -> str:
        """In words."""
        low, high = self.central
        return f"{self.words} ({np.median(self.real):.3g} {self.unit}, simulated {low:.3g} to {high:.3g})"


def real_frames_section(bundle: Bundle, movie: Movie) -> Section:
    """The section of a report.

    Args:
        bundle: of the network; its camera turns the movie's counts into photons.
        movie: the real movie.

    Raises:
        EmitterError: frames that cannot be this camera's.
    """
    bundle.camera.check_frame(movie.height, movie.width)
    photons_FHW = sampled_photons(movie, range(movie.n_frames), bundle.camera)
    real = appearance(photons_FHW, bundle.camera)
    simulated = simulated_appearance(bundle, bundle.simulation, _SAMPLES)
    all_of_them = quantities(simulated, real)
    said = verdict(all_of_them, simulated, real, bundle, movie)
    example_HW = telling(simulated_frames(bundle, bundle.simulation, _EXAMPLES))
    middle_HW = telling(photons_FHW, example_HW.shape)
    example_HW = telling(example_HW[None], middle_HW.shape)
    distributions = {one.label: (one.simulated, one.real) for one in all_of_them}
    return Section(
        "Simulated against real frames",
        text="" if said.startswith("The movie differs") else said,
        warnings=(said,) if said.startswith("The movie differs") else (),
        pictures=(
            Picture.of(
                plot_side_by_side(example_HW, middle_HW),
                "A frame of the simulation that the network was trained on, and one of the movie around its brightest "
                "spot: of both a frame with more contrast than three quarters of the others.",
                "simulated_and_real",
            ),
            Picture.of(
                plot_distributions(distributions),
                f"{len(photons_FHW)} frames of {movie.name} against {_SAMPLES} of the simulation, in photons by the "
                "checkpoint's camera.",
                "distributions",
            ),
        ),
    )


def telling(photons_FHW: np.ndarray, size: tuple[int, ...] | None = None) -> np.ndarray:
    """Of frames the one at the upper quartile of contrast, so that it is hardly an empty one; with ``size``, rows and
    columns, as much of it around its brightest place."""
    contrast_F = photons_FHW.std(axis=(1, 2))
    frame_HW: np.ndarray = photons_FHW[np.argsort(contrast_F)[3 * (len(contrast_F) - 1) // 4]]
    if size is None:
        return frame_HW
    brightest = np.unravel_index(gaussian_filter(frame_HW, _SMOOTH_PX).argmax(), frame_HW.shape)
    part = []
    for at, side, most in zip(brightest, frame_HW.shape, size, strict=True):
        shown = min(side, most)
        start = int(np.clip(int(at) - shown // 2, 0, side - shown))
        part.append(slice(start, start + shown))
    return frame_HW[tuple(part)]


def quantities(simulated: Appearance, real: Appearance) -> list[Quantity]:
    """What is compared."""
    rows = (
        ("pixels (photons)", "pixels", "photons", "pixels_P"),
        ("background (photons per pixel)", "background", "photons per pixel", "floor_F"),
        ("noise of a pixel (photons)", "noise", "photons", "noise_F"),
        (
            "height of local maxima (photons)",
            "height of local maxima",
            "photons above the background",
            "height_N",
        ),
        (_WIDTHS, "width of spots that stand alone", "px", "width_px_M"),
    )
    return [
        Quantity(label, words, unit, getattr(simulated, name), getattr(real, name))
        for label, words, unit, name in rows
    ]


def verdict(of: list[Quantity], simulated: Appearance, real: Appearance, bundle: Bundle, movie: Movie) -> str:
    """One sentence."""
    few = len(real.sigma_x_px_M) < _FEWEST
    wide = list(width_mismatch(real, simulated, bundle.pixel_size, movie.pixel_size))
    width = relative_width(real, simulated)
    differing = [one for one in of if (bool(wide) if one.label == _WIDTHS else one.differs())]
    others = [one.words for one in of if one not in differing and not (few and one.label == _WIDTHS)]
    if not differing:
        return f"The movie looks like the simulation in {_listed(others)}."
    alike = f"; {_listed(others)} lie within what is simulated" if others else ""
    # widths are held against those of the same elongation, which the range of all of them does not show
    said = [
        f"{one.words} ({width.ratio:.2f} times that of simulated spots as elongated)"
        if width is not None and one.label == _WIDTHS
        else one.difference()
        for one in differing
    ]
    return f"The movie differs from the simulation in {_listed(said)}{alike}."


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
