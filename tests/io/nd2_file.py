"""Writes the least of a Nikon ``.nd2`` file, version 3, from what is known of its layout: chunks of a magic number, a
name and data; records of a type, a UTF-16 name and a value; a map of the chunks at the end."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

_MAGIC = 0x0ABECEDA
_DATA_OFFSET = 24 + 4072  # of a frame's pixels behind the place that the map names


def write_nd2(path: Path, frames_THW: np.ndarray, depths: int = 1) -> None:
    """Frames of 16 bit; with ``depths`` above 1 they are stacks at so many times fewer."""
    n_frames, height, width = frames_THW.shape
    attributes = {
        "uiWidth": width,
        "uiWidthBytes": 2 * width,
        "uiHeight": height,
        "uiComp": 1,
        "uiBpcInMemory": 16,
        "uiBpcSignificant": 16,
        "uiSequenceCount": n_frames,
        "eCompression": 2,
    }
    times = {"uiCount": n_frames // depths, "dStart": 0.0, "dPeriod": 10.0, "dDuration": 10.0 * n_frames}
    loop: dict[str, Any] = {"eType": 1, "uLoopPars": times}
    if depths > 1:
        inner = {"eType": 4, "uLoopPars": {"uiCount": depths, "dZStep": 1.0}}
        loop["ppNextLevelEx"] = {"i0000000000": inner}
    chunks = {
        "ImageAttributesLV!": _records({"SLxImageAttributes": attributes}),
        "ImageMetadataSeqLV|0!": _records({"SLxPictureMetadata": {"sPicturePlanes": {"uiCount": 1}}}),
        "ImageMetadataLV!": _records({"SLxExperiment": loop}),
    }
    with path.open("wb") as file:
        file.write(_chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0")))
        places = {}
        for name, data in chunks.items():
            places[name] = (file.tell(), len(data))
            file.write(_chunk(name.encode(), data))
        for k, frame in enumerate(frames_THW):
            name = f"ImageDataSeq|{k}!"
            pixels = struct.pack("<d", float(k)) + frame.astype("<u2").tobytes()  # a time stands before them
            places[name] = (file.tell(), len(pixels))
            file.write(_chunk(name.encode().ljust(_DATA_OFFSET - 16 - 8, b"\0"), pixels))
        at = file.tell()
        signature = b"ND2 CHUNK MAP SIGNATURE 0000001!"
        listed = b"".join(name.encode() + struct.pack("<QQ", *place) for name, place in places.items())
        file.write(_chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", listed + signature + struct.pack("<Q", at)))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack("<IIQ", _MAGIC, len(name), len(data)) + name + data


def _records(values: dict[str, Any]) -> bytes:
    parts = []
    for name, value in values.items():
        text = name.encode("utf-16-le") + b"\0\0"
        if isinstance(value, dict):
            inner = _records(value)
            head = bytes([11, len(name) + 1]) + text
            length = len(head) + 12 + len(inner)  # of the whole record, without the index at its end
            parts.append(head + struct.pack("<IQ", len(value), length) + inner + b"\0" * 8 * len(value))
        elif isinstance(value, float):
            parts.append(bytes([6, len(name) + 1]) + text + struct.pack("<d", value))
        else:
            parts.append(bytes([3, len(name) + 1]) + text + struct.pack("<I", value))
    return b"".join(parts)
