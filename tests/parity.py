"""How the implementations of an op are held to its reference: outputs and every gradient, with the same inputs."""

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

from tests.requires import requires

NEEDS = {"reference": (), "cpp": ("compiler",), "triton": ("triton",), "tcnn": ("tinycudann",), "nerfacc": ("nerfacc",)}

# Of the largest number compared. float32: 24 bits, and sums of some hundred terms in another order lose four of them.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-6}


def runnable(implementations: dict[str, Callable[[], ModuleType]]) -> list:
    """All names as parameters of a test; those whose needs are not met skip by `requires`."""
    return [pytest.param(name, marks=requires(*NEEDS[name])) for name in implementations]


def sized(implementations: dict[str, Callable[[], ModuleType]], sizes: list[tuple[int, ...]]) -> list:
    """(name, *size) as parameters of a test; Triton, here in its interpreter, gets what has fewer than a thousand entries."""
    return [pytest.param(name, *size, marks=requires(*NEEDS[name]))
            for name in implementations for size in sizes if name != "triton" or max(size) < 1000]


def value_and_gradients(fn: Callable, inputs: dict[str, Tensor | list[Tensor]], **constants) -> dict[str, Tensor]:
    """{"output 0": ..., "d_<input>": ...}: what fn(**inputs, **constants) gives, and one fixed random cotangent pulled back.

    Floating inputs have gradients (zeros where nothing flows back); a list of tensors has one for each, "d_<input> 0" and so on.
    """
    leaves = {name: [_leaf(part) for part in value] if isinstance(value, list) else _leaf(value)
              for name, value in inputs.items()}
    outputs = fn(**leaves, **constants)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    results = {f"output {i}": output.detach() for i, output in enumerate(outputs)}
    flat = {name: leaf for name, leaf in _named(leaves) if leaf.requires_grad}
    generator = torch.Generator().manual_seed(1)
    pulled = [(output, torch.randn(output.shape, generator=generator).to(output)) for output in outputs]
    pulled = [(output, cotangent) for output, cotangent in pulled if output.requires_grad]
    if pulled and flat:
        roots, cotangents = zip(*pulled, strict=True)
        gradients = torch.autograd.grad(roots, list(flat.values()), cotangents, allow_unused=True, materialize_grads=True)
        results |= {f"d_{name}": gradient for name, gradient in zip(flat, gradients, strict=True)}
    return results


def assert_close(value: Tensor, truth: Tensor, name: str, tolerance: float | None = None) -> None:
    """Same shape, and apart by at most `tolerance` (the dtype's of `value`, if None) of the largest number of the truth."""
    value, truth = value.detach(), truth.detach()
    assert value.shape == truth.shape, f"{name}: shape {list(value.shape)}, expected {list(truth.shape)}"
    if not value.is_floating_point():
        assert torch.equal(value, truth), f"{name}: {int((value != truth).sum())} of {value.numel()} differ"
        return
    assert torch.equal(value.isnan(), truth.isnan()), f"{name}: NaN in other places"
    if truth.numel() == 0:
        return
    worst = float((value.double() - truth.double()).nan_to_num().abs().max())
    allowed = (TOLERANCES[value.dtype] if tolerance is None else tolerance) * float(truth.nan_to_num().abs().max())
    assert worst <= allowed, f"{name}: {worst:.3g} apart, {allowed:.3g} allowed"


def _leaf(value: Tensor) -> Tensor:
    return value.detach().clone().requires_grad_(value.is_floating_point())


def _named(leaves: dict[str, Tensor | list[Tensor]]) -> list[tuple[str, Tensor]]:
    named = []
    for name, value in leaves.items():
        named += [(f"{name} {i}", part) for i, part in enumerate(value)] if isinstance(value, list) else [(name, value)]
    return named
