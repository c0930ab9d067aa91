"""Networks and losses against each other at equal CPU time: trained on one simulation, scored on one held-out set.

python benchmarks/accuracy.py --on quickstart --variants default unet               # named below
python benchmarks/accuracy.py --on ladder_2d --variants default "wide: model.widths=[96,96,48]" --cpu-seconds 720
python benchmarks/accuracy.py --table                                               # the tables of what is there

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
from harness import ROOT, SCORES, Conditions, Costs, Kept, Run, Scene, Scores, Variant, run_all, table

from emitter.core.errors import EmitterError
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
_64 = "+simulation.frame_size_px=[64,64]"  # as Picasso's and the challenge's frames
_DECODE_ROW = (  # whatever densities and frame sizes a variant trained on
    *("protocol=plain", "samples=1500", "+simulation.frame_size_px=[40,40]"),
    "+simulation.density_per_um2=[0.6,0.6]",
)


def ladder(densities: dict[float, int]) -> tuple[Scene, ...]:
    """One scene of so many frames for every density."""
    return tuple(
        Scene(
            f"{density:g} per um2",
            (
                "protocol=plain",
                f"samples={n}",
                _64,
                f"+simulation.density_per_um2=[{density:g},{density:g}]",
            ),
        )
        for density, n in densities.items()
    )


def challenge(name: str, n_frames: int, per_frame: float, filaments: float) -> Scene:
    """Frames of the challenge with so many emitters in each, on filaments in a share of them."""
    density = per_frame / (6.4 * 6.4)
    return Scene(
        name,
        (
            *("protocol=challenge2016", f"samples={n_frames}", _64),
            f"+simulation.density_per_um2=[{density:.4f},{density:.4f}]",
            f"+simulation.filament_share={filaments}",
        ),
    )


_STEPS = {0.1: 1000, 0.5: 250, 1: 150, 2: 100, 5: 60}
_ALONE = ("+simulation.density_per_um2=[0.05,0.05]", "+simulation.flux.distribution=uniform")

CONDITIONS = {
    one.name: one
    for one in (
        Conditions("quickstart", ("experiment=quickstart",), (Scene("0.6 per um2", _DECODE_ROW),)),
        Conditions("ladder_2d", ("experiment=ladder_2d",), ladder(_STEPS)),
        Conditions(
            "ladder_3d",
            ("experiment=ladder_3d",),
            (
                *ladder(_STEPS),
                Scene("alone", ("protocol=plain", "samples=1500", _64, *_ALONE)),  # no temporal neighbours
            ),
        ),
        Conditions(
            "challenge_as",
            ("experiment=challenge_as",),
            (
                challenge("LD", 1500, 1.2, 0.0),
                challenge("HD", 250, 12.7, 0.0),
                challenge("HD on filaments", 250, 12.7, 1.0),
            ),
        ),
    )
}

VARIANTS = {
    one.name: one
    for one in (
        Variant("default"),
        Variant("unet", ("model=unet",)),
        Variant("var_base", ("model=var_base",)),
    )
}


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


def tables(kept: Kept, wanted: Callable[[Conditions], bool]) -> str:
    """Every scene of every wanted condition, a row for each variant and budget that was scored."""
    texts = []
    for conditions in filter(wanted, CONDITIONS.values()):
        measured = {
            (name, float(budget.split()[0]))
            for key in kept.scores
            for condition, name, budget, _ in [key.split("; ")]
            if condition == conditions.name
        }
        for scene in conditions.scenes:
            rows = {
                f"{name}, {seconds:g} CPU-s": kept.of(conditions, Variant(name), seconds, scene.name)
                for name, seconds in sorted(measured)
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
    arguments = parser.parse_args()
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
    wanted = CONDITIONS if arguments.table else arguments.on
    print(f"\n{tables(kept, lambda conditions: conditions.name in wanted)}", flush=True)


def with_psf(conditions: Conditions, psf: str | None) -> Conditions:
    """The challenge's conditions with the PSF of its beads.

    Raises:
        EmitterError: when it is not given.
    """
    if conditions.name != "challenge_as":
        return conditions
    if psf is None:
        raise EmitterError(
            "challenge_as needs the PSF of the challenge's beads: calibrate.py first, then --psf psf.h5"
        )
    return replace(conditions, settings=(*conditions.settings, f"psf.file={Path(psf).resolve()}"))


if __name__ == "__main__":
    main()
