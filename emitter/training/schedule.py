"""Learning rate over a run."""

from __future__ import annotations


def learning_rate_factor(step: int, total_steps: int | None, warmup_steps: int) -> float:
    """Linear from 0 over ``warmup_steps``, times a straight line from 1 to 0 at ``total_steps``.

    While the total is not known yet (a time budget is measured during the first steps) there is only the warm-up; the
    measurement ends early enough for the jump to be small. A cosine, which lingers near 0, learns less in the same
    time (docs/benchmarks.md).
    """
    warm = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if total_steps is None:
        return warm
    return warm * max(0.0, 1.0 - step / total_steps)
