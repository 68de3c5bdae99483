"""WHERE THE FIELD IS WRONG → WHERE TO LOOK: photos are cut into tiles, and tiles with large errors are drawn more often.

Two thirds of the rays around a thing show nothing, and of the rest most are right after a minute. What is left of the error lies
in few places; to look there more often makes every step worth more. A part of the pixels is drawn evenly, so that no place is
forgotten, and the rest by the roots of the squared errors: whoever walked through a photo must not get all of the attention.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nerf_app.sampling.draws import PIXELS, Draws

EVENLY = 0.3  # part of the pixels that is drawn without regard to errors
EDGE = 8  # pixels along a tile, more where there would be too many tiles
MOST_TILES = 1 << 17
FORGETS = 0.5  # how much a look counts against all earlier ones
UNKNOWN = 0.1  # squared error of what was not looked at yet


@dataclass(frozen=True)
class Drawn:
    """R pixels, in the order of their tiles, so that neighbours come together."""

    tile: Tensor  # [R] int64
    view: Tensor  # [R] int64
    row: Tensor  # [R] int64 in the photo
    column: Tensor  # [R] int64
    way: Tensor  # [R] 0...1, by chance: where beside its middle a pixel is seen
    rarity: Tensor  # [R] how often it would come for each time it does, were all drawn evenly: weighted means are those of all


class Tiles:
    """Tiles of V photos, [V, 2] widths and heights, and how wrong each was of late. At first all are thought equally wrong."""

    def __init__(self, sizes: Tensor, device: torch.device) -> None:
        edge, across, down = _cut(sizes)
        counts = across * down  # [V]
        view = torch.repeat_interleave(counts)  # [T]
        number = torch.arange(len(view)) - (counts.cumsum(0) - counts)[view]
        top, left = edge * (number // across[view]), edge * (number % across[view])  # [T] pixels
        width, height = (sizes[view] - torch.stack([left, top], 1)).clamp(max=edge).T
        self.view, self.top, self.left, self.height, self.width = (x.to(device) for x in (view, top, left, height, width))
        self.area = (self.height * self.width).double()
        self.errors = torch.full((len(view),), UNKNOWN, device=device)  # [T] squared, running means

    def draw(self, draws: Draws, count: int) -> Drawn:
        """`count` pixels, by the errors of their tiles."""
        odds = self._odds()
        ends = (self.area * odds).cumsum(0)
        chance = draws.uniform(PIXELS, count)  # [R, 4]
        places = (torch.arange(count, device=chance.device) + chance[:, 0].double()) / count * ends[-1]
        tile = torch.searchsorted(ends, places, right=True).clamp(max=len(ends) - 1)
        row = self.top[tile] + (chance[:, 1] * self.height[tile]).long()
        column = self.left[tile] + (chance[:, 2] * self.width[tile]).long()
        return Drawn(tile, self.view[tile], row, column, chance[:, 3], (1.0 / odds[tile]).float())

    def learn(self, tile: Tensor, errors: Tensor) -> None:
        """Takes in the squared errors [R] of what was drawn; what is no number is as wrong as can be."""
        errors = errors.nan_to_num(1.0, 1.0)
        times = torch.zeros_like(self.errors).index_add_(0, tile, torch.ones_like(errors))
        sums = torch.zeros_like(self.errors).index_add_(0, tile, errors)
        new = 1.0 - 1.0 / (1.0 + FORGETS * times)
        self.errors.lerp_(sums / times.clamp(min=1.0), new)

    def _odds(self) -> Tensor:
        """[T] float64: how often a pixel of each tile is drawn, against all pixels drawn evenly."""
        errors = self.errors.double().sqrt()
        mean = (self.area * errors).sum() / self.area.sum()
        return EVENLY + (1.0 - EVENLY) * errors / mean.clamp(min=1e-15)


def tile_count(sizes: Tensor) -> int:
    """How many tiles photos of these sizes [V, 2] have."""
    _, across, down = _cut(sizes)
    return int((across * down).sum())


def _cut(sizes: Tensor) -> tuple[int, Tensor, Tensor]:
    """Pixels along a tile, and how many of them are side by side [V] and one above the other [V]."""
    most = max(MOST_TILES, len(sizes))
    edge = max(EDGE, math.isqrt(int(sizes.prod(1).sum()) // most))
    while True:
        across, down = (-(-sizes // edge)).T
        if int((across * down).sum()) <= most:
            return edge, across, down
        edge += 1
