"""Everything that is read off a movie's frames, in one go.

Shape suffixes: T frames, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from emitter.inference.survey.background import background_map, background_range
from emitter.inference.survey.blinking import covariances, lifetime_of
from emitter.inference.survey.camera_noise import PhotonTransfer, photon_transfer
from emitter.inference.survey.frames import Sampled
from emitter.inference.survey.shot_noise import FREE_SHAPES, Priors, fit_priors, kernel_power, smoothed
from emitter.inference.survey.spot_shape import SCALES_PX, FreeShape, KnownShape
from emitter.inference.survey.spots import Spots, find_spots
from emitter.simulation.camera import Camera

_SCALE_PX = 1.0
MIN_NOISE_VARIANCE = 1e-3
# misfit of a PSF against that of a free shape, from which it is not the movie's; the second for each frame that an
# emitter is on, over which the pixels are not independent
_WORSE, _A_LITTLE = 2.0, 5.0
ELONGATED = 0.15  # spread of ln(σx/σy) from which a PSF is astigmatic
HALO = 0.2  # share of the photons; Gaussian spots come out below 0.05, the challenge's PSF from 0.4 on
OVERLAPPED = 0.6  # and how much more where spots cover the whole frame: two in one are elongated as well


@dataclass(frozen=True)
class Survey:
    """What a movie shows.

    ``priors``: with the PSF that was given where it ``fits``, else with spots of a free shape, which are ``free``;
    ``density_per_um2``: emitters seen per frame and µm², of which many are on for a part of the frame only;
    ``spots_per_um2``: maxima that stand out, fewer than the emitters where these are dim or overlap;
    ``lifetime_frames``: None where none can be told, ``run_frames``: consecutive frames that there
    were to tell it from; ``background``: lowest and highest photons per pixel.
    """

    priors: Priors
    transfer: PhotonTransfer
    spots: Spots = field(repr=False)
    density_per_um2: float
    spots_per_um2: float
    lifetime_frames: float | None
    run_frames: int
    background: tuple[float, float]
    n_frames: int
    free: Priors
    fits: bool | None = None  # the PSF that was given; None: there was none

    @property
    def is_3d(self) -> bool:
        """Whether the spots are elongated to both sides."""
        covered = 2 * np.pi * self.free.width_px**2 * self.free.density_px
        return self.spots.is_elongated(ELONGATED + OVERLAPPED * covered)

    @property
    def too_wide(self) -> bool:
        """Whether what was fitted without a PSF is wider than the widest kernel tells from an uneven background."""
        return not self.fits and self.free.width_px > SCALES_PX[-1]

    @property
    def has_halo(self) -> bool:
        """Whether the spots are wider at their feet than any Gaussian, as those of most real 3D PSFs."""
        return isinstance(self.free.shape, FreeShape) and self.free.shape.halo_share > HALO


def survey(sampled: Sampled, camera: Camera, known: KnownShape | None = None) -> Survey:
    """Look at a movie's frames.

    Args:
        sampled: frames in photons and their runs.
        camera: whose settings turned the counts into photons.
        known: what one emitter looks like, where a PSF is known.
    """
    frames, runs = sampled.photons_THW, sampled.runs
    transfer = photon_transfer(frames, runs)
    map_HW = background_map(frames, runs)
    flat_THW = frames - map_HW
    excess = camera.excess_noise / camera.quantum_efficiency
    camera_noise = (excess, camera.em_gain is not None)
    noise = max(transfer.background_variance, MIN_NOISE_VARIANCE)
    level = float(np.quantile(smoothed(flat_THW, _SCALE_PX), 0.1)) + np.sqrt(noise * kernel_power(_SCALE_PX))
    covariance_K = covariances(smoothed(flat_THW, _SCALE_PX), runs)
    # noise of the darkest pixels, without that of the light in them
    noise = max(noise - excess * max(transfer.background - level, 0.0), 0.3 * noise)
    lifetime: float | None = None
    shapes: Sequence[FreeShape | KnownShape] = FREE_SHAPES
    for _ in range(2):  # background and lifetime lean on each other
        light = max(float(flat_THW.mean()) - level, 0.0)
        lifetime = lifetime_of(covariance_K, (noise + excess * light) * kernel_power(_SCALE_PX))
        focus = find_spots(flat_THW, level, noise, excess).focus_px
        priors = fit_priors(flat_THW, *camera_noise, noise, lifetime, shapes, focus)
        shapes = (priors.shape,)
        if abs(priors.background - level) < 0.1 * np.sqrt(noise):
            break
        level = priors.background
    free, fits = priors, None
    if known is not None:
        with_known = fit_priors(flat_THW, *camera_noise, noise, lifetime, known.parts())
        fits = with_known.misfit < _WORSE * free.misfit + _A_LITTLE * (1 + (lifetime or 0.0))
        priors = with_known if fits else free
    spots = find_spots(flat_THW, priors.background, priors.noise_variance, excess)
    return Survey(
        priors=priors,
        transfer=transfer,
        spots=spots,
        density_per_um2=priors.density_px / camera.pixel_size.area_um2,
        spots_per_um2=len(spots.frame_N) / (frames.size * camera.pixel_size.area_um2),
        lifetime_frames=lifetime,
        run_frames=max(run.stop - run.start for run in runs),
        background=background_range(priors.background, map_HW, frames, runs),
        n_frames=len(frames),
        free=free,
        fits=fits,
    )
