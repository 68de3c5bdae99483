"""Tiles of points through matrices, for the kernels of dense nets.

Sums are float32, on the tensor cores. Factors are float16 in a captured training step. Elsewhere they are float32: each product
is made of three of TF32's, which keeps all but the last digits, except in the gradients of matrices, sums over thousands of
points for which one TF32 product (10 bits) does. Nothing is computed in bfloat16, whose 7 bits a hash table's small
beginnings do not survive.
"""

import triton
import triton.language as tl


@triton.jit
def product(a, b):
    """[M, K] @ [K, N] with float32 sums; `a` is taken in the type of the matrix `b`."""
    return tl.dot(a.to(b.dtype), b, input_precision="tf32x3")


@triton.jit
def turned_product(a, b, IS_HALF: tl.constexpr):
    """[K, M] turned, @ [K, N], with float32 sums: what a tile adds to a matrix's gradient."""
    if IS_HALF:
        c = tl.dot(tl.trans(a.to(tl.float16)), b.to(tl.float16))
    else:
        c = tl.dot(tl.trans(a), b, input_precision="tf32")
    return c


@triton.jit
def relu(x):
    return tl.where(x < 0.0, 0.0, x)  # what is no number stays none


@triton.jit
def matrix(ptr, OUT: tl.constexpr, WIDTH: tl.constexpr, first: tl.constexpr, IN: tl.constexpr, IS_HALF: tl.constexpr):
    """Columns first … first + IN of a matrix [OUT, WIDTH]; columns behind its last one are 0."""
    column = first + tl.arange(0, IN)[None, :]
    values = tl.load(ptr + tl.arange(0, OUT)[:, None] * WIDTH + column, mask=column < WIDTH, other=0.0)
    if IS_HALF:
        values = values.to(tl.float16)
    return values


@triton.jit
def add_matrix(ptr, values, OUT: tl.constexpr, WIDTH: tl.constexpr, first: tl.constexpr, IN: tl.constexpr):
    """Adds [OUT, IN] to those columns of a matrix that other programs add to as well."""
    column = first + tl.arange(0, IN)[None, :]
    tl.atomic_add(ptr + tl.arange(0, OUT)[:, None] * WIDTH + column, values, mask=column < WIDTH, sem="relaxed")
