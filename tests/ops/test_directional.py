import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from nerf_app.ops import directional
from nerf_app.ops.directional import BANDS, WIDTH, reference
from tests.ops.test_spherical_harmonics import some_directions
from tests.parity import assert_close, runnable, value_and_gradients

PLACES = [(band, m) for band in BANDS for m in range(band + 1)]


def closed_form(directions):
    """The harmonics by the explicit sums of Ref-NeRF's supplement, whose coefficients are whole numbers: [N, 36] complex."""
    x, y, z = directions.unbind(1)
    columns = []
    for band, m in PLACES:
        scale = math.sqrt((2 * band + 1) * math.factorial(band - m) / (4 * math.pi * math.factorial(band + m)))
        polynomial = sum(Fraction(math.prod(band + k + m - 1 - 2 * i for i in range(band)),
                                  math.factorial(k) * math.factorial(band - k - m)) * 1.0 * z**k for k in range(band - m + 1))
        columns.append((-1) ** m * scale * polynomial * torch.complex(x, y)**m)
    return torch.stack(columns, 1)


def test_the_basis_is_that_of_the_closed_form():
    directions = some_directions(200)
    values = reference.encode(directions, torch.zeros(200, dtype=torch.float64))
    truth = closed_form(directions)
    assert values.shape == (200, WIDTH)
    assert_close(values, torch.cat([truth.real, truth.imag], 1), "values", tolerance=1e-10)  # the sums cancel


def test_the_basis_is_orthonormal_over_the_sphere():
    nodes, weights = gauss(40)
    turns = torch.arange(40, dtype=torch.float64) * 2 * math.pi / 40
    sines = torch.sqrt(1 - nodes**2)
    directions = torch.stack([(sines[:, None] * turns.cos()).flatten(), (sines[:, None] * turns.sin()).flatten(),
                              nodes.repeat_interleave(40)], 1)
    values = reference.encode(directions, torch.zeros(1600, dtype=torch.float64))
    basis = torch.complex(*values.split(WIDTH // 2, 1))
    products = basis.conj().T @ (basis * (weights.repeat_interleave(40) * 2 * math.pi / 40)[:, None])
    assert torch.allclose(products, torch.eye(len(PLACES), dtype=torch.complex128), atol=1e-12)


def gauss(count):
    """Nodes and weights on [-1, 1]: [count] float64 each."""
    return map(torch.from_numpy, np.polynomial.legendre.leggauss(count))


def lobe_mean(directions, spread):
    """The plain harmonics averaged over von Mises-Fisher lobes by brute force: [N, WIDTH]."""
    nodes, weights = gauss(200)
    turns = torch.arange(64, dtype=torch.float64) * 2 * math.pi / 64
    means = []
    for direction, kappa in zip(directions, 1 / spread):
        low = max(-1.0, 1.0 - 40.0 / float(kappa))  # where e^-40 of the light is left
        cosines = low + (nodes + 1) * (1 - low) / 2
        density = torch.exp(kappa * (cosines - 1)) * weights
        across = torch.linalg.qr(torch.cat([direction[:, None], torch.eye(3, dtype=torch.float64)[:, :2]], 1))[0][:, 1:]
        ring = across @ torch.stack([turns.cos(), turns.sin()])  # [3, 64]
        places = cosines[:, None, None] * direction + torch.sqrt(1 - cosines**2)[:, None, None] * ring.T  # [200, 64, 3]
        values = reference.encode(places.reshape(-1, 3), torch.zeros(200 * 64, dtype=torch.float64)).view(200, 64, WIDTH)
        means.append((values.mean(1) * (density / density.sum())[:, None]).sum(0))
    return torch.stack(means)


def test_a_lobes_mean_is_that_of_numerical_integration_but_for_the_known_errors():
    directions = some_directions(4).double()[[0, 1, 2, 3] * 5]
    spread = torch.logspace(-4, 1, 20, dtype=torch.float64)
    values, truth = reference.encode(directions, spread), lobe_mean(directions, spread)
    sharp = reference.encode(directions, torch.zeros_like(spread))
    errors = {}
    for band in BANDS:
        mine = [i for i, (other, _) in enumerate(PLACES * 2) if other == band]
        apart, size = (values - truth)[:, mine].norm(dim=1), sharp[:, mine].norm(dim=1)
        errors[band] = float((apart / size).max())
    for band, allowed in {1: 0.08, 2: 0.04, 4: 0.02, 8: 0.02, 16: 0.02}.items():
        assert 0.2 * allowed < errors[band] + 0.01 and errors[band] < allowed, errors  # known, so neither more nor nothing


def test_a_sharp_lobe_is_the_direction_itself_and_a_wide_one_is_nothing():
    directions = some_directions(30)
    sharp = reference.encode(directions, torch.zeros(30, dtype=torch.float64))
    assert torch.allclose(reference.encode(directions, torch.full((30,), 1e-9, dtype=torch.float64)), sharp, atol=1e-6)
    assert reference.encode(directions, torch.full((30,), 1e3, dtype=torch.float64)).abs().max() < 1e-12


def test_gradients_are_those_of_finite_differences():
    directions, spread = some_directions(2).requires_grad_(), (0.1 * torch.rand(2, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(reference.encode, (directions, spread))


@pytest.mark.parametrize("backend", runnable(directional.IMPLEMENTATIONS))
@pytest.mark.parametrize("count", [1, 16, 77, 0])
def test_every_backend_agrees_with_the_reference(backend, count):
    inputs = {"directions": some_directions(count).float(), "spread": 0.1 * torch.rand(count)}
    truth = value_and_gradients(reference.encode, {name: value.double() for name, value in inputs.items()})
    for name, value in value_and_gradients(directional.IMPLEMENTATIONS[backend]().encode, inputs).items():
        assert_close(value, truth[name], name, tolerance=2e-5)  # sixteenth powers and sums that cancel


def test_straight_up_and_down_are_like_any_other_direction():
    poles = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    for name, value in value_and_gradients(reference.encode, {"directions": poles, "spread": torch.tensor([0.0, 0.1])}).items():
        assert value.isfinite().all(), name
