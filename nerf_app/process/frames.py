"""VIDEO → PHOTOS: of each stretch of time the sharpest frame."""

import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from nerf_app.errors import DataError
from nerf_app.export.pictures import jpeg_bytes
from nerf_app.process.sharpness import sharpness
from nerf_app.scene.paths import shown
from nerf_app.scene.writing import write_bytes

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".3gp", ".mpg", ".mpeg", ".wmv")
QUALITY = 95
PLAIN_FPS = 30.0  # where the file does not say how many


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def write_frames(video: Path, folder: Path, count: int, on_progress: Callable[[int, int], None]) -> list[Path]:
    """About `count` frames as JPEG files in the folder: the time is cut into so many stretches, each gives its sharpest.

    Frames are upright as the file says, in the order of time; their names are numbers.
    """
    files: list[Path] = []
    with opened(video) as (container, stream):
        total = frame_count(stream, container)
        best, best_score, stretch = None, -1.0, 0
        for number, frame in enumerate(decoded(container, stream, video)):
            now = min(number * count // max(total, 1), count - 1) if total >= count else number
            if now != stretch and best is not None:
                files.append(_write(best, folder, len(files) + 1))
                best, best_score = None, -1.0
            pixels = upright(frame)
            score = sharpness(pixels)
            if score > best_score:
                best, best_score = pixels, score
            stretch = now
            on_progress(min(number + 1, total), total)
        if best is not None:
            files.append(_write(best, folder, len(files) + 1))
    if not files:
        raise DataError(f"{shown(video)} holds no picture that can be decoded: is it the right file?")
    return files


def _write(pixels: np.ndarray, folder: Path, number: int) -> Path:
    out = folder / f"{number:05}.jpg"
    write_bytes(jpeg_bytes(pixels, QUALITY, is_colour_full=True), out)
    return out


class opened:
    """The container and its picture stream; whatever PyAV raises becomes one line about the file."""

    def __init__(self, video: Path):
        self.video = video

    def __enter__(self):
        import av
        try:
            self.container = av.open(os.path.abspath(self.video))  # absolute: "a:b.mp4" would be a network address
            if not self.container.streams.video:
                raise DataError(f"{shown(self.video)} holds no pictures: is it the right file?")
            stream = self.container.streams.video[0]
            stream.thread_type = "AUTO"
            return self.container, stream
        except (av.FFmpegError, OSError) as error:
            raise DataError(f"{shown(self.video)} cannot be read as a video ({shown(str(error))}): convert it to MP4.") from None

    def __exit__(self, *error: object) -> None:
        self.container.close()


def frame_count(stream, container) -> int:
    """As the file says, or what its length makes likely; 0 where nobody knows."""
    if stream.frames:
        return stream.frames
    seconds = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
    return round(seconds * float(stream.average_rate or Fraction(PLAIN_FPS)))


def decoded(container, stream, video: Path) -> Iterator:
    """The frames; where the file breaks off, those before."""
    import av
    n_frames = 0
    try:
        for frame in container.decode(stream):
            n_frames += 1
            yield frame
    except av.FFmpegError as error:
        if not n_frames:
            raise DataError(f"{shown(video)} is broken ({shown(str(error))}): copy it again.") from None


def upright(frame) -> np.ndarray:
    """[H, W, 3] uint8, turned as phones note it beside the pictures."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90.0)))
