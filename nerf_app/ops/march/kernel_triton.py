"""Marching by Triton, in two phases: count each ray's occupied steps, then write them where the rays before it end.

A program takes some rays, and CHUNK neighbouring steps of each at once, so that the second phase writes side by side. With
`max_samples` the buffers have that size, whatever is found, and nothing is read on the host.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_app.ops.gpu import WARPS, blocks, plain
from nerf_app.ops.march import Marched, Space
from nerf_app.ops.march.space_triton import distance_at, lattice_at, to_unit
from nerf_app.ops.shapes import check_shapes

RAYS, CHUNK = 16, 32  # of a program: rays, and steps of each looked at together


@triton.jit
def _load_rays(origins_ptr, directions_ptr, near_ptr, far_ptr, jitter_ptr, n_rays, RAYS: tl.constexpr):
    """The rays of this program: their numbers, whether they are there, origin, direction, near, far, jitter, each [RAYS]."""
    rays = tl.program_id(0) * RAYS + tl.arange(0, RAYS)
    inside = rays < n_rays
    at = rays.to(tl.int64) * 3
    ox, oy, oz = (tl.load(origins_ptr + at, mask=inside, other=0.0), tl.load(origins_ptr + at + 1, mask=inside, other=0.0),
                  tl.load(origins_ptr + at + 2, mask=inside, other=0.0))
    dx, dy, dz = (tl.load(directions_ptr + at, mask=inside, other=0.0), tl.load(directions_ptr + at + 1, mask=inside, other=0.0),
                  tl.load(directions_ptr + at + 2, mask=inside, other=0.0))
    near, far = tl.load(near_ptr + rays, mask=inside, other=1.0), tl.load(far_ptr + rays, mask=inside, other=0.0)
    jitter = tl.load(jitter_ptr + rays, mask=inside, other=0.5)
    return rays, inside, ox, oy, oz, dx, dy, dz, near, far, jitter


@triton.jit
def _longest(near, far, step, IS_BOUNDED: tl.constexpr):
    """Steps that the longest ray of this program has at most; one more, for rounding must not cost the last."""
    length = tl.div_rn(lattice_at(far, IS_BOUNDED) - lattice_at(near, IS_BOUNDED), near * 0.0 + step)
    return tl.max(tl.where(far > near, tl.ceil(length), -1.0).to(tl.int32), 0) + 1


@triton.jit
def _is_kept(k, first, ox, oy, oz, dx, dy, dz, far, jitter, step, occupied_ptr, size, IS_BOUNDED: tl.constexpr):
    """Whether the middles of steps k [RAYS, CHUNK] lie before `far` in an occupied cell."""
    t = distance_at(first[:, None] + (k + 0.5 + jitter[:, None]) * step, IS_BOUNDED)
    x, y, z = to_unit(ox[:, None] + t * dx[:, None], oy[:, None] + t * dy[:, None], oz[:, None] + t * dz[:, None], IS_BOUNDED)
    cx, cy, cz = (x * size).to(tl.int32), (y * size).to(tl.int32), (z * size).to(tl.int32)
    cx, cy, cz = tl.minimum(cx, size - 1), tl.minimum(cy, size - 1), tl.minimum(cz, size - 1)  # 1 itself: the last cell
    is_near = t < far[:, None]
    return is_near & (tl.load(occupied_ptr + (cz * size + cy) * size + cx, mask=is_near, other=0) != 0)


@triton.jit(do_not_specialize=["n_rays", "size"])
def march_count(origins_ptr, directions_ptr, near_ptr, far_ptr, jitter_ptr, n_rays, step, occupied_ptr, size, counts_ptr,
                IS_BOUNDED: tl.constexpr, RAYS: tl.constexpr, CHUNK: tl.constexpr):
    """How many steps of each ray are kept: [R] int64."""
    rays, inside, ox, oy, oz, dx, dy, dz, near, far, jitter = _load_rays(
        origins_ptr, directions_ptr, near_ptr, far_ptr, jitter_ptr, n_rays, RAYS)
    far = tl.where(far > near, far, 0.0)  # NaN too
    first = lattice_at(near, IS_BOUNDED)
    counts = tl.zeros([RAYS], tl.int32)
    for begin in range(0, _longest(near, far, step, IS_BOUNDED), CHUNK):
        k = (begin + tl.arange(0, CHUNK))[None, :].to(tl.float32)
        kept = _is_kept(k, first, ox, oy, oz, dx, dy, dz, far, jitter, step, occupied_ptr, size, IS_BOUNDED)
        counts += tl.sum(kept.to(tl.int32), 1)
    tl.store(counts_ptr + rays, counts.to(tl.int64), mask=inside)


@triton.jit(do_not_specialize=["n_rays", "size"])
def march_fill(origins_ptr, directions_ptr, near_ptr, far_ptr, jitter_ptr, n_rays, step, occupied_ptr, size, starts_ptr,
               counts_ptr, t_starts_ptr, t_ends_ptr, ray_indices_ptr, IS_BOUNDED: tl.constexpr, RAYS: tl.constexpr,
               CHUNK: tl.constexpr):
    """Writes the kept steps of rays whose count is not 0, each ray from its own start on."""
    rays, inside, ox, oy, oz, dx, dy, dz, near, far, jitter = _load_rays(
        origins_ptr, directions_ptr, near_ptr, far_ptr, jitter_ptr, n_rays, RAYS)
    room = tl.load(counts_ptr + rays, mask=inside, other=0)
    far = tl.where((far > near) & (room > 0), far, 0.0)
    first = lattice_at(near, IS_BOUNDED)
    place = tl.load(starts_ptr + rays, mask=inside, other=0)
    for begin in range(0, _longest(near, far, step, IS_BOUNDED), CHUNK):
        k = (begin + tl.arange(0, CHUNK))[None, :].to(tl.float32)
        kept = _is_kept(k, first, ox, oy, oz, dx, dy, dz, far, jitter, step, occupied_ptr, size, IS_BOUNDED)
        numbers = tl.cumsum(kept.to(tl.int32), 1)
        at = place[:, None] + numbers - 1
        start = distance_at(first[:, None] + (k + jitter[:, None]) * step, IS_BOUNDED)
        end = distance_at(first[:, None] + (k + 1.0 + jitter[:, None]) * step, IS_BOUNDED)
        tl.store(t_starts_ptr + at, start, mask=kept)
        tl.store(t_ends_ptr + at, end, mask=kept)
        tl.store(ray_indices_ptr + at, (rays[:, None] + tl.zeros([RAYS, CHUNK], tl.int32)).to(tl.int64), mask=kept)
        place += tl.sum(kept.to(tl.int64), 1)


def march(origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, jitter: Tensor, step: float, occupied: Tensor,
          space: Space, max_samples: int | None) -> Marched:
    """The occupied steps of each ray; shapes and units in the contract. Without `max_samples` their number is waited for."""
    check_shapes("origins [R,3], directions [R,3], near [R], far [R], jitter [R], occupied [G,G,G]", origins=origins,
                 directions=directions, near=near, far=far, jitter=jitter, occupied=occupied)
    n_rays, device = len(origins), origins.device
    counts = torch.zeros(n_rays, dtype=torch.int64, device=device)
    common = (*map(plain, (origins, directions, near, far, jitter)), n_rays, float(step),
              plain(occupied, torch.bool).view(torch.uint8), len(occupied))
    options = {"IS_BOUNDED": space.is_bounded, "RAYS": RAYS, "CHUNK": CHUNK, "num_warps": WARPS, "enable_fp_fusion": False}
    march_count[(blocks(n_rays, RAYS),)](*common, counts, **options)
    is_complete = torch.ones_like(counts, dtype=torch.bool)
    if max_samples is None:
        max_samples = int(counts.sum())
    else:
        is_complete = (counts.cumsum(0) <= max_samples) | (counts == 0)
        counts = counts * is_complete
    starts = counts.cumsum(0) - counts
    t_starts, t_ends = (torch.zeros(max_samples, device=device) for _ in range(2))  # each where kernels like numbers to begin
    ray_indices = torch.full((max_samples,), n_rays, dtype=torch.int64, device=device)
    march_fill[(blocks(n_rays, RAYS),)](*common, starts, counts, t_starts, t_ends, ray_indices, **options)
    return Marched(t_starts, t_ends, ray_indices, starts, counts, is_complete)
