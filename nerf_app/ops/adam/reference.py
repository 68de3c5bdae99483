"""Adam in plain torch."""

import torch
from torch import Tensor

from nerf_app.ops.shapes import check_shapes

BETA_1, BETA_2, EPSILON, PULL = 0.9, 0.99, 1e-15, 1e-6


@torch.no_grad()
def adam_step(parameters: Tensor, gradients: Tensor, first: Tensor, second: Tensor, step: int, learning_rate: float,
              table_size: int) -> None:
    """Moves parameters against their gradients; shapes in the contract."""
    check_shapes("parameters [P], gradients [P], first [P], second [P]", parameters=parameters, gradients=gradients,
                 first=first, second=second)
    entries = gradients[:table_size].nonzero()[:, 0]
    rows = torch.cat([entries, torch.arange(table_size, len(parameters), device=entries.device)])  # what moves
    gradient = gradients[rows]
    gradient[len(entries):] += PULL * parameters[table_size:]
    m = torch.lerp(first[rows], gradient, 1.0 - BETA_1)
    v = torch.lerp(second[rows], gradient * gradient, 1.0 - BETA_2)
    first[rows], second[rows] = m, v
    spread = (v / (1.0 - BETA_2**step)).sqrt() + EPSILON
    parameters[rows] -= learning_rate / (1.0 - BETA_1**step) * m / spread
    gradients.zero_()
