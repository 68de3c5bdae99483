"""Marching by nerfacc, in the scene's cube. Space without bounds, which it does not contract, is the reference's.

Its lattice is ours but for rounding: it begins at each ray's near plane and adds one step after the other, so the ends of far
intervals differ in their last digits, and so does, now and then, which cell a middle on a border lies in. What it finds is
waited for. Not run with the real library yet: tests/ops/test_adapters.py checks shapes, dtypes and layout against a stand-in.
"""

import torch
from torch import Tensor

from nerf_app.ops.march import Marched, Space, reference
from nerf_app.ops.shapes import check_shapes


@torch.no_grad()
def march(origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, jitter: Tensor, step: float, occupied: Tensor,
          space: Space, max_samples: int | None) -> Marched:
    """The occupied steps of each ray; shapes and units in the contract."""
    check_shapes("origins [R,3], directions [R,3], near [R], far [R], jitter [R], occupied [G,G,G]", origins=origins,
                 directions=directions, near=near, far=far, jitter=jitter, occupied=occupied)
    if not space.is_bounded or not len(origins):
        return reference.march(origins, directions, near, far, jitter, step, occupied, space, max_samples)
    import nerfacc
    is_there = far > near
    first, last = torch.where(is_there, near + jitter * step, 1.0), torch.where(is_there, far, 0.0)  # NaN would never end
    cube = torch.tensor([[-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]], device=origins.device)
    intervals, samples, _ = nerfacc.traverse_grids(
        origins.contiguous(), directions.contiguous(), occupied.permute(2, 1, 0)[None].contiguous(), cube,  # x y z
        near_planes=first, far_planes=last, step_size=float(step), cone_angle=0.0)
    t_starts, t_ends, rays = intervals.vals[intervals.is_left], intervals.vals[intervals.is_right], samples.ray_indices.long()
    counts = torch.bincount(rays, minlength=len(origins))  # [R]
    is_complete = torch.ones_like(counts, dtype=torch.bool)
    if max_samples is not None:
        is_complete = (counts.cumsum(0) <= max_samples) | (counts == 0)
        kept = is_complete[rays]
        t_starts, t_ends, rays, counts = t_starts[kept], t_ends[kept], rays[kept], counts * is_complete
    return Marched(t_starts, t_ends, rays, counts.cumsum(0) - counts, counts, is_complete)
