"""32-bit TIFFs that ImageJ and Fiji open with their pixel size, as images or as stacks over z.

Lengths are in µm there, and the origin says where 0 nm lies, so that what is measured has the table's coordinates.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from emitter.io.files import writing


def write_imagej(
    path: Path, image: np.ndarray, voxel_nm: tuple[float, ...], origin_nm: tuple[float, ...]
) -> None:
    """Write an image, (H, W), or a stack, (Z, H, W), as float32.

    Args:
        path: its ending is the caller's.
        image: first row at the lowest y, first slice at the lowest z.
        voxel_nm: size of a pixel in x and y, the same in both, and of a slice in z for a stack.
        origin_nm: x and y, and z for a stack, of the first pixel's outer corner.
    """
    # ImageJ's own keys: the origin counts in pixels, from the first one's corner to 0
    origin = {f"{axis}origin": -o / v for axis, o, v in zip("xyz", origin_nm, voxel_nm, strict=False)}
    metadata = {"unit": "um", "axes": "ZYX"[-image.ndim :], **origin}
    if image.ndim == 3:
        metadata["spacing"] = voxel_nm[2] / 1000
    per_um = (1000 / voxel_nm[0], 1000 / voxel_nm[1])
    with writing(path) as temporary:
        tifffile.imwrite(
            temporary, image.astype(np.float32, copy=False), imagej=True, resolution=per_um, metadata=metadata
        )
