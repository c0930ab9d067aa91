"""From two tables to ``metrics.json`` and to the table on the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import get_console
from rich.table import Table

from emitter.core.errors import EmitterError
from emitter.core.table import EmitterTable
from emitter.inference.bundle import Bundle
from emitter.io.files import prepare_output, writing
from emitter.metrics.crlb import CRLB, crlb_ratios
from emitter.metrics.figures import scores, sums
from emitter.metrics.protocol import FieldNm, Protocol, count, photon_threshold

Bound = Callable[[EmitterTable], CRLB]  # the bound of every row of a table of true emitters

METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class Scored:
    """What ``metrics.json`` holds, and what it was computed from; of a network with its bundle."""

    metrics: dict[str, Any]
    predicted: EmitterTable
    truth: EmitterTable
    protocol: Protocol
    bound: Bound | None = None
    bundle: Bundle | None = None


_SHOWN = (
    ("Jaccard index", "jaccard", "{:.3f}"),
    ("precision", "precision", "{:.3f}"),
    ("recall", "recall", "{:.3f}"),
    ("F1", "f1", "{:.3f}"),
    ("RMSE lateral", "rmse_lateral_nm", "{:.1f} nm"),
    ("RMSE axial", "rmse_axial_nm", "{:.1f} nm"),
    ("RMSE volume", "rmse_volume_nm", "{:.1f} nm"),
    ("RMSE lateral, bias taken off", "rmse_lateral_nm_unbiased", "{:.1f} nm"),
    ("RMSE axial, bias taken off", "rmse_axial_nm_unbiased", "{:.1f} nm"),
    ("bias x", "bias_x_nm", "{:+.1f} nm"),
    ("bias y", "bias_y_nm", "{:+.1f} nm"),
    ("bias z", "bias_z_nm", "{:+.1f} nm"),
    ("efficiency lateral", "efficiency_lateral", "{:.3f}"),
    ("efficiency axial", "efficiency_axial", "{:.3f}"),
    ("efficiency 3D", "efficiency_3d", "{:.3f}"),
    ("photons, median of predicted / true", "photon_ratio_median", "{:.3f}"),
    ("error / CRLB in x", "crlb_ratio_x", "{:.2f}"),
    ("error / CRLB in y", "crlb_ratio_y", "{:.2f}"),
    ("error / CRLB in z", "crlb_ratio_z", "{:.2f}"),
    ("pixel bias in x (0: none)", "pixel_bias_x", "{:.3f}"),
    ("pixel bias in y (0: none)", "pixel_bias_y", "{:.3f}"),
    ("error / precision in x (std)", "z_score_std_x", "{:.2f}"),
    ("error / precision in y (std)", "z_score_std_y", "{:.2f}"),
    ("error / precision in z (std)", "z_score_std_z", "{:.2f}"),
    ("error / precision of photons (std)", "z_score_std_photons", "{:.2f}"),
    ("calibration error of the probability", "calibration_error", "{:.3f}"),
    ("true emitters counted", "n_truth", "{:d}"),
    ("predictions counted", "n_predicted", "{:d}"),
    ("matched", "n_matched", "{:d}"),
)


def score(
    predicted: EmitterTable,
    truth: EmitterTable,
    protocol: Protocol,
    field_nm: FieldNm | None,
    bound: Bound | None = None,
) -> dict[str, Any]:
    """Everything that ``metrics.json`` holds; NaN where a figure is undefined.

    Beside the figures of ``emitter.metrics.figures.scores``: the protocol's name, its settings with the photon
    threshold found, the RMSE of the same pairs with their mean error taken off (``…_unbiased``), and, where
    the true photons and background are known, ``crlb_ratio_x``, ``_y`` and ``_z``.

    Args:
        predicted, truth: all rows of the frames to evaluate.
        protocol: what counts.
        field_nm: extent of the field in x and y; None is enough without a border.
        bound: the Cramér-Rao bound of true emitters, where the simulation is known.
    """
    threshold = photon_threshold(truth, protocol, field_nm)
    counted = count(predicted, truth, protocol, field_nm, threshold)
    if counted.n_truth == 0:
        raise EmitterError(
            f"protocol {protocol.name} leaves no true emitter to score ({describe_border(protocol, field_nm)}): "
            "check field_size_nm and the units of the truth, or give protocol=plain"
        )
    result: dict[str, Any] = scores(sums(predicted, truth, counted, protocol.axial))
    result["protocol"] = protocol.name
    if bound is not None:
        matched = truth.select(counted.truth_rows)
        result |= crlb_ratios(predicted.select(counted.predicted_rows), matched, bound(matched))
    bias_nm = math.hypot(result["bias_x_nm"], result["bias_y_nm"])
    result["rmse_lateral_nm_unbiased"] = _without_mean(result["rmse_lateral_nm"], bias_nm)
    result["rmse_axial_nm_unbiased"] = _without_mean(result["rmse_axial_nm"], result["bias_z_nm"])
    result["protocol_settings"] = {
        **asdict(protocol),
        "photon_threshold": threshold,
        "field_size_nm": None if field_nm is None else list(field_nm),
    }
    return result


def describe_border(protocol: Protocol, field_nm: FieldNm | None) -> str:
    """What the border rule keeps."""
    if field_nm is None or protocol.border_nm == 0:
        return "no border"
    return f"a border of {protocol.border_nm:g} nm in a field of {field_nm[0]:g} × {field_nm[1]:g} nm"


def offset_note(result: dict[str, Any]) -> str | None:
    """A sentence when a constant offset makes a good part of the error, else None.

    It does when the bias is beyond three standard errors and the RMSE falls by more than 5 % without it.
    """
    parts = []
    for axis, bias_nm in (
        ("lateral", math.hypot(result["bias_x_nm"], result["bias_y_nm"])),
        ("axial", abs(result["bias_z_nm"])),
    ):
        rmse, rest = result[f"rmse_{axis}_nm"], result[f"rmse_{axis}_nm_unbiased"]
        sure = bias_nm > 3 * rest / math.sqrt(max(result["n_matched"], 1))
        if sure and rest < 0.95 * rmse:
            parts.append(f"the {axis} RMSE is {rest:.1f} nm instead of {rmse:.1f} nm")
    if not parts:
        return None
    bias = {axis: result[f"bias_{axis}_nm"] for axis in ("x", "y", "z")}
    shift = ", ".join(f"{axis} {nm:+.1f}" for axis, nm in bias.items() if math.isfinite(nm))
    return f"predictions are shifted by a constant ({shift} nm); with it taken off, {' and '.join(parts)}"


def write_report(metrics: dict[str, Any], output: Path) -> Path:
    """Write ``metrics.json`` into a folder, whole or not at all; what is not finite becomes null.

    Raises:
        EmitterError: the folder cannot be written.
    """
    path = prepare_output(output / METRICS_FILE)
    with writing(path) as temporary:
        temporary.write_text(json.dumps(_plain(metrics), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def show(metrics: dict[str, Any]) -> None:
    """The figures and the protocol behind them, on the terminal."""
    console = get_console()
    for line in conditions(metrics):
        console.print(line, soft_wrap=True)
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for label, value in shown_metrics(metrics):
        table.add_row(label, value)
    console.print(table)


def shown_metrics(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Labels and values of the figures that people read."""
    return [
        (label, form.format(metrics[key]) if math.isfinite(metrics[key]) else "–")
        for label, key, form in _SHOWN
        if key in metrics
    ]


def conditions(metrics: Mapping[str, Any]) -> list[str]:
    """The protocol and, of a network, how it predicted, a line each."""
    lines = [f"Protocol {metrics['protocol']}: {describe(metrics['protocol_settings'])}."]
    if "predicted_with" in metrics:
        settings = (f"{name}={json.dumps(value)}" for name, value in metrics["predicted_with"].items())
        lines.append(f"Predicted with {', '.join(settings)}.")
    return lines


def describe(settings: dict[str, Any]) -> str:
    """A protocol's settings in one line."""
    reach = f"{settings['radius_lateral_nm']:g} nm"
    reach += f" lateral, {settings['radius_axial_nm']:g} nm axial" if settings["axial"] else " lateral, in 2D"
    parts = [f"{settings['matching']} matching within {reach}"]
    if settings["border_nm"]:
        x_nm, y_nm = settings["field_size_nm"]
        parts.append(f"border {settings['border_nm']:g} nm of {x_nm:g} × {y_nm:g} nm left out")
    if settings["photon_quantile"]:
        parts.append(
            f"truth below {settings['photon_threshold']:.0f} photons "
            f"({100 * settings['photon_quantile']:g} % quantile) not counted"
        )
    return ", ".join(parts)


def _without_mean(rmse_nm: float, mean_nm: float) -> float:
    return math.sqrt(max(rmse_nm**2 - mean_nm**2, 0.0)) if math.isfinite(rmse_nm) else math.nan


def _plain(value: Any) -> Any:
    """Nested dicts and lists with None for every number that is not finite."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
