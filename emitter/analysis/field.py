"""The field that localizations lie in. Shape suffix: N rows."""

from __future__ import annotations

import numpy as np

_STRAY_PERCENT = 1.0  # on either side
_MARGIN = 0.25  # of what is left: the rows of any ordinary field lie within


def field_of(place_N2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest (x, y) of the rows, (2,) each, but for few that lie far off."""
    low_2, high_2 = np.percentile(place_N2, (_STRAY_PERCENT, 100 - _STRAY_PERCENT), axis=0)
    margin_2 = _MARGIN * (high_2 - low_2)
    return np.maximum(place_N2.min(axis=0), low_2 - margin_2), np.minimum(
        place_N2.max(axis=0), high_2 + margin_2
    )
