"""A long training on two processes under attack, against the same training left in peace.

python benchmarks/soak.py --minutes 60 --out runs/soak

While it trains: NaN in every hundredth batch, one of the two processes killed (SIGKILL) every few minutes and the run
resumed, the CSV log on a full disk (/dev/full) for a while, and a W&B server out of reach all the time. Then the
same number of steps undisturbed, and both networks scored on held-out frames. Prints a table, and keeps it with the
events in OUT/soak.md and OUT/soak.json. Exit code 1 when the attacked network is worse or the memory grew.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pandas as pd

from emitter.training.checkpoints import last_state

ROOT = Path(__file__).resolve().parent.parent
NAN_SHARE = 0.01  # of batches
LOOK_SECONDS = 5.0
DISK_FULL_SECONDS = 30.0
END_SECONDS = 120.0  # for the processes that are left to see that one is gone
WORSE = 0.015  # of 3D efficiency: what two trainings of different seeds differ by, and a little
GROWTH = 1.05  # of the memory, from the middle to the last third of the longest life
MOST_LIVES_WITHOUT_A_STEP = 3

# Python imports it at its start, in every process of the run: the training itself knows nothing of the faults.
SABOTAGE = """
import torch
from emitter.training.data import EmitterData

transferred = EmitterData.on_after_batch_transfer

def with_faults(self, batch, dataloader_idx):
    sample = transferred(self, batch, dataloader_idx)
    generator = torch.Generator().manual_seed(int(sample.counts_BTHW.double().sum()) % 2**31)
    if self.trainer.training and torch.rand((), generator=generator) < {share}:
        sample.counts_BTHW[0, 0, 0, 0] = float("nan")
    return sample

EmitterData.on_after_batch_transfer = with_faults
"""


@dataclass
class Story:
    """What happened to a run, in seconds since its start."""

    began: float = field(default_factory=time.monotonic)
    events: list[tuple[float, str]] = field(default_factory=list)
    memory_mb: list[tuple[float, int, float]] = field(
        default_factory=list
    )  # when, in which life, of both processes
    lives: int = 0

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.began

    def happened(self, what: str) -> None:
        """Note and say."""
        self.events.append((round(self.seconds, 1), what))
        print(f"{self.seconds:7.0f} s  {what}", flush=True)


def start(run_dir: Path, environment: dict[str, str], *overrides: str) -> subprocess.Popen[bytes]:
    """A life of the run: its first, or resumed where there is a checkpoint."""
    begun = (run_dir / "checkpoints" / "last.ckpt").is_file()
    command = [sys.executable, ROOT / "train.py", "trainer=ddp_cpu", "training.batch_size=8"]
    command += [f"resume={run_dir}"] if begun else [f"hydra.run.dir={run_dir}", *overrides]
    command.append(f"logger.wandb={'online' if 'WANDB_BASE_URL' in environment else 'off'}")
    with (run_dir / "output.log").open("ab") as out:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)


def processes(pid: int) -> list[int]:
    """The two that train: a process and the one that it started for the other rank."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return [pid, *(child for child in children if b"emitter" in _command_line(child))]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # gone
        return b""


def memory_mb(pids: list[int]) -> float:
    """Resident memory; of a process that is gone, none."""
    lines = [line for pid in pids for line in _status(pid).splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def attacks(rng: random.Random, mean_seconds: float) -> Iterator[tuple[float, str]]:
    """Seconds until the next one, and what it is."""
    while True:
        for what in ("kill", "full disk", "kill"):
            yield mean_seconds * rng.uniform(0.6, 1.4), what


def disturbed(run_dir: Path, minutes: float, mean_seconds: float, seed: int) -> Story:
    """Train to the end of the budget under attack, through as many lives as it takes."""
    story, rng = Story(), random.Random(seed)
    sabotage = run_dir / "sabotage"
    sabotage.mkdir(parents=True)
    (sabotage / "sitecustomize.py").write_text(SABOTAGE.format(share=NAN_SHARE))
    environment = {
        **_environment(),
        "PYTHONPATH": os.pathsep.join([str(sabotage), str(ROOT)]),
        "WANDB_BASE_URL": "http://127.0.0.1:9",
        "WANDB_API_KEY": "0" * 40,
    }
    plan = attacks(rng, mean_seconds)
    pause, what = next(plan)
    due = story.seconds + pause
    steps = [0]  # at every life's end
    while len(steps) <= MOST_LIVES_WITHOUT_A_STEP or steps[-1] > steps[-1 - MOST_LIVES_WITHOUT_A_STEP]:
        story.lives += 1
        story.happened(f"life {story.lives} begins")
        process = start(run_dir, environment, f"budget.minutes={minutes}")
        while process.poll() is None:
            time.sleep(LOOK_SECONDS)
            pids = processes(process.pid) if process.poll() is None else []
            if len(pids) < 2:
                continue
            story.memory_mb.append((story.seconds, story.lives, memory_mb(pids)))
            begun = (run_dir / "checkpoints" / "last.ckpt").is_file()
            if story.seconds < due or not begun:
                continue
            if what == "kill":
                kill_one(process, rng.choice(pids), story)
            else:
                fill_disk(run_dir / "metrics.csv", story)
            pause, what = next(plan)
            due = story.seconds + pause
        if process.returncode == 0:
            story.happened("the run is complete")
            return story
        story.happened(f"life {story.lives} ended with code {process.returncode}")
        begun = (run_dir / "checkpoints" / "last.ckpt").is_file()
        steps.append(steps_of(run_dir) if begun else 0)
    raise SystemExit(f"{MOST_LIVES_WITHOUT_A_STEP} lives came no further: look into {run_dir}/output.log")


def kill_one(process: subprocess.Popen[bytes], pid: int, story: Story) -> None:
    """SIGKILL one process; the other must end by itself."""
    os.kill(pid, signal.SIGKILL)
    story.happened(f"killed the process of rank {0 if pid == process.pid else 1}")
    others = [other for other in processes(process.pid) if other != pid] if pid != process.pid else []
    before = story.seconds
    process.wait(END_SECONDS)
    while any(_command_line(other) for other in others):
        if story.seconds - before > END_SECONDS:
            raise SystemExit(f"a process was left behind after {END_SECONDS:.0f} s: the run hangs")
        time.sleep(0.2)
    story.happened(f"all processes ended {story.seconds - before:.0f} s later")


def fill_disk(log: Path, story: Story) -> None:
    """For a while every write into the CSV log fails as on a full disk."""
    kept = log.with_suffix(".kept")
    log.replace(kept)
    log.symlink_to("/dev/full")
    story.happened("the disk is full for the CSV log")
    time.sleep(DISK_FULL_SECONDS)
    kept.replace(log)
    story.happened("there is room on the disk again")


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def memory_thirds(story: Story) -> tuple[float, float]:
    """Medians of the middle and of the last third of the longest life, MB."""
    longest = max(range(1, story.lives + 1), key=lambda life: sum(m[1] == life for m in story.memory_mb))
    memory = [m[2] for m in story.memory_mb if m[1] == longest]
    third = max(1, len(memory) // 3)
    return median(memory[third : 2 * third] or memory), median(memory[-third:])


def report(run_dir: Path, peace_dir: Path, story: Story, efficiency: tuple[float, float]) -> str:
    """Markdown."""
    log = pd.read_csv(run_dir / "metrics.csv")
    kills = sum("killed" in what for _, what in story.events)
    rows = {
        "steps": (steps_of(run_dir), steps_of(peace_dir)),
        "3D efficiency on 1,500 held-out frames": tuple(f"{one:.3f}" for one in efficiency),
        "minutes": (f"{story.events[-1][0] / 60:.0f}", ""),
        "lives": (story.lives, 1),
        "processes killed": (kills, 0),
        "times the disk was full": (sum("disk is full" in what for _, what in story.events), 0),
        "images masked, as logged": (int(log["health/masked_images"].sum()), 0),
        "steps skipped": (int(log["health/skipped_steps"].max()), 0),
        "memory of both processes, middle and last third of the longest life (MB)": (
            ", ".join(f"{mb:.0f}" for mb in memory_thirds(story)),
            "",
        ),
    }
    lines = ["| | attacked | in peace |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {a} | {b} |" for name, (a, b) in rows.items())])


def steps_of(run_dir: Path) -> int:
    """Steps of the last checkpoint."""
    return int(last_state(run_dir)[1]["global_step"])


def efficiency_of(run_dir: Path) -> float:
    """3D efficiency of the network at the end, on frames that no training saw."""
    scores = run_dir / "scores"
    arguments = (f"checkpoint={run_dir}/checkpoints/last.ckpt", "samples=1500", "protocol=plain")
    with (run_dir / "evaluate.log").open("w") as out:
        command = [sys.executable, ROOT / "evaluate.py", *arguments, f"output={scores}"]
        subprocess.run(command, check=True, cwd=ROOT, env=_environment(), stdout=out, stderr=out)
    return float(json.loads((scores / "metrics.json").read_text())["efficiency_3d"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60, help="budget of the training")
    parser.add_argument("--every", type=float, default=300, help="seconds between attacks, about")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "soak")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    run_dir, peace_dir = out / "attacked", out / "in_peace"
    for folder in (run_dir, peace_dir):
        folder.mkdir(parents=True)
    story = disturbed(run_dir, arguments.minutes, arguments.every, arguments.seed)
    process = start(peace_dir, _environment(), f"budget.steps={steps_of(run_dir)}")
    if process.wait():
        raise SystemExit(f"the undisturbed run failed: look into {peace_dir}/output.log")
    efficiency = efficiency_of(run_dir), efficiency_of(peace_dir)
    table = report(run_dir, peace_dir, story, efficiency)
    (out / "soak.json").write_text(
        json.dumps({"events": story.events, "memory_mb": story.memory_mb}, indent=1)
    )
    events = "\n".join(f"- {seconds:.0f} s: {what}" for seconds, what in story.events)
    (out / "soak.md").write_text(f"{table}\n\n{events}\n")
    print(f"\n{table}", flush=True)
    before, after = memory_thirds(story)
    if efficiency[0] < efficiency[1] - WORSE or after > GROWTH * before:
        raise SystemExit("not survived: the attacked network is worse, or the memory grew")


if __name__ == "__main__":
    main()
