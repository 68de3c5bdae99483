"""Spherical harmonics by the C++ kernel."""

import torch
from torch import Tensor

from nerf_app.ops.native import call, plain
from nerf_app.ops.shapes import check_shapes


class _SphericalHarmonics(torch.autograd.Function):
    @staticmethod
    def forward(ctx, directions: Tensor) -> Tensor:
        directions = plain(directions)
        ctx.save_for_backward(directions)
        out = torch.empty(len(directions), 16)
        call("spherical_harmonics_forward", directions, len(directions), out)
        return out

    @staticmethod
    def backward(ctx, d_out: Tensor) -> Tensor:
        (directions,) = ctx.saved_tensors
        d_directions = torch.empty_like(directions)
        call("spherical_harmonics_backward", directions, len(directions), plain(d_out), d_directions)
        return d_directions


def spherical_harmonics(directions: Tensor) -> Tensor:
    """[N, 3] unit vectors -> [N, 16]."""
    check_shapes("directions [N,3]", directions=directions)
    return _SphericalHarmonics.apply(directions)
