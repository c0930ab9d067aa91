"""How far a table that is being written has come, so that who was interrupted goes on there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from emitter.core.errors import EmitterError
from emitter.io.files import replacing


@dataclass(frozen=True)
class Written:
    """What of a job is in the partial table: ``n_frames`` of the movie, ``n_rows`` and ``n_bytes`` of the file."""

    n_frames: int = 0
    n_rows: int = 0
    n_bytes: int = 0


class Journal:
    """Beside a partial table, ``<partial>.json``: the job that writes it and what of it is done.

    Args:
        partial: the table that grows.
        job: a fingerprint of all that the table follows from.
    """

    def __init__(self, partial: Path, job: str) -> None:
        self.partial = partial
        self.path = partial.with_name(partial.name + ".json")
        self.job = job

    def read(self, table: Path | None = None) -> Written:
        """What was done before; nothing where no job was begun, or where its table lost what the journal says.

        Args:
            table: the partial table where it has another name by now.

        Raises:
            EmitterError: when another job was begun there.
        """
        table = table or self.partial
        if not self.path.is_file() or not table.is_file():
            return Written()
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            job, written = kept["job"], Written(**kept["written"])
        except (ValueError, LookupError, TypeError) as error:
            raise EmitterError(
                f"{self.path} cannot be read ({error}): remove it and {table} to begin anew"
            ) from error
        if job != self.job:
            raise EmitterError(
                f"{table} was begun with another movie, checkpoint or setting: give what it was begun with to "
                f"go on, or remove it and {self.path.name} to begin anew, or give another output="
            )
        return written if table.stat().st_size >= written.n_bytes else Written()

    def write(self, written: Written) -> None:
        """Note what is done, whole or not at all."""
        with replacing(self.path, shared=False) as temporary:
            temporary.write_text(json.dumps({"job": self.job, "written": asdict(written)}), encoding="utf-8")

    def remove(self) -> None:
        """The job is done, or there is nothing to go on with."""
        self.path.unlink(missing_ok=True)


class Finished:
    """Which tables of a folder are finished, ``<folder>/.finished.json``: who was interrupted leaves them out.

    Args:
        folder: of the tables.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".finished.json"

    def _jobs(self) -> dict[str, str]:
        """By table; read anew each time, since another program may add its own."""
        if not self.path.is_file():
            return {}
        try:
            return dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise EmitterError(f"{self.path} cannot be read ({error}): remove it to begin anew") from error

    def has(self, table: Path, job: str) -> bool:
        """Whether the table is there and was made by this job."""
        return table.is_file() and self._jobs().get(table.name) == job

    def add(self, table: Path, job: str) -> None:
        """One more is finished."""
        jobs = {**self._jobs(), table.name: job}
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(jobs), encoding="utf-8")

    def remove(self) -> None:
        """All are finished."""
        self.path.unlink(missing_ok=True)
