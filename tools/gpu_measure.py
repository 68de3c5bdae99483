"""Micro-benchmarks of KERNELS: what the GPU's memory does with scattered reductions and loads, and what our kernels take."""

import functools
import time
from collections.abc import Callable, Iterator

import torch
import triton
import triton.language as tl

BLOCK = 256
TARGETS = 33_600_000  # what 2^19 samples on eight levels of eight corners come to


@triton.jit
def scattered(memory_ptr, places_ptr, n, out_ptr, WIDTH: tl.constexpr, IS_LOAD: tl.constexpr, BLOCK: tl.constexpr):
    """Adds ones to, or sums up, WIDTH neighbouring numbers at each place."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < n
    at = tl.load(places_ptr + rows, mask=inside, other=0).to(tl.int64)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    if IS_LOAD:
        values = tl.load(memory_ptr + at, mask=inside[:, None], other=0.0)
        tl.store(out_ptr + rows, tl.sum(values.to(tl.float32), 1), mask=inside)
    else:
        ones = tl.full([BLOCK, WIDTH], 1.0, memory_ptr.dtype.element_ty)
        tl.atomic_add(memory_ptr + at, ones, mask=inside[:, None], sem="relaxed")


def measurements(device: torch.device, dry: bool) -> Iterator[str]:
    """Rows of a table."""
    yield "| what | ms | per second |\n|---|---|---|"
    count = 512 if dry else TARGETS
    out = torch.zeros(count, device=device)
    for rows, copies in ((1 << 19, 1), (5000, 1), (5000, 8), (5000, 32)):
        places = torch.randint(rows * copies, (count,), device=device, dtype=torch.int32)
        for dtype, width in ((torch.float16, 2), (torch.float32, 2), (torch.float32, 4)):
            memory = torch.zeros(rows * copies * width, dtype=dtype, device=device)
            for is_load in (False, True):
                taken = milliseconds(device, functools.partial(touch, memory, places, out, width, is_load))
                yield row(f"{'load' if is_load else 'red'} {str(dtype)[6:]}×{width}, {rows} rows × {copies}", taken, count)
    yield from field_steps(device, dry)


def touch(memory: torch.Tensor, places: torch.Tensor, out: torch.Tensor, width: int, is_load: bool) -> None:
    """One reduction or load of `width` numbers at each place."""
    programs = -(-len(places) // BLOCK)
    scattered[(programs,)](memory, places, len(places), out, WIDTH=width, IS_LOAD=is_load, BLOCK=BLOCK, num_warps=4)


def field_steps(device: torch.device, dry: bool) -> Iterator[str]:
    """The stages of a captured step, with float16 factors, beside torch's own nets."""
    from nerf_app.ops import selftest
    from nerf_app.ops.field_step import kernel_triton as kernels
    numbers, box = selftest.Numbers(device), selftest.Box()
    field, (origins, directions, samples) = numbers.field(), numbers.samples(70 if dry else 1 << 18)
    n, n_rays = len(samples.t_starts), len(origins)
    stages = kernels.FieldKernels(field, field.table.half(), True)
    count, counts = samples.ray_counts.sum(dtype=torch.int32), torch.ones(n_rays, dtype=torch.bool, device=device)
    passed = stages.forward(origins, directions, samples, box, count)
    truth, costs = numbers.uniform(n_rays, 3), numbers.uniform(n_rays)
    totals, _, lit, gradients = kernels.show_and_learn(passed, samples, truth, truth, costs, counts, 128.0, 0.1)
    index, lit_count = kernels.lit_samples(samples.ray_starts, lit, n)
    d_table, d_matrices = torch.zeros_like(field.table), [torch.zeros_like(matrix) for matrix in stages.matrices]
    works = {"field forward": lambda: stages.forward(origins, directions, samples, box, count),
             "composite, loss and back": lambda: kernels.show_and_learn(passed, samples, truth, truth, costs, counts, 128.0, 0.1),
             "list of lit samples": lambda: kernels.lit_samples(samples.ray_starts, lit, n),
             "field backward": lambda: stages.backward(passed, index, lit_count, gradients, d_table, d_matrices),
             "the same nets by torch, forward": lambda: torch_nets(passed.features, stages.matrices)}
    for name, work in works.items():
        yield row(name, milliseconds(device, work), n)


def torch_nets(features: torch.Tensor, matrices: list[torch.Tensor]) -> torch.Tensor:
    """Both nets in float16 by cuBLAS, without the harmonics."""
    half = [matrix.to(features.dtype) for matrix in matrices]
    hidden = torch.relu(features @ half[0].T) @ half[1].T
    return torch.relu(torch.relu(torch.cat([hidden, hidden], 1) @ half[2].T) @ half[3].T) @ half[4].T


def milliseconds(device: torch.device, work: Callable[[], object], repetitions: int = 5) -> float:
    """The median of a few, after one that compiles."""
    work()
    times = []
    for _ in range(repetitions if device.type == "cuda" else 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return sorted(times)[len(times) // 2]


def row(name: str, taken: float, count: int) -> str:
    return f"| {name} | {taken:.3f} | {count / taken * 1e3:.3g} |"
