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


class _PullBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, d_y: Tensor, n_layers: int, *parameters: Tensor) -> Tensor:
        x, d_y, parameters = plain(x), plain(d_y), [plain(parameter) for parameter in parameters]
        widths = [x.shape[1], *[len(matrix) for matrix in parameters[:n_layers]]]
        ctx.widths, ctx.n_layers = (ctypes.c_int * len(widths))(*widths), n_layers
        d_x = torch.empty_like(x)
        call("mlp_pull_forward", x, len(x), parameters[:n_layers], parameters[n_layers:] or None, ctx.widths, n_layers, d_y, d_x)
        ctx.save_for_backward(x, d_y, *parameters)
        return d_x

    @staticmethod
    def backward(ctx, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        x, d_y, *parameters = ctx.saved_tensors
        n = ctx.n_layers
        pushed, gradients = torch.empty_like(d_y), [torch.empty_like(matrix) for matrix in parameters[:n]]
        call("mlp_pull_backward", x, len(x), parameters[:n], parameters[n:] or None, ctx.widths, n, d_y, plain(cotangent), pushed,
             gradients)
        return None, pushed, None, *gradients, *[None] * (len(parameters) - n)


def mlp(x: Tensor, matrices: Sequence[Tensor], biases: Sequence[Tensor] | None) -> Tensor:
    """[N, in] -> [N, out]."""
    check_shapes("x [N,in], first [out,in]", x=x, first=matrices[0])
    return _Mlp.apply(x, len(matrices), *matrices, *(biases or ()))


def pull_back(x: Tensor, d_y: Tensor, matrices: Sequence[Tensor], biases: Sequence[Tensor] | None) -> Tensor:
    """A gradient behind the net -> that in front of it: [N, in], [N, out] -> [N, in]."""
    check_shapes("x [N,in], d_y [N,out], first [wide,in], last [out,deep]", x=x, d_y=d_y, first=matrices[0], last=matrices[-1])
    return _PullBack.apply(x, d_y, len(matrices), *matrices, *(biases or ()))
