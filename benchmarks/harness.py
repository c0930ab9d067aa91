"""What the benchmarks of accuracy share: variants of train.py trained for equal CPU time and scored on equal scenes.

The reference's step is timed against every other variant's, in turns, and every run gets as many steps as its variant
does in the budget: a run's own clock would measure what else the machine is doing. The runs are ordinary train.py and
evaluate.py commands, one thread each. Scores are kept in a file of the benchmark's and not measured again, so that an
interrupted study goes on; take an entry out to measure it anew.
"""

from __future__ import annotations

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from emitter.app.launch import conf_dir
from emitter.app.schema import build
from emitter.app.scoring import METRICS_FILE
from emitter.app.train import Settings, new_bundle
from emitter.simulation.simulator import Simulator
from emitter.training.module import EmitterModule

ROOT = Path(__file__).resolve().parent.parent
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
Scores = dict[str, float]  # by name, of one run on one scene


@dataclass(frozen=True)
class Variant:
    """Overrides of train.py; ``after`` names a variant whose run's weights it starts from; ``share`` of the budget."""

    name: str
    overrides: tuple[str, ...] = ()
    after: Variant | None = None
    share: float = 1.0


@dataclass(frozen=True)
class Scene:
    """What a network is scored on: settings of evaluate.py."""

    name: str
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Conditions:
    """What all variants are trained on, as settings of train.py, and the scenes that they are scored on."""

    name: str
    settings: tuple[str, ...]
    scenes: tuple[Scene, ...]


class Stepper(EmitterModule):
    """A training without Lightning, for the CPU time of a step."""

    step = 1

    @classmethod
    def of(cls, overrides: Sequence[str]) -> Stepper:
        """Of these settings of train.py."""
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose("train", overrides=[*overrides, "run_dir=none"])
        settings = build(Settings, OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
        bundle = new_bundle(settings)
        stepper = cls(bundle, settings.training)
        stepper.simulator = Simulator(settings.simulation, bundle.psf, bundle.camera)
        stepper.optimizer = stepper.configure_optimizers()["optimizer"]
        return stepper

    simulator: Simulator
    optimizer: torch.optim.Optimizer

    @property
    def global_step(self) -> int:
        """No trainer says."""
        return self.step

    def whole_step(self) -> float:
        """CPU-seconds of simulation, network, loss, backward and optimizer."""
        start = time.process_time()
        index_B = torch.arange(self.settings.samples_per_batch)
        sample = self.simulator.sample(
            self.settings.seed, index_B, n_predicted=self.settings.predicted_frames
        )
        self.training_step(sample, 0).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.process_time() - start


def relative_seconds(overrides: Sequence[str], reference: Stepper, rounds: int = 20) -> float:
    """CPU time of a step of these settings, the reference's being 1: the median of pairs timed one after the other.

    A neighbour on the machine slows both of a pair; the least of each would be of different moments.
    """
    stepper = Stepper.of(overrides)
    every = stepper.objective.weighting.norms_every_steps
    ratios = []
    for _ in range(rounds):
        other = reference.whole_step()
        stepper.step = 1
        own = stepper.whole_step()
        if every:
            stepper.step = 0
            own += (stepper.whole_step() - own) / every
        ratios.append(own / other)
    return median(ratios)


class Costs:
    """CPU-seconds of a step of every variant, kept in a file: a study that goes on later, or on a busier machine, gives
    the same steps to every seed."""

    REFERENCE = "reference"

    def __init__(self, kept: Path) -> None:
        self.kept = kept
        self.known: dict[str, float] = json.loads(kept.read_text()) if kept.is_file() else {}
        self._reference: Stepper | None = None

    def of(self, name: str, overrides: Sequence[str]) -> float:
        """Of a variant, timed where it is not known."""
        if name not in self.known:
            torch.set_num_threads(1)
            if self._reference is None:
                self._reference = Stepper.of(())
            if self.REFERENCE not in self.known:
                self._keep(self.REFERENCE, min(self._reference.whole_step() for _ in range(20)))
            ratio = relative_seconds(overrides, self._reference)
            self._keep(name, ratio * self.known[self.REFERENCE] + LIGHTNING_SECONDS)
        return self.known[name]

    def _keep(self, name: str, seconds: float) -> None:
        self.known[name] = round(seconds, 5)
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        self.kept.write_text(json.dumps(self.known, indent=1))


_LOCKS: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


@dataclass(frozen=True)
class Run:
    """One training with its scores."""

    conditions: Conditions
    variant: Variant
    seed: int
    cpu_seconds: float
    out: Path

    @property
    def key(self) -> str:
        """By which its scores are kept."""
        return f"{self.conditions.name}; {self.variant.name}; {self.cpu_seconds:g} CPU-s; seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.out / re.sub(r"[^\w.]+", "-", self.key)

    @property
    def checkpoint(self) -> Path:
        """The network at the end of the budget."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def trained(self) -> Path:
        """There once the training is over."""
        return self.folder / "trained"

    @property
    def settings(self) -> tuple[str, ...]:
        """Of train.py."""
        return (*self.conditions.settings, *self.variant.overrides)

    @property
    def costs_key(self) -> str:
        """By which the time of a step is kept."""
        return f"{self.conditions.name}; {self.variant.name}"

    @property
    def before(self) -> Run | None:
        """The run that this one starts from."""
        return None if self.variant.after is None else replace(self, variant=self.variant.after)

    def steps(self, costs: Costs) -> int:
        """That the budget allows."""
        return round(self.cpu_seconds * self.variant.share / costs.of(self.costs_key, self.settings))

    def scores(self) -> dict[str, Scores] | None:
        """By scene, when all are there."""
        files = {scene.name: self.scores_file(scene) for scene in self.conditions.scenes}
        if not all(file.is_file() for file in files.values()):
            return None
        return {name: json.loads(file.read_text()) for name, file in files.items()}

    def scores_file(self, scene: Scene) -> Path:
        """Where evaluate.py leaves a scene's scores."""
        return self.folder / scene.name / METRICS_FILE

    def execute(self, costs: Costs) -> None:
        """Train and score, after the run that it starts from."""
        with _LOCKS[str(self.folder)]:  # two may start from the same run
            if self.scores() is None:
                self._execute(costs)

    def _execute(self, costs: Costs) -> None:
        overrides = list(self.settings)
        if self.before is not None:
            self.before.execute(costs)
            overrides.append(f"init_from={self.before.checkpoint}")
        steps = self.steps(costs)
        if not self.trained.is_file():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            validation = (
                f"training.validation.{one}" for one in ("times=1", "samples=512", "pictures=false")
            )
            common = (*validation, "logger.wandb=off")
            budget = (f"budget.steps={steps}", f"training.seed={self.seed}", f"run_dir={self.folder}")
            _command("train.py", *overrides, *common, *budget, log=self.folder / "train.log")
            self.trained.touch()
        for scene in self.conditions.scenes:
            if self.scores_file(scene).is_file():
                continue
            rest = (f"checkpoint={self.checkpoint}", f"output={self.folder}/{scene.name}")
            _command("evaluate.py", *rest, *scene.settings, log=self.folder / f"{scene.name}.log")
        print(f"done: {self.key}, {steps} steps", flush=True)


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


class Kept:
    """Scores by run and scene, in a file of the repository."""

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        self.path = path
        self.names = tuple(names)
        self.scores: dict[str, dict[str, Scores]] = json.loads(path.read_text()) if path.is_file() else {}

    def collect(self, runs: Iterable[Run], costs: Costs, more: Callable[[Path], Scores]) -> None:
        """Add what has been scored and is not there; to scenes of before others are added, with the same ``more``."""
        for run in runs:
            found = run.scores()
            if found is not None:
                there = self.scores.setdefault(run.key, {})
                metrics_of_one = next(iter(found.values()))
                beside = {
                    name: value
                    for scores in there.values()
                    for name, value in scores.items()
                    if name not in metrics_of_one
                }
                if not there:
                    beside = {"train_cpu_seconds": run.steps(costs) * costs.of(run.costs_key, run.settings)}
                    beside |= more(run.checkpoint)
                for scene, metrics in found.items():
                    kept = {name: value for name, value in (metrics | beside).items() if name in self.names}
                    there.setdefault(scene, kept)
        self.path.write_text(json.dumps(dict(sorted(self.scores.items())), indent=1) + "\n")

    def lost(self, run: Run) -> bool:
        """Whether some of a run's scenes are there and its network, for the others, is not."""
        return run.key in self.scores and not self.has(run) and not run.trained.is_file()

    def has(self, run: Run) -> bool:
        """Whether every scene of a run is there."""
        return {scene.name for scene in run.conditions.scenes} <= self.scores.get(run.key, {}).keys()

    def of(self, conditions: Conditions, variant: Variant, cpu_seconds: float, scene: str) -> list[Scores]:
        """Of all seeds that are there."""
        runs = (Run(conditions, variant, seed, cpu_seconds, Path()) for seed in range(1, MOST_SEEDS + 1))
        return [self.scores[run.key][scene] for run in runs if scene in self.scores.get(run.key, {})]


def run_all(
    runs: Sequence[Run],
    costs: Costs,
    kept: Kept,
    jobs: int,
    more: Callable[[Path], Scores] = lambda checkpoint: {},
) -> None:
    """Time the steps, then run all that is missing. ``more``: scores of a checkpoint beside those of the scenes."""
    for run in filter(kept.lost, runs):
        print(
            f"left: {run.key} lacks a scene, and {run.folder} lacks its network: take it out of {kept.path} to train"
        )
    missing = [run for run in runs if not kept.has(run) and not kept.lost(run)]
    for run in missing:  # before the machine is busy with the runs
        run.steps(costs)
        if run.before is not None:
            run.before.steps(costs)
    with ThreadPoolExecutor(jobs) as pool:
        pending = {pool.submit(run.execute, costs): run for run in missing}
    for future, run in pending.items():
        if future.exception() is not None:
            print(f"failed: {run.key}: {future.exception()}; look into {run.folder}", flush=True)
    kept.collect(missing, costs, more)


def table(
    title: str, rows: Mapping[str, list[Scores]], columns: Mapping[str, str], sort_by: str = "efficiency_3d"
) -> str:
    """Markdown: of every row's seeds the mean (least-largest) of the scores, the best first."""
    lines = []
    for name, found in rows.items():
        if found:
            cells = [_cell([_number(one.get(column)) for one in found], column) for column in columns]
            rank = mean(_number(one.get(sort_by)) for one in found)
            lines.append((rank, f"| {name} | {' | '.join(cells)} | {len(found)} |"))
    lines.sort(key=lambda line: -line[0] if math.isfinite(line[0]) else math.inf)
    head = f"| {title} | {' | '.join(columns.values())} | seeds |\n|{' --- |' * (len(columns) + 2)}"
    return "\n".join([head, *(line for _, line in lines)]) if lines else ""


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _cell(values: list[float], name: str) -> str:
    digits = 1 if name.endswith("_nm") else 3 if max(values) < 10 else 0
    spread = f" ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"
