"""What a run tells its user: signs of an ill training, and what to change.

Two sources. Every logged step: the batch's loss, the gradients' norms by group of layers and the count of non-finite
numbers. Every epoch (a fixed number of steps; the stream of training samples has no end): the loss of a fixed set of
probe samples. A plateau can be seen in the second alone: the training loss has fresh samples at every step, whose
noise hides changes of 1e-4, while the probe loss is a function of the weights and nothing else.

A healthy run is told nothing. What healthy looks like was measured on the quick start and on the baseline U-Net: norms
of 0.02 to 10 at first (the residual blocks begin at zero and the head at 0.01), 10 to 200 after 50 steps; the head's
norm up to 700 times the first layers' in the first 40 steps, and 1 to 8 times later. So single steps say nothing, and
the rules on norms want a row of logged steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from statistics import fmean, median, pvariance
from typing import Any

from emitter.core.channels import BACKGROUND, CHANNELS, P
from emitter.core.errors import require

_TINY = 1e-12  # in denominators: losses may be exactly 0
_RATES = "training.optimizer.muon_learning_rate and training.optimizer.learning_rate"


@dataclass(frozen=True)
class DiagnosisSettings:
    """When something is worth a word.

    ``vanishing_norm``: a group's gradient norm below it in ``vanishing_steps`` logged steps in a row.
    ``starving_ratio``: of the last group's norm to the first's, above it in ``starving_steps`` in a row, from step
    ``starving_from_step`` on (the head learns first).
    ``clip_share``: of the last ``clip_steps`` logged steps in which the gradient was clipped.
    ``explosion_factor``: times the lowest median of ``explosion_window`` logged losses, above it in
    ``explosion_steps`` in a row.
    ``plateau_*``: looked for at epoch ``from_epoch`` and every ``every`` epochs, in the last ``window`` probe losses;
    both ``variance`` (over the squared loss) and ``improvement`` (over the loss) must be smaller.
    ``rise``: a loss that stands above this many times its first value asks for a lower learning rate, below it for a
    higher one (a network that hardly moves scatters about its first loss).
    ``part_high``, ``part_low``: a part of the loss above, below this fraction of its first value. ``part_share``: parts
    that began below this share of the loss are not looked at.
    """

    vanishing_norm: float = 1e-4
    vanishing_steps: int = 5
    starving_ratio: float = 10.0
    starving_steps: int = 10
    starving_from_step: int = 100
    clip_share: float = 0.8
    clip_steps: int = 20
    explosion_factor: float = 20.0
    explosion_window: int = 10
    explosion_steps: int = 5
    plateau_from_epoch: int = 11
    plateau_every: int = 10
    plateau_window: int = 5
    plateau_variance: float = 1e-6
    plateau_improvement: float = 1e-4
    rise: float = 1.2
    part_high: float = 0.8
    part_low: float = 0.5
    part_share: float = 0.01

    def __post_init__(self) -> None:
        for name in ("vanishing_norm", "plateau_variance", "plateau_improvement"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"DiagnosisSettings.{name} is {value}: give a number above 0")
        for name in ("starving_ratio", "explosion_factor", "rise"):
            value = getattr(self, name)
            require(1 < value < math.inf, f"DiagnosisSettings.{name} is {value}: give a ratio above 1")
        counts = (
            "vanishing_steps",
            "starving_steps",
            "starving_from_step",
            "clip_steps",
            "explosion_window",
            "explosion_steps",
        )
        for name in (*counts, "plateau_from_epoch", "plateau_every"):
            require(
                getattr(self, name) >= 1, f"DiagnosisSettings.{name} is {getattr(self, name)}: give 1 or more"
            )
        require(
            self.plateau_window >= 2,
            f"DiagnosisSettings.plateau_window is {self.plateau_window}: give 2 or more epochs",
        )
        require(
            0 < self.clip_share < 1,
            f"DiagnosisSettings.clip_share is {self.clip_share}: give a fraction between 0 and 1",
        )
        require(
            0 < self.part_low < self.part_high <= 1,
            f"DiagnosisSettings.part_low is {self.part_low} and part_high {self.part_high}: give 0 < part_low < "
            "part_high ≤ 1",
        )
        require(
            0 <= self.part_share < 1,
            f"DiagnosisSettings.part_share is {self.part_share}: give a fraction from 0, below 1",
        )


@dataclass(frozen=True)
class Advice:
    """One finding: a stable name, and a sentence with what was seen, where, and what to change."""

    name: str
    sentence: str


@dataclass
class _Memory:
    """What is known of the run so far; plain, for checkpoints."""

    given: list[str] = field(default_factory=list)  # names of advice
    vanishing: dict[str, int] = field(default_factory=dict)  # logged steps in a row, by group
    starving: int = 0
    over_clip: list[float] = field(default_factory=list)  # norm over clip of the last logged steps
    losses: list[float] = field(default_factory=list)  # of the last logged steps
    lowest: float | None = None  # of the losses' running medians
    spread: float = 0.0  # largest minus smallest loss of that window
    exploding: int = 0
    first_loss: float | None = None  # of the probe samples
    first_parts: dict[str, float] = field(default_factory=dict)
    probe_losses: list[float] = field(default_factory=list)  # of the last epochs


class Diagnosis:
    """Judges a run as it goes. Every advice is given once.

    Args:
        settings: the thresholds.
        scale_free_optimizer: whether a step does not depend on the gradient's size (Muon orthogonalizes it). Clipping
            then scales what is scaled anyway, and is no learning rate: it is the rule here that gradients of losses
            summed over cells are above the clip in every step.
        data_warnings: whether the data check had any: a plateau is then blamed on the data first.
    """

    def __init__(
        self, settings: DiagnosisSettings, scale_free_optimizer: bool, data_warnings: bool = False
    ) -> None:
        self.settings = settings
        self.scale_free_optimizer = scale_free_optimizer
        self.data_warnings = data_warnings
        self._memory = _Memory()

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts."""
        return asdict(self._memory)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a ``state_dict()``."""
        self._memory = _Memory(**deepcopy(state))

    @property
    def clipped_share(self) -> float:
        """Fraction of the last logged steps whose gradient was above the clip: a number to log."""
        over_clip = self._memory.over_clip
        return fmean(ratio > 1 for ratio in over_clip) if over_clip else 0.0

    def on_step(
        self,
        step: int,
        loss: float,
        gradient_norms: dict[str, float],
        total_norm: float,
        clip_norm: float,
        non_finite: int,
    ) -> list[Advice]:
        """Advice after a logged step.

        Args:
            step: its number.
            loss: of the batch, with fixed weights of the channels. Not what an adaptive weighting makes of it: a sum of
                logarithms cannot rise twentyfold.
            gradient_norms: before the clip, by group of layers in order from input to head. Leave out the groups
                that are locked (a scale of weight 0): their gradient is 0 by intention.
            total_norm: of all gradients, before the clip.
            clip_norm: what it is clipped to.
            non_finite: NaN and Inf in inputs, outputs, loss and gradients since the last call.
        """
        if non_finite or not (math.isfinite(loss) and math.isfinite(total_norm)):
            return self._new(self._non_finite(f"step {step}", non_finite, loss))
        findings = [
            *self._exploding(step, loss),
            *self._vanishing(step, gradient_norms),
            *self._starving(step, gradient_norms),
            *self._clipping(step, total_norm / clip_norm, clip_norm),
        ]
        return self._new(findings)

    def on_epoch(self, epoch: int, probe_loss: float, probe_parts: dict[str, float]) -> list[Advice]:
        """Advice after an epoch.

        Call it with epoch 0 before the first step: what is high and low is measured by it. The loss must be a function
        of the weights alone: the same samples and the same weights of scales and channels in all epochs, not those of
        a warm-up or of an adaptive weighting.

        Args:
            epoch: its number, 0 before the first step (of a run that begins with trained weights: of an untrained
                network).
            probe_loss: of the fixed probe samples.
            probe_parts: its parts, by the names of the channels; those of weight 0 left out.
        """
        memory = self._memory
        if not math.isfinite(probe_loss):
            return self._new(self._non_finite(f"epoch {epoch}", 0, probe_loss))
        if memory.first_loss is None:
            memory.first_loss, memory.first_parts = probe_loss, dict(probe_parts)
        memory.probe_losses = [*memory.probe_losses, probe_loss][-self.settings.plateau_window :]
        risen = probe_loss - memory.first_loss
        if risen > self.settings.explosion_factor * abs(memory.first_loss):
            return self._new(
                [_explosion(f"of the probe samples at epoch {epoch}", probe_loss, memory.first_loss)]
            )
        if self._looked_for_at(epoch) and self._is_plateau():
            return self._new(self._plateau(epoch, probe_parts))
        return []

    def _new(self, findings: Iterator[Advice] | list[Advice]) -> list[Advice]:
        """Those that were not given before, and are not what an explosion has left: no other model mends that."""
        given, fresh = self._memory.given, []
        for advice in findings:
            follows = "exploding_loss" in given and advice.name != "non_finite"
            if advice.name not in given and not follows:
                given.append(advice.name)
                fresh.append(advice)
        return fresh

    def _non_finite(self, where: str, count: int, loss: float) -> Iterator[Advice]:
        seen = (
            f"{count} non-finite numbers" if count else f"a loss of {loss} or a gradient that is not finite"
        )
        yield Advice(
            "non_finite",
            f"{seen} at {where}: see health/ in the log for where they begin; give training.precision=32-true, "
            f"a third of {_RATES}, and check psf and camera where the inputs have them",
        )

    def _vanishing(self, step: int, norms: dict[str, float]) -> Iterator[Advice]:
        settings, before = self.settings, self._memory.vanishing
        self._memory.vanishing = {
            name: before.get(name, 0) + 1 if norm < settings.vanishing_norm else 0
            for name, norm in norms.items()
        }
        if names := self._vanished():
            seen = ", ".join(f"{norms[name]:.1e} in {name}" for name in names)
            yield Advice(
                "vanishing_gradient",
                f"the gradient's norm is {seen}, below {settings.vanishing_norm:g} in {settings.vanishing_steps} "
                f"logged steps in a row up to step {step}: these layers do not learn; try the weights' defaults "
                "(channel_weights=balanced, scale_warmup=coarse_first), fewer model.blocks or another model=",
            )

    def _vanished(self) -> list[str]:
        """Groups whose gradient has vanished by now."""
        return [name for name, row in self._memory.vanishing.items() if row >= self.settings.vanishing_steps]

    def _starving(self, step: int, norms: dict[str, float]) -> Iterator[Advice]:
        settings, memory = self.settings, self._memory
        # steps that are as large in every layer whatever their gradients starve none
        if len(norms) < 2 or self.scale_free_optimizer or step < settings.starving_from_step:
            return
        (first_name, first), *_, (last_name, last) = norms.items()
        # a first group without any gradient has vanished, which is another finding
        starving = first >= settings.vanishing_norm and last > settings.starving_ratio * first
        memory.starving = memory.starving + 1 if starving else 0
        if memory.starving >= settings.starving_steps:
            yield Advice(
                "shallow_layers_starve",
                f"the gradient's norm is {last:.2g} in {last_name} and {first:.2g} in {first_name}, more than "
                f"{settings.starving_ratio:g} times smaller in {settings.starving_steps} logged steps in a row up to "
                f"step {step}: the shallow layers starve; give training.optimizer.algorithm=muon, whose steps are as "
                "large in every layer, or fewer model.blocks",
            )

    def _clipping(self, step: int, over_clip: float, clip_norm: float) -> Iterator[Advice]:
        settings, memory = self.settings, self._memory
        memory.over_clip = [*memory.over_clip, over_clip][-settings.clip_steps :]
        enough = len(memory.over_clip) == settings.clip_steps
        if enough and not self.scale_free_optimizer and self.clipped_share > settings.clip_share:
            norm = median(memory.over_clip) * clip_norm
            yield Advice(
                "clip_is_the_learning_rate",
                f"{100 * self.clipped_share:.0f} % of the last {settings.clip_steps} logged steps up to step {step} "
                f"were clipped to a norm of {clip_norm:g} (the gradient's is {norm:.2g}): the clip is the learning "
                f"rate; give training.optimizer.clip_norm={2 * norm:.2g} and lower training.optimizer.learning_rate",
            )

    def _exploding(self, step: int, loss: float) -> Iterator[Advice]:
        """Losses far above the best so far.

        Above by ``explosion_factor`` times the lowest running median, or times the range of the losses that it is
        the median of where that is larger: likelihoods pass through 0, and small batches of few emitters scatter.
        Before there is such a median the probe samples' first loss stands for it: a run can explode in its first steps.
        """
        settings, memory = self.settings, self._memory
        before = memory.first_loss if memory.lowest is None else memory.lowest
        if before is not None:
            exploded = loss - before > settings.explosion_factor * max(abs(before), memory.spread)
            memory.exploding = memory.exploding + 1 if exploded else 0
            if memory.exploding >= settings.explosion_steps:
                where = f"in {settings.explosion_steps} logged steps in a row up to step {step}"
                yield _explosion(where, loss, before)
        memory.losses = [*memory.losses, loss][-settings.explosion_window :]
        middle = median(memory.losses)
        full = len(memory.losses) == settings.explosion_window
        if full and (memory.lowest is None or middle < memory.lowest):
            memory.lowest, memory.spread = middle, max(memory.losses) - min(memory.losses)

    def _looked_for_at(self, epoch: int) -> bool:
        after = epoch - self.settings.plateau_from_epoch
        return after >= 0 and after % self.settings.plateau_every == 0

    def _is_plateau(self) -> bool:
        settings, losses = self.settings, self._memory.probe_losses
        if len(losses) < settings.plateau_window:
            return False
        variance = pvariance(losses) / max(fmean(losses) ** 2, _TINY)
        improvement = (losses[0] - losses[-1]) / max(abs(losses[0]), _TINY)
        return variance < settings.plateau_variance and improvement < settings.plateau_improvement

    def _plateau(self, epoch: int, parts: dict[str, float]) -> Iterator[Advice]:
        """The cause that the numbers point to. Without a part that is still high, the run has converged."""
        settings, memory = self.settings, self._memory
        high = [
            name
            for name in self._regarded()
            if _left(parts[name], memory.first_parts[name]) > settings.part_high
        ]
        if not high:
            return
        p, loss = CHANNELS[P], memory.probe_losses[-1]
        p_is_low = p in parts and _left(parts[p], memory.first_parts[p]) < settings.part_low
        of_first = ", ".join(f"{name} {_percent(parts[name], memory.first_parts[name])}" for name in high)
        seen = (
            f"the loss of the probe samples stands at {loss:.4g} since epoch {epoch - settings.plateau_window + 1} "
            f"(of its first value, still: {of_first})"
        )
        if self.data_warnings:
            yield Advice("plateau_data", f"{seen} and the data check had warnings: mend the data first")
        elif vanished := self._vanished():
            yield Advice(
                "plateau_vanishing",
                f"{seen} and the gradient has vanished in {', '.join(vanished)}: change the architecture or its "
                "normalisation (model=, fewer model.blocks), the learning rate will not help",
            )
        elif high == [p]:
            yield Advice(
                "plateau_detection",
                f"{seen}: emitters are not detected; give channel_weights=detection_focused, or with detection=bce "
                "training.detection.pos_weight=5 (with weighted or combined training.detection.foreground_weight)",
            )
        elif p_is_low:
            yield Advice(
                "plateau_regression",
                f"{seen} while detection fell to {_percent(parts[p], memory.first_parts[p])}: give "
                f"{_heavier(high)}",
            )
        else:
            yield Advice("plateau_learning_rate", f"{seen}, with healthy gradients: {self._other_rate(loss)}")

    def _regarded(self) -> list[str]:
        """The parts that are large enough to count, in the channels' order."""
        first = self._memory.first_parts
        whole = sum(abs(value) for value in first.values())
        return [name for name in CHANNELS if abs(first.get(name, 0.0)) > self.settings.part_share * whole]

    def _other_rate(self, loss: float) -> str:
        first = self._memory.first_loss
        if first is not None and loss - first > (self.settings.rise - 1) * abs(first):
            return f"it is above the {first:.4g} of an untrained network, so give a third of {_RATES}"
        return f"give {_RATES} ×5, or a longer budget"


def _left(value: float, first: float) -> float:
    """What is left of a part, 1 at its first value; below 0 for a likelihood that fell through 0."""
    return 1 - (first - value) / max(abs(first), _TINY)


def _percent(value: float, first: float) -> str:
    return f"{100 * _left(value, first):.0f} %"


def _heavier(high: list[str]) -> str:
    """The channel weights that these parts ask for."""
    if high == [CHANNELS[BACKGROUND]]:
        return "training.channel_weights.background=2"
    if {"x", "y", "z"} & set(high):
        return "channel_weights=localization_focused"
    return "channel_weights=photometry_focused"


def _explosion(where: str, loss: float, before: float) -> Advice:
    return Advice(
        "exploding_loss",
        f"the loss {where} is {loss:.3g} and was {before:.3g}: give a third of {_RATES}, or a longer warm-up with "
        "training.optimizer.warmup_steps ×4",
    )
