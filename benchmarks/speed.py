"""Frames per CPU-second and a training step's CPU time: the networks against the unet baseline in one run.

python benchmarks/speed.py                        # all of it: var_tiny and var_base against unet
python benchmarks/speed.py --models var_tiny
python benchmarks/speed.py --only exported        # what export.py writes against the network itself

One thread and CPU time: the machine may be busy with other things. Every model is timed in turns with the baseline, and
ratios are of the least times of each. "as shipped" is the baseline on windows of three frames, each window's features
computed anew, in float32 and torch's default layout; "alike" gives it what the others have: features once for every
frame, channels_last, and bfloat16 where the processor has it.

After the network come decoding and the table: "tables" times them, on the maps of simulated truth at the quick start's
0.6 emitters/µm², against the network.

The exported forms know no features of single frames: they, and the network beside them, are given every window of three
frames for itself, in float32.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from harness import Stepper
from torch import Tensor

from emitter.core import channels as ch
from emitter.core.decoding import decode
from emitter.core.encoding import encode
from emitter.core.memory import keep_freed_memory
from emitter.core.precision import has_fast_bfloat16
from emitter.core.table import EmitterTable
from emitter.inference.bundle import Bundle
from emitter.inference.export import Predict, load, write
from emitter.models.network import EmitterNetwork
from emitter.simulation.simulator import Simulator

BASELINE = "unet"
BLOCKS = {64: (48, 7), 512: (4, 3)}  # side in pixels: frames of a block, rounds of it
Work = Callable[[], object]


@dataclass(frozen=True)
class Block:
    """Some consecutive frames, and the frames from which each is predicted."""

    frames_FHW: Tensor
    window_BT: Tensor

    @classmethod
    def of(cls, side: int, n_frames: int) -> Block:
        """Noise: ``n_frames`` from amid a movie, read with the frame before and the one after, as localize.py does."""
        generator = torch.Generator().manual_seed(0)
        frames_FHW = torch.rand(n_frames + 2, side, side, generator=generator) * 100
        return cls(frames_FHW, torch.arange(n_frames + 2).unfold(0, 3, 1))


def stepper_of(model: str) -> Stepper:
    """A training of the quick start with this model."""
    torch.manual_seed(0)
    return Stepper.of((f"model={model}",))


def cached(network: EmitterNetwork, block: Block) -> Work:
    """Features once for every frame, channels_last, bfloat16 where it is fast."""
    bf16 = has_fast_bfloat16("cpu")

    def predict() -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return network.forward_movie(block.frames_FHW, block.window_BT)[-1]

    return predict


def as_shipped(network: EmitterNetwork, block: Block) -> Work:
    """Every window for itself, float32, torch's default layout."""
    plain = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def predict() -> Tensor:
        with torch.inference_mode():
            return plain(block.frames_FHW[block.window_BT])[-1]

    return predict


def in_turns(works: list[Work], rounds: int = 7) -> list[float]:
    """Least CPU-seconds of each."""
    seconds = [float("inf")] * len(works)
    for _ in range(rounds):
        for i, work in enumerate(works):
            start = time.process_time()
            work()
            seconds[i] = min(seconds[i], time.process_time() - start)
    return seconds


def inference_rows(models: list[str]) -> list[str]:
    """Frames per CPU-second and the ratios to both baselines."""
    rows = []
    for side, (n_frames, rounds) in BLOCKS.items():
        block = Block.of(side, n_frames)
        for model in models:
            network = stepper_of(model).bundle.network.eval()
            baseline, alike = (stepper_of(BASELINE).bundle.network.eval() for _ in range(2))
            own, shipped, same = in_turns(
                [cached(network, block), as_shipped(baseline, block), cached(alike, block)], rounds
            )
            rate = n_frames / own
            rows.append(f"| {model}, {side}×{side} | {rate:.3g} | {shipped / own:.1f} | {same / own:.1f} |")
    return [
        "| network | frames per CPU-s | × unet as shipped | × unet alike |",
        "| --- | --- | --- | --- |",
        *rows,
    ]


def on_windows(predict: Predict, block: Block) -> Work:
    """Every window for itself, float32."""
    windows_BTHW = block.frames_FHW[block.window_BT]

    def work() -> Tensor:
        with torch.inference_mode():
            return predict(windows_BTHW)

    return work


def exported(bundle: Bundle) -> list[Predict]:
    """The network itself, and its exported forms as loaded from their files."""
    network = bundle.network.eval()
    forms: list[Predict] = [lambda frames_BTHW: network(frames_BTHW)[-1]]
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".pt2", ".onnx"):
            path = Path(folder) / f"net{suffix}"
            write(bundle, path, suffix)
            forms.append(load(path, suffix))
    return forms


def exported_rows(models: list[str]) -> list[str]:
    """Frames per CPU-second of the network and of its exported forms."""
    rows = []
    for model in models:
        forms = exported(stepper_of(model).bundle)
        for side, (n_frames, rounds) in BLOCKS.items():
            block = Block.of(side, n_frames)
            seconds = in_turns([on_windows(form, block) for form in forms], rounds)
            rates = " | ".join(f"{n_frames / one:.3g}" for one in seconds)
            rows.append(f"| {model}, {side}×{side} | {rates} |")
    return [
        "| frames per CPU-s, windows of 3 frames, features not cached, float32 | network | .pt2 | .onnx |",
        "| --- | --- | --- | --- |",
        *rows,
    ]


def table_of(bundle: Bundle, side: int, n_frames: int) -> Callable[[], EmitterTable]:
    """From finest maps, as certain as can be, of simulated truth to the table."""
    settings = replace(bundle.simulation, frame_size_px=(side, side), density_per_um2=(0.6, 0.6))
    sample = Simulator(settings, bundle.psf, bundle.camera).sample(1, torch.arange(n_frames))
    maps_B6HW = encode(sample.emitters, sample.background_IHW, bundle.scaling).maps_B6HW
    maps_B6HW[:, ch.P] = 12 * maps_B6HW[:, ch.P] - 6

    def table() -> EmitterTable:
        found = decode(maps_B6HW, bundle.scaling, bundle.thresholds)
        return EmitterTable.from_emitters(found, bundle.pixel_size, list(range(n_frames))).sorted()

    return table


def table_rows(models: list[str]) -> list[str]:
    """From finest maps to the table, as a share of the whole."""
    rows = []
    for model in models:
        bundle = stepper_of(model).bundle
        for side, (n_frames, rounds) in BLOCKS.items():
            to_table = table_of(bundle, side, n_frames)
            predict = cached(bundle.network.eval(), Block.of(side, n_frames))
            network, tables = in_turns([predict, to_table], rounds)
            share = tables / (network + tables)
            rows.append(
                f"| {model}, {side}×{side} | {len(to_table()) / n_frames:.0f} | {100 * share:.1f} % |"
            )
    return ["| decoding and table | emitters in a frame | share of the time |", "| --- | --- | --- |", *rows]


def training_rows(models: list[str]) -> list[str]:
    """A step of 16 images of 40×40."""
    rows = []
    for model in models:
        own, baseline = in_turns([stepper_of(model).whole_step, stepper_of(BASELINE).whole_step])
        rows.append(f"| {model} | {1000 * own:.0f} ms | {baseline / own:.1f} |")
    return ["| training | CPU time of a step | × unet |", "| --- | --- | --- |", *rows]


PARTS = {
    "inference": inference_rows,
    "training": training_rows,
    "exported": exported_rows,
    "tables": table_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["var_tiny", "var_base"])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    keep_freed_memory()  # as the programs do
    torch.set_num_threads(1)
    for part in arguments.only:
        print("\n".join(PARTS[part](arguments.models)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
