"""Pictures of one float32 number a pixel as files: NumPy's own, and OpenEXR (one channel Y) for Blender, Nuke and the like."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from nerf_app.errors import BackendUnavailable

EXR_PIXELS = "grayf32le"  # ffmpeg's name for little-endian float32, one channel


@dataclass(frozen=True)
class FloatFile:
    """A format: [H, W] float32, NaN and infinities included, to bytes, and back from a file of ours."""

    content: Callable[[np.ndarray], bytes]
    read: Callable[[Path], np.ndarray]


def npy_bytes(values: np.ndarray) -> bytes:
    """The file that numpy.load reads."""
    stream = io.BytesIO()
    np.save(stream, values.astype(np.float32), allow_pickle=False)
    return stream.getvalue()


def exr_bytes(values: np.ndarray) -> bytes:
    """An OpenEXR file, losslessly compressed (ZIP)."""
    if "exr" not in av.codecs_available:
        raise BackendUnavailable("this PyAV cannot write EXR: install av from its wheel, or use --format npy")
    coder = av.CodecContext.create("exr", "w")
    coder.height, coder.width = values.shape
    coder.pix_fmt, coder.time_base, coder.options = EXR_PIXELS, Fraction(1), {"compression": "zip16"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(values, np.float32), format=EXR_PIXELS)
    return b"".join(bytes(packet) for packet in (*coder.encode(frame), *coder.encode(None)))


def read_exr(file: Path) -> np.ndarray:
    """[H, W] of what `exr_bytes` gave."""
    coder = av.CodecContext.create("exr", "r")
    frames = [*coder.decode(av.Packet(file.read_bytes())), *coder.decode(None)]
    return frames[0].to_ndarray(format=EXR_PIXELS)


FLOAT_FILES = {"npy": FloatFile(npy_bytes, np.load), "exr": FloatFile(exr_bytes, read_exr)}
