"""A dense net in plain torch."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import linear, relu


def mlp(x: Tensor, matrices: Sequence[Tensor], biases: Sequence[Tensor] | None) -> Tensor:
    """[N, in] -> [N, out]."""
    biases = biases or [None] * len(matrices)
    for matrix, bias in zip(matrices[:-1], biases[:-1], strict=True):
        x = relu(linear(x, matrix, bias))
    return linear(x, matrices[-1], biases[-1])
