"""Cameras as other programs read them: a transforms.json of nerfstudio's flavour, and a COLMAP model.

The writers take views, wherever these come from. Numbers go out as float64, so reading them back gives the same poses
and, digit for digit, the same intrinsics. What a format has no words for is refused, never left out.
"""

import json
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nerf_app.errors import DataError, ResourceError, UsageError
from nerf_app.export.pictures import write_bytes
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.paths import shown
from nerf_app.scene.scene import SPLITS, View

if TYPE_CHECKING:
    from nerf_app.run import Run

COLMAP_IMAGES = "images/"  # COLMAP and those who read it look for photos there, and leave it out of their names
UNKNOWN_ERROR = -1.0  # COLMAP's own word for a point whose reprojection error nobody computed
GREY = 128
POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track_length", "<u8")])


def write_cameras(run: "Run", out: Path, frame: str = "input") -> tuple[list[Path], list[str]]:
    """`out`/transforms.json and `out`/sparse/0: their paths, and a note for a format that has no words for these lenses.

    Photos keep their names relative to the scene's folder: there the files belong, and from there any program reads them.

    Args:
        frame: "input" or "original", the coordinates before nerfstudio's import (its applied_transform undone).
    """
    if frame not in ("input", "original"):
        raise UsageError(f"--frame must be input or original, got {shown(frame)}")
    applied = run.header.applied_transform
    views: Sequence[View] = run.views
    if frame == "original" and applied is not None:
        views, applied = in_original_frame(views, np.array(applied)), None
    writers = {out / "transforms.json": lambda path: write_transforms(views, path, applied),
               out / "sparse/0": lambda path: write_colmap(views, path)}
    written, notes = [], []
    for path, write in writers.items():
        try:
            write(path)
            written.append(path)
        except DataError as error:
            notes.append(f"{path.relative_to(out)} is not written: {error}")
    if not written:
        raise DataError(" ".join(notes))
    return written, notes


def in_original_frame(views: Sequence[View], applied_transform: np.ndarray) -> list[View]:
    """The views with the [3, 4] map from original to input coordinates undone."""
    linear, shift = applied_transform[:, :3], applied_transform[:, 3]
    scale = math.cbrt(np.linalg.det(linear))
    if scale <= 0.0 or np.abs(linear @ linear.T / scale**2 - np.eye(3)).max() > 1e-6:
        raise DataError("the scene's applied_transform must be a rotation, a scale and a shift for cameras to follow it back, "
                        "it mirrors or stretches: use --frame input.")
    originals = []
    for view in views:
        pose = view.world_from_camera.copy()
        pose[:3, :3] = linear.T @ pose[:3, :3] / scale
        pose[:3, 3] = linear.T @ (pose[:3, 3] - shift) / scale**2
        originals.append(replace(view, world_from_camera=pose))
    return originals


def made_folder(folder: Path) -> Path:
    """The folder itself, with all above it, made where it was not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot make {shown(folder)}: {error.strerror}; give another --out") from error
    return folder


# transforms.json

def write_transforms(views: Sequence[View], out: Path, applied_transform: Sequence[Sequence[float]] | None = None) -> None:
    """One JSON file for all the views, with their splits; intrinsics stand once where all views share them.

    Args:
        applied_transform: [3, 4], kept for whoever wants the coordinates before nerfstudio's import.
    """
    if not views:
        raise DataError("there are no cameras to write: give a scene with photos.")
    model = _shared_model([view.camera for view in views])
    words = [{key: value for key, value in intrinsics(view.camera).items() if key != "camera_model"} for view in views]
    is_shared = all(entry == words[0] for entry in words)
    frames = [{"file_path": _utf8(view.name), **({} if is_shared else entry),
               "transform_matrix": np.asarray(view.world_from_camera, np.float64).tolist()}
              for view, entry in zip(views, words, strict=True)]
    content = {"camera_model": model, **(words[0] if is_shared else {})}
    if applied_transform is not None:
        content["applied_transform"] = np.asarray(applied_transform, np.float64).tolist()
    content |= {f"{split}_filenames": [view.name for view in views if view.split == split] for split in SPLITS}
    made_folder(out.parent)
    write_bytes((json.dumps(content | {"frames": frames}, indent=1) + "\n").encode(), out)


def intrinsics(camera: Camera) -> dict[str, str | float]:
    """camera_model, w, h, fl_x, fl_y, cx, cy and the lens' coefficients in the words of transforms.json."""
    lens = camera.lens
    if lens.family not in ("perspective", "fisheye", "equirectangular") or any(lens.denominator) or any(lens.prism):
        raise DataError(f"transforms.json has no words for a lens with {_peculiarity(lens)}: the COLMAP model has.")
    words = dict(zip(("k1", "k2", "k3", "k4", "p1", "p2"), (*lens.radial, *lens.tangential), strict=True))
    is_bent = any(words.values())
    model = {"perspective": "OPENCV" if is_bent else "PINHOLE", "fisheye": "OPENCV_FISHEYE"}.get(lens.family, "EQUIRECTANGULAR")
    return {"camera_model": model, "w": camera.width, "h": camera.height, "fl_x": camera.focal_x_px, "fl_y": camera.focal_y_px,
            "cx": camera.centre_x_px, "cy": camera.centre_y_px, **(words if is_bent else {})}


def _shared_model(cameras: Sequence[Camera]) -> str:
    """The camera_model that holds for every camera: a pinhole is an OPENCV lens whose coefficients are 0."""
    models = {intrinsics(camera)["camera_model"] for camera in set(cameras)}
    if models == {"PINHOLE", "OPENCV"}:
        return "OPENCV"
    if len(models) > 1:
        raise DataError(f"one transforms.json holds one kind of lens, these cameras have {', '.join(sorted(models))}: "
                        "the COLMAP model holds them all.")
    return models.pop()


def _utf8(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{shown(name)} is no UTF-8, and JSON has no other names: rename the photo.") from None
    return name


def _peculiarity(lens: Lens) -> str:
    if any(lens.denominator):
        return "rational distortion (FULL_OPENCV)"
    return "thin prisms" if any(lens.prism) else f"the {lens.family.upper()} model"


# COLMAP

def write_colmap(views: Sequence[View], folder: Path, points: np.ndarray | None = None) -> None:
    """cameras.bin, images.bin and points3D.bin in the folder, for whatever version of COLMAP.

    Args:
        points: [M, 3] sparse points, input coordinates; None: points3D.bin is there and empty.
    """
    cameras = {camera: number for number, camera in enumerate(dict.fromkeys(view.camera for view in views), 1)}
    camera_rows = b"".join(_camera_row(camera, number) for camera, number in cameras.items())
    is_usual = all(view.name.startswith(COLMAP_IMAGES) for view in views)
    names = [view.name.removeprefix(COLMAP_IMAGES) if is_usual else view.name for view in views]
    image_rows = b"".join(_image_row(number, view, cameras[view.camera], name)
                          for number, (view, name) in enumerate(zip(views, names, strict=True), 1))
    rows = np.zeros(0 if points is None else len(points), POINT)
    rows["id"], rows["rgb"], rows["error"] = np.arange(1, len(rows) + 1), GREY, UNKNOWN_ERROR
    if points is not None:
        rows["xyz"] = points
    made_folder(folder)
    for name, count, content in (("cameras", len(cameras), camera_rows), ("images", len(views), image_rows),
                                 ("points3D", len(rows), rows.tobytes())):
        write_bytes(struct.pack("<Q", count) + content, folder / f"{name}.bin")


def _camera_row(camera: Camera, number: int) -> bytes:
    model_id, params = colmap_model(camera)
    return struct.pack(f"<IiQQ{len(params)}d", number, model_id, camera.width, camera.height, *params)


def _image_row(number: int, view: View, camera_number: int, name: str) -> bytes:
    pose = view.world_from_camera * np.array([1.0, -1.0, -1.0, 1.0])  # camera axes right-down-forward
    rotation = pose[:3, :3].T
    numbers = (*quaternion(rotation), *(-rotation @ pose[:3, 3]))
    return struct.pack("<I7dI", number, *numbers, camera_number) + os.fsencode(name) + b"\0" + struct.pack("<Q", 0)


def colmap_model(camera: Camera) -> tuple[int, tuple[float, ...]]:
    """COLMAP's number of the simplest model that holds the camera, and its parameters."""
    lens = camera.lens
    pinhole = (camera.focal_x_px, camera.focal_y_px, camera.centre_x_px, camera.centre_y_px)
    k1, k2, k3, k4 = lens.radial
    s1, s2, s3, s4 = lens.prism
    if lens.family == "equirectangular":
        return 17, (camera.width, camera.height)
    if lens.family == "fov":
        return 7, (*pinhole, lens.omega)
    is_fisheye = lens.family == "fisheye"
    if s2 or s4 or (not is_fisheye and (s1 or s3 or k4)):
        what = "thin prisms" if any(lens.prism) else "a term of r⁸"
        raise DataError(f"COLMAP has no words for a {lens.family} lens with {what}: undistort the photos.")
    if is_fisheye:
        if any(lens.tangential) or s1 or s3:
            return 10, (*pinhole, k1, k2, *lens.tangential, k3, k4, s1, s3)
        return 5, (*pinhole, *lens.radial)
    if k3 or any(lens.denominator):
        return 6, (*pinhole, k1, k2, *lens.tangential, k3, *lens.denominator)
    return (4, (*pinhole, k1, k2, *lens.tangential)) if k1 or k2 or any(lens.tangential) else (1, pinhole)


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """[3, 3] -> [4] (w, x, y, z) with w ≥ 0: the nearest one, also where the matrix is slightly off (Bar-Itzhack)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    votes = np.array([[xx + yy + zz, zy - yz, xz - zx, yx - xy],
                      [zy - yz, xx - yy - zz, yx + xy, xz + zx],
                      [xz - zx, yx + xy, yy - xx - zz, zy + yz],
                      [yx - xy, xz + zx, zy + yz, zz - xx - yy]])
    q = np.linalg.eigh(votes)[1][:, -1]
    return q if q[0] >= 0.0 else -q
