import dataclasses
import math

import pytest
import torch

from nerf_app.sampling import occupancy
from nerf_app.sampling.draws import Draws
from nerf_app.sampling.occupancy import UNSEEN, OccupancyGrid, OccupancySampler
from nerf_app.sampling.settings import SamplingSettings
from tests.analytic import BOX, UNBOUNDED, crossing_rays, reference_ops

SIZE = 12


def make_grid(space=BOX, size=SIZE, steps=64):
    """At its full resolution."""
    grid = OccupancyGrid(SamplingSettings(grid_resolution=size, steps=steps), space, reference_ops())
    grid.grow(1000)
    return grid


def refresh(grid, density_fn, count, times, seed=0):
    for turn in range(times):
        grid.refresh(density_fn, Draws(grid.ops, seed, turn), turn, count)


def cells_of(unit, size=SIZE):
    """[N, 3] in the unit cube -> [N] flat z, y, x."""
    x, y, z = (unit * size).long().clamp(0, size - 1).unbind(1)
    return x + size * (y + size * z)


def centres(size=SIZE):
    """[size³, 3] in the unit cube, in the order of the flat grid."""
    places = (torch.arange(size) + 0.5) / size
    z, y, x = torch.meshgrid(places, places, places, indexing="ij")
    return torch.stack([x, y, z], -1).view(-1, 3)


@pytest.mark.parametrize("size, count", [(12, 500), (16, 512), (5, 1), (10, 10_000)])
def test_every_cell_is_asked_exactly_once_in_a_round(size, count):
    grid, asked = make_grid(size=size), []

    def density_fn(unit):
        asked.append(cells_of(unit, size))
        return torch.zeros(len(unit))

    refresh(grid, density_fn, count, times=-(-2 * size**3 // min(count, size**3)))
    rounds = torch.cat(asked)[:2 * size**3].view(2, -1)
    assert torch.equal(rounds.sort(1).values, torch.arange(size**3).expand(2, -1))


def test_a_refresh_keeps_the_optical_depth_of_a_step_at_the_asked_place():
    grid = make_grid()
    refresh(grid, lambda unit: unit[:, 0] + 10 * unit[:, 1] + 100 * unit[:, 2], SIZE**3, times=1)
    step = 2 * math.sqrt(3) / 64
    truth = (centres() @ torch.tensor([1.0, 10.0, 100.0])).view(SIZE, SIZE, SIZE)
    assert (grid.values / step - truth).abs().max() <= 111 / SIZE / 2


@pytest.mark.parametrize("count", [SIZE**3, 300, 8])
def test_a_ball_marks_its_cells_and_no_others_however_long_a_round_takes(count):
    grid = make_grid()
    per_step = grid.step_length

    def density_fn(unit):
        return (1.0 / per_step) * ((2 * unit - 1).norm(dim=1) < 0.6)

    refresh(grid, density_fn, count, times=-(-3 * SIZE**3 // count))
    distances = (2 * centres() - 1).norm(dim=1).view(SIZE, SIZE, SIZE)
    half_diagonal = math.sqrt(3) / SIZE
    assert grid.occupied[distances < 0.6 - half_diagonal].all()
    assert not grid.occupied[distances > 0.6 + half_diagonal].any()


def test_a_ball_far_out_in_contracted_space_marks_its_cells():
    grid = make_grid(UNBOUNDED, size=16)
    centre = UNBOUNDED.to_unit(torch.tensor([[30.0, 0.0, 0.0]]))

    def density_fn(unit):
        return 1.0 * ((unit - centre).norm(dim=1) < 0.15)  # thin per unit, but steps are long out there

    refresh(grid, density_fn, 16**3, times=1)
    is_inside = ((centres(16) - centre).norm(dim=1) < 0.1).view(16, 16, 16)
    assert is_inside.any() and grid.occupied[is_inside].all()
    assert grid.occupied.float().mean() < 0.05


def test_the_longer_a_field_was_learned_the_longer_its_thinnest_parts_are_remembered():
    """A thread that one look in a thousand meets: found once, it stays for an eighth of all looks so far, at least."""
    for refreshes in (500, 4000):
        grid = make_grid(size=5)
        grid.refresh(lambda unit: torch.full((len(unit),), 20.0), Draws(grid.ops, 0, 0), refreshes, 5**3)
        for turn in range(refreshes // 8):
            grid.refresh(lambda unit: torch.zeros(len(unit)), Draws(grid.ops, 0, turn), refreshes + turn, 5**3)
        assert grid.values == pytest.approx(torch.full((5, 5, 5), 20.0 * grid.step_length * (8 / 9) ** 8), rel=0.02)


def test_cells_that_were_never_asked_count_as_occupied():
    grid = make_grid()
    assert grid.occupied.all()
    refresh(grid, lambda unit: torch.zeros(len(unit)), SIZE**3 // 2, times=1)
    assert int(grid.occupied.sum()) == SIZE**3 // 2


@pytest.mark.parametrize("cells", [4, 16, 32])
def test_closed_space_is_empty_at_every_resolution_and_is_never_asked(cells):
    grid, asked = OccupancyGrid(SamplingSettings(grid_resolution=16), BOX, reference_ops()), []
    is_open = torch.zeros(cells, cells, cells, dtype=torch.bool)
    is_open[:, :cells // 2] = True  # the lower half along y
    grid.restrict(is_open)
    for turn, steps in enumerate((0, 300, 1000, 1001)):
        grid.grow(steps)
        size = len(grid.values)
        assert torch.equal(grid.occupied, torch.zeros_like(grid.occupied).index_fill(1, torch.arange(size // 2), True))
        grid.refresh(lambda unit: asked.append(unit) or torch.full((len(unit),), 100.0), Draws(grid.ops, 0, turn), turn, 100)
    assert (torch.cat(asked)[:, 1] < 0.5).all()
    grid.load(torch.full((16, 16, 16), UNSEEN))
    assert not grid.occupied[:, 8:].any() and grid.occupied[:, :8].all()


def test_space_that_is_seen_a_little_stays_open_in_a_coarser_grid():
    grid = make_grid(size=8)
    is_open = torch.zeros(64, 64, 64, dtype=torch.bool)
    is_open[9, 17, 33] = True
    grid.restrict(is_open)
    assert grid.occupied.nonzero().tolist() == [[1, 2, 4]]


def test_what_disappears_from_the_field_disappears_from_the_grid():
    grid = make_grid()
    refresh(grid, lambda unit: torch.full((len(unit),), 100.0), SIZE**3, times=1)
    refresh(grid, lambda unit: torch.zeros(len(unit)) + 100.0 * (unit[:, 0] < 0.5), SIZE**3, times=600)
    assert grid.occupied[:, :, :SIZE // 2].all() and not grid.occupied[:, :, SIZE // 2:].any()


@pytest.mark.parametrize("full, sizes", [(16, [4, 4, 8, 8, 16, 16]), (10, [10] * 6)])
def test_a_grid_grows_with_the_steps_where_its_size_can_be_halved_twice(full, sizes):
    grid = OccupancyGrid(SamplingSettings(grid_resolution=full), BOX, reference_ops())
    found = []
    for steps in (0, 299, 300, 799, 800, 1000):
        grid.grow(steps)
        found.append(len(grid.values))
    assert found == sizes


def test_a_growing_grid_stays_the_same_in_every_place():
    grid = OccupancyGrid(SamplingSettings(grid_resolution=16), BOX, reference_ops())
    grid.load(torch.rand(4, 4, 4) ** 8 - 0.1)
    coarse, marks = grid.values, grid.occupied
    grid.grow(1000)
    places = centres(16)
    assert torch.equal(grid.values.view(-1), coarse.view(-1)[cells_of(places, 4)])
    assert torch.equal(grid.occupied.view(-1), marks.view(-1)[cells_of(places, 4)])


def test_a_loaded_grid_marks_the_same_cells():
    grid, other = make_grid(), make_grid()
    refresh(grid, lambda unit: torch.rand(len(unit)) ** 8, 700, times=2)
    other.load(grid.values)
    assert 0.1 < grid.occupied.float().mean() < 0.9
    assert torch.equal(other.occupied, grid.occupied)
    assert other.values.data_ptr() != grid.values.data_ptr()


def stripes(unit):
    """[N, 3] in the unit cube -> [N] per scene unit; all axes differ."""
    return 3.0 * (torch.sin(unit @ torch.tensor([40.0, 55.0, 35.0])) > 0.9) + 0.02 * unit[:, 0]


@pytest.mark.parametrize("space", [BOX, UNBOUNDED])
@pytest.mark.parametrize("cap", [0.1, 100.0])
def test_halves_of_cells_that_count_are_kept_where_one_of_their_eighths_is_full(space, cap):
    grid = make_grid(space)
    refresh(grid, stripes, SIZE**3, times=3)
    assert grid.sharpened is None
    values = torch.where(torch.arange(SIZE) % 4 == 1, 0.0, grid.values)  # cells that do not count are not asked
    grid.load(values, cap)
    coarse, enough = grid.occupied, 0.5 * min(cap, 0.5 * float(values.mean()))
    grid.sharpen(stripes)
    lengths = space.step_length(space.from_unit(centres(4 * SIZE)), grid.step_length)
    is_full = (stripes(centres(4 * SIZE)) * lengths > enough).view(2 * SIZE, 2, 2 * SIZE, 2, 2 * SIZE, 2).amax((1, 3, 5))
    expected = is_full & coarse.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.equal(grid.sharpened, expected) and 0 < expected.sum() < 8 * coarse.sum()
    grid.sharpen(stripes)
    assert torch.equal(grid.sharpened, expected), "once is all"
    again = make_grid(space)
    again.load(grid.values, cap, grid.sharpened)
    assert torch.equal(again.occupied, expected)
    refresh(grid, stripes, 1, times=1)
    assert grid.sharpened is None and len(grid.occupied) == SIZE


def test_of_an_empty_grid_nothing_is_left():
    grid = make_grid()
    grid.load(torch.zeros_like(grid.values))
    grid.sharpen(stripes)
    assert not grid.sharpened.any()


def test_cells_that_are_small_enough_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(occupancy, "SHARPEST", 2 * SIZE - 1)
    grid = make_grid()
    grid.sharpen(lambda unit: pytest.fail("they are asked"))
    assert grid.sharpened is None


@pytest.mark.parametrize("space", [BOX, UNBOUNDED])
@pytest.mark.parametrize("is_jittered", [True, False])
def test_samples_lie_in_occupied_cells_only_and_in_all_that_a_ray_crosses(space, is_jittered):
    grid = make_grid(space, steps=512)
    grid.occupied = torch.rand(SIZE, SIZE, SIZE) < 0.3
    rays = crossing_rays(50)
    samples = OccupancySampler(grid).sample(rays, Draws(grid.ops, 0, 0) if is_jittered else None)
    found = cells_of(space.to_unit(samples.positions(rays)))
    assert grid.occupied.view(-1)[found].float().mean() > 0.999  # a middle may round over a border
    near, far = space.limits(rays.origins, rays.directions)
    for ray in range(rays.count):
        s = torch.linspace(float(space.lattice_at(near[ray])), float(space.lattice_at(far[ray])), 4000)
        crossed = cells_of(space.to_unit(rays.origins[ray] + space.distance_at(s)[:, None] * rays.directions[ray]))
        cells, visits = crossed[grid.occupied.view(-1)[crossed]].unique(return_counts=True)
        length = visits * float(s[1] - s[0])  # on the lattice
        mine = found[samples.ray_indices == ray]
        assert torch.isin(cells[length > 2.5 * grid.step_length], mine).all()


def test_the_lattice_is_shifted_from_step_to_step_and_still_when_rendering():
    grid, rays = make_grid(), crossing_rays(10)
    sampler = OccupancySampler(grid)
    assert torch.equal(sampler.sample(rays, None).t_starts, sampler.sample(rays, None).t_starts)
    starts = [sampler.sample(rays, Draws(grid.ops, 0, step)) for step in (0, 1, 0)]
    firsts = [samples.t_starts[samples.ray_starts] for samples in starts]
    assert torch.equal(firsts[0], firsts[2])
    assert (firsts[0] != firsts[1]).all()
    near, _ = BOX.limits(rays.origins, rays.directions)
    assert ((firsts[0] >= near) & (firsts[0] <= near + grid.step_length)).all()


def test_rays_that_the_lens_does_not_vouch_for_get_no_samples():
    rays = crossing_rays(6)
    rays = dataclasses.replace(rays, is_valid=torch.tensor([True, False] * 3))
    samples = OccupancySampler(make_grid()).sample(rays, None)
    assert torch.equal(samples.ray_counts > 0, rays.is_valid)


def test_no_sample_of_a_coarse_lattice_ends_beyond_the_far_end():
    samples = OccupancySampler(make_grid(UNBOUNDED, steps=16)).sample(crossing_rays(20), None)
    assert float(samples.t_ends.max()) <= 200.0
