"""A run without a model: one grey ball before a background, rendered in closed form, and cameras around it."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.scene import Normalisation, View

CAMERA = Camera(64, 48, 60.0, 60.0, 32.0, 24.0)


def pose_looking(position, target, up=(0.0, 0.0, 1.0)) -> np.ndarray:
    """[4, 4] OpenGL pose at a point, looking at another."""
    back = np.subtract(position, target) / np.linalg.norm(np.subtract(position, target))
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, np.asarray(position, float)], 1)
    return pose


@dataclass
class BallRun:
    """Quacks like nerf_app.run.Run."""

    folder: Path
    views: tuple[View, ...]
    centre: np.ndarray = field(default_factory=lambda: np.zeros(3))
    radius: float = 1.0
    applied_transform: list | None = None
    rendered: list = field(default_factory=list)  # (camera, background) of every call
    fails_at: int | None = None  # the call that is interrupted

    up = np.array([0.0, 0.0, 1.0])
    is_bounded = True
    backend = SimpleNamespace(device=SimpleNamespace(type="cpu"))

    @property
    def normalisation(self) -> Normalisation:
        return Normalisation(self.centre, 1.0 / (2.0 * self.radius))

    @property
    def header(self):
        return SimpleNamespace(applied_transform=self.applied_transform)

    def render(self, camera, world_from_camera, background=(1.0, 1.0, 1.0), *, with_depths=True, with_normals=False,
               are_edges_smooth=True):
        if self.fails_at is not None and len(self.rendered) == self.fails_at:
            raise KeyboardInterrupt
        self.rendered.append((camera, background))
        columns, rows = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
        rays = np.stack([(columns - camera.centre_x_px) / camera.focal_x_px, -(rows - camera.centre_y_px) / camera.focal_y_px,
                         -np.ones_like(rows)], -1)
        lengths = np.linalg.norm(rays, axis=-1)
        directions = (rays / lengths[..., None]) @ world_from_camera[:3, :3].T
        origin = world_from_camera[:3, 3] - self.centre
        half = directions @ origin
        under_root = half**2 - origin @ origin + self.radius**2
        is_hit = under_root > 0
        distance = np.where(is_hit, -half - np.sqrt(np.maximum(under_root, 0)), np.nan)
        normals = np.where(is_hit[..., None], (origin + np.nan_to_num(distance)[..., None] * directions) / self.radius, 0.0)
        alpha = is_hit.astype(np.float32)
        rgb = alpha[..., None] * 0.5 + (1 - alpha[..., None]) * np.asarray(background)
        return SimpleNamespace(rgb=rgb.astype(np.float32), alpha=alpha, is_seen=np.ones_like(is_hit),
                               z_depth=(distance / lengths).astype(np.float32) if with_depths else None,
                               range=distance.astype(np.float32) if with_depths else None,
                               normals=normals.astype(np.float32) if with_normals else None)


def views_at(poses, camera: Camera = CAMERA) -> tuple[View, ...]:
    return tuple(View(f"{i:03d}.png", camera, np.asarray(pose), "train") for i, pose in enumerate(poses))


def ring(count: int = 12, distance: float = 4.0, elevation: float = 0.4, centre=(0.0, 0.0, 0.0)) -> list[np.ndarray]:
    """Poses on a circle round a point, looking at it."""
    poses = []
    for angle in 2 * np.pi * np.arange(count) / count:
        out = np.array([np.cos(elevation) * np.cos(angle), np.cos(elevation) * np.sin(angle), np.sin(elevation)])
        poses.append(pose_looking(np.asarray(centre) + distance * out, centre))
    return poses


def ball_run(folder: Path, centre=(0.0, 0.0, 0.0), **more) -> BallRun:
    """The ball with twelve cameras around it."""
    return BallRun(folder, views_at(ring(centre=centre)), np.asarray(centre, float), **more)


FISHEYE = Camera(64, 48, 25.0, 25.0, 32.0, 24.0, Lens("fisheye"))
