"""Marching by the C++ kernels."""

import math

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from nerf_app.ops.march import Marched, Space
from nerf_app.ops.native import call, plain
from nerf_app.ops.shapes import check_shapes

BITS, BLOCK = 32, 8  # cells, or steps, that one word tells about; cells along the edge of a block: kernel.cpp's BATCH, EDGE
_packed = WeakTensorKeyDictionary()  # of grids that are still there


def march(origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, jitter: Tensor, step: float, occupied: Tensor,
          space: Space, max_samples: int | None) -> Marched:
    """The occupied steps of each ray; shapes and units in the contract."""
    check_shapes("origins [R,3], directions [R,3], near [R], far [R], jitter [R], occupied [G,G,G]", origins=origins,
                 directions=directions, near=near, far=far, jitter=jitter, occupied=occupied)
    origins, directions, near, far, jitter = (plain(values) for values in (origins, directions, near, far, jitter))
    n_rays, step = len(origins), float(step)
    longest = torch.where(far > near, space.lattice_at(far) - space.lattice_at(near), 0.0).amax() if n_rays else 0.0
    words = math.ceil(float(longest) / step / BITS + 1e-3)  # a rest of rounding must not cost the last step
    bits, counts = torch.empty(n_rays, words, dtype=torch.int32), torch.empty(n_rays, dtype=torch.int64)
    call("march_find", origins, directions, near, far, jitter, n_rays, step, *packed(occupied), len(occupied),
         space.is_bounded, bits, words, counts)
    is_complete = torch.ones(n_rays, dtype=torch.bool)
    if max_samples is not None:
        is_complete = (counts.cumsum(0) <= max_samples) | (counts == 0)
        counts = counts * is_complete
    starts = counts.cumsum(0) - counts
    total = int(counts.sum())
    t_starts, t_ends, ray_indices = torch.empty(total), torch.empty(total), torch.empty(total, dtype=torch.int64)
    call("march_fill", near, jitter, n_rays, step, space.is_bounded, bits, words, starts, counts, t_starts, t_ends, ray_indices)
    return Marched(t_starts, t_ends, ray_indices, starts, counts, is_complete)


def packed(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """A bit for each cell, and whether anything is in or beside each block of cells; made once, for many batches of rays."""
    version, *tensors = _packed.get(occupied, (None,))
    if version != occupied._version:  # which counts what torch changes in place
        size = len(occupied)
        tensors = (torch.empty(math.ceil(size**3 / BITS), dtype=torch.int32),
                   torch.empty([math.ceil(size / BLOCK)] * 3, dtype=torch.uint8))
        call("march_pack", occupied.contiguous(), size, *tensors)
        _packed[occupied] = occupied._version, *tensors
    return tuple(tensors)
