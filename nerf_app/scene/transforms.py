"""transforms.json of nerfstudio and of instant-ngp: OpenGL camera axes, +Z up; coordinates stay as the file has them."""

import math
import os
from dataclasses import replace
from pathlib import Path
from posixpath import normpath

import msgspec
import numpy as np

from nerf_app.errors import DataError
from nerf_app.scene.blender import SPLIT_FILES
from nerf_app.scene.instant_ngp import beside_photo, natural
from nerf_app.scene.listing import Frame, Listing
from nerf_app.scene.paths import inside, name_of, shown
from nerf_app.scene.ply import read_ply_points, write_ply_points
from nerf_app.scene.poses import HELD_OUT, summed_up, where_up_is_not_z, without_repeats
from nerf_app.scene.settings import SceneSettings
from nerf_app.scene.transforms_file import (
    TransformsFile,
    applied_transform,
    frame_of,
    has_frames,
    is_of_old_nerfstudio,
    json_files,
    read_transforms,
    why_no_frames,
    without_entry,
)
from nerf_app.scene.transforms_words import nerfstudio_words, utf8, write_json

NAME = "transforms"
POINTS = "points.ply"


def recognises(path: Path) -> bool:
    """A JSON file with frames, or a folder that holds one besides Blender's."""
    return has_frames(path) if os.path.isfile(path) else bool(_main_files(path))


def missing(path: Path) -> str | None:
    """What lacks where a file has the right name; None where nothing points to this format."""
    return why_no_frames(path if path.suffix == ".json" else path / "transforms.json")


def read(path: Path, settings: SceneSettings) -> Listing:
    """The photos of a JSON file, or of a folder's transforms.json; with instant-ngp of all its JSON files that have frames."""
    files = [read_transforms(file) for file in ([path] if os.path.isfile(path) else _main_files(path))]
    if not files:
        raise DataError(f"{shown(path)} holds no JSON file with frames: is it the right folder?")
    if not os.path.isfile(path) and len(files) == 1 and files[0].is_instant_ngp:
        files += [read_transforms(other) for other in _files_with_frames(path) if other != files[0].path]
    frames, dropped, mended, notes, listed = [], [], [], [], []
    for file in files:
        results = [frame_of(file, index, settings) for index in range(len(file.stated.frames))]
        mended += [note for _, note in results]
        listed += [frame for frame, _ in results]
        arrange = _as_instant_ngp if file.is_instant_ngp else _as_nerfstudio
        arranged, left_out = arrange(file, [frame for frame, _ in results], settings)
        frames += arranged
        dropped += left_out
        notes += _notes(file)
    unique, repeats = without_repeats(frames)
    points = _points(files[0], settings, notes)
    return Listing(root=files[0].path.parent, format=NAME, frames=unique, up=_up(files[0]), points=points,
                   applied_transform=applied_transform(files[0]), notes=(*notes, *summed_up(mended), *repeats),
                   dropped=(*dropped, *without_entry(files, listed)))


def is_instant_ngp(path: Path) -> bool:
    """Whether what `read` would read there is instant-ngp's flavour."""
    return read_transforms(path if os.path.isfile(path) else _main_files(path)[0]).is_instant_ngp


def write(listing: Listing, folder: Path) -> list[str]:
    """nerfstudio's transforms.json, with masks, depth and points; notes on what it cannot say."""
    content = nerfstudio_words(listing.frames, listing.applied_transform)
    for entry, frame in zip(content["frames"], listing.frames, strict=True):
        paths = {"mask_path": frame.mask, "depth_file_path": frame.depth}
        entry |= {key: utf8(name_of(folder, path)) for key, path in paths.items() if path is not None}
    if listing.points is not None and len(listing.points):
        write_ply_points(listing.points, folder / POINTS)
        content["ply_file_path"] = POINTS
    write_json(content, folder / "transforms.json")
    return where_up_is_not_z(listing)


def _points(file: TransformsFile, settings: SceneSettings, notes: list[str]) -> np.ndarray | None:
    """[M, 3] of the PLY file that is named; they help, but nothing depends on them: what is wrong with them is noted."""
    named = file.stated.ply_file_path
    if not named:
        return None
    try:
        return read_ply_points(inside(file.path.parent, named, settings, f"{shown(file.path.name)}: ply_file_path"))
    except DataError as error:
        notes.append(f"without sparse points: {error}")
        return None


def _main_files(folder: Path) -> list[Path]:
    """transforms.json where it is one; else every file that might be."""
    main = folder / "transforms.json"
    return [main] if has_frames(main) else _files_with_frames(folder)


def _files_with_frames(folder: Path) -> list[Path]:
    return [file for file in json_files(folder) if file.name not in SPLIT_FILES.values() and has_frames(file)]


def _as_instant_ngp(file: TransformsFile, frames: list[Frame], settings: SceneSettings) -> tuple[list[Frame], list]:
    """Numbers in names count as numbers; masks and opacities are found beside the photos."""
    return [beside_photo(frame, file.path.parent, settings) for frame in sorted(frames, key=lambda f: natural(f.name))], []


def _as_nerfstudio(file: TransformsFile, frames: list[Frame], _: SceneSettings) -> tuple[list[Frame], list[tuple[str, str]]]:
    """(frames in plain order of their paths with the splits that the file lists, photos that it lists in none)."""
    split_of: dict[str, str] = {}
    for split in HELD_OUT[1:]:  # a photo in two lists belongs to the later: what is held out stays out of training
        split_of |= {normpath(name): split for name in getattr(file.stated, f"{split}_filenames") or ()}
    frames = [replace(frame, split=split_of.get(normpath(entry.file_path)))
              for frame, entry in zip(frames, file.stated.frames, strict=True)]
    frames.sort(key=lambda frame: frame.name)
    if file.stated.train_filenames is None:
        return frames, []
    dropped = [(frame.name, "in none of train_filenames, val_filenames, test_filenames") for frame in frames if not frame.split]
    return [frame for frame in frames if frame.split], dropped


def _up(file: TransformsFile) -> np.ndarray:
    """[3] unit vector: +Z, or what an instant-ngp file says."""
    if not (file.is_instant_ngp and file.stated.up):
        return np.array([0.0, 0.0, 1.0])
    try:
        up = np.array(msgspec.convert(file.stated.up, tuple[float, float, float]))
    except msgspec.ValidationError:
        up = np.zeros(3)
    length = math.hypot(*up)
    if not 0.0 < length < np.inf:
        raise DataError(f"{shown(file.path)}: \"up\" must be a direction of three numbers, not {shown(file.stated.up)}: "
                        "correct or delete it.")
    return up / length


def _notes(file: TransformsFile) -> list[str]:
    """What the file says and this program does not use, where that may be seen in the result."""
    notes = []
    name = shown(file.path.name)
    if "fisheye_crop_radius" in file.keys:
        notes.append(f"{name}: fisheye_crop_radius is not used; what lies beyond it is learnt unless a mask covers it")
    for key in ("white_transparent", "black_transparent"):
        if key in file.keys:
            notes.append(f"{name}: {key} is not used; give the photos an alpha channel or masks")
    if is_of_old_nerfstudio(file):
        notes.append(f"{name} says no applied_transform: for colmap/sparse/0 beside it that of older nerfstudio is taken")
    overwritten = any((lens.k3 and lens.p1 is not None) or (lens.k4 and lens.p2 is not None)
                      for lens in (file.stated, *file.stated.frames))
    if overwritten and file.is_instant_ngp and not any(lens.is_fisheye for lens in (file.stated, *file.stated.frames)):
        notes.append(f"{name}: k3 and k4 are not used, as instant-ngp does not use them beside p1 and p2")
    return notes
