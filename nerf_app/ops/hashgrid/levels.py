"""The resolutions of a hash grid, computed once on the host and handed to every implementation.

In float32 as tinycudann does it, or the last of 16 levels from 16 to 2048 would get 2049 cells: exponentials and
logarithms are taken in float64 and rounded once, so that every machine gets the same table.
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Level:
    """One grid: where a coordinate falls in it, and its rows of the table."""

    resolution: int  # grid points along an edge
    scale: float  # a float32 number: cells per unit of x
    entries: int  # rows in the table
    first: int  # the first of them
    is_dense: bool  # every grid point has a row of its own; else they are hashed


def level_table(levels: int, coarsest: int, finest: int, log2_entries: int, dimensions: int) -> tuple[Level, ...]:
    """Levels from `coarsest` to `finest` cells along an edge in equal ratios, with at most 2^log2_entries rows each."""
    growth = np.float32(math.exp(math.log(finest / coarsest) / max(levels - 1, 1)))
    log2_growth = np.float32(math.log2(growth))
    table: list[Level] = []
    for index in range(levels):
        factor = np.float32(2.0 ** float(np.float32(index) * log2_growth))
        scale = factor * np.float32(coarsest) - np.float32(1)
        resolution = math.ceil(scale) + 1
        points = resolution**dimensions
        entries = min(-(-points // 8) * 8, 2**log2_entries)
        first = table[-1].first + table[-1].entries if table else 0
        table.append(Level(resolution, float(scale), entries, first, points <= entries))
    return tuple(table)
