"""The integrated directional encoding by the C++ kernel."""

import torch
from torch import Tensor

from nerf_app.ops.directional import WIDTH
from nerf_app.ops.native import call, plain
from nerf_app.ops.shapes import check_shapes


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, directions: Tensor, spread: Tensor) -> Tensor:
        directions, spread = plain(directions), plain(spread)
        ctx.save_for_backward(directions, spread)
        out = torch.empty(len(directions), WIDTH)
        call("directional_forward", directions, spread, len(directions), out)
        return out

    @staticmethod
    def backward(ctx, d_out: Tensor) -> tuple[Tensor, Tensor]:
        directions, spread = ctx.saved_tensors
        d_directions, d_spread = torch.empty_like(directions), torch.empty_like(spread)
        call("directional_backward", directions, spread, len(directions), plain(d_out), d_directions, d_spread)
        return d_directions, d_spread


def encode(directions: Tensor, spread: Tensor) -> Tensor:
    """[N, 3] unit vectors, [N] -> [N, WIDTH]."""
    check_shapes("directions [N,3], spread [N]", directions=directions, spread=spread)
    return _Encode.apply(directions, spread)
