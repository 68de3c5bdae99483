import dataclasses

import pytest
import torch

from nerf_app.sampling.draws import Draws
from nerf_app.sampling.uniform import resample, spread_evenly
from tests.analytic import BOX, UNBOUNDED, crossing_rays, free_rays, reference_ops


def draws_or_none(is_random, step=0):
    return Draws(reference_ops(), 0, step) if is_random else None


def some_weights(n_rays, count):
    """Few large ones, as a surface gives: [n_rays · count], at most 1 in sum over a ray."""
    weights = torch.rand(n_rays, count) ** 6
    return (weights / weights.sum(1, keepdim=True) * torch.rand(n_rays, 1)).view(-1)


def check_cover(rays, samples, space):
    """Intervals of a ray lie end to end from its first distance to its last."""
    near, far = space.limits(rays.origins, rays.directions)
    starts, ends = samples.t_starts.view(rays.count, -1), samples.t_ends.view(rays.count, -1)
    assert torch.equal(starts[:, 1:], ends[:, :-1])
    assert (ends >= starts).all()
    assert torch.allclose(starts[:, 0], near, rtol=1e-5) and torch.allclose(ends[:, -1], far, rtol=1e-4)
    assert torch.equal(samples.ray_indices, torch.arange(rays.count).repeat_interleave(starts.shape[1]))
    assert torch.equal(samples.ray_starts, torch.arange(rays.count) * starts.shape[1])
    assert (samples.ray_counts == starts.shape[1]).all()


@pytest.mark.parametrize("space", [BOX, UNBOUNDED])
@pytest.mark.parametrize("is_random", [True, False])
@pytest.mark.parametrize("count", [1, 2, 64])
def test_both_passes_cover_each_rays_way_without_gap_or_overlap(space, is_random, count):
    rays = crossing_rays(40)
    first = spread_evenly(rays, space, count, draws_or_none(is_random))
    assert len(first.t_starts) == 40 * count
    check_cover(rays, first, space)
    second = resample(rays, first, some_weights(40, count), 33, draws_or_none(is_random))
    assert len(second.t_starts) == 40 * (count + 33)
    check_cover(rays, second, space)
    borders = torch.cat([second.t_starts.view(40, -1), second.t_ends.view(40, -1)[:, -1:]], 1)
    assert all(torch.isin(first.t_starts.view(40, -1)[ray], borders[ray]).all() for ray in range(40))


def test_without_draws_steps_are_equal_on_the_lattice():
    for space in (BOX, UNBOUNDED):
        samples = spread_evenly(crossing_rays(10), space, 32, None)
        steps = (space.lattice_at(samples.t_ends) - space.lattice_at(samples.t_starts)).view(10, 32)
        assert torch.allclose(steps, steps[:, :1].expand_as(steps), atol=1e-4)


def test_a_random_border_lies_evenly_around_its_place():
    rays = free_rays(torch.tensor([[0.0, 0.0, -1.0]]).expand(5000, 3), torch.tensor([[0.0, 0.0, 1.0]]).expand(5000, 3))
    borders = spread_evenly(rays, BOX, 10, draws_or_none(True)).t_starts.view(5000, 10)[:, 1:]
    step = (2.0 - 0.05) / 10
    places = 0.05 + step * torch.arange(1, 10)
    parts = (borders - places) / step
    assert (parts.abs() <= 0.5001).all()
    assert parts.mean(0).abs().max() < 5 * 0.289 / 5000**0.5
    assert (parts.var(0) - 1 / 12).abs().max() < 0.005


def test_new_borders_come_in_proportion_to_the_weights():
    rays = free_rays(torch.tensor([[0.0, 0.0, -1.0]]).expand(500, 3), torch.tensor([[0.0, 0.0, 1.0]]).expand(500, 3))
    old = spread_evenly(rays, BOX, 8, None)
    weights = torch.tensor([0.0, 0.05, 0.0, 0.4, 0.2, 0.0, 0.1, 0.05])
    for draws, tolerance in ((draws_or_none(True), 0.004), (None, 1 / 40)):
        new = resample(rays, old, weights.repeat(500), 40, draws)
        borders = torch.cat([new.t_starts.view(500, -1), new.t_ends.view(500, -1)[:, -1:]], 1)
        edges = torch.cat([old.t_starts[:8], old.t_ends[7:8]])
        inside = torch.bucketize(borders, edges) - 1  # a border on an edge, old or new, falls to the interval before it
        counts = torch.bincount(inside.reshape(-1) + 1, minlength=9)[1:] - 500  # without the old ones
        share = counts / (500 * 40)
        assert torch.allclose(share, weights / weights.sum(), atol=tolerance)
        middle = borders[(borders > edges[3]) & (borders < edges[4])]
        assert abs(float(middle.mean()) - float(0.5 * (edges[3] + edges[4]))) < 0.002  # evenly inside an interval


def test_where_nothing_was_seen_new_borders_come_evenly():
    rays = crossing_rays(7)
    old = spread_evenly(rays, BOX, 4, None)
    new = resample(rays, old, torch.zeros(28), 4, None)
    lengths = (new.t_ends - new.t_starts).view(7, 8)
    assert torch.allclose(lengths, lengths.mean(1, keepdim=True).expand_as(lengths), rtol=1e-3)


def test_nothing_flows_back_through_the_weights():
    rays, weights = crossing_rays(5), some_weights(5, 16).requires_grad_()
    samples = resample(rays, spread_evenly(rays, BOX, 16, None), weights, 8, None)
    assert not samples.t_starts.requires_grad and not samples.t_ends.requires_grad


def test_rays_that_miss_the_box_or_are_not_valid_have_intervals_without_length():
    outside = free_rays(torch.tensor([[0.0, 0.0, 5.0], [3.0, 0.0, 0.0], [0.0, 0.0, -5.0], [0.0, 0.0, -5.0]]),
                        torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))
    rays = dataclasses.replace(outside, is_valid=torch.tensor([True, True, False, True]))
    for draws in (draws_or_none(True), None):
        samples = spread_evenly(rays, BOX, 6, draws)
        samples = resample(rays, samples, torch.rand(24), 3, draws)
        lengths = (samples.t_ends - samples.t_starts).view(4, 9).sum(1)
        assert torch.allclose(lengths, torch.tensor([0.0, 0.0, 0.0, 2.0]))
        assert samples.positions(rays).isfinite().all()
