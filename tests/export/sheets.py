"""Level sheets that can be photographed on paper, and runs around what a field shows of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from nerf_app.config import Config
from nerf_app.export.mesh import Mesh
from nerf_app.ops.backend import choose_backend
from nerf_app.run import Run
from nerf_app.scene.camera import Camera
from nerf_app.scene.images import Photos
from nerf_app.scene.lenses import CameraBatch
from nerf_app.scene.scene import Normalisation, Scene, View
from tests.analytic import AnalyticField, fog
from tests.export.analytic_run import FieldModel
from tests.export.test_visibility import square

CAMERA = Camera(96, 96, 110.0, 110.0, 48.0, 48.0)
ORANGE = np.array([255.0, 127.5, 31.9])  # what the field shows


@dataclass(frozen=True)
class Sheet:
    """A square at a height, painted on both sides; its mesh faces up or down."""

    height: float
    half_size: float
    colour_fn: Callable[[np.ndarray, np.ndarray], np.ndarray]  # x, y [N] -> [N, 3] 0...1
    faces_up: bool = True

    def mesh(self, cells: int = 16) -> Mesh:
        flat = square(cells, self.half_size, self.height)
        faces = flat.faces if self.faces_up else flat.faces[:, ::-1]
        return replace(flat, faces=faces.copy(), normals=np.full_like(flat.normals, [0, 0, 1 if self.faces_up else -1]))


def painted(r: float, g: float, b: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda x, y: np.broadcast_to(np.array([r, g, b]), (len(x), 3))


def photograph(camera: Camera, pose: np.ndarray, sheets: Sequence[Sheet], samples: int = 3) -> np.ndarray:
    """[H, W, 4] uint8, straight alpha; the nearest sheet of those that a ray meets."""
    x, y = (grid.ravel() for grid in np.meshgrid((np.arange(camera.width * samples) + 0.5) / samples,
                                                 (np.arange(camera.height * samples) + 0.5) / samples))
    batch = CameraBatch.from_cameras([camera])
    inside, _ = batch.directions(torch.zeros(len(x), dtype=torch.int64), torch.from_numpy(x), torch.from_numpy(y))
    ways, values, nearest = inside.numpy() @ pose[:3, :3].T, np.zeros((len(x), 4)), np.full(len(x), np.inf)
    for sheet in sheets:
        distance = (sheet.height - pose[2, 3]) / ways[:, 2]
        place = pose[:3, 3] + distance[:, None] * ways
        rows = ((distance > 0) & (distance < nearest) & (np.abs(place[:, :2]) < sheet.half_size).all(1)).nonzero()[0]
        values[rows] = np.concatenate([sheet.colour_fn(place[rows, 0], place[rows, 1]), np.ones((len(rows), 1))], 1)
        nearest[rows] = distance[rows]
    values = values.reshape(camera.height, samples, camera.width, samples, 4).mean((1, 3))
    values[..., :3] /= np.maximum(values[..., 3:], 1e-9)
    return np.round(255 * values).astype(np.uint8)


def scene_of(pictures: Sequence[np.ndarray], poses: Sequence[np.ndarray], camera: Camera = CAMERA, splits: Sequence[str] = (),
             ignored: Sequence[np.ndarray] | None = None) -> Scene:
    """Photos [H, W, C] uint8 as a scene; all of them for training, where nothing else is said."""
    splits = splits or ["train"] * len(poses)
    views = tuple(View(f"{i:03}.png", camera, pose, split) for i, (pose, split) in enumerate(zip(poses, splits, strict=True)))
    count, (height, width, channels) = len(pictures), pictures[0].shape
    sizes = [torch.full((count,), size, dtype=torch.int64) for size in (width, height)]
    photos = Photos((), torch.from_numpy(np.concatenate(pictures).reshape(-1, channels)),
                    None if ignored is None else torch.from_numpy(np.concatenate(ignored).reshape(-1)),
                    torch.arange(count) * height * width, *sizes, "sheets")
    return Scene(Path("sheets"), Path("sheets"), "blender", views, photos, Normalisation(np.zeros(3), 0.25), True,
                 np.array([0.0, 0.0, 1.0]), None, None, (), ())


def run_of(scene: Scene, field: AnalyticField | None = None) -> Run:
    """A field as a run of the scene; orange fog, if nothing else is said."""
    model = FieldModel(field or fog(1e4), choose_backend("auto", "cpu", 1))
    header = SimpleNamespace(scene_views=lambda: scene.views, normalisation=lambda: scene.normalisation, up=(0.0, 0.0, 1.0),
                             is_bounded=True)
    return Run(Path("run"), Config(), model, header, None)
