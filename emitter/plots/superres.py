"""Super-resolved images: a histogram of the localizations, blurred or not, or Gaussians; z as colour.

Shape suffixes: H rows, W columns (of the rendered image, first row at y = 0).
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.ndimage import gaussian_filter

from emitter.core.errors import EmitterError, require
from emitter.core.table import EmitterTable
from emitter.plots.splat import add_gaussians

log = logging.getLogger(__name__)

MAX_SIDE_PX = 3000  # bounds the memory: about 0.3 GB
_MIN_SIDE_PX = 480  # smaller images are enlarged, so that the labels can be read
_SCREEN_PX = (
    1000  # about what is seen of a side: a larger image is blurred so that this does not hide localizations
)
_BRIGHTEST_PERCENTILE = 99.0  # of the pixels that hold anything: shown at full brightness
_DPI = 100
_DENSITY_COLOURS = colormaps["inferno"]
_Z_COLOURS = ListedColormap(colormaps["turbo"](np.linspace(0.08, 0.93, 256)))  # without its dark ends


class SuperResImage:
    """An image that grows block by block; its memory depends on the field, not on the number of localizations.

    Args:
        field_nm: width and height of the field.
        pixel_nm: pixel of the image, made larger for a field that would need more than ``MAX_SIDE_PX`` pixels. The
            blur's standard deviation is one pixel, or a thousandth of the longer side where that is more.
        z_range_nm: lowest and highest z of the colour scale; None for a 2D image.
        style: "blurred" is the histogram, blurred as said; "histogram" is without the blur; "gaussian" draws every
            localization by its own precision in x and in y.
        origin_nm: x and y of the field's outer corner.
        into_HW: zeros, as many as the field needs pixels, in which the image grows; then no pixel is made larger.
    """

    def __init__(
        self,
        field_nm: tuple[float, float],
        pixel_nm: float,
        z_range_nm: tuple[float, float] | None = None,
        style: Literal["blurred", "histogram", "gaussian"] = "blurred",
        origin_nm: tuple[float, float] = (0.0, 0.0),
        into_HW: np.ndarray | None = None,
    ) -> None:
        require(pixel_nm > 0, f"superres_nm is {pixel_nm}: give the pixel of the image in nm, above 0")
        self.pixel_nm = pixel_nm if into_HW is not None else max(pixel_nm, max(field_nm) / MAX_SIDE_PX)
        if self.pixel_nm > pixel_nm:
            log.info(
                "the image's pixels are %.1f nm instead of %g: the field is large", self.pixel_nm, pixel_nm
            )
        width, height = (max(1, math.ceil(side / self.pixel_nm - 1e-9)) for side in field_nm)
        self._count_HW = np.zeros((height, width), np.float32) if into_HW is None else into_HW
        self._style, self._origin_nm = style, origin_nm
        self._blur_px = max(1.0, max(width, height) / _SCREEN_PX) if style == "blurred" else 0.0
        # of one localization: below a tenth of it, a pixel counts as dark
        self._peak = 1 / (2 * math.pi * self._blur_px**2) if style == "blurred" else 1.0
        self._z_range_nm = z_range_nm
        self._z_sum_HW = None if z_range_nm is None else np.zeros((height, width), np.float32)

    def add(self, table: EmitterTable) -> None:
        """Add the localizations that lie in the field.

        Raises:
            EmitterError: Gaussians are wanted and the table has no precision in x and y.
        """
        height, width = self._count_HW.shape
        x_px, y_px = (
            (position - origin) / self.pixel_nm
            for position, origin in zip((table.x_nm, table.y_nm), self._origin_nm, strict=True)
        )
        if self._style == "gaussian":
            self._add_gaussians(table, x_px, y_px)
            return
        column, row = np.floor(x_px), np.floor(y_px)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = row[inside].astype(np.int64), column[inside].astype(np.int64)
        np.add.at(self._count_HW, place, np.float32(1))
        if self._z_sum_HW is not None:
            np.add.at(self._z_sum_HW, place, table.z_nm[inside].astype(np.float32))

    def _add_gaussians(self, table: EmitterTable, x_px: np.ndarray, y_px: np.ndarray) -> None:
        sigma_px = [
            np.empty(0) if column is None else column / self.pixel_nm
            for column in (table.precision_x_nm, table.precision_y_nm)
        ]
        if any(len(sigma) < len(table) or not np.all((sigma > 0) & (sigma < np.inf)) for sigma in sigma_px):
            raise EmitterError(
                "Gaussians need precision_x_nm and precision_y_nm above 0 in every row of the table: give one width "
                "for all (sigma_nm=), filter the rows, or draw a histogram (style=histogram)"
            )
        one = np.ones(len(table))
        x, y = sigma_px
        add_gaussians(self._count_HW, one, (x_px, y_px), (x, y))
        if self._z_sum_HW is not None:
            add_gaussians(self._z_sum_HW, table.z_nm, (x_px, y_px), (x, y))
        if len(table):  # of the widest block, so that the dimmest kind of localization still counts as lit
            self._peak = min(self._peak, float(np.median(1 / np.maximum(2 * math.pi * x * y, 1))))

    def counts(self) -> np.ndarray:
        """Localizations in each pixel, (H, W) float32: fractions where Gaussians are drawn."""
        return self._count_HW

    def rgb(self) -> np.ndarray:
        """The image, (H, W, 3) uint8: brightness is density, hue is the mean z (one colour scale in 2D)."""
        density_HW = self._blurred(self._count_HW)
        # Against one localization's peak, not the brightest: a bead that stays on must not hide the rest.
        lit = density_HW > 0.1 * self._peak
        top = float(np.percentile(density_HW[lit], _BRIGHTEST_PERCENTILE)) if lit.any() else 1.0
        brightness_HW = np.clip(density_HW / top, 0, 1) ** 0.6  # below 1: thin structures beside dense ones
        if self._z_sum_HW is None or self._z_range_nm is None:
            return _colours(_DENSITY_COLOURS, brightness_HW)
        z_nm_HW = self._blurred(self._z_sum_HW) / np.maximum(density_HW, 1e-6)
        low, high = self._z_range_nm
        hue_HW3 = _colours(_Z_COLOURS, (z_nm_HW - low) / max(high - low, 1e-9))
        return (hue_HW3 * brightness_HW[..., None]).astype(np.uint8)

    def _blurred(self, image_HW: np.ndarray) -> np.ndarray:
        return gaussian_filter(image_HW, self._blur_px) if self._blur_px else image_HW

    def save(self, path: Path) -> None:
        """Write a PNG with a scale bar in µm and, in 3D, a colour bar for z in nm."""
        image_HW3 = self.rgb()
        factor = max(1, math.ceil(_MIN_SIDE_PX / min(image_HW3.shape[:2])))
        factor = max(1, min(factor, MAX_SIDE_PX // max(image_HW3.shape[:2])))
        image_HW3 = image_HW3.repeat(factor, axis=0).repeat(factor, axis=1)
        height, width = image_HW3.shape[:2]
        font_px = max(14, min(height, width) // 32)
        strip_px = 4 * font_px  # below the image: labels never cover localizations
        figure = Figure(figsize=(width / _DPI, (height + strip_px) / _DPI), dpi=_DPI, facecolor="black")
        FigureCanvasAgg(figure)
        share = strip_px / (height + strip_px)
        figure.add_axes((0, share, 1, 1 - share)).imshow(image_HW3, interpolation="nearest", aspect="auto")
        figure.axes[0].set_axis_off()
        strip = figure.add_axes((0, 0, 1, share), xlim=(0, width), ylim=(0, strip_px))
        strip.set_axis_off()
        _draw_scale_bar(strip, self.pixel_nm / factor, font_px)
        if self._z_range_nm is not None:
            _draw_colour_bar(figure, self._z_range_nm, (width, height + strip_px), font_px)
        figure.savefig(path, dpi=_DPI, format="png", facecolor="black")


def scale_bar_um(width_um: float) -> float:
    """Length of the scale bar for a field of this width: the largest of 1, 2, 5 × 10ⁿ that is at most a fifth."""
    power = 10.0 ** math.floor(math.log10(width_um / 5))
    return max(step * power for step in (1, 2, 5) if step * power <= width_um / 5 * (1 + 1e-9))


def _colours(colormap: Colormap, values_HW: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 from values between 0 and 1."""
    table = (colormap(np.linspace(0, 1, 256))[:, :3] * 255).astype(np.uint8)
    return table[(np.clip(values_HW, 0, 1) * 255).astype(np.uint8)]


def _text_style(font_px: int) -> dict[str, Any]:
    return {"color": "white", "fontsize": font_px * 72 / _DPI, "va": "center"}


def _draw_scale_bar(strip: Axes, pixel_nm: float, font_px: int) -> None:
    width_px, strip_px = strip.get_xlim()[1], strip.get_ylim()[1]
    length_um = scale_bar_um(width_px * pixel_nm / 1000)
    length_px, thick_px = length_um * 1000 / pixel_nm, max(3, font_px // 4)
    strip.add_patch(Rectangle((font_px, 0.72 * strip_px), length_px, thick_px, color="white", lw=0))
    strip.text(font_px, 0.4 * strip_px, f"{length_um:g} µm", **_text_style(font_px))


def _draw_colour_bar(
    figure: Figure, z_range_nm: tuple[float, float], size_px: tuple[int, int], font_px: int
) -> None:
    """In the right half of the strip below the image."""
    width, height = size_px
    place = (0.55, 2.6 * font_px / height, 0.45 - 2.5 * font_px / width, 0.7 * font_px / height)
    axes = figure.add_axes(place)
    scale = ScalarMappable(Normalize(*z_range_nm), _Z_COLOURS)
    low, high = z_range_nm
    middle = (low + high) / 2
    bar = figure.colorbar(scale, cax=axes, orientation="horizontal", ticks=[low, middle, high])
    bar.outline.set_visible(False)
    bar.ax.set_xticklabels([f"{low:g}", f"z {middle:g}", f"{high:g} nm"])
    bar.ax.tick_params(colors="white", labelsize=font_px * 72 / _DPI, length=0)
