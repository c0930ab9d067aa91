"""A constant offset between predictions and truth, as a PSF that is not centred on its truth causes."""

from __future__ import annotations

import numpy as np

from emitter.core.table import EmitterTable
from emitter.metrics.protocol import FieldNm, Protocol, count, photon_threshold

OffsetNm = tuple[float, float, float]  # predicted − true in x, y and z

_ROUNDS = 10
_SETTLED_NM = 0.1


def estimate_offset(
    predicted: EmitterTable, truth: EmitterTable, protocol: Protocol, field_nm: FieldNm | None
) -> OffsetNm:
    """Median of predicted − true over matched pairs, in nm; 0 on an axis where no pair knows it.

    The predictions are shifted by the median, matched anew, and so on until it settles, because an offset
    also makes neighbours be taken for one another. It must be well within the matching radius.
    """
    threshold = photon_threshold(truth, protocol, field_nm)
    offset = np.zeros(3)
    for _ in range(_ROUNDS):
        shifted = without_offset(predicted, (offset[0], offset[1], offset[2]))
        counted = count(shifted, truth, protocol, field_nm, threshold)
        step = np.array(
            [
                _median(
                    getattr(shifted, axis)[counted.predicted_rows] - getattr(truth, axis)[counted.truth_rows]
                )
                for axis in ("x_nm", "y_nm", "z_nm")
            ]
        )
        offset += step
        if np.abs(step).max() < _SETTLED_NM:
            break
    return float(offset[0]), float(offset[1]), float(offset[2])


def without_offset(predicted: EmitterTable, offset_nm: OffsetNm) -> EmitterTable:
    """The predictions with an offset taken off."""
    x, y, z = offset_nm
    return predicted.with_columns(x_nm=predicted.x_nm - x, y_nm=predicted.y_nm - y, z_nm=predicted.z_nm - z)


def _median(errors_nm: np.ndarray) -> float:
    known = errors_nm[np.isfinite(errors_nm)]
    return float(np.median(known)) if len(known) else 0.0
