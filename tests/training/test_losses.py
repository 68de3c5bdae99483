from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from nerf_app.rays import Rays
from nerf_app.render import Rendering
from nerf_app.sampling.contraction import Space
from nerf_app.sampling.samples import Samples
from nerf_app.training.batches import Batch
from nerf_app.training.losses import (
    CLEAR,
    HAZE,
    HUBER,
    added_loss,
    closeness,
    distortion,
    emptiness,
    mirrored,
    photo_loss,
    weights_of,
)
from nerf_app.training.settings import LossSettings
from tests.analytic import reference_ops


def test_small_errors_count_squared_and_large_ones_linearly():
    truth = torch.zeros(1, 3)
    for error, value in ((0.02, 0.5 * 0.02**2), (-0.08, 0.5 * 0.08**2), (0.6, HUBER * (0.6 - 0.5 * HUBER))):
        assert float(photo_loss(truth + error, truth, torch.tensor([True]))) == pytest.approx(value)


def test_the_loss_is_the_mean_over_the_rays_that_count():
    rgb, truth, counts = torch.rand(50, 3), torch.rand(50, 3), torch.rand(50) < 0.4
    everywhere = torch.ones(int(counts.sum()), dtype=torch.bool)
    rgb.requires_grad_()
    loss = photo_loss(rgb, truth, counts)
    assert float(loss.detach()) == pytest.approx(float(photo_loss(rgb[counts], truth[counts], everywhere).detach()))
    loss.backward()
    assert not rgb.grad[~counts].any() and rgb.grad[counts].all()


def test_a_batch_in_which_no_ray_counts_has_no_loss():
    assert float(photo_loss(torch.rand(4, 3), torch.rand(4, 3), torch.zeros(4, dtype=torch.bool))) == 0.0


def test_the_largest_errors_are_not_believed():
    truth, errors = torch.zeros(10, 3), torch.arange(10)[:, None] / 100 * torch.ones(1, 3)
    counts = torch.ones(10, dtype=torch.bool)
    counts[9] = False  # is left out before the largest are looked for
    rgb = errors.clone().requires_grad_()
    loss = photo_loss(rgb, truth, counts, trimmed=0.3)
    assert float(loss.detach()) == pytest.approx(float(photo_loss(errors[:7], truth[:7], counts[:7])))
    loss.backward()
    assert not rgb.grad[7:].any() and rgb.grad[1:7].all()
    assert float(photo_loss(errors, truth, torch.zeros(10, dtype=torch.bool), trimmed=0.3)) == 0.0


def rendered(weights, borders):
    """A ray whose samples lie between the borders, scene units."""
    t, n = torch.tensor(borders), len(weights)
    samples = Samples(t[:-1], t[1:], torch.zeros(n, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), torch.tensor([n]), 1)
    nothing = torch.zeros(1)
    return Rendering(torch.zeros(1, 3), nothing, nothing, None, torch.tensor(weights), samples)


def model_in(space):
    return SimpleNamespace(space=space, ops=reference_ops(), fields=[SimpleNamespace(shading=None)])


@pytest.mark.parametrize("space, weights, borders, value", [
    (Space(True), [0.5, 0.0, 0.5], [1.0, 1.1, 2.0, 2.1], (2 * 0.25 * 1.0 + 2 * 0.25 * 0.1 / 3) / (2 * 3**0.5)),
    (Space(False), [0.5, 0.0, 0.5], [4.0, 4.0, 8.0, 8.0], 2 * 0.25 * 0.5 / 3.98),  # there s = 4 - 4 / t: 3 and 3.5
    (Space(False), [0.0, 1.0, 0.0], [4.0, 4.0, 4.0, 8.0], 0.0),
])
def test_light_that_stops_in_two_places_is_distorted_by_their_distance_on_the_lattice(space, weights, borders, value):
    batch = batch_from([0.0, 0.0, 1.0])
    assert float(distortion(rendered(weights, borders), batch, model_in(space))) == pytest.approx(value, abs=1e-6)


def batch_from(*origins):
    """Rays that begin there, one a pixel."""
    rays = Rays(torch.tensor(origins), *[torch.zeros(len(origins))] * 4)
    everywhere = torch.ones(len(origins))
    return Batch(rays, torch.zeros(len(origins), 3), everywhere, everywhere > 0, None)


@pytest.mark.parametrize("distance", [0.8, 3.0])
def test_light_costs_from_all_of_itself_at_the_lens_to_nothing_where_it_may_stop(distance):
    batch, end = batch_from([0.0, distance, 0.0]), CLEAR * distance
    for place, cost in ((0.0, 1.0), (0.25, 0.75), (0.6, 0.4), (1.0, 0.0), (7.0, 0.0)):
        rendering = rendered([0.3, 0.0], [place * end, place * end, place * end])
        assert float(closeness(rendering, batch, model_in(Space(False)))) == pytest.approx(0.3 * cost, abs=1e-6)


def test_only_light_close_to_a_lens_is_pushed_away():
    weights = torch.tensor([0.2, 0.3, 0.5], requires_grad=True)
    rendering = replace(rendered([0.2, 0.3, 0.5], [0.0, 0.2, 1.0, 2.0]), weights=weights)
    closeness(rendering, batch_from([1.0 / CLEAR, 0.0, 0.0]), model_in(Space(False))).backward()
    assert_close(weights.grad, torch.tensor([0.9, 0.4, 0.0]))  # their middles: 0.1, 0.6 and 1.5 of the 1 that should be clear


def test_light_costs_where_a_photo_is_wholly_transparent():
    """Two rays a pixel: of four pixels one does not count, and of the others two are empty."""
    rays = Rays(torch.zeros(8, 3), *[torch.zeros(8)] * 4)
    alpha, counts = torch.tensor([0.0, 0.0, 0.0, 1 / 255]), torch.tensor([True, True, False, True])
    batch = Batch(rays, torch.zeros(4, 3), alpha, counts, None)
    opacity = torch.tensor([0.2, 0.4, 0.0, 0.1, 0.9, 0.9, 0.8, 0.8], requires_grad=True)
    cost = emptiness(replace(rendered([1.0], [0.0, 1.0]), opacity=opacity), batch, model_in(Space(True)))
    assert float(cost.detach()) == pytest.approx((0.3 + 0.05) / 3)
    cost.backward()
    assert_close(opacity.grad, torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]) / 6)


def test_mirrored_light_costs_what_is_seen_of_it_and_nothing_becomes_clearer_by_it():
    batch, rendering = batch_from([1.0, 0.0, 0.0]), rendered([1.0], [0.0, 1.0])
    light = torch.tensor([[0.1, 0.2, 0.6]], requires_grad=True)
    opacity = torch.tensor([0.5], requires_grad=True)
    cost = mirrored(replace(rendering, opacity=opacity, surface=SimpleNamespace(specular=light)), batch, model_in(Space(True)))
    assert float(cost.detach()) == pytest.approx(0.5 * 0.3)
    cost.backward()
    assert opacity.grad is None
    assert_close(light.grad, torch.full((1, 3), 0.5 / 3))


def test_mirroring_costs_nothing_before_what_surrounds_a_thing_is_found():
    model = model_in(Space(True))
    model.fields[0].shading = object()
    weights = [weights_of(LossSettings(mirrored=0.2), model, part).get("mirrored", 0.0) for part in (0.0, 0.4, 0.45, 0.5, 1.0)]
    assert weights == pytest.approx([0.0, 0.0, 0.1, 0.2, 0.2])
    assert "mirrored" not in weights_of(LossSettings(), model_in(Space(True)), 1.0)


def test_rays_that_do_not_count_and_cameras_in_the_middle_have_no_closeness():
    rendering, model = rendered([1.0], [0.0, 0.1]), model_in(Space(False))
    assert float(closeness(rendering, batch_from([0.0, 0.0, 0.0]), model)) == 0.0
    batch = batch_from([2.0, 0.0, 0.0])
    batch.counts[:] = False
    assert float(closeness(rendering, batch, model)) == 0.0


def test_a_term_is_added_by_the_weight_of_its_name_and_not_computed_without_one():
    batch, rendering, terms = batch_from([8.0 / CLEAR, 0.0, 0.0]), rendered([0.5, 0.5], [1.0, 2.0, 3.0]), (distortion, closeness)
    for space, by_itself in ((Space(True), [0.0, 0.0]), (Space(False), list(HAZE.values()))):
        model = model_in(space)
        values = [float(term(rendering, batch, model)) for term in terms]
        assert min(values) > 0
        loss = added_loss(rendering, batch, model, LossSettings(), 1.0)
        assert float(loss) == pytest.approx(sum(weight * value for weight, value in zip(by_itself, values, strict=True)))
        for name, value in zip(HAZE, values, strict=True):
            loss = added_loss(rendering, batch, model, LossSettings(**dict.fromkeys(HAZE, 0.0) | {name: 0.3}), 1.0)
            assert float(loss) == pytest.approx(0.3 * value)
