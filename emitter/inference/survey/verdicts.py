"""What a survey means: whether the camera's settings are believable, and whether a trained network fits the movie."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from emitter.core.units import PixelSize
from emitter.inference.bundle import Bundle
from emitter.inference.survey.camera_noise import PhotonTransfer
from emitter.inference.survey.spot_shape import as_peaked_px
from emitter.inference.survey.suggestions import number
from emitter.inference.survey.survey import Survey
from emitter.psf.base import PSF
from emitter.simulation.camera import Camera

NOISE_RANGE = (0.77, 1.3)  # of the noise's variance against the settings'
_QUANTIZATION_ADU2 = 1 / 12
BACKGROUND_FACTOR = 1.5  # how far outside the trained range a value may lie without a word
PHOTONS_FACTOR = 1.5
DENSITY_FACTOR = 1.3  # only above: networks trained on crowded frames serve sparse ones
WIDTH_FACTOR = 1.15
_NOISE_ERROR = 0.1  # relative, of the dark pixels' noise: that of emitters is in it
_NOT_PHOTONS = (
    "the counts are not photons as an ideal camera's are: give the camera (camera=emccd, camera=scmos)"
)


@dataclass(frozen=True)
class Verdict:
    """One line: what was looked at, what was seen, whether it is fine, and what to do where it is not."""

    what: str
    seen: str
    fine: bool
    advice: str = ""


@dataclass(frozen=True)
class CameraCheck:
    """``noise_ratio``: the noise's variance over the settings'; ``photons_ratio``: how many times too many photons the
    settings give, 1 where they are believable; ``baseline_off_adu``: by how much the baseline is too high."""

    noise_ratio: float
    slope_ratio: float
    photons_ratio: float
    baseline_off_adu: float
    verdicts: tuple[Verdict, ...]


def pixel_size_verdict(stated: PixelSize | None, used: PixelSize, trained: bool) -> Verdict:
    """Whether the figures are of the movie's own pixels: all in nm and µm² lean on their size.

    Args:
        stated: by the movie's file, or None.
        used: the camera's.
        trained: whether the camera is a checkpoint's and not the settings'.
    """
    whose = "the checkpoint's is" if trained else "camera.pixel_size_nm is"
    if stated is None:
        return Verdict("pixel size", f"the movie's file states none; {whose} {_nm(used)}", True)
    seen = f"the movie's file states {_nm(stated)} nm; {whose} {_nm(used)}"
    if stated.is_like(used):
        return Verdict("pixel size", seen, True)
    what = "widths in nm and densities are wrong"
    advice = (
        "this network was trained for another microscope, or the file is wrong"
        if trained
        else f"give camera.pixel_size_nm={_nm(stated)}, unless the file is wrong"
    )
    return Verdict("pixel size", seen, False, f"{what}: {advice}")


def _nm(size: PixelSize) -> str:
    """As camera.pixel_size_nm is given."""
    sides = [number(one, 4) for one in (size.x_nm, size.y_nm)]
    return sides[0] if size.x_nm == size.y_nm else f"[{','.join(sides)}]"


def adu_per_photon(camera: Camera) -> float:
    """Counts that a photon makes on average."""
    gain = 1.0 if camera.em_gain is None else camera.em_gain
    return camera.quantum_efficiency * gain / float(camera.e_per_adu.mean())


def check_camera(transfer: PhotonTransfer, camera: Camera) -> CameraCheck:
    """Hold the noise against the mean, as the camera's settings want it.

    Dark pixels whose noise is not that of their level say that the gain or the baseline is wrong; which, the slope of
    the noise over the mean says: it is that of the settings where only the baseline is wrong.
    """
    per_photon = adu_per_photon(camera)
    rounding = _QUANTIZATION_ADU2 / per_photon**2
    excess = camera.excess_noise / camera.quantum_efficiency
    dark = float(camera.mean_noise_variance(torch.tensor(0.0))) + rounding
    expected = max(dark + excess * transfer.background, 0.5 * dark + 1e-6)
    noise_ratio = transfer.background_variance / expected
    slope_ratio = transfer.slope / excess
    by_noise = (transfer.background_variance - dark) / excess  # the level that this noise belongs to, photons
    believable = NOISE_RANGE[0] <= noise_ratio <= NOISE_RANGE[1]
    told = (noise_ratio, slope_ratio, transfer.slope_error / excess)
    gain_wrong = not believable and _gain_is_wrong(*told)
    off_photons = 0.0 if believable or gain_wrong else by_noise - transfer.background
    photons_ratio = max(_times(*told), 1e-3) if gain_wrong else 1.0
    check = CameraCheck(noise_ratio, slope_ratio, photons_ratio, off_photons * per_photon, ())
    verdicts = (
        _baseline_verdict(check, camera, transfer.background, by_noise),
        _gain_verdict(check, camera, transfer),
    )
    return CameraCheck(noise_ratio, slope_ratio, photons_ratio, off_photons * per_photon, verdicts)


def _gain_is_wrong(noise_ratio: float, slope_ratio: float, slope_error: float) -> bool:
    """Whether the slope is off as well, beyond its error, to the same side."""
    if slope_ratio <= 0 or abs(slope_ratio - 1) < 2 * slope_error:
        return False
    off = math.log(slope_ratio)
    return off * math.log(noise_ratio) > 0 and abs(off) > math.log(1.4)


def _times(noise_ratio: float, slope_ratio: float, slope_error: float) -> float:
    """By how much a gain is wrong: as the dark pixels' noise and the slope say, by their errors, where they agree; else
    as the slope says, which a baseline that is wrong as well leaves alone."""
    error = max(slope_error / slope_ratio, _NOISE_ERROR)
    apart = math.log(noise_ratio / slope_ratio)
    if abs(apart) > 3 * math.hypot(error, _NOISE_ERROR):
        return slope_ratio
    return slope_ratio * math.exp(apart / (1 + (_NOISE_ERROR / error) ** 2))


def _baseline_verdict(check: CameraCheck, camera: Camera, level: float, by_noise: float) -> Verdict:
    baseline = float(camera.baseline_adu.mean())
    maps = camera.map_shape is not None
    above = f"dark pixels {number(level)} photons above " + (
        f"camera.calibration's {baseline:.4g} ADU" if maps else f"camera.baseline_adu={baseline:.4g}"
    )
    seen = f"{above}; their noise belongs to {number(by_noise)}"
    if check.baseline_off_adu == 0:
        return Verdict("baseline", seen, True)
    better = baseline - check.baseline_off_adu
    side = "high" if check.baseline_off_adu > 0 else "low"
    if camera.kind == "ideal":
        return Verdict("baseline", seen, False, f"{_NOT_PHOTONS}, with camera.baseline_adu={better:.4g}")
    if better < 0:
        advice = (
            "a background seems to have been subtracted from this movie, and its noise is that of "
            f"{number(by_noise)} photons: use the raw movie"
        )
        return Verdict("baseline", seen, False, advice)
    what, instead = ("camera.baseline_adu", f", or try camera.baseline_adu={better:.4g}")
    if maps:
        what, instead = ("the offset of camera.calibration", "")
    advice = (
        f"{what} seems {abs(check.baseline_off_adu):.3g} ADU too {side}: measure it on dark frames{instead}; if a "
        "background was subtracted from the movie, use the raw one"
    )
    return Verdict("baseline", seen, False, advice)


def _gain_verdict(check: CameraCheck, camera: Camera, transfer: PhotonTransfer) -> Verdict:
    error = transfer.slope_error / (camera.excess_noise / camera.quantum_efficiency)
    seen = (
        f"noise of dark pixels {check.noise_ratio:.2f} × the settings', growing with the mean "
        f"{check.slope_ratio:.2f} ± {error:.2f} × as they say"
    )
    if check.photons_ratio == 1.0:
        off = abs(math.log(max(check.slope_ratio, 1e-3)))
        fine = off < math.log(2) or abs(check.slope_ratio - 1) < 3 * error
        advice = (
            "the noise grows otherwise than the settings say: check camera.e_per_adu, camera.em_gain and kind"
        )
        return Verdict("noise against mean", seen, fine, "" if fine else advice)
    if camera.kind == "ideal":
        return Verdict("noise against mean", seen, False, _NOT_PHOTONS)
    times = check.photons_ratio
    words = f"{times:.2g} times too many" if times > 1 else f"{1 / times:.2g} times too few"
    gain = f"camera.e_per_adu={float(camera.e_per_adu.mean()) / times:.3g}"
    if camera.em_gain is not None:
        gain += f" or camera.em_gain={camera.em_gain * times:.3g}"
    elif 1.5 < times < 2.7:
        gain += ", or camera=emccd with its em_gain if it multiplies electrons (twice the noise)"
    return Verdict(
        "noise against mean", seen, False, f"the settings give about {words} photons: check {gain}"
    )


def widths_px(psf: PSF, z_range_nm: tuple[float, float]) -> tuple[float, float]:
    """Narrowest and widest √(σx σy) over the depths, pixels, of the Gaussian that is as peaked as the PSF
    (Σ h² = 1/(4π σx σy))."""
    z_nm_N = torch.linspace(*z_range_nm, 21)
    zero_N = torch.zeros_like(z_nm_N)
    width_N = as_peaked_px(psf.patches(zero_N, zero_N, z_nm_N).numpy())
    return float(width_N.min()), float(width_N.max())


def check_fit(survey: Survey, bundle: Bundle) -> tuple[Verdict, ...]:
    """Whether a network fits the movie, besides its camera (``check_camera``); the surest of a survey that was given
    the shape of the bundle's PSF, ``KnownShape.of(bundle.psf, bundle.simulation.z_range_nm)``."""
    simulation, priors = bundle.simulation, survey.priors
    low_b, high_b = simulation.background
    flux = simulation.flux
    spread = flux.range if flux.distribution == "uniform" else (flux.mean - flux.std, flux.mean + flux.std)
    density = _within(
        "density",
        survey.density_per_um2,
        (0.0, simulation.density_per_um2[1]),
        DENSITY_FACTOR,
        "emitters/µm²",
        "more crowded than what the network has seen: train with a higher simulation.density_per_um2",
    )
    return (
        _within(
            "background",
            sum(survey.background) / 2,
            (low_b, high_b),
            BACKGROUND_FACTOR,
            "photons per pixel",
            "train with this background (simulation.background)",
        ),
        _within(
            "photons",
            priors.flux_mean,
            spread,
            PHOTONS_FACTOR,
            "photons per frame while on",
            "check the camera's gain, or train with these photons (simulation.flux)",
        ),
        density,
        _psf_verdict(survey, bundle),
    )


def _psf_verdict(survey: Survey, bundle: Bundle) -> Verdict:
    width = survey.free.width_px
    narrow, wide = widths_px(bundle.psf, bundle.simulation.z_range_nm)
    seen = f"spots {width:.3g} px wide (σ); the checkpoint's are {_range(narrow, wide)}"
    as_wide = narrow / WIDTH_FACTOR <= width <= wide * WIDTH_FACTOR
    if survey.is_3d and not bundle.is_3d:
        advice = "the spots are elongated to both sides as those of a 3D PSF, and this network knows no depth"
    elif as_wide and survey.fits is not False:
        return Verdict("PSF", seen, True)
    elif as_wide:
        advice = "this PSF does not explain the pixels at any density, photons and depth: check it and the pixel size"
    else:
        nm = math.sqrt(bundle.pixel_size.x_nm * bundle.pixel_size.y_nm)
        advice = (
            f"check the pixel size (the checkpoint's is {nm:.4g} nm; this PSF would be as wide with "
            f"{nm * math.sqrt(narrow * wide) / max(width, 1e-3):.3g} nm) and the PSF"
        )
    return Verdict("PSF", seen, False, f"{advice}; calibrate and train for this microscope")


def _within(
    what: str, value: float, trained: tuple[float, float], factor: float, unit: str, advice: str
) -> Verdict:
    low, high = trained
    known = _range(low, high)
    fine = low / factor <= value <= high * factor
    return Verdict(
        what, f"{number(value)} {unit}; the checkpoint was trained for {known}", fine, "" if fine else advice
    )


def _range(low: float, high: float) -> str:
    if low == high:
        return number(low)
    return f"up to {number(high)}" if low == 0 else f"{number(low)} to {number(high)}"
