"""Whether a backend computes what the references do, on the device where it would: outputs and gradients, in about a second.

A kernel that is wrong on some GPU must never be chosen there; how fast a right one is decides among several.

    python -m nerf_app.ops.selftest NAME DEVICE

says in a line of JSON what is wrong with a backend, or null, and the seconds of a field step. ops/gpu_choice.py asks so, in a
process of its own: what reads where nothing is takes the GPU away from the whole process, and what hangs never comes back.
"""

import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from nerf_app.errors import first_line
from nerf_app.ops.field_step import HashGridNets
from nerf_app.ops.hashgrid.levels import level_table

TOLERANCE = 2e-3  # of the largest number: gradients of matrices may be sums of TF32 products, which keep 10 bits
HALF_TOLERANCE = 3e-2  # of all numbers together: through two nets in float16 a ReLU flips now and then, which one number shows
SIZE, TIMED_SIZE = 777, 1 << 16  # samples; odd on purpose
REPETITIONS = 5
COMPILER = "Triton launches kernels by a little C program: install a C compiler and Python's headers, such as gcc and python3-dev"
Ops = Mapping[str, ModuleType]


@dataclass(frozen=True)
class Box:
    """The scene's cube, as sampling/contraction.py has it."""

    is_bounded: bool = True
    lattice_length: float = 2.0

    def to_unit(self, points: Tensor) -> Tensor:
        """[..., 3] scene coordinates -> [0, 1]."""
        return (0.5 * (points + 1.0)).clamp(0.0, 1.0)

    def distance_at(self, s: Tensor) -> Tensor:
        """Equal steps."""
        return s

    def lattice_at(self, t: Tensor) -> Tensor:
        """Equal steps."""
        return t


@dataclass(frozen=True)
class Everywhere:
    """Space without bounds, as sampling/contraction.py has it; tests/ops/test_selftest.py holds the two to each other."""

    is_bounded: bool = False
    lattice_length: float = 4.0 - 4.0 / 200.0

    def to_unit(self, points: Tensor) -> Tensor:
        """[..., 3] scene coordinates -> [0, 1]: the cube stays, all beyond it is folded around."""
        size = points.abs().amax(-1, keepdim=True).clamp(min=1.0)
        return ((points * ((2.0 - 1.0 / size) / size) + 2.0) * 0.25).clamp(0.0, 1.0)

    def distance_at(self, s: Tensor) -> Tensor:
        """Equal steps, and of inverse distance beyond 2."""
        return torch.where(s <= 2.0, s, 4.0 / (4.0 - s).clamp(min=4.0 / 200.0))

    def lattice_at(self, t: Tensor) -> Tensor:
        """The inverse."""
        return torch.where(t <= 2.0, t, 4.0 - 4.0 / t.clamp(min=2.0))


@dataclass(frozen=True)
class Packed:
    """Samples, evenly many on each ray."""

    t_starts: Tensor
    t_ends: Tensor
    ray_indices: Tensor
    ray_starts: Tensor
    ray_counts: Tensor


class Numbers:
    """The same random inputs on every device."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.generator = device, torch.Generator().manual_seed(0)

    def normal(self, *shape: int) -> Tensor:
        """Of order 1; with a hash table's beginnings a test proves nothing."""
        return torch.randn(*shape, generator=self.generator).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        """In [0, 1)."""
        return torch.rand(*shape, generator=self.generator).to(self.device)

    def field(self) -> HashGridNets:
        """As wide as in most runs, so that what is compiled for it serves them; with dense and hashed levels."""
        levels = level_table(8, 4, 60, 12, 3)
        nets = [self.normal(out, 32) / 32**0.5 for out in (32, 16, 32, 32, 16)]
        table = self.normal(levels[-1].first + levels[-1].entries, 4)
        return HashGridNets(table, levels, tuple(nets[:2]), tuple(nets[2:]), True)

    def samples(self, count: int, on_a_ray: int = 7) -> tuple[Tensor, Tensor, Packed]:
        """Rays through the cube's middle, and samples on them."""
        n_rays = count // on_a_ray
        directions = torch.nn.functional.normalize(self.normal(n_rays, 3), dim=1)
        t = 0.1 + 0.1 * torch.arange(on_a_ray, device=self.device).repeat(n_rays)
        rays = torch.arange(n_rays, device=self.device)
        return 0.3 * (self.uniform(n_rays, 3) - 0.5), directions, Packed(
            t, t + 0.1, rays.repeat_interleave(on_a_ray), rays * on_a_ray, torch.full_like(rays, on_a_ray))


def pulled(fn: Callable[..., Tensor | tuple[Tensor, ...]], *inputs: Tensor) -> list[Tensor]:
    """What a function gives, and the gradients by its inputs of one fixed sum of that."""
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    outputs = fn(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    total = sum((output * torch.linspace(-1, 1, output.numel(), device=output.device).view_as(output)).sum()
                for output in outputs)
    return [output.detach() for output in outputs] + list(torch.autograd.grad(total, leaves))


def findings(ops: Ops, device: torch.device) -> dict[str, list[Tensor]]:
    """Outputs and gradients of each op for the same inputs."""
    numbers = Numbers(device)
    field, (origins, directions, samples) = numbers.field(), numbers.samples(SIZE)
    n_rays, x, near = len(origins), numbers.uniform(SIZE, 3), torch.full_like(origins[:, 0], 0.05)
    grid, cells = numbers.uniform(9, 9, 9), (numbers.uniform(SIZE) * 9**3).long()
    rays = origins, directions, near
    marched = [ops["march"].march(*rays, near + length, numbers.uniform(n_rays), 0.03, grid > 0.5, space, None)
               for space, length in ((Box(), 0.8), (Everywhere(), 9.0))]
    state = [numbers.normal(SIZE) for _ in range(2)] + [torch.zeros(SIZE, device=device) for _ in range(2)]
    state[1] *= numbers.uniform(SIZE) > 0.5
    ops["adam"].adam_step(*state, 3, 1e-2, SIZE // 2)
    ops["occupancy"].refresh(grid, cells, numbers.uniform(SIZE), 0.9)
    picture, bends = (numbers.uniform(SIZE, 2) - 0.5).double(), 0.02 * numbers.normal(13, 1).double()
    lens = cells * 0, bends, torch.full_like(bends[:2].T, 400.0), torch.full_like(bends[0], 1.0)
    matrices, density = len(field.density), 9 * numbers.uniform(len(samples.t_starts))
    places = samples.t_starts, samples.t_ends, samples.ray_indices, n_rays

    def pull_back(d_features: Tensor, table: Tensor) -> Tensor:
        return ops["hashgrid"].pull_back(x, d_features, table, field.levels)

    def see(space: Box | Everywhere, table: Tensor, *nets: Tensor) -> tuple[Tensor, ...]:
        learned = HashGridNets(table, field.levels, nets[:matrices], nets[matrices:], True)
        return ops["field_step"].see(origins, directions, samples, space, learned)

    return {
        "hashgrid": pulled(lambda x, table: ops["hashgrid"].encode(x, table, field.levels), x, field.table)
                    + pulled(pull_back, numbers.normal(SIZE, len(field.levels) * field.table.shape[1]), field.table),
        "mlp": pulled(lambda x, *nets: ops["mlp"].mlp(x, nets, None), numbers.normal(SIZE, 32), *field.density),
        "spherical_harmonics": pulled(ops["spherical_harmonics"].spherical_harmonics, directions),
        "march": [part for one in marched for part in (one.t_starts, one.t_ends, one.ray_indices, one.ray_counts)],
        "composite": pulled(lambda density: ops["composite"].render_weights(density, *places), density),
        "field_step": [part for space in (Box(), Everywhere())
                       for part in pulled(functools.partial(see, space), field.table, *field.density, *field.colour)],
        "adam": state, "occupancy": [grid], "lens": list(ops["lens"].straighten(picture, picture, *lens)),
        "random": [ops["random"].philox(3, 1, 77, cells), ops["random"].uniform(3, 1, 77, cells)],
    }


def half_findings(device: torch.device, is_half: bool) -> dict[str, list[Tensor]]:
    """What a captured step is made of, with factors of either kind: losses of one ray and of two a pixel, with and without
    another pull, what each teaches samples, and gradients of the table and all matrices."""
    from nerf_app.ops.field_step import kernel_triton as kernels
    numbers = Numbers(device)
    field, (origins, directions, samples) = numbers.field(), numbers.samples(SIZE)
    table = field.table.to(torch.float16) if is_half else field.table
    stages = kernels.FieldKernels(field, table, is_half)
    passed = stages.forward(origins, directions, samples, Box(), samples.ray_counts.sum(dtype=torch.int32))
    counts = torch.ones_like(origins[:, 0], dtype=torch.bool)
    (background, truth), costs = numbers.uniform(2, len(origins), 3), numbers.uniform(len(origins))
    spread, d_weights = kernels.spread_and_learn(kernels.weights_along(passed, samples), samples, Box(), counts, 1.0)
    shown = [kernels.show_and_learn(passed, samples, background[:pixels], truth[:pixels], costs[:pixels], counts[:pixels], 128.0,
                                    0.1, pull)
             for pixels in (len(origins), max(len(origins) // 2, 1)) for pull in (None, d_weights)]
    _, _, lit, gradients = shown[-1]
    index, count = kernels.lit_samples(samples.ray_starts, lit, len(samples.t_starts))
    d_table, d_matrices = torch.zeros_like(field.table), [torch.zeros_like(matrix) for matrix in stages.matrices]
    stages.backward(passed, index, count, gradients, d_table, d_matrices)
    totals, learned = [seen[0] for seen in shown], [part for seen in shown for part in seen[3]]
    return {"captured step": [*totals, *learned, spread, d_weights, d_table, *d_matrices], "its adam": [_moved(numbers, is_half)]}


def _moved(numbers: Numbers, is_half: bool) -> Tensor:
    """Parameters after a step of the optimiser, or the float16 copy that follows them."""
    from nerf_app.ops.adam import kernel_triton as adam
    parameters, gradients, *moments = (numbers.normal(SIZE) for _ in range(4))
    half, control = parameters.half(), torch.ones(adam.CONTROL, device=numbers.device)
    is_sound = torch.ones((), dtype=torch.bool, device=numbers.device)
    adam.adam_controlled(parameters, gradients, moments[0], moments[1].abs(), half, control, is_sound, SIZE // 2)
    return half.float() if is_half else parameters


def failure(name: str, ops: Ops, references: Ops, device: torch.device) -> str | None:
    """The first op whose results are not the reference's, and how far they are apart; None where all are."""
    torch.manual_seed(0)
    try:
        truth, found = findings(references, device), findings(ops, device)
        wrong = next(filter(None, (_apart(op, found[op], truth[op], TOLERANCE) for op in truth)), None)
        if wrong is None and name == "triton":
            truth, found = half_findings(device, False), half_findings(device, True)
            wrong = next(filter(None, (_apart(op, found[op], truth[op], HALF_TOLERANCE, _norm) for op in truth)), None)
    except Exception as error:  # a compiler, a driver or a library of somebody else may raise anything
        is_compilers = isinstance(error, subprocess.CalledProcessError) or "C compiler" in str(error)
        return f"fails its self-test ({first_line(error)})" + (f": {COMPILER}" if is_compilers else "")
    return wrong and f"fails its self-test: {wrong}"


def _largest(values: Tensor) -> float:
    return float(values.double().abs().max())


def _norm(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values.double()))


def _apart(op: str, found: list[Tensor], truth: list[Tensor], tolerance: float,
           size: Callable[[Tensor], float] = _largest) -> str | None:
    for number, (value, wanted) in enumerate(zip(found, truth, strict=True)):
        if value.shape != wanted.shape:
            return f"{op}, result {number}, has shape {list(value.shape)}, not {list(wanted.shape)}"
        most, off = size(wanted), size(value.double() - wanted.double())
        if not off <= (tolerance * most if value.is_floating_point() else 0.0):
            return f"{op}, result {number}, is {off:.2g} off, of {most:.2g}"
    return None


def seconds(ops: Ops, device: torch.device) -> float:
    """What a field step forward and backward takes, the shortest of a few."""
    numbers, box = Numbers(device), Box()
    field, (origins, directions, samples) = numbers.field(), numbers.samples(TIMED_SIZE)
    leaf = field.table.requires_grad_()
    times = []
    for _ in range(REPETITIONS):
        begin = _now(device)
        sums, _ = ops["field_step"].see(origins, directions, samples, box, field)
        torch.autograd.grad(sums.sum(), leaf)
        times.append(_now(device) - begin)
    return min(times)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main() -> None:
    """The line of JSON."""
    from nerf_app.ops.backend import implementations
    name, device = sys.argv[1], torch.device(sys.argv[2])
    if device.type == "cuda":
        torch.cuda.set_device(device)  # where Triton launches
    ops = implementations(name)
    wrong = failure(name, ops, implementations("reference"), device)
    print(json.dumps([wrong, 0.0 if wrong else seconds(ops, device)]))


if __name__ == "__main__":
    main()
