"""Refreshing an occupancy grid by the C++ kernel."""

import torch
from torch import Tensor

from nerf_app.ops.native import call, in_place, indices, plain
from nerf_app.ops.shapes import check_shapes


def refresh(density_grid: Tensor, cell_indices: Tensor, densities: Tensor, decay: float = 0.95) -> None:
    """Lets the grid [G, G, G] fade and enters new densities [M] at cells [M]."""
    check_shapes("density_grid [G,G,G], cell_indices [M], densities [M]", density_grid=density_grid,
                 cell_indices=cell_indices, densities=densities)
    call("occupancy_refresh", in_place(density_grid), density_grid.numel(), indices(cell_indices), plain(densities),
         len(densities), float(decay))


def mark(density_grid: Tensor, cap: float) -> Tensor:
    """Which cells of the grid [G, G, G] count as occupied: [G, G, G] bool."""
    check_shapes("density_grid [G,G,G]", density_grid=density_grid)
    occupied = torch.empty(density_grid.shape, dtype=torch.bool)
    call("occupancy_mark", plain(density_grid), density_grid.numel(), float(cap), occupied)
    return occupied
