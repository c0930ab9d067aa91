"""Simulated camera frames with their truth, every sample a pure function of (seed, index).

Shape suffixes: B samples, T frames of a sample, I images (predicted frames), H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor

from emitter.core.emitters import Emitters
from emitter.core.errors import require
from emitter.core.random import Stream, keys
from emitter.psf.base import PSF
from emitter.psf.render import render
from emitter.simulation.activation import Window, activate
from emitter.simulation.background import draw_background
from emitter.simulation.camera import Camera
from emitter.simulation.settings import SimulationSettings

_NOISE, _PLACE = 3, 4  # purposes of random streams


class Domain(IntEnum):
    """What samples are drawn for: the same seed and index give unrelated samples in different domains."""

    TRAINING = 0
    VALIDATION = 1
    HELD_OUT = 2
    MOVIE = 3
    UNCERTAINTY = 4


@dataclass(frozen=True)
class Sample:
    """A batch of simulated frames: counts in ADU, and the truth of the predicted frames (emitters inside the frame).

    Of ``counts_BTHW`` all frames are predicted but for those at both ends, which are only neighbours: usually one, the
    middle one, else P consecutive ones. The truth's images are the predicted frames, those of all samples at one time
    before those of the next: image = frame · B + sample, I = P · B in all.
    """

    counts_BTHW: Tensor
    camera: Camera
    emitters: Emitters
    background_IHW: Tensor

    @property
    def photons_BTHW(self) -> Tensor:
        """What a network sees: the counts converted to photons."""
        return self.camera.to_photons(self.counts_BTHW)

    @property
    def n_predicted(self) -> int:
        """Predicted frames of every sample."""
        return self.emitters.n_images // len(self.counts_BTHW)

    @property
    def predicted_photons_IHW(self) -> Tensor:
        """The predicted frames in photons."""
        first = (self.counts_BTHW.shape[1] - self.n_predicted) // 2
        return self.photons_BTHW[:, first : first + self.n_predicted].transpose(0, 1).flatten(0, 1)

    @property
    def image_camera(self) -> Camera:
        """The camera as the images see it."""
        return self.camera.repeated(self.n_predicted)

    def to(self, device: torch.device | str) -> Sample:
        """The same batch on another device."""
        return Sample(
            self.counts_BTHW.to(device),
            self.camera.to(device),
            self.emitters.to(device),
            self.background_IHW.to(device),
        )

    def pin_memory(self) -> Sample:
        """The same batch in memory from which a GPU copies fast."""
        return Sample(
            self.counts_BTHW.pin_memory(),
            self.camera.pin_memory(),
            self.emitters.pin_memory(),
            self.background_IHW.pin_memory(),
        )


class Simulator:
    """Simulates samples of ``settings.n_frames`` consecutive frames as a microscope with this PSF and camera sees them.

    Raises:
        SettingsError: when the z range is not within the PSF's.
    """

    def __init__(self, settings: SimulationSettings, psf: PSF, camera: Camera) -> None:
        low, high = psf.z_range_nm
        require(
            low < high or settings.z_range_nm == (low, high),
            f"simulation.z_range_nm is {list(settings.z_range_nm)} and this PSF is 2D: "
            f"give simulation.z_range_nm=[{low:g},{high:g}]",
        )
        require(
            low <= settings.z_range_nm[0] and settings.z_range_nm[1] <= high,
            f"simulation.z_range_nm is {list(settings.z_range_nm)} and the PSF is known from {low:g} to {high:g} nm: "
            "narrow the range or calibrate a PSF over a longer stack",
        )
        self.settings = settings
        self.psf = psf
        self.camera = camera

    def to(self, device: torch.device | str) -> Simulator:
        """The same simulator on another device."""
        return Simulator(self.settings, self.psf.to(device), self.camera.to(device))

    def _window(self, n_frames: int) -> Window:
        height, width = self.settings.frame_size_px
        margin = min(float(self.psf.radius_px), 4.0)  # emitters farther out send next to nothing in
        return Window(n_frames, height, width, margin, self.camera.pixel_size.area_um2)

    def sample(
        self, seed: int, index_B: Tensor, domain: Domain = Domain.TRAINING, n_predicted: int = 1
    ) -> Sample:
        """The samples of these indices, (B,), on the device of ``index_B``, each of a short movie of which
        ``n_predicted`` consecutive frames have their neighbours on both sides."""
        key_B = keys(seed, index_B, domain)
        height, width = self.settings.frame_size_px
        n_frames = self.settings.n_frames + n_predicted - 1
        occurrences = activate(self.settings, key_B, self._window(n_frames))
        background_BHW = draw_background(self.settings, key_B, height, width)
        signal = render(self.psf, occurrences, height, width).view(-1, n_frames, height, width)
        camera = self._place(key_B)
        counts_BTHW = camera.sample(signal + background_BHW[:, None], Stream(key_B, _NOISE))
        truth = _of_predicted(occurrences, n_frames, n_predicted).inside(height, width)
        background_IHW = background_BHW.repeat(n_predicted, 1, 1)
        background_N = background_IHW[truth.image_N, truth.y_px_N.long(), truth.x_px_N.long()]
        return Sample(counts_BTHW, camera, replace(truth, background_N=background_N), background_IHW)

    def _place(self, key_B: Tensor) -> Camera:
        """The camera, or where its pixels differ, a random window of its chip for every sample."""
        if self.camera.map_shape is None:
            return self.camera
        height, width = self.settings.frame_size_px
        rows, columns = self.camera.map_shape
        require(
            rows >= height and columns >= width,
            f"the camera's maps are {rows}×{columns} pixels and simulation.frame_size_px is {height}×{width}: "
            "simulate frames that fit into the maps",
        )
        place_B2 = Stream(key_B, _PLACE).uniform(2)
        top_B = (place_B2[:, 0] * (rows - height + 1)).long().clamp(max=rows - height)
        left_B = (place_B2[:, 1] * (columns - width + 1)).long().clamp(max=columns - width)
        return self.camera.windows(top_B, left_B, height, width)

    def movie(self, seed: int, n_frames: int, chunk_frames: int = 64) -> Iterator[tuple[Tensor, Emitters]]:
        """One long sample, chunk by chunk: counts (n, H, W) and the emitters inside (image = frame of the movie)."""
        key_1 = keys(seed, torch.zeros(1, dtype=torch.long), Domain.MOVIE)
        height, width = self.settings.frame_size_px
        occurrences = activate(self.settings, key_1, self._window(n_frames))
        order = torch.argsort(occurrences.image_N, stable=True)
        occurrences = occurrences.select(order)
        background_HW = draw_background(self.settings, key_1, height, width)[0]
        camera = self._place(key_1)
        for start in range(0, n_frames, chunk_frames):
            frame_n = torch.arange(start, min(start + chunk_frames, n_frames))
            begin, end = torch.searchsorted(
                occurrences.image_N, torch.tensor([start, start + len(frame_n)])
            ).tolist()
            here = occurrences.select(torch.arange(begin, end))
            local = replace(here, n_images=len(frame_n), image_N=here.image_N - start)
            signal = render(self.psf, local, height, width)
            expected_n1HW = (signal + background_HW)[:, None]
            counts = camera.sample(expected_n1HW, Stream(keys(seed, 1 + frame_n, Domain.MOVIE), _NOISE))[:, 0]
            truth = here.inside(height, width)
            background_N = background_HW[truth.y_px_N.long(), truth.x_px_N.long()]
            yield counts, replace(truth, background_N=background_N)


def _of_predicted(occurrences: Emitters, n_frames: int, n_predicted: int) -> Emitters:
    """Of samples of so many frames the emitters of those in the middle, image = frame · samples + sample."""
    n_samples = occurrences.n_images // n_frames
    sample_N, frame_N = occurrences.image_N // n_frames, occurrences.image_N % n_frames
    frame_N = frame_N - (n_frames - n_predicted) // 2
    images = replace(occurrences, n_images=n_samples * n_predicted, image_N=frame_N * n_samples + sample_N)
    return images.select((frame_N >= 0) & (frame_N < n_predicted))
