"""What a survey says of the priors to train with, in words."""

from __future__ import annotations

import math

import numpy as np

from emitter.inference.survey.shot_noise import kernel_power
from emitter.inference.survey.spot_shape import PIXEL_VARIANCE, SCALES_PX, at_shares
from emitter.inference.survey.suggestions import number, training_density
from emitter.inference.survey.survey import Survey
from emitter.inference.survey.verdicts import Verdict

_BAD_MISFIT = 400.0  # of the pixels' distribution; movies of the simulation stay below 200
_NO_EMITTERS = "next to no emitters: nothing can be said of density, photons and width"
_MIN_DENSITY_PX = 2e-5  # below it, next to nothing was seen
_TOO_MANY_SPOTS = 2.5  # for an emitter; those of a 3D PSF out of focus have up to 1.6 maxima
_MIN_DARK = 0.05  # share of the pixels; above it backgrounds came out within 15 %, below it up to a third off
_MIN_SNR = 3.0  # of an emitter of the mean photons; noise alone is taken for emitters below it
_NO_SPOTS_OF_EMITTERS = (
    "not to be believed: more spots stand out than there would be emitters, or these are wider than spots (a PSF whose "
    "spots fall in pieces, an uneven background): give the PSF"
)
_ROUGH = (
    "the pixels are not distributed as those of such emitters are (filaments, an uneven background, another PSF): take "
    "these numbers as rough"
)


def prior_verdicts(found: Survey, off_photons: float) -> tuple[Verdict, ...]:
    """Background, density, photons and lifetime.

    Args:
        found: what the movie shows.
        off_photons: photons that a wrong baseline takes off the background.
    """
    priors = found.priors
    low, high = (level + off_photons for level in found.background)
    low_density, high_density = training_density(found.density_per_um2)
    seen = shows_emitters(found)
    density = f"not to be told ({found.spots_per_um2:.2g} spots/µm² stand out)"
    photons = "not to be told"
    if seen:
        photons = f"{number(priors.flux_mean)} ± {number(priors.flux_std, 2)} per frame while on"
        density = (
            f"{found.density_per_um2:.3g} emitters/µm² a frame, those on for a part of it included "
            f"({found.spots_per_um2:.2g} spots/µm² stand out); train on {low_density:.2g} to {high_density:.2g}, since "
            "crowded frames teach more"
        )
    dark = _dark_share(found)
    believable = not seen or _are_spots(found)
    doubt = _NO_SPOTS_OF_EMITTERS if seen else _NO_EMITTERS
    return (
        Verdict(
            "background",
            f"{low:.3g} to {high:.3g} photons per pixel",
            high > 0 and dark > _MIN_DARK,
            f"the light of emitters is on all but {100 * dark:.1g} % of the pixels: take it as rough"
            if high > 0
            else "no light above the baseline",
        ),
        Verdict(
            "density",
            density,
            seen and believable,
            doubt,
        ),
        Verdict(
            "photons",
            photons,
            seen and priors.misfit < _BAD_MISFIT and believable,
            _ROUGH if seen and believable else doubt,
        ),
        _lifetime(found),
    )


def shows_emitters(found: Survey) -> bool:
    """Whether there are enough, and bright enough, to say anything of them."""
    return found.priors.density_px >= _MIN_DENSITY_PX and _signal_to_noise(found) >= _MIN_SNR


def psf_verdict(found: Survey) -> Verdict:
    """How wide the spots are, whether they are round, and whether the PSF that was given explains them."""
    seen = f"{found.priors.width_px:.3g} px wide (σ)"
    if found.too_wide:
        return Verdict(
            "PSF",
            seen,
            False,
            "wider than a spot, no PSF is suggested: give it, here as to train.py (calibrate.py)",
        )
    if found.fits is False:
        advice = (
            "the PSF that was given does not explain the pixels at any density, photons and depth, and the figures are "
            "without it: another PSF, pixel size or camera"
        )
        return Verdict("PSF", seen, False, advice)
    if found.fits:
        return Verdict("PSF", f"{seen} in the mean: the one that was given explains the pixels", True)
    if found.is_3d or found.has_halo:
        what = "elongated to both sides: a 3D PSF" if found.is_3d else "with a halo: no Gaussian"
        advice = "calibrate it on beads (calibrate.py) and give psf=spline psf.file=FILE, here as to train.py"
        rough = ": without it density and photons may come out a fifth off" if found.has_halo else ""
        return Verdict("PSF", f"{seen} in the mean, {what}; {advice}{rough}", True)
    if found.spots.elongation is None:
        advice = "no PSF is suggested: give psf and simulation.z_range_nm yourself"
        return Verdict("PSF", f"{seen}; too few spots stand alone to tell whether it is round", False, advice)
    return Verdict("PSF", f"{seen}, round", True)


def _are_spots(found: Survey) -> bool:
    """Whether what explains the pixels can be emitters: as wide as spots are, and about as many as stand out."""
    many = found.spots_per_um2 > _TOO_MANY_SPOTS * found.density_per_um2
    return not found.too_wide and not many


def _dark_share(found: Survey) -> float:
    """Of the smoothed pixels, those that no emitter gives more light than the noise's standard deviation."""
    priors, scale_px = found.priors, SCALES_PX[0]
    noise = math.sqrt(max(priors.noise_variance, 1e-12) * kernel_power(scale_px))
    lit = float(at_shares(priors.shape.pixels_above(scale_px), np.log(noise / priors.flux_mean)))
    return math.exp(-lit * priors.density_px)


def _signal_to_noise(found: Survey) -> float:
    """Of a Gaussian spot of the mean photons under its matched filter: N / √(4π σ² · a pixel's variance)."""
    priors = found.priors
    noise = 4 * math.pi * (priors.width_px**2 + PIXEL_VARIANCE) * priors.noise_variance
    return priors.flux_mean / math.sqrt(max(noise, 1e-12))


def _lifetime(found: Survey) -> Verdict:
    lifetime = found.lifetime_frames
    if found.run_frames < 2:
        seen = "cannot be told: no consecutive frames"
        return Verdict("lifetime", seen, False, "give simulation.lifetime_frames yourself")
    if lifetime is None:
        seen = "none: frames are independent, or emitters are on for much less than a frame"
        return Verdict("lifetime", seen, True)
    if lifetime > found.run_frames:
        advice = "longer than the runs of frames that were read: take it as rough"
        return Verdict("lifetime", f"about {lifetime:.2g} frames", False, advice)
    return Verdict("lifetime", f"{lifetime:.2g} frames", True)
