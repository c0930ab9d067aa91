"""What is simulated for a training, looked at before it begins, and against a real movie where there is one.

Shape suffixes: B samples, T frames of a sample, H rows, W columns, N emitters, P pixels picked from all frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.encoding import encode
from emitter.io.movies import Movie, open_movie
from emitter.plots.data_check import SimulatedData
from emitter.simulation.camera import MAX_ADU, Camera
from emitter.simulation.simulator import Domain, Sample, Simulator
from emitter.training.diagnosis import Advice

FIRST_INDEX = 1 << 40  # of the samples looked at: beyond those of any training
MIN_WEIGHTED_SHARE = 0.0005  # of foreground times its weight; at 0.0015 with weight 1 trainings are healthy
SATURATED_SHARE = 0.01
CONSTANT_SHARE = 0.01
MIN_PEAK_SNR = 1.0
_GOOD_PEAK_SNR = 3.0
MOVIE_FRAMES = 200
QUANTILES = (0.01, 0.5, 0.99, 0.999)
BACKGROUND_FACTOR = 2.0
BRIGHT_FACTOR = 3.0
_CENTRAL = (0.05, 0.95)  # the simulated samples that a movie is held against
_CHUNK = 8  # samples simulated at a time
_PIXELS = 20_000  # kept of a sample, and of a movie's frame
# usual weights of an emitter's cell by the share of such cells: from this share up, lowest and highest weight
_USUAL_WEIGHTS = ((0.15, 5, 10), (0.075, 10, 20), (0.025, 20, 30), (0.0, 50, 100))


@dataclass(frozen=True)
class DataReport:
    """What the simulated samples are like.

    ``foreground_share``: of the finest scale's cells that hold an emitter; ``region_share``: of those that train
    photons, x, y, z; ``lost_share``: of the emitters that share a cell with a brighter one. ``constant_share``: of the
    frames in which every pixel is the same (and not saturated), ``saturated_share``: of the pixels at the converter's
    end, ``n_non_finite``: NaN and Inf in frames and targets, ``n_not_binary``: cells of the detection target that are
    neither 0 nor 1. Quantiles are those of ``QUANTILES``.
    ``sample_background`` and ``sample_bright``: what the central 90 % of the samples show as median of their pixels
    and as 99.9 % quantile above it, photons.
    """

    n_samples: int
    foreground_share: float
    foreground_weight: float | None
    region_share: float
    lost_share: float
    emitters_mean: float
    emitters_min: int
    emitters_max: int
    empty_share: float
    photons_quantiles: tuple[float, ...]
    background_quantiles: tuple[float, ...]
    pixel_quantiles: tuple[float, ...]
    sample_background: tuple[float, float]
    sample_bright: tuple[float, float]
    peak_snr_median: float
    frame_min_adu: float
    frame_max_adu: float
    constant_share: float
    saturated_share: float
    n_non_finite: int
    n_not_binary: int
    data: SimulatedData
    warnings: tuple[Advice, ...] = ()

    def summary_lines(self) -> list[str]:
        """For the log; the warnings are not in it."""
        share = self.foreground_share
        every = f" (1 of {1 / share:.0f})" if share > 0 else ""
        return [
            f"foreground: {100 * share:.2g} % of the cells hold an emitter{every} {_weight_in_words(self)}; "
            f"{100 * self.region_share:.2g} % train photons, x, y, z; {100 * self.lost_share:.2g} % of the emitters "
            "share a cell with a brighter one",
            f"emitters per frame: {self.emitters_mean:.1f} ({self.emitters_min} to {self.emitters_max}), "
            f"{100 * self.empty_share:.0f} % of the frames empty",
            f"photons per emitter: {_listed(self.photons_quantiles)}; brightest pixel {self.peak_snr_median:.1f} times "
            "its noise in the median",
            f"background per pixel: {_listed(self.background_quantiles)}",
            f"photons per pixel: {_listed(self.pixel_quantiles)}",
            f"frames: {self.frame_min_adu:.0f} to {self.frame_max_adu:.0f} ADU, "
            f"{100 * self.saturated_share:.2g} % of the pixels saturated, {100 * self.constant_share:.2g} % of the "
            f"frames constant, {self.n_non_finite} numbers not finite",
        ]


@dataclass(frozen=True)
class MovieComparison:
    """Photons per pixel, simulated and in the movie, at ``QUANTILES``."""

    simulated: tuple[float, ...]
    movie: tuple[float, ...]
    warnings: tuple[Advice, ...]

    def summary_lines(self) -> list[str]:
        """For the log; the warnings are not in it."""
        return [
            f"photons per pixel, simulated: {_listed(self.simulated)}",
            f"photons per pixel, movie:     {_listed(self.movie)}",
        ]


@dataclass(frozen=True)
class _Tally:
    """One chunk of samples in numbers; those of many chunks are joined."""

    emitters_B: np.ndarray
    photons_N: np.ndarray
    peak_snr_N: np.ndarray
    background_P: np.ndarray
    pixels_P: np.ndarray
    medians_B: np.ndarray
    bright_B: np.ndarray
    constant_F: np.ndarray  # of every frame
    saturated_F: np.ndarray
    extremes_adu: np.ndarray  # lowest and highest pixel of every frame
    foreground_B: np.ndarray
    region_B: np.ndarray
    n_lost_1: np.ndarray
    n_non_finite_1: np.ndarray
    n_not_binary_1: np.ndarray


def check_data(
    simulator: Simulator,
    seed: int,
    foreground_weight: float | None,
    region_cells: int = 1,
    n_samples: int = 64,
    cell_px: float = 1.0,
) -> DataReport:
    """Simulate samples as the training does and look at them.

    Args:
        simulator: of the training; its device is used.
        seed: of the training; the samples have indices that no training reaches.
        foreground_weight: how much more an emitter's cell weighs than an empty one in the detection loss; None where
            there is no such weight.
        region_cells: 1 or 3, as in the loss.
        n_samples: how many.
        cell_px: side of the finest scale's cells.
    """
    tallies = []
    example = None
    for sample in _samples(simulator, seed, n_samples):
        tallies.append(_tally(simulator, sample, region_cells, cell_px))
        example = _fuller(example, sample)
    assert example is not None
    joined = {
        field.name: np.concatenate([getattr(tally, field.name) for tally in tallies])
        for field in fields(_Tally)
    }
    report = _report(_Tally(**joined), example, foreground_weight)
    cell_um2 = simulator.camera.pixel_size.area_um2 * cell_px**2
    return replace(report, warnings=(*_frame_warnings(report), *_foreground_warnings(report, cell_um2)))


def _samples(simulator: Simulator, seed: int, n_samples: int) -> Iterator[Sample]:
    device = simulator.camera.baseline_adu.device
    index = torch.arange(FIRST_INDEX, FIRST_INDEX + n_samples, device=device)
    with torch.no_grad():
        for index_B in index.split(_CHUNK):
            yield simulator.sample(seed, index_B, Domain.TRAINING)


_Example = tuple[np.ndarray, np.ndarray, np.ndarray]


def _fuller(example: _Example | None, sample: Sample) -> _Example:
    """The middle frame with most emitters, their x and their y."""
    emitters = sample.emitters
    fullest = int(torch.bincount(emitters.image_N, minlength=emitters.n_images).argmax())
    here = emitters.select(emitters.image_N == fullest)
    if example is not None and len(here) <= len(example[1]):
        return example
    middle = sample.counts_BTHW.shape[1] // 2
    return _array(sample.photons_BTHW[fullest, middle]), _array(here.x_px_N), _array(here.y_px_N)


def _tally(simulator: Simulator, sample: Sample, region_cells: int, cell_px: float) -> _Tally:
    emitters, counts_BTHW = sample.emitters, sample.counts_BTHW
    targets = encode(emitters, sample.background_IHW, Scaling(), cell_px, region_cells)
    target_p_BHW = targets.maps_B6HW[:, ch.P]
    frames_FP = counts_BTHW.flatten(0, 1).flatten(1)
    low_F, high_F = torch.aminmax(frames_FP, dim=1)
    photons_BP = _array(_picked(sample.photons_BTHW).flatten(1))
    not_finite = sum(int((~torch.isfinite(t)).sum()) for t in (counts_BTHW, targets.maps_B6HW))
    return _Tally(
        emitters_B=_array(torch.bincount(emitters.image_N, minlength=emitters.n_images)),
        photons_N=_array(emitters.photons_N),
        peak_snr_N=_array(_peak_snr(simulator, sample)),
        background_P=_array(_picked(sample.background_IHW)).ravel(),
        pixels_P=photons_BP.ravel(),
        medians_B=np.median(photons_BP, axis=1),
        bright_B=np.quantile(photons_BP, QUANTILES[-1], axis=1) - np.median(photons_BP, axis=1),
        constant_F=_array((low_F == high_F) & (high_F < MAX_ADU)),
        saturated_F=_array((frames_FP >= MAX_ADU).float().mean(dim=1)),
        extremes_adu=_array(torch.cat((low_F, high_F))),
        foreground_B=_array((target_p_BHW > 0).float().mean(dim=(1, 2))),
        region_B=_array(targets.region_B1HW.mean(dim=(1, 2, 3))),
        n_lost_1=np.array([targets.n_lost]),
        n_non_finite_1=np.array([not_finite]),
        n_not_binary_1=np.array([int(((target_p_BHW != 0) & (target_p_BHW != 1)).sum())]),
    )


def _peak_snr(simulator: Simulator, sample: Sample) -> Tensor:
    """An emitter's light in its brightest pixel, as if centred there, over its background's noise, (N,)."""
    emitters = sample.emitters
    assert emitters.background_N is not None
    centre_N = torch.zeros_like(emitters.photons_N)
    peak_N = simulator.psf.patches(centre_N, centre_N, emitters.z_nm_N).amax(dim=(1, 2))
    noise_N = simulator.camera.mean_noise_variance(emitters.background_N).clamp(min=1e-4).sqrt()
    return emitters.photons_N * peak_N / noise_N


def _picked(frames_HW: Tensor) -> Tensor:
    """Pixels of frames (…, H, W) on a grid, at most about ``_PIXELS`` of a frame."""
    height, width = frames_HW.shape[-2:]
    step = max(1, round((height * width / _PIXELS) ** 0.5))
    return frames_HW[..., ::step, ::step]


def _report(tally: _Tally, example: _Example, foreground_weight: float | None) -> DataReport:
    """The report, as yet without warnings."""
    n_emitters = int(tally.emitters_B.sum())
    frame_min_adu, frame_max_adu = _quantiles(tally.extremes_adu, (0.0, 1.0))
    return DataReport(
        n_samples=len(tally.emitters_B),
        foreground_share=float(tally.foreground_B.mean()),
        foreground_weight=foreground_weight,
        region_share=float(tally.region_B.mean()),
        lost_share=float(tally.n_lost_1.sum()) / max(n_emitters, 1),
        emitters_mean=float(tally.emitters_B.mean()),
        emitters_min=int(tally.emitters_B.min()),
        emitters_max=int(tally.emitters_B.max()),
        empty_share=float((tally.emitters_B == 0).mean()),
        photons_quantiles=_quantiles(tally.photons_N),
        background_quantiles=_quantiles(tally.background_P),
        pixel_quantiles=_quantiles(tally.pixels_P),
        sample_background=_central(tally.medians_B),
        sample_bright=_central(tally.bright_B),
        peak_snr_median=float(np.median(tally.peak_snr_N)) if n_emitters else float("nan"),
        frame_min_adu=frame_min_adu,
        frame_max_adu=frame_max_adu,
        constant_share=float(tally.constant_F.mean()),
        saturated_share=float(tally.saturated_F.mean()),
        n_non_finite=int(tally.n_non_finite_1.sum()),
        n_not_binary=int(tally.n_not_binary_1.sum()),
        data=SimulatedData(
            *example,
            photons_N=tally.photons_N,
            peak_snr_N=tally.peak_snr_N,
            emitters_B=tally.emitters_B,
            background_P=tally.background_P,
            pixels_P=tally.pixels_P,
        ),
    )


def _weight_in_words(report: DataReport) -> str:
    """What an emitter's cell weighs in the detection loss, and what it usually does at this share."""
    if report.foreground_weight is None:
        return "(this detection loss does not weigh cells one by one)"
    low, high = usual_foreground_weights(report.foreground_share)
    return (
        f"and weigh {report.foreground_weight:g} × an empty one in the detection loss (usual at this share: {low} to "
        f"{high}; 1 keeps the probability of bce calibrated)"
    )


def _frame_warnings(report: DataReport) -> Iterator[Advice]:
    if report.n_non_finite:
        yield Advice(
            "data_not_finite",
            f"{report.n_non_finite} numbers of the simulated frames and targets are NaN or infinite: check the PSF's "
            "file (psf.file), camera.calibration and simulation.flux",
        )
    if report.n_not_binary:
        yield Advice(
            "data_not_binary",
            f"{report.n_not_binary} cells of the detection target are neither 0 nor 1: detection would be trained on "
            "something else than emitters, check emitter/core/encoding.py",
        )
    if report.saturated_share > SATURATED_SHARE:
        yield Advice(
            "data_saturated",
            f"{100 * report.saturated_share:.1f} % of the simulated pixels are saturated at {MAX_ADU:.0f} ADU: check "
            "camera.baseline_adu, camera.e_per_adu, camera.em_gain and simulation.flux",
        )
    if report.constant_share > CONSTANT_SHARE:
        yield Advice(
            "data_constant",
            f"{100 * report.constant_share:.1f} % of the simulated frames are constant: nothing can be learnt from "
            "them, check camera.e_per_adu (electrons of one count) and simulation.background",
        )
    if report.peak_snr_median < MIN_PEAK_SNR:
        times = np.ceil(_GOOD_PEAK_SNR / max(report.peak_snr_median, 1e-4))
        yield Advice(
            "data_dim",
            f"the median emitter's brightest pixel is {report.peak_snr_median:.2g} times its background's noise: most "
            "emitters cannot be seen, raise simulation.flux.mean (flux.range for distribution=uniform) about "
            f"{times:.0f} times or lower simulation.background",
        )


def _foreground_warnings(report: DataReport, cell_um2: float) -> Iterator[Advice]:
    """Only of maps in which nearly every frame is empty: every emitter map is far below the 2 % that are usually asked
    for, and at 0.15 % to 1.4 % with weight 1 trainings are healthy, with calibrated probabilities."""
    share, weight = report.foreground_share, report.foreground_weight
    known = 1.0 if weight is None else weight
    if share * known >= MIN_WEIGHTED_SHARE:
        return
    holds = f"{100 * share:.2g} % of the cells hold an emitter"
    empty = (
        "nearly all that the network sees is empty, raise simulation.density_per_um2 to about "
        f"{MIN_WEIGHTED_SHARE / known / cell_um2:.2g}"
    )
    if weight is None:
        yield Advice("data_empty", f"{holds}: {empty}")
        return
    low, high = usual_foreground_weights(share)
    yield Advice(
        "data_empty",
        f"{holds} and weigh {weight:g} × an empty one: {empty} or with detection=bce give "
        "training.detection.pos_weight "
        f"(with weighted or combined training.detection.foreground_weight) {low} to {high}",
    )


def usual_foreground_weights(share: float) -> tuple[int, int]:
    """Lowest and highest weight usually given to foreground of this share (20 %: 5 to 10 … 1 %: 50 to 100)."""
    return next((low, high) for least, low, high in _USUAL_WEIGHTS if share >= least)


def movie_pixels(movie: str | Path | Movie, camera: Camera, n_frames: int = MOVIE_FRAMES) -> np.ndarray:
    """Photons in pixels on a grid, of up to ``n_frames`` frames spread over a movie, (P,). NaN and Inf are left out.

    Raises:
        EmitterError: when the movie cannot be read, or its frames do not fit the camera's maps.
    """
    opened = movie if isinstance(movie, Movie) else open_movie(movie)
    try:
        camera.check_frame(opened.height, opened.width)
        on_cpu = camera.to("cpu")
        places = np.unique(np.linspace(0, opened.n_frames - 1, n_frames).round().astype(int))
        photons = [
            _array(
                _picked(on_cpu.to_photons(torch.from_numpy(opened.read(k, k + 1).astype(np.float32))))
            ).ravel()
            for k in places.tolist()
        ]
    finally:
        if opened is not movie:
            opened.close()
    pixels_P = np.concatenate(photons)
    return pixels_P[np.isfinite(pixels_P)]


def compare_with_movie(report: DataReport, movie_pixels_P: np.ndarray) -> MovieComparison:
    """Photons per pixel, simulated against a movie's (``movie_pixels``).

    Priors are ranges, so the movie's background (its median) and bright tail (the 99.9 % quantile above the median)
    are held against what the central 90 % of the simulated samples show: twice (three times) outside is worth a word.
    """
    movie = _quantiles(movie_pixels_P)
    warnings = (*_background_warnings(report, movie[1]), *_bright_warnings(report, movie[-1] - movie[1]))
    return MovieComparison(report.pixel_quantiles, movie, warnings)


def _background_warnings(report: DataReport, median: float) -> Iterator[Advice]:
    low, high = report.sample_background
    if median < -1:
        yield Advice(
            "data_movie_baseline",
            f"the movie's median pixel is {median:.1f} photons, below zero: camera.baseline_adu is not this movie's, "
            "give the counts of its dark frames",
        )
    elif _outside(median, low, high, BACKGROUND_FACTOR):
        yield Advice(
            "data_movie_background",
            f"the movie's median pixel is {_short(median)} photons and the simulated samples' {_short(low)} to "
            f"{_short(high)}: give simulation.background=[{_short(median / 2, 2)},{_short(median * 2, 2)}], or the "
            "movie's camera.baseline_adu",
        )


def _bright_warnings(report: DataReport, bright: float) -> Iterator[Advice]:
    low, high = report.sample_bright
    if _outside(bright, low, high, BRIGHT_FACTOR):
        times = bright / (low if bright < low else high)
        yield Advice(
            "data_movie_brightness",
            f"the brightest pixels (99.9 %) are {_short(bright)} photons above the median in the movie and "
            f"{_short(low)} to {_short(high)} in the simulated samples: change simulation.flux.mean (flux.range for "
            f"distribution=uniform) about {_short(times, 2)} times, or check camera.e_per_adu and camera.em_gain",
        )


def _outside(value: float, low: float, high: float, factor: float) -> bool:
    """Whether a value lies more than ``factor`` times outside; below a photon nothing is told apart."""
    value, low, high = (max(v, 1.0) for v in (value, low, high))
    return not low / factor <= value <= high * factor


def _central(values: np.ndarray) -> tuple[float, float]:
    low, high = _quantiles(values, _CENTRAL)
    return low, high


def _quantiles(values: np.ndarray, at: tuple[float, ...] = QUANTILES) -> tuple[float, ...]:
    known = values[np.isfinite(values)]
    return tuple(np.quantile(known, at).tolist()) if known.size else (float("nan"),) * len(at)


def _listed(quantiles: tuple[float, ...]) -> str:
    named = (f"{_short(value)} ({100 * q:g} %)" for q, value in zip(QUANTILES, quantiles, strict=True))
    return ", ".join(named)


def _short(value: float, digits: int = 3) -> str:
    """Without an exponent: to be read, and to be given back as a setting."""
    return f"{float(f'{value:.{digits}g}'):.10g}"


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
