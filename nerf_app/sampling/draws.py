"""The random numbers of one training step: no state, so a resumed run draws what an uninterrupted one would."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nerf_app.ops.backend import Backend

PIXELS, BACKGROUND, RAY_OFFSET, COARSE, FINE, CELLS, POINTS = range(7)  # what a number is for: each purpose has its own stream


@dataclass(frozen=True)
class Draws:
    """All numbers that step `step` of a run with seed `seed` may use."""

    ops: Backend
    seed: int
    step: int

    def uniform(self, purpose: int, count: int) -> Tensor:
        """[count, 4] float32 in [0, 1)."""
        indices = torch.arange(count, device=self.ops.device)
        return self.ops.random.uniform(self.seed, purpose, self.step, indices)
