"""Scores of parts of photos: evenly spread, and near to those of the whole."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

import nerf_app
from nerf_app import run as runs
from nerf_app import scoring
from nerf_app.cli import score_lines
from nerf_app.scene.camera import Camera
from nerf_app.scoring import windows_each, windows_of
from nerf_app.settings import MachineSettings
from tests.sphere import SHARP, small_config, sphere_scene

SIZE = 96


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A scene, and a run that has learned a little of it."""
    scene = sphere_scene(n_views=16, size=SIZE)
    folder = tmp_path_factory.mktemp("learned") / "run"
    list(runs.train_events(scene, small_config(60, SHARP), folder))
    return scene, nerf_app.open_run(folder, MachineSettings(backend="reference", threads=1))


def camera_of(width: int, height: int) -> Camera:
    return Camera(width, height, 1000.0, 1000.0, width / 2, height / 2)


@pytest.mark.parametrize("count", [8, 40, 300])
@pytest.mark.parametrize("size", [(4032, 3024), (3024, 4032), (8000, 4001)])
def test_windows_lie_apart_inside_of_the_photo_and_all_over_it(size, count):
    windows = windows_of(camera_of(*size), count)
    times = np.zeros((size[1], size[0]), np.int8)
    for window in windows:
        window.of(times)[...] += 1
        assert window.left + window.width <= size[0] and window.top + window.height <= size[1]
    assert len(windows) == count and times.max() == 1 and times.sum() == count * scoring.SIDE**2
    quarters = [half for rows in np.array_split(times, 2) for half in np.array_split(rows, 2, axis=1)]
    assert min(quarter.mean() for quarter in quarters) > 0.4 * times.mean()


@pytest.mark.parametrize("size, count", [((4032, 3024), None), ((400, 300), 8), ((100, 4000), 8), ((1920, 1080), 50)])
def test_a_photo_is_one_window_where_so_many_would_fill_it(size, count):
    assert windows_of(camera_of(*size), count) == [scoring.Window(0, 0, *size)]


def test_the_time_says_how_much_of_how_many_photos_is_scored(learned, monkeypatch):
    scene, run = learned
    large = [dataclasses.replace(view, camera=view.camera.resized(4000, 3000)) for view in scene.views[:5]]
    now = iter(np.arange(100.0))
    monkeypatch.setattr(scoring, "time", type("Clock", (), {"monotonic": staticmethod(lambda: next(now))}))  # a second a look
    a_second = 128 * 96  # pixels
    assert windows_each(run, large, 3 * 4000 * 3000 / a_second) is None
    assert windows_each(run, large, 2.9 * 4000 * 3000 / a_second) == int(2.9 * 4000 * 3000 / (5 * scoring.SIDE**2))
    assert windows_each(run, large, 4 * 8 * scoring.SIDE**2 / a_second + 1) == 8, "of four photos"
    assert windows_each(run, large, 0.0) == 8, "of three"


def test_windows_score_about_what_the_photos_do(learned, monkeypatch):
    scene, run = learned
    whole = runs.evaluate(run, scene)
    monkeypatch.setattr(scoring, "SIDE", 16)
    monkeypatch.setattr(scoring, "windows_each", lambda *_: 18)
    part = runs.evaluate(run, scene, limit_seconds=1000.0)
    assert part["part"] == 0.5 and whole["part"] == 1 and len(part["photos"]) == len(whole["photos"])
    assert part["psnr"] == pytest.approx(whole["psnr"], abs=1.0) and part["ssim"] == pytest.approx(whole["ssim"], abs=0.1)


def test_what_is_masked_does_not_count_in_windows_either(learned, monkeypatch):
    scene, run = learned
    monkeypatch.setattr(scoring, "SIDE", 16)
    index = scene.indices("test")[0]
    view, (pixels, _) = scene.views[index], scene.photos.picture(index)
    windows, ignored = windows_of(view.camera, 12), np.zeros((SIZE, SIZE), bool)
    wrong = pixels.clone()
    for window in windows[:6]:
        window.of(wrong)[...] = 0
        window.of(ignored)[...] = True
    scores = scoring.photo_scores(run, view, wrong, torch.from_numpy(ignored), windows)
    assert scores == scoring.photo_scores(run, view, pixels, None, windows[6:])


def test_a_photo_that_is_masked_altogether_has_no_score_and_the_file_stays_json(learned, monkeypatch, tmp_path):
    scene, run = learned
    index = scene.indices("test")[0]
    picture, black = type(scene.photos).picture, torch.ones(SIZE, SIZE, dtype=torch.bool)
    monkeypatch.setattr(type(scene.photos), "picture", lambda self, i: (picture(self, i)[0], black if i == index else None))
    scores = runs.evaluate(run, scene)
    lost = scores["photos"][0]
    assert math.isnan(lost["psnr"]) and math.isnan(lost["ssim"]) and math.isfinite(scores["psnr"])
    assert any("nan" in line for line in score_lines(scores))
    runs.write_evaluation(tmp_path, scores)
    read = json.loads((tmp_path / "eval.json").read_text(), parse_constant=pytest.fail)
    assert read["photos"][0] == {"path": lost["path"], "psnr": None, "ssim": None}
