"""The hash grid in plain torch, level by level over all points."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nerf_app.ops.hashgrid.levels import Level
from nerf_app.ops.shapes import check_shapes

FACTORS = (1, 2654435761, 805459861)  # of x, y, z in the hash


def encode(x: Tensor, table: Tensor, levels: Sequence[Level]) -> Tensor:
    """Features of points: [N, d], [E, F] -> [N, L·F]."""
    return _blend(x, table, levels, with_slopes=False)[:, 0]


def encode_with_jacobian(x: Tensor, table: Tensor, levels: Sequence[Level]) -> tuple[Tensor, Tensor]:
    """Features of points, and those differentiated by x: [N, d], [E, F] -> [N, L·F], [N, L·F, d]."""
    blended = _blend(x, table, levels, with_slopes=True)
    return blended[:, 0], blended[:, 1:].transpose(1, 2)


def pull_back(x: Tensor, d_features: Tensor, table: Tensor, levels: Sequence[Level]) -> Tensor:
    """A gradient by the features -> that by x: [N, d], [N, L·F], [E, F] -> [N, d]."""
    check_shapes("x [N,d], d_features [N,W]", x=x, d_features=d_features)
    return torch.einsum("nw,nwd->nd", d_features, encode_with_jacobian(x.detach(), table, levels)[1])


def _blend(x: Tensor, table: Tensor, levels: Sequence[Level], with_slopes: bool) -> Tensor:
    """[N, 1, L·F], or [N, 1 + d, L·F] with the derivative by each axis behind the features."""
    check_shapes("x [N,d], table [E,F]", x=x, table=table)
    slope_axes = range(x.shape[1]) if with_slopes else ()
    parts = []
    for level in levels:
        entries = table[level.first:level.first + level.entries]
        position = (x.double() * level.scale + 0.5).to(x.dtype)  # [N, d] exact product, so a float32 fma
        cell = position.floor()
        rows = _corner_rows(cell.long(), level)  # [N, 2^d]
        weights = [_corner_weights(position - cell)]
        weights += [_corner_weights(position - cell, axis) * level.scale for axis in slope_axes]
        features = entries.index_select(0, rows.flatten()).view(*rows.shape, entries.shape[1])  # [N, 2^d, F]
        parts.append(torch.stack(weights, 1) @ features)
    return torch.cat(parts, 2)


def _corner_rows(cell: Tensor, level: Level) -> Tensor:
    """Rows of a cell's corners, x changing fastest: [N, d] -> [N, 2^d].

    Nothing is cut to 32 bits: a hashed level has a power of two of entries, and the modulo sees the low bits only.
    """
    rows = torch.zeros_like(cell[:, :1])
    for axis in range(cell.shape[1]):
        ends = cell[:, axis, None] + torch.arange(2, device=cell.device)  # [N, 2]
        if level.is_dense:
            rows = ends[:, :, None] * level.resolution**axis + rows[:, None]
        else:
            rows = ends[:, :, None] * FACTORS[axis] ^ rows[:, None]
        rows = rows.flatten(1)
    return rows % level.entries


def _corner_weights(fraction: Tensor, slope_axis: int | None = None) -> Tensor:
    """How much each corner counts, or that differentiated by the place in the cell along one axis: [N, d] -> [N, 2^d]."""
    weights = torch.ones_like(fraction[:, :1])
    for axis in range(fraction.shape[1]):
        f = fraction[:, axis]
        ends = torch.stack([-torch.ones_like(f), torch.ones_like(f)] if axis == slope_axis else [1 - f, f], 1)  # [N, 2]
        weights = (ends[:, :, None] * weights[:, None]).flatten(1)
    return weights
