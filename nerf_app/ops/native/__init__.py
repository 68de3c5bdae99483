"""The compiled library: found, opened once, and called with tensors."""

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nerf_app.errors import BackendUnavailable
from nerf_app.ops.build import LIBRARY, LOG, targets

FOLDER = Path(__file__).parent


@functools.cache
def library() -> ctypes.CDLL:
    """The library; BackendUnavailable with the reason and the cure where it is not there or cannot be opened."""
    path, log = FOLDER / LIBRARY, FOLDER / LOG
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        said = f"; at installation the compiler said: {log.read_text(encoding='utf-8').strip()}" if log.exists() else ""
        reason = str(error) if path.exists() else "not built"
        raise BackendUnavailable(f"{reason}{said}") from None


@functools.cache
def target() -> str:
    """The best of the library's targets that this processor has."""
    best = list(targets())
    return best[min(library().nerf_best_target(), len(best) - 1)]


def set_threads(count: int) -> None:
    """How many threads the kernels use."""
    library().nerf_set_threads(ctypes.c_int(count))


def call(kernel: str, *arguments: Any) -> None:
    """Runs a kernel: tensors go as the addresses of their numbers, None as a null pointer, a list of tensors as pointers."""
    function = _function(kernel, target())
    function(*[_converted(argument) for argument in arguments])


def plain(tensor: Tensor) -> Tensor:
    """The tensor as a kernel can read it: float32 on the CPU, one number behind the other."""
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise TypeError(f"the C++ kernels take float32 on the CPU, got {tensor.dtype} on {tensor.device}")
    return tensor.detach().contiguous()


@functools.cache
def _function(kernel: str, target_name: str) -> Any:
    function = library()[f"{kernel}_{target_name}"]
    function.restype = None
    return function


def _converted(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if argument is None:
        return ctypes.c_void_p(0)
    if isinstance(argument, bool | int):
        return ctypes.c_int64(argument)
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    if isinstance(argument, Sequence):
        return (ctypes.c_void_p * len(argument))(*[tensor.data_ptr() for tensor in argument])
    return argument
