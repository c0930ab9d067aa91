"""Tables in parts: however a table is parted, every format's file is the whole table's; memory holds a block of it."""

from __future__ import annotations

import signal
import tracemalloc
import zipfile
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from emitter.core.errors import EmitterError
from emitter.core.table import PRECISION_COLUMNS, EmitterTable
from emitter.core.units import PixelSize
from emitter.io import csv_tables, hdf5_file
from emitter.io import parquet as our_parquet
from emitter.io import parts as parts_module
from emitter.io.acquisition import Acquisition
from emitter.io.parts import Parts, Sample
from emitter.io.tables import FORMATS, read_parts, read_table, write_parts, write_table

MOVIE = Acquisition(PixelSize.of(100.0), (200, 300), 1000)
OPTIONAL = ("z_nm", "photons", "background", *PRECISION_COLUMNS, "n_frames")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (parts_module, our_parquet):
        monkeypatch.setattr(module, "BLOCK_ROWS", 4)
    monkeypatch.setattr(parts_module, "_SAMPLED", 8)


@st.composite
def tables(draw: st.DrawFn) -> EmitterTable:
    """Partly outside of the frame, any column unknown, wholly or in places, or absent."""
    n = draw(st.integers(0, 20))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    columns = {"x_nm": rng.uniform(-500, 31_000, n), "y_nm": rng.uniform(-500, 21_000, n)}
    for name in OPTIONAL:
        known = draw(st.sampled_from(["all", "some", "none", "absent"]))
        share = {"all": 1.0, "some": 0.6, "none": 0.0}.get(known)
        if share is not None:
            columns[name] = np.where(rng.uniform(size=n) < share, rng.exponential(50, n), np.nan)
    return EmitterTable.of(np.sort(rng.integers(0, 999, n)), probability=rng.uniform(0, 1, n), **columns)


@st.composite
def parted(draw: st.DrawFn) -> tuple[EmitterTable, list[EmitterTable]]:
    """A table, and the same cut at some rows; parts without rows may lack columns."""
    table = draw(tables())
    cuts = sorted(draw(st.lists(st.integers(0, len(table)), max_size=6)))
    parts = [table.select(slice(*ends)) for ends in zip([0, *cuts], [*cuts, len(table)], strict=True)]
    if len(table) and draw(st.booleans()):
        parts = [EmitterTable.empty(), *parts, EmitterTable.empty()]
    return table, parts


def contents(folder: Path) -> dict[str, bytes]:
    """Of the files by name; of an archive, which notes the time, of what is in it."""
    found = {}
    for path in folder.iterdir():
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found |= {name: archive.read(name) for name in archive.namelist()}
        else:
            found[path.name] = path.read_bytes()
    return found


@pytest.mark.parametrize("name", FORMATS)
@given(cut=parted())
def test_parts_are_written_as_the_whole(
    tmp_path_factory: pytest.TempPathFactory, name: str, cut: tuple[EmitterTable, list[EmitterTable]]
) -> None:
    table, parts = cut
    whole, in_parts = (tmp_path_factory.mktemp(which) for which in ("whole", "parts"))
    write_table(whole / f"table{FORMATS[name].suffix}", table, name, MOVIE)
    write_parts(in_parts / f"table{FORMATS[name].suffix}", Parts.of(*parts), name, MOVIE)
    assert contents(whole) == contents(in_parts)


@pytest.mark.parametrize("name", FORMATS)
@given(table=tables())
def test_parts_are_read_as_the_whole(tmp_path: Path, name: str, table: EmitterTable) -> None:
    path = tmp_path / f"table{FORMATS[name].suffix}"
    write_table(path, table, name, MOVIE)
    found, _ = read_parts(path)
    if name in ("parquet", "picasso", "decode"):
        assert all(len(part) <= 4 for part in found)
    expected = read_table(path).columns()
    for _ in range(2):  # again and again
        for column, values in EmitterTable.concatenate(found).columns().items():
            np.testing.assert_array_equal(values, expected[column])


def test_a_table_without_parts_is_empty(tmp_path: Path) -> None:
    for name, known in FORMATS.items():
        path = tmp_path / f"{name}{known.suffix}"
        write_parts(path, Parts.of(), name, MOVIE)
        assert len(read_table(path)) == len(Parts.of().table()) == 0


def made(n_parts: int, n_rows: int) -> Iterator[EmitterTable]:
    """Parts that are made when they are asked for."""
    for k in range(n_parts):
        rng = np.random.default_rng(k)
        columns = {
            name: rng.exponential(50, n_rows)
            for name in ("z_nm", "photons", "background", *PRECISION_COLUMNS)
        }
        x_nm, y_nm = rng.uniform(100, 19_000, (2, n_rows))
        yield EmitterTable.of(np.full(n_rows, k), x_nm=x_nm, y_nm=y_nm, **columns)


@pytest.mark.parametrize("name", FORMATS)
def test_memory_holds_a_few_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    n_parts, n_rows = 40, 2048
    for module in (parts_module, our_parquet):
        monkeypatch.setattr(module, "BLOCK_ROWS", n_rows)
    monkeypatch.setattr(parts_module, "_SAMPLED", n_rows)
    source, path = Parts(partial(made, n_parts, n_rows)), tmp_path / f"table{FORMATS[name].suffix}"
    whole_bytes = n_parts * sum(column.nbytes for column in next(iter(source)).columns().values())
    tracemalloc.start()
    try:
        write_parts(path, source, name, MOVIE)
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        n_read = sum(map(len, read_parts(path)[0]))
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n_read == n_parts * n_rows
    assert written < whole_bytes / 5
    assert read < whole_bytes / 5


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("n_passes", [0, 1])
def test_nothing_is_left_of_what_is_interrupted(tmp_path: Path, name: str, n_passes: int) -> None:
    """During the first pass, and while rows are written: an earlier table stays."""
    path = tmp_path / f"table{FORMATS[name].suffix}"
    write_table(path, next(made(1, 3)), name, MOVIE)
    before = contents(tmp_path)
    passes = iter(range(9))

    def stopped() -> Iterator[EmitterTable]:
        yield from made(3, 10)
        if next(passes) >= n_passes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_parts(path, Parts(stopped), name, MOVIE)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"picasso", "decode"}))
def test_a_full_disk_is_told(tmp_path: Path, name: str) -> None:
    resource = pytest.importorskip("resource", reason="limits of a process are Unix's")
    path = tmp_path / f"table{FORMATS[name].suffix}"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with pytest.raises(
            EmitterError, match=rf"table\{path.suffix} cannot be written .*File too large.*make room"
        ):
            write_parts(path, Parts(partial(made, 5, 1000)), name, MOVIE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["picasso", "decode"])
def test_hdf5_is_not_begun_on_a_disk_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source, path = Parts(partial(made, 5, 100)), tmp_path / f"table{FORMATS[name].suffix}"
    write_parts(path, source, name, MOVIE)
    for free, fits in ((path.stat().st_size // 2, False), (path.stat().st_size, True)):
        monkeypatch.setattr(hdf5_file.shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        if fits:
            write_parts(path, source, name, MOVIE)
            continue
        with pytest.raises(EmitterError, match=rf"table\{path.suffix} cannot be written .No space left"):
            write_parts(path, source, name, MOVIE)


@given(st.lists(st.integers(0, 40), max_size=12))
def test_a_sample_does_not_depend_on_the_parts(lengths: list[int]) -> None:
    ends = np.cumsum([0, *lengths])
    column = np.random.default_rng(0).normal(size=int(ends[-1]))
    whole, parted_sample = Sample(), Sample()
    whole.add(column)
    for start, stop in pairwise(ends):
        parted_sample.add(column[start:stop])
    np.testing.assert_equal(parted_sample.median(), whole.median())
    if 0 < len(column) <= parts_module._SAMPLED:
        assert whole.median() == np.median(column)


def test_the_median_of_a_sample_is_near_the_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "_SAMPLED", 1000)
    sample = Sample()
    for k in range(10):
        sample.add(np.random.default_rng(k).normal(7, 1, 5000))
    assert abs(sample.median() - 7) < 4 * 1.25 / np.sqrt(500)  # 1.25: of a normal distribution's median


def text(rows: list[str]) -> str:
    return "\n".join(["frame,x_nm,y_nm", *rows, ""])


def test_rows_of_a_csv_that_become_uneven_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_tables, "_PART_BYTES", 1 << 12)
    rows = [f"{k},{k}.5,2" for k in range(3000)]
    (tmp_path / "a.csv").write_text(text([*rows, "3000,1,2,,", "3001,1,2"]))
    parts = read_parts(tmp_path / "a.csv")[0]
    assert sum(1 for part in parts if len(part)) > 3
    assert parts.table().frame.tolist() == list(range(3002))
    assert parts.survey.n_rows == 3002


@pytest.mark.parametrize(("wrong", "words"), [("0.5,1,2", "frame 0.5"), ("1,,2", "no number for x_nm")])
def test_a_wrong_row_is_counted_from_the_files_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, words: str
) -> None:
    monkeypatch.setattr(csv_tables, "_PART_BYTES", 1 << 12)
    rows = [f"{k},{k}.5,2" for k in range(3000)]
    (tmp_path / "a.csv").write_text(text([*rows, wrong, *rows]))
    with pytest.raises(EmitterError, match=rf"row 3001 of .*{words}"):
        write_parts(tmp_path / "b.parquet", read_parts(tmp_path / "a.csv")[0])
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_row_groups_are_blocks(tmp_path: Path) -> None:
    write_parts(tmp_path / "a.parquet", Parts.of(*made(3, 3)))
    groups = parquet.ParquetFile(tmp_path / "a.parquet").metadata
    assert [groups.row_group(k).num_rows for k in range(groups.num_row_groups)] == [4, 4, 1]
