"""export.py: a checkpoint → its network as one file for other programs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emitter.core.errors import EmitterError, require
from emitter.inference.bundle import load_bundle
from emitter.inference.export import FORMATS, TOLERANCE, largest_difference, load, require_packages, write
from emitter.io.files import prepare_output, writing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What conf/export.yaml says; its comments explain every key."""

    checkpoint: Path
    output: Path

    def __post_init__(self) -> None:
        require(
            self.output.suffix in FORMATS,
            f"output is '{self.output}': give the name of a file that ends in {' or '.join(FORMATS)}",
        )


def run(settings: Settings) -> dict[str, Any]:
    """Write the network, load what was written, and hold it against the network.

    Returns:
        The path ``output`` and ``difference``, the largest one as a fraction of the maps' largest value.

    Raises:
        EmitterError: a checkpoint that cannot be used, a package that is missing, an output that cannot be written, or
            a file that computes something else; none is left then.
    """
    suffix = settings.output.suffix
    require_packages(suffix)
    output = prepare_output(settings.output)
    bundle = load_bundle(settings.checkpoint)
    with writing(output) as temporary:
        write(bundle, temporary, suffix)
        difference = largest_difference(bundle.network, load(temporary, suffix))
        if not difference <= TOLERANCE:
            others = " or ".join(other for other in FORMATS if other != suffix)
            raise EmitterError(
                f"{output} would not compute what the network does: on random frames its maps differ by "
                f"{difference:.2g} of their largest value, more than {TOLERANCE:g}, and it was not kept: "
                f"give an output that ends in {others}"
            )
    log.info("wrote %s", output)
    log.info("on random frames its maps differ from the network's by at most %.1g of their scale", difference)
    return {"output": output, "difference": difference}
