import math

import numpy as np
import pytest
import torch

from nerf_app.ops import composite
from nerf_app.ops.composite import reference
from tests.parity import assert_close, runnable, value_and_gradients


def random_samples(n_rays, n_samples, unused=0):
    """Samples spread at random over the rays, some rays without any, with gaps between them."""
    counts = torch.bincount(torch.randint(n_rays, (n_samples,)), minlength=n_rays)
    rays = torch.arange(n_rays).repeat_interleave(counts)
    lengths, gaps = 0.2 * torch.rand(2, n_samples)
    running = (lengths + gaps).cumsum(0)
    before = torch.cat([torch.zeros(1), running])[counts.cumsum(0) - counts][rays]  # each ray begins anew
    t_ends = running - before + 0.5
    inputs = {"density": 10 * torch.rand(n_samples), "t_starts": t_ends - lengths, "t_ends": t_ends, "ray_indices": rays}
    fillers = {"density": 3.0, "t_starts": 0.0, "t_ends": 0.0, "ray_indices": n_rays}  # density of an unused entry: anything
    return {name: torch.cat([value, torch.full((unused,), fillers[name], dtype=value.dtype)]) for name, value in inputs.items()}


def doubled(inputs):
    return {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}


def fog(density, start, length, count):
    """One ray through uniform fog, cut into samples of unequal length."""
    cuts = torch.cat([torch.tensor([0.0]), torch.rand(count - 1).sort().values, torch.tensor([1.0])]).double() * length + start
    return torch.full((count,), density, dtype=torch.float64), cuts[:-1], cuts[1:], torch.zeros(count, dtype=torch.int64)


def padded(samples, n_rays):
    """Weights in float64 from a table [rays, longest]: every ray for itself, by products of what each sample lets through."""
    rays = samples["ray_indices"].numpy()
    tau = (samples["density"] * (samples["t_ends"] - samples["t_starts"])).double().numpy()
    counts = np.bincount(rays, minlength=n_rays)
    column = np.arange(len(rays)) - (np.cumsum(counts) - counts)[rays]
    table = np.zeros((n_rays, counts.max() + 1))
    table[rays, column + 1] = tau
    left = np.exp(-np.cumsum(table, 1))  # behind each sample
    left[left < reference.DARK] = 0.0
    return torch.from_numpy((left[:, :-1] * -np.expm1(-table[:, 1:]))[rays, column])


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_uniform_fog_has_the_same_opacity_for_any_number_of_samples(count):
    samples = fog(density=0.7, start=1.0, length=3.0, count=count)
    weights = reference.render_weights(*samples, 1)
    opacity = reference.accumulate(weights, torch.ones(count, 1, dtype=torch.float64), samples[-1], 1)
    assert float(opacity) == pytest.approx(1 - math.exp(-0.7 * 3.0), abs=1e-14)


def test_a_wall_takes_all_that_reaches_it_and_hides_what_is_behind():
    t = torch.arange(5, dtype=torch.float64)
    weights = reference.render_weights(torch.tensor([0.0, 0.5, 1e12, 3.0, 1e12], dtype=torch.float64), t, t + 1,
                                       torch.zeros(5, dtype=torch.int64), 1)
    thin = 1 - math.exp(-0.5)
    assert weights.tolist() == pytest.approx([0.0, thin, 1 - thin, 0.0, 0.0], abs=1e-14)


def test_a_million_packed_samples_with_walls_among_them_are_as_good_as_ray_by_ray():
    n_rays = 20_000
    samples = random_samples(n_rays, 1_000_000)
    is_wall = torch.rand(1_000_000) < 0.02
    samples["density"][is_wall] = 1e10
    weights = reference.render_weights(**samples, n_rays=n_rays)
    assert weights.dtype == torch.float32
    assert float((weights - padded(samples, n_rays)).abs().max()) < 1e-6
    opacity = reference.accumulate(weights, torch.ones(1_000_000, 1), samples["ray_indices"], n_rays)
    assert 0.99 < float(opacity.max()) < 1 + 1e-5


def test_packed_samples_are_what_padded_rays_are():
    samples = doubled(random_samples(50, 700))
    weights = reference.render_weights(**samples, n_rays=50)
    assert_close(weights, padded(samples, 50), "weights")
    values = torch.randn(700, 3, dtype=torch.float64)
    sums = reference.accumulate(weights, values, samples["ray_indices"], 50)
    for ray in range(50):
        own = samples["ray_indices"] == ray
        assert_close(sums[ray], (weights[own, None] * values[own]).sum(0), f"ray {ray}")


def test_unused_entries_change_nothing_and_get_no_gradient():
    torch.manual_seed(0)
    plain = random_samples(6, 40)
    torch.manual_seed(0)
    longer = random_samples(6, 40, unused=9)
    truth = value_and_gradients(reference.render_weights, plain, n_rays=6)
    for name, value in value_and_gradients(reference.render_weights, longer, n_rays=6).items():
        if name == "output 0":
            assert torch.equal(value[:40], truth[name])
            assert not value[40:].any()
    weights = reference.render_weights(**longer, n_rays=6).requires_grad_()
    sums = reference.accumulate(weights, torch.ones(49, 2), longer["ray_indices"], 6)
    assert_close(sums, reference.accumulate(weights[:40], torch.ones(40, 2), plain["ray_indices"], 6), "sums")
    assert not torch.autograd.grad(sums.sum(), weights)[0][40:].any()


def test_gradients_are_those_of_finite_differences():
    samples = doubled(random_samples(4, 15, unused=2))
    rays = samples.pop("ray_indices")
    leaves = [value.requires_grad_() for value in samples.values()]
    assert torch.autograd.gradcheck(lambda *inputs: reference.render_weights(*inputs, rays, 4), leaves)
    pair = torch.rand(17, dtype=torch.float64).requires_grad_(), torch.randn(17, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda *inputs: reference.accumulate(*inputs, rays, 4), pair)


def spreads_by_pairs(weights, starts, ends, rays, n_rays):
    """Every pair of samples of each ray, and each sample with itself: two places in one lie a third of its length apart."""
    spreads = torch.zeros(n_rays, dtype=torch.float64)
    for i in range(len(weights)):
        for j in range(len(weights)):
            if rays[i] == rays[j] < n_rays:
                apart = (ends[i] - starts[i]) / 3 if i == j else ((starts[i] + ends[i] - starts[j] - ends[j]) / 2).abs()
                spreads[rays[i]] += weights[i] * weights[j] * apart
    return spreads


def test_the_distortion_is_the_mean_distance_of_all_pairs():
    samples = doubled(random_samples(5, 40, unused=3))
    weights, places = torch.rand(43, dtype=torch.float64), (samples["t_starts"], samples["t_ends"], samples["ray_indices"], 5)
    assert_close(reference.distortion(weights, *places), spreads_by_pairs(weights, *places), "spread")


@pytest.mark.parametrize("count", [1, 2, 50])
def test_light_that_is_spread_evenly_lies_a_third_of_its_way_apart(count):
    t = torch.arange(count + 1, dtype=torch.float64) * 6.0 / count + 2.0
    weights = torch.full((count,), 1.0 / count, dtype=torch.float64)
    assert float(reference.distortion(weights, t[:-1], t[1:], torch.zeros(count, dtype=torch.int64), 1)) == pytest.approx(2.0)


def test_gradients_of_the_distortion_are_those_of_finite_differences():
    samples = doubled(random_samples(4, 15, unused=2))
    places = samples["t_starts"], samples["t_ends"], samples["ray_indices"], 4
    weights = torch.rand(17, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda weights: reference.distortion(weights, *places), [weights])


@pytest.mark.parametrize("count", [1, 3, 200])
@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_uniform_fog_stops_a_part_of_the_light_where_its_law_says(count, part):
    samples = fog(density=0.7, start=1.0, length=3.0, count=count)
    weights = reference.render_weights(*samples, 1)
    distance = float(reference.distance_of_light(weights, *samples[1:], 1, part))
    assert distance == pytest.approx(1.0 - math.log(1.0 - part) / 0.7, abs=1e-12)


def test_a_ray_that_keeps_half_of_its_light_stops_half_of_it_nowhere():
    samples = fog(density=0.2, start=1.0, length=3.0, count=9)
    weights = reference.render_weights(*samples, 3)
    assert reference.distance_of_light(weights, *samples[1:], 3, 0.5).isnan().all()  # one thin ray, two empty ones
    nothing = torch.zeros(0)
    assert reference.distance_of_light(nothing, nothing, nothing, nothing.long(), 2, 0.5).isnan().all()


def test_every_opaque_ray_of_many_has_its_median_in_the_sample_that_crosses_one_half():
    samples = random_samples(3000, 90_000, unused=5)
    weights = reference.render_weights(**samples, n_rays=3000)
    medians = reference.distance_of_light(weights, samples["t_starts"], samples["t_ends"], samples["ray_indices"], 3000, 0.5)
    rays = samples["ray_indices"]
    opacity = reference.accumulate(weights.double(), torch.ones(90_005, 1, dtype=torch.float64), rays, 3000)[:, 0]
    assert torch.equal(medians.isnan(), opacity < 0.5)
    before = samples["t_ends"] <= medians[rays.clamp(max=2999)] - 1e-6
    seen = reference.accumulate(weights, before[:, None].float(), rays, 3000)[:, 0]
    assert bool((seen[~medians.isnan()] <= 0.5 + 1e-6).all())


def test_a_wrong_shape_is_named():
    flat = torch.zeros(5)
    with pytest.raises(ValueError, match=r"t_ends must have shape \[S\] \(S=5 from density\), got \[5, 1\]"):
        reference.render_weights(flat, flat, flat[:, None], flat.long(), 1)


SIZES = [(1, 1), (7, 63), (64, 1000), (5, 0)]


@pytest.mark.parametrize("backend", runnable(composite.IMPLEMENTATIONS))
@pytest.mark.parametrize("n_rays, n_samples", SIZES)
def test_weights_of_every_backend_agree_with_the_reference(backend, n_rays, n_samples):
    inputs = random_samples(n_rays, n_samples, unused=3)
    truth = value_and_gradients(reference.render_weights, doubled(inputs), n_rays=n_rays)
    op = composite.IMPLEMENTATIONS[backend]().render_weights
    for name, value in value_and_gradients(op, inputs, n_rays=n_rays).items():
        assert_close(value, truth[name], name, tolerance=1e-5)  # of float32 distances, whose differences lose digits


@pytest.mark.parametrize("backend", runnable(composite.IMPLEMENTATIONS))
@pytest.mark.parametrize("count", [31, 32, 33, 65, 100])
def test_long_rays_through_haze_agree_with_the_reference(backend, count):
    inputs = random_samples(3, count, unused=2)
    inputs["density"] *= 0.01  # light is left behind the last sample
    truth = value_and_gradients(reference.render_weights, doubled(inputs), n_rays=3)
    op = composite.IMPLEMENTATIONS[backend]().render_weights
    assert (truth["output 0"][:count] > 0).all()
    for name, value in value_and_gradients(op, inputs, n_rays=3).items():
        assert_close(value, truth[name], name, tolerance=1e-5)


@pytest.mark.parametrize("backend", runnable(composite.IMPLEMENTATIONS))
@pytest.mark.parametrize("n_rays, n_samples", SIZES)
def test_sums_and_distances_of_every_backend_agree_with_the_reference(backend, n_rays, n_samples):
    samples = random_samples(n_rays, n_samples, unused=3)
    weights = reference.render_weights(**samples, n_rays=n_rays)
    inputs = {"weights": weights, "values": torch.randn(n_samples + 3, 3), "ray_indices": samples["ray_indices"]}
    truth = value_and_gradients(reference.accumulate, doubled(inputs), n_rays=n_rays)
    module = composite.IMPLEMENTATIONS[backend]()
    for name, value in value_and_gradients(module.accumulate, inputs, n_rays=n_rays).items():
        assert_close(value, truth[name], name)
    places = samples["t_starts"], samples["t_ends"], samples["ray_indices"], n_rays
    for part in (0.2, 0.5):
        distances = reference.distance_of_light(weights, *places, part)
        assert_close(module.distance_of_light(weights, *places, part), distances, f"distance of {part}", tolerance=1e-5)


@pytest.mark.parametrize("backend", runnable(composite.IMPLEMENTATIONS))
@pytest.mark.parametrize("n_rays, n_samples", SIZES)
def test_the_distortion_of_every_backend_agrees_with_the_reference(backend, n_rays, n_samples):
    samples = random_samples(n_rays, n_samples, unused=3)
    weights = reference.render_weights(**samples, n_rays=n_rays)
    inputs = {"weights": weights, "s_starts": samples["t_starts"], "s_ends": samples["t_ends"],
              "ray_indices": samples["ray_indices"]}
    truth = value_and_gradients(reference.distortion, inputs, n_rays=n_rays)
    for name, value in value_and_gradients(composite.IMPLEMENTATIONS[backend]().distortion, inputs, n_rays=n_rays).items():
        assert_close(value, truth[name], name, tolerance=1e-5)
