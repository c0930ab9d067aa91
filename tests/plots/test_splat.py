"""Gaussians of own widths: against the density, and counts that are kept."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.plots.superres import SuperResImage


def test_each_is_the_normal_distribution_over_the_pixels() -> None:
    rng = np.random.default_rng(0)
    n = 60
    x, y, sx, sy = (
        rng.uniform(-20, 420, n),
        rng.uniform(-20, 320, n),
        rng.uniform(2, 60, n),
        rng.uniform(2, 60, n),
    )
    image = SuperResImage((400, 300), 10, style="gaussian")
    image.add(EmitterTable.of(np.zeros(n), x_nm=x, y_nm=y, precision_x_nm=sx, precision_y_nm=sy))
    column, row = np.arange(0, 401, 10)[:, None], np.arange(0, 301, 10)[:, None]
    in_x, in_y = np.diff(norm.cdf(column, x, sx), axis=0), np.diff(norm.cdf(row, y, sy), axis=0)
    np.testing.assert_allclose(image.counts(), in_y @ in_x.T, atol=2e-4)


@pytest.mark.parametrize("sigma_nm", [2e3, 1e6, 1e9])
def test_what_is_wider_than_the_image_is_cut_at_its_edges(sigma_nm: float) -> None:
    image = SuperResImage((400, 300), 10, style="gaussian")
    wide = {name: np.array([sigma_nm, 8.0]) for name in ("precision_x_nm", "precision_y_nm")}
    image.add(EmitterTable.of([0, 0], x_nm=[150.0, 200.0], y_nm=[70.0, 150.0], **wide))
    in_x, in_y = np.diff(norm.cdf([0, 400], 150, sigma_nm)), np.diff(norm.cdf([0, 300], 70, sigma_nm))
    assert image.counts().sum() == pytest.approx(1 + float((in_x * in_y)[0]), rel=1e-4)


def test_counts_are_kept_and_regions_begin_where_they_say() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(1500, 2500, 500), rng.uniform(700, 1200, 500)
    widths = {"precision_x_nm": np.full(500, 9.0), "precision_y_nm": np.full(500, 4.0)}
    table = EmitterTable.of(np.zeros(500), x_nm=x, y_nm=y, **widths)
    for style in ("histogram", "gaussian"):
        image = SuperResImage((1200, 700), 10, style=style, origin_nm=(1400, 600))  # type: ignore[arg-type]
        image.add(table)
        assert image.counts().sum() == pytest.approx(500, rel=1e-5)
    one = SuperResImage((1200, 700), 10, style="histogram", origin_nm=(1400, 600))
    one.add(table.select(np.array([0])))
    assert one.counts()[int((y[0] - 600) // 10), int((x[0] - 1400) // 10)] == 1


def test_gaussians_without_precision_are_refused() -> None:
    with pytest.raises(EmitterError, match="precision_x_nm"):
        SuperResImage((100, 100), 10, style="gaussian").add(EmitterTable.of([0], x_nm=[5.0], y_nm=[5.0]))
