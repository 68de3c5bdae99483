"""A COLMAP model written: float64 throughout, so it gives back the same poses and the same digits of the intrinsics."""

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nerf_app.scene.camera import Camera
from nerf_app.scene.colmap_models import colmap_model
from nerf_app.scene.listing import Frame, StatedCamera
from nerf_app.scene.scene import View
from nerf_app.scene.writing import made_folder, write_bytes

COLMAP_IMAGES = "images/"  # COLMAP and those who read it look for photos there, and leave it out of their names
UNKNOWN_ERROR = -1.0  # COLMAP's own word for a point whose reprojection error nobody computed
GREY = 128
POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track_length", "<u8")])


def write_colmap(views: Sequence[View | Frame], folder: Path, points: np.ndarray | None = None) -> None:
    """cameras.bin, images.bin and points3D.bin in the folder, for whatever version of COLMAP.

    Args:
        views: frames must state their cameras in full.
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


def _camera_row(camera: Camera | StatedCamera, number: int) -> bytes:
    model_id, params = colmap_model(camera)
    return struct.pack(f"<IiQQ{len(params)}d", number, model_id, camera.width, camera.height, *params)


def _image_row(number: int, view: View | Frame, camera_number: int, name: str) -> bytes:
    pose = view.world_from_camera * np.array([1.0, -1.0, -1.0, 1.0])  # camera axes right-down-forward
    rotation = pose[:3, :3].T
    numbers = (*quaternion(rotation), *(-rotation @ pose[:3, 3]))
    return struct.pack("<I7dI", number, *numbers, camera_number) + os.fsencode(name) + b"\0" + struct.pack("<Q", 0)


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """[3, 3] -> [4] (w, x, y, z) with w ≥ 0: the nearest one, also where the matrix is slightly off (Bar-Itzhack)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    votes = np.array([[xx + yy + zz, zy - yz, xz - zx, yx - xy],
                      [zy - yz, xx - yy - zz, yx + xy, xz + zx],
                      [xz - zx, yx + xy, yy - xx - zz, zy + yz],
                      [yx - xy, xz + zx, zy + yz, zz - xx - yy]])
    q = np.linalg.eigh(votes)[1][:, -1]
    return q if q[0] >= 0.0 else -q
