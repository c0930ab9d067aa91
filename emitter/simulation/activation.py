"""When, where and how brightly emitters are on.

Shape suffixes: B samples (one key each), M places for emitters per sample, N emitter-in-frame occurrences, all flat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from emitter.core.emitters import Emitters
from emitter.core.random import Stream
from emitter.simulation.settings import FluxSettings, SimulationSettings

_PURPOSE = 1


@dataclass(frozen=True)
class Window:
    """Where emitters are drawn: samples of ``n_frames`` frames of height × width pixels plus a margin around."""

    n_frames: int
    height: int
    width: int
    margin_px: float
    pixel_area_um2: float


def activate(settings: SimulationSettings, key_B: Tensor, window: Window) -> Emitters:
    """Every emitter in every frame that it is on in; image = sample · n_frames + frame.

    The number of emitters seen in a frame is Poisson with mean density · area. Onsets are a Poisson process in time
    and lifetimes exponential; the process has no memory, so the emitters that are already on at the first frame are
    as many as one lifetime's onsets and live on for an exponential time.
    """
    stream = Stream(key_B, _PURPOSE)
    low, high = (math.log(v) for v in settings.density_per_um2)
    density_B1 = stream.uniform(1, low, high).exp_()
    area_um2 = (
        (window.height + 2 * window.margin_px) * (window.width + 2 * window.margin_px) * window.pixel_area_um2
    )
    seen_B1 = density_B1 * area_um2
    lifetime = settings.lifetime_frames
    if lifetime is None:
        count_B1 = stream.poisson(seen_B1 * window.n_frames)
    else:
        # an onset is seen in 1 + lifetime frames on average
        count_B1 = stream.poisson(seen_B1 / (1 + lifetime) * (window.n_frames + lifetime))
    n_places = int(count_B1.max().item())
    x_px_BM, y_px_BM = _positions(stream, n_places, settings, window)
    z_nm_BM = stream.uniform(n_places, *settings.z_range_nm)
    flux_BM = _flux(stream, n_places, settings.flux)
    on_BM, off_BM = _on_times(stream, n_places, lifetime, window.n_frames)
    exists_BM = torch.arange(n_places, device=key_B.device) < count_B1
    sample_K = exists_BM.nonzero()[:, 0]
    emitter_N, frame_N, fraction_N = _per_frame(on_BM[exists_BM], off_BM[exists_BM], window.n_frames)
    photons_N = flux_BM[exists_BM][emitter_N] * fraction_N
    return Emitters(
        n_images=len(key_B) * window.n_frames,
        image_N=sample_K[emitter_N] * window.n_frames + frame_N,
        x_px_N=x_px_BM[exists_BM][emitter_N],
        y_px_N=y_px_BM[exists_BM][emitter_N],
        z_nm_N=z_nm_BM[exists_BM][emitter_N],
        photons_N=photons_N,
    )


def _positions(stream: Stream, n: int, settings: SimulationSettings, window: Window) -> tuple[Tensor, Tensor]:
    """x and y in pixels, over the field and its margin; on a few straight filaments in a share of the samples."""
    margin = window.margin_px
    x_BM = stream.uniform(n, -margin, window.width + margin)
    y_BM = stream.uniform(n, -margin, window.height + margin)
    if settings.filament_share == 0:
        return x_BM, y_BM
    n_filaments = 3
    through_x = stream.uniform(n_filaments, 0, window.width)
    through_y = stream.uniform(n_filaments, 0, window.height)
    angle = stream.uniform(n_filaments, 0, math.pi)
    which_BM = (stream.uniform(n) * n_filaments).long().clamp(max=n_filaments - 1)
    reach = math.hypot(window.width, window.height) / 2 + margin
    along_BM = stream.uniform(n, -reach, reach)
    across_BM = stream.normal(n) * 0.3  # a microtubule with its label is about 60 nm wide
    cos_BM, sin_BM = angle.cos().gather(1, which_BM), angle.sin().gather(1, which_BM)
    on_x_BM = through_x.gather(1, which_BM) + along_BM * cos_BM - across_BM * sin_BM
    on_y_BM = through_y.gather(1, which_BM) + along_BM * sin_BM + across_BM * cos_BM
    in_x = (on_x_BM > -margin) & (on_x_BM < window.width + margin)
    in_y = (on_y_BM > -margin) & (on_y_BM < window.height + margin)
    # those that fall outside stay uniform, so that the density is kept and isolated emitters occur as well
    use_BM = in_x & in_y & (stream.uniform(1) < settings.filament_share)
    return torch.where(use_BM, on_x_BM, x_BM), torch.where(use_BM, on_y_BM, y_BM)


def _flux(stream: Stream, n: int, settings: FluxSettings) -> Tensor:
    """Photons per frame while on, (B, n)."""
    if settings.distribution == "uniform":
        return stream.uniform(n, *settings.range)
    if settings.distribution == "lognormal":
        variance = math.log1p((settings.std / settings.mean) ** 2)
        return torch.exp(stream.normal(n) * math.sqrt(variance) + math.log(settings.mean) - variance / 2)
    # normal cut off at 0, by inversion
    cut = 0.5 * math.erfc(settings.mean / settings.std / math.sqrt(2))
    quantile = stream.uniform(n) * (1 - cut) + cut
    return settings.mean + settings.std * torch.special.ndtri(quantile)


def _on_times(stream: Stream, n: int, lifetime: float | None, n_frames: int) -> tuple[Tensor, Tensor]:
    """Begin and end of every emitter's on time, in frames from the sample's first."""
    if lifetime is None:
        begin = (stream.uniform(n) * n_frames).floor_().clamp_(max=n_frames - 1)
        return begin, begin + 1
    begin = stream.uniform(n, -lifetime, n_frames).clamp_(min=0)
    return begin, begin + stream.exponential(n) * lifetime


def _per_frame(on_K: Tensor, off_K: Tensor, n_frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """For every frame that an emitter is on in: which emitter, which frame, which fraction of the frame."""
    first_K = on_K.floor()
    last_K = (off_K.ceil() - 1).clamp(max=n_frames - 1)
    count_K = (last_K - first_K + 1).clamp(min=1).long()
    emitter_N = torch.arange(len(on_K), device=on_K.device).repeat_interleave(count_K)
    start_K = count_K.cumsum(0) - count_K
    frame_N = first_K[emitter_N] + torch.arange(len(emitter_N), device=on_K.device) - start_K[emitter_N]
    fraction_N = torch.minimum(off_K[emitter_N], frame_N + 1) - torch.maximum(on_K[emitter_N], frame_N)
    return emitter_N, frame_N.long(), fraction_N.clamp(min=0)
