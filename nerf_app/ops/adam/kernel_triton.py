"""Adam by Triton: one pass over all parameters, which leaves an entry without a gradient unread and unwritten."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from nerf_app.ops.adam.reference import BETA_1, BETA_2
from nerf_app.ops.gpu import WARPS, blocks
from nerf_app.ops.shapes import check_shapes

BLOCK = 1024
CONTROL = 4  # numbers that a step is steered by: learning rate, two corrections, and what the gradients are multiplied with


@triton.jit(do_not_specialize=["n", "table_size"])
def adam(parameters_ptr, gradients_ptr, first_ptr, second_ptr, half_ptr, control_ptr, is_sound_ptr, n, table_size,
         HAS_HALF: tl.constexpr, BLOCK: tl.constexpr):
    """One step, in place. Where `is_sound` [] is 0 the gradients are only forgotten. `half` [P] float16 follows parameters."""
    places = (tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK))
    inside = places < n
    raw = tl.load(gradients_ptr + places, mask=inside, other=0.0)
    tl.store(gradients_ptr + places, tl.zeros([BLOCK], gradients_ptr.dtype.element_ty), mask=inside & (raw != 0))
    is_net = places >= table_size
    moves = inside & (is_net | (raw != 0)) & (tl.load(is_sound_ptr) != 0)
    rate, correction_1, correction_2 = tl.load(control_ptr), tl.load(control_ptr + 1), tl.load(control_ptr + 2)
    parameters = tl.load(parameters_ptr + places, mask=moves, other=0.0)
    gradient = raw.to(tl.float32) * tl.load(control_ptr + 3) + tl.where(is_net, 1e-6 * parameters, 0.0)
    first = tl.load(first_ptr + places, mask=moves, other=0.0)
    second = tl.load(second_ptr + places, mask=moves, other=0.0)
    first += 0.1 * (gradient - first)
    second += 0.01 * (gradient * gradient - second)
    spread = tl.sqrt_rn(tl.div_rn(second, second * 0.0 + correction_2)) + 1e-15
    parameters -= tl.div_rn(tl.div_rn(rate * first, first * 0.0 + correction_1), spread)
    tl.store(first_ptr + places, first, mask=moves)
    tl.store(second_ptr + places, second, mask=moves)
    tl.store(parameters_ptr + places, parameters, mask=moves)
    if HAS_HALF:
        tl.store(half_ptr + places, parameters.to(tl.float16), mask=moves)


def set_control(control: Tensor, step: int, learning_rate: float) -> None:
    """The first three numbers of `control` [CONTROL] for a step; a launch each, nothing is waited for."""
    for number, value in enumerate((learning_rate, 1.0 - BETA_1**step, 1.0 - BETA_2**step)):
        control[number].fill_(value)


def adam_controlled(parameters: Tensor, gradients: Tensor, first: Tensor, second: Tensor, half: Tensor | None, control: Tensor,
                    is_sound: Tensor, table_size: int) -> None:
    """One step whose numbers lie on the device: `control` [CONTROL] float32, `is_sound` [] bool; `half` [P] float16."""
    n = len(parameters)
    adam[(blocks(n, BLOCK),)](parameters.detach(), gradients, first, second, first if half is None else half, control,
                              is_sound.view(torch.uint8), n, table_size, HAS_HALF=half is not None, BLOCK=BLOCK,
                              num_warps=WARPS, enable_fp_fusion=False)


@torch.no_grad()
def adam_step(parameters: Tensor, gradients: Tensor, first: Tensor, second: Tensor, step: int, learning_rate: float,
              table_size: int) -> None:
    """Moves parameters against their gradients; shapes in the contract."""
    check_shapes("parameters [P], gradients [P], first [P], second [P]", parameters=parameters, gradients=gradients,
                 first=first, second=second)
    control = torch.ones(CONTROL, device=parameters.device)
    set_control(control, step, learning_rate)
    is_sound = torch.ones((), dtype=torch.bool, device=parameters.device)
    adam_controlled(parameters, gradients, first, second, None, control, is_sound, table_size)
