"""COLMAP models: cameras, poses and sparse points of a reconstruction, beside its photos."""

import os
from pathlib import Path
from posixpath import join, normpath

import numpy as np

from nerf_app.errors import DataError
from nerf_app.scene.camera import Camera
from nerf_app.scene.colmap_files import (
    CameraRow,
    ImageRow,
    model_suffix,
    read_cameras,
    read_images,
    read_points,
    world_from_camera,
)
from nerf_app.scene.colmap_models import camera_from_colmap
from nerf_app.scene.colmap_writing import COLMAP_IMAGES, write_colmap
from nerf_app.scene.listing import Frame, Listing, StatedCamera
from nerf_app.scene.paths import SPELLED_SUFFIXES, image_folders, inside, name_of, photos_below, read_file, shown
from nerf_app.scene.poses import HELD_OUT, opengl_from_opencv, without_repeats
from nerf_app.scene.settings import SceneSettings
from nerf_app.scene.writing import write_bytes

NAME = "colmap"
LIST_FILES = {"train": "train_list.txt", "val": "validation_list.txt", "test": "test_list.txt"}
LARGEST_LIST = 16 << 20  # bytes


def recognises(path: Path) -> bool:
    """A folder with cameras and images files in sparse/0, colmap/sparse/0, sparse, itself, or another numbered model."""
    return bool(_models(path))


def missing(path: Path) -> str | None:
    """What lacks where a file has the right name; None where nothing points to this format."""
    if recognises(path):
        return None
    stems = ("cameras", "images")
    for folder in _candidates(path):
        found = [stem for stem in stems if any(os.path.isfile(folder / (stem + suffix)) for suffix in (".bin", ".txt"))]
        if found:
            lacking = "images.bin or images.txt" if found == ["cameras"] else "cameras.bin or cameras.txt"
            lacking = "the other of the two in the same form" if len(found) == 2 else lacking
            return f"{shown(name_of(path, folder))} holds COLMAP's {' and '.join(found)} but not {lacking}"
    if os.path.isfile(path / "database.db"):
        return "COLMAP's database.db is there but no model (sparse/0 with cameras and images)"
    return None


def read(path: Path, settings: SceneSettings) -> Listing:
    """The posed photos of the model with the most of them; photos beside them without a pose are listed as dropped."""
    models = [(model, read_images(model)) for model in _models(path)]
    if not models:
        raise DataError(f"{shown(path)} holds no COLMAP model: expected sparse/0 with cameras and images files.")
    model, images = max(models, key=lambda pair: len(pair[1]))  # the first of equals
    root = _root(path)
    name = name_of(root, model)
    if not images:
        raise DataError(f"{shown(model)} holds no posed photos: the reconstruction failed, try other photos or matches.")
    folder = _photo_folder(root, images)
    split_of = _listed_splits(root, folder)
    stored = {image.name: _stored_name(root, folder, image.name) for image in images}
    frames, repeats = without_repeats(_frames(root, folder, name, images, stored, read_cameras(model), split_of, settings))
    dropped = _without_pose(root, folder, stored)
    if "train" in split_of.values():  # then the lists are complete: what they leave out is not wanted
        dropped += [(frame.name, f"in none of {', '.join(LIST_FILES.values())}") for frame in frames if frame.split is None]
        frames = tuple(frame for frame in frames if frame.split is not None)
    unposed = set(split_of) - {normpath(image.name) for image in images}
    notes = _notes(root, [(other, len(rows)) for other, rows in models], model, unposed)
    points = read_points(model)
    return Listing(root=root, format=NAME, frames=frames, points=None if points is None else points.places,
                   sightings=None if points is None else _sightings(root, images, stored, points.seen_by),
                   notes=(*notes, *repeats), dropped=tuple(dropped))


def write(listing: Listing, folder: Path) -> list[str]:
    """sparse/0, and lists of the splits where somebody chose them."""
    write_colmap(listing.frames, folder / "sparse/0", listing.points)
    for split, name in LIST_FILES.items():
        names = [frame.name.removeprefix(COLMAP_IMAGES) for frame in listing.frames if frame.split == split]
        if names:
            write_bytes(b"".join(os.fsencode(name) + b"\n" for name in names), folder / name)
    return []


def _sightings(root: Path, images: list[ImageRow], stored: dict[str, str],
               seen_by: dict[int, np.ndarray]) -> dict[str, np.ndarray]:
    """The points by the names that frames have."""
    names = {image.image_id: name_of(root, root / stored[image.name]) for image in images}
    return {names[photo]: points for photo, points in seen_by.items() if photo in names}


def _notes(root: Path, models: list[tuple[Path, int]], used: Path, unposed: set[str]) -> list[str]:
    """Which of several models was taken, and listed names that it does not know."""
    notes = []
    if len(models) > 1:
        sizes = ", ".join(f"{shown(name_of(root, model))} has {count}" for model, count in models)
        notes.append(f"{shown(name_of(root, used))} is used, the model with the most photos: {sizes}")
    if unposed:
        notes.append(f"{len(unposed)} names in the list files have no pose in the model, first {shown(min(unposed))}")
    return notes


def _candidates(path: Path) -> list[Path]:
    """Where a model may lie, the most likely place first."""
    folders = [path / "sparse/0", path / "colmap/sparse/0"]
    for parent in (path / "sparse", path / "colmap/sparse"):
        numbered = [entry for entry in _subfolders(parent) if entry.name.isdecimal()]
        folders += [parent, *sorted(numbered, key=lambda entry: int(entry.name))]
    return list(dict.fromkeys([*folders, path]))


def _models(path: Path) -> list[Path]:
    return [folder for folder in _candidates(path) if model_suffix(folder)]


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if entry.is_dir()]
    except OSError:
        return []


def _root(path: Path) -> Path:
    """The scene's folder; where the model's own folder was named, the one above it that holds the photos."""
    folder = path.absolute()
    while not image_folders(folder) and (folder.name in ("sparse", "colmap") or folder.parent.name == "sparse"):
        folder = folder.parent
    return folder if folder != path.absolute() and image_folders(folder) else path


def _photo_folder(root: Path, images: list[ImageRow]) -> str:
    """Of images/, images_2/, … and the root: the first that holds the most of the posed photos."""
    choices = [folder.name for folder in image_folders(root)] or ["images"]
    return max([*choices, "."], key=lambda folder: sum(_is_there(root, folder, image.name) for image in images))


def _is_there(root: Path, folder: str, name: str) -> bool:
    return os.path.isfile(root / _stored_name(root, folder, name))


def _stored_name(root: Path, folder: str, name: str) -> str:
    """The photo's name under the root. Reduced copies often have another suffix than the photo that was posed."""
    stated = join(folder, name)
    stem = os.path.splitext(stated)[0]
    candidates = (stated, *(stem + suffix for suffix in SPELLED_SUFFIXES))
    return next((candidate for candidate in candidates if os.path.isfile(root / candidate)), stated)


def _frames(root: Path, folder: str, model: str, images: list[ImageRow], stored: dict[str, str], rows: dict[int, CameraRow],
            split_of: dict[str, str], settings: SceneSettings) -> list[Frame]:
    """All posed photos in the order of their names, the cameras read once each."""
    cameras: dict[int, StatedCamera] = {}
    frames = []
    for image in sorted(images, key=lambda row: row.name):
        where = f"{shown(model)} ({shown(image.name, 80)})"
        if image.camera_id not in rows:
            raise DataError(f"{where}: its camera {image.camera_id} is not among the cameras: export the model again.")
        if image.camera_id not in cameras:
            cameras[image.camera_id] = _stated(rows[image.camera_id], f"{shown(model)}: camera {image.camera_id}")
        inside(root / folder, image.name, settings, where)  # the name alone, as it is spelled
        path = inside(root, stored[image.name], settings, where)
        pose = opengl_from_opencv(world_from_camera(image, where))
        frames.append(Frame(name_of(root, path), path, pose, cameras[image.camera_id], split_of.get(normpath(image.name))))
    return frames


def _stated(row: CameraRow, where: str) -> StatedCamera:
    if not (1 <= row.width <= 1_000_000 and 1 <= row.height <= 1_000_000):
        raise DataError(f"{where}: its size {row.width}×{row.height} is no picture's: export the model again.")
    try:
        camera: Camera = camera_from_colmap(row.model_id, row.width, row.height, row.params)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    return StatedCamera(camera.width, camera.height, camera.focal_x_px, camera.focal_y_px,
                        camera.centre_x_px, camera.centre_y_px, lens=camera.lens)


def _without_pose(root: Path, folder: str, stored: dict[str, str]) -> list[tuple[str, str]]:
    """The photos of the folder that the model does not name."""
    if folder == ".":  # the root holds other pictures than photos, too
        return []
    posed = {normpath(name) for name in stored.values()}
    names = (join(folder, name) for name in photos_below(root / folder))
    return [(name, "no pose in the model") for name in names if name not in posed]


def _listed_splits(root: Path, folder: str) -> dict[str, str]:
    """Splits by photo, its name as in the model: train_list.txt and its kin name photos with or without their folder."""
    split_of: dict[str, str] = {}
    for split in HELD_OUT[1:]:  # a photo in two lists belongs to the later: what is held out stays out of training
        if os.path.isfile(root / LIST_FILES[split]):
            lines = os.fsdecode(read_file(root / LIST_FILES[split], LARGEST_LIST)).splitlines()
            split_of |= {normpath(line.strip()).removeprefix(f"{folder}/"): split for line in lines if line.strip()}
    return split_of
