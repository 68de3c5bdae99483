"""Made-up cameras see past what hangs before their lenses, and nothing that photos show is lost."""

import dataclasses

import numpy as np
import pytest
import torch

from nerf_app.config import with_overrides
from nerf_app.export import frames
from nerf_app.export.clear_view import clear_part, clear_view
from nerf_app.export.paths import camera_path
from nerf_app.training.losses import CLEAR
from tests.export.shape_run import CAMERA, CENTRE, SCALE, ball, quiet, shape_run, views_around
from tests.export.stand_in import pose_looking

ASIDE = np.array([0.6, 0.64, 0.48])  # from the middle, a way that no camera stands in
CLOUD = tuple(2.3 * ASIDE)  # scene units; cameras stand 2.5 from the middle


def thing_and_cloud(points: torch.Tensor) -> torch.Tensor:
    return torch.minimum(ball(0.5)(points), ball(0.15, CLOUD)(points))


def middle_range(run) -> float:
    """Input units, of what a camera shows that stands behind the cloud."""
    return float(run.render(CAMERA, pose_looking(CENTRE + 2.5 / SCALE * ASIDE, CENTRE)).range[36, 36])


def test_a_cloud_that_no_photo_looks_through_is_passed():
    run = shape_run(views_around(), thing_and_cloud, is_bounded=False)
    assert middle_range(run) == pytest.approx(0.05 / SCALE, abs=0.03)
    assert clear_part(run) == CLEAR and middle_range(clear_view(run)) == pytest.approx(2.0 / SCALE, abs=0.05)
    assert middle_range(run) == pytest.approx(0.05 / SCALE, abs=0.03), "the run itself is as it was"


@pytest.mark.parametrize("radius", [2.1, 2.3])
def test_what_photos_show_near_by_stays(radius):
    run = shape_run(views_around(), ball(radius), is_bounded=False)
    free = (2.5 - radius) / 2.5
    assert 0.7 * free < clear_part(run) < free
    assert middle_range(clear_view(run)) == pytest.approx((2.5 - radius) / SCALE, abs=0.05)


def test_in_a_box_and_where_closeness_costs_nothing_all_is_shown():
    box = shape_run(views_around(), thing_and_cloud)
    free = shape_run(views_around(), thing_and_cloud, is_bounded=False)
    free = dataclasses.replace(free, config=with_overrides(free.config, {"losses.closeness": 0.0}))
    assert clear_view(box) is box and clear_view(free) is free


def test_films_of_made_up_paths_begin_there_and_those_of_placed_cameras_do_not(tmp_path, monkeypatch):
    run, asked = shape_run(views_around(), thing_and_cloud, is_bounded=False), []
    monkeypatch.setattr(frames, "clear_view", lambda one: asked.append(one) or one)
    path = camera_path("orbit", run, (16, 16), 0.5, 4.0)
    frames.render_path(run, path, tmp_path / "a", ["rgb"], "white", True, quiet)
    assert asked == [run]
    for placed in (dataclasses.replace(path, is_made_up=False), camera_path("train", run, (16, 16), 0.5, 4.0)):
        frames.render_path(run, placed, tmp_path / f"b{placed.fps}{len(placed.cameras)}", ["rgb"], "white", True, quiet)
    assert asked == [run]
