from types import SimpleNamespace

import pytest
import torch

from nerf_app.render import Rendering
from nerf_app.sampling.contraction import Space
from nerf_app.sampling.samples import Samples
from nerf_app.training.losses import DISTORTION, HUBER, added_loss, distortion, photo_loss
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
    return Rendering(torch.zeros(1, 3), nothing, nothing, nothing, None, torch.tensor(weights), samples)


def model_in(space):
    return SimpleNamespace(space=space, ops=reference_ops(), fields=[SimpleNamespace(shading=None)])


@pytest.mark.parametrize("space, weights, borders, value", [
    (Space(True), [0.5, 0.0, 0.5], [1.0, 1.1, 2.0, 2.1], (2 * 0.25 * 1.0 + 2 * 0.25 * 0.1 / 3) / (2 * 3**0.5)),
    (Space(False), [0.5, 0.0, 0.5], [4.0, 4.0, 8.0, 8.0], 2 * 0.25 * 0.5 / 3.98),  # there s = 4 - 4 / t: 3 and 3.5
    (Space(False), [0.0, 1.0, 0.0], [4.0, 4.0, 4.0, 8.0], 0.0),
])
def test_light_that_stops_in_two_places_is_distorted_by_their_distance_on_the_lattice(space, weights, borders, value):
    batch = SimpleNamespace(counts=torch.tensor([True]))
    assert float(distortion(rendered(weights, borders), batch, model_in(space))) == pytest.approx(value, abs=1e-6)


def test_a_term_is_added_by_the_weight_of_its_name_and_not_computed_without_one():
    batch, rendering = SimpleNamespace(counts=torch.tensor([True])), rendered([0.5, 0.5], [1.0, 2.0, 3.0])
    once = distortion(rendering, batch, model_in(Space(True)))
    loss = added_loss(rendering, batch, model_in(Space(True)), LossSettings(distortion=0.3))
    assert float(loss) == pytest.approx(0.3 * float(once))
    assert added_loss(rendering, batch, model_in(Space(True)), LossSettings()) == 0.0
    by_itself = added_loss(rendering, batch, model_in(Space(False)), LossSettings())
    assert float(by_itself) == pytest.approx(DISTORTION * float(distortion(rendering, batch, model_in(Space(False)))))
