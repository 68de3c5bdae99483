import numpy as np
import pytest
import torch

from nerf_app.ops import spherical_harmonics
from nerf_app.ops.spherical_harmonics import reference
from tests.parity import assert_close, runnable, value_and_gradients


def some_directions(count):
    return torch.nn.functional.normalize(torch.randn(count, 3, dtype=torch.float64), dim=1)


def test_the_values_are_orthonormal_over_the_sphere():
    z, z_weights = np.polynomial.legendre.leggauss(8)  # exact for the products of two, polynomials of degree 6
    phi = np.arange(16) * (2 * np.pi / 16)
    z, phi = (grid.ravel() for grid in np.meshgrid(z, phi, indexing="ij"))
    directions = np.stack([np.sqrt(1 - z**2) * np.cos(phi), np.sqrt(1 - z**2) * np.sin(phi), z], 1)
    weights = torch.tensor(np.repeat(z_weights, 16) * (2 * np.pi / 16))
    values = reference.spherical_harmonics(torch.tensor(directions))
    assert torch.allclose(values.T @ (weights[:, None] * values), torch.eye(16, dtype=torch.float64), atol=1e-12)


def test_order_and_signs_are_those_of_tinycudann():
    x, y, z = directions = some_directions(50).unbind(1)
    values = reference.spherical_harmonics(torch.stack(directions, 1)).unbind(1)
    theirs = {0: 0.28209479177387814 + 0 * x, 1: -0.48860251190291987 * y, 2: 0.48860251190291987 * z,
              3: -0.48860251190291987 * x, 4: 1.0925484305920792 * x * y, 5: -1.0925484305920792 * y * z,
              6: 0.94617469575755997 * z**2 - 0.31539156525251999,
              7: -1.0925484305920792 * x * z, 8: 0.54627421529603959 * (x**2 - y**2),
              9: 0.59004358992664352 * y * (-3 * x**2 + y**2), 10: 2.8906114426405538 * x * y * z,
              11: 0.45704579946446572 * y * (1 - 5 * z**2), 12: 0.3731763325901154 * z * (5 * z**2 - 3),
              13: 0.45704579946446572 * x * (1 - 5 * z**2), 14: 1.4453057213202769 * z * (x**2 - y**2),
              15: 0.59004358992664352 * x * (-x**2 + 3 * y**2)}
    for index, truth in theirs.items():
        assert_close(values[index], truth, f"value {index}")


def test_gradients_are_those_of_finite_differences():
    assert torch.autograd.gradcheck(reference.spherical_harmonics, some_directions(5).requires_grad_())


@pytest.mark.parametrize("backend", runnable(spherical_harmonics.IMPLEMENTATIONS))
@pytest.mark.parametrize("count", [1, 77, 0])
def test_every_backend_agrees_with_the_reference(backend, count):
    directions = some_directions(count)
    truth = value_and_gradients(reference.spherical_harmonics, {"directions": directions.float().double()})
    op = spherical_harmonics.IMPLEMENTATIONS[backend]().spherical_harmonics
    for name, value in value_and_gradients(op, {"directions": directions.float()}).items():
        assert_close(value, truth[name], name)
