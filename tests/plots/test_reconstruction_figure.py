"""The reconstruction's figure: frames, marks where emitters are, and the reduced chi-square of known noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from emitter.core.emitters import Emitters
from emitter.plots.reconstruction import plot_reconstruction


def emitters(*places: tuple[int, float, float]) -> Emitters:
    table = torch.tensor(places, dtype=torch.float32).view(-1, 3)
    zeros = torch.zeros(len(table))
    return Emitters(9, table[:, 0].long(), table[:, 1], table[:, 2], zeros, zeros + 1000)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: object, **kwargs: object) -> None:
        saved.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


@pytest.mark.parametrize(("n_frames", "n_rows"), [(1, 1), (2, 2), (5, 3)])
def test_three_panels_for_up_to_three_frames(tmp_path: Path, figures, n_frames: int, n_rows: int) -> None:
    expected = torch.full((n_frames, 20, 30), 50.0)
    observed = torch.poisson(expected)
    truth = emitters((0, 3.5, 7.25), (0, 20.0, 2.0), (n_frames - 1, 5.0, 5.0))
    plot_reconstruction(observed, expected.requires_grad_(), expected, truth, emitters(), tmp_path / "r.png")
    assert imread(tmp_path / "r.png").std() > 0
    panels = [axes for axes in figures[0].axes if axes.get_title()]
    assert len(panels) == 3 * n_rows
    np.testing.assert_array_equal(panels[0].images[0].get_array(), observed[0].numpy())
    assert panels[2].images[0].get_clim() == (-4, 4)


def test_marks_lie_on_the_pixels_that_hold_the_emitters(tmp_path: Path, figures) -> None:
    frame = torch.ones(2, 20, 30)
    truth, found = emitters((0, 3.5, 7.25), (1, 8.0, 8.0)), emitters((0, 4.0, 7.0), (0, 29.5, 0.5))
    plot_reconstruction(frame, frame, frame, truth, found, tmp_path / "r.png")
    observed = figures[0].axes[0]
    circles, crosses = (marks.get_offsets().tolist() for marks in observed.collections)
    assert circles == [[3.5, 7.25]] and crosses == [[4.0, 7.0], [29.5, 0.5]]
    assert "1 true" in observed.get_title() and "2 found" in observed.get_title()
    assert observed.images[0].get_extent() == [0, 30, 20, 0]  # pixel 0 spans [0, 1), rows from the top


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_the_reduced_chi_square_is_the_noise_over_the_cameras(tmp_path: Path, figures, factor: float) -> None:
    expected = torch.full((1, 100, 100), 400.0)
    observed = expected + factor * 20 * torch.randn(1, 100, 100)
    plot_reconstruction(observed, expected, expected, emitters(), emitters(), tmp_path / "r.png")
    title = next(axes.get_title() for axes in figures[0].axes if "χ²" in axes.get_title())
    assert float(title.split("=")[1]) == pytest.approx(factor**2, rel=0.1)
