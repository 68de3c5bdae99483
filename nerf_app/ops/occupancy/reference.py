"""Refreshing an occupancy grid in plain torch."""

import torch
from torch import Tensor

from nerf_app.ops.shapes import check_shapes


@torch.no_grad()
def refresh(density_grid: Tensor, cell_indices: Tensor, densities: Tensor, decay: float = 0.95) -> None:
    """Lets the grid [G, G, G] fade and enters new densities [M] at cells [M]."""
    check_shapes("density_grid [G,G,G], cell_indices [M], densities [M]", density_grid=density_grid,
                 cell_indices=cell_indices, densities=densities)
    density_grid.mul_(decay)
    density_grid.view(-1).scatter_reduce_(0, cell_indices, densities, "amax")
