"""FILES → PHOTOS OF A SCENE: each is decoded to its end, and lies in the scene's images/ upright, as JPEG or PNG.

What is so already is linked, not copied; the rest is written anew. A second name, made of the content alone, is for
pycolmap, whose lists have no words for spaces or foreign letters.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from nerf_app.errors import DataError
from nerf_app.export.pictures import jpeg_bytes, png_bytes
from nerf_app.process.sharpness import sharpness
from nerf_app.scene.images import LOSSY, MAX_BYTES, decode_bytes, exif_of_place, read_header, turned
from nerf_app.scene.paths import image_folders, photos_below, read_file, shown
from nerf_app.scene.scene import Dropped
from nerf_app.scene.sizes import focal_from_35mm
from nerf_app.scene.writing import link_or_copy, made_folder, write_bytes

IMAGES = "images"
LINKED = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png"}  # how the files begin that are good as they are
QUALITY = 95  # of a JPEG that is written anew, its colour at full resolution
LONGEST_NAME = 200  # bytes


@dataclass(frozen=True)
class Photo:
    """A photo that can be used."""

    name: str  # relative to the scene's folder
    source: str  # as shown to people
    key: str  # its name for pycolmap
    camera: str  # photos with the same text were taken through one lens
    width: int  # pixels, upright
    height: int
    focal_px: float | None  # as EXIF says
    sharpness: float


@dataclass(frozen=True)
class Gathered:
    """What became of all files."""

    photos: tuple[Photo, ...]
    refused: tuple[Dropped, ...]


def photo_folder(path: Path) -> Path:
    """Where a folder keeps its photos: in images/, else in itself."""
    return next(iter(image_folders(path)), path)


def photo_files(path: Path) -> list[Path]:
    """The photos of a folder, those in subfolders too, by name."""
    folder = photo_folder(path)
    return [folder / name for name in photos_below(folder)]


def gather(files: Sequence[Path], root: Path, out: Path, work: Path, on_progress: Callable[[int, int], None]) -> Gathered:
    """Puts the photos into `out`/images, and under their second names into `work`; `root` is what names are relative to."""
    names = scene_names([os.path.relpath(file, root) for file in files])
    photos, refused = [], []
    known: dict[str, Photo] = {}
    with warnings.catch_warnings(action="ignore"), ahead(partial(_placed, out), files, names) as outcomes:
        for number, (file, outcome) in enumerate(zip(files, outcomes, strict=True), 1):
            source = shown(os.path.relpath(file, root))
            if isinstance(outcome, str):
                refused.append(Dropped(source, outcome))
            elif outcome.key in known:
                refused.append(Dropped(source, f"the same photo as {known[outcome.key].source}"))
                (out / outcome.name).unlink()
            else:
                if not (work / outcome.key).exists():
                    link_or_copy(out / outcome.name, work / outcome.key)
                known[outcome.key] = replace(outcome, source=source)
                photos.append(known[outcome.key])
            on_progress(number, len(files))
    return Gathered(tuple(photos), tuple(refused))


@contextmanager
def ahead(work: Callable[..., Photo | str], *arguments: Sequence) -> Iterator[Iterator[Photo | str]]:
    """What the work makes of each row of the arguments, two at a time. Left early, it begins no further ones and does not wait
    for those at hand: a large photo takes seconds, and Ctrl-C must not."""
    pool = ThreadPoolExecutor(2)
    try:
        yield pool.map(work, *arguments)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def scene_names(names: Iterable[str]) -> list[str]:
    """Names below images/ that any program can read, as like the given ones as can be and all different."""
    taken: set[str] = set()
    result = []
    for name in names:
        parts = [_plain(part) for part in name.split(os.sep) if part != ".."]
        stem = "/".join([IMAGES, *parts])
        number, unique = 1, stem
        while os.path.splitext(unique)[0].lower() in taken:
            number += 1
            unique = f"-{number}".join(os.path.splitext(stem))
        taken.add(os.path.splitext(unique)[0].lower())
        result.append(unique)
    return result


def _plain(part: str) -> str:
    """One part of a path without what JSON, COLMAP's lists or another system cannot hold."""
    stem, suffix = os.path.splitext("".join(c if c.isprintable() and c not in '\\:*?"<>|' else "_" for c in part))
    while len((stem + suffix).encode()) > LONGEST_NAME:
        stem = stem[:-1]
    return stem.lstrip(".") + suffix or "_"


def _placed(out: Path, file: Path, name: str) -> Photo | str:
    """The photo where it belongs, or why it cannot be used."""
    try:
        header = read_header(file)
        content = read_file(file, MAX_BYTES)
        pixels, form = decode_bytes(content, file)
        pixels = turned(pixels, header.orientation)
    except DataError as error:
        return str(error)
    begin = next((begin for begin in LINKED if content.startswith(begin)), None)
    if begin and header.orientation == 1:
        suffix, written = LINKED[begin], None
    else:
        is_exact, exif = pixels.shape[2] == 4 or form not in LOSSY, exif_of_place(header.place)
        suffix, written = ((".png", png_bytes(pixels, exif)) if is_exact else
                           (".jpg", jpeg_bytes(pixels, QUALITY, is_colour_full=True, exif=exif)))
    name = os.path.splitext(name)[0] + (os.path.splitext(name)[1] if written is None else suffix)
    key = hashlib.sha256(content).hexdigest()[:20] + suffix
    made_folder((out / name).parent)
    if written is None:
        link_or_copy(file, out / name)
    else:
        write_bytes(written, out / name)
    height, width = pixels.shape[:2]
    focal = focal_from_35mm(header.focal_35mm, width, height) if header.focal_35mm else None
    camera = f"{width}×{height} {header.device} {header.focal_35mm or ''}"  # digital zoom changes the last alone
    return Photo(name, "", key, camera, width, height, focal, sharpness(pixels))


def blurred(photos: Sequence[Photo], part: float) -> set[str]:
    """Keys of those that are less sharp than a part of the middle one."""
    middle = float(np.median([photo.sharpness for photo in photos])) if photos else 0.0
    return {photo.key for photo in photos if photo.sharpness < part * middle}
