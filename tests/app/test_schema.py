"""Settings from plain mappings: what goes in comes out, and every mistake is named with its path."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emitter.app.schema import build
from emitter.core.channels import Scaling
from emitter.core.errors import SettingsError, require


@dataclass(frozen=True)
class Gaussian:
    kind: ClassVar[str] = "gaussian"
    sigma_px: float = 1.3

    def __post_init__(self) -> None:
        require(self.sigma_px > 0, f"sigma_px is {self.sigma_px}: give a positive number")


@dataclass(frozen=True)
class Spline:
    file: Path
    kind: Literal["spline"] = "spline"


@dataclass(frozen=True)
class Schedule:
    """A base whose subclasses are its kinds: a new one is known as soon as it is imported."""


@dataclass(frozen=True)
class Cosine(Schedule):
    kind: ClassVar[str] = "cosine"
    warm_up: float = 0.05


@dataclass(frozen=True)
class Constant(Schedule):
    kind: ClassVar[str] = "constant"


@dataclass(frozen=True)
class Settings:
    n_frames: int
    psf: Gaussian | Spline
    name: str = "run"
    precision: Literal["bf16", "fp32"] = "bf16"
    resume: bool = False
    seed: int | None = None
    pixel_size_nm: float | tuple[float, float] = 100.0
    scales: tuple[float, ...] = (0.25, 0.5, 1.0)
    weights: dict[str, float] = field(default_factory=dict)
    schedule: Schedule = Cosine()
    camera: Scaling | None = None
    extra: Any = None


MINIMAL: dict[str, Any] = {"n_frames": 10, "psf": {"kind": "gaussian"}}


def message_of(mapping: Any, where: str = "") -> str:
    with pytest.raises(SettingsError) as caught:
        build(Settings, mapping, where)
    return str(caught.value)


def test_defaults_fill_what_is_not_given() -> None:
    assert build(Settings, MINIMAL) == Settings(10, Gaussian())


def test_nested_settings_and_kinds() -> None:
    settings = build(
        Settings,
        {
            **MINIMAL,
            "psf": {"kind": "spline", "file": "psf.h5"},
            "schedule": {"kind": "cosine", "warm_up": 0},
            "camera": {"photons": 500},
            "pixel_size_nm": [100, 160],
            "scales": [1, 2],
            "weights": {"x": 4, "z": 1.5},
            "extra": {"anything": [1, None]},
        },
    )
    assert settings.psf == Spline(Path("psf.h5"))
    assert settings.schedule == Cosine(warm_up=0.0)
    assert settings.camera == Scaling(photons=500.0)
    assert settings.pixel_size_nm == (100.0, 160.0)
    assert settings.scales == (1.0, 2.0) and all(isinstance(scale, float) for scale in settings.scales)
    assert settings.weights == {"x": 4.0, "z": 1.5}
    assert settings.extra == {"anything": [1, None]}


def test_union_itself_can_be_built() -> None:
    assert build(Gaussian | Spline, {"kind": "spline", "file": "a.h5"}, "psf") == Spline(Path("a.h5"))


def test_only_kind_need_not_be_named() -> None:
    assert build(Gaussian, {"sigma_px": 2}) == Gaussian(2.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_frame": 3}, "unknown setting 'n_frame', did you mean 'n_frames'?"),
        (
            {"psf": {"kind": "gaussian", "sigma": 1}},
            "unknown setting 'psf.sigma', did you mean 'psf.sigma_px'?",
        ),
        ({"n_frames": True}, "n_frames is True: give a whole number"),
        ({"n_frames": 1.0}, "n_frames is 1.0: give a whole number"),
        ({"n_frames": None}, "n_frames is None: give a whole number"),
        ({"seed": "a"}, "seed is 'a': give a whole number or null"),
        ({"name": 3}, "name is 3: give text, in quotes: 'name=\"3\"'"),
        ({"resume": 1}, "resume is 1: give true or false"),
        ({"precision": "fp16"}, "precision is 'fp16': give one of bf16, fp32"),
        ({"pixel_size_nm": [1, 2, 3]}, "pixel_size_nm is [1, 2, 3]: give a list of 2 (a number, a number)"),
        (
            {"pixel_size_nm": "a"},
            "pixel_size_nm is 'a': give a number or a list of 2 (a number, a number)",
        ),
        ({"scales": [1, "a"]}, "scales[1] is 'a': give a number"),
        ({"scales": 1}, "scales is 1: give a list, each a number"),
        ({"weights": {"x": "a"}}, "weights.x is 'a': give a number"),
        ({"psf": {"kind": "spline"}}, "the setting 'psf.file' is missing: give a path"),
        ({"psf": {"kind": "splin", "file": "a"}}, "'psf.kind' cannot be 'splin', did you mean 'spline'?"),
        ({"psf": {}}, "the setting 'psf.kind' is missing: there is gaussian, spline"),
        ({"psf": "gaussian"}, "psf is 'gaussian': give settings as 'name: value' pairs"),
        ({"psf": {"kind": "gaussian", "sigma_px": -1}}, "psf: sigma_px is -1.0: give a positive number"),
        ({"schedule": {"kind": "zzz"}}, "'schedule.kind' cannot be 'zzz': there is cosine, constant"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    assert message_of({**MINIMAL, **changes}) == message


def test_path_of_the_mapping_comes_first() -> None:
    assert message_of({**MINIMAL, "seed": "a"}, "train") == "train.seed is 'a': give a whole number or null"
    assert message_of({"psf": {}}, "train").startswith("the setting 'train.n_frames' is missing")
    assert message_of([1]).startswith("the configuration is [1]: give settings")


def test_error_that_names_its_place_is_left_alone() -> None:
    with pytest.raises(SettingsError, match=r"^scaling\.photons is -1\.0: give"):
        build(Scaling, {"photons": -1}, "train.scaling")


names = st.text("abcxyz_", min_size=1, max_size=8)


@given(
    st.builds(
        Settings,
        n_frames=st.integers(),
        psf=st.one_of(
            st.builds(Gaussian, st.floats(1e-3, 1e3)), st.builds(Spline, names.map(Path), st.just("spline"))
        ),
        name=names,
        precision=st.sampled_from(["bf16", "fp32"]),
        resume=st.booleans(),
        seed=st.none() | st.integers(),
        pixel_size_nm=st.floats(1, 1e4) | st.tuples(st.floats(1, 1e4), st.floats(1, 1e4)),
        scales=st.lists(st.floats(0, 4), max_size=4).map(tuple),
        weights=st.dictionaries(names, st.floats(0, 9)),
        schedule=st.builds(Cosine, st.floats(0, 1)) | st.just(Constant()),
        camera=st.none() | st.builds(Scaling, photons=st.floats(1, 1e4)),
        extra=st.none(),
    )
)
def test_settings_survive_the_way_through_a_mapping(settings: Settings) -> None:
    mapping = asdict(settings)
    for name in ("psf", "schedule"):  # kind is a class attribute, not a field, in some
        mapping[name]["kind"] = getattr(settings, name).kind
    assert build(Settings, mapping) == settings


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | names,
        lambda one: st.lists(one) | st.dictionaries(names, one),
    )
)
def test_no_value_makes_anything_but_a_settings_error(value: Any) -> None:
    for name in ("n_frames", "psf", "pixel_size_nm", "weights", "schedule", "camera"):
        try:
            built = build(Settings, {**MINIMAL, name: value})
        except SettingsError as error:
            assert str(error)
        else:
            assert isinstance(built, Settings)
