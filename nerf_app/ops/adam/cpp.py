"""Adam by the C++ kernel."""

from torch import Tensor

from nerf_app.ops.adam.reference import BETA_1, BETA_2
from nerf_app.ops.native import call, in_place
from nerf_app.ops.shapes import check_shapes


def adam_step(parameters: Tensor, gradients: Tensor, first: Tensor, second: Tensor, step: int, learning_rate: float,
              table_size: int) -> None:
    """Moves parameters against their gradients; shapes in the contract."""
    check_shapes("parameters [P], gradients [P], first [P], second [P]", parameters=parameters, gradients=gradients,
                 first=first, second=second)
    buffers = [in_place(buffer) for buffer in (parameters, gradients, first, second)]
    call("adam_step", *buffers, len(parameters), table_size, float(learning_rate),
         1.0 - BETA_1**step, 1.0 - BETA_2**step)
