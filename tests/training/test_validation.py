import dataclasses
import math

import numpy as np
import pytest
import torch

from nerf_app.picture import render_picture, unseen_pixels
from nerf_app.scene.camera import Camera, Lens
from nerf_app.scene.images import Photos
from nerf_app.training import validation
from nerf_app.training.metrics import psnr, ssim
from nerf_app.training.validation import Validation, on_white
from tests.analytic import AnalyticModel, ball, fog, reference_ops
from tests.sphere import CENTRE, RADIUS, sphere_scene


def test_only_validation_photos_are_looked_at_and_at_full_size_if_small():
    scene = sphere_scene(n_views=8, size=20)
    looked = Validation(scene)
    assert len(looked.photos) == 1
    assert np.array_equal(looked.photos[0], on_white(scene.photos.picture(5)[0]))
    assert looked.n_rays == 400


def test_a_photo_goes_on_white():
    pixels = torch.tensor([[[255, 0, 51, 255], [255, 0, 51, 0], [255, 0, 51, 51]]], dtype=torch.uint8)
    assert np.allclose(on_white(pixels), [[[1, 0, 0.2], [1, 1, 1], [1, 0.8, 0.84]]])
    assert np.allclose(on_white(pixels[..., :3]), [[[1, 0, 0.2]] * 3])


@pytest.mark.parametrize("lens", [Lens(), Lens("equirectangular"), Lens("fisheye", (0.1, 0.0, 0.0, 0.0))],
                         ids=lambda lens: lens.family)
@pytest.mark.parametrize("most_rays, stride", [(300, 1), (299, 2), (60, 3), (16, 5)])
def test_of_a_large_photo_the_chosen_pixels_are_seen_and_no_others(most_rays, stride, lens, monkeypatch):
    monkeypatch.setattr(validation, "MOST_RAYS", most_rays)
    scene = sphere_scene(n_views=8, size=20)
    photos = Photos(**{**vars(scene.photos), "widths": torch.full((8,), 20), "heights": torch.full((8,), 15)})
    camera = Camera(20, 15, 30.0, 31.0, 9.0, 8.0, lens)
    views = [dataclasses.replace(view, camera=camera, split="val" if i == 5 else "train") for i, view in enumerate(scene.views)]
    views[5].world_from_camera[:3, 3] = CENTRE  # in the midst of everything
    scene = dataclasses.replace(scene, views=tuple(views), photos=photos)
    mist = dataclasses.replace(fog(2.0), colour_fn=lambda points: 0.5 + 0.4 * torch.sin(3.0 * points))
    model = AnalyticModel(mist, reference_ops())
    rows, columns = np.arange(15)[stride // 2::stride], np.arange(20)[stride // 2::stride]
    looked = Validation(scene)
    assert looked.n_rays == len(rows) * len(columns) <= most_rays
    whole = render_picture(model, camera, scene.normalisation.pose_to_scene(scene.views[5].world_from_camera),
                           are_edges_smooth=False).rgb
    photo = on_white(photos.picture(5)[0])
    seen = looked.look(model, 0)
    assert np.allclose(seen, whole[rows][:, columns], atol=1e-6) and len(np.unique(seen.round(3))) > 3
    assert np.array_equal(looked.photos[0], photo[rows][:, columns])
    assert np.array_equal(looked.ignored[0], unseen_pixels(camera)[rows][:, columns])


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
        picture = render_picture(model, view.camera, pose, are_edges_smooth=False).rgb
        pixels, mask = scene.photos.picture(index)
        truth.append((psnr(picture, on_white(pixels), mask.numpy()), ssim(picture, on_white(pixels), mask.numpy())))
    assert Validation(scene).score(model) == pytest.approx(tuple(np.mean(truth, axis=0)))
