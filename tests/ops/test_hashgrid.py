import itertools
import math

import numpy as np
import pytest
import torch

from nerf_app.ops import hashgrid
from nerf_app.ops.hashgrid import level_table, reference
from tests.parity import assert_close, runnable, value_and_gradients


def a_table(levels, features, dtype=torch.float64):
    """Numbers of order 1: with ±1e-4 nothing would be proved."""
    return torch.randn(levels[-1].first + levels[-1].entries, features, dtype=dtype)


def awkward_points(levels, dimensions, count=40):
    """Random points, the corners 0 and 1, and points on the borders of cells: [N, d] float64 holding float32 numbers."""
    corners = list(itertools.product([0.0, 1.0], repeat=dimensions))
    borders = [[(cell - 0.5) / level.scale] * dimensions
               for level in levels for cell in (1, level.resolution // 2, level.resolution - 1)]
    points = torch.cat([torch.rand(count, dimensions), torch.tensor(corners), torch.tensor(borders)])
    return points.clamp(0, 1).double()


def looped(x, table, levels):
    """The features and their derivative by x, corner by corner, in Python's own integers and floats."""
    n, d = x.shape
    features = np.zeros((n, len(levels), table.shape[1]))
    jacobian = np.zeros((n, len(levels), table.shape[1], d))
    for point, (index, level) in itertools.product(range(n), enumerate(levels)):
        position = [level.scale * float(x[point, axis]) + 0.5 for axis in range(d)]
        cell = [math.floor(p) for p in position]
        for corner in itertools.product([0, 1], repeat=d):
            at = [c + k for c, k in zip(cell, corner)]
            if level.resolution**d <= level.entries:
                row = sum(a * level.resolution**axis for axis, a in enumerate(at))
            else:
                row = 0
                for a, factor in zip(at, (1, 2654435761, 805459861)):
                    row ^= a * factor % 2**32
            value = table[level.first + row % level.entries]
            parts = [p - c if k else 1 - (p - c) for p, c, k in zip(position, cell, corner)]
            features[point, index] += math.prod(parts) * value
            for axis in range(d):
                others = math.prod(part for other, part in enumerate(parts) if other != axis)
                jacobian[point, index, :, axis] += (1 if corner[axis] else -1) * level.scale * others * value
    return features.reshape(n, -1), jacobian.reshape(n, -1, d)


GRIDS = [(3, 4, 4, 40, 12), (2, 3, 5, 200, 10), (3, 1, 16, 16, 12), (2, 16, 16, 2048, 15)]  # d, L, coarsest, finest, log2 T


@pytest.mark.parametrize("dimensions, count, coarsest, finest, log2_entries", GRIDS)
def test_features_and_jacobian_agree_with_a_loop_over_corners(dimensions, count, coarsest, finest, log2_entries):
    levels = level_table(count, coarsest, finest, log2_entries, dimensions)
    x, table = awkward_points(levels, dimensions), a_table(levels, 3)
    features, jacobian = looped(x.numpy(), table.numpy(), levels)
    scale = max(level.scale for level in levels)
    assert np.abs(reference.encode(x, table, levels).numpy() - features).max() < 1e-12
    also_features, also_jacobian = reference.encode_with_jacobian(x, table, levels)
    assert torch.equal(also_features, reference.encode(x, table, levels))
    assert np.abs(also_jacobian.numpy() - jacobian).max() < 1e-12 * scale


def test_the_grids_under_test_have_dense_and_hashed_levels():
    dense = {level.is_dense for grid in GRIDS for level in level_table(*grid[1:], grid[0])}
    assert dense == {True, False}


def test_a_corner_beyond_the_last_grid_point_wraps_to_the_start_of_the_table():
    (level,) = level_table(1, 16, 16, 12, 3)
    assert (level.resolution, level.entries, level.is_dense) == (16, 4096, True)
    rows = reference._corner_rows(torch.tensor([[15, 15, 15]]), level)[0]
    assert rows.tolist() == [4095, 0, 15, 16, 255, 256, 271, 272]  # unwrapped: 4095, 4096, 4111, ... 4368


@pytest.mark.parametrize("backend", runnable(hashgrid.IMPLEMENTATIONS))
@pytest.mark.parametrize("dimensions, count, coarsest, finest, log2_entries", GRIDS)
def test_float32_is_as_exact_as_its_digits_allow(backend, dimensions, count, coarsest, finest, log2_entries):
    levels = level_table(count, coarsest, finest, log2_entries, dimensions)
    x, table = awkward_points(levels, dimensions, 1000), a_table(levels, 4, torch.float32)
    truth = reference.encode(x, table.double(), levels)
    value = hashgrid.IMPLEMENTATIONS[backend]().encode(x.float(), table, levels)
    apart = (value - truth).abs().view(len(x), len(levels), 4).amax((0, 2))
    for level, worst in zip(levels, apart.tolist()):
        assert worst <= 2**-22 * level.resolution * float(table.abs().max()), level


@pytest.mark.parametrize("backend", runnable(hashgrid.IMPLEMENTATIONS))
@pytest.mark.parametrize("dimensions, points", [(3, 1), (3, 257), (2, 63), (3, 0)])
def test_every_backend_agrees_with_the_reference(backend, dimensions, points):
    levels = level_table(4, 4, 60, 12, dimensions)
    inside = 0.05 + 0.9 * torch.rand(points, dimensions, dtype=torch.float64)  # the Jacobian jumps at borders: stay off them
    distance = torch.stack([(inside * level.scale + 0.5) % 1 for level in levels]).sub(0.5).abs().amax((0, 2))
    inputs = {"x": inside[distance < 0.499].float(), "table": a_table(levels, 4, torch.float32)}
    for name in ("encode", "encode_with_jacobian"):
        truth = value_and_gradients(getattr(reference, name), {k: v.double() for k, v in inputs.items()}, levels=levels)
        op = getattr(hashgrid.IMPLEMENTATIONS[backend](), name)
        for key, value in value_and_gradients(op, inputs, levels=levels).items():
            assert_close(value, truth[key], f"{name} {key}", tolerance=2**-22 * levels[-1].resolution)


@pytest.mark.parametrize("backend", runnable(hashgrid.IMPLEMENTATIONS))
@pytest.mark.parametrize("dimensions, points", [(3, 257), (2, 63), (3, 0)])
def test_what_is_pulled_back_and_its_gradients_are_those_of_differentiating_twice(backend, dimensions, points):
    levels = level_table(4, 4, 60, 12, dimensions)
    x, table = torch.rand(points, dimensions), a_table(levels, 4, torch.float32)
    d_features, cotangent = torch.randn(points, 16), torch.randn(points, dimensions)

    def gradients(pull_back, *given):
        *given, turned = [value.clone().requires_grad_() for value in given]
        d_x = pull_back(*given, turned)
        return d_x, *torch.autograd.grad((d_x * cotangent.to(d_x)).sum(), [given[1], turned])

    def twice(x, d_features, table):
        return torch.autograd.grad(reference.encode(x, table, levels), x, d_features, create_graph=True)[0]

    def by_op(x, d_features, table):
        return hashgrid.IMPLEMENTATIONS[backend]().pull_back(x, d_features, table, levels)
    truth = gradients(twice, x.double(), d_features.double(), table.double())
    found = gradients(by_op, x, d_features, table)
    for name, value, true in zip(("d_x", "by d_features", "by table"), found, truth, strict=True):
        assert_close(value, true, name, tolerance=2**-22 * levels[-1].resolution)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_gradients_by_table_and_position_are_those_of_finite_differences(dimensions):
    levels = level_table(2, 3, 9, 6, dimensions)
    assert {level.is_dense for level in levels} == {True, False}
    x = torch.rand(50, dimensions, dtype=torch.float64)
    distance = torch.stack([(x * level.scale + 0.5) % 1 for level in levels]).sub(0.5).abs().amax((0, 2))
    x = x[distance < 0.45][:4].requires_grad_()
    table = a_table(levels, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, table: reference.encode(x, table, levels), (x, table))
    assert torch.autograd.gradcheck(lambda x, table: reference.encode_with_jacobian(x, table, levels), (x, table))


def test_the_jacobian_is_what_autograd_finds_for_the_features():
    levels = level_table(4, 4, 60, 12, 3)
    x, table = torch.rand(20, 3, dtype=torch.float64), a_table(levels, 2)
    truth = torch.autograd.functional.jacobian(lambda x: reference.encode(x, table, levels).sum(0), x).permute(1, 0, 2)
    assert_close(reference.encode_with_jacobian(x, table, levels)[1], truth, "jacobian")


def test_two_threads_give_the_same_bits_every_time():
    levels = level_table(8, 16, 512, 14, 3)
    inputs = {"x": torch.rand(5000, 3), "table": a_table(levels, 4, torch.float32)}
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        runs = [value_and_gradients(reference.encode, inputs, levels=levels) for _ in range(3)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(run[name], runs[0][name]) for run in runs for name in run)


def test_sixteen_levels_from_16_to_2048_end_at_exactly_2048():
    levels = level_table(16, 16, 2048, 19, 3)
    assert (levels[0].resolution, levels[0].scale, levels[0].entries) == (16, 15.0, 4096)
    assert levels[-1].resolution == 2048
    assert all(level.scale == float(np.float32(level.scale)) for level in levels)


def test_levels_lie_one_after_the_other_in_multiples_of_eight_rows():
    levels = level_table(16, 16, 2048, 19, 3)
    assert [level.first for level in levels] == [sum(other.entries for other in levels[:i]) for i in range(16)]
    for level in levels:
        assert level.entries % 8 == 0
        assert level.is_dense == (level.resolution**3 <= 2**19)
        assert level.entries - level.resolution**3 < 8 if level.is_dense else level.entries == 2**19


@pytest.mark.parametrize("backend", runnable(hashgrid.IMPLEMENTATIONS)[1:])  # torch looks after its own indices
@pytest.mark.parametrize("x", [float("nan"), float("inf"), -float("inf"), -40.0, -0.5, 1.5, 300.0])
def test_a_place_outside_of_the_cube_leads_to_no_foreign_memory(backend, x):
    levels = level_table(3, 4, 30, 10, 3)
    table = torch.ones(levels[-1].first + levels[-1].entries, 4).requires_grad_()
    features = hashgrid.IMPLEMENTATIONS[backend]().encode(torch.full((70, 3), x), table, levels)
    (gradient,) = torch.autograd.grad(features.nan_to_num().sum(), table)
    assert features.nan_to_num(1.0).abs().max() < 1e9 and gradient.shape == table.shape
