"""Refreshing an occupancy grid by the C++ kernel."""

from torch import Tensor

from nerf_app.ops.native import call, plain
from nerf_app.ops.shapes import check_shapes


def refresh(density_grid: Tensor, cell_indices: Tensor, densities: Tensor, decay: float = 0.95) -> None:
    """Lets the grid [G, G, G] fade and enters new densities [M] at cells [M]."""
    check_shapes("density_grid [G,G,G], cell_indices [M], densities [M]", density_grid=density_grid,
                 cell_indices=cell_indices, densities=densities)
    call("occupancy_refresh", density_grid, density_grid.numel(), cell_indices.contiguous(), plain(densities), len(densities),
         float(decay))
