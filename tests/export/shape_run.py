"""A run whose model is a real one, but for the field in it, which can be computed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from nerf_app.model import RadianceModel
from nerf_app.ops.backend import choose_backend
from nerf_app.run import Run
from nerf_app.sampling.contraction import Space
from nerf_app.scene.camera import Camera
from nerf_app.scene.scene import Normalisation, View
from tests.analytic import AnalyticField, orange
from tests.export.stand_in import pose_looking, views_at
from tests.sphere import TINY_NERF, small_config

CENTRE, SCALE = np.array([10.0, -4.0, 2.0]), 0.5  # of the scene's cube in input coordinates; its edges are 4 units long
CAMERA = Camera(72, 72, 90.0, 90.0, 36.0, 36.0)


def shape_run(views: Sequence[View], outside: Callable[[Tensor], Tensor], is_bounded: bool = True) -> Run:
    """A solid: `outside` gives the distance to it for points [N, 3] in scene coordinates, below zero inside."""
    field = AnalyticField(lambda points: 2000.0 * torch.sigmoid(-outside(points) / 0.002), orange, Space(is_bounded))
    config = small_config(1, TINY_NERF | {"sampling.coarse_samples": 96, "sampling.fine_samples": 32})
    model = RadianceModel(config, is_bounded, choose_backend("auto", "cpu", 1))
    model.fields = [field, field]
    header = SimpleNamespace(scene_views=lambda: tuple(views), normalisation=lambda: Normalisation(CENTRE, SCALE),
                             up=(0.0, 0.0, 1.0), is_bounded=is_bounded)
    return Run(Path("run"), config, model, header, None)


def views_around(count: int = 14, distance: float = 5.0, lowest: float = -0.95, camera: Camera = CAMERA) -> tuple[View, ...]:
    """Cameras on a spiral around CENTRE, from `lowest` (-1 is straight below) to the top."""
    heights = np.linspace(lowest, 0.95, count)
    angles = 2.4 * np.arange(count)
    ring = np.sqrt(1.0 - heights**2)
    out = np.stack([ring * np.cos(angles), ring * np.sin(angles), heights], 1)
    return views_at([pose_looking(CENTRE + distance * one, CENTRE) for one in out], camera)


def ball(radius: float = 0.5, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Callable[[Tensor], Tensor]:
    """In scene units."""
    return lambda points: (points - points.new_tensor(centre)).norm(dim=1) - radius


def quiet(done: int, total: int) -> None:
    """Hears of progress and says nothing."""


def edge_counts(faces: np.ndarray) -> np.ndarray:
    """[E] how many faces each edge has."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    return np.unique(edges, axis=0, return_counts=True)[1]
