"""Losses, detection terms, weightings and scale warm-up against each other, at equal CPU time over several seeds.

python benchmarks/losses.py warmup weighting detection --out runs/losses    # any of the studies below
python benchmarks/losses.py --table --out runs/losses                       # the tables of what is there

The reference's step is timed first, then how much longer or shorter every other loss takes, and every run gets as many
steps as its variant does in the budget: a run's own clock would measure what else the machine is doing. The runs are
ordinary train.py and evaluate.py commands, one thread each. Scores are kept in losses_scores.json and not measured
again, so that an interrupted study goes on; take an entry out to measure it anew.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from emitter.app.launch import conf_dir
from emitter.app.schema import build
from emitter.app.train import Settings, new_bundle
from emitter.simulation.simulator import Simulator
from emitter.training.module import EmitterModule
from emitter.training.objective import Outcome

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "benchmarks" / "losses_scores.json"  # what docs/losses.md shows
MOST_SEEDS = 9
LIGHTNING_SECONDS = 0.015  # CPU time of a step outside of what is timed: loader, loop, log
SCORES = {
    "efficiency_3d": "E3D",
    "jaccard": "JI",
    "precision": "precision",
    "recall": "recall",
    "rmse_lateral_nm": "lateral (nm)",
    "rmse_axial_nm": "axial (nm)",
}


@dataclass(frozen=True)
class Variant:
    """Overrides of train.py; ``after`` names a variant whose run's weights it starts from; ``share`` of the budget."""

    name: str
    overrides: tuple[str, ...] = ()
    after: Variant | None = None
    share: float = 1.0

    @property
    def arguments(self) -> tuple[str, ...]:
        """What train.py is given: static weights where the variant says nothing else."""
        weighted = any(override.startswith("weighting=") for override in self.overrides)
        return self.overrides if weighted else ("weighting=static", *self.overrides)


def variants(group: str, *options: str, more: tuple[str, ...] = ()) -> list[Variant]:
    """One variant for each option of a group."""
    return [Variant(f"{group}={option}", (f"{group}={option}", *more)) for option in options]


BASE = Variant("reference")  # static weights: so were all measured, before log_normalized became the default
SHORT_EPOCHS = ("training.epoch_steps=10",)  # adaptive weights must have the time to adapt in a short run
DENSE = ("simulation.density_per_um2=[3,3]",)


def matching_after_ppxyzb(loss: str, more: tuple[str, ...] = ()) -> Variant:
    """PPXYZB for two thirds of the budget, another loss for the rest."""
    tag = " 3/um2" if more else ""
    first = Variant("first two thirds" + tag, more, share=2 / 3)
    rest = (f"loss={loss}", "training.optimizer.warmup_steps=10", "scale_warmup=none", *more)
    return Variant(f"ppxyzb, then {loss}{tag}", rest, after=first, share=1 / 3)


STUDIES: dict[str, list[Variant]] = {
    "warmup": [BASE, *variants("scale_warmup", "none", "fine_first")],
    "weighting": [
        BASE,
        *variants(
            "weighting",
            "rate",
            "inverse_loss",
            "gradient_norm",
            "uncertainty",
            "log_normalized",
            more=SHORT_EPOCHS,
        ),
    ],
    "detection": [
        BASE,
        Variant("bce, pos_weight 2", ("training.detection.pos_weight=2",)),
        *variants(
            "detection",
            "weighted",
            "focal",
            "dice",
            "tversky",
            "iou",
            "bce_dice",
            "combined",
            "ce_to_dice",
            "count",
        ),
    ],
    "presets": variants(
        "channel_weights",
        "balanced",
        "detection_focused",
        "localization_focused",
        "photometry_focused",
        "recommended",
    ),
    "reconstruction": [BASE, *variants("reconstruction", "poisson")],
    "confirm": [
        Variant("reference, 720 CPU-s", share=3.0),
        Variant("weighting=log_normalized, 720 CPU-s", ("weighting=log_normalized",), share=3.0),
        Variant("weighting=inverse_loss, 720 CPU-s", ("weighting=inverse_loss",), share=3.0),
    ],
    "clip": [
        Variant("adamw, clipped in every step", ("training.optimizer.algorithm=adamw",)),
        Variant(
            "adamw, clipped hardly ever",
            ("training.optimizer.algorithm=adamw", "training.optimizer.clip_norm=300"),
        ),
    ],
    "beyond": [BASE, matching_after_ppxyzb("set_matching"), matching_after_ppxyzb("mixture")],
    "beyond_dense": [
        Variant("reference 3/um2", DENSE),
        matching_after_ppxyzb("set_matching", DENSE),
    ],
}


class Stepper:
    """The parts of a training step, for their CPU time."""

    def __init__(self, variant: Variant) -> None:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose("train", overrides=[*variant.arguments, "run_dir=none"])
        settings = build(Settings, OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
        self.bundle = new_bundle(settings)
        self.training = settings.training
        self.simulator = Simulator(settings.simulation, self.bundle.psf, self.bundle.camera)
        self.module = EmitterModule(self.bundle, settings.training)
        self.optimizer = self.module.configure_optimizers()["optimizer"]
        self.sample = self.simulator.sample(self.training.seed, torch.arange(self.training.batch_size))
        self.keep = torch.ones(self.training.batch_size, dtype=torch.bool)

    def outcome(self, maps: list[torch.Tensor]) -> Outcome:
        """Of the sample."""
        result: Outcome = self.module.objective(maps, self.sample, self.keep, 10**6, 0.5)
        return result

    def whole(self) -> None:
        """One step: simulation, network, loss, backward, optimizer."""
        self.sample = self.simulator.sample(self.training.seed, torch.arange(self.training.batch_size))
        self.outcome(self.module(self.sample.photons_BTHW)).total.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def loss_seconds(self) -> float:
        """What differs between variants of one network: the loss from the maps, and back to them."""
        with torch.no_grad():
            estimates = self.bundle.network.estimates(self.sample.photons_BTHW)
        read = partial(self.bundle.network.read, height=40, width=40)
        maps = [maps_k.detach().requires_grad_() for maps_k in read(estimates)]
        seconds = least_seconds(lambda: self.outcome(maps).total.backward())
        every = self.module.objective.weighting.norms_every_steps
        if every:
            norms = self.module.objective.channel_gradient_norms
            seconds += least_seconds(lambda: norms(estimates, read, self.outcome)) / every
        return seconds


def least_seconds(work: Callable[[], object], rounds: int = 20) -> float:
    """CPU time of the fastest of several."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def seconds_per_step(wanted: list[Variant], known: Path) -> dict[str, float]:
    """CPU-seconds of a step of every variant: of the reference's whole step, and the difference between the losses.

    Kept in a file, so that a study that goes on later, or on a busier machine, gives the same steps to every seed.
    """
    costs: dict[str, float] = json.loads(known.read_text()) if known.is_file() else {}
    torch.set_num_threads(1)
    base = Stepper(BASE)
    if BASE.name not in costs:
        costs[BASE.name] = least_seconds(base.whole) + LIGHTNING_SECONDS
    for variant in wanted:
        if variant.name not in costs:
            costs[variant.name] = costs[BASE.name] + Stepper(variant).loss_seconds() - base.loss_seconds()
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text(json.dumps(costs, indent=1))
    return costs


_LOCKS: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


@dataclass(frozen=True)
class Run:
    """One training with its scores."""

    variant: Variant
    seed: int
    out: Path

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.out / re.sub(r"[^\w.]+", "-", self.variant.name) / f"seed{self.seed}"

    def done(self) -> bool:
        """Whether its scores are there."""
        return (self.folder / "scores" / "metrics.json").is_file()

    def execute(self, steps: dict[str, int]) -> None:
        """Train and score, after the run that it starts from."""
        with _LOCKS[str(self.folder)]:  # two may start from the same run
            if not self.done():
                self._execute(steps)

    def _execute(self, steps: dict[str, int]) -> None:
        overrides = [*self.variant.arguments]
        if self.variant.after is not None:
            before = replace(self, variant=self.variant.after)
            before.execute(steps)
            overrides.append(f"init_from={before.folder}/checkpoints/last.ckpt")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        n_steps = steps[self.variant.name]
        common = ("training.validation.times=1", "training.validation.samples=128", "logger.wandb=off")
        budget = (f"budget.steps={n_steps}", f"training.seed={self.seed}", f"run_dir={self.folder}")
        _command("train.py", *overrides, *common, *budget, log=self.folder / "train.log")
        checkpoint = f"checkpoint={self.folder}/checkpoints/last.ckpt"
        rest = ("samples=600", "protocol=plain", f"output={self.folder}/scores")
        _command("evaluate.py", checkpoint, *rest, log=self.folder / "evaluate.log")
        print(f"done: {self.variant.name}, seed {self.seed}, {n_steps} steps", flush=True)


def _command(program: str, *arguments: str, log: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with log.open("w") as out:
        subprocess.run(
            [sys.executable, ROOT / program, *arguments],
            check=True,
            cwd=ROOT,
            stdout=out,
            stderr=out,
            env=environment,
        )


def collect(out: Path) -> dict[str, dict[str, float]]:
    """Scores of every run that was ever scored, by variant and seed; those in ``out`` are added to the file."""
    scores: dict[str, dict[str, float]] = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    for variant in {variant.name: variant for study in STUDIES.values() for variant in study}.values():
        for seed in range(1, MOST_SEEDS + 1):
            found = Run(variant, seed, out).folder / "scores" / "metrics.json"
            if found.is_file():
                metrics = json.loads(found.read_text())
                scores[f"{variant.name}, seed {seed}"] = {name: metrics[name] for name in SCORES}
    KEPT.write_text(json.dumps(dict(sorted(scores.items())), indent=1) + "\n")
    return scores


def table(study: str, scores: dict[str, dict[str, float]]) -> str:
    """Markdown: mean (least-largest) of the scores over the seeds that are there, the best E3D first."""
    rows = []
    for variant in STUDIES[study]:
        keys = (f"{variant.name}, seed {seed}" for seed in range(1, MOST_SEEDS + 1))
        found = [scores[key] for key in keys if key in scores]
        if found:
            cells = [_cell([float(one[name] or math.nan) for one in found], name) for name in SCORES]
            efficiency = mean(float(one["efficiency_3d"] or math.nan) for one in found)
            rows.append((efficiency, f"| {variant.name} | {' | '.join(cells)} | {len(found)} |"))
    if not any(
        variant.name != BASE.name and variant.name in row for variant in STUDIES[study] for _, row in rows
    ):
        return ""  # nothing but what all are compared with
    rows.sort(key=lambda row: -row[0] if math.isfinite(row[0]) else math.inf)
    head = f"| {study} | {' | '.join(SCORES.values())} | seeds |\n|{' --- |' * (len(SCORES) + 2)}"
    return "\n".join([head, *(row for _, row in rows)])


def _cell(values: list[float], name: str) -> str:
    digits = 1 if name.endswith("_nm") else 3
    spread = f" ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


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
    if not arguments.table:
        wanted = {
            variant.name: variant
            for study in arguments.studies
            for variant in STUDIES[study]
            if not arguments.only or any(text in variant.name for text in arguments.only)
        }
        run_variants(wanted, out, arguments.cpu_seconds, arguments.seeds, arguments.jobs)
    scores = collect(out)
    for study in arguments.studies or STUDIES:
        if text := table(study, scores):
            print(f"\n{text}", flush=True)


def run_variants(wanted: dict[str, Variant], out: Path, cpu_seconds: float, seeds: int, jobs: int) -> None:
    """Time the steps, then run all that is missing, one seed of everything before the next."""
    before = {v.after.name: v.after for v in wanted.values() if v.after is not None}
    costs = seconds_per_step([*wanted.values(), *before.values()], out / "seconds_per_step.json")
    steps = {
        name: round(cpu_seconds * variant.share / costs[name])
        for name, variant in {**wanted, **before}.items()
    }
    for name in steps:
        print(f"{name}: {1000 * costs[name]:.0f} ms a step, {steps[name]} steps", flush=True)
    known = collect(out)
    runs = [
        Run(variant, seed, out)
        for seed in range(1, seeds + 1)
        for variant in wanted.values()
        if f"{variant.name}, seed {seed}" not in known
    ]
    with ThreadPoolExecutor(jobs) as pool:
        pending = {pool.submit(run.execute, steps): run for run in runs}
    for future, run in pending.items():
        if future.exception() is not None:
            print(f"failed: {run.variant.name}, seed {run.seed}: look into {run.folder}", flush=True)


if __name__ == "__main__":
    main()
