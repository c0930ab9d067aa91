"""The comparison's figure: who shares a colour, the bold median, and that 1 to 30 runs can be drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from emitter.plots import comparison as module
from emitter.plots.comparison import Course, plot_comparison


def log(level: float, validations: int = 5, seconds: float = 100.0) -> pd.DataFrame:
    """A run that comes to ``level``; validations and logged losses in rows of their own, as in metrics.csv."""
    share = np.arange(1, validations + 1) / validations
    validated = pd.DataFrame(
        {
            "step": 1000 * share,
            "time/cpu_seconds": seconds * share,
            "val/efficiency": level * share,
            "val/jaccard": level * share,
            "val/rmse_lateral_nm": 40 - 20 * level * share,
        }
    )
    trained = pd.DataFrame({"step": np.arange(19.0, 1000, 20), "train/loss": 5 - level})
    return pd.concat([validated, trained])


@pytest.fixture
def axes(monkeypatch) -> list[Axes]:
    """The panels of the next figure."""
    kept: list[Axes] = []
    subplots = Figure.subplots

    def keep(figure: Figure, *args: int) -> np.ndarray:
        made = subplots(figure, *args)
        kept.extend(made.flatten())
        return made

    monkeypatch.setattr(Figure, "subplots", keep)
    return kept


def test_seeds_share_a_colour_and_their_median_is_bold(tmp_path, axes) -> None:
    levels = [0.3, 0.5, 0.9]
    courses = [Course("a", log(level)) for level in levels] + [Course("b", log(0.7))]
    plot_comparison(courses, tmp_path / "figure.png")
    lines = axes[0].get_lines()
    assert len(lines) == 3 + 1 + 1
    *seeds, median, other = lines
    assert len({line.get_color() for line in [*seeds, median]}) == 1
    assert other.get_color() != median.get_color()
    assert median.get_linewidth() > max(line.get_linewidth() for line in [*seeds, other])
    assert np.asarray(median.get_ydata()) == pytest.approx(0.5 * np.arange(1, 6) / 5)
    loss = axes[3].get_lines()[3]
    assert set(np.asarray(loss.get_ydata())) == {4.5}


def test_a_median_goes_on_with_the_runs_that_came_so_far(tmp_path, axes) -> None:
    courses = [Course("a", log(0.4)), Course("a", log(0.6).iloc[:2])]
    plot_comparison(courses, tmp_path / "figure.png")
    median = axes[0].get_lines()[2]
    assert np.asarray(median.get_ydata()) == pytest.approx([0.1, 0.2, 0.24, 0.32, 0.4])


def test_the_legend_names_groups_once_with_what_became_of_them(tmp_path, monkeypatch) -> None:
    legends: list[list[str]] = []
    monkeypatch.setattr(Figure, "legend", lambda figure, handles, labels, **_: legends.append(labels))
    courses = [
        Course("w=1", log(0.5)),
        Course("w=2", pd.DataFrame(), "run 3 failed"),
        Course("w=1", log(0.6)),
    ]
    plot_comparison(courses, tmp_path / "figure.png")
    assert legends == [["w=1 (2 runs)", "w=2 (run 3 failed)"]]


def test_the_axis_shows_where_runs_differ(tmp_path, axes) -> None:
    plot_comparison([Course("a", log(0.70)), Course("b", log(0.72))], tmp_path / "figure.png")
    low, high = axes[0].get_ylim()
    assert 0.2 < low < 0.5 and 0.72 < high < 0.8


def test_thirty_groups_look_different() -> None:
    assert len({module._style(i) for i in range(30)}) == 30


@pytest.mark.parametrize("count", [1, 30])
def test_any_number_of_runs_is_drawn(tmp_path: Path, count: int) -> None:
    courses = [Course(f"learning_rate={i}, widths=[64,64,{i}]", log(0.5 + 0.01 * i)) for i in range(count)]
    plot_comparison(courses, tmp_path / "figure.png")
    image = imread(tmp_path / "figure.png")[..., :3]
    assert image.shape[1] > image.shape[0] > 600
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > count


def test_runs_that_found_nothing_are_drawn_as_nothing(tmp_path, axes) -> None:
    plot_comparison([Course("a", pd.DataFrame()), Course("b", log(float("nan")))], tmp_path / "figure.png")
    assert not axes[0].get_lines() and axes[0].texts
