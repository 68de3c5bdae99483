"""Marching by the C++ kernels."""

import torch
from torch import Tensor

from nerf_app.ops.march import Marched, Space
from nerf_app.ops.native import call, plain
from nerf_app.ops.shapes import check_shapes


def march(origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, jitter: Tensor, step: float, occupied: Tensor,
          space: Space, max_samples: int | None) -> Marched:
    """The occupied steps of each ray; shapes and units in the contract."""
    check_shapes("origins [R,3], directions [R,3], near [R], far [R], jitter [R], occupied [G,G,G]", origins=origins,
                 directions=directions, near=near, far=far, jitter=jitter, occupied=occupied)
    rays = [plain(values) for values in (origins, directions, near, far, jitter)]
    n_rays = len(origins)
    common = (*rays, n_rays, float(step), occupied.contiguous(), len(occupied), space.is_bounded)
    counts = torch.empty(n_rays, dtype=torch.int64)
    call("march_count", *common, counts)
    is_complete = torch.ones(n_rays, dtype=torch.bool)
    if max_samples is not None:
        is_complete = (counts.cumsum(0) <= max_samples) | (counts == 0)
        counts = counts * is_complete
    starts = counts.cumsum(0) - counts
    total = int(counts.sum())
    t_starts, t_ends, ray_indices = torch.empty(total), torch.empty(total), torch.empty(total, dtype=torch.int64)
    call("march_fill", *common, starts, counts, t_starts, t_ends, ray_indices)
    return Marched(t_starts, t_ends, ray_indices, starts, counts, is_complete)
