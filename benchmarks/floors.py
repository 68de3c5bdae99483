"""Floors, measured in the same run as what is held against them; one thread, nanoseconds."""

import ctypes
import functools
import tempfile
from pathlib import Path

import torch
from common import timed
from torch import Tensor

from nerf_app.ops import native
from nerf_app.ops.build import COMMON, find_compiler, run_compiler, targets

REPEATS = 15
FMA_ROUNDS, FMAS = 200_000, 12  # of floors.cpp's loop
LOOKS = 100_000


@functools.cache
def _library() -> ctypes.CDLL:
    """floors.cpp, compiled for the target that the kernels use."""
    lanes, flags = targets()[native.target()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "floors.so"
        run_compiler([*find_compiler(), *COMMON, *flags, f"-DLANES={lanes}", "-DTARGET=floor", "-shared",
                      str(Path(__file__).with_suffix(".cpp")), "-o", str(path)])
        return ctypes.CDLL(str(path))


def _time(function: str, *arguments: Tensor | int) -> float:
    converted = [ctypes.c_void_p(argument.data_ptr()) if isinstance(argument, Tensor) else ctypes.c_int64(argument)
                 for argument in arguments]
    return timed(lambda: getattr(_library(), function)(*converted), REPEATS)[0]


@functools.cache
def flop_ns() -> float:
    """One floating-point operation, when one core does nothing but multiply-adds between registers."""
    lanes = targets()[native.target()][0]
    return _time("fma_loop", FMA_ROUNDS, torch.tensor([0.999, 0.001])) / (FMA_ROUNDS * FMAS * lanes * 2)


@functools.cache
def look_ns() -> float:
    """One place on a ray: its position, its cell, and a byte of a grid that lies in the nearest cache."""
    ray = torch.tensor([0.5, 0.5, 0.5, 0.9, 1.0, 0.8])
    return _time("look", torch.ones(8, 8, 8, dtype=torch.uint8), ray, LOOKS, torch.zeros(1, dtype=torch.int64)) / LOOKS


def change_ns(read: int, changed: int) -> float:
    """A sum over so many bytes of numbers, and a change of sign, in place, of so many."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    looked_at, turned = torch.zeros(read // 4), torch.zeros(changed // 4)
    total = timed(looked_at.sum, REPEATS)[0] + timed(turned.neg_, REPEATS)[0]
    torch.set_num_threads(threads)
    return total


def copy_ns(read: int, written: int) -> float:
    """A copy that moves as many bytes in all."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    source = torch.zeros((read + written) // 8)
    target = torch.zeros_like(source)
    median, _ = timed(lambda: target.copy_(source), REPEATS)
    torch.set_num_threads(threads)
    return median


def exp_ns(count: int) -> float:
    """So many exponentials, of numbers in the cache."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    values = torch.rand(4096)
    out = torch.empty_like(values)
    median, _ = timed(lambda: [torch.exp(values, out=out) for _ in range(16)], REPEATS)
    torch.set_num_threads(threads)
    return median / (16 * 4096) * count


def gather_ns(table: Tensor, rows: Tensor) -> float:
    """Fetching rows of a table [E, 4] whose numbers are known: rows [N, corners] int32."""
    return _time("gather", table, rows, len(rows), rows.shape[1], torch.empty(len(rows), 4))


def scatter_ns(table: Tensor, rows: Tensor) -> float:
    """Adding to rows of a table [E, 4] whose numbers are known: rows [N, corners] int32."""
    return _time("scatter", table, rows, len(rows), rows.shape[1], torch.ones(len(rows), 4))
