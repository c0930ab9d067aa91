"""export.py from a checkpoint to a file, or to a sentence and no file."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_localize import bundle_of

from emitter.app import export
from emitter.app.export import Settings, run
from emitter.core.errors import EmitterError, SettingsError
from emitter.inference.bundle import KEY, Bundle
from emitter.models.network import EmitterNetwork, InputScaling
from emitter.models.settings import VarSettings


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a small untrained network."""
    model = VarSettings(
        cells_px=(2, 1), stem_channels=(4, 6), widths=(6, 6), blocks=(1, 1), latent_channels=5
    )
    bundle = bundle_of(EmitterNetwork(model, 3, InputScaling()))
    path = tmp_path_factory.mktemp("run") / "best.ckpt"
    weights = {f"network.{name}": value for name, value in bundle.network.state_dict().items()}
    torch.save({KEY: bundle.state(), "state_dict": weights}, path)
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_a_run_becomes_one_checked_file(
    tmp_path: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        result = run(Settings(checkpoint.parent, tmp_path / "new" / "net.onnx"))
    assert result["output"] == tmp_path / "new" / "net.onnx" and result["difference"] < 1e-5
    assert files(tmp_path / "new") == ["net.onnx"]
    (wrote, differs) = caplog.messages  # and nothing of the exporters'
    assert "net.onnx" in wrote and "differ from the network's by at most" in differs


@pytest.mark.parametrize("wrong", [0.001, float("nan")])
def test_a_file_that_computes_something_else_is_not_kept(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    def write(bundle: Bundle, path: Path, suffix: str) -> None:
        path.write_text("")
        monkeypatch.setattr(
            export, "load", lambda *_: lambda frames: bundle.network(frames)[-1] * (1 + wrong)
        )

    monkeypatch.setattr(export, "write", write)
    with pytest.raises(EmitterError, match=r"net\.pt2 would not compute.*give an output that ends in \.onnx"):
        run(Settings(checkpoint, tmp_path / "net.pt2"))
    assert files(tmp_path) == []


def test_a_failure_while_writing_leaves_nothing(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(bundle: Bundle, path: Path, suffix: str) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "write", write)
    with pytest.raises(KeyboardInterrupt):
        run(Settings(checkpoint, tmp_path / "net.pt2"))
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["net", "net.pt", "net.ONNX", "onnx", "net.onnx.zip"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^output is '.*': give the name of a file that ends in .onnx or .pt2$"
    ):
        Settings(tmp_path / "x.ckpt", tmp_path / name)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Any) -> Bundle:
        raise AssertionError("the work began")

    monkeypatch.setattr(export, "load_bundle", fail)


def test_missing_packages_are_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_work: None
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EmitterError, match=r"needs onnxruntime, .*pip install 'emitter\[export\]'"):
        run(Settings(tmp_path / "x.ckpt", tmp_path / "net.onnx"))


def test_output_is_checked_before_the_work(tmp_path: Path, no_work: None) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmitterError, match="cannot be written"):
        run(Settings(tmp_path / "x.ckpt", tmp_path / "file" / "net.pt2"))
