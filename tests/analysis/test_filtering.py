"""Filtering: what is kept, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from emitter.analysis.filtering import filtered
from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable


def table() -> EmitterTable:
    rng = np.random.default_rng(1)
    return EmitterTable.of(
        np.arange(200),
        x_nm=rng.uniform(0, 1000, 200),
        y_nm=rng.uniform(0, 1000, 200),
        photons=rng.uniform(100, 5000, 200),
        probability=rng.uniform(0, 1, 200),
        precision_x_nm=rng.uniform(2, 40, 200),
    )


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (
            "precision_x_nm < 15 and probability > 0.8",
            lambda t: (t.precision_x_nm < 15) & (t.probability > 0.8),
        ),
        ("x_nm < 100 | photons >= 4000", lambda t: (t.x_nm < 100) | (t.photons >= 4000)),
        ("x_nm < 100 & photons >= 2000", lambda t: (t.x_nm < 100) & (t.photons >= 2000)),
        ("not (100 < x_nm <= 600)", lambda t: ~((t.x_nm > 100) & (t.x_nm <= 600))),
        ("frame in [3, 5] or frame % 50 == 0", lambda t: np.isin(t.frame, [3, 5, 0, 50, 100, 150])),
        ("sqrt(x_nm**2 + y_nm**2) < 700", lambda t: np.hypot(t.x_nm, t.y_nm) < 700),
        ("z_nm < 0 or z_nm >= 0", lambda t: np.zeros(200, bool)),
        ("-x_nm > -50", lambda t: t.x_nm < 50),
    ],
)
def test_rows_are_those_that_numpy_finds(where: str, expected) -> None:
    rows = table()
    np.testing.assert_array_equal(filtered(rows, where).frame, rows.frame[expected(rows)])


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("photon > 3", ["no column 'photon'", "photons", "precision_x_nm"]),
        ("precision_y_nm < 3", ["no column 'precision_y_nm'"]),
        ("photons", ["a number and not true or false"]),
        ("photons >", ["cannot be read"]),
        ("3 > 2", ["without any column"]),
        ("photons > 'a'", ["compare columns"]),
        ("photons.to_csv('stolen') > 3", ["compare columns"]),
        ("@photons > 3", ["cannot be read"]),
        ("__import__('os').system('ls') > photons", ["compare columns"]),
        ("open(photons) > 3", ["no function", "sqrt"]),
        ("sqrt > photons", ["is a function"]),
        ("photons < 9**9**9**9", ["cannot be computed"]),
        ("(lambda: photons)() > 3", ["compare columns"]),
        ("photons[0] > 3", ["compare columns"]),
        ("(" * 300 + "photons", ["cannot be read"]),
    ],
)
def test_anything_else_is_refused_in_a_sentence(where: str, words: list[str], tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EmitterError) as caught:
        filtered(table(), where)
    assert all(word in str(caught.value) for word in words), caught.value
    assert list(tmp_path.iterdir()) == []
