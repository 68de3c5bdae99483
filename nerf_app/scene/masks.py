"""Which masks belong to the photos, and what they mean.

*Ignore* masks say where nobody may look: neither loss nor score. *Object* masks say where nothing is: they become alpha.
A file's own keys come first; without them masks are looked for beside the photos, and their meaning is decided by
looking at them.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nerf_app.errors import DataError
from nerf_app.scene.camera import Camera
from nerf_app.scene.images import MaskFile, PhotoFile, check_mask_size, fitted_mask, read_header
from nerf_app.scene.listing import Listing
from nerf_app.scene.normalise import focus_point
from nerf_app.scene.paths import PHOTO_SUFFIXES, UNREAD_SUFFIXES, inside, shown
from nerf_app.scene.settings import SceneSettings
from nerf_app.scene.vision import largest_piece

FOLDERS = ("masks", "mask", "images_mask")
OBJECT_SETS = ("poses_bounds.npy", "cameras_sphere.npz")  # NeRD's and NeuS's mark: there a mask is the object
KNOWN_SUFFIXES = PHOTO_SUFFIXES + UNREAD_SUFFIXES
LOOKED_AT = 16  # masks, to decide what they mean
LOOKED_AT_SIDE = 200  # pixels

Found = dict[int, tuple[MaskFile, ...]]  # position of a photo -> its masks


def find_masks(listing: Listing, files: Sequence[PhotoFile], settings: SceneSettings) -> tuple[Found, bool, list[str]]:
    """The masks of the photos in `files` (as listing.frames), whether their meaning is stated, and a note on each trouble.

    Masks that a key names keep the key's meaning; those found beside the photos are "ignore" until they are looked at.
    """
    stated, notes = _stated(listing)
    if stated or notes:
        return stated, True, notes
    beside, notes = _beside(listing, files, settings)
    is_object = any((listing.root / name).is_file() for name in OBJECT_SETS)
    kind = "object" if is_object else "ignore"
    return {i: (MaskFile(path, kind),) for i, path in beside.items()}, is_object, notes


def _stated(listing: Listing) -> tuple[Found, list[str]]:
    """Masks named by the scene's own files."""
    found: Found = {}
    missing = []
    for i, frame in enumerate(listing.frames):
        masks = []
        if frame.mask is not None:
            masks.append(MaskFile(frame.mask, "ignore", frame.is_mask_inverted))
        if frame.alpha is not None:
            masks.append(MaskFile(frame.alpha, "object"))
        there = tuple(mask for mask in masks if mask.path.is_file())
        if len(there) < len(masks):
            missing.append(frame.name)
        if there:
            found[i] = there
    notes = [f"{len(missing)} photos are used whole because the masks listed for them are not there, "
             f"first {shown(missing[0])}"] if missing else []
    return found, notes


class _Stems(dict[Path, dict[str, Path]]):
    """A folder's pictures by name without suffix; each folder is read once. A folder that cannot be read has none."""

    def __missing__(self, folder: Path) -> dict[str, Path]:
        try:
            paths = sorted((path for path in folder.iterdir() if path.suffix.lower() in KNOWN_SUFFIXES), reverse=True)
        except OSError:
            paths = []
        self[folder] = {path.stem: path for path in paths}  # of equal stems the first by name stays
        return self[folder]


def _beside(listing: Listing, files: Sequence[PhotoFile], settings: SceneSettings) -> tuple[dict[int, Path], list[str]]:
    """Masks by their names. One that would serve two photos serves none."""
    stems = _Stems()
    claims: dict[Path, list[int]] = {}
    for i, file in enumerate(files):
        path = _find_beside(listing.root, file.path, stems)
        if path is not None:
            inside(listing.root, os.path.relpath(path, listing.root), settings, "mask")
            claims.setdefault(path, []).append(i)
    return _claimed_once(claims)


def masks_in(folder: Path, root: Path, files: Sequence[PhotoFile]) -> tuple[dict[int, Path], list[str]]:
    """Masks by their names in one folder, by position of their photos, and a note on trouble.

    For images/front/1.jpg: images/front/1.*, front/1.*, 1.* in that folder, each also as 1_mask.* and 1.jpg.*.
    """
    stems = _Stems()
    claims: dict[Path, list[int]] = {}
    for i, file in enumerate(files):
        parts = Path(os.path.relpath(file.path, root)).parent.parts
        folders = [folder.joinpath(*inner) for inner in (parts, parts[1:], ()) if ".." not in inner]
        path = _first_named(file.path, folders, stems)
        if path is not None:
            claims.setdefault(path, []).append(i)
    return _claimed_once(claims)


def _claimed_once(claims: dict[Path, list[int]]) -> tuple[dict[int, Path], list[str]]:
    shared = [path for path, photos in claims.items() if len(photos) > 1]
    notes = [f"{len(shared)} masks fit several photos and are left out, first {shown(shared[0])}: "
             "put masks into the folders that the photos have"] if shared else []
    return {photos[0]: path for path, photos in claims.items() if len(photos) == 1}, notes


def _find_beside(root: Path, photo: Path, stems: _Stems) -> Path | None:
    """For images/front/1.jpg: masks/images/front/1.*, masks/front/1.*, images/front/masks/1.*, images/masks/1.*

    In each of these folders also as 1_mask.* and 1.jpg.*, and beside the photo as 1_mask.*. For photos in images_4 the
    folders with _4 at their names come first.
    """
    root, photo = Path(os.path.normpath(root)), Path(os.path.normpath(photo))
    if not photo.is_relative_to(root):
        return None  # whoever allows photos from another folder has not allowed a search there
    parts = photo.parent.relative_to(root).parts
    reduced = [match[1] for part in parts if (match := re.fullmatch(r"images(_\d{1,4})", part))]
    names = (*(name + factor for factor in reduced for name in FOLDERS), *FOLDERS)
    folders = [root.joinpath(name, *inner) for inner in (parts, parts[1:]) for name in names]
    folders += [photo.parent / name for name in names]
    if photo.parent != root:
        folders += [photo.parent.parent / name for name in names]
    return _first_named(photo, folders, stems) or stems[photo.parent].get(f"{photo.stem}_mask")


def _first_named(photo: Path, folders: Sequence[Path], stems: _Stems) -> Path | None:
    for folder in folders:
        for stem in (photo.stem, f"{photo.stem}_mask", photo.name):
            if stem in stems[folder]:
                return stems[folder][stem]
    return None


def decide_masks(found: Found, is_stated: bool, files: Sequence[PhotoFile], cameras: Sequence[Camera],
                 poses: np.ndarray, meaning: str) -> tuple[Found, list[str]]:
    """The masks with their final meaning, and one line that says it.

    `meaning` is the setting; `poses` [V, 4, 4] are camera-to-world. Raises DataError where a mask has not its photo's shape.
    """
    if not found:
        return {}, []
    count = f"masks for {len(found)} of {len(files)} photos"
    if meaning == "none":
        return {}, [f"{count} left out, as asked"]
    notes = _check_sizes(found, files)
    if meaning != "auto":
        why = "as asked"
    elif is_stated:
        kinds = {mask.kind for masks in found.values() for mask in masks}
        meaning, why = ("auto", "by the files' own keys") if len(kinds) > 1 else (kinds.pop(), "as the set's files say")
    elif _shows_object(found, files, cameras, poses):
        meaning, why = "object", "white is one piece where the cameras aim; otherwise say --masks ignore"
    else:
        meaning, why = "ignore", "white is most of the picture, or in pieces; otherwise say --masks object"
    words = {"ignore": "where they are black nobody looks", "object": "where they are black nothing is",
             "auto": "some hide what to ignore, some show the object"}
    if meaning != "auto":
        found = {i: tuple(MaskFile(mask.path, meaning, mask.is_inverted) for mask in masks) for i, masks in found.items()}
    return found, [f"{count}: {words[meaning]} ({why})", *notes]


def _check_sizes(found: Found, files: Sequence[PhotoFile]) -> list[str]:
    resized = 0
    for i, masks in found.items():
        for mask in masks:
            try:
                header = read_header(mask.path)
            except DataError:
                continue  # a broken mask: its photo is listed as unusable when it is decoded
            size = (header.width, header.height)
            check_mask_size(mask.path, size, files[i])
            resized += size not in (files[i].size, files[i].size[::-1])
    return [f"{resized} masks resized to their photos' size, to the nearest pixel"] if resized else []


def _shows_object(found: Found, files: Sequence[PhotoFile], cameras: Sequence[Camera], poses: np.ndarray) -> bool:
    """Whether white is a minority, in one piece, and lies where the cameras aim, in at least 4 of 5 masks looked at."""
    indices = list(found)[::-(-len(found) // LOOKED_AT)]
    is_one_way = np.linalg.norm(poses[:, :3, 2].mean(0)) > 0.9
    aim = None if is_one_way else focus_point(poses)  # axes that hardly cross have no such point: the middle stands for it
    votes = []
    for i in indices:
        try:
            values = fitted_mask(found[i][0], files[i])  # [H, W]
        except DataError:
            continue
        stride = -(-max(values.shape) // LOOKED_AT_SIDE)
        white = values[::stride, ::stride] > 127
        if white.any():
            u, v = (0.5, 0.5) if aim is None else position(cameras[i], poses[i], aim)
            votes.append(white.mean() < 0.5 and _is_one_piece_at(white, u, v))
    return len(votes) > 0 and np.mean(votes) >= 0.8


def _is_one_piece_at(white: np.ndarray, u: float, v: float) -> bool:
    """Whether nearly all of bool [H, W] hangs together, and (u, v), parts of width and height, lies in its rectangle."""
    piece = largest_piece(white)
    if piece.sum() < 0.9 * white.sum():
        return False
    rows, columns = np.flatnonzero(piece.any(1)), np.flatnonzero(piece.any(0))
    row, column = v * white.shape[0], u * white.shape[1]
    return bool(rows[0] <= row <= rows[-1] + 1 and columns[0] <= column <= columns[-1] + 1)


def position(camera: Camera, pose: np.ndarray, point: np.ndarray) -> tuple[float, float]:
    """Where a point falls, as parts of the width and height; the lens' bending is left out. Behind the camera: (-1, -1)."""
    x, y, z = pose[:3, :3].T @ (point - pose[:3, 3])
    if z >= 0.0:
        return -1.0, -1.0
    return ((camera.centre_x_px - camera.focal_x_px * x / z) / camera.width,
            (camera.centre_y_px + camera.focal_y_px * y / z) / camera.height)
