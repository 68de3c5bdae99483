"""What every benchmark shares: data as in training, the check before the clock, and the table.

Times are CPU time of the whole process (all threads together) divided by the number of samples: on a busy machine they
mean the same as on an idle one. Backward is what comes on top of forward, into gradients that are there already.
"""

import argparse
import math
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from nerf_app.errors import BackendUnavailable
from nerf_app.ops.backend import choose_backend
from nerf_app.sampling.contraction import Space

ROOT = Path(__file__).resolve().parents[1]
STEP = 2.0 * 3**0.5 / 384  # scene units: two steps of the default lattice at once, as in half of a training
GRID = 128  # occupancy cells along an edge
SAMPLES = 65536  # of a step


@dataclass(frozen=True)
class Case:
    """One row of work: what is called, with what, and the least that it could cost."""

    title: str
    samples: int  # what times are divided by
    call: Callable[..., Tensor | tuple[Tensor, ...] | None]  # (implementation, **inputs)
    inputs: dict[str, Tensor | list[Tensor]]  # those that require gradients get some
    floors: dict[str, float]  # "forward", "backward" -> ns per sample of one core
    constants: dict[str, object] = field(default_factory=dict)
    tolerance: float = 1e-4  # of the largest number: float32 sums in another order


class WrongResult(Exception):
    """An implementation that is not worth timing."""


def main(op: ModuleType, floors: str, cases: Callable[[], Iterable[Case]]) -> None:
    """Checks and times every implementation of an op that runs here. `floors`: a sentence on what they are."""
    parser = argparse.ArgumentParser(description=f"Times {op.__name__}: parity first, then nanoseconds per sample.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    print(f"{op.__name__.rpartition('.')[2]}: {machine_line(args.threads)}")
    print(f"floor: {floors}")
    torch.manual_seed(0)
    for case in cases():
        print(f"\n{case.title}")
        print(f"{'backend':12}{'pass':10}{'ns/sample':>10}{'spread':>8}{'floor':>10}{'of floor':>10}")
        for name, load in op.IMPLEMENTATIONS.items():
            try:
                choose_backend("tcnn" if name == "nerfacc" else name, "cpu", args.threads)  # the one comes with the other
            except BackendUnavailable as error:
                print(f"{name:12}cannot run here: {error}")
                continue
            check(case, load(), op.IMPLEMENTATIONS["reference"](), name)
            report(case, load(), name, args.repeats)


def machine_line(threads: int) -> str:
    """Processor, threads, target, torch and commit."""
    from nerf_app.doctor import target
    return f"{processor()}, {threads} thread{'s' if threads > 1 else ''}, {target()}, torch {torch.__version__}, {commit()}"


def processor() -> str:
    """As the system names it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def commit() -> str:
    """The checkout's commit, with a plus where it was changed since."""
    command = ["git", "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty=+"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 (our own list)
    return done.stdout.strip() or "no commit"


def check(case: Case, implementation: ModuleType, reference: ModuleType, name: str) -> None:
    """Raises WrongResult where outputs, gradients or what was changed in place are not the reference's."""
    found, truth = (_results(case, module) for module in (implementation, reference))
    for key, value in truth.items():
        apart, allowed = distance(found[key], value), case.tolerance * distance(value, torch.zeros_like(value))
        if not apart <= allowed:
            raise WrongResult(f"{name}, {case.title}: {key} is {apart:.3g} away from the reference, {allowed:.3g} allowed")


def distance(value: Tensor, truth: Tensor) -> float:
    """The largest difference; NaN where one of them holds it, infinite where the shapes differ."""
    if value.shape != truth.shape:
        return math.inf
    return float((value.double() - truth.double()).abs().max()) if value.numel() else 0.0


def report(case: Case, implementation: ModuleType, name: str, repeats: int) -> None:
    """Prints a line for the forward pass and, where something has gradients, one for the backward pass."""
    leaves = _leaves(case.inputs)
    originals = [(leaf, leaf.detach().clone()) for leaf in _flat(leaves)]
    passes = {"forward": lambda: case.call(implementation, **leaves, **case.constants)}
    outputs = passes["forward"]()
    if isinstance(outputs, Tensor) and outputs.requires_grad:
        pulled = torch.randn_like(outputs)
        passes["backward"] = lambda: outputs.backward(pulled, retain_graph=True)

    def restore() -> None:
        for leaf, original in originals if outputs is None else ():  # an op without outputs changes its inputs
            leaf.copy_(original)

    for which, run in passes.items():
        median, spread = timed(run, repeats, restore)
        floor = case.floors[which]
        print(f"{name:12}{which:10}{median / case.samples:10.2f}{spread:8.0%}{floor:10.2f}{floor * case.samples / median:10.0%}")


def timed(run: Callable[[], object], repeats: int, before: Callable[[], None] = lambda: None) -> tuple[float, float]:
    """Median of the CPU time in nanoseconds, and half the distance between the quartiles as a part of it."""
    times = []
    for _ in range(repeats + 2):
        before()
        start = time.process_time_ns()
        run()
        times.append(time.process_time_ns() - start)
    low, median, high = statistics.quantiles(times[2:], n=4)  # the first two warm up
    return median, (high - low) / 2 / median


def _results(case: Case, module: ModuleType) -> dict[str, Tensor]:
    leaves = _leaves(case.inputs)
    outputs = case.call(module, **leaves, **case.constants)
    outputs = outputs if isinstance(outputs, tuple) else () if outputs is None else (outputs,)
    for output in outputs:
        if output.requires_grad:
            output.backward(torch.cos(torch.arange(output.numel())).view(output.shape))
    results = {f"output {i}": output.detach() for i, output in enumerate(outputs)}
    for name, value in leaves.items():
        for i, leaf in enumerate(_flat({name: value})):
            results |= {f"{name} {i}": leaf.detach()} | ({f"d_{name} {i}": leaf.grad} if leaf.requires_grad else {})
    return results


def _leaves(inputs: dict[str, Tensor | list[Tensor]]) -> dict[str, Tensor | list[Tensor]]:
    return {name: [_leaf(part) for part in value] if isinstance(value, list) else _leaf(value) for name, value in inputs.items()}


def _leaf(value: Tensor) -> Tensor:
    leaf = value.detach().clone().requires_grad_(value.requires_grad)
    if value.requires_grad:
        leaf.grad = torch.zeros_like(value)
    return leaf


def _flat(inputs: dict[str, Tensor | list[Tensor]]) -> list[Tensor]:
    return [leaf for value in inputs.values() for leaf in (value if isinstance(value, list) else [value])]


# Data.

def blobs(share: float) -> Tensor:
    """[G, G, G] bool: rounded shapes that fill about this share of the cube."""
    x, y, z = (torch.linspace(0.0, 9.0, GRID).view(shape) for shape in ((1, 1, -1), (1, -1, 1), (-1, 1, 1)))
    values = torch.sin(x) + torch.sin(1.3 * y) + torch.sin(0.7 * z + 1.0)
    return values > torch.quantile(values[::2, ::2, ::2].flatten(), 1.0 - share)


def rays_of_cameras(count: int) -> dict[str, Tensor]:
    """Rays from all round through the cube, as keywords of `march`."""
    origins = 2.5 * torch.nn.functional.normalize(torch.randn(count, 3), dim=1)
    directions = torch.nn.functional.normalize(1.2 * torch.rand(count, 3) - 0.6 - origins, dim=1)
    near, far = Space(True).limits(origins, directions)
    return {"origins": origins, "directions": directions, "near": near, "far": far, "jitter": torch.rand(count)}


def samples_of_rays(share: float = 0.5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """SAMPLES samples in the order of a step: points in the unit cube [S, 3], t_starts, t_ends, ray_indices [S]."""
    from nerf_app.ops.march import reference
    rays = rays_of_cameras(int(SAMPLES / (100 * share)))
    marched = reference.march(**rays, step=STEP, occupied=blobs(share), space=Space(True), max_samples=None)
    t_starts, t_ends, indices = (part[:SAMPLES] for part in (marched.t_starts, marched.t_ends, marched.ray_indices))
    if len(indices) < SAMPLES:
        raise ValueError(f"too few rays: {len(indices)} samples")
    middle = 0.5 * (t_starts + t_ends)
    points = rays["origins"][indices] + middle[:, None] * rays["directions"][indices]
    return Space(True).to_unit(points), t_starts, t_ends, indices
