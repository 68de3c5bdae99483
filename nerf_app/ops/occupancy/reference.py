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
    known = torch.where(densities.isnan(), -torch.inf, densities)  # what is no number changes nothing
    density_grid.view(-1).scatter_reduce_(0, cell_indices, known, "amax")


@torch.no_grad()
def mark(density_grid: Tensor, cap: float) -> Tensor:
    """Which cells of the grid [G, G, G] count as occupied: [G, G, G] bool."""
    check_shapes("density_grid [G,G,G]", density_grid=density_grid)
    return (density_grid > least_depth(density_grid, cap)) | ~(density_grid >= 0)


@torch.no_grad()
def least_depth(density_grid: Tensor, cap: float) -> Tensor:
    """What a known cell of the grid [G, G, G] must exceed to be occupied: [] float64."""
    n_known = (density_grid >= 0).sum().clamp(min=1)
    return torch.clamp(0.5 * density_grid.double().clamp(min=0).sum() / n_known, max=cap)
