"""Philox by the C++ kernel."""

import torch
from torch import Tensor

from nerf_app.ops import native


def philox(seed: int, purpose: int, step: int, indices: Tensor) -> Tensor:
    """Four words for each index: [N] -> [N, 4] int64 in [0, 2^32)."""
    words = torch.empty(len(indices), 4, dtype=torch.int64)
    native.call("philox", seed, purpose, step, native.indices(indices), len(indices), words, None)
    return words


def uniform(seed: int, purpose: int, step: int, indices: Tensor) -> Tensor:
    """Four numbers for each index: [N] -> [N, 4] float32 in [0, 1)."""
    numbers = torch.empty(len(indices), 4)
    native.call("philox", seed, purpose, step, native.indices(indices), len(indices), None, numbers)
    return numbers
