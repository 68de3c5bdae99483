"""From a net's output to a density."""

import torch
from torch import Tensor

CLAMP = 15.0  # exp(15) per scene unit stops all light within a hair


class ClampedExp(torch.autograd.Function):
    """exp(min(h, CLAMP)), whose gradient does not die at the clamp."""

    @staticmethod
    def forward(ctx, h: Tensor) -> Tensor:
        density = torch.exp(h.clamp(max=CLAMP))
        ctx.save_for_backward(density)
        return density

    @staticmethod
    def backward(ctx, d_density: Tensor) -> Tensor:
        (density,) = ctx.saved_tensors
        return d_density * density
