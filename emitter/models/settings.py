"""Sizes of the networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from emitter.core.errors import require


@dataclass(frozen=True)
class VarSettings:
    """The multi-scale backbone.

    ``cells_px``: side of a cell at every scale, coarse to fine, halving from one to the next (0.5 is twice the
    frame's resolution). ``stem_channels``: features of one frame at cells of 1, 2, 4 … pixels. ``widths`` and
    ``blocks``: channels and residual blocks at every scale, coarse to fine. ``latent_channels``: channels of the
    accumulated estimate. ``stem_blocks``: whether features of cells coarser than 1 px pass a residual block.

    What a faithful VAR has, each to be left out or added: ``phi``, the shared Φ through which a scale's contribution
    goes into the estimate; ``level_embedding``, a trained vector by which a scale knows itself; ``image_at``, whether
    every scale sees the image's features or the first alone; ``shared_blocks``, the same residual blocks at every
    scale; ``attention_cells_px``, the scales that attend to their surroundings and to the coarser ones before.
    """

    SMALLEST_CELL_PX: ClassVar[float] = 0.5

    kind: Literal["var"] = "var"
    cells_px: tuple[float, ...] = (4, 2, 1)
    stem_channels: tuple[int, ...] = (24, 48, 64)
    widths: tuple[int, ...] = (96, 64, 48)
    blocks: tuple[int, ...] = (2, 2, 1)
    latent_channels: int = 48
    stem_blocks: bool = True
    phi: bool = True
    level_embedding: bool = True
    image_at: Literal["every_scale", "first_scale"] = "every_scale"
    shared_blocks: bool = False
    attention_cells_px: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        cells = self.cells_px
        halving = all(coarse == 2 * fine for coarse, fine in zip(cells, cells[1:], strict=False))
        power = bool(cells) and cells[-1] >= self.SMALLEST_CELL_PX and math.log2(cells[0]).is_integer()
        require(
            halving and power and cells[-1] <= 1,
            f"model.cells_px is {list(cells)}: give powers of 2 that halve from coarse to fine and end at 1 or 0.5",
        )
        n_stem = 1 + max(0, round(math.log2(cells[0])))
        require(
            len(self.stem_channels) == n_stem and min(self.stem_channels) >= 1,
            f"model.stem_channels is {list(self.stem_channels)}: a coarsest cell of {cells[0]} px needs {n_stem} "
            "positive numbers",
        )
        for name in ("widths", "blocks"):
            value = getattr(self, name)
            require(
                len(value) == len(cells) and min(value) >= 1,
                f"model.{name} is {list(value)}: give one positive number for each of the {len(cells)} scales",
            )
        require(self.latent_channels >= 1, f"model.latent_channels is {self.latent_channels}: give 1 or more")
        require(
            not self.shared_blocks or (len(set(self.widths)) == 1 and len(set(self.blocks)) == 1),
            f"model.shared_blocks is true and model.widths is {list(self.widths)}, model.blocks {list(self.blocks)}: "
            "give every scale the same",
        )
        require(
            set(self.attention_cells_px) <= set(cells),
            f"model.attention_cells_px is {list(self.attention_cells_px)}: give cells of the scales {list(cells)}",
        )


@dataclass(frozen=True)
class UNetSettings:
    """Two U-Nets in a row: one shared by the frames, one on their union (the published DECODE layout)."""

    kind: Literal["unet"] = "unet"
    depth: int = 2
    features: int = 48

    def __post_init__(self) -> None:
        require(1 <= self.depth <= 5, f"model.depth is {self.depth}: give 1 to 5 halvings")
        require(self.features >= 1, f"model.features is {self.features}: give 1 or more channels")


ModelSettings = VarSettings | UNetSettings
