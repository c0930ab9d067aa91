"""init_from: the weights of another training, with what their units mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_conf import composed

from emitter.app.schema import build
from emitter.app.train import Settings, new_bundle, run
from emitter.core.channels import N_CHANNELS
from emitter.core.errors import EmitterError
from emitter.inference.bundle import load_bundle

TINY = [
    "fast_dev_run=true",
    "logger.wandb=off",
    "simulation.frame_size_px=[16,16]",
    "model.stem_channels=[8,8,8]",
    "model.widths=[8,8,8]",
    "model.blocks=[1,1,1]",
    "model.latent_channels=8",
]


def settings(folder: Path, *overrides: str) -> Settings:
    composition = build(Settings, composed("train", [*TINY, *overrides]))
    return replace(composition, run_dir=folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    run(settings(folder))
    return folder


@pytest.mark.parametrize("loss", ["ppxyzb", "set_matching", "mixture"])
def test_every_loss_starts_from_a_ppxyzb_checkpoint(trained, tmp_path, loss):
    wanted = settings(tmp_path, f"loss={loss}", f"init_from={trained}", "simulation.flux.mean=1500")
    before, after = load_bundle(trained), new_bundle(wanted)
    for name, value in before.network.state_dict().items():
        assert torch.equal(after.network.state_dict()[name][: len(value)] if value.ndim else value, value)
    assert after.scaling == before.scaling and after.network.input_scaling == before.network.input_scaling
    assert after.network.n_maps == (N_CHANNELS + 4 if loss == "mixture" else N_CHANNELS)
    frames = torch.rand(1, 3, 16, 16) * 100
    for a, b in zip(before.network.eval()(frames), after.network.eval()(frames), strict=True):
        assert torch.allclose(a, b[:, :N_CHANNELS], atol=1e-5)
    run(wanted)
    assert load_bundle(tmp_path).network.n_maps == after.network.n_maps  # and its checkpoint can be used


def test_a_ppxyzb_training_starts_from_a_mixture(trained, tmp_path):
    run(settings(tmp_path / "mixture", "loss=mixture"))
    after = new_bundle(settings(tmp_path, f"init_from={tmp_path / 'mixture'}"))
    assert after.network.n_maps == N_CHANNELS


def test_another_network_is_refused(trained, tmp_path):
    with pytest.raises(EmitterError, match="choose the same model"):
        new_bundle(settings(tmp_path, f"init_from={trained}", "model.latent_channels=16"))
    with pytest.raises(EmitterError, match="there is no checkpoint"):
        new_bundle(settings(tmp_path, f"init_from={tmp_path / 'nowhere'}"))
