"""Where a training step's time goes: the CPU time of every part, in ordinary runs on one and on two threads.

python benchmarks/step_profile.py

Runs of train.py's settings with all callbacks and the CSV and W&B logs, with a stopwatch around the parts of a step.
It counts the CPU time of all threads of the process, which other programs on the machine disturb little. Of every
part stands the smallest mean over the steps of a round; a round holds one logged step.
"""

from __future__ import annotations

import argparse
import io
import logging
import multiprocessing
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from functools import partial, wraps
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from emitter.app.launch import conf_dir
from emitter.app.schema import build
from emitter.app.train import Settings, new_bundle
from emitter.simulation.simulator import Simulator
from emitter.training.cpu_time import cpu_seconds
from emitter.training.data import EmitterData
from emitter.training.fit import Job, fit
from emitter.training.module import EmitterModule

SETTINGS: dict[str, tuple[str, ...]] = {
    "quick start": (),
    "quick start, 1 worker": ("training.workers=1",),
    "unet": ("model=unet",),
    "dense, 3/µm²": ("simulation.density_per_um2=[3,3]",),
    "ladder_3d": ("experiment=ladder_3d",),
}
WARM_UP_STEPS = 10
ROUND_STEPS = 20
SIMULATION, WORKERS, REST = "simulation", "simulation in workers", "Lightning, guard, logs"
PARTS = (
    *(
        SIMULATION,
        WORKERS,
        "features",
        "scale 4 px",
        "scale 2 px",
        "scale 1 px",
        "between scales",
        "head",
        "loss",
    ),
    *("backward", "optimizer, clip", REST),
)
PARTS_OF_BACKBONE = {"stem": "features", "shared": "features", "union": "scale 1 px", "phi": "between scales"}


class Stopwatch:
    """CPU seconds of named parts, each without the parts inside it."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = defaultdict(float)
        self._open = [REST]
        self._mark = time.process_time()

    def _lap(self) -> None:
        now = time.process_time()
        self._spent[self._open[-1]] += now - self._mark
        self._mark = now

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._lap()
            self._open.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._lap()
                self._open.pop()

        return timed

    def time(self, owner: Any, method: str, part: str) -> None:
        """Put the watch around a method."""
        setattr(owner, method, self.around(part, getattr(owner, method)))

    def take(self) -> dict[str, float]:
        """What was spent since the last call."""
        self._lap()
        spent, self._spent = dict(self._spent), defaultdict(float)
        return spent


class ProfiledModule(EmitterModule):
    """Times its parts, round after round."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.watch = Stopwatch()
        self.worker_mark = 0.0
        self.rounds: list[dict[str, float]] = []
        backbone = self.network.backbone
        scales = {f"scale{k}": f"scale {cell:g} px" for k, cell in enumerate(backbone.cells_px)}
        for group, part in backbone.groups().items():
            self.watch.time(part, "forward", {**PARTS_OF_BACKBONE, **scales}[group])
        self.watch.time(backbone, "estimates", "between scales")
        self.watch.time(self.network.head, "forward", "head")
        self.watch.time(self.objective, "forward", "loss")
        self.watch.time(self, "backward", "backward")
        self.watch.time(self, "optimizer_step", "optimizer, clip")
        self.watch.time(self, "training_step", REST)  # within the optimizer's closure

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        step = self.global_step - WARM_UP_STEPS
        if step >= 0 and step % ROUND_STEPS == 0:
            of_workers = cpu_seconds() - time.process_time()
            spent = {**self.watch.take(), WORKERS: of_workers - self.worker_mark}
            self.worker_mark = of_workers
            if step > 0:
                self.rounds.append({part: seconds / ROUND_STEPS for part, seconds in spent.items()})


def profile(overrides: tuple[str, ...], threads: int, rounds: int) -> dict[str, float]:
    """CPU seconds of a step's parts."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(threads)
    steps = WARM_UP_STEPS + rounds * ROUND_STEPS + 1
    with tempfile.TemporaryDirectory() as folder:
        common = (f"run_dir={folder}", f"budget.steps={steps}", "training.validation.times=1", "trainer=cpu")
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose("train", overrides=[*overrides, *common])
        settings = build(Settings, OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
        bundle = new_bundle(settings)
        training = settings.training
        module = ProfiledModule(bundle, training)
        simulator = Simulator(settings.simulation, bundle.psf, bundle.camera)
        module.watch.time(simulator, "sample", SIMULATION)
        data = EmitterData(simulator, training.seed, training.samples_per_batch, 16, training.workers)
        job = Job("profile", Path(folder), settings.budget, settings.trainer, settings.logger)
        with redirect_stdout(io.StringIO()):  # the progress bar
            fit(module, data, job)
    return {part: min(one.get(part, 0.0) for one in module.rounds) for part in PARTS}


def in_new_process(work: Callable[[], dict[str, float]], threads: int) -> dict[str, float]:
    """As launched: the number of threads and their patience are read when torch comes in."""
    os.environ |= {"GOMP_SPINCOUNT": "2000", "OMP_NUM_THREADS": str(threads), "WANDB_SILENT": "true"}
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work).result()


def table(columns: dict[str, dict[str, float]]) -> str:
    """Markdown: milliseconds and shares of the step."""
    head = f"| CPU time of a step | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}"
    totals = [sum(one.values()) for one in columns.values()]
    rows = [f"| whole step | {' | '.join(f'{1000 * total:.0f} ms' for total in totals)} |"]
    for part in PARTS:
        if not any(one[part] > 1e-5 for one in columns.values()):
            continue
        cells = [
            f"{1000 * one[part]:.1f} ms, {one[part] / total:.1%}" if one[part] > 1e-5 else ""
            for one, total in zip(columns.values(), totals, strict=True)
        ]
        rows.append(f"| {part} | {' | '.join(cells)} |")
    return "\n".join([head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for threads in options.threads:
        columns = {
            name: in_new_process(partial(profile, SETTINGS[name], threads, options.rounds), threads)
            for name in options.settings
        }
        print(f"\n{threads} thread{'s' if threads > 1 else ''}\n\n{table(columns)}", flush=True)


if __name__ == "__main__":
    main()
