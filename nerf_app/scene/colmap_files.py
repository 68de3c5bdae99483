"""COLMAP's model files, text and binary, as plain numbers: cameras, poses, points.

Little-endian; a count is believed only as far as the bytes behind it reach. Files of newer versions (rigs, frames) lie
beside these and are not needed.
"""

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nerf_app.errors import DataError
from nerf_app.scene.colmap_models import MODEL_NAMES, MODEL_SIZES
from nerf_app.scene.paths import read_file, shown

LARGEST_FILE = 4 << 30  # bytes
MOST_ERROR, FEWEST_SIGHTINGS = 2.0, 3  # pixels at most, and photos at least, of a point that is sure of its place
UNKNOWN = -1.0  # the error of a point for which nobody computed it


@dataclass(frozen=True)
class CameraRow:
    """One camera as stored."""

    model_id: int
    width: int  # pixels
    height: int
    params: tuple[float, ...]  # in COLMAP's order


@dataclass(frozen=True)
class ImageRow:
    """One posed photo as stored: world-to-camera, camera axes right-down-forward."""

    image_id: int
    name: str  # relative to the folder of photos
    camera_id: int
    quaternion: tuple[float, float, float, float]  # w x y z
    translation: tuple[float, float, float]


@dataclass(frozen=True)
class PointRows:
    """The sparse points as stored."""

    places: np.ndarray  # [M, 3] float64 input coordinates
    seen_by: dict[int, np.ndarray]  # by image_id: [K] int64, rows of the sure ones that the photo sees


def model_suffix(folder: Path) -> str | None:
    """".bin" or ".txt" of the model in a folder, binary first as COLMAP does; None where cameras or images lack."""
    for suffix in (".bin", ".txt"):
        if all(os.path.isfile(folder / (stem + suffix)) for stem in ("cameras", "images")):
            return suffix
    return None


def read_cameras(folder: Path) -> dict[int, CameraRow]:
    """The cameras of a model by their ids."""
    if model_suffix(folder) == ".bin":
        return _binary_cameras(_Bytes(folder / "cameras.bin"))
    return _text_cameras(folder / "cameras.txt")


def read_images(folder: Path) -> list[ImageRow]:
    """The posed photos of a model, in the file's order."""
    if model_suffix(folder) == ".bin":
        return _binary_images(_Bytes(folder / "images.bin"))
    return _text_images(folder / "images.txt")


def read_points(folder: Path) -> PointRows | None:
    """The sparse points of a model; None where it has no file of them."""
    path = folder / f"points3D{model_suffix(folder)}"
    if not os.path.isfile(path):
        return None
    places, errors, tracks = _binary_points(_Bytes(path)) if path.suffix == ".bin" else _text_points(path)
    places = np.array(places, np.float64).reshape(-1, 3)
    is_finite = np.isfinite(places).all(1)
    points = np.repeat(np.arange(len(places)), [len(track) for track in tracks])
    pairs = np.unique(points << 32 | np.concatenate([np.empty(0, np.int64), *tracks]) & 0xffffffff)
    points, photos = pairs >> 32, pairs & 0xffffffff
    counts, errors = np.bincount(points, minlength=len(places)), np.array(errors, np.float64)
    is_sure = is_finite & (errors >= 0.0) & (errors <= MOST_ERROR) & (counts >= FEWEST_SIGHTINGS)
    photos, points = photos[is_sure[points]], (np.cumsum(is_finite) - 1)[points[is_sure[points]]]
    order = np.argsort(photos, kind="stable")
    names, begins = np.unique(photos[order], return_index=True)
    return PointRows(places[is_finite], dict(zip(names.tolist(), np.split(points[order], begins[1:]))))


class _Bytes:
    """A binary file read from front to back; running over its end is a DataError."""

    def __init__(self, path: Path):
        self.path, self.data, self.at = path, read_file(path, LARGEST_FILE), 0

    def take(self, form: str) -> tuple:
        """The next numbers, by struct's letters without alignment."""
        form = "<" + form
        self.skip(struct.calcsize(form))
        return struct.unpack_from(form, self.data, self.at - struct.calcsize(form))

    def skip(self, n_bytes: int) -> None:
        if n_bytes > len(self.data) - self.at:
            raise DataError(f"{shown(self.path)} ends too early, at byte {len(self.data)}: copy or export the model again.")
        self.at += n_bytes

    def count(self, smallest_row: int) -> int:
        """A number of rows, each of at least so many bytes, that the rest of the file can hold."""
        (count,) = self.take("Q")
        if count * smallest_row > len(self.data) - self.at:
            raise DataError(f"{shown(self.path)} announces {count} rows, more than its {len(self.data)} bytes hold: "
                            "copy or export the model again.")
        return count

    def text(self) -> str:
        """Characters up to a NUL; bytes that are no UTF-8 stay what they are, as in file names."""
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise DataError(f"{shown(self.path)} ends within a name: copy or export the model again.")
        name = self.data[self.at:end]
        self.at = end + 1
        return os.fsdecode(name)


def _binary_cameras(file: _Bytes) -> dict[int, CameraRow]:
    cameras = {}
    for _ in range(file.count(24)):
        camera_id, model_id, width, height = file.take("IiQQ")
        if model_id not in MODEL_SIZES:
            raise DataError(f"{shown(file.path)}: camera {camera_id} has the unknown model number {model_id}: "
                            "convert it with `colmap model_converter` of the version that wrote it.")
        cameras[camera_id] = CameraRow(model_id, width, height, file.take(f"{MODEL_SIZES[model_id]}d"))
    return cameras


def _binary_images(file: _Bytes) -> list[ImageRow]:
    images = []
    for _ in range(file.count(73)):
        image_id, *pose, camera_id = file.take("I7dI")
        images.append(ImageRow(image_id, file.text(), camera_id, tuple(pose[:4]), tuple(pose[4:])))
        file.skip(24 * file.count(24))  # the photo's own points
    return images


def _binary_points(file: _Bytes) -> tuple[list, list, list]:
    """Of each point its place, its error, and the photos that see it."""
    places, errors, tracks = [], [], []
    for _ in range(file.count(51)):
        _, *place, _, _, _, error = file.take("Q3d3Bd")
        count = file.count(8)
        file.skip(8 * count)
        places.append(place)
        errors.append(error)
        tracks.append(np.frombuffer(file.data, "<u4", 2 * count, file.at - 8 * count)[::2].astype(np.int64))
    return places, errors, tracks


def _lines(path: Path) -> list[str]:
    """The lines without comments, empty ones kept: in images.txt they count."""
    lines = os.fsdecode(read_file(path, LARGEST_FILE).removeprefix(b"\xef\xbb\xbf")).split("\n")
    return [line.rstrip("\r") for line in lines if not line.startswith("#")]


def _text_cameras(path: Path) -> dict[int, CameraRow]:
    numbers = {name: number for number, name in MODEL_NAMES.items()}
    cameras = {}
    for line in _lines(path):
        words = line.split()
        if not words:
            continue
        try:
            model_id = numbers[words[1]]
            cameras[int(words[0])] = CameraRow(model_id, int(words[2]), int(words[3]), tuple(map(float, words[4:])))
        except (ValueError, IndexError, KeyError):
            raise _bad_line(path, line, "CAMERA_ID MODEL WIDTH HEIGHT PARAMS…") from None
    return cameras


def _text_images(path: Path) -> list[ImageRow]:
    images = []
    lines = iter(_lines(path))
    for line in lines:
        if not line.strip():
            continue
        words = line.split(maxsplit=9)  # the name is the rest: it may hold spaces
        try:
            pose = [float(word) for word in words[1:8]]
            images.append(ImageRow(int(words[0]), words[9], int(words[8]), tuple(pose[:4]), tuple(pose[4:])))
        except (ValueError, IndexError):
            raise _bad_line(path, line, "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME") from None
        points = next(lines, "").split()  # the photo's own points: empty where there are none, but never left out
        if len(points) % 3 or (points and not points[-1].lstrip("-").isdecimal()):
            raise _bad_line(path, " ".join(points[:12]), "X Y POINT3D_ID triples, or an empty line,")
    return images


def _text_points(path: Path) -> tuple[list, list, list]:
    """The same; a line may end after the place."""
    places, errors, tracks = [], [], []
    for line in _lines(path):
        words = line.split()
        if not words:
            continue
        try:
            x, y, z = map(float, words[1:4])
            errors.append(float(words[7]) if len(words) > 7 else UNKNOWN)
            tracks.append(np.array([int(word) for word in words[8::2]], np.int64))
        except (ValueError, OverflowError):
            raise _bad_line(path, line, "POINT3D_ID X Y Z R G B ERROR TRACK…") from None
        places.append((x, y, z))
    return places, errors, tracks


def _bad_line(path: Path, line: str, form: str) -> DataError:
    return DataError(f"{shown(path)}: a line must read {form} but one reads \"{shown(line, 80)}\": export the model again.")


def world_from_camera(image: ImageRow, where: str) -> np.ndarray:
    """[4, 4] float64 camera-to-world, camera axes still right-down-forward."""
    w, x, y, z = image.quaternion
    length = math.sqrt(w * w + x * x + y * y + z * z) if max(map(abs, image.quaternion)) < 1e100 else math.inf
    if not (1e-6 < length < math.inf and all(map(math.isfinite, image.translation))):
        raise DataError(f"{where}: the quaternion or the translation is no pose: export the model again.")
    w, x, y, z = w / length, x / length, y / length, z / length
    camera_from_world = np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                                  [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                                  [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])
    pose = np.eye(4)
    pose[:3, :3] = camera_from_world.T
    pose[:3, 3] = -camera_from_world.T @ image.translation
    return pose
