"""Losses, detection terms, weightings and scale warm-up against each other, at equal CPU time over several seeds.

python benchmarks/losses.py warmup weighting detection --out runs/losses    # any of the studies below
python benchmarks/losses.py --table                                         # the tables of what is there

On the quick start's simulation; see harness.py for how they are compared. Scores are kept in losses_scores.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness import ROOT, SCORES, Conditions, Costs, Kept, Run, Scene, Variant, run_all, table

KEPT = ROOT / "benchmarks" / "losses_scores.json"  # what docs/losses.md shows

OWN = (Scene("own", ("samples=600", "protocol=plain")),)
# all was measured with the defaults of that time, among them the next line and STATIC
THEN = (
    *("channel_weights=balanced", "scale_warmup=coarse_first", "simulation.density_per_um2=[0.6,0.6]"),
    *("model.stem_channels=[16,32,48]", "model.widths=[64,64,32]", "model.latent_channels=32"),
    *("model.phi=true", "model.stem_blocks=true"),
)
QUICKSTART = Conditions("quickstart", THEN, OWN)
DENSE = Conditions("3 per um2", (*THEN, "simulation.density_per_um2=[3,3]"), OWN)

# as it was then
PPXYZB = (
    "training.loss.quality_px=null",
    "training.loss.regression=mse",
    "training.loss.region_cells=1",
)
STATIC = ("weighting=static", *PPXYZB)
BASE = Variant("reference", STATIC)
SHORT_EPOCHS = (
    "training.epoch_steps=10",
    *PPXYZB,
)  # adaptive weights must have the time to adapt in a short run


def options(group: str, *names: str, more: tuple[str, ...] = STATIC) -> tuple[Variant, ...]:
    """One variant for each option of a group."""
    return tuple(Variant(f"{group}={name}", (f"{group}={name}", *more)) for name in names)


def after_ppxyzb(loss: str) -> Variant:
    """PPXYZB for two thirds of the budget, another loss for the rest."""
    first = Variant("first two thirds", STATIC, share=2 / 3)
    own = PPXYZB if loss == "ppxyzb" else ()
    rest = (
        *(f"loss={loss}", "training.optimizer.warmup_steps=10", "scale_warmup=none"),
        *("weighting=static", *own),
    )
    return Variant(f"ppxyzb, then {loss}", rest, after=first, share=1 / 3)


STUDIES: dict[str, tuple[Variant, ...]] = {
    "warmup": (BASE, *options("scale_warmup", "none", "fine_first")),
    "weighting": (
        BASE,
        *options(
            *("weighting", "rate", "inverse_loss", "gradient_norm", "uncertainty", "log_normalized"),
            more=SHORT_EPOCHS,
        ),
    ),
    "detection": (
        BASE,
        Variant("bce, pos_weight 2", ("training.detection.pos_weight=2", *STATIC)),
        *options("detection", "weighted", "focal", "dice", "tversky", "iou"),
        *options("detection", "bce_dice", "combined", "ce_to_dice", "count"),
    ),
    "presets": options(
        *("channel_weights", "balanced", "detection_focused", "localization_focused"),
        *("photometry_focused", "recommended"),
    ),
    "reconstruction": (BASE, *options("reconstruction", "poisson")),
    "confirm": (BASE, *options("weighting", "log_normalized", "inverse_loss", more=PPXYZB)),
    "clip": (
        Variant("adamw, clipped in every step", ("training.optimizer.algorithm=adamw", *STATIC)),
        Variant(
            "adamw, clipped hardly ever",
            ("training.optimizer.algorithm=adamw", "training.optimizer.clip_norm=300", *STATIC),
        ),
    ),
    "beyond": (BASE, *map(after_ppxyzb, ("set_matching", "mixture", "ppxyzb"))),
    "beyond_dense": (BASE, after_ppxyzb("set_matching")),
}
LONG = {"confirm": 3.0}  # times the budget


def conditions_of(study: str) -> Conditions:
    """The simulation of a study."""
    return DENSE if study == "beyond_dense" else QUICKSTART


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], help="which to run")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="variants whose name holds one of these")
    parser.add_argument("--cpu-seconds", type=float, default=240)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "losses")
    parser.add_argument("--table", action="store_true", help="only the tables of what is there")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    kept = Kept(KEPT, SCORES)
    studies = arguments.studies or list(STUDIES)

    def seconds(study: str) -> float:
        return float(arguments.cpu_seconds * LONG.get(study, 1.0))

    if not arguments.table:
        runs = [
            Run(conditions_of(study), variant, seed, seconds(study), out)
            for seed in range(1, arguments.seeds + 1)  # one seed of everything before the next
            for study in arguments.studies
            for variant in STUDIES[study]
            if not arguments.only or any(text in variant.name for text in arguments.only)
        ]
        run_all(runs, Costs(out / "seconds_per_step.json"), kept, arguments.jobs)
    for study in studies:
        rows = {
            variant.name: kept.of(conditions_of(study), variant, seconds(study), "own")
            for variant in STUDIES[study]
        }
        if any(found for name, found in rows.items() if name != BASE.name):
            title = f"{study}: {conditions_of(study).name}, {seconds(study):g} CPU-s"
            print(f"\n{table(title, rows, SCORES)}", flush=True)


if __name__ == "__main__":
    main()
