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
from nerf_app.sampling.contraction import FAR
from nerf_app.sampling.draws import POINTS, Draws
from nerf_app.training.losses import mean_that_counts

if TYPE_CHECKING:
    from nerf_app.scene.scene import Scene
    from nerf_app.training.batches import PixelBatches

RAYS = 256  # a step
REACH = 0.2  # of a point's distance: light that stops farther from it does not count for it
ENDS = 0.5  # part of the budget
MOST = 1_000_000  # sightings: more of them, of very many photos, are thinned evenly


class SparsePoints:
    """What the training photos see of a scene's sparse points."""

    def __init__(self, scene: "Scene", batches: "PixelBatches") -> None:
        names, sightings = [scene.views[i].name for i in scene.indices("train")], scene.sightings or {}
        seen = [sightings.get(name, np.empty(0, np.int64)) for name in names]
        views = np.repeat(np.arange(len(names)), [len(rows) for rows in seen])
        rows, points = np.concatenate([np.empty(0, np.int64), *seen]), np.empty((0, 3)) if scene.points is None else scene.points
        views, rows = (values[::max(1, -(-len(rows) // MOST))] for values in (views, rows))
        self.poses, device = batches.poses, batches.poses.device  # as they were given: the points lie by these
        self.points = torch.tensor(scene.normalisation.to_scene(points), device=device)  # [M, 3] float64 scene coordinates
        self.views, self.rows = torch.tensor(views, device=device), torch.tensor(rows, device=device)  # [K] int64: who sees which
        if len(rows):
            counts = self._count(batches)
            self.views, self.rows = self.views[counts], self.rows[counts]

    def _count(self, batches: "PixelBatches") -> Tensor:
        """[K] bool: sightings in the picture, where its mask lets one look, no farther away than rays go."""
        ways = self.points[self.rows] - self.poses[self.views, :3, 3]
        local = (ways[:, None] @ self.poses[self.views, :3, :3])[:, 0]
        x, y, is_seen = batches.cameras.project(self.views, local)
        distances = torch.linalg.vector_norm(ways, dim=1)
        is_seen = is_seen & (distances > 0) & (distances < FAR)
        if batches.ignored is not None:
            x, y = (torch.where(is_seen, values, 0.0).long() for values in (x, y))
            is_seen &= ~batches.ignored[batches.offsets[self.views] + y * batches.widths[self.views] + x]
        return is_seen

    def still_count(self, fraction: float) -> float:
        """From 1 at the beginning of a training to 0 when its part ENDS is over; 0 where there are none."""
        return max(1.0 - fraction / ENDS, 0.0) if len(self.views) else 0.0

    def loss(self, model: RadianceModel, draws: Draws) -> Tensor:
        """How much of the light of some rays towards points, 0...1, does not stop near them: [].

        Of points that are seen in a mirror nothing is said: the light stops before the glass, or behind it elsewhere.
        """
        rays, distances = self.draw(draws)
        counts = torch.ones_like(rays.is_valid)
        if model.mirror is not None:
            met, at = model.mirror.meet(rays)
            counts[met[at < distances[met]]] = False
        *_, seen = model.passes(rays, draws)
        samples, ends = seen.samples, torch.nn.functional.pad(distances, (0, 1), value=1.0)  # the last is that of unused entries
        there = ends[samples.ray_indices]  # [S]
        off = (0.5 * (samples.t_starts + samples.t_ends) - there).abs() / (REACH * there)
        near = model.ops.composite.accumulate(seen.weights, (1.0 - off).clamp(min=0.0)[:, None], samples.ray_indices, rays.count)
        return mean_that_counts(1.0 - near[:, 0], counts)

    def draw(self, draws: Draws) -> tuple[Rays, Tensor]:
        """RAYS rays from photos to points that they see, and how far away these are: [RAYS] scene units."""
        chosen = (draws.uniform(POINTS, RAYS)[:, 0].double() * len(self.views)).long().clamp(max=len(self.views) - 1)
        views = self.views[chosen]
        origins = self.poses[views, :3, 3]
        ways = self.points[self.rows[chosen]] - origins
        distances = torch.linalg.vector_norm(ways, dim=1)
        directions = ways / distances[:, None]
        ahead = -(directions * self.poses[views, :3, 2]).sum(1)
        rays = Rays(origins.float(), directions.float(), ahead.float(), views, torch.ones_like(views, dtype=torch.bool))
        return rays, distances.float()
