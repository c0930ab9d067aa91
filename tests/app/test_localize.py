"""localize.py from a checkpoint and a movie to its table and image."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor, nn

from emitter.app import localize, localizing
from emitter.app.localize import Settings, run
from emitter.app.localize_settings import build_localizer
from emitter.core import channels as ch
from emitter.core.channels import Scaling
from emitter.core.decoding import Thresholds
from emitter.core.errors import EmitterError, SettingsError
from emitter.core.units import PixelSize
from emitter.inference.bundle import KEY, Bundle
from emitter.inference.uncertainty import Correction, Knots
from emitter.io.acquisition import Acquisition
from emitter.io.journal import Journal
from emitter.io.tables import read_table, read_table_of
from emitter.models.network import EmitterNetwork, InputScaling
from emitter.models.settings import VarSettings
from emitter.psf.gaussian import GaussianPSF
from emitter.psf.spline import SplinePSF
from emitter.simulation.camera import Camera, CameraSettings
from emitter.simulation.settings import SimulationSettings


class Marker(nn.Module):
    """Finds every pixel above 1,500 photons, z 0; may stop at a given frame as a user would."""

    n_frames = 3
    cells_px = (1.0,)
    stride = 1
    receptive_radius_px = 0
    interrupt_after: int | None = None
    lean = 0.0  # of x, in half pixels

    def forward_movie(self, frames_FHW: Tensor, window_BT: Tensor) -> list[Tensor]:
        if self.interrupt_after is not None:
            if self.interrupt_after == 0:
                raise KeyboardInterrupt
            self.interrupt_after -= 1
        middle = frames_FHW[window_BT[:, 1]]
        maps = torch.zeros(len(middle), 6, *middle.shape[-2:])
        maps[:, ch.P] = torch.where(middle > 1500, 30.0, -30.0)
        maps[:, ch.PHOTONS] = middle / Scaling().photons
        maps[:, ch.X] = self.lean
        return [maps]


def bundle_of(network: Any, z_range_nm: tuple[float, float] = (-500, 500), pixel_nm: float = 100) -> Bundle:
    camera = Camera.build(CameraSettings(kind="scmos", pixel_size_nm=pixel_nm, baseline_adu=100))
    return Bundle(
        network,
        Scaling(),
        Thresholds(),
        GaussianPSF(1.3, 1.3),
        camera,
        SimulationSettings(z_range_nm=z_range_nm),
    )


@pytest.fixture
def marker(monkeypatch: pytest.MonkeyPatch) -> Marker:
    network = Marker()
    monkeypatch.setattr(localize, "load_bundle", lambda source: bundle_of(network))
    return network


def movie_at(path: Path, n_frames: int = 12) -> Path:
    """In frame k a bright pixel in row 3, column k; otherwise 110 to 119 counts."""
    frames = np.random.default_rng(0).integers(110, 120, (n_frames, 32, 40)).astype(np.uint16)
    for k in range(n_frames):
        frames[k, 3, k] = 2100
    tifffile.imwrite(path, frames)
    return path


def settings(tmp_path: Path, **changes: Any) -> Settings:
    given = {
        "checkpoint": Path(__file__),  # any file: what it holds is patched
        "movie": str(tmp_path / "movie.tif"),
        "output": tmp_path / "locs.csv",
    }
    return Settings(**{**given, "device": "cpu", "uncertainty": False, "report": False, **changes})


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("batch_px", [1280, 3000, 10**6])
def test_table_and_image(tmp_path: Path, marker: Marker, batch_px: int) -> None:
    movie_at(tmp_path / "movie.tif")
    result = run(settings(tmp_path, batch_px=batch_px))
    table = read_table(tmp_path / "locs.csv")
    assert table.frame.tolist() == list(range(12))
    np.testing.assert_allclose(table.x_nm, (np.arange(12) + 0.5) * 100)
    np.testing.assert_allclose(table.y_nm, 350)
    np.testing.assert_allclose(table.photons, 2000, rtol=1e-4)
    assert (result["n_frames"], result["n_emitters"]) == (12, 12)
    assert files(tmp_path) == ["locs.csv", "locs.png", "movie.tif"]


def test_the_image_shows_the_region(tmp_path: Path, marker: Marker, monkeypatch: pytest.MonkeyPatch) -> None:
    movie_at(tmp_path / "movie.tif")
    shown = []

    def save(self: localize.SuperResImage, path: Path) -> None:
        shown.append(self.counts())
        path.touch()

    monkeypatch.setattr(localize.SuperResImage, "save", save)
    run(settings(tmp_path, roi=(4, 2, 20, 32), superres_nm=100.0))
    expected = np.zeros((30, 16))
    expected[1, :8] = 1  # of the emitters at row 3 and columns 0 to 11, those inside
    np.testing.assert_array_equal(shown[0], expected)


@pytest.mark.parametrize("name", ["locs.hdf5", "locs.h5", "locs.smlm", "locs.parquet"])
def test_the_ending_says_the_format(tmp_path: Path, marker: Marker, name: str) -> None:
    movie_at(tmp_path / "movie.tif")
    marker.interrupt_after = 1  # what grows is text, and is gone on with
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path, output=tmp_path / name, batch_px=3000))
    assert not (tmp_path / name).exists()
    marker.interrupt_after = None
    run(settings(tmp_path, output=tmp_path / name, batch_px=3000))
    table, acquisition = read_table_of(tmp_path / name)
    assert table.frame.tolist() == list(range(12))
    np.testing.assert_allclose(table.x_nm, (np.arange(12) + 0.5) * 100, rtol=1e-6)
    np.testing.assert_allclose(table.y_nm, 350, rtol=1e-6)
    if name == "locs.hdf5":
        assert acquisition == Acquisition(PixelSize.of(100), (32, 40), 12)
    expected = {"locs.png", "movie.tif", name} | ({"locs.yaml"} if name == "locs.hdf5" else set())
    assert set(files(tmp_path)) == expected


def test_a_file_in_the_tables_way_is_said_before_the_work(tmp_path: Path, marker: Marker) -> None:
    movie_at(tmp_path / "movie.tif")
    (tmp_path / "movie.yaml").write_text("Width: 40\n")  # the movie's own, as Picasso has it
    with pytest.raises(EmitterError, match=r"movie\.yaml is there already"):
        run(settings(tmp_path, output=tmp_path / "movie.hdf5"))
    assert files(tmp_path) == ["movie.tif", "movie.yaml"]


def test_the_table_and_the_image_have_names_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="which is the image's name: give another ending"):
        settings(tmp_path, output=tmp_path / "locs.png", format="emitter")


def test_pixels_that_the_format_cannot_have_are_said_before_the_work(
    tmp_path: Path, marker: Marker, monkeypatch: pytest.MonkeyPatch
) -> None:
    movie_at(tmp_path / "movie.tif")
    bundle = bundle_of(marker)
    oblong = Camera.build(CameraSettings(kind="ideal", pixel_size_nm=(100.0, 120.0)))
    monkeypatch.setattr(localize, "load_bundle", lambda source: replace(bundle, camera=oblong))
    marker.interrupt_after = 0  # it is not asked
    with pytest.raises(EmitterError, match="100 × 120 nm: Picasso has square pixels, choose another format"):
        run(settings(tmp_path, output=tmp_path / "locs.hdf5"))
    assert files(tmp_path) == ["movie.tif"]


@pytest.mark.parametrize("name", ["locs.png", "locs_report.html"])
def test_a_folder_in_the_way_of_the_image_or_the_report_is_said_before_the_work(
    tmp_path: Path, marker: Marker, name: str
) -> None:
    movie_at(tmp_path / "movie.tif")
    (tmp_path / name).mkdir()
    marker.interrupt_after = 0  # it is not asked
    with pytest.raises(EmitterError, match=f"output .*{name} is a folder"):
        run(settings(tmp_path, report=True))
    assert files(tmp_path) == sorted([name, "movie.tif"])


def test_an_older_table_is_not_gone_on_with_where_the_partial_one_was_taken_away(
    tmp_path: Path, marker: Marker
) -> None:
    movie_at(tmp_path / "movie.tif")
    run(settings(tmp_path, batch_px=1280))
    expected = (tmp_path / "locs.csv").read_bytes()
    (tmp_path / "locs.csv").write_bytes(expected.replace(b"1", b"2"))  # of other emitters
    marker.interrupt_after = 1
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path, batch_px=1280, threshold=0.9))
    (tmp_path / "locs.csv.partial").unlink()
    marker.interrupt_after = None
    run(settings(tmp_path, batch_px=1280, threshold=0.9))
    assert (tmp_path / "locs.csv").read_bytes() == expected


@pytest.mark.parametrize("name", ["locs.csv", "locs.smlm"])
def test_what_was_stopped_at_its_report_looks_at_no_frame_again(
    tmp_path: Path, marker: Marker, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    movie_at(tmp_path / "movie.tif")
    chosen = settings(tmp_path, output=tmp_path / name, report=True)

    def stopped(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(localize, "report_of", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(chosen)
    there = (tmp_path / name).read_bytes(), (tmp_path / "locs.png").read_bytes()
    monkeypatch.setattr(localize, "report_of", lambda page, *_: page)
    marker.interrupt_after = 0  # it is not asked again
    run(chosen)
    assert ((tmp_path / name).read_bytes(), (tmp_path / "locs.png").read_bytes()) == there
    assert files(tmp_path) == sorted([name, "locs.png", "movie.tif"])
    with pytest.raises(KeyboardInterrupt):  # what is finished is made anew
        run(chosen)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), EmitterError("the format cannot hold it")])
def test_a_finished_table_outlives_what_stops_its_last_step(
    tmp_path: Path,
    marker: Marker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    interruption: BaseException,
) -> None:
    movie_at(tmp_path / "movie.tif")
    write_parts = localizing.write_parts

    def stopped(*arguments: Any) -> None:
        raise interruption

    monkeypatch.setattr(localizing, "write_parts", stopped)
    with pytest.raises(type(interruption)):
        run(settings(tmp_path, output=tmp_path / "locs.parquet"))
    assert "the emitters are in" in caplog.text
    assert len(read_table(tmp_path / "locs.parquet.thunderstorm.csv")) == 12
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    with pytest.raises(
        EmitterError, match=r"thunderstorm\.csv was begun with another movie, checkpoint or set"
    ):
        run(settings(tmp_path, output=tmp_path / "locs.parquet", threshold=0.9))
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == before
    monkeypatch.setattr(localizing, "write_parts", write_parts)
    marker.interrupt_after = 0  # it is not asked again
    run(settings(tmp_path, output=tmp_path / "locs.parquet"))
    assert len(read_table(tmp_path / "locs.parquet")) == 12
    assert files(tmp_path) == ["locs.parquet", "locs.png", "movie.tif"]


def test_a_movie_is_never_written_over(tmp_path: Path, marker: Marker) -> None:
    frames = np.full((3, 32, 40), 110, np.uint16)
    with h5py.File(tmp_path / "cell.h5", "w") as file:
        file["frames"] = frames
    before = (tmp_path / "cell.h5").read_bytes()
    movie = str(tmp_path / "cell.h5:/frames")
    with pytest.raises(EmitterError, match=r"output .*cell\.h5' is an input"):
        run(settings(tmp_path, movie=movie, output=tmp_path / "cell.h5"))
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(EmitterError, match="is an input"):
        run(
            settings(
                tmp_path, movie=str(tmp_path / "*.h5"), output=tmp_path / "link", each=True, format="decode"
            )
        )
    assert (tmp_path / "cell.h5").read_bytes() == before


def test_a_full_disk_is_said_with_the_file(
    tmp_path: Path, marker: Marker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    movie_at(tmp_path / "movie.tif")
    write = localizing.TableWriter.write

    def full(self: localizing.TableWriter, table: Any) -> Any:
        if self.n_rows:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, table)

    monkeypatch.setattr(localizing.TableWriter, "write", full)
    with pytest.raises(EmitterError, match=r"locs\.csv\.partial cannot be written \(No space left"):
        run(settings(tmp_path, batch_px=3000))
    assert "the same command goes on there" in caplog.text
    monkeypatch.setattr(localizing.TableWriter, "write", write)
    run(settings(tmp_path, batch_px=1280))  # other blocks make the same table
    assert read_table(tmp_path / "locs.csv").frame.tolist() == list(range(12))


def test_turned_is_asked_of_the_network_and_refused_where_it_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lopsided_psf: SplinePSF
) -> None:
    movie_at(tmp_path / "movie.tif")
    bundle = bundle_of(Marker())
    bundle.network.lean = 0.4  # type: ignore[assignment]
    monkeypatch.setattr(localize, "load_bundle", lambda source: bundle)
    for turned, x_nm in ((False, 70.0), (True, 50.0)):
        run(settings(tmp_path, turned=turned, superres_nm=None))
        table = read_table(tmp_path / "locs.csv")
        np.testing.assert_allclose(table.x_nm, np.arange(12) * 100 + x_nm, rtol=1e-5)
    (tmp_path / "locs.csv").unlink()
    bundle = replace(bundle, psf=lopsided_psf)
    with pytest.raises(SettingsError, match=r"differs by \d\d % of its peak: leave turned out"):
        run(settings(tmp_path, turned=True))
    assert files(tmp_path) == ["movie.tif"]


def test_a_2d_network_writes_a_2d_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(localize, "load_bundle", lambda source: bundle_of(Marker(), z_range_nm=(0, 0)))
    movie_at(tmp_path / "movie.tif")
    run(settings(tmp_path, superres_nm=None))
    assert '"z [nm]"' not in (tmp_path / "locs.csv").read_text()
    assert files(tmp_path) == ["locs.csv", "movie.tif"]


def test_nothing_found_is_an_empty_valid_table(tmp_path: Path, marker: Marker) -> None:
    tifffile.imwrite(
        tmp_path / "movie.tif", np.random.default_rng(0).integers(110, 120, (5, 20, 20)).astype("u2")
    )
    assert run(settings(tmp_path))["n_emitters"] == 0
    assert len(read_table(tmp_path / "locs.csv")) == 0
    assert (tmp_path / "locs.png").stat().st_size > 0


def test_output_is_checked_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_work(source: Path) -> Bundle:
        raise AssertionError("the work began")

    monkeypatch.setattr(localize, "load_bundle", no_work)
    (tmp_path / "file").write_text("")
    with pytest.raises(EmitterError, match="cannot be written"):
        run(settings(tmp_path, output=tmp_path / "file" / "locs.csv"))


def test_interruption_keeps_what_was_found_and_says_where(
    tmp_path: Path, marker: Marker, caplog: pytest.LogCaptureFixture
) -> None:
    movie_at(tmp_path / "movie.tif")
    marker.interrupt_after = 2
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path, batch_px=3 * 32 * 40))
    assert files(tmp_path) == ["locs.csv.partial", "locs.csv.partial.json", "movie.tif"]
    assert read_table(tmp_path / "locs.csv.partial").frame.tolist() == list(range(6))
    assert "6 emitters of the first 6 frames" in caplog.text
    assert "locs.csv.partial" in caplog.text


@pytest.mark.parametrize("blocks_before", [1, 2, 3])
@pytest.mark.parametrize("torn", [b"", b"13,14,1350.0000,3", b"13,14,1350.0000,350.0000\n"])
def test_the_same_command_goes_on_and_ends_with_the_same_files(
    tmp_path: Path, marker: Marker, blocks_before: int, torn: bytes
) -> None:
    movie_at(tmp_path / "movie.tif")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(settings(tmp_path, output=whole / "locs.csv", batch_px=3 * 32 * 40))
    marker.interrupt_after = blocks_before
    chosen = settings(tmp_path, output=parts / "locs.csv", batch_px=3 * 32 * 40)
    with pytest.raises(KeyboardInterrupt):
        run(chosen)
    with (parts / "locs.csv.partial").open("ab") as file:  # as a kill in the middle of a write leaves it
        file.write(torn)
    marker.interrupt_after = None
    marker.interrupt_after = 4 - blocks_before  # what was done is not done again
    result = run(chosen)
    assert (result["n_frames"], result["n_emitters"]) == (12, 12)
    assert files(parts) == ["locs.csv", "locs.png"]
    for name in files(parts):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_another_job_does_not_go_on_with_what_is_there(tmp_path: Path, marker: Marker) -> None:
    movie_at(tmp_path / "movie.tif")
    marker.interrupt_after = 2
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path, batch_px=3 * 32 * 40))
    marker.interrupt_after = None
    before = (tmp_path / "locs.csv.partial").read_bytes()
    for changes in ({"threshold": 0.9}, {"frames": (0, 10)}, {"movie": str(tmp_path / "other.tif")}):
        frames = tifffile.imread(tmp_path / "movie.tif")
        frames[0, 5, 5] += 1
        tifffile.imwrite(tmp_path / "other.tif", frames)
        with pytest.raises(EmitterError, match="was begun with another movie, checkpoint or setting"):
            run(settings(tmp_path, batch_px=3 * 32 * 40, **changes))
        assert (tmp_path / "locs.csv.partial").read_bytes() == before
    (tmp_path / "locs.csv.partial").write_text("lost")  # shorter than the journal says: from the beginning
    assert run(settings(tmp_path, batch_px=3 * 32 * 40))["n_emitters"] == 12


def test_a_journal_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "locs.csv.partial").write_text("id")
    (tmp_path / "locs.csv.partial.json").write_text("{")
    with pytest.raises(EmitterError, match="cannot be read"):
        Journal(tmp_path / "locs.csv.partial", "job").read()


def test_a_range_of_frames_is_the_rows_of_the_whole_movie(tmp_path: Path, marker: Marker) -> None:
    movie_at(tmp_path / "movie.tif")
    run(settings(tmp_path))
    whole = read_table(tmp_path / "locs.csv")
    assert run(settings(tmp_path, frames=(4, 9)))["n_frames"] == 6
    part = read_table(tmp_path / "locs.csv")
    inside = whole.select((whole.frame >= 4) & (whole.frame <= 9))
    for name, column in part.columns().items():
        np.testing.assert_array_equal(column, inside.columns()[name])
    with pytest.raises(EmitterError, match=r"frames is \[12,20\].*has the frames 0 to 11"):
        run(settings(tmp_path, frames=(12, 20)))


def test_dax_without_inf_takes_its_frame_size_from_the_settings(tmp_path: Path, marker: Marker) -> None:
    tifffile.imread(movie_at(tmp_path / "movie.tif")).astype(">u2").tofile(tmp_path / "movie.dax")
    dax = str(tmp_path / "movie.dax")
    with pytest.raises(EmitterError, match=r"movie\.inf.*frame_size_px"):
        run(settings(tmp_path, movie=dax))
    assert run(settings(tmp_path, movie=dax, frame_size_px=(32, 40)))["n_emitters"] == 12
    np.testing.assert_allclose(read_table(tmp_path / "locs.csv").x_nm, (np.arange(12) + 0.5) * 100)


def test_bad_movie_leaves_nothing(tmp_path: Path, marker: Marker) -> None:
    tifffile.imwrite(tmp_path / "movie.tif", np.full((5, 20, 20), 7, np.uint16))
    for movie, match in (("movie.tif", "constant"), ("nope.tif", "does not exist")):
        with pytest.raises(EmitterError, match=match):
            run(settings(tmp_path, movie=str(tmp_path / movie)))
        assert files(tmp_path) == ["movie.tif"]


def test_nan_in_the_middle_keeps_the_frames_before(tmp_path: Path, marker: Marker) -> None:
    movie_at(tmp_path / "movie.tif")
    frames = tifffile.imread(tmp_path / "movie.tif").astype(np.float32)
    frames[7, 0, 0] = np.nan
    tifffile.imwrite(tmp_path / "movie.tif", frames)
    with pytest.raises(EmitterError, match="frame 8 "):
        run(settings(tmp_path, batch_px=3 * 32 * 40))
    assert read_table(tmp_path / "locs.csv.partial").frame.tolist() == list(range(6))


def test_overrides_reach_the_camera_and_the_thresholds(tmp_path: Path, marker: Marker) -> None:
    movie_at(tmp_path / "movie.tif")
    localizer = build_localizer(bundle_of(marker), settings(tmp_path, baseline_adu=50, threshold=0.9))
    assert float(localizer.camera.to_photons(torch.tensor([[150.0]]))) == pytest.approx(100)
    assert localizer.thresholds == Thresholds(mass=0.9)
    with pytest.raises(EmitterError, match="baseline_adu"):
        run(settings(tmp_path, baseline_adu=5000))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"output": Path("locs.txt")}, "output"),
        ({"threshold": 1.5}, "threshold"),
        ({"superres_nm": -1.0}, "superres_nm"),
        ({"batch_px": 3}, "batch_px"),
        ({"frame_size_px": (0, 40)}, "frame_size_px"),
        ({"frames": (5, 2)}, "frames"),
        ({"roi": (5, 0, 5, 9)}, "roi"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        settings(tmp_path, **changes)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real checkpoint of a small untrained network."""
    model = VarSettings(
        cells_px=(4, 2, 1), stem_channels=(8, 8, 8), widths=(8, 8, 8), blocks=(1, 1, 1), latent_channels=8
    )
    bundle = bundle_of(EmitterNetwork(model, 3, InputScaling()))
    path = tmp_path_factory.mktemp("run") / "checkpoints" / "best.ckpt"
    path.parent.mkdir()
    weights = {f"network.{name}": value for name, value in bundle.network.state_dict().items()}
    torch.save({KEY: bundle.state(), "state_dict": weights}, path)
    return path


@pytest.mark.parametrize(
    ("movie", "n_frames", "side"),
    [
        ("deepstorm3d_tetrapod", 5, (332, 492)),
        ("storm_analysis/test_300x200.dax", 10, (200, 300)),
        ("c16_mt0n1ld_as/frames/*.tif", 32, (64, 64)),
        ("picasso/testdata.raw", 100, (32, 32)),
    ],
)
def test_real_movies_run_with_any_checkpoint(
    data_dir: Path, tmp_path: Path, checkpoint: Path, movie: str, n_frames: int, side: tuple[int, int]
) -> None:
    """Frames of any size; everything that an untrained network finds lies in the field and keeps its frame number."""
    chosen = settings(
        tmp_path,
        checkpoint=checkpoint.parent.parent,
        movie=str(data_dir / movie),
        threshold=0.001,
        baseline_adu=0,
        precision="fp32",
    )
    result = run(chosen)
    table = read_table(tmp_path / "locs.csv")
    assert result["n_frames"] == n_frames
    assert len(table) == result["n_emitters"] > 0
    assert (table.frame.min(), table.frame.max()) == (0, n_frames - 1)
    assert table.x_nm.min() > -100 and side[1] * 95 < table.x_nm.max() < side[1] * 100 + 100
    assert table.y_nm.min() > -100 and side[0] * 95 < table.y_nm.max() < side[0] * 100 + 100


def test_the_table_says_how_sure_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a correction that doubles the bound in x, and takes a certain score for a probability of 0.8."""
    double = np.log(2.0)
    weights = {
        axis: (1.0, *[0.0] * 3, shift, shift, *[0.0] * 4) for axis, shift in (("x_nm", double), ("y_nm", 0.0))
    }
    weights["photons"] = weights["y_nm"]
    known = replace(
        bundle_of(Marker(), z_range_nm=(0, 0)),
        correction=Correction(Knots((0.0, 9.0), (0.0, 1.0)), weights, (0.0, 1.0), (0.1, 0.8)),
    )
    monkeypatch.setattr(localize, "load_bundle", lambda source: known)
    movie_at(tmp_path / "movie.tif")
    run(settings(tmp_path, uncertainty=True, superres_nm=None))
    header = (tmp_path / "locs.csv").read_text().splitlines()[0]
    assert header.endswith(
        '"uncertainty_xy [nm]","probability","precision_x_nm","precision_y_nm","precision_photons"'
    )
    table = read_table(tmp_path / "locs.csv")
    middle = table.select(np.arange(4, 8))  # away from the frame's edges x and y are alike
    assert middle.precision_x_nm is not None and middle.precision_y_nm is not None
    np.testing.assert_allclose(middle.precision_x_nm, 2 * middle.precision_y_nm, rtol=0.25)
    np.testing.assert_allclose(table.probability, 0.8, atol=1e-4)
    lateral = np.genfromtxt(tmp_path / "locs.csv", delimiter=",", skip_header=1)[4:8, 6]
    both = np.stack([middle.precision_x_nm, middle.precision_y_nm])
    np.testing.assert_allclose(lateral, np.sqrt((both**2).mean(axis=0)), rtol=1e-4)
