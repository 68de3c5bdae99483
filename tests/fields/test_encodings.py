import math

import pytest
import torch

from nerf_app.fields.encodings import Frequency, GaussianFourier, HashGrid, SphericalHarmonics
from nerf_app.fields.encodings.hashgrid import hash_levels, table_shape
from nerf_app.fields.settings import HashGridSettings
from tests.analytic import reference_ops


@pytest.mark.parametrize("dimensions, octaves", [(3, 10), (2, 4), (1, 1), (3, 0)])
def test_octaves_are_sines_and_cosines_of_doubling_angles(dimensions, octaves):
    x = 2.0 * torch.rand(20, dimensions, dtype=torch.float64) - 1.0
    encoding = Frequency(dimensions, octaves)
    values = encoding(x)
    assert values.shape == (20, encoding.width)
    for n in range(20):
        point = x[n].tolist()
        sines = [math.sin(2**k * p) for k in range(octaves) for p in point]
        cosines = [math.cos(2**k * p) for k in range(octaves) for p in point]
        assert values[n].tolist() == pytest.approx(point + sines + cosines, abs=1e-12)


def test_gaussian_features_are_sines_and_cosines_of_their_directions():
    encoding, x = GaussianFourier.random(3, 5, 2.0, seed=1), torch.rand(7, 3, dtype=torch.float64)
    truth = [[fn(2 * math.pi * sum(b * p for b, p in zip(row, point, strict=True))) for fn in (math.sin, math.cos)
              for row in encoding.directions.tolist()] for point in x.tolist()]
    assert encoding(x).shape == (7, encoding.width) == (7, 10)
    assert torch.allclose(encoding(x), torch.tensor(truth, dtype=torch.float64))


@pytest.mark.parametrize("sigma", [0.2, 1.0])
def test_products_of_gaussian_features_are_a_gaussian_of_the_distance(sigma):
    m = 100_000
    encoding = GaussianFourier.random(3, m, sigma, seed=0)
    x, shift = torch.rand(1, 3), torch.nn.functional.normalize(torch.randn(9, 3), dim=1)
    y = x + shift * torch.linspace(0.0, 0.8, 9)[:, None] / sigma
    products = (encoding(x) * encoding(y)).sum(1) / m
    kernel = torch.exp(-2.0 * math.pi**2 * sigma**2 * (x - y).square().sum(1))
    assert (products - kernel).abs().max() < 5.0 * math.sqrt(0.5 / m)  # five deviations of a mean of cosines


def test_gaussian_directions_come_from_their_seed_alone():
    first = GaussianFourier.random(3, 8, 4.0, seed=0).directions
    torch.rand(5)
    assert torch.equal(GaussianFourier.random(3, 8, 4.0, seed=0).directions, first)
    assert not torch.equal(GaussianFourier.random(3, 8, 4.0, seed=1).directions, first)


def test_the_direction_encoding_is_the_op_and_says_its_width():
    ops = reference_ops()
    directions = torch.nn.functional.normalize(torch.randn(11, 3), dim=1)
    encoding = SphericalHarmonics(ops.spherical_harmonics)
    assert torch.equal(encoding(directions), ops.spherical_harmonics.spherical_harmonics(directions))
    assert encoding(directions).shape == (11, encoding.width)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_hash_grid_is_the_op_over_a_table_of_the_promised_shape(dimensions):
    settings = HashGridSettings(levels=5, features=2, coarsest=4, finest=40, log2_entries=9)
    table = torch.randn(table_shape(settings, dimensions), requires_grad=True)
    encoding = HashGrid(reference_ops().hashgrid, table, hash_levels(settings, dimensions))
    assert [level.entries for level in encoding.levels][-1] == 512 and encoding.levels[-1].first + 512 == len(table)
    x = torch.rand(13, dimensions, requires_grad=True)
    values = encoding(x)
    assert values.shape == (13, encoding.width) == (13, 10)
    values.sum().backward()
    assert x.grad.abs().min() > 0 and table.grad.abs().max() > 0


@pytest.mark.parametrize("encoding", [Frequency(3, 4), Frequency(3, 0), GaussianFourier.random(3, 6, 1.0, seed=0)])
def test_there_may_be_no_points(encoding):
    assert encoding(torch.zeros(0, 3)).shape == (0, encoding.width)
