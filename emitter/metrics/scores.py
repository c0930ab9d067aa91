"""Scores gathered over batches and ranks, for training."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.metrics.figures import RATIO_BINS, Sums, scores, sums
from emitter.metrics.protocol import FieldNm, Protocol, count, photon_threshold


class EmitterMetrics(Metric):
    """Scores of predicted against true emitters, summed over batches and ranks.

    A photon rule needs the threshold of the whole truth. With one ``update`` in all it is found from that
    truth; with more updates or ranks give ``photon_threshold`` (of
    ``emitter.metrics.protocol.photon_threshold``).

    Args:
        protocol: what counts.
        field_nm: extent of the field in x and y, nm; needed when the protocol has a border.
        photon_threshold: photons below which truth is not counted.

    >>> from emitter.metrics.protocol import protocol_named
    >>> metrics = EmitterMetrics(protocol_named("plain"))
    >>> truth = EmitterTable.of([0, 1], x_nm=[100, 200], y_nm=[100, 200], z_nm=[0, 0], photons=[1000, 1000])
    >>> metrics.update(truth.select([0]), truth)
    >>> metrics.compute()["recall"]
    0.5
    """

    full_state_update = False
    n_own_thresholds: Tensor

    def __init__(
        self, protocol: Protocol, field_nm: FieldNm | None = None, photon_threshold: float | None = None
    ) -> None:
        super().__init__()
        self.protocol = protocol
        self.field_nm = field_nm
        self.photon_threshold = photon_threshold
        for field in fields(Sums):
            shape = (RATIO_BINS,) if field.name == "photon_ratio" else ()
            self.add_state(field.name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("n_own_thresholds", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predicted: EmitterTable, truth: EmitterTable) -> None:
        """Add all predictions and all truth of some frames (a frame must not be split between updates).

        Raises:
            EmitterError: see ``photon_threshold`` and ``inside_border`` of ``emitter.metrics.protocol``.
        """
        threshold = self.photon_threshold
        if threshold is None:
            threshold = photon_threshold(truth, self.protocol, self.field_nm)
            self.n_own_thresholds += float(self.protocol.photon_quantile > 0)
        counted = count(predicted, truth, self.protocol, self.field_nm, threshold)
        for name, value in vars(sums(predicted, truth, counted, self.protocol.axial)).items():
            state: Tensor = getattr(self, name)
            state += torch.as_tensor(value, dtype=state.dtype, device=state.device)

    def compute(self) -> dict[str, float]:
        """The figures of ``metrics.json`` (see ``scores``) without its texts, of all ranks.

        Raises:
            EmitterError: when several updates each found their own photon threshold.
        """
        if self.n_own_thresholds > 1:
            raise EmitterError(
                "the photon rule's threshold must come from the whole truth, not from each batch: give "
                "EmitterMetrics a photon_threshold, or everything in one update"
            )
        return scores(self.totals())

    def totals(self) -> Sums:
        """The sums so far."""
        states: dict[str, Any] = {field.name: getattr(self, field.name).tolist() for field in fields(Sums)}
        states["photon_ratio"] = np.asarray(states["photon_ratio"])
        return Sums(**states)
