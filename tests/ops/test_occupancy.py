import pytest
import torch

from nerf_app.ops import occupancy
from nerf_app.ops.occupancy import reference
from tests.parity import assert_close, runnable


def some_visits(count, size=7):
    """A grid with cells nobody asked yet (below zero), and `count` visits, some of them to the same cells."""
    return torch.rand(size, size, size) - 0.3, torch.randint(size**3, (count,)), torch.rand(count)


@pytest.mark.parametrize("count", [0, 1, 500])
def test_a_refresh_is_a_fading_and_a_maximum_over_each_visit(count):
    grid, cells, densities = some_visits(count)
    truth = (grid * 0.95).flatten().tolist()
    for cell, density in zip(cells.tolist(), densities.tolist(), strict=True):
        truth[cell] = max(truth[cell], density)
    reference.refresh(grid, cells, densities)
    assert torch.equal(grid.flatten(), torch.tensor(truth))


@pytest.mark.parametrize("backend", runnable(occupancy.IMPLEMENTATIONS))
@pytest.mark.parametrize("count", [0, 1, 77])
def test_every_backend_agrees_with_the_reference(backend, count):
    grid, cells, densities = some_visits(count)
    truth = grid.clone()
    reference.refresh(truth, cells, densities, 0.8)
    occupancy.IMPLEMENTATIONS[backend]().refresh(grid, cells, densities, 0.8)
    assert_close(grid, truth, "grid")


@pytest.mark.parametrize("backend", runnable(occupancy.IMPLEMENTATIONS))
@pytest.mark.parametrize("size, cap", [(1, 0.01), (5, 0.01), (33, 10.0), (33, 0.2)])
def test_a_cell_is_marked_above_half_the_mean_or_the_cap_and_where_nothing_is_known(backend, size, cap):
    grid = torch.rand(size, size, size) ** 4
    grid[torch.rand(size, size, size) < 0.2] = -1.0
    known = grid[grid >= 0]
    threshold = min(cap, 0.5 * float(known.double().mean())) if len(known) else 0.0
    marked = occupancy.IMPLEMENTATIONS[backend]().mark(grid, cap)
    clear = (grid - threshold).abs() > 1e-6  # of those at the threshold itself rounding decides
    assert torch.equal(marked[clear], ((grid > threshold) | (grid < 0))[clear])


@pytest.mark.parametrize("backend", runnable(occupancy.IMPLEMENTATIONS))
def test_a_density_that_is_no_number_changes_nothing(backend):
    grid, cells, densities = some_visits(200)
    truth = grid * 0.9
    occupancy.IMPLEMENTATIONS[backend]().refresh(grid, cells, torch.full_like(densities, float("nan")), 0.9)
    assert torch.equal(grid, truth)
