"""Matching 100,000 emitters in 5,000 frames: CPU-seconds, against DECODE's 7.0.

python benchmarks/matching.py
"""

from __future__ import annotations

import time

import numpy as np

from emitter.core.table import EmitterTable
from emitter.metrics.matching import METHODS, match

DECODE_CPU_S = 7.0
N_EMITTERS, N_FRAMES = 100_000, 5_000
REPEATS = 3


def tables(field_nm: float) -> tuple[EmitterTable, EmitterTable]:
    """Truth, and a prediction that misses 10 % of it, adds as many false ones and errs by 30 to 50 nm."""
    rng = np.random.default_rng(0)
    frame = rng.integers(0, N_FRAMES, N_EMITTERS)
    x, y = rng.uniform(0, field_nm, (2, N_EMITTERS))
    z = rng.uniform(-500, 500, N_EMITTERS)
    truth = EmitterTable.of(frame, x_nm=x, y_nm=y, z_nm=z)
    n_false = N_EMITTERS // 10
    x, y, z = (
        x + rng.normal(0, 30, N_EMITTERS),
        y + rng.normal(0, 30, N_EMITTERS),
        z + rng.normal(0, 50, N_EMITTERS),
    )
    x[:n_false], y[:n_false] = rng.uniform(0, field_nm, (2, n_false))
    predicted = EmitterTable.of(frame, x_nm=x, y_nm=y, z_nm=z)
    return predicted.select(rng.permutation(N_EMITTERS)), truth


def main() -> None:
    print(
        f"{N_EMITTERS} emitters in {N_FRAMES} frames, best of {REPEATS} runs (DECODE: {DECODE_CPU_S} CPU-s)"
    )
    for side_px in (64, 40, 26):
        field_nm = side_px * 100.0
        predicted, truth = tables(field_nm)
        density = N_EMITTERS / N_FRAMES / (field_nm / 1000) ** 2
        for method in METHODS:
            seconds = []
            for _ in range(REPEATS):
                start = time.process_time()
                pairs = match(predicted, truth, method)
                seconds.append(time.process_time() - start)
            best = min(seconds)
            print(
                f"{side_px}×{side_px} px, {density:.2f}/µm², {method:7s}: {best:.2f} CPU-s, "
                f"{DECODE_CPU_S / best:.0f}× DECODE's speed, {len(pairs)} pairs"
            )


if __name__ == "__main__":
    main()
