"""A scene in the files of another format: cameras are written anew, photos linked, and what cannot be said is told.

Coordinates stay as they are. A photo is written anew only where it must be: as a PNG with alpha where a mask shows the
object, turned where its EXIF turns it, drawn as a pinhole would where the format knows no other camera, or in a kind of
file that the format's programs read.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nerf_app.errors import DataError
from nerf_app.export.pictures import write_png
from nerf_app.scene import blender, colmap, instant_ngp, llff, transforms
from nerf_app.scene.camera import Camera
from nerf_app.scene.images import PhotoFile, fitted_mask, open_photo
from nerf_app.scene.listing import Frame, Listing, StatedCamera
from nerf_app.scene.load import open_headers, read_listing, split_off_absent
from nerf_app.scene.masks import decide_masks, find_masks
from nerf_app.scene.paths import shown
from nerf_app.scene.poses import why_not_plain
from nerf_app.scene.settings import SceneSettings
from nerf_app.scene.splits import choose_splits
from nerf_app.scene.straight import common_pinhole, part_seen, straightened
from nerf_app.scene.writing import link_or_copy, made_folder, new_folder, require_new

USUAL_KINDS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
LEAST_PART = 0.3  # of the photos' pixels, for drawing them anew to be worth it
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Target:
    """What a format can hold, besides cameras, and who writes it."""

    write: Callable[[Listing, Path], list[str]]
    kinds: tuple[str, ...] = USUAL_KINDS  # of photos, by suffix
    mask_name: Callable[[str], str] | None = None  # where a photo's ignore mask lies, by the photo's name
    is_white_ignored: bool = False
    is_flat: bool = False  # no folders below images/
    has_splits: bool = True
    is_plain: bool = False  # knows pinholes alone
    is_one_camera: bool = False
    depth: str | None = None  # "millimetres", or "any" scale that all share; None: no place


def _mask_folder(name: str) -> str:
    """images/a/1.jpg -> masks/a/1.jpg.png: COLMAP's own way, and nerfstudio is told where they lie."""
    return f"masks/{name.removeprefix('images/')}.png"


TARGETS = {
    "transforms": Target(transforms.write, mask_name=_mask_folder, depth="millimetres"),
    "instant-ngp": Target(instant_ngp.write, kinds=(".png", ".jpg", ".jpeg", ".exr"), mask_name=instant_ngp.mask_beside,
                          is_white_ignored=True, has_splits=False, depth="any"),
    "blender": Target(blender.write, kinds=(".png",), is_plain=True, is_one_camera=True),
    "llff": Target(llff.write, kinds=(".png", ".jpg"), is_flat=True, has_splits=False, is_plain=True),
    "colmap": Target(colmap.write, mask_name=_mask_folder),
}


@dataclass(frozen=True)
class Ready:
    """A listing held against its photos: those that are there, each with its whole camera and its masks."""

    listing: Listing
    files: tuple[PhotoFile, ...]  # parallel to listing.frames
    pinhole: Camera | None = None  # that all photos are to be drawn for; None: they are used as they are


def convert(scene: Path, to: str, out: Path, settings: SceneSettings, on_progress: Progress) -> tuple[int, list[str]]:
    """Writes the scene in a folder or file as another one of TARGETS' formats; the number of photos, and notes."""
    require_new(out)  # before the photos are looked at
    listing, notes = read_listing(scene, settings)
    ready, remarks = make_ready(listing, settings)
    ready, more = straight_if_needed(ready, to)
    return len(ready.files), [*notes, *remarks, *more, *write_ready(ready, to, out, on_progress)]


def make_ready(listing: Listing, settings: SceneSettings) -> tuple[Ready, list[str]]:
    """The photos that are there and open, with cameras and masks decided as for a training; notes."""
    present, left_out, notes = split_off_absent(listing, settings)
    opened, broken, remarks = open_headers(present)
    notes += remarks + [f"left out: {drop.reason}" for drop in broken]
    if settings.is_strict and broken:
        raise DataError(broken[0].reason)
    frames, splits = opened.frames, [frame.split for frame in opened.frames]
    if settings.test != "auto":
        names = [frame.name for frame in frames]
        splits, how = choose_splits(names, splits, settings.test, listing.root, {drop.name for drop in left_out})
        notes.append(f"{splits.count('test')} photos are for the test ({how})")
    frames = tuple(replace(frame, camera=in_full(camera), split=split)
                   for frame, camera, split in zip(frames, opened.cameras, splits, strict=True))
    listing = replace(listing, frames=frames)
    found, is_stated, troubles = find_masks(listing, opened.files, settings)
    masks, remarks = decide_masks(found, is_stated, opened.files, opened.cameras, opened.poses, settings.masks)
    files = tuple(replace(file, masks=masks.get(i, ())) for i, file in enumerate(opened.files))
    return Ready(listing, files), [*notes, *troubles, *remarks]


def straight_if_needed(ready: Ready, to: str) -> tuple[Ready, list[str]]:
    """The same, to be drawn for one pinhole where the format cannot say what the cameras are; a note. Where that would leave
    little of the photos they stay as they are, and the format's writer refuses them."""
    target, cameras = TARGETS[to], [frame.camera for frame in ready.listing.frames]
    is_sayable = not any(map(why_not_plain, cameras)) and (len(set(cameras)) == 1 or not target.is_one_camera)
    whole = [whole_camera(camera) for camera in cameras]
    pinhole = None if is_sayable or not target.is_plain else common_pinhole(whole)
    part = 0.0 if pinhole is None else part_seen(pinhole, whole)
    if part < LEAST_PART:
        return ready, []
    return replace(ready, pinhole=pinhole), [
        f"{to} cannot say what these cameras are, so the photos are drawn anew as a pinhole with a focal length of "
        f"{pinhole.focal_x_px:.6g} px shows them, {pinhole.width}×{pinhole.height}: {part:.0%} of their pixels remain"]


def whole_camera(stated: StatedCamera) -> Camera:
    """The inverse of `in_full`."""
    return Camera(stated.width, stated.height, stated.focal_x_px, stated.focal_y_px, stated.centre_x_px, stated.centre_y_px,
                  stated.lens)


def in_full(camera: Camera) -> StatedCamera:
    """A camera of which nothing is left open."""
    return StatedCamera(camera.width, camera.height, camera.focal_x_px, camera.focal_y_px,
                        camera.centre_x_px, camera.centre_y_px, lens=camera.lens)


def write_ready(ready: Ready, to: str, out: Path, on_progress: Progress) -> list[str]:
    """The folder `out` in the format `to`, complete or not at all; notes on what that format has no place for."""
    target, listing = TARGETS[to], ready.listing
    if ready.pinhole is not None:
        listing = replace(listing, frames=tuple(replace(frame, camera=in_full(ready.pinhole)) for frame in listing.frames))
    names = _names(ready, target, to)
    with_depth, notes = _with_depth(ready, target, to)
    if target.mask_name is None and any(_ignored(file) for file in ready.files):
        notes.append(f"the masks that say where not to look are left out, {to} has no place for them: "
                     "transforms, instant-ngp and colmap have")
    if to == "colmap" and any(_ignored(file) for file in ready.files):
        notes.append("a COLMAP model does not say what its masks mean: read it with --masks ignore")
    if not target.has_splits and any(frame.split for frame in listing.frames):
        notes.append(f"which photos are for training and which for the test is left out, {to} cannot say it")
    if to != "transforms" and listing.applied_transform is not None:
        notes.append(f"applied_transform is left out, {to} has no word for it: coordinates are those of transforms.json")
    if to in ("transforms", "colmap") and listing.points is not None and len(listing.points):
        notes.append(f"{len(listing.points):,} sparse points go along, in grey: their colours, and which photo "
                     "saw which, are not written")
    with new_folder(out) as folder:
        frames = tuple(_planned(frame, name, file, target, folder, with_depth)
                       for frame, name, file in zip(listing.frames, names, ready.files, strict=True))
        notes += target.write(replace(listing, root=folder, frames=frames), folder)  # first: it may refuse
        for i, (frame, source, file) in enumerate(zip(frames, ready.listing.frames, ready.files, strict=True)):
            _place(frame, source, file, target, ready.pinhole)
            on_progress(i + 1, len(names))
    return notes


def _names(ready: Ready, target: Target, to: str) -> list[str]:
    """Names below the new folder, all in images/; DataError where two photos would get one name."""
    parts = [[part for part in frame.name.split("/") if part != ".."] for frame in ready.listing.frames]
    if all(len(part) > 1 and part[0] == parts[0][0] for part in parts) and re.fullmatch(r"images(_\d{1,4})?", parts[0][0]):
        parts = [part[1:] for part in parts]
    names = []
    for part, file in zip(parts, ready.files, strict=True):
        stem, suffix = os.path.splitext(("_" if target.is_flat else "/").join(part))
        names.append(f"images/{stem}{'.png' if ready.pinhole or _is_written_anew(file, target) else suffix}")
    twins = {}
    for name, frame in zip(names, ready.listing.frames, strict=True):
        key = os.path.splitext(name)[0] if to == "blender" else name
        if twins.setdefault(key, frame.name) != frame.name:
            raise DataError(f"{shown(twins[key])} and {shown(frame.name)} would both become {shown(name)}: rename one of them.")
    return names


def _is_written_anew(file: PhotoFile, target: Target) -> bool:
    suffix = file.path.suffix.lower()
    return (file.orientation != 1 or suffix not in target.kinds or (target.is_flat and suffix != file.path.suffix)
            or file.is_alpha_inverted or any(mask.kind == "object" for mask in file.masks))


def _ignored(file: PhotoFile) -> bool:
    return any(mask.kind == "ignore" for mask in file.masks)


def _with_depth(ready: Ready, target: Target, to: str) -> tuple[bool, list[str]]:
    """Whether depth maps go along, and why not where there are some."""
    scales = {frame.depth_scale if frame.depth is not None and frame.depth.is_file() else None for frame in ready.listing.frames}
    if scales == {None}:
        return False, []
    is_sayable = len(scales) == 1 and (target.depth == "any" or (target.depth == "millimetres" and scales == {1e-3}))
    if is_sayable and all(file.orientation == 1 for file in ready.files):
        return True, []
    return False, [f"depth maps are left out: {to} holds them only for all photos, in one unit and unturned"
                   if target.depth else f"depth maps are left out, {to} has no place for them: transforms and instant-ngp have"]


def _planned(frame: Frame, name: str, file: PhotoFile, target: Target, folder: Path, with_depth: bool) -> Frame:
    """The frame as it will lie below the folder."""
    mask = folder / target.mask_name(name) if target.mask_name is not None and _ignored(file) else None
    depth = folder / "depth" / (name.removeprefix("images/") + frame.depth.suffix) if with_depth else None
    return replace(frame, name=name, path=folder / name, mask=mask, is_mask_inverted=mask is not None and target.is_white_ignored,
                   alpha=None, depth=depth)


def _place(frame: Frame, source: Frame, file: PhotoFile, target: Target, pinhole: Camera | None) -> None:
    """The photo, the mask and the depth map that a planned frame names."""
    made_folder(frame.path.parent)
    if pinhole is not None:
        write_png(straightened(open_photo(file)[0], whole_camera(source.camera), pinhole), frame.path)
    elif _is_written_anew(file, target):
        write_png(open_photo(file)[0], frame.path)
    else:
        link_or_copy(file.path, frame.path)
    if frame.mask is not None:
        made_folder(frame.mask.parent)
        counts = np.minimum.reduce([fitted_mask(one, file) for one in file.masks if one.kind == "ignore"])  # [H, W] 0 or 255
        write_png(255 - counts if target.is_white_ignored else counts, frame.mask)
    if frame.depth is not None:
        made_folder(frame.depth.parent)
        link_or_copy(source.depth, frame.depth)
