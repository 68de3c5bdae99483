"""Refreshing an occupancy grid by Triton."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_app.ops.gpu import WARPS, blocks, plain
from nerf_app.ops.occupancy import reference
from nerf_app.ops.shapes import check_shapes

BLOCK = 256

mark = reference.mark  # two sums and a comparison, which torch has on the device as well


@triton.jit(do_not_specialize=["n"])
def occupancy_enter(grid_ptr, cells_ptr, densities_ptr, n, BLOCK: tl.constexpr):
    """Cells take the larger of what they have and what was found there; what is no number changes nothing."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < n
    cells = tl.load(cells_ptr + rows, mask=inside, other=0)
    densities = tl.load(densities_ptr + rows, mask=inside, other=0.0)
    tl.atomic_max(grid_ptr + cells, densities, mask=inside & (densities == densities), sem="relaxed")


@torch.no_grad()
def refresh(density_grid: Tensor, cell_indices: Tensor, densities: Tensor, decay: float = 0.95) -> None:
    """Lets the grid [G, G, G] fade and enters new densities [M] at cells [M]."""
    check_shapes("density_grid [G,G,G], cell_indices [M], densities [M]", density_grid=density_grid,
                 cell_indices=cell_indices, densities=densities)
    density_grid.mul_(decay)
    occupancy_enter[(blocks(len(densities), BLOCK),)](density_grid, plain(cell_indices, torch.int64), plain(densities),
                                                      len(densities), BLOCK=BLOCK, num_warps=WARPS)
