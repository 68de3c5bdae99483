"""The hash grid by the C++ kernels."""

import ctypes
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from nerf_app.ops.hashgrid.levels import Level
from nerf_app.ops.native import call, plain
from nerf_app.ops.shapes import check_shapes


class _PackedLevel(ctypes.Structure):
    _fields_ = [("scale", ctypes.c_float), ("resolution", ctypes.c_int32), ("entries", ctypes.c_int32), ("first", ctypes.c_int32),
                ("is_dense", ctypes.c_int32), ("unused", ctypes.c_int32)]


@functools.lru_cache(maxsize=8)
def packed_levels(levels: tuple[Level, ...]) -> ctypes.Array:
    """The level table as the kernels read it."""
    return (_PackedLevel * len(levels))(*[(level.scale, level.resolution, level.entries, level.first, level.is_dense, 0)
                                          for level in levels])


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
        points, entries = plain(x), plain(table)
        out = torch.empty(len(points), len(levels) * table.shape[1])
        call("hashgrid_forward", points, len(points), points.shape[1], entries, table.shape[1], packed_levels(levels),
             len(levels), out)
        ctx.save_for_backward(points, entries)
        ctx.levels, ctx.table = levels, table
        return out

    @staticmethod
    def backward(ctx, d_out: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        points, entries = ctx.saved_tensors
        d_out, packed, features = plain(d_out), packed_levels(ctx.levels), entries.shape[1]
        d_x, d_table = None, None
        if ctx.needs_input_grad[0]:
            d_x = torch.empty_like(points)
            call("hashgrid_slopes", points, len(points), points.shape[1], entries, features, packed, len(ctx.levels), d_out, d_x,
                 None)
        if ctx.needs_input_grad[1]:
            # A leaf's own gradient is added to in place: a second table, mostly zeros, would cost more than all the rest.
            # Where positions have gradients too, somebody may want those alone, and the leaf must be left as it is.
            is_sink = ctx.table.is_leaf and ctx.table.grad is not None and d_x is None
            sums = ctx.table.grad if is_sink else torch.zeros_like(entries)
            call("hashgrid_backward", points, len(points), points.shape[1], d_out, features, packed, len(ctx.levels), sums)
            d_table = None if is_sink else sums
        return d_x, d_table, None


class _EncodeWithJacobian(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
        points, entries = plain(x), plain(table)
        out = torch.empty(len(points), len(levels) * table.shape[1], points.shape[1])
        call("hashgrid_slopes", points, len(points), points.shape[1], entries, table.shape[1], packed_levels(levels), len(levels),
             None, None, out)
        ctx.save_for_backward(points, entries)
        ctx.levels = levels
        return out

    @staticmethod
    def backward(ctx, d_jacobian: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        points, entries = ctx.saved_tensors
        common = (len(points), points.shape[1])
        d_jacobian, packed, d_x, d_table = plain(d_jacobian), packed_levels(ctx.levels), None, None
        if ctx.needs_input_grad[0]:
            d_x = torch.empty_like(points)
            call("hashgrid_curvatures", points, *common, entries, entries.shape[1], packed, len(ctx.levels), d_jacobian, d_x)
        if ctx.needs_input_grad[1]:
            d_table = torch.zeros_like(entries)
            call("hashgrid_backward_jacobian", points, *common, d_jacobian, entries.shape[1], packed, len(ctx.levels), d_table)
        return d_x, d_table, None


class _PullBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, d_features: Tensor, table: Tensor, levels: tuple[Level, ...]) -> Tensor:
        points, d_features, entries = plain(x), plain(d_features), plain(table)
        d_x = torch.empty_like(points)
        call("hashgrid_slopes", points, len(points), points.shape[1], entries, table.shape[1], packed_levels(levels), len(levels),
             d_features, d_x, None)
        ctx.save_for_backward(points, d_features, entries)
        ctx.levels, ctx.table = levels, table
        return d_x

    @staticmethod
    def backward(ctx, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        points, d_features, entries = ctx.saved_tensors
        is_sink = ctx.table.is_leaf and ctx.table.grad is not None  # as above: positions have no gradient here
        pushed, sums = torch.empty_like(d_features), ctx.table.grad if is_sink else torch.zeros_like(entries)
        call("hashgrid_pull_backward", points, len(points), points.shape[1], entries, entries.shape[1], packed_levels(ctx.levels),
             len(ctx.levels), d_features, plain(cotangent), pushed, sums)
        return None, pushed, None if is_sink else sums, None


def encode(x: Tensor, table: Tensor, levels: Sequence[Level]) -> Tensor:
    """Features of points: [N, d], [E, F] -> [N, L·F]."""
    check_shapes("x [N,d], table [E,F]", x=x, table=table)
    return _Encode.apply(x, table, tuple(levels))


def encode_with_jacobian(x: Tensor, table: Tensor, levels: Sequence[Level]) -> tuple[Tensor, Tensor]:
    """Features of points, and those differentiated by x: [N, d], [E, F] -> [N, L·F], [N, L·F, d]."""
    return encode(x, table, levels), _EncodeWithJacobian.apply(x, table, tuple(levels))


def pull_back(x: Tensor, d_features: Tensor, table: Tensor, levels: Sequence[Level]) -> Tensor:
    """A gradient by the features -> that by x: [N, d], [N, L·F], [E, F] -> [N, d]."""
    check_shapes("x [N,d], d_features [N,W], table [E,F]", x=x, d_features=d_features, table=table)
    return _PullBack.apply(x, d_features, table, tuple(levels))
