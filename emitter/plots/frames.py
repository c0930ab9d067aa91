"""Camera frames with what is in them: truth and prediction, or what a table says they should look like.

Shape suffixes: H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emitter.plots.style import ORANGE, brightness_limits, panels, show_frame

_SIGMAS = 5.0  # at the ends of the colour scale of an error
_BLUE_ON_GREY = "#56B4E9"


@dataclass(frozen=True)
class ExampleFrame:
    """A frame in photons (None: only its size is known, (rows, columns)), and true and found positions in px."""

    number: int
    frame_HW: np.ndarray | None
    size_px: tuple[int, int]
    truth_xy: tuple[np.ndarray, np.ndarray]
    found_xy: tuple[np.ndarray, np.ndarray]


def plot_examples(examples: Sequence[ExampleFrame], path: Path) -> None:
    """Frames side by side, true emitters as circles and found ones as crosses."""
    with panels(path, len(examples), height_in=11.0 / max(len(examples), 2) - 0.3) as axes:
        for axis, example in zip(axes[0], examples, strict=True):
            height, width = example.size_px
            if example.frame_HW is not None:
                limits = brightness_limits(example.frame_HW)
                show_frame(axis, example.frame_HW, "photons per pixel", limits)
            else:
                axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xlabel="x (px)", ylabel="y (px)")
            truth, found = example.truth_xy, example.found_xy
            size = max(8.0, min(90.0, 3000.0 / max(height, width)))
            axis.scatter(
                *truth, s=size, marker="o", lw=1.2, facecolors="none", edgecolors=_BLUE_ON_GREY, label="true"
            )
            axis.scatter(*found, s=0.6 * size, marker="x", lw=1.2, color=ORANGE, label="found")
            axis.set(title=f"frame {example.number}: {len(truth[0])} true, {len(found[0])} found")
        axes[0, 0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)


@dataclass(frozen=True)
class Reconstructed:
    """A frame's number, observed and expected in photons, and the error in standard deviations, (H, W) each."""

    number: int
    observed_HW: np.ndarray
    expected_HW: np.ndarray
    error_HW: np.ndarray


def plot_reconstructed(frames: Sequence[Reconstructed], path: Path) -> None:
    """A row for each frame: observed, reconstructed from the table, and the error."""
    with panels(path, 3, len(frames), height_in=3.5) as axes:
        for (left, middle, right), frame in zip(axes, frames, strict=True):
            limits = brightness_limits(frame.observed_HW, frame.expected_HW)
            show_frame(left, frame.observed_HW, "photons per pixel", limits)
            show_frame(middle, frame.expected_HW, "photons per pixel", limits)
            show_frame(right, frame.error_HW, "standard deviations", (-_SIGMAS, _SIGMAS), "RdBu_r")
            left.set_title(f"frame {frame.number}, observed")
            middle.set_title("reconstructed from the table")
            right.set_title(f"difference / noise, χ² = {float((frame.error_HW**2).mean()):.2f}")


def plot_chi2_map(chi2_HW: np.ndarray, pixel_px: float, path: Path) -> None:
    """Mean square of the error over the frames; ``pixel_px``: camera pixels that one pixel of the map covers."""
    with panels(path, 1, height_in=5.5) as axes:
        axis = axes[0, 0]
        height, width = (side * pixel_px for side in chi2_HW.shape)
        # 1 lies in the middle of a logarithmic scale: white is as it should be
        top = max(2.0, float(np.nanpercentile(chi2_HW, 99.5)))
        shown = np.log10(np.clip(chi2_HW, 1 / top, top))
        reach = float(np.log10(top))
        image = axis.imshow(
            shown,
            cmap="PuOr_r",
            vmin=-reach,
            vmax=reach,
            extent=(0, width, height, 0),
            interpolation="nearest",
        )
        bar = axis.figure.colorbar(image, ax=axis, shrink=0.85, label="reduced χ²")
        ticks = np.linspace(-reach, reach, 5)
        bar.set_ticks(ticks.tolist(), labels=[f"{10**tick:.2g}" for tick in ticks])
        axis.grid(False)
        axis.set(xlabel="x (px)", ylabel="y (px)")
