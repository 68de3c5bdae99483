"""RAYS → SAMPLES by a grid that remembers where something is."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool3d

from nerf_app.ops.backend import Backend
from nerf_app.ops.occupancy.reference import least_depth
from nerf_app.rays import Rays
from nerf_app.sampling.contraction import Limits, Space
from nerf_app.sampling.draws import CELLS, RAY_OFFSET, Draws
from nerf_app.sampling.samples import Samples
from nerf_app.sampling.settings import SamplingSettings

GROWTH = ((800, 1), (300, 2), (0, 4))  # from this training step on, the resolution is the full one divided by that
FADING = 0.98  # what a refresh leaves of a value at first, where a round of all cells takes few of them
MEMORY = 1 / 8  # of all refreshes so far, later on: what is thin shows at few of the places that are asked in its cell
REMEMBERED = 0.15  # what a whole round leaves at least: a cell must not be forgotten before it is asked again
UNBOUNDED_STEP = 2.0  # times as long: there a ray has far more to pass through
UNSEEN = -1.0  # a cell that was never asked counts as occupied
SHARPEST = 256  # cells along an edge, at most, that pictures are made with
EIGHTHS = (0, 7, 1, 6, 2, 5, 4, 3)  # of a cell, a bit for each axis; opposite ones come together
SOME = 0.5  # of what a cell must hold to count is enough for a part of it: few places of it are asked, once
ASKED = 1 << 17  # points at a time
CELL_STRIDE = 2654435761  # a prime larger than any grid: its multiples come by every cell before one repeats


def grid_sizes(full: int) -> set[int]:
    """Cells along an edge that a grid has at one time or another."""
    return {full // divisor for _, divisor in GROWTH} if full % 4 == 0 else {full}


class OccupancyGrid:
    """How opaque one lattice step is in each cell of the unit cube, and from it which cells are worth sampling.

    It begins coarse, so that the first looks reach every cell, and doubles its resolution twice on the way.
    """

    def __init__(self, settings: SamplingSettings, space: Space, ops: Backend) -> None:
        self.space, self.ops, self.threshold, self.full_size = space, ops, settings.grid_threshold, settings.grid_resolution
        self.step_length = (1.0 if space.is_bounded else UNBOUNDED_STEP) * 2.0 * math.sqrt(3.0) / settings.steps  # scene units
        self.stride = 1  # steps that are taken at once
        self.is_open: Tensor | None = None  # [g, g, g] where something may be, of any size; None: everywhere
        size = self._size_after(0)
        self.load(torch.full((size, size, size), UNSEEN, device=ops.device))

    def load(self, values: Tensor, threshold: float | None = None, sharpened: Tensor | None = None) -> None:
        """Takes over [G, G, G] values (z, y, x): the optical depth of a step in each cell; and above which it counts, if told.

        What `sharpen` made of such a grid may come with it.
        """
        self.threshold = self.threshold if threshold is None else threshold
        self.values, self.open_cells = values.clone(), torch.arange(values.numel(), device=values.device)  # [C] that are asked
        if self.is_open is not None:
            is_open = adaptive_max_pool3d(self.is_open[None].float(), values.shape)[0] > 0
            self.values[~is_open] = 0.0
            self.open_cells = is_open.view(-1).nonzero()[:, 0]
        self._mark()
        self.occupied = self.occupied if sharpened is None else sharpened

    def restrict(self, is_open: Tensor) -> None:
        """Where not, [g, g, g] (z, y, x) over the unit cube, everything counts as empty for good."""
        self.is_open = is_open
        self.load(self.values)

    def grow(self, steps: int) -> None:
        """Brings the grid to the resolution for so many steps of training; a new cell begins with its parent's value."""
        while len(self.values) < self._size_after(steps):
            finer = self.values
            for axis in range(3):
                finer = finer.repeat_interleave(2, axis)
            self.load(finer)

    def _size_after(self, steps: int) -> int:
        divisor = next(divisor for begin, divisor in GROWTH if steps >= begin)
        return self.full_size // divisor if self.full_size % 4 == 0 else self.full_size

    def refresh(self, density_fn: Callable[[Tensor], Tensor], draws: Draws, refreshes: int, count: int) -> None:
        """Asks the field about the next `count` cells of an order that comes round to every open cell, at a random place in each.

        Args:
            density_fn: [N, 3] in the unit cube -> [N] per scene unit.
            refreshes: how many there were before this one.
        """
        size, total = len(self.values), len(self.open_cells)
        count = min(count, total)
        order = torch.arange(count, device=self.ops.device) + refreshes * count
        cells = self.open_cells[(order % total) * CELL_STRIDE % total]  # [M]
        unit = (_corners(cells, size) + draws.uniform(CELLS, count)[:, :3]) / size
        decay = max(FADING, 1.0 - 1.0 / max(MEMORY * refreshes, 1.0), REMEMBERED ** (count / total))
        self.ops.occupancy.refresh(self.values, cells, self._depths(unit, density_fn), decay)
        self._mark()

    def sharpen(self, density_fn: Callable[[Tensor], Tensor]) -> None:
        """Halves the cells that count, and keeps those of the new ones in which something is at the middle of an eighth.

        For the pictures of a field that learns no more: `refresh` and `load`, which know whole cells alone, take it back.
        """
        size = 2 * len(self.values)
        if size > SHARPEST:
            return
        occupied = self.ops.occupancy.mark(self.values, self.threshold)
        enough = SOME * least_depth(self.values, self.threshold)
        for axis in range(3):
            occupied = occupied.repeat_interleave(2, axis)
        cells, kept = occupied.view(-1).nonzero()[:, 0], torch.zeros_like(occupied)
        for eighth in EIGHTHS:
            middle = 0.25 + 0.5 * torch.tensor([eighth & 1, eighth >> 1 & 1, eighth >> 2 & 1], device=cells.device)
            is_full = torch.cat([self._depths((_corners(some, size) + middle) / size, density_fn) > enough
                                 for some in cells.split(ASKED)])
            kept.view(-1)[cells[is_full]] = True
            cells = cells[~is_full]
        self.occupied = kept

    @property
    def sharpened(self) -> Tensor | None:
        """[2G, 2G, 2G] bool (z, y, x): what counts as occupied since `sharpen`; None before and where it was taken back."""
        return self.occupied if len(self.occupied) > len(self.values) else None

    def _depths(self, unit: Tensor, density_fn: Callable[[Tensor], Tensor]) -> Tensor:
        """[N, 3] in the unit cube -> [N] the optical depth of a step there."""
        return density_fn(unit) * self.space.step_length(self.space.from_unit(unit), self.step_length)

    def _mark(self) -> None:
        self.occupied = self.ops.occupancy.mark(self.values, self.threshold)


def _corners(cells: Tensor, size: int) -> Tensor:
    """[M] flat -> [M, 3] x, y, z in cells."""
    return torch.stack([cells % size, cells // size % size, cells // size**2], 1)


@dataclass(frozen=True)
class OccupancySampler:
    """Equal steps along each ray, where the grid says that something may be."""

    grid: OccupancyGrid

    def sample(self, rays: Rays, draws: Draws | None, limits: Limits | None = None) -> Samples:
        """Packed samples; `draws` shifts each ray's lattice by a random part of a step, None by half of one."""
        grid = self.grid
        near, far = grid.space.limits(rays.origins, rays.directions, limits)
        far = torch.where(rays.is_valid, far, near)
        jitter = torch.full_like(near, 0.5) if draws is None else draws.uniform(RAY_OFFSET, rays.count)[:, 0]
        marched = grid.ops.march.march(rays.origins, rays.directions, near, far, jitter,
                                       grid.stride * grid.step_length, grid.occupied, grid.space, None)
        return Samples(marched.t_starts, marched.t_ends, marched.ray_indices,
                       marched.ray_starts, marched.ray_counts, rays.count)
