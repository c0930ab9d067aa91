"""What a command line gives itself, and what of it has no effect."""

from __future__ import annotations

import pytest

from emitter.app.evaluate import changed
from emitter.app.given import given, warn_of_unused_flux
from emitter.app.launch import conf_dir
from emitter.simulation.settings import FluxSettings, SimulationSettings


@pytest.mark.parametrize(
    ("override", "distribution", "named"),
    [
        ("simulation.flux.range=[1,2]", "normal", "flux.range has no effect"),
        ("simulation.flux.range=[1,2]", "lognormal", "which goes by mean and std"),
        ("simulation.flux.mean=5", "uniform", "flux.mean has no effect"),
        ("simulation.flux.range=[1,2]", "uniform", None),
        ("simulation.flux.std=5", "normal", None),
        ("simulation=challenge_as", "normal", None),  # a file has all three
        ("experiment=ladder_3d", "uniform", None),
    ],
)
def test_a_flux_that_has_no_effect_is_told(
    override: str, distribution: str, named: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_unused_flux(FluxSettings(distribution), given([override], conf_dir()))
    assert len(caplog.messages) == (named is not None)
    assert named is None or named in caplog.text


def test_it_is_told_of_the_frames_that_a_checkpoint_is_scored_on(caplog: pytest.LogCaptureFixture) -> None:
    changed(SimulationSettings(), {"flux": {"range": [1, 2]}})
    assert "simulation.flux.range has no effect" in caplog.text
    caplog.clear()
    changed(SimulationSettings(), {"flux": {"range": [1, 2], "distribution": "uniform"}})
    assert not caplog.messages
