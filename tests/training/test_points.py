"""Sparse points: the rays towards them are the right ones, and light that stops there costs nothing."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nerf_app import run as runs
from nerf_app.model import RadianceModel
from nerf_app.ops.backend import choose_backend
from nerf_app.sampling.draws import Draws
from nerf_app.scene.lenses import CameraBatch
from nerf_app.training import loop, points
from nerf_app.training.batches import PixelBatches
from nerf_app.training.events import Note
from nerf_app.training.loop import Trainer
from nerf_app.training.points import ENDS, RAYS, REACH
from nerf_app.training.schedule import Budget
from tests.analytic import AnalyticField, AnalyticModel, orange, reference_ops
from tests.sphere import CENTRE, RADIUS, small_config, sphere_scene

SCENE = sphere_scene(n_views=9, size=24)
OPS = reference_ops()


def with_points(factor=1.0, seed=0):
    """The ball's scene with points on a sphere `factor` times as large, each seen by the photos on its side, training or not."""
    ways = np.random.default_rng(seed).normal(size=(300, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    sightings = {view.name: np.flatnonzero(ways @ (view.world_from_camera[:3, 3] - CENTRE) > 1.4 * RADIUS)
                 for view in SCENE.views}
    return dataclasses.replace(SCENE, points=CENTRE + factor * RADIUS * ways, sightings=sightings)


def test_rays_go_from_photos_to_points_that_these_see():
    scene = with_points()
    batches = PixelBatches(scene, OPS)
    rays, distances = batches.sparse.draw(Draws(OPS, 0, 3))
    assert rays.count == RAYS and rays.is_valid.all() and len(rays.view_indices.unique()) > 3
    training = [scene.views[i] for i in scene.indices("train")]
    ends = scene.normalisation.to_input((rays.origins + distances[:, None] * rays.directions).numpy())
    poses = np.stack([training[view].world_from_camera for view in rays.view_indices])
    local = ((ends - poses[:, :3, 3])[:, None] @ poses[:, :3, :3])[:, 0]
    assert CameraBatch.from_cameras([view.camera for view in training]).project(rays.view_indices, torch.tensor(local))[2].all()
    z = distances * rays.z_per_distance / scene.normalisation.scale
    assert z.numpy() == pytest.approx(-local[:, 2], abs=1e-5)
    for end, view in zip(ends, rays.view_indices):
        assert np.linalg.norm(scene.points[scene.sightings[training[view].name]] - end, axis=1).min() < 1e-5


@pytest.mark.parametrize("factor", [1.0, 0.9, 1.2, 0.2])
def test_light_costs_by_how_far_from_a_point_it_stops(factor):
    """At the ball's front, with points on it, below it, and before it, where some rays pass the ball."""
    batches, radius = PixelBatches(with_points(factor), OPS), RADIUS * SCENE.normalisation.scale
    seen = AnalyticModel(AnalyticField(lambda points: 3000.0 * (points.norm(dim=1) < radius), orange), OPS, samples=1500)
    model = SimpleNamespace(ops=OPS, mirror=None, passes=lambda rays, draws: iter([seen.render(rays)]))
    rays, distances = batches.sparse.draw(Draws(OPS, 0, 0))
    half = -(rays.origins * rays.directions).sum(1)
    front = half - (half**2 - rays.origins.square().sum(1) + radius**2).sqrt()  # NaN beside the ball
    near = (1.0 - (front - distances).abs() / (REACH * distances)).clamp(min=0.0).nan_to_num(0.0)
    assert float(batches.sparse.loss(model, Draws(OPS, 0, 0))) == pytest.approx(1.0 - float(near.mean()), abs=0.01)


def test_where_no_light_stops_all_of_it_is_missing():
    batches = PixelBatches(with_points(), OPS)
    empty = AnalyticModel(AnalyticField(lambda points: 0.0 * points[:, 0], orange), OPS)
    model = SimpleNamespace(ops=OPS, mirror=None, passes=lambda rays, draws: iter([empty.render(rays)]))
    assert float(batches.sparse.loss(model, Draws(OPS, 0, 0))) == 1.0


def test_points_that_are_seen_in_a_mirror_say_nothing():
    batches = PixelBatches(with_points(), OPS)
    empty = AnalyticModel(AnalyticField(lambda points: 0.0 * points[:, 0], orange), OPS)

    def missing(before):
        mirror = SimpleNamespace(meet=lambda rays: (torch.arange(RAYS), torch.full((RAYS,), before)))
        model = SimpleNamespace(ops=OPS, mirror=mirror, passes=lambda rays, draws: iter([empty.render(rays)]))
        return float(batches.sparse.loss(model, Draws(OPS, 0, 0)))
    assert missing(0.01) == 0.0 and missing(1e6) == 1.0


def test_points_that_a_mask_hides_or_that_lie_out_of_sight_are_not_asked_for():
    scene = with_points()
    whole = PixelBatches(scene, OPS).sparse
    half = torch.zeros(9, 24, 24, dtype=torch.bool)
    half[:, :, :12] = True  # the left halves of all photos
    hidden = PixelBatches(dataclasses.replace(scene, photos=dataclasses.replace(scene.photos, ignored=half.view(-1))), OPS).sparse
    assert 0.4 < len(hidden.views) / len(whole.views) < 0.6
    far = scene.points.copy()
    far[::2] += 1e4
    assert 0.4 < len(PixelBatches(dataclasses.replace(scene, points=far), OPS).sparse.views) / len(whole.views) < 0.6


@pytest.mark.parametrize("is_bounded, has_points, weight", [(False, True, 0.05), (True, True, 0.0), (False, False, 0.0)])
def test_they_count_in_space_without_bounds_and_ever_less_until_half_of_the_budget(is_bounded, has_points, weight, monkeypatch):
    scene = dataclasses.replace(with_points() if has_points else SCENE, is_bounded=is_bounded)
    config = small_config(10)
    model = RadianceModel(config, is_bounded, choose_backend("reference", "cpu", 1))
    trainer = Trainer(model, PixelBatches(scene, model.ops), None, config)
    assert trainer.weight_of_points(0.0) == weight and trainer.weight_of_points(ENDS / 2) == weight / 2
    assert trainer.weight_of_points(ENDS) == trainer.weight_of_points(1.0) == 0.0
    asked, loss = [], trainer.batches.sparse.loss
    monkeypatch.setattr(trainer.batches.sparse, "loss", lambda *given: asked.append(trainer.steps_done) or loss(*given))
    list(loop.train(trainer, Budget(trainer.settings, 1)))
    assert asked == (list(range(5)) if weight else [])


def test_very_many_sightings_are_thinned_evenly(monkeypatch):
    whole = PixelBatches(with_points(), OPS).sparse
    monkeypatch.setattr(points, "MOST", len(whole.views) // 2)
    thin = PixelBatches(with_points(), OPS).sparse
    assert torch.equal(thin.views, whole.views[::3]) and torch.equal(thin.rows, whole.rows[::3]) and len(whole.views) % 2


@pytest.mark.parametrize("weight", [None, 0.0])
def test_a_training_says_that_points_teach(weight, tmp_path):
    scene = dataclasses.replace(with_points(), is_bounded=False)
    count = len(PixelBatches(scene, OPS).sparse.views)
    notes = [event.text for event in runs.train_events(scene, small_config(2, {"losses.points": weight}), tmp_path / "run")
             if isinstance(event, Note)]
    said = f"points    {count:,} sightings of sparse points teach at first where light stops"
    assert (said in notes) == (weight is None)


def test_a_field_learns_from_points_where_to_stop_light():
    """They lie before the ball, where photos say that nothing is: half of a training is enough to see who is heard."""
    scene, missing = dataclasses.replace(with_points(1.3), is_bounded=False), []
    for weight in (0.0, 1.0):
        config = small_config(80, {"losses.points": weight})
        model = RadianceModel(config, False, choose_backend("reference", "cpu", 1))
        batches = PixelBatches(scene, model.ops)
        for _ in zip(range(30), loop.train(Trainer(model, batches, None, config), Budget(config.training, 1))):
            pass
        missing.append(float(batches.sparse.loss(model, Draws(OPS, 1, 0)).detach()))
    assert missing[1] < 0.7 * missing[0], missing
