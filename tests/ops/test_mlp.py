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


def loss_of_a_slope(pull_back, inputs):
    """What is pulled back, made one number in a way that is not linear, with its gradients by d_y and the matrices."""
    leaves = [inputs["d_y"], *inputs["matrices"]]
    for leaf in leaves:
        leaf.requires_grad_()
    d_x = pull_back(inputs["x"], inputs["d_y"], inputs["matrices"], inputs.get("biases"))
    return d_x.detach(), torch.autograd.grad((d_x * d_x.roll(1, 1)).sum(), leaves)


@pytest.mark.parametrize("has_biases", [False, True])
def test_what_is_pulled_back_and_its_gradients_are_those_of_differentiating_twice(has_biases):
    inputs = doubled(a_net(60, [7, 16, 16, 4], has_biases)) | {"d_y": torch.randn(60, 4, dtype=torch.float64)}

    def twice(x, d_y, matrices, biases):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(reference.mlp(x, matrices, biases), x, d_y, create_graph=True)[0]
    truth, gradients = loss_of_a_slope(twice, inputs)
    d_x, mine = loss_of_a_slope(reference.pull_back, inputs)
    assert_close(d_x, truth, "d_x")
    for i, (value, other) in enumerate(zip(mine, gradients, strict=True)):
        assert_close(value, other, f"gradient {i}")


@pytest.mark.parametrize("backend", runnable(mlp.IMPLEMENTATIONS))
@pytest.mark.parametrize("points, widths, has_biases", [(1, [32, 64, 16], False), (300, [48, 32, 16, 16], True),
                                                        (77, [32, 16], False), (0, [32, 32, 16], False)])
def test_every_backend_pulls_back_as_the_reference_does(backend, points, widths, has_biases):
    inputs = a_net(points, widths, has_biases) | {"d_y": torch.randn(points, widths[-1])}
    truth, gradients = loss_of_a_slope(reference.pull_back, doubled(inputs))
    d_x, mine = loss_of_a_slope(mlp.IMPLEMENTATIONS[backend]().pull_back, inputs)
    assert_close(d_x, truth, "d_x", tolerance=1e-5)
    for i, (value, other) in enumerate(zip(mine, gradients, strict=True)):
        assert_close(value, other, f"gradient {i}", tolerance=1e-5)  # sums of up to 300 products of both signs
