import pytest
import torch

from nerf_app.ops import adam
from nerf_app.ops.adam import reference
from tests.parity import assert_close, runnable


def a_state(size):
    return {"parameters": torch.randn(size), "first": torch.zeros(size), "second": torch.zeros(size)}


def some_gradients(size, steps, share=0.5):
    """Of each step, zero but for a share of them."""
    return [torch.randn(size) * (torch.rand(size) < share) for _ in range(steps)]


def run(module, state, gradients, table_size, learning_rate=1e-2):
    state = {name: value.clone() for name, value in state.items()}
    for step, gradient in enumerate(gradients, 1):
        module.adam_step(gradients=gradient.to(state["first"].dtype), step=step, learning_rate=learning_rate,
                         table_size=table_size, **state)
    return state


@pytest.mark.parametrize("table_size, pull", [(0, 1e-6), (100, 0.0)])
def test_with_a_gradient_everywhere_it_is_torchs_adam(table_size, pull):
    state, gradients = a_state(100), some_gradients(100, 20, share=1.0)
    state = {name: value.double() for name, value in state.items()}
    leaf = state["parameters"].clone().requires_grad_()
    theirs = torch.optim.Adam([leaf], lr=1e-2, betas=(0.9, 0.99), eps=1e-15, weight_decay=pull)
    for gradient in gradients:
        leaf.grad = gradient.double()
        theirs.step()
    assert_close(run(reference, state, gradients, table_size)["parameters"], leaf.detach(), "parameters")


def test_a_table_entry_without_a_gradient_is_left_alone_with_its_moments():
    state = a_state(10)
    before = run(reference, state, some_gradients(10, 3, share=1.0), 6)
    gradient = torch.ones(10)
    gradient[[1, 4, 8]] = 0.0
    after = {name: value.clone() for name, value in before.items()}
    reference.adam_step(gradients=gradient, step=4, learning_rate=1e-2, table_size=6, **after)
    for name in before:
        assert (after[name] != before[name]).tolist() == [True, False, True, True, False, True, True, True, True, True], name


def test_moments_are_corrected_by_the_global_step():
    state = a_state(1)
    gradient = torch.tensor([2.0])
    after = {name: value.clone() for name, value in state.items()}
    reference.adam_step(gradients=gradient, step=100, learning_rate=1e-2, table_size=1, **after)
    expected = 1e-2 * (0.1 * 2.0 / (1 - 0.9**100)) / (0.01 * 4.0 / (1 - 0.99**100)) ** 0.5
    assert float(state["parameters"] - after["parameters"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("gradient", [1e-30, 1e-18, 1e-8, 1e8])
def test_the_first_step_is_never_longer_than_the_learning_rate(gradient):
    state = {name: torch.zeros(1) for name in ("parameters", "first", "second")}
    after = run(reference, state, [torch.tensor([gradient])], 1)
    assert abs(float(after["parameters"])) <= 1e-2 * (1 + 1e-5)


@pytest.mark.parametrize("backend", runnable(adam.IMPLEMENTATIONS))
@pytest.mark.parametrize("size, table_size", [(1, 0), (1, 1), (77, 50), (1000, 0), (1000, 1000), (0, 0)])
def test_every_backend_agrees_with_the_reference(backend, size, table_size):
    state, gradients = a_state(size), some_gradients(size, 5)
    truth = run(reference, {name: value.double() for name, value in state.items()}, gradients, table_size)
    for name, value in run(adam.IMPLEMENTATIONS[backend](), state, gradients, table_size).items():
        assert_close(value, truth[name], name, tolerance=1e-5)  # five steps in float32
