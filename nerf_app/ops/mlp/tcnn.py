"""Small dense nets by tinycudann's FullyFusedMLP, whose parameters are ours in order: matrices [out, in], row by row, flat.

Widths that it would pad (with ones, which is a bias), nets with biases and no points at all are computed by torch. Not run
with the real library yet: tests/ops/test_adapters.py checks shapes, dtypes and layout against a stand-in.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from nerf_app.ops.mlp import reference
from nerf_app.ops.shapes import check_shapes

WIDTHS, BLOCK = {16, 32, 64, 128}, 16
pull_back = reference.pull_back


def packed(matrices: Sequence[Tensor]) -> Tensor:
    """The matrices as tinycudann keeps them: [P]."""
    return torch.cat([matrix.reshape(-1) for matrix in matrices])


def unpacked(flat: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """The matrices [out, in] between consecutive widths, out of tinycudann's [P]."""
    sizes = [out * width for width, out in zip(widths[:-1], widths[1:])]
    return [part.view(out, -1) for part, out in zip(flat.split(sizes), widths[1:], strict=True)]


@functools.lru_cache(maxsize=8)
def _module(widths: tuple[int, ...], device: torch.device) -> torch.nn.Module:
    import tinycudann
    config = {"otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "None", "n_neurons": widths[1],
              "n_hidden_layers": len(widths) - 2}
    return tinycudann.Network(widths[0], widths[-1], config).to(device)


def mlp(x: Tensor, matrices: Sequence[Tensor], biases: Sequence[Tensor] | None) -> Tensor:
    """[N, in] -> [N, out]."""
    check_shapes("x [N,in], first [out,in]", x=x, first=matrices[0])
    hidden, ends = {len(matrix) for matrix in matrices[:-1]}, (x.shape[1], len(matrices[-1]))
    if not len(x) or biases or len(hidden) != 1 or not hidden <= WIDTHS or any(width % BLOCK for width in ends):
        return reference.mlp(x, matrices, biases)
    widths = (x.shape[1], *(len(matrix) for matrix in matrices))
    return torch.func.functional_call(_module(widths, x.device), {"params": packed(matrices)}, (x,)).float()
