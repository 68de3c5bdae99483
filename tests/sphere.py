"""A scene that can be computed: a coloured ball in front of nothing, photographed all round."""

import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from nerf_app.config import Config, with_overrides
from nerf_app.scene.camera import Camera
from nerf_app.scene.images import Photos
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.scene import Normalisation, Scene, View

RADIUS = 1.2  # input units
CENTRE = np.array([10.0, -4.0, 2.0])  # input coordinates
DISTANCE = 6.0  # of the cameras from the centre, input units


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[4, 4] pose with OpenGL camera axes, upright along +z."""
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, eye], 1)
    return pose


def photograph(camera: Camera, pose: np.ndarray, samples: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """RGBA uint8 [H, W, 4] with the edge's true coverage, and the z-depth [H, W] at pixel centres (NaN = nothing)."""
    offsets = (np.arange(samples) + 0.5) / samples
    columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    total, coverage = np.zeros((camera.height, camera.width, 3)), np.zeros((camera.height, camera.width))
    for dx in offsets:
        for dy in offsets:
            hit, points, _ = _intersect(camera, pose, columns + dx, rows + dy)
            total += np.where(hit[..., None], _colour(points), 0.0)
            coverage += hit
    rgb = total / np.maximum(coverage, 1)[..., None]
    hit, _, z = _intersect(camera, pose, columns + 0.5, rows + 0.5)
    picture = np.concatenate([rgb, coverage[..., None] / samples**2], -1)
    return np.round(picture * 255).astype(np.uint8), np.where(hit, z, np.nan)


def _intersect(camera: Camera, pose: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batch = CameraBatch.from_cameras([camera])
    flat_x, flat_y = torch.from_numpy(x.ravel()).double(), torch.from_numpy(y.ravel()).double()
    inside, _ = batch.directions(torch.zeros(len(flat_x), dtype=torch.int64), flat_x, flat_y)
    directions = inside.numpy() @ pose[:3, :3].T
    offset = pose[:3, 3] - CENTRE
    b = directions @ offset
    discriminant = b**2 - (offset @ offset - RADIUS**2)
    t = -b - np.sqrt(np.maximum(discriminant, 0.0))
    points = pose[:3, 3] + t[:, None] * directions
    shape = x.shape
    return (discriminant > 0).reshape(shape), points.reshape(*shape, 3), (-t * inside[:, 2].numpy()).reshape(shape)


def _colour(points: np.ndarray) -> np.ndarray:
    normals = (points - CENTRE) / RADIUS
    return 0.5 + 0.4 * np.sin(4.0 * normals + np.array([0.0, 1.0, 2.0]))


def sphere_scene(n_views: int = 16, size: int = 40, root: Path = Path("sphere")) -> Scene:
    """`n_views` photos on a spiral about the ball: every 8th for testing, the 5th for validation, the rest for training."""
    camera = Camera(size, size, 1.9 * size, 1.9 * size, size / 2, size / 2)
    views, pixels = [], []
    for i in range(n_views):
        height, angle = 1.6 * (i + 0.5) / n_views - 0.8, 2.4 * i
        ring = np.sqrt(1.0 - height**2)
        eye = CENTRE + DISTANCE * np.array([ring * np.cos(angle), ring * np.sin(angle), height])
        split = "test" if i % 8 == 0 else "val" if i == 5 else "train"
        views.append(View(f"photos/{i:03}.png", camera, look_at(eye, CENTRE), split))
        pixels.append(photograph(camera, views[-1].world_from_camera)[0].reshape(-1, 4))
    counts = torch.full((n_views,), size, dtype=torch.int64)
    offsets = torch.arange(n_views) * size * size
    photos = Photos((), torch.from_numpy(np.concatenate(pixels)), None, offsets, counts, counts, "sphere")
    return Scene(root, root, "blender", tuple(views), photos, Normalisation(CENTRE, 1.0 / 1.5), True, np.array([0.0, 0.0, 1.0]),
                 None, None, (), ())


def write_blender(scene: Scene, folder: Path) -> None:
    """The scene as a Blender set: a PNG for each view, and the poses of each split in a file."""
    for split in ("train", "val", "test"):
        frames = []
        for index in scene.indices(split):
            view = scene.views[index]
            path = folder / view.name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene.photos.picture(index)[0].numpy()).save(path)
            frames.append({"file_path": view.name.removesuffix(".png"), "transform_matrix": view.world_from_camera.tolist()})
        camera = scene.views[0].camera
        angle = 2.0 * math.atan(0.5 * camera.width / camera.focal_x_px)
        (folder / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))


SMALL = {"training.minutes": None, "training.samples_per_step": 512, "sampling.steps": 64, "sampling.grid_resolution": 32,
         "encoding.levels": 4, "encoding.finest": 64, "encoding.log2_entries": 12, "field.hidden_width": 16,
         "field.colour_layers": 1, "training.learning_rate": 1e-2, "training.final_learning_rate": 0.1,
         "machine.threads": 1, "machine.backend": "reference"}
TINY_NERF = {"field.kind": "frequency", "sampling.kind": "coarse_to_fine", "sampling.coarse_samples": 12,
             "sampling.fine_samples": 12, "frequency.layers": 2, "frequency.width": 24, "frequency.position_octaves": 4}

SHARP = {"training.learning_rate": 5e-2, "training.samples_per_step": 2048, "sampling.grid_resolution": 16,
         "encoding.levels": 2, "encoding.coarsest": 8, "encoding.finest": 20, "field.appearance": "diffuse"}


def small_config(steps: int, changes: dict | None = None) -> Config:
    """Settings with which the ball is learned in seconds, and with `SHARP` well seen after 200 steps."""
    return with_overrides(Config(), SMALL | {"training.steps": steps} | (changes or {}))
