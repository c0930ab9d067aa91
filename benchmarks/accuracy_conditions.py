"""What accuracy.py trains on, and the scenes that it scores on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness import Conditions, Scene

from emitter.core.errors import EmitterError

_64 = "+simulation.frame_size_px=[64,64]"  # as Picasso's and the challenge's frames
_DECODE_ROW = (  # whatever densities and frame sizes a variant trained on
    *("protocol=plain", "samples=1500", "+simulation.frame_size_px=[40,40]"),
    "+simulation.density_per_um2=[0.6,0.6]",
)


def at(density: float) -> str:
    """Name of the scene of so many emitters per µm²."""
    return f"{density:g} per um2"


def with_turned(*scenes: Scene) -> tuple[Scene, ...]:
    """Every scene, and again with the mean of frames and turned frames."""
    turned = (Scene(f"{scene.name} turned", (*scene.settings, "turned=true")) for scene in scenes)
    return (*scenes, *turned)


def ladder(densities: dict[float, int]) -> tuple[Scene, ...]:
    """One scene of so many frames for every density."""
    return tuple(
        Scene(
            at(density),
            (
                "protocol=plain",
                f"samples={n}",
                _64,
                f"+simulation.density_per_um2=[{density:g},{density:g}]",
            ),
        )
        for density, n in densities.items()
    )


# one-frame bound of isolated emitters above 1,851 photons: 25.8 nm laterally, 25.5 of the challenge's own emitters;
# over ±750 nm, which the networks are trained on, it is 44.7
_MT0_DEPTH = "+simulation.z_range_nm=[-450,450]"


def challenge(name: str, n_frames: int, per_frame: float, filaments: float) -> Scene:
    """Frames of the challenge with so many emitters in each, on filaments in a share of them."""
    density = per_frame / (6.4 * 6.4)
    return Scene(
        name,
        (
            *("protocol=challenge2016", f"samples={n_frames}", _64),
            f"+simulation.density_per_um2=[{density:.4f},{density:.4f}]",
            f"+simulation.filament_share={filaments}",
            _MT0_DEPTH,
        ),
    )


LADDER = {0.1: 1000, 0.5: 250, 1: 150, 2: 100, 5: 60}
_MORE_IN_2D = 4  # what is asked there is 0.001 from what is reached: with fewer frames chance would decide
_ALONE = ("+simulation.density_per_um2=[0.05,0.05]", "+simulation.flux.distribution=uniform")
# photons a frame at 5/25/50/75/95 %: 350/1,883/4,185/7,021/10,619; the truth of MT0 has 398/1,851/4,081/7,155/10,106
_MT0_PHOTONS = ("simulation.flux.mean=7000", "simulation.flux.std=3000")

# emitters alone and without temporal neighbours, for RMSE/CRLB, which precision.py prints by photons and depth
_TRAINED_ALONE = (
    *("experiment=quickstart", "simulation.n_frames=1", "simulation.lifetime_frames=null"),
    *("simulation.flux.distribution=uniform", "simulation.density_per_um2=[0.3,2]"),
)

CONDITIONS = {
    one.name: one
    for one in (
        Conditions("quickstart", ("experiment=quickstart",), with_turned(Scene(at(0.6), _DECODE_ROW))),
        Conditions(
            "ladder_2d",
            ("experiment=ladder_2d",),
            with_turned(*ladder({density: _MORE_IN_2D * n for density, n in LADDER.items()})),
        ),
        Conditions(
            "ladder_3d",
            ("experiment=ladder_3d",),
            with_turned(
                *ladder(LADDER),
                Scene("alone", ("protocol=plain", "samples=1500", _64, *_ALONE)),  # no temporal neighbours
            ),
        ),
        Conditions(
            "alone", _TRAINED_ALONE, (Scene("alone", ("protocol=plain", "samples=2500", _64, *_ALONE)),)
        ),
        Conditions(
            "challenge_as",
            ("experiment=challenge_as", *_MT0_PHOTONS),
            (
                challenge("LD", 6000, 1.2, 0.0),
                challenge("HD", 1000, 12.7, 0.0),
                challenge("HD on filaments", 1000, 12.7, 1.0),
            ),
        ),
    )
}


def with_psf(conditions: Conditions, psf: str | None) -> Conditions:
    """The challenge's conditions with the PSF of its beads.

    Raises:
        EmitterError: when it is not given.
    """
    if conditions.name != "challenge_as":
        return conditions
    if psf is None:
        raise EmitterError(
            "challenge_as needs the PSF of the challenge's beads: calibrate.py first, then --psf psf.h5"
        )
    return replace(conditions, settings=(*conditions.settings, f"psf.file={Path(psf).resolve()}"))
