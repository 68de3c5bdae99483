import pytest
import torch

from nerf_app.ops import mlp
from nerf_app.ops.mlp import reference
from tests.parity import assert_close, runnable, value_and_gradients


def a_net(points, widths, has_biases=False):
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    net = {"x": torch.randn(points, widths[0]), "matrices": [torch.randn(shape) / shape[1] ** 0.5 for shape in shapes]}
    return net | ({"biases": [torch.randn(out) for out, _ in shapes]} if has_biases else {})


def doubled(inputs):
    return {name: [part.double() for part in value] if isinstance(value, list) else value.double()
            for name, value in inputs.items()}


def test_a_net_worked_out_by_hand():
    x = torch.tensor([[1.0, -2.0]])
    first, second = torch.tensor([[1.0, 1.0], [2.0, 0.0]]), torch.tensor([[3.0, -4.0]])
    assert reference.mlp(x, [first, second], None).tolist() == [[-8.0]]  # relu(-1, 2), and a last layer without relu
    assert reference.mlp(x, [first, second], [torch.tensor([2.0, 0.0]), torch.tensor([0.5])]).tolist() == [[-4.5]]


@pytest.mark.parametrize("has_biases", [False, True])
def test_gradients_are_those_of_finite_differences(has_biases):
    inputs = doubled(a_net(5, [3, 16, 16, 2], has_biases))
    leaves = [inputs["x"], *inputs["matrices"], *inputs.get("biases", [])]
    for leaf in leaves:
        leaf.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *rest: reference.mlp(x, rest[:3], rest[3:] or None), leaves)


@pytest.mark.parametrize("backend", runnable(mlp.IMPLEMENTATIONS))
@pytest.mark.parametrize("points, widths", [(1, [32, 64, 16]), (77, [32, 64, 64, 16]), (300, [48, 16, 16]), (0, [32, 32, 16])])
def test_every_backend_agrees_with_the_reference(backend, points, widths):
    inputs = a_net(points, widths)
    truth = value_and_gradients(reference.mlp, doubled(inputs), biases=None)
    for name, value in value_and_gradients(mlp.IMPLEMENTATIONS[backend]().mlp, inputs, biases=None).items():
        assert_close(value, truth[name], name, tolerance=1e-5)  # sums of up to 300 products of both signs
