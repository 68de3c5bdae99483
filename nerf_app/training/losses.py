"""What training makes small."""

import torch
from torch import Tensor

HUBER = 0.1  # errors beyond this count linearly


def photo_loss(rgb: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """Mean Huber loss over the rays that count: [R, 3], [R, 3], [R] bool -> []."""
    errors = torch.nn.functional.huber_loss(rgb, truth, reduction="none", delta=HUBER).mean(1)
    return (errors * counts).sum() / counts.sum().clamp(min=1)
