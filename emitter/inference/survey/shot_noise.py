"""Density, photons, width and background from the distribution of smoothed pixels: emitters need not be told apart.

Emitters at random places make the value of a pixel a compound Poisson variable, whose characteristic function is known
exactly at every density ("shot noise"; Rice, Bell System Technical Journal 1944; in microscopy "photon counting
histograms", Chen et al., Biophysical Journal 1999):

    log φ(t) = i t b − t² v/2 + ∫ n(u) (exp(i t u − t² e u/2) − 1) du

with the background b, the noise's variance v there and the further variance e per photon of an emitter's own noise. A
spot counts by how many of its pixels have more than u (``emitter.inference.survey.spot_shape``). Frames smoothed by a
wide and a narrow kernel tell photons from width, and a spot from its halo.

Shape suffixes: V values, F frequencies, A photons of an emitter, S shares of its photons, G groups of values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.fft import irfft, next_fast_len
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares
from scipy.special import ndtri

from emitter.inference.survey.blinking import fractions
from emitter.inference.survey.spot_shape import SCALES_PX, FreeShape, KnownShape, at_shares

_MODEL_ERROR = 0.015  # of the model's own probabilities: real spots are not quite Gaussian
_FLUX_NODES = ndtri((np.arange(9) + 0.5) / 9)
_FLUX_NODES /= _FLUX_NODES.std()
_USUAL_CV = 0.4  # spread of the photons
_USUAL_HALO = 3.5  # its width over the spot's
FREE_SHAPES = (FreeShape(1.3, 0.3, 0.05), FreeShape(1.0, 1.5, 0.05), FreeShape(1.4, 4.0, 0.35, 3.5))
_FIRST_STEPS, _STEPS = 8, 60  # of the fit from every start, and from the best of them
_MIN_PART = 0.1  # of a known PSF's depths
_SURE_OF_FOCUS = 0.07  # standard deviation of the logarithm of the width in focus that spots alone show
# scale, lowest and highest of what is fitted: background and its noise, density, photons and their spread;
_COMMON = ((0.2, -30, 30), (0.2, -2, 2), (0.3, -8, 5), (0.3, -4, 4), (0.3, -2.2, 1.0))
_FREE = (
    (0.2, -1.2, 1.2),
    (0.3, -4, 4),
    (0.1, -0.4, 0.85),
    (0.2, -0.7, 0.7),
)  # and of a shape its four numbers,
_KNOWN = ((0.1, -0.7, 0.7), (0.1, -0.7, 0.7))  # or the depths of a known one


@dataclass(frozen=True)
class Priors:
    """What the distribution of the pixels says.

    ``density_px``: emitters seen per frame and pixel; ``flux_mean``, ``flux_std``: photons per frame while on;
    ``background``: photons per pixel; ``noise_variance``: of a pixel of the background, photons²; ``shape``: of the
    spots; ``misfit``: how badly all of it describes the pixels.
    """

    density_px: float
    flux_mean: float
    flux_std: float
    background: float
    noise_variance: float
    shape: FreeShape | KnownShape
    misfit: float = 0.0

    @property
    def width_px(self) -> float:
        """Of the spots, σ of a Gaussian: mean over the depths that are seen."""
        return self.shape.width_px


@dataclass(frozen=True)
class Histogram:
    """Values of the frames smoothed by one kernel, in groups, and the tables that make its model cheap."""

    scale_px: float
    kernel_power: float  # Σ k²: what smoothing leaves of a pixel's variance
    skew: float  # third cumulant of the noise over a pixel's variance
    start: float
    step: float
    size: int
    group_of_bin: np.ndarray
    counts_G: np.ndarray
    t_F: np.ndarray
    u_V: np.ndarray
    edges_V: np.ndarray
    table_FV: np.ndarray

    @classmethod
    def of(
        cls, frames_THW: np.ndarray, scale_px: float, excess: float, amplified: bool, noise_variance: float
    ) -> Histogram:
        """Args as of ``fit_priors``."""
        smooth = smoothed(frames_THW, scale_px)
        power = kernel_power(scale_px)
        # shot noise has the third cumulant e · v, one with an EMCCD's gain (Gamma distributed) 1.5 e · v
        skew = kernel_power(scale_px, 3) * excess * (1.5 if amplified else 1.0)
        low, middle, top = np.quantile(smooth, (0.001, 0.16, 0.9999))
        sd = min(np.sqrt(noise_variance * power), max(np.quantile(smooth, 0.3) - low, 1e-3) / 2.5)
        step = max(sd / 2, (top - low) / 3000)
        start = low - 4 * sd
        used = int((smooth.max() - start) / step) + 2
        used = min(used, int((1.5 * top - start - 0.5 * middle) / step) + 2)
        size = next_fast_len(int(1.3 * used) + 16, real=True)
        bins = np.clip(((smooth - start) / step).astype(int), 0, used - 1).ravel()
        counts = np.bincount(bins, minlength=size).astype(float)
        group = np.minimum((np.cumsum(counts) - counts / 2) / counts.sum() * 40, 39).astype(int)
        group = _split_tail(counts, group)
        t_F = 2 * np.pi * np.arange(size // 2 + 1) / (size * step)
        edges_V = np.geomspace(step / 10, max(2 * (top - low), step), 161)
        u_V = np.sqrt(edges_V[1:] * edges_V[:-1])
        exponent = (1j * t_F - t_F**2 * excess * power / 2)[:, None] * u_V
        return cls(
            scale_px,
            power,
            skew,
            start,
            step,
            size,
            group,
            np.bincount(group, counts),
            t_F,
            u_V,
            edges_V,
            np.expm1(exponent),
        )

    def model(self, priors: Priors, lifetime_frames: float | None) -> np.ndarray:
        """Expected counts of the groups, (G,)."""
        levy_V = -np.diff(self._pixels_above(priors, lifetime_frames))
        # einsum and not @: a product this small is slower, not faster, on several threads
        log_phi = np.einsum("fv,v->f", self.table_FV, levy_V)
        log_phi += 1j * self.t_F * (priors.background - self.start - self.step / 2)
        log_phi -= self.t_F**2 * priors.noise_variance * self.kernel_power / 2
        log_phi -= 1j * self.t_F**3 * priors.noise_variance * self.skew / 6
        bin_F = np.sinc(self.t_F * self.step / (2 * np.pi))
        density = irfft(np.conj(np.exp(log_phi)) * bin_F, self.size)
        return np.bincount(self.group_of_bin, np.maximum(density, 0)) * self.counts_G.sum()

    def _pixels_above(self, priors: Priors, lifetime_frames: float | None) -> np.ndarray:
        """Spots per pixel that give more than each edge, (V + 1,)."""
        photons_A, share_A = _photons(priors.flux_mean, priors.flux_std, lifetime_frames)
        pixels_S = priors.shape.pixels_above(self.scale_px)
        pixels_AV = at_shares(pixels_S, np.log(self.edges_V) - np.log(photons_A)[:, None])
        return priors.density_px * (share_A @ pixels_AV)

    def levels(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean value of the groups and how wide they are, photons, (G,) each."""
        centre = self.start + self.step * (np.arange(self.size) + 0.5)
        bins_G = np.bincount(self.group_of_bin)
        return np.bincount(self.group_of_bin, centre) / bins_G, bins_G * self.step

    def residuals(self, priors: Priors, lifetime_frames: float | None) -> np.ndarray:
        """Differences of the square roots of the counts in standard deviations, (G,)."""
        # smoothed pixels are not independent: so many count as one
        independent = self.kernel_power
        observed, expected = self.counts_G * independent, self.model(priors, lifetime_frames) * independent
        return (np.sqrt(observed) - np.sqrt(expected)) * 2 / np.sqrt(1 + _MODEL_ERROR**2 * observed)


def _split_tail(counts: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Groups of 1/40 of the pixels, the brightest again in groups of half of what is left."""
    above = counts[::-1].cumsum()[::-1] / counts.sum()
    tail = np.clip(np.floor(2 * -np.log2(np.maximum(above, 1e-5) / 0.05)), 0, None).astype(int)
    _, merged = np.unique(group + tail * 1000, return_inverse=True)
    return np.asarray(merged)


def _photons(mean: float, std: float, lifetime_frames: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Photons of an emitter in a frame and their shares; a Gamma distribution by Wilson and Hilferty's formula."""
    cv = std / mean
    flux = mean * np.maximum(1 - cv**2 / 9 + _FLUX_NODES * cv / 3, 0.1) ** 3
    flux *= mean / flux.mean()
    fraction, share = fractions(lifetime_frames)
    return np.outer(flux, fraction).ravel(), np.outer(np.full(len(flux), 1 / len(flux)), share).ravel()


def smoothed(frames_THW: np.ndarray, scale_px: float) -> np.ndarray:
    """Frames under a Gaussian kernel, without their edges where the frames are large enough."""
    smooth = gaussian_filter(frames_THW, (0, scale_px, scale_px), mode="reflect", truncate=3.0)
    edge = min(round(2 * scale_px), min(frames_THW.shape[1:]) // 4)
    return np.asarray(smooth[:, edge:-edge, edge:-edge] if edge else smooth)


def kernel_power(scale_px: float, power: int = 2) -> float:
    """Σ k² of the kernel, or another power's sum."""
    spike = np.zeros((33, 33))
    spike[16, 16] = 1
    return float((gaussian_filter(spike, scale_px, truncate=3.0) ** power).sum())


def fit_priors(
    frames_THW: np.ndarray,
    excess: float,
    amplified: bool,
    noise_variance: float,
    lifetime_frames: float | None,
    shapes: Sequence[FreeShape | KnownShape] = FREE_SHAPES,
    focus_px: float | None = None,
) -> Priors:
    """Density, photons, background, and the spots' shape where it is not known, of frames in photons.

    Args:
        frames_THW: photons, of a flat background.
        excess: variance per photon of the camera's noise (2/QE for an EMCCD).
        noise_variance: of a pixel of the background, photons², to begin with.
        lifetime_frames: mean on-time; None: every emitter is on for whole frames.
        shapes: to begin with, all free or all known.
        focus_px: width of the narrowest spots that stand alone, which a free shape's core leans on.
    """
    histograms = [Histogram.of(frames_THW, scale, excess, amplified, noise_variance) for scale in SCALES_PX]
    scale, lowest, highest = zip(
        *_COMMON, *(_FREE if isinstance(shapes[0], FreeShape) else _KNOWN), strict=True
    )

    def fitted(start: Priors, from_x: np.ndarray, steps: int) -> tuple[float, Priors, np.ndarray]:
        fit = least_squares(
            _misfits,
            from_x,
            x_scale=scale,
            args=(start, histograms, lifetime_frames, focus_px),
            bounds=(lowest, highest),
            max_nfev=steps,
        )
        return fit.cost, start, fit.x

    starts = [_first_guess(frames_THW, noise_variance, shape, lifetime_frames) for shape in shapes]
    tried = [fitted(start, np.zeros(len(scale)), _FIRST_STEPS) for start in starts]
    cost, start, x = fitted(*min(tried, key=lambda one: one[0])[1:], _STEPS)
    return _moved(start, x, cost)


def _misfits(
    x: np.ndarray,
    start: Priors,
    histograms: list[Histogram],
    lifetime_frames: float | None,
    focus_px: float | None,
) -> np.ndarray:
    priors = _moved(start, x)
    parts = [histogram.residuals(priors, lifetime_frames) for histogram in histograms]
    # what emitters usually are, of the weight of a few groups; their photons' spread is held the firmest, for depths of
    # which nothing is known make spots as unlike as it does
    usual = [x[4] / 0.15, x[1] / 0.1]
    if isinstance(priors.shape, FreeShape):
        shape = priors.shape
        usual += [shape.defocus / 5, shape.halo_share / 0.3, np.log(shape.halo_times / _USUAL_HALO) / 0.3]
        if focus_px is not None:
            usual.append(np.log(shape.focus_px / focus_px) / _SURE_OF_FOCUS)
    else:
        usual += [priors.shape.low / 0.2, (1 - priors.shape.high) / 0.2]
    return np.concatenate((*parts, np.array(usual)))


def _moved(start: Priors, x: np.ndarray, misfit: float = 0.0) -> Priors:
    flux_mean = start.flux_mean * np.exp(x[3])
    shape: FreeShape | KnownShape = start.shape
    if isinstance(shape, FreeShape):
        shape = FreeShape(
            float(shape.sigma_px * np.exp(x[5])),
            float(max(shape.defocus + x[6], 0.0)),
            float(np.clip(shape.halo_share + x[7], 0, 0.9)),
            float(shape.halo_times * np.exp(x[8])),
        )
    else:
        low = float(np.clip(shape.low + x[5], 0, 1 - _MIN_PART))
        shape = replace(shape, low=low, high=float(np.clip(shape.high + x[6], low + _MIN_PART, 1)))
    return Priors(
        density_px=float(start.density_px * np.exp(x[2])),
        flux_mean=float(flux_mean),
        flux_std=float(_USUAL_CV * flux_mean * np.exp(x[4])),
        background=float(start.background + x[0] * np.sqrt(start.noise_variance)),
        noise_variance=float(start.noise_variance * np.exp(x[1])),
        shape=shape,
        misfit=float(misfit),
    )


def _first_guess(
    frames_THW: np.ndarray,
    noise_variance: float,
    shape: FreeShape | KnownShape,
    lifetime_frames: float | None,
) -> Priors:
    """From mean, variance and a low quantile of the smoothed frames."""
    scale_px = SCALES_PX[0]
    smooth = smoothed(frames_THW, scale_px)
    noise = noise_variance * kernel_power(scale_px)
    background = float(np.quantile(smooth, 0.05)) + 1.0 * np.sqrt(noise)
    light = max(float(smooth.mean()) - background, 1e-3)
    variance = max(float(smooth.var()) - noise, 1e-3 * noise)
    fraction, share = fractions(lifetime_frames)
    one, two = float((fraction * share).sum()), float((fraction**2 * share).sum())
    area = 4 * np.pi * (shape.width_px**2 + scale_px**2)
    flux = variance * area / light * one / two / (1 + _USUAL_CV**2)
    return Priors(light / (flux * one), flux, _USUAL_CV * flux, background, noise_variance, shape)
