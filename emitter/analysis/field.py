"""The field that localizations lie in. Shape suffix: N rows."""

from __future__ import annotations

import numpy as np

_STRAY_PERCENT = 1.0  # on either side
_MARGIN = 0.25  # of what is left: the rows of any ordinary field lie within


def in_field(place_N2: np.ndarray) -> np.ndarray:
    """Which rows (x, y) lie in the field, (N,): all but few that lie far off."""
    low_2, high_2 = np.percentile(place_N2, (_STRAY_PERCENT, 100 - _STRAY_PERCENT), axis=0)
    margin_2 = _MARGIN * (high_2 - low_2)
    return np.all((place_N2 >= low_2 - margin_2) & (place_N2 <= high_2 + margin_2), axis=1)


def field_of(place_N2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest (x, y) of the rows in the field, (2,) each."""
    inside_N2 = place_N2[in_field(place_N2)]
    return inside_N2.min(axis=0), inside_N2.max(axis=0)
