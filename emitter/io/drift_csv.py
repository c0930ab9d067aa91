"""Drift over frames as csv: ``frame`` (from 0), ``drift_x_nm``, ``drift_y_nm`` and ``drift_z_nm`` where known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from emitter.core.errors import EmitterError
from emitter.core.frames import span_of
from emitter.io.files import replacing

_AXES = ("x_nm", "y_nm", "z_nm")


def write_drift(path: Path, first_frame: int, nm_F: Mapping[str, np.ndarray]) -> None:
    """Write the drift of every frame from the first on, by the name of the column that it is in."""
    columns = {f"drift_{name}": values for name, values in nm_F.items()}
    frames = first_frame + np.arange(len(next(iter(columns.values()))))
    with replacing(path) as temporary:
        pd.DataFrame({"frame": frames, **columns}).to_csv(temporary, index=False, float_format="%.3f")


def read_drift(path: Path) -> tuple[int, dict[str, np.ndarray]]:
    """First frame, and the drift of every frame from there on; frames that the file leaves out are interpolated.

    Raises:
        EmitterError: no such file, or one without a number for every frame, drift_x_nm and drift_y_nm, or of far
            too many frames.
    """
    path = path.expanduser()
    wrong = EmitterError(
        f"{path} is no drift: give a csv with the columns frame, drift_x_nm and drift_y_nm, as drift.py writes it"
    )
    if not path.is_file():
        raise EmitterError(f"drift {path} does not exist: check the path")
    try:
        table = pd.read_csv(path)
        needed = table[["frame", "drift_x_nm", "drift_y_nm", *table.columns.intersection(["drift_z_nm"])]]
        values = needed.to_numpy(dtype=np.float64)
    except (ValueError, KeyError) as error:  # pandas' parser errors are ValueErrors
        raise wrong from error
    values = values[np.argsort(values[:, 0], kind="stable")]
    if not len(values) or not np.isfinite(values).all() or np.any(np.diff(values[:, 0]) <= 0):
        raise wrong
    first, last = int(values[0, 0]), int(values[-1, 0])
    frames = first + np.arange(span_of(first, last, f"{path}"))
    known = zip(_AXES, values.T[1:], strict=False)
    return first, {name: np.interp(frames, values[:, 0], column) for name, column in known}
