"""Poses as files state them: whether a matrix is one, and the same photo listed twice."""

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from nerf_app.errors import DataError
from nerf_app.scene.camera import Lens
from nerf_app.scene.listing import Frame, Listing, StatedCamera
from nerf_app.scene.normalise import estimate_up
from nerf_app.scene.paths import shown

CLEAN = 1e-3  # ‖RᵀR − I‖: what float32 and a few printed digits leave of a rotation; instant-ngp's own sets stay under 2e-6
USABLE = 0.1  # up to here the nearest rotation is surely what was meant
UPRIGHT = math.radians(15)  # what hands and estimates may be off
SAME_POSE = 1e-5  # relative to the matrix' largest number: printed twice with different digits
HELD_OUT = (None, "train", "val", "test")  # later ones win when a photo stands in two splits


def checked_pose(matrix: object, where: str) -> tuple[np.ndarray, str | None]:
    """[4, 4] or [3, 4] numbers -> (camera-to-world [4, 4] float64 with a true rotation, what had to be mended).

    A uniform scale is divided out of the rotation (the camera's place stays), a small shear is removed by the nearest
    rotation; a mirrored, flat or sheared matrix is a DataError that begins with `where`.
    """
    pose = _as_matrix(matrix, where)
    with np.errstate(over="ignore", invalid="ignore"):
        if _distance(pose[:3, :3]) <= CLEAN:
            if np.linalg.det(pose[:3, :3]) < 0:
                raise _not_a_rotation(where, "it mirrors")
            return pose, None
        rotation, scale = _without_scale(pose[:3, :3], where)
        distance = _distance(rotation)
    if not distance <= USABLE:
        raise _not_a_rotation(where, f"‖RᵀR − I‖ is {distance:.3g}, at most {USABLE} can be mended")
    left, _, right = np.linalg.svd(rotation)
    pose[:3, :3] = left @ right
    return pose, (f"{where}: the pose had scale {scale:.6g} and ‖RᵀR − I‖ = {distance:.2g} beside it; "
                  "its rotation was replaced by the nearest true one")


def _as_matrix(matrix: object, where: str) -> np.ndarray:
    """A new [4, 4] float64 matrix of finite numbers that ends with the row 0 0 0 1."""
    try:
        pose = np.array(matrix, np.float64)
    except (TypeError, ValueError):  # rows of different lengths, or no numbers
        raise DataError(f"{where}: the pose must be a 4×4 matrix of numbers, but its rows differ: correct it.") from None
    if pose.shape == (3, 4):
        pose = np.vstack([pose, [0.0, 0.0, 0.0, 1.0]])
    if pose.shape != (4, 4):
        raise DataError(f"{where}: the pose must be a 4×4 matrix, its shape is {'×'.join(map(str, pose.shape))}: correct it.")
    if not np.isfinite(pose).all():
        raise DataError(f"{where}: the pose holds NaN or infinity: correct it or delete this photo's entry.")
    if np.abs(pose[3] - [0.0, 0.0, 0.0, 1.0]).max() > 1e-6:
        raise DataError(f"{where}: the last row of the pose must be 0 0 0 1, it is {' '.join(f'{x:g}' for x in pose[3])}: "
                        "is the matrix transposed?")
    pose[3] = [0.0, 0.0, 0.0, 1.0]
    return pose


def _distance(rotation: np.ndarray) -> float:
    """‖RᵀR − I‖_F of a [3, 3] matrix: 0 for rotations and mirrorings."""
    return float(np.linalg.norm(rotation.T @ rotation - np.eye(3)))


def _without_scale(rotation: np.ndarray, where: str) -> tuple[np.ndarray, float]:
    """([3, 3] with determinant 1, the uniform factor that was taken out)."""
    largest = float(np.abs(rotation).max())
    volume = float(np.linalg.det(rotation / largest)) if largest > 0.0 else 0.0  # divided first: 1e-200³ is 0 in float64
    if volume <= 0.0:
        raise _not_a_rotation(where, "it mirrors" if volume < 0.0 else "it is flat")
    scale = largest * volume ** (1 / 3)
    return rotation / scale, scale


def _not_a_rotation(where: str, why: str) -> DataError:
    return DataError(f"{where}: the upper left 3×3 of the pose must be a rotation, but {why}: "
                     "correct it or delete this photo's entry.")


def opengl_from_opencv(pose: np.ndarray) -> np.ndarray:
    """[..., 4, 4] camera-to-world, camera axes right-down-forward -> the same camera with axes right-up-backward."""
    return pose * np.array([1.0, -1.0, -1.0, 1.0])


def without_repeats(frames: Iterable[Frame]) -> tuple[tuple[Frame, ...], tuple[str, ...]]:
    """(each photo once, what was left out). Listed with two poses it is a DataError; in two splits the held-out one wins."""
    kept: dict[str, Frame] = {}
    repeated = []
    for frame in frames:
        first = kept.setdefault(frame.name, frame)
        if first is frame:
            continue
        difference = np.abs(first.world_from_camera - frame.world_from_camera).max()
        if difference > SAME_POSE * np.abs(first.world_from_camera).max():
            raise DataError(f"{shown(frame.name)} is listed twice with different poses: delete the wrong entry "
                            "(or name one file of the folder instead of the folder).")
        repeated.append(frame.name)
        kept[frame.name] = replace(first, split=max(first.split, frame.split, key=HELD_OUT.index))
    notes = (f"{_some(repeated)} listed more than once: the first entry counts",) if repeated else ()
    return tuple(kept.values()), notes


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return shown(names[0]) + more


def summed_up(notes: Iterable[str | None]) -> tuple[str, ...]:
    """The first of many like notes and the number of the others; None are no notes."""
    notes = [note for note in notes if note]
    if len(notes) < 2:
        return tuple(notes)
    return (f"{notes[0]} (so with {len(notes) - 1} more)",)


def check_plain(cameras: Iterable[StatedCamera], format: str) -> None:
    """DataError unless each camera is a pinhole with square pixels that looks through the middle of its picture."""
    for what in filter(None, map(why_not_plain, cameras)):
        raise DataError(f"{format} cannot describe a camera with {what}: convert to transforms, instant-ngp or colmap.")


def why_not_plain(camera: StatedCamera) -> str | None:
    """What is not so; None for a pinhole with square pixels that looks through the middle of its picture."""
    if camera.lens != Lens():
        return "a lens that bends"
    if camera.focal_x_px != camera.focal_y_px:
        return f"focal lengths of {camera.focal_x_px:.6g} and {camera.focal_y_px:.6g} px"
    if (camera.centre_x_px, camera.centre_y_px) != (camera.width / 2, camera.height / 2):
        return (f"its centre at ({camera.centre_x_px:.6g}, {camera.centre_y_px:.6g}) of {camera.width}×{camera.height}, "
                "not in the middle")
    return None


def where_up_is_not_z(listing: Listing) -> list[str]:
    """A note where a format whose readers take +Z for up gets a world that lies otherwise."""
    up = estimate_up(np.stack([frame.world_from_camera for frame in listing.frames])) if listing.up is None else listing.up
    if up[2] > math.cos(UPRIGHT):
        return []
    return ["coordinates stay as they are, with up at ({:.2f}, {:.2f}, {:.2f}), while this format's readers take +Z for up: "
            "films may tilt, sizes and shapes are right".format(*up)]


def points_left_out(listing: Listing, format: str) -> list[str]:
    """A note where a format has no place for sparse points."""
    count = 0 if listing.points is None else len(listing.points)
    return [f"{count:,} sparse points are left out, {format} has no place for them: transforms and colmap have"] if count else []
