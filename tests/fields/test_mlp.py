import math

import torch

from nerf_app.fields.mlp import dense_shapes, layers, xavier_uniform
from nerf_app.fields.parameters import Parameters
from tests.analytic import reference_ops


def test_a_net_has_a_matrix_between_neighbouring_widths_then_biases():
    assert dense_shapes("net", [3, 8, 2]) == {"net.0": (8, 3), "net.1": (2, 8)}
    assert list(dense_shapes("net", [3, 8, 2], has_biases=True).items()) == [
        ("net.0", (8, 3)), ("net.1", (2, 8)), ("net.0.bias", (8,)), ("net.1.bias", (2,))]


def test_layers_go_into_the_op_as_they_are():
    for has_biases in (False, True):
        shapes = dense_shapes("net", [3, 8, 2], has_biases=has_biases)
        parameters = Parameters({}, shapes, torch.device("cpu"))
        parameters.flat.normal_()
        x = torch.randn(5, 3)
        weights = [parameters["net.0"], parameters["net.1"]]
        biases = [parameters["net.0.bias"], parameters["net.1.bias"]] if has_biases else [0.0, 0.0]
        truth = torch.relu(x @ weights[0].T + biases[0]) @ weights[1].T + biases[1]
        assert torch.allclose(reference_ops().mlp.mlp(x, *layers(parameters, shapes)), truth, atol=1e-6)


def test_xavier_values_fill_their_range_evenly():
    values = xavier_uniform((200, 300), torch.Generator().manual_seed(0))
    limit = math.sqrt(6 / 500)
    assert values.shape == (200, 300) and values.abs().max() <= limit
    assert abs(float(values.mean())) < 5 * limit / math.sqrt(3 * 60_000)
    assert abs(float(values.var()) * 3 / limit**2 - 1) < 0.02
