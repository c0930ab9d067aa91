"""Files that are whole or absent."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from emitter.core.errors import EmitterError, require

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = ".tmp"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)  # None: HDF5 does not say which


@contextmanager
def replacing(path: Path, shared: bool = True) -> Iterator[Path]:
    """A temporary name in the same folder; what is written there becomes ``path`` when all went well.

    ``shared``: other programs may be writing the same path; what killed ones left on this computer is removed.
    Otherwise what a killed one left is written over.
    """
    if shared:
        _remove_left_behind(path)
    temporary = _temporary(path) if shared else path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A name of this process alone, also among those of other computers that see the same folder."""
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}{_TEMPORARY}")


def _remove_left_behind(path: Path) -> None:
    """Remove the temporary files of ``path`` whose process, of this computer, is gone."""
    begins = f".{path.name}.{platform.node()}."
    with suppress(OSError):  # a folder that cannot be read or changed: the writing will say so
        for other in path.parent.iterdir():
            if other.name.startswith(begins) and other.name.endswith(_TEMPORARY):
                pid = other.name[len(begins) : -len(_TEMPORARY)]
                if pid.isdecimal() and not _is_alive(int(pid)):
                    other.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    """Whether there is such a process, of whoever's; taken for granted on Windows, where asking would end it."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """What the system says where a file cannot be written, with its name.

    Raises:
        EmitterError: for an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        way_out = "make room on its disk" if error.errno in _FULL else "check its disk and your rights there"
        raise EmitterError(f"{path} cannot be written ({reason}): {way_out}") from error


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """``replacing``, for what a user asked for: an error of the system comes with the file's name.

    Raises:
        EmitterError: for an ``OSError``.
    """
    with writable(path), replacing(path) as temporary:
        yield temporary


def require_apart(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise ``SettingsError`` where an output would be written over an input."""
    read = {path.expanduser().resolve() for path in inputs}
    for path in outputs:
        require(path.expanduser().resolve() not in read, f"output '{path}' is an input: give another name")


def prepare_output(path: Path) -> Path:
    """Make the folder of an output file and check that it can be written, before any work is done.

    Raises:
        EmitterError: the folder cannot be made or written, or the path is a folder.
    """
    path = path.expanduser()
    if path.is_dir():
        raise EmitterError(f"output {path} is a folder: give the name of a file in it")
    above = next((parent for parent in path.parents if parent.exists()), path)
    if above.is_file():
        raise EmitterError(
            f"output {path} cannot be written ({above} is a file, not a folder): choose another with output="
        )
    probe = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
        _remove_left_behind(path)  # the disk may be full of it
    except OSError as error:
        raise EmitterError(
            f"output folder {path.parent} cannot be written ({error.strerror}): choose another with output="
        ) from error
    return path


@contextmanager
def leaving_no_empty(folder: Path) -> Iterator[None]:
    """Where the block fails, the folders up to ``folder`` that it made and left empty go again."""
    folder = folder.expanduser()
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        yield
    except BaseException:
        for one in new:
            with suppress(OSError):  # there is something in it, or it was not made
                one.rmdir()
        raise


def open_alone(path: Path) -> BinaryIO:
    """A file to go on with, made if need be, that no other program writes; where files can be locked.

    Raises:
        EmitterError: when another program has it open so.
    """
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise EmitterError(
            f"{path} is being written by another program: wait for its end, or choose another with output="
        ) from error
    except OSError:  # a file system without locks
        pass
    return file
