"""Spherical harmonics in plain torch."""

from math import pi, sqrt

import torch
from torch import Tensor

from nerf_app.ops.shapes import check_shapes


def spherical_harmonics(directions: Tensor) -> Tensor:
    """[N, 3] unit vectors -> [N, 16]."""
    check_shapes("directions [N,3]", directions=directions)
    x, y, z = directions.unbind(1)
    xx, yy, zz = x * x, y * y, z * z
    one = sqrt(3 / (4 * pi))
    two, two_zz, two_xx = sqrt(15 / (4 * pi)), sqrt(5 / (16 * pi)), sqrt(15 / (16 * pi))
    three_3, three_1, three_0 = sqrt(35 / (32 * pi)), sqrt(21 / (32 * pi)), sqrt(7 / (16 * pi))
    three_xyz, three_2 = sqrt(105 / (4 * pi)), sqrt(105 / (16 * pi))
    return torch.stack([
        torch.full_like(x, sqrt(1 / (4 * pi))),
        -one * y, one * z, -one * x,
        two * x * y, -two * y * z, two_zz * (3 * zz - 1), -two * x * z, two_xx * (xx - yy),
        three_3 * y * (yy - 3 * xx), three_xyz * x * y * z, three_1 * y * (1 - 5 * zz), three_0 * z * (5 * zz - 3),
        three_1 * x * (1 - 5 * zz), three_2 * z * (xx - yy), three_3 * x * (3 * yy - xx),
    ], 1)
