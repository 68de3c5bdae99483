"""The hash grid by Triton: a program takes a block of points on one level, and levels are the slow axis of the launch, so
that one level's rows stay in the cache until all points are through with it.

A corner's features lie side by side: a [block, F] tile is one load of 4·F bytes a point, and one vector reduction on the
way back (held to the assembly by tests/ops/test_assembly.py). Tables may be float32 or float16; sums are float32.
"""

import functools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_app.ops.gpu import WARPS, blocks, plain, power_of_two
from nerf_app.ops.hashgrid import reference
from nerf_app.ops.hashgrid.levels import Level
from nerf_app.ops.shapes import check_shapes

BLOCK = 256  # points

encode_with_jacobian = reference.encode_with_jacobian  # which a training never asks for


@triton.jit
def _position(x_ptr, points, inside, axis: tl.constexpr, scale, D: tl.constexpr):
    """Where points lie along an axis: the cell's lower corner (float32) and the way through the cell."""
    x = tl.load(x_ptr + points.to(tl.int64) * D + axis, mask=inside, other=0.0)
    position = tl.fma(x, scale, 0.5)
    cell = tl.floor(position)
    return cell, position - cell


@triton.jit
def _index(cell, resolution):
    """A cell as an index; what lies outside of the level, or nowhere, becomes a place inside."""
    cell = tl.where(cell > 0, cell, 0.0)
    return tl.where(cell < resolution - 1, cell, resolution - 1.0).to(tl.uint32)


@triton.jit
def _row(x, y, z, corner: tl.constexpr, resolution, entries, is_dense):
    """Rows of one corner of cells [N] on their level, always below `entries` (uint32)."""
    x += corner & 1
    y += (corner >> 1) & 1
    z += corner >> 2
    dense = x + resolution * (y + resolution * z)
    dense = tl.where(dense >= entries, dense - entries, dense)
    hashed = (x ^ (y * 2654435761) ^ (z * 805459861)) & (entries - 1)
    return tl.where(is_dense, dense, hashed)


@triton.jit
def _along(fraction, bit: tl.constexpr, is_slope: tl.constexpr):
    """How much a corner counts along one axis, or that differentiated by the way through the cell."""
    if is_slope:
        share = fraction * 0.0 + (2.0 * bit - 1.0)
    elif bit:
        share = fraction
    else:
        share = 1.0 - fraction
    return share


@triton.jit
def _share(fx, fy, fz, corner: tl.constexpr, slope: tl.constexpr):
    """How much a corner counts: [N]; differentiated along axis `slope` (3: not at all)."""
    return (_along(fx, corner & 1, slope == 0) * _along(fy, (corner >> 1) & 1, slope == 1)
            * _along(fz, corner >> 2, slope == 2))


@triton.jit
def _cells(x_ptr, points, inside, scale, resolution, D: tl.constexpr):
    """Indices of cells and ways through them along three axes; a third that is not there stays at 0."""
    cx, fx = _position(x_ptr, points, inside, 0, scale, D)
    cy, fy = _position(x_ptr, points, inside, 1, scale, D)
    cz, fz = cx * 0.0, fx * 0.0
    if D == 3:
        cz, fz = _position(x_ptr, points, inside, 2, scale, D)
    return _index(cx, resolution), _index(cy, resolution), _index(cz, resolution), fx, fy, fz


@triton.jit
def _level(levels_ptr, scales_ptr, level):
    """A level's scale, resolution, entries, first row and whether it is dense."""
    numbers = levels_ptr + 4 * level
    return (tl.load(scales_ptr + level), tl.load(numbers).to(tl.uint32), tl.load(numbers + 1).to(tl.uint32),
            tl.load(numbers + 2), tl.load(numbers + 3) != 0)


@triton.jit(do_not_specialize=["n_levels"])
def hashgrid_forward(x_ptr, table_ptr, levels_ptr, scales_ptr, out_ptr, count_ptr, n_levels,
                     D: tl.constexpr, F: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Features [N, L·F] of points [N, D]; `count_ptr` says how many of the points there are."""
    level = tl.program_id(1)
    count = tl.load(count_ptr)
    if tl.program_id(0) * BLOCK >= count:
        return
    points = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = points < count
    scale, resolution, entries, first, is_dense = _level(levels_ptr, scales_ptr, level)
    x, y, z, fx, fy, fz = _cells(x_ptr, points, inside, scale, resolution, D)
    feature = tl.arange(0, WIDTH)
    is_used = inside[:, None] & (feature < F)[None, :]
    sums = tl.zeros([BLOCK, WIDTH], tl.float32)
    for corner in tl.static_range(2**D):
        rows = first + _row(x, y, z, corner, resolution, entries, is_dense).to(tl.int64)
        values = tl.load(table_ptr + rows[:, None] * F + feature[None, :], mask=is_used, other=0.0).to(tl.float32)
        sums += _share(fx, fy, fz, corner, 3)[:, None] * values
    places = (points.to(tl.int64) * n_levels + level)[:, None] * F + feature[None, :]
    tl.store(out_ptr + places, sums.to(out_ptr.dtype.element_ty), mask=is_used)


@triton.jit(do_not_specialize=["n_levels"])
def hashgrid_backward(x_ptr, d_out_ptr, levels_ptr, scales_ptr, index_ptr, count_ptr, d_table_ptr, n_levels,
                      D: tl.constexpr, F: tl.constexpr, WIDTH: tl.constexpr, HAS_INDEX: tl.constexpr, BLOCK: tl.constexpr):
    """Adds to the table's gradient. With an index, row i of `d_out` [N, L·F] belongs to point index[i]."""
    level = tl.program_id(1)
    count = tl.load(count_ptr)
    if tl.program_id(0) * BLOCK >= count:
        return
    rows_out = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows_out < count
    points = rows_out
    if HAS_INDEX:
        points = tl.load(index_ptr + rows_out, mask=inside, other=0)
    scale, resolution, entries, first, is_dense = _level(levels_ptr, scales_ptr, level)
    x, y, z, fx, fy, fz = _cells(x_ptr, points, inside, scale, resolution, D)
    feature = tl.arange(0, WIDTH)
    is_used = inside[:, None] & (feature < F)[None, :]
    places = (rows_out.to(tl.int64) * n_levels + level)[:, None] * F + feature[None, :]
    d_out = tl.load(d_out_ptr + places, mask=is_used, other=0.0).to(tl.float32)
    for corner in tl.static_range(2**D):
        rows = first + _row(x, y, z, corner, resolution, entries, is_dense).to(tl.int64)
        parts = (_share(fx, fy, fz, corner, 3)[:, None] * d_out).to(d_table_ptr.dtype.element_ty)
        tl.atomic_add(d_table_ptr + rows[:, None] * F + feature[None, :], parts, mask=is_used, sem="relaxed")


@triton.jit(do_not_specialize=["n", "n_levels"])
def hashgrid_slopes(x_ptr, table_ptr, d_out_ptr, levels_ptr, scales_ptr, d_x_ptr, n, n_levels,
                    D: tl.constexpr, F: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """The gradient by the points [N, D]: a block of points comes by all levels."""
    points = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = points < n
    feature = tl.arange(0, WIDTH)
    is_used = inside[:, None] & (feature < F)[None, :]
    dx, dy, dz = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for level in range(0, n_levels):
        scale, resolution, entries, first, is_dense = _level(levels_ptr, scales_ptr, level)
        x, y, z, fx, fy, fz = _cells(x_ptr, points, inside, scale, resolution, D)
        places = (points.to(tl.int64) * n_levels + level)[:, None] * F + feature[None, :]
        d_out = tl.load(d_out_ptr + places, mask=is_used, other=0.0).to(tl.float32)
        for corner in tl.static_range(2**D):
            rows = first + _row(x, y, z, corner, resolution, entries, is_dense).to(tl.int64)
            values = tl.load(table_ptr + rows[:, None] * F + feature[None, :], mask=is_used, other=0.0).to(tl.float32)
            pulled = scale * tl.sum(values * d_out, 1)
            dx += _share(fx, fy, fz, corner, 0) * pulled
            dy += _share(fx, fy, fz, corner, 1) * pulled
            if D == 3:
                dz += _share(fx, fy, fz, corner, 2) * pulled
    tl.store(d_x_ptr + points.to(tl.int64) * D, dx, mask=inside)
    tl.store(d_x_ptr + points.to(tl.int64) * D + 1, dy, mask=inside)
    if D == 3:
        tl.store(d_x_ptr + points.to(tl.int64) * D + 2, dz, mask=inside)


@triton.jit(do_not_specialize=["n", "n_levels"])
def hashgrid_pull_backward(x_ptr, table_ptr, d_out_ptr, cotangent_ptr, levels_ptr, scales_ptr, pushed_ptr, d_table_ptr, n,
                           n_levels, D: tl.constexpr, F: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Of what `hashgrid_slopes` makes of `d_out` [N, L·F], the way back of a cotangent [N, D]: to `d_out`, and to the table."""
    level = tl.program_id(1)
    points = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = points < n
    scale, resolution, entries, first, is_dense = _level(levels_ptr, scales_ptr, level)
    x, y, z, fx, fy, fz = _cells(x_ptr, points, inside, scale, resolution, D)
    place = cotangent_ptr + points.to(tl.int64) * D
    along_x, along_y = tl.load(place, mask=inside, other=0.0), tl.load(place + 1, mask=inside, other=0.0)
    along_z = along_x * 0.0
    if D == 3:
        along_z = tl.load(place + 2, mask=inside, other=0.0)
    feature = tl.arange(0, WIDTH)
    is_used = inside[:, None] & (feature < F)[None, :]
    places = (points.to(tl.int64) * n_levels + level)[:, None] * F + feature[None, :]
    d_out = tl.load(d_out_ptr + places, mask=is_used, other=0.0)
    pushed = tl.zeros([BLOCK, WIDTH], tl.float32)
    for corner in tl.static_range(2**D):
        rows = first + _row(x, y, z, corner, resolution, entries, is_dense).to(tl.int64)
        rises = _share(fx, fy, fz, corner, 0) * along_x + _share(fx, fy, fz, corner, 1) * along_y
        if D == 3:
            rises += _share(fx, fy, fz, corner, 2) * along_z
        rises = (scale * rises)[:, None]
        pushed += rises * tl.load(table_ptr + rows[:, None] * F + feature[None, :], mask=is_used, other=0.0)
        tl.atomic_add(d_table_ptr + rows[:, None] * F + feature[None, :], rises * d_out, mask=is_used, sem="relaxed")
    tl.store(pushed_ptr + places, pushed, mask=is_used)


@functools.lru_cache(maxsize=16)
def level_tensors(levels: tuple[Level, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """The level table as the kernels read it: [L, 4] int32 resolution, entries, first, is_dense, and [L] float32 scales."""
    numbers = [(level.resolution, level.entries, level.first, int(level.is_dense)) for level in levels]
    return (torch.tensor(numbers, dtype=torch.int32, device=device),
            torch.tensor([level.scale for level in levels], dtype=torch.float32, device=device))


def features_of(points: Tensor, table: Tensor, levels: tuple[Level, ...], count: Tensor, dtype: torch.dtype) -> Tensor:
    """Features [N, L·F] of the first `count` ([] int32) of points [N, d]; rows behind them are left as they are made: 0."""
    n, d = points.shape
    out = torch.zeros(n, len(levels) * table.shape[1], dtype=dtype, device=points.device)
    hashgrid_forward[(blocks(n, BLOCK), len(levels))](
        points, table, *level_tensors(levels, points.device), out, count, len(levels),
        D=d, F=table.shape[1], WIDTH=power_of_two(table.shape[1]), BLOCK=BLOCK, num_warps=WARPS)
    return out


def add_table_gradient(points: Tensor, d_features: Tensor, levels: tuple[Level, ...], d_table: Tensor, count: Tensor,
                       index: Tensor | None = None) -> None:
    """Adds what flows back from `count` ([] int32) rows of features [N, L·F] to the table's gradient [E, F], in place.

    Args:
        index: [N] int32, the point that a row belongs to; None: the rows are those of the points.
    """
    hashgrid_backward[(blocks(len(d_features), BLOCK), len(levels))](
        points, d_features, *level_tensors(levels, points.device), count if index is None else index, count, d_table, len(levels),
        D=points.shape[1], F=d_table.shape[1], WIDTH=power_of_two(d_table.shape[1]), HAS_INDEX=index is not None, BLOCK=BLOCK,
        num_warps=WARPS)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
        points, entries = plain(x), plain(table)
        ctx.save_for_backward(points, entries)
        ctx.levels, ctx.table = levels, table
        return features_of(points, entries, levels, _all(points), torch.float32)

    @staticmethod
    def backward(ctx, d_out: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        points, entries = ctx.saved_tensors
        d_out, d_x, d_table = plain(d_out), None, None
        if ctx.needs_input_grad[0]:
            d_x = _slopes(points, d_out, entries, ctx.levels)
        if ctx.needs_input_grad[1]:  # a leaf's own gradient is added to in place, as hashgrid/cpp.py does and for its reasons
            is_sink = ctx.table.is_leaf and ctx.table.grad is not None and d_x is None
            sums = ctx.table.grad if is_sink else torch.zeros_like(entries)
            add_table_gradient(points, d_out, ctx.levels, sums, _all(points))
            d_table = None if is_sink else sums
        return d_x, d_table, None


class _PullBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, d_features: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
        points, d_features, entries = plain(x), plain(d_features), plain(table)
        ctx.save_for_backward(points, d_features, entries)
        ctx.levels, ctx.table = levels, table
        return _slopes(points, d_features, entries, levels)

    @staticmethod
    def backward(ctx, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        points, d_features, entries = ctx.saved_tensors
        n, d = points.shape
        is_sink = ctx.table.is_leaf and ctx.table.grad is not None  # as above: positions have no gradient here
        pushed, sums = torch.empty_like(d_features), ctx.table.grad if is_sink else torch.zeros_like(entries)
        hashgrid_pull_backward[(blocks(n, BLOCK), len(ctx.levels))](
            points, entries, d_features, plain(cotangent), *level_tensors(ctx.levels, points.device), pushed, sums, n,
            len(ctx.levels), D=d, F=entries.shape[1], WIDTH=power_of_two(entries.shape[1]), BLOCK=BLOCK, num_warps=WARPS)
        return None, pushed, None if is_sink else sums, None


def _slopes(points: Tensor, d_features: Tensor, entries: Tensor, levels: tuple[Level, ...]) -> Tensor:
    """[N, d] what a gradient by the features [N, L·F] says of the points."""
    n, d = points.shape
    d_x = torch.empty_like(points)
    hashgrid_slopes[(blocks(n, BLOCK),)](
        points, entries, d_features, *level_tensors(levels, points.device), d_x, n, len(levels), D=d, F=entries.shape[1],
        WIDTH=power_of_two(entries.shape[1]), BLOCK=BLOCK, num_warps=WARPS)
    return d_x


def _all(points: Tensor) -> Tensor:
    return torch.full((), len(points), dtype=torch.int32, device=points.device)


def encode(x: Tensor, table: Tensor, levels: Sequence[Level]) -> Tensor:
    """Features of points: [N, d], [E, F] -> [N, L·F]."""
    check_shapes("x [N,d], table [E,F]", x=x, table=table)
    return _Encode.apply(x, table, tuple(levels))


def pull_back(x: Tensor, d_features: Tensor, table: Tensor, levels: Sequence[Level]) -> Tensor:
    """A gradient by the features -> that by x: [N, d], [N, L·F], [E, F] -> [N, d]."""
    check_shapes("x [N,d], d_features [N,W], table [E,F]", x=x, d_features=d_features, table=table)
    return _PullBack.apply(x, d_features, table, tuple(levels))
