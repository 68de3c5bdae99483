"""The first noun: photos with cameras, in the user's coordinates, and the way into the program's own.

*Input coordinates* are the numbers of the file that was read. *Scene coordinates* are the program's own: the thing
or place of interest fills the cube [-1, 1]³. Nothing in scene coordinates leaves the program.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nerf_app.scene.camera import Camera

if TYPE_CHECKING:
    from nerf_app.scene.images import Photos

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class View:
    """One photo's place: who it is, where it was taken from, through what."""

    name: str  # path relative to the scene's folder, with "/": the key everywhere
    camera: Camera
    world_from_camera: np.ndarray  # [4, 4] float64, input coordinates, OpenGL camera axes
    split: str  # one of SPLITS


@dataclass(frozen=True)
class Normalisation:
    """scene = (input - centre) · scale, in float64; and back."""

    centre: np.ndarray  # [3] float64, input coordinates
    scale: float  # scene units per input unit

    def to_scene(self, points: np.ndarray) -> np.ndarray:
        """[..., 3] input coordinates -> [..., 3] scene coordinates."""
        return (np.asarray(points, np.float64) - self.centre) * self.scale

    def to_input(self, points: np.ndarray) -> np.ndarray:
        """[..., 3] scene coordinates -> [..., 3] input coordinates."""
        return np.asarray(points, np.float64) / self.scale + self.centre

    def pose_to_scene(self, world_from_camera: np.ndarray) -> np.ndarray:
        """[..., 4, 4] poses in input coordinates -> the same in scene coordinates; rotations stay."""
        poses = np.array(world_from_camera, np.float64)
        poses[..., :3, 3] = self.to_scene(poses[..., :3, 3])
        return poses

    def pose_to_input(self, scene_from_camera: np.ndarray) -> np.ndarray:
        """The inverse of `pose_to_scene`."""
        poses = np.array(scene_from_camera, np.float64)
        poses[..., :3, 3] = self.to_input(poses[..., :3, 3])
        return poses


@dataclass(frozen=True)
class Dropped:
    """A photo or pose that is not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Scene:
    """Everything known before training. `photos` gives the pixels of `views`, in the same order."""

    path: Path  # what was asked for: the folder, or one file in it
    root: Path  # the folder that all names are relative to
    format: str  # "blender", "transforms", "llff", "colmap"
    views: tuple[View, ...]
    photos: "Photos"
    normalisation: Normalisation
    is_bounded: bool  # True: nothing lies outside [-1, 1]³ in scene coordinates; False: the space around is contracted
    up: np.ndarray  # [3] float64 unit vector, input coordinates
    points: np.ndarray | None  # [M, 3] float64 sparse points, input coordinates
    applied_transform: np.ndarray | None  # [3, 4] nerfstudio's, kept for exports
    notes: tuple[str, ...]  # what was found and decided, a line each
    dropped: tuple[Dropped, ...]
    sightings: dict[str, np.ndarray] | None = None  # by a view's name: [K] rows of the points that its photo shows for sure

    def indices(self, split: str) -> list[int]:
        """Positions in `views` of one of the three splits."""
        return [i for i, view in enumerate(self.views) if view.split == split]
