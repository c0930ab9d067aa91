"""The emitter table: what a localizer writes and what a truth file holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from emitter.core.emitters import Emitters
from emitter.core.errors import EmitterError
from emitter.core.units import PixelSize

PRECISION_COLUMNS = ("precision_x_nm", "precision_y_nm", "precision_z_nm", "precision_photons")


@dataclass(frozen=True)
class EmitterTable:
    """One row per emitter and frame; every column is a numpy array of the same length.

    Frames count from 0. x, y in nm from the image's outer corner, z in nm, photons before the quantum efficiency,
    background in photons per pixel, probability in [0, 1]. A quantity that is unknown is NaN; the precision columns
    (standard deviations) are None when nobody estimated them. ``n_frames`` counts the localizations that were linked
    into a row; None before linking.

    Raises:
        EmitterError: when the columns differ in length.
    """

    frame: np.ndarray
    x_nm: np.ndarray
    y_nm: np.ndarray
    z_nm: np.ndarray
    photons: np.ndarray
    background: np.ndarray
    probability: np.ndarray
    precision_x_nm: np.ndarray | None = None
    precision_y_nm: np.ndarray | None = None
    precision_z_nm: np.ndarray | None = None
    precision_photons: np.ndarray | None = None
    n_frames: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, column in self.columns().items():
            dtype = np.int64 if name == "frame" else np.float64
            object.__setattr__(self, name, np.asarray(column, dtype=dtype).reshape(-1))
        lengths = {name: len(column) for name, column in self.columns().items()}
        if len(set(lengths.values())) > 1:
            raise EmitterError(
                f"the columns of an emitter table differ in length ({lengths}): give equal lengths"
            )

    @classmethod
    def of(cls, frame: np.ndarray | Sequence[int], **columns: np.ndarray | Sequence[float]) -> EmitterTable:
        """A table from the columns that are known; the others are filled with NaN (probability with 1)."""
        unknown = np.full(len(frame), np.nan)
        filled = {
            name: columns.pop(name, unknown) for name in ("x_nm", "y_nm", "z_nm", "photons", "background")
        }
        filled["probability"] = columns.pop("probability", np.ones(len(frame)))
        return cls(np.asarray(frame), **filled, **columns)  # type: ignore[arg-type]

    @classmethod
    def empty(cls) -> EmitterTable:
        """A table without rows."""
        return cls.of([])

    @classmethod
    def from_emitters(
        cls, emitters: Emitters, pixel_size: PixelSize, frames: Sequence[int] | None = None
    ) -> EmitterTable:
        """From a batch of images; ``frames`` gives the frame number of every image (default 0, 1, 2 …)."""
        image = emitters.image_N.cpu().numpy()
        x_nm, y_nm = pixel_size.to_nm(_numpy(emitters.x_px_N), _numpy(emitters.y_px_N))
        columns = {
            "x_nm": x_nm,
            "y_nm": y_nm,
            "z_nm": _numpy(emitters.z_nm_N),
            "photons": _numpy(emitters.photons_N),
        }
        if emitters.background_N is not None:
            columns["background"] = _numpy(emitters.background_N)
        if emitters.probability_N is not None:
            columns["probability"] = _numpy(emitters.probability_N)
        return cls.of(image if frames is None else np.asarray(frames, dtype=np.int64)[image], **columns)

    def to_emitters(self, pixel_size: PixelSize, frames: Sequence[int]) -> Emitters:
        """The rows of the given frames as a batch of images, one image for each frame in the order given."""
        frames_sorted = np.asarray(frames, dtype=np.int64)
        order = np.argsort(frames_sorted, kind="stable")
        position = np.searchsorted(frames_sorted[order], self.frame)
        position = np.minimum(position, len(order) - 1)
        image = order[position] if len(order) else np.zeros(len(self), dtype=np.int64)
        keep = frames_sorted[image] == self.frame if len(order) else np.zeros(len(self), dtype=bool)
        x_px, y_px = pixel_size.to_px(self.x_nm, self.y_nm)

        def tensor(column: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(column[keep], dtype=torch.float32)

        return Emitters(
            n_images=len(frames_sorted),
            image_N=torch.as_tensor(image[keep]),
            x_px_N=tensor(x_px),
            y_px_N=tensor(y_px),
            z_nm_N=tensor(self.z_nm),
            photons_N=tensor(self.photons),
            background_N=tensor(self.background),
            probability_N=tensor(self.probability),
        )

    @classmethod
    def concatenate(cls, tables: Iterable[EmitterTable]) -> EmitterTable:
        """All rows, in the order given. A precision column is kept when every table with rows has it."""
        parts = [table for table in tables if len(table)]
        if not parts:
            return cls.empty()
        names = [name for name in parts[0].columns() if all(name in part.columns() for part in parts)]
        return cls(**{name: np.concatenate([part.columns()[name] for part in parts]) for name in names})

    def __len__(self) -> int:
        return len(self.frame)

    def columns(self) -> dict[str, np.ndarray]:
        """The columns that are there, by name, in their standard order."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: column for name, column in named.items() if column is not None}

    def select(self, rows: np.ndarray | slice) -> EmitterTable:
        """The rows of a boolean mask, of an index array, of an order or of a slice."""
        return EmitterTable(**{name: column[rows] for name, column in self.columns().items()})

    def with_columns(self, **columns: np.ndarray) -> EmitterTable:
        """A copy with some columns replaced or added."""
        return EmitterTable(**{**self.columns(), **columns})

    def sorted(self) -> EmitterTable:
        """Rows by frame, then y, then x: the one order in which a table is written."""
        return self.select(np.lexsort((self.x_nm, self.y_nm, self.frame)))


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
