"""What the hosts of the Triton kernels share: how tensors are handed over, and what a device can take at once."""

import functools

import torch
from torch import Tensor

WARPS = 4  # of a program, everywhere
INTERPRETED = 2  # programs of a persistent kernel where the interpreter runs them, one after the other


def plain(tensor: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The numbers as a kernel reads them: dense, of this type, without a history."""
    return tensor.detach().to(dtype).contiguous()


def blocks(count: int, size: int) -> int:
    """Programs that take `size` of `count` things each; at least one, for a device refuses a launch of none."""
    return max(-(-count // size), 1)


def power_of_two(count: int, least: int = 1) -> int:
    """The smallest one that is not below `count` or `least`."""
    return max(1 << max(count - 1, 0).bit_length(), least)


@functools.lru_cache(maxsize=8)
def processors(device: torch.device) -> int:
    """Programs that a persistent kernel starts: two on each multiprocessor."""
    if device.type != "cuda":
        return INTERPRETED
    return 2 * torch.cuda.get_device_properties(device).multi_processor_count
