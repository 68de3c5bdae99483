"""LLFF: poses_bounds.npy, a row of 3×5 pose and size and two depths for each photo, in the order of the photos' names."""

import os
import re
from pathlib import Path

import numpy as np

from nerf_app.errors import DataError
from nerf_app.scene.listing import Frame, Listing, StatedCamera
from nerf_app.scene.paths import image_folders, inside, photos_below, read_file, shown
from nerf_app.scene.poses import checked_pose, summed_up, without_repeats
from nerf_app.scene.settings import SceneSettings

NAME = "llff"
POSES = "poses_bounds.npy"
LARGEST_FILE = 64 << 20  # bytes
HEADER = re.compile(rb"\{'descr': '([<>|=]?(?:f[248]|[iu][1248]))', 'fortran_order': (True|False), "
                    rb"'shape': \(([\dL, ]*)\), *\}\s*")
WIDTHS = (17, 15)  # numbers in a row: with and without the nearest and the farthest depth


def recognises(path: Path) -> bool:
    """poses_bounds.npy (the file or its folder) with a folder of photos beside it."""
    folder = _folder(path)
    return os.path.isfile(folder / POSES) and bool(image_folders(folder))


def missing(path: Path) -> str | None:
    """What lacks where a file has the right name; None where nothing points to this format."""
    folder = _folder(path)
    if os.path.isfile(folder / POSES) and not image_folders(folder):
        return f"{POSES} is there but no images folder with photos (JPEG, PNG, WEBP, TIFF, HEIF, AVIF, EXR) in it"
    return None


def read(path: Path, settings: SceneSettings) -> Listing:
    """As many photos as there are rows, from images/ or the first images_N/ that holds so many."""
    folder = _folder(path)
    rows = read_rows(folder / POSES)
    choices = {images: [name for name in photos_below(images) if "/" not in name] for images in image_folders(folder)}
    if not choices:
        raise DataError(f"{shown(folder)} holds {POSES} but no images folder with photos in it: put the photos into images/.")
    images = next((images for images, names in choices.items() if len(names) == len(rows)), next(iter(choices)))
    names = choices[images]
    if len(names) != len(rows):
        raise DataError(f"{shown(folder / POSES)} has {len(rows)} poses but {images.name}/ holds {len(names)} photos: "
                        "they go together by order, so the numbers must be equal; restore or remove photos.")
    frames, mended = [], []
    for row, name in zip(rows[:, :15].reshape(-1, 3, 5), names, strict=True):
        where = f"{POSES}: row {len(frames)} ({shown(name, 80)})"
        pose, note = checked_pose(_opengl(row), where)
        photo = f"{images.name}/{name}"
        frames.append(Frame(photo, inside(folder, photo, settings, where), pose, _camera(row, where)))
        mended.append(note)
    unique, repeats = without_repeats(frames)
    return Listing(root=folder, format=NAME, frames=unique, notes=(*summed_up(mended), *repeats), depth_range=_depth_range(rows))


def read_rows(path: Path) -> np.ndarray:
    """[N, 17 | 15] float64: per photo a 3×5 pose and size by rows, then perhaps two depths.

    numpy's own reader evaluates the header and takes memory for whatever shape it promises; this one does neither.
    """
    data = read_file(path, LARGEST_FILE)
    start = 10 if data[6:7] == b"\1" else 12  # the header's length is stored in 2 bytes, in later versions in 4
    end = start + int.from_bytes(data[8:start], "little")
    header = HEADER.fullmatch(data[start:end])
    if not data.startswith(b"\x93NUMPY") or header is None:
        raise _no_rows(path, "it holds no array of numbers")
    dtype, is_by_column = np.dtype(header[1].decode()), header[2] == b"True"
    shape = tuple(map(int, re.findall(rb"\d{1,12}", header[3])))
    if len(shape) != 2 or shape[0] < 1 or shape[1] not in WIDTHS:
        raise _no_rows(path, f"its shape is {'×'.join(map(str, shape))}")
    if shape[0] * shape[1] * dtype.itemsize > len(data) - end:
        raise _no_rows(path, f"it ends before the {shape[0]} rows that it promises")
    numbers = np.frombuffer(data, dtype, shape[0] * shape[1], end).reshape(shape, order="F" if is_by_column else "C")
    return numbers.astype(np.float64)


def _depth_range(rows: np.ndarray) -> tuple[float, float] | None:
    """The nearest and farthest depth of most photos."""
    depths = rows[:, 15:]
    if depths.shape[1] < 2 or not np.isfinite(depths).all():
        return None
    return float(np.percentile(depths[:, 0], 10)), float(np.percentile(depths[:, 1], 90))


def _no_rows(path: Path, what: str) -> DataError:
    return DataError(f"{shown(path)} must be an array of N rows of 17 numbers (3×5 pose and size, near, far), but {what}: "
                     "write it anew with numpy.save.")


def _opengl(row: np.ndarray) -> np.ndarray:
    """[3, 5] with axes down-right-backward -> [3, 4] camera-to-world with axes right-up-backward."""
    return np.stack([row[:, 1], -row[:, 0], row[:, 2], row[:, 3]], 1)


def _camera(row: np.ndarray, where: str) -> StatedCamera:
    """Size and focal length of the full-size photo; those of images_N are found from the photos themselves."""
    height, width, focal = row[:, 4]
    if not (np.isfinite(row[:, 4]).all() and 1 <= min(height, width) and max(height, width) <= 1e6 and focal > 0):
        raise DataError(f"{where}: height, width and focal length must be positive numbers of pixels, "
                        f"not {height:g}, {width:g}, {focal:g}: correct them.")
    return StatedCamera(round(width), round(height), float(focal))


def _folder(path: Path) -> Path:
    return path.parent if path.name == POSES else path
