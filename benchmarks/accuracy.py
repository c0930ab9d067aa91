"""Networks and losses against each other at equal CPU time: trained on one simulation, scored on one held-out set.

python benchmarks/accuracy.py --on quickstart --variants default unet               # named below
python benchmarks/accuracy.py --on ladder_2d --variants default "wide: model.widths=[96,96,48]" --cpu-seconds 720
python benchmarks/accuracy.py --table --figures docs                                # of what is there

A variant is one of those named below, or a name, a colon and settings of train.py. See harness.py for how variants are
compared. Scores are kept in accuracy_scores.json; each run's folder in --out holds its network and logs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from accuracy_conditions import CONDITIONS, LADDER, at, with_psf
from accuracy_figures import (
    DECODE_CHALLENGE,
    PICASSO_2D,
    PICASSO_3D,
    Panel,
    Points,
    plot_budgets,
    plot_densities,
)
from harness import ROOT, SCORES, Conditions, Costs, Kept, Run, Scores, Variant, run_all, table

from emitter.core.errors import EmitterError
from emitter.core.memory import keep_freed_memory
from emitter.inference.bundle import Bundle, load_bundle
from emitter.models.backbone import count_macs_per_pixel, count_parameters

KEPT = ROOT / "benchmarks" / "accuracy_scores.json"
COLUMNS = {
    **SCORES,
    "crlb_ratio_x": "error/CRLB x",
    "crlb_ratio_y": "y",
    "crlb_ratio_z": "z",
    "pixel_bias_x": "pixel bias",
}
COSTS = {
    "parameters": "parameters",
    "macs_per_px": "multiply-adds per px",
    "train_cpu_seconds": "training (CPU-s)",
    "frames_per_cpu_s": "frames of 64×64 per CPU-s",
}
IN_2D = {"efficiency_lateral": "E lateral", **{k: v for k, v in COLUMNS.items() if k != "efficiency_3d"}}
VARIANTS = {
    one.name: one
    for one in (
        Variant("default"),
        Variant("unet", ("model=unet",)),
        Variant("var_base", ("model=var_base",)),
    )
}
# with the presets of before, whose settings are in docs/benchmarks.md
DRAWN = (*VARIANTS, "blocks of 32", "before quality")


def variant(text: str) -> Variant:
    """A named one, or 'name: settings of train.py'.

    Raises:
        EmitterError: a name that is not known.
    """
    name, colon, settings = text.partition(":")
    if colon:
        return Variant(name.strip(), tuple(settings.split()))
    if name not in VARIANTS:
        raise EmitterError(f"there is no variant '{name}': give {', '.join(VARIANTS)}, or 'name: settings'")
    return VARIANTS[name]


def cost_of_use(checkpoint: Path) -> Scores:
    """Parameters, multiply-adds per pixel, and predicted frames of 64×64 per CPU-second on one thread."""
    bundle = load_bundle(checkpoint)
    network = bundle.network
    return {
        "parameters": count_parameters(network),
        "macs_per_px": round(count_macs_per_pixel(network, network.n_frames)),
        "frames_per_cpu_s": round(frames_per_cpu_second(bundle), 1),
    }


def frames_per_cpu_second(bundle: Bundle, n_frames: int = 64, rounds: int = 5) -> float:
    """Predicted frames of 64×64 pixels, consecutive, in float32."""
    torch.set_num_threads(1)
    frames_FHW = torch.rand(n_frames, 64, 64) * 100
    half = bundle.network.n_frames // 2
    window_BT = torch.stack(
        [(torch.arange(n_frames) + step).clamp(0, n_frames - 1) for step in range(-half, half + 1)], dim=1
    )

    def predict() -> float:
        start = time.process_time()
        with torch.inference_mode():
            bundle.network.forward_movie(frames_FHW, window_BT)
        return time.process_time() - start

    return n_frames / min(predict() for _ in range(rounds))


def measured(kept: Kept, conditions: Conditions) -> set[tuple[str, float]]:
    """Variants and CPU-seconds that were scored."""
    return {
        (name, float(budget.split()[0]))
        for key in kept.scores
        for condition, name, budget, _ in [key.split("; ")]
        if condition == conditions.name
    }


def figures(kept: Kept, folder: Path, density_cpu_seconds: float = 720) -> None:
    """Efficiency against CPU-seconds and against density, into a folder: of the named variants, where scored."""

    def seeds(on: str, name: str, seconds: float, scene: str, score: str) -> list[float]:
        return [found[score] for found in kept.of(CONDITIONS[on], Variant(name), seconds, scene)]

    def panel(
        title: str, on: str, score: str, scenes: dict[float, str], other: tuple[str, dict[float, float]]
    ) -> Panel:
        ours: dict[str, Points] = {
            name: {
                place: seeds(on, name, density_cpu_seconds, scene, score) for place, scene in scenes.items()
            }
            for name in DRAWN
            if (name, density_cpu_seconds) in measured(kept, CONDITIONS[on])
        }
        return Panel(title, "emitters per µm²", ours, other)

    budgets: dict[str, dict[float, list[float]]] = {}
    for name, seconds in measured(kept, CONDITIONS["quickstart"]):
        if name in DRAWN:
            found = seeds("quickstart", name, seconds, at(0.6), "efficiency_3d")
            budgets.setdefault(name, {})[seconds] = found
    plot_budgets({name: budgets[name] for name in DRAWN if name in budgets}, folder / "accuracy_budget.png")
    scenes = {density: at(density) for density in LADDER}
    crowded = {1.2: "LD", 12.7: "HD on filaments"}  # as DECODE's lists are
    panels = [
        panel(
            "2D, E lateral",
            "ladder_2d",
            "efficiency_lateral",
            scenes,
            ("Picasso, tuned per density", PICASSO_2D),
        ),
        panel(
            "astigmatic, E3D",
            "ladder_3d",
            "efficiency_3d",
            scenes,
            ("Picasso, tuned per density", PICASSO_3D),
        ),
        replace(
            panel(
                "like the challenge (12.7: on filaments), E3D",
                "challenge_as",
                "efficiency_3d",
                crowded,
                ("DECODE, 720 CPU-s", DECODE_CHALLENGE),
            ),
            xlabel="emitters in a frame of 6.4 µm",
        ),
    ]
    plot_densities([one for one in panels if one.ours], folder / "accuracy_density.png")


def tables(kept: Kept, wanted: Callable[[Conditions], bool]) -> str:
    """Every scene of every wanted condition, a row for each variant and budget that was scored."""
    texts = []
    for conditions in filter(wanted, CONDITIONS.values()):
        for scene in conditions.scenes:
            rows = {
                f"{name}, {seconds:g} CPU-s": kept.of(conditions, Variant(name), seconds, scene.name)
                for name, seconds in sorted(measured(kept, conditions))
            }
            flat = conditions.name == "ladder_2d"
            columns, best = (IN_2D, "efficiency_lateral") if flat else (COLUMNS, "efficiency_3d")
            texts.append(table(f"{conditions.name}, {scene.name}", rows, columns, best))
            if scene == conditions.scenes[-1]:
                texts.append(table(f"{conditions.name}, costs", rows, COSTS, "frames_per_cpu_s"))
    return "\n\n".join(text for text in texts if text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--on", nargs="+", choices=CONDITIONS, default=["quickstart"])
    parser.add_argument("--variants", nargs="+", default=["default", "unet"])
    parser.add_argument("--cpu-seconds", type=float, default=720)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--psf", help="psf.h5 of calibrate.py, for challenge_as")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "accuracy")
    parser.add_argument("--table", action="store_true", help="only the tables of what is there")
    parser.add_argument("--figures", type=Path, help="folder for the figures of what is there")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the programs do
    kept = Kept(KEPT, [*COLUMNS, *IN_2D, *COSTS, "n_truth"])
    if not arguments.table:
        out = arguments.out.resolve()
        runs = [
            Run(with_psf(CONDITIONS[name], arguments.psf), variant(text), seed, arguments.cpu_seconds, out)
            for seed in arguments.seeds  # one seed of everything before the next
            for name in arguments.on
            for text in arguments.variants
        ]
        run_all(runs, Costs(out / "seconds_per_step.json"), kept, arguments.jobs, cost_of_use)
    if arguments.figures:
        arguments.figures.mkdir(parents=True, exist_ok=True)
        figures(kept, arguments.figures)
    wanted = CONDITIONS if arguments.table else arguments.on
    print(f"\n{tables(kept, lambda conditions: conditions.name in wanted)}", flush=True)


if __name__ == "__main__":
    main()
