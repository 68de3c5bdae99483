"""Marching in plain torch: every candidate of a chunk of rays is looked at."""

import torch
from torch import Tensor

from nerf_app.ops.march import Marched, Space
from nerf_app.ops.shapes import check_shapes

CANDIDATES = 2**20  # at once, about: what bounds the memory


@torch.no_grad()
def march(origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, jitter: Tensor, step: float, occupied: Tensor,
          space: Space, max_samples: int | None) -> Marched:
    """The occupied steps of each ray; shapes and units in the contract."""
    check_shapes("origins [R,3], directions [R,3], near [R], far [R], jitter [R], occupied [G,G,G]", origins=origins,
                 directions=directions, near=near, far=far, jitter=jitter, occupied=occupied)
    first = space.lattice_at(near)  # [R]
    lengths = (space.lattice_at(far) - first) / step
    candidates = torch.where(far > near, lengths, 0).ceil().long()  # [R]
    longest = int(candidates.max()) if len(candidates) else 0
    found_rays, found_steps = [], []
    for rays in torch.arange(len(near), device=near.device).split(max(CANDIDATES // max(longest, 1), 1)):
        ray, k = _enumerate(rays, candidates[rays])
        t = space.distance_at(first[ray] + (k + 0.5 + jitter[ray]) * step)
        cells = (space.to_unit(origins[ray] + t[:, None] * directions[ray]) * len(occupied)).long()  # [K, 3] x, y, z
        x, y, z = cells.clamp(0, len(occupied) - 1).unbind(1)  # 1 itself belongs to the last cell
        is_kept = (t < far[ray]) & occupied[z, y, x]
        found_rays.append(ray[is_kept])
        found_steps.append(k[is_kept])
    ray, k = torch.cat(found_rays), torch.cat(found_steps)  # [S]
    counts = torch.bincount(ray, minlength=len(near))  # [R]
    is_complete = torch.ones_like(counts, dtype=torch.bool)
    if max_samples is not None:
        is_complete = (counts.cumsum(0) <= max_samples) | (counts == 0)
        ray, k, counts = ray[is_complete[ray]], k[is_complete[ray]], counts * is_complete
    t_starts = space.distance_at(first[ray] + (k + jitter[ray]) * step)
    t_ends = space.distance_at(first[ray] + (k + 1 + jitter[ray]) * step)
    return Marched(t_starts, t_ends, ray, counts.cumsum(0) - counts, counts, is_complete)


def _enumerate(rays: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """All candidates of some rays: [r], [r] -> the ray of each [K], and its number on that ray [K]."""
    begins = counts.cumsum(0) - counts
    numbers = torch.arange(int(counts.sum()), device=counts.device) - begins.repeat_interleave(counts)
    return rays.repeat_interleave(counts), numbers
