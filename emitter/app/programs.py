"""The programs: console scripts of the package and root scripts of a checkout.

Each is configured by ``conf/<program>.yaml`` and done by ``emitter.app.<program>``, which has the frozen
dataclass ``Settings`` and the function ``run(settings)``.
"""

from emitter.app.launch import launch


def calibrate() -> None:
    """A bead stack → a PSF."""
    launch("calibrate")


def train() -> None:
    """PSF, camera and priors → a checkpoint."""
    launch("train")


def localize() -> None:
    """A checkpoint and a movie → a table and an image."""
    launch("localize")


def evaluate() -> None:
    """A table and its truth, or a checkpoint → metrics."""
    launch("evaluate")


def simulate() -> None:
    """Settings → a movie and its truth."""
    launch("simulate")


def export() -> None:
    """A checkpoint → its network as one file for other programs."""
    launch("export")


def diagnose() -> None:
    """A movie → whether the camera is believable, and the priors to train with."""
    launch("diagnose")


def convert() -> None:
    """A table in one format → the same in another."""
    launch("convert")
