"""What a table of emitters does not hold itself and some formats need: pixel size, frame size, number of frames."""

from __future__ import annotations

from dataclasses import dataclass

from emitter.core.errors import require
from emitter.core.units import PixelSize


@dataclass(frozen=True)
class Acquisition:
    """The movie that a table belongs to, as far as it is known; ``frame_size_px`` is (rows, columns)."""

    pixel_size: PixelSize | None = None
    frame_size_px: tuple[int, int] | None = None
    n_frames: int | None = None

    def __post_init__(self) -> None:
        require(
            self.frame_size_px is None or min(self.frame_size_px) >= 1,
            f"frame_size_px is {self.frame_size_px}: give [rows, columns] of the movie's frames",
        )
        require(
            self.n_frames is None or self.n_frames >= 1,
            f"n_frames is {self.n_frames}: give the number of the movie's frames",
        )

    def filled_from(self, other: Acquisition) -> Acquisition:
        """A copy that takes from ``other`` what it does not know itself."""
        return Acquisition(
            self.pixel_size or other.pixel_size,
            self.frame_size_px or other.frame_size_px,
            self.n_frames or other.n_frames,
        )
