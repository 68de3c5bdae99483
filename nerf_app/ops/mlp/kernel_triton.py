"""Small dense nets by Triton: a tile of points goes through all layers at once, and on the way back each program keeps the
gradients of all matrices in registers and adds them to memory when its last tile is done.

What it does not take (biases, widths that are no power of two, wide or deep nets) is left to torch's own matrix products,
in full float32: those are large enough for them.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_app.ops.gpu import WARPS, blocks, plain, power_of_two, processors
from nerf_app.ops.mlp import reference
from nerf_app.ops.mlp.tiles_triton import add_matrix, matrix, product, relu, turned_product
from nerf_app.ops.shapes import check_shapes

TILE = 32  # points: with more, the gradients of all matrices do not fit into registers
WIDTHS = (16, 32)  # of hidden layers and outputs

pull_back = reference.pull_back


@triton.jit
def _rows(ptr, rows, inside, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Rows of [N, WIDTH], with zeros up to PADDED."""
    column = tl.arange(0, PADDED)[None, :]
    return tl.load(ptr + rows.to(tl.int64)[:, None] * WIDTH + column, mask=inside[:, None] & (column < WIDTH), other=0.0)


@triton.jit(do_not_specialize=["n"])
def mlp_forward(x_ptr, first_ptr, middle_ptr, last_ptr, n, y_ptr, IN: tl.constexpr, PADDED: tl.constexpr, W: tl.constexpr,
                OUT: tl.constexpr, HIDDEN: tl.constexpr, TILE: tl.constexpr):
    """[N, IN] -> [N, OUT] through HIDDEN layers of W."""
    rows = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = rows < n
    h = relu(product(_rows(x_ptr, rows, inside, IN, PADDED), tl.trans(matrix(first_ptr, W, IN, 0, PADDED, False))))
    if HIDDEN == 2:
        h = relu(product(h, tl.trans(matrix(middle_ptr, W, W, 0, W, False))))
    y = product(h, tl.trans(matrix(last_ptr, OUT, W, 0, W, False)))
    tl.store(y_ptr + rows.to(tl.int64)[:, None] * OUT + tl.arange(0, OUT)[None, :], y, mask=inside[:, None])


@triton.jit(do_not_specialize=["n"])
def mlp_backward(x_ptr, first_ptr, middle_ptr, last_ptr, n, d_y_ptr, d_x_ptr, d_first_ptr, d_middle_ptr, d_last_ptr,
                 IN: tl.constexpr, PADDED: tl.constexpr, W: tl.constexpr, OUT: tl.constexpr, HIDDEN: tl.constexpr,
                 TILE: tl.constexpr):
    """Gradients by x, and those by the matrices added to what is there."""
    first, last = matrix(first_ptr, W, IN, 0, PADDED, False), matrix(last_ptr, OUT, W, 0, W, False)
    middle = first
    if HIDDEN == 2:
        middle = matrix(middle_ptr, W, W, 0, W, False)
    d_first, d_last = tl.zeros([W, PADDED], tl.float32), tl.zeros([OUT, W], tl.float32)
    d_middle = tl.zeros([W, W], tl.float32)
    for tile in range(tl.program_id(0), tl.cdiv(n, TILE), tl.num_programs(0)):
        rows = tile * TILE + tl.arange(0, TILE)
        inside = rows < n
        x = _rows(x_ptr, rows, inside, IN, PADDED)
        h = relu(product(x, tl.trans(first)))
        below = h
        if HIDDEN == 2:
            h = relu(product(below, tl.trans(middle)))
        d_y = _rows(d_y_ptr, rows, inside, OUT, OUT)
        d_last += turned_product(d_y, h, False)
        d_h = tl.where(h > 0.0, product(d_y, last), 0.0)
        if HIDDEN == 2:
            d_middle += turned_product(d_h, below, False)
            d_h = tl.where(below > 0.0, product(d_h, middle), 0.0)
        d_first += turned_product(d_h, x, False)
        d_x = product(d_h, first)
        column = tl.arange(0, PADDED)[None, :]
        tl.store(d_x_ptr + rows.to(tl.int64)[:, None] * IN + column, d_x, mask=inside[:, None] & (column < IN))
    add_matrix(d_first_ptr, d_first, W, IN, 0, PADDED)
    add_matrix(d_last_ptr, d_last, OUT, W, 0, W)
    if HIDDEN == 2:
        add_matrix(d_middle_ptr, d_middle, W, W, 0, W)


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, *matrices: Tensor) -> Tensor:
        x, matrices = plain(x), [plain(matrix) for matrix in matrices]
        y = torch.empty(len(x), len(matrices[-1]), device=x.device)
        mlp_forward[(blocks(len(x), TILE),)](x, *_three(matrices), len(x), y, **_sizes(matrices))
        ctx.save_for_backward(x, *matrices)
        return y

    @staticmethod
    def backward(ctx, d_y: Tensor) -> tuple[Tensor, ...]:
        x, *matrices = ctx.saved_tensors
        d_x, gradients = torch.empty_like(x), [torch.zeros_like(matrix) for matrix in matrices]
        programs = min(blocks(len(x), TILE), processors(x.device))
        mlp_backward[(programs,)](x, *_three(matrices), len(x), plain(d_y), d_x, *_three(gradients), **_sizes(matrices))
        return d_x, *gradients


def _three(matrices: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """First, middle and last; of two, the first stands in for the middle, which is not read."""
    return matrices[0], matrices[-2], matrices[-1]


def _sizes(matrices: Sequence[Tensor]) -> dict[str, int]:
    width, features = matrices[0].shape
    return {"IN": features, "PADDED": power_of_two(features, 16), "W": width, "OUT": len(matrices[-1]),
            "HIDDEN": len(matrices) - 1, "TILE": TILE, "num_warps": WARPS, "num_stages": 2}


def _fits(matrices: Sequence[Tensor]) -> bool:
    """Whether the kernels take such a net: one or two hidden layers of one width."""
    widths = {len(matrix) for matrix in matrices[:-1]}
    return (len(matrices) in (2, 3) and len(widths) == 1 and widths <= set(WIDTHS) and len(matrices[-1]) in WIDTHS
            and matrices[0].shape[1] <= 64)


def mlp(x: Tensor, matrices: Sequence[Tensor], biases: Sequence[Tensor] | None) -> Tensor:
    """[N, in] -> [N, out]."""
    check_shapes("x [N,in], first [out,in]", x=x, first=matrices[0])
    if biases or not _fits(matrices):
        return reference.mlp(x, matrices, biases)
    return _Mlp.apply(x, *matrices)
