"""Pictures -> an H.264 video that every player opens: yuv420p, even sides, the index in front."""

import os
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from nerf_app.errors import BackendUnavailable, ResourceError, UsageError
from nerf_app.scene.paths import shown

BT709 = 1  # the number of matrix, primaries and transfer curve in the H.264 standard


def write_video(frames: Iterable[np.ndarray], out: Path, fps: float) -> None:
    """Write pictures [H, W, 3] uint8 of one size, sRGB-coded, as `out` (MP4); an odd side gets its last row twice.

    The file has its name only once it is complete; `frames` may be lazy.
    """
    beside = out.with_name(out.name + ".part")
    try:
        _encode(frames, beside, fps)
        os.replace(beside, out)
    except OSError as error:  # av's own errors are of this kind where the disk is the reason
        raise ResourceError(f"cannot write {shown(out)}: {error.strerror or error}; make room or give another --out") from error
    finally:
        with suppress(OSError):  # it has its name, or could not even be begun
            beside.unlink()


def _encode(frames: Iterable[np.ndarray], out: Path, fps: float) -> None:
    # An absolute path: the library would read "a:b.mp4" as a network address.
    with av.open(os.path.abspath(out), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = None
        for pixels in map(_even, frames):
            if stream is None:
                stream = _stream(container, pixels.shape[1], pixels.shape[0], fps)
            if pixels.shape[:2] != (stream.height, stream.width):
                raise UsageError(f"the pictures of a video must have one size: {stream.width}×{stream.height} at first, then "
                                 f"{pixels.shape[1]}×{pixels.shape[0]}; give one --size for all")
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709,
                                                         dst_color_range=ColorRange.MPEG)))
        if stream is None:
            raise UsageError("a video needs at least one picture, none came")
        container.mux(stream.encode())


def _stream(container: av.container.OutputContainer, width: int, height: int, fps: float) -> av.VideoStream:
    if "libx264" not in av.codecs_available:
        raise BackendUnavailable("this PyAV has no libx264: install av from its wheel, or write frames instead of a video")
    rate = Fraction(fps).limit_denominator(1001)
    stream = container.add_stream("libx264", rate=rate, options={"crf": "17", "preset": "medium"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    coding = stream.codec_context
    coding.colorspace = coding.color_primaries = coding.color_trc = BT709
    coding.color_range = ColorRange.MPEG
    return stream


def _even(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 3] -> the same with even H and W."""
    height, width = pixels.shape[:2]
    return np.ascontiguousarray(np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))
