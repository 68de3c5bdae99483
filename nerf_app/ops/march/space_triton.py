"""The two spaces of sampling/contraction.py, operation by operation as it has them, for Triton.

Kernels that decide by these numbers are launched with `enable_fp_fusion=False`: a product that is added unrounded would
put a point on the other side of a border now and then, and the kept set is to be the same everywhere.
"""

import triton
import triton.language as tl

LINEAR, FAR = tl.constexpr(2.0), tl.constexpr(200.0)  # as sampling/contraction.py has them


@triton.jit
def distance_at(s, IS_BOUNDED: tl.constexpr):
    """Lattice coordinate -> scene units along the ray."""
    if IS_BOUNDED:
        t = s
    else:
        rest = 2.0 * LINEAR - s
        least = LINEAR * LINEAR / FAR
        t = tl.where(s <= LINEAR, s, tl.div_rn(s * 0.0 + LINEAR * LINEAR, tl.where(rest > least, rest, least)))
    return t


@triton.jit
def lattice_at(t, IS_BOUNDED: tl.constexpr):
    """The inverse of `distance_at`."""
    if IS_BOUNDED:
        s = t
    else:
        s = tl.where(t <= LINEAR, t, 2.0 * LINEAR - tl.div_rn(t * 0.0 + LINEAR * LINEAR, tl.where(t > LINEAR, t, LINEAR)))
    return s


@triton.jit
def _clamped(x):
    """Into [0, 1]; what is no number becomes 0."""
    return tl.where(x > 0.0, tl.where(x < 1.0, x, 1.0), 0.0)


@triton.jit
def to_unit(x, y, z, IS_BOUNDED: tl.constexpr):
    """Scene coordinates -> the unit cube."""
    if IS_BOUNDED:
        x, y, z = 0.5 * (x + 1.0), 0.5 * (y + 1.0), 0.5 * (z + 1.0)
    else:
        size = tl.maximum(tl.maximum(tl.maximum(tl.abs(x), tl.abs(y)), tl.abs(z)), 1.0)
        factor = tl.div_rn(2.0 - tl.div_rn(size * 0.0 + 1.0, size), size)
        x, y, z = (x * factor + 2.0) * 0.25, (y * factor + 2.0) * 0.25, (z * factor + 2.0) * 0.25
    return _clamped(x), _clamped(y), _clamped(z)
