"""Parameters of dense nets: names, shapes, start values. The arithmetic is ops/mlp."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nerf_app.fields.parameters import Parameters


def dense_shapes(name: str, widths: Sequence[int], *, has_biases: bool = False) -> dict[str, tuple[int, ...]]:
    """Matrices [out, in] between consecutive widths, in order, then the biases if there are any."""
    pairs = list(zip(widths[:-1], widths[1:], strict=True))
    shapes: dict[str, tuple[int, ...]] = {f"{name}.{i}": (out, width) for i, (width, out) in enumerate(pairs)}
    if has_biases:
        shapes |= {f"{name}.{i}.bias": (out,) for i, (_, out) in enumerate(pairs)}
    return shapes


def layers(parameters: Parameters, shapes: dict[str, tuple[int, ...]]) -> tuple[list[Tensor], list[Tensor] | None]:
    """The matrices and biases of `dense_shapes`, as ops/mlp takes them."""
    matrices = [parameters[name] for name, shape in shapes.items() if len(shape) == 2]
    biases = [parameters[name] for name, shape in shapes.items() if len(shape) == 1]
    return matrices, biases or None


def xavier_uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """[out, in], uniform in ±√(6 / (in + out))."""
    limit = math.sqrt(6.0 / sum(shape))
    return (torch.rand(shape, generator=generator) * 2.0 - 1.0) * limit
