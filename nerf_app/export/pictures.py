"""Pictures as files: pixels in, PNG and JPEG out, and back."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from nerf_app.scene.writing import write_bytes


def write_png(pixels: np.ndarray, out: Path) -> None:
    """Write [H, W] grey, [H, W, 3] or [H, W, 4] uint8 (alpha straight), or [H, W] uint16 grey, as a PNG."""
    write_bytes(png_bytes(pixels), out)


def png_bytes(pixels: np.ndarray, exif: bytes = b"") -> bytes:
    """The file that `write_png` writes."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=3, exif=exif)
    return stream.getvalue()


def jpeg_bytes(pixels: np.ndarray, quality: int, *, is_colour_full: bool = False, exif: bytes = b"") -> bytes:
    """[H, W, 3] uint8 as a JPEG file; colour at half the resolution, as eyes see it, or at the full one."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=quality, subsampling="4:4:4" if is_colour_full else "4:2:0",
                                 optimize=True, exif=exif)
    return stream.getvalue()


def read_png(path: Path) -> np.ndarray | None:
    """[H, W] or [H, W, C] of a picture that `write_png` made; None where none is, or where it is not whole."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return np.array(picture)
    except (OSError, ValueError, SyntaxError):
        return None


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Numbers 0...1 of any shape -> uint8, rounded; what lies outside is clipped, NaN becomes 0."""
    return (np.clip(np.nan_to_num(values), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
