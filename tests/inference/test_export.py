"""Exported networks: they compute what the network does at every size, and say what their maps mean."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from emitter.core.channels import CHANNELS, Scaling
from emitter.core.decoding import Thresholds
from emitter.core.errors import EmitterError
from emitter.inference import export
from emitter.inference.bundle import Bundle
from emitter.models.network import EmitterNetwork, InputScaling
from emitter.models.settings import ModelSettings, UNetSettings, VarSettings
from emitter.psf.gaussian import GaussianPSF
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import SimulationSettings

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = VarSettings(cells_px=(2, 1), stem_channels=(4, 6), widths=(6, 6), blocks=(1, 1), latent_channels=5)
OPTIONS = VarSettings(
    cells_px=(1, 0.5),
    stem_channels=(4,),
    widths=(6, 6),
    blocks=(1, 1),
    latent_channels=5,
    phi=False,
    level_embedding=False,
    image_at="first_scale",
    shared_blocks=True,
    attention_cells_px=(0.5,),
)
CAMERA = CameraSettings(
    "emccd",
    pixel_size_nm=(100.0, 110.0),
    baseline_adu=100.0,
    e_per_adu=45.0,
    em_gain=300.0,
    quantum_efficiency=0.9,
    spurious_charge_e=0.002,
)


def bundle_of(settings: ModelSettings, n_maps: int = 6) -> Bundle:
    torch.manual_seed(1)
    network = EmitterNetwork(settings, 3, InputScaling(), n_maps).eval()
    for parameter in network.parameters():  # zero-initialised branches would hide what they compute
        torch.nn.init.normal_(parameter, std=0.15)
    simulation = SimulationSettings(z_range_nm=(-500, 500))
    return Bundle(
        network,
        Scaling(z_nm=250.0),
        Thresholds(mass=0.4),
        GaussianPSF(1.3, 1.3),
        Camera.build(CAMERA),
        simulation,
    )


BUNDLES = {
    "var": bundle_of(SMALL),
    "unet": bundle_of(UNetSettings(depth=1, features=4)),
    "options": bundle_of(OPTIONS, n_maps=10),
}


@pytest.fixture(
    scope="module", params=[(name, suffix) for name in BUNDLES for suffix in export.FORMATS], ids="".join
)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Path]:
    """A bundle and its exported file."""
    name, suffix = request.param
    path = tmp_path_factory.mktemp("export") / f"net{suffix}"
    export.write(BUNDLES[name], path, suffix)
    return BUNDLES[name], path


def card_in(path: Path) -> dict[str, Any]:
    """As a user of the file reads it."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        text = session.get_modelmeta().custom_metadata_map["emitter.json"]
    else:
        extra = {"emitter.json": ""}
        torch.export.load(path, extra_files=extra)
        text = extra["emitter.json"]
    card: dict[str, Any] = json.loads(text)
    return card


@pytest.mark.slow
def test_the_file_computes_what_the_network_does_at_every_size(written: tuple[Bundle, Path]) -> None:
    bundle, path = written
    predict = export.load(path, path.suffix)
    side = export.card(bundle)["smallest_side_px"]
    for n_images, height, width in ((1, 16, 24), (3, 21, 9), (1, side, side), (5, side, 47)):
        frames = torch.rand(n_images, 3, height, width) * 200
        with torch.no_grad():
            expected = bundle.network(frames)[-1]
            maps = predict(frames)
        assert maps.shape == expected.shape and expected.std() > 0.01
        torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)
    assert export.largest_difference(bundle.network, predict) < 1e-5


@pytest.mark.slow
def test_the_file_says_what_its_maps_mean_and_nothing_of_this_machine(written: tuple[Bundle, Path]) -> None:
    bundle, path = written
    assert card_in(path) == export.card(bundle)
    content = path.read_bytes()
    assert all(str(folder).encode() not in content for folder in (REPOSITORY, Path(torch.__file__).parent))


@pytest.mark.slow
def test_the_axes_of_an_onnx_file_have_names(written: tuple[Bundle, Path]) -> None:
    bundle, path = written
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (frames,), (maps,) = session.get_inputs(), session.get_outputs()
        assert (frames.name, frames.shape) == ("frames", ["batch", 3, "height", "width"])
        assert (maps.name, maps.shape[:2]) == ("maps", ["batch", bundle.network.n_maps])


def test_counts_become_photons_by_the_card() -> None:
    bundle = BUNDLES["var"]
    card = json.loads(json.dumps(export.card(bundle)))
    camera = card["camera"]
    counts = np.array([[100.0, 250.0], [1000.0, 65535.0]])
    electrons = (counts - camera["baseline_adu"]) * camera["e_per_adu"] / camera["em_gain"]
    photons = (electrons - camera["spurious_charge_e"]) / camera["quantum_efficiency"]
    np.testing.assert_allclose(
        photons, bundle.camera.to_photons(torch.tensor(counts)).numpy(), rtol=1e-5, atol=1e-5
    )
    assert tuple(card["scaling"]) == CHANNELS and card["scaling"]["z"] == 250
    assert card["thresholds"]["mass"] == 0.4
    assert (card["cell_px"], card["stride_px"], card["pixel_size_nm"]) == (1, 2, [100, 110])
    assert export.card(BUNDLES["options"])["cell_px"] == 0.5


def test_maps_of_a_camera_are_rows_of_numbers_and_a_2d_network_has_no_z_range() -> None:
    bundle = BUNDLES["var"]
    camera = replace(
        Camera.build(CameraSettings("scmos")), baseline_adu=torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    )
    simulation = SimulationSettings(z_range_nm=(0, 0))
    card = json.loads(json.dumps(export.card(replace(bundle, camera=camera, simulation=simulation))))
    assert card["camera"]["baseline_adu"] == [[1, 2], [3, 4]] and card["camera"]["em_gain"] is None
    assert card["z_range_nm"] is None


@pytest.mark.parametrize(("change", "difference"), [(0.0, 0.0), (0.5, 0.5), (float("nan"), float("nan"))])
def test_the_largest_difference_is_a_fraction_of_the_largest_value(change: float, difference: float) -> None:
    network = BUNDLES["var"].network

    def predict(frames: torch.Tensor) -> torch.Tensor:
        maps = network(frames)[-1].clone()
        if len(maps) > 1:
            maps[1, 2, 3, 1] += change * maps.abs().max()
        return maps

    assert export.largest_difference(network, predict) == pytest.approx(difference, rel=1e-5, nan_ok=True)


def test_maps_of_another_shape_differ_infinitely() -> None:
    network = BUNDLES["var"].network
    assert export.largest_difference(network, lambda frames: network(frames)[-1][..., :-1]) == float("inf")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    export.require_packages(".pt2")
    with pytest.raises(EmitterError, match=r"onnxscript.*: pip install 'emitter\[export\]'"):
        export.require_packages(".onnx")
