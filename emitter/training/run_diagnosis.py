"""The diagnosis within a run: data check before the first step, advice as it arises, pictures at every validation.

Rank 0 does all of it, without a collective call (what ends the run is found by all). Numbers go to every logger,
pictures and sentences to those that have a place for them; what is advised also stands on the terminal, once, and in
``report/diagnosis.md``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from emitter.core.channels import CHANNELS
from emitter.core.decoding import decode
from emitter.core.errors import require
from emitter.losses.ppxyzb import PPXYZBSettings
from emitter.losses.reconstruction import decoded_frames
from emitter.losses.scale_warmup import never_active
from emitter.models.network import EmitterNetwork
from emitter.plots.data_check import plot_data_check
from emitter.plots.reconstruction import plot_reconstruction
from emitter.simulation.simulator import Domain, Sample, Simulator
from emitter.training.data_check import FIRST_INDEX, DataReport, check_data, compare_with_movie, movie_pixels
from emitter.training.diagnosis import Advice, Diagnosis, DiagnosisSettings
from emitter.training.loggers import loggers_of
from emitter.training.module import EmitterModule
from emitter.training.objective import Objective
from emitter.training.report import draw_report, expendable, report_folder

log = logging.getLogger(__name__)

_PICTURED = 3  # frames in the picture of the reconstruction


class RunDiagnosis(pl.Callback):
    """Feeds a ``Diagnosis`` with a run's steps and epochs, and says what it finds."""

    def __init__(
        self, simulator: Simulator, module: EmitterModule, run_dir: Path, movie: str | None = None
    ) -> None:
        settings = module.settings
        self.simulator = simulator
        self.run_dir = run_dir
        self.movie = movie
        self.diagnosis = Diagnosis(
            DiagnosisSettings(), scale_free_optimizer=settings.optimizer.algorithm == "muon"
        )
        self._advice: list[tuple[int, str, str]] = []  # step, name, sentence
        self._probe: Sample | None = None
        self._scales_checked = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, EmitterModule)
        self._check_scales(trainer, pl_module)
        if not trainer.is_global_zero:
            return
        self.simulator = self.simulator.to(pl_module.device)
        probes = pl_module.settings.samples_per_batch
        index = torch.arange(FIRST_INDEX, FIRST_INDEX + probes, device=pl_module.device)
        self._probe = self.simulator.sample(pl_module.settings.seed, index, Domain.VALIDATION)
        self._check_data(trainer, pl_module)
        if trainer.global_step == 0:
            self._epoch(trainer, pl_module, 0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._scales_checked:
            self._check_scales(trainer, pl_module)
        if not trainer.is_global_zero or not pl_module.stepped:
            return
        step, settings = trainer.global_step, pl_module.settings
        if step % settings.log_every_steps == 0:
            norms = _of_active_scales(pl_module, step - 1)
            advice = self.diagnosis.on_step(
                step - 1,
                pl_module.preset_loss,
                norms,
                math.hypot(*norms.values()),
                settings.optimizer.clip_norm,
                pl_module.take_non_finite(),
            )
            numbers = {"diagnosis/clipped_share": self.diagnosis.clipped_share}
            self._say(trainer, step - 1, advice, numbers)
        if step % settings.epoch_steps == 0:
            self._epoch(trainer, pl_module, step // settings.epoch_steps)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and not trainer.sanity_checking and isinstance(pl_module, EmitterModule):
            self._look(trainer, pl_module)

    def _look(self, trainer: pl.Trainer, module: EmitterModule) -> None:
        """At a validation: what the network makes of some frames, and how large its weights are."""
        self._picture(
            trainer, "reconstruction", lambda path: picture_reconstruction(module, self.simulator, path)
        )
        norms = {f"weights/norm/{name}": norm for name, norm in parameter_norms(module.network).items()}
        self._say(trainer, trainer.global_step, [], norms)
        if module.settings.validation.pictures:
            self._write()
            for logger in trainer.loggers:
                logger.save()  # the page is drawn from metrics.csv
            draw_report(self.run_dir)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, EmitterModule)
        left = pl_module.take_non_finite()  # of the last step: a module counts after its callbacks
        clip_norm = pl_module.settings.optimizer.clip_norm
        if left:
            self._say(
                trainer,
                trainer.global_step,
                self.diagnosis.on_step(trainer.global_step, 0, {}, 0, clip_norm, left),
                {},
            )
        self._write()

    def _check_scales(self, trainer: pl.Trainer, module: EmitterModule) -> None:
        """Once the run's length is known, on every rank: whether each scale becomes active within it.

        Raises:
            SettingsError: when the finest does not, which is the one that is decoded.
        """
        settings, total_steps = module.settings, module.total_steps
        if total_steps is None:
            return
        self._scales_checked = True
        advice = []
        for scale, epoch in never_active(settings.scale_warmup, total_steps, settings.epoch_steps):
            sentence = (
                f"scale {scale} would become active at epoch {epoch:g} and the run ends at epoch "
                f"{total_steps / settings.epoch_steps:g}: give it an earlier epoch in "
                "training.scale_warmup.active_from_epoch, or a longer budget"
            )
            require(
                scale < len(module.network.cells_px) - 1,
                f"the finest {sentence}, or nothing that is decoded is trained",
            )
            advice.append(Advice("scale_never_active", sentence))
        if trainer.is_global_zero:
            self._say(trainer, trainer.global_step, advice, {})

    def _check_data(self, trainer: pl.Trainer, module: EmitterModule) -> None:
        """Before training: what is simulated, and against the user's movie."""
        settings = module.settings
        region = getattr(settings.loss, "region_cells", 1)
        weight = None if settings.loss.own_detection else settings.detection.foreground_ratio
        cell_px = module.network.cells_px[-1]
        report = check_data(self.simulator, settings.seed, weight, region, cell_px=cell_px)
        lines, warnings, pixels_P = report.summary_lines(), list(report.warnings), None
        if self.movie is not None:
            pixels_P = movie_pixels(self.movie, self.simulator.camera)
            comparison = compare_with_movie(report, pixels_P)
            lines += comparison.summary_lines()
            warnings += comparison.warnings
        with expendable(report_folder(self.run_dir) / "data_check.txt") as path:
            path.write_text("\n".join([*lines, *(f"warning: {w.sentence}" for w in warnings)]) + "\n")
        self._picture(trainer, "data_check", lambda path: plot_data_check(report.data, path, pixels_P))
        self.diagnosis.data_warnings = bool(warnings)
        self._say(trainer, trainer.global_step, warnings, _data_numbers(report, len(warnings)))

    def _epoch(self, trainer: pl.Trainer, module: EmitterModule, epoch: int) -> None:
        assert self._probe is not None
        parts_6 = probe_parts(module, module.network, self._probe)
        named = dict(zip(CHANNELS, parts_6.tolist(), strict=True))
        numbers = {"diagnosis/probe_loss": float(module.objective.preset_loss(parts_6))}
        numbers |= {f"diagnosis/probe_{name}": part for name, part in named.items()}
        judged_6 = parts_6
        if epoch == 0 and (fresh := _fresh(module)) is not None:
            judged_6 = probe_parts(module, fresh, self._probe)
        weights_6 = module.objective.weighting.preset_6.tolist()
        judged = {
            name: part
            for name, part, weight in zip(CHANNELS, judged_6.tolist(), weights_6, strict=True)
            if weight > 0
        }
        advice = self.diagnosis.on_epoch(epoch, float(module.objective.preset_loss(judged_6)), judged)
        self._say(trainer, max(0, trainer.global_step - 1), advice, numbers)

    def _say(
        self, trainer: pl.Trainer, step: int, advice: Iterable[Advice], numbers: dict[str, float]
    ) -> None:
        fresh = [(step, one.name, one.sentence) for one in advice if one.name not in self._names()]
        for _, name, sentence in fresh:
            log.warning("diagnosis: %s", sentence)
            numbers[f"diagnosis/{name}"] = 1.0
        self._advice += fresh
        for logger in trainer.loggers:
            logger.log_metrics(numbers, step=step)
        if fresh:
            for logger in loggers_of(trainer):
                logger.log_sentences("diagnosis/advice", ("step", "name", "sentence"), self._advice, step)
            self._write()

    def _picture(self, trainer: pl.Trainer, key: str, draw: Callable[[Path], object]) -> None:
        """In ``report/`` and in the loggers."""
        module = trainer.lightning_module
        assert isinstance(module, EmitterModule)
        if not module.settings.validation.pictures:
            return
        final = report_folder(self.run_dir) / f"{key}.png"
        drawn = False
        with expendable(final) as path:
            draw(path)
            drawn = True
        if drawn:
            for logger in loggers_of(trainer):
                logger.log_picture(key, final, trainer.global_step)

    def _names(self) -> set[str]:
        return {name for _, name, _ in self._advice}

    def _write(self) -> None:
        lines = [f"- step {step}: {sentence}" for step, _, sentence in self._advice]
        text = "\n".join(lines or ["Nothing to report: no sign of an ill training was seen."])
        with expendable(report_folder(self.run_dir) / "diagnosis.md") as path:
            path.write_text(text + "\n")

    def state_dict(self) -> dict[str, Any]:
        return {"diagnosis": self.diagnosis.state_dict(), "advice": [list(row) for row in self._advice]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.diagnosis.load_state_dict(state_dict["diagnosis"])
        self._advice = [
            (int(step), str(name), str(sentence)) for step, name, sentence in state_dict["advice"]
        ]


def _of_active_scales(module: EmitterModule, step: int) -> dict[str, float]:
    """The groups' gradient norms without the scales from which on all are locked: their 0 is meant."""
    weights = module.objective.scale_weights(step)
    locked = {f"scale{k}" for k in range(len(weights)) if not any(weights[k:])}
    if module.settings.reconstruction.error != "none":
        locked = set()
    return {name: norm for name, norm in module.gradient_norms.items() if name not in locked}


def _fresh(module: EmitterModule) -> EmitterNetwork | None:
    """An untrained network to measure a warm-started one by (``init_from=``); None for one that is untrained itself.

    The biases at the end of a head begin the same in every network, and no trained one has them still.
    """
    fresh = module.network.untrained(module.settings.seed)
    here, there = (network.head.out.state_dict()["bias"] for network in (module.network, fresh))
    return None if torch.equal(here, there) else fresh


@torch.no_grad()
def parameter_norms(network: EmitterNetwork) -> dict[str, float]:
    """Norm of the weights of every group of layers, from the input to the head."""
    groups = {**network.backbone.groups(), "head": network.head}
    return {
        name: float(torch.stack(torch._foreach_norm(list(group.parameters()))).norm())
        for name, group in groups.items()
    }


@torch.no_grad()
def probe_parts(module: EmitterModule, network: EmitterNetwork, sample: Sample) -> Tensor:
    """The parts on fixed samples, (6,), over the scales with their final weights: a function of the weights alone.

    The probability is held against 1 where an emitter is, whatever it is taught: a quality is another target with
    every step, low and cheap at first.
    """
    maps = network(sample.photons_BTHW)
    keep_B = torch.ones(len(maps[0]), dtype=torch.bool, device=maps[0].device)
    objective, settings = module.objective, module.settings
    if settings.teaches_quality and isinstance(settings.loss, PPXYZBSettings):
        plain = replace(settings, loss=replace(settings.loss, quality_px=None))
        objective = Objective(plain, module.bundle)
    parts_KB6 = objective.parts(maps, sample, keep_B, progress=0.0)
    weights_K = parts_KB6.new_tensor(module.objective.final_weights())
    return (parts_KB6.mean(dim=1) * weights_K[:, None]).sum(dim=0)


@torch.no_grad()
def picture_reconstruction(module: EmitterModule, simulator: Simulator, path: Path) -> None:
    """Draw the first validation frames beside what the network says they show."""
    index = torch.arange(_PICTURED, device=module.device)
    sample = simulator.sample(module.settings.seed, index, Domain.VALIDATION)
    bundle, cell_px = module.bundle, module.network.cells_px[-1]
    maps_BCHW = module.network(sample.photons_BTHW)[-1]
    observed_BHW = sample.photons_BTHW[:, sample.photons_BTHW.shape[1] // 2]
    height, width = observed_BHW.shape[1:]
    found = decode(maps_BCHW, bundle.scaling, module.thresholds, cell_px)
    expected_BHW = decoded_frames(found, maps_BCHW, simulator.psf, bundle.scaling, (height, width), cell_px)
    variance_BHW = sample.camera.noise_variance(expected_BHW.clamp(min=0)[:, None])[:, 0]
    plot_reconstruction(
        observed_BHW, expected_BHW, variance_BHW.clamp(min=1e-3), sample.emitters, found, path
    )


def _data_numbers(report: DataReport, n_warnings: int) -> dict[str, float]:
    numbers = {
        "data/foreground_share": report.foreground_share,
        "data/emitters_per_frame": report.emitters_mean,
        "data/empty_share": report.empty_share,
        "data/peak_snr_median": report.peak_snr_median,
        "data/warnings": float(n_warnings),
    }
    if report.foreground_weight is not None:
        numbers["data/foreground_weight"] = report.foreground_weight
    return {name: value for name, value in numbers.items() if math.isfinite(value)}  # no emitter, no signal
