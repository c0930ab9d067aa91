"""Whether localizations prefer places within a pixel: of emitters placed at random they must not."""

from __future__ import annotations

import math

from scipy.stats import kstest

from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize


def pixel_bias(table: EmitterTable, pixel_size: PixelSize) -> dict[str, float]:
    """``pixel_bias_x`` and ``_y``: how far the offsets within a pixel are from uniform, 0 to 1; NaN without rows.

    The largest difference between the two cumulative distributions (Kolmogorov-Smirnov). Of N offsets that are
    uniform it is about 0.87 / √N.
    """
    if not len(table):
        return {"pixel_bias_x": math.nan, "pixel_bias_y": math.nan}
    x_px_N, y_px_N = pixel_size.to_px(table.x_nm, table.y_nm)
    return {
        "pixel_bias_x": float(kstest(x_px_N % 1.0, "uniform").statistic),
        "pixel_bias_y": float(kstest(y_px_N % 1.0, "uniform").statistic),
    }
