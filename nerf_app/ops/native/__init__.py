"""The compiled library: found, opened once, and called with tensors."""

import ctypes
import functools
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nerf_app.errors import BackendUnavailable
from nerf_app.ops.build import LIBRARY, LOG, sources_digest, targets

FOLDER = Path(__file__).parent
PATH_VARIABLE, TARGET_VARIABLE = "NERF_APP_KERNELS", "NERF_APP_TARGET"  # for tests: another library, another of its targets
HEADER_BYTES = 64  # of a 64-bit ELF file


@functools.cache
def library() -> ctypes.CDLL:
    """The library; BackendUnavailable with the reason and the cure where it is not there or cannot be opened."""
    asked, log = os.environ.get(PATH_VARIABLE), FOLDER / LOG
    path = Path(asked) if asked else FOLDER / LIBRARY
    try:
        if path.exists() and not _is_whole(path):
            raise OSError(f"{path} ends too early")
        opened = ctypes.CDLL(str(path))
        if _sources_of(opened) != sources_digest():
            raise OSError(f"{path} was compiled from other sources than these")
        return opened
    except OSError as error:
        reason = str(error) if asked or path.exists() else "not built"
        said = f"; at installation the compiler said: {log.read_text(encoding='utf-8').strip()}" if log.exists() else ""
        raise BackendUnavailable(f"{reason}{said}; `nerf-app doctor --build` compiles the kernels") from None


def target() -> str:
    """The best of the library's targets that this processor has, or the one that NERF_APP_TARGET names."""
    names = list(targets())
    runnable = names[:library().nerf_best_target() + 1]
    asked = os.environ.get(TARGET_VARIABLE) or runnable[-1]
    if asked not in runnable:
        raise BackendUnavailable(f"{TARGET_VARIABLE} must be one of {', '.join(runnable)} on this processor, got {asked}")
    return asked


def set_threads(count: int) -> None:
    """How many threads the kernels use."""
    library().nerf_set_threads(ctypes.c_int(count))


def call(kernel: str, *arguments: Any) -> None:
    """Runs a kernel: tensors go as the addresses of their numbers, None as a null pointer, a list of tensors as pointers."""
    _function(kernel)(*[_converted(argument) for argument in arguments])


def plain(tensor: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The tensor as a kernel can read it: of this type, on the CPU, one number behind the other."""
    return _checked(tensor, dtype).detach().contiguous()


def indices(tensor: Tensor) -> Tensor:
    """The same for indices: int64."""
    return _checked(tensor, torch.int64).contiguous()


def in_place(tensor: Tensor) -> Tensor:
    """The same for what a kernel changes, which no copy can stand in for."""
    if not tensor.is_contiguous():
        raise TypeError("the C++ kernels change only tensors that lie in memory without gaps")
    return _checked(tensor, torch.float32)


def _checked(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.dtype != dtype or tensor.device.type != "cpu":
        raise TypeError(f"the C++ kernels take {dtype} on the CPU here, got {tensor.dtype} on {tensor.device}")
    return tensor


@functools.cache
def _function(kernel: str) -> Any:
    function = library()[f"{kernel}_{target()}"]
    function.restype = None
    return function


def _is_whole(path: Path) -> bool:
    """Whether a library reaches as far as its header says: opening one that was cut short would end the process."""
    header = path.read_bytes()[:HEADER_BYTES]
    if len(header) < HEADER_BYTES:
        return False
    sections, (size, count) = struct.unpack_from("<Q", header, 40)[0], struct.unpack_from("<HH", header, 58)
    return path.stat().st_size >= sections + size * count


def _sources_of(opened: ctypes.CDLL) -> str | None:
    """The digest that the library was compiled with; None before there was one."""
    if not hasattr(opened, "nerf_sources"):
        return None
    opened.nerf_sources.restype = ctypes.c_char_p
    return opened.nerf_sources().decode()


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
