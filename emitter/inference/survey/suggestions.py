"""From what a movie shows to the priors of a training for it."""

from __future__ import annotations

from emitter.inference.survey.survey import Survey

# Crowded frames have more to teach, also of sparse ones: the trainings that did best on 0.6 emitters/µm² had 1 to 3,
# and one on 1 to 6 served everything from 0.1 on.
_LOWEST, _HIGHEST = (0.1, 2.0), (1.0, 8.0)
_DENSER = (1.5, 5.0)
_BACKGROUND_MARGIN = 1.3
_MIN_BACKGROUND = 0.5
_WIDE_CV = 0.5  # of the photons, from which a normal distribution would be cut off at 0


def training_density(density_per_um2: float) -> tuple[float, float]:
    """Range to train on for a movie of this density, emitters per frame and µm²: above it on purpose."""
    low, high = (factor * density_per_um2 for factor in _DENSER)
    low = min(max(low, _LOWEST[0]), _LOWEST[1])
    return low, max(min(max(high, _HIGHEST[0]), _HIGHEST[1]), 1.3 * density_per_um2)


def simulation_overrides(survey: Survey, background_off: float, shows_emitters: bool) -> list[str]:
    """Settings of ``train.py``; of a movie that shows next to no emitters, its background alone.

    Args:
        survey: of the movie.
        background_off: photons that a wrong baseline takes off the background.
    """
    density = training_density(survey.density_per_um2)
    low, high = (max(level + background_off, _MIN_BACKGROUND) for level in survey.background)
    background = f"simulation.background={_listed(low / _BACKGROUND_MARGIN, high * _BACKGROUND_MARGIN)}"
    if not shows_emitters:
        return [background]
    priors = survey.priors
    distribution = "normal" if priors.flux_std < _WIDE_CV * priors.flux_mean else "lognormal"
    lifetime = survey.lifetime_frames
    overrides = [
        f"simulation.density_per_um2={_listed(*density)}",
        f"simulation.flux.distribution={distribution}",
        f"simulation.flux.mean={number(priors.flux_mean)}",
        f"simulation.flux.std={number(priors.flux_std)}",
        background,
    ]
    if survey.run_frames > 1:
        overrides.append(f"simulation.lifetime_frames={'null' if lifetime is None else number(lifetime, 2)}")
    return overrides


def _listed(low: float, high: float) -> str:
    return f"[{number(low, 2)},{number(high, 2)}]"


def number(value: float, digits: int = 3) -> str:
    """Rounded, without an exponent."""
    return f"{float(f'{value:.{digits}g}'):.10g}"
