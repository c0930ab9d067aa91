"""Learning rate over a run."""

from __future__ import annotations

import math


def learning_rate_factor(step: int, total_steps: int | None, warmup_steps: int) -> float:
    """Linear from 0 over ``warmup_steps``, times a cosine that reaches 0 at ``total_steps``.

    While the total is not known yet (a time budget is measured during the first steps) there is no cosine; the
    measurement ends early enough for the jump to be far below a percent.
    """
    warm = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if total_steps is None:
        return warm
    return warm * 0.5 * (1.0 + math.cos(math.pi * min(step / total_steps, 1.0)))
