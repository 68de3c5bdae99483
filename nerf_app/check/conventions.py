"""Which way the poses of a file are meant, judged by what two photos show of the same place.

A feature in one photo lies on a known line of another (the epipolar line) if the poses are read as they are meant; read
in another convention they put the line elsewhere. World axes are invisible to this: turning the whole world changes no
line. Poses are `world_from_camera`, [..., 4, 4], camera axes right-up-backward unless a name says otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

AXES = {  # name: the camera's three axes in OpenGL's, as columns
    "OpenGL (right, up, back)": np.diag([1.0, 1.0, 1.0]),
    "OpenCV (right, down, forward)": np.diag([1.0, -1.0, -1.0]),
    "LLFF (down, right, back)": np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
    "PyTorch3D (left, up, forward)": np.diag([-1.0, 1.0, -1.0]),
}
DIRECTIONS = ("camera-to-world", "world-to-camera")


@dataclass(frozen=True)
class Convention:
    """How a file's matrices are to be read."""

    direction: str  # one of DIRECTIONS
    axes: str  # a key of AXES

    def __str__(self) -> str:
        return f"{self.direction}, {self.axes}"

    def read(self, stored: np.ndarray) -> np.ndarray:
        """[V, 4, 4] matrices as they stand in the file -> poses."""
        poses = stored if self.direction == DIRECTIONS[0] else np.linalg.inv(stored)
        return poses @ _wide(AXES[self.axes].T)

    def stored(self, poses: np.ndarray) -> np.ndarray:
        """The inverse of `read`."""
        matrices = poses @ _wide(AXES[self.axes])
        return matrices if self.direction == DIRECTIONS[0] else np.linalg.inv(matrices)


OPENGL, OPENCV, LLFF, _ = AXES
CONVENTIONS = tuple(Convention(direction, axes) for direction in DIRECTIONS for axes in AXES)
OF_FORMAT = {"blender": Convention(DIRECTIONS[0], OPENGL), "transforms": Convention(DIRECTIONS[0], OPENGL),
             "llff": Convention(DIRECTIONS[0], LLFF), "colmap": Convention(DIRECTIONS[1], OPENCV)}


@dataclass(frozen=True)
class Matches:
    """What two photos show of the same places."""

    first: int  # positions of the photos
    second: int
    directions: tuple[np.ndarray, np.ndarray]  # [M, 3] unit vectors in each camera's axes
    focal_px: float  # of the pictures in which they were found: an angle times this is pixels


def _wide(axes: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = axes
    return matrix


def agreement(matches: Matches, poses: np.ndarray, tolerance_px: float) -> np.ndarray:
    """[M] bool: where the two cameras' rays meet, to the tolerance, in front of both."""
    towards, others = matches.directions
    relative = np.linalg.inv(poses[matches.second]) @ poses[matches.first]
    turn, shift = relative[:3, :3], relative[:3, 3]
    towards = towards @ turn.T  # [M, 3] in the second camera's axes
    tolerance = tolerance_px / matches.focal_px
    is_parallel = np.linalg.norm(np.cross(towards, others), axis=1) < tolerance  # as good as infinitely far
    is_parallel &= (towards * others).sum(1) > 0
    length = np.linalg.norm(shift)
    if length < 1e-12:
        return is_parallel
    normals, planes = np.cross(shift / length, towards), np.cross(others, shift / length)
    miss = np.abs((others * normals).sum(1)) / np.maximum(np.sqrt((normals**2).sum(1) + (planes**2).sum(1)), 1e-12)
    return (miss < tolerance) & (is_parallel | _meets_ahead(towards, others, shift))


def _meets_ahead(towards: np.ndarray, others: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """[M] bool: s·towards + shift comes nearest to t·others at s > 0 and t > 0."""
    cosine = (towards * others).sum(1)
    a, b = towards @ shift, others @ shift
    scale = 1.0 - cosine**2  # positive where the rays are not parallel
    return ((cosine * b - a) * (scale > 0) > 0) & ((b - cosine * a) * (scale > 0) > 0)


def shares(found: Sequence[Matches], stored: np.ndarray, tolerance_px: float) -> dict[Convention, np.ndarray]:
    """For each convention [P]: the part 0...1 of each pair's matches that agrees with it."""
    result = {}
    for convention in CONVENTIONS:
        poses = convention.read(stored)
        result[convention] = np.array([agreement(matches, poses, tolerance_px).mean() for matches in found])
    return result
