"""Look at a movie before any training: the camera, the priors, and whether a trained network fits."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import get_console
from rich.progress import Progress
from rich.table import Table

from emitter.app.schema import to_plain
from emitter.app.train_line import baseline_adu, camera_overrides, psf_overrides
from emitter.core.errors import require
from emitter.core.units import PixelSize
from emitter.inference.bundle import Bundle, load_bundle
from emitter.inference.survey.frames import Sampled, sample_frames
from emitter.inference.survey.prior_verdicts import prior_verdicts, psf_verdict, shows_emitters
from emitter.inference.survey.shot_noise import Histogram
from emitter.inference.survey.spot_shape import SCALES_PX, KnownShape
from emitter.inference.survey.suggestions import simulation_overrides
from emitter.inference.survey.survey import Survey, survey
from emitter.inference.survey.verdicts import (
    CameraCheck,
    Verdict,
    adu_per_photon,
    check_camera,
    check_fit,
    pixel_size_verdict,
)
from emitter.io.files import prepare_output, writing
from emitter.io.movies import open_movie
from emitter.plots.diagnosis import DiagnosisData, plot_diagnosis
from emitter.psf.build import PSFSettings, build
from emitter.simulation.camera import Camera, CameraSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What conf/diagnose.yaml says; its comments explain every key."""

    camera: CameraSettings
    movie: str
    checkpoint: Path | None = None
    psf: PSFSettings | None = None
    output: Path | None = None
    frame_size_px: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        require(
            self.frame_size_px is None or min(self.frame_size_px) >= 1,
            f"frame_size_px is {self.frame_size_px}: give [rows, columns] of the .dax movie's frames",
        )
        require(
            self.checkpoint is None or self.psf is None,
            "psf and checkpoint are both given: leave psf out, the checkpoint has its own",
        )


@dataclass(frozen=True)
class Diagnosis:
    """The survey, the verdicts on camera, priors and checkpoint, and the settings of train.py."""

    survey: Survey
    camera: CameraCheck
    priors: tuple[Verdict, ...]
    fit: tuple[Verdict, ...]
    overrides: tuple[str, ...]


def run(settings: Settings) -> Diagnosis:
    """Diagnose; a table and the overrides on the terminal, and with ``output`` a figure and a json.

    Raises:
        EmitterError: a movie or a checkpoint that cannot be used, or an output that cannot be written.
    """
    figure = None if settings.output is None else prepare_output(settings.output / "diagnosis.png")
    bundle = None if settings.checkpoint is None else load_bundle(settings.checkpoint)
    camera = Camera.build(settings.camera) if bundle is None else bundle.camera.to("cpu")
    with open_movie(settings.movie, settings.frame_size_px) as movie, Progress(transient=True) as bar:
        task = bar.add_task("reading", total=None)
        sampled = sample_frames(
            movie, camera, lambda done, total: bar.update(task, completed=done, total=total)
        )
        stated = movie.pixel_size
        task = bar.add_task("estimating", total=None)
        found = survey(sampled, camera, _known_shape(settings, camera, bundle))
    diagnosis = diagnose(found, camera, settings.camera, bundle, settings.psf, stated)
    _show(diagnosis, settings)
    if figure is not None:
        with writing(figure) as temporary:
            plot_diagnosis(_to_draw(found, sampled, camera), temporary)
        with writing(figure.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(_plain(diagnosis), indent=2) + "\n")
        log.info("wrote %s and %s", figure, figure.with_suffix(".json"))
    return diagnosis


def _known_shape(settings: Settings, camera: Camera, bundle: Bundle | None) -> KnownShape | None:
    if bundle is not None:
        return KnownShape.of(bundle.psf, bundle.simulation.z_range_nm)
    return None if settings.psf is None else KnownShape.of(build(settings.psf, camera.pixel_size))


def diagnose(
    found: Survey,
    camera: Camera,
    settings: CameraSettings,
    bundle: Bundle | None = None,
    psf: PSFSettings | None = None,
    stated: PixelSize | None = None,
) -> Diagnosis:
    """Everything that is said of a survey; the settings are those that ``train.py`` would be given, ``stated`` the
    pixel size that the movie's file states."""
    check = check_camera(found.transfer, camera)
    pixels = pixel_size_verdict(stated, camera.pixel_size, bundle is not None)
    check = replace(check, verdicts=(pixels, *check.verdicts))
    off_photons = check.baseline_off_adu / adu_per_photon(camera)
    priors = prior_verdicts(found, off_photons)
    overrides = simulation_overrides(found, off_photons, shows_emitters(found))
    if bundle is not None:
        return Diagnosis(found, check, priors, check_fit(found, bundle), tuple(overrides))
    overrides = [
        *camera_overrides(settings, check),
        *overrides,
        *psf_overrides(found, camera.pixel_size, psf),
    ]
    return Diagnosis(found, check, (*priors, psf_verdict(found)), (), tuple(overrides))


def _show(diagnosis: Diagnosis, settings: Settings) -> None:
    console = get_console()
    camera = f"the checkpoint's ({settings.checkpoint})" if settings.checkpoint else settings.camera.kind
    table = Table(
        title=f"{settings.movie}: {diagnosis.survey.n_frames} frames, camera {camera}", title_justify="left"
    )
    for name in ("", "seen", "verdict"):
        table.add_column(name, overflow="fold")
    for verdicts in (diagnosis.camera.verdicts, diagnosis.priors, diagnosis.fit):
        for one in verdicts:
            verdict = "ok" if one.fine else one.advice
            table.add_row(one.what, one.seen, verdict, style=None if one.fine else "bold yellow")
        table.add_section()
    console.print(table)
    if settings.checkpoint is None:
        check = diagnosis.camera
        left = (
            check.baseline_off_adu != 0
            and baseline_adu(settings.camera, check) == settings.camera.baseline_adu
        )
        pixel_size, *_ = check.verdicts
        wrong = left or check.photons_ratio != 1.0 or not pixel_size.fine
        first = "first set the camera right and diagnose again; with it as it is, " if wrong else ""
        console.print(f"{first}settings for train.py:")
    else:
        console.print(_fits(diagnosis), "to train for it, beside the checkpoint's camera and PSF:", sep="; ")
    console.print(" ".join(diagnosis.overrides), soft_wrap=True, markup=False, highlight=False)


def _fits(diagnosis: Diagnosis) -> str:
    off = [one.what for one in (*diagnosis.camera.verdicts, *diagnosis.fit) if not one.fine]
    return (
        f"the checkpoint does not fit this movie ({', '.join(off)})"
        if off
        else "the checkpoint fits this movie"
    )


def _to_draw(found: Survey, sampled: Sampled, camera: Camera) -> DiagnosisData:
    spots = found.spots
    frames = sampled.photons_THW
    shown = int(np.bincount(spots.frame_N, minlength=len(frames)).argmax())
    here = spots.frame_N == shown
    zero, one = (float(camera.mean_noise_variance(torch.tensor(level))) for level in (0.0, 1.0))
    excess = camera.excess_noise / camera.quantum_efficiency
    histogram = Histogram.of(
        frames, SCALES_PX[0], excess, camera.em_gain is not None, found.priors.noise_variance
    )
    level_G, width_G = histogram.levels()
    return DiagnosisData(
        mean_L=found.transfer.mean_L,
        variance_L=found.transfer.variance_L,
        expected=(zero, one - zero),
        frame_HW=frames[shown],
        x_px_N=spots.x_px_N[here],
        y_px_N=spots.y_px_N[here],
        photons_M=spots.photons_M,
        sigma_x_px_M=spots.sigma_x_px_M,
        sigma_y_px_M=spots.sigma_y_px_M,
        level_G=level_G,
        observed_G=histogram.counts_G / width_G,
        modelled_G=histogram.model(found.priors, found.lifetime_frames) / width_G,
    )


def _plain(diagnosis: Diagnosis) -> dict[str, Any]:
    found = diagnosis.survey
    verdicts = (*diagnosis.camera.verdicts, *diagnosis.priors, *diagnosis.fit)
    return {
        "density_per_um2": found.density_per_um2,
        "spots_per_um2": found.spots_per_um2,
        "flux_mean": found.priors.flux_mean,
        "flux_std": found.priors.flux_std,
        "background": list(found.background),
        "lifetime_frames": found.lifetime_frames,
        "width_px": found.priors.width_px,
        "is_3d": found.is_3d,
        "has_halo": found.has_halo,
        "psf_fits": found.fits,
        "noise_ratio": diagnosis.camera.noise_ratio,
        "slope_ratio": diagnosis.camera.slope_ratio,
        "baseline_off_adu": diagnosis.camera.baseline_off_adu,
        "photons_ratio": diagnosis.camera.photons_ratio,
        "verdicts": [to_plain(one) for one in verdicts],
        "overrides": list(diagnosis.overrides),
    }
