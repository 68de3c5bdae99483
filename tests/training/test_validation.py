import dataclasses
import math

import numpy as np
import pytest
import torch

from nerf_app.rays import view_rays
from nerf_app.scene.images import Photos
from nerf_app.scene.lenses import CameraBatch
from nerf_app.training import validation
from nerf_app.training.metrics import psnr, ssim
from nerf_app.training.validation import Validation, on_white
from tests.analytic import AnalyticModel, ball, fog, reference_ops
from tests.sphere import RADIUS, sphere_scene


def test_only_validation_photos_are_looked_at_and_at_full_size_if_small():
    scene = sphere_scene(n_views=8, size=20)
    looked = Validation(scene)
    assert len(looked.photos) == 1
    assert np.array_equal(looked.photos[0], on_white(scene.photos.picture(5)[0]))
    assert looked.cameras == [scene.views[5].camera]
    assert np.array_equal(looked.poses[0], scene.normalisation.pose_to_scene(scene.views[5].world_from_camera))


def test_a_photo_goes_on_white():
    pixels = torch.tensor([[[255, 0, 51, 255], [255, 0, 51, 0], [255, 0, 51, 51]]], dtype=torch.uint8)
    assert np.allclose(on_white(pixels), [[[1, 0, 0.2], [1, 1, 1], [1, 0.8, 0.84]]])
    assert np.allclose(on_white(pixels[..., :3]), [[[1, 0, 0.2]] * 3])


@pytest.mark.parametrize("most_rays, stride", [(400, 1), (399, 2), (60, 3), (16, 5)])
def test_a_large_photo_is_seen_through_a_camera_that_looks_where_the_chosen_pixels_lie(most_rays, stride, monkeypatch):
    monkeypatch.setattr(validation, "MOST_RAYS", most_rays)
    scene = sphere_scene(n_views=8, size=20)
    looked = Validation(scene)
    camera, whole = looked.cameras[0], scene.views[5].camera
    chosen = torch.arange(20)[stride // 2::stride]
    pose = torch.eye(4, dtype=torch.float64)[None]
    pixels = torch.arange(len(chosen)).repeat(len(chosen)), torch.arange(len(chosen)).repeat_interleave(len(chosen))
    small = view_rays(CameraBatch.from_cameras([camera]), pose, 0, *pixels)
    large = view_rays(CameraBatch.from_cameras([whole]), pose, 0, chosen[pixels[0]], chosen[pixels[1]])
    assert camera.width * camera.height == looked.n_rays == len(chosen) ** 2 <= most_rays
    assert torch.allclose(small.directions, large.directions, atol=1e-6)
    photo = on_white(scene.photos.picture(5)[0])
    assert np.array_equal(looked.photos[0], photo[chosen][:, chosen])


def test_the_better_model_scores_better():
    scene = sphere_scene(n_views=8, size=24)
    radius = RADIUS * scene.normalisation.scale

    def colour(points):  # the ball's own
        return 0.5 + 0.4 * torch.sin(4.0 * points / radius + torch.arange(3))

    fields = [dataclasses.replace(ball(size, 2000.0, 0.004), colour_fn=colour) for size in (radius, 0.9 * radius, 0.5 * radius)]
    scores = [Validation(scene).score(AnalyticModel(field, reference_ops(), 256)) for field in fields]
    assert scores[0][0] > 22 and scores[0][1] > 0.95
    for better, worse in zip(scores[:-1], scores[1:], strict=True):
        assert better[0] > worse[0] + 2 and better[1] > worse[1]


@pytest.mark.parametrize("size", [8, 16])
def test_what_cannot_be_scored_is_not_a_number_and_no_warning(size):
    scene = sphere_scene(n_views=8, size=size)
    photos = Photos(**{**vars(scene.photos), "ignored": torch.ones(len(scene.photos.pixels), dtype=torch.bool)})
    model = AnalyticModel(fog(1.0), reference_ops())
    assert all(map(math.isnan, Validation(dataclasses.replace(scene, photos=photos)).score(model)))
    seen = Validation(scene).score(model)
    assert math.isfinite(seen[0]) and math.isfinite(seen[1]) == (size > 10)


def test_a_score_is_the_mean_over_the_photos_and_looks_past_ignored_pixels(monkeypatch):
    scene = sphere_scene(n_views=8, size=16)
    views = [dataclasses.replace(view, split="val") for view in scene.views[:3]]
    ignored = torch.rand(len(scene.photos.pixels)) < 0.3
    scene = dataclasses.replace(scene, views=tuple(views), photos=Photos(**{**vars(scene.photos), "ignored": ignored}))
    model = AnalyticModel(ball(0.7), reference_ops())
    truth = []
    for index, view in enumerate(views):
        pose = scene.normalisation.pose_to_scene(view.world_from_camera)
        picture = validation.render_picture(model, view.camera, pose).rgb
        pixels, mask = scene.photos.picture(index)
        truth.append((psnr(picture, on_white(pixels), mask.numpy()), ssim(picture, on_white(pixels), mask.numpy())))
    assert Validation(scene).score(model) == pytest.approx(tuple(np.mean(truth, axis=0)))
