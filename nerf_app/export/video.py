"""Pictures -> an H.264 video that every player opens: yuv420p, even sides, the index in front."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
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
    with open_video(out, fps) as add:
        for pixels in frames:
            add(pixels)


@contextmanager
def open_video(out: Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """The same for pictures that are added one by one: gives the function that adds one."""
    film = _Film(out, fps)
    try:
        yield film.add
        film.end()
    finally:
        film.leave()


class _Film:
    """A video that is being written beside its place; the first picture says how large all are."""

    def __init__(self, out: Path, fps: float) -> None:
        self.out, self.beside, self.fps, self.stream = out, out.with_name(out.name + ".part"), fps, None
        with self._writing():  # an absolute path: the library would read "a:b.mp4" as a network address
            self.container = av.open(os.path.abspath(self.beside), "w", format="mp4", options={"movflags": "faststart"})

    def add(self, pixels: np.ndarray) -> None:
        """[H, W, 3] uint8."""
        pixels = _even(pixels)
        self.stream = stream = self.stream or _stream(self.container, pixels.shape[1], pixels.shape[0], self.fps)
        if pixels.shape[:2] != (stream.height, stream.width):
            raise UsageError(f"the pictures of a video must have one size: {stream.width}×{stream.height} at first, then "
                             f"{pixels.shape[1]}×{pixels.shape[0]}; give one --size for all")
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        with self._writing():
            self.container.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709,
                                                              dst_color_range=ColorRange.MPEG)))

    def end(self) -> None:
        """Writes what the encoder still holds, and gives the file its name."""
        if self.stream is None:
            raise UsageError("a video needs at least one picture, none came")
        with self._writing():
            self.container.mux(self.stream.encode())
            self.container.close()
            os.replace(self.beside, self.out)

    def leave(self) -> None:
        """Leaves nothing but a whole video."""
        with suppress(OSError):
            self.container.close()
        with suppress(OSError):  # it has its name, or could not even be begun
            self.beside.unlink()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # av's own errors are of this kind where the disk is the reason
            raise ResourceError(f"cannot write {shown(self.out)}: {error.strerror or error}; make room or give another "
                                "--out") from error


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
