"""All parameters of a model in one flat buffer, with a view for each: one optimiser step, one block in a scene file."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

ALIGNMENT = 16  # floats: every view begins on a 64-byte line


class Parameters:
    """Named leaves that share one float32 buffer, and gradients that share another.

    `table_size` floats at the front belong to hash tables, the rest to nets: the optimiser treats them differently.
    Unused floats between two views stay zero.
    """

    def __init__(self, tables: dict[str, tuple[int, ...]], nets: dict[str, tuple[int, ...]], device: torch.device) -> None:
        shapes, places, end, self.table_size = tables | nets, {}, 0, 0
        for name, shape in shapes.items():
            places[name] = (end, end + math.prod(shape))
            end += _padded(shape)
            if name in tables:
                self.table_size = end
        self.flat = torch.zeros(end, device=device)  # [P]
        self.gradients = torch.zeros(end, device=device)  # [P]
        self._views = {}
        for name, (first, last) in places.items():
            view = self.flat[first:last].view(shapes[name]).requires_grad_()
            view.grad = self.gradients[first:last].view(shapes[name])
            self._views[name] = view

    def __getitem__(self, name: str) -> Tensor:
        return self._views[name]

    def fill(self, name: str, values: Tensor) -> None:
        """Sets the start values of one view."""
        with torch.no_grad():
            self._views[name].copy_(values)


def flat_size(shapes: Iterable[tuple[int, ...]]) -> int:
    """P: floats of the buffer that parameters of these shapes share."""
    return sum(map(_padded, shapes))


def _padded(shape: tuple[int, ...]) -> int:
    return -(-math.prod(shape) // ALIGNMENT) * ALIGNMENT
