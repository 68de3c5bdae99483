"""PHOTOS → THE SPACE THEY SEE: what too few of them look at is not learned from them, and could only float there."""

import math

import torch
from torch import Tensor
from torch.nn.functional import max_pool3d

from nerf_app.ops.backend import Backend
from nerf_app.rays import view_rays
from nerf_app.sampling.contraction import Space
from nerf_app.sampling.settings import SamplingSettings
from nerf_app.training.batches import PixelBatches

PHOTOS_PER_VIEW = 4  # of few photos one may be all that sees a corner: so many must there be for each that is asked for
CELLS = 64  # along an edge of the unit cube
MOST_EDGE, MOST_RAYS = 40, 200_000  # rays along an edge of a photo, closer together than cells; and of all photos
STEP = 1.0 / CELLS  # of the lattice, scene units: about half a cell


def open_cells(batches: PixelBatches, space: Space, ops: Backend, sampling: SamplingSettings) -> Tensor | None:
    """Which cells of the unit cube enough photos have in sight, [CELLS, CELLS, CELLS] bool, z y x; None: none is left out."""
    if space.is_bounded or not sampling.least_views or sampling.kind != "occupancy":
        return None
    least_views = min(sampling.least_views, max(1, len(batches.poses) // PHOTOS_PER_VIEW))
    is_open = views_of_cells(batches, space, ops) >= least_views
    return is_open if is_open.any() else None  # photos that have nothing in common: let each keep what it sees


@torch.no_grad()
def views_of_cells(batches: PixelBatches, space: Space, ops: Backend) -> Tensor:
    """How many photos have each cell of the unit cube in sight, or one that touches it: [CELLS, CELLS, CELLS] float, z y x."""
    n_views = len(batches.poses)
    edge = min(MOST_EDGE, math.ceil(math.sqrt(MOST_RAYS / n_views)))
    places = (torch.arange(edge, device=ops.device) + 0.5) / edge
    down, across = torch.meshgrid(places, places, indexing="ij")
    everywhere = torch.ones(CELLS, CELLS, CELLS, dtype=torch.bool, device=ops.device)
    counts = torch.zeros(CELLS, CELLS, CELLS, device=ops.device)
    for view in range(n_views):
        width, height = batches.cameras.size_px[view]
        rays = view_rays(batches.cameras, batches.poses, view, (down * height).long().view(-1), (across * width).long().view(-1))
        near, far = space.limits(rays.origins, rays.directions)
        far = torch.where(rays.is_valid, far, near)
        marched = ops.march.march(rays.origins, rays.directions, near, far, torch.full_like(near, 0.5), STEP, everywhere, space,
                                  None)
        middles = 0.5 * (marched.t_starts + marched.t_ends)
        points = rays.origins[marched.ray_indices] + middles[:, None] * rays.directions[marched.ray_indices]
        x, y, z = (space.to_unit(points) * CELLS).long().clamp(max=CELLS - 1).unbind(1)
        is_seen = torch.zeros(CELLS**3, dtype=torch.bool, device=ops.device)
        is_seen[(z * CELLS + y) * CELLS + x] = True
        counts += max_pool3d(is_seen.float().view(1, *everywhere.shape), 3, stride=1, padding=1)[0]
    return counts
