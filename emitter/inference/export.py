"""A trained network as one file for other programs: ONNX, or torch.export's saved program.

The file computes the finest maps from frames in photons, for any number of frames and any size of them, and carries a
card in JSON with what is needed to turn counts into its frames and its maps into emitters.

Shape suffixes: B images, T frames of an image, H rows, W columns, C maps.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

import emitter
from emitter.core.channels import CHANNELS
from emitter.core.errors import EmitterError
from emitter.inference.bundle import Bundle
from emitter.models.network import EmitterNetwork

FORMATS = (".onnx", ".pt2")
CARD = "emitter.json"  # the card's name: a key of ONNX's metadata_props, an extra file of a .pt2
TOLERANCE = 1e-4  # of the maps' largest value: float32 in another order of sums
_ONNX_NEEDS = ("onnx", "onnxscript", "onnxruntime")

Predict = Callable[[Tensor], Tensor]


class FinestMaps(nn.Module):
    """Frames (B, T, H, W) in photons to the maps (B, C, H / cell, W / cell) of the finest scale.

    The network itself pads frames only where their size asks for it, and a branch on a size cannot be exported: here
    the edge is repeated, and what it adds taken off again, by indices, which hold for every size.
    """

    def __init__(self, network: EmitterNetwork) -> None:
        super().__init__()
        self.network = network
        self.cells_per_px = round(1 / network.cells_px[-1])

    def forward(self, frames_BTHW: Tensor) -> Tensor:
        height, width = frames_BTHW.shape[-2:]
        padded_BTHW = frames_BTHW[..., self._with_edge(height)[:, None], self._with_edge(width)]
        maps_BCHW = self.network.head(self.network.estimates(padded_BTHW)[-1])
        rows, columns = (torch.arange(side * self.cells_per_px) for side in (height, width))
        return maps_BCHW[..., rows[:, None], columns]

    def _with_edge(self, side: int) -> Tensor:
        """Indices of a side's pixels, the last one repeated up to a multiple of the stride."""
        stride = self.network.stride
        return torch.arange((side + stride - 1) // stride * stride).clamp(max=side - 1)


def require_packages(suffix: str) -> None:
    """Raise EmitterError where a package is missing that writing this format needs."""
    missing = [name for name in _ONNX_NEEDS if suffix == ".onnx" and importlib.util.find_spec(name) is None]
    if missing:
        raise EmitterError(
            f"writing .onnx needs {', '.join(missing)}, not installed here: pip install 'emitter[export]'"
        )


def card(bundle: Bundle) -> dict[str, Any]:
    """What a user of the exported network must know, as plain numbers and strings; docs/export.md explains it."""
    network = bundle.network
    camera = {
        name: value.tolist() if isinstance(value, Tensor) else value
        for name, value in bundle.camera.state().items()
    }
    return {
        "emitter_version": emitter.__version__,
        "input": "frames: photons, float32 (batch, n_frames, height, width)",
        "output": "maps: of the middle frame, float32 (batch, n_maps, height / cell_px, width / cell_px), "
        "value = map * scaling",
        "n_frames": network.n_frames,
        "n_maps": network.n_maps,
        "scaling": dict(zip(CHANNELS, bundle.scaling.per_channel(), strict=True)),
        "thresholds": asdict(bundle.thresholds),
        "cell_px": network.cells_px[-1],
        "stride_px": network.stride,
        # of a .pt2: one cell at the coarsest scale is a case of its own to torch
        "smallest_side_px": network.stride + 1,
        "receptive_radius_px": network.receptive_radius_px,
        "pixel_size_nm": [bundle.pixel_size.x_nm, bundle.pixel_size.y_nm],
        "z_range_nm": list(bundle.simulation.z_range_nm) if bundle.is_3d else None,
        "background_photons": list(bundle.simulation.background),
        "camera": camera,
    }


def write(bundle: Bundle, path: Path, suffix: str) -> None:
    """Write the bundle's network (on the CPU, in evaluation) and its card in the format of ``suffix``, of FORMATS."""
    text = json.dumps(card(bundle))
    with _quiet():
        program = trace(bundle.network)
        if suffix == ".pt2":
            with path.open("wb") as file:  # by name, torch insists on an ending
                torch.export.save(program, file, extra_files={CARD: text})
        else:
            _write_onnx(program, text, path)


def trace(network: EmitterNetwork) -> ExportedProgram:
    """The network's finest maps as a graph for every number of images and every size of frames."""
    stride = network.stride
    # sizes that are neither multiples of the stride nor like each other: nothing may come to depend on them
    frames_BTHW = torch.zeros(2, network.n_frames, 7 * stride + 1, 9 * stride + 2)
    sizes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    program = torch.export.export(FinestMaps(network), (frames_BTHW,), dynamic_shapes=(sizes,))
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            node.meta.pop("stack_trace", None)  # folders of this machine, which are nobody's business
    return program


def _write_onnx(program: ExportedProgram, text: str, path: Path) -> None:
    onnx_program = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=["frames"],
        output_names=["maps"],
        dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),  # the axes' names
    )
    assert onnx_program is not None
    onnx_program.model.metadata_props[CARD] = text
    onnx_program.save(path, external_data=False)


def load(path: Path, suffix: str) -> Predict:
    """What a written file computes: frames (B, T, H, W) to maps (B, C, H / cell, W / cell), with torch's threads."""
    if suffix == ".pt2":
        with path.open("rb") as file:
            return torch.export.load(file).module()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda frames_BTHW: torch.from_numpy(session.run(["maps"], {"frames": frames_BTHW.numpy()})[0])


def largest_difference(network: EmitterNetwork, predict: Predict) -> float:
    """Between what the network and the exported one compute, as a fraction of the maps' largest value; infinite where
    they have different shapes.

    On random frames of two sizes, of which one is no multiple of the stride, and two numbers of images.
    """
    stride = network.stride
    generator = torch.Generator().manual_seed(0)
    differences = [0.0]
    for n_images, height, width in ((1, 4 * stride, 6 * stride), (3, 5 * stride + 1, 3 * stride - 1)):
        noise = torch.randn(n_images, network.n_frames, height, width, generator=generator)
        frames_BTHW = network.input_scaling.offset + network.input_scaling.scale * noise
        with torch.no_grad():
            own, other = network(frames_BTHW)[-1], predict(frames_BTHW)
        same = own.shape == other.shape
        differences.append(float((own - other).abs().max() / own.abs().max()) if same else float("inf"))
    return float(torch.tensor(differences).max())  # unlike max(), NaN where one is


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks on every step of theirs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
