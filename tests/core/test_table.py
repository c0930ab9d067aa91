"""Tables, units and the way between tables and tensors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emitter.core.errors import EmitterError, SettingsError
from emitter.core.table import EmitterTable
from emitter.core.units import PixelSize


def table(frames: list[int]) -> EmitterTable:
    n = len(frames)
    values = {
        name: np.arange(n) * 10.0 + i
        for i, name in enumerate(("x_nm", "y_nm", "z_nm", "photons", "background"))
    }
    return EmitterTable.of(frames, **values)


@given(st.lists(st.integers(0, 9), max_size=30), st.permutations(list(range(10))))
def test_to_tensors_and_back_keeps_every_row_of_the_given_frames(frames, order):
    pixel = PixelSize(100, 130)
    chosen = order[:7]
    original = table(frames)
    back = EmitterTable.from_emitters(original.to_emitters(pixel, chosen), pixel, chosen)
    kept = original.select(np.isin(original.frame, chosen))
    assert len(back) == len(kept)
    for name, column in kept.columns().items():
        assert np.allclose(np.sort(back.columns()[name]), np.sort(column), rtol=1e-5)


def test_pixels_and_nanometres():
    pixel = PixelSize.of([100, 160])
    assert pixel.to_nm(0.5, 2.0) == (50.0, 320.0)
    assert pixel.to_px(50.0, 320.0) == (0.5, 2.0)
    assert pixel.area_um2 == pytest.approx(0.016)


@pytest.mark.parametrize("wrong", [0, -100, float("nan"), 1e6, [100, 100, 100]])
def test_a_wrong_pixel_size_is_refused(wrong):
    with pytest.raises(SettingsError, match="pixel_size_nm"):
        PixelSize.of(wrong)


def test_columns_of_different_length_are_refused():
    with pytest.raises(EmitterError, match="differ in length"):
        EmitterTable.of([1, 2], x_nm=[1.0])


def test_concatenating_keeps_a_precision_that_all_have_and_ignores_empty_tables():
    a = table([1, 2]).with_columns(precision_x_nm=np.array([5.0, 6.0]))
    assert EmitterTable.concatenate([EmitterTable.empty(), a, a]).precision_x_nm.tolist() == [5, 6, 5, 6]
    assert EmitterTable.concatenate([a, table([3])]).precision_x_nm is None
    assert len(EmitterTable.concatenate([])) == 0


def test_sorting_is_by_frame_then_row_then_column():
    t = EmitterTable.of([1, 0, 0, 0], x_nm=[1, 5, 2, 9], y_nm=[1, 7, 7, 3]).sorted()
    assert list(zip(t.frame, t.y_nm, t.x_nm, strict=True)) == [(0, 3, 9), (0, 7, 2), (0, 7, 5), (1, 1, 1)]
