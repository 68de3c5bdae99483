"""Spherical harmonics by Triton."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_app.ops.gpu import WARPS, blocks, plain
from nerf_app.ops.shapes import check_shapes

BLOCK = 64


@triton.jit
def _entered(tile, column, number: tl.constexpr, values):
    """The tile [N, 16] with `values` [N] in one column."""
    return tl.where((column == number)[None, :], values[:, None], tile)


@triton.jit
def harmonics(x, y, z, BLOCK: tl.constexpr):
    """All sixteen of directions [N]: [N, 16]."""
    column = tl.arange(0, 16)
    xx, yy, zz = x * x, y * y, z * z
    tile = tl.zeros([BLOCK, 16], tl.float32) + 0.28209479177387814
    tile = _entered(tile, column, 1, -0.4886025119029199 * y)
    tile = _entered(tile, column, 2, 0.4886025119029199 * z)
    tile = _entered(tile, column, 3, -0.4886025119029199 * x)
    tile = _entered(tile, column, 4, 1.0925484305920792 * x * y)
    tile = _entered(tile, column, 5, -1.0925484305920792 * y * z)
    tile = _entered(tile, column, 6, 0.31539156525252005 * (3.0 * zz - 1.0))
    tile = _entered(tile, column, 7, -1.0925484305920792 * x * z)
    tile = _entered(tile, column, 8, 0.5462742152960396 * (xx - yy))
    tile = _entered(tile, column, 9, 0.5900435899266435 * y * (yy - 3.0 * xx))
    tile = _entered(tile, column, 10, 2.890611442640554 * x * y * z)
    tile = _entered(tile, column, 11, 0.4570457994644658 * y * (1.0 - 5.0 * zz))
    tile = _entered(tile, column, 12, 0.3731763325901154 * z * (5.0 * zz - 3.0))
    tile = _entered(tile, column, 13, 0.4570457994644658 * x * (1.0 - 5.0 * zz))
    tile = _entered(tile, column, 14, 1.445305721320277 * z * (xx - yy))
    return _entered(tile, column, 15, 0.5900435899266435 * x * (3.0 * yy - xx))


@triton.jit
def _load(directions_ptr, rows, inside):
    at = rows.to(tl.int64) * 3
    return (tl.load(directions_ptr + at, mask=inside, other=0.0), tl.load(directions_ptr + at + 1, mask=inside, other=0.0),
            tl.load(directions_ptr + at + 2, mask=inside, other=0.0))


@triton.jit
def _pulled(d_out_ptr, rows, inside, number: tl.constexpr):
    return tl.load(d_out_ptr + rows.to(tl.int64) * 16 + number, mask=inside, other=0.0)


@triton.jit(do_not_specialize=["n"])
def spherical_harmonics_forward(directions_ptr, n, out_ptr, BLOCK: tl.constexpr):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < n
    x, y, z = _load(directions_ptr, rows, inside)
    places = rows.to(tl.int64)[:, None] * 16 + tl.arange(0, 16)[None, :]
    tl.store(out_ptr + places, harmonics(x, y, z, BLOCK), mask=inside[:, None])


@triton.jit(do_not_specialize=["n"])
def spherical_harmonics_backward(directions_ptr, n, d_out_ptr, d_directions_ptr, BLOCK: tl.constexpr):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < n
    x, y, z = _load(directions_ptr, rows, inside)
    xx, yy, zz = x * x, y * y, z * z
    one, two = 0.4886025119029199, 1.0925484305920792
    dy, dz, dx = (-one * _pulled(d_out_ptr, rows, inside, 1), one * _pulled(d_out_ptr, rows, inside, 2),
                  -one * _pulled(d_out_ptr, rows, inside, 3))
    g = two * _pulled(d_out_ptr, rows, inside, 4)
    dx, dy = dx + g * y, dy + g * x
    g = -two * _pulled(d_out_ptr, rows, inside, 5)
    dy, dz = dy + g * z, dz + g * y
    dz += 0.31539156525252005 * 6.0 * z * _pulled(d_out_ptr, rows, inside, 6)
    g = -two * _pulled(d_out_ptr, rows, inside, 7)
    dx, dz = dx + g * z, dz + g * x
    g = 0.5462742152960396 * 2.0 * _pulled(d_out_ptr, rows, inside, 8)
    dx, dy = dx + g * x, dy - g * y
    g = 0.5900435899266435 * _pulled(d_out_ptr, rows, inside, 9)
    dx, dy = dx - 6.0 * g * x * y, dy + 3.0 * g * (yy - xx)
    g = 2.890611442640554 * _pulled(d_out_ptr, rows, inside, 10)
    dx, dy, dz = dx + g * y * z, dy + g * x * z, dz + g * x * y
    g = 0.4570457994644658 * _pulled(d_out_ptr, rows, inside, 11)
    dy, dz = dy + g * (1.0 - 5.0 * zz), dz - 10.0 * g * y * z
    dz += 0.3731763325901154 * (15.0 * zz - 3.0) * _pulled(d_out_ptr, rows, inside, 12)
    g = 0.4570457994644658 * _pulled(d_out_ptr, rows, inside, 13)
    dx, dz = dx + g * (1.0 - 5.0 * zz), dz - 10.0 * g * x * z
    g = 1.445305721320277 * _pulled(d_out_ptr, rows, inside, 14)
    dx, dy, dz = dx + 2.0 * g * x * z, dy - 2.0 * g * y * z, dz + g * (xx - yy)
    g = 0.5900435899266435 * _pulled(d_out_ptr, rows, inside, 15)
    dx, dy = dx + 3.0 * g * (yy - xx), dy + 6.0 * g * x * y
    at = rows.to(tl.int64) * 3
    tl.store(d_directions_ptr + at, dx, mask=inside)
    tl.store(d_directions_ptr + at + 1, dy, mask=inside)
    tl.store(d_directions_ptr + at + 2, dz, mask=inside)


class _SphericalHarmonics(torch.autograd.Function):
    @staticmethod
    def forward(ctx, directions: Tensor) -> Tensor:
        directions = plain(directions)
        ctx.save_for_backward(directions)
        out = torch.empty(len(directions), 16, device=directions.device)
        spherical_harmonics_forward[(blocks(len(directions), BLOCK),)](directions, len(directions), out, BLOCK=BLOCK,
                                                                      num_warps=WARPS)
        return out

    @staticmethod
    def backward(ctx, d_out: Tensor) -> Tensor:
        (directions,) = ctx.saved_tensors
        d_directions = torch.empty_like(directions)
        spherical_harmonics_backward[(blocks(len(directions), BLOCK),)](directions, len(directions), plain(d_out), d_directions,
                                                                       BLOCK=BLOCK, num_warps=WARPS)
        return d_directions


def spherical_harmonics(directions: Tensor) -> Tensor:
    """[N, 3] unit vectors -> [N, 16]."""
    check_shapes("directions [N,3]", directions=directions)
    return _SphericalHarmonics.apply(directions)
