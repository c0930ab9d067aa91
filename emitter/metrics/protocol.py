"""What counts as found, missed and false: the rules under which a score is computed.

``challenge2016`` follows the SMLM Challenge 2016 (Sage et al., Nature Methods 16, 387, 2019), ``plain``
counts everything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from emitter.core.errors import EmitterError, nearest, require
from emitter.core.table import EmitterTable
from emitter.metrics.matching import METHODS, match

FieldNm = tuple[float, float]  # extent of the field of view in x and y, nm


@dataclass(frozen=True)
class Protocol:
    """The rules of a score.

    border_nm: truth and predictions closer than this to the field's edge are left out first; 0 keeps all.
    photon_quantile: truth below this quantile of its photons (after the border) is not missed when unpaired,
        and neither it nor its prediction counts when paired; 0 counts all.
    matching: "greedy" or "optimal" (see emitter.metrics.matching).
    axial: False scores in 2D: z takes no part in matching, and the axial figures are unknown (NaN).
    """

    name: str
    border_nm: float = 0.0
    photon_quantile: float = 0.0
    matching: str = "optimal"
    radius_lateral_nm: float = 250.0
    radius_axial_nm: float = 500.0
    axial: bool = True

    def __post_init__(self) -> None:
        border, quantile = self.border_nm, self.photon_quantile
        require(
            math.isfinite(border) and border >= 0,
            f"protocol.border_nm is {border}: give a distance in nm, 0 for no border",
        )
        require(
            0 <= quantile < 1, f"protocol.photon_quantile is {quantile}: give a fraction from 0 to below 1"
        )
        require(
            self.matching in METHODS,
            f"protocol.matching is '{self.matching}': give greedy or optimal",
        )
        for name in ("radius_lateral_nm", "radius_axial_nm"):
            value = getattr(self, name)
            require(
                math.isfinite(value) and value > 0,
                f"protocol.{name} is {value}: give a positive distance in nm",
            )


PROTOCOLS = {
    "challenge2016": Protocol("challenge2016", border_nm=450.0, photon_quantile=0.25, matching="greedy"),
    "plain": Protocol("plain"),
}


def protocol_named(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        SettingsError: when there is none.
    """
    hint = nearest(name, PROTOCOLS) or f": give one of {', '.join(PROTOCOLS)}"
    require(name in PROTOCOLS, f"protocol is '{name}'{hint}")
    return PROTOCOLS[name]


@dataclass(frozen=True)
class Counted:
    """What a protocol counts: the rows of the true positives (paired one to one), of the false positives and of the
    false negatives, and the totals."""

    predicted_rows: np.ndarray
    truth_rows: np.ndarray
    false_rows: np.ndarray
    missed_rows: np.ndarray

    @property
    def n_predicted(self) -> int:
        """True and false positives."""
        return len(self.predicted_rows) + len(self.false_rows)

    @property
    def n_truth(self) -> int:
        """True positives and false negatives."""
        return len(self.truth_rows) + len(self.missed_rows)


def inside_border(table: EmitterTable, protocol: Protocol, field_nm: FieldNm | None) -> np.ndarray:
    """Mask of the rows at least ``border_nm`` away from every edge of the field; all of them without a
    border.

    Raises:
        EmitterError: when the protocol has a border and the field's size is not known.
    """
    if protocol.border_nm == 0:
        return np.ones(len(table), dtype=bool)
    if field_nm is None:
        raise EmitterError(
            f"protocol '{protocol.name}' leaves out a border of {protocol.border_nm:g} nm, and the size of "
            "the field is not known: give field_size_nm=[x,y]"
        )
    border = protocol.border_nm
    in_x = (table.x_nm >= border) & (table.x_nm <= field_nm[0] - border)
    in_y = (table.y_nm >= border) & (table.y_nm <= field_nm[1] - border)
    return in_x & in_y


def photon_threshold(truth: EmitterTable, protocol: Protocol, field_nm: FieldNm | None) -> float:
    """Photons below which truth is not counted: the protocol's quantile of the truth inside the border, or 0.

    Raises:
        EmitterError: when the protocol has a photon rule and some of the truth has no photon number.
    """
    photons = truth.photons[inside_border(truth, protocol, field_nm)]
    if protocol.photon_quantile == 0 or len(photons) == 0:
        return 0.0
    n_unknown = int(np.isnan(photons).sum())
    if n_unknown:
        raise EmitterError(
            f"protocol '{protocol.name}' leaves out the dimmest truth, and {n_unknown} of its rows have "
            "no photon number: fill them in, or use protocol=plain"
        )
    return float(np.quantile(photons, protocol.photon_quantile))


def count(
    predicted: EmitterTable,
    truth: EmitterTable,
    protocol: Protocol,
    field_nm: FieldNm | None,
    threshold: float,
) -> Counted:
    """Pair two tables under a protocol; ``threshold`` is ``photon_threshold`` of the whole truth."""
    rows_p = np.flatnonzero(inside_border(predicted, protocol, field_nm))
    rows_t = np.flatnonzero(inside_border(truth, protocol, field_nm))
    pairs = match(
        _of_axes(predicted.select(rows_p), protocol),
        _of_axes(truth.select(rows_t), protocol),
        protocol.matching,
        protocol.radius_lateral_nm,
        protocol.radius_axial_nm,
    )
    # Unknown photons are not below any threshold; a positive threshold comes from truth that has them all.
    bright = ~(truth.photons[rows_t] < threshold)
    bright_pair = bright[pairs.truth]
    return Counted(
        predicted_rows=rows_p[pairs.predicted[bright_pair]],
        truth_rows=rows_t[pairs.truth[bright_pair]],
        false_rows=np.delete(rows_p, pairs.predicted),
        missed_rows=rows_t[bright & ~np.isin(np.arange(len(rows_t)), pairs.truth)],
    )


def _of_axes(table: EmitterTable, protocol: Protocol) -> EmitterTable:
    return table if protocol.axial else table.with_columns(z_nm=np.full(len(table), np.nan))
