"""LLFF: poses_bounds.npy, a row of 3×5 pose and size and two depths for each photo, in the order of the photos' names."""

import io
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from nerf_app.errors import DataError
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.listing import Frame, Listing, StatedCamera
from nerf_app.scene.normalise import focus_point
from nerf_app.scene.paths import image_folders, inside, photos_below, read_file, shown
from nerf_app.scene.poses import check_plain, checked_pose, summed_up, without_repeats
from nerf_app.scene.settings import SceneSettings
from nerf_app.scene.writing import write_bytes

NAME = "llff"
POSES = "poses_bounds.npy"
LARGEST_FILE = 64 << 20  # bytes
HEADER = re.compile(rb"\{'descr': '([<>|=]?(?:f[248]|[iu][1248]))', 'fortran_order': (True|False), "
                    rb"'shape': \(([\dL, ]*)\), *\}\s*")
FEWEST_POINTS = 20  # seen by a photo, to say how far it sees
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


def write(listing: Listing, folder: Path) -> list[str]:
    """poses_bounds.npy for the photos in images/; its readers know a size and one focal length, other cameras are refused."""
    frames = sorted(listing.frames, key=lambda frame: frame.name)
    check_plain({frame.camera for frame in frames}, "poses_bounds.npy")
    bounds, notes = _bounds(replace(listing, frames=tuple(frames)))
    poses = np.stack([frame.world_from_camera[:3] for frame in frames])  # [V, 3, 4] right-up-backward
    sizes = np.array([[frame.camera.height, frame.camera.width, frame.camera.focal_x_px] for frame in frames])
    rows = np.stack([-poses[:, :, 1], poses[:, :, 0], poses[:, :, 2], poses[:, :, 3], sizes], 2)  # [V, 3, 5]
    stream = io.BytesIO()
    np.save(stream, np.concatenate([rows.reshape(len(frames), 15), bounds], 1))
    write_bytes(stream.getvalue(), folder / POSES)
    if len({tuple(size) for size in sizes}) > 1:
        notes.append(f"{POSES} has a size and focal length for each photo, but some programs take the first one's for all")
    return notes


def _bounds(listing: Listing) -> tuple[np.ndarray, list[str]]:
    """[V, 2] nearest and farthest depth of each photo: as stated, else of the points it sees, else from how cameras stand."""
    count = len(listing.frames)
    if listing.depth_range is not None:
        return np.tile(listing.depth_range, (count, 1)), []
    poses = np.stack([frame.world_from_camera for frame in listing.frames])
    around = focus_point(poses)
    distance = -((around - poses[:, :3, 3]) * poses[:, :3, 2]).sum(1)  # [V] along the axes
    usual = np.median(np.abs(distance))
    bounds = np.where(distance > 0.1 * usual, distance, usual)[:, None] * [0.5, 2.0]
    if listing.points is None or not len(listing.points):
        return bounds, ["near and far are half and twice the distance to the place that the cameras look at"]
    batch = CameraBatch.from_cameras([frame.camera for frame in listing.frames])
    for i, pose in enumerate(poses):
        local = torch.from_numpy((listing.points - pose[:3, 3]) @ pose[:3, :3])
        is_seen = batch.project(torch.full((len(local),), i), local)[2]
        if is_seen.sum() >= FEWEST_POINTS:
            bounds[i] = np.percentile(-local[is_seen, 2].numpy(), [1, 99])
    return bounds, ["near and far are those of the points that fall into each photo; the points themselves have no place here"]


def _folder(path: Path) -> Path:
    return path.parent if path.name == POSES else path
