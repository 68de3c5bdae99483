"""A dense net in plain torch."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear, relu


def mlp(x: Tensor, matrices: Sequence[Tensor], biases: Sequence[Tensor] | None) -> Tensor:
    """[N, in] -> [N, out]."""
    biases = biases or [None] * len(matrices)
    for matrix, bias in zip(matrices[:-1], biases[:-1], strict=True):
        x = relu(linear(x, matrix, bias))
    return linear(x, matrices[-1], biases[-1])


def pull_back(x: Tensor, d_y: Tensor, matrices: Sequence[Tensor], biases: Sequence[Tensor] | None) -> Tensor:
    """A gradient behind the net -> that in front of it: [N, in], [N, out] -> [N, in]."""
    lets_through = []
    with torch.no_grad():
        for matrix, bias in zip(matrices[:-1], (biases or [None] * len(matrices))[:-1], strict=True):
            x = relu(linear(x, matrix, bias))
            lets_through.append(x > 0)
    for matrix, is_open in zip(matrices[:0:-1], lets_through[::-1], strict=True):
        d_y = torch.where(is_open, d_y @ matrix, 0)
    return d_y @ matrices[0]
