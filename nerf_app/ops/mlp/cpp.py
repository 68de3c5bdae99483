"""Dense nets by the C++ kernels."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from nerf_app.ops.native import call, plain
from nerf_app.ops.shapes import check_shapes


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, n_layers: int, *parameters: Tensor) -> Tensor:
        x, parameters = plain(x), [plain(parameter) for parameter in parameters]
        matrices, biases = parameters[:n_layers], parameters[n_layers:] or None
        widths = [x.shape[1], *[len(matrix) for matrix in matrices]]
        ctx.widths = (ctypes.c_int * len(widths))(*widths)
        out = torch.empty(len(x), widths[-1])
        call("mlp_forward", x, len(x), matrices, biases, ctx.widths, n_layers, out)
        ctx.save_for_backward(x, *parameters)
        ctx.n_layers = n_layers
        return out

    @staticmethod
    def backward(ctx, d_out: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        n = ctx.n_layers
        gradients = [torch.empty_like(parameter) for parameter in parameters]
        d_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        call("mlp_backward", x, len(x), parameters[:n], parameters[n:] or None, ctx.widths, n, plain(d_out), d_x,
             gradients[:n], gradients[n:] or None)
        return d_x, None, *gradients


def mlp(x: Tensor, matrices: Sequence[Tensor], biases: Sequence[Tensor] | None) -> Tensor:
    """[N, in] -> [N, out]."""
    check_shapes("x [N,in], first [out,in]", x=x, first=matrices[0])
    return _Mlp.apply(x, len(matrices), *matrices, *(biases or ()))
