"""Blender's synthetic scenes: transforms_train.json, transforms_val.json, transforms_test.json, photos without suffix.

The plain set says only camera_angle_x; add-ons write nerfstudio's or instant-ngp's intrinsics into the same three
files, which are read as those tools mean them.
"""

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from nerf_app.errors import DataError
from nerf_app.scene.listing import Listing
from nerf_app.scene.paths import shown
from nerf_app.scene.poses import check_plain, points_left_out, summed_up, where_up_is_not_z, without_repeats
from nerf_app.scene.settings import SceneSettings
from nerf_app.scene.transforms_file import frame_of, has_frames, read_transforms, why_no_frames, without_entry
from nerf_app.scene.transforms_words import utf8, write_json

NAME = "blender"
SPLIT_FILES = {split: f"transforms_{split}.json" for split in ("train", "val", "test")}


def recognises(path: Path) -> bool:
    """A folder with one of the three files, or one of these files."""
    if os.path.isfile(path):
        return path.name in SPLIT_FILES.values() and has_frames(path)
    return bool(_files(path))


def missing(path: Path) -> str | None:
    """What lacks where a file has the right name; None where nothing points to this format."""
    folder = path.parent if os.path.isfile(path) else path
    lacking = [lack for name in SPLIT_FILES.values() if (lack := why_no_frames(folder / name))]
    return lacking[0] if lacking and not _files(folder) else None


def read(path: Path, settings: SceneSettings) -> Listing:
    """The photos of the split files that are there, each in the split of its file, in the files' order."""
    folder = path.parent if os.path.isfile(path) else path
    files = _files(folder)
    if not files:
        raise DataError(f"{shown(folder)} holds none of {', '.join(SPLIT_FILES.values())} with frames: is it the right folder?")
    read_files = [read_transforms(name) for name in files.values()]
    frames, mended = [], []
    for split, file in zip(files, read_files):
        for index in range(len(file.stated.frames)):
            frame, note = frame_of(file, index, settings, default_suffix=".png")
            frames.append(replace(frame, split=split))
            mended.append(note)
    unique, repeats = without_repeats(frames)
    return Listing(root=folder, format=NAME, frames=unique, up=np.array([0.0, 0.0, 1.0]),
                   notes=(*summed_up(mended), *repeats), dropped=tuple(without_entry(read_files, frames)))


def write(listing: Listing, folder: Path) -> list[str]:
    """A file for each split; its readers know one angle of view, so cameras that differ or look aside are refused."""
    cameras = {frame.camera for frame in listing.frames}
    check_plain(cameras, "Blender's files")
    if len(cameras) > 1:
        raise DataError(f"Blender's files hold one camera for all photos, these photos have {len(cameras)}: "
                        "convert to transforms or colmap, which hold them all.")
    camera = cameras.pop()
    words = {"camera_angle_x": 2.0 * math.atan(0.5 * camera.width / camera.focal_x_px),
             "fl_x": camera.focal_x_px, "w": camera.width, "h": camera.height}  # to the last digit, for those who ask
    for split, name in SPLIT_FILES.items():
        frames = [{"file_path": "./" + utf8(os.path.splitext(frame.name)[0]),
                   "transform_matrix": frame.world_from_camera.tolist()}
                  for frame in listing.frames if (frame.split or "train") == split]
        if frames:
            write_json(words | {"frames": frames}, folder / name)
    notes = where_up_is_not_z(listing) + points_left_out(listing, "Blender's format")
    if not any(frame.split for frame in listing.frames):
        notes.append("the source divides its photos into no splits, so all are in transforms_train.json: programs that want "
                     "transforms_test.json too get one with --test every:8")
    return notes


def _files(folder: Path) -> dict[str, Path]:
    """The split files that hold frames."""
    return {split: folder / name for split, name in SPLIT_FILES.items() if has_frames(folder / name)}
