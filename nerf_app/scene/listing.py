"""What a format's files say, before any photo is opened: the common form that every reader returns.

A reader parses and converts camera axes, and does nothing else: whether the photos exist, fit their cameras and can
be decoded, masks beside the photos, splits and scale are decided once for all formats in load.py.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nerf_app.scene.camera import Lens


@dataclass(frozen=True)
class StatedCamera:
    """Intrinsics as a file states them; None is what it leaves open. Either focal lengths or an angle must be there."""

    width: int | None = None
    height: int | None = None
    focal_x_px: float | None = None
    focal_y_px: float | None = None  # None: as focal_x_px
    centre_x_px: float | None = None  # None: the middle
    centre_y_px: float | None = None
    angle_x: float | None = None  # radians, horizontal field of view, where no focal length is given
    angle_y: float | None = None
    lens: Lens = Lens()


@dataclass(frozen=True)
class Frame:
    """One photo as listed."""

    name: str  # path relative to the scene's folder, with "/"
    path: Path
    world_from_camera: np.ndarray  # [4, 4] float64, OpenGL camera axes, input coordinates
    camera: StatedCamera
    split: str | None = None  # the set's own, where it has one
    mask: Path | None = None  # named by the file itself: black = ignore, unless is_mask_inverted
    is_mask_inverted: bool = False  # white = ignore (instant-ngp's dynamic masks)
    alpha: Path | None = None  # a grey picture of the opacity, in a file of its own (instant-ngp, NeRD, NeuS)
    depth: Path | None = None
    depth_scale: float = 1e-3  # input units per step of a depth picture of whole numbers; nerfstudio's, millimetres


@dataclass(frozen=True)
class Listing:
    """A posed set of photos as its files describe it."""

    root: Path  # the folder that all names are relative to
    format: str
    frames: tuple[Frame, ...]
    up: np.ndarray | None = None  # [3] input coordinates; None: to be estimated from the cameras
    points: np.ndarray | None = None  # [M, 3] float64 sparse points
    sightings: dict[str, np.ndarray] | None = None  # by a frame's name: [K] rows of the points that its photo shows for sure
    depth_range: tuple[float, float] | None = None  # nearest and farthest content, input units along the cameras' axes
    applied_transform: np.ndarray | None = None  # [3, 4]
    notes: tuple[str, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()  # (name, reason): photos without a pose, unusable entries
