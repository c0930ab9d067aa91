"""Calibration on simulated beads whose PSF, places and noise are known, and on the real stacks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from bead_stacks import PIXEL, PLACES, TRUE_PSF, Z_STEP_NM, BeadStack, distances_px

from emitter.core.errors import EmitterError, SettingsError
from emitter.core.units import PixelSize
from emitter.psf.calibration import BeadTruth, Calibration, CalibrationSettings, calibrate
from emitter.psf.spline import SplinePSF

SETTINGS = CalibrationSettings(PIXEL, Z_STEP_NM)
TRUTH = BeadTruth(np.array([x for x, _ in PLACES]), np.array([y for _, y in PLACES]))


@pytest.fixture(scope="module")
def calibrated() -> Calibration:
    return calibrate(BeadStack().stack(), SETTINGS)


def largest_error(psf: SplinePSF, z_nm: np.ndarray, shift_nm: float = 0.0) -> float:
    """Of the PSF against the true one at random sub-pixel places, over the true peak at the same z."""
    generator = torch.Generator().manual_seed(3)
    dx, dy = torch.rand(2, len(z_nm), generator=generator, dtype=torch.float64) - 0.5
    z = torch.as_tensor(z_nm, dtype=torch.float64)
    found, true = psf.patches(dx, dy, z), TRUE_PSF.patches(dx, dy, z + shift_nm)
    radius = min(psf.radius_px, TRUE_PSF.radius_px)
    inner = [slice(one.radius_px - radius, one.radius_px + radius + 1) for one in (psf, TRUE_PSF)]
    rest = (found[:, inner[0], inner[0]] - true[:, inner[1], inner[1]]).abs().amax(dim=(1, 2))
    return float((rest / true.amax(dim=(1, 2))).max())


def test_the_psf_and_the_places_are_recovered(calibrated: Calibration) -> None:
    assert calibrated.info.n_beads_used == 4
    assert calibrated.info.n_beads_refused == 0
    assert calibrated.psf.z_range_nm == (-500.0, 500.0)
    assert np.abs(distances_px(calibrated.placed.positions_px())).max() < 0.02
    assert np.abs(calibrated.placed.z_nm_N).max() < 3
    assert largest_error(calibrated.psf, np.linspace(-480, 480, 60)) < 0.05


def test_without_noise_the_psf_is_exact_but_for_its_knots() -> None:
    result = calibrate(BeadStack().expected(), SETTINGS)
    assert largest_error(result.psf, np.linspace(-480, 480, 60)) < 0.005


def test_it_sums_to_one_in_focus_and_amplitudes_are_the_photons(calibrated: Calibration) -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    assert float(calibrated.psf.patches(zero, zero, zero).sum()) == pytest.approx(1, abs=0.01)
    assert sorted(calibrated.placed.amplitude_N) == pytest.approx([24000, 27000, 30000, 36000], rel=0.01)


def test_beads_are_explained_down_to_the_noise(calibrated: Calibration) -> None:
    for n in range(4):
        model = calibrated.model(n)
        square = ((calibrated.placed.cutouts_NZPP[n] - model) ** 2).sum(axis=(1, 2))
        variance = (model + 20).sum(axis=(1, 2))  # Poisson, with the background
        # Below 1 by the share of the noise that the coefficients take up: 23 along z for 41 slices of 4
        # beads.
        assert 0.8 < (square / variance).mean() < 1.02
        assert (square / variance).max() < 2


def test_the_centre_follows_the_truth_that_is_given() -> None:
    truth = BeadTruth(TRUTH.x_px - 0.1, TRUTH.y_px + 0.25, z_middle_nm=100.0)
    result = calibrate(BeadStack().stack(), dataclasses.replace(SETTINGS, truth=truth))
    assert result.info.centred_on == "truth"
    assert result.info.z_zero == "truth"
    assert result.psf.z_range_nm == (-400.0, 600.0)
    middle = slice(20, 41)
    assert result.info.centroid_x_px[middle] == pytest.approx(0.1, abs=0.03)
    assert result.info.centroid_y_px[middle] == pytest.approx(-0.25, abs=0.03)
    assert np.abs(distances_px(result.placed.positions_px()) - [-0.1, 0.25]).max() < 1e-9


def test_beads_at_several_depths_are_brought_together() -> None:
    depths = (-80.0, 40.0, 100.0, -60.0)
    result = calibrate(BeadStack(z_nm=depths).stack(), SETTINGS)
    places = result.placed.positions_px()
    order = [int(np.argmin(np.hypot(*(np.array(PLACES) - one).T))) for one in places]
    assert result.placed.z_nm_N == pytest.approx(np.array(depths)[order], abs=4)
    low, high = result.psf.z_range_nm
    assert low == pytest.approx(-420, abs=4)
    assert high == pytest.approx(400, abs=4)
    assert largest_error(result.psf, np.linspace(-400, 380, 60)) < 0.05


def test_z_zero_at_the_focus() -> None:
    beads = BeadStack(z_nm=(120.0,) * 4)  # the true model is sharpest at its z = 0
    at_focus = calibrate(beads.stack(), dataclasses.replace(SETTINGS, z_zero="focus"))
    assert at_focus.psf.z_range_nm == pytest.approx((-620, 380), abs=15)
    at_centre = calibrate(beads.stack(), SETTINGS)
    assert at_centre.psf.z_range_nm == (-500.0, 500.0)


def test_a_falling_stack_is_the_rising_one_reversed(calibrated: Calibration) -> None:
    falling = calibrate(BeadStack().stack()[::-1], dataclasses.replace(SETTINGS, z_step_nm=-Z_STEP_NM))
    torch.testing.assert_close(falling.psf.coefficients_ZCC, calibrated.psf.coefficients_ZCC)


def test_one_bead_in_a_small_image_is_enough() -> None:
    beads = BeadStack(places=((15.3, 14.8),), photons=(30000.0,), z_nm=(0.0,), side_px=31)
    result = calibrate(beads.stack(), SETTINGS)
    assert np.abs(distances_px(result.placed.positions_px(), ((15.3, 14.8),))).max() < 0.02
    assert largest_error(result.psf, np.linspace(-480, 480, 40)) < 0.1


def test_beads_that_mislead_are_refused_with_their_reason() -> None:
    crowd = BeadStack(
        places=(
            *PLACES,
            (4.2, 45.0),
            (110.3, 30.4),
            (113.9, 38.8),
            (110.2, 100.7),
            (24.4, 110.6),
            (66.2, 110.2),
        ),
        photons=(*BeadStack().photons, 20000.0, 20000.0, 20000.0, 140000.0, 25000.0, 25000.0),
        z_nm=(*BeadStack().z_nm, 0.0, 0.0, 0.0, 0.0, 0.0, 380.0),
        side_px=135,
    )
    result = calibrate(crowd.stack(), SETTINGS)
    reasons = {(round(bead.x_px), round(bead.y_px)): bead.refused for bead in result.beads if bead.refused}
    assert "to the border" in str(reasons[(4, 45)])
    assert "another bead" in str(reasons[(110, 30)])
    assert "another bead" in str(reasons[(114, 39)])
    assert "times as bright" in str(reasons[(110, 101)])
    assert any("off the median" in str(reason) for reason in reasons.values())
    assert result.info.n_beads_used == 5
    assert result.info.n_beads_refused == len(reasons) == 5


def test_without_truth_near_it_a_bead_is_refused() -> None:
    truth = BeadTruth(TRUTH.x_px[:3], TRUTH.y_px[:3])
    result = calibrate(BeadStack().stack(), dataclasses.replace(SETTINGS, truth=truth))
    assert [bead.refused for bead in result.beads if bead.refused] == ["no true position within 3 px"]
    with pytest.raises(EmitterError, match="belongs to this stack"):
        calibrate(
            BeadStack().stack(),
            dataclasses.replace(SETTINGS, truth=BeadTruth(np.array([5.0]), np.array([80.0]))),
        )


def spoilt(kind: str) -> np.ndarray:
    stack = BeadStack(n_slices=21).stack().astype(np.float64)
    if kind == "NaN":
        stack[7, 3, 4] = np.nan
    elif kind == "saturated":
        stack = np.minimum(stack, 300)
    elif kind == "blinking":
        stack[np.arange(21) % 4 > 0] = 20 + np.random.default_rng(0).normal(size=(90, 90))
    return stack


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (np.random.default_rng(0).poisson(100, (30, 80, 80)), "no beads were found"),
        (spoilt("none")[:1], "has 1 slice: give a z-stack"),
        (spoilt("none")[0], "has 1 slice: give a z-stack"),
        (spoilt("NaN"), "NaN or infinite pixels in slice 7"),
        (spoilt("saturated"), "saturated"),
        (spoilt("blinking"), "blinking"),
        (np.full((20, 40, 40), 7), r"constant \(every pixel is 7\)"),
        (np.zeros((20, 40, 40, 3)), "RGB"),
        (np.zeros((20, 40, 3)), "RGB"),
        (np.zeros((20, 8, 8)), "8 × 8 pixels"),
    ],
)
def test_stacks_that_give_no_psf_say_why(stack: np.ndarray, message: str) -> None:
    with pytest.raises(EmitterError, match=message):
        calibrate(stack, SETTINGS)


@pytest.mark.parametrize("wrong", [{"z_step_nm": 0.0}, {"z_zero": "top"}, {"radius_px": 1}])
def test_impossible_settings_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        dataclasses.replace(SETTINGS, **wrong)  # type: ignore[arg-type]


def test_the_challenge_stack_is_explained_down_to_its_shot_noise(data_dir: Path) -> None:
    folder = data_dir / "c16_mt0n1ld_as"
    stack = tifffile.imread(folder / "z-stack-Beads-AS-Exp.tif")
    table = np.genfromtxt(folder / "beads_AS_ground_truth.csv", delimiter=",", names=True)
    first = table[table["frame"] == 1]
    truth = BeadTruth(first["xnano"] / 100, first["ynano"] / 100)
    result = calibrate(stack, CalibrationSettings(PixelSize(100.0, 100.0), 10.0, truth=truth))
    assert result.info.n_beads_used == 6
    assert result.psf.z_range_nm == (-750.0, 750.0)
    # EMCCD of gain 300 and 45 e/ADU, excess noise 2: variance = 2 · 300 / 45 of the signal, at every z.
    for n in range(6):
        model = result.model(n)
        square = ((result.placed.cutouts_NZPP[n] - model) ** 2).sum(axis=(1, 2))
        ratio = (square / model.sum(axis=(1, 2))).reshape(-1)
        assert ratio.mean() == pytest.approx(2 * 300 / 45, rel=0.06)
        assert ratio.max() < 2 * 2 * 300 / 45
    # Measured before this program existed: the light lies (+0.1, −0.25) px off the truth, averaged over z.
    assert result.info.centroid_x_px.mean() == pytest.approx(0.1, abs=0.08)
    assert result.info.centroid_y_px.mean() == pytest.approx(-0.25, abs=0.08)


def test_a_real_bead_is_explained(data_dir: Path) -> None:
    stack = tifffile.imread(data_dir / "fit3dcspline_bead" / "single_bead.tif")
    result = calibrate(stack, CalibrationSettings(PixelSize(100.0, 100.0), 10.0, z_zero="focus"))
    model, data = result.model(0), result.placed.cutouts_NZPP[0]
    rest = np.sqrt(((data - model) ** 2).sum(axis=(1, 2)) / (model**2).sum(axis=(1, 2)))
    assert np.median(rest) < 0.02
    low, high = result.psf.z_range_nm
    assert low < -900 and high > 900
