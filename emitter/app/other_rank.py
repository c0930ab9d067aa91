"""Another process of a training on several devices: trains what the run's config.yaml says, from the same checkpoint.

python -m emitter.app.other_rank RUN_FOLDER [CHECKPOINT]
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from emitter.app.launch import log_handler
from emitter.app.train import train
from emitter.app.train_settings import saved_settings
from emitter.core.errors import EmitterError


def main(arguments: Sequence[str]) -> None:
    """One rank, from its start to its end."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[log_handler()])
    run_dir, *checkpoint = map(Path, arguments)
    # the first rank ends too, at its next exchange with this one at the latest, and tells why: a bad exit code would
    # only have it killed
    try:
        train(saved_settings(run_dir), checkpoint[0] if checkpoint else None)
    except EmitterError as error:  # which may be this rank's alone
        sys.stderr.write(f"error: rank {_number()}: {' '.join(str(error).split())}\n")
    except (KeyboardInterrupt, SystemExit):
        pass


def _number() -> int:
    """Of this rank in the whole run; on this machine, where it has not met the others yet."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("LOCAL_RANK", "0"))


if __name__ == "__main__":
    main(sys.argv[1:])
