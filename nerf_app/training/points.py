"""SPARSE POINTS → RAYS: where the photos' features, matched and triangulated, say that light stops.

Few photos leave many places for a surface that would show what they show. Points that three and more of them agree on tell which
is right. They are right to a pixel or two, so the photos have the last word: the term is over when half of the budget is.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nerf_app.model import RadianceModel
from nerf_app.rays import Rays
from nerf_app.sampling.draws import POINTS, Draws

if TYPE_CHECKING:
    from nerf_app.scene.scene import Scene

RAYS = 256  # a step
REACH = 0.2  # of a point's distance: light that stops farther from it does not count for it
ENDS = 0.5  # part of the budget


class SparsePoints:
    """What the training photos see of a scene's sparse points."""

    def __init__(self, scene: "Scene", poses: Tensor) -> None:
        """`poses` [V, 4, 4] float64, scene coordinates, of the training photos."""
        names, sightings = [scene.views[i].name for i in scene.indices("train")], scene.sightings or {}
        seen = [sightings.get(name, np.empty(0, np.int64)) for name in names]
        views = np.repeat(np.arange(len(names)), [len(rows) for rows in seen])
        rows = np.concatenate([np.empty(0, np.int64), *seen])
        places = np.empty((0, 3)) if scene.points is None else scene.normalisation.to_scene(scene.points)[rows]
        self.views = torch.tensor(views, device=poses.device)  # [K] int64, positions among the training photos
        self.places = torch.tensor(places, device=poses.device)  # [K, 3] float64

    def still_count(self, fraction: float) -> float:
        """From 1 at the beginning of a training to 0 when its part ENDS is over; 0 where there are none."""
        return max(1.0 - fraction / ENDS, 0.0) if len(self.views) else 0.0

    def loss(self, model: RadianceModel, poses: Tensor, draws: Draws) -> Tensor:
        """How much of the light of some rays towards points, 0...1, does not stop near them: []."""
        rays, distances = self.draw(poses, draws)
        *_, seen = model.passes(rays, draws)
        samples, ends = seen.samples, torch.nn.functional.pad(distances, (0, 1), value=1.0)  # the last is that of unused entries
        there = ends[samples.ray_indices]  # [S]
        off = (0.5 * (samples.t_starts + samples.t_ends) - there).abs() / (REACH * there)
        near = model.ops.composite.accumulate(seen.weights, (1.0 - off).clamp(min=0.0)[:, None], samples.ray_indices, rays.count)
        return 1.0 - near.mean()

    def draw(self, poses: Tensor, draws: Draws) -> tuple[Rays, Tensor]:
        """RAYS rays from photos at `poses` [V, 4, 4] to points that they see, and how far away these are: [RAYS] scene units."""
        chosen = (draws.uniform(POINTS, RAYS)[:, 0].double() * len(self.views)).long().clamp(max=len(self.views) - 1)
        views = self.views[chosen]
        origins = poses[views, :3, 3]
        ways = self.places[chosen] - origins
        distances = torch.linalg.vector_norm(ways, dim=1)
        directions = ways / distances[:, None]
        ahead = -(directions * poses[views, :3, 2]).sum(1)
        rays = Rays(origins.float(), directions.float(), ahead.float(), views, ahead > 0)
        return rays, distances.float()
