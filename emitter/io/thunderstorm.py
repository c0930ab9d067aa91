"""Writing localizations in ThunderSTORM's columns, block by block."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd

from emitter.core.table import PRECISION_COLUMNS, EmitterTable
from emitter.io.journal import Written

_DIGITS = 4


class TableWriter:
    """A csv in ThunderSTORM's columns that grows while a movie is localized.

    Rows are written to ``<path>.partial``, which takes the name ``path`` when the block ends without an
    error. When it does not, the partial file stays if it has rows, so that nothing that was found is lost.
    Frames and ids count from 1. Columns that a network does not know (sigma, the background's deviation) are left out:
    readers go by the names, and refuse or misread empty cells. ``probability`` is ours and comes last, with the
    precision of each axis where there is one; ThunderSTORM's lateral uncertainty is the root mean square of x and y.

    Args:
        path: name of the finished file.
        with_z: write ``z [nm]`` (a 3D table).
        with_precision: the tables have columns of precision.
        after: what a partial file of before holds; what follows that there is cut off.
    """

    def __init__(
        self, path: Path, with_z: bool, with_precision: bool = False, after: Written | None = None
    ) -> None:
        self.path = path
        self.partial_path = self.partial_of(path)
        self.n_rows = after.n_rows if after is not None else 0
        self._with_z = with_z
        self._with_precision = with_precision
        if after is not None and after.n_bytes > 0:
            self._file = self.partial_path.open("r+", encoding="utf-8", newline="\n")
            self._file.truncate(after.n_bytes)
            self._file.seek(after.n_bytes)
            return
        self._file = self.partial_path.open("w", encoding="utf-8", newline="\n")
        none = EmitterTable.empty()
        if with_precision:
            none = none.with_columns(**dict.fromkeys(PRECISION_COLUMNS, np.empty(0)))
        names = self._columns(none)
        self._file.write(",".join(f'"{name}"' for name in names) + "\n")

    @staticmethod
    def partial_of(path: Path) -> Path:
        """The name of a table while it grows."""
        return path.with_name(path.name + ".partial")

    @property
    def n_bytes(self) -> int:
        """Of all that is written."""
        return self._file.tell()

    def write(self, table: EmitterTable) -> EmitterTable:
        """Append the rows of a table, in the order given; the table as the file has it, to so many digits."""
        rounded = {
            name: column if name == "frame" else column.round(_DIGITS)
            for name, column in table.columns().items()
        }
        table = EmitterTable(**rounded)
        pd.DataFrame(self._columns(table)).to_csv(
            self._file, header=False, index=False, float_format=f"%.{_DIGITS}f", na_rep="NaN"
        )
        self._file.flush()
        self.n_rows += len(table)
        return table

    def _columns(self, table: EmitterTable) -> dict[str, np.ndarray]:
        """The file's columns, in order."""
        columns = {
            "id": np.arange(self.n_rows + 1, self.n_rows + 1 + len(table)),
            "frame": table.frame + 1,
            "x [nm]": table.x_nm,
            "y [nm]": table.y_nm,
        }
        if self._with_z:
            columns["z [nm]"] = table.z_nm
        columns["intensity [photon]"] = table.photons
        columns["offset [photon]"] = table.background
        if not self._with_precision:
            return {**columns, "probability": table.probability}
        x_nm, y_nm, z_nm, photons = (table.columns()[name] for name in PRECISION_COLUMNS)
        columns["uncertainty_xy [nm]"] = np.sqrt((x_nm**2 + y_nm**2) / 2)
        if self._with_z:
            columns["uncertainty_z [nm]"] = z_nm
        columns["probability"] = table.probability
        return {**columns, "precision_x_nm": x_nm, "precision_y_nm": y_nm, "precision_photons": photons}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            self.partial_path.replace(self.path)
        elif self.n_rows == 0:
            self.partial_path.unlink()
